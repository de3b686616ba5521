/* Replies: what of a body becomes tokens, and that no bytes can do harm. */
#include "test_teacher.h"

#include "core/file.h"
#include "core/json.h"
#include "teacher/body.h"
#include "util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "{\"id\":\"q\",\"question\":\"Q\",\"model\":\"m\",\"choices\":["
#define TAIL "]}"

static int parse(rsd_ctx *ctx, const char *json, int need, rsd_reply **r) {
    return rsd_reply_parse(ctx, json, strlen(json), 0, need, r);
}

/* One row of the table: a choice, and what it becomes: a code, the number of tokens, the text. */
struct row {
    const char *what, *choice;
    int code, need;
    size_t tokens, text_len;
    const char *text, *error; /* a part of the error's text */
};

static const struct row rows[] = {
    {"plain",
     "{\"text\":\"ab\",\"logprobs\":{\"tokens\":[\"a\",\"b\"],\"token_logprobs\":[-1,-2],\"top_logprobs\":[{\"a\":-1},{\"b\":-2}]"
     "}}",
     RSD_OK, 1, 2, 2, "ab", NULL},
    {"finish reason null", "{\"text\":\"a\",\"finish_reason\":null,\"logprobs\":null}", RSD_OK, 0, 0, 1, "a", NULL},
    {"logprobs null", "{\"text\":\"a\",\"logprobs\":null}", RSD_ENOLOGPROBS, 1, 0, 0, NULL, "no token log-probabilities"},
    {"logprobs missing", "{\"text\":\"a\"}", RSD_ENOLOGPROBS, 1, 0, 0, NULL, NULL},
    {"all logprobs null", "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[null]}}", RSD_ENOLOGPROBS, 1, 0,
     0, NULL, "null"},
    {"token_logprobs missing", "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"]}}", RSD_ENOLOGPROBS, 1, 0, 0, NULL, NULL},
    {"first entry null",
     "{\"text\":\"ab\",\"logprobs\":{\"tokens\":[\"a\",\"b\"],\"token_logprobs\":[null,-2],\"top_logprobs\":[null,{\"b\":-2}]}}",
     RSD_OK, 1, 2, 2, "ab", NULL},
    {"echo dropped by the join",
     "{\"text\":\"ab\",\"logprobs\":{\"tokens\":[\" step\",\"a\",\"b\"],\"token_logprobs\":[0,-1,-2]}}", RSD_OK, 1, 2, 2, "ab",
     NULL},
    {"an empty token is kept",
     "{\"text\":\"ab\",\"logprobs\":{\"tokens\":[\"x\",\"\",\"a\",\"b\"],\"token_logprobs\":[0,-1,-1,-2]}}", RSD_OK, 1, 3, 2,
     "ab", NULL},
    {"an empty token of the prompt is dropped",
     "{\"text\":\"ab\",\"logprobs\":{\"tokens\":[\"x\",\"\",\"a\",\"b\"],\"token_logprobs\":[0,-1,-1,-2],\"text_offset\":[6,6,7,"
     "8]}}",
     RSD_OK, 1, 2, 2, "ab", NULL},
    {"end mark dropped",
     "{\"text\":\"ab\",\"finish_reason\":\"stop\",\"logprobs\":{\"tokens\":[\"a\",\"b\",\"<|endoftext|>\"],\"token_logprobs\":[-"
     "1,-2,-3]}}",
     RSD_OK, 1, 2, 2, "ab", NULL},
    {"more tokens than text without a stop",
     "{\"text\":\"ab\",\"finish_reason\":\"length\",\"logprobs\":{\"tokens\":[\"a\",\"b\",\"c\"],\"token_logprobs\":[-1,-2,-3]}}",
     RSD_EFORMAT, 1, 0, 0, NULL, "do not join"},
    {"two halves of a character",
     "{\"text\":\"\xE2\x80\x9C\",\"logprobs\":{\"tokens\":[\"bytes:\\\\xe2\\\\x80\",\"bytes:\\\\x9c\"],\"token_logprobs\":[-1,-2]"
     "}}",
     RSD_OK, 1, 2, 3, "\xE2\x80\x9C", NULL},
    {"half a character behind a blank",
     "{\"text\":\" \xC3\xA9\",\"logprobs\":{\"tokens\":[\"bytes: \\\\xc3\",\"bytes:\\\\xa9\"],\"token_logprobs\":[-1,-2]}}",
     RSD_OK, 1, 2, 3, " \xC3\xA9", NULL},
    {"a character cut by the limit",
     "{\"text\":\"a\xEF\xBF\xBD\",\"finish_reason\":\"length\",\"logprobs\":{\"tokens\":[\"a\",\"bytes:\\\\xe2\\\\x80\"],\"token_"
     "logprobs\":[-1,-2]}}",
     RSD_OK, 1, 2, 3, "a\xE2\x80", NULL},
    {"a token that says bytes:", "{\"text\":\"bytes: 7\",\"logprobs\":{\"tokens\":[\"bytes: 7\"],\"token_logprobs\":[-1]}}",
     RSD_OK, 1, 1, 8, "bytes: 7", NULL},
    {"U+0000", "{\"text\":\"a\\u0000b\",\"logprobs\":{\"tokens\":[\"a\",\"\\u0000b\"],\"token_logprobs\":[-1,-2]}}", RSD_OK, 1, 2,
     3, "a\0b", NULL},
    {"empty completion", "{\"text\":\"\",\"logprobs\":{\"tokens\":[],\"token_logprobs\":[],\"top_logprobs\":[]}}", RSD_OK, 1, 0,
     0, "", NULL},
    {"six entries at k = 5",
     "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[-9],\"top_logprobs\":[{\"b\":-1,\"c\":-2,\"d\":-3,"
     "\"e\":-4,\"f\":-5,\"a\":-9}]}}",
     RSD_OK, 1, 1, 1, "a", NULL},
    {"rounded up to just above 1", "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[1.19e-7]}}", RSD_OK, 1,
     1, 1, "a", NULL},
    {"positive", "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[0.5]}}", RSD_EFORMAT, 1, 0, 0, NULL,
     "token 0"},
    {"positive alternative",
     "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[-1],\"top_logprobs\":[{\"a\":1}]}}", RSD_EFORMAT, 1, 0,
     0, NULL, "token 0"},
    {"beyond double", "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[-1e999]}}", RSD_EFORMAT, 1, 0, 0,
     NULL, NULL},
    {"NaN", "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[NaN]}}", RSD_EFORMAT, 1, 0, 0, NULL, NULL},
    {"a string", "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[\"-1\"]}}", RSD_EFORMAT, 1, 0, 0, NULL,
     "number"},
    {"tokens do not join", "{\"text\":\"ab\",\"logprobs\":{\"tokens\":[\"a\",\"c\"],\"token_logprobs\":[-1,-2]}}", RSD_EFORMAT, 1,
     0, 0, NULL, "byte 1"},
    {"too few logprobs", "{\"text\":\"ab\",\"logprobs\":{\"tokens\":[\"a\",\"b\"],\"token_logprobs\":[-1]}}", RSD_EFORMAT, 1, 0,
     0, NULL, "shorter"},
    {"too many alternatives",
     "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[-1],\"top_logprobs\":[{},{}]}}", RSD_EFORMAT, 1, 0, 0,
     NULL, "longer"},
    {"tokens of another type", "{\"text\":\"a\",\"logprobs\":{\"tokens\":[1],\"token_logprobs\":[-1]}}", RSD_EFORMAT, 1, 0, 0,
     NULL, "string"},
    {"logprobs of another type", "{\"text\":\"a\",\"logprobs\":7}", RSD_EFORMAT, 0, 0, 0, NULL, "logprobs"},
    {"offset of another type", "{\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[-1],\"text_offset\":[-3]}}",
     RSD_EFORMAT, 1, 0, 0, NULL, "text_offset"},
    {"no text", "{\"logprobs\":null}", RSD_EFORMAT, 0, 0, 0, NULL, "text"},
    {"no object", "7", RSD_EFORMAT, 0, 0, 0, NULL, NULL},
};

START_TEST(every_odd_choice_is_a_value_or_a_located_error) {
    rsd_ctx *ctx = open_ctx();
    const struct row *w = &rows[_i];
    char *json = malloc(strlen(w->choice) + 200);
    rsd_reply *r = NULL;
    strcat(strcat(strcpy(json, HEAD), w->choice), TAIL);
    int rc = parse(ctx, json, w->need, &r);
    ck_assert_msg(rc == w->code, "%s: %d, %s", w->what, rc, rsd_ctx_error(ctx));
    if (rc == RSD_OK) {
        size_t n;
        const char *text = rsd_reply_text(r, &n);
        ck_assert_msg(rsd_reply_tokens(r) == w->tokens, "%s: %zu tokens", w->what, rsd_reply_tokens(r));
        ck_assert_msg(n == w->text_len && memcmp(text, w->text, n) == 0, "%s: text %s", w->what, text);
    } else {
        ck_assert_ptr_null(r);
        ck_assert_msg(!w->error || strstr(rsd_ctx_error(ctx), w->error), "%s: %s", w->what, rsd_ctx_error(ctx));
    }
    rsd_reply_close(r);
    free(json);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(sentinels_are_kept_in_the_line_and_are_no_probabilities) {
    rsd_ctx *ctx = open_ctx();
    rsd_reply *r = NULL, *again = NULL;
    const char *line;
    size_t n;
    double x;
    ck_assert_int_eq(parse(ctx,
                           HEAD "{\"text\":\"ab\",\"logprobs\":{\"tokens\":[\"a\",\"b\"],\"token_logprobs\":[-9999.0,-1],\"top_"
                                "logprobs\":[{\"a\":-9999,\"c\":-"
                                "0.25},{\"b\":-3.4028235e38}]}}" TAIL,
                           1, &r),
                     RSD_OK);
    ck_assert_int_eq(rsd_reply_token(r, 0, NULL, NULL, &x), RSD_OK);
    ck_assert(isnan(x));
    ck_assert_int_eq(rsd_reply_top(r, 0, 1, NULL, NULL, &x), RSD_OK);
    ck_assert(x == -0.25);
    ck_assert_int_eq(rsd_reply_top(r, 1, 0, NULL, NULL, &x), RSD_OK);
    ck_assert(isnan(x));
    ck_assert_int_eq(rsd_reply_token(r, 2, NULL, NULL, &x), RSD_EINVAL);
    ck_assert_int_eq(rsd_reply_json(r, &line, &n), RSD_OK);
    ck_assert_ptr_nonnull(strstr(line, "-9999"));
    ck_assert_int_eq(rsd_reply_parse(ctx, line, n, 0, 1, &again), RSD_OK);
    ck_assert_int_eq(rsd_reply_token(again, 0, NULL, NULL, &x), RSD_OK);
    ck_assert(isnan(x));
    rsd_reply_close(r);
    rsd_reply_close(again);
    rsd_ctx_close(ctx);
}
END_TEST

/* Token by token and bit by bit. */
static void assert_same(const rsd_reply *a, const rsd_reply *b) {
    ck_assert_str_eq(rsd_reply_id(a, NULL), rsd_reply_id(b, NULL));
    ck_assert_str_eq(rsd_reply_question(a, NULL), rsd_reply_question(b, NULL));
    ck_assert_str_eq(rsd_reply_text(a, NULL), rsd_reply_text(b, NULL));
    ck_assert_uint_eq(rsd_reply_tokens(a), rsd_reply_tokens(b));
    for (size_t i = 0; i < rsd_reply_tokens(a); i++) {
        const char *p, *q;
        size_t n, m;
        double x, y;
        rsd_reply_token(a, i, &p, &n, &x);
        rsd_reply_token(b, i, &q, &m, &y);
        ck_assert(n == m && memcmp(p, q, n) == 0 && memcmp(&x, &y, sizeof x) == 0);
        ck_assert_uint_eq(rsd_reply_tops(a, i), rsd_reply_tops(b, i));
        for (size_t j = 0; j < rsd_reply_tops(a, i); j++) {
            rsd_reply_top(a, i, j, &p, &n, &x);
            rsd_reply_top(b, i, j, &q, &m, &y);
            ck_assert(n == m && memcmp(p, q, n) == 0 && memcmp(&x, &y, sizeof x) == 0);
        }
    }
}

START_TEST(a_store_line_reads_back_to_the_same_reply) {
    SKIP_WITHOUT_DATA();
    rsd_ctx *ctx = open_ctx();
    struct lines l;
    struct text line;
    size_t replies = 0, halves = 0;
    ck_assert_int_eq(lines_open(&l, &mem_std, test_data("teacher/codex_gsm8k_top5.jsonl"), 1 << 24, NULL), 0);
    while (lines_next(&l, &line, NULL) == 1) {
        rsd_reply *r = NULL, *again = NULL;
        const char *json;
        size_t n, joined = 0, text;
        ck_assert_msg(rsd_reply_parse(ctx, line.p, line.n, 0, 1, &r) == RSD_OK, "%s", rsd_ctx_error(ctx));
        const char *t = rsd_reply_text(r, &text);
        for (size_t i = 0; i < rsd_reply_tokens(r); i++) {
            const char *p;
            rsd_reply_token(r, i, &p, &n, NULL);
            ck_assert(joined + n <= text && memcmp(t + joined, p, n) == 0);
            joined += n;
            ck_assert_uint_ge(rsd_reply_tops(r, i), 5);
            for (size_t j = 0; j < rsd_reply_tops(r, i); j++) {
                rsd_reply_top(r, i, j, &p, &n, NULL);
                halves += n == 2 && memcmp(p, " \xC3", 2) == 0;
            }
        }
        ck_assert_uint_eq(joined, text);
        ck_assert_int_eq(rsd_reply_json(r, &json, &n), RSD_OK);
        ck_assert_int_eq(rsd_reply_parse(ctx, json, n, 0, 1, &again), RSD_OK);
        assert_same(r, again);
        rsd_reply_close(again);
        ck_assert_int_eq(rsd_reply_parse(ctx, line.p, line.n, 1, 1, &again), RSD_END);
        ck_assert_ptr_null(again);
        rsd_reply_close(r);
        replies++;
    }
    lines_close(&l);
    ck_assert_uint_eq(replies, 35);
    ck_assert_uint_eq(halves, 2);
    rsd_ctx_close(ctx);
}
END_TEST

static const char whole[] =
    HEAD "{\"text\":\" caf\xC3\xA9\\n\",\"index\":0,\"finish_reason\":\"stop\",\"logprobs\":{\"tokens\":[\" step\",\" "
         "caf\",\"bytes:\\\\xc3\",\"bytes:\\\\xa9\",\"\\n\"],"
         "\"token_logprobs\":[0,-0.5,-1,-0.25,-2],\"top_logprobs\":[{\" step\":0},{\" "
         "caf\":-0.5,\"x\":-1},{\"bytes:\\\\xc3\":-1},{\"bytes:\\\\xa9\":-0.25},{\"\\n\":-"
         "2,\"\":-9999}],\"text_offset\":[5,10,14,14,15]}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}";

START_TEST(every_truncation_is_an_error_and_the_whole_is_a_row) {
    rsd_ctx *ctx = open_ctx();
    rsd_reply *r = NULL, *row = NULL;
    const char *line;
    size_t n;
    for (size_t cut = 0; cut < sizeof whole - 1; cut++) {
        char *p = malloc(cut + 1); /* exactly as long, so that a byte read too far is seen */
        memcpy(p, whole, cut);
        ck_assert_int_eq(rsd_reply_parse(ctx, p, cut, 0, 1, &r), RSD_EFORMAT);
        ck_assert_ptr_null(r);
        ck_assert_int_gt((int)strlen(rsd_ctx_error(ctx)), 0);
        free(p);
    }
    ck_assert_msg(parse(ctx, whole, 1, &r) == RSD_OK, "%s", rsd_ctx_error(ctx));
    ck_assert_uint_eq(rsd_reply_tokens(r), 4);
    ck_assert_int_eq(rsd_reply_json(r, &line, &n), RSD_OK);
    char *kept = malloc(n + 1);
    memcpy(kept, line, n + 1);
    for (size_t cut = 0; cut < n; cut++)
        ck_assert_int_eq(rsd_reply_parse(ctx, kept, cut, 0, 1, &row), RSD_EFORMAT);
    ck_assert_int_eq(rsd_reply_parse(ctx, kept, n, 0, 1, &row), RSD_OK);
    free(kept);
    rsd_reply_close(row);
    rsd_reply_close(r);
    rsd_ctx_close(ctx);
}
END_TEST

/* Any byte of a body or of a row replaced by any of some nasty ones: a value or an error, never more. */
START_TEST(every_flipped_byte_is_survived) {
    static const char nasty[] = "\"\\{}[],:-9e\n\xFF\xC3 \x01u";
    rsd_ctx *ctx = open_ctx();
    char body[sizeof whole];
    for (size_t at = 0; at < sizeof whole - 1; at++)
        for (size_t k = 0; k < sizeof nasty; k++) {
            rsd_reply *r = NULL;
            memcpy(body, whole, sizeof whole);
            body[at] = nasty[k];
            int rc = rsd_reply_parse(ctx, body, sizeof whole - 1, 0, 1, &r);
            ck_assert(rc == RSD_OK ? r != NULL : r == NULL);
            const char *line;
            size_t n;
            if (r)
                ck_assert_int_eq(rsd_reply_json(r, &line, &n), RSD_OK);
            rsd_reply_close(r);
        }
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(memory_that_runs_out_anywhere_is_reported_and_returned) {
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        fail_alloc_init(&f, i, false);
        rsd_ctx_options o;
        rsd_ctx_options_init(&o, sizeof o);
        o.resize = f.a.resize;
        o.resize_user = f.a.user;
        rsd_ctx *ctx = NULL;
        rsd_reply *r = NULL;
        int rc = rsd_ctx_open(&o, &ctx);
        if (rc == RSD_OK) {
            rc = parse(ctx, whole, 1, &r);
            if (rc == RSD_OK)
                rc = rsd_reply_json(r, NULL, NULL);
            rsd_reply_close(r);
            rsd_ctx_close(ctx);
        }
        ck_assert_uint_eq(f.live, 0);
        if (!f.failed) {
            ck_assert_int_eq(rc, RSD_OK);
            break;
        }
        ck_assert_int_eq(rc, RSD_ENOMEM);
    }
}
END_TEST

/* "haha" continues a prompt that ends in "ha", and an end mark follows: only the offsets tell which two of the three tokens
 * are the completion. */
START_TEST(a_known_prompt_decides_which_tokens_are_echo) {
    static const char body[] = "{\"choices\":[{\"text\":\"haha\",\"finish_reason\":\"stop\",\"logprobs\":{\"tokens\":[\"ha\","
                               "\"ha\",\"ha\",\"<|endoftext|>\"],"
                               "\"token_logprobs\":[0,-1,-2,-3],\"text_offset\":[3,5,7,9]}}]}";
    rsd_ctx *ctx = open_ctx();
    struct json *doc = NULL;
    const struct json *choice;
    rsd_reply *r = NULL;
    double x;
    ck_assert_int_eq(json_parse(body, strlen(body), &doc, NULL), 0);
    ck_assert_int_eq(body_choices(doc, &choice, NULL), 0);
    ck_assert_int_eq(body_reply(ctx, doc, choice, 0, 5, &r, NULL), 0);
    ck_assert_uint_eq(rsd_reply_tokens(r), 2);
    rsd_reply_token(r, 0, NULL, NULL, &x);
    ck_assert(x == -1);
    rsd_reply_token(r, 1, NULL, NULL, &x);
    ck_assert(x == -2);
    rsd_reply_close(r);
    json_free(doc);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_row_whose_lists_differ_in_length_is_refused) {
    static const char *const bad[] = {
        "{\"id\":\"a\",\"sample\":0,\"question\":\"q\",\"text\":\"x\",\"tokens\":[\"x\"],\"logprobs\":[],\"top\":[[]]}",
        "{\"id\":\"a\",\"sample\":0,\"question\":\"q\",\"text\":\"x\",\"tokens\":[\"x\"],\"logprobs\":[-1],\"top\":[[],[]]}",
        "{\"id\":\"a\",\"sample\":0,\"question\":\"q\",\"text\":\"x\",\"tokens\":[{\"hex\":\"7\"}],\"logprobs\":[-1],\"top\":[[]]"
        "}",
        "{\"id\":\"a\",\"sample\":0,\"question\":\"q\",\"text\":\"x\",\"tokens\":[{\"hex\":\"7g\"}],\"logprobs\":[-1],\"top\":[[]"
        "]}",
        "{\"id\":\"a\",\"sample\":-1,\"question\":\"q\",\"text\":\"x\",\"tokens\":null}",
        "{\"id\":\"a\",\"sample\":0,\"question\":\"q\",\"text\":\"xy\",\"tokens\":[\"z\",\"xy\"],\"logprobs\":[-1,-1],\"top\":[[]"
        ",[]]}",
        "{\"id\":\"a\",\"sample\":0,\"question\":\"q\",\"text\":\"x\",\"tokens\":[\"x\"],\"logprobs\":[-1],\"top\":[[[\"x\"]]]}",
        "{\"id\":\"a\",\"sample\":0,\"text\":\"x\",\"tokens\":null}",
    };
    rsd_ctx *ctx = open_ctx();
    rsd_reply *r = NULL;
    ck_assert_int_eq(parse(ctx, bad[_i], 0, &r), RSD_EFORMAT);
    ck_assert_ptr_null(r);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *teacher_reply_suite(void) {
    Suite *s = suite_create("teacher: reply");
    TCase *t = tcase_create("reply");
    tcase_add_loop_test(t, every_odd_choice_is_a_value_or_a_located_error, 0, (int)(sizeof rows / sizeof *rows));
    tcase_add_test(t, sentinels_are_kept_in_the_line_and_are_no_probabilities);
    tcase_add_test(t, a_store_line_reads_back_to_the_same_reply);
    tcase_add_test(t, every_truncation_is_an_error_and_the_whole_is_a_row);
    tcase_add_test(t, every_flipped_byte_is_survived);
    tcase_add_test(t, memory_that_runs_out_anywhere_is_reported_and_returned);
    tcase_add_test(t, a_known_prompt_decides_which_tokens_are_echo);
    tcase_add_loop_test(t, a_row_whose_lists_differ_in_length_is_refused, 0, 8);
    suite_add_tcase(s, t);
    return s;
}
