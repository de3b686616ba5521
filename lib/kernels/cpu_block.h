/* Part of cpu.c: products of small blocks that lie in the first-level cache, as attention makes them: no packing, since whoever
 * fills the blocks lays them out as they are read. Rows and columns are whole units of registers; what lies beyond the matrix is
 * padding of the caller's. */
#ifndef KERNELS_CPU_BLOCK_H
#define KERNELS_CPU_BLOCK_H

#include "kernels/cpu_gemm_micro.h"
#include "kernels/cpu_product.h"

/* Rows and registers of c that are summed up at a time: enough chains to hide the latency of a fused multiply-add, few enough to
 * stay in registers. Measured on Zen 5: 8 x 2 reach 98 % of the peak, 4 x 4 only 80 %. */
enum { UNIT_ROWS = 8 }; /* c has a multiple of this */
#if defined(__AVX512F__)
enum { CHAIN_ROWS = 8, CHAIN_REGISTERS = 2 };
#elif defined(__AVX2__)
enum { CHAIN_ROWS = 4, CHAIN_REGISTERS = 1 };
#else
enum { CHAIN_ROWS = 2, CHAIN_REGISTERS = 1 };
#endif

/* A matrix of words (cpu_gemm_micro.h) by its strides: word (i, l) at p[i * row + l * col]. */
struct strided {
    const float *p;
    size_t row, col;
};

static inline size_t round_rows(size_t n) {
    return (n + UNIT_ROWS - 1) / UNIT_ROWS * UNIT_ROWS;
}

static inline __attribute__((always_inline)) vec block_step(vec sum, float a, vec b, bool pair) {
#if defined(__AVX512BF16__)
    if (pair) {
        return (vec)multiply_add((reg)sum, a, (reg)b, true);
    }
#endif
    (void)pair;
    return sum + a * b;
}

static inline __attribute__((always_inline)) void block_part(float *c, size_t ldc, struct strided a, const float *b, size_t ldb,
                                                             size_t k, bool add, size_t W, bool pair) {
    vec acc[CHAIN_ROWS][CHAIN_REGISTERS];
    for (size_t r = 0; r < CHAIN_ROWS; r++) {
        for (size_t w = 0; w < W; w++) {
            acc[r][w] = add ? *(const vec *)(const void *)(c + r * ldc + w * LANES) : (vec){0};
        }
    }
    for (size_t l = 0; l < k; l++) {
        vec bv[CHAIN_REGISTERS];
        for (size_t w = 0; w < W; w++) {
            bv[w] = *(const vec *)(const void *)(b + l * ldb + w * LANES);
        }
        for (size_t r = 0; r < CHAIN_ROWS; r++) {
            float s = a.p[r * a.row + l * a.col];
            for (size_t w = 0; w < W; w++) {
                acc[r][w] = block_step(acc[r][w], s, bv[w], pair);
            }
        }
    }
    for (size_t r = 0; r < CHAIN_ROWS; r++) {
        for (size_t w = 0; w < W; w++) {
            *(vec *)(void *)(c + r * ldc + w * LANES) = acc[r][w];
        }
    }
}

static inline __attribute__((always_inline)) void block_any(float *c, size_t ldc, size_t m, size_t n, size_t k, struct strided a,
                                                            const float *b, size_t ldb, bool add, bool pair) {
    for (size_t j = 0; j < n;) {
        size_t W = n - j >= CHAIN_REGISTERS * LANES ? CHAIN_REGISTERS : 1;
        for (size_t i = 0; i < m; i += CHAIN_ROWS) {
            struct strided ai = {a.p + i * a.row, a.row, a.col};
            if (W == CHAIN_REGISTERS) {
                block_part(c + i * ldc + j, ldc, ai, b + j, ldb, k, add, CHAIN_REGISTERS, pair);
            } else {
                block_part(c + i * ldc + j, ldc, ai, b + j, ldb, k, add, 1, pair);
            }
        }
        j += W * LANES;
    }
}

/* c [m,n] = a b, or += with `add`      a [m,k], b [k,n] with rows ldb apart; m in units of UNIT_ROWS, n of LANES */
static __attribute__((noinline)) void block_product(float *c, size_t ldc, size_t m, size_t n, size_t k, struct strided a,
                                                    const float *b, size_t ldb, bool add) {
    block_any(c, ldc, m, n, k, a, b, ldb, add, false);
}

/* The same of pairs, where HAS_PAIRS. */
static __attribute__((noinline)) void block_pairs(float *c, size_t ldc, size_t m, size_t n, size_t k, struct strided a,
                                                  const float *b, size_t ldb, bool add) {
    block_any(c, ldc, m, n, k, a, b, ldb, add, HAS_PAIRS);
}

#endif
