/* What the suites of the room share, and its main. */
#include "test_data.h"

#include "teacher/reply_file.h"

#include <string.h>

static void write_replies(struct world *w, bool some_wrong) {
    struct reply_file f;
    struct str out;
    struct err e = {0};
    rsd_reply *r;
    int n = 0;
    str_init(&out, &mem_std);
    ck_assert_int_eq(reply_file_open(&f, w->ctx, test_data("teacher/codex_gsm8k_top5.jsonl"), &e), 0);
    while (reply_file_next(&f, &r, &e) == 1) {
        const char *json;
        size_t len;
        bool second = strstr(rsd_reply_id(r, NULL), "-q1-") != NULL;
        ck_assert_int_eq(reply_set(&r->id, text_of(second ? "gsm8k_train-1" : "gsm8k_train-0"), &e), 0);
        r->sample = n;
        r->correct = some_wrong && n % 3 == 0 ? 0 : 1;
        n++;
        ck_assert_int_eq(rsd_reply_json(r, &json, &len), RSD_OK);
        str_add(&out, json, len);
        str_addc(&out, '\n');
        rsd_reply_close(r);
    }
    ck_assert_int_eq(n, 35);
    reply_file_close(&f);
    test_write(w->replies, out.p, out.n);
    str_free(&out);
}

static void write_questions(struct world *w, size_t n) {
    struct lines l;
    struct text line;
    struct str out;
    str_init(&out, &mem_std);
    ck_assert_int_eq(lines_open(&l, &mem_std, test_data("tasks/gsm8k_train.jsonl"), 1 << 20, NULL), 0);
    for (size_t i = 0; i < n && lines_next(&l, &line, NULL) == 1; i++) {
        str_add(&out, line.p, line.n);
        str_addc(&out, '\n');
    }
    lines_close(&l);
    test_write(w->questions, out.p, out.n);
    str_free(&out);
}

void world_open(struct world *w, size_t n_questions, bool some_wrong) {
    const char *dir = test_dir();
    rsd_ctx_options o;
    rsd_aligner *a;
    rsd_ctx_options_init(&o, sizeof o);
    fail_alloc_init(&w->memory, 0, false);
    o.resize = w->memory.a.resize;
    o.resize_user = w->memory.a.user;
    strcpy(w->questions, test_path(dir, "questions.jsonl"));
    strcpy(w->replies, test_path(dir, "teacher.jsonl"));
    strcpy(w->aligned, test_path(dir, "aligned.rsd"));
    strcpy(w->out, test_path(dir, "DATA"));
    ck_assert_int_eq(rsd_ctx_open(&o, &w->ctx), RSD_OK);
    ck_assert_int_eq(rsd_tokenizer_open(w->ctx, test_data("tokenizer/spiece.model"), &w->tok), RSD_OK);
    write_questions(w, n_questions);
    write_replies(w, some_wrong);
    ck_assert_int_eq(rsd_aligner_open(w->ctx, w->tok, NULL, &a), RSD_OK);
    ck_assert_msg(!rsd_aligner_file(a, w->replies, w->aligned, 0, NULL), "%s", rsd_ctx_error(w->ctx));
    rsd_aligner_close(a);
}

void world_close(struct world *w) {
    rsd_tokenizer_close(w->tok);
    rsd_ctx_close(w->ctx);
    ck_assert_uint_eq(w->memory.live, 0);
}

rsd_build_options world_options(const struct world *w) {
    rsd_build_options o;
    rsd_build_options_init(&o, sizeof o);
    o.questions = w->questions;
    o.aligned = w->aligned;
    o.out = w->out;
    return o;
}

void world_build(struct world *w, const rsd_build_options *given) {
    rsd_build_options o = given ? *given : world_options(w);
    ck_assert_msg(rsd_dataset_build(w->ctx, &o, NULL) == RSD_OK, "%s", rsd_ctx_error(w->ctx));
}

rsd_dataset *world_dataset(struct world *w, const rsd_dataset_options *o) {
    rsd_dataset *d;
    ck_assert_msg(rsd_dataset_open(w->ctx, w->out, w->tok, o, &d) == RSD_OK, "%s", rsd_ctx_error(w->ctx));
    return d;
}

int main(void) {
    SRunner *runner = srunner_create(data_questions_suite());
    srunner_add_suite(runner, data_original_suite());
    srunner_add_suite(runner, data_overlap_suite());
    srunner_add_suite(runner, data_build_suite());
    srunner_add_suite(runner, data_dataset_suite());
    srunner_add_suite(runner, data_mix_suite());
    return test_run(runner);
}
