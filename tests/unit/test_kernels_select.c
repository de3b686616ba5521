/* Kernels that choose tokens: the k largest, and draws from a distribution and from its head. */
#include "core/rng.h"
#include "kernels_harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

Suite *select_suite(void);

static const size_t shapes[][3] = {{1, 1, 1}, {3, 17, 5}, {17, 3, 3}, {129, 129, 8}, {5, 32128, 16}}; /* rows, columns, k */
#define N_SHAPES (sizeof shapes / sizeof *shapes)

static void as_floats(struct io *io, const int32_t *ids, size_t n) {
    float *f = io_floats_out(io, n, 4);
    for (size_t i = 0; i < n; i++) {
        f[i] = (float)ids[i];
    }
}

static void top_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    int32_t ids[129 * 8];
    struct mat logits = io_in(io, s[0], s[1], 1);
    float *v = logits.data;
    v[s[1] - 1] = NAN;
    v[0] = v[s[1] / 2]; /* equals */
    float *values = io_floats_out(io, s[0] * s[2], 3);
    row_top(&io->x, ids, values, logits, s[2]);
    as_floats(io, ids, s[0] * s[2]);
    for (size_t i = 0; i < s[0] * s[2]; i++) { /* the harness compares finite numbers */
        values[i] = isfinite(values[i]) ? values[i] : 99;
    }
}

struct draw {
    size_t rows, cols;
    struct sampling how;
};

static const struct draw draws[] = {
    {1, 1, {1, 1, 0}},         {3, 17, {1, 1, 0}},        {129, 129, {0.7F, 1, 0}},      {5, 32128, {1, 1, 0}},
    {129, 17, {1, 1, 3}},      {129, 17, {2, 1, 40}},     {129, 129, {1, 0.9F, 0}},      {129, 129, {0.1F, 0.99F, 0}},
    {5, 1500, {1, 0.9F, 0}},   {5, 1500, {50, 0.97F, 0}}, {5, 1500, {0.05F, 0.999F, 0}}, {17, 129, {1, 0.8F, 200}},
    {129, 129, {1, 0.5F, 20}}, {5, 32128, {1, 1, 50}},    {129, 17, {1, 1e-6F, 0}},      {129, 129, {100, 0.3F, 64}},
};
#define N_DRAWS (sizeof draws / sizeof *draws)

static void sample_case(struct io *io, const void *arg) {
    const struct draw *d = arg;
    int32_t ids[129];
    double u[129];
    struct rng r = rng_make(8, 8);
    struct mat logits = io_in(io, d->rows, d->cols, 1);
    for (size_t i = 0; i < d->rows; i++) {
        u[i] = i == 0 ? 0 : i == 1 ? 1 - 0x1p-53 : rng_uniform(&r);
    }
    row_sample(&io->x, ids, logits, u, d->how);
    as_floats(io, ids, d->rows);
}

START_TEST(the_largest_equal_the_reference) {
    char what[64];
    snprintf(what, sizeof what, "top of %zu x %zu", shapes[_i][0], shapes[_i][1]);
    same_as_reference(top_case, shapes[_i], 0, what);
}
END_TEST

START_TEST(draws_equal_the_reference) {
    char what[64];
    snprintf(what, sizeof what, "draw %d", _i);
    same_as_reference(sample_case, &draws[_i], 0, what);
}
END_TEST

START_TEST(what_is_missing_among_the_largest_is_marked) {
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    float v[4] = {NAN, -INFINITY, 3, NAN}, values[3] = {0};
    int32_t ids[3] = {0};
    row_top(&io.x, ids, values, mat_of(v, DTYPE_F32, 1, 4), 3);
    ck_assert_int_eq(ids[0], 2);
    ck_assert_int_eq(ids[1], -1);
    ck_assert_int_eq(ids[2], -1);
    ck_assert(isinf(values[1]) && values[1] < 0);
    ck_assert_int_eq(exec_status(&io.x), 0);
    row_top(&io.x, ids, values, mat_of(v, DTYPE_F32, 1, 4), 5);
    ck_assert_int_eq(exec_status(&io.x), ERR_INVALID);
    io_close(&io);
}
END_TEST

/* 40,000 draws at evenly spread u: every id comes as often as its probability says, up to rounding at its two ends. */
START_TEST(draws_come_as_often_as_their_probability) {
    static const float p[5] = {0.4F, 0.05F, 0.3F, 0.05F, 0.2F};
    static const struct {
        struct sampling how;
        double want[5];
    } cases[] = {
        {{1, 1, 0}, {0.4, 0.05, 0.3, 0.05, 0.2}},
        {{0.5F, 1, 0}, {0.16 / 0.295, 0.0025 / 0.295, 0.09 / 0.295, 0.0025 / 0.295, 0.04 / 0.295}},
        {{1, 1, 2}, {0.4 / 0.7, 0, 0.3 / 0.7, 0, 0}},
        {{1, 0.85F, 0}, {0.4 / 0.9, 0, 0.3 / 0.9, 0, 0.2 / 0.9}}, /* 0.7 is not enough */
        {{1, 0.65F, 3}, {0.4 / 0.7, 0, 0.3 / 0.7, 0, 0}},         /* 0.4 of 0.9 is not, 0.7 of 0.9 is */
        {{1, 0.3F, 0}, {1, 0, 0, 0, 0}},
    };
    enum { DRAWS = 40000 };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct io io;
        float logits[5];
        size_t n[5] = {0};
        io_open(&io, kernels_choose(), 1, false);
        for (size_t i = 0; i < 5; i++) {
            logits[i] = logf(p[i]) + 3;
        }
        for (size_t i = 0; i < DRAWS; i++) {
            double u = ((double)i + 0.5) / DRAWS;
            int32_t id = -1;
            row_sample(&io.x, &id, mat_of(logits, DTYPE_F32, 1, 5), &u, cases[k].how);
            ck_assert(id >= 0 && id < 5);
            n[id]++;
        }
        for (size_t i = 0; i < 5; i++) {
            ck_assert_double_eq_tol((double)n[i] / DRAWS, cases[k].want[i], 1e-4);
        }
        io_close(&io);
    }
}
END_TEST

Suite *select_suite(void) {
    Suite *s = suite_create("selection");
    TCase *t = tcase_create("selection");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, the_largest_equal_the_reference, 0, (int)N_SHAPES);
    tcase_add_loop_test(t, draws_equal_the_reference, 0, (int)N_DRAWS);
    tcase_add_test(t, what_is_missing_among_the_largest_is_marked);
    tcase_add_test(t, draws_come_as_often_as_their_probability);
    suite_add_tcase(s, t);
    return s;
}
