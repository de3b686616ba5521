/* Part of cpu.c: products that are too small or too thin for the BLAS, which copies its operands into packed form first.
 *
 * Thin: a few rows of activations against a large matrix of weights, as in generation: the weights are read once, straight
 * from memory, and each output is a sum whose order does not depend on the number of rows. Small: the tiles of attention over
 * short sequences, four rows by 16 or 32 columns of the output in registers. */
#ifndef KERNELS_CPU_PRODUCT_H
#define KERNELS_CPU_PRODUCT_H

#include "kernels/cpu_vector.h"

enum { THIN_ROWS = 16 };

/* 16 floats anywhere in memory; narrower machines use several registers. */
typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));

static inline size_t round_lanes(size_t n) {
    return (n + LANES - 1) / LANES * LANES;
}

static inline float dot(const float *restrict a, const float *restrict b, size_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* Asks for four rows ahead of use. Short rows far apart (a head's part of the keys) are no pattern that the processor sees by itself. */
static inline void fetch_rows(const float *rows, size_t ld, size_t first, size_t n, size_t D) {
    for (size_t j = first; j < min_size(first + 4, n) && D <= 256; j++) {
        for (size_t d = 0; d < D; d += LANES) {
            __builtin_prefetch(rows + j * ld + d);
        }
    }
}

/* y[j] = alpha x . rows[j] + beta y[j]      beta 0 does not read y; four rows at a time share the loads of x */
static void dot_rows(float *restrict y, const float *restrict x, const float *restrict rows, size_t ld, size_t n, size_t D,
                     float alpha, float beta) {
    float s[4];
    for (size_t j = 0; j < n; j += 4) {
        const float *r = rows + j * ld;
        size_t m = min_size(4, n - j);
        fetch_rows(rows, ld, j + 16, n, D);
        if (m == 4) {
            float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
            for (size_t d = 0; d < D; d++) {
                s0 += x[d] * r[d];
                s1 += x[d] * r[ld + d];
                s2 += x[d] * r[2 * ld + d];
                s3 += x[d] * r[3 * ld + d];
            }
            s[0] = s0;
            s[1] = s1;
            s[2] = s2;
            s[3] = s3;
        } else {
            for (size_t i = 0; i < m; i++) {
                s[i] = dot(x, r + i * ld, D);
            }
        }
        for (size_t i = 0; i < m; i++) {
            y[j + i] = alpha * s[i] + (beta < 0 || beta > 0 ? beta * y[j + i] : 0.0F);
        }
    }
}

/* y = sum_j p[j] rows[j] */
static void sum_rows(float *restrict y, const float *restrict p, const float *restrict rows, size_t ld, size_t n, size_t D) {
    memset(y, 0, D * sizeof *y);
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        const float *r = rows + j * ld;
        fetch_rows(rows, ld, j + 16, n, D);
        float p0 = p[j], p1 = p[j + 1], p2 = p[j + 2], p3 = p[j + 3];
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            y[d] += (p0 * r[d] + p1 * r[ld + d]) + (p2 * r[2 * ld + d] + p3 * r[3 * ld + d]);
        }
    }
    for (; j < n; j++) {
        const float *r = rows + j * ld;
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            y[d] += p[j] * r[d];
        }
    }
}

/* ---- thin ---- */

struct thin_job {
    struct rows rows;
    struct mat c, a, w;
    float alpha, beta;
};

static void thin_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct thin_job *t = (const struct thin_job *)(const void *)rows;
    for (size_t n = first; n < last; n += 4) { /* rows of weights that stay in the first-level cache for all rows of a */
        for (size_t i = 0; i < t->c.rows; i++) {
            dot_rows(row_of(t->c, i) + n, row_of(t->a, i), row_of(t->w, n), t->w.ld, min_size(4, last - n), t->w.cols, t->alpha,
                     t->beta);
        }
    }
}

static void gemm_cpu(const struct exec *x, struct mat c, int ta, struct mat a, int tb, struct mat b, float alpha, float beta) {
    if (ta || !tb || c.rows > THIN_ROWS) {
        gemm_blas(x, c, ta, a, tb, b, alpha, beta);
        return;
    }
    struct thin_job t = {.rows = {.fn = thin_rows}, .c = c, .a = a, .w = b, .alpha = alpha, .beta = beta};
    run_rows(x, &t.rows, c.cols, a.cols);
}

/* ---- small ---- */

/* b[l, j] = a[j, l]      a [n,k] with rows lda apart, b [k, ldb], columns n .. ldb are zero */
static void transpose(float *restrict b, size_t ldb, const float *restrict a, size_t lda, size_t n, size_t k) {
    for (size_t l = 0; l < k; l++) {
        for (size_t j = 0; j < n; j++) {
            b[l * ldb + j] = a[j * lda + l];
        }
        memset(b + l * ldb + n, 0, (ldb - n) * sizeof *b);
    }
}

/* A matrix by its strides: element (i, l) at p[i * row + l * col]. */
struct strided {
    const float *p;
    size_t row, col;
};

static inline __attribute__((always_inline)) void product_block(float *c, size_t ldc, struct strided a, const float *b,
                                                                size_t ldb, size_t k, bool add, size_t R, size_t W) {
    vec acc[4][2];
    for (size_t r = 0; r < R; r++) {
        for (size_t w = 0; w < W; w++) {
            acc[r][w] = add ? *(const vec *)(const void *)(c + r * ldc + w * LANES) : (vec){0};
        }
    }
    for (size_t l = 0; l < k; l++) {
        for (size_t w = 0; w < W; w++) {
            vec bv = *(const vec *)(const void *)(b + l * ldb + w * LANES);
            for (size_t r = 0; r < R; r++) {
                acc[r][w] += a.p[r * a.row + l * a.col] * bv;
            }
        }
    }
    for (size_t r = 0; r < R; r++) {
        for (size_t w = 0; w < W; w++) {
            *(vec *)(void *)(c + r * ldc + w * LANES) = acc[r][w];
        }
    }
}

#ifdef __AVX512F__
enum { WIDE = 2 }; /* eight accumulators: the latency of a fused multiply-add times two units */
#else
enum { WIDE = 1 };
#endif

/* c [m,n] = a b, or += with `add`      a [m,k], b [k,n] with rows ldb apart, n a multiple of LANES */
static void product(float *c, size_t ldc, size_t m, size_t n, size_t k, struct strided a, const float *b, size_t ldb, bool add) {
    for (size_t j = 0; j < n;) {
        size_t W = n - j >= WIDE * LANES ? WIDE : 1;
        for (size_t i = 0; i < m;) {
            struct strided ai = {a.p + i * a.row, a.row, a.col};
            float *ci = c + i * ldc + j;
            size_t R = m - i >= 4 ? 4 : 1;
            if (R == 4 && W == WIDE) {
                product_block(ci, ldc, ai, b + j, ldb, k, add, 4, WIDE);
            } else if (R == 4) {
                product_block(ci, ldc, ai, b + j, ldb, k, add, 4, 1);
            } else if (W == WIDE) {
                product_block(ci, ldc, ai, b + j, ldb, k, add, 1, WIDE);
            } else {
                product_block(ci, ldc, ai, b + j, ldb, k, add, 1, 1);
            }
            i += R;
        }
        j += W * LANES;
    }
}

#endif
