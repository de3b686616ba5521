/* Part of cpu.c: operands of a matrix product on their way into panels (cpu_gemm_micro.h). Rows that lie along the inner dimension
 * are turned, a square of registers at a time; those across it are copied. BF16 is widened, or F32 rounded to pairs, on the way.
 *
 * A panel that the matrix does not fill repeats its last row: nothing of it is ever stored. Stores are whole registers, one step
 * after the other; what they write too much is overwritten by the next, or lies in the room behind the panel. */
#ifndef KERNELS_CPU_GEMM_PACK_H
#define KERNELS_CPU_GEMM_PACK_H

#include "kernels/cpu_gemm_micro.h"

/* op(a) as n = M rows, op(b) as n = N columns, of k elements each. Element (i, l) is at p[i * ld + l] if they lie `along` the inner
 * dimension (a as it is, b transposed), else at p[l * ld + i]. */
struct operand {
    const void *p;
    enum dtype type;
    bool along;
    size_t ld, n, k;
};

static inline size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

static inline size_t words_of(size_t k, bool pair) {
    return pair ? k / 2 + k % 2 : k;
}

/* Words from one panel of W to the next. */
static inline size_t panel_stride(size_t W, size_t words) {
    return round_up(words * W + REG, 16);
}

/* ---- a register of words ---- */

#if defined(__AVX512F__)
static inline reg widen_reg(const uint16_t *p) {
    return (reg)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16);
}
#elif defined(__AVX2__)
static inline reg widen_reg(const uint16_t *p) {
    return (reg)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16);
}
#else
static inline reg widen_reg(const uint16_t *p) {
    reg v;
    for (size_t i = 0; i < REG; i++) {
        v[i] = bits_float((uint32_t)p[i] << 16);
    }
    return v;
}
#endif

/* REG words of a row from element p on. */
static inline reg load_along(const void *p, enum dtype type, bool pair) {
#if defined(__AVX512BF16__)
    if (pair && type == DTYPE_F32) {
        return (reg)_mm512_cvtne2ps_pbh(_mm512_loadu_ps((const float *)p + REG), _mm512_loadu_ps(p));
    }
#endif
    return type == DTYPE_F32 || pair ? load_reg(p) : widen_reg(p);
}

/* One word each of REG neighbours at p; of pairs the second halves come from q, NULL: 0. */
static inline reg load_across(const void *p, const void *q, enum dtype type, bool pair) {
#if defined(__AVX512BF16__)
    if (pair) {
        __m256i low, high = _mm256_setzero_si256();
        if (type == DTYPE_F32) {
            low = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(p));
            high = q ? (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(q)) : high;
        } else {
            low = _mm256_loadu_si256(p);
            high = q ? _mm256_loadu_si256(q) : high;
        }
        __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16);
        return (reg)_mm512_or_si512(wide, _mm512_cvtepu16_epi32(low));
    }
#endif
    (void)q, (void)pair;
    return type == DTYPE_F32 ? load_reg(p) : widen_reg(p);
}

/* ---- turning a square of REG x REG words ---- */

#if defined(__AVX512F__)
static inline void turn(reg *v) {
    __m512 a[REG], b[REG];
    for (size_t i = 0; i < REG; i += 2) {
        a[i] = _mm512_unpacklo_ps((__m512)v[i], (__m512)v[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps((__m512)v[i], (__m512)v[i + 1]);
    }
    for (size_t i = 0; i < REG; i += 4) { /* b[i + j]: columns j, j + 4, j + 8, j + 12 of rows i .. i + 3 */
        b[i] = (__m512)_mm512_unpacklo_pd((__m512d)a[i], (__m512d)a[i + 2]);
        b[i + 1] = (__m512)_mm512_unpackhi_pd((__m512d)a[i], (__m512d)a[i + 2]);
        b[i + 2] = (__m512)_mm512_unpacklo_pd((__m512d)a[i + 1], (__m512d)a[i + 3]);
        b[i + 3] = (__m512)_mm512_unpackhi_pd((__m512d)a[i + 1], (__m512d)a[i + 3]);
    }
    for (size_t j = 0; j < 4; j++) {
        __m512 even0 = _mm512_shuffle_f32x4(b[j], b[j + 4], 0x88), odd0 = _mm512_shuffle_f32x4(b[j], b[j + 4], 0xdd);
        __m512 even1 = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0x88), odd1 = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0xdd);
        v[j] = (reg)_mm512_shuffle_f32x4(even0, even1, 0x88);
        v[j + 4] = (reg)_mm512_shuffle_f32x4(odd0, odd1, 0x88);
        v[j + 8] = (reg)_mm512_shuffle_f32x4(even0, even1, 0xdd);
        v[j + 12] = (reg)_mm512_shuffle_f32x4(odd0, odd1, 0xdd);
    }
}
#elif defined(__AVX2__)
static inline void turn(reg *v) {
    __m256 a[REG], b[REG];
    for (size_t i = 0; i < REG; i += 2) {
        a[i] = _mm256_unpacklo_ps((__m256)v[i], (__m256)v[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps((__m256)v[i], (__m256)v[i + 1]);
    }
    for (size_t i = 0; i < REG; i += 4) { /* b[i + j]: columns j and j + 4 of rows i .. i + 3 */
        b[i] = (__m256)_mm256_unpacklo_pd((__m256d)a[i], (__m256d)a[i + 2]);
        b[i + 1] = (__m256)_mm256_unpackhi_pd((__m256d)a[i], (__m256d)a[i + 2]);
        b[i + 2] = (__m256)_mm256_unpacklo_pd((__m256d)a[i + 1], (__m256d)a[i + 3]);
        b[i + 3] = (__m256)_mm256_unpackhi_pd((__m256d)a[i + 1], (__m256d)a[i + 3]);
    }
    for (size_t j = 0; j < 4; j++) {
        v[j] = (reg)_mm256_permute2f128_ps(b[j], b[j + 4], 0x20);
        v[j + 4] = (reg)_mm256_permute2f128_ps(b[j], b[j + 4], 0x31);
    }
}
#else
static inline void turn(reg *v) {
    for (size_t i = 0; i < REG; i++) {
        for (size_t j = i + 1; j < REG; j++) {
            float t = v[i][j];
            v[i][j] = v[j][i];
            v[j][i] = t;
        }
    }
}
#endif

/* ---- panels ---- */

static inline const void *element(const struct operand *o, size_t i, size_t l, enum dtype type) {
    return (const unsigned char *)o->p + (o->along ? i * o->ld + l : l * o->ld + i) * dtype_size_of(type);
}

/* The last words of a row: elements l .. k, then zeros. */
static reg load_along_tail(const struct operand *o, size_t i, size_t l, enum dtype type, bool pair) {
    float part[2 * REG] = {0};
    size_t n = min_size(o->k - l, pair ? 2 * REG : REG);
    memcpy(part, element(o, i, l, type), n * dtype_size_of(type));
    return load_along(part, type, pair);
}

/* One panel of W rows from row i on, words first .. first + n. */
static inline __attribute__((always_inline)) void pack_along(float *to, size_t W, const struct operand *o, size_t i, size_t first,
                                                             size_t n, enum dtype type, bool pair) {
    size_t per = pair ? 2 : 1;
    for (size_t g = 0; g < W; g += REG) {
        for (size_t w = 0; w < n; w += REG) {
            size_t l = (first + w) * per, steps = min_size(REG, n - w);
            reg v[REG];
            for (size_t r = 0; r < REG; r++) {
                size_t row = min_size(i + g + min_size(r, W - g - 1), o->n - 1);
                v[r] = l + per * REG <= o->k ? load_along(element(o, row, l, type), type, pair)
                                             : load_along_tail(o, row, l, type, pair);
            }
            turn(v);
            for (size_t s = 0; s < steps; s++) {
                store_reg(to + (w + s) * W + g, v[s]);
            }
        }
    }
}

static reg load_across_tail(const struct operand *o, size_t i, size_t l, enum dtype type, bool pair) {
    float p[REG] = {0}, q[REG] = {0};
    size_t bytes = i < o->n ? min_size(o->n - i, REG) * dtype_size_of(type) : 0;
    memcpy(p, element(o, bytes ? i : 0, l, type), bytes);
    if (pair && l + 1 < o->k) {
        memcpy(q, element(o, bytes ? i : 0, l + 1, type), bytes);
    }
    return load_across(p, q, type, pair);
}

static inline reg load_across_any(const struct operand *o, size_t i, size_t l, enum dtype type, bool pair) {
    if (i + REG <= o->n && (!pair || l + 1 < o->k)) {
        return load_across(element(o, i, l, type), element(o, i, l + pair, type), type, pair);
    }
    return load_across_tail(o, i, l, type, pair);
}

/* `panels` panels, `stride` apart, of W columns from column i on: all of them at a time, so that a row is read in long pieces;
 * rows ahead are fetched, since the processor does not see a pattern in them. The last step stays within its W words: what is
 * behind it may be another task's. */
static inline __attribute__((always_inline)) void pack_across(float *to, size_t stride, size_t W, const struct operand *o,
                                                              size_t i, size_t panels, size_t first, size_t n, enum dtype type,
                                                              bool pair) {
    size_t per = pair ? 2 : 1, ahead = 16;
    for (size_t w = 0; w < n; w++) {
        size_t l = (first + w) * per;
        for (size_t p = 0; p < panels; p++) {
            float *row = to + p * stride + w * W;
            for (size_t g = 0; g < W; g += REG) {
                size_t at = i + p * W + g;
                if (at < o->n && l + ahead + 1 < o->k) {
                    __builtin_prefetch(element(o, at, l + ahead, type));
                    if (pair) {
                        __builtin_prefetch(element(o, at, l + ahead + 1, type));
                    }
                }
                reg v = load_across_any(o, at, l, type, pair);
                if (W % REG && w + 1 == n) {
                    memcpy(row + g, &v, min_size(W - g, REG) * sizeof *row);
                } else {
                    store_reg(row + g, v);
                }
            }
        }
    }
}

/* Panels of W words a step, `stride` apart, from panel `panel` of the operand on; words first .. first + n of each. */
static inline __attribute__((always_inline)) void pack(float *to, size_t stride, size_t W, const struct operand *o, size_t panel,
                                                       size_t panels, size_t first, size_t n, enum dtype type, bool pair) {
    if (!o->along) {
        pack_across(to, stride, W, o, panel * W, panels, first, n, type, pair);
        return;
    }
    for (size_t p = 0; p < panels; p++) {
        pack_along(to + p * stride, W, o, (panel + p) * W, first, n, type, pair);
    }
}

static inline __attribute__((always_inline)) void pack_any(float *to, size_t stride, size_t W, const struct operand *o,
                                                           size_t panel, size_t panels, size_t first, size_t n, bool pair) {
#if defined(__AVX512BF16__)
    if (pair) {
        if (o->type == DTYPE_F32) {
            pack(to, stride, W, o, panel, panels, first, n, DTYPE_F32, true);
        } else {
            pack(to, stride, W, o, panel, panels, first, n, DTYPE_BF16, true);
        }
        return;
    }
#endif
    (void)pair;
    if (o->type == DTYPE_F32) {
        pack(to, stride, W, o, panel, panels, first, n, DTYPE_F32, false);
    } else {
        pack(to, stride, W, o, panel, panels, first, n, DTYPE_BF16, false);
    }
}

static __attribute__((noinline)) void pack_a(float *to, size_t stride, const struct operand *o, size_t panel, size_t panels,
                                             size_t first, size_t n, bool pair) {
    pack_any(to, stride, GEMM_ROWS, o, panel, panels, first, n, pair);
}

static __attribute__((noinline)) void pack_b(float *to, size_t stride, const struct operand *o, size_t panel, size_t panels,
                                             size_t first, size_t n, bool pair) {
    pack_any(to, stride, GEMM_COLS, o, panel, panels, first, n, pair);
}

#endif
