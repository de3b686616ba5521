/* The store and the replay transport: nothing lost, nothing twice, nothing asked again. */
#include "test_teacher.h"

#include "core/file.h"
#include "core/json.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY(id, question, text)                                                                                                 \
    "{\"id\":\"" id "\",\"question\":\"" question "\",\"model\":\"m\",\"choices\":[{\"text\":\"" text                            \
    "\",\"finish_reason\":\"stop\",\"logprobs\":{\"tokens\":[\"" text "\"],\"token_logprobs\":[-0.5],\"top_logprobs\":[{\"" text \
    "\":-0.5,\"x\":-1.5}]}}]}\n"

static const char recording[] = BODY("r1", "One?", "The answer is 1") BODY("r2", "Two?", "The answer is 2")
    BODY("r3", "One?", "The answer is 7") "\n" BODY("r4", "One?", "I do not know. answer is 1");

static rsd_teacher *open_replay(rsd_ctx *ctx, const char *file, const char *store, int samples) {
    rsd_teacher_options o;
    rsd_teacher *t = NULL;
    char url[512];
    ck_assert_int_eq(rsd_teacher_options_init(&o, sizeof o), RSD_OK);
    snprintf(url, sizeof url, "replay:%s", file);
    o.url = url;
    o.store = store;
    o.samples = samples;
    ck_assert_msg(rsd_teacher_open(ctx, &o, &t) == RSD_OK, "%s", rsd_ctx_error(ctx));
    return t;
}

static size_t count_lines(const char *path) {
    size_t n, lines = 0;
    char *p = test_read(path, &n);
    for (size_t i = 0; i < n; i++)
        lines += p[i] == '\n';
    free(p);
    return lines;
}

START_TEST(a_recording_is_served_by_question_in_file_order_and_what_is_not_there_is_counted) {
    rsd_ctx *ctx = open_ctx();
    const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl"), *store = test_path(dir, "teacher.jsonl");
    test_write(file, recording, strlen(recording));
    rsd_teacher *t = open_replay(ctx, file, store, 4);
    submit(t, "a", "One?", "1");
    submit(t, "b", "Two?", NULL);
    submit(t, "c", "Three?", "3");
    ck_assert_uint_eq(stats_of(t).queued, 12);
    static const char *const texts[] = {"The answer is 1", "The answer is 7", "I do not know. answer is 1", "The answer is 2"};
    static const int correct[] = {1, 0, 0, -1};
    for (size_t i = 0; i < 4; i++) {
        const rsd_reply *r;
        ck_assert_int_eq(rsd_teacher_poll(t, 1000, &r), RSD_OK);
        ck_assert_str_eq(rsd_reply_text(r, NULL), texts[i]);
        ck_assert_str_eq(rsd_reply_id(r, NULL), i < 3 ? "a" : "b");
        ck_assert_int_eq(rsd_reply_sample(r), i < 3 ? (int)i : 0);
        ck_assert_int_eq(rsd_reply_correct(r), correct[i]);
        ck_assert_uint_eq(count_lines(store), i + 1); /* handed out only when written */
    }
    ck_assert_int_eq(run_to_end(t, NULL, NULL), RSD_END);
    rsd_teacher_stats s = stats_of(t);
    ck_assert_uint_eq(s.stored, 4);
    ck_assert_uint_eq(s.correct, 1);
    ck_assert_uint_eq(s.missing, 8);
    ck_assert_uint_eq(s.failed, 0);
    ck_assert_uint_eq(s.queued, 0);
    ck_assert_uint_eq(s.in_flight, 0);
    rsd_teacher_close(t);
    rsd_ctx_close(ctx);
}
END_TEST

/* The same four replies; the last states its answer in other words. */
START_TEST(a_lenient_parser_labels_what_a_strict_one_calls_wrong) {
    for (int parser = RSD_PARSER_STRICT; parser <= RSD_PARSER_REFERENCE; parser++) {
        rsd_ctx *ctx = open_ctx();
        const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl"), *store = test_path(dir, "teacher.jsonl");
        char url[512];
        rsd_teacher_options o;
        rsd_teacher *t = NULL;
        size_t replies, n;
        test_write(file, recording, strlen(recording));
        snprintf(url, sizeof url, "replay:%s", file);
        rsd_teacher_options_init(&o, sizeof o);
        ck_assert_int_eq(o.parser, RSD_PARSER_STRICT);
        o.url = url;
        o.store = store;
        o.samples = 3;
        o.parser = parser;
        if (parser == RSD_PARSER_REFERENCE) {
            ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EINVAL);
            ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "parser"));
        } else {
            ck_assert_msg(rsd_teacher_open(ctx, &o, &t) == RSD_OK, "%s", rsd_ctx_error(ctx));
            submit(t, "a", "One?", "1");
            ck_assert_int_eq(run_to_end(t, &replies, NULL), RSD_END);
            ck_assert_uint_eq(replies, 3);
            ck_assert_uint_eq(stats_of(t).correct, parser == RSD_PARSER_LENIENT ? 2 : 1);
            char *rows = test_read(store, &n);
            ck_assert_int_eq(strstr(strstr(rows, "I do not know"), "\"correct\":true") != NULL, parser == RSD_PARSER_LENIENT);
            free(rows);
        }
        rsd_teacher_close(t);
        rsd_ctx_close(ctx);
    }
}
END_TEST

START_TEST(the_real_generations_become_a_store_and_a_second_run_asks_nothing) {
    SKIP_WITHOUT_DATA();
    rsd_ctx *ctx = open_ctx();
    const char *dir = test_dir(), *store = test_path(dir, "teacher.jsonl");
    struct lines l;
    struct text line;
    char *file = strdup(test_data("teacher/codex_gsm8k_top5.jsonl"));
    size_t replies, failures;
    for (int run = 0; run < 2; run++) {
        rsd_teacher *t = open_replay(ctx, file, store, run == 0 ? 1 : 34);
        ck_assert_int_eq(lines_open(&l, &mem_std, file, 1 << 24, NULL), 0);
        while (lines_next(&l, &line, NULL) == 1) {
            struct json *doc = NULL;
            struct text id, question, answer;
            ck_assert_int_eq(json_parse(line.p, line.n, &doc, NULL), 0);
            json_need_text(doc, "id", &id, NULL);
            json_need_text(doc, "question", &question, NULL);
            json_need_text(doc, "gold_answer", &answer, NULL);
            rsd_question q = {id.p, id.n, question.p, question.n, answer.p, answer.n};
            if (run == 0)
                ck_assert_int_eq(rsd_teacher_submit(t, &q), RSD_OK);
            json_free(doc);
        }
        lines_close(&l);
        ck_assert_int_eq(run_to_end(t, &replies, &failures), RSD_END);
        ck_assert_uint_eq(failures, 0);
        ck_assert_uint_eq(replies, run == 0 ? 35 : 0);
        if (run == 0) {
            ck_assert_uint_eq(stats_of(t).correct, 35); /* meta.correct of every item is 1 */
            ck_assert_uint_eq(count_lines(store), 35);
        }
        rsd_teacher_close(t);
    }
    rsd_teacher *t = open_replay(ctx, file, store, 1);
    ck_assert_int_eq(lines_open(&l, &mem_std, store, 1 << 24, NULL), 0);
    while (lines_next(&l, &line, NULL) == 1) {
        rsd_reply *r = NULL;
        size_t n, m;
        ck_assert_msg(rsd_reply_parse(ctx, line.p, line.n, 0, 1, &r) == RSD_OK, "%s", rsd_ctx_error(ctx));
        rsd_question q = {.id = rsd_reply_id(r, &n), .question = rsd_reply_question(r, &m)};
        q.id_len = n;
        q.question_len = m;
        ck_assert_int_eq(rsd_teacher_submit(t, &q), RSD_OK);
        rsd_reply_close(r);
    }
    lines_close(&l);
    ck_assert_uint_eq(stats_of(t).already, 35);
    ck_assert_uint_eq(stats_of(t).correct, 35);
    ck_assert_uint_eq(stats_of(t).queued, 0);
    ck_assert_int_eq(run_to_end(t, &replies, NULL), RSD_END);
    ck_assert_uint_eq(replies, 0);
    ck_assert_uint_eq(count_lines(store), 35);
    rsd_teacher_close(t);
    free(file);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(many_samples_of_one_question_are_the_files_replies_in_order) {
    SKIP_WITHOUT_DATA();
    rsd_ctx *ctx = open_ctx();
    const char *store = test_path(test_dir(), "teacher.jsonl");
    size_t replies;
    rsd_teacher *t = open_replay(ctx, test_data("teacher/codex_gsm8k_top5.jsonl"), store, 40);
    submit(t, "gsm8k_train-0",
           "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did "
           "Natalia sell altogether in April "
           "and May?",
           "72");
    ck_assert_int_eq(run_to_end(t, &replies, NULL), RSD_END);
    ck_assert_uint_eq(replies, 34);
    ck_assert_uint_eq(stats_of(t).missing, 6);
    ck_assert_uint_eq(stats_of(t).correct, 34);
    rsd_teacher_close(t);
    rsd_ctx_close(ctx);
}
END_TEST

/* One run over the recording into a store, from whatever the store holds. */
static rsd_teacher_stats collect(const char *file, const char *store, int samples) {
    rsd_ctx *ctx = open_ctx();
    rsd_teacher *t = open_replay(ctx, file, store, samples);
    size_t failures;
    submit(t, "a", "One?", "1");
    submit(t, "b", "Two?", "2");
    ck_assert_int_eq(run_to_end(t, NULL, &failures), RSD_END);
    ck_assert_uint_eq(failures, 0);
    rsd_teacher_stats s = stats_of(t);
    rsd_teacher_close(t);
    rsd_ctx_close(ctx);
    return s;
}

START_TEST(a_store_cut_at_any_byte_is_completed_to_the_same_bytes) {
    const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl"), *store = test_path(dir, "teacher.jsonl");
    static const char small[] = BODY("r", "One?", "a") BODY("r", "One?", "b");
    size_t n, m;
    test_write(file, small, strlen(small));
    ck_assert_uint_eq(collect(file, store, 3).stored, 2);
    char *full = test_read(store, &n);
    for (size_t cut = 0; cut <= n; cut++) {
        size_t whole = 0;
        for (size_t i = 0; i < cut; i++)
            whole += full[i] == '\n';
        test_write(store, full, cut);
        rsd_teacher_stats s = collect(file, store, 3);
        ck_assert_uint_eq(s.already, whole);
        ck_assert_uint_eq(s.stored, 2 - whole);
        char *now = test_read(store, &m);
        ck_assert_msg(m == n && memcmp(now, full, n) == 0, "cut at byte %zu", cut);
        free(now);
    }
    free(full);
}
END_TEST

START_TEST(memory_that_runs_out_anywhere_loses_no_row_and_leaks_nothing) {
    const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl"), *store = test_path(dir, "teacher.jsonl");
    static const char small[] = BODY("r", "One?", "a") BODY("r", "One?", "b");
    test_write(file, small, strlen(small));
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        rsd_ctx_options co;
        rsd_ctx *ctx = NULL;
        rsd_teacher *t = NULL;
        const rsd_reply *r;
        rsd_teacher_options o;
        char url[512];
        fail_alloc_init(&f, i, true);
        rsd_ctx_options_init(&co, sizeof co);
        co.resize = f.a.resize;
        co.resize_user = f.a.user;
        rsd_teacher_options_init(&o, sizeof o);
        snprintf(url, sizeof url, "replay:%s", file);
        o.url = url;
        o.store = store;
        o.samples = 2;
        o.concurrency = 2;
        test_write(store, "", 0);
        int rc = rsd_ctx_open(&co, &ctx);
        if (rc == RSD_OK && (rc = rsd_teacher_open(ctx, &o, &t)) == RSD_OK) {
            rsd_question q = {"a", 1, "One?", 4, NULL, 0};
            if ((rc = rsd_teacher_submit(t, &q)) == RSD_OK)
                while ((rc = rsd_teacher_poll(t, 10, &r)) == RSD_OK || rc == RSD_AGAIN)
                    ;
        }
        rsd_teacher_close(t);
        rsd_ctx_close(ctx);
        ck_assert_uint_eq(f.live, 0);
        if (!f.failed) {
            ck_assert_int_eq(rc, RSD_END);
            break;
        }
        ck_assert_int_eq(rc, RSD_ENOMEM);
        rsd_teacher_stats s = collect(file, store, 2); /* with memory again: what is there stays, what is missing comes */
        ck_assert_uint_eq(s.already + s.stored, 2);
        ck_assert_uint_eq(count_lines(store), 2);
    }
}
END_TEST

START_TEST(a_store_serves_as_a_recording_by_request_hash) {
    const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl"), *store = test_path(dir, "teacher.jsonl"),
               *copy = test_path(dir, "copy.jsonl");
    size_t n, m;
    test_write(file, recording, strlen(recording));
    collect(file, store, 3);
    rsd_teacher_stats s = collect(store, copy, 3);
    ck_assert_uint_eq(s.stored, 4);
    ck_assert_uint_eq(s.missing, 2);
    char *a = test_read(store, &n), *b = test_read(copy, &m);
    ck_assert(n == m && memcmp(a, b, n) == 0);
    free(a);
    free(b);
}
END_TEST

START_TEST(a_second_writer_is_told_that_the_store_is_busy) {
    rsd_ctx *ctx = open_ctx();
    const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl"), *store = test_path(dir, "teacher.jsonl");
    char url[512];
    test_write(file, recording, strlen(recording));
    rsd_teacher *t = open_replay(ctx, file, store, 1), *second = NULL;
    rsd_teacher_options o;
    rsd_teacher_options_init(&o, sizeof o);
    snprintf(url, sizeof url, "replay:%s", file);
    o.url = url;
    o.store = store;
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &second), RSD_EBUSY);
    ck_assert_ptr_null(second);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "teacher.jsonl"));
    rsd_teacher_close(t);
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &second), RSD_OK);
    rsd_teacher_close(second);
    rsd_ctx_close(ctx);
}
END_TEST

#define ROW(id, sample, question)                                                                                                \
    "{\"id\":\"" id "\",\"sample\":" #sample ",\"question\":\"" question "\",\"text\":\"x\",\"tokens\":null}\n"

START_TEST(a_store_that_is_broken_is_refused_with_its_line_and_stays_as_it_is) {
    static const struct {
        const char *bytes, *part;
    } bad[] = {
        {ROW("a", 0, "q") ROW("a", 0, "q"), "line 2"},               /* a duplicate */
        {ROW("a", 0, "q") ROW("a", 1, "other"), "line 2"},           /* one id, two questions */
        {ROW("a", 0, "q") "{\"id\":}\n" ROW("a", 1, "q"), "line 2"}, /* no JSON in the middle */
        {"no store at all, and no line feed", "line 1"},
        {BODY("a", "q", "x"), "line 1"}, /* a recording is no store */
    };
    rsd_ctx *ctx = open_ctx();
    const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl"), *store = test_path(dir, "teacher.jsonl");
    char url[512];
    size_t n;
    rsd_teacher *t = NULL;
    rsd_teacher_options o;
    test_write(file, recording, strlen(recording));
    test_write(store, bad[_i].bytes, strlen(bad[_i].bytes));
    rsd_teacher_options_init(&o, sizeof o);
    snprintf(url, sizeof url, "replay:%s", file);
    o.url = url;
    o.store = store;
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EFORMAT);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), bad[_i].part) && strstr(rsd_ctx_error(ctx), "teacher.jsonl"), "%s",
                  rsd_ctx_error(ctx));
    char *now = test_read(store, &n);
    ck_assert_str_eq(now, bad[_i].bytes);
    free(now);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(an_id_with_another_question_is_refused) {
    rsd_ctx *ctx = open_ctx();
    const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl"), *store = test_path(dir, "teacher.jsonl");
    test_write(file, recording, strlen(recording));
    rsd_teacher *t = open_replay(ctx, file, store, 1);
    rsd_question q = {"a", 1, "Two?", 4, NULL, 0}, none = {"", 0, "Two?", 4, NULL, 0};
    submit(t, "a", "One?", NULL);
    submit(t, "a", "One?", NULL); /* again: nothing new */
    ck_assert_uint_eq(stats_of(t).queued, 1);
    ck_assert_int_eq(rsd_teacher_submit(t, &q), RSD_EINVAL);
    ck_assert_int_eq(rsd_teacher_submit(t, &none), RSD_EINVAL);
    ck_assert_int_eq(run_to_end(t, NULL, NULL), RSD_END);
    rsd_teacher_close(t);
    t = open_replay(ctx, file, store, 1);
    ck_assert_int_eq(rsd_teacher_submit(t, &q), RSD_EINVAL); /* the store remembers */
    rsd_teacher_close(t);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_recording_without_logprobs_is_a_typed_error_and_no_row) {
    static const char body[] = "{\"id\":\"a\",\"question\":\"One?\",\"choices\":[{\"text\":\"x\",\"logprobs\":null}]}\n";
    rsd_ctx *ctx = open_ctx();
    const rsd_reply *r;
    const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl"), *store = test_path(dir, "teacher.jsonl");
    test_write(file, body, strlen(body));
    rsd_teacher *t = open_replay(ctx, file, store, 1);
    submit(t, "a", "One?", NULL);
    ck_assert_int_eq(rsd_teacher_poll(t, 1000, &r), RSD_ENOLOGPROBS);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "question a"));
    ck_assert_int_eq(rsd_teacher_poll(t, 1000, &r), RSD_END);
    ck_assert_uint_eq(stats_of(t).failed, 1);
    ck_assert_uint_eq(count_lines(store), 0);
    rsd_teacher_close(t);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(options_that_cannot_work_are_named) {
    rsd_ctx *ctx = open_ctx();
    rsd_teacher_options o;
    rsd_teacher *t = NULL;
    rsd_teacher_options_init(&o, sizeof o);
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EINVAL);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "url"));
    o.url = "ftp://host/v1";
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EINVAL);
    o.url = "replay:/nowhere/replies.jsonl";
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "/nowhere/replies.jsonl"));
    o.question_template = "no place for it";
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EINVAL);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "{question}"));
    o.question_template = NULL;
    o.samples = 0;
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EINVAL);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "samples"));
    ck_assert_ptr_null(t);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *teacher_store_suite(void) {
    Suite *s = suite_create("teacher: store");
    TCase *t = tcase_create("store");
    tcase_add_test(t, a_recording_is_served_by_question_in_file_order_and_what_is_not_there_is_counted);
    tcase_add_test(t, a_lenient_parser_labels_what_a_strict_one_calls_wrong);
    tcase_add_test(t, the_real_generations_become_a_store_and_a_second_run_asks_nothing);
    tcase_add_test(t, many_samples_of_one_question_are_the_files_replies_in_order);
    tcase_add_test(t, a_store_cut_at_any_byte_is_completed_to_the_same_bytes);
    tcase_add_test(t, memory_that_runs_out_anywhere_loses_no_row_and_leaks_nothing);
    tcase_add_test(t, a_store_serves_as_a_recording_by_request_hash);
    tcase_add_test(t, a_second_writer_is_told_that_the_store_is_busy);
    tcase_add_loop_test(t, a_store_that_is_broken_is_refused_with_its_line_and_stays_as_it_is, 0, 5);
    tcase_add_test(t, an_id_with_another_question_is_refused);
    tcase_add_test(t, a_recording_without_logprobs_is_a_typed_error_and_no_row);
    tcase_add_test(t, options_that_cannot_work_are_named);
    suite_add_tcase(s, t);
    return s;
}
