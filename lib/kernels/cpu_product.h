/* Part of cpu.c: products that are too thin for the BLAS, which copies its operands into packed form first: a few rows of
 * activations against a large matrix of weights, as in generation: the weights are read once, straight from memory, and each output is
 * a sum whose order does not depend on the number of rows. */
#ifndef KERNELS_CPU_PRODUCT_H
#define KERNELS_CPU_PRODUCT_H

#include "kernels/cpu_vector.h"

/* 16 floats anywhere in memory; narrower machines use several registers. */
typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));

static inline size_t round_lanes(size_t n) {
    return (n + LANES - 1) / LANES * LANES;
}

/* ---- thin: c [m,n] = alpha a [m,k] w [n,k]^T + beta c ---- */

#ifdef __AVX512F__
enum { THIN_M = 4, THIN_N = 4 }; /* a block of c whose sums fit into the registers */
#else
enum { THIN_M = 2, THIN_N = 2 };
#endif

static inline float sum_lanes(const vec *v) {
    typedef float half __attribute__((vector_size(32)));
    typedef float quarter __attribute__((vector_size(16)));
    const union {
        vec v;
        half h[2];
    } a = {*v};
    const union {
        half v;
        quarter h[2];
    } b = {a.h[0] + a.h[1]};
    quarter s = b.h[0] + b.h[1];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

struct thin {
    float *c;
    const float *a, *w;
    size_t ldc, lda, ldw, k;
    float alpha, beta;
    size_t ahead; /* distance of what to fetch into the cache; 0: nothing */
};

/* One sum per element of c, in the order of k: the bits of a row do not depend on its neighbours. */
static inline __attribute__((always_inline)) void thin_block(const struct thin *t, size_t M, size_t N) {
    vec acc[4][4];
    for (size_t i = 0; i < M; i++) {
        for (size_t n = 0; n < N; n++) {
            acc[i][n] = (vec){0};
        }
    }
    size_t k = 0;
    for (; k + LANES <= t->k; k += LANES) {
        vec w[4];
        for (size_t n = 0; n < N; n++) {
            const float *p = t->w + n * t->ldw + k;
            w[n] = *(const vec *)(const void *)p;
            if (t->ahead) {
                __builtin_prefetch(p + t->ahead);
            }
        }
        for (size_t i = 0; i < M; i++) {
            vec a = *(const vec *)(const void *)(t->a + i * t->lda + k);
            for (size_t n = 0; n < N; n++) {
                acc[i][n] += a * w[n];
            }
        }
    }
    for (size_t i = 0; i < M; i++) {
        for (size_t n = 0; n < N; n++) {
            float sum = sum_lanes(&acc[i][n]), *c = t->c + i * t->ldc + n;
            for (size_t r = k; r < t->k; r++) {
                sum += t->a[i * t->lda + r] * t->w[n * t->ldw + r];
            }
            *c = t->alpha * sum + (t->beta < 0 || t->beta > 0 ? t->beta * *c : 0.0F);
        }
    }
}

/* A few rows of w stay in the first-level cache for all rows of a. Those ahead are asked for: short rows far apart (a head's
 * part of the keys) are no pattern that the processor sees by itself, and long ones come too late. */
static void thin_product(const struct thin *all, size_t m, size_t n) {
    size_t rows_ahead = all->k <= 256 ? 16 : THIN_N;
    for (size_t j = 0; j < n;) {
        size_t N = n - j >= THIN_N ? THIN_N : 1;
        for (size_t i = 0; i < m;) {
            size_t M = m - i >= THIN_M ? THIN_M : 1;
            struct thin t = *all;
            t.c += i * t.ldc + j;
            t.a += i * t.lda;
            t.w += j * t.ldw;
            t.ahead = i == 0 && j + rows_ahead + N <= n ? rows_ahead * t.ldw : 0;
            if (M == THIN_M && N == THIN_N) {
                thin_block(&t, THIN_M, THIN_N);
            } else if (M == THIN_M) {
                thin_block(&t, THIN_M, 1);
            } else if (N == THIN_N) {
                thin_block(&t, 1, THIN_N);
            } else {
                thin_block(&t, 1, 1);
            }
            i += M;
        }
        j += N;
    }
}

/* y = sum_j p[j] rows[j] */
static void sum_rows(float *restrict y, const float *restrict p, const float *restrict rows, size_t ld, size_t n, size_t D) {
    memset(y, 0, D * sizeof *y);
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        const float *r = rows + j * ld;
        for (size_t i = j + 16; i < min_size(j + 20, n) && D <= 256; i++) {
            for (size_t d = 0; d < D; d += LANES) {
                __builtin_prefetch(rows + i * ld + d);
            }
        }
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

#endif
