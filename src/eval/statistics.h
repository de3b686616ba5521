/* What the room needs of statistics.c beyond the public functions. */
#ifndef EVAL_STATISTICS_H
#define EVAL_STATISTICS_H

#include "core/mem.h"
#include "reasondistill/statistics.h"

/* Wilson's interval of a share p of n trials; p may be a mean of shares. */
void wilson_share(double p, double n, double *low, double *high);

/* rsd_maj_at_k */
int maj_at_k(const struct allocator *a, const uint64_t *votes, size_t n_answers, size_t right, uint64_t silent, uint64_t k,
             double *out, struct err *e);

/* The t with P(|T| > t) = share, df > 0 degrees of freedom. */
double student_t(double share, uint64_t df);

#endif
