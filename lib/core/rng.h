/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
 * 2011). A draw is a pure function of (seed, stream, index), so a generator can be saved as three integers, split without
 * coordination, and skipped ahead for free; results do not depend on the number of threads. */
#ifndef CORE_RNG_H
#define CORE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t seed, stream, index;
};

/* Four 32-bit words of block `index`. */
void philox(uint32_t out[4], uint64_t seed, uint64_t stream, uint64_t index);

struct rng rng_make(uint64_t seed, uint64_t stream);
uint64_t rng_u64(struct rng *r);               /* one block a draw */
uint64_t rng_below(struct rng *r, uint64_t n); /* 0 .. n-1 without bias (Lemire 2019); n > 0 */
double rng_uniform(struct rng *r);             /* [0, 1), 53 bits */
double rng_normal(struct rng *r);              /* mean 0, variance 1 (Box-Muller, one value per draw) */
void rng_shuffle(struct rng *r, size_t *v, size_t n);
uint64_t rng_mix(uint64_t a, uint64_t b); /* one seed from two (splitmix64 finaliser): streams for (epoch, rank), ... */

#endif
