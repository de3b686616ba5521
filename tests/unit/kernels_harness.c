#include "kernels_harness.h"
#include "core/rng.h"

#include <math.h>
#include <string.h>

float *io_floats(struct io *io, size_t n, uint64_t seed) {
    float *p = arena_take(&io->mem, n, sizeof *p, &io->err);
    ck_assert_ptr_nonnull(p);
    for (size_t i = 0; i < n; i += 2) {
        uint32_t w[4];
        philox(w, seed, 1, i);
        for (size_t k = 0; k < 2 && i + k < n; k++) { /* the sum of four uniform numbers is normal enough, and quick */
            uint32_t a = w[2 * k], b = w[2 * k + 1], sum = (a & 0xffffU) + (a >> 16) + (b & 0xffffU) + (b >> 16);
            p[i + k] = ((float)sum - 0x1.fffep16F) * (1.7320508F / 0x1p16F);
        }
    }
    return p;
}

struct mat io_in_as(struct io *io, enum dtype dtype, size_t rows, size_t cols, uint64_t seed) {
    size_t ld = cols + (io->gaps ? 3 : 0);
    float *values = io_floats(io, rows * cols, seed);
    struct mat m = arena_mat(&io->mem, dtype, rows, ld, &io->err);
    ck_assert_ptr_nonnull(m.data);
    memset(m.data, 0x55, rows * ld * dtype_size(dtype)); /* a number that the gaps must keep */
    m.cols = cols;
    for (size_t r = 0; r < rows; r++) {
        dtype_convert(mat_rows(m, r, 1).data, dtype, values + r * cols, DTYPE_F32, cols);
    }
    return m;
}

struct mat io_in(struct io *io, size_t rows, size_t cols, uint64_t seed) {
    return io_in_as(io, DTYPE_F32, rows, cols, seed);
}

struct mat io_out(struct io *io, size_t rows, size_t cols, uint64_t seed) {
    return io_out_as(io, DTYPE_F32, rows, cols, seed);
}

struct mat io_out_as(struct io *io, enum dtype dtype, size_t rows, size_t cols, uint64_t seed) {
    struct mat m = io_in_as(io, dtype, rows, cols, seed);
    ck_assert_uint_lt(io->n_out, MAX_OUTPUTS);
    io->out[io->n_out++] = m;
    return m;
}

float *io_floats_out(struct io *io, size_t n, uint64_t seed) {
    float *p = io_floats(io, n, seed);
    ck_assert_uint_lt(io->n_out, MAX_OUTPUTS);
    io->out[io->n_out++] = mat_of(p, DTYPE_F32, 1, n);
    return p;
}

int32_t *io_ids(struct io *io, size_t n, uint64_t below, uint64_t seed) {
    int32_t *p = arena_take(&io->mem, n, sizeof *p, &io->err);
    ck_assert_ptr_nonnull(p);
    struct rng r = rng_make(seed, 2);
    for (size_t i = 0; i < n; i++) {
        p[i] = (int32_t)rng_below(&r, below);
    }
    return p;
}

void io_open(struct io *io, const struct kernels *k, size_t threads, bool gaps) {
    *io = (struct io){.gaps = gaps};
    blas_set_single_thread();
    arena_init(&io->mem, &mem_std);
    arena_init(&io->scratch, &mem_std);
    io->x.k = k;
    io->x.scratch = &io->scratch;
    io->x.err = &io->err;
    if (threads > 1) {
        ck_assert_int_eq(pool_open(&io->x.pool, &mem_std, threads, &io->err), 0);
    }
}

void io_close(struct io *io) {
    pool_close(io->x.pool);
    arena_free(&io->mem);
    arena_free(&io->scratch);
}

size_t tables(const struct kernels *out[KERNELS_MOST]) {
    const char *names[KERNELS_MOST];
    return kernels_list(names, out);
}

static void run(struct io *io, const struct kernels *k, size_t threads, bool gaps, case_fn *fn, const void *arg,
                const char *what) {
    io_open(io, k, threads, gaps);
    fn(io, arg);
    ck_assert_msg(exec_status(&io->x) == 0, "%s: %s", what, io->err.text);
    ck_assert_msg(io->scratch.used == 0, "%s keeps scratch memory", what);
}

float mat_at(struct mat m, size_t r, size_t c) {
    float v;
    dtype_convert(&v, DTYPE_F32, mat_cols(mat_rows(m, r, 1), c, 1).data, m.dtype, 1);
    return v;
}

static void compare(const struct io *got, const struct io *want, double tolerance, const char *table, const char *what) {
    ck_assert_uint_eq(got->n_out, want->n_out);
    for (size_t i = 0; i < want->n_out; i++) {
        struct mat a = got->out[i], b = want->out[i];
        double largest = 1e-3, worst = 0;
        for (size_t r = 0; r < b.rows; r++) {
            for (size_t c = 0; c < b.cols; c++) {
                double d = fabs((double)mat_at(a, r, c) - (double)mat_at(b, r, c));
                worst = d > worst || isnan(d) ? d : worst;
                largest = fmax(largest, fabs((double)mat_at(b, r, c)));
            }
        }
        ck_assert_msg(worst <= tolerance * largest, "%s, table %s, output %zu (%zu x %zu): off by %g of %g", what, table, i,
                      b.rows, b.cols, worst, largest);
    }
}

/* Gaps included: what a kernel may not touch must be untouched. */
static void same_bits(const struct io *a, const struct io *b, const char *table, const char *what) {
    for (size_t i = 0; i < a->n_out; i++) {
        size_t n = a->out[i].rows * a->out[i].ld;
        ck_assert_msg(memcmp(a->out[i].data, b->out[i].data, n * dtype_size(a->out[i].dtype)) == 0,
                      "%s, table %s, output %zu: bits depend on threads", what, table, i);
    }
}

static void gaps_are_untouched(const struct io *a, const struct io *b, const char *table, const char *what) {
    for (size_t i = 0; i < a->n_out; i++) {
        for (size_t r = 0; r < a->out[i].rows; r++) {
            for (size_t c = a->out[i].cols; c < a->out[i].ld; c++) {
                ck_assert_msg(!(mat_at(a->out[i], r, c) < mat_at(b->out[i], r, c)) &&
                                  !(mat_at(a->out[i], r, c) > mat_at(b->out[i], r, c)),
                              "%s, table %s, output %zu: wrote between its rows", what, table, i);
            }
        }
    }
}

void same_as_reference(case_fn *fn, const void *arg, double tolerance, const char *what) {
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (int gaps = 0; gaps < 2; gaps++) {
        struct io want, one, more;
        run(&want, kernels_reference(), 1, gaps, fn, arg, what);
        for (size_t i = 0; i < n; i++) {
            run(&one, k[i], 1, gaps, fn, arg, what);
            compare(&one, &want, tolerance, kernels_name(k[i]), what);
            gaps_are_untouched(&one, &want, kernels_name(k[i]), what);
            for (size_t threads = 2; threads <= 3; threads++) {
                run(&more, k[i], threads, gaps, fn, arg, what);
                same_bits(&more, &one, kernels_name(k[i]), what);
                io_close(&more);
            }
            io_close(&one);
        }
        io_close(&want);
    }
}

double weighted_sum(struct mat m, struct mat weights) {
    double sum = 0;
    for (size_t r = 0; r < m.rows; r++) {
        for (size_t c = 0; c < m.cols; c++) {
            sum += (double)mat_at(m, r, c) * (double)mat_at(weights, r, c);
        }
    }
    return sum;
}

void check_slope(double (*loss)(void *arg), void *arg, struct mat in, struct mat gradient, double tolerance, const char *what) {
    double largest = 1e-3, worst = 0;
    const float h = 0x1p-6F; /* error of the difference: about h^2 from curvature, 1e-7 / h from rounding */
    for (size_t r = 0; r < in.rows; r++) {
        for (size_t c = 0; c < in.cols; c++) {
            float *v = (float *)in.data + r * in.ld + c, old = *v;
            *v = old + h;
            double up = loss(arg), above = (double)*v;
            *v = old - h;
            double down = loss(arg), below = (double)*v;
            *v = old;
            double slope = (up - down) / (above - below), d = fabs(slope - (double)mat_at(gradient, r, c));
            worst = d > worst || isnan(d) ? d : worst;
            largest = fmax(largest, fabs(slope));
        }
    }
    ck_assert_msg(worst <= tolerance * largest, "%s: gradient is off by %g of %g", what, worst, largest);
}
