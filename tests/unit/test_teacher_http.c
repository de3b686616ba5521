/* The HTTP transport against a server that misbehaves by script: every fault ends in a row or in a counted failure, and the
 * requests are counted. */
#define _GNU_SOURCE
#include "test_teacher.h"

#include "core/log.h"
#include "teacher_server.h"
#include "util.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char canary[] = "sk-canary-7f3a9";

START_TEST(one_request_brings_all_samples_of_a_question) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok"));
    rsd_teacher_options o = options_for(s.url);
    o.samples = 40;
    o.prompt = "Question: 1+1?\nThe answer is 2\n";
    o.prompt_len = strlen(o.prompt);
    o.seed = 7;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    size_t replies, failures;
    submit(t, "q", "2+2?", "3");
    ck_assert_int_eq(run_to_end(t, &replies, &failures), RSD_END);
    ck_assert_uint_eq(replies, 40);
    ck_assert_uint_eq(failures, 0);
    ck_assert_uint_eq(stats_of(t).correct, 1); /* the server counts: one of the forty says 3 */
    ck_assert_uint_eq(stats_of(t).prompt_tokens, 10);
    ck_assert_uint_eq(stats_of(t).completion_tokens, 200);
    ck_assert_uint_eq(requests(&s, NULL), 1);
    ck_assert_uint_eq(
        requests(&s,
                 "\\\"prompt\\\":\\\"Question: 1+1?\\\\nThe answer is 2\\\\n\\\\nQuestion: 2+2?\\\\nLet's think step by "
                 "step\\\\n\\\",\\\"logprobs\\\":5,\\\"temperature\\\":0.5,\\\"max_tokens\\\":256,\\\"seed\\\":7,\\\"n\\\":40"),
        1);
    ck_assert_uint_eq(requests(&s, "\"key\": \"\""), 1); /* no key was given, none was sent */
    ck_assert_uint_eq(distinct_rows(o.store), 40);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(an_endpoint_that_ignores_n_is_asked_for_the_rest) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("one", "one", "one", "one"));
    rsd_teacher_options o = options_for(s.url);
    o.samples = 4;
    o.seed = 100;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    size_t replies;
    submit(t, "q", "2+2?", NULL);
    ck_assert_int_eq(run_to_end(t, &replies, NULL), RSD_END);
    ck_assert_uint_eq(replies, 4);
    ck_assert_uint_eq(requests(&s, NULL), 4);
    ck_assert_uint_eq(requests(&s, "\\\"seed\\\":103,\\\"n\\\":1"), 1); /* samples of their own, not the first one again */
    ck_assert_uint_eq(distinct_rows(o.store), 4);
    ck_assert_uint_eq(stats_of(t).retries, 0);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

/* Faults that pass: after the fault the sample is there, for exactly one request more. */
static const char *const passing[] = {"429:0.05", "429ms:50", "429:Sun, 06 Nov 1994 08:49:37 GMT",
                                      "500",      "503",      "408",
                                      "409",      "reset",    "half",
                                      "cut",      "utf8",     "empty",
                                      "error",    "html",     "please:400"};

START_TEST(a_fault_that_passes_costs_one_request_and_no_row) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT(passing[_i]));
    rsd_teacher_options o = options_for(s.url);
    o.samples = 2;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    size_t replies, failures;
    submit(t, "q", "2+2?", NULL);
    ck_assert_int_eq(run_to_end(t, &replies, &failures), RSD_END);
    ck_assert_msg(replies == 2 && failures == 0, "%s: %s", passing[_i], rsd_ctx_error(ctx));
    ck_assert_uint_eq(requests(&s, NULL), 2);
    ck_assert_uint_eq(stats_of(t).retries, 1);
    ck_assert_uint_eq(distinct_rows(o.store), 2);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

/* Refusals that stay: one request, one typed failure that names the question, no row; the next question is served. */
static const struct {
    const char *action;
    int code;
    const char *part;
} staying[] = {
    {"400", RSD_EREFUSED, "HTTP status 400"},
    {"404", RSD_EREFUSED, "HTTP status 404"},
    {"once:500", RSD_EREFUSED, "HTTP status 500"},
    {"redirect", RSD_EREFUSED, "HTTP status 307"},
    {"html:404", RSD_EREFUSED, "HTTP status 404: <html>"}, /* an error that is no JSON is told as it is */
    {"nologprobs", RSD_ENOLOGPROBS, "log-probabilities"},
    {"large", RSD_ENETWORK, "more than"},
};

START_TEST(a_refusal_that_stays_is_told_once_and_the_others_go_on) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT(staying[_i].action));
    rsd_teacher_options o = options_for(s.url);
    const rsd_reply *r;
    o.concurrency = 1;
    o.api = RSD_API_COMPLETIONS;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "first", "2+2?", NULL);
    submit(t, "second", "3+3?", NULL);
    int rc;
    while ((rc = rsd_teacher_poll(t, 1000, &r)) == RSD_AGAIN)
        ;
    ck_assert_msg(rc == staying[_i].code, "%s: %d, %s", staying[_i].action, rc, rsd_ctx_error(ctx));
    ck_assert_msg(strstr(rsd_ctx_error(ctx), staying[_i].part) && strstr(rsd_ctx_error(ctx), "question first"), "%s",
                  rsd_ctx_error(ctx));
    while ((rc = rsd_teacher_poll(t, 1000, &r)) == RSD_AGAIN)
        ;
    ck_assert_int_eq(rc, RSD_OK);
    ck_assert_str_eq(rsd_reply_id(r, NULL), "second");
    ck_assert_int_eq(rsd_teacher_poll(t, 1000, &r), RSD_END);
    ck_assert_uint_eq(stats_of(t).failed, 1);
    ck_assert_uint_eq(requests(&s, NULL), 2);
    ck_assert_uint_eq(requests(&s, "elsewhere"), 0);
    ck_assert_uint_eq(distinct_rows(o.store), 1);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

/* A few thousand bytes on the wire, three million in memory. */
START_TEST(the_size_of_an_answer_is_limited_as_it_is_unpacked) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("bomb:3000000", "gzip", "bomb:30000"));
    rsd_teacher_options o = options_for(s.url);
    const rsd_reply *r;
    o.api = RSD_API_COMPLETIONS;
    o.concurrency = 1;
    o.max_body = 1 << 20;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "a", "2+2?", NULL);
    submit(t, "b", "3+3?", NULL);
    submit(t, "c", "4+4?", NULL);
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_ENETWORK);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), "more than 1048576 bytes") != NULL, "%s", rsd_ctx_error(ctx));
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_OK);
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_OK);
    ck_assert_uint_eq(requests(&s, NULL), 3); /* it was not asked for again */
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

/* A date is one of the server's clock, which may be wrong by years. */
START_TEST(a_wait_that_was_asked_for_is_kept) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT(_i == 0 ? "429:1" : "429date:2"));
    rsd_teacher_options o = options_for(s.url);
    const rsd_reply *r;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "q", "2+2?", NULL);
    double start = clock_seconds();
    ck_assert_int_eq(rsd_teacher_poll(t, 200, &r), RSD_AGAIN); /* meanwhile the caller is not held up */
    ck_assert(clock_seconds() - start < 0.9);
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_OK);
    ck_assert(clock_seconds() - start >= (_i == 0 ? 1 : 2));
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(many_requests_under_mixed_faults_lose_nothing_and_double_nothing) {
    rsd_ctx *ctx = open_ctx();
    struct server s =
        start_server(SCRIPT("ok", "429:0.02", "500", "reset", "ok", "cut", "half", "503", "429ms:10", "utf8", "ok", "html",
                            "error", "empty", "reset", "type", "ok", "slow:0.3", "drip:0.3", "500", "429:0.01"));
    rsd_teacher_options o = options_for(s.url);
    o.samples = 3;
    o.concurrency = 8;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    size_t replies, failures;
    for (int i = 0; i < 60; i++) {
        char id[16];
        snprintf(id, sizeof id, "q%d", i);
        submit(t, id, id, NULL);
    }
    ck_assert_int_eq(run_to_end(t, &replies, &failures), RSD_END);
    ck_assert_uint_eq(replies, 180);
    ck_assert_uint_eq(failures, 0);
    ck_assert_uint_eq(distinct_rows(o.store), 180);
    ck_assert_uint_eq(requests(&s, NULL), 60 + 14); /* one more for each fault */
    ck_assert_uint_le(stats_of(t).retries,
                      14); /* a reset of a kept connection is cured by libcurl itself, with the same count of requests */
    ck_assert_uint_ge(stats_of(t).retries, 12);
    rsd_teacher_close(t);
    t = open_teacher(ctx, &o);
    submit(t, "q0", "q0", NULL);
    ck_assert_int_eq(run_to_end(t, &replies, NULL), RSD_END);
    ck_assert_uint_eq(replies, 0);
    ck_assert_uint_eq(stats_of(t).already, 3);
    ck_assert_uint_eq(requests(&s, NULL), 74); /* the second run asked nothing */
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(requests_are_in_flight_together) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("slow:0.7", "slow:0.7", "slow:0.7", "slow:0.7"));
    rsd_teacher_options o = options_for(s.url);
    rsd_teacher *t = open_teacher(ctx, &o);
    size_t replies;
    submit(t, "a", "a", NULL);
    submit(t, "b", "b", NULL);
    submit(t, "c", "c", NULL);
    submit(t, "d", "d", NULL);
    double start = clock_seconds();
    ck_assert_int_eq(run_to_end(t, &replies, NULL), RSD_END);
    ck_assert_uint_eq(replies, 4);
    ck_assert(clock_seconds() - start < 2); /* 2.8 s one after another */
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_silent_endpoint_is_given_up_after_the_timeout) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("slow:30"));
    rsd_teacher_options o = options_for(s.url);
    const rsd_reply *r;
    o.timeout = 0.5;
    o.retries = 0;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "q", "2+2?", NULL);
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_ENETWORK);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "question q"));
    ck_assert_int_eq(rsd_teacher_poll(t, 1000, &r), RSD_END);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

/* A port that was free a moment ago. */
static int free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && getsockname(fd, (struct sockaddr *)&a, &n) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* A port whose queue is full: a connection to it does not come about and is not refused. */
START_TEST(a_connection_that_does_not_come_about_is_given_up_early) {
    rsd_ctx *ctx = open_ctx();
    const rsd_reply *r;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fds[9];
    char url[64];
    for (int i = 0; i < 9; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | (i ? SOCK_NONBLOCK : 0), 0);
        ck_assert_int_ge(fds[i], 0);
        if (i == 0)
            ck_assert(bind(fds[0], (struct sockaddr *)&a, n) == 0 && listen(fds[0], 0) == 0 &&
                      getsockname(fds[0], (struct sockaddr *)&a, &n) == 0);
        else
            (void)connect(fds[i], (struct sockaddr *)&a, sizeof a);
    }
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", ntohs(a.sin_port));
    rsd_teacher_options o = options_for(url);
    o.retries = 0;
    o.timeout = 60;
    o.connect_timeout = 0.4;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "q", "2+2?", NULL);
    double start = clock_seconds();
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_ENETWORK);
    ck_assert(clock_seconds() - start >= 0.35 && clock_seconds() - start < 15);
    rsd_teacher_close(t);
    for (int i = 0; i < 9; i++)
        close(fds[i]);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(an_unreachable_host_is_named_in_one_line) {
    rsd_ctx *ctx = open_ctx();
    const rsd_reply *r;
    char url[64], host[32];
    snprintf(host, sizeof host, "127.0.0.1:%d", free_port());
    snprintf(url, sizeof url, "http://%s/v1/", host);
    rsd_teacher_options o = options_for(url);
    o.retries = 1;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "q", "2+2?", NULL);
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_ENETWORK);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), host) && strstr(rsd_ctx_error(ctx), "2 tries") && !strchr(rsd_ctx_error(ctx), '\n'),
                  "%s", rsd_ctx_error(ctx));
    ck_assert_uint_eq(stats_of(t).failed, 1);
    ck_assert_uint_eq(stats_of(t).retries, 1);
    rsd_teacher_close(t);
    rsd_ctx_close(ctx);
}
END_TEST

struct heard {
    bool canary;
};

static void listen_to_log(void *user, int level, const char *text) {
    (void)level;
    ((struct heard *)user)->canary |= strstr(text, "canary") != NULL;
}

static void count_warnings(void *user, int level, const char *text) {
    *(size_t *)user += level == RSD_LOG_WARN && strstr(text, "other settings") != NULL;
}

/* Each run probes anew; only the temperature of the third is another setting. */
START_TEST(a_chat_endpoint_that_is_found_by_asking_is_no_other_setting) {
    size_t warnings = 0, failures;
    rsd_ctx_options co;
    rsd_ctx *ctx = NULL;
    rsd_ctx_options_init(&co, sizeof co);
    co.log = count_warnings;
    co.log_user = &warnings;
    ck_assert_int_eq(rsd_ctx_open(&co, &ctx), RSD_OK);
    struct server s = start_server(SCRIPT("404", "ok", "ok", "404", "ok", "ok", "404", "ok", "ok"));
    const char *store = test_path(s.dir, "teacher.jsonl");
    for (int run = 1; run <= 3; run++) {
        rsd_teacher_options o = options_for(s.url);
        o.store = store;
        o.samples = run;
        o.per_request = 1;
        o.concurrency = 1;
        o.temperature = run < 3 ? 0.5 : 0.7;
        rsd_teacher *t = open_teacher(ctx, &o);
        submit(t, "a", "2+2?", "4");
        submit(t, "b", "3+3?", "6");
        ck_assert_int_eq(run_to_end(t, NULL, &failures), RSD_END);
        ck_assert_uint_eq(stats_of(t).stored, 2);
        ck_assert_uint_eq(stats_of(t).api, RSD_API_CHAT);
        ck_assert_uint_eq(warnings, run == 3);
        rsd_teacher_close(t);
    }
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(the_key_is_sent_and_appears_nowhere_else) {
    struct heard heard = {false};
    rsd_ctx_options co;
    rsd_ctx *ctx = NULL;
    size_t n;
    rsd_ctx_options_init(&co, sizeof co);
    co.log = listen_to_log;
    co.log_user = &heard;
    ck_assert_int_eq(rsd_ctx_open(&co, &ctx), RSD_OK);
    struct server s = start_server(SCRIPT("echo:400", "ok"));
    rsd_teacher_options o = options_for(s.url);
    const rsd_reply *r;
    const char *file = test_path(s.dir, "key");
    if (_i == 0) {
        char two_lines[64];
        snprintf(two_lines, sizeof two_lines, "%s\nsecond line\n", canary);
        test_write(file, two_lines, strlen(two_lines));
        o.api_key_file = file;
    } else {
        setenv("RSD_TEST_KEY", canary, 1);
        o.api_key_env = "RSD_TEST_KEY";
    }
    o.concurrency = 1;
    o.api = RSD_API_COMPLETIONS;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "a", "2+2?", NULL);
    submit(t, "b", "2+2?", NULL);
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_EREFUSED);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), "Incorrect API key") && !strstr(rsd_ctx_error(ctx), "canary") &&
                      !strstr(rsd_ctx_error(ctx), "sk-"),
                  "%s", rsd_ctx_error(ctx));
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_OK);
    rsd_teacher_close(t);
    ck_assert_uint_eq(requests(&s, "Bearer sk-canary-7f3a9\""), 2);
    char *store = test_read(o.store, &n);
    ck_assert_ptr_null(strstr(store, "canary"));
    free(store);
    ck_assert(!heard.canary);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_key_goes_over_plain_http_to_this_machine_only) {
    static const struct {
        const char *url;
        int code;
    } rows[] = {
        {"http://example.com/v1", RSD_EINVAL},
        {"http://127.0.0.1.example.com/v1", RSD_EINVAL},
        {"http://10.0.0.1:8000/v1", RSD_EINVAL},
        {"http://127.0.0.1@example.com/", RSD_EINVAL},
        {"http://user:pass@127.0.0.1/v1", RSD_EINVAL},
        {"http://", RSD_EINVAL},
        {"https://example.com/v1", RSD_OK},
        {"http://localhost:1/v1", RSD_OK},
        {"http://127.1.2.3/v1", RSD_OK},
        {"http://[::1]:1/v1", RSD_OK},
    };
    rsd_ctx *ctx = open_ctx();
    setenv("RSD_TEST_KEY", canary, 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rsd_teacher_options o = options_for(rows[i].url);
        rsd_teacher *t = NULL;
        o.api_key_env = "RSD_TEST_KEY";
        ck_assert_msg(rsd_teacher_open(ctx, &o, &t) == rows[i].code, "%s: %s", rows[i].url, rsd_ctx_error(ctx));
        ck_assert_ptr_null(strstr(rsd_ctx_error(ctx), "canary"));
        rsd_teacher_close(t);
    }
    setenv("RSD_TEST_KEY", "two words", 1);
    rsd_teacher_options o = options_for("https://example.com/v1");
    rsd_teacher *t = NULL;
    o.api_key_env = "RSD_TEST_KEY";
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EINVAL);
    ck_assert(strstr(rsd_ctx_error(ctx), "RSD_TEST_KEY") && !strstr(rsd_ctx_error(ctx), "two"));
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(no_proxy_sees_the_key_for_this_machine) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok")), proxy = start_server(SCRIPT("ok"));
    rsd_teacher_options o = options_for(s.url);
    char failure[512];
    setenv("RSD_TEST_KEY", canary, 1);
    setenv("http_proxy", proxy.url, 1);
    unsetenv("no_proxy");
    unsetenv("NO_PROXY");
    o.api_key_env = "RSD_TEST_KEY";
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "q", "2+2?", NULL);
    const size_t n = finish(ctx, t, failure, sizeof failure);
    rsd_teacher_close(t);
    unsetenv("http_proxy");
    ck_assert_msg(n == 1 && requests(&s, canary) == 1 && requests(&proxy, NULL) == 0, "%s", failure);
    stop_server(&proxy);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(closing_gives_up_what_is_in_flight_and_keeps_what_is_stored) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok", "slow:20", "slow:20"));
    rsd_teacher_options o = options_for(s.url);
    const rsd_reply *r;
    o.concurrency = 2;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "a", "a", NULL);
    submit(t, "b", "b", NULL);
    submit(t, "c", "c", NULL);
    ck_assert_int_eq(rsd_teacher_poll(t, 20000, &r), RSD_OK);
    ck_assert_int_eq(rsd_teacher_poll(t, 50, &r), RSD_AGAIN);
    ck_assert_uint_eq(stats_of(t).in_flight, 2);
    double start = clock_seconds();
    rsd_teacher_close(t);
    ck_assert(clock_seconds() - start < 5);
    ck_assert_uint_eq(distinct_rows(o.store), 1);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *teacher_http_suite(void) {
    Suite *s = suite_create("teacher: http");
    TCase *t = tcase_create("http");
    tcase_add_test(t, one_request_brings_all_samples_of_a_question);
    tcase_add_test(t, an_endpoint_that_ignores_n_is_asked_for_the_rest);
    tcase_add_loop_test(t, a_fault_that_passes_costs_one_request_and_no_row, 0, (int)(sizeof passing / sizeof *passing));
    tcase_add_loop_test(t, a_refusal_that_stays_is_told_once_and_the_others_go_on, 0, (int)(sizeof staying / sizeof *staying));
    tcase_add_test(t, the_size_of_an_answer_is_limited_as_it_is_unpacked);
    tcase_add_loop_test(t, a_wait_that_was_asked_for_is_kept, 0, 2);
    tcase_add_test(t, many_requests_under_mixed_faults_lose_nothing_and_double_nothing);
    tcase_add_test(t, requests_are_in_flight_together);
    tcase_add_test(t, a_silent_endpoint_is_given_up_after_the_timeout);
    tcase_add_test(t, a_connection_that_does_not_come_about_is_given_up_early);
    tcase_add_test(t, an_unreachable_host_is_named_in_one_line);
    tcase_add_test(t, a_chat_endpoint_that_is_found_by_asking_is_no_other_setting);
    tcase_add_loop_test(t, the_key_is_sent_and_appears_nowhere_else, 0, 2);
    tcase_add_test(t, a_key_goes_over_plain_http_to_this_machine_only);
    tcase_add_test(t, no_proxy_sees_the_key_for_this_machine);
    tcase_add_test(t, closing_gives_up_what_is_in_flight_and_keeps_what_is_stored);
    suite_add_tcase(s, t);
    return s;
}
