/* The order of one epoch: which items are drawn, how they are shuffled, and where one batch ends. */
#ifndef DATA_PLAN_H
#define DATA_PLAN_H

#include "data/parts.h"

/* Everything that the order depends on. */
struct plan_options {
    double weights[RSD_FORMATS]; /* share of each format in items or target tokens, sum 1 */
    bool by_targets;
    uint64_t seed, batch_tokens;
    size_t max_enc, max_dec; /* end tokens included */
};

struct draw {
    uint32_t number; /* of the item in its format */
    uint32_t format;
    uint32_t enc, dec; /* tokens, end tokens included */
};

struct plan {
    const struct allocator *a;
    uint64_t epoch;
    struct draw *draws;
    size_t *batches; /* [n_batches+1] batch b is draws batches[b] .. */
    size_t n_draws, n_batches, cap_draws, cap_batches;
    size_t *order, *shuffled;
    size_t cap_order, cap_shuffled;
    uint64_t items[RSD_FORMATS], left_out;              /* drawn, and too long */
    uint64_t inputs[RSD_FORMATS], targets[RSD_FORMATS]; /* their tokens */
};

/* ERR_INVALID if nothing is left. A pure function of its arguments. */
int plan_make(struct plan *plan, struct parts *parts, const struct plan_options *o, uint64_t epoch, struct err *e);
void plan_free(struct plan *plan);

#endif
