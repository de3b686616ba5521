/* The evaluator on a tiny model that has learned a few answers by heart, so that every figure is known beforehand. */
#include "test_eval.h"

#include <stdlib.h>
#include <string.h>

enum { N = 4 };

/* The student writes `learned`; the second answer is wrong, the third says none. */
static const struct {
    const char *id, *question, *gold, *learned;
} facts[N] = {{"a", "what is one plus one", "2", "The answer is 2"},
              {"b", "what is two plus one so what is two plus one so what", "3", "The answer is 5"},
              {"c", "what is four plus one", "5", "so five so"},
              {"d", "what is six", "6", "so six . The answer is 6"}};

struct fix {
    rsd_ctx *ctx;
    rsd_tokenizer *tok;
    rsd_t5 *model;
    const char *dir;
    char data[400];
};

static void write_items(const char *path, size_t from, size_t to, const char *question, const char *answer) {
    static const char *const quotes[2] = {"\"", ""}; /* every second answer is a number */
    struct str s;
    str_init(&s, NULL);
    for (size_t i = from; i < to; i++)
        str_addf(&s, "{\"id\": \"%s\", \"%s\": \"%s\", \"%s\": %s%s%s, \"rationale\": \"so\"}\n", facts[i].id, question,
                 facts[i].question, answer, quotes[i % 2], facts[i].gold, quotes[i % 2]);
    test_write(path, s.p, s.n);
    str_free(&s);
}

static void append(rsd_tokenizer *tok, const char *text, int32_t *to, uint32_t *n) {
    const int32_t *ids;
    size_t count;
    ck_assert_int_eq(rsd_tokenizer_encode(tok, text, strlen(text), &ids, &count), RSD_OK);
    for (size_t i = 0; i < count; i++)
        to[(*n)++] = ids[i];
    to[(*n)++] = rsd_tokenizer_eos(tok);
}

/* Trains on the zero-shot answer-only inputs until they are known by heart. */
static void learn(struct fix *f) {
    int32_t enc[400], dec[400];
    uint32_t enc_offsets[N + 1] = {0}, dec_offsets[N + 1] = {0}, n_enc = 0, n_dec = 0;
    for (int i = 0; i < N; i++) {
        char text[200];
        strcat(strcat(strcpy(text, "Q: "), facts[i].question), " A:");
        append(f->tok, text, enc, &n_enc);
        append(f->tok, facts[i].learned, dec, &n_dec);
        enc_offsets[i + 1] = n_enc;
        dec_offsets[i + 1] = n_dec;
    }
    rsd_batch b = {
        .size = sizeof b, .n = N, .enc_ids = enc, .enc_offsets = enc_offsets, .dec_ids = dec, .dec_offsets = dec_offsets};
    rsd_optimizer *o = NULL;
    double loss = 1;
    OK(f->ctx, rsd_optimizer_open(f->ctx, f->model, NULL, &o));
    for (int t = 0; t < 600 && loss > 0.01; t++) {
        loss = fixture_pass(f->ctx, f->model, &b);
        OK(f->ctx, rsd_optimizer_step(o, 0.02, NULL));
    }
    ck_assert_msg(loss <= 0.01, "the loss stays at %g", loss);
    rsd_optimizer_close(o);
}

static struct fix open_fix(bool trained) {
    struct fix f = {.ctx = fixture_ctx(), .dir = test_dir()};
    const char *vocab = test_path(f.dir, "spiece.model"), *config = test_path(f.dir, "config.json");
    fixture_vocab(vocab);
    OK(f.ctx, rsd_tokenizer_open(f.ctx, vocab, &f.tok));
    ck_assert_int_eq(rsd_tokenizer_size(f.tok), FIXTURE_VOCAB - 2);
    fixture_config(config, FIXTURE_VOCAB, "0");
    OK(f.ctx, rsd_t5_create(f.ctx, config, 1, &f.model));
    strcpy(f.data, test_path(f.dir, "items.jsonl"));
    write_items(f.data, 0, N, "question", "answer");
    if (trained)
        learn(&f);
    return f;
}

static void close_fix(struct fix *f) {
    rsd_t5_close(f->model);
    rsd_tokenizer_close(f->tok);
    rsd_ctx_close(f->ctx);
}

static rsd_evaluator_options answer_only(void) {
    rsd_evaluator_options o;
    ck_assert_int_eq(rsd_evaluator_options_init(&o, sizeof o), RSD_OK);
    ck_assert_int_eq(o.shots, 4);
    o.format = RSD_FORMAT_ZS_AO;
    o.max_tokens = 12;
    return o;
}

static rsd_score score_of(struct fix *f, const rsd_evaluator_options *o, const char *task, const char *data, const char *out) {
    rsd_evaluator *v = NULL;
    rsd_score s = {.size = sizeof s};
    OK(f->ctx, rsd_evaluator_open(f->ctx, f->model, f->tok, o, &v));
    OK(f->ctx, rsd_evaluator_file(v, task, data, out, NULL, NULL, &s));
    rsd_evaluator_close(v);
    return s;
}

START_TEST(figures_are_those_of_the_answers_learned) {
    struct fix f = open_fix(true);
    rsd_evaluator_options o = answer_only();
    rsd_score s = score_of(&f, &o, "gsm8k", f.data, NULL);
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
    s = score_of(&f, &o, "gsm8k", f.data, NULL);
    ck_assert_uint_eq(s.n, 1);
    ck_assert_double_eq(s.accuracy, 1);
    close_fix(&f);
}
END_TEST

START_TEST(items_are_written_in_the_order_of_the_file) {
    struct fix f = open_fix(true);
    rsd_evaluator_options o = answer_only();
    const char *out = test_path(f.dir, "eval.json");
    score_of(&f, &o, "jsonl", f.data, out);
    struct json *doc = NULL;
    struct err e = {0};
    ck_assert_msg(json_read_file(out, 1 << 20, NULL, &doc, &e) == 0, "%s", e.text);
    ck_assert_double_eq(json_number(json_get(doc, "accuracy")), 0.5);
    ck_assert(text_is(json_text(json_get(doc, "format")), "zs-ao"));
    const struct json *item = json_first(json_get(doc, "items"));
    for (int i = 0; i < N; i++, item = json_next(item)) {
        ck_assert_str_eq(json_text(json_get(item, "id")).p, facts[i].id);
        ck_assert_str_eq(json_text(json_get(item, "output")).p, facts[i].learned);
        ck_assert(json_bool(json_get(item, "correct")) == (i == 0 || i == 3));
        ck_assert_int_eq(json_type(json_get(item, "answer")), i == 2 ? JSON_NULL : JSON_TEXT);
    }
    ck_assert_ptr_null(item);
    json_free(doc);
    close_fix(&f);
}
END_TEST

START_TEST(batch_size_does_not_change_the_outputs) {
    struct fix f = open_fix(true);
    rsd_evaluator_options o = answer_only();
    for (o.batch = 1; o.batch < 6; o.batch += 2) {
        rsd_score s = score_of(&f, &o, "svamp", f.data, NULL);
        ck_assert_uint_eq(s.correct, 2);
    }
    close_fix(&f);
}
END_TEST

START_TEST(folder_of_tasks_gives_the_mean_of_their_accuracies) {
    struct fix f = open_fix(true);
    rsd_evaluator_options o = answer_only();
    char folder[400];
    struct err e = {0};
    strcpy(folder, test_path(f.dir, "bbh"));
    ck_assert_int_eq(dir_make(folder, &e), 0);
    write_items(test_path(folder, "first.jsonl"), 0, 1, "input", "target");
    write_items(test_path(folder, "second.jsonl"), 1, 4, "input", "target");
    test_write(test_path(folder, "notes.txt"), "x", 1);
    const char *out = test_path(f.dir, "bbh.json");
    rsd_score s = score_of(&f, &o, "bbh", folder, out);
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
    close_fix(&f);
}
END_TEST

START_TEST(ids_behind_the_last_piece_are_read_as_unknown) {
    struct fix f = open_fix(false);
    const char *config = test_path(f.dir, "large.json"), *out = test_path(f.dir, "eval.json");
    rsd_t5_close(f.model);
    f.model = NULL;
    fixture_config(config, 4000, "0"); /* nearly all rows have no piece, and random weights choose among all */
    OK(f.ctx, rsd_t5_create(f.ctx, config, 1, &f.model));
    rsd_evaluator_options o = answer_only();
    rsd_score s = score_of(&f, &o, "jsonl", f.data, out);
    ck_assert_uint_eq(s.n, N);
    ck_assert_uint_eq(s.correct, 0);
    char *text = test_read(out, NULL);
    ck_assert_ptr_nonnull(strstr(text, "\xe2\x81\x87")); /* as sentencepiece prints it */
    free(text);
    close_fix(&f);
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
    struct fix f = open_fix(false);
    struct str texts[3];
    static const uint64_t seeds[3] = {1, 1, 2};
    rsd_evaluator_options o = answer_only();
    o.demos = f.data;
    o.shots = 2;
    o.format = RSD_FORMAT_IC_COT;
    for (int i = 0; i < 3; i++) {
        str_init(&texts[i], NULL);
        o.seed = seeds[i];
        const char *out = test_path(f.dir, "eval.json");
        score_of(&f, &o, "jsonl", f.data, out);
        demos_of(out, &texts[i]);
    }
    ck_assert_str_eq(str_z(&texts[0]), str_z(&texts[1]));
    ck_assert_str_ne(str_z(&texts[0]), str_z(&texts[2]));
    for (int i = 0; i < 3; i++)
        str_free(&texts[i]);
    close_fix(&f);
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
    struct fix f = open_fix(false);
    rsd_evaluator_options o = answer_only();
    o.format = RSD_FORMAT_IC_AO;
    refuse_open(&f, &o, RSD_EINVAL, "ic-ao");
    o.demos = f.data;
    refuse_open(&f, &o, RSD_EFORMAT, "4 usable");
    o.demos = "nowhere.jsonl";
    refuse_open(&f, &o, RSD_ENOTFOUND, "nowhere.jsonl");
    o = answer_only();
    o.format = 4;
    refuse_open(&f, &o, RSD_EINVAL, "format 4");
    o = answer_only();
    o.batch = 0;
    refuse_open(&f, &o, RSD_EINVAL, "batch");
    close_fix(&f);
}
END_TEST

START_TEST(tokenizer_larger_than_the_model_is_refused) {
    struct fix f = open_fix(false);
    const char *config = test_path(f.dir, "small.json");
    rsd_t5_close(f.model);
    f.model = NULL;
    fixture_config(config, FIXTURE_VOCAB - 3, "0");
    OK(f.ctx, rsd_t5_create(f.ctx, config, 1, &f.model));
    refuse_open(&f, NULL, RSD_EMISMATCH, "158 pieces");
    close_fix(&f);
}
END_TEST

static void refuse_file(struct fix *f, const char *task, const char *data, const char *out, int code, const char *says) {
    rsd_evaluator *v = NULL;
    rsd_evaluator_options o = answer_only();
    OK(f->ctx, rsd_evaluator_open(f->ctx, f->model, f->tok, &o, &v));
    ck_assert_int_eq(rsd_evaluator_file(v, task, data, out, NULL, NULL, NULL), code);
    ck_assert_msg(strstr(rsd_ctx_error(f->ctx), says) != NULL, "%s", rsd_ctx_error(f->ctx));
    rsd_evaluator_close(v);
}

START_TEST(bad_input_is_located) {
    struct fix f = open_fix(false);
    char broken[400], out[400];
    strcpy(broken, test_path(f.dir, "broken.jsonl"));
    strcpy(out, test_path(f.dir, "eval.json"));
    refuse_file(&f, "mmlu", f.data, out, RSD_EINVAL, "unknown task \"mmlu\"");
    refuse_file(&f, "gsm8k", "nowhere.jsonl", out, RSD_ENOTFOUND, "nowhere.jsonl");
    test_write(broken, "{\"id\": \"a\", \"question\": \"q\", \"answer\": \"1\"}\n{\"id\": \"b\", \"question\"\n", 68);
    refuse_file(&f, "gsm8k", broken, out, RSD_EFORMAT, "broken.jsonl: line 2");
    test_write(broken, "{\"id\": \"a\", \"question\": \"q\"}\n", 29);
    refuse_file(&f, "gsm8k", broken, out, RSD_EFORMAT, "\"answer\"");
    test_write(broken, "", 0);
    refuse_file(&f, "gsm8k", broken, out, RSD_EFORMAT, "no items");
    refuse_file(&f, "gsm8k", f.data, test_path(f.dir, "no/such/folder.json"), RSD_ENOTFOUND, "folder.json");
    ck_assert(!file_exists(out));
    close_fix(&f);
}
END_TEST

static int stop_at_two(void *user, uint64_t done, uint64_t of) {
    ck_assert_uint_eq(of, N);
    *(uint64_t *)user = done;
    return done == 2 ? 42 : 0;
}

START_TEST(stop_is_handed_back_and_leaves_no_file) {
    struct fix f = open_fix(false);
    rsd_evaluator *v = NULL;
    rsd_evaluator_options o = answer_only();
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
    close_fix(&f);
}
END_TEST

START_TEST(any_allocation_may_fail) {
    struct fix f = open_fix(false);
    char model[400], vocab[400], out[400];
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
        rsd_evaluator_options eo = answer_only();
        eo.max_tokens = 2;
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
    close_fix(&f);
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
    tcase_add_test(c, in_context_formats_need_enough_demonstrations);
    tcase_add_test(c, tokenizer_larger_than_the_model_is_refused);
    tcase_add_test(c, bad_input_is_located);
    tcase_add_test(c, stop_is_handed_back_and_leaves_no_file);
    tcase_add_test(c, any_allocation_may_fail);
    suite_add_tcase(s, c);
    suite_add_tcase(s, eval_statistics_case());
    return test_run(srunner_create(s));
}
