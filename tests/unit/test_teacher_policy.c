/* When to ask again: pure functions, so every case is one line. */
#include "test_teacher.h"

#include "teacher/policy.h"

#include <math.h>

static const double now = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 */

START_TEST(a_wait_is_read_in_each_of_its_forms) {
    static const struct {
        const char *ms, *after;
        double wait;
    } rows[] = {
        {"", "", -1},
        {"", "2", 2},
        {"", " 0.25\r\n", 0.25},
        {"1500", "9", 1.5},
        {"soon", "3", 3},
        {"", "Sun, 06 Nov 1994 08:49:47 GMT", 10},
        {"", "Sun, 06 Nov 1994 08:49:07 GMT", 0}, /* past */
        {"", "Sunday, 06-Nov-94 08:49:47 GMT", 10},
        {"", "Sun Nov  6 08:49:47 1994", 10},
        {"", "Sunday, 06-Nov-94 08:49:47 CET", -1},
        {"", "Sun Nov  6 08:49:47 19x4", -1},
        {"", "Sun, 06 Nov 1994 08:49:47 CET", -1},
        {"", "Sun, 36 Nov 1994 08:49:47 GMT", -1},
        {"", "-1", -1},
        {"", "nan", -1},
        {"", "1e3", -1},
        {"", "0x10", -1},
        {"", ".", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double wait = policy_retry_after(text_of(rows[i].ms), text_of(rows[i].after), now);
        ck_assert_msg(fabs(wait - rows[i].wait) < 1e-9, "%s | %s: %g", rows[i].ms, rows[i].after, wait);
    }
}
END_TEST

START_TEST(dates_are_counted_over_leap_days) {
    static const struct {
        const char *date;
        int64_t seconds;
    } rows[] = {
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},         {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Tue, 29 Feb 2000 12:00:00 GMT", 951825600}, {"Tuesday, 29-Feb-00 12:00:00 GMT", 951825600},
        {"Tue Feb 29 12:00:00 2000", 951825600},      {"Sun, 01 Mar 2100 00:00:00 GMT", INT64_C(4107542400)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t s = -1;
        ck_assert(policy_http_date(text_of(rows[i].date), &s));
        ck_assert_int_eq(s, rows[i].seconds);
    }
}
END_TEST

START_TEST(what_can_pass_is_tried_again_and_what_cannot_is_not) {
    static const struct {
        struct policy_facts facts;
        unsigned tries;
        bool retry;
    } rows[] = {
        {{.status = 0, .retry_after = -1, .should_retry = -1}, 1, true},
        {{.status = 0, .final_fault = true, .retry_after = -1, .should_retry = -1}, 1, false},
        {{.status = 408, .retry_after = -1, .should_retry = -1}, 1, true},
        {{.status = 409, .retry_after = -1, .should_retry = -1}, 1, true},
        {{.status = 429, .retry_after = -1, .should_retry = -1}, 5, true},
        {{.status = 429, .retry_after = -1, .should_retry = -1}, 6, false}, /* five retries are used up */
        {{.status = 500, .retry_after = -1, .should_retry = -1}, 1, true},
        {{.status = 503, .retry_after = 3600, .should_retry = -1}, 1, true},
        {{.status = 503, .retry_after = 3601, .should_retry = 1}, 1, false}, /* longer than we wait */
        {{.status = 400, .retry_after = -1, .should_retry = -1}, 1, false},
        {{.status = 401, .retry_after = -1, .should_retry = -1}, 1, false},
        {{.status = 302, .retry_after = -1, .should_retry = -1}, 1, false},
        {{.status = 400, .retry_after = -1, .should_retry = 1}, 1, true},
        {{.status = 500, .retry_after = -1, .should_retry = 0}, 1, false},
        {{.status = 200, .broken_body = true, .retry_after = -1, .should_retry = -1}, 1, true},
        {{.status = 429, .retry_after = 1, .should_retry = 1, .code = {"insufficient_quota", 18}}, 1, false},
        {{.status = 429, .retry_after = 1, .should_retry = -1, .type = {"insufficient_quota", 18}}, 1, false},
        {{.status = 429, .retry_after = 1, .should_retry = -1, .code = {"rate_limit_exceeded", 19}}, 1, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(policy_decide(&rows[i].facts, rows[i].tries, 5, 3600, 0).retry == rows[i].retry, "row %zu", i);
}
END_TEST

START_TEST(who_is_asked_to_wait_too_long_comes_back_another_day) {
    struct policy_facts f = {.status = 429, .retry_after = 601, .should_retry = -1};
    struct policy_verdict v = policy_decide(&f, 1, 0, 600, 0);
    ck_assert(v.come_back && !v.retry && v.wait == 601);
    f.retry_after = 600;
    ck_assert(!policy_decide(&f, 1, 0, 600, 0).come_back && policy_decide(&f, 1, 1, 600, 0).retry);
    f.retry_after = 1e9;
    f.status = 400; /* what would not be tried again is refused, whatever it asks for */
    ck_assert(!policy_decide(&f, 1, 5, 600, 0).come_back);
    f.status = 429;
    f.code = text_of("insufficient_quota");
    ck_assert(!policy_decide(&f, 1, 5, 600, 0).come_back);
}
END_TEST

START_TEST(money_that_is_spent_ends_the_run_by_any_of_its_names) {
    static const char *const gone[] = {"insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
                                       "project_spend_limit_exceeded", "organization_usage_limit_exceeded"};
    for (size_t i = 0; i < 2 * sizeof gone / sizeof *gone; i++) {
        struct policy_facts f = {.status = 429, .retry_after = 1, .should_retry = 1};
        *(i % 2 ? &f.code : &f.type) = text_of(gone[i / 2]);
        ck_assert_msg(!policy_decide(&f, 1, 5, 3600, 0).retry && policy_ends_all(&f), "%s", gone[i / 2]);
    }
    struct policy_facts f = {.status = 429, .retry_after = 1, .should_retry = -1, .code = text_of("rate_limit_exceeded")};
    ck_assert(!policy_ends_all(&f));
    f.status = 401;
    ck_assert(policy_ends_all(&f));
}
END_TEST

START_TEST(waits_double_up_to_eight_seconds_less_jitter) {
    static const double waits[] = {0.5, 1, 2, 4, 8, 8, 8};
    struct policy_facts f = {.status = 500, .retry_after = -1, .should_retry = -1};
    for (unsigned i = 0; i < 7; i++) {
        ck_assert(policy_decide(&f, i + 1, 100, 3600, 0).wait == waits[i]);
        ck_assert(policy_decide(&f, i + 1, 100, 3600, 0.5).wait == waits[i] * 0.875);
    }
    f.retry_after = 0.25;
    ck_assert(policy_decide(&f, 3, 100, 3600, 0.5).wait == 0.25);
}
END_TEST

Suite *teacher_policy_suite(void) {
    Suite *s = suite_create("teacher: policy");
    TCase *t = tcase_create("policy");
    tcase_add_test(t, a_wait_is_read_in_each_of_its_forms);
    tcase_add_test(t, dates_are_counted_over_leap_days);
    tcase_add_test(t, what_can_pass_is_tried_again_and_what_cannot_is_not);
    tcase_add_test(t, who_is_asked_to_wait_too_long_comes_back_another_day);
    tcase_add_test(t, money_that_is_spent_ends_the_run_by_any_of_its_names);
    tcase_add_test(t, waits_double_up_to_eight_seconds_less_jitter);
    suite_add_tcase(s, t);
    return s;
}
