/* Cassettes, qualification of endpoints, and stores looked at from outside. */
#include "test_teacher.h"

#include "teacher_server.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run(rsd_ctx *ctx, const char *url, const char *store, int samples, int questions, rsd_teacher_stats *stats) {
    rsd_teacher_options o = options_for(url);
    size_t failures;
    o.samples = samples;
    o.store = store;
    o.per_request = 3;
    o.concurrency = 1;
    rsd_teacher *t = open_teacher(ctx, &o);
    for (int i = 0; i < questions; i++) {
        char id[16];
        snprintf(id, sizeof id, "q%d", i);
        submit(t, id, id, "3");
    }
    ck_assert_int_eq(run_to_end(t, NULL, &failures), RSD_END);
    *stats = stats_of(t);
    rsd_teacher_close(t);
}

START_TEST(a_recorded_run_is_repeated_offline_to_the_same_bytes) {
    rsd_ctx *ctx = open_ctx();
    struct server s =
        _i == 0 ? start_server(SCRIPT("ok", "429:0.01", "half", "ok", "one", "ok")) : start_server(SCRIPT("404", "ok", "503"));
    const char *cassette = test_path(s.dir, "cassette.jsonl"), *store = test_path(s.dir, "a.jsonl"),
               *again = test_path(s.dir, "b.jsonl");
    char url[512];
    rsd_teacher_stats live, offline;
    size_t n, m;
    snprintf(url, sizeof url, "record:%s,%s", cassette, s.url);
    run(ctx, url, store, 4, 3, &live);
    ck_assert_uint_eq(live.stored, 12);
    stop_server(&s);
    snprintf(url, sizeof url, "replay:%s", cassette);
    run(ctx, url, again, 4, 3, &offline);
    ck_assert_uint_eq(offline.stored, 12);
    ck_assert_uint_eq(offline.missing, 0);
    ck_assert_uint_eq(offline.correct, live.correct);
    ck_assert_uint_eq(offline.api, _i == 0 ? RSD_API_COMPLETIONS : RSD_API_CHAT);
    rsd_store_report r = {.size = sizeof r};
    ck_assert_int_eq(rsd_store_compact(ctx, again, &r), RSD_OK); /* nothing to compact: byte for byte */
    char *a = test_read(store, &n), *b = test_read(again, &m);
    /* Rows come in the order of answers: here one after another, but those asked for again come last. */
    ck_assert_uint_eq(n, m);
    for (char *line = strtok(a, "\n"); line; line = strtok(NULL, "\n"))
        ck_assert_msg(strstr(b, line) != NULL, "%s", line);
    free(a);
    free(b);
    run(ctx, url, test_path(s.dir, "c.jsonl"), 5, 4, &offline); /* what was not recorded is missing, and counted */
    ck_assert_uint_eq(offline.stored, 12);
    ck_assert_uint_eq(offline.missing, 8);
    rsd_ctx_close(ctx);
}
END_TEST

/* A run that was killed between the cassette and the store asks again: what the store has came last. */
START_TEST(of_two_answers_to_one_request_the_later_one_is_served) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("ok"));
    const char *cassette = test_path(s.dir, "cassette.jsonl"), *second = test_path(s.dir, "b.jsonl"),
               *again = test_path(s.dir, "c.jsonl");
    char url[512];
    rsd_teacher_stats stats;
    size_t n, m;
    snprintf(url, sizeof url, "record:%s,%s", cassette, s.url);
    run(ctx, url, test_path(s.dir, "a.jsonl"), 2, 2, &stats);
    run(ctx, url, second, 2, 2, &stats); /* the server counts on: other answers */
    stop_server(&s);
    snprintf(url, sizeof url, "replay:%s", cassette);
    run(ctx, url, again, 2, 2, &stats);
    char *a = test_read(second, &n), *b = test_read(again, &m);
    ck_assert_str_eq(a, b);
    free(a);
    free(b);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_file_that_is_no_cassette_is_not_written_to) {
    rsd_ctx *ctx = open_ctx();
    const char *dir = test_dir(), *file = test_path(dir, "notes.txt");
    static const char notes[] = "my notes\nwithout a last line feed";
    char url[512];
    size_t n;
    test_write(file, notes, strlen(notes));
    snprintf(url, sizeof url, "record:%s,http://127.0.0.1:9/v1", file);
    rsd_teacher_options o = options_for(url);
    rsd_teacher *t = NULL;
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EFORMAT);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "notes.txt, line 1"));
    o.url = "record:cassette.jsonl";
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_EINVAL);
    char *now = test_read(file, &n);
    ck_assert_str_eq(now, notes);
    free(now);
    rsd_ctx_close(ctx);
}
END_TEST

/* ---- qualification ---- */

#define TOKEN(t, own, tops) "{\"token\":\"" t "\",\"logprob\":" own ",\"bytes\":null,\"top_logprobs\":[" tops "]}"
#define TOP(t, x)           "{\"token\":\"" t "\",\"logprob\":" x ",\"bytes\":null}"
#define CHAT(text, items)                                                                                                        \
    "{\"id\":\"q\",\"question\":\"Q\",\"choices\":[{\"message\":{\"content\":\"" text "\"},\"logprobs\":" items "}]}"

static const struct {
    const char *what, *body;
    uint64_t fit, value;
    size_t field; /* that must have the value */
} findings[] = {
    {"fine", CHAT("a", "{\"content\":[" TOKEN("a", "-0.5", TOP("a", "-0.5") "," TOP("b", "-1")) "]}"), RSD_FIT_DISTRIBUTION, 2,
     offsetof(rsd_findings, most)},
    {"missing", CHAT("a", "null"), RSD_FIT_TEXT, 1, offsetof(rsd_findings, without)},
    {"null", CHAT("a", "{\"content\":[" TOKEN("a", "null", TOP("b", "-1") "," TOP("c", "-1")) "]}"), RSD_FIT_TEXT, 1,
     offsetof(rsd_findings, null_tokens)},
    {"stand-ins", CHAT("a", "{\"content\":[" TOKEN("a", "-9999.0", TOP("b", "-1") "," TOP("c", "-1")) "]}"), RSD_FIT_TEXT, 1,
     offsetof(rsd_findings, sentinels)},
    {"zeros", CHAT("a", "{\"content\":[" TOKEN("a", "0", TOP("a", "0") "," TOP("b", "-9999.0")) "]}"), RSD_FIT_TEXT, 1,
     offsetof(rsd_findings, zeros)},
    {"post-sampling", CHAT("a", "{\"content\":[{\"token\":\"a\",\"prob\":1,\"top_probs\":[]}]}"), RSD_FIT_TEXT, 1,
     offsetof(rsd_findings, post_sampling)},
    {"capped", CHAT("a", "{\"content\":[" TOKEN("a", "-1", TOP("a", "-1")) "]}"), RSD_FIT_OWN, 1, offsetof(rsd_findings, fewer)},
    {"sum above 1", CHAT("a", "{\"content\":[" TOKEN("a", "-0.1", TOP("a", "-0.1") "," TOP("b", "-0.2")) "]}"), RSD_FIT_OWN, 1,
     offsetof(rsd_findings, above_one)},
    {"sampled token not listed", CHAT("z", "{\"content\":[" TOKEN("z", "-3", TOP("a", "-0.5") "," TOP("b", "-2")) "]}"),
     RSD_FIT_DISTRIBUTION, 1, offsetof(rsd_findings, outside)},
    {"no alternatives", CHAT("a", "{\"content\":[" TOKEN("a", "-1", "") "]}"), RSD_FIT_OWN, 0, offsetof(rsd_findings, most)},
};

START_TEST(each_way_of_giving_less_is_found_and_judged) {
    rsd_ctx *ctx = open_ctx();
    rsd_findings f = {.size = sizeof f};
    rsd_reply *r = NULL;
    uint64_t value;
    ck_assert_msg(rsd_reply_parse(ctx, findings[_i].body, strlen(findings[_i].body), 0, 0, &r) == RSD_OK, "%s: %s",
                  findings[_i].what, rsd_ctx_error(ctx));
    ck_assert_int_eq(rsd_reply_check(r, 2, &f), RSD_OK);
    memcpy(&value, (const char *)&f + findings[_i].field, sizeof value);
    ck_assert_msg(value == findings[_i].value, "%s: %llu", findings[_i].what, (unsigned long long)value);
    ck_assert_msg(f.fit == findings[_i].fit, "%s: fit %llu", findings[_i].what, (unsigned long long)f.fit);
    ck_assert_uint_eq(f.replies, 1);
    f.size = 8;
    ck_assert_int_eq(rsd_reply_check(r, 2, &f), RSD_EINVAL);
    rsd_reply_close(r);
    rsd_ctx_close(ctx);
}
END_TEST

/* ---- stores ---- */

#define ROW(id, sample, text, correct)                                                                                           \
    "{\"id\":\"" id "\",\"sample\":" #sample ",\"question\":\"q-" id "\",\"text\":\"" text                                       \
    "\",\"tokens\":null,\"correct\":" correct "}\n"

static const char clean[] = ROW("a", 0, "The answer is 7", "true") ROW("b", 0, "The answer is 1,000", "false")
    ROW("a", 1, "so The answer is $7.00", "true") ROW("a", 2, "The answer is 8", "false") ROW("b", 1, "no idea", "false")
        ROW("b", 2, "The answer is 1000", "false") ROW("b", 3, "The answer is 4", "true") ROW("c", 0, "x", "null");
static const char dirty[] = ROW("a", 0, "first", "true") "\n" ROW(
    "a", 0, "second", "true") "{\"broken\n"
                              "{\"id\":\"a\",\"sample\":1,\"question\":\"another\",\"text\":\"x\",\"tokens\":null}\n" ROW(
                                  "a", 1, "y", "null") "{\"id\":\"a\",\"sam";
static const char compacted[] = ROW("a", 0, "first", "true") ROW("a", 1, "y", "null");
static const char rejected[] = "{\"broken\n{\"id\":\"a\",\"sample\":1,\"question\":\"another\",\"text\":\"x\",\"tokens\":null}\n";

static void assert_file(const char *path, const char *want) {
    size_t n;
    char *now = test_read(path, &n);
    ck_assert_str_eq(now, want);
    free(now);
}

START_TEST(a_store_is_checked_without_being_changed) {
    rsd_ctx *ctx = open_ctx();
    rsd_store_report r = {.size = sizeof r};
    const char *dir = test_dir(), *store = test_path(dir, "teacher.jsonl");
    test_write(store, clean, strlen(clean));
    ck_assert_int_eq(rsd_store_verify(ctx, store, &r), RSD_OK);
    ck_assert(r.rows == 8 && r.questions == 3 && r.labelled == 7 && r.correct == 3 && r.no_logprobs == 8 && r.duplicates == 0 &&
              r.bad == 0 && r.torn == 0);
    test_write(store, dirty, strlen(dirty));
    ck_assert_int_eq(rsd_store_verify(ctx, store, &r), RSD_EFORMAT);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), "teacher.jsonl, line 3: a second row for question a, sample 0"), "%s",
                  rsd_ctx_error(ctx));
    ck_assert(r.rows == 2 && r.duplicates == 1 && r.bad == 2 && r.torn == 14);
    assert_file(store, dirty);
    ck_assert_int_eq(rsd_store_verify(ctx, test_path(dir, "none.jsonl"), NULL), RSD_ENOTFOUND);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(compaction_keeps_rows_byte_for_byte_and_throws_nothing_away_that_is_no_copy) {
    rsd_ctx *ctx = open_ctx();
    rsd_store_report r = {.size = sizeof r};
    const char *dir = test_dir(), *store = test_path(dir, "teacher.jsonl");
    test_write(store, dirty, strlen(dirty));
    ck_assert_msg(rsd_store_compact(ctx, store, &r) == RSD_OK, "%s", rsd_ctx_error(ctx));
    ck_assert(r.rows == 2 && r.duplicates == 1 && r.bad == 2 && r.torn == 14);
    assert_file(store, compacted);
    assert_file(test_path(dir, "teacher.jsonl.rejected"), rejected);
    ck_assert_int_eq(rsd_store_verify(ctx, store, NULL), RSD_OK);
    ck_assert_int_eq(rsd_store_compact(ctx, store, NULL), RSD_OK);
    assert_file(store, compacted);
    static const char other[] = "# no store\nlast line without end";
    test_write(store, other, strlen(other));
    ck_assert_int_eq(rsd_store_compact(ctx, store, NULL), RSD_EFORMAT);
    assert_file(store, other);
    ck_assert_int_eq(rsd_store_compact(ctx, test_path(dir, "none.jsonl"), NULL), RSD_ENOTFOUND);
    ck_assert(!file_exists(test_path(dir, "none.jsonl")));
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_store_in_use_is_not_compacted) {
    rsd_ctx *ctx = open_ctx();
    const char *dir = test_dir(), *store = test_path(dir, "teacher.jsonl"), *file = test_path(dir, "replies.jsonl");
    char url[512];
    test_write(store, clean, strlen(clean));
    test_write(file, clean, strlen(clean));
    snprintf(url, sizeof url, "replay:%s", file);
    rsd_teacher_options o = options_for(url);
    o.store = store;
    rsd_teacher *t = open_teacher(ctx, &o);
    ck_assert_int_eq(rsd_store_compact(ctx, store, NULL), RSD_EBUSY);
    assert_file(store, clean);
    rsd_teacher_close(t);
    rsd_ctx_close(ctx);
}
END_TEST

struct seen {
    size_t n;
    rsd_question_stats q[4];
    char majority[4][32];
};

static int see(void *user, const rsd_question_stats *q) {
    struct seen *s = user;
    ck_assert_uint_lt(s->n, 4);
    s->q[s->n] = *q;
    snprintf(s->majority[s->n++], 32, "%s", q->majority);
    return 0;
}

static int stop_at_once(void *user, const rsd_question_stats *q) {
    (void)user, (void)q;
    return 17;
}

START_TEST(questions_are_counted_and_their_replies_vote) {
    rsd_ctx *ctx = open_ctx();
    rsd_store_report r = {.size = sizeof r};
    struct seen s = {.n = 0};
    const char *store = test_path(test_dir(), "teacher.jsonl");
    test_write(store, clean, strlen(clean));
    ck_assert_int_eq(rsd_store_stats(ctx, store, RSD_PARSER_STRICT, see, &s, &r), RSD_OK);
    ck_assert_uint_eq(s.n, 3);
    ck_assert(s.q[0].total == 3 && s.q[0].kept == 2 && s.q[0].votes == 2 && s.q[0].majority_correct == 1); /* 7 and $7.00 */
    ck_assert_str_eq(s.majority[0], "7");
    ck_assert(s.q[1].total == 4 && s.q[1].kept == 1 && s.q[1].votes == 2 && s.q[1].majority_correct == 0); /* 1,000 and 1000 */
    ck_assert_str_eq(s.majority[1], "1,000");
    ck_assert(s.q[2].total == 1 && s.q[2].votes == 0 && s.q[2].majority_correct == -1);
    ck_assert(r.correct == 3 && r.labelled == 7 && r.voted == 2 && r.voted_right == 1);
    ck_assert_int_eq(rsd_store_stats(ctx, store, RSD_PARSER_STRICT, stop_at_once, NULL, NULL), 17);
    ck_assert_int_eq(rsd_store_stats(ctx, store, RSD_PARSER_REFERENCE, NULL, NULL, NULL), RSD_EINVAL);
    rsd_ctx_close(ctx);
}
END_TEST

/* Answers that are stated in other words than "The answer is". */
START_TEST(a_lenient_vote_hears_what_a_strict_one_does_not) {
    static const char rows[] = ROW("a", 0, "So it makes 7", "true") ROW("a", 1, "The answer is 8", "false")
        ROW("a", 2, "#### 7.0", "true") ROW("b", 0, "5 of 6, the answer is yes", "true") ROW("b", 1, "2 + 2 = 4\\nno", "false")
            ROW("b", 2, "Answer: Yes", "true");
    rsd_ctx *ctx = open_ctx();
    const char *store = test_path(test_dir(), "teacher.jsonl");
    test_write(store, rows, strlen(rows));
    for (int parser = RSD_PARSER_STRICT; parser <= RSD_PARSER_LENIENT; parser++) {
        const bool lenient = parser == RSD_PARSER_LENIENT;
        rsd_store_report r = {.size = sizeof r};
        struct seen s = {.n = 0};
        ck_assert_int_eq(rsd_store_stats(ctx, store, parser, see, &s, &r), RSD_OK);
        ck_assert_uint_eq(s.n, 2);
        ck_assert_str_eq(s.majority[0], lenient ? "So it makes 7" : "8");
        ck_assert_str_eq(s.majority[1], lenient ? "yes" : "");
        ck_assert(s.q[0].votes == (lenient ? 2U : 1U) && s.q[0].majority_correct == (lenient ? 1 : 0));
        ck_assert(s.q[1].votes == (lenient ? 2U : 0U) && s.q[1].majority_correct == (lenient ? 1 : -1));
        ck_assert(r.voted == (lenient ? 2U : 1U) && r.voted_right == (lenient ? 2U : 0U) && r.correct == 4);
    }
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(memory_that_runs_out_anywhere_leaves_the_store_as_it_is) {
    const char *store = test_path(test_dir(), "teacher.jsonl");
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        rsd_ctx_options o;
        rsd_ctx *ctx = NULL;
        fail_alloc_init(&f, i, false);
        rsd_ctx_options_init(&o, sizeof o);
        o.resize = f.a.resize;
        o.resize_user = f.a.user;
        test_write(store, clean, strlen(clean));
        int rc = rsd_ctx_open(&o, &ctx);
        rc = rc ? rc : rsd_store_stats(ctx, store, RSD_PARSER_LENIENT, NULL, NULL, NULL);
        rc = rc ? rc : rsd_store_compact(ctx, store, NULL);
        rsd_ctx_close(ctx);
        ck_assert_uint_eq(f.live, 0);
        assert_file(store, clean);
        if (!f.failed) {
            ck_assert_int_eq(rc, RSD_OK);
            break;
        }
        ck_assert_int_eq(rc, RSD_ENOMEM);
    }
}
END_TEST

Suite *teacher_tools_suite(void) {
    Suite *s = suite_create("teacher: tools");
    TCase *t = tcase_create("tools");
    tcase_add_loop_test(t, a_recorded_run_is_repeated_offline_to_the_same_bytes, 0, 2);
    tcase_add_test(t, of_two_answers_to_one_request_the_later_one_is_served);
    tcase_add_test(t, a_file_that_is_no_cassette_is_not_written_to);
    tcase_add_loop_test(t, each_way_of_giving_less_is_found_and_judged, 0, (int)(sizeof findings / sizeof *findings));
    tcase_add_test(t, a_store_is_checked_without_being_changed);
    tcase_add_test(t, compaction_keeps_rows_byte_for_byte_and_throws_nothing_away_that_is_no_copy);
    tcase_add_test(t, a_store_in_use_is_not_compacted);
    tcase_add_test(t, questions_are_counted_and_their_replies_vote);
    tcase_add_test(t, a_lenient_vote_hears_what_a_strict_one_does_not);
    tcase_add_test(t, memory_that_runs_out_anywhere_leaves_the_store_as_it_is);
    suite_add_tcase(s, t);
    return s;
}
