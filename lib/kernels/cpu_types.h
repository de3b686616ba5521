/* Part of cpu.c: BF16 on its way into F32 buffers and out of them. BF16 is the upper half of an F32: loading is a shift, storing
 * adds half a unit of what is kept, or a random number below a whole unit, and cuts. */
#ifndef KERNELS_CPU_TYPES_H
#define KERNELS_CPU_TYPES_H

#include "kernels/cpu_vector.h"

enum { CHUNK = 1024 /* elements converted at a time: they stay in the first-level cache; a multiple of MASK_GROUP */ };

static inline bool is_wide(struct mat m) {
    return m.dtype == DTYPE_F32;
}

/* Bytes of an element: no call, since it is asked for with every row. */
static inline size_t width_of(struct mat m) {
    return is_wide(m) ? sizeof(float) : m.dtype == DTYPE_I8 ? 1 : sizeof(uint16_t);
}

/* Row r from column c on, of any type. */
static inline void *place(struct mat m, size_t r, size_t c) {
    return (unsigned char *)m.data + (r * m.ld + c) * width_of(m);
}

static inline void load_floats(float *restrict out, const void *p, enum dtype t, size_t n) {
    if (t == DTYPE_F32) {
        memcpy(out, p, n * sizeof *out);
        return;
    }
    const uint16_t *half = p;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        out[i] = bits_float((uint32_t)half[i] << 16);
    }
}

/* Infinity and NaN must not be carried on; of a NaN the quiet bit stays. */
static inline uint16_t narrow(uint32_t u, uint32_t add) {
    uint32_t special = (u & 0x7f800000U) == 0x7f800000U, nan = special & ((u & 0x007fffffU) != 0);
    return (uint16_t)((u + (special ? 0U : add)) >> 16 | nan << 6);
}

static inline void store_floats(void *p, enum dtype t, const float *restrict in, size_t n) {
    if (t == DTYPE_F32) {
        memcpy(p, in, n * sizeof *in);
        return;
    }
    uint16_t *half = p;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        uint32_t u = float_bits(in[i]);
        half[i] = narrow(u, 0x7fffU + (u >> 16 & 1U));
    }
}

/* Elements first .. first + n of a weight, rounded as kernels.h says. */
static void store_weights(void *p, enum dtype t, const float *in, size_t n, uint64_t first, const struct rounding *how) {
    if (t == DTYPE_F32 || !how->stochastic) {
        store_floats(p, t, in, n);
        return;
    }
    uint32_t words[4][MASK_BLOCKS], add[MASK_GROUP];
    uint16_t *half = p;
    for (size_t i = 0, m; i < n; i += m) {
        size_t skip = (size_t)((first + i) % MASK_GROUP);
        m = min_size(n - i, MASK_GROUP - skip);
        random_words(words, how->seed, how->stream, (first + i) / MASK_GROUP);
        for (size_t k = 0; k < 4; k++) {
#pragma omp simd
            for (size_t l = 0; l < MASK_BLOCKS; l++) {
                add[2 * k * MASK_BLOCKS + l] = words[k][l] & 0xffffU;
                add[(2 * k + 1) * MASK_BLOCKS + l] = words[k][l] >> 16;
            }
        }
#pragma omp simd
        for (size_t k = 0; k < m; k++) {
            half[i + k] = narrow(float_bits(in[i + k]), add[skip + k]);
        }
    }
}

#endif
