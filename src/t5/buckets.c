/* The original computes exact + floor(log(d / exact) / log(max / exact) * (side - exact)) in floating point, where a distance
 * that lies on a boundary (64 among 32 buckets up to 128) falls to either side with the rounding of the logarithm. Here bucket
 * exact + k starts at the smallest d with d^n >= max^k * exact^(n-k), n = side - exact: the same formula without logarithm,
 * compared in whole numbers. */
#include "t5/buckets.h"

#include <string.h>

enum { LIMBS = BUCKETS_MAX / 2 * 17 / 32 + 2 }; /* n <= 128 factors below 2^17 */

struct big {
    uint32_t limb[LIMBS];
};

static void big_times(struct big *b, uint32_t factor) {
    uint64_t carry = 0;
    for (size_t i = 0; i < LIMBS; i++) {
        carry += (uint64_t)b->limb[i] * factor;
        b->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

static struct big big_power(uint32_t a, size_t na, uint32_t b, size_t nb) {
    struct big r = {{1}};
    for (size_t i = 0; i < na; i++)
        big_times(&r, a);
    for (size_t i = 0; i < nb; i++)
        big_times(&r, b);
    return r;
}

static bool big_less(const struct big *a, const struct big *b) {
    for (size_t i = LIMBS; i-- > 0;)
        if (a->limb[i] != b->limb[i])
            return a->limb[i] < b->limb[i];
    return false;
}

void buckets_init(struct buckets *b, bool bidirectional, size_t n, size_t max_distance) {
    memset(b, 0, sizeof *b);
    b->bidirectional = bidirectional;
    b->side = bidirectional ? n / 2 : n;
    size_t exact = b->side / 2, logarithmic = b->side - exact;
    for (size_t i = 0; i <= exact; i++)
        b->from[i] = (uint32_t)i;
    for (size_t k = 1; k < logarithmic; k++) {
        struct big least = big_power((uint32_t)max_distance, k, (uint32_t)exact, logarithmic - k);
        uint32_t low = b->from[exact + k - 1], high = (uint32_t)max_distance; /* low - 1 is too small, high is not */
        while (low < high) {
            uint32_t mid = low + (high - low) / 2;
            struct big p = big_power(mid, logarithmic, 1, 0);
            if (big_less(&p, &least))
                low = mid + 1;
            else
                high = mid;
        }
        b->from[exact + k] = low;
    }
    b->from[b->side] = UINT32_MAX;
}

int32_t bucket_of(const struct buckets *b, int64_t relative) {
    uint64_t d = relative < 0 ? (uint64_t)-relative : b->bidirectional ? (uint64_t)relative : 0;
    size_t low = 0, high = b->side - 1; /* the last bucket that starts at or before d */
    while (low < high) {
        size_t mid = high - (high - low) / 2;
        if (b->from[mid] <= d)
            low = mid;
        else
            high = mid - 1;
    }
    return (int32_t)(low + (b->bidirectional && relative > 0 ? b->side : 0));
}
