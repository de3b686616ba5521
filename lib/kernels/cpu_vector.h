/* Part of cpu.c: what the vectorised kernels share.
 *
 * Loops are plain C with `omp simd` (compiled with -fopenmp-simd: no runtime), which permits reordered sums; the order depends
 * on the instruction set and the length alone. Work is cut into tasks by shape alone, never by the number of threads. */
#ifndef KERNELS_CPU_VECTOR_H
#define KERNELS_CPU_VECTOR_H

#include "kernels/cpu_exp.h"
#include "kernels/mask.h"
#include "kernels/table.h"

#include <math.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { LANES = 16 }; /* floats in the widest register */

static inline size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

/* The largest element, NaN apart; -infinity for none. Lanes by hand: clang does not vectorise a maximum that must pass over
 * NaN. */
static inline float max_of(const float *v, size_t n) {
    float lane[LANES], max = -INFINITY;
    for (size_t l = 0; l < LANES; l++) {
        lane[l] = -INFINITY;
    }
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (size_t l = 0; l < LANES; l++) {
            lane[l] = v[i + l] > lane[l] ? v[i + l] : lane[l];
        }
    }
    for (; i < n; i++) {
        max = v[i] > max ? v[i] : max;
    }
    for (size_t l = 0; l < LANES; l++) {
        max = lane[l] > max ? lane[l] : max;
    }
    return max;
}

/* ---- tasks over rows ---- */

/* First member of a kernel's own arguments. */
struct rows {
    void (*fn)(const struct rows *self, size_t first, size_t last, size_t worker);
    size_t n, step;
};

static void rows_task(void *arg, size_t task, size_t worker) {
    const struct rows *r = arg;
    r->fn(r, task * r->step, min_size((task + 1) * r->step, r->n), worker);
}

/* fn over n rows of `cost` elements each, in tasks of about 2^15 elements: some microseconds. */
static void run_rows(const struct exec *x, struct rows *r, size_t n, size_t cost) {
    r->n = n;
    r->step = max_size(1, 32768 / max_size(1, cost));
    size_t tasks = (n + r->step - 1) / r->step;
    if (tasks == 1) {
        r->fn(r, 0, n, 0);
    } else if (tasks > 1) {
        pool_run(x->pool, tasks, rows_task, r);
    }
}

/* ---- random bits, dropout ---- */

/* The Philox blocks of group g: Philox4x32-10 in 16 lanes (core/rng.h has the readable form). */
#ifdef __AVX512F__
static void random_words(uint32_t words[restrict 4][MASK_BLOCKS], uint64_t seed, uint64_t stream, uint64_t g) {
    const __m512i every_second = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i ka = _mm512_set1_epi64(0xD2511F53), kb = _mm512_set1_epi64(0xCD9E8D57);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    /* Blocks of even and of odd number: lanes of 64 bits, of which the lower half counts, since the multiplier reads that. */
    __m512i c[2][4];
    for (int odd = 0; odd < 2; odd++) {
        c[odd][0] = _mm512_add_epi64(_mm512_set1_epi64((long long)(g * MASK_BLOCKS + (uint64_t)odd)), every_second);
        c[odd][1] = _mm512_srli_epi64(c[odd][0], 32);
        c[odd][2] = _mm512_set1_epi64((long long)stream);
        c[odd][3] = _mm512_srli_epi64(c[odd][2], 32);
    }
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        const __m512i w0 = _mm512_set1_epi32((int)k0), w1 = _mm512_set1_epi32((int)k1);
#pragma GCC unroll 2
        for (int odd = 0; odd < 2; odd++) {
            __m512i a = _mm512_mul_epu32(c[odd][0], ka), b = _mm512_mul_epu32(c[odd][2], kb);
            c[odd][0] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(b, 32), c[odd][1], w0, 0x96); /* exclusive or of three */
            c[odd][2] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(a, 32), c[odd][3], w1, 0x96);
            c[odd][1] = b;
            c[odd][3] = a;
        }
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    for (size_t i = 0; i < 4; i++) {
        _mm512_storeu_si512(words[i], _mm512_mask_blend_epi32(0xAAAA, c[0][i], _mm512_slli_epi64(c[1][i], 32)));
    }
}
#else
static void random_words(uint32_t words[restrict 4][MASK_BLOCKS], uint64_t seed, uint64_t stream, uint64_t g) {
    uint32_t low = (uint32_t)(g * MASK_BLOCKS), high = (uint32_t)(g * MASK_BLOCKS >> 32);
    uint32_t s0 = (uint32_t)stream, s1 = (uint32_t)(stream >> 32);
#pragma omp simd
    for (uint32_t l = 0; l < MASK_BLOCKS; l++) {
        uint32_t c0 = low + l, c1 = high, c2 = s0, c3 = s1, k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            uint64_t a = (uint64_t)0xD2511F53U * c0, b = (uint64_t)0xCD9E8D57U * c2;
            c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
            c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
            c1 = (uint32_t)b;
            c3 = (uint32_t)a;
            k0 += 0x9E3779B9U;
            k1 += 0xBB67AE85U;
        }
        words[0][l] = c0;
        words[1][l] = c1;
        words[2][l] = c2;
        words[3][l] = c3;
    }
}
#endif

/* Bit l of kept[v]: whether element 16 v + l of group g is kept. */
static void mask_group(uint16_t kept[MASK_GROUP / LANES], uint64_t g, const struct dropout *d) {
    uint32_t words[4][MASK_BLOCKS], threshold = mask_threshold(d->p);
    random_words(words, d->seed, d->stream, g);
    for (size_t i = 0; i < 4; i++) {
#ifdef __AVX512F__
        const __m512i w = _mm512_loadu_si512(words[i]), least = _mm512_set1_epi32((int)threshold);
        __mmask16 low = _mm512_cmpge_epu32_mask(_mm512_and_si512(w, _mm512_set1_epi32(0xffff)), least);
        __mmask16 high = _mm512_cmpge_epu32_mask(_mm512_srli_epi32(w, 16), least);
        uint32_t both = _mm512_kunpackw(high, low); /* or gcc gathers eight of them in a vector register, one by one */
        memcpy(kept + 2 * i, &both, sizeof both);
#else
        uint32_t low = 0, high = 0;
        for (size_t l = 0; l < MASK_BLOCKS; l++) {
            low |= (uint32_t)((words[i][l] & 0xffffU) >= threshold) << l;
            high |= (uint32_t)(words[i][l] >> 16 >= threshold) << l;
        }
        kept[2 * i] = (uint16_t)low;
        kept[2 * i + 1] = (uint16_t)high;
#endif
    }
}

/* A bit for each of the n elements from `first` on, which is bit first % MASK_GROUP: whole groups. */
static void mask_bits(uint16_t *kept, size_t n, uint64_t first, const struct dropout *d) {
    for (uint64_t g = first / MASK_GROUP; g * MASK_GROUP < first + n; g++) {
        mask_group(kept, g, d);
        kept += MASK_GROUP / LANES;
    }
}

/* 16 bits from bit i on; the word behind them is read, too. */
static inline uint16_t mask_at(const uint16_t *kept, size_t i) {
    return (uint16_t)(((uint32_t)kept[i / LANES + 1] << LANES | kept[i / LANES]) >> i % LANES);
}

static inline float mask_scale(const struct dropout *d) {
    return 1.0F / (1.0F - d->p);
}

#endif
