/* The pace of requests: pure functions of a clock, so a minute of it takes no time. */
#include "test_teacher.h"

#include "teacher/pace.h"

#include <math.h>

START_TEST(durations_are_read_in_each_of_their_forms) {
    static const struct {
        const char *text;
        double seconds;
    } rows[] = {
        {"1s", 1},  {"6m0s", 360},     {"1h2m3.5s", 3723.5}, {"20ms", 0.02}, {" 17.5\r\n", 17.5},
        {"0", 0},   {"500us", 0.0005}, {"-1", -1},           {"", -1},       {"s", -1},
        {"1x", -1}, {"1s2", -1},       {"1e3", -1},          {"nan", -1},    {"1m 3s", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double s = pace_duration(text_of(rows[i].text));
        ck_assert_msg(fabs(s - rows[i].seconds) < 1e-9, "%s: %g", rows[i].text, s);
    }
}
END_TEST

/* Starts requests as fast as the pace allows for `seconds`; how many. */
static size_t started(struct pace *p, double tokens, double from, double seconds) {
    size_t n = 0;
    for (double now = from; now < from + seconds; n++) {
        double wait = pace_wait(p, tokens, 0, now);
        ck_assert(wait >= 0 && wait < 3600);
        now += wait;
        if (now < from + seconds)
            pace_started(p, tokens);
    }
    return n - 1;
}

START_TEST(a_limit_a_minute_is_kept_in_every_minute) {
    struct pace p;
    pace_init(&p, 120, 0, 64, 1000);
    size_t first = started(&p, 500, 1000, 60), second = started(&p, 500, 1060, 60);
    ck_assert_uint_le(first, 131); /* and five seconds' worth at the start */
    ck_assert_uint_ge(first, 120);
    ck_assert_uint_le(second, 121);
    ck_assert_uint_ge(second, 118);
    ck_assert_uint_le(started(&p, 500, 4000, 60), 131); /* a long pause is not saved up */
}
END_TEST

START_TEST(tokens_a_minute_are_kept_and_corrected_by_what_was_used) {
    struct pace p;
    pace_init(&p, 0, 60000, 64, 0);
    size_t n = started(&p, 1000, 0, 60);
    ck_assert_msg(n >= 60 && n <= 66, "%zu", n);
    pace_init(&p, 0, 60000, 64, 0);
    ck_assert(pace_wait(&p, 1e9, 0, 0) == 0); /* larger than any bucket, yet it starts, and the next one pays */
    pace_started(&p, 1e9);
    ck_assert(pace_wait(&p, 1000, 0, 1) > 60);
    pace_settled(&p, 1e9, 4000);
    ck_assert(pace_wait(&p, 1000, 0, 1) == 0);
}
END_TEST

START_TEST(no_limit_means_no_wait) {
    struct pace p;
    pace_init(&p, 0, 0, 4, 0);
    for (int i = 0; i < 1000; i++) {
        ck_assert(pace_wait(&p, 1e6, 3, 0) == 0);
        pace_started(&p, 1e6);
    }
    ck_assert(pace_wait(&p, 1, 4, 0) < 0); /* but four are in flight */
}
END_TEST

START_TEST(what_the_endpoint_says_of_its_limits_is_kept) {
    struct pace p;
    struct pace_facts f = pace_nothing;
    pace_init(&p, 0, 0, 8, 0);
    pace_heard(&p, 429, 3, &f, 10);
    ck_assert(pace_wait(&p, 1, 0, 10) == 3);
    ck_assert(pace_wait(&p, 1, 0, 13) == 0);
    f.remaining_requests = 0;
    f.reset_requests = 7;
    pace_heard(&p, 200, -1, &f, 20);
    ck_assert(pace_wait(&p, 1, 0, 20) == 7);
    f = pace_nothing;
    f.remaining_tokens = 0;
    f.reset_tokens = 3600; /* until all of it is back; some of it is back sooner */
    pace_heard(&p, 200, -1, &f, 30);
    ck_assert(pace_wait(&p, 1, 0, 30) == 60);
    f.remaining_tokens = 100;
    pace_init(&p, 0, 0, 8, 0);
    pace_heard(&p, 200, -1, &f, 30);
    ck_assert(pace_wait(&p, 1, 0, 30) == 0);
}
END_TEST

START_TEST(too_many_requests_halve_what_is_in_flight_and_success_brings_it_back) {
    struct pace p;
    pace_init(&p, 0, 0, 16, 0);
    pace_heard(&p, 429, -1, &pace_nothing, 5);
    pace_heard(&p, 429, -1, &pace_nothing, 5.2); /* of the same crowd */
    ck_assert(pace_wait(&p, 1, 7, 6) == 0);
    ck_assert(pace_wait(&p, 1, 8, 6) < 0);
    for (double now = 7; now < 20; now += 2)
        pace_heard(&p, 429, -1, &pace_nothing, now);
    ck_assert(pace_wait(&p, 1, 0, 30) == 0); /* one is always allowed */
    ck_assert(pace_wait(&p, 1, 1, 30) < 0);
    for (int i = 0; i < 200; i++)
        pace_heard(&p, 200, -1, &pace_nothing, 31);
    ck_assert(pace_wait(&p, 1, 15, 32) == 0);
    ck_assert(pace_wait(&p, 1, 16, 32) < 0);
}
END_TEST

Suite *teacher_pace_suite(void) {
    Suite *s = suite_create("teacher: pace");
    TCase *t = tcase_create("pace");
    tcase_add_test(t, durations_are_read_in_each_of_their_forms);
    tcase_add_test(t, a_limit_a_minute_is_kept_in_every_minute);
    tcase_add_test(t, tokens_a_minute_are_kept_and_corrected_by_what_was_used);
    tcase_add_test(t, no_limit_means_no_wait);
    tcase_add_test(t, what_the_endpoint_says_of_its_limits_is_kept);
    tcase_add_test(t, too_many_requests_halve_what_is_in_flight_and_success_brings_it_back);
    suite_add_tcase(s, t);
    return s;
}
