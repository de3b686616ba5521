/* Models made of models: sums of several (interpolation: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"; soups and
 * task vectors: see t5.h), a shallower one. What was tuned from one ancestor lies in one region of weight space, and what is between
 * is as good (Gueta et al. 2023, arXiv 2302.04863). */
#include "t5/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- merge ---- */

/* Everything that gives weights another meaning must agree; dropout and the ids may differ. The first value that does not. */
static int check_config(const struct t5_config *p, const struct t5_config *q, struct err *e) {
    const struct {
        const char *name;
        double a, b;
    } values[] = {{"num_heads", (double)p->heads, (double)q->heads},
                  {"d_kv", (double)p->d_kv, (double)q->d_kv},
                  {"relative_attention_num_buckets", (double)p->buckets, (double)q->buckets},
                  {"relative_attention_max_distance", (double)p->max_distance, (double)q->max_distance},
                  {"num_layers", (double)p->encoder_layers, (double)q->encoder_layers},
                  {"num_decoder_layers", (double)p->decoder_layers, (double)q->decoder_layers},
                  {"layer_norm_epsilon", p->eps, q->eps},
                  {"tie_word_embeddings", p->tied, q->tied},
                  {"scale_decoder_outputs", p->scaled, q->scaled},
                  {"feed_forward_proj (0 relu, 1 gelu gate, 2 silu gate)", p->gated + p->silu, q->gated + q->silu}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (values[i].a < values[i].b || values[i].a > values[i].b)
            return err_set(e, ERR_MISMATCH, "the models differ in %s, %g and %g: they have no common ancestor", values[i].name,
                           values[i].a, values[i].b);
    return 0;
}

static int check_alike(const struct t5_weights *a, const struct t5_weights *b, struct err *e) {
    if (check_config(&a->config, &b->config, e))
        return e->code;
    for (size_t i = 0; i < a->n; i++)
        if (a->params[i].w.rows != b->params[i].w.rows || a->params[i].w.cols != b->params[i].w.cols)
            return err_set(e, ERR_MISMATCH,
                           "%s is %zu x %zu in one model and %zu x %zu in the other: they have no common ancestor",
                           a->params[i].name, a->params[i].w.rows, a->params[i].w.cols, b->params[i].w.rows, b->params[i].w.cols);
    return 0;
}

int rsd_t5_merge(rsd_t5 *m, rsd_t5 *other, double alpha) {
    rsd_t5 *const models[] = {m, other};
    if (!(alpha >= 0 && alpha <= 1))
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_merge: alpha is %g, expected 0 to 1", alpha);
    return rsd_t5_combine(m, models, (const double[]){1 - alpha, alpha}, 2);
}

/* One parameter of each model that takes part, and its weight. */
struct share {
    rsd_t5 *model;
    const struct param *p; /* of the layer at hand */
    double weight;
};

enum { ROOM = 1 << 18 }; /* elements of a sum that is worked on at a time: it stays in the cache */

/* to = sum of weight * p[i].w, by rows, in F32, rounded once where it is stored. */
static void sum_rows(const struct exec *x, struct mat to, const struct share *s, size_t n, size_t i, struct arena *room) {
    const size_t step = to.cols < ROOM ? ROOM / to.cols : 1;
    for (size_t first = 0; first < to.rows && !x->err->code; first += step) {
        const size_t rows = to.rows - first < step ? to.rows - first : step;
        struct arena_mark mark = arena_mark(room);
        struct mat sum = arena_mat(room, DTYPE_F32, rows, to.cols, x->err), part = sum;
        if (n > 1)
            part = arena_mat(room, DTYPE_F32, rows, to.cols, x->err);
        for (size_t k = 0; k < n && !x->err->code; k++) {
            copy(x, k ? part : sum, mat_rows(s[k].p[i].w, first, rows));
            scale(x, k ? part : sum, (float)s[k].weight);
            if (k)
                add(x, sum, sum, part, NO_DROPOUT);
        }
        copy(x, mat_rows(to, first, rows), sum);
        arena_release(room, mark);
    }
}

/* The ends of an interpolation are copies; between two models it is the kernel's, with one rounding less. */
static void combine_param(const struct exec *x, struct mat to, const struct share *s, size_t n, size_t i, struct arena *room) {
    if (n == 1 && s->weight >= 1 && s->weight <= 1)
        copy(x, to, s->p[i].w);
    else if (n == 2 && s[0].weight >= 1 - s[1].weight && s[0].weight <= 1 - s[1].weight)
        lerp(x, to, s[0].p[i].w, s[1].p[i].w, (float)s[1].weight);
    else
        sum_rows(x, to, s, n, i, room);
}

static int combine_layer(rsd_t5 *m, struct share *s, size_t n, size_t layer, const struct exec *x, struct arena *room) {
    struct param *to = NULL, *from = NULL;
    size_t params = 0, taken = 0, unused = 0;
    if (params_acquire(m, layer, true, &to, &params, x->err))
        return x->err->code;
    for (; taken < n; taken++) {
        if (s[taken].model == m)
            s[taken].p = to;
        else if (params_acquire(s[taken].model, layer, false, &from, &unused, x->err))
            break;
        else
            s[taken].p = from;
    }
    for (size_t i = 0; i < params && taken == n; i++)
        combine_param(x, to[i].w, s, n, i, room);
    while (taken-- > 0)
        if (s[taken].model != m)
            params_release(s[taken].model, layer, false);
    params_release(m, layer, true);
    return x->err->code;
}

int rsd_t5_combine(rsd_t5 *m, rsd_t5 *const *models, const double *weights, size_t n) {
    struct err e = {0};
    size_t used = 0;
    struct arena room;
    if (!n || !models || !weights)
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_combine: no models");
    struct share *s = mem_new(&m->ctx->alloc, n, sizeof *s, &e);
    arena_init(&room, &m->ctx->alloc);
    for (size_t i = 0; i < n && !e.code; i++) {
        if (!isfinite(weights[i]))
            err_set(&e, ERR_INVALID, "rsd_t5_combine: weight %zu is not a finite number", i + 1);
        else if (models[i] != m && check_alike(m->w, models[i]->w, &e))
            err_within(&e, "model %zu", i + 1);
        else if (weights[i] < 0 || weights[i] > 0)
            s[used++] = (struct share){.model = models[i], .weight = weights[i]};
    }
    if (!e.code && !used)
        err_set(&e, ERR_INVALID, "rsd_t5_combine: all weights are 0");
    struct exec x = ctx_exec(m->ctx, &e);
    for (size_t layer = 0; layer < params_layers(m) && !e.code; layer++)
        combine_layer(m, s, used, layer, &x, &room);
    arena_free(&room);
    mem_free(&m->ctx->alloc, s);
    return ctx_return(m->ctx, e.code, &e);
}

/* ---- shrink ---- */

/* Which of `of` layers stands at place i of n: the first, the last, and evenly between. */
static size_t kept_layer(size_t i, size_t n, size_t of) {
    return n < 2 ? 0 : (i * (of - 1) + (n - 1) / 2) / (n - 1);
}

/* The name in the deeper model of a parameter of the shallower one. */
static void source_name(const char *name, const struct t5_weights *to, const struct t5_weights *from, char *out, size_t size) {
    char stack[8];
    unsigned long block = 0;
    int used = 0;
    if (sscanf(name, "%7[a-z].block.%lu.%n", stack, &block, &used) != 2 || !used) {
        snprintf(out, size, "%s", name);
        return;
    }
    bool encoder = !strcmp(stack, "encoder");
    size_t layer =
        encoder ? kept_layer(block, to->encoder.n, from->encoder.n) : kept_layer(block, to->decoder.n, from->decoder.n);
    snprintf(out, size, "%s.block.%zu.%s", stack, layer, name + used);
}

static int copy_layers(struct t5_weights *to, const struct t5_weights *from, rsd_ctx *ctx, struct err *e) {
    struct exec x = ctx_exec(ctx, e);
    for (size_t i = 0; i < to->n; i++) {
        char name[160];
        size_t k = 0;
        source_name(to->params[i].name, to, from, name, sizeof name);
        if (!map_get(&from->by_name, text_of(name), &k))
            return err_set(e, ERR_NOTFOUND, "the model has no %s", name);
        copy(&x, to->params[i].w, from->params[k].w);
    }
    return exec_status(&x);
}

int rsd_t5_shrink(rsd_t5 *src, int64_t encoder_layers, int64_t decoder_layers, rsd_t5 **out) {
    struct err e = {0};
    rsd_ctx *ctx = src->ctx;
    const struct t5_config *c = &src->w->config;
    rsd_t5 *m = NULL;
    struct t5_weights *w = NULL;
    *out = NULL;
    if (encoder_layers < 1 || decoder_layers < 1 || (uint64_t)encoder_layers > c->encoder_layers ||
        (uint64_t)decoder_layers > c->decoder_layers)
        return ctx_fail(ctx, RSD_EINVAL, "%lld encoder and %lld decoder layers asked for: the model has %zu and %zu",
                        (long long)encoder_layers, (long long)decoder_layers, c->encoder_layers, c->decoder_layers);
    w = weights_new(&ctx->alloc, &e);
    if (!w)
        goto done;
    struct json *doc = NULL;
    if (json_parse(str_z(&src->w->json), src->w->json.n, &doc, &e))
        goto done;
    w->config = *c;
    w->type = src->w->type;
    w->config.doc = doc;
    w->config.encoder_layers = (size_t)encoder_layers;
    w->config.decoder_layers = (size_t)decoder_layers;
    if (weights_layout(w, &e) || weights_memory(w, &e) || copy_layers(w, src->w, ctx, &e) || weights_json(w, &e))
        goto done;
    m = model_new(ctx, w, &e);
done:
    if (!m)
        weights_release(w);
    *out = m;
    return ctx_return(ctx, e.code, &e);
}
