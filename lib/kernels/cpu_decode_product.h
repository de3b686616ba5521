/* Part of cpu.c: products of a few rows of activations with large matrices of weights, as in generation. The weights are read once,
 * straight from memory as they are stored (F32, BF16, or I8 with a scale per row), widened in registers, and met by all rows of the
 * input while they are there; the time is that of reading them. Several matrices that read the same input share one pass.
 *
 * BF16: 32 weights are one load. Where the processor multiplies pairs (cpu_gemm_micro.h), the input is rounded to BF16, too;
 * elsewhere a shift and a mask make F32 of the even and of the odd weights, and the input is laid out in that order first.
 * I8: the input becomes whole numbers of up to 15 bits with a scale per row, so few that no sum of products leaves 31 bits; sums
 * are then exact, in any order.
 *
 * An element of the result is a sum whose order depends on the inner size alone, not on how many rows there are. */
#ifndef KERNELS_CPU_DECODE_PRODUCT_H
#define KERNELS_CPU_DECODE_PRODUCT_H

#include "kernels/cpu_gemm_micro.h"
#include "kernels/cpu_product.h"
#include "kernels/cpu_types.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

enum {
    FEW_BYTES = 1 << 16, /* of weights in a task */
    FEW_AHEAD = 1 << 13, /* bytes between what is multiplied and what is asked for */
    FEW_PANEL = 64,      /* rows of the input at a time: they stay in the second-level cache */
};

typedef int32_t ivec __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(64), aligned(2), may_alias));

struct project_job {
    struct rows rows; /* of the input, while it is made ready */
    const struct projection *p;
    size_t n, tasks, step[MAX_PROJECTIONS];
    struct mat in;
    enum dtype weights;
    size_t k, lda;   /* lda: k rounded up to STRIDE */
    float *a;        /* [m, lda] the input for F32 and BF16 weights, zeros behind k; as pairs it fills half of each row */
    int16_t *whole;  /* [m, lda] and for I8 */
    float *in_scale; /* [m] */
};

enum { STRIDE = 64 }; /* weights of one row met in one turn of a loop, at most */

/* ---- the input ---- */

/* 32 numbers as 16 even and 16 odd ones. */
static void part_even(float *restrict to, const float *restrict from, size_t n) {
    for (size_t i = 0; i < n; i += 2 * LANES) {
#pragma omp simd
        for (size_t l = 0; l < LANES; l++) {
            to[i + l] = from[i + 2 * l];
            to[i + LANES + l] = from[i + 2 * l + 1];
        }
    }
}

/* n numbers as products with BF16 weights read them; n a multiple of 32. */
static void input_for_bf16(float *to, const float *from, size_t n) {
    if (HAS_PAIRS) {
        store_floats(to, DTYPE_BF16, from, n);
    } else {
        part_even(to, from, n);
    }
}

/* The largest whole number of the input: 127 times it, k times, stays below 2^31. */
static float whole_limit(size_t k) {
    size_t most = k ? (size_t)INT32_MAX / (127 * k) : 1;
    return (float)min_size(most, INT16_MAX);
}

/* The largest magnitude; NaN if there is a NaN or an infinity. */
static float largest_of(const float *v, size_t n) {
    float largest = 0, none = 0;
#pragma omp simd reduction(max : largest)
    for (size_t i = 0; i < n; i++) {
        float a = fabsf(v[i]);
        largest = a > largest ? a : largest;
    }
#pragma omp simd reduction(+ : none)
    for (size_t i = 0; i < n; i++) {
        none += v[i] * 0.0F;
    }
    return largest + none;
}

/* Added to a number below 2^22 it leaves the nearest whole number, to even, in the low bits. */
#define ROUND 0x1.8p23F

/* to = round(from / scale), scale is returned: NaN for an input that is not finite, so that it is not lost */
static float make_whole(int16_t *restrict to, const float *restrict from, size_t n, float limit) {
    float largest = largest_of(from, n), up = limit / largest;
    if (!isfinite(up)) { /* NaN, or 0, or below 1e-34, which counts as 0 */
        memset(to, 0, n * sizeof *to);
        return isnan(largest) ? NAN : 0;
    }
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        to[i] = (int16_t)(float_bits(from[i] * up + ROUND) & 0xffffU);
    }
    return largest / limit;
}

static void input_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct project_job *j = (const struct project_job *)(const void *)rows;
    float part[CHUNK];
    for (size_t r = first; r < last; r++) {
        float *a = j->a + r * j->lda;
        if (j->weights != DTYPE_BF16) {
            load_floats(a, place(j->in, r, 0), j->in.dtype, j->k);
            memset(a + j->k, 0, (j->lda - j->k) * sizeof *a);
        }
        for (size_t i = 0; i < j->lda && j->weights == DTYPE_BF16; i += CHUNK) {
            size_t n = min_size(CHUNK, j->lda - i), here = min_size(n, j->k - i);
            load_floats(part, place(j->in, r, i), j->in.dtype, here);
            memset(part + here, 0, (n - here) * sizeof *part);
            input_for_bf16(HAS_PAIRS ? a + i / 2 : a + i, part, n);
        }
        if (j->weights == DTYPE_I8) {
            j->in_scale[r] = make_whole(j->whole + r * j->lda, a, j->lda, whole_limit(j->k));
        }
    }
}

/* ---- blocks: M rows of the input by N rows of weights, their sums in registers ---- */

struct few {
    const unsigned char *w; /* first row of weights */
    size_t ldw;             /* bytes */
    const float *a;
    const int16_t *whole;
    size_t lda, k, ahead;      /* ahead: bytes from a row to the one that is asked for beside it */
    const unsigned char *next; /* the first row that this block asks for */
    const float *scales, *in_scale;
    float *y;
    size_t ldy;
    float alpha, beta;
};

/* The four sums of lanes of four registers at once, each in the same order whatever stands in the others: two by two they are
 * interleaved and added, then the quarters of what came of it. The shuffles are the same for floats and whole numbers. */
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define FOLD(a, b)                                                                                                               \
    (SHUFFLE(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +                                                   \
     SHUFFLE(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31))
#define FOLD_PAIRS(a, b)                                                                                                         \
    (SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +                                                   \
     SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))

typedef float quarter __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t iquarter __attribute__((vector_size(16)));

static inline void sum_four(quarter *out, const vec *v) {
    vec a = FOLD(v[0], v[1]), b = FOLD(v[2], v[3]);
    const union {
        vec v;
        quarter q[4];
    } c = {FOLD_PAIRS(a, b)};
    *out = (c.q[0] + c.q[2]) + (c.q[1] + c.q[3]);
}

static inline void sum_four_whole(quarter *out, const ivec *v) {
    ivec a = FOLD(v[0], v[1]), b = FOLD(v[2], v[3]);
    const union {
        ivec v;
        iquarter q[4];
    } c = {FOLD_PAIRS(a, b)};
    *out = __builtin_convertvector((c.q[0] + c.q[2]) + (c.q[1] + c.q[3]), quarter);
}

/* y = alpha sums + beta y for one row and N columns */
static inline __attribute__((always_inline)) void few_store(const struct few *t, size_t i, const quarter *sums, size_t N) {
    float *y = t->y + i * t->ldy;
    if (N == 4) {
        quarter v = t->alpha * *sums;
        if (t->beta < 0 || t->beta > 0) {
            v += t->beta * *(const quarter *)(const void *)y;
        }
        *(quarter *)(void *)y = v;
        return;
    }
    for (size_t n = 0; n < N; n++) {
        y[n] = t->alpha * (*sums)[n] + (t->beta < 0 || t->beta > 0 ? t->beta * y[n] : 0.0F);
    }
}

/* Asks for a line of each of P rows that come soon: into the second-level cache where the first is busy. */
static inline __attribute__((always_inline)) void few_ask(const unsigned char *next, size_t ldw, size_t P) {
    for (size_t n = 0; n < P; n++) {
        if (P == THIN_N) {
            __builtin_prefetch(next + n * ldw);
        } else {
            __builtin_prefetch(next + n * ldw, 0, 2);
        }
    }
}

static inline __attribute__((always_inline)) void few_f32(vec acc[4][4], const float *a, size_t lda, const unsigned char *w,
                                                          size_t ldw, size_t M, size_t N) {
    vec wide[4];
    for (size_t n = 0; n < N; n++) {
        wide[n] = *(const vec *)(const void *)(w + n * ldw);
    }
    for (size_t i = 0; i < M; i++) {
        vec v = *(const vec *)(const void *)(a + i * lda);
        for (size_t n = 0; n < N; n++) {
            acc[i][n] += v * wide[n];
        }
    }
}

#if defined(__AVX512BF16__)
static inline __attribute__((always_inline)) void few_bf16(vec acc[4][4], const float *a, size_t lda, const unsigned char *w,
                                                           size_t ldw, size_t M, size_t N) {
    for (size_t i = 0; i < M; i++) {
        __m512bh v = (__m512bh)_mm512_loadu_si512(a + i * lda);
        for (size_t n = 0; n < N; n++) {
            acc[i][n] = (vec)_mm512_dpbf16_ps((__m512)acc[i][n], v, (__m512bh)_mm512_loadu_si512(w + n * ldw));
        }
    }
}
#else
static inline __attribute__((always_inline)) void few_bf16(vec acc[4][4], const float *a, size_t lda, const unsigned char *w,
                                                           size_t ldw, size_t M, size_t N) {
    vec even[4], odd[4];
    for (size_t n = 0; n < N; n++) {
        uvec u = *(const uvec *)(const void *)(w + n * ldw);
        even[n] = (vec)(u << 16);
        odd[n] = (vec)(u & 0xffff0000U);
    }
    for (size_t i = 0; i < M; i++) {
        vec v = *(const vec *)(const void *)(a + i * lda), v2 = *(const vec *)(const void *)(a + i * lda + LANES);
        for (size_t n = 0; n < N; n++) {
            acc[i][n] += v * even[n];
            acc[i][n] += v2 * odd[n];
        }
    }
}

#endif

static inline __attribute__((always_inline)) void few_floats(const struct few *t, size_t M, size_t N, size_t P, enum dtype type) {
    const size_t size = type == DTYPE_F32 ? 4 : 2, step = 64 / size, per = HAS_PAIRS && type == DTYPE_BF16 ? 2 : 1;
    vec acc[4][4];
    for (size_t i = 0; i < 4; i++) {
        for (size_t n = 0; n < 4; n++) {
            acc[i][n] = (vec){0};
        }
    }
    size_t k = 0;
    for (; k + step <= t->k; k += step) {
        few_ask(t->next + k * size, t->ldw, P);
        (type == DTYPE_F32 ? few_f32 : few_bf16)(acc, t->a + k / per, t->lda, t->w + k * size, t->ldw, M, N);
    }
    if (k < t->k) {
        unsigned char rest[4 * 64] = {0};
        for (size_t n = 0; n < N; n++) {
            memcpy(rest + n * 64, t->w + n * t->ldw + k * size, (t->k - k) * size);
        }
        (type == DTYPE_F32 ? few_f32 : few_bf16)(acc, t->a + k / per, t->lda, rest, 64, M, N);
    }
    for (size_t i = 0; i < M; i++) {
        quarter sums;
        sum_four(&sums, acc[i]);
        few_store(t, i, &sums, N);
    }
}

/* acc += 64 whole numbers times 64 weights, in pairs */
static inline __attribute__((always_inline)) void few_whole_step(ivec acc[4][4], const int16_t *a, size_t lda,
                                                                 const unsigned char *w, size_t ldw, size_t M, size_t N) {
#if defined(__AVX512BW__)
    __m512i wide[4][2];
    for (size_t n = 0; n < N; n++) {
        const unsigned char *p = w + n * ldw;
        wide[n][0] = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
        wide[n][1] = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(p + 32)));
    }
    for (size_t i = 0; i < M; i++) {
        __m512i v0 = _mm512_loadu_si512(a + i * lda), v1 = _mm512_loadu_si512(a + i * lda + 32);
        for (size_t n = 0; n < N; n++) {
#ifdef __AVX512VNNI__
            acc[i][n] = (ivec)_mm512_dpwssd_epi32((__m512i)acc[i][n], v0, wide[n][0]);
            acc[i][n] = (ivec)_mm512_dpwssd_epi32((__m512i)acc[i][n], v1, wide[n][1]);
#else
            acc[i][n] += (ivec)_mm512_madd_epi16(v0, wide[n][0]) + (ivec)_mm512_madd_epi16(v1, wide[n][1]);
#endif
        }
    }
#else
    for (size_t i = 0; i < M; i++) {
        for (size_t n = 0; n < N; n++) {
#ifdef __AVX2__
            union {
                ivec v;
                __m256i h[2];
            } sum = {acc[i][n]};
            for (size_t s = 0; s < 4; s++) {
                __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(w + n * ldw + 16 * s)));
                __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(a + i * lda + 16 * s));
                sum.h[s % 2] = _mm256_add_epi32(sum.h[s % 2], _mm256_madd_epi16(v, wide));
            }
            acc[i][n] = sum.v;
#else
            const int8_t *p = (const int8_t *)(w + n * ldw);
            for (size_t s = 0; s < STRIDE; s += LANES) {
                ivec part;
                for (size_t l = 0; l < LANES; l++) {
                    part[l] = a[i * lda + s + l] * p[s + l];
                }
                acc[i][n] += part;
            }
#endif
        }
    }
#endif
}

static inline __attribute__((always_inline)) void few_whole(const struct few *t, size_t M, size_t N, size_t P) {
    ivec acc[4][4];
    for (size_t i = 0; i < 4; i++) {
        for (size_t n = 0; n < 4; n++) {
            acc[i][n] = (ivec){0};
        }
    }
    size_t k = 0;
    for (; k + STRIDE <= t->k; k += STRIDE) {
        few_ask(t->next + k, t->ldw, P);
        few_whole_step(acc, t->whole + k, t->lda, t->w + k, t->ldw, M, N);
    }
    if (k < t->k) {
        unsigned char rest[4 * STRIDE] = {0};
        for (size_t n = 0; n < N; n++) {
            memcpy(rest + n * STRIDE, t->w + n * t->ldw + k, t->k - k);
        }
        few_whole_step(acc, t->whole + k, t->lda, rest, STRIDE, M, N);
    }
    for (size_t i = 0; i < M; i++) {
        quarter sums;
        sum_four_whole(&sums, acc[i]);
        for (size_t n = 0; n < N; n++) {
            sums[n] *= t->scales[n] * t->in_scale[i];
        }
        few_store(t, i, &sums, N);
    }
}

/* M, N and P are constants where this is inlined. */
static inline __attribute__((always_inline)) void few_block(const struct few *t, size_t M, size_t N, size_t P, enum dtype type) {
    if (type == DTYPE_I8) {
        few_whole(t, M, N, P);
    } else {
        few_floats(t, M, N, P, type);
    }
}

/* M rows of the input and THIN_N of weights; `ask` rows are asked for. */
static inline __attribute__((always_inline)) void few_blocks(const struct few *t, size_t M, size_t ask, enum dtype type) {
    if (ask == THIN_N) {
        few_block(t, M, THIN_N, THIN_N, type);
    } else if (ask == 0) {
        few_block(t, M, THIN_N, 0, type);
    } else if (ask == 1) {
        few_block(t, M, THIN_N, 1, type);
    } else {
        few_block(t, M, THIN_N, 2, type);
    }
}

/* m rows of the input against n rows of weights, which stay in the first-level cache for all of them. The rows that come next are
 * asked for by all blocks together, so that memory is read while there is something to multiply. */
static inline __attribute__((always_inline)) void few_product(const struct few *all, size_t m, size_t n, enum dtype type) {
    const size_t blocks = (m + THIN_M - 1) / THIN_M, each = blocks >= THIN_N ? 1 : blocks >= 2 ? THIN_N / 2 : THIN_N;
    for (size_t j = 0; j < n;) {
        size_t N = n - j >= THIN_N ? THIN_N : 1, asked = 0;
        for (size_t i = 0; i < m;) {
            struct few t = *all;
            t.w += j * t.ldw;
            t.scales += type == DTYPE_I8 ? j : 0;
            t.a += i * t.lda;
            t.whole += type == DTYPE_I8 ? i * t.lda : 0;
            t.in_scale += type == DTYPE_I8 ? i : 0;
            t.y += i * t.ldy + j;
            t.next = t.w + t.ahead + asked * t.ldw;
            size_t M = m - i >= THIN_M ? THIN_M : m - i >= 2 ? 2 : 1, ask = asked < THIN_N ? each : 0;
            if (N == THIN_N && M == THIN_M) {
                few_blocks(&t, THIN_M, ask, type);
            } else if (N == THIN_N && M == 2) {
                few_blocks(&t, 2, ask, type);
            } else if (N == THIN_N) {
                few_blocks(&t, 1, ask, type);
            } else if (M == THIN_M) {
                few_block(&t, THIN_M, 1, 0, type);
            } else if (M == 2) {
                few_block(&t, 2, 1, 0, type);
            } else {
                few_block(&t, 1, 1, 0, type);
            }
            asked += ask;
            i += M;
        }
        j += N;
    }
}

/* Copies of their own, so that each type's loops are compiled for it alone. */
static void few_product_f32(const struct few *t, size_t m, size_t n) {
    few_product(t, m, n, DTYPE_F32);
}

static void few_product_bf16(const struct few *t, size_t m, size_t n) {
    few_product(t, m, n, DTYPE_BF16);
}

static void few_product_i8(const struct few *t, size_t m, size_t n) {
    few_product(t, m, n, DTYPE_I8);
}

/* ---- tasks ---- */

static void project_task(void *arg, size_t task, size_t worker) {
    (void)worker;
    const struct project_job *j = arg;
    const struct projection *p = j->p;
    size_t i = 0;
    for (; task * j->step[i] >= p->w.rows; i++, p++) {
        task -= (p->w.rows + j->step[i] - 1) / j->step[i];
    }
    size_t first = task * j->step[i], n = min_size(j->step[i], p->w.rows - first), size = dtype_size(p->w.dtype);
    size_t ldw = p->w.ld * size, ahead = (FEW_AHEAD / max_size(1, ldw) + THIN_N) * ldw;
    for (size_t r = 0; r < j->in.rows; r += FEW_PANEL) {
        struct few t = {.w = place(p->w, first, 0),
                        .ldw = ldw,
                        .a = j->a + r * j->lda,
                        .whole = j->whole ? j->whole + r * j->lda : NULL,
                        .lda = j->lda,
                        .k = j->k,
                        .ahead = ahead,
                        .scales = p->scales ? p->scales + first : NULL,
                        .in_scale = j->in_scale ? j->in_scale + r : NULL,
                        .y = row_of(p->y, r) + first,
                        .ldy = p->y.ld,
                        .alpha = p->alpha,
                        .beta = p->beta};
        size_t m = min_size(FEW_PANEL, j->in.rows - r);
        (p->w.dtype == DTYPE_F32 ? few_product_f32 : p->w.dtype == DTYPE_BF16 ? few_product_bf16 : few_product_i8)(&t, m, n);
    }
}

/* Memory for the input as the weights want it, and that input; false on failure. */
static bool project_input(const struct exec *x, struct project_job *j) {
    size_t m = j->in.rows, size = 0;
    if (j->weights == DTYPE_F32 && is_wide(j->in) && j->k % LANES == 0) {
        j->a = j->in.data; /* as it is */
        j->lda = j->in.ld;
        return true;
    }
    j->lda = (j->k + STRIDE - 1) / STRIDE * STRIDE;
    if (!size_mul(m, j->lda, &size)) {
        err_set(x->err, ERR_NOMEM, "project: an input of %zu x %zu", m, j->k);
        return false;
    }
    j->a = arena_take(x->scratch, size, sizeof *j->a, x->err);
    if (j->weights == DTYPE_I8) {
        j->whole = arena_take(x->scratch, size, sizeof *j->whole, x->err);
        j->in_scale = arena_take(x->scratch, m, sizeof *j->in_scale, x->err);
    }
    if (exec_status(x)) {
        return false;
    }
    j->rows.fn = input_rows;
    run_rows(x, &j->rows, m, j->lda);
    return true;
}

/* F32 results only. */
static void project_wide(const struct exec *x, struct mat in, const struct projection *p, size_t n) {
    struct project_job j = {.p = p, .n = n, .in = in, .weights = p->w.dtype, .k = in.cols};
    struct arena_mark mark = arena_mark(x->scratch);
    if (in.rows && project_input(x, &j)) {
        size_t row = max_size(1, in.cols * dtype_size(j.weights) * max_size(1, in.rows / FEW_PANEL));
        for (size_t i = 0; i < n; i++) {
            j.step[i] = max_size(1, FEW_BYTES / row / 4) * 4;
            j.tasks += (p[i].w.rows + j.step[i] - 1) / j.step[i];
        }
        pool_run(x->pool, j.tasks, project_task, &j);
    }
    arena_release(x->scratch, mark);
}

static bool reads_y(const struct projection *p) {
    return p->beta < 0 || p->beta > 0;
}

static void project_cpu(const struct exec *x, struct mat in, const struct projection *p, size_t n) {
    struct arena_mark mark = arena_mark(x->scratch);
    struct projection wide[MAX_PROJECTIONS];
    for (size_t i = 0; i < n; i++) {
        wide[i] = p[i];
        if (is_wide(p[i].y)) {
            continue;
        }
        wide[i].y = arena_mat(x->scratch, DTYPE_F32, p[i].y.rows, p[i].y.cols, x->err);
        if (reads_y(&p[i])) {
            copy(x, wide[i].y, p[i].y);
        }
    }
    if (!exec_status(x)) {
        project_wide(x, in, wide, n);
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_wide(p[i].y)) {
            copy(x, p[i].y, wide[i].y);
        }
    }
    arena_release(x->scratch, mark);
}

/* ---- I8 weights ---- */

struct quantize_job {
    struct rows rows;
    struct mat q, w;
    float *scales;
};

static void quantize_some(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct quantize_job *j = (const struct quantize_job *)(const void *)rows;
    float part[CHUNK];
    for (size_t r = first; r < last; r++) {
        float largest = 0;
        for (size_t c = 0; c < j->w.cols; c += CHUNK) {
            size_t n = min_size(CHUNK, j->w.cols - c);
            dtype_convert(part, DTYPE_F32, place(j->w, r, c), j->w.dtype, n);
            float here = largest_of(part, n);
            largest = here > largest || isnan(here) ? here : largest;
        }
        float up = 127 / largest;
        j->scales[r] = isinf(up) ? 0 : largest / 127;
        up = isfinite(up) ? up : 0;
        int8_t *q = place(j->q, r, 0);
        for (size_t c = 0; c < j->w.cols; c += CHUNK) {
            size_t n = min_size(CHUNK, j->w.cols - c);
            dtype_convert(part, DTYPE_F32, place(j->w, r, c), j->w.dtype, n);
#pragma omp simd
            for (size_t i = 0; i < n; i++) {
                q[c + i] = (int8_t)(float_bits(part[i] * up + ROUND) & 0xffU);
            }
        }
    }
}

static void quantize_rows_cpu(const struct exec *x, struct mat q, float *scales, struct mat w) {
    struct quantize_job j = {.rows = {.fn = quantize_some}, .q = q, .w = w, .scales = scales};
    run_rows(x, &j.rows, w.rows, w.cols);
}
#endif
