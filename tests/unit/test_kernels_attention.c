/* Attention against the naive loops and against finite differences. */
#include "kernels_harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

Suite *attention_suite(void);

struct setting {
    const char *name;
    size_t heads, D;
    struct attention_span spans[40];
    size_t n_spans;
    int causal;
    bool bias;
    float p;
};

static const struct setting settings[] = {
    {"one token", 1, 1, {{0, 1, 0, 1}}, 1, 0, true, 0},
    {"one head", 1, 16, {{0, 17, 0, 17}}, 1, 0, true, 0},
    {"self", 3, 8, {{0, 3, 0, 3}, {3, 17, 3, 17}, {20, 1, 20, 1}}, 3, 0, true, 0},
    {"tiles", 2, 16, {{0, 129, 0, 129}, {129, 300, 129, 300}}, 2, 0, true, 0},
    {"causal", 2, 16, {{0, 129, 0, 129}, {129, 5, 129, 5}, {134, 300, 134, 300}}, 3, 1, true, 0},
    {"no bias", 2, 5, {{0, 17, 0, 31}, {17, 3, 31, 129}}, 2, 0, false, 0},
    {"cross, other order", 2, 16, {{40, 30, 0, 50}, {0, 40, 50, 70}}, 2, 0, false, 0.2F},
    {"dropout", 3, 8, {{0, 17, 0, 17}, {17, 129, 17, 129}}, 2, 0, true, 0.1F},
    {"causal dropout", 2, 8, {{0, 140, 0, 140}, {140, 17, 140, 17}}, 2, 1, true, 0.5F},
    {"cache", 4, 64, {{0, 1, 0, 129}, {1, 1, 129, 17}, {2, 3, 146, 33}, {5, 1, 179, 1}}, 4, 1, true, 0},
    {"nobody's rows", 2, 16, {{3, 9, 0, 30}, {20, 4, 35, 30}}, 2, 0, false, 0},
    {"shared keys", 2, 16, {{0, 9, 0, 30}, {9, 4, 0, 30}, {13, 30, 0, 30}}, 3, 0, false, 0.1F},
};
#define N_SETTINGS (sizeof settings / sizeof *settings)

struct problem {
    struct io *io;
    struct attention s;
    struct mat q, k, v, out, dout;
    float *lse;
};

static void set_up(struct problem *p, struct io *io, const struct setting *t) {
    size_t tq = 0, tk = 0, most = 1;
    for (size_t i = 0; i < t->n_spans; i++) {
        const struct attention_span *s = &t->spans[i];
        tq = tq > s->q_first + s->q_len ? tq : s->q_first + s->q_len;
        tk = tk > s->k_first + s->k_len ? tk : s->k_first + s->k_len;
        most = most > s->k_len ? most : s->k_len;
        most = most > s->q_len ? most : s->q_len;
    }
    size_t width = t->heads * t->D;
    *p = (struct problem){.io = io};
    p->q = io_in(io, tq, width, 1), p->k = io_in(io, tk, width, 2), p->v = io_in(io, tk, width, 3);
    scale(&io->x, p->q, 1.0F / sqrtf((float)t->D)); /* scores of size 1: softmax neither flat nor one-hot */
    p->dout = io_in(io, tq, width, 4);
    p->out = io_out(io, tq, width, 5);
    p->lse = io_floats_out(io, t->heads * tq, 6);
    p->s = (struct attention){.heads = t->heads,
                              .d_kv = t->D,
                              .spans = t->spans,
                              .n_spans = t->n_spans,
                              .causal = t->causal,
                              .dropout = {.p = t->p, .seed = 11, .stream = 12}};
    if (t->bias) {
        p->s.bias = io_in(io, t->heads, 2 * most - 1, 7);
        p->s.bias_zero = most - 1;
    }
}

static void attention_case(struct io *io, const void *arg) {
    const struct setting *t = arg;
    struct problem p;
    set_up(&p, io, t);
    attention_forward(&io->x, p.out, p.lse, p.q, p.k, p.v, &p.s);
    struct mat dbias = {.data = NULL};
    if (t->bias) {
        dbias = io_out(io, t->heads, p.s.bias.cols, 8);
    }
    struct mat dq = io_out(io, p.q.rows, p.q.cols, 9), dk = io_out(io, p.k.rows, p.k.cols, 10),
               dv = io_out(io, p.v.rows, p.v.cols, 11);
    attention_backward(&io->x, dq, dk, dv, dbias, p.dout, p.out, p.q, p.k, p.v, p.lse, &p.s);
}

START_TEST(attention_equals_the_reference) {
    const struct setting *t = &settings[_i];
    same_as_reference(attention_case, t, 5e-6, t->name); /* F32 sums over 300 keys */
}
END_TEST

/* Gradients in memory that held anything are those that are added to zeros: also where keys are shared, or rows are nobody's. */
START_TEST(gradients_can_be_overwritten) {
    const struct setting *t = &settings[_i];
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (size_t i = 0; i <= n; i++) {
        struct io io;
        struct problem p;
        io_open(&io, i < n ? k[i] : kernels_reference(), 2, true);
        set_up(&p, &io, t);
        attention_forward(&io.x, p.out, p.lse, p.q, p.k, p.v, &p.s);
        struct mat d[2][3];
        for (int way = 0; way < 2; way++) {
            d[way][0] = io_in(&io, p.q.rows, p.q.cols, 9);
            d[way][1] = io_in(&io, p.k.rows, p.k.cols, 10);
            d[way][2] = io_in(&io, p.v.rows, p.v.cols, 11);
            for (int m = 0; m < 3; m++) {
                fill(&io.x, d[way][m], way ? NAN : 0);
            }
            p.s.overwrite = way;
            attention_backward(&io.x, d[way][0], d[way][1], d[way][2], (struct mat){0}, p.dout, p.out, p.q, p.k, p.v, p.lse,
                               &p.s);
        }
        ck_assert_int_eq(exec_status(&io.x), 0);
        for (int m = 0; m < 3; m++) {
            for (size_t r = 0; r < d[0][m].rows; r++) {
                const float *zeros = mat_rows(d[0][m], r, 1).data, *any = mat_rows(d[1][m], r, 1).data;
                for (size_t c = 0; c < d[0][m].cols; c++) {
                    ck_assert_msg(zeros[c] >= any[c] && zeros[c] <= any[c], "%s: %d row %zu column %zu", t->name, m, r, c);
                }
            }
        }
        io_close(&io);
    }
}
END_TEST

static double attention_loss(void *arg) {
    struct problem *p = arg;
    attention_forward(&p->io->x, p->out, p->lse, p->q, p->k, p->v, &p->s);
    return weighted_sum(p->out, p->dout);
}

/* Small sequences, since every element is moved twice. */
static const struct setting small[] = {
    {"self", 2, 5, {{0, 6, 0, 6}, {6, 3, 6, 3}}, 2, 0, true, 0},
    {"causal dropout", 2, 4, {{0, 7, 0, 7}, {7, 2, 7, 2}}, 2, 1, true, 0.3F},
    {"cross", 1, 8, {{0, 5, 0, 9}}, 1, 0, false, 0.2F},
    {"cache", 2, 4, {{0, 2, 0, 9}}, 1, 1, true, 0},
};
#define N_SMALL (sizeof small / sizeof *small)

START_TEST(attention_backward_is_the_slope_of_forward) {
    const struct setting *t = &small[_i];
    struct io io;
    struct problem p;
    io_open(&io, kernels_choose(), 1, true);
    set_up(&p, &io, t);
    struct mat dq = io_in(&io, p.q.rows, p.q.cols, 9), dk = io_in(&io, p.k.rows, p.k.cols, 10),
               dv = io_in(&io, p.v.rows, p.v.cols, 11);
    struct mat dbias = {.data = NULL};
    fill(&io.x, dq, 0);
    fill(&io.x, dk, 0);
    fill(&io.x, dv, 0);
    if (t->bias) {
        dbias = io_in(&io, t->heads, p.s.bias.cols, 12);
        fill(&io.x, dbias, 0);
    }
    attention_loss(&p);
    attention_backward(&io.x, dq, dk, dv, dbias, p.dout, p.out, p.q, p.k, p.v, p.lse, &p.s);
    ck_assert_int_eq(exec_status(&io.x), 0);
    check_slope(attention_loss, &p, p.q, dq, 2e-3, "dq");
    check_slope(attention_loss, &p, p.k, dk, 2e-3, "dk");
    check_slope(attention_loss, &p, p.v, dv, 2e-3, "dv");
    if (t->bias) {
        check_slope(attention_loss, &p, p.s.bias, dbias, 2e-3, "dbias");
    }
    io_close(&io);
}
END_TEST

/* What a decoder with a cache computes token by token is what it computes at once. */
START_TEST(a_query_with_a_cache_equals_the_row_of_the_whole) {
    struct io io;
    struct problem p;
    struct setting t = {"whole", 3, 16, {{0, 33, 0, 33}}, 1, 1, true, 0};
    io_open(&io, kernels_choose(), 2, false);
    set_up(&p, &io, &t);
    attention_loss(&p);
    struct mat row = io_in(&io, 1, p.q.cols, 20);
    for (size_t i = 0; i < 33; i++) {
        struct attention_span span = {0, 1, 0, i + 1};
        struct attention s = p.s;
        s.spans = &span;
        attention_forward(&io.x, row, NULL, mat_rows(p.q, i, 1), p.k, p.v, &s);
        ck_assert_int_eq(exec_status(&io.x), 0);
        for (size_t c = 0; c < row.cols; c++) {
            ck_assert_float_eq_tol(((float *)row.data)[c], ((float *)p.out.data)[i * p.out.ld + c], 2e-6F);
        }
    }
    io_close(&io);
}
END_TEST

START_TEST(large_scores_do_not_overflow) {
    struct io io;
    struct problem p;
    struct setting t = {"large", 1, 4, {{0, 9, 0, 9}}, 1, 0, false, 0};
    io_open(&io, kernels_choose(), 1, false);
    set_up(&p, &io, &t);
    scale(&io.x, p.q, 1e4F);
    attention_loss(&p);
    for (size_t i = 0; i < p.out.rows * p.out.cols; i++) {
        ck_assert(isfinite(((float *)p.out.data)[i]));
    }
    io_close(&io);
}
END_TEST

START_TEST(spans_outside_and_missing_distances_are_errors) {
    struct io io;
    struct problem p;
    io_open(&io, kernels_choose(), 1, false);
    set_up(&p, &io, &settings[2]);
    struct attention s = p.s;
    static const struct attention_span bad[] = {
        {0, 22, 0, 21}, {21, 1, 0, 1}, {0, 1, 0, 0}, {0, 1, 20, 2}, {0, SIZE_MAX, 1, SIZE_MAX}};
    for (size_t i = 0; i < 5; i++) {
        s.spans = &bad[i];
        s.n_spans = 1;
        attention_forward(&io.x, p.out, NULL, p.q, p.k, p.v, &s);
        ck_assert_int_eq(exec_status(&io.x), ERR_INVALID);
        err_clear(&io.err);
    }
    s = p.s;
    s.bias_zero = 15;
    attention_forward(&io.x, p.out, NULL, p.q, p.k, p.v, &s);
    ck_assert_str_eq(io.err.text, "attention_forward: span 1 needs distances -16 .. 16, the bias has -15 .. 17");
    err_clear(&io.err);
    s.bias_zero = 17;
    attention_forward(&io.x, p.out, NULL, p.q, p.k, p.v, &s);
    ck_assert_int_eq(exec_status(&io.x), ERR_INVALID);
    io_close(&io);
}
END_TEST

Suite *attention_suite(void) {
    Suite *s = suite_create("attention");
    TCase *t = tcase_create("attention");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, attention_equals_the_reference, 0, (int)N_SETTINGS);
    tcase_add_loop_test(t, gradients_can_be_overwritten, 0, (int)N_SETTINGS);
    tcase_add_loop_test(t, attention_backward_is_the_slope_of_forward, 0, (int)N_SMALL);
    tcase_add_test(t, a_query_with_a_cache_equals_the_row_of_the_whole);
    tcase_add_test(t, large_scores_do_not_overflow);
    tcase_add_test(t, spans_outside_and_missing_distances_are_errors);
    suite_add_tcase(s, t);
    return s;
}
