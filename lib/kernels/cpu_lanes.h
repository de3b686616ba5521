/* Part of cpu.c: operations on one register of 16 floats, for the few loops that a compiler does not vectorise well by itself.
 * Everything works on every processor; AVX-512 has instructions of its own for some. */
#ifndef KERNELS_CPU_LANES_H
#define KERNELS_CPU_LANES_H

#include "kernels/cpu_product.h"
#include "kernels/cpu_types.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

static inline vec vec_of(const float *p) {
    return *(const vec *)(const void *)p;
}

static inline void vec_to(float *p, vec v) {
    *(vec *)(void *)p = v;
}

static inline vec vec_all(float v) {
    return v - (vec){0};
}

/* v where a bit is set, else 0. */
static inline vec vec_kept(vec v, uint16_t bits) {
#ifdef __AVX512F__
    return (vec)_mm512_maskz_mov_ps(bits, (__m512)v);
#else
    typedef int32_t ints __attribute__((vector_size(64), aligned(4)));
    const ints bit = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    return (vec)((ints)v & ((bit & (int32_t)bits) != 0));
#endif
}

/* 16 elements of either type. */
static inline vec vec_load(const void *p, enum dtype t) {
    if (t == DTYPE_F32) {
        return vec_of(p);
    }
#ifdef __AVX512F__
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16);
#else
    vec v = {0};
    load_floats((float *)&v, p, t, LANES);
    return v;
#endif
}

/* Pairs of BF16 (cpu_gemm_micro.h), rounded to nearest: low[i] and high[i], or neighbours in the 32 numbers of a and b. Only where
 * HAS_PAIRS. */
static inline vec vec_neighbours(vec a, vec b) {
#ifdef __AVX512BF16__
    return (vec)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
#else
    (void)b;
    return a;
#endif
}

static inline vec vec_pairs(vec low, vec high) {
#ifdef __AVX512BF16__
    __m512i l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)low));
    return (vec)_mm512_or_si512(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)high)), 16), l);
#else
    (void)high;
    return low;
#endif
}

/* The larger of each lane; b where one of them is NaN. */
static inline vec vec_max(vec a, vec b) {
#ifdef __AVX512F__
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#else
    const float *p = (const float *)&a;
    float *q = (float *)&b;
#pragma omp simd
    for (size_t l = 0; l < LANES; l++) {
        q[l] = p[l] > q[l] ? p[l] : q[l];
    }
    return b;
#endif
}

/* e^x for x <= 0 as exp_fast computes it. The last step there, a multiplication with a power of 2, is one instruction here, which
 * also rounds what is below the smallest number to 0. */
static inline vec vec_exp_down(vec x) {
#ifdef __AVX512F__
    __m512 c = _mm512_max_ps(_mm512_set1_ps(-110.0F), (__m512)x);
    __m512 magic = _mm512_set1_ps(12582912.0F), z = _mm512_fmadd_ps(c, _mm512_set1_ps(1.44269504F), magic);
    __m512 n = _mm512_sub_ps(z, magic), r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1F), c);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20F), r);
    __m512 q = _mm512_fmadd_ps(_mm512_set1_ps(0x1.6a23dp-10F), r, _mm512_set1_ps(0x1.123a2p-7F));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.5558f2p-5F));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.555492p-3F));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.fffffcp-2F));
    __m512 e = _mm512_add_ps(_mm512_fmadd_ps(q, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0F));
    return (vec)_mm512_scalef_ps(e, n);
#else
    float *p = (float *)&x;
#pragma omp simd
    for (size_t l = 0; l < LANES; l++) {
        p[l] = exp_fast(p[l]);
    }
    return x;
#endif
}

/* Rows i and i + s of a block of 2s x 2s: its upper right and lower left quarters change places. */
#define SWAP_QUARTERS(s, low, high)                                                                                              \
    for (size_t i = 0; i < LANES; i++) {                                                                                         \
        if (!(i & (s))) {                                                                                                        \
            vec a = row[i], b = row[i + (s)];                                                                                    \
            row[i] = __builtin_shufflevector(a, b, low);                                                                         \
            row[i + (s)] = __builtin_shufflevector(a, b, high);                                                                  \
        }                                                                                                                        \
    }
#define LOW1  0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define HIGH1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define LOW2  0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define HIGH2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define LOW4  0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define HIGH4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define LOW8  0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define HIGH8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31

/* 16 x 16 numbers in registers, in four rounds. */
static inline void vec_transpose(vec row[LANES]) {
    SWAP_QUARTERS(1, LOW1, HIGH1)
    SWAP_QUARTERS(2, LOW2, HIGH2)
    SWAP_QUARTERS(4, LOW4, HIGH4)
    SWAP_QUARTERS(8, LOW8, HIGH8)
}

#endif
