/* Backward passes of the simple kernels against finite differences of their forward passes; the others have theirs beside their own tests. */
#include "kernels_harness.h"

struct problem {
    struct io io;
    struct mat in, w, y, weight;
    const int32_t *ids;
    struct dropout drop;
};

enum { T = 7, C = 19, V = 5 };

static void problem_open(struct problem *p, size_t rows, size_t cols) {
    io_open(&p->io, kernels_choose(), 1, true);
    p->y = io_in(&p->io, rows, cols, 3);
    p->weight = io_in(&p->io, rows, cols, 4);
}

static struct mat zeros(struct problem *p, size_t rows, size_t cols) {
    struct mat m = io_in(&p->io, rows, cols, 5);
    fill(&p->io.x, m, 0);
    return m;
}

static double relu_loss(void *arg) {
    struct problem *p = arg;
    relu_forward(&p->io.x, p->y, p->in);
    return weighted_sum(p->y, p->weight);
}

START_TEST(relu_backward_is_the_slope_of_forward) {
    struct problem p;
    problem_open(&p, T, C);
    p.in = io_in(&p.io, T, C, 1);
    for (size_t r = 0; r < T; r++) /* no difference quotient across the kink */
        for (size_t c = 0; c < C; c++) {
            float *v = (float *)p.in.data + r * p.in.ld + c;
            *v += *v < 0 ? -0.5F : 0.5F;
        }
    struct mat din = zeros(&p, T, C);
    relu_backward(&p.io.x, din, p.weight, p.in);
    check_slope(relu_loss, &p, p.in, din, 1e-3, "din");
    io_close(&p.io);
}
END_TEST

static double dropout_loss(void *arg) {
    struct problem *p = arg;
    dropout_apply(&p->io.x, p->y, p->in, p->drop);
    return weighted_sum(p->y, p->weight);
}

START_TEST(dropout_on_gradients_is_the_slope_of_dropout) {
    struct problem p;
    problem_open(&p, T, C);
    p.in = io_in(&p.io, T, C, 1);
    p.drop = (struct dropout){.p = 0.3F, .seed = 5, .stream = 9};
    struct mat din = zeros(&p, T, C);
    dropout_apply(&p.io.x, din, p.weight, p.drop);
    check_slope(dropout_loss, &p, p.in, din, 1e-3, "din");
    io_close(&p.io);
}
END_TEST

static double embedding_loss(void *arg) {
    struct problem *p = arg;
    embedding_forward(&p->io.x, p->y, p->w, p->ids);
    return weighted_sum(p->y, p->weight);
}

START_TEST(embedding_backward_is_the_slope_of_forward) {
    struct problem p;
    problem_open(&p, T, C);
    p.w = io_in(&p.io, V, C, 1);
    p.ids = io_ids(&p.io, T, V, 2); /* seven draws of five: some come twice */
    struct mat dw = zeros(&p, V, C);
    embedding_backward(&p.io.x, dw, p.weight, p.ids);
    check_slope(embedding_loss, &p, p.w, dw, 1e-3, "dw");
    io_close(&p.io);
}
END_TEST

static double bias_loss(void *arg) {
    struct problem *p = arg;
    bias_expand_forward(&p->io.x, p->y, p->w, p->ids);
    return weighted_sum(p->y, p->weight);
}

START_TEST(bias_expand_backward_is_the_slope_of_forward) {
    struct problem p;
    enum { HEADS = 3, DISTANCES = 17 };
    problem_open(&p, HEADS, DISTANCES);
    p.w = io_in(&p.io, V, HEADS, 1);
    p.ids = io_ids(&p.io, DISTANCES, V, 2);
    struct mat dtable = zeros(&p, V, HEADS);
    bias_expand_backward(&p.io.x, dtable, p.weight, p.ids);
    check_slope(bias_loss, &p, p.w, dtable, 1e-3, "dtable");
    io_close(&p.io);
}
END_TEST

static double linear_loss(void *arg) {
    struct problem *p = arg;
    gemm(&p->io.x, p->y, 0, p->in, 1, p->w, 1, 0);
    return weighted_sum(p->y, p->weight);
}

/* y = x w^T as the layers use it: dx += dy w, dw += dy^T x. */
START_TEST(products_of_a_linear_layer_are_the_slopes_of_its_output) {
    struct problem p;
    problem_open(&p, T, V);
    p.in = io_in(&p.io, T, C, 1);
    p.w = io_in(&p.io, V, C, 2);
    struct mat dx = zeros(&p, T, C), dw = zeros(&p, V, C);
    gemm(&p.io.x, dx, 0, p.weight, 0, p.w, 1, 1);
    gemm(&p.io.x, dw, 1, p.weight, 0, p.in, 1, 1);
    check_slope(linear_loss, &p, p.in, dx, 1e-3, "dx");
    check_slope(linear_loss, &p, p.w, dw, 1e-3, "dw");
    io_close(&p.io);
}
END_TEST

Suite *slope_suite(void);
Suite *slope_suite(void) {
    Suite *s = suite_create("slopes");
    TCase *t = tcase_create("simple kernels");
    tcase_add_test(t, relu_backward_is_the_slope_of_forward);
    tcase_add_test(t, dropout_on_gradients_is_the_slope_of_dropout);
    tcase_add_test(t, embedding_backward_is_the_slope_of_forward);
    tcase_add_test(t, bias_expand_backward_is_the_slope_of_forward);
    tcase_add_test(t, products_of_a_linear_layer_are_the_slopes_of_its_output);
    suite_add_tcase(s, t);
    return s;
}
