/* Inside lib/kernels only: which elements dropout keeps, and the random bits of stochastic rounding: the same 16 bits an element.
 *
 * One Philox block decides eight elements by 16 bits each. Elements come in groups of 128, made from 16 consecutive blocks in an
 * order that suits vector registers: element r of group g takes block 16 g + r % 16, of its words word r / 32, of that the upper
 * half if r / 16 is odd. An element is kept if its 16 bits are at least round(p * 65536). */
#ifndef KERNELS_MASK_H
#define KERNELS_MASK_H

#include "kernels/kernels.h"

enum { MASK_GROUP = 128, MASK_BLOCKS = 16 };

static inline uint32_t mask_threshold(float p) {
    return (uint32_t)(p * 65536.0F + 0.5F);
}

/* Attention: the probability of (head h, query i, key j) of span s is element
 * h * area[n_spans] + area[s] + i * k_len + j, where area[s] sums the sizes of the spans before s, each rounded up to a group. */
static inline void mask_areas(uint64_t *area, const struct attention *s) {
    uint64_t sum = 0;
    for (size_t i = 0; i < s->n_spans; i++) {
        area[i] = sum;
        sum += ((uint64_t)s->spans[i].q_len * s->spans[i].k_len + MASK_GROUP - 1) / MASK_GROUP * MASK_GROUP;
    }
    area[s->n_spans] = sum;
}

#endif
