/* Relative position buckets (Raffel et al. 2020, section 2.1): near distances one by one, far ones by the logarithm. */
#ifndef T5_BUCKETS_H
#define T5_BUCKETS_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BUCKETS_MAX = 256 };

struct buckets {
    bool bidirectional;
    size_t side;                    /* buckets of one direction */
    uint32_t from[BUCKETS_MAX + 1]; /* bucket b starts at distance from[b] */
};

/* n even, 4 .. BUCKETS_MAX; n/2 < max_distance < 2^17. */
void buckets_init(struct buckets *b, bool bidirectional, size_t n, size_t max_distance);
/* Bucket of a key that stands `relative` places behind its query (negative: in front of it). */
int32_t bucket_of(const struct buckets *b, int64_t relative);

#endif
