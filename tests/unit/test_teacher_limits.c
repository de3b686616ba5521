/* What a run may spend, how long it may be asked to wait, and what it must not keep. */
#include "test_teacher.h"

#include "core/log.h"
#include "teacher_server.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- what a budget holds ---- */

START_TEST(a_budget_is_not_passed_and_the_run_ends_cleanly) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok"));
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    o.api = RSD_API_COMPLETIONS;
    o.max_tokens = 20; /* the server uses 10 + 5 */
    o.concurrency = 4;
    o.store = test_path(s.dir, "teacher.jsonl");
    if (_i == 0) {
        o.budget_tokens = 300;
    } else {
        o.price_prompt = 1e6; /* one a token */
        o.price_completion = 1e6;
        o.budget = 300;
    }
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, 100);
    size_t n = finish(ctx, t, failure, sizeof failure);
    rsd_teacher_stats st = stats_of(t);
    ck_assert_uint_eq(st.stopped, RSD_STOPPED_BUDGET);
    ck_assert_uint_eq(st.failed, 0);
    ck_assert_uint_eq(st.queued, 100 - n);
    ck_assert_uint_eq(st.prompt_tokens + st.completion_tokens, 15 * n);
    ck_assert_msg(15 * n <= 300 && n >= 16, "%zu replies", n); /* a request is thought to take 2 + 20 at most, and 15 it takes */
    ck_assert(_i == 0 || st.cost == 15.0 * (double)n);
    ck_assert_uint_eq(requests(&s, NULL), n);
    ck_assert_uint_eq(distinct_rows(o.store), n);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

/* An endpoint counts a hundred tokens where two bytes a token make 25: known from the first answer on. Whatever is asked after
 * it stays within the budget; before it, four requests were in flight. */
START_TEST(what_answers_say_they_took_replaces_what_was_reckoned) {
    const char *script[31] = {NULL};
    rsd_ctx *ctx = open_ctx();
    for (int i = 0; i < 30; i++)
        script[i] = _i == 0 ? "usage:100:20" : "usage:1:1";
    struct server s = start_server(script);
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    o.api = RSD_API_COMPLETIONS;
    o.max_tokens = 20;
    o.concurrency = 4;
    o.budget_tokens = _i == 0 ? 3000 : 400;
    o.question_template = "{question}, which is thought to be twenty tokens..";
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, 30);
    size_t n = finish(ctx, t, failure, sizeof failure);
    rsd_teacher_stats st = stats_of(t);
    ck_assert_uint_eq(st.prompt_tokens + st.completion_tokens, n * (_i == 0 ? 120 : 2));
    if (_i == 0) /* 25 times 120 is the budget, and no request is given away */
        ck_assert_msg(n >= 24 && n <= 25 && st.stopped == RSD_STOPPED_BUDGET, "%zu", n);
    else /* thirty times the 45 reckoned would not have fitted */
        ck_assert(n == 30 && !st.stopped);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(an_endpoint_that_tells_no_usage_is_counted) {
    static const char *const actions[] = {"nousage", "nousage:text", "nologprobs"};
    const char *script[31] = {NULL};
    rsd_ctx *ctx = open_ctx();
    for (int i = 0; i < 30; i++)
        script[i] = actions[_i];
    struct server s = start_server(script);
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    o.api = RSD_API_COMPLETIONS;
    o.max_tokens = 20;
    o.need_logprobs = 0;
    o.concurrency = 4;
    o.budget_tokens = 300;
    o.question_template = "{question}";
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, 30);
    size_t n = finish(ctx, t, failure, sizeof failure);
    rsd_teacher_stats st = stats_of(t);
    ck_assert(st.stopped == RSD_STOPPED_BUDGET && n > 10 && n < 30);
    ck_assert_uint_le(st.prompt_tokens + st.completion_tokens, 300);
    ck_assert_uint_ge(st.completion_tokens, 5 * n); /* five tokens listed, or 17 bytes of text */
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_budget_knows_what_extra_members_allow) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok"));
    rsd_teacher_options o = options_for(s.url);
    rsd_teacher *t = NULL;
    char failure[512];
    o.api = RSD_API_CHAT;
    o.max_tokens = 20;
    o.budget_tokens = 500;
    o.extra = "{\"max_tokens\":null}";
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EINVAL);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), "max_tokens"), "%s", rsd_ctx_error(ctx));
    static const struct {
        const char *extra;
        bool fits;
    } rows[] = {{"{\"max_tokens\":null,\"max_completion_tokens\":400}", true},
                {"{\"max_tokens\":null,\"max_completion_tokens\":4000}", false},
                {"{\"max_tokens\":501}", false},
                {"{\"best_of\":40}", false},
                {"{\"best_of\":4}", true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        o.extra = rows[i].extra;
        t = open_teacher(ctx, &o);
        submit_many(t, 1);
        ck_assert_msg(finish(ctx, t, failure, sizeof failure) == rows[i].fits, "%s", rows[i].extra);
        rsd_teacher_close(t);
    }
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

/* ---- waits ---- */

START_TEST(a_wait_within_the_limit_holds_the_whole_client) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("429:1.5"));
    rsd_teacher_options o = options_for(s.url);
    const rsd_reply *r;
    char failure[512];
    o.api = RSD_API_COMPLETIONS;
    o.concurrency = 1;
    o.max_wait = 2;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, 3);
    double start = clock_seconds();
    ck_assert_int_eq(rsd_teacher_poll(t, 1000, &r), RSD_AGAIN);
    ck_assert_uint_eq(requests(&s, NULL), 1); /* the others wait, too */
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), 3);
    ck_assert(clock_seconds() - start >= 1.5 && !failure[0]);
    ck_assert_uint_eq(requests(&s, NULL), 4);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_longer_wait_ends_the_run_and_another_one_goes_on) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok", "429:3601", "slow:0.3"));
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    o.api = RSD_API_COMPLETIONS;
    o.concurrency = _i ? 3 : 1; /* with others in flight, or alone */
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, 9);
    const uint64_t now = (uint64_t)time(NULL);
    const size_t kept = finish(ctx, t, failure, sizeof failure);
    ck_assert_msg(_i ? kept >= 2 && kept <= 6 : kept == 1, "%zu", kept);
    ck_assert_msg(strstr(failure, "question q") && strstr(failure, "HTTP status 429") && strstr(failure, "in 3601 seconds") &&
                      strstr(failure, " UTC)") && strstr(failure, "max_wait"),
                  "%s", failure);
    rsd_teacher_stats st = stats_of(t);
    ck_assert(st.stopped == RSD_STOPPED_WAIT && st.failed == 0 && st.in_flight == 0 && st.queued == 9 - kept);
    ck_assert(st.come_back >= now + 3601 && st.come_back <= now + 3631);
    ck_assert_uint_eq(requests(&s, NULL), kept + 1);
    rsd_teacher_close(t);
    ck_assert_uint_eq(distinct_rows(o.store), kept);
    t = open_teacher(ctx, &o);
    submit_many(t, 9);
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), 9 - kept);
    ck_assert_uint_eq(distinct_rows(o.store), 9);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_model_that_is_loaded_is_waited_for_as_long_as_any_wait) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("loading", "loading", "ok"));
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    o.retries = 0;
    o.max_wait = _i == 0 ? 60 : 0.1;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, 1);
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), _i == 0);
    ck_assert_msg(_i == 0 ? !failure[0] : strstr(failure, "Loading model") != NULL, "%s", failure);
    ck_assert_uint_eq(requests(&s, NULL), _i == 0 ? 3 : 2);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

/* ---- keys in headers ---- */

START_TEST(keys_in_the_users_headers_that_come_back_are_not_kept) {
    static const char *const actions[] = {"given", "given:escaped", "given:400"};
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT(actions[_i], actions[_i]));
    char failure[512], url[256];
    size_t n;
    const char *cassette = test_path(s.dir, "cassette.jsonl");
    snprintf(url, sizeof url, "record:%s,%s", cassette, s.url);
    rsd_teacher_options o = options_for(url);
    o.headers = "Proxy-Authorization: Basic canary/basic==\nX-Plain: open/words\nx-goog-api-key: canary/google\n"
                "Cookie: sid=canary/cookie; theme=dark\nX-Auth-Token:\tcanary/two words\nX-Max-Tokens: 12\n"
                "X-Authorization-Cookie: canary/plain\n";
    o.api = RSD_API_COMPLETIONS;
    o.store = test_path(s.dir, "teacher.jsonl");
    o.concurrency = 1;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "a", "1?", NULL);
    ck_assert_msg(finish(ctx, t, failure, sizeof failure) == (_i < 2), "%s", failure);
    rsd_teacher_close(t);
    const char *const files[] = {o.store, cassette, s.log};
    ck_assert(!strstr(failure, "canary") && (_i < 2 || strstr(failure, "****")));
    for (size_t i = 0; i < 3; i++) {
        char *bytes = test_read(files[i], &n);
        ck_assert_msg(i == 2 || !strstr(bytes, "canary"), "%s", bytes);
        ck_assert(i < 2 || strstr(bytes, "canary/two words")); /* but it was sent */
        if (i < 2 && _i < 2)                                   /* what is no key stays */
            ck_assert_msg(strstr(bytes, "****") && strstr(bytes, _i == 0 || i == 0 ? "open/words" : "words") &&
                              !strstr(bytes, "sid=c") && strstr(bytes, "12"),
                          "%s", bytes);
        free(bytes);
    }
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_header_that_holds_a_key_goes_over_plain_http_to_this_machine_only) {
    static const struct {
        const char *header;
        int code;
    } rows[] = {{"Authorization: x", RSD_EINVAL},  {"X-Goog-Api-Key: abc", RSD_EINVAL}, {"cookie: a=b", RSD_EINVAL},
                {"X-Auth-Token: abc", RSD_EINVAL}, {"X-Project: abc", RSD_OK},          {"Idempotency-Key: abc", RSD_OK},
                {"X-Author: abc", RSD_OK},         {"x-auth: abc", RSD_EINVAL}};
    rsd_ctx *ctx = open_ctx();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rsd_teacher_options o = options_for("http://10.0.0.1:8000/v1");
        rsd_teacher *t = NULL;
        o.headers = rows[i].header;
        ck_assert_msg(rsd_teacher_open(ctx, &o, &t) == rows[i].code, "%s: %s", rows[i].header, rsd_ctx_error(ctx));
        rsd_teacher_close(t);
    }
    rsd_ctx_close(ctx);
}
END_TEST

Suite *teacher_limits_suite(void) {
    Suite *s = suite_create("teacher: limits");
    TCase *t = tcase_create("limits");
    tcase_add_loop_test(t, a_budget_is_not_passed_and_the_run_ends_cleanly, 0, 2);
    tcase_add_loop_test(t, what_answers_say_they_took_replaces_what_was_reckoned, 0, 2);
    tcase_add_loop_test(t, an_endpoint_that_tells_no_usage_is_counted, 0, 3);
    tcase_add_test(t, a_budget_knows_what_extra_members_allow);
    tcase_add_test(t, a_wait_within_the_limit_holds_the_whole_client);
    tcase_add_loop_test(t, a_longer_wait_ends_the_run_and_another_one_goes_on, 0, 2);
    tcase_add_loop_test(t, a_model_that_is_loaded_is_waited_for_as_long_as_any_wait, 0, 2);
    tcase_add_loop_test(t, keys_in_the_users_headers_that_come_back_are_not_kept, 0, 3);
    tcase_add_test(t, a_header_that_holds_a_key_goes_over_plain_http_to_this_machine_only);
    suite_add_tcase(s, t);
    return s;
}
