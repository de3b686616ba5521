/* Models made of models: an interpolation of two (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"), a shallower
 * one. */
#include "t5/model.h"

#include <stdio.h>
#include <string.h>

/* ---- merge ---- */

/* Everything that gives weights another meaning must agree; dropout and the ids may differ. */
static int check_alike(const struct t5_weights *a, const struct t5_weights *b, struct err *e) {
    const struct t5_config *p = &a->config, *q = &b->config;
    const char *differs = p->heads != q->heads || p->d_kv != q->d_kv     ? "num_heads or d_kv"
                          : p->buckets != q->buckets                     ? "relative_attention_num_buckets"
                          : p->max_distance != q->max_distance           ? "relative_attention_max_distance"
                          : p->gated != q->gated || p->silu != q->silu   ? "feed_forward_proj"
                          : p->tied != q->tied || p->scaled != q->scaled ? "tie_word_embeddings or scale_decoder_outputs"
                          : p->eps < q->eps || p->eps > q->eps           ? "layer_norm_epsilon"
                          : p->encoder_layers != q->encoder_layers       ? "num_layers"
                          : p->decoder_layers != q->decoder_layers || a->n != b->n ? "num_decoder_layers"
                                                                                   : NULL;
    if (differs)
        return err_set(e, ERR_MISMATCH, "the models differ in %s: they have no common ancestor", differs);
    for (size_t i = 0; i < a->n; i++)
        if (a->params[i].w.rows != b->params[i].w.rows || a->params[i].w.cols != b->params[i].w.cols)
            return err_set(e, ERR_MISMATCH, "%s is %zu x %zu in one model and %zu x %zu in the other", a->params[i].name,
                           a->params[i].w.rows, a->params[i].w.cols, b->params[i].w.rows, b->params[i].w.cols);
    return 0;
}

int rsd_t5_merge(rsd_t5 *m, rsd_t5 *other, double alpha) {
    struct err e = {0};
    if (!(alpha >= 0 && alpha <= 1))
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_merge: alpha is %g, expected 0 to 1", alpha);
    if (check_alike(m->w, other->w, &e))
        return ctx_return(m->ctx, e.code, &e);
    struct exec x = ctx_exec(m->ctx, &e);
    for (size_t layer = 0; layer < params_layers(m) && !e.code; layer++) {
        struct param *to = NULL, *from = NULL;
        size_t n = 0, n_from = 0;
        if (params_acquire(m, layer, true, &to, &n, &e) || params_acquire(other, layer, false, &from, &n_from, &e))
            break;
        for (size_t i = 0; i < n; i++)
            lerp(&x, to[i].w, to[i].w, from[i].w, (float)alpha);
        params_release(other, layer, false);
        params_release(m, layer, true);
    }
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
