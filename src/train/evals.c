/* Evaluations on the way: what has to be there before the first step, doing them, and stopping when they no longer get better.
 *
 * A checkpoint is written after its step's evaluations, so that whoever goes on from it lacks none. Where a person stops in the
 * middle of one, the checkpoint says that it is incomplete, and the next call does it again: sets whose line stands in the metrics
 * are not asked twice. */
#include "train/run.h"

#include "data/overlap.h"

#include <math.h>
#include <string.h>

static int open_evaluator(rsd_trainer *t, const struct eval_job *j, rsd_evaluator **out, struct err *e) {
    rsd_evaluator_options o;
    rsd_evaluator_options_init(&o, sizeof o);
    o.demos = j->demos;
    o.seed = (uint64_t)t->config.seed;
    o.format = (int32_t)j->format;
    o.shots = (int32_t)j->shots;
    o.max_tokens = (int32_t)j->max_tokens;
    o.batch = (int32_t)j->batch;
    o.limit = (int32_t)j->limit;
    int code = rsd_evaluator_open(t->ctx, t->model, t->tok, &o, out);
    return code ? run_took(t->ctx, code, e) : 0;
}

/* ---- before the first step ---- */

/* No demonstration is an item that is tested. */
static int check_demos(rsd_trainer *t, const struct eval_job *j, const struct questions *items, struct err *e) {
    for (size_t i = 0; i < t->config.evals.n; i++) {
        const char *path = t->config.evals.v[i].demos;
        struct questions demos;
        struct overlap shown;
        struct questions_from from = {.path = path, .task = TASK_ANY};
        if (!path)
            continue;
        int code = questions_read(&demos, &t->ctx->alloc, &from, e);
        if (code)
            return code;
        code = overlap_open(&shown, &demos, e);
        code = code ? code : overlap_refuse(&shown, path, items, j->data, "demonstrations must not be what is tested", e);
        overlap_free(&shown);
        questions_free(&demos);
        if (code)
            return code;
    }
    return 0;
}

static int check_job(rsd_trainer *t, const struct eval_job *j, struct err *e) {
    struct questions items;
    struct questions_from from = {.path = j->data, .answers = true};
    rsd_evaluator *v = NULL;
    if (!file_exists(j->data))
        return err_set(e, ERR_NOTFOUND, "%s: no such file", j->data);
    from.task = (int)j->task;
    int code = questions_read(&items, &t->ctx->alloc, &from, e);
    if (code)
        return code;
    if (j->kind != EVAL_SEEN) {
        code = rsd_dataset_disjoint(t->data, j->data);
        code = code ? run_took(t->ctx, code, e) : check_demos(t, j, &items, e);
    }
    questions_free(&items);
    code = code ? code : open_evaluator(t, j, &v, e);
    rsd_evaluator_close(v);
    return code;
}

int evals_check(rsd_trainer *t, struct err *e) {
    for (size_t i = 0; i < t->config.hold_out.n; i++) {
        int code = rsd_dataset_disjoint(t->data, t->config.hold_out.v[i]);
        if (code) {
            run_took(t->ctx, code, e);
            return err_within(e, "key \"hold_out\"");
        }
    }
    for (size_t i = 0; i < t->config.evals.n; i++)
        if (check_job(t, &t->config.evals.v[i], e))
            return err_within(e, "key \"eval\", %s", t->config.evals.v[i].name);
    return 0;
}

/* ---- on the way ---- */

bool evals_pending(const rsd_trainer *t) {
    const struct run_config *c = &t->config;
    uint64_t step = t->at.step;
    if (!c->eval_every || !c->evals.n || t->at.evaluated == step + 1)
        return false;
    if (!step)
        return c->eval_start;
    return step % (uint64_t)c->eval_every == 0 || step == (uint64_t)c->steps;
}

/* One set, unless that has been done. Its accuracy. */
static int evaluate(rsd_trainer *t, const struct eval_job *j, double *accuracy, struct err *e) {
    rsd_evaluator *v = NULL;
    rsd_score score = {.size = sizeof score};
    bool found = false;
    char *dir = NULL, *path = NULL;
    int code = run_dir_find_eval(t, j->name, accuracy, &found, e);
    if (code || found)
        return code;
    dir = run_path(t, e, "eval");
    path = run_path(t, e, "eval/step-%" PRIu64 "-%s.json", t->at.step, j->name);
    code = !dir || !path ? e->code : dir_make(dir, e);
    code = code ? code : open_evaluator(t, j, &v, e);
    if (!code) {
        code = rsd_evaluator_file(v, run_config_task(j), j->data, path, t->progress, t->progress_user, &score);
        if (code < 0)
            run_took(t->ctx, code, e);
        else if (code) /* what the progress function returned */
            code = RSD_AGAIN;
        else
            code = run_dir_log_eval(t, j, &score, e);
    }
    if (!code)
        log_write(&t->ctx->log, LOG_INFO, "step %" PRIu64 ": %s: %" PRIu64 " of %" PRIu64 " correct", t->at.step, j->name,
                  score.correct, score.n);
    *accuracy = score.accuracy;
    rsd_evaluator_close(v);
    mem_free(&t->ctx->alloc, dir);
    mem_free(&t->ctx->alloc, path);
    return code;
}

/* A new best, or one more that is none. */
static int judge(rsd_trainer *t, double mean, struct err *e) {
    struct progress *at = &t->at;
    at->watched = mean;
    if (isnan(mean))
        return 0;
    if (isnan(at->best) || mean > at->best) {
        at->best = mean;
        at->best_step = at->step;
        at->stale = 0;
        return 0;
    }
    at->stale++;
    at->stopped = t->config.patience && at->stale >= (uint64_t)t->config.patience;
    return at->stopped ? run_dir_log_stop(t, e) : 0;
}

int evals_run(rsd_trainer *t, struct err *e) {
    const struct run_config *c = &t->config;
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < c->evals.n; i++) {
        double accuracy = NAN;
        int code = evaluate(t, &c->evals.v[i], &accuracy, e);
        if (code)
            return code;
        if (run_config_watches(c, &c->evals.v[i])) {
            sum += accuracy;
            n++;
        }
    }
    t->at.evaluated = t->at.step + 1;
    return judge(t, n ? sum / (double)n : NAN, e);
}
