/* The statistics of evaluations against SciPy, statsmodels and enumeration (tests/tools/make_eval_fixtures.py). */
#include "test_eval.h"

#include "eval/statistics.h"

#include <math.h>
#include <string.h>

enum { MOST = 256 };

static struct json *fixture(const char *part, const struct json **rows) {
    struct json *doc = NULL;
    struct err e = {0};
    int code = json_read_file(TEST_SOURCE_ROOT "/tests/fixtures/eval/statistics.json", 4 << 20, NULL, &doc, &e);
    ck_assert_msg(code == 0, "%s", e.text);
    *rows = json_first(json_get(doc, part));
    ck_assert_ptr_nonnull(*rows);
    return doc;
}

/* The numbers of a row, lists in it passed over. */
static size_t numbers(const struct json *row, double *v) {
    size_t n = 0;
    for (const struct json *m = json_first(row); m; m = json_next(m))
        if (json_type(m) == JSON_NUMBER) {
            ck_assert_uint_lt(n, MOST);
            v[n++] = json_number(m);
        }
    return n;
}

/* The fixture's libraries and we both round a few times. */
static void close_to(double got, double want, double tolerance, const char *what) {
    ck_assert_msg(fabs(got - want) <= tolerance * fmax(fabs(want), 1e-3), "%s: %.17g, expected %.17g", what, got, want);
}

START_TEST(wilson_intervals_are_those_of_statsmodels) {
    const struct json *row;
    struct json *doc = fixture("wilson", &row);
    for (double v[MOST]; row; row = json_next(row)) {
        double low = -1, high = -1;
        ck_assert_uint_eq(numbers(row, v), 4);
        rsd_wilson((uint64_t)v[0], (uint64_t)v[1], &low, &high);
        close_to(low, v[2], 1e-12, "low");
        close_to(high, v[3], 1e-12, "high");
    }
    double low = -1, high = -1;
    rsd_wilson(0, 0, &low, &high);
    ck_assert(low >= 0 && low <= 0 && high >= 1 && high <= 1);
    json_free(doc);
}
END_TEST

START_TEST(majority_votes_are_those_of_all_subsets) {
    const struct json *row;
    struct json *doc = fixture("maj", &row);
    rsd_ctx *ctx = fixture_ctx();
    size_t cases = 0;
    for (double v[MOST], list[MOST]; row; row = json_next(row), cases++) {
        uint64_t votes[MOST];
        size_t n = numbers(json_first(row), list);
        double got = -1;
        ck_assert_uint_eq(numbers(row, v), 4);
        for (size_t i = 0; i < n; i++)
            votes[i] = (uint64_t)list[i];
        OK(ctx, rsd_maj_at_k(ctx, votes, n, (size_t)v[0], (uint64_t)v[1], (uint64_t)v[2], &got));
        close_to(got, v[3], 1e-12, "maj@k");
    }
    ck_assert_uint_gt(cases, 100);
    json_free(doc);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(majority_votes_of_the_largest_numbers_are_probabilities) {
    rsd_ctx *ctx = fixture_ctx();
    uint64_t votes[] = {400, 399, 150, 1, 1};
    double before = 0, got = 0;
    for (uint64_t k = 1; k <= 1000; k += 111) {
        OK(ctx, rsd_maj_at_k(ctx, votes, 5, 0, 49, k, &got));
        ck_assert_msg(got > 0 && got <= 1 + 1e-12, "maj@%d = %g", (int)k, got);
        if (k == 1)
            close_to(got, 0.4, 1e-12, "maj@1");
        before = got;
    }
    ck_assert(before > 0.4);
    OK(ctx, rsd_maj_at_k(ctx, votes, 5, 0, 49, 1000, &got)); /* all of them: 400 against 399 */
    close_to(got, 1, 1e-12, "maj@1000");
    OK(ctx, rsd_maj_at_k(ctx, votes, 5, 5, 49, 10, &got)); /* no right answer among them */
    ck_assert(got >= 0 && got <= 0);
    ck_assert_int_eq(rsd_maj_at_k(ctx, votes, 5, 0, 49, 0, &got), RSD_EINVAL);
    ck_assert_int_eq(rsd_maj_at_k(ctx, votes, 5, 0, 49, 1001, &got), RSD_EINVAL);
    ck_assert_int_eq(rsd_maj_at_k(ctx, votes, 5, 0, 50, 5, &got), RSD_EINVAL);
    votes[0] = UINT64_MAX;
    ck_assert_int_eq(rsd_maj_at_k(ctx, votes, 5, 0, UINT64_MAX, 5, &got), RSD_EINVAL);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "maj@5"));
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(pairs_are_tested_as_scipy_and_statsmodels_do) {
    const struct json *row;
    struct json *doc = fixture("mcnemar", &row);
    for (double v[MOST]; row; row = json_next(row)) {
        rsd_paired p = {.size = sizeof p};
        ck_assert_uint_eq(numbers(row, v), 9);
        ck_assert_int_eq(rsd_mcnemar((uint64_t)v[0], (uint64_t)v[1], (uint64_t)v[2], (uint64_t)v[3], &p), RSD_OK);
        ck_assert_uint_eq(p.only_a, (uint64_t)v[1]);
        if (v[4] > 1e-280)
            ck_assert_msg(fabs(p.p / v[4] - 1) < 1e-9, "p %.17g, expected %.17g", p.p, v[4]);
        else
            ck_assert_double_le(p.p, 1e-280);
        if (v[1] < v[2] || v[1] > v[2]) /* statsmodels goes below 0 where both are equal */
            close_to(p.chi2, v[5], 1e-12, "chi2");
        close_to(p.difference, (v[1] - v[2]) / (v[0] + v[1] + v[2] + v[3]), 1e-12, "difference");
        close_to(p.low, v[7], 1e-9, "low");
        close_to(p.high, v[8], 1e-9, "high");
    }
    json_free(doc);
    rsd_paired p = {.size = sizeof p};
    ck_assert_int_eq(rsd_mcnemar(0, 0, 0, 0, &p), RSD_EINVAL);
    ck_assert_int_eq(rsd_mcnemar(1, 0, 0, 0, NULL), RSD_EINVAL);
    /* the example of Newcombe 1998 */
    ck_assert_int_eq(rsd_mcnemar(36, 12, 2, 0, &p), RSD_OK);
    ck_assert_double_eq_tol(p.low, 0.0569, 5e-5);
    ck_assert_double_eq_tol(p.high, 0.3404, 5e-5);
}
END_TEST

START_TEST(student_t_is_that_of_scipy) {
    const struct json *row;
    struct json *doc = fixture("t", &row);
    for (double v[MOST]; row; row = json_next(row)) {
        ck_assert_uint_eq(numbers(row, v), 3);
        close_to(student_t(v[0], (uint64_t)v[1]), v[2], 1e-10, "t");
    }
    json_free(doc);
    close_to(student_t(0.05, UINT64_MAX), 1.959963984540054, 2e-5, "t of many");
}
END_TEST

START_TEST(lines_are_fitted_as_scipy_does) {
    const struct json *row;
    struct json *doc = fixture("fit", &row);
    for (double v[MOST], x[MOST], y[MOST]; row; row = json_next(row)) {
        rsd_fit f = {.size = sizeof f};
        size_t n = numbers(json_first(row), x);
        ck_assert_uint_eq(numbers(json_next(json_first(row)), y), n);
        ck_assert_uint_eq(numbers(row, v), 6);
        ck_assert_int_eq(rsd_fit_line(x, y, n, &f), RSD_OK);
        const double got[] = {f.slope, f.intercept, f.slope_low, f.slope_high, f.r2, f.error};
        for (int i = 0; i < 6; i++)
            close_to(got[i], v[i], 1e-9, "fit");
        ck_assert_uint_eq(f.n, n);
    }
    json_free(doc);
}
END_TEST

START_TEST(lines_that_cannot_be_fitted_are_refused) {
    double x[] = {1, 2, 3}, y[] = {5, 5, 5}, same[] = {2, 2, 2}, bad[] = {1, NAN, 3};
    rsd_fit f = {.size = sizeof f};
    ck_assert_int_eq(rsd_fit_line(x, y, 1, &f), RSD_EINVAL);
    ck_assert_int_eq(rsd_fit_line(same, y, 3, &f), RSD_EINVAL);
    ck_assert_int_eq(rsd_fit_line(bad, y, 3, &f), RSD_EINVAL);
    ck_assert_int_eq(rsd_fit_line(x, bad, 3, &f), RSD_EINVAL);
    ck_assert_int_eq(rsd_fit_line(x, y, 3, &f), RSD_OK);
    ck_assert(f.slope >= 0 && f.slope <= 0 && f.r2 >= 1 && f.r2 <= 1);
    ck_assert_int_eq(rsd_fit_line(x, x, 2, &f), RSD_OK);
    ck_assert_double_eq(f.slope, 1);
    ck_assert(isinf(f.slope_low) && isinf(f.slope_high) && f.slope_low < f.slope_high);
}
END_TEST

START_TEST(log_odds_are_finite_at_the_ends) {
    close_to(rsd_log_odds(0, 10), log(0.5 / 10.5), 1e-14, "none");
    close_to(rsd_log_odds(10, 10), log(10.5 / 0.5), 1e-14, "all");
    ck_assert_double_eq_tol(rsd_log_odds(5, 10), 0, 1e-15);
    ck_assert(isnan(rsd_log_odds(0, 0)) && isnan(rsd_log_odds(2, 1)));
}
END_TEST

TCase *eval_statistics_case(void) {
    TCase *c = tcase_create("statistics");
    tcase_add_test(c, wilson_intervals_are_those_of_statsmodels);
    tcase_add_test(c, majority_votes_are_those_of_all_subsets);
    tcase_add_test(c, majority_votes_of_the_largest_numbers_are_probabilities);
    tcase_add_test(c, pairs_are_tested_as_scipy_and_statsmodels_do);
    tcase_add_test(c, student_t_is_that_of_scipy);
    tcase_add_test(c, lines_are_fitted_as_scipy_does);
    tcase_add_test(c, lines_that_cannot_be_fitted_are_refused);
    tcase_add_test(c, log_odds_are_finite_at_the_ends);
    return c;
}
