/* What is tested with is not trained on; and benchmark files go through build and convert. */
#include "core/json.h"
#include "data/overlap.h"
#include "test_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void normal_is(const char *question, const char *want) {
    struct str s;
    str_init(&s, NULL);
    ck_assert_int_eq(question_normal(&s, text_of(question), NULL), 0);
    ck_assert_msg(!strcmp(str_z(&s), want), "\"%s\" became \"%s\"", question, str_z(&s));
    str_free(&s);
}

START_TEST(copies_look_alike_and_formulas_do_not) {
    normal_is("  How  many\tApples? ", "how many apples");
    normal_is("each pack. How much", "each pack how much");
    normal_is("Tom\xE2\x80\x99s \xE2\x80\x9Cred\xE2\x80\x9D car,\xC2\xA0he said.\"", "toms red car he said");
    normal_is("3.5 + 1,200 at 5:45", "3.5 + 1,200 at 5:45");
    normal_is("((-1 + 2) * 3) =", "((-1 + 2) * 3) =");
    normal_is("( [ { <", "( [ { <");
    normal_is("wait...", "wait");
    normal_is("a.b. c!?\" d", "a.b c d");
    normal_is("\xFF\xE2\x80", "\xFF\xE2\x80"); /* bytes of no character stay */
    normal_is("", "");
}
END_TEST

struct place {
    rsd_ctx *ctx;
    const char *dir;
    char questions[400], held[400], out[400];
};

static struct place open_place(const char *held) {
    struct place p = {.dir = test_dir()};
    struct str s;
    ck_assert_int_eq(rsd_ctx_open(NULL, &p.ctx), RSD_OK);
    strcpy(p.questions, test_path(p.dir, "questions.jsonl"));
    strcpy(p.held, test_path(p.dir, "test.jsonl"));
    strcpy(p.out, test_path(p.dir, "DATA"));
    str_init(&s, NULL);
    for (int i = 0; i < 6; i++)
        str_addf(&s, "{\"id\":\"q%d\",\"question\":\"What is %d plus one?\",\"answer\":\"%d\"}\n", i, i, i + 1);
    test_write(p.questions, s.p, s.n);
    str_free(&s);
    test_write(p.held, held, strlen(held));
    return p;
}

static rsd_build_options answers_only(const struct place *p, const char *const *held, size_t n) {
    rsd_build_options o;
    ck_assert_int_eq(rsd_build_options_init(&o, sizeof o), RSD_OK);
    o.questions = p->questions;
    o.out = p->out;
    o.formats = 1u << RSD_FORMAT_ZS_AO;
    o.hold_out = held;
    o.n_hold_out = n;
    return o;
}

static const char *const TWO = "{\"id\":\"t0\",\"question\":\"another\",\"answer\":\"1\"}\n"
                               "{\"id\":\"t1\",\"input\":\"what is  3 plus one\",\"target\":\"4\"}\n"
                               "{\"id\":\"t2\",\"question\":\"What is 5 plus one? \",\"answer\":\"6\"}\n";

START_TEST(question_that_is_tested_is_not_built_with) {
    struct place p = open_place(TWO);
    const char *held[] = {p.held};
    rsd_build_options o = answers_only(&p, held, 1);
    ck_assert_int_eq(rsd_dataset_build(p.ctx, &o, NULL), RSD_EMISMATCH);
    const char *text = rsd_ctx_error(p.ctx);
    ck_assert_msg(strstr(text, "questions.jsonl: question 4 (\"q3\")") &&
                      strstr(text, "test.jsonl: question 2 (\"t1\"), and 1 more"),
                  "%s", text);
    ck_assert(!file_exists(p.out));
    rsd_ctx_close(p.ctx);
}
END_TEST

START_TEST(held_out_questions_are_left_out_where_that_is_asked_for) {
    struct place p = open_place(TWO);
    const char *held[] = {p.held, p.held};
    rsd_build_options o = answers_only(&p, held, 2);
    rsd_build_report r = {.size = sizeof r};
    o.drop_held_out = 1;
    ck_assert_msg(rsd_dataset_build(p.ctx, &o, &r) == RSD_OK, "%s", rsd_ctx_error(p.ctx));
    ck_assert_uint_eq(r.questions, 4);
    ck_assert_uint_eq(r.held_out, 2);
    struct corpus c;
    struct err e = {0};
    ck_assert_msg(!corpus_open(&c, &mem_std, p.out, &e), "%s", e.text);
    ck_assert_uint_eq(c.questions.n, 4);
    ck_assert_uint_eq(c.recipe.report.held_out, 2);
    ck_assert(!questions_find(&c.questions, text_of("q3"), NULL) && !questions_find(&c.questions, text_of("q5"), NULL));
    corpus_close(&c);
    rsd_ctx_close(p.ctx);
}
END_TEST

START_TEST(nothing_is_left_if_all_is_held_out) {
    struct place p = open_place(TWO);
    const char *held[] = {p.questions};
    rsd_build_options o = answers_only(&p, held, 1);
    o.drop_held_out = 1;
    ck_assert_int_eq(rsd_dataset_build(p.ctx, &o, NULL), RSD_EMISMATCH);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(p.ctx), "all questions are held out"));
    held[0] = "nowhere.jsonl";
    ck_assert_int_eq(rsd_dataset_build(p.ctx, &o, NULL), RSD_ENOTFOUND);
    held[0] = NULL;
    ck_assert_int_eq(rsd_dataset_build(p.ctx, &o, NULL), RSD_EINVAL);
    o.n_hold_out = 0;
    o.task = "gsm9k";
    ck_assert_int_eq(rsd_dataset_build(p.ctx, &o, NULL), RSD_EINVAL);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(p.ctx), "gsm8k, multiarith"));
    rsd_ctx_close(p.ctx);
}
END_TEST

START_TEST(build_survives_every_failed_allocation) {
    struct place p = open_place(TWO);
    const char *held[] = {p.held};
    for (int drop = 0; drop < 2; drop++) {
        for (size_t i = 1;; i++) {
            struct fail_alloc f;
            rsd_ctx_options c;
            rsd_build_options o = answers_only(&p, held, 1);
            rsd_ctx *ctx = NULL;
            fail_alloc_init(&f, i, false);
            rsd_ctx_options_init(&c, sizeof c);
            c.resize = f.a.resize;
            c.resize_user = f.a.user;
            o.drop_held_out = drop;
            int code = rsd_ctx_open(&c, &ctx);
            if (!code)
                code = rsd_dataset_build(ctx, &o, NULL);
            rsd_ctx_close(ctx);
            ck_assert_uint_eq(f.live, 0);
            if (!f.failed) {
                ck_assert_int_eq(code, drop ? RSD_OK : RSD_EMISMATCH);
                break;
            }
            ck_assert_int_eq(code, RSD_ENOMEM);
            ck_assert(!file_exists(p.out));
        }
    }
    rsd_ctx_close(p.ctx);
}
END_TEST

START_TEST(data_set_says_what_stands_in_a_test_file) {
    SKIP_WITHOUT_DATA();
    struct world w;
    char other[512];
    world_open(&w, 8, false);
    world_build(&w, NULL);
    rsd_dataset *d = world_dataset(&w, NULL);
    ck_assert_msg(!rsd_dataset_disjoint(d, test_data("original/gsm8k/test.jsonl")), "%s", rsd_ctx_error(w.ctx));
    ck_assert_msg(!rsd_dataset_disjoint(d, test_data("original/bbh")), "%s", rsd_ctx_error(w.ctx));
    ck_assert_int_eq(rsd_dataset_disjoint(d, test_data("original/gsm8k/train.jsonl")), RSD_EMISMATCH);
    const char *text = rsd_ctx_error(w.ctx);
    ck_assert_msg(strstr(text, "DATA: question 1 (\"gsm8k_train-0\")") && strstr(text, "train.jsonl: question 1") &&
                      strstr(text, ", and 7 more"),
                  "%s", text);
    ck_assert_int_eq(rsd_dataset_disjoint(d, "nowhere"), RSD_ENOTFOUND);
    ck_assert_int_eq(rsd_dataset_disjoint(d, NULL), RSD_EINVAL);
    strcpy(other, test_path(test_dir(), "bad"));
    test_write(other, "x", 1);
    ck_assert_int_eq(rsd_dataset_disjoint(d, other), RSD_EFORMAT);
    rsd_dataset_close(d);
    world_close(&w);
}
END_TEST

/* The same data set from GSM8K's own file as from plain lines. */
START_TEST(original_questions_build_the_same_data_set) {
    SKIP_WITHOUT_DATA();
    struct world w;
    char plain[600], own[600], original[600], hash[2][65];
    world_open(&w, 2, false);
    const char *dir = test_dir();
    strcpy(original, test_path(dir, "train.jsonl"));
    size_t n, end = 0;
    char *all = test_read(test_data("original/gsm8k/train.jsonl"), &n);
    for (int lines = 0; lines < 2; end++)
        lines += all[end] == '\n';
    test_write(original, all, end);
    free(all);
    rsd_build_options o = world_options(&w);
    o.formats = 1u << RSD_FORMAT_ZS_COT | 1u << RSD_FORMAT_ZS_AO;
    o.out = strcpy(plain, test_path(dir, "plain"));
    ck_assert_msg(!rsd_dataset_build(w.ctx, &o, NULL), "%s", rsd_ctx_error(w.ctx));
    o.out = strcpy(own, test_path(dir, "own"));
    o.questions = original;
    o.task = "gsm8k";
    ck_assert_msg(!rsd_dataset_build(w.ctx, &o, NULL), "%s", rsd_ctx_error(w.ctx));
    const char *const folders[] = {plain, own};
    char *bytes[2];
    size_t sizes[2];
    for (int i = 0; i < 2; i++) {
        struct recipe r;
        bytes[i] = test_read(test_path(folders[i], "questions.rsd"), &sizes[i]);
        ck_assert_int_eq(recipe_read(&r, &mem_std, test_path(folders[i], "dataset.json"), NULL), 0);
        strcpy(hash[i], r.questions_sha256);
    }
    ck_assert_uint_eq(sizes[0], sizes[1]);
    ck_assert_mem_eq(bytes[0], bytes[1], sizes[0]);
    ck_assert_str_ne(hash[0], hash[1]); /* the sum is the file's */
    free(bytes[0]);
    free(bytes[1]);
    world_close(&w);
}
END_TEST

START_TEST(converted_files_are_read_as_plain_lines) {
    SKIP_WITHOUT_DATA();
    rsd_ctx *ctx;
    uint64_t n = 0;
    struct err e = {0};
    char out[600], in[600];
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    strcpy(out, test_path(test_dir(), "lines.jsonl"));
    static const struct {
        const char *task, *file;
        int kind;
        uint64_t n;
    } files[] = {{"asdiv", "original/ASDiv.xml", TASK_ASDIV, 2305},
                 {"svamp", "original/SVAMP.json", TASK_SVAMP, 1000},
                 {"gsm8k", "original/gsm8k/test.jsonl", TASK_GSM8K, 1319},
                 {"bbh", "original/bbh", TASK_BBH, 1437}};
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        struct questions a, b;
        strcpy(in, test_data(files[k].file));
        ck_assert_msg(!rsd_dataset_convert(ctx, files[k].task, in, out, &n), "%s", rsd_ctx_error(ctx));
        ck_assert_uint_eq(n, files[k].n);
        ck_assert(!questions_read(&a, &mem_std, &(struct questions_from){.path = in, .task = files[k].kind}, &e));
        ck_assert(!questions_read(&b, &mem_std, &(struct questions_from){.path = out, .task = TASK_JSONL}, &e));
        ck_assert_uint_eq(a.n, b.n);
        for (size_t i = 0; i < a.n; i++) {
            struct question x = questions_get(&a, i), y = questions_get(&b, i);
            ck_assert(text_eq(x.id, y.id) && text_eq(x.question, y.question) && text_eq(x.answer, y.answer) &&
                      text_eq(x.rationale, y.rationale));
        }
        questions_free(&a);
        questions_free(&b);
    }
    size_t len;
    char *bytes = test_read(out, &len); /* bbh: the lines name their file */
    ck_assert_ptr_nonnull(strstr(bytes, "\"bbh-boolean_expressions-0\",\"task\":\"boolean_expressions\""));
    free(bytes);
    ck_assert_int_eq(rsd_dataset_convert(ctx, "svamp", test_data("original/ASDiv.xml"), out, NULL), RSD_EFORMAT);
    ck_assert_int_eq(rsd_dataset_convert(ctx, NULL, NULL, out, NULL), RSD_EINVAL);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *data_overlap_suite(void) {
    Suite *s = suite_create("data overlap");
    TCase *t = tcase_create("overlap");
    tcase_add_test(t, copies_look_alike_and_formulas_do_not);
    tcase_add_test(t, question_that_is_tested_is_not_built_with);
    tcase_add_test(t, held_out_questions_are_left_out_where_that_is_asked_for);
    tcase_add_test(t, nothing_is_left_if_all_is_held_out);
    tcase_add_test(t, build_survives_every_failed_allocation);
    tcase_add_test(t, data_set_says_what_stands_in_a_test_file);
    tcase_add_test(t, original_questions_build_the_same_data_set);
    tcase_add_test(t, converted_files_are_read_as_plain_lines);
    suite_add_tcase(s, t);
    return s;
}
