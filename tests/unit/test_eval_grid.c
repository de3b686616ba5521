/* Grids: rules on scores made by hand, checkpoints of a run, a line through weight space. */
#include "test_eval.h"

#include "eval/grid.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rsd_grid *open_grid(rsd_ctx *ctx, size_t id, size_t ood, size_t test) {
    rsd_grid *g = NULL;
    const size_t counts[] = {id, ood, test};
    OK(ctx, rsd_grid_open(ctx, NULL, &g));
    for (int role = 0; role < 3; role++)
        for (size_t i = 0; i < counts[role]; i++) {
            char name[60];
            snprintf(name, sizeof name, "%c%zu=jsonl:zs-ao:x.jsonl", "iot"[role], i);
            OK(ctx, rsd_grid_parse_set(g, name, role));
        }
    return g;
}

/* A row that nobody evaluated; lenient accuracies are 1 - accuracy. */
static void put_row(rsd_grid *g, const char *name, const double *accuracies) {
    struct err e = {0};
    struct grid_row r = {.x = (double)g->n_rows, .scores = mem_zero(&g->ctx->alloc, g->n_sets, sizeof *r.scores, &e)};
    r.name = mem_strndup(&g->ctx->alloc, name, strlen(name), &e);
    for (size_t i = 0; i < g->n_sets; i++) {
        r.scores[i].accuracy = accuracies[i];
        r.scores[i].lenient_accuracy = 1 - accuracies[i];
    }
    ck_assert_int_eq(mem_reserve(&g->ctx->alloc, &g->rows, &g->rows_cap, g->n_rows + 1, sizeof *g->rows, &e), 0);
    g->rows[g->n_rows++] = r;
}

static size_t chosen(const rsd_grid *g, int rule) {
    size_t row = 99;
    ck_assert_int_eq(rsd_grid_choose(g, rule, &row), RSD_OK);
    return row;
}

/* in distribution, out of distribution (two sets), test */
static const double learning[][4] = {
    {0.10, 0.60, 0.40, 0.9}, /* nothing learned, nothing lost */
    {0.50, 0.50, 0.50, 0.1}, /* on the front: the mean out of distribution is the same, and it has learned */
    {0.70, 0.40, 0.42, 0.5}, {0.60, 0.30, 0.30, 0.5}, {0.80, 0.10, 0.10, 0.5}, {0.80, 0.10, 0.10, 0.5}, {0.79, 0.00, 0.10, 0.5}};

START_TEST(rules_choose_by_the_means_of_their_sets) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_grid *g = open_grid(ctx, 1, 2, 1);
    size_t row = 0;
    ck_assert_int_eq(rsd_grid_choose(g, RSD_RULE_LAST, &row), RSD_END);
    for (size_t i = 0; i < sizeof learning / sizeof *learning; i++)
        put_row(g, (char[]){'a' + (char)i, 0}, learning[i]);
    ck_assert_double_eq_tol(rsd_grid_mean(g, 2, RSD_SET_OOD), 0.41, 1e-12);
    ck_assert(isnan(rsd_grid_mean(g, 99, RSD_SET_OOD)));
    ck_assert_uint_eq(chosen(g, RSD_RULE_LAST), 6);
    ck_assert_uint_eq(chosen(g, RSD_RULE_BEST_ID), 4);       /* the first of equals */
    ck_assert_uint_eq(chosen(g, RSD_RULE_BEST_MEAN_OOD), 0); /* 0.5 twice: the first */
    /* distances to (0.8, 0.5) in units of 0.7 and 0.45: b 0.43, c 0.25, e 0.89 */
    ck_assert_uint_eq(chosen(g, RSD_RULE_PARETO), 2);
    static const int front[] = {0, 1, 1, 0, 1, 1, 0};
    for (size_t i = 0; i < 7; i++)
        ck_assert_int_eq(rsd_grid_front(g, i), front[i]);
    ck_assert_int_eq(rsd_grid_choose(g, RSD_RULES, &row), RSD_EINVAL);
    rsd_grid_close(g);

    g = open_grid(ctx, 1, 0, 1); /* without sets out of distribution */
    put_row(g, "a", (const double[]){0.2, 0});
    put_row(g, "b", (const double[]){0.1, 0});
    ck_assert_uint_eq(chosen(g, RSD_RULE_BEST_ID), 0);
    ck_assert_int_eq(rsd_grid_choose(g, RSD_RULE_BEST_MEAN_OOD, &row), RSD_END);
    ck_assert_int_eq(rsd_grid_choose(g, RSD_RULE_PARETO, &row), RSD_END);
    g->o.parser = RSD_PARSER_LENIENT;
    ck_assert_uint_eq(chosen(g, RSD_RULE_BEST_ID), 1);
    rsd_grid_close(g);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(the_table_shows_what_each_rule_would_have_scored) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_grid *g = open_grid(ctx, 1, 2, 1);
    const char *text = NULL;
    struct json *doc = NULL;
    struct err e = {0};
    for (size_t i = 0; i < 3; i++)
        put_row(g, (char[]){'a' + (char)i, 0}, learning[i]);
    OK(ctx, rsd_grid_text(g, &text));
    ck_assert_msg(strstr(text, "c                  70.0     40.0     42.0     50.0     70.0     41.0  *\n") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "best-mean-ood      10.0     60.0     40.0     90.0     10.0     50.0  a\n") != NULL, "%s", text);
    OK(ctx, rsd_grid_json(g, &text));
    ck_assert_msg(json_parse(text, strlen(text), &doc, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(json_count(json_get(doc, "rows")), 3);
    ck_assert_uint_eq(json_count(json_get(doc, "rules")), RSD_RULES);
    const struct json *rule = json_next(json_first(json_get(doc, "rules")));
    ck_assert(text_is(json_text(json_get(rule, "rule")), "best-id"));
    ck_assert(text_is(json_text(json_get(rule, "name")), "c"));
    ck_assert_double_eq(json_number(json_get(rule, "row")), 2);
    ck_assert_double_eq_tol(json_number(json_get(rule, "mean_ood")), 0.41, 1e-12);
    const struct json *score = json_first(json_get(rule, "scores"));
    ck_assert(text_is(json_text(json_get(score, "set")), "i0"));
    ck_assert_double_eq(json_number(json_get(score, "accuracy")), 0.7);
    json_free(doc);
    rsd_grid_close(g);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(sets_are_named_and_malformed_ones_refused) {
    static const struct {
        const char *text, *says;
    } cases[] = {{"", "expected [NAME=]TASK:FORMAT:DATA"},
                 {"gsm8k", "expected [NAME=]"},
                 {"gsm8k:zs-cot", "expected [NAME=]"},
                 {"gsm8k:zs-cot:", "expected [NAME=]"},
                 {":zs-cot:x", "expected [NAME=]"},
                 {"a=:zs-cot:x", "expected [NAME=]"},
                 {"gsm8k:zs:x", "there is no format \"zs\""},
                 {"gsm8k:ic-ao:x", "needs demonstrations"},
                 {"other=gsm8k:zs-cot:dev.jsonl", "two sets are called \"other\""}};
    rsd_ctx *ctx = fixture_ctx();
    rsd_grid *g = NULL;
    OK(ctx, rsd_grid_open(ctx, NULL, &g));
    OK(ctx, rsd_grid_parse_set(g, "gsm8k:zs-cot:some/dev.v2.jsonl", RSD_SET_ID));
    OK(ctx, rsd_grid_parse_set(g, "other=svamp:zs-ao:some:where=here/dev.jsonl", RSD_SET_OOD));
    ck_assert_str_eq(rsd_grid_set_name(g, 0), "dev.v2 zs-cot");
    ck_assert_str_eq(rsd_grid_set_name(g, 1), "other");
    ck_assert_str_eq(g->sets[1].data, "some:where=here/dev.jsonl");
    ck_assert_str_eq(g->sets[1].task, "svamp");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(rsd_grid_parse_set(g, cases[i].text, RSD_SET_ID), RSD_EINVAL);
        ck_assert_msg(strstr(rsd_ctx_error(ctx), cases[i].says) != NULL, "%s", rsd_ctx_error(ctx));
    }
    ck_assert_int_eq(rsd_grid_parse_set(g, "gsm8k:zs-cot:y", 3), RSD_EINVAL);
    ck_assert_uint_eq(rsd_grid_sets(g), 2);
    put_row(g, "a", (const double[]){0, 0});
    ck_assert_int_eq(rsd_grid_parse_set(g, "gsm8k:zs-cot:y", RSD_SET_ID), RSD_ESTATE);
    rsd_grid_close(g);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_set_has_settings_of_its_own_or_those_of_the_grid) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_grid *g = NULL;
    rsd_grid_options o;
    rsd_grid_options_init(&o, sizeof o);
    o.perplexity = 2;
    ck_assert_int_eq(rsd_grid_open(ctx, &o, &g), RSD_EINVAL);
    o.perplexity = 0;
    o.limit = 7;
    OK(ctx, rsd_grid_open(ctx, &o, &g));
    rsd_grid_set set = {
        .size = sizeof set, .name = "a", .task = "jsonl", .data = "x", .shots = 2, .max_tokens = 9, .batch = 3, .limit = 5};
    OK(ctx, rsd_grid_add_set(g, &set));
    set.name = "b";
    set.limit = 8; /* the smaller one holds */
    OK(ctx, rsd_grid_add_set(g, &set));
    set.name = "c";
    set.size = offsetof(rsd_grid_set, shots); /* a caller of before: what lies behind is not read */
    OK(ctx, rsd_grid_add_set(g, &set));
    set.name = "d";
    set.size = sizeof set;
    set.batch = -1;
    ck_assert_int_eq(rsd_grid_add_set(g, &set), RSD_EINVAL);
    set.size = offsetof(rsd_grid_set, role);
    ck_assert_int_eq(rsd_grid_add_set(g, &set), RSD_EINVAL);
    const struct grid_set *s = g->sets;
    ck_assert_int_eq(s[0].shots * 1000 + s[0].max_tokens * 100 + s[0].batch * 10 + s[0].limit, 2935);
    ck_assert_int_eq(s[1].limit, 7);
    ck_assert_int_eq(s[2].shots, o.shots);
    ck_assert_int_eq(s[2].max_tokens, o.max_tokens);
    ck_assert_int_eq(s[2].batch, o.batch);
    ck_assert_int_eq(s[2].limit, 7);
    rsd_grid_close(g);
    rsd_ctx_close(ctx);
}
END_TEST

/* ---- rows from files ---- */

static void save(struct fix *f, rsd_t5 *m, const char *dir, const char *name, char out[600]) {
    snprintf(out, 600, "%s/%s", dir, name);
    OK(f->ctx, rsd_t5_save(m, out, RSD_F32, rsd_tokenizer_path(f->tok)));
}

/* The task that was learned by heart, and a copy of it as the set out of distribution. */
static rsd_grid *grid_of(struct fix *f, const char *cache) {
    rsd_grid *g = NULL;
    rsd_grid_options o;
    char set[500];
    ck_assert_int_eq(rsd_grid_options_init(&o, sizeof o), RSD_OK);
    o.cache = cache;
    o.max_tokens = 12;
    OK(f->ctx, rsd_grid_open(f->ctx, &o, &g));
    snprintf(set, sizeof set, "dev=gsm8k:zs-ao:%s", f->data);
    OK(f->ctx, rsd_grid_parse_set(g, set, RSD_SET_ID));
    snprintf(set, sizeof set, "other=svamp:zs-ao:%s", f->data);
    OK(f->ctx, rsd_grid_parse_set(g, set, RSD_SET_OOD));
    return g;
}

static rsd_score score(const rsd_grid *g, size_t row, size_t set) {
    rsd_score s = {.size = sizeof s};
    ck_assert_int_eq(rsd_grid_score(g, row, set, &s), RSD_OK);
    return s;
}

static int note_progress(void *user, uint64_t done, uint64_t of) {
    uint64_t *last = user;
    ck_assert(done >= *last && done <= of);
    *last = done;
    return 0;
}

START_TEST(checkpoints_of_a_run_are_rows_by_step) {
    struct fix f = eval_open(true);
    char run[400], checkpoints[450], path[600];
    rsd_t5 *fresh = NULL;
    struct err e = {0};
    uint64_t last = 0;
    strcpy(run, test_path(f.dir, "run"));
    snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", run);
    rsd_grid *g = grid_of(&f, NULL);
    ck_assert_int_eq(rsd_grid_run(g, run, NULL, NULL), RSD_ENOTFOUND);
    ck_assert_int_eq(dir_make(checkpoints, &e), 0);
    ck_assert_int_eq(rsd_grid_run(g, run, NULL, NULL), RSD_ENOTFOUND);
    ck_assert_msg(strstr(rsd_ctx_error(f.ctx), "holds no checkpoint") != NULL, "%s", rsd_ctx_error(f.ctx));
    OK(f.ctx, rsd_t5_create(f.ctx, test_path(f.dir, "config.json"), 5, &fresh));
    save(&f, f.model, checkpoints, "step-10", path);
    save(&f, fresh, checkpoints, "step-9", path);
    snprintf(path, sizeof path, "%s/step-30.tmp", checkpoints); /* being written */
    ck_assert_int_eq(dir_make(path, &e), 0);
    OK(f.ctx, rsd_grid_run(g, run, note_progress, &last));
    ck_assert_uint_eq(last, 4000);
    ck_assert_uint_eq(rsd_grid_rows(g), 2);
    ck_assert_str_eq(rsd_grid_row_name(g, 0), "step-9");
    ck_assert_str_eq(rsd_grid_row_name(g, 1), "step-10");
    ck_assert_double_eq(rsd_grid_x(g, 1), 10);
    ck_assert_double_eq(score(g, 0, 0).accuracy, 0);
    ck_assert_double_eq(score(g, 1, 0).accuracy, 0.5);
    ck_assert_double_eq(score(g, 1, 1).accuracy, 0.5);
    ck_assert_int_eq(score(g, 1, 1).reused, 0);
    rsd_grid_close(g);
    char **names = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/eval/select", run);
    ck_assert_int_eq(dir_names(NULL, path, &names, &n, NULL), 0);
    ck_assert_uint_eq(n, 4);
    ck_assert_ptr_nonnull(strstr(names[0], "step-10-gsm8k-zs-ao-"));
    dir_names_free(NULL, names, n);
    g = grid_of(&f, NULL);
    OK(f.ctx, rsd_grid_run(g, run, NULL, NULL));
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(score(g, i / 2, i % 2).reused, 1);
    rsd_grid_close(g);
    rsd_t5_close(fresh);
    eval_close(&f);
}
END_TEST

static float *weights_of(struct fix *f, const char *dir, size_t *n) {
    rsd_t5 *m = NULL;
    OK(f->ctx, rsd_t5_open(f->ctx, dir, &m));
    float *w = fixture_read(f->ctx, m, 0, n);
    rsd_t5_close(m);
    return w;
}

static void same_weights(struct fix *f, const char *a, const char *b) {
    size_t n = 0, k = 0;
    float *x = weights_of(f, a, &n), *y = weights_of(f, b, &k);
    ck_assert_uint_eq(n, k);
    ck_assert_mem_eq(x, y, n * sizeof *x);
    free(x);
    free(y);
}

/* A base with random weights, the model that was trained from other ones, and a third. */
struct space {
    struct fix f;
    char base[600], tuned[600], third[600];
};

static struct space open_space(void) {
    struct space s = {.f = eval_open(true)};
    rsd_t5 *m = NULL;
    save(&s.f, s.f.model, s.f.dir, "tuned", s.tuned);
    OK(s.f.ctx, rsd_t5_create(s.f.ctx, test_path(s.f.dir, "config.json"), 1, &m)); /* what it was trained from */
    save(&s.f, m, s.f.dir, "base", s.base);
    rsd_t5_close(m);
    OK(s.f.ctx, rsd_t5_create(s.f.ctx, test_path(s.f.dir, "config.json"), 8, &m));
    save(&s.f, m, s.f.dir, "third", s.third);
    rsd_t5_close(m);
    return s;
}

START_TEST(a_sweep_goes_from_the_base_to_the_tuned_model) {
    struct space s = open_space();
    static const double alphas[] = {0, 0.5, 1};
    char models[400], a[450];
    const char *tuned[] = {s.tuned};
    strcpy(models, test_path(s.f.dir, "models"));
    rsd_sweep w = {.size = sizeof w, .base = s.base, .tuned = tuned, .n_tuned = 1, .alphas = alphas, .n_alphas = 3};
    rsd_grid *g = grid_of(&s.f, NULL);
    uint64_t last = 0;
    OK(s.f.ctx, rsd_grid_sweep(g, &w, note_progress, &last));
    ck_assert_uint_eq(last, 6000);
    ck_assert_uint_eq(rsd_grid_rows(g), 3);
    ck_assert_str_eq(rsd_grid_row_name(g, 1), "alpha-0.5");
    ck_assert_double_eq(score(g, 0, 0).accuracy, 0);
    ck_assert_double_eq(score(g, 2, 0).accuracy, 0.5);
    for (size_t end = 0; end < 3; end += 2)
        ck_assert(fabs(score(g, 1, 0).answer_perplexity - score(g, end, 0).answer_perplexity) > 0.01);
    ck_assert(!file_exists(models)); /* nothing is written that was not asked for */
    w.save = models;
    OK(s.f.ctx, rsd_grid_sweep(g, &w, NULL, NULL));
    ck_assert_uint_eq(rsd_grid_rows(g), 6);
    snprintf(a, sizeof a, "%s/alpha-0", models);
    same_weights(&s.f, a, s.base);
    snprintf(a, sizeof a, "%s/alpha-1", models);
    same_weights(&s.f, a, s.tuned);
    rsd_grid_close(g);
    eval_close(&s.f);
}
END_TEST

START_TEST(a_sweep_of_several_tuned_models_goes_to_their_mean) {
    struct space s = open_space();
    static const double alphas[] = {2}, weights[] = {3, 1};
    char models[400], path[450];
    const char *tuned[] = {s.tuned, s.third};
    strcpy(models, test_path(s.f.dir, "models"));
    snprintf(path, sizeof path, "%s/alpha-2", models);
    rsd_sweep w = {.size = sizeof w,
                   .base = s.base,
                   .tuned = tuned,
                   .weights = weights,
                   .n_tuned = 2,
                   .alphas = alphas,
                   .n_alphas = 1,
                   .save = models};
    rsd_grid *g = grid_of(&s.f, NULL);
    OK(s.f.ctx, rsd_grid_sweep(g, &w, NULL, NULL));
    size_t n = 0;
    float *base = weights_of(&s.f, s.base, &n), *a = weights_of(&s.f, s.tuned, &n), *b = weights_of(&s.f, s.third, &n),
          *got = weights_of(&s.f, path, &n);
    for (size_t i = 0; i < n; i++) {
        double want = (double)base[i] + 2 * (0.75 * (double)a[i] + 0.25 * (double)b[i] - (double)base[i]);
        ck_assert_msg(fabs((double)got[i] - want) <= 2e-6 * fmax(1, fabs(want)), "%zu: %g, expected %g", i, (double)got[i], want);
    }
    free(base);
    free(a);
    free(b);
    free(got);
    rsd_grid_close(g);
    eval_close(&s.f);
}
END_TEST

START_TEST(sweeps_of_strangers_are_refused) {
    struct space s = open_space();
    rsd_ctx *ctx = s.f.ctx;
    static const double alphas[] = {0.5, (double)NAN}, weights[] = {0, -1};
    char small[600], words[400], other[400];
    const char *tuned[] = {s.tuned};
    rsd_t5 *m = NULL;
    rsd_tokenizer *tok = NULL;
    /* another tokenizer: the same pieces, no blank in front of a text */
    strcpy(words, test_path(s.f.dir, "words"));
    size_t n = 0;
    char *model = test_read(test_path(s.f.dir, "spiece.model"), &n);
    model[n - 1] = 0;
    struct err e = {0};
    ck_assert_int_eq(dir_make(words, &e), 0);
    strcpy(small, test_path(words, "spiece.model"));
    test_write(small, model, n);
    OK(ctx, rsd_tokenizer_open(ctx, small, &tok));
    ck_assert_str_ne(rsd_tokenizer_hash(tok), rsd_tokenizer_hash(s.f.tok));
    strcpy(other, test_path(s.f.dir, "stranger"));
    OK(ctx, rsd_t5_save(s.f.model, other, RSD_F32, small));
    rsd_sweep w = {.size = sizeof w, .base = s.base, .tuned = tuned, .n_tuned = 1, .alphas = alphas, .n_alphas = 1};
    rsd_grid *g = grid_of(&s.f, NULL);
    tuned[0] = other;
    ck_assert_int_eq(rsd_grid_sweep(g, &w, NULL, NULL), RSD_EMISMATCH);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), "stranger have different tokenizers") != NULL, "%s", rsd_ctx_error(ctx));
    /* another shape */
    const char *config = test_path(s.f.dir, "wide.json");
    fixture_config(config, FIXTURE_VOCAB + 1, "0");
    OK(ctx, rsd_t5_create(ctx, config, 1, &m));
    save(&s.f, m, s.f.dir, "wide", small);
    tuned[0] = small;
    ck_assert_int_eq(rsd_grid_sweep(g, &w, NULL, NULL), RSD_EMISMATCH);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), "model 2: shared.weight is 160 x 8 in one model and 161 x 8") != NULL, "%s",
                  rsd_ctx_error(ctx));
    tuned[0] = "nowhere";
    ck_assert_int_eq(rsd_grid_sweep(g, &w, NULL, NULL), RSD_ENOTFOUND);
    tuned[0] = s.tuned;
    w.weights = weights;
    ck_assert_int_eq(rsd_grid_sweep(g, &w, NULL, NULL), RSD_EINVAL);
    w.weights = weights + 1;
    ck_assert_int_eq(rsd_grid_sweep(g, &w, NULL, NULL), RSD_EINVAL);
    w.weights = NULL;
    w.n_alphas = 2;
    ck_assert_int_eq(rsd_grid_sweep(g, &w, NULL, NULL), RSD_EINVAL);
    ck_assert_uint_eq(rsd_grid_rows(g), 0);
    rsd_grid_close(g);
    rsd_t5_close(m);
    rsd_tokenizer_close(tok);
    free(model);
    eval_close(&s.f);
}
END_TEST

static int stop_late(void *user, uint64_t done, uint64_t of) {
    (void)user;
    return done > of / 2 ? 5 : 0;
}

START_TEST(a_sweep_that_was_stopped_goes_on_from_the_cache) {
    struct space s = open_space();
    static const double alphas[] = {0, 1};
    char cache[400];
    const char *tuned[] = {s.tuned};
    strcpy(cache, test_path(s.f.dir, "cache"));
    rsd_sweep w = {.size = sizeof w, .base = s.base, .tuned = tuned, .n_tuned = 1, .alphas = alphas, .n_alphas = 2};
    rsd_grid *g = grid_of(&s.f, cache);
    ck_assert_int_eq(rsd_grid_sweep(g, &w, stop_late, NULL), 5);
    ck_assert_uint_eq(rsd_grid_rows(g), 1);
    rsd_grid_close(g);
    g = grid_of(&s.f, cache);
    OK(s.f.ctx, rsd_grid_sweep(g, &w, NULL, NULL));
    ck_assert_int_eq(score(g, 0, 1).reused, 1);
    ck_assert_int_eq(score(g, 1, 0).reused, 0);
    rsd_grid_close(g);
    eval_close(&s.f);
}
END_TEST

START_TEST(any_allocation_of_a_sweep_may_fail) {
    struct space s = open_space();
    static const double alphas[] = {0.5};
    const char *tuned[] = {s.tuned, s.third};
    rsd_sweep w = {.size = sizeof w, .base = s.base, .tuned = tuned, .n_tuned = 2, .alphas = alphas, .n_alphas = 1};
    size_t failures = 0;
    for (size_t i = 1;; i += 3) {
        struct fail_alloc a;
        fail_alloc_init(&a, i, false);
        rsd_ctx_options o;
        rsd_ctx_options_init(&o, sizeof o);
        o.resize = a.a.resize;
        o.resize_user = a.a.user;
        rsd_ctx *ctx = NULL;
        rsd_grid *g = NULL;
        const char *text = NULL;
        rsd_grid_options options;
        rsd_grid_options_init(&options, sizeof options);
        options.max_tokens = 2;
        char set[500];
        snprintf(set, sizeof set, "dev=gsm8k:zs-ao:%s", s.f.data);
        int code = rsd_ctx_open(&o, &ctx);
        code = code ? code : rsd_grid_open(ctx, &options, &g);
        code = code ? code : rsd_grid_parse_set(g, set, RSD_SET_ID);
        code = code ? code : rsd_grid_sweep(g, &w, NULL, NULL);
        code = code ? code : rsd_grid_text(g, &text);
        code = code ? code : rsd_grid_json(g, &text);
        rsd_grid_close(g);
        rsd_ctx_close(ctx);
        ck_assert_uint_eq(a.live, 0);
        if (!a.failed) {
            ck_assert_int_eq(code, RSD_OK);
            break;
        }
        failures++;
        ck_assert_int_eq(code, RSD_ENOMEM);
    }
    ck_assert_uint_gt(failures, 20);
    eval_close(&s.f);
}
END_TEST

TCase *eval_grid_case(void) {
    TCase *c = tcase_create("grid");
    tcase_add_test(c, rules_choose_by_the_means_of_their_sets);
    tcase_add_test(c, the_table_shows_what_each_rule_would_have_scored);
    tcase_add_test(c, sets_are_named_and_malformed_ones_refused);
    tcase_add_test(c, a_set_has_settings_of_its_own_or_those_of_the_grid);
    tcase_add_test(c, checkpoints_of_a_run_are_rows_by_step);
    tcase_add_test(c, a_sweep_goes_from_the_base_to_the_tuned_model);
    tcase_add_test(c, a_sweep_of_several_tuned_models_goes_to_their_mean);
    tcase_add_test(c, sweeps_of_strangers_are_refused);
    tcase_add_test(c, a_sweep_that_was_stopped_goes_on_from_the_cache);
    tcase_add_test(c, any_allocation_of_a_sweep_may_fail);
    return c;
}
