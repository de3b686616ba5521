/* Matrix products: sizes around the edges of panels, chunks and blocks, all types, all tables. */
#include "kernels_harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

Suite *gemm_suite(void);

/* A result that lies between two BF16 numbers may fall to either side: one unit in the last place of the largest. */
#define ONE_UNIT 0x1p-7

struct shape {
    size_t m, n, k;
    int ta, tb;
    float beta;
    unsigned half; /* bit 0: c, 1: a, 2: b is BF16 */
};

static enum dtype type(unsigned half, unsigned i) {
    return half >> i & 1 ? DTYPE_BF16 : DTYPE_F32;
}

/* Numbers that BF16 holds exactly, of either type. */
static struct mat exact(struct io *io, enum dtype dtype, size_t rows, size_t cols, uint64_t seed) {
    struct mat half = io_in_as(io, DTYPE_BF16, rows, cols, seed);
    if (dtype == DTYPE_BF16) {
        return half;
    }
    struct mat wide = io_in(io, rows, cols, seed);
    for (size_t r = 0; r < rows; r++) {
        dtype_convert(mat_rows(wide, r, 1).data, DTYPE_F32, mat_rows(half, r, 1).data, DTYPE_BF16, cols);
    }
    return wide;
}

static void product_case(struct io *io, const void *arg) {
    const struct shape *p = arg;
    struct mat a = exact(io, type(p->half, 1), p->ta ? p->k : p->m, p->ta ? p->m : p->k, 1);
    struct mat b = exact(io, type(p->half, 2), p->tb ? p->n : p->k, p->tb ? p->k : p->n, 2);
    struct mat c = io_out_as(io, type(p->half, 0), p->m, p->n, 3);
    if (p->beta <= 0 && p->beta >= 0) {
        fill(&io->x, c, NAN);
    }
    gemm(&io->x, c, p->ta, a, p->tb, b, 0.5F, p->beta);
}

/* Sums are F32 whatever the operands are: F32 results are as close as those of F32 operands. */
START_TEST(products_of_all_types_equal_the_reference) {
    static const size_t sizes[][3] = {{1, 1, 1},      {16, 35, 600}, {17, 3, 1},    {17, 33, 2},    {29, 66, 801},
                                      {66, 29, 1601}, {300, 50, 65}, {50, 300, 33}, {20, 18, 3301}, {18, 20, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (unsigned half = 0; half < 8; half++) {
            /* Half of the mixes for each size: each operand has both types. */
            for (int trans = 0; trans < 4 && (i + half + half / 2 + half / 4) % 2 == 0; trans++) {
                struct shape p = {sizes[i][0], sizes[i][1], sizes[i][2], trans & 1, trans >> 1, trans & 1 ? 0 : -0.5F, half};
                char what[96];
                snprintf(what, sizeof what, "gemm %zu x %zu x %zu, transposes %d, BF16 operands %x", p.m, p.n, p.k, trans, half);
                same_as_reference(product_case, &p, half & 1 ? ONE_UNIT : 5e-6, what);
            }
        }
    }
}
END_TEST

/* A table that multiplies by itself, by name; NULL where this CPU lacks it. */
static const struct kernels *named(const char *name) {
    return kernels_named(name, NULL);
}

/* More than is packed at a time; the BLAS as the reference, since naive loops would take a minute. */
START_TEST(a_long_inner_dimension_goes_in_passes) {
    static const char *const names[] = {"avx2", "avx512", "avx512bf16"};
    enum { M = 140, N = 132, K = 32200 };
    struct io io;
    io_open(&io, named("blas"), 2, false);
    for (int types = 0; types < 2; types++) {
        enum dtype t = types ? DTYPE_BF16 : DTYPE_F32;
        struct mat a = exact(&io, t, M, K, 1), b = exact(&io, t, K, N, 2), want = io_in(&io, M, N, 3), c = io_in(&io, M, N, 3);
        io.x.k = named("blas");
        gemm(&io.x, want, 0, a, 0, b, 1, 0);
        for (size_t i = 0; i < 3; i++) {
            if (!named(names[i])) {
                continue;
            }
            io.x.k = named(names[i]);
            fill(&io.x, c, NAN);
            gemm(&io.x, c, 0, a, 0, b, 1, 0);
            for (size_t r = 0; r < M; r++) {
                for (size_t l = 0; l < N; l++) {
                    /* 32,200 terms of size 1: sums of about 180 */
                    ck_assert_float_eq_tol(mat_at(c, r, l), mat_at(want, r, l), 5e-3F);
                }
            }
        }
    }
    ck_assert_int_eq(exec_status(&io.x), 0);
    io_close(&io);
}
END_TEST

/* Each element is summed up by itself: rows may be cut into batches, and columns into tiles, without a change of a bit. */
START_TEST(a_part_of_a_product_has_the_bits_of_the_whole) {
    static const char *const names[] = {"avx2", "avx512", "avx512bf16"};
    for (size_t i = 0; i < 3; i++) {
        for (unsigned half = 0; half < 8 && named(names[i]); half += 7) {
            struct io io;
            io_open(&io, named(names[i]), 2, true);
            struct mat a = io_in_as(&io, type(half, 1), 130, 1700, 1), b = io_in_as(&io, type(half, 2), 150, 1700, 2);
            struct mat whole = io_in(&io, 130, 150, 3), part = io_in(&io, 45, 61, 3);
            gemm(&io.x, whole, 0, a, 1, b, 0.7F, 0);
            gemm(&io.x, part, 0, mat_rows(a, 33, 45), 1, mat_rows(b, 70, 61), 0.7F, 0);
            for (size_t r = 0; r < 45; r++) {
                ck_assert_mem_eq(mat_rows(part, r, 1).data, mat_cols(mat_rows(whole, 33 + r, 1), 70, 61).data,
                                 61 * sizeof(float));
            }
            ck_assert_int_eq(exec_status(&io.x), 0);
            io_close(&io);
        }
    }
}
END_TEST

/* Layers of one input, and the gradients of their weights: of `parts` products alike, with what is common packed once, each has the
 * bits that it has alone. So have products that are not alike, whatever the order. */
START_TEST(products_made_together_have_the_bits_of_each) {
    static const size_t sizes[][3] = {{40, 33, 70}, {130, 96, 801}, {65, 200, 33}, {17, 1, 1700}, {30, 45, 0}, {10, 40, 64}};
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (size_t t = 0; t < n; t++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            for (unsigned mix = 0; mix < 8; mix++) {
                const size_t T = sizes[i][0], O = sizes[i][1], C = sizes[i][2];
                const int weights = mix & 1, unlike = mix >> 1 & 1;
                const unsigned half = mix >> 2;
                struct io io;
                io_open(&io, k[t], 2, true);
                struct mat in = io_in_as(&io, type(half, 0), T, C, 1);
                struct product p[MAX_PRODUCTS];
                struct mat want[MAX_PRODUCTS];
                for (size_t j = 0; j < MAX_PRODUCTS; j++) {
                    const size_t rows = unlike && j == 2 ? O + 5 : O;
                    struct mat other =
                        weights ? io_in_as(&io, DTYPE_F32, T, rows, 10 + j) : io_in_as(&io, type(half, 0), rows, C, 10 + j);
                    size_t m = weights ? rows : T, c = weights ? C : rows;
                    p[j] = weights ? (struct product){io_in(&io, m, c, 20 + j), 1, other, 0, in, 0.5F, unlike && j == 1 ? 0 : 1}
                                   : (struct product){io_in(&io, m, c, 20 + j), 0, in, 1, other, 0.5F, unlike && j == 1 ? 1 : 0};
                    want[j] = io_in(&io, m, c, 20 + j);
                    gemm(&io.x, want[j], p[j].ta, p[j].a, p[j].tb, p[j].b, p[j].alpha, p[j].beta);
                }
                gemm_group(&io.x, p, 2 + mix % 3);
                for (size_t j = 0; j < 2 + mix % 3; j++) {
                    for (size_t r = 0; r < want[j].rows; r++) {
                        ck_assert_mem_eq(mat_rows(p[j].c, r, 1).data, mat_rows(want[j], r, 1).data, want[j].cols * sizeof(float));
                    }
                }
                ck_assert_int_eq(exec_status(&io.x), 0);
                io_close(&io);
            }
        }
    }
}
END_TEST

START_TEST(a_group_is_refused_as_its_products_are) {
    struct io io;
    io_open(&io, kernels_choose(), 1, true);
    struct mat a = io_in(&io, 20, 30, 1), c = io_in(&io, 20, 20, 2), before = io_in(&io, 20, 20, 2);
    struct product p[MAX_PRODUCTS + 1];
    for (size_t i = 0; i <= MAX_PRODUCTS; i++) {
        p[i] = (struct product){c, 0, a, 1, a, 1, 0};
    }
    gemm_group(&io.x, p, 0);
    ck_assert_int_eq(exec_status(&io.x), 0);
    p[1].tb = 0;
    gemm_group(&io.x, p, 2);
    ck_assert_str_eq(io.err.text, "gemm: 20 x 20 = (20 x 30) (20 x 30) does not fit together");
    io.err = (struct err){0};
    p[1].tb = 1;
    gemm_group(&io.x, p, MAX_PRODUCTS + 1);
    ck_assert_str_eq(io.err.text, "gemm_group: more products than a call takes");
    for (size_t r = 0; r < 20; r++) { /* nothing was made */
        ck_assert_mem_eq(mat_rows(c, r, 1).data, mat_rows(before, r, 1).data, 20 * sizeof(float));
    }
    io_close(&io);
}
END_TEST

/* The instruction takes two BF16: what kernels.h says of "avx512bf16", and of no other table. */
START_TEST(beside_bf16_the_other_operand_is_rounded_by_the_table_that_says_so) {
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (size_t t = 0; t < n; t++) {
        struct io io;
        io_open(&io, k[t], 1, true);
        struct mat a = io_in(&io, 40, 91, 1), rounded = exact(&io, DTYPE_F32, 40, 91, 1),
                   b = io_in_as(&io, DTYPE_BF16, 91, 50, 2);
        struct mat c = io_in(&io, 40, 50, 3), d = io_in(&io, 40, 50, 3);
        ((float *)a.data)[0] = ((float *)rounded.data)[0] = 1;
        ((float *)a.data)[1] = 0x1.01p0F, ((float *)rounded.data)[1] = 1;             /* in the middle: to even */
        ((float *)a.data)[2] = 0x1.03p0F, ((float *)rounded.data)[2] = 0x1.04p0F;     /* the same */
        ((float *)a.data)[3] = 0x1.010002p0F, ((float *)rounded.data)[3] = 0x1.02p0F; /* just above it */
        gemm(&io.x, c, 0, a, 0, b, 1, 0);
        gemm(&io.x, d, 0, rounded, 0, b, 1, 0);
        bool same = true;
        for (size_t r = 0; r < 40; r++) {
            same = same && memcmp(mat_rows(c, r, 1).data, mat_rows(d, r, 1).data, 50 * sizeof(float)) == 0;
        }
        ck_assert_int_eq(same, strcmp(kernels_name(k[t]), "cpu avx512bf16") == 0);
        io_close(&io);
    }
}
END_TEST

START_TEST(infinity_and_nan_come_through) {
    const struct kernels *k[KERNELS_MOST];
    size_t n = tables(k);
    for (size_t t = 0; t < n; t++) {
        for (unsigned half = 0; half < 8; half++) {
            struct io io;
            io_open(&io, k[t], 1, false);
            struct mat a = io_in_as(&io, type(half, 1), 20, 5, 1), b = io_in_as(&io, type(half, 2), 5, 40, 2),
                       c = io_in_as(&io, type(half, 0), 20, 40, 3);
            fill(&io.x, mat_rows(a, 3, 1), INFINITY);
            fill(&io.x, mat_rows(a, 18, 1), NAN);
            fill(&io.x, b, 1);
            gemm(&io.x, c, 0, a, 0, b, 1, 0);
            for (size_t l = 0; l < 40; l++) {
                ck_assert(isinf(mat_at(c, 3, l)) && isnan(mat_at(c, 18, l)) && isfinite(mat_at(c, 4, l)));
            }
            io_close(&io);
        }
    }
}
END_TEST

START_TEST(a_name_chooses_kernels_and_an_unknown_one_lists_them) {
    struct err e = {0};
    const char *names[KERNELS_MOST];
    const struct kernels *k[KERNELS_MOST];
    size_t n = kernels_list(names, k);
    ck_assert_ptr_eq(kernels_named(NULL, &e), k[0]);
    ck_assert_ptr_eq(kernels_named("auto", &e), k[0]);
    for (size_t i = 0; i < n; i++) {
        ck_assert_ptr_eq(kernels_named(names[i], &e), k[i]);
    }
    ck_assert_str_eq(names[n - 1], "blas");
    ck_assert_int_eq(e.code, 0);
    ck_assert_ptr_null(kernels_named("abacus", &e));
    ck_assert_int_eq(e.code, ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.text, "kernels \"abacus\": this build and CPU have auto, "));
    ck_assert_ptr_nonnull(strstr(e.text, ", generic, blas"));
}
END_TEST

Suite *gemm_suite(void) {
    Suite *s = suite_create("products");
    TCase *t = tcase_create("products");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, products_of_all_types_equal_the_reference);
    tcase_add_test(t, a_long_inner_dimension_goes_in_passes);
    tcase_add_test(t, a_part_of_a_product_has_the_bits_of_the_whole);
    tcase_add_test(t, products_made_together_have_the_bits_of_each);
    tcase_add_test(t, a_group_is_refused_as_its_products_are);
    tcase_add_test(t, beside_bf16_the_other_operand_is_rounded_by_the_table_that_says_so);
    tcase_add_test(t, infinity_and_nan_come_through);
    tcase_add_test(t, a_name_chooses_kernels_and_an_unknown_one_lists_them);
    suite_add_tcase(s, t);
    return s;
}
