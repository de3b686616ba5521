/* Parsers side by side, perplexities, samples and votes, the cache, and two evaluations item by item. */
#include "test_eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check(bool holds, const char *what, double got, double want) {
    ck_assert_msg(holds, "%s: %.17g, expected %.17g", what, got, want);
}

static void same(double got, double want, const char *what) {
    check(fabs(got - want) <= 1e-12 * fmax(1, fabs(want)), what, got, want);
}

START_TEST(parsers_stand_side_by_side) {
    struct fix f = eval_open(true);
    rsd_evaluator_options o = eval_answer_only();
    const char *data = test_path(f.dir, "gold.jsonl");
    /* "The answer is 2", "The answer is 5", "so five so", "so six . The answer is 6" */
    static const char lines[] = "{\"id\": \"a\", \"question\": \"what is one plus one\", \"answer\": \"2\"}\n"
                                "{\"id\": \"c\", \"question\": \"what is four plus one\", \"answer\": \"so five so\"}\n"
                                "{\"id\": \"d\", \"question\": \"what is six\", \"answer\": \"The answer is 6\"}\n";
    test_write(data, lines, sizeof lines - 1);
    rsd_score s = eval_score(&f, &o, "gsm8k", data, NULL);
    ck_assert_uint_eq(s.n, 3);
    ck_assert_uint_eq(s.outputs, 3);
    ck_assert_uint_eq(s.correct, 1);         /* 2 */
    ck_assert_uint_eq(s.no_answer, 1);       /* "so five so" says none */
    ck_assert_uint_eq(s.lenient_correct, 2); /* and the line itself */
    ck_assert_uint_eq(s.lenient_no_answer, 0);
    ck_assert_uint_eq(s.reference_correct, 2); /* 2 and 6: it looks for numbers alone */
    same(s.accuracy, 1.0 / 3, "strict");
    same(s.lenient_accuracy, 2.0 / 3, "lenient");
    same(s.reference_accuracy, 2.0 / 3, "reference");
    double low, high;
    rsd_wilson(2, 3, &low, &high);
    same(s.lenient_low, low, "low");
    same(s.lenient_high, high, "high");
    s = eval_score(&f, &o, "bbh", data, NULL);
    ck_assert_uint_eq(s.reference_correct, 3); /* as a text that stands in the output */
    eval_close(&f);
}
END_TEST

/* -log p of the last n tokens of a target, by hand. */
static double tail_nll(struct fix *f, const char *input, const char *target, size_t n, size_t before) {
    int32_t enc[200], dec[200];
    float logprobs[200];
    uint32_t enc_offsets[2] = {0}, dec_offsets[2] = {0};
    const char *texts[2] = {input, target};
    int32_t *to[2] = {enc, dec};
    uint32_t *counts[2] = {&enc_offsets[1], &dec_offsets[1]};
    for (int i = 0; i < 2; i++) {
        const int32_t *ids;
        size_t count;
        OK(f->ctx, rsd_tokenizer_encode(f->tok, texts[i], strlen(texts[i]), &ids, &count));
        memcpy(to[i], ids, count * sizeof *ids);
        to[i][count] = rsd_tokenizer_eos(f->tok);
        *counts[i] = (uint32_t)count + 1;
    }
    const rsd_batch b = {
        .size = sizeof b, .n = 1, .enc_ids = enc, .enc_offsets = enc_offsets, .dec_ids = dec, .dec_offsets = dec_offsets};
    OK(f->ctx, rsd_t5_forward(f->model, &b, RSD_INFER));
    OK(f->ctx, rsd_t5_logprobs(f->model, logprobs, dec_offsets[1]));
    double sum = 0;
    for (size_t i = dec_offsets[1] - before - n; i < dec_offsets[1] - before; i++)
        sum -= (double)logprobs[i];
    return sum;
}

START_TEST(perplexities_are_those_of_the_gold_tokens) {
    struct fix f = eval_open(true);
    rsd_evaluator_options o = eval_answer_only();
    const char *data = test_path(f.dir, "one.jsonl"), *out = test_path(f.dir, "eval.json");
    static const char line[] = "{\"id\": \"a\", \"question\": \"what is one plus one\", \"answer\": \"2\","
                               "\"rationale\": \"one <<1+1=2>>plus one is two\\n#### 2\"}\n";
    test_write(data, line, sizeof line - 1);
    rsd_score s = eval_score(&f, &o, "gsm8k", data, NULL);
    /* "2" and the end token */
    double nll = tail_nll(&f, "Q: what is one plus one A:", "The answer is 2", 2, 0);
    check(fabs(s.answer_perplexity / exp(nll / 2) - 1) < 1e-5, "answer", s.answer_perplexity, exp(nll / 2));
    ck_assert(s.answer_perplexity < 1.2);
    ck_assert(s.rationale_perplexity >= 0 && s.rationale_perplexity <= 0); /* not part of an answer-only target */

    o.format = RSD_FORMAT_ZS_COT;
    s = eval_score(&f, &o, "gsm8k", data, out);
    const char *target = "one plus one is two\nThe answer is 2", *input = "Q: what is one plus one\nLet's think step by step";
    nll = tail_nll(&f, input, target, 2, 0);
    check(fabs(s.answer_perplexity / exp(nll / 2) - 1) < 1e-5, "answer", s.answer_perplexity, exp(nll / 2));
    const int32_t *ids;
    size_t whole = 0;
    OK(f.ctx, rsd_tokenizer_encode(f.tok, target, strlen(target), &ids, &whole));
    nll = tail_nll(&f, input, target, 5, whole + 1 - 5); /* the first five words */
    check(fabs(s.rationale_perplexity / exp(nll / 5) - 1) < 1e-5, "rationale", s.rationale_perplexity, exp(nll / 5));
    ck_assert(s.rationale_perplexity > 1.2);

    struct json *doc = NULL;
    ck_assert_int_eq(json_read_file(out, 1 << 20, NULL, &doc, NULL), 0);
    const struct json *item = json_first(json_get(doc, "items"));
    same(json_number(json_get(item, "rationale_perplexity")), s.rationale_perplexity, "of the item");
    json_free(doc);

    o.perplexity = 0;
    s = eval_score(&f, &o, "gsm8k", data, NULL);
    ck_assert(s.answer_perplexity >= 0 && s.answer_perplexity <= 0);
    eval_close(&f);
}
END_TEST

START_TEST(samples_vote) {
    struct fix f = eval_open(true);
    rsd_evaluator_options o = eval_answer_only();
    const char *out = test_path(f.dir, "eval.json");
    o.samples = 24;
    o.temperature = 1.5; /* what was learned by heart is not certain any more */
    o.maj[0] = 1;
    o.maj[1] = 5;
    o.maj[2] = 24;
    rsd_score s = eval_score(&f, &o, "gsm8k", f.data, out), again = eval_score(&f, &o, "gsm8k", f.data, NULL);
    ck_assert_uint_eq(s.n, N);
    ck_assert_uint_eq(s.outputs, 24 * N);
    ck_assert_msg(s.correct > 0 && s.correct < s.outputs && s.correct != 48, "%d", (int)s.correct);
    same(s.accuracy, (double)s.correct / (24 * N), "accuracy");
    same(s.maj[0], s.accuracy, "maj@1 is the accuracy of one sample");
    same(s.lenient_maj[0], s.lenient_accuracy, "for both parsers");
    ck_assert(s.maj[3] >= 0 && s.maj[3] <= 0);
    ck_assert_uint_eq(s.correct, again.correct); /* a function of the seed */

    struct json *doc = NULL;
    ck_assert_int_eq(json_read_file(out, 4 << 20, NULL, &doc, NULL), 0);
    double all = 0, five = 0;
    size_t items = 0;
    for (const struct json *i = json_first(json_get(doc, "items")); i; i = json_next(i), items++) {
        const struct json *maj = json_get(i, "maj");
        ck_assert_uint_eq(json_count(json_get(i, "outputs")), 24);
        ck_assert_uint_eq(json_count(maj), 3);
        five += json_number(json_get(json_next(json_first(maj)), "accuracy")) / N;
        /* the vote of all is right or wrong, or a tie shares it */
        double whole = json_number(json_get(json_next(json_next(json_first(maj))), "accuracy"));
        bool right = json_bool(json_get(i, "correct"));
        ck_assert(right ? whole > 0.3 : whole < 0.6);
        all += whole / N;
    }
    ck_assert_uint_eq(items, N);
    same(five, s.maj[1], "maj@5");
    same(all, s.maj[2], "maj@24");
    json_free(doc);
    o.seed = 2;
    again = eval_score(&f, &o, "gsm8k", f.data, NULL);
    ck_assert(again.correct != s.correct || again.lenient_correct != s.lenient_correct || again.no_answer != s.no_answer);
    eval_close(&f);
}
END_TEST

static void refuse(struct fix *f, const rsd_evaluator_options *o, const char *says) {
    rsd_evaluator *v = NULL;
    ck_assert_int_eq(rsd_evaluator_open(f->ctx, f->model, f->tok, o, &v), RSD_EINVAL);
    ck_assert_msg(strstr(rsd_ctx_error(f->ctx), says) != NULL, "%s", rsd_ctx_error(f->ctx));
}

START_TEST(sampling_options_out_of_range_are_refused) {
    struct fix f = eval_open(false);
    rsd_evaluator_options o = eval_answer_only();
    o.samples = 3;
    refuse(&f, &o, "3 samples need a temperature");
    o.temperature = -1;
    refuse(&f, &o, "temperature");
    o.temperature = 1;
    o.maj[0] = 4;
    refuse(&f, &o, "maj[0] is 4");
    o.maj[0] = 0;
    o.maj[1] = 1;
    refuse(&f, &o, "maj[1]");
    o.maj[1] = 0;
    o.top_p = 0;
    refuse(&f, &o, "top_p");
    o.top_p = 1;
    o.samples = 257;
    refuse(&f, &o, "samples");
    o.samples = 1;
    o.label = "a/b";
    refuse(&f, &o, "a/b");
    eval_close(&f);
}
END_TEST

/* ---- cache ---- */

static size_t files_in(const char *dir) {
    char **names = NULL;
    size_t n = 0;
    ck_assert_int_eq(dir_names(NULL, dir, &names, &n, NULL), 0);
    dir_names_free(NULL, names, n);
    return n;
}

static char *only_file(const char *dir) {
    char **names = NULL, *path = NULL;
    size_t n = 0;
    ck_assert_int_eq(dir_names(NULL, dir, &names, &n, NULL), 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(file_join(NULL, &path, NULL, dir, names[0]), 0);
    dir_names_free(NULL, names, n);
    return path;
}

START_TEST(results_are_kept_and_found_by_content) {
    struct fix f = eval_open(true);
    char dir[400], out[400], copy[400];
    strcpy(dir, test_path(f.dir, "cache"));
    strcpy(out, test_path(f.dir, "eval.json"));
    strcpy(copy, test_path(f.dir, "other.jsonl"));
    rsd_evaluator_options o = eval_answer_only();
    o.cache = dir;
    o.label = "step-10";
    rsd_score s = eval_score(&f, &o, "gsm8k", f.data, out);
    ck_assert_int_eq(s.reused, 0);
    char *kept = only_file(dir), *first = test_read(kept, NULL), *asked = test_read(out, NULL);
    ck_assert_ptr_nonnull(strstr(kept, "/step-10-gsm8k-zs-ao-"));
    ck_assert_str_eq(first, asked);

    char *items = test_read(f.data, NULL);
    test_write(copy, items, strlen(items));
    o.label = "another name";
    s = eval_score(&f, &o, "gsm8k", copy, out); /* the same items under another name */
    ck_assert_int_eq(s.reused, 1);
    ck_assert_uint_eq(s.correct, 2);
    ck_assert_uint_eq(s.n, N);
    same(s.mean_tokens, (5 + 5 + 4 + 8) / 4.0, "tokens");
    ck_assert_uint_eq(files_in(dir), 1);
    free(asked);
    asked = test_read(out, NULL);
    ck_assert_str_eq(first, asked);

    test_write(kept, first, strlen(first) / 2); /* damaged: done again */
    s = eval_score(&f, &o, "gsm8k", f.data, NULL);
    ck_assert_int_eq(s.reused, 0);
    ck_assert_uint_eq(files_in(dir), 2); /* under the new label; the old one stays as it is */

    o.max_tokens = 11;
    ck_assert_int_eq(eval_score(&f, &o, "gsm8k", f.data, NULL).reused, 0);
    ck_assert_int_eq(eval_score(&f, &o, "svamp", f.data, NULL).reused, 0);
    ck_assert_str_eq(items + strlen(items) - 3, "\"}\n");
    items[strlen(items) - 4] = '!'; /* one byte of the last rationale */
    test_write(copy, items, strlen(items));
    ck_assert_int_eq(eval_score(&f, &o, "gsm8k", copy, NULL).reused, 0);
    ck_assert_int_eq(eval_score(&f, &o, "gsm8k", copy, NULL).reused, 1);
    size_t n = 0;
    float w = 0, *all = fixture_read(f.ctx, f.model, 0, &n);
    rsd_param p = {.size = sizeof p};
    size_t norm = 0;
    OK(f.ctx, rsd_t5_param_find(f.model, "encoder.final_layer_norm.weight", &norm));
    OK(f.ctx, rsd_t5_param(f.model, norm, &p));
    float *norms = malloc(p.count * sizeof *norms);
    OK(f.ctx, rsd_t5_param_read(f.model, norm, norms, p.count));
    w = norms[0];
    norms[0] = nextafterf(w, 9); /* the last bit of one weight */
    OK(f.ctx, rsd_t5_param_write(f.model, norm, norms, p.count));
    ck_assert_int_eq(eval_score(&f, &o, "gsm8k", copy, NULL).reused, 0);
    norms[0] = w;
    OK(f.ctx, rsd_t5_param_write(f.model, norm, norms, p.count));
    ck_assert_int_eq(eval_score(&f, &o, "gsm8k", copy, NULL).reused, 1);
    free(norms);
    free(all);
    free(items);
    free(first);
    free(asked);
    mem_free(NULL, kept);
    eval_close(&f);
}
END_TEST

/* ---- two evaluations ---- */

static int note(void *user, const char *id, size_t len, int a, int b) {
    char *all = user;
    ck_assert_uint_eq(len, 1);
    ck_assert_int_ne(a, b);
    strncat(all, id, 1);
    strcat(all, a ? ">" : "<");
    return 0;
}

static int stop(void *user, const char *id, size_t len, int a, int b) {
    (void)user, (void)id, (void)len, (void)a, (void)b;
    return 7;
}

static void refuse_pair(struct fix *f, const char *a, const char *b, int code, const char *says) {
    rsd_paired p = {.size = sizeof p};
    ck_assert_int_eq(rsd_compare_files(f->ctx, a, b, RSD_PARSER_STRICT, NULL, NULL, &p), code);
    ck_assert_msg(strstr(rsd_ctx_error(f->ctx), says) != NULL, "%s", rsd_ctx_error(f->ctx));
}

START_TEST(two_evaluations_are_compared_item_by_item) {
    static const char *const sides[2] = {
        "{\"items\": [{\"id\": \"a\", \"gold\": \"1\", \"correct\": true, \"lenient\": true, \"reference\": true},\n"
        "{\"id\": \"b\", \"gold\": \"2\", \"correct\": true, \"lenient\": true, \"reference\": false},\n"
        "{\"id\": \"c\", \"gold\": \"3\", \"correct\": false, \"lenient\": true, \"reference\": false}]}",
        "{\"items\": [{\"id\": \"c\", \"gold\": \"3\", \"correct\": true, \"lenient\": true, \"reference\": "
        "false},\n" /* another order */
        "{\"id\": \"a\", \"gold\": \"1\", \"correct\": false, \"lenient\": true, \"reference\": true},\n"
        "{\"id\": \"b\", \"gold\": \"2\", \"correct\": true, \"lenient\": false, \"reference\": false}]}"};
    struct fix f = eval_open(false);
    char a[400], b[400], bad[400], ids[40] = "";
    rsd_paired p = {.size = sizeof p};
    strcpy(a, test_path(f.dir, "a.json"));
    strcpy(b, test_path(f.dir, "b.json"));
    strcpy(bad, test_path(f.dir, "bad.json"));
    test_write(a, sides[0], strlen(sides[0]));
    test_write(b, sides[1], strlen(sides[1]));
    OK(f.ctx, rsd_compare_files(f.ctx, a, b, RSD_PARSER_STRICT, note, ids, &p));
    ck_assert_str_eq(ids, "a>c<");
    ck_assert(p.both == 1 && p.only_a == 1 && p.only_b == 1 && p.neither == 0);
    same(p.p, 1, "p");
    OK(f.ctx, rsd_compare_files(f.ctx, a, b, RSD_PARSER_LENIENT, NULL, NULL, &p));
    ck_assert(p.both == 2 && p.only_a == 1 && p.only_b == 0 && p.neither == 0);
    OK(f.ctx, rsd_compare_files(f.ctx, a, b, RSD_PARSER_REFERENCE, NULL, NULL, &p));
    ck_assert(p.both == 1 && p.only_a == 0 && p.only_b == 0 && p.neither == 2);
    ck_assert_int_eq(rsd_compare_files(f.ctx, a, b, RSD_PARSER_STRICT, stop, NULL, &p), 7);
    ck_assert_int_eq(rsd_compare_files(f.ctx, a, b, 3, NULL, NULL, &p), RSD_EINVAL);

    refuse_pair(&f, a, "nowhere.json", RSD_ENOTFOUND, "nowhere.json");
    const struct {
        const char *text;
        int code;
        const char *says;
    } cases[] = {
        {"{\"items\": [{\"id\": \"a\", \"gold\": \"1\", \"correct\": true}]}", RSD_EMISMATCH, "has no item \"b\""},
        {"{\"items\": 3}", RSD_EFORMAT, "bad.json: is not what eval wrote"},
        {"{\"items\": []}", RSD_EFORMAT, "no items"},
        {"{\"items\": [{\"gold\": \"1\"}]}", RSD_EFORMAT, "bad.json: item 1"},
        {"{\"items\": [{\"id\": \"a\", \"gold\": \"1\", \"correct\": 1}]}", RSD_EFORMAT, "bad.json: item 1"},
        {"{\"items\": [{\"id\": \"a\", \"gold\": \"7\", \"correct\": true}]}", RSD_EMISMATCH, "gold answer"},
        {"{\"items\": [{\"id\": \"a\", \"gold\": \"1\"}, {\"id\": \"a\", \"gold\": \"1\"}]}", RSD_EFORMAT, "the same id \"a\""},
        {"{\"items\": [", RSD_EFORMAT, "bad.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_write(bad, cases[i].text, strlen(cases[i].text));
        refuse_pair(&f, a, bad, cases[i].code, cases[i].says);
    }
    static const char more[] = "{\"items\": [{\"id\": \"z\", \"gold\": \"1\", \"correct\": true}]}";
    test_write(bad, more, sizeof more - 1);
    refuse_pair(&f, bad, a, RSD_EMISMATCH, "has no item \"z\"");
    eval_close(&f);
}
END_TEST

START_TEST(an_evaluation_compares_with_itself) {
    struct fix f = eval_open(true);
    rsd_evaluator_options o = eval_answer_only();
    const char *out = test_path(f.dir, "eval.json");
    rsd_paired p = {.size = sizeof p};
    for (o.samples = 1; o.samples < 9; o.samples += 7, o.temperature = 2) {
        eval_score(&f, &o, "gsm8k", f.data, out);
        for (int parser = 0; parser < 3; parser++) {
            OK(f.ctx, rsd_compare_files(f.ctx, out, out, parser, stop, NULL, &p));
            ck_assert_uint_eq(p.both + p.neither, N);
            if (o.samples == 1)
                ck_assert_uint_eq(p.both, 2);
        }
    }
    eval_close(&f);
}
END_TEST

TCase *eval_runs_case(void) {
    TCase *c = tcase_create("runs");
    tcase_add_test(c, parsers_stand_side_by_side);
    tcase_add_test(c, perplexities_are_those_of_the_gold_tokens);
    tcase_add_test(c, samples_vote);
    tcase_add_test(c, sampling_options_out_of_range_are_refused);
    tcase_add_test(c, results_are_kept_and_found_by_content);
    tcase_add_test(c, two_evaluations_are_compared_item_by_item);
    tcase_add_test(c, an_evaluation_compares_with_itself);
    return c;
}
