/* BF16: every kernel of a training step on mixed types, stochastic rounding, Adafactor. */
#include "kernels_harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

Suite *mixed_suite(void);

/* A result that lies between two BF16 numbers may fall to either side where the F32 before it differs in its last bit: one unit
 * in the last place of the largest is 2^-7 of it at most. */
#define ONE_UNIT 0x1p-7

static const size_t shapes[][2] = {{1, 1}, {3, 17}, {129, 130}, {1, 5000}};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

struct typed {
    size_t rows, cols;
    unsigned half; /* bit i: operand i is BF16 */
};

static enum dtype type(const struct typed *t, unsigned i) {
    return t->half >> i & 1 ? DTYPE_BF16 : DTYPE_F32;
}

static struct mat in(struct io *io, const struct typed *t, unsigned i) {
    return io_in_as(io, type(t, i), t->rows, t->cols, i + 1);
}

static struct mat out(struct io *io, const struct typed *t, unsigned i) {
    return io_out_as(io, type(t, i), t->rows, t->cols, i + 1);
}

/* `fn` with all shapes and the given mixes of types. */
static void each_mix(case_fn *fn, const unsigned *mixes, size_t n, const char *name) {
    for (size_t i = 0; i < N_SHAPES; i++) {
        for (size_t k = 0; k < n; k++) {
            struct typed t = {shapes[i][0], shapes[i][1], mixes[k]};
            char what[64];
            snprintf(what, sizeof what, "%s %zu x %zu, BF16 operands %x", name, t.rows, t.cols, t.half);
            same_as_reference(fn, &t, ONE_UNIT, what);
        }
    }
}

static void elements_case(struct io *io, const void *arg) {
    const struct typed *t = arg;
    struct mat a = in(io, t, 0), b = in(io, t, 1);
    struct dropout drop = {.p = 0.3F, .seed = 4, .stream = 5};
    for (int dropped = 0; dropped < 2; dropped++) {
        struct dropout d = dropped ? drop : NO_DROPOUT;
        add(&io->x, out(io, t, 2), a, b, d);
        geglu_forward(&io->x, out(io, t, 2), a, b, d);
        geglu_backward(&io->x, out(io, t, 1), out(io, t, 2), out(io, t, 3), in(io, t, 4), a, b, d);
        swiglu_forward(&io->x, out(io, t, 2), a, b, d);
        swiglu_backward(&io->x, out(io, t, 1), out(io, t, 2), out(io, t, 3), in(io, t, 4), a, b, d);
        dropout_apply(&io->x, out(io, t, 3), a, d);
    }
    relu_forward(&io->x, out(io, t, 2), a);
    relu_backward(&io->x, out(io, t, 3), b, a);
    lerp(&io->x, out(io, t, 2), a, b, 0.25F);
    struct mat place = out(io, t, 3), dy = out(io, t, 4);
    geglu_backward(&io->x, dy, place, out(io, t, 2), dy, place, b, drop);
    scale(&io->x, place, 0.3F);
    fill(&io->x, out(io, t, 2), -2.3F);
}

static void embedding_case(struct io *io, const void *arg) {
    const struct typed *t = arg;
    int32_t *ids = io_ids(io, t->rows, 11, 3);
    embedding_forward(&io->x, out(io, t, 0), io_in_as(io, type(t, 1), 11, t->cols, 9), ids);
}

START_TEST(elements_of_mixed_types_equal_the_reference) {
    static const unsigned all[] = {0x01, 0x02, 0x04, 0x0b, 0x14, 0x1f};
    each_mix(elements_case, all, 6, "elementwise");
    each_mix(embedding_case, (const unsigned[]){1, 2, 3}, 3, "embedding");
}
END_TEST

/* With BF16 weights as well a sequence gets the same tokens alone and in a batch. */
START_TEST(rows_of_a_thin_mixed_product_do_not_depend_on_their_number) {
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (size_t t = 0; t < n; t++) {
        struct io io;
        io_open(&io, k[t], 2, true);
        struct mat a = io_in(&io, 16, 531, 1), w = io_in_as(&io, DTYPE_BF16, 301, 531, 2), all = io_in(&io, 16, 301, 3),
                   one = io_in(&io, 1, 301, 4);
        gemm(&io.x, all, 0, a, 1, w, 1, 0);
        for (size_t r = 0; r < 16; r++) {
            gemm(&io.x, one, 0, mat_rows(a, r, 1), 1, w, 1, 0);
            ck_assert_mem_eq(one.data, mat_rows(all, r, 1).data, 301 * sizeof(float));
        }
        ck_assert_int_eq(exec_status(&io.x), 0);
        io_close(&io);
    }
}
END_TEST

/* ---- kernels that widen their operands: bits are those of the F32 kernel on the same numbers ---- */

static struct mat widened(struct io *io, struct mat m) {
    struct mat w = arena_mat(&io->mem, DTYPE_F32, m.rows, m.cols, &io->err);
    for (size_t r = 0; r < m.rows; r++) {
        for (size_t c = 0; c < m.cols; c++) {
            ((float *)w.data)[r * w.ld + c] = mat_at(m, r, c);
        }
    }
    return w;
}

static void ck_same(struct mat got, struct mat want, const char *what) {
    for (size_t r = 0; r < want.rows; r++) {
        for (size_t c = 0; c < want.cols; c++) {
            float v = mat_at(want, r, c), g = mat_at(got, r, c);
            uint16_t half;
            dtype_convert(&half, DTYPE_BF16, &v, DTYPE_F32, 1);
            if (got.dtype == DTYPE_BF16) {
                dtype_convert(&v, DTYPE_F32, &half, DTYPE_BF16, 1);
            }
            ck_assert_msg(memcmp(&v, &g, sizeof v) == 0, "%s: element %zu, %zu is %g, not %g", what, r, c, (double)g, (double)v);
        }
    }
}

START_TEST(norms_of_bf16_are_those_of_the_same_numbers) {
    struct io io;
    io_open(&io, kernels_choose(), 2, true);
    struct mat x = io_in_as(&io, DTYPE_BF16, 70, 33, 1), g = io_in_as(&io, DTYPE_BF16, 1, 33, 2),
               y = io_in_as(&io, DTYPE_BF16, 70, 33, 3);
    struct mat yw = io_in(&io, 70, 33, 4), dy = io_in_as(&io, DTYPE_BF16, 70, 33, 5), xw = widened(&io, x), gw = widened(&io, g);
    struct mat din = io_in(&io, 70, 33, 6), dinw = io_in(&io, 70, 33, 6), dg = io_in(&io, 1, 33, 7), dgw = io_in(&io, 1, 33, 7);
    float *rrms = io_floats(&io, 70, 8), *rrmsw = io_floats(&io, 70, 9);
    rmsnorm_forward(&io.x, y, rrms, x, g, 1e-6F);
    rmsnorm_forward(&io.x, yw, rrmsw, xw, gw, 1e-6F);
    ck_same(y, yw, "y");
    rmsnorm_backward(&io.x, din, dg, dy, x, g, rrms);
    rmsnorm_backward(&io.x, dinw, dgw, widened(&io, dy), xw, gw, rrmsw);
    ck_same(din, dinw, "din");
    ck_same(dg, dgw, "dg");
    rmsnorm_backward(&io.x, dinw, (struct mat){0}, dy, x, g, rrms); /* without dg */
    rmsnorm_backward(&io.x, din, dg, dy, x, g, rrms);
    ck_same(din, dinw, "din without dg");
    ck_assert_int_eq(exec_status(&io.x), 0);
    io_close(&io);
}
END_TEST

struct attention_case {
    struct attention_span spans[2];
    size_t T, D;
    int causal;
    float dropout;
};

/* The largest difference as a share of the largest number. */
static void ck_near(struct mat got, struct mat want, double share, const char *what) {
    double most = 0, off = 0;
    for (size_t r = 0; r < want.rows; r++) {
        for (size_t c = 0; c < want.cols; c++) {
            double v = (double)mat_at(want, r, c), d = fabs((double)mat_at(got, r, c) - v);
            most = fmax(most, fabs(v));
            off = isnan(d) ? INFINITY : fmax(off, d);
        }
    }
    ck_assert_msg(off <= share * most, "%s: off by %g, the largest number is %g", what, off, most);
}

/* Tables that widen give the bits of the F32 kernel. The one that multiplies pairs of BF16 rounds probabilities and the gradients of
 * scores to 8 bits: half a unit is 1/512 of each of them. */
static void check_attention(const struct kernels *k, const struct attention_case *a) {
    enum { H = 3 };
    struct io io;
    io_open(&io, k, 2, true);
    bool pairs = strncmp(kernels_name(k), "cpu avx512bf16", 14) == 0;
    size_t T = a->T, D = a->D, distances = 2 * T - 1;
    struct mat table = io_in_as(&io, DTYPE_BF16, 8, H, 1), bias = io_in(&io, H, distances, 2),
               biasw = io_in(&io, H, distances, 3);
    int32_t *bucket = io_ids(&io, distances, 8, 4);
    bias_expand_forward(&io.x, bias, table, bucket);
    bias_expand_forward(&io.x, biasw, widened(&io, table), bucket);
    ck_same(bias, biasw, "bias");
    struct attention s = {.heads = H,
                          .d_kv = D,
                          .spans = a->spans,
                          .n_spans = 2,
                          .causal = a->causal,
                          .bias = bias,
                          .bias_zero = T - 1,
                          .dropout = {.p = a->dropout}};
    struct mat m[6], w[6], d[4], dw[4]; /* q k v out dout; dq dk dv dbias */
    for (size_t i = 0; i < 5; i++) {
        m[i] = io_in_as(&io, DTYPE_BF16, T, H * D, 10 + i);
        w[i] = widened(&io, m[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        d[i] = io_in(&io, i < 3 ? T : H, i < 3 ? H * D : distances, 20 + i);
        dw[i] = io_in(&io, i < 3 ? T : H, i < 3 ? H * D : distances, 20 + i);
    }
    float *lse = io_floats(&io, H * T, 30), *lsew = io_floats(&io, H * T, 31);
    attention_forward(&io.x, m[3], lse, m[0], m[1], m[2], &s);
    attention_forward(&io.x, w[3], lsew, w[0], w[1], w[2], &s);
    attention_backward(&io.x, d[0], d[1], d[2], d[3], m[4], m[3], m[0], m[1], m[2], lse, &s);
    attention_backward(&io.x, dw[0], dw[1], dw[2], dw[3], w[4], widened(&io, m[3]), w[0], w[1], w[2], lsew, &s);
    ck_assert_int_eq(exec_status(&io.x), 0);
    const char *const names[] = {"dq", "dk", "dv", "dbias"};
    for (size_t i = 0; i < 4; i++) {
        if (pairs) {
            ck_near(d[i], dw[i], 1.0 / 256, names[i]);
        } else {
            ck_same(d[i], dw[i], names[i]);
        }
    }
    if (pairs) {
        ck_near(m[3], w[3], 1.0 / 256, "out");
    } else {
        ck_same(m[3], w[3], "out");
    }
    io_close(&io);
}

START_TEST(attention_on_bf16_is_that_on_the_same_numbers) {
    const struct attention_case cases[] = {
        {{{0, 20, 0, 20}, {20, 17, 20, 17}}, 37, 16, 0, 0.2F},
        {{{0, 131, 0, 131}, {131, 70, 131, 70}}, 201, 64, 0, 0},
        {{{0, 131, 0, 131}, {131, 70, 131, 70}}, 201, 64, 1, 0.1F},
        {{{0, 5, 0, 33}, {5, 65, 33, 3}}, 70, 24, 0, 0},
    };
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (size_t t = 0; t < n; t++) {
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            check_attention(k[t], &cases[c]);
        }
    }
}
END_TEST

START_TEST(random_weights_in_bf16_are_those_in_f32_rounded) {
    struct io io;
    io_open(&io, kernels_choose(), 2, false);
    struct mat a = io_in_as(&io, DTYPE_BF16, 3, 40001, 1), b = io_in(&io, 3, 40001, 2);
    fill_normal(&io.x, a, 0.7F, 5, 6);
    fill_normal(&io.x, b, 0.7F, 5, 6);
    ck_same(a, b, "normal");
    ck_assert_double_eq_tol(sum_squares(&io.x, a), sum_squares(&io.x, widened(&io, a)), 1e-6);
    io_close(&io);
}
END_TEST

/* ---- stochastic rounding ---- */

enum { MANY = 200000 };

/* MANY weights of value w take one step of AdamW of exactly `step` (the first step has the length of the learning rate). */
static struct mat stepped(struct io *io, float w, float step, struct rounding how) {
    struct mat m = io_in_as(io, DTYPE_BF16, 1, MANY, 1), a = io_in(io, 1, MANY, 2), b = io_in(io, 1, MANY, 3),
               g = io_in(io, 1, MANY, 4);
    fill(&io->x, m, w);
    fill(&io->x, a, 0);
    fill(&io->x, b, 0);
    fill(&io->x, g, -1);
    struct adamw o = {.lr = step, .beta1 = 0, .beta2 = 0, .eps = 0x1p-100F, .t = 1, .grad_scale = 1, .rounding = how};
    adamw_update(&io->x, m, a, b, g, &o);
    return m;
}

START_TEST(stochastic_rounding_keeps_the_mean) {
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (size_t t = 0; t < n; t++) {
        struct io io;
        io_open(&io, k[t], 2, false);
        for (int eighths = 1; eighths < 8; eighths += 3) {
            double unit = 0x1p-7, p = eighths / 8.0, sum = 0, pairs = 0;
            struct mat w = stepped(&io, 1, (float)(p * unit), (struct rounding){1, 3, 4});
            for (size_t i = 0; i < MANY; i++) {
                double up = ((double)mat_at(w, 0, i) - 1) / unit;
                ck_assert(fabs(up) < 1e-9 || fabs(up - 1) < 1e-9);
                sum += up;
                pairs += i && up > 0.5 && mat_at(w, 0, i - 1) > 1 ? 1 : 0;
            }
            /* Binomial: five standard deviations; neighbours are independent. */
            ck_assert_double_le(fabs(sum - p * MANY), 5 * sqrt(p * (1 - p) * MANY));
            ck_assert_double_le(fabs(pairs - p * p * MANY), 5 * sqrt(2 * p * p * (1 - p * p) * MANY));
        }
        /* To nearest, less than half a unit is lost for good. */
        struct mat lost = stepped(&io, 1, 0x1p-9F, (struct rounding){0, 3, 4});
        for (size_t i = 0; i < MANY; i++) {
            ck_assert_float_eq(mat_at(lost, 0, i), 1);
        }
        io_close(&io);
    }
}
END_TEST

START_TEST(stochastic_rounding_is_a_function_of_seed_and_stream) {
    struct io io;
    io_open(&io, kernels_choose(), 2, false);
    struct rounding how = {1, 3, 4}, seed = {1, 2, 4}, stream = {1, 3, 5};
    struct mat a = stepped(&io, 1, 0x1p-8F, how), b = stepped(&io, 1, 0x1p-8F, how);
    ck_assert_mem_eq(a.data, b.data, MANY * 2);
    ck_assert_mem_ne(a.data, stepped(&io, 1, 0x1p-8F, seed).data, MANY * 2);
    ck_assert_mem_ne(a.data, stepped(&io, 1, 0x1p-8F, stream).data, MANY * 2);
    /* What BF16 holds stays, and what is no finite number is not carried into another. */
    ck_same(stepped(&io, 1.5F, 0.25F, how), widened(&io, stepped(&io, 1.75F, 0, how)), "exact");
    struct mat up = stepped(&io, INFINITY, 1, how), none = stepped(&io, NAN, 1, how);
    for (size_t i = 0; i < MANY; i++) {
        ck_assert(isinf(mat_at(up, 0, i)) && isnan(mat_at(none, 0, i)));
    }
    io_close(&io);
}
END_TEST

/* ---- optimisers ---- */

static void adamw_case(struct io *io, const void *arg) {
    const struct typed *t = arg;
    struct mat w = out(io, t, 0), m = out(io, t, 1), v = out(io, t, 2), g = in(io, t, 3);
    relu_forward(&io->x, v, v);
    struct adamw o = {.lr = 0.01F,
                      .beta1 = 0.9F,
                      .beta2 = 0.999F,
                      .eps = 1e-3F,
                      .decay = 0.1F,
                      .t = 3,
                      .grad_scale = 0.5F,
                      .rounding = {t->half >> 8 & 1, 7, 8}};
    adamw_update(&io->x, w, m, v, g, &o);
}

/* Bits of `half` beyond the operands: 8 stochastic, 9 factored, 10 with first moment, 11 clipped. */
static void adafactor_case(struct io *io, const void *arg) {
    const struct typed *t = arg;
    bool factored = t->half >> 9 & 1;
    struct mat w = out(io, t, 0), g = in(io, t, 1), m = t->half >> 10 & 1 ? out(io, t, 2) : (struct mat){0}, c = {0}, r;
    if (factored) {
        r = io_out(io, 1, t->rows, 11);
        c = io_out(io, 1, t->cols, 12);
    } else {
        bool gaps = io->gaps;
        io->gaps = false;
        w = out(io, t, 3), g = in(io, t, 1), m = m.data ? out(io, t, 2) : m, r = io_out(io, t->rows, t->cols, 11);
        io->gaps = gaps;
    }
    relu_forward(&io->x, r, r);
    if (c.data) {
        relu_forward(&io->x, c, c);
    }
    struct adafactor o = {.lr = 0.01F,
                          .beta1 = 0.9F,
                          .beta2 = 0.7F,
                          .eps = 1e-3F,
                          .clip = t->half >> 11 & 1 ? 0.5F : 0,
                          .decay = 0.1F,
                          .grad_scale = 0.5F,
                          .rounding = {t->half >> 8 & 1, 7, 8}};
    adafactor_update(&io->x, w, r, c, m, g, &o);
}

START_TEST(optimisers_of_bf16_weights_equal_the_reference) {
    each_mix(adamw_case, (const unsigned[]){0x001, 0x101}, 2, "adamw");
    each_mix(adafactor_case, (const unsigned[]){0x001, 0x301, 0xb01, 0xf09, 0xd09, 0x509}, 6, "adafactor");
}
END_TEST

/* F32 sums of up to 16512 squares beside double: relative to the largest. */
START_TEST(adafactor_equals_the_reference) {
    for (unsigned mix = 0; mix < 8; mix++) {
        for (size_t i = 0; i < N_SHAPES; i++) {
            struct typed t = {shapes[i][0], shapes[i][1], mix << 9};
            same_as_reference(adafactor_case, &t, 1e-5, "adafactor");
        }
    }
}
END_TEST

Suite *mixed_suite(void) {
    Suite *s = suite_create("mixed types");
    TCase *t = tcase_create("mixed types");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, elements_of_mixed_types_equal_the_reference);
    tcase_add_test(t, rows_of_a_thin_mixed_product_do_not_depend_on_their_number);
    tcase_add_test(t, norms_of_bf16_are_those_of_the_same_numbers);
    tcase_add_test(t, attention_on_bf16_is_that_on_the_same_numbers);
    tcase_add_test(t, random_weights_in_bf16_are_those_in_f32_rounded);
    tcase_add_test(t, stochastic_rounding_keeps_the_mean);
    tcase_add_test(t, stochastic_rounding_is_a_function_of_seed_and_stream);
    tcase_add_test(t, optimisers_of_bf16_weights_equal_the_reference);
    tcase_add_test(t, adafactor_equals_the_reference);
    suite_add_tcase(s, t);
    return s;
}
