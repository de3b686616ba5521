/* The evaluator on a tiny model that has learned a few answers by heart, so that every figure is known beforehand. */
#include "test_eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(figures_are_those_of_the_answers_learned) {
    struct fix f = eval_open(true);
    rsd_evaluator_options o = eval_answer_only();
    rsd_score s = eval_score(&f, &o, "gsm8k", f.data, NULL);
    double low, high;
    rsd_wilson(2, 4, &low, &high);
    ck_assert_uint_eq(s.n, 4);
    ck_assert_uint_eq(s.correct, 2);
    ck_assert_uint_eq(s.no_answer, 1);
    ck_assert_double_eq(s.accuracy, 0.5);
    ck_assert_double_eq_tol(s.low, low, 1e-12);
    ck_assert_double_eq_tol(s.high, high, 1e-12);
    ck_assert_double_eq(s.mean_tokens, (5 + 5 + 4 + 8) / 4.0);
    o.limit = 1;
    s = eval_score(&f, &o, "gsm8k", f.data, NULL);
    ck_assert_uint_eq(s.n, 1);
    ck_assert_double_eq(s.accuracy, 1);
    eval_close(&f);
}
END_TEST

START_TEST(items_are_written_in_the_order_of_the_file) {
    struct fix f = eval_open(true);
    rsd_evaluator_options o = eval_answer_only();
    const char *out = test_path(f.dir, "eval.json");
    eval_score(&f, &o, "jsonl", f.data, out);
    struct json *doc = NULL;
    struct err e = {0};
    ck_assert_msg(json_read_file(out, 1 << 20, NULL, &doc, &e) == 0, "%s", e.text);
    ck_assert_double_eq(json_number(json_get(doc, "accuracy")), 0.5);
    ck_assert(text_is(json_text(json_get(doc, "format")), "zs-ao"));
    const struct json *item = json_first(json_get(doc, "items"));
    for (int i = 0; i < N; i++, item = json_next(item)) {
        ck_assert_str_eq(json_text(json_get(item, "id")).p, eval_facts[i].id);
        ck_assert_str_eq(json_text(json_get(item, "output")).p, eval_facts[i].learned);
        ck_assert(json_bool(json_get(item, "correct")) == (i == 0 || i == 3));
        ck_assert_int_eq(json_type(json_get(item, "answer")), i == 2 ? JSON_NULL : JSON_TEXT);
    }
    ck_assert_ptr_null(item);
    json_free(doc);
    eval_close(&f);
}
END_TEST

START_TEST(batch_size_does_not_change_the_outputs) {
    struct fix f = eval_open(true);
    rsd_evaluator_options o = eval_answer_only();
    for (o.batch = 1; o.batch < 6; o.batch += 2) {
        rsd_score s = eval_score(&f, &o, "svamp", f.data, NULL);
        ck_assert_uint_eq(s.correct, 2);
    }
    eval_close(&f);
}
END_TEST

START_TEST(folder_of_tasks_gives_the_mean_of_their_accuracies) {
    struct fix f = eval_open(true);
    rsd_evaluator_options o = eval_answer_only();
    char folder[400];
    struct err e = {0};
    strcpy(folder, test_path(f.dir, "bbh"));
    ck_assert_int_eq(dir_make(folder, &e), 0);
    eval_items(test_path(folder, "first.jsonl"), 0, 1, "input", "target");
    eval_items(test_path(folder, "second.jsonl"), 1, 4, "input", "target");
    test_write(test_path(folder, "notes.txt"), "x", 1);
    const char *out = test_path(f.dir, "bbh.json");
    rsd_score s = eval_score(&f, &o, "bbh", folder, out);
    ck_assert_uint_eq(s.n, 4);
    ck_assert_double_eq_tol(s.accuracy, (1.0 + 1.0 / 3) / 2, 1e-12);
    ck_assert(s.low < s.accuracy && s.accuracy < s.high);
    struct json *doc = NULL;
    ck_assert_int_eq(json_read_file(out, 1 << 20, NULL, &doc, &e), 0);
    const struct json *tasks = json_get(doc, "tasks");
    ck_assert_uint_eq(json_count(tasks), 2);
    ck_assert(text_is(json_text(json_get(json_first(tasks), "task")), "first"));
    ck_assert_double_eq(json_number(json_get(json_first(tasks), "accuracy")), 1);
    json_free(doc);
    eval_close(&f);
}
END_TEST

START_TEST(ids_behind_the_last_piece_are_read_as_unknown) {
    struct fix f = eval_open(false);
    const char *config = test_path(f.dir, "large.json"), *out = test_path(f.dir, "eval.json");
    rsd_t5_close(f.model);
    f.model = NULL;
    fixture_config(config, 4000, "0"); /* nearly all rows have no piece, and random weights choose among all */
    OK(f.ctx, rsd_t5_create(f.ctx, config, 1, &f.model));
    rsd_evaluator_options o = eval_answer_only();
    rsd_score s = eval_score(&f, &o, "jsonl", f.data, out);
    ck_assert_uint_eq(s.n, N);
    ck_assert_uint_eq(s.correct, 0);
    char *text = test_read(out, NULL);
    ck_assert_ptr_nonnull(strstr(text, "\xe2\x81\x87")); /* as sentencepiece prints it */
    free(text);
    eval_close(&f);
}
END_TEST

/* Ids of the demonstrations of all items, joined. */
static void demos_of(const char *path, struct str *all) {
    struct json *doc = NULL;
    struct err e = {0};
    ck_assert_msg(json_read_file(path, 1 << 20, NULL, &doc, &e) == 0, "%s", e.text);
    for (const struct json *item = json_first(json_get(doc, "items")); item; item = json_next(item)) {
        struct text own = json_text(json_get(item, "id")), seen = {0};
        const struct json *demos = json_get(item, "demos");
        ck_assert_uint_eq(json_count(demos), 2);
        for (const struct json *d = json_first(demos); d; d = json_next(d)) {
            ck_assert(!text_eq(json_text(d), own)); /* the question itself would give the answer away */
            ck_assert(!text_eq(json_text(d), seen));
            seen = json_text(d);
            str_add(all, seen.p, seen.n);
        }
        str_addc(all, ' ');
    }
    json_free(doc);
}

START_TEST(demonstrations_are_a_function_of_the_seed_and_never_the_question) {
    struct fix f = eval_open(false);
    struct str texts[3];
    static const uint64_t seeds[3] = {1, 1, 2};
    rsd_evaluator_options o = eval_answer_only();
    o.demos = f.data;
    o.shots = 2;
    o.format = RSD_FORMAT_IC_COT;
    for (int i = 0; i < 3; i++) {
        str_init(&texts[i], NULL);
        o.seed = seeds[i];
        const char *out = test_path(f.dir, "eval.json");
        eval_score(&f, &o, "jsonl", f.data, out);
        demos_of(out, &texts[i]);
    }
    ck_assert_str_eq(str_z(&texts[0]), str_z(&texts[1]));
    ck_assert_str_ne(str_z(&texts[0]), str_z(&texts[2]));
    for (int i = 0; i < 3; i++)
        str_free(&texts[i]);
    eval_close(&f);
}
END_TEST

/* A folder of tasks, a folder of demonstrations of the same names; and one task without enough of its own. */
START_TEST(demonstrations_are_of_the_items_own_task) {
    static const char *const task[] = {"add", "sort", "lone"};
    struct fix f = eval_open(false);
    struct err e = {0};
    char items[400], demos[400], out[400];
    strcpy(items, test_path(f.dir, "tasks"));
    strcpy(demos, test_path(f.dir, "demos"));
    strcpy(out, test_path(f.dir, "eval.json"));
    ck_assert(!dir_make(items, &e) && !dir_make(demos, &e));
    for (size_t t = 0; t < 3; t++) {
        struct str lines[2];
        char name[40];
        snprintf(name, sizeof name, "%s.jsonl", task[t]);
        for (int k = 0; k < 2; k++) {
            str_init(&lines[k], NULL);
            for (int i = 0; i < (k && t == 2 ? 2 : 12); i++)
                str_addf(&lines[k], "{\"id\":\"%s-%d-%d\",\"question\":\"%s %d %d\",\"answer\":\"1\",\"rationale\":\"r\"}\n",
                         task[t], k, i, task[t], k, i);
            test_write(test_path(k ? demos : items, name), lines[k].p, lines[k].n);
            str_free(&lines[k]);
        }
    }
    rsd_evaluator_options o = eval_answer_only();
    o.demos = demos;
    o.shots = 2;
    o.format = RSD_FORMAT_IC_COT;
    o.max_tokens = 1;
    eval_score(&f, &o, "bbh", items, out);
    size_t n = 0, other = 0, seen[3][12] = {{0}};
    char *text = test_read(out, &n);
    struct json *doc = NULL;
    ck_assert_int_eq(json_parse(text, n, &doc, &e), 0);
    ck_assert_uint_eq(json_count(json_get(doc, "items")), 36);
    for (const struct json *i = json_first(json_get(doc, "items")); i; i = json_next(i)) {
        ck_assert_uint_eq(json_count(json_get(i, "demos")), 2);
        const char *id = json_text(json_get(i, "id")).p;
        for (const struct json *d = json_first(json_get(i, "demos")); d; d = json_next(d)) {
            const char *shown = json_text(d).p;
            if (*id == 'l')
                other += *shown != 'l';
            else
                ck_assert_int_eq(*shown, *id);
            seen[*shown == 'a' ? 0 : *shown == 's' ? 1 : 2][atoi(strrchr(shown, '-') + 1)]++;
        }
    }
    ck_assert_uint_gt(other, 0);
    for (size_t t = 0; t < 2; t++) {
        size_t different = 0;
        for (size_t i = 0; i < 12; i++)
            different += seen[t][i] > 0;
        ck_assert_uint_gt(different, 7); /* of 12, in 24 draws and more */
    }
    json_free(doc);
    free(text);
    eval_close(&f);
}
END_TEST

/* Opening is refused, with a text that holds `says`. */
static void refuse_open(struct fix *f, const rsd_evaluator_options *o, int code, const char *says) {
    rsd_evaluator *v = NULL;
    ck_assert_int_eq(rsd_evaluator_open(f->ctx, f->model, f->tok, o, &v), code);
    ck_assert_ptr_null(v);
    ck_assert_msg(strstr(rsd_ctx_error(f->ctx), says) != NULL, "%s", rsd_ctx_error(f->ctx));
}

START_TEST(in_context_formats_need_enough_demonstrations) {
    struct fix f = eval_open(false);
    rsd_evaluator_options o = eval_answer_only();
    o.format = RSD_FORMAT_IC_AO;
    refuse_open(&f, &o, RSD_EINVAL, "ic-ao");
    o.demos = f.data;
    refuse_open(&f, &o, RSD_EFORMAT, "4 usable");
    o.demos = "nowhere.jsonl";
    refuse_open(&f, &o, RSD_ENOTFOUND, "nowhere.jsonl");
    o = eval_answer_only();
    o.format = 4;
    refuse_open(&f, &o, RSD_EINVAL, "format 4");
    o = eval_answer_only();
    o.batch = 0;
    refuse_open(&f, &o, RSD_EINVAL, "batch");
    eval_close(&f);
}
END_TEST

START_TEST(tokenizer_larger_than_the_model_is_refused) {
    struct fix f = eval_open(false);
    const char *config = test_path(f.dir, "small.json");
    rsd_t5_close(f.model);
    f.model = NULL;
    fixture_config(config, FIXTURE_VOCAB - 3, "0");
    OK(f.ctx, rsd_t5_create(f.ctx, config, 1, &f.model));
    refuse_open(&f, NULL, RSD_EMISMATCH, "158 pieces");
    eval_close(&f);
}
END_TEST

static void refuse_file(struct fix *f, const char *task, const char *data, const char *out, int code, const char *says) {
    rsd_evaluator *v = NULL;
    rsd_evaluator_options o = eval_answer_only();
    OK(f->ctx, rsd_evaluator_open(f->ctx, f->model, f->tok, &o, &v));
    ck_assert_int_eq(rsd_evaluator_file(v, task, data, out, NULL, NULL, NULL), code);
    ck_assert_msg(strstr(rsd_ctx_error(f->ctx), says) != NULL, "%s", rsd_ctx_error(f->ctx));
    rsd_evaluator_close(v);
}

START_TEST(bad_input_is_located) {
    struct fix f = eval_open(false);
    char broken[400], out[400];
    strcpy(broken, test_path(f.dir, "broken.jsonl"));
    strcpy(out, test_path(f.dir, "eval.json"));
    refuse_file(&f, "mmlu", f.data, out, RSD_EINVAL, "unknown task \"mmlu\"");
    refuse_file(&f, "gsm8k", "nowhere.jsonl", out, RSD_ENOTFOUND, "nowhere.jsonl");
    test_write(broken, "{\"id\": \"a\", \"question\": \"q\", \"answer\": \"1\"}\n{\"id\": \"b\", \"question\"\n", 68);
    refuse_file(&f, "gsm8k", broken, out, RSD_EFORMAT, "broken.jsonl, line 2");
    test_write(broken, "{\"id\": \"a\", \"question\": \"q\"}\n", 29);
    refuse_file(&f, "gsm8k", broken, out, RSD_EFORMAT, "\"answer\"");
    test_write(broken, "", 0);
    refuse_file(&f, "gsm8k", broken, out, RSD_EFORMAT, "no items");
    refuse_file(&f, "gsm8k", f.data, test_path(f.dir, "no/such/folder.json"), RSD_ENOTFOUND, "folder.json");
    ck_assert(!file_exists(out));
    eval_close(&f);
}
END_TEST

static int stop_at_two(void *user, uint64_t done, uint64_t of) {
    ck_assert_uint_eq(of, N);
    *(uint64_t *)user = done;
    return done == 2 ? 42 : 0;
}

START_TEST(stop_is_handed_back_and_leaves_no_file) {
    struct fix f = eval_open(false);
    rsd_evaluator *v = NULL;
    rsd_evaluator_options o = eval_answer_only();
    uint64_t done = 0;
    const char *out = test_path(f.dir, "eval.json");
    OK(f.ctx, rsd_evaluator_open(f.ctx, f.model, f.tok, &o, &v));
    ck_assert_int_eq(rsd_evaluator_file(v, "gsm8k", f.data, out, stop_at_two, &done, NULL), 42);
    ck_assert_uint_eq(done, 2);
    char **names = NULL;
    size_t n = 0;
    ck_assert_int_eq(dir_names(NULL, f.dir, &names, &n, NULL), 0);
    for (size_t i = 0; i < n; i++)
        ck_assert_ptr_null(strstr(names[i], "eval.json")); /* nor a temporary one */
    dir_names_free(NULL, names, n);
    rsd_evaluator_close(v);
    eval_close(&f);
}
END_TEST

START_TEST(any_allocation_may_fail) {
    struct fix f = eval_open(false);
    char model[400], vocab[400], out[400], cache[400];
    strcpy(cache, test_path(f.dir, "cache"));
    strcpy(model, test_path(f.dir, "model"));
    strcpy(vocab, test_path(f.dir, "spiece.model"));
    strcpy(out, test_path(f.dir, "eval.json"));
    OK(f.ctx, rsd_t5_save(f.model, model, RSD_F32, NULL));
    size_t step = 1, failures = 0;
    for (size_t i = 1;; i += step) {
        struct fail_alloc a;
        fail_alloc_init(&a, i, false);
        rsd_ctx_options o;
        rsd_ctx_options_init(&o, sizeof o);
        o.resize = a.a.resize;
        o.resize_user = a.a.user;
        rsd_ctx *ctx = NULL;
        rsd_t5 *m = NULL;
        rsd_tokenizer *tok = NULL;
        rsd_evaluator *v = NULL;
        rsd_evaluator_options eo = eval_answer_only();
        eo.max_tokens = 2;
        eo.samples = 2;
        eo.temperature = 1;
        eo.maj[0] = 2;
        eo.cache = cache;
        int code = rsd_ctx_open(&o, &ctx);
        if (!code)
            code = rsd_tokenizer_open(ctx, vocab, &tok);
        if (!code)
            code = rsd_t5_open(ctx, model, &m);
        if (!code)
            code = rsd_evaluator_open(ctx, m, tok, &eo, &v);
        if (!code)
            code = rsd_evaluator_file(v, "gsm8k", f.data, out, NULL, NULL, NULL);
        rsd_evaluator_close(v);
        rsd_t5_close(m);
        rsd_tokenizer_close(tok);
        rsd_ctx_close(ctx);
        ck_assert_uint_eq(a.live, 0);
        if (!a.failed) {
            ck_assert_int_eq(code, RSD_OK);
            ck_assert(file_exists(out));
            break;
        }
        failures++;
        ck_assert_int_eq(code, RSD_ENOMEM);
        ck_assert(!file_exists(out));
    }
    ck_assert_uint_gt(failures, 20);
    eval_close(&f);
}
END_TEST

int main(void) {
    Suite *s = suite_create("eval");
    TCase *c = tcase_create("eval");
    tcase_add_test(c, figures_are_those_of_the_answers_learned);
    tcase_add_test(c, items_are_written_in_the_order_of_the_file);
    tcase_add_test(c, batch_size_does_not_change_the_outputs);
    tcase_add_test(c, ids_behind_the_last_piece_are_read_as_unknown);
    tcase_add_test(c, folder_of_tasks_gives_the_mean_of_their_accuracies);
    tcase_add_test(c, demonstrations_are_a_function_of_the_seed_and_never_the_question);
    tcase_add_test(c, demonstrations_are_of_the_items_own_task);
    tcase_add_test(c, in_context_formats_need_enough_demonstrations);
    tcase_add_test(c, tokenizer_larger_than_the_model_is_refused);
    tcase_add_test(c, bad_input_is_located);
    tcase_add_test(c, stop_is_handed_back_and_leaves_no_file);
    tcase_add_test(c, any_allocation_may_fail);
    suite_add_tcase(s, c);
    suite_add_tcase(s, eval_grid_case());
    suite_add_tcase(s, eval_runs_case());
    suite_add_tcase(s, eval_statistics_case());
    return test_run(srunner_create(s));
}
