/* Rows that come from files: the checkpoints of a run, models along a line through weight space. What was evaluated before is found in
 * the cache by content, so a sweep or a selection that was stopped goes on where it was. */
#include "core/json.h"
#include "eval/grid.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- checkpoints ---- */

struct steps {
    uint64_t *v;
    size_t n, cap;
};

static int by_number(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* "step-N" and nothing behind it: "step-N.tmp" is being written. */
static bool step_of(const char *name, uint64_t *step) {
    char back[40];
    if (sscanf(name, "step-%" SCNu64, step) != 1)
        return false;
    snprintf(back, sizeof back, "step-%" PRIu64, *step);
    return !strcmp(back, name);
}

static int find_steps(const struct allocator *a, const char *dir, struct steps *s, struct err *e) {
    char **names = NULL;
    size_t n = 0;
    uint64_t step = 0;
    if (dir_names(a, dir, &names, &n, e))
        return e->code;
    for (size_t i = 0; i < n && !e->code; i++)
        if (step_of(names[i], &step) && !mem_reserve(a, &s->v, &s->cap, s->n + 1, sizeof *s->v, e))
            s->v[s->n++] = step;
    dir_names_free(a, names, n);
    if (!e->code && !s->n)
        err_set(e, ERR_NOTFOUND, "%s: holds no checkpoint (step-N)", dir);
    if (!e->code)
        qsort(s->v, s->n, sizeof *s->v, by_number);
    return e->code;
}

static int add_checkpoint(rsd_grid *g, const char *dir, uint64_t step, const char *cache, struct grid_progress *p) {
    struct err e = {0};
    char name[40], *path = NULL;
    rsd_t5 *m = NULL;
    rsd_tokenizer *tok = NULL;
    snprintf(name, sizeof name, "step-%" PRIu64, step);
    if (file_join(&g->ctx->alloc, &path, &e, dir, name))
        return ctx_return(g->ctx, e.code, &e);
    int code = rsd_t5_open(g->ctx, path, &m);
    code = code ? code : rsd_tokenizer_open(g->ctx, path, &tok);
    code = code ? code : grid_add_row(g, name, (double)step, m, tok, cache, p);
    rsd_tokenizer_close(tok);
    rsd_t5_close(m);
    mem_free(&g->ctx->alloc, path);
    return code;
}

/* One entry of "eval", which the trainer has written: all its keys are there. */
static int add_entry(rsd_grid *g, const struct json *entry, struct err *e) {
    static const char *const kinds[] = {[RSD_SET_ID] = "id", [RSD_SET_OOD] = "ood", [RSD_SET_TEST] = "seen"};
    const struct allocator *a = &g->ctx->alloc;
    struct text task, data, format, kind, name, demos = {"", 0};
    int64_t shots = 0, max_tokens = 0, batch = 0, limit = 0;
    if (json_need_text(entry, "task", &task, e) || json_need_text(entry, "data", &data, e) ||
        json_need_text(entry, "format", &format, e) || json_need_text(entry, "kind", &kind, e) ||
        json_need_text(entry, "name", &name, e) || json_need_int(entry, "shots", 0, INT32_MAX, &shots, e) ||
        json_need_int(entry, "max_tokens", 0, INT32_MAX, &max_tokens, e) ||
        json_need_int(entry, "batch", 0, INT32_MAX, &batch, e) || json_need_int(entry, "limit", 0, INT32_MAX, &limit, e))
        return e->code;
    if (json_get(entry, "demos") && json_type(json_get(entry, "demos")) == JSON_TEXT)
        demos = json_text(json_get(entry, "demos"));
    rsd_grid_set set = {.size = sizeof set,
                        .format = rsd_format_parse(format.p, format.n),
                        .role = RSD_SET_ID,
                        .shots = (int32_t)shots,
                        .max_tokens = (int32_t)max_tokens,
                        .batch = (int32_t)batch,
                        .limit = (int32_t)limit};
    while (set.role <= RSD_SET_TEST && !text_is(kind, kinds[set.role]))
        set.role++;
    if (set.role > RSD_SET_TEST)
        return err_set(e, ERR_FORMAT, "key \"kind\": expected \"id\", \"ood\" or \"seen\"");
    const struct text texts[] = {task, data, name, demos};
    char *copies[4] = {NULL};
    for (size_t i = 0; i < 4 && !e->code; i++)
        if (texts[i].n || i != 3)
            copies[i] = mem_strndup(a, texts[i].p, texts[i].n, e);
    set.task = copies[0];
    set.data = copies[1];
    set.name = copies[2];
    set.demos = copies[3];
    if (!e->code && rsd_grid_add_set(g, &set))
        *e = g->ctx->err;
    for (size_t i = 0; i < 4; i++)
        mem_free(a, copies[i]);
    return e->code;
}

int rsd_grid_run_sets(rsd_grid *g, const char *run, size_t *n) {
    enum { MOST = 1 << 24 };
    struct err e = {0};
    struct json *doc = NULL;
    const struct json *list = NULL;
    char *path = NULL;
    const size_t before = g->n_sets;
    int64_t seed = (int64_t)(g->o.seed & INT64_MAX);
    if (!run)
        return ctx_fail(g->ctx, RSD_EINVAL, "rsd_grid_run_sets: no run");
    if (file_join(&g->ctx->alloc, &path, &e, run, "run.json") || json_read_file(path, MOST, &g->ctx->alloc, &doc, &e))
        goto done; /* names the path */
    if (json_type(doc) != JSON_OBJECT)
        err_set(&e, ERR_FORMAT, "expected an object, found %s", json_type_name(json_type(doc)));
    else if (!json_need_type(doc, "eval", JSON_ARRAY, &list, &e) && json_get(doc, "seed"))
        json_need_int(doc, "seed", 0, INT64_MAX, &seed, &e);
    for (const struct json *i = e.code ? NULL : json_first(list); i && !e.code; i = json_next(i))
        if (json_type(i) != JSON_OBJECT)
            err_set(&e, ERR_FORMAT, "key \"eval\": expected objects");
        else if (add_entry(g, i, &e))
            err_within(&e, "key \"eval\", entry %zu", g->n_sets - before + 1);
    if (e.code) { /* all of them, or none */
        g->n_sets = before;
        err_within(&e, "%s", path);
    }
    for (size_t i = before; i < g->n_sets; i++)
        g->sets[i].seed = (uint64_t)seed;
    if (n)
        *n = g->n_sets - before;
done:
    json_free(doc);
    mem_free(&g->ctx->alloc, path);
    return ctx_return(g->ctx, e.code, &e);
}

int rsd_grid_run(rsd_grid *g, const char *run, rsd_progress_fn progress, void *user) {
    const struct allocator *a = &g->ctx->alloc;
    struct err e = {0};
    struct steps s = {0};
    char *dir = NULL, *own = NULL;
    int code = 0;
    if (!run || !g->n_sets)
        return ctx_fail(g->ctx, RSD_EINVAL, "rsd_grid_run: a run and at least one set are needed");
    if (file_join(a, &dir, &e, run, "checkpoints") || find_steps(a, dir, &s, &e) || file_join(a, &own, &e, run, "eval/select"))
        code = ctx_return(g->ctx, e.code, &e);
    if (!code && !g->run && !(g->run = grid_keep(g, run, &e)))
        code = ctx_return(g->ctx, e.code, &e);
    struct grid_progress p = {.fn = progress, .user = user, .all = s.n * g->n_sets};
    for (size_t i = 0; i < s.n && !code; i++)
        code = add_checkpoint(g, dir, s.v[i], g->cache ? g->cache : own, &p);
    mem_free(a, dir);
    mem_free(a, own);
    mem_free(a, s.v);
    return code;
}

/* ---- weight space ---- */

/* models[0] is the base, the others what was tuned from it; m is where they are combined. */
struct line {
    rsd_grid *g;
    const rsd_sweep *s;
    rsd_t5 **models, *m;
    rsd_tokenizer *tok;
    double *weights, sum;
};

static int same_tokenizer(struct line *l, const char *dir) {
    rsd_tokenizer *other = NULL;
    int code = rsd_tokenizer_open(l->g->ctx, dir, &other);
    if (!code && strcmp(rsd_tokenizer_hash(l->tok), rsd_tokenizer_hash(other)))
        code = ctx_fail(l->g->ctx, RSD_EMISMATCH, "%s and %s have different tokenizers: they have no common ancestor", l->s->base,
                        dir);
    rsd_tokenizer_close(other);
    return code;
}

static int open_line(struct line *l) {
    rsd_ctx *ctx = l->g->ctx;
    const rsd_sweep *s = l->s;
    struct err e = {0};
    l->models = mem_zero(&ctx->alloc, s->n_tuned + 1, sizeof *l->models, &e);
    l->weights = mem_zero(&ctx->alloc, s->n_tuned + 1, sizeof *l->weights, &e);
    if (e.code)
        return ctx_return(ctx, e.code, &e);
    int code = rsd_t5_open(ctx, s->base, &l->models[0]);
    code = code ? code : rsd_t5_open(ctx, s->base, &l->m); /* mapped too: pages are copied as they are written */
    code = code ? code : rsd_tokenizer_open(ctx, s->base, &l->tok);
    for (size_t i = 0; i < s->n_tuned && !code; i++) {
        code = rsd_t5_open(ctx, s->tuned[i], &l->models[i + 1]);
        code = code ? code : same_tokenizer(l, s->tuned[i]);
        l->sum += s->weights ? s->weights[i] : 1;
    }
    return code;
}

static void close_line(struct line *l) {
    const struct allocator *a = &l->g->ctx->alloc;
    for (size_t i = 0; l->models && i <= l->s->n_tuned; i++)
        rsd_t5_close(l->models[i]);
    rsd_t5_close(l->m);
    rsd_tokenizer_close(l->tok);
    mem_free(a, l->models);
    mem_free(a, l->weights);
}

/* "alpha-0.5", in any locale. */
static int point_name(struct str *out, double alpha, struct err *e) {
    struct json_out j;
    str_addz(out, "alpha-");
    json_begin(&j, out, 0);
    json_put_double(&j, alpha);
    return str_status(out, e);
}

static int save_point(struct line *l, const char *name) {
    rsd_ctx *ctx = l->g->ctx;
    struct err e = {0};
    char *path = NULL;
    rsd_t5_info info = {.size = sizeof info};
    if (dir_make(l->s->save, &e) || file_join(&ctx->alloc, &path, &e, l->s->save, name))
        return ctx_return(ctx, e.code, &e);
    int code = rsd_t5_info_get(l->models[0], &info);
    code = code ? code : rsd_t5_save(l->m, path, info.dtype, rsd_tokenizer_path(l->tok));
    mem_free(&ctx->alloc, path);
    return code;
}

static int add_point(struct line *l, double alpha, struct grid_progress *p) {
    const rsd_sweep *s = l->s;
    struct err e = {0};
    struct str name;
    l->weights[0] = 1 - alpha;
    for (size_t i = 0; i < s->n_tuned; i++)
        l->weights[i + 1] = alpha * ((s->weights ? s->weights[i] : 1) / l->sum);
    str_init(&name, &l->g->ctx->alloc);
    int code = point_name(&name, alpha, &e) ? ctx_return(l->g->ctx, e.code, &e) : RSD_OK;
    code = code ? code : rsd_t5_combine(l->m, l->models, l->weights, s->n_tuned + 1);
    code = code ? code : grid_add_row(l->g, str_z(&name), alpha, l->m, l->tok, l->g->cache, p);
    code = code || !s->save ? code : save_point(l, str_z(&name));
    str_free(&name);
    return code;
}

static bool usable(const rsd_sweep *s) {
    bool any = !s->weights;
    if (s->size < sizeof *s || !s->base || !s->tuned || !s->n_tuned || !s->alphas || !s->n_alphas)
        return false;
    for (size_t i = 0; i < s->n_tuned; i++) {
        if (!s->tuned[i] || (s->weights && !(s->weights[i] >= 0 && isfinite(s->weights[i]))))
            return false;
        any |= s->weights && s->weights[i] > 0;
    }
    for (size_t i = 0; i < s->n_alphas; i++)
        if (!isfinite(s->alphas[i]))
            return false;
    return any;
}

/* Remembers the models of the first sweep. */
static int note_sweep(rsd_grid *g, const rsd_sweep *s) {
    struct err e = {0};
    for (size_t i = g->n_sweep; i <= s->n_tuned && !g->n_rows && !e.code; i++)
        if (!mem_reserve(&g->ctx->alloc, &g->sweep, &g->sweep_cap, i + 1, sizeof *g->sweep, &e) &&
            (g->sweep[i] = grid_keep(g, i ? s->tuned[i - 1] : s->base, &e)))
            g->n_sweep++;
    return ctx_return(g->ctx, e.code, &e);
}

int rsd_grid_sweep(rsd_grid *g, const rsd_sweep *sweep, rsd_progress_fn progress, void *user) {
    struct line l = {.g = g, .s = sweep};
    if (!sweep || !usable(sweep) || !g->n_sets)
        return ctx_fail(g->ctx, RSD_EINVAL,
                        "rsd_grid_sweep: a base, tuned models with weights of at least 0, not all 0, finite alphas and at "
                        "least one set are needed");
    struct grid_progress p = {.fn = progress, .user = user, .all = sweep->n_alphas * g->n_sets};
    int code = open_line(&l);
    code = code ? code : note_sweep(g, sweep);
    for (size_t i = 0; i < sweep->n_alphas && !code; i++)
        code = add_point(&l, sweep->alphas[i], &p);
    close_line(&l);
    return code;
}
