/* The learning rate over the steps of a run. */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include <stdint.h>

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE };

struct schedule {
    enum schedule_kind kind;
    double lr; /* the peak */
    uint64_t warmup, steps;
};

/* Rate of optimizer step k = 0 .. steps-1, with W warm-up steps and x = (k - W) / (steps - W): k < W: lr (k + 1) / (W + 1)
 * constant: lr     linear: lr (1 - x)     cosine: lr (1 + cos pi x) / 2   (Loshchilov & Hutter 2017) The rate is never 0: the
 * first step learns and so does the last. */
double schedule_rate(const struct schedule *s, uint64_t k);

/* "constant", "linear", "cosine"; NULL for no kind. Static. */
const char *schedule_name(int kind);

#endif
