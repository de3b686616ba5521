/* Handles: opened from a directory, made from a config, shared between contexts, closed. */
#include "t5/model.h"

#include <string.h>

rsd_t5 *model_new(rsd_ctx *ctx, struct t5_weights *w, struct err *e) {
    rsd_t5 *m = mem_zero(&ctx->alloc, 1, sizeof *m, e);
    if (!m)
        return NULL;
    m->ctx = ctx;
    m->w = w;
    m->dropout = w->config.dropout;
    m->seed = ctx->seed;
    arena_init(&m->acts, &ctx->alloc);
    arena_init(&m->decoding, &ctx->alloc);
    return m;
}

static int make(rsd_ctx *ctx, const char *path, bool is_config, uint64_t seed, int dtype, rsd_t5 **out) {
    struct err e = {0};
    char *config = NULL;
    rsd_t5 *m = NULL;
    struct t5_weights *w = NULL;
    if (!ctx || !out)
        return RSD_EINVAL;
    *out = NULL;
    if (!path)
        return ctx_fail(ctx, RSD_EINVAL, "no path");
    if (dtype == RSD_F16)
        return ctx_fail(ctx, RSD_EUNSUPPORTED,
                        "weights in memory are RSD_F32 or RSD_BF16: the gradients of F16 would need scaling");
    if (dtype != RSD_F32 && dtype != RSD_BF16)
        return ctx_fail(ctx, RSD_EINVAL, "dtype %d: expected RSD_F32 or RSD_BF16", dtype);
    if (!is_config && !file_is_dir(path))
        return ctx_fail(ctx, RSD_ENOTFOUND, "%s: no such model directory", path);
    w = weights_new(&ctx->alloc, &e);
    if (!w)
        goto done;
    w->type = dtype == RSD_BF16 ? DTYPE_BF16 : DTYPE_F32;
    if (!is_config && file_join(&ctx->alloc, &config, &e, path, "config.json"))
        goto done;
    if (t5_config_read(&w->config, is_config ? path : config, &w->alloc, &e))
        goto done;
    if (is_config ? weights_random(w, ctx, seed, &e) : weights_load(w, ctx, path, &e))
        goto done;
    if (weights_json(w, &e))
        goto done;
    m = model_new(ctx, w, &e);
done:
    mem_free(&ctx->alloc, config);
    if (!m)
        weights_release(w);
    *out = m;
    return ctx_return(ctx, e.code, &e);
}

int rsd_t5_open(rsd_ctx *ctx, const char *dir, rsd_t5 **out) {
    return make(ctx, dir, false, 0, RSD_F32, out);
}

int rsd_t5_open_as(rsd_ctx *ctx, const char *dir, int dtype, rsd_t5 **out) {
    return make(ctx, dir, false, 0, dtype, out);
}

int rsd_t5_create(rsd_ctx *ctx, const char *config, uint64_t seed, rsd_t5 **out) {
    return make(ctx, config, true, seed, RSD_F32, out);
}

int rsd_t5_create_as(rsd_ctx *ctx, const char *config, uint64_t seed, int dtype, rsd_t5 **out) {
    return make(ctx, config, true, seed, dtype, out);
}

int rsd_t5_share(rsd_t5 *src, rsd_ctx *ctx, rsd_t5 **out) {
    struct err e = {0};
    if (!src || !ctx || !out)
        return RSD_EINVAL;
    *out = model_new(ctx, src->w, &e);
    if (*out)
        atomic_fetch_add(&src->w->refs, 1);
    return ctx_return(ctx, e.code, &e);
}

void rsd_t5_close(rsd_t5 *m) {
    if (!m)
        return;
    rsd_ctx *ctx = m->ctx;
    if (m->fused_by)
        *m->fused_by = NULL;
    arena_free(&m->acts);
    arena_free(&m->decoding);
    weights_release(m->w);
    mem_free(&ctx->alloc, m);
}

int rsd_t5_info_get(const rsd_t5 *m, rsd_t5_info *out) {
    if (!out || out->size < sizeof(size_t))
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_info_get: set the struct's size");
    const struct t5_config *c = &m->w->config;
    static const int32_t types[] = {[DTYPE_F32] = RSD_F32, [DTYPE_F16] = RSD_F16, [DTYPE_BF16] = RSD_BF16};
    rsd_t5_info i = {.size = out->size,
                     .parameters = m->w->count,
                     .bytes = m->w->bytes,
                     .d_model = (int64_t)c->d_model,
                     .d_kv = (int64_t)c->d_kv,
                     .d_ff = (int64_t)c->d_ff,
                     .heads = (int64_t)c->heads,
                     .encoder_layers = (int64_t)c->encoder_layers,
                     .decoder_layers = (int64_t)c->decoder_layers,
                     .vocab = (int64_t)c->vocab,
                     .dtype = types[m->w->dtype],
                     .memory_dtype = types[m->w->type],
                     .gated = c->gated + c->silu,
                     .tied = c->tied,
                     .dropout = c->dropout};
    memcpy(out, &i, out->size < sizeof i ? out->size : sizeof i);
    return RSD_OK;
}

const char *rsd_t5_config(const rsd_t5 *m) {
    return str_z(&m->w->json);
}
