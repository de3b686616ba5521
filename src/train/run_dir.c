/* The run directory: run.json, metrics.jsonl, eval/. What a run writes about steps that a resumed run will do again is cut off
 * when it is opened, so that the files of a run that was stopped are those of one that was not. */
#include "train/run.h"

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

int run_dir_log_step(rsd_trainer *t, const rsd_step *s, double weight, struct err *e) {
    struct str line;
    struct json_out o;
    str_init(&line, &t->ctx->alloc);
    json_begin(&o, &line, 0);
    json_object(&o);
    json_put_key(&o, "step");
    json_put_int(&o, (int64_t)s->step);
    json_put_key(&o, "loss");
    json_put_double(&o, s->loss);
    json_put_key(&o, "accuracy");
    json_put_double(&o, s->accuracy);
    json_put_key(&o, "lr");
    json_put_double(&o, s->lr);
    json_put_key(&o, "grad_norm");
    json_put_double(&o, s->grad_norm);
    json_put_key(&o, "weight");
    json_put_double(&o, weight);
    json_put_key(&o, "tokens");
    json_put_int(&o, (int64_t)s->tokens);
    json_put_key(&o, "seconds");
    json_put_double(&o, s->seconds);
    json_end_object(&o);
    int code = str_status(&line, e);
    if (!code)
        code = append_line(&t->metrics, line.p, line.n, e);
    str_free(&line);
    return code;
}
