/* What is asked and when: dialects found by asking, everything a request may hold, limits, budgets, and runs that end early. */
#include "test_teacher.h"

#include "core/log.h"
#include "teacher_server.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the first request is answered with, and what becomes of three questions. */
static const struct {
    const char *first, *second;
    uint64_t api;
    size_t replies, asked;
    const char *failure;
} probes[] = {
    {"ok", "ok", RSD_API_COMPLETIONS, 3, 3, ""},
    {"404", "ok", RSD_API_CHAT, 3, 4, ""},
    {"405", "ok", RSD_API_CHAT, 3, 4, ""},
    {"400", "ok", RSD_API_CHAT, 3, 4, ""},
    {"nologprobs", "ok", RSD_API_CHAT, 3, 4, ""},
    {"503", "404", RSD_API_CHAT, 3, 5, ""},               /* a server that is loading says nothing about dialects */
    {"404", "404", RSD_API_COMPLETIONS, 2, 4, "neither"}, /* the next question asks anew */
    {"nologprobs", "404", RSD_API_COMPLETIONS, 2, 5, "log-probabilities"}, /* completions it is, and is told so */
    {"404", "429:0.05", RSD_API_CHAT, 3, 5, ""},                           /* chat it is, though its first request has to wait */
    {"nologprobs", "429:0.05", RSD_API_CHAT, 3, 5, ""},
};

START_TEST(the_first_request_finds_out_what_an_endpoint_speaks) {
    rsd_ctx *ctx = open_ctx();
    struct server s =
        start_server(_i == 7 ? SCRIPT("nologprobs", "404", "nologprobs") : SCRIPT(probes[_i].first, probes[_i].second));
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "a", "1?", NULL);
    submit(t, "b", "2?", NULL);
    submit(t, "c", "3?", NULL);
    ck_assert_uint_eq(stats_of(t).api, RSD_API_AUTO);
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), probes[_i].replies);
    ck_assert_msg(probes[_i].failure[0] ? strstr(failure, probes[_i].failure) != NULL : !failure[0], "%s", failure);
    ck_assert_uint_eq(stats_of(t).api, probes[_i].api);
    ck_assert_uint_eq(requests(&s, NULL), probes[_i].asked);
    ck_assert_uint_eq(stats_of(t).requests, probes[_i].asked);
    ck_assert_uint_eq(distinct_rows(o.store), probes[_i].replies);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(the_end_of_an_url_says_what_is_spoken) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok"));
    char url[128], failure[512];
    snprintf(url, sizeof url, "%s/%s", s.url, _i ? "chat/completions/" : "completions");
    rsd_teacher_options o = options_for(url);
    rsd_teacher *t = open_teacher(ctx, &o);
    ck_assert_uint_eq(stats_of(t).api, _i ? RSD_API_CHAT : RSD_API_COMPLETIONS);
    submit(t, "a", "1?", NULL);
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), 1);
    ck_assert_uint_eq(requests(&s, _i ? "\"path\": \"/v1/chat/completions\"" : "\"path\": \"/v1/completions\""), 1);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_request_holds_all_that_was_set) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok"));
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    o.api = RSD_API_CHAT;
    o.system = "Be \"brief\".";
    o.system_len = strlen(o.system);
    o.prompt = "Q: 1\n";
    o.prompt_len = strlen(o.prompt);
    o.question_template = "Q: {question}\n";
    o.stop = "[\"\\n\\n\",\"Q:\"]";
    o.top_p = 0.9;
    o.samples = 3;
    o.extra = "{\"max_tokens\":null,\"max_completion_tokens\":256,\"user\":{\"a\":[1.5,true]},\"temperature\":0.25}";
    o.headers = "X-Team: reasoning\r\n\nHTTP-Referer: here";
    setenv("RSD_TEST_KEY", "secret-key", 1);
    o.api_key_env = "RSD_TEST_KEY";
    o.key_header = "api-key";
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "a", "2?", NULL);
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), 3);
    ck_assert_uint_eq(
        requests(
            &s,
            "{\\\"model\\\":\\\"fault\\\",\\\"messages\\\":[{\\\"role\\\":\\\"system\\\",\\\"content\\\":\\\"Be "
            "\\\\\\\"brief\\\\\\\".\\\"},"
            "{\\\"role\\\":\\\"user\\\",\\\"content\\\":\\\"Q: 1\\\\nQ: "
            "2?\\\\n\\\"}],\\\"logprobs\\\":true,\\\"top_logprobs\\\":5,\\\"top_p\\\":0.9,"
            "\\\"stop\\\":[\\\"\\\\n\\\\n\\\",\\\"Q:\\\"],\\\"max_completion_tokens\\\":256,\\\"user\\\":{\\\"a\\\":[1.5,true]},"
            "\\\"temperature\\\":0.25,\\\"n\\\":3}"),
        1);
    ck_assert_uint_eq(requests(&s, "\"X-Team\": \"reasoning\""), 1);
    ck_assert_uint_eq(requests(&s, "\"HTTP-Referer\": \"here\""), 1);
    ck_assert_uint_eq(requests(&s, "\"api-key\": \"secret-key\""), 1);
    ck_assert_uint_eq(requests(&s, "\"key\": \"\""), 1); /* and no Authorization */
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(settings_that_cannot_be_sent_are_named) {
    rsd_ctx *ctx = open_ctx();
    setenv("RSD_TEST_KEY", "secret-key", 1);
#define WITH(...)                                                                                                                \
    (rsd_teacher_options) {                                                                                                      \
        __VA_ARGS__                                                                                                              \
    }
    const struct {
        rsd_teacher_options o;
        const char *part;
    } rows[] = {
        {WITH(.stop = "[1]"), "stop"},
        {WITH(.stop = "[]"), "stop"},
        {WITH(.stop = "Q:"), "stop"},
        {WITH(.extra = "[]"), "extra"},
        {WITH(.extra = "{\"n\":2}"), "\"n\""},
        {WITH(.extra = "{\"stream\":true}"), "\"stream\""},
        {WITH(.extra = "{"), "extra"},
        {WITH(.headers = "no colon"), "headers, line 1"},
        {WITH(.headers = "A: b\nC D: e"), "headers, line 2"},
        {WITH(.key_header = "two words", .api_key_env = "RSD_TEST_KEY"), "key_header"},
        {WITH(.top_p = 1.5), "top_p"},
        {WITH(.budget = 3), "price"},
        {WITH(.max_body = 10), "max_body"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rsd_teacher_options o = options_for("http://127.0.0.1:9/v1");
        const rsd_teacher_options *r = &rows[i].o;
        rsd_teacher *t = NULL;
        o.stop = r->stop;
        o.extra = r->extra;
        o.headers = r->headers;
        o.key_header = r->key_header;
        o.api_key_env = r->api_key_env ? r->api_key_env : o.api_key_env;
        o.top_p = r->top_p > 0 ? r->top_p : o.top_p;
        o.budget = r->budget;
        o.max_body = r->max_body ? r->max_body : o.max_body;
        ck_assert_msg(rsd_teacher_open(ctx, &o, &t) == RSD_EINVAL && strstr(rsd_ctx_error(ctx), rows[i].part), "row %zu: %s", i,
                      rsd_ctx_error(ctx));
    }
    rsd_teacher_options o = options_for("http://10.1.2.3/v1");
    rsd_teacher *t = NULL;
    o.headers = "API-Key: secret-key";
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EINVAL); /* by any name a key stays off plain http */
    ck_assert(strstr(rsd_ctx_error(ctx), "plain http") && !strstr(rsd_ctx_error(ctx), "secret"));
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(samples_are_split_as_the_endpoint_bears_it) {
    static const struct {
        const char *actions[5];
        int32_t samples, per_request;
        size_t asked;
    } rows[] = {
        {{"ok", "ok", "ok"}, 7, 3, 3},                            /* 3 + 3 + 1 */
        {{"few:1", "few:1", "few:1", "few:1"}, 3, 64, 4},         /* refused at once, then one by one */
        {{"alone:1", "alone:1", "alone:1", "alone:1"}, 3, 64, 4}, /* as llama.cpp's server does */
        {{"one", "one", "one"}, 3, 64, 3},
    };
    rsd_ctx *ctx = open_ctx();
    const char *const *a = rows[_i].actions;
    struct server s = start_server(a);
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    o.api = RSD_API_COMPLETIONS;
    o.samples = rows[_i].samples;
    o.per_request = rows[_i].per_request;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "a", "1?", NULL);
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), (size_t)rows[_i].samples);
    ck_assert_msg(!failure[0], "%s", failure);
    ck_assert_uint_eq(requests(&s, NULL), rows[_i].asked);
    ck_assert_uint_eq(distinct_rows(o.store), (size_t)rows[_i].samples);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_refusal_of_the_key_or_a_quota_that_is_gone_stops_the_run) {
    static const char *const actions[] = {"401", "403", "quota"};
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok", actions[_i]));
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    o.concurrency = 1;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, 20);
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), 1);
    ck_assert_msg(strstr(failure, "question q1"), "%s", failure);
    ck_assert_uint_eq(requests(&s, NULL), 2);
    rsd_teacher_stats st = stats_of(t);
    ck_assert(st.stopped == RSD_STOPPED_REFUSED && st.failed == 1 && st.queued == 18 && st.in_flight == 0);
    rsd_teacher_close(t);
    t = open_teacher(ctx, &o); /* with a key that works the rest comes */
    submit_many(t, 20);
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), 19);
    ck_assert_uint_eq(distinct_rows(o.store), 20);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_run_that_is_told_to_stop_stores_what_is_in_flight_and_starts_no_more) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok", "slow:0.5", "slow:0.5", "429:60"));
    rsd_teacher_options o = options_for(s.url);
    const rsd_reply *r;
    char failure[512];
    o.api = RSD_API_COMPLETIONS;
    o.concurrency = 1;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, 9);
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_OK);
    ck_assert_int_eq(rsd_teacher_poll(t, 100, &r), RSD_AGAIN); /* the second is in flight */
    ck_assert_int_eq(rsd_teacher_stop(t), RSD_OK);
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), 1);
    ck_assert(stats_of(t).stopped == RSD_STOPPED_ASKED && stats_of(t).queued == 7 && !failure[0]);
    rsd_teacher_close(t);
    ck_assert_uint_eq(distinct_rows(o.store), 2);
    o.concurrency = 2; /* now one that sleeps: it is not waited for */
    t = open_teacher(ctx, &o);
    submit_many(t, 9);
    double start = clock_seconds();
    while (stats_of(t).retries == 0)
        ck_assert_int_ge(rsd_teacher_poll(t, 50, &r), 0);
    ck_assert_int_eq(rsd_teacher_stop(t), RSD_OK);
    ck_assert_int_eq(rsd_teacher_stop(t), RSD_OK);
    finish(ctx, t, failure, sizeof failure);
    ck_assert(clock_seconds() - start < 30);
    ck_assert_uint_eq(stats_of(t).in_flight, 0);
    ck_assert_uint_eq(stats_of(t).queued + stats_of(t).stored, 7);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

static const struct {
    const char *first;
    double rpm, tpm, least;
    int32_t concurrency;
    int asked;
} minutes[] = {
    {"ok", 240, 0, 0.95, 8, 24}, /* four a second, the first twenty at once */
    {"ok", 0, 3000, 2.5, 1, 25}, /* fifty tokens a second, the first 250 at once; an answer takes 15 */
    {"limit:1.2s", 0, 0, 1.15, 1, 3},
    {"limit-tokens:1.2s", 0, 0, 1.15, 1, 3},
};

START_TEST(limits_a_minute_and_the_endpoints_own_are_kept) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT(minutes[_i].first));
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    o.api = RSD_API_COMPLETIONS;
    o.max_tokens = 20;
    o.concurrency = minutes[_i].concurrency;
    o.requests_per_minute = minutes[_i].rpm;
    o.tokens_per_minute = minutes[_i].tpm;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, minutes[_i].asked);
    double start = clock_seconds();
    ck_assert_uint_eq(finish(ctx, t, failure, sizeof failure), (size_t)minutes[_i].asked);
    double took = clock_seconds() - start;
    ck_assert_msg(took >= minutes[_i].least && took < 10, "%g s", took);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(an_answer_that_does_not_begin_is_given_up_and_one_that_takes_long_is_not) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("drip:2", "slow:30"));
    rsd_teacher_options o = options_for(s.url);
    const rsd_reply *r;
    o.first_byte_timeout = 0.7;
    o.retries = 0;
    o.concurrency = 1;
    o.api = RSD_API_COMPLETIONS;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, 2);
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_OK);
    double start = clock_seconds();
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_ENETWORK);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), "no answer began within 0.7 seconds"), "%s", rsd_ctx_error(ctx));
    ck_assert(clock_seconds() - start < 5);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_key_that_comes_back_in_an_answer_is_not_kept) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT(_i ? "leak:escaped" : "leak"));
    char failure[512], url[256];
    size_t n;
    const char *cassette = test_path(s.dir, "cassette.jsonl");
    snprintf(url, sizeof url, "record:%s,%s", cassette, s.url);
    rsd_teacher_options o = options_for(url);
    setenv("RSD_TEST_KEY", "/sk-canary/7f3a9==", 1);
    o.api_key_env = "RSD_TEST_KEY";
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "a", "1?", NULL);
    ck_assert_msg(finish(ctx, t, failure, sizeof failure) == 1, "%s", failure);
    rsd_teacher_close(t);
    const char *const files[] = {o.store, cassette};
    for (size_t i = 0; i < 2; i++) {
        char *bytes = test_read(files[i], &n);
        ck_assert(n > 0 && !strstr(bytes, "canary") && strstr(bytes, "***************"));
        free(bytes);
    }
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *teacher_flow_suite(void) {
    Suite *s = suite_create("teacher: flow");
    TCase *t = tcase_create("flow");
    tcase_add_loop_test(t, the_first_request_finds_out_what_an_endpoint_speaks, 0, (int)(sizeof probes / sizeof *probes));
    tcase_add_loop_test(t, the_end_of_an_url_says_what_is_spoken, 0, 2);
    tcase_add_test(t, a_request_holds_all_that_was_set);
    tcase_add_test(t, settings_that_cannot_be_sent_are_named);
    tcase_add_loop_test(t, samples_are_split_as_the_endpoint_bears_it, 0, 4);
    tcase_add_loop_test(t, a_refusal_of_the_key_or_a_quota_that_is_gone_stops_the_run, 0, 3);
    tcase_add_test(t, a_run_that_is_told_to_stop_stores_what_is_in_flight_and_starts_no_more);
    tcase_add_loop_test(t, limits_a_minute_and_the_endpoints_own_are_kept, 0, (int)(sizeof minutes / sizeof *minutes));
    tcase_add_test(t, an_answer_that_does_not_begin_is_given_up_and_one_that_takes_long_is_not);
    tcase_add_loop_test(t, a_key_that_comes_back_in_an_answer_is_not_kept, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
