/* The exponential function of the vectorised kernels: straight-line code that compilers turn into vector code. */
#ifndef KERNELS_CPU_EXP_H
#define KERNELS_CPU_EXP_H

#include <stdint.h>
#include <string.h>

static inline float bits_float(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* e^x within 1.5 ulp for x in [-87.3, 88.3]; 0 below, e^88.3 above, NaN for NaN. x = n ln 2 + r with |r| <= ln 2 / 2: adding
 * 1.5 * 2^23 rounds to an integer and leaves it in the low bits. e^r = 1 + r + r^2 q(r), q fitted for the least relative error
 * (3e-9, Lawson's iteration). */
static inline float exp_fast(float x) {
    float c = x < -87.3F ? -87.3F : x;
    c = c > 88.3F ? 88.3F : c;
    float z = c * 1.44269504F + 12582912.0F, n = z - 12582912.0F;
    float r = c - n * 0x1.62e4p-1F;
    r = r - n * 0x1.7f7d1cp-20F;
    float q = 0x1.6a23dp-10F * r + 0x1.123a2p-7F;
    q = q * r + 0x1.5558f2p-5F;
    q = q * r + 0x1.555492p-3F;
    q = q * r + 0x1.fffffcp-2F;
    float e = q * (r * r) + r + 1.0F;
    float scale = bits_float((float_bits(z) + 127U) << 23);
    return x < -87.3F ? 0.0F : e * scale;
}

#endif
