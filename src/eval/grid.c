/* A grid of scores: models by sets. Sets are fixed before the first row, so that every row has a score for each. */
#include "eval/grid.h"

#include "base/options.h"
#include "text/prompt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

OPTIONS_NO_TAIL(rsd_grid_options, perplexity);

static const rsd_grid_options grid_defaults = {
    .size = sizeof(rsd_grid_options), .seed = 1, .shots = 4, .max_tokens = 256, .batch = 32, .perplexity = 1};

int rsd_grid_options_init(rsd_grid_options *o, size_t size) {
    return options_init(o, size, &grid_defaults, sizeof grid_defaults, NULL);
}

char *grid_keep(const rsd_grid *g, const char *s, struct err *e) {
    return s ? mem_strndup(&g->ctx->alloc, s, strlen(s), e) : NULL;
}

int rsd_grid_open(rsd_ctx *ctx, const rsd_grid_options *options, rsd_grid **out) {
    struct err e = {0};
    rsd_grid_options o;
    if (!ctx || !out)
        return RSD_EINVAL;
    *out = NULL;
    if (options_read(&o, sizeof o, &grid_defaults, options, "rsd_grid_options", &e))
        return ctx_return(ctx, e.code, &e);
    if (o.parser < RSD_PARSER_STRICT || o.parser > RSD_PARSER_REFERENCE || (o.perplexity & ~1))
        return ctx_fail(ctx, RSD_EINVAL, "rsd_grid_options: parser %d is none of RSD_PARSER_..., or perplexity %d is not 0 or 1",
                        (int)o.parser, (int)o.perplexity);
    rsd_grid *g = mem_zero(&ctx->alloc, 1, sizeof *g, &e);
    if (!g)
        return ctx_return(ctx, e.code, &e);
    g->ctx = ctx;
    g->o = o;
    str_init(&g->text, &ctx->alloc);
    g->o.cache = g->cache = grid_keep(g, o.cache, &e);
    g->o.demos = g->demos = grid_keep(g, o.demos, &e);
    if (e.code) {
        rsd_grid_close(g);
        return ctx_return(ctx, e.code, &e);
    }
    *out = g;
    return RSD_OK;
}

static void free_set(const struct allocator *a, struct grid_set *s) {
    mem_free(a, s->name);
    mem_free(a, s->task);
    mem_free(a, s->data);
    mem_free(a, s->demos);
}

void rsd_grid_close(rsd_grid *g) {
    if (!g)
        return;
    const struct allocator *a = &g->ctx->alloc;
    for (size_t i = 0; i < g->n_sets; i++)
        free_set(a, &g->sets[i]);
    for (size_t i = 0; i < g->n_rows; i++) {
        mem_free(a, g->rows[i].name);
        mem_free(a, g->rows[i].scores);
    }
    mem_free(a, g->sets);
    mem_free(a, g->rows);
    for (size_t i = 0; i < g->n_sweep; i++)
        mem_free(a, g->sweep[i]);
    mem_free(a, g->sweep);
    mem_free(a, g->run);
    mem_free(a, g->cache);
    mem_free(a, g->demos);
    str_free(&g->text);
    mem_free(a, g);
}

/* ---- sets ---- */

/* "dev zs-cot" of "data/dev.jsonl" */
static char *make_name(const rsd_grid *g, const rsd_grid_set *set, struct err *e) {
    char name[160];
    const char *slash = strrchr(set->data, '/'), *from = slash && slash[1] ? slash + 1 : set->data, *dot = strrchr(from, '.');
    const size_t n = dot && dot > from ? (size_t)(dot - from) : strlen(from);
    snprintf(name, sizeof name, "%.*s %s", (int)(n < 100 ? n : 100), from, rsd_format_name(set->format));
    return grid_keep(g, name, e);
}

int rsd_grid_add_set(rsd_grid *g, const rsd_grid_set *given) {
    struct err e = {0};
    rsd_ctx *ctx = g->ctx;
    rsd_grid_set copy = {0}, *set = &copy;
    if (!given || given->size < offsetof(rsd_grid_set, shots))
        return ctx_fail(ctx, RSD_EINVAL, "rsd_grid_add_set: the struct and its size are needed");
    memcpy(set, given, given->size < sizeof *set ? given->size : sizeof *set);
    if (!set->task || !set->data || !*set->data)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_grid_add_set: a task and data are needed");
    if (set->format < 0 || set->format >= RSD_FORMATS || set->role < RSD_SET_ID || set->role > RSD_SET_TEST)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_grid_add_set: there is no format %d or no role %d", (int)set->format,
                        (int)set->role);
    if (set->shots < 0 || set->max_tokens < 0 || set->batch < 0 || set->limit < 0)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_grid_add_set: shots, max_tokens, batch and limit must be at least 0");
    if (format_has_demos(set->format) && !set->demos && !g->o.demos)
        return ctx_fail(ctx, RSD_EINVAL, "set %s: format %s needs demonstrations (demos)", set->data,
                        rsd_format_name(set->format));
    if (g->n_rows)
        return ctx_fail(ctx, RSD_ESTATE, "rsd_grid_add_set: there are rows already, which lack the set");
    struct grid_set s = {.format = set->format,
                         .role = set->role,
                         .shots = set->shots ? set->shots : g->o.shots,
                         .max_tokens = set->max_tokens ? set->max_tokens : g->o.max_tokens,
                         .batch = set->batch ? set->batch : g->o.batch,
                         .limit = set->limit && (!g->o.limit || set->limit < g->o.limit) ? set->limit : g->o.limit,
                         .seed = g->o.seed};
    s.name = set->name ? grid_keep(g, set->name, &e) : make_name(g, set, &e);
    s.task = grid_keep(g, set->task, &e);
    s.data = grid_keep(g, set->data, &e);
    s.demos = grid_keep(g, set->demos ? set->demos : g->o.demos, &e);
    for (size_t i = 0; i < g->n_sets && !e.code; i++)
        if (!strcmp(g->sets[i].name, s.name))
            err_set(&e, ERR_INVALID, "two sets are called \"%.100s\": give one another name (NAME=...)", s.name);
    if (!e.code && !mem_reserve(&ctx->alloc, &g->sets, &g->sets_cap, g->n_sets + 1, sizeof *g->sets, &e))
        g->sets[g->n_sets++] = s;
    else
        free_set(&ctx->alloc, &s);
    return ctx_return(ctx, e.code, &e);
}

int rsd_grid_parse_set(rsd_grid *g, const char *text, int role) {
    struct err e = {0};
    if (!text)
        return ctx_fail(g->ctx, RSD_EINVAL, "rsd_grid_parse_set: no text");
    const char *colon = strchr(text, ':'), *equals = strchr(text, '='), *second = colon ? strchr(colon + 1, ':') : NULL;
    const char *from = equals && (!colon || equals < colon) ? equals + 1 : text;
    if (!second || !second[1] || colon == from)
        return ctx_fail(g->ctx, RSD_EINVAL, "set \"%.200s\": expected [NAME=]TASK:FORMAT:DATA, as gsm8k:zs-cot:dev.jsonl", text);
    const int format = rsd_format_parse(colon + 1, (size_t)(second - colon) - 1);
    if (format < 0)
        return ctx_fail(g->ctx, RSD_EINVAL, "set \"%.200s\": there is no format \"%.*s\": zs-ao, zs-cot, ic-ao, ic-cot", text,
                        (int)(second - colon) - 1, colon + 1);
    rsd_grid_set set = {.size = sizeof set, .data = second + 1, .format = format, .role = role};
    char *task = mem_strndup(&g->ctx->alloc, from, (size_t)(colon - from), &e);
    char *name = from > text + 1 ? mem_strndup(&g->ctx->alloc, text, (size_t)(from - text) - 1, &e) : NULL;
    set.task = task;
    set.name = name;
    int code = e.code ? ctx_return(g->ctx, e.code, &e) : rsd_grid_add_set(g, &set);
    mem_free(&g->ctx->alloc, task);
    mem_free(&g->ctx->alloc, name);
    return code;
}

/* ---- rows ---- */

static int on_item(void *user, uint64_t done, uint64_t of) {
    const struct grid_progress *p = user;
    return p->fn ? p->fn(p->user, 1000 * p->before + 1000 * done / (of ? of : 1), 1000 * p->all) : 0;
}

static int evaluate(rsd_grid *g, const struct grid_set *set, const char *name, rsd_t5 *model, rsd_tokenizer *tok,
                    const char *cache, struct grid_progress *p, rsd_score *score) {
    rsd_evaluator *v = NULL;
    rsd_evaluator_options o;
    rsd_evaluator_options_init(&o, sizeof o);
    o.demos = set->demos;
    o.format = set->format;
    o.seed = set->seed;
    o.shots = set->shots;
    o.max_tokens = set->max_tokens;
    o.batch = set->batch;
    o.limit = set->limit;
    o.perplexity = g->o.perplexity;
    o.cache = cache;
    o.label = name;
    int code = rsd_evaluator_open(g->ctx, model, tok, &o, &v);
    code = code ? code : rsd_evaluator_file(v, set->task, set->data, NULL, on_item, p, score);
    rsd_evaluator_close(v);
    if (code < 0) {
        struct err e = g->ctx->err;
        err_within(&e, "set %s of %s", set->name, name);
        return ctx_return(g->ctx, code, &e);
    }
    p->before++;
    return code;
}

int grid_add_row(rsd_grid *g, const char *name, double x, rsd_t5 *model, rsd_tokenizer *tok, const char *cache,
                 struct grid_progress *p) {
    const struct allocator *a = &g->ctx->alloc;
    struct err e = {0};
    struct grid_row r = {.x = x, .name = grid_keep(g, name, &e), .scores = mem_zero(a, g->n_sets, sizeof *r.scores, &e)};
    int code = e.code ? e.code : mem_reserve(a, &g->rows, &g->rows_cap, g->n_rows + 1, sizeof *g->rows, &e);
    code = code ? ctx_return(g->ctx, code, &e) : 0;
    for (size_t i = 0; i < g->n_sets && !code; i++) {
        r.scores[i].size = sizeof r.scores[i];
        code = evaluate(g, &g->sets[i], name, model, tok, cache, p, &r.scores[i]);
    }
    if (code) {
        mem_free(a, r.name);
        mem_free(a, r.scores);
        return code;
    }
    g->rows[g->n_rows++] = r;
    return RSD_OK;
}

int rsd_grid_model(rsd_grid *g, const char *name, double x, rsd_t5 *model, rsd_tokenizer *tok, rsd_progress_fn progress,
                   void *user) {
    struct grid_progress p = {.fn = progress, .user = user, .all = g->n_sets};
    if (!name || !model || !tok || !g->n_sets)
        return ctx_fail(g->ctx, RSD_EINVAL, "rsd_grid_model: a name, a model, its tokenizer and at least one set are needed");
    return grid_add_row(g, name, x, model, tok, g->cache, &p);
}

/* ---- looking ---- */

size_t rsd_grid_rows(const rsd_grid *g) {
    return g->n_rows;
}

size_t rsd_grid_sets(const rsd_grid *g) {
    return g->n_sets;
}

const char *rsd_grid_row_name(const rsd_grid *g, size_t row) {
    return row < g->n_rows ? g->rows[row].name : NULL;
}

const char *rsd_grid_set_name(const rsd_grid *g, size_t set) {
    return set < g->n_sets ? g->sets[set].name : NULL;
}

double rsd_grid_x(const rsd_grid *g, size_t row) {
    return row < g->n_rows ? g->rows[row].x : (double)NAN;
}

int rsd_grid_score(const rsd_grid *g, size_t row, size_t set, rsd_score *out) {
    if (row >= g->n_rows || set >= g->n_sets || !out || out->size < sizeof(size_t))
        return ctx_fail(g->ctx, RSD_EINVAL, "rsd_grid_score: there is no row %zu or set %zu, or rsd_score is without its size",
                        row, set);
    const size_t size = out->size;
    memcpy(out, &g->rows[row].scores[set], size < sizeof *out ? size : sizeof *out);
    out->size = size;
    return RSD_OK;
}
