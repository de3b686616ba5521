/* Kernels on rows of logits and the sums of the optimiser. */
#include "core/rng.h"
#include "kernels_harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

Suite *loss_suite(void);

static const size_t shapes[][2] = {{1, 1}, {3, 17}, {17, 3}, {129, 129}, {5, 32128}};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

static void lse_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    row_lse(&io->x, io_floats_out(io, s[0], 10), io_in(io, s[0], s[1], 1));
}

static void pick_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    struct mat logits = io_in(io, s[0], s[1], 1);
    int32_t *ids = io_ids(io, s[0], s[1], 2), *best = io_ids(io, s[0], s[1], 3);
    row_pick(&io->x, io_floats_out(io, s[0], 3), logits, ids);
    ((float *)logits.data)[s[1] - 1] = NAN;
    row_argmax(&io->x, best, logits);
    float *as_floats = io_floats_out(io, s[0], 4);
    for (size_t i = 0; i < s[0]; i++) {
        as_floats[i] = (float)best[i];
    }
}

START_TEST(loss_kernels_equal_the_reference) {
    const size_t *s = shapes[_i];
    char what[64];
    snprintf(what, sizeof what, "row_lse %zu x %zu", s[0], s[1]);
    same_as_reference(lse_case, s, 2e-6, what);
    same_as_reference(pick_case, s, 0, "argmax and pick");
}
END_TEST

START_TEST(row_lse_is_exact_for_logits_of_ten_thousand) {
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    float v[] = {1e4F, -1e4F, 1e4F, 0, -1e4F, -1e4F, -1e4F, -1e4F, -INFINITY, 3, -INFINITY, -INFINITY}, lse[3];
    struct mat logits = mat_of(v, DTYPE_F32, 3, 4);
    row_lse(&io.x, lse, logits);
    ck_assert_float_eq_tol(lse[0], 1e4F + logf(2), 1e-3F);
    ck_assert_float_eq_tol(lse[1], -1e4F + logf(4), 1e-3F);
    ck_assert_float_eq(lse[2], 3);
    io_close(&io);
}
END_TEST

START_TEST(argmax_takes_the_first_of_equals) {
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    float v[100] = {0};
    int32_t best = -1;
    v[0] = -1, v[70] = v[40] = v[99] = 5;
    row_argmax(&io.x, &best, mat_of(v, DTYPE_F32, 1, 100));
    ck_assert_int_eq(best, 40);
    io_close(&io);
}
END_TEST

static void squares_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    double sum = sum_squares(&io->x, io_in(io, s[0], s[1], 1));
    io_floats_out(io, 2, 2);
    memcpy(io->out[0].data, &sum, sizeof sum); /* bits for the comparison of threads */
    ((float *)io->out[0].data)[0] = (float)sum;
    ((float *)io->out[0].data)[1] = (float)(sum - (double)(float)sum);
}

START_TEST(sum_of_squares_equals_the_reference_and_shows_nan) {
    static const size_t s[][2] = {{1, 1}, {3, 17}, {129, 129}, {1, 100000}, {3, 40000}};
    for (size_t i = 0; i < 5; i++) {
        same_as_reference(squares_case, s[i], 1e-7, "sum of squares");
    }
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    struct mat a = io_in(&io, 3, 40000, 1);
    ((float *)a.data)[90001] = NAN;
    ck_assert_double_nan(sum_squares(&io.x, a));
    ((float *)a.data)[90001] = 3e38F; /* its square fits into double only */
    ck_assert_double_gt(sum_squares(&io.x, a), 8e76);
    ((float *)a.data)[90001] = INFINITY;
    ck_assert_double_infinite(sum_squares(&io.x, a));
    io_close(&io);
}
END_TEST

/* Three steps of torch.optim.AdamW by hand for a single weight, in double. */
START_TEST(adamw_follows_the_formula_over_steps) {
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    float w = 0.5F, m = 0, v = 0;
    double W = 0.5, M = 0, V = 0, lr = 0.1, b1 = 0.9, b2 = 0.99, eps = 1e-8, decay = 0.01;
    static const double grads[] = {0.3, -0.2, 5};
    for (uint64_t t = 1; t <= 3; t++) {
        float g = (float)grads[t - 1] * 2;
        struct adamw o = {.lr = 0.1F, .beta1 = 0.9F, .beta2 = 0.99F, .eps = 1e-8F, .decay = 0.01F, .t = t, .grad_scale = 0.5F};
        adamw_update(&io.x, mat_of(&w, DTYPE_F32, 1, 1), mat_of(&m, DTYPE_F32, 1, 1), mat_of(&v, DTYPE_F32, 1, 1),
                     mat_of(&g, DTYPE_F32, 1, 1), &o);
        W -= lr * decay * W;
        M = b1 * M + (1 - b1) * grads[t - 1];
        V = b2 * V + (1 - b2) * grads[t - 1] * grads[t - 1];
        W -= lr * (M / (1 - pow(b1, (double)t))) / (sqrt(V / (1 - pow(b2, (double)t))) + eps);
        ck_assert_double_eq_tol((double)w, W, 1e-6);
    }
    io_close(&io);
}
END_TEST

Suite *loss_suite(void) {
    Suite *s = suite_create("losses");
    TCase *t = tcase_create("losses");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, loss_kernels_equal_the_reference, 0, (int)N_SHAPES);
    tcase_add_test(t, row_lse_is_exact_for_logits_of_ten_thousand);
    tcase_add_test(t, argmax_takes_the_first_of_equals);
    tcase_add_test(t, sum_of_squares_equals_the_reference_and_shows_nan);
    tcase_add_test(t, adamw_follows_the_formula_over_steps);
    suite_add_tcase(s, t);
    return s;
}
