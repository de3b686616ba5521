/* Evaluations on the way and what hangs on them, what may not be tested with, and what each format weighs. */
#include "test_train.h"

#include "core/json.h"
#include "run_fixture.h"
#include "train/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Questions 12 .. 15 of the world of train_data, which has 0 .. 11. */
static void write_dev(const struct fix *f, const char *name, size_t from, size_t to) {
    static const char *const words[] = {"one", "two", "three", "four"};
    struct str s;
    str_init(&s, NULL);
    for (size_t i = from; i < to; i++)
        str_addf(&s, "{\"id\": \"d%zu\", \"question\": \"what is %s plus four\", \"answer\": \"%zu\", \"rationale\": \"so\"}\n",
                 i, words[i], i + 5);
    test_write(at(f, name), s.p, s.n);
    str_free(&s);
}

/* The line of metrics.jsonl with that step and set (NULL: none), to json_free; NULL: there is none. *n: how many there are. */
static struct json *line_of(const struct fix *f, const char *run_dir, int step, const char *set, size_t *n) {
    char *text = test_read(test_path(at(f, run_dir), "metrics.jsonl"), NULL);
    struct json *found = NULL;
    *n = 0;
    for (char *p = text, *end; *p; p = end + 1) {
        struct json *line = NULL;
        end = strchr(p, '\n');
        ck_assert_int_eq(json_parse(p, (size_t)(end - p), &line, NULL), 0);
        const struct json *name = json_get(line, "set");
        bool same = set ? name && text_is(json_text(name), set) : !name && !json_get(line, "stopped");
        if ((int)json_number(json_get(line, "step")) == step && same) {
            ++*n;
            json_free(found);
            found = line;
        } else {
            json_free(line);
        }
    }
    free(text);
    return found;
}

static char evals[3000];

/* "eval": a set a of two items in distribution, b of two others out of it, both of the answers alone. */
static const char *two_sets(struct fix *f, const char *more) {
    write_dev(f, "a.jsonl", 0, 2);
    write_dev(f, "b.jsonl", 2, 4);
    snprintf(evals, sizeof evals,
             "%s, \"eval_every\": 2, \"eval\": [{\"task\": \"jsonl\", \"data\": \"%s/a.jsonl\", \"format\": \"zs-ao\", "
             "\"max_tokens\": "
             "3, \"name\": \"a\"}, {\"task\": \"jsonl\", \"data\": \"%s/b.jsonl\", \"format\": \"zs-ao\", \"kind\": \"ood\", "
             "\"max_tokens\": 3, \"name\": \"b\"}]",
             more, f->dir, f->dir);
    return evals;
}

START_TEST(evaluations_stand_in_the_metrics_with_their_kind) {
    struct fix f;
    size_t n;
    open_fix(&f);
    run(&f, write_run(&f, "run", two_sets(&f, ", \"eval_start\": true")), 0, 0);
    for (int step = 0; step <= 6; step++) {
        for (int set = 0; set < 2; set++) {
            struct json *line = line_of(&f, "run", step, set ? "b" : "a", &n);
            ck_assert_uint_eq(n, step % 2 == 0); /* before the first step, too */
            if (!line)
                continue;
            ck_assert(text_is(json_text(json_get(line, "kind")), set ? "ood" : "id"));
            ck_assert(text_is(json_text(json_get(line, "format")), "zs-ao"));
            ck_assert_double_eq(json_number(json_get(line, "n")), 2);
            ck_assert_double_eq(json_number(json_get(line, "accuracy")), json_number(json_get(line, "correct")) / 2);
            ck_assert(json_number(json_get(line, "answer_perplexity")) > 1);
            ck_assert_int_eq(json_type(json_get(line, "rationale_perplexity")), JSON_NULL); /* answers alone are asked for */
            json_free(line);
        }
    }
    ck_assert(file_exists(at(&f, "run/eval/step-0-a.json")) && file_exists(at(&f, "run/eval/step-6-b.json")));
    run(&f, write_run(&f, "straight", ""), 0, 0);
    same_file(&f, "straight", "run", "checkpoints/step-6/model.safetensors"); /* looking does not touch */
    close_fix(&f);
}
END_TEST

START_TEST(training_refuses_what_is_tested_with) {
    struct fix f;
    char more[2000];
    open_fix(&f);
    const char *items = "\"task\": \"jsonl\", \"max_tokens\": 2";
    snprintf(more, sizeof more, ", \"eval_every\": 2, \"eval\": [{%s, \"data\": \"%s/items.jsonl\", \"name\": \"dev\"}]", items,
             f.dir);
    refuse(&f, write_run(&f, "run", more), 0, RSD_EMISMATCH, "key \"eval\", dev: ");
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(f.ctx), "data: question 1 (\"q0\") also stands in"));
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(f.ctx), "items.jsonl: question 1 (\"q0\"), and 11 more"));
    snprintf(more, sizeof more, ", \"hold_out\": [\"%s/items.jsonl\"]", f.dir);
    refuse(&f, write_run(&f, "run", more), 0, RSD_EMISMATCH, "key \"hold_out\": ");
    snprintf(more, sizeof more, ", \"hold_out\": [\"%s/nothing\"]", f.dir);
    refuse(&f, write_run(&f, "run", more), 0, RSD_ENOTFOUND, "nothing");
    ck_assert(!file_exists(at(&f, "run")));

    /* nor is what is tested shown as an example */
    write_dev(&f, "dev.jsonl", 0, 4);
    snprintf(
        more, sizeof more,
        ", \"eval_every\": 2, \"eval\": [{%s, \"data\": \"%s/dev.jsonl\", \"name\": \"dev\"}, {%s, \"data\": \"%s/items.jsonl\", "
        "\"kind\": \"seen\", \"format\": \"ic-ao\", \"shots\": 2, \"demos\": \"%s/dev.jsonl\", \"name\": \"seen\"}]",
        items, f.dir, items, f.dir, f.dir);
    refuse(&f, write_run(&f, "run", more), 0, RSD_EMISMATCH, "demonstrations must not be what is tested");

    /* the questions themselves may be looked at under their own name, and other questions held out */
    snprintf(more, sizeof more,
             ", \"hold_out\": [\"%s/dev.jsonl\"], \"eval_every\": 6, \"eval\": [{%s, \"data\": \"%s/items.jsonl\", \"kind\": "
             "\"seen\", \"name\": \"seen\"}]",
             f.dir, items, f.dir);
    run(&f, write_run(&f, "run", more), 0, 0);
    ck_assert(file_exists(at(&f, "run/eval/step-6-seen.json")));
    close_fix(&f);
}
END_TEST

/* ---- early stop ---- */

/* A student that never answers anything right. */
#define HOPELESS ", \"lr\": 0, \"steps\": 40, \"save_every\": 0"

START_TEST(run_ends_when_evaluations_no_longer_get_better) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    size_t n;
    open_fix(&f);
    const char *json = write_run(&f, "run", two_sets(&f, HOPELESS ", \"patience\": 3"));
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 0, &t));
    for (uint64_t step = 1; step <= 8; step++) { /* 2 is the best, 4, 6 and 8 are no better */
        OK(f.ctx, rsd_trainer_step(t, &s));
        ck_assert_uint_eq(s.step, step);
        ck_assert_int_eq(s.stopped, step == 8);
        ck_assert(step % 2 ? isnan(s.watched) : s.watched <= 0);
        ck_assert_uint_eq(s.best_step, step < 2 ? 0 : 2);
    }
    ck_assert_int_eq(rsd_trainer_step(t, &s), RSD_END);
    ck_assert_int_eq(s.stopped, 1);
    OK(f.ctx, rsd_trainer_save(t));
    rsd_trainer_close(t);
    char *text = test_read(at(&f, "run/metrics.jsonl"), NULL);
    ck_assert_ptr_nonnull(strstr(text, "{\"step\":8,\"stopped\":\"patience\",\"best_step\":2,\"best\":0}"));
    free(text);
    run(&f, json, 1, 0); /* it stays so */
    json_free(line_of(&f, "run", 9, NULL, &n));
    ck_assert_uint_eq(n, 0);
    run(&f, write_run(&f, "run", two_sets(&f, HOPELESS ", \"patience\": 5")), 1, 0); /* until more patience is had */
    json_free(line_of(&f, "run", 12, NULL, &n));
    ck_assert_uint_eq(n, 1);
    json_free(line_of(&f, "run", 13, NULL, &n));
    ck_assert_uint_eq(n, 0);
    close_fix(&f);
}
END_TEST

START_TEST(patience_counts_across_a_kill) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    open_fix(&f);
    const char *json = write_run(&f, "run", two_sets(&f, ", \"lr\": 0, \"steps\": 40, \"save_every\": 5, \"patience\": 3"));
    run_and_die(&f, json, 0, 7); /* goes on from 5: the best was at 2, one since */
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 1, &t));
    while (!s.stopped)
        OK(f.ctx, rsd_trainer_step(t, &s));
    ck_assert_uint_eq(s.step, 8);
    ck_assert_uint_eq(s.best_step, 2);
    rsd_trainer_close(t);
    close_fix(&f);
}
END_TEST

/* ---- the best ones ---- */

/* Learns its twelve answers by heart, which are watched under their name. */
static const char *learner(struct fix *f, const char *more) {
    snprintf(
        evals, sizeof evals,
        ", \"steps\": 120, \"accumulate\": 1, \"batch_tokens\": 400, \"lr\": 0.02, \"dropout\": 0, \"schedule\": \"constant\", "
        "\"formats\": {\"zs-ao\": 1}, \"save_every\": 0, \"eval_every\": 10, \"watch\": \"known\", \"eval\": [{\"task\": "
        "\"jsonl\", \"data\": \"%s/items.jsonl\", \"format\": \"zs-ao\", \"kind\": \"seen\", \"max_tokens\": 6, \"name\": "
        "\"known\"}]%s",
        f->dir, more);
    return evals;
}

static int rising(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

START_TEST(best_checkpoints_are_kept_beside_the_newest) {
    struct fix f;
    char **names = NULL;
    size_t n = 0, line;
    double accuracy[12], sorted[12];
    open_fix(&f);
    run(&f, write_run(&f, "run", learner(&f, ", \"keep\": 1, \"keep_best\": 2")), 0, 0);
    for (int i = 0; i < 12; i++) {
        struct json *j = line_of(&f, "run", 10 * (i + 1), "known", &line);
        sorted[i] = accuracy[i] = json_number(json_get(j, "accuracy"));
        json_free(j);
    }
    qsort(sorted, 12, sizeof *sorted, rising);
    ck_assert_msg(sorted[0] < sorted[11], "nothing was learned: the test says nothing");
    ck_assert_int_eq(dir_names(NULL, at(&f, "run/checkpoints"), &names, &n, NULL), 0);
    ck_assert(n == 2 || n == 3); /* the last one may be among the best */
    size_t best = 0;
    bool last = false;
    for (size_t i = 0; i < n; i++) {
        int step = atoi(names[i] + 5);
        ck_assert_int_eq(step % 10, 0);
        last |= step == 120;
        best += accuracy[step / 10 - 1] >= sorted[10];
    }
    ck_assert(last && best >= 2);
    dir_names_free(NULL, names, n);
    close_fix(&f);
}
END_TEST

START_TEST(best_step_is_the_one_with_the_highest_accuracy) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    double best = -1;
    uint64_t step = 0;
    open_fix(&f);
    OK(f.ctx, rsd_trainer_open(f.ctx, write_run(&f, "run", learner(&f, "")), 0, &t));
    while (rsd_trainer_step(t, &s) == RSD_OK) {
        if (s.watched > best) {
            best = s.watched;
            step = s.step;
        }
        if (s.step >= 10)
            ck_assert_double_eq(s.best, best);
    }
    ck_assert_uint_eq(s.best_step, step);
    ck_assert(best > 0);
    rsd_trainer_close(t);
    close_fix(&f);
}
END_TEST

/* ---- stopping while it evaluates ---- */

struct stopper {
    int calls, stop_at;
};

static int stop_there(void *user, uint64_t done, uint64_t of) {
    struct stopper *s = user;
    ck_assert(done >= 1 && done <= of && of == 2);
    return ++s->calls == s->stop_at;
}

START_TEST(evaluation_that_is_stopped_is_done_by_the_next_call) {
    struct fix f;
    size_t n;
    open_fix(&f);
    run(&f, write_run(&f, "straight", two_sets(&f, SAVES)), 0, 0);
    for (int stop_at = 5; stop_at <= 8; stop_at++) { /* in set a and in set b of step 4 */
        struct stopper stop = {0, stop_at};
        struct err e = {0};
        rsd_trainer *t = NULL;
        ck_assert_int_eq(dir_remove(at(&f, "run"), &e), 0);
        const char *json = write_run(&f, "run", two_sets(&f, SAVES));
        OK(f.ctx, rsd_trainer_open(f.ctx, json, 0, &t));
        rsd_trainer_set_progress(t, stop_there, &stop);
        ck_assert_int_eq(rsd_trainer_run(t, NULL, NULL), RSD_AGAIN);
        rsd_trainer_close(t);
        ck_assert(file_exists(at(&f, "run/checkpoints/step-4")));
        ck_assert(!file_exists(at(&f, "run/eval/step-4-b.json")));
        ck_assert_int_eq(file_exists(at(&f, "run/eval/step-4-a.json")), stop_at > 6);
        run(&f, json, 1, 0);
        same_end(&f, "straight", "run");
        same_file(&f, "straight", "run", "checkpoints/step-4/trainer.json"); /* told afterwards */
        for (int step = 2; step <= 6; step += 2)
            for (int set = 0; set < 2; set++) {
                json_free(line_of(&f, "run", step, set ? "b" : "a", &n));
                ck_assert_uint_eq(n, 1);
            }
    }
    close_fix(&f);
}
END_TEST

START_TEST(host_that_steps_itself_goes_on_after_a_stopped_evaluation) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    struct stopper stop = {0, 3};
    open_fix(&f);
    OK(f.ctx, rsd_trainer_open(f.ctx, write_run(&f, "run", two_sets(&f, SAVES)), 0, &t));
    rsd_trainer_set_progress(t, stop_there, &stop);
    OK(f.ctx, rsd_trainer_step(t, &s));
    ck_assert_int_eq(rsd_trainer_step(t, &s), RSD_AGAIN);
    ck_assert_uint_eq(s.step, 2);
    ck_assert(!file_exists(at(&f, "run/checkpoints/step-2")));
    OK(f.ctx, rsd_trainer_step(t, &s));
    ck_assert_uint_eq(s.step, 3);
    ck_assert(file_exists(at(&f, "run/eval/step-2-b.json")) && file_exists(at(&f, "run/checkpoints/step-2")));
    rsd_trainer_close(t);
    close_fix(&f);
}
END_TEST

/* ---- what each format weighs ---- */

#define FORMATS                                                                                                                  \
    ", \"formats\": {\"zs-cot\": 1, \"zs-ao\": 1, \"ic-ao\": 1}, \"loss\": {\"zs-cot\": \"kl\", \"zs-ao\": {\"kind\": \"ce\", "  \
    "\"weight\": 3}}"

/* The norm of the gradient of one format over whole epoch 0, by the step-by-step calls. */
static double norm_by_hand(struct fix *f, int format, double *weight) {
    rsd_tokenizer *tok = NULL;
    rsd_t5 *m = NULL;
    rsd_dataset *d = NULL;
    rsd_loss *l = NULL;
    rsd_dataset_options o;
    rsd_loss_options lo;
    rsd_dataset_info info = {.size = sizeof info};
    const rsd_batch *b = NULL;
    double all = 0, sum = 0;
    rsd_dataset_options_init(&o, sizeof o);
    o.weights[RSD_FORMAT_ZS_COT] = o.weights[RSD_FORMAT_ZS_AO] = o.weights[RSD_FORMAT_IC_AO] = 1;
    o.batch_tokens = 120;
    OK(f->ctx, rsd_tokenizer_open(f->ctx, at(f, "spiece.model"), &tok));
    OK(f->ctx, rsd_t5_open(f->ctx, at(f, "model"), &m));
    OK(f->ctx, rsd_dataset_open(f->ctx, at(f, "data"), tok, &o, &d));
    OK(f->ctx, rsd_dataset_info_get(d, &info));
    OK(f->ctx, rsd_t5_set_dropout(m, 0, 1, 1));
    rsd_loss_options_init(&lo, sizeof lo);
    lo.kind = format == RSD_FORMAT_ZS_AO ? RSD_LOSS_CE : RSD_LOSS_KL;
    lo.weight = format == RSD_FORMAT_ZS_AO ? 3 : 1;
    OK(f->ctx, rsd_loss_open(f->ctx, &lo, &l));
    for (uint64_t i = 0; i < info.batches; i++) {
        OK(f->ctx, rsd_dataset_batch(d, i, &b));
        all += rsd_loss_weight(b);
    }
    for (uint64_t i = 0; i < info.batches; i++) {
        OK(f->ctx, rsd_dataset_batch_of(d, i, 1u << format, &b));
        if (!b->n)
            continue;
        sum += rsd_loss_weight(b);
        OK(f->ctx, rsd_t5_forward(m, b, RSD_TRAIN));
        OK(f->ctx, rsd_loss_begin(l, b, 1 / all));
        OK(f->ctx, rsd_t5_head(m, rsd_loss_tile, l));
        OK(f->ctx, rsd_t5_backward(m));
    }
    *weight = sum;
    double squares = 0;
    size_t n = 0;
    float *g = fixture_read(f->ctx, m, 1, &n);
    for (size_t i = 0; i < n; i++)
        squares += (double)g[i] * (double)g[i];
    free(g);
    rsd_loss_close(l);
    rsd_dataset_close(d);
    rsd_t5_close(m);
    rsd_tokenizer_close(tok);
    return sqrt(squares);
}

START_TEST(mixture_is_counted_and_measured) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_mixture m = {.size = sizeof m};
    open_fix(&f);
    const char *json = write_run(&f, "run", FORMATS ", \"share_batches\": 1000000, \"save_every\": 2");
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 0, &t));
    OK(f.ctx, rsd_trainer_mixture(t, &m));
    double loss = 0, gradient = 0, norms[RSD_FORMATS] = {0}, weights[RSD_FORMATS] = {0}, all = 0, sum = 0;
    for (int k = 0; k < RSD_FORMATS; k++) {
        if (k != RSD_FORMAT_IC_COT)
            norms[k] = norm_by_hand(&f, k, &weights[k]);
        weights[k] *= k == RSD_FORMAT_ZS_AO ? 3 : 1;
        all += weights[k];
        sum += norms[k];
    }
    for (int k = 0; k < RSD_FORMATS; k++) {
        ck_assert_double_eq_tol(m.loss[k], weights[k] / all, 1e-12);
        if (k == RSD_FORMAT_IC_COT) {
            ck_assert(isnan(m.norm[k]) && isnan(m.gradient[k]) && !m.items[k]);
            continue;
        }
        ck_assert_double_eq_tol(m.norm[k], norms[k], 1e-5 * norms[k]);
        ck_assert_double_eq_tol(m.gradient[k], norms[k] / sum, 1e-5);
        ck_assert_uint_eq(m.batch_items[k], m.items[k]);
        loss += m.loss[k];
        gradient += m.gradient[k];
    }
    ck_assert_double_eq_tol(loss, 1, 1e-12);
    ck_assert_double_eq_tol(gradient, 1, 1e-12);
    ck_assert_uint_eq(m.batch_items[RSD_FORMAT_ZS_AO], 12);
    char *text = test_read(at(&f, "run/mixture.json"), NULL);
    struct json *doc = NULL;
    ck_assert_int_eq(json_parse(text, strlen(text), &doc, NULL), 0);
    const struct json *ao = json_get(json_get(doc, "formats"), "zs-ao");
    ck_assert_double_eq(json_number(json_get(ao, "loss_share")), m.loss[RSD_FORMAT_ZS_AO]);
    ck_assert_double_eq(json_number(json_get(ao, "gradient_share")), m.gradient[RSD_FORMAT_ZS_AO]);
    ck_assert_double_eq(json_number(json_get(ao, "weight")), 3);
    ck_assert_uint_eq(json_count(json_get(doc, "formats")), 3);
    json_free(doc);
    free(text);
    OK(f.ctx, rsd_trainer_run(t, NULL, NULL));
    rsd_trainer_close(t);
    run(&f, write_run(&f, "without", FORMATS ", \"share_batches\": 0"), 0, 0);
    same_file(&f, "without", "run", "checkpoints/step-6/model.safetensors"); /* measuring does not touch */

    /* a run that goes on counts, and leaves what was measured at its start as it was written */
    char *before = test_read(at(&f, "run/mixture.json"), NULL);
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 1, &t));
    OK(f.ctx, rsd_trainer_mixture(t, &m));
    ck_assert(isnan(m.norm[RSD_FORMAT_ZS_AO]) && m.loss[RSD_FORMAT_ZS_AO] > 0);
    rsd_trainer_close(t);
    char *after = test_read(at(&f, "run/mixture.json"), NULL);
    ck_assert_str_eq(before, after);
    free(before);
    free(after);
    close_fix(&f);
}
END_TEST

START_TEST(metrics_tell_share_and_loss_of_each_format) {
    struct fix f;
    size_t n;
    double mean[RSD_FORMATS] = {0};
    open_fix(&f);
    run(&f, write_run(&f, "run", FORMATS), 0, 0);
    for (int step = 1; step <= 6; step++) {
        struct json *line = line_of(&f, "run", step, NULL, &n);
        double sum = 0;
        ck_assert_uint_eq(n, 1);
        for (const struct json *m = json_first(json_get(line, "shares")); m; m = json_next(m)) {
            struct text name = json_key(m);
            mean[rsd_format_parse(name.p, name.n)] += json_number(m) / 6;
            sum += json_number(m);
            const struct json *own = json_get(json_get(line, "losses"), name.p);
            ck_assert(own && json_number(own) > 0);
        }
        ck_assert_double_eq_tol(sum, 1, 1e-12);
        ck_assert_uint_eq(json_count(json_get(line, "losses")), json_count(json_get(line, "shares")));
        json_free(line);
    }
    ck_assert(mean[RSD_FORMAT_ZS_AO] > 0 && mean[RSD_FORMAT_ZS_COT] > 0 && mean[RSD_FORMAT_IC_AO] > 0);
    ck_assert_double_eq(mean[RSD_FORMAT_IC_COT], 0);
    close_fix(&f);
}
END_TEST

START_TEST(shares_of_target_tokens_are_what_is_asked_for) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_mixture m = {.size = sizeof m};
    open_fix(&f);
    OK(f.ctx, rsd_trainer_open(f.ctx, write_run(&f, "run", ", \"mix\": \"targets\", \"formats\": {\"zs-cot\": 1, \"zs-ao\": 1}"),
                               0, &t));
    OK(f.ctx, rsd_trainer_mixture(t, &m));
    ck_assert_double_eq_tol(m.loss[RSD_FORMAT_ZS_AO], 0.5, 0.03);
    ck_assert_uint_gt(m.items[RSD_FORMAT_ZS_AO], 2 * m.items[RSD_FORMAT_ZS_COT]);
    rsd_trainer_close(t);
    close_fix(&f);
}
END_TEST

/* ---- schedule ---- */

/* The rate is one of optimizer steps, however many batches make one (the reference's cosine was one of batches and hardly fell). */
START_TEST(rate_falls_with_the_steps_not_with_the_batches) {
    struct fix f;
    size_t n;
    open_fix(&f);
    for (int accumulate = 1; accumulate <= 3; accumulate += 2) {
        char more[200], name[20];
        snprintf(name, sizeof name, "run%d", accumulate);
        snprintf(more, sizeof more, ", \"schedule\": \"cosine\", \"warmup\": 2, \"accumulate\": %d", accumulate);
        run(&f, write_run(&f, name, more), 0, 0);
        for (int step = 1; step <= 6; step++) {
            struct json *line = line_of(&f, name, step, NULL, &n);
            double x = (step - 1 - 2) / 4.0, want = step <= 2 ? 0.01 * step / 3 : 0.01 * (1 + cos(3.14159265358979 * x)) / 2;
            ck_assert_double_eq_tol(json_number(json_get(line, "lr")), want, 1e-9);
            json_free(line);
        }
    }
    close_fix(&f);
}
END_TEST

Suite *train_watch_suite(void) {
    Suite *s = suite_create("train_watch");
    TCase *c = tcase_create("watch");
    tcase_add_test(c, evaluations_stand_in_the_metrics_with_their_kind);
    tcase_add_test(c, training_refuses_what_is_tested_with);
    tcase_add_test(c, run_ends_when_evaluations_no_longer_get_better);
    tcase_add_test(c, patience_counts_across_a_kill);
    tcase_add_test(c, best_checkpoints_are_kept_beside_the_newest);
    tcase_add_test(c, best_step_is_the_one_with_the_highest_accuracy);
    tcase_add_test(c, evaluation_that_is_stopped_is_done_by_the_next_call);
    tcase_add_test(c, host_that_steps_itself_goes_on_after_a_stopped_evaluation);
    tcase_add_test(c, mixture_is_counted_and_measured);
    tcase_add_test(c, metrics_tell_share_and_loss_of_each_format);
    tcase_add_test(c, shares_of_target_tokens_are_what_is_asked_for);
    tcase_add_test(c, rate_falls_with_the_steps_not_with_the_batches);
    suite_add_tcase(s, c);
    return s;
}
