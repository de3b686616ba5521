/* The run directory: run.json, metrics.jsonl, eval/. What a run writes about steps that a resumed run will do again is cut off
 * when it is opened, so that the files of a run that was stopped are those of one that was not. */
#include "train/run.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int run_took(rsd_ctx *ctx, int code, struct err *e) {
    return err_set(e, code, "%s", rsd_ctx_error(ctx));
}

int run_dtype(const rsd_trainer *t) {
    return t->config.dtype ? RSD_BF16 : RSD_F32;
}

char *run_path(const rsd_trainer *t, struct err *e, const char *fmt, ...) {
    char name[256], *path = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof name)
        err_set(e, ERR_INVALID, "%s: a file name is too long", t->dir);
    else if (file_join(&t->ctx->alloc, &path, e, t->dir, name))
        return NULL;
    return path;
}

static int check_config(rsd_trainer *t, const char *path, struct err *e) {
    struct run_config before;
    int code = run_config_read(&before, &t->ctx->alloc, path, e);
    if (!code && run_config_compare(&before, &t->config, &t->ctx->alloc, e))
        code = err_within(e, "%s is a run of another configuration", t->dir);
    run_config_free(&before);
    return code;
}

int run_dir_check(rsd_trainer *t, int resume, bool *holds, struct err *e) {
    char *json = run_path(t, e, "run.json");
    int code = json ? 0 : e->code;
    if (!code) {
        *holds = file_exists(json) || file_exists(t->saves);
        if (*holds && !resume)
            code = err_set(e, ERR_BUSY, "%s: holds a run: go on with --resume, or choose another \"out\"", t->dir);
        else if (file_exists(json))
            code = check_config(t, json, e);
    }
    mem_free(&t->ctx->alloc, json);
    return code;
}

int run_dir_lock(rsd_trainer *t, struct err *e) {
    char *path = NULL;
    if (!dir_make(t->dir, e) && (path = run_path(t, e, "metrics.jsonl")))
        t->metrics_open = !append_open(&t->metrics, &t->ctx->alloc, path, e);
    if (t->metrics_open && t->metrics.torn)
        log_write(&t->ctx->log, LOG_WARN, "%s: the last line was torn: %" PRIu64 " bytes removed", path, t->metrics.torn);
    mem_free(&t->ctx->alloc, path);
    return t->metrics_open ? 0 : e->code;
}

int run_dir_write_config(rsd_trainer *t, struct err *e) {
    char *path = run_path(t, e, "run.json");
    int code = path ? file_replace(&t->ctx->alloc, path, t->json.p, t->json.n, e) : e->code;
    mem_free(&t->ctx->alloc, path);
    return code;
}

/* The step that a metrics line is about; -1 if it is no such line. */
static double line_step(const char *p, size_t n) {
    struct json *line = NULL;
    double step = -1;
    if (!json_parse(p, n, &line, NULL))
        json_need_number(line, "step", 0, 1e15, &step, NULL);
    json_free(line);
    return step;
}

/* Steps rise from line to line, so looking from the end touches only what is to go. */
static int cut_metrics(rsd_trainer *t, const char *path, struct err *e) {
    struct file_map map = {0};
    if (file_map_open(&map, path, false, e))
        return e->code;
    const char *p = map.p;
    size_t end = map.n;
    while (end) {
        size_t begin = end - 1;
        while (begin && p[begin - 1] != '\n')
            begin--;
        double step = line_step(p + begin, end - 1 - begin);
        if (step >= 0 && step <= (double)t->at.step)
            break;
        end = begin;
    }
    bool cut = end < map.n;
    file_map_close(&map);
    return cut ? append_truncate(&t->metrics, end, e) : 0;
}

static int cut_evals(rsd_trainer *t, const char *dir, struct err *e) {
    char **names = NULL;
    size_t n = 0;
    if (!file_is_dir(dir))
        return 0;
    int code = dir_names(&t->ctx->alloc, dir, &names, &n, e);
    for (size_t i = 0; i < n && !code; i++) {
        uint64_t step = 0;
        if (sscanf(names[i], "step-%" SCNu64 "-", &step) != 1 || step <= t->at.step)
            continue;
        char *path = run_path(t, e, "eval/%s", names[i]);
        if (!path)
            code = e->code;
        else if (remove(path))
            log_write(&t->ctx->log, LOG_WARN, "%s: of a step that will be done again, cannot be removed", path);
        mem_free(&t->ctx->alloc, path);
    }
    dir_names_free(&t->ctx->alloc, names, n);
    return code;
}

int run_dir_cut(rsd_trainer *t, struct err *e) {
    char *metrics = run_path(t, e, "metrics.jsonl"), *evals = run_path(t, e, "eval");
    int code = !metrics || !evals ? e->code : 0;
    code = code ? code : cut_metrics(t, metrics, e);
    code = code ? code : cut_evals(t, evals, e);
    mem_free(&t->ctx->alloc, metrics);
    mem_free(&t->ctx->alloc, evals);
    return code;
}

static void put_count(struct json_out *o, const char *key, uint64_t v) {
    json_put_key(o, key);
    json_put_int(o, (int64_t)v);
}

static void put_number(struct json_out *o, const char *key, double v) {
    json_put_key(o, key);
    json_put_double(o, v);
}

static void put_text(struct json_out *o, const char *key, const char *v) {
    json_put_key(o, key);
    json_put_z(o, v);
}

static int log_line(rsd_trainer *t, struct str *line, struct err *e) {
    int code = str_status(line, e);
    code = code ? code : append_line(&t->metrics, line->p, line->n, e);
    str_free(line);
    return code;
}

int run_dir_log_eval(rsd_trainer *t, const struct eval_job *j, const rsd_score *s, struct err *e) {
    struct str line;
    struct json_out o;
    str_init(&line, &t->ctx->alloc);
    json_begin(&o, &line, 0);
    json_object(&o);
    put_count(&o, "step", t->at.step);
    put_text(&o, "set", j->name);
    put_text(&o, "kind", run_config_kind(j));
    put_text(&o, "task", run_config_task(j));
    put_text(&o, "format", rsd_format_name((int)j->format));
    put_count(&o, "n", s->n);
    put_count(&o, "correct", s->correct);
    put_number(&o, "accuracy", s->accuracy);
    put_number(&o, "low", s->low);
    put_number(&o, "high", s->high);
    put_count(&o, "no_answer", s->no_answer);
    put_number(&o, "mean_tokens", s->mean_tokens);
    put_number(&o, "lenient_accuracy", s->lenient_accuracy);
    put_number(&o, "answer_perplexity", s->answer_perplexity > 0 ? s->answer_perplexity : NAN);
    put_number(&o, "rationale_perplexity", s->rationale_perplexity > 0 ? s->rationale_perplexity : NAN);
    put_number(&o, "seconds", s->seconds);
    json_end_object(&o);
    return log_line(t, &line, e);
}

int run_dir_log_stop(rsd_trainer *t, struct err *e) {
    struct str line;
    struct json_out o;
    str_init(&line, &t->ctx->alloc);
    json_begin(&o, &line, 0);
    json_object(&o);
    put_count(&o, "step", t->at.step);
    put_text(&o, "stopped", "patience");
    put_count(&o, "best_step", t->at.best_step);
    put_number(&o, "best", t->at.best);
    json_end_object(&o);
    return log_line(t, &line, e);
}

/* 1: the line is an evaluation of that set at at.step; 0: another line; -1: of an earlier step. */
static int is_eval(const rsd_trainer *t, const char *p, size_t n, const char *set, double *accuracy) {
    struct json *line = NULL;
    double step = -1;
    struct text name = {"", 0};
    int is = 0;
    if (!json_parse(p, n, &line, NULL) && !json_need_number(line, "step", 0, 1e15, &step, NULL)) {
        json_opt_text(line, "set", &name, NULL);
        if (step < (double)t->at.step)
            is = -1;
        else if (text_is(name, set) && !json_need_number(line, "accuracy", 0, 1, accuracy, NULL))
            is = 1;
    }
    json_free(line);
    return is;
}

int run_dir_find_eval(rsd_trainer *t, const char *set, double *accuracy, bool *found, struct err *e) {
    struct file_map map = {0};
    char *path = run_path(t, e, "metrics.jsonl");
    int code = path ? file_map_open(&map, path, false, e) : e->code, is = 0;
    const char *p = map.p;
    for (size_t end = code ? 0 : map.n; end && !is;) { /* from the end: steps rise from line to line */
        size_t begin = end - 1;
        while (begin && p[begin - 1] != '\n')
            begin--;
        is = is_eval(t, p + begin, end - 1 - begin, set, accuracy);
        end = begin;
    }
    *found = is == 1;
    file_map_close(&map);
    mem_free(&t->ctx->alloc, path);
    return code;
}

int run_dir_log_step(rsd_trainer *t, const rsd_step *s, double weight, const double shares[RSD_FORMATS],
                     const double losses[RSD_FORMATS], struct err *e) {
    struct str line;
    struct json_out o;
    str_init(&line, &t->ctx->alloc);
    json_begin(&o, &line, 0);
    json_object(&o);
    put_count(&o, "step", s->step);
    put_number(&o, "loss", s->loss);
    put_number(&o, "accuracy", s->accuracy);
    put_number(&o, "lr", s->lr);
    put_number(&o, "grad_norm", s->grad_norm);
    put_number(&o, "weight", weight);
    put_count(&o, "tokens", s->tokens);
    put_number(&o, "seconds", s->seconds);
    json_put_key(&o, "shares");
    json_object(&o);
    for (int f = 0; f < RSD_FORMATS; f++)
        if (shares[f] > 0)
            put_number(&o, rsd_format_name(f), shares[f]);
    json_end_object(&o);
    json_put_key(&o, "losses");
    json_object(&o);
    for (int f = 0; f < RSD_FORMATS; f++)
        if (!isnan(losses[f]))
            put_number(&o, rsd_format_name(f), losses[f]);
    json_end_object(&o);
    json_end_object(&o);
    return log_line(t, &line, e);
}
