/* Kernels on rows and elements, and the products. Attention and losses: the other test_kernels_*.c. */
#include "core/rng.h"
#include "kernels/cpu_exp.h"
#include "kernels_harness.h"
#include "util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

Suite *attention_suite(void);
Suite *loss_suite(void);
Suite *decode_suite(void);
Suite *distill_suite(void);
Suite *gemm_suite(void);
Suite *mixed_suite(void);
Suite *select_suite(void);
Suite *slope_suite(void);

/* Awkward shapes, one that is a single task, some that are many. */
static const size_t shapes[][2] = {{1, 1}, {3, 17}, {17, 3}, {129, 129}, {1, 40000}, {300, 257}};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

/* F32 rounding of a handful of operations per element, relative to the largest. */
#define CLOSE 2e-6

static void each_shape(case_fn *fn, double tolerance, const char *name) {
    for (size_t i = 0; i < N_SHAPES; i++) {
        char what[64];
        snprintf(what, sizeof what, "%s %zu x %zu", name, shapes[i][0], shapes[i][1]);
        same_as_reference(fn, shapes[i], tolerance, what);
    }
}

/* ---- elementwise ---- */

static void relu_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    struct mat in = io_in(io, s[0], s[1], 1), dy = io_in(io, s[0], s[1], 2);
    relu_forward(&io->x, io_out(io, s[0], s[1], 3), in);
    relu_backward(&io->x, io_out(io, s[0], s[1], 4), dy, in);
    struct mat place = io_out(io, s[0], s[1], 5), slope = io_out(io, s[0], s[1], 6);
    relu_backward(&io->x, slope, slope, in);
    relu_forward(&io->x, place, place);
}

static const struct dropout some = {.p = 0.3F, .seed = 5, .stream = 1ULL << 40 | 7};

/* Both gates, with dropout and without, to a place of their own and where the arguments lie. */
typedef void gate_fn(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d);
typedef void gate_back_fn(const struct exec *x, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a,
                          struct mat b, struct dropout d);

static void gate_case(struct io *io, const size_t *s, gate_fn *forward, gate_back_fn *backward) {
    struct mat a = io_in(io, s[0], s[1], 1), b = io_in(io, s[0], s[1], 2), dy = io_in(io, s[0], s[1], 3);
    scale(&io->x, a, 4); /* both saturated ends and the middle */
    for (int dropped = 0; dropped < 2; dropped++) {
        struct dropout d = dropped ? some : NO_DROPOUT;
        struct mat y = io_out(io, s[0], s[1], 4), again = io_out(io, s[0], s[1], 5);
        forward(&io->x, y, a, b, d);
        backward(&io->x, again, io_out(io, s[0], s[1], 6), io_out(io, s[0], s[1], 7), dy, a, b, d);
        for (size_t r = 0; r < s[0] && s[1]; r++) {
            ck_assert_mem_eq(mat_rows(again, r, 1).data, mat_rows(y, r, 1).data, s[1] * sizeof(float));
        }
        struct mat pa = io_out(io, s[0], s[1], 8), pb = io_out(io, s[0], s[1], 9), py = io_out(io, s[0], s[1], 10);
        backward(&io->x, py, pa, pb, py, pa, pb, d);
    }
}

static void geglu_case(struct io *io, const void *arg) {
    gate_case(io, arg, geglu_forward, geglu_backward);
}

static void swiglu_case(struct io *io, const void *arg) {
    gate_case(io, arg, swiglu_forward, swiglu_backward);
}

static void simple_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    struct mat a = io_in(io, s[0], s[1], 1), b = io_in(io, s[0], s[1], 2), y = io_out(io, s[0], s[1], 4);
    add(&io->x, io_out(io, s[0], s[1], 3), a, b, NO_DROPOUT);
    add(&io->x, y, y, b, NO_DROPOUT);
    scale(&io->x, io_out(io, s[0], s[1], 5), 0.3F);
    fill(&io->x, io_out(io, s[0], s[1], 6), -2.5F);
    lerp(&io->x, io_out(io, s[0], s[1], 7), a, b, 0.25F);
    copy(&io->x, io_out(io, s[0], s[1], 8), a);
}

static void dropout_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    dropout_apply(&io->x, io_out(io, s[0], s[1], 3), io_in(io, s[0], s[1], 1), some);
    struct mat y = io_out(io, s[0], s[1], 4), sum = io_out(io, s[0], s[1], 6);
    add(&io->x, io_out(io, s[0], s[1], 7), io_in(io, s[0], s[1], 2), y, some);
    add(&io->x, sum, y, sum, some);
    dropout_apply(&io->x, y, y, (struct dropout){.p = 0.9F, .seed = 1ULL << 63, .stream = 2});
    dropout_apply(&io->x, io_out(io, s[0], s[1], 5), io_in(io, s[0], s[1], 1), (struct dropout){.p = 0});
}

static void adamw_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    struct mat w = io_out(io, s[0], s[1], 1), m = io_out(io, s[0], s[1], 2), v = io_out(io, s[0], s[1], 3),
               g = io_in(io, s[0], s[1], 4);
    dropout_apply(&io->x, v, v, (struct dropout){.p = 0});
    relu_forward(&io->x, v, v);
    struct adamw o = {.lr = 0.01F, .beta1 = 0.9F, .beta2 = 0.999F, .eps = 1e-3F, .decay = 0.1F, .t = 3, .grad_scale = 0.5F};
    adamw_update(&io->x, w, m, v, g, &o);
}

START_TEST(elementwise_kernels_equal_the_reference) {
    each_shape(relu_case, 0, "relu");
    each_shape(geglu_case, CLOSE, "geglu");
    each_shape(swiglu_case, CLOSE, "swiglu");
    each_shape(simple_case, CLOSE, "add, scale, fill, lerp, copy");
    each_shape(dropout_case, CLOSE, "dropout");
    each_shape(adamw_case, CLOSE, "adamw");
}
END_TEST

struct slope {
    struct io io;
    struct mat in[3], y, weight;
    float rrms[16];
};

static const struct {
    gate_fn *forward;
    gate_back_fn *backward;
    struct dropout drop;
} gates[] = {
    {geglu_forward, geglu_backward, {.p = 0}},
    {swiglu_forward, swiglu_backward, {.p = 0}},
    {geglu_forward, geglu_backward, {.p = 0.3F, .seed = 1}},
    {swiglu_forward, swiglu_backward, {.p = 0.3F, .seed = 1}},
};
enum { GATES = sizeof gates / sizeof *gates };

struct gate_slope {
    struct slope s;
    int i;
};

static double gate_loss(void *arg) {
    struct gate_slope *g = arg;
    gates[g->i].forward(&g->s.io.x, g->s.y, g->s.in[0], g->s.in[1], gates[g->i].drop);
    return weighted_sum(g->s.y, g->s.weight);
}

START_TEST(a_gates_backward_is_the_slope_of_its_forward) {
    struct gate_slope g = {.i = _i};
    struct slope *s = &g.s;
    io_open(&s->io, kernels_choose(), 1, true);
    struct mat a = s->in[0] = io_in(&s->io, 7, 19, 1), b = s->in[1] = io_in(&s->io, 7, 19, 2);
    s->y = io_in(&s->io, 7, 19, 3), s->weight = io_in(&s->io, 7, 19, 4);
    struct mat da = io_in(&s->io, 7, 19, 5), db = io_in(&s->io, 7, 19, 6), again = io_in(&s->io, 7, 19, 7);
    gates[_i].backward(&s->io.x, again, da, db, s->weight, a, b, gates[_i].drop);
    check_slope(gate_loss, &g, a, da, 1e-3, "da");
    check_slope(gate_loss, &g, b, db, 1e-3, "db");
    io_close(&s->io);
}
END_TEST

START_TEST(geglu_is_right_at_the_ends) {
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    float a[] = {-1e30F, -1e3F, -40, -10, -1e-20F, 0, 1e-20F, 10, 40, 1e3F, 1e10F}, one[11], y[11], da[11], db[11], z[11];
    struct mat am = mat_of(a, DTYPE_F32, 1, 11), bm = mat_of(one, DTYPE_F32, 1, 11), ym = mat_of(y, DTYPE_F32, 1, 11);
    fill(&io.x, bm, 1);
    geglu_forward(&io.x, ym, am, bm, NO_DROPOUT);
    geglu_backward(&io.x, mat_of(z, DTYPE_F32, 1, 11), mat_of(da, DTYPE_F32, 1, 11), mat_of(db, DTYPE_F32, 1, 11), bm, am, bm,
                   NO_DROPOUT);
    for (size_t i = 0; i < 11; i++) {
        double exact = a[i] < -30 ? 0
                       : a[i] > 30
                           ? (double)a[i]
                           : (double)a[i] / 2 * (1 + tanh(0.7978845608 * ((double)a[i] + 0.044715 * pow((double)a[i], 3))));
        ck_assert_double_le(fabs((double)y[i] - exact), 1e-6 * fabs(exact) + 1e-7);
        ck_assert_double_le(fabs((double)da[i] - (a[i] < -5 ? 0 : a[i] > 5 ? 1 : 0.5)), 1e-6);
    }
    io_close(&io);
}
END_TEST

START_TEST(lerp_at_the_ends_keeps_every_bit) {
    struct io io;
    io_open(&io, kernels_choose(), 2, true);
    struct mat a = io_in(&io, 5, 33, 1), b = io_in(&io, 5, 33, 2), y = io_in(&io, 5, 33, 3);
    ((float *)b.data)[0] = INFINITY;
    lerp(&io.x, y, a, b, 0);
    for (size_t r = 0; r < 5; r++) {
        ck_assert_mem_eq((float *)y.data + r * y.ld, (float *)a.data + r * a.ld, 33 * sizeof(float));
    }
    lerp(&io.x, y, a, b, 1);
    for (size_t r = 0; r < 5; r++) {
        ck_assert_mem_eq((float *)y.data + r * y.ld, (float *)b.data + r * b.ld, 33 * sizeof(float));
    }
    io_close(&io);
}
END_TEST

/* ---- exp ---- */

START_TEST(exp_fast_is_within_one_and_a_half_ulp) {
    double worst = 0;
    for (uint32_t u = 0; u < 0x42b00000U; u += 997) { /* 0 .. 88 and its mirror image */
        for (uint32_t sign = 0; sign < 2; sign++) {
            float x = bits_float(u | sign << 31);
            if (x < -87.3F) {
                continue;
            }
            double exact = exp((double)x), ulp = ldexp(1, ilogb(exact) - 23);
            worst = fmax(worst, fabs((double)exp_fast(x) - exact) / ulp);
        }
    }
    ck_assert_msg(worst <= 1.5, "off by %g ulp", worst);
    ck_assert_float_eq(exp_fast(-INFINITY), 0);
    ck_assert_float_eq(exp_fast(-88), 0);
    ck_assert_float_eq(exp_fast(0), 1);
    ck_assert_float_nan(exp_fast(NAN));
    ck_assert_float_gt(exp_fast(INFINITY), 2e38F);
}
END_TEST

/* ---- dropout ---- */

START_TEST(dropout_drops_its_share_and_keeps_the_mean) {
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    enum { N = 400000 };
    struct mat one = io_in(&io, 1, N, 1), y = io_in(&io, 1, N, 2), z = io_in(&io, 1, N, 3);
    fill(&io.x, one, 1);
    dropout_apply(&io.x, y, one, (struct dropout){.p = 0.1F, .seed = 3, .stream = 4});
    dropout_apply(&io.x, z, one, (struct dropout){.p = 0.1F, .seed = 3, .stream = 5});
    size_t dropped = 0, both = 0, runs = 0;
    const float *v = y.data, *u = z.data;
    for (size_t i = 0; i < N; i++) {
        bool gone = v[i] <= 0;
        ck_assert(gone || fabsf(v[i] - 1 / 0.9F) < 1e-6F);
        dropped += gone;
        both += gone && u[i] <= 0;
        runs += gone && i > 0 && v[i - 1] <= 0;
    }
    /* Binomial: five standard deviations around the mean; independence of streams and of neighbours likewise. */
    ck_assert_double_le(fabs((double)dropped - 0.1 * N), 5 * sqrt(0.09 * N));
    ck_assert_double_le(fabs((double)both - 0.01 * N), 5 * sqrt(0.0099 * N));
    ck_assert_double_le(fabs((double)runs - 0.01 * N), 5 * sqrt(0.0099 * N));
    io_close(&io);
}
END_TEST

/* ---- rows ---- */

static void embedding_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    struct mat w = io_in(io, 11, s[1], 1), dy = io_in(io, s[0], s[1], 2);
    int32_t *ids = io_ids(io, s[0], 11, 3);
    embedding_forward(&io->x, io_out(io, s[0], s[1], 4), w, ids);
    embedding_backward(&io->x, io_out(io, 11, s[1], 5), dy, ids);
}

static void norm_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    struct mat in = io_in(io, s[0], s[1], 1), g = io_in(io, 1, s[1], 2), dy = io_in(io, s[0], s[1], 3);
    float *rrms = io_floats_out(io, s[0], 9);
    rmsnorm_forward(&io->x, io_out(io, s[0], s[1], 4), rrms, in, g, 1e-6F);
    rmsnorm_backward(&io->x, io_out(io, s[0], s[1], 5), io_out(io, 1, s[1], 6), dy, in, g, rrms);
}

static void bias_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    struct mat table = io_in(io, 32, s[0], 1);
    int32_t *bucket = io_ids(io, s[1], 32, 2);
    struct mat bias = io_out(io, s[0], s[1], 3);
    bias_expand_forward(&io->x, bias, table, bucket);
    bias_expand_backward(&io->x, io_out(io, 32, s[0], 4), bias, bucket);
}

START_TEST(row_kernels_equal_the_reference) {
    each_shape(embedding_case, CLOSE, "embedding");
    each_shape(norm_case, 1e-5, "rmsnorm");     /* F32 sums of up to 40000, in one lane under sanitizers */
    each_shape(bias_case, 3e-5, "bias_expand"); /* F32 sums of 1250 numbers of one sign */
}
END_TEST

static double norm_loss(void *arg) {
    struct slope *s = arg;
    rmsnorm_forward(&s->io.x, s->y, s->rrms, s->in[0], s->in[1], 1e-6F);
    return weighted_sum(s->y, s->weight);
}

START_TEST(rmsnorm_backward_is_the_slope_of_forward) {
    struct slope s;
    io_open(&s.io, kernels_choose(), 1, true);
    struct mat in = s.in[0] = io_in(&s.io, 5, 33, 1), g = s.in[1] = io_in(&s.io, 1, 33, 2);
    s.y = io_in(&s.io, 5, 33, 3), s.weight = io_in(&s.io, 5, 33, 4);
    struct mat din = io_in(&s.io, 5, 33, 5), dg = io_in(&s.io, 1, 33, 6);
    fill(&s.io.x, din, 0);
    fill(&s.io.x, dg, 0);
    norm_loss(&s);
    rmsnorm_backward(&s.io.x, din, dg, s.weight, in, g, s.rrms);
    check_slope(norm_loss, &s, in, din, 1e-3, "din");
    check_slope(norm_loss, &s, g, dg, 1e-3, "dg");
    io_close(&s.io);
}
END_TEST

/* ---- products ---- */

struct shape {
    size_t m, n, k;
    int ta, tb;
    float alpha, beta;
};

static void gemm_case(struct io *io, const void *arg) {
    const struct shape *p = arg;
    struct mat a = p->ta ? io_in(io, p->k, p->m, 1) : io_in(io, p->m, p->k, 1);
    struct mat b = p->tb ? io_in(io, p->n, p->k, 2) : io_in(io, p->k, p->n, 2);
    struct mat c = io_out(io, p->m, p->n, 3);
    if (p->beta <= 0 && p->beta >= 0) {
        fill(&io->x, c, NAN); /* beta 0 must not read c */
    }
    gemm(&io->x, c, p->ta, a, p->tb, b, p->alpha, p->beta);
}

START_TEST(gemm_equals_the_reference) {
    static const size_t sizes[][3] = {{1, 1, 1},     {1, 129, 17},   {129, 1, 17},   {3, 17, 129},    {17, 3, 1}, {129, 129, 3},
                                      {530, 70, 65}, {40, 1100, 33}, {1, 2100, 600}, {600, 1040, 17}, {5, 6, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int trans = 0; trans < 4; trans++) {
            struct shape p = {sizes[i][0], sizes[i][1], sizes[i][2], trans & 1, trans >> 1, 1, 0};
            char what[96];
            snprintf(what, sizeof what, "gemm %zu x %zu x %zu, transposes %d", p.m, p.n, p.k, trans);
            same_as_reference(gemm_case, &p, 5e-6, what);
            p.alpha = 0.5F, p.beta = trans & 1 ? 1 : -0.5F;
            same_as_reference(gemm_case, &p, 5e-6, what);
        }
    }
}
END_TEST

/* A sequence that is generated alone and in a batch gets the same tokens. */
START_TEST(rows_of_a_thin_product_do_not_depend_on_their_number) {
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (size_t t = 0; t < n; t++) {
        struct io io;
        io_open(&io, k[t], 2, true);
        struct mat a = io_in(&io, 16, 531, 1), w = io_in(&io, 301, 531, 2), all = io_in(&io, 16, 301, 3),
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

/* ---- failures ---- */

START_TEST(other_types_are_refused_by_name_and_the_error_stays) {
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    struct mat a = io_in(&io, 2, 4, 1), half = arena_mat(&io.mem, DTYPE_F16, 2, 4, &io.err);
    add(&io.x, a, a, half, NO_DROPOUT);
    ck_assert_int_eq(exec_status(&io.x), ERR_UNSUPPORTED);
    ck_assert_str_eq(io.err.text, "add: no implementation for F16 here, only for F32 and BF16");
    err_clear(&io.err);
    row_lse(&io.x, a.data, arena_mat(&io.mem, DTYPE_BF16, 2, 4, &io.err));
    ck_assert_str_eq(io.err.text, "row_lse: no implementation for BF16 here, only for F32");
    float before = *(float *)a.data;
    fill(&io.x, a, before + 1);
    ck_assert_float_eq(*(float *)a.data, before);
    err_clear(&io.err);
    fill(&io.x, a, before + 1);
    ck_assert_float_eq(*(float *)a.data, before + 1);
    io_close(&io);
}
END_TEST

START_TEST(shapes_that_do_not_fit_are_refused) {
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    struct mat a = io_in(&io, 2, 4, 1), b = io_in(&io, 4, 2, 1), v = io_in(&io, 1, 3, 1);
    add(&io.x, a, a, b, NO_DROPOUT);
    ck_assert_int_eq(exec_status(&io.x), ERR_INVALID);
    err_clear(&io.err);
    gemm(&io.x, a, 0, a, 0, a, 1, 0);
    ck_assert_str_eq(io.err.text, "gemm: 2 x 4 = (2 x 4) (2 x 4) does not fit together");
    err_clear(&io.err);
    float rrms[2];
    rmsnorm_forward(&io.x, a, rrms, a, v, 1e-6F);
    ck_assert_int_eq(exec_status(&io.x), ERR_INVALID);
    err_clear(&io.err);
    struct mat huge = a;
    huge.rows = huge.cols = huge.ld = (size_t)1 << 32;
    gemm(&io.x, huge, 0, huge, 0, huge, 1, 0);
    ck_assert_int_eq(exec_status(&io.x), ERR_INVALID);
    err_clear(&io.err);
    dropout_apply(&io.x, a, a, (struct dropout){.p = 1});
    ck_assert_int_eq(exec_status(&io.x), ERR_INVALID);
    err_clear(&io.err);
    geglu_forward(&io.x, a, a, a, (struct dropout){.p = -0.5F});
    ck_assert_str_eq(io.err.text, "geglu_forward: the dropout rate must be at least 0 and below 1");
    io_close(&io);
}
END_TEST

START_TEST(missing_scratch_memory_is_an_error_and_not_a_crash) {
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    struct fail_alloc none;
    fail_alloc_init(&none, 1, true);
    io.scratch.a = &none.a;
    struct mat in = io_in(&io, 70, 9, 1), g = io_in(&io, 1, 9, 2);
    float *rrms = io_floats(&io, 70, 3);
    rmsnorm_backward(&io.x, in, g, in, in, g, rrms);
    ck_assert_int_eq(exec_status(&io.x), ERR_NOMEM);
    err_clear(&io.err);
    ck_assert_double_eq(sum_squares(&io.x, in), 0);
    ck_assert_int_eq(exec_status(&io.x), ERR_NOMEM);
    err_clear(&io.err);
    struct attention_span span = {0, 70, 0, 70};
    struct attention s = {.heads = 3, .d_kv = 3, .spans = &span, .n_spans = 1, .dropout = {.p = 0.1F}};
    attention_forward(&io.x, in, NULL, in, in, in, &s);
    ck_assert_int_eq(exec_status(&io.x), ERR_NOMEM);
    io_close(&io);
}
END_TEST

START_TEST(names_tell_what_runs) {
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    ck_assert_ptr_eq(k[0], kernels_choose());
    ck_assert_ptr_nonnull(strstr(kernels_name(k[n - 1]), ", BLAS"));
    ck_assert_str_eq(kernels_name(&kernels_table_generic), "cpu generic");
    ck_assert_str_eq(kernels_name(kernels_reference()), "reference");
    ck_assert_uint_gt(strlen(blas_name()), 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernels");
    TCase *t = tcase_create("rows and elements");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, elementwise_kernels_equal_the_reference);
    tcase_add_loop_test(t, a_gates_backward_is_the_slope_of_its_forward, 0, GATES);
    tcase_add_test(t, geglu_is_right_at_the_ends);
    tcase_add_test(t, lerp_at_the_ends_keeps_every_bit);
    tcase_add_test(t, exp_fast_is_within_one_and_a_half_ulp);
    tcase_add_test(t, dropout_drops_its_share_and_keeps_the_mean);
    tcase_add_test(t, row_kernels_equal_the_reference);
    tcase_add_test(t, rmsnorm_backward_is_the_slope_of_forward);
    tcase_add_test(t, gemm_equals_the_reference);
    tcase_add_test(t, rows_of_a_thin_product_do_not_depend_on_their_number);
    tcase_add_test(t, other_types_are_refused_by_name_and_the_error_stays);
    tcase_add_test(t, shapes_that_do_not_fit_are_refused);
    tcase_add_test(t, missing_scratch_memory_is_an_error_and_not_a_crash);
    tcase_add_test(t, names_tell_what_runs);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_add_suite(r, attention_suite());
    srunner_add_suite(r, loss_suite());
    srunner_add_suite(r, distill_suite());
    srunner_add_suite(r, gemm_suite());
    srunner_add_suite(r, mixed_suite());
    srunner_add_suite(r, select_suite());
    srunner_add_suite(r, decode_suite());
    srunner_add_suite(r, slope_suite());
    return test_run(r);
}
