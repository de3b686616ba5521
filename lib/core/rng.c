/* Philox4x32-10: ten rounds of multiply and exchange over a 128-bit counter (index, stream) under a 64-bit key (seed). Constants
 * from the paper (SC 2011); checked against the known answers of its authors' Random123 distribution. */
#include "core/rng.h"

#include <math.h>

__extension__ typedef unsigned __int128 u128;

void philox(uint32_t out[4], uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u; /* golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

struct rng rng_make(uint64_t seed, uint64_t stream) {
    return (struct rng){seed, stream, 0};
}

uint64_t rng_u64(struct rng *r) {
    uint32_t w[4];
    philox(w, r->seed, r->stream, r->index++);
    return (uint64_t)w[1] << 32 | w[0];
}

/* Lemire, "Fast random integer generation in an interval", TOMACS 2019, algorithm 5: the high half of a product, rejecting the
 * few low halves that would favour some values. */
uint64_t rng_below(struct rng *r, uint64_t n) {
    u128 m = (u128)rng_u64(r) * n;
    if ((uint64_t)m < n) {
        uint64_t least = (0 - n) % n;
        while ((uint64_t)m < least)
            m = (u128)rng_u64(r) * n;
    }
    return (uint64_t)(m >> 64);
}

double rng_uniform(struct rng *r) {
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

/* Both uniform numbers come from one block, so that every draw moves the index by one. The first is in (0, 1]: log is finite. */
double rng_normal(struct rng *r) {
    uint32_t w[4];
    philox(w, r->seed, r->stream, r->index++);
    double u = (double)((((uint64_t)w[1] << 32 | w[0]) >> 11) + 1) * 0x1p-53;
    double v = (double)(((uint64_t)w[3] << 32 | w[2]) >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

void rng_shuffle(struct rng *r, size_t *v, size_t n) {
    for (size_t i = n; i > 1; i--) { /* Fisher-Yates */
        size_t j = (size_t)rng_below(r, i), t = v[i - 1];
        v[i - 1] = v[j];
        v[j] = t;
    }
}

static uint64_t
finalise(uint64_t z) { /* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014 */
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

uint64_t rng_mix(uint64_t a, uint64_t b) {
    return finalise(finalise(a + 0x9E3779B97F4A7C15u) + b + 0x9E3779B97F4A7C15u);
}
