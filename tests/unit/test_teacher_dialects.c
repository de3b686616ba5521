/* Recorded replies of four kinds of server against what each must give (tests/fixtures/teacher, made by
 * tests/tools/make_teacher_fixtures.py). */
#include "test_teacher.h"

#include "core/json.h"
#include "teacher/body.h"
#include "teacher/bytes.h"
#include "teacher/policy.h"
#include "util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const dialects[] = {"chat", "completions", "llamacpp", "vllm"};
enum { LEAST = 15 };

static const char *fixture(const char *dialect, const char *file) {
    static char path[1024];
    snprintf(path, sizeof path, TEST_SOURCE_ROOT "/tests/fixtures/teacher/%s/%s", dialect, file);
    return path;
}

static int code_of(struct text name) {
#define CODE(code, value, text)                                                                                                  \
    if (text_is(name, #code))                                                                                                    \
        return value;
    RSD_STATUS_LIST(CODE)
#undef CODE
    ck_abort_msg("no status is called %.*s", (int)name.n, name.p);
    return 0;
}

/* A token of the expectation against bytes. */
static bool is_token(const struct json *want, const char *p, size_t n) {
    struct str s;
    str_init(&s, &mem_std);
    ck_assert_int_eq(token_read(want, &s, NULL), 0);
    bool same = s.n == n && memcmp(str_z(&s), p, n) == 0;
    str_free(&s);
    return same;
}

static bool is_number(const struct json *want, double x) {
    return json_type(want) == JSON_NULL ? isnan(x) : json_number(want) == x;
}

static void check_reply(const char *what, const rsd_reply *r, const struct json *want) {
    const struct json *tokens = json_get(want, "tokens"), *x = json_first(json_get(want, "logprobs")),
                      *row = json_first(json_get(want, "top")), *finish = json_get(want, "finish");
    size_t n, i = 0;
    double value;
    const char *p = rsd_reply_text(r, &n);
    ck_assert_msg(is_token(json_get(want, "text"), p, n), "%s: text %s", what, p);
    p = rsd_reply_finish(r, &n);
    ck_assert_msg(text_eq(json_type(finish) == JSON_NULL ? text_of("") : json_text(finish), (struct text){p, n}), "%s: finish %s",
                  what, p);
    ck_assert_msg(rsd_reply_tokens(r) == json_count(tokens), "%s: %zu tokens", what, rsd_reply_tokens(r));
    for (const struct json *t = json_first(tokens); t; t = json_next(t), x = json_next(x), row = json_next(row), i++) {
        size_t j = 0;
        ck_assert_int_eq(rsd_reply_token(r, i, &p, &n, &value), RSD_OK);
        ck_assert_msg(is_token(t, p, n) && is_number(x, value), "%s: token %zu is %s, %g", what, i, p, value);
        ck_assert_msg(rsd_reply_tops(r, i) == json_count(row), "%s: token %zu has %zu alternatives", what, i,
                      rsd_reply_tops(r, i));
        for (const struct json *top = json_first(row); top; top = json_next(top), j++) {
            ck_assert_int_eq(rsd_reply_top(r, i, j, &p, &n, &value), RSD_OK);
            ck_assert_msg(is_token(json_first(top), p, n) && is_number(json_next(json_first(top)), value),
                          "%s: token %zu, alternative %zu: %g", what, i, j, value);
        }
    }
}

/* A body that holds choices: each gives its reply, or the body's code. */
static void check_choices(rsd_ctx *ctx, const char *what, const struct json *doc, const struct json *want) {
    const struct json *choice, *replies = json_first(json_get(want, "replies"));
    const struct json *error = json_get(want, "error");
    struct text code;
    int64_t prompt = 0;
    bool tops = true;
    ck_assert_int_eq(json_need_text(want, "code", &code, NULL), 0);
    ck_assert_int_eq(json_need_int(want, "prompt_points", 0, 1000, &prompt, NULL), 0);
    ck_assert_int_eq(json_need_bool(want, "need_tops", &tops, NULL), 0);
    ck_assert_int_eq(body_choices(doc, &choice, NULL), 0);
    for (size_t place = 0; choice; choice = json_next(choice), place++) {
        struct err e = {0};
        rsd_reply *r = NULL;
        const char *line;
        size_t n;
        int rc = body_reply(ctx, doc, choice, place, prompt, &r, &e);
        if (!rc && replies) {
            check_reply(what, r, replies);
            rc = reply_need_logprobs(r, tops, &e);
            /* What goes into the store comes out of it. */
            rsd_reply *again = NULL;
            r->sample = 0;
            ck_assert(reply_set(&r->id, text_of("i"), NULL) == 0 && rsd_reply_json(r, &line, &n) == RSD_OK);
            ck_assert_msg(rsd_reply_parse(ctx, line, n, 0, 0, &again) == RSD_OK, "%s: %s", what, rsd_ctx_error(ctx));
            check_reply(what, again, replies);
            rsd_reply_close(again);
            replies = json_next(replies);
        }
        ck_assert_msg(rc == code_of(code), "%s: %d, %s", what, rc, e.text);
        if (rc) {
            struct text part = json_text(error);
            ck_assert_msg(part.n > 0 && strstr(e.text, part.p), "%s: %s", what, e.text);
        }
        rsd_reply_close(r);
    }
    ck_assert_msg(!replies, "%s: too few choices", what);
}

/* An answer that is no reply: tried again or not. */
static void check_refusal(const char *what, const char *body, size_t n, int status, const struct json *want) {
    struct policy_facts f = {.status = status, .retry_after = -1, .should_retry = -1};
    struct json *doc = NULL;
    struct str message;
    bool retry = false;
    str_init(&message, &mem_std);
    if (json_parse(body, n, &doc, NULL) == 0)
        ck_assert_msg(body_error(doc, &message, &f.type, &f.code), "%s: no error object", what);
    ck_assert_int_eq(json_need_bool(want, "retry", &retry, NULL), 0);
    ck_assert_msg(policy_decide(&f, 1, 5, 3600, 0).retry == retry, "%s: retry", what);
    const struct json *part = json_get(want, "error");
    ck_assert_msg(json_type(part) != JSON_TEXT || strstr(str_z(&message), json_text(part).p), "%s: %s", what, str_z(&message));
    str_free(&message);
    json_free(doc);
}

static void check_truncations(const char *what, const char *body, size_t n) {
    for (size_t cut = 0; cut < n; cut++) {
        struct json *doc = NULL;
        char *p = malloc(cut + 1); /* exactly as long, so that a byte read too far is seen */
        memcpy(p, body, cut);
        ck_assert_msg(json_parse(p, cut, &doc, NULL) == ERR_FORMAT, "%s: cut at byte %zu", what, cut);
        free(p);
    }
}

/* Some byte replaced by a nasty one: a value that the store can hold, or an error, never more. */
static void check_flips(rsd_ctx *ctx, const char *what, const char *body, size_t n) {
    static const char nasty[] = "\"\\]},9\xFF\xBD";
    char *p = malloc(n + 1);
    for (size_t at = 0; at < n; at += 3)
        for (size_t k = at % 2; k < sizeof nasty - 1; k += 2) {
            struct json *doc = NULL;
            const struct json *choice = NULL;
            memcpy(p, body, n);
            p[at] = nasty[k];
            if (json_parse(p, n, &doc, NULL) == 0 && body_choices(doc, &choice, NULL) == 0)
                for (size_t place = 0; choice; choice = json_next(choice), place++) {
                    rsd_reply *r = NULL, *again = NULL;
                    const char *line;
                    size_t len;
                    int rc = body_reply(ctx, doc, choice, place, 3, &r, NULL);
                    ck_assert_msg((rc == 0) == (r != NULL), "%s: byte %zu", what, at);
                    if (r && reply_set(&r->id, text_of("i"), NULL) == 0 && rsd_reply_json(r, &line, &len) == RSD_OK)
                        ck_assert_msg(rsd_reply_parse(ctx, line, len, 0, 0, &again) == RSD_OK, "%s: byte %zu: %s", what, at,
                                      rsd_ctx_error(ctx));
                    rsd_reply_close(again);
                    rsd_reply_close(r);
                }
            json_free(doc);
        }
    free(p);
}

START_TEST(every_recorded_reply_gives_what_it_must_and_damaged_ones_do_no_harm) {
    rsd_ctx *ctx = open_ctx();
    const char *dialect = dialects[_i];
    struct lines l;
    struct text line;
    size_t seen = 0;
    char *list = strdup(fixture(dialect, "expected.jsonl"));
    ck_assert_int_eq(lines_open(&l, &mem_std, list, 1 << 20, NULL), 0);
    for (; lines_next(&l, &line, NULL) == 1; seen++) {
        struct json *want = NULL, *doc = NULL;
        struct text file;
        int64_t status = 0;
        size_t n;
        ck_assert_int_eq(json_parse(line.p, line.n, &want, NULL), 0);
        ck_assert_int_eq(json_need_text(want, "file", &file, NULL), 0);
        ck_assert_int_eq(json_need_int(want, "status", 100, 599, &status, NULL), 0);
        char *body = test_read(fixture(dialect, file.p), &n);
        if (status == 200) {
            ck_assert_msg(json_parse(body, n, &doc, NULL) == 0, "%s", file.p);
            check_choices(ctx, file.p, doc, want);
            check_truncations(file.p, body, n);
            check_flips(ctx, file.p, body, n);
        } else {
            check_refusal(file.p, body, n, (int)status, want);
        }
        json_free(doc);
        json_free(want);
        free(body);
    }
    lines_close(&l);
    free(list);
    ck_assert_uint_ge(seen, LEAST);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *teacher_dialects_suite(void) {
    Suite *s = suite_create("teacher: dialects");
    TCase *t = tcase_create("dialects");
    tcase_add_loop_test(t, every_recorded_reply_gives_what_it_must_and_damaged_ones_do_no_harm, 0,
                        (int)(sizeof dialects / sizeof *dialects));
    suite_add_tcase(s, t);
    return s;
}
