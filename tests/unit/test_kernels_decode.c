/* Kernels of generation: few rows against many weights, weights of 8 bits, attention of one query over a cache. */
#include "kernels_harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

Suite *decode_suite(void);

/* BF16 results may fall to either side of the middle between two numbers: one unit of the largest. */
#define ONE_UNIT 0x1p-7

static const float extremes[] = {0.75F, -2};

struct few {
    size_t m, n[3], k;
    enum dtype in, w, y;
    float beta;
};

/* By the reference: the same weights for every table, also where one lies between two numbers. */
static struct mat io_whole(struct io *io, size_t rows, size_t cols, uint64_t seed, float **scales) {
    struct mat w = io_in(io, rows, cols, seed), q = arena_mat(&io->mem, DTYPE_I8, rows, cols + (io->gaps ? 3 : 0), &io->err);
    *scales = arena_take(&io->mem, rows, sizeof **scales, &io->err);
    struct exec x = io->x;
    x.k = kernels_reference();
    q.cols = cols;
    quantize_rows(&x, q, *scales, w);
    return q;
}

static void few_case(struct io *io, const void *arg) {
    const struct few *f = arg;
    struct projection p[3];
    for (size_t i = 0; i < 3; i++) {
        float *scales = NULL;
        p[i] = (struct projection){.y = io_out_as(io, f->y, f->m, f->n[i], 10 + i), .alpha = 0.5F, .beta = f->beta};
        p[i].w = f->w == DTYPE_I8 ? io_whole(io, f->n[i], f->k, 20 + i, &scales) : io_in_as(io, f->w, f->n[i], f->k, 20 + i);
        p[i].scales = scales;
        if (!(f->beta < 0)) {
            fill(&io->x, p[i].y, NAN); /* is not read */
        }
    }
    project(&io->x, io_in_as(io, f->in, f->m, f->k, 30), p, 3);
}

START_TEST(projections_equal_the_reference) {
    static const size_t sizes[][2] = {{1, 1}, {1, 768}, {2, 63}, {3, 64}, {5, 100}, {16, 2049}, {33, 65}, {70, 130}, {4, 0}};
    static const enum dtype weights[] = {DTYPE_F32, DTYPE_BF16, DTYPE_I8};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t t = 0; t < 3; t++) {
            for (unsigned half = 0; half < 4; half++) {
                struct few f = {sizes[i][0],         {41, 3, 260},
                                sizes[i][1],         half & 1 ? DTYPE_BF16 : DTYPE_F32,
                                weights[t],          half & 2 ? DTYPE_BF16 : DTYPE_F32,
                                half & 1 ? -0.5F : 0};
                char what[96];
                snprintf(what, sizeof what, "projection of %zu rows, inner %zu, weights %s, BF16 %x", f.m, f.k, dtype_name(f.w),
                         half);
                /* I8: the input has 15 bits next to its largest element, fewer the longer the sum is. BF16 weights may round an F32
                 * input, and a larger product F32 weights that meet a BF16 one. */
                bool rounds = f.in == DTYPE_BF16 ? f.m > 64 && f.w == DTYPE_F32 : f.w == DTYPE_BF16;
                double tolerance = half & 2 || rounds ? ONE_UNIT : f.w == DTYPE_I8 ? 3e-4 : 5e-6;
                same_as_reference(few_case, &f, tolerance, what);
            }
        }
    }
}
END_TEST

/* What a batch generates is what each sequence would generate alone. */
START_TEST(rows_of_a_projection_do_not_depend_on_their_number) {
    static const enum dtype weights[] = {DTYPE_F32, DTYPE_BF16, DTYPE_I8};
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k), most = weights[_i] == DTYPE_I8 ? 150 : 64;
    for (size_t t = 0; t < n; t++) {
        struct io io;
        float *scales = NULL;
        io_open(&io, k[t], 2, true);
        struct mat a = io_in(&io, most, 531, 1),
                   w = weights[_i] == DTYPE_I8 ? io_whole(&io, 301, 531, 2, &scales) : io_in_as(&io, weights[_i], 301, 531, 2);
        struct mat all = io_in(&io, most, 301, 3), one = io_in(&io, 1, 301, 4);
        project(&io.x, a, &(struct projection){all, w, scales, 1, 0}, 1);
        for (size_t r = 0; r < most; r++) {
            project(&io.x, mat_rows(a, r, 1), &(struct projection){one, w, scales, 1, 0}, 1);
            ck_assert_mem_eq(one.data, mat_rows(all, r, 1).data, 301 * sizeof(float));
        }
        ck_assert_int_eq(exec_status(&io.x), 0);
        io_close(&io);
    }
}
END_TEST

static void quantize_case(struct io *io, const void *arg) {
    const size_t *s = arg;
    struct mat w = io_in_as(io, (enum dtype)s[2], s[0], s[1], 7), q = arena_mat(&io->mem, DTYPE_I8, s[0], s[1], &io->err);
    float *scales = io_floats_out(io, s[0], 8);
    quantize_rows(&io->x, q, scales, w);
    struct mat back = io_out(io, s[0], s[1], 9);
    for (size_t r = 0; r < s[0]; r++) {
        for (size_t c = 0; c < s[1]; c++) {
            float v = scales[r] * ((const int8_t *)q.data)[r * q.ld + c];
            ((float *)back.data)[r * back.ld + c] = v;
            ck_assert_float_le(fabsf(v - mat_at(w, r, c)), 0.5001F * scales[r]); /* the nearest of 255 */
        }
    }
}

START_TEST(weights_of_8_bits_are_the_nearest) {
    static const size_t sizes[][3] = {{1, 1, DTYPE_F32}, {5, 1025, DTYPE_F32}, {130, 64, DTYPE_BF16}, {3, 70, DTYPE_F16}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        /* a tie may fall to either side: a unit of the last place, 1/127 */
        same_as_reference(quantize_case, sizes[i], 1.01 / 127, "quantized rows");
    }
}
END_TEST

/* The longest inner size of T5 with every product at its largest: nothing leaves 31 bits. */
START_TEST(sums_of_whole_numbers_do_not_overflow) {
    enum { K = 65536, N = 6 };
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (size_t t = 0; t < n; t++) {
        struct io io;
        float scales[N];
        io_open(&io, k[t], 1, false);
        struct mat w = io_in(&io, N, K, 1), q = arena_mat(&io.mem, DTYPE_I8, N, K, &io.err), in = io_in(&io, 2, K, 2),
                   y = io_in(&io, 2, N, 3);
        fill(&io.x, w, extremes[1]);
        fill(&io.x, in, extremes[0]);
        quantize_rows(&io.x, q, scales, w);
        project(&io.x, in, &(struct projection){y, q, scales, 1, 0}, 1);
        ck_assert_int_eq(exec_status(&io.x), 0);
        for (size_t i = 0; i < 2 * N; i++) {
            ck_assert_float_eq_tol(((const float *)y.data)[i], extremes[0] * extremes[1] * K, 1);
        }
        io_close(&io);
    }
}
END_TEST

/* Damaged weights and inputs show in the result. */
START_TEST(what_is_not_finite_is_not_lost_in_8_bits) {
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (size_t t = 0; t < n; t++) {
        for (int bad = 0; bad < 4; bad++) {
            struct io io;
            float scales[3], value = bad & 1 ? INFINITY : NAN;
            io_open(&io, k[t], 1, false);
            struct mat w = io_in(&io, 3, 70, 1), q = arena_mat(&io.mem, DTYPE_I8, 3, 70, &io.err), in = io_in(&io, 1, 70, 2),
                       y = io_in(&io, 1, 3, 3);
            ((float *)(bad & 2 ? in.data : w.data))[67] = value;
            quantize_rows(&io.x, q, scales, w);
            project(&io.x, in, &(struct projection){y, q, scales, 1, 0}, 1);
            ck_assert_int_eq(exec_status(&io.x), 0);
            ck_assert(!isfinite(((const float *)y.data)[0]));
            ck_assert(bad & 2 || isfinite(((const float *)y.data)[1]));
            io_close(&io);
        }
    }
}
END_TEST

START_TEST(matrices_that_do_not_fit_are_refused) {
    struct io io;
    float scales[4] = {1, 1, 1, 1};
    io_open(&io, kernels_choose(), 1, false);
    struct mat in = io_in(&io, 2, 8, 1), w = io_in(&io, 4, 8, 2), y = io_in(&io, 2, 4, 3),
               q = arena_mat(&io.mem, DTYPE_I8, 4, 8, &io.err);
    const struct {
        struct projection p[2];
        size_t n;
        int code;
    } cases[] = {
        {{{y, mat_cols(w, 0, 7), NULL, 1, 0}}, 1, ERR_INVALID},
        {{{mat_cols(y, 0, 3), w, NULL, 1, 0}}, 1, ERR_INVALID},
        {{{y, q, NULL, 1, 0}}, 1, ERR_INVALID},
        {{{y, w, scales, 1, 0}}, 1, ERR_INVALID},
        {{{y, w, NULL, 1, 0}, {y, q, scales, 1, 0}}, 2, ERR_INVALID},
        {{{y, w, NULL, 1, 0}}, MAX_PROJECTIONS + 1, ERR_INVALID},
        {{{q, w, NULL, 1, 0}}, 1, ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        project(&io.x, in, cases[i].p, cases[i].n);
        ck_assert_int_eq(exec_status(&io.x), cases[i].code);
        err_clear(&io.err);
    }
    quantize_rows(&io.x, w, scales, w);
    ck_assert_int_eq(exec_status(&io.x), ERR_INVALID);
    err_clear(&io.err);
    copy(&io.x, q, w);
    ck_assert_int_eq(exec_status(&io.x), ERR_UNSUPPORTED);
    io_close(&io);
}
END_TEST

struct step {
    size_t n, heads, d_kv, room;
    enum dtype cache;
    bool stores, bias;
};

static void step_case(struct io *io, const void *arg) {
    const struct step *s = arg;
    size_t regions = s->n + 2, *region = arena_take(&io->mem, s->n, sizeof *region, &io->err),
           *length = arena_take(&io->mem, s->n, sizeof *length, &io->err);
    bool gaps = io->gaps;
    io->gaps = false; /* caches have none */
    struct attention_step a = {.heads = s->heads,
                               .d_kv = s->d_kv,
                               .room = s->room,
                               .k = io_out_as(io, s->cache, regions * s->heads * s->room, s->d_kv, 1),
                               .v = io_out_as(io, s->cache, regions * s->heads * s->room, s->d_kv, 2),
                               .region = region,
                               .length = length};
    io->gaps = gaps;
    for (size_t i = 0; i < s->n; i++) {
        region[i] = s->stores ? regions - 1 - i : i / 2; /* what is only read may be shared */
        length[i] = i == 0 ? s->room : 1 + i * 7 % s->room;
    }
    if (s->stores) {
        a.new_k = io_in(io, s->n, s->heads * s->d_kv, 3);
        a.new_v = io_in(io, s->n, s->heads * s->d_kv, 4);
    }
    if (s->bias) {
        a.bias = io_in(io, s->heads, s->room + 3, 5);
        a.bias_zero = s->room;
    }
    attention_step(&io->x, io_out(io, s->n, s->heads * s->d_kv, 6), io_in(io, s->n, s->heads * s->d_kv, 7), &a);
}

/* With keys in BF16 a table may take the query in two pieces of 8 bits. */
START_TEST(steps_of_attention_equal_the_reference) {
    static const struct step steps[] = {
        {1, 1, 1, 1, DTYPE_F32, true, true},        {3, 2, 5, 9, DTYPE_F32, true, true},
        {3, 2, 5, 9, DTYPE_BF16, true, true},       {2, 12, 64, 130, DTYPE_F32, false, false},
        {2, 12, 64, 130, DTYPE_BF16, false, false}, {5, 3, 40, 33, DTYPE_BF16, true, true},
        {1, 2, 128, 600, DTYPE_BF16, true, true},   {17, 2, 32, 20, DTYPE_BF16, false, false},
    };
    char what[64];
    snprintf(what, sizeof what, "step of attention %d", _i);
    same_as_reference(step_case, &steps[_i], steps[_i].cache == DTYPE_BF16 ? ONE_UNIT : 5e-6,
                      what); /* the query may be rounded */
}
END_TEST

START_TEST(steps_outside_their_cache_are_refused) {
    struct io io;
    io_open(&io, kernels_choose(), 1, false);
    size_t region = 0, length = 4;
    struct mat q = io_in(&io, 1, 6, 1), out = io_in(&io, 1, 6, 2);
    struct attention_step good = {.heads = 2,
                                  .d_kv = 3,
                                  .room = 4,
                                  .k = io_in(&io, 16, 3, 3),
                                  .v = io_in(&io, 16, 3, 4),
                                  .region = &region,
                                  .length = &length,
                                  .bias = io_in(&io, 2, 4, 5),
                                  .bias_zero = 3};
    attention_step(&io.x, out, q, &good);
    ck_assert_int_eq(exec_status(&io.x), 0);
    for (int i = 0; i < 5; i++) {
        struct attention_step s = good;
        region = i == 0 ? 2 : 1;
        length = i == 1 ? 5 : i == 2 ? 0 : 4;
        s.bias_zero = i == 3 ? 2 : 3;
        s.k = i == 4 ? io_in_as(&io, DTYPE_BF16, 16, 3, 3) : s.k;
        attention_step(&io.x, out, q, &s);
        ck_assert_int_eq(exec_status(&io.x), ERR_INVALID);
        err_clear(&io.err);
    }
    io_close(&io);
}
END_TEST

Suite *decode_suite(void) {
    Suite *s = suite_create("generation");
    TCase *t = tcase_create("projections");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, projections_equal_the_reference);
    tcase_add_loop_test(t, rows_of_a_projection_do_not_depend_on_their_number, 0, 3);
    tcase_add_test(t, weights_of_8_bits_are_the_nearest);
    tcase_add_test(t, sums_of_whole_numbers_do_not_overflow);
    tcase_add_test(t, what_is_not_finite_is_not_lost_in_8_bits);
    tcase_add_test(t, matrices_that_do_not_fit_are_refused);
    tcase_add_loop_test(t, steps_of_attention_equal_the_reference, 0, 8);
    tcase_add_test(t, steps_outside_their_cache_are_refused);
    suite_add_tcase(s, t);
    return s;
}
