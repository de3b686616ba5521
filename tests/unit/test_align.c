/* What the suites of the room share, and its main. */
#include "test_align.h"

#include "teacher/reply_file.h"

#include <math.h>
#include <string.h>

void bench_open(struct bench *b, int method) {
    struct reply_file f;
    struct err e = {0};
    rsd_aligner_options o;
    *b = (struct bench){0};
    ck_assert_int_eq(rsd_ctx_open(NULL, &b->ctx), RSD_OK);
    ck_assert_int_eq(rsd_tokenizer_open(b->ctx, test_data("tokenizer/spiece.model"), &b->tok), RSD_OK);
    rsd_aligner_options_init(&o, sizeof o);
    o.method = method;
    ck_assert_int_eq(rsd_aligner_open(b->ctx, b->tok, &o, &b->aligner), RSD_OK);
    ck_assert_int_eq(reply_file_open(&f, b->ctx, test_data("teacher/codex_gsm8k_top5.jsonl"), &e), 0);
    while (b->n < 64 && reply_file_next(&f, &b->replies[b->n], &e) == 1)
        b->n++;
    ck_assert_msg(!e.code, "%s", e.text);
    reply_file_close(&f);
    ck_assert_uint_eq(b->n, 35);
}

static void put_bytes(struct str *out, int field, struct text t) {
    str_addc(out, (char)(field << 3 | 2));
    str_addc(out, (char)t.n); /* below 128 */
    str_add(out, t.p, t.n);
}

static void put_piece(struct str *out, const char *piece, float score, int kind) {
    struct str m;
    str_init(&m, &mem_std);
    put_bytes(&m, 1, text_of(piece));
    str_addc(&m, 2 << 3 | 5);
    str_add(&m, (const char *)&score, sizeof score);
    str_addc(&m, 3 << 3);
    str_addc(&m, (char)kind);
    put_bytes(out, 1, (struct text){m.p, m.n});
    str_free(&m);
}

void bench_open_small(struct bench *b, bool across) {
    static const char *const pieces[] = {"\u2581",   "a",  "b",  "c", "\u2581a",        "\u2581b",       "ab",
                                         "\u2581ab", "bc", "12", "1", "\u2581a\u2581b", "b\u2581c\u2581"};
    struct str model;
    str_init(&model, &mem_std);
    put_piece(&model, "<pad>", 0, 3);
    put_piece(&model, "</s>", 0, 3);
    put_piece(&model, "<unk>", 0, 2);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces - (across ? 0 : 2); i++)
        put_piece(&model, pieces[i], -2 - 0.3F * (float)(i * 7 % 11), 1);
    const char *path = test_path(test_dir(), "spiece.model");
    test_write(path, model.p, model.n);
    str_free(&model);
    *b = (struct bench){0};
    ck_assert_int_eq(rsd_ctx_open(NULL, &b->ctx), RSD_OK);
    ck_assert_msg(!rsd_tokenizer_open(b->ctx, path, &b->tok), "%s", rsd_ctx_error(b->ctx));
    ck_assert_int_eq(rsd_aligner_open(b->ctx, b->tok, NULL, &b->aligner), RSD_OK);
    ck_assert_int_eq(b->aligner->words, !across);
    ck_assert(b->aligner->blank[' '] && !b->aligner->blank['\n']);
}

void bench_close(struct bench *b) {
    for (size_t i = 0; i < b->n; i++)
        rsd_reply_close(b->replies[i]);
    rsd_aligner_close(b->aligner);
    rsd_tokenizer_close(b->tok);
    rsd_ctx_close(b->ctx);
}

rsd_reply *reply_begin(rsd_ctx *ctx, const char *id) {
    rsd_reply *r;
    ck_assert_int_eq(reply_new(ctx, &r, NULL), 0);
    ck_assert_int_eq(reply_set(&r->id, text_of(id), NULL), 0);
    r->logprobs_given = true;
    return r;
}

void reply_token(rsd_reply *r, const char *token, double prob) {
    ck_assert_int_eq(reply_add_token(r, text_of(token), log(prob), -1, NULL), 0);
    str_addz(&r->text, token);
}

void reply_other(rsd_reply *r, const char *token, double prob) {
    ck_assert_int_eq(reply_add_top(r, text_of(token), log(prob), NULL), 0);
}

void reply_end(rsd_reply *r) {
    ck_assert_int_eq(reply_settle(r, PROMPT_NONE, NULL), 0);
}

int main(void) {
    SRunner *runner = srunner_create(align_dtw_suite());
    srunner_add_suite(runner, align_span_suite());
    srunner_add_suite(runner, align_shard_suite());
    srunner_add_suite(runner, align_pair_suite());
    srunner_add_suite(runner, align_chunk_suite());
    srunner_add_suite(runner, align_bridge_suite());
    srunner_add_suite(runner, align_report_suite());
    return test_run(runner);
}
