/* Element types and conversions between them.
 *
 * Conversions are integer arithmetic on the bit patterns, without branches, so that the compiler vectorises the loops and the
 * result depends on no rounding mode and no instruction set. BF16 is the upper half of an F32; F16 is IEEE 754 binary16. */
#include "tensor/mat.h"

#include <string.h>

size_t dtype_size(enum dtype t) {
    return t == DTYPE_F32 ? 4 : t == DTYPE_I8 ? 1 : 2;
}

const char *dtype_name(enum dtype t) {
    static const char *const names[] = {[DTYPE_F32] = "F32", [DTYPE_F16] = "F16", [DTYPE_BF16] = "BF16", [DTYPE_I8] = "I8"};
    return names[t];
}

int dtype_parse(const char *name, size_t n, enum dtype *out) {
    static const struct {
        const char *name;
        enum dtype t;
    } known[] = {
        {"F32", DTYPE_F32},     {"F16", DTYPE_F16},           {"BF16", DTYPE_BF16},         {"f32", DTYPE_F32},
        {"f16", DTYPE_F16},     {"bf16", DTYPE_BF16},         {"fp32", DTYPE_F32},          {"fp16", DTYPE_F16},
        {"float32", DTYPE_F32}, {"float16", DTYPE_F16},       {"bfloat16", DTYPE_BF16},     {"float", DTYPE_F32},
        {"half", DTYPE_F16},    {"torch.float32", DTYPE_F32}, {"torch.float16", DTYPE_F16}, {"torch.bfloat16", DTYPE_BF16},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i].name) == n && memcmp(known[i].name, name, n) == 0) {
            *out = known[i].t;
            return 0;
        }
    }
    return -1;
}

static inline float from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t to_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline uint32_t choose(int condition, uint32_t yes, uint32_t no) {
    uint32_t mask = 0U - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

/* Adding half a unit of the kept part, minus one if the kept part is even, rounds to nearest even; the carry into the exponent
 * is the right one. A NaN keeps its upper payload and becomes quiet. */
static inline uint16_t bf16_of(uint32_t u) {
    uint32_t rounded = (u + 0x7fffU + ((u >> 16) & 1U)) >> 16;
    uint32_t nan = (u >> 16) | 0x40U;
    return (uint16_t)choose((u & 0x7fffffffU) > 0x7f800000U, nan, rounded);
}

static inline uint32_t f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000U) << 16, rest = (uint32_t)(h & 0x7fffU);
    uint32_t normal = (rest << 13) + (112U << 23);
    uint32_t special = 0x7f800000U | ((rest & 0x3ffU) << 13);
    /* Subnormals are rest * 2^-24: exact in F32. */
    uint32_t small = to_bits((float)(int32_t)rest * 0x1p-24F);
    return sign | choose(rest >= 0x7c00U, special, choose(rest < 0x400U, small, normal));
}

static inline uint16_t f16_of(uint32_t u) {
    uint32_t sign = (u >> 16) & 0x8000U, rest = u & 0x7fffffffU;
    uint32_t normal = (rest - (112U << 23) + 0xfffU + ((rest >> 13) & 1U)) >> 13;
    /* Below 2^-14: adding 0.5 leaves the value, rounded to a multiple of 2^-24, in the low bits. */
    uint32_t small = to_bits(from_bits(rest) + 0.5F) - to_bits(0.5F);
    uint32_t nan = 0x7e00U | ((rest >> 13) & 0x3ffU);
    uint32_t finite = choose(rest < (113U << 23), small, normal);
    uint32_t large = choose(rest > 0x7f800000U, nan, 0x7c00U);
    return (uint16_t)(sign | choose(rest >= 0x477ff000U, large, finite));
}

enum { CHUNK = 512 };

/* Aligned chunks of F32 bit patterns stand between any two types: memcpy makes unaligned data safe to read and write. */
static void widen(uint32_t *restrict out, const void *src, enum dtype from, size_t n) {
    uint16_t half[CHUNK];
    if (from == DTYPE_F32) {
        memcpy(out, src, n * 4);
        return;
    }
    memcpy(half, src, n * 2);
    if (from == DTYPE_BF16) {
        for (size_t i = 0; i < n; i++) {
            out[i] = (uint32_t)half[i] << 16;
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            out[i] = f16_to_f32(half[i]);
        }
    }
}

static void narrow(void *dst, enum dtype to, const uint32_t *restrict in, size_t n) {
    uint16_t half[CHUNK];
    if (to == DTYPE_F32) {
        memcpy(dst, in, n * 4);
        return;
    }
    if (to == DTYPE_BF16) {
        for (size_t i = 0; i < n; i++) {
            half[i] = bf16_of(in[i]);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            half[i] = f16_of(in[i]);
        }
    }
    memcpy(dst, half, n * 2);
}

void dtype_convert(void *dst, enum dtype to, const void *src, enum dtype from, size_t n) {
    if (to == from) {
        if (dst != src && n > 0) {
            memcpy(dst, src, n * dtype_size(to));
        }
        return;
    }
    uint32_t wide[CHUNK];
    unsigned char *d = dst;
    const unsigned char *s = src;
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t m = n - i < CHUNK ? n - i : CHUNK;
        widen(wide, s + i * dtype_size(from), from, m);
        narrow(d + i * dtype_size(to), to, wide, m);
    }
}
