/* How kernels are tested: a case describes a call once; the harness runs it through the reference table, through every table
 * this CPU can run, and with 1, 2 and 3 threads, and compares. */
#ifndef UNIT_KERNELS_HARNESS_H
#define UNIT_KERNELS_HARNESS_H

#include "kernels/kernels.h"
#include "kernels/table.h"

#include <check.h>

enum { MAX_OUTPUTS = 32 };

/* What a case works with. Matrices have gaps of 3 between their rows if `gaps`; contents depend on the seeds alone. */
struct io {
    struct exec x;
    struct arena mem, scratch;
    struct err err;
    bool gaps;
    struct mat out[MAX_OUTPUTS];
    size_t n_out;
};

typedef void case_fn(struct io *io, const void *arg);

struct mat io_in(struct io *io, size_t rows, size_t cols, uint64_t seed);  /* about normal: mean 0, variance 1 */
struct mat io_out(struct io *io, size_t rows, size_t cols, uint64_t seed); /* the same, compared after the call */
/* The same numbers, rounded to BF16 where `dtype` says so. */
struct mat io_in_as(struct io *io, enum dtype dtype, size_t rows, size_t cols, uint64_t seed);
struct mat io_out_as(struct io *io, enum dtype dtype, size_t rows, size_t cols, uint64_t seed);
float *io_floats(struct io *io, size_t n, uint64_t seed); /* the same numbers, no gaps */
float *io_floats_out(struct io *io, size_t n, uint64_t seed);
int32_t *io_ids(struct io *io, size_t n, uint64_t below, uint64_t seed);
void io_open(struct io *io, const struct kernels *k, size_t threads, bool gaps);
void io_close(struct io *io);

size_t tables(const struct kernels *out[KERNELS_MOST]); /* those that this CPU can run */

/* max |got - wanted| <= tolerance * max(1e-3, max |wanted|) for every output of every table; bits are equal for 1, 2, 3
 * threads */
void same_as_reference(case_fn *fn, const void *arg, double tolerance, const char *what);

/* Backward against finite differences of `loss` (any function of the matrix `in`): |d - (L(+h) - L(-h)) / 2h| below tolerance
 * times the largest derivative. */
void check_slope(double (*loss)(void *arg), void *arg, struct mat in, struct mat gradient, double tolerance, const char *what);
float mat_at(struct mat m, size_t r, size_t c);        /* of either type */
double weighted_sum(struct mat m, struct mat weights); /* in double */

#endif
