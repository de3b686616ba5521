/* Part of cpu.c: the innermost loop of a matrix product: a tile of c in registers, operands from packed panels.
 *
 * A panel holds GEMM_ROWS rows of op(a), or GEMM_COLS columns of op(b), one step of the inner dimension after the other, so that
 * the loop reads two streams from first to last word. Per step it loads GEMM_COLS numbers of b, and multiplies them by each of
 * GEMM_ROWS numbers of a: enough independent sums to hide the latency of the multiply-add, few enough loads for the ports
 * (Goto & van de Geijn 2008; Van Zee & van de Geijn 2015). A word is an F32, or (`pair`, with AVX512_BF16) two BF16
 * neighbours in the inner dimension, which one instruction multiplies and adds up in F32. */
#ifndef KERNELS_CPU_GEMM_MICRO_H
#define KERNELS_CPU_GEMM_MICRO_H

#include "kernels/cpu_types.h"

#ifdef KERNELS_X86
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { REG = 16, GEMM_ROWS = 14 };
#elif defined(__AVX2__)
enum { REG = 8, GEMM_ROWS = 6 };
#else
enum { REG = 4, GEMM_ROWS = 4 };
#endif
enum { GEMM_REGS = 2, GEMM_COLS = GEMM_REGS * REG };

/* A register, anywhere in memory: pairs of BF16 begin at any even address. */
typedef float reg __attribute__((vector_size(REG * sizeof(float)), aligned(2), may_alias));

/* One call: `rows` x `cols` of c, from a panel each of a and b. A line per step is fetched from `ahead` on into the second-level
 * cache: what a later call needs, which the processor does not guess across pages. */
struct micro {
    const float *a, *b, *ahead;
    size_t words;
    void *c;
    enum dtype type;
    size_t ldc, rows, cols;
    float alpha, beta;
};

#if defined(__AVX512BF16__)
static inline reg multiply_add(reg sum, float a, reg b, bool pair) {
    if (pair) {
        return (reg)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_ps(a), (__m512bh)b);
    }
    return sum + a * b;
}
#else
static inline reg multiply_add(reg sum, float a, reg b, bool pair) {
    (void)pair;
    return sum + a * b;
}
#endif

/* a * b + c, rounded once where the processor can. */
#if defined(__AVX512F__)
static inline reg fused(float a, reg b, reg c) {
    return (reg)_mm512_fmadd_ps(_mm512_set1_ps(a), (__m512)b, (__m512)c);
}
#elif defined(__AVX2__)
static inline reg fused(float a, reg b, reg c) {
    return (reg)_mm256_fmadd_ps(_mm256_set1_ps(a), (__m256)b, (__m256)c);
}
#else
static inline reg fused(float a, reg b, reg c) {
    return a * b + c;
}
#endif

static inline reg load_reg(const float *p) {
    return *(const reg *)(const void *)p;
}

static inline void store_reg(float *p, reg v) {
    *(reg *)(void *)p = v;
}

static inline bool reads_c(float beta) {
    return beta < 0 || beta > 0;
}

/* Whether products of two BF16 are made by one instruction: then a product with any BF16 operand is (kernels.h). */
#if defined(__AVX512BF16__)
enum { HAS_PAIRS = 1 };
#else
enum { HAS_PAIRS = 0 };
#endif

static inline size_t dtype_size_of(enum dtype t) {
    return t == DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* GEMM_COLS elements of a row of c. One rounding per operation that is written here: whole tiles and edges get the same bits. */
static inline void micro_row(float *c, const reg *sum, float alpha, float beta) {
    for (size_t v = 0; v < GEMM_REGS; v++) {
        reg y = alpha * sum[v];
        if (reads_c(beta)) {
            y = fused(beta, load_reg(c + v * REG), y);
        }
        store_reg(c + v * REG, y);
    }
}

#if defined(__AVX512BF16__)
static inline void micro_row_bf16(uint16_t *c, const reg *y) {
    for (size_t v = 0; v < GEMM_REGS; v++) {
        _mm256_storeu_si256((void *)(c + v * REG), (__m256i)_mm512_cvtneps_pbh((__m512)y[v]));
    }
}
#endif

/* A tile that is not whole, or whose c is BF16 and read: by way of memory. */
static __attribute__((noinline)) void micro_edge(const struct micro *t, const float *tile, bool pair) {
    for (size_t r = 0; r < t->rows; r++) {
        void *c = (unsigned char *)t->c + r * t->ldc * dtype_size_of(t->type);
        float row[GEMM_COLS] = {0};
        reg sum[GEMM_REGS];
        memcpy(sum, tile + r * GEMM_COLS, sizeof sum);
        if (reads_c(t->beta)) {
            load_floats(row, c, t->type, t->cols);
        }
        micro_row(row, sum, t->alpha, t->beta);
#if defined(__AVX512BF16__)
        if (pair && t->type == DTYPE_BF16) {
            uint16_t half[GEMM_COLS];
            memcpy(sum, row, sizeof sum);
            micro_row_bf16(half, sum);
            memcpy(c, half, t->cols * sizeof *half);
            continue;
        }
#endif
        (void)pair;
        store_floats(c, t->type, row, t->cols);
    }
}

static inline __attribute__((always_inline)) void micro_tile(const struct micro *t, size_t R, bool pair) {
    reg sum[GEMM_ROWS][GEMM_REGS];
    size_t size = dtype_size_of(t->type), step = t->ldc * size;
    unsigned char *c = t->c;
    for (size_t r = 0; r < R; r++) {
        __builtin_prefetch(c + r * step, 1);
        __builtin_prefetch(c + r * step + (t->cols - 1) * size, 1);
        for (size_t v = 0; v < GEMM_REGS; v++) {
            sum[r][v] = (reg){0};
        }
    }
    const float *a = t->a, *b = t->b, *ahead = t->ahead;
    for (size_t k = t->words; k > 0; k--) {
        reg bv[GEMM_REGS];
        for (size_t v = 0; v < GEMM_REGS; v++) {
            bv[v] = load_reg(b + v * REG);
        }
        for (size_t r = 0; r < R; r++) {
            for (size_t v = 0; v < GEMM_REGS; v++) {
                sum[r][v] = multiply_add(sum[r][v], a[r], bv[v], pair);
            }
        }
        a += GEMM_ROWS;
        b += GEMM_COLS;
        __builtin_prefetch(ahead, 0, 2);
        ahead += 16;
    }
    if (t->cols == GEMM_COLS && t->type == DTYPE_F32) {
        for (size_t r = 0; r < R; r++) {
            micro_row((float *)(void *)(c + r * step), sum[r], t->alpha, t->beta);
        }
        return;
    }
#if defined(__AVX512BF16__)
    if (pair && t->cols == GEMM_COLS && !reads_c(t->beta)) {
        for (size_t r = 0; r < R; r++) {
            for (size_t v = 0; v < GEMM_REGS; v++) {
                sum[r][v] *= t->alpha;
            }
            micro_row_bf16((uint16_t *)(void *)(c + r * step), sum[r]);
        }
        return;
    }
#endif
    float tile[GEMM_ROWS * GEMM_COLS];
    for (size_t r = 0; r < R; r++) {
        for (size_t v = 0; v < GEMM_REGS; v++) {
            store_reg(tile + r * GEMM_COLS + v * REG, sum[r][v]);
        }
    }
    micro_edge(t, tile, pair);
}

/* A loop of its own for each number of rows. */
static inline __attribute__((always_inline)) void micro_rows(const struct micro *t, bool pair) {
    switch (t->rows) {
#if defined(__AVX512F__)
    case 14:
        micro_tile(t, 14, pair);
        break;
    case 13:
        micro_tile(t, 13, pair);
        break;
    case 12:
        micro_tile(t, 12, pair);
        break;
    case 11:
        micro_tile(t, 11, pair);
        break;
    case 10:
        micro_tile(t, 10, pair);
        break;
    case 9:
        micro_tile(t, 9, pair);
        break;
    case 8:
        micro_tile(t, 8, pair);
        break;
    case 7:
        micro_tile(t, 7, pair);
        break;
#endif
#if defined(__AVX2__)
    case 6:
        micro_tile(t, 6, pair);
        break;
    case 5:
        micro_tile(t, 5, pair);
        break;
#endif
    case 4:
        micro_tile(t, 4, pair);
        break;
    case 3:
        micro_tile(t, 3, pair);
        break;
    case 2:
        micro_tile(t, 2, pair);
        break;
    default:
        micro_tile(t, 1, pair);
        break;
    }
}

static __attribute__((noinline)) void micro_words(const struct micro *t) {
    micro_rows(t, false);
}

#if defined(__AVX512BF16__)
static __attribute__((noinline)) void micro_pairs(const struct micro *t) {
    micro_rows(t, true);
}
#endif

static inline void micro(const struct micro *t, bool pair) {
#if defined(__AVX512BF16__)
    if (pair) {
        micro_pairs(t);
        return;
    }
#endif
    (void)pair;
    micro_words(t);
}

#endif
