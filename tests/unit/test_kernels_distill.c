/* Divergences from a teacher's rows: every kind, tail and temperature against the naive table and against differences. */
#include "core/rng.h"
#include "kernels_harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

Suite *distill_suite(void);

enum { MAX_ROWS = 40, MAX_V = 300, MAX_ROW = 8, TOP = 6 };

struct setup {
    size_t rows, V;
    float temperature;
    int whole; /* rows name the whole vocabulary */
};

static const struct setup setups[] = {{1, 1, 1, 0},      {2, 2, 1, 0}, {7, 17, 1, 0}, {7, 17, 2.5F, 0},
                                      {40, 33, 0.5F, 0}, {5, 7, 1, 1}, {5, 7, 3, 1},  {3, 300, 4, 0}};
enum { N_SETUPS = sizeof setups / sizeof setups[0], HOWS = 18 };

/* Targets of every kind of row in turn; offsets start at 5, as in the middle of a batch. */
struct targets {
    uint32_t offsets[MAX_ROWS + 1];
    int32_t ids[MAX_ROWS * MAX_ROW], labels[MAX_ROWS];
    float probs[MAX_ROWS * MAX_ROW], tails[MAX_ROWS], top[MAX_ROWS * TOP];
    uint8_t which[MAX_ROWS];
    struct distill how[HOWS];
    struct distill_rows rows;
};

static void fill_row(struct targets *t, struct rng *r, const struct setup *s, size_t i, size_t *n) {
    size_t k = s->whole ? s->V : i == 1 ? 0 : 1 + (size_t)rng_below(r, 5), first = (size_t)rng_below(r, s->V);
    double sum = 0, p[MAX_ROW] = {0};
    k = k < s->V ? k : s->V;
    for (size_t j = 0; j < k; j++) {
        sum += p[j] = 0.05 + rng_uniform(r);
    }
    double room = s->whole || i % 5 == 2 ? 1 : 0.6 + 0.35 * rng_uniform(r); /* some rows have no tail */
    for (size_t j = 0; j < k; j++, (*n)++) {
        t->ids[*n] = (int32_t)((first + j * 3) % s->V);
        if (s->V % 3 == 0 || s->V < 3) {
            t->ids[*n] = (int32_t)((first + j) % s->V);
        }
        t->probs[*n] = i % 7 == 6 && j == 0 ? 0 : (float)(p[j] / sum * room);
    }
    for (size_t j = 0; j < TOP; j++) {
        t->top[i * TOP + j] = i == 1 || j > 1 + i % 5 ? 0 : (float)pow(0.45, (double)(j + 1));
    }
    t->tails[i] = (float)(k ? 1 - room : 1);
}

static void make_targets(struct targets *t, struct io *io, const struct setup *s, int shift) {
    struct rng r = rng_make(5, 0);
    size_t n = 0;
    memset(t, 0, sizeof *t);
    for (size_t i = 0; i < HOWS; i++) {
        t->how[i] = (struct distill){(int)(i % 6), (int)(i / 6), s->temperature, i % 2 ? 0.1F : 0};
    }
    for (size_t i = 0; i < s->rows; i++) {
        t->offsets[i] = (uint32_t)(n + 5);
        fill_row(t, &r, s, i, &n);
        t->labels[i] = (int32_t)rng_below(&r, s->V);
        t->which[i] = (uint8_t)((i + (size_t)shift) % HOWS);
        if (s->V == 1 && t->how[t->which[i]].kind == DISTILL_UNLIKELY) {
            t->which[i] = DISTILL_NONE; /* a label that is certain has an infinite loss */
        }
    }
    t->offsets[s->rows] = (uint32_t)(n + 5);
    float *hard = io_floats(io, s->rows, 21), *smooth = io_floats(io, s->rows, 22), *soft = io_floats(io, s->rows, 23);
    soft[0] = 1, hard[s->rows / 2] = 0, smooth[s->rows / 2] = 0;
    t->rows = (struct distill_rows){.labels = t->labels,
                                    .targets = {t->offsets, t->ids, t->probs},
                                    .tails = shift % 2 ? t->tails : NULL,
                                    .top = t->top,
                                    .top_k = TOP,
                                    .how = t->how,
                                    .which = t->which,
                                    .hard = hard,
                                    .smooth = smooth,
                                    .soft = soft};
    if (shift % 7 == 3) {
        t->rows.targets.offsets = NULL; /* hard labels */
        t->rows.tails = NULL;
    }
}

struct one {
    const struct setup *s;
    int shift;
};

static void distill_case(struct io *io, const void *arg) {
    const struct one *o = arg;
    struct targets t;
    make_targets(&t, io, o->s, o->shift);
    for (int grad = 0; grad < 2; grad++) {
        struct mat logits = io_out(io, o->s->rows, o->s->V, 1);
        distill(&io->x, io_floats_out(io, o->s->rows, 2), io_floats_out(io, o->s->rows, 3), io_floats_out(io, o->s->rows, 4),
                logits, &t.rows, grad);
    }
}

START_TEST(distill_equals_the_reference) {
    const struct setup *s = &setups[_i];
    for (int shift = 0; shift < HOWS; shift++) {
        char what[64];
        snprintf(what, sizeof what, "distill %zu x %zu T %g shift %d", s->rows, s->V, (double)s->temperature, shift);
        struct one o = {s, shift};
        same_as_reference(distill_case, &o, 4e-6, what); /* exponentials of about 1e-7, some sums of ten */
    }
}
END_TEST

START_TEST(without_gradient_logits_keep_their_bits) {
    for (int shift = 0; shift < HOWS; shift++) {
        struct io io;
        struct targets t;
        float nll[MAX_ROWS], smooth[MAX_ROWS], soft[MAX_ROWS];
        const struct setup s = {7, 17, 2, 0};
        io_open(&io, kernels_choose(), 1, true);
        struct mat a = io_in(&io, 7, 17, 1), b = io_in(&io, 7, 17, 1);
        make_targets(&t, &io, &s, shift);
        distill(&io.x, nll, smooth, soft, a, &t.rows, 0);
        ck_assert_int_eq(memcmp(a.data, b.data, a.rows * a.ld * sizeof(float)), 0);
        io_close(&io);
    }
}
END_TEST

struct slope {
    struct io io;
    struct targets t;
    struct mat logits;
};

static double total(void *arg) {
    struct slope *s = arg;
    float nll[MAX_ROWS], smooth[MAX_ROWS], soft[MAX_ROWS];
    double sum = 0;
    distill(&s->io.x, nll, smooth, soft, s->logits, &s->t.rows, 0);
    for (size_t r = 0; r < s->logits.rows; r++) {
        sum += (double)s->t.rows.hard[r] * (double)nll[r] + (double)s->t.rows.smooth[r] * (double)smooth[r] +
               (double)s->t.rows.soft[r] * (double)soft[r];
    }
    return sum;
}

START_TEST(distill_gradient_is_its_slope) {
    const struct setup s = {18, 13, _i ? 2 : 1, 0};
    for (int shift = 0; shift < HOWS; shift++) {
        struct slope p;
        io_open(&p.io, kernels_choose(), 1, true);
        p.logits = io_in(&p.io, s.rows, s.V, 1);
        struct mat gradient = io_in(&p.io, s.rows, s.V, 1);
        make_targets(&p.t, &p.io, &s, shift);
        for (size_t i = 0; i < s.rows; i++) { /* an absolute value has corners within the step of these differences */
            p.t.which[i] = (uint8_t)(p.t.which[i] + (p.t.how[p.t.which[i]].kind == DISTILL_SORTED));
        }
        float nll[MAX_ROWS], smooth[MAX_ROWS], soft[MAX_ROWS];
        distill(&p.io.x, nll, smooth, soft, gradient, &p.t.rows, 1);
        check_slope(total, &p, p.logits, gradient, 2e-3, "distill");
        io_close(&p.io);
    }
}
END_TEST

/* One row with rows of {0.7, 0.2} on ids 0 and 1; everything in double beside it. */
static float soft_of(float *v, size_t V, int kind, int tail, float temperature, const int32_t *label) {
    struct io io;
    static const uint32_t offsets[] = {0, 2};
    static const int32_t ids[] = {0, 1};
    static const float probs[] = {0.7F, 0.2F}, top[] = {0.7F, 0.2F}, one = 1, zero = 0;
    float nll, smooth, soft;
    const uint8_t which = 0;
    const struct distill how = {kind, tail, temperature, 0};
    struct distill_rows t = {.labels = label,
                             .targets = {offsets, ids, probs},
                             .top = top,
                             .top_k = 2,
                             .how = &how,
                             .which = &which,
                             .hard = &zero,
                             .smooth = &zero,
                             .soft = &one};
    io_open(&io, kernels_choose(), 1, false);
    distill(&io.x, &nll, &smooth, &soft, mat_of(v, DTYPE_F32, 1, V), &t, 1);
    io_close(&io);
    return soft;
}

START_TEST(divergences_are_exact_for_logits_of_ten_thousand) {
    const int32_t label = 0;
    static const float spreads[] = {1e4F, -1e4F};
    for (size_t i = 0; i < 2; i++) {
        float b = spreads[i], v[] = {b, b, b, b, b};
        /* q = 1/5 each: shifts do not matter, however large */
        ck_assert_float_eq_tol(soft_of(v, 5, DISTILL_FORWARD, DISTILL_BUCKET, 1, &label),
                               0.7F * logf(3.5F) + 0.1F * logf(0.1F / 0.6F), 1e-6F);
        ck_assert_float_eq_tol(v[0], 0.2F - 0.7F, 1e-6F);
        ck_assert_float_eq_tol(v[4], (0.6F - 0.1F) / 3, 1e-6F);
    }
    for (int kind = DISTILL_FORWARD; kind <= DISTILL_UNLIKELY; kind++) {
        for (int tail = 0; tail < 3; tail++) {
            for (int t = 0; t < 2; t++) {
                float v[] = {-1e4F, 1e4F, 9999, 0, 1e4F};
                ck_assert(isfinite(soft_of(v, 5, kind, tail, t ? 4 : 1, &label)));
                for (size_t c = 0; c < 5; c++) {
                    ck_assert_msg(isfinite(v[c]), "kind %d tail %d", kind, tail);
                }
            }
        }
    }
    /* -log(1 - q) of a label that is certain: the others hold e^-20000 */
    float v[] = {1e4F, -1e4F, -1e4F};
    ck_assert_float_eq_tol(soft_of(v, 3, DISTILL_UNLIKELY, 0, 1, &label), 2e4F - logf(2), 2e-3F);
    ck_assert_float_eq_tol(v[0], 1, 1e-6F);
    ck_assert_float_eq_tol(v[1], -0.5F, 1e-6F);
}
END_TEST

START_TEST(no_number_in_a_row_is_no_number_in_its_loss) {
    const int32_t label = 0;
    for (int kind = DISTILL_FORWARD; kind <= DISTILL_JS; kind++) {
        float v[] = {0, 1, NAN, 2};
        ck_assert(isnan(soft_of(v, 4, kind, DISTILL_BUCKET, 1, &label)));
    }
}
END_TEST

Suite *distill_suite(void) {
    Suite *s = suite_create("kernels_distill");
    TCase *c = tcase_create("distill");
    tcase_add_loop_test(c, distill_equals_the_reference, 0, N_SETUPS);
    tcase_add_test(c, without_gradient_logits_keep_their_bits);
    tcase_add_loop_test(c, distill_gradient_is_its_slope, 0, 2);
    tcase_add_test(c, divergences_are_exact_for_logits_of_ten_thousand);
    tcase_add_test(c, no_number_in_a_row_is_no_number_in_its_loss);
    suite_add_tcase(s, c);
    return s;
}
