/* The index of what was asked, against plain arithmetic, and the memory that it takes. */
#include "test_teacher.h"

#include "teacher/asked.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* malloc that knows how many bytes are held. */
struct scale {
    struct allocator a;
    size_t bytes, blocks;
};

static void *weigh(void *user, void *p, size_t n) {
    struct scale *s = user;
    size_t *old = p ? (size_t *)p - 2 : NULL;
    if (old) {
        s->bytes -= *old;
        s->blocks--;
    }
    if (n == 0) {
        free(old);
        return NULL;
    }
    size_t *fresh = realloc(old, n + 2 * sizeof *fresh);
    ck_assert_ptr_nonnull(fresh);
    *fresh = n;
    s->bytes += n;
    s->blocks++;
    return fresh + 2;
}

static struct text name(char *buf, size_t size, size_t i) {
    snprintf(buf, size, "question-%zu", i);
    return text_of(buf);
}

static struct asked_question *enter(struct asked *x, size_t i) {
    char id[32];
    struct asked_question *q = NULL;
    ck_assert_int_eq(asked_enter(x, name(id, sizeof id, i), text_of("1+1?"), "a row", &q, NULL), 0);
    return q;
}

/* 40 of the first 64 samples and some far away, a third of them correct; which ones is a function of the numbers. */
static bool is_there(size_t question, uint64_t sample) {
    return (question * 7919 + sample * 104729) % 64 < 40;
}

START_TEST(samples_are_known_wherever_they_lie) {
    static const uint64_t starts[] = {0, 64, 1000, UINT64_C(1) << 20, (UINT64_C(1) << 40) - 63};
    enum { QUESTIONS = 500, STARTS = sizeof starts / sizeof *starts };
    struct asked x;
    asked_init(&x, &mem_std);
    for (size_t k = 0; k < STARTS; k++)
        for (size_t i = 0; i < QUESTIONS; i++) {
            struct asked_question *q = enter(&x, i);
            for (uint64_t s = starts[k]; s < starts[k] + 64; s++) {
                ck_assert(!asked_has(&x, q, (int64_t)s, NULL));
                if (is_there(i, s))
                    ck_assert_int_eq(asked_mark(&x, q, (int64_t)s, s % 3 == 0, NULL), 0);
            }
        }
    ck_assert_uint_eq(x.n_questions, QUESTIONS);
    for (size_t i = 0; i < QUESTIONS; i++) {
        char id[32];
        const struct asked_question *q = asked_find(&x, name(id, sizeof id, i));
        ck_assert_ptr_nonnull(q);
        for (size_t k = 0; k < STARTS; k++)
            for (uint64_t s = starts[k]; s < starts[k] + 64; s++) {
                bool correct = true;
                ck_assert_int_eq(asked_has(&x, q, (int64_t)s, &correct), is_there(i, s));
                ck_assert_int_eq(correct, is_there(i, s) && s % 3 == 0);
            }
        ck_assert(!asked_has(&x, q, 5000, NULL));
    }
    ck_assert_ptr_null(asked_find(&x, text_of("question-500")));
    ck_assert_ptr_null(asked_find(&x, text_of("question-")));
    asked_free(&x);
}
END_TEST

START_TEST(a_row_takes_no_memory_and_a_question_little_more_than_its_id) {
    enum { QUESTIONS = 100000 };
    struct scale s = {.a = {weigh, &s}};
    struct asked x;
    asked_init(&x, &s.a);
    for (size_t i = 0; i < QUESTIONS; i++)
        enter(&x, i);
    size_t held = s.bytes;
    ck_assert_msg(held < QUESTIONS * 140, "%zu bytes", held); /* arrays that double hold up to twice of 56 + 15 */
    ck_assert_uint_le(s.blocks, 3);
    for (size_t i = 0; i < QUESTIONS; i += 40)
        for (int64_t sample = 0; sample < 40; sample++)
            ck_assert_int_eq(asked_mark(&x, enter(&x, i), sample, true, NULL), 0);
    ck_assert_uint_eq(s.bytes, held);
    asked_free(&x);
    ck_assert_uint_eq(s.bytes, 0);
}
END_TEST

START_TEST(an_id_keeps_its_question) {
    struct asked x;
    struct asked_question *q;
    struct err e = {0};
    asked_init(&x, &mem_std);
    ck_assert_int_eq(asked_enter(&x, text_of("a"), text_of("1?"), "the row before", &q, &e), 0);
    ck_assert_int_eq(asked_enter(&x, text_of("a"), text_of("1?"), "the row before", &q, &e), 0);
    ck_assert_int_eq(asked_enter(&x, text_of("a"), text_of("2?"), "the row before", &q, &e), ERR_INVALID);
    ck_assert_msg(strstr(e.text, "question a") && strstr(e.text, "the row before"), "%s", e.text);
    asked_free(&x);
}
END_TEST

/* A host that submits as it polls, for as long as it likes. */
START_TEST(a_run_without_end_holds_what_the_ids_need) {
    enum { ALL = 3000, AHEAD = 8 };
    static const char line[] =
        "{\"id\":\"r\",\"question\":\"1?\",\"model\":\"m\",\"choices\":[{\"text\":\"The answer is 1\","
        "\"finish_reason\":\"stop\",\"logprobs\":{\"tokens\":[\"The answer is 1\"],\"token_logprobs\":[-0.5],"
        "\"top_logprobs\":[{\"x\":-1.5}]}}]}\n";
    struct scale s = {.a = {weigh, &s}};
    rsd_ctx_options c;
    rsd_ctx *ctx = NULL;
    rsd_teacher_options o;
    rsd_teacher *t = NULL;
    const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl");
    char url[512], id[32];
    size_t first = 0;
    test_write(file, line, strlen(line));
    rsd_ctx_options_init(&c, sizeof c);
    c.resize = weigh;
    c.resize_user = &s;
    ck_assert_int_eq(rsd_ctx_open(&c, &ctx), RSD_OK);
    rsd_teacher_options_init(&o, sizeof o);
    snprintf(url, sizeof url, "replay:%s", file);
    o.url = url;
    o.store = test_path(dir, "teacher.jsonl");
    ck_assert_int_eq(rsd_teacher_open(ctx, &o, &t), RSD_OK);
    for (size_t i = 0; i < ALL; i++) {
        const rsd_reply *r;
        name(id, sizeof id, i);
        submit(t, id, "1?", "1");
        if (i >= AHEAD)
            ck_assert_int_eq(rsd_teacher_poll(t, 0, &r), RSD_OK);
        if (i == ALL / 10)
            first = s.bytes;
    }
    ck_assert_msg(s.bytes < first + ALL * 140, "%zu bytes at a tenth, %zu at the end", first, s.bytes);
    ck_assert_uint_ge(stats_of(t).stored, ALL - AHEAD);
    rsd_teacher_close(t);
    rsd_ctx_close(ctx);
    ck_assert_uint_eq(s.bytes, 0);
}
END_TEST

/* Samples 1, 3, 5 .. are in the store, so that the question becomes as many ranges. */
START_TEST(a_question_that_memory_ran_out_for_can_be_submitted_again) {
    enum { SAMPLES = 40 };
    const char *dir = test_dir(), *file = test_path(dir, "replies.jsonl"), *half = test_path(dir, "half.jsonl");
    const char *store = test_path(dir, "teacher.jsonl");
    static const char row[] = "{\"id\":\"a\",\"sample\":%d,\"request_sha256\":null,\"model\":\"m\",\"question\":\"1?\","
                              "\"text\":\"1\",\"tokens\":[\"1\"],\"logprobs\":[-0.5],\"top\":[[[\"1\",-0.5]]],"
                              "\"finish\":\"stop\",\"usage\":null,\"correct\":null}\n";
    FILE *all = fopen(file, "w"), *odd = fopen(half, "w");
    ck_assert(all && odd);
    for (int i = 0; i < SAMPLES; i++) {
        fprintf(all, row, i);
        if (i % 2)
            fprintf(odd, row, i);
    }
    ck_assert(fclose(all) == 0 && fclose(odd) == 0);
    size_t n, refused = 0;
    char *rows = test_read(half, &n);
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        rsd_ctx_options c;
        rsd_ctx *ctx = NULL;
        rsd_teacher_options o;
        rsd_teacher *t = NULL;
        rsd_question q = {"a", 1, "1?", 2, NULL, 0};
        size_t replies;
        char url[512];
        test_write(store, rows, n);
        fail_alloc_init(&f, 0, false);
        rsd_ctx_options_init(&c, sizeof c);
        c.resize = f.a.resize;
        c.resize_user = f.a.user;
        ck_assert_int_eq(rsd_ctx_open(&c, &ctx), RSD_OK);
        rsd_teacher_options_init(&o, sizeof o);
        snprintf(url, sizeof url, "replay:%s", file);
        o.url = url;
        o.store = store;
        o.samples = SAMPLES;
        ck_assert_msg(rsd_teacher_open(ctx, &o, &t) == RSD_OK, "%s", rsd_ctx_error(ctx));
        f.fail_at = f.count + i;
        int rc = rsd_teacher_submit(t, &q);
        bool over = !f.failed;
        ck_assert_int_eq(rc, over ? RSD_OK : RSD_ENOMEM);
        refused += rc != RSD_OK;
        f.fail_at = 0;
        ck_assert_uint_eq(stats_of(t).queued, over ? SAMPLES / 2 : 0);
        ck_assert_int_eq(rsd_teacher_submit(t, &q), RSD_OK);
        ck_assert_uint_eq(stats_of(t).already, SAMPLES / 2);
        ck_assert_int_eq(run_to_end(t, &replies, NULL), RSD_END);
        ck_assert_uint_eq(replies, SAMPLES / 2);
        rsd_teacher_close(t);
        rsd_ctx_close(ctx);
        ck_assert_uint_eq(f.live, 0);
        if (over)
            break;
    }
    ck_assert_uint_ge(refused, 3);
    free(rows);
}
END_TEST

Suite *teacher_asked_suite(void) {
    Suite *s = suite_create("teacher: asked");
    TCase *t = tcase_create("asked");
    tcase_add_test(t, samples_are_known_wherever_they_lie);
    tcase_add_test(t, a_row_takes_no_memory_and_a_question_little_more_than_its_id);
    tcase_add_test(t, an_id_keeps_its_question);
    tcase_add_test(t, a_question_that_memory_ran_out_for_can_be_submitted_again);
    tcase_add_test(t, a_run_without_end_holds_what_the_ids_need);
    suite_add_tcase(s, t);
    return s;
}
