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

/* What is to be opened or made. */
struct origin {
    const char *path;
    bool is_config; /* a config.json, not a directory */
    uint64_t seed;
    int dtype;
    bool part; /* only the first layers */
    int64_t encoder_layers, decoder_layers;
};

static int cut(struct t5_config *c, const struct origin *o, struct err *e) {
    if (!o->part)
        return 0;
    if (o->encoder_layers < 1 || (uint64_t)o->encoder_layers > c->encoder_layers || o->decoder_layers < 1 ||
        (uint64_t)o->decoder_layers > c->decoder_layers)
        return err_set(e, ERR_INVALID, "rsd_t5_open_part: %lld and %lld layers: the model has %zu and %zu",
                       (long long)o->encoder_layers, (long long)o->decoder_layers, c->encoder_layers, c->decoder_layers);
    c->encoder_layers = (size_t)o->encoder_layers;
    c->decoder_layers = (size_t)o->decoder_layers;
    return 0;
}

static int make(rsd_ctx *ctx, const struct origin *o, rsd_t5 **out) {
    const char *path = o->path;
    const bool is_config = o->is_config;
    const int dtype = o->dtype;
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
    if (dtype != RSD_F32 && dtype != RSD_BF16 && dtype != RSD_INT8 && (dtype != RSD_STORED || is_config))
        return ctx_fail(ctx, RSD_EINVAL, "dtype %d: expected RSD_F32, RSD_BF16 or RSD_INT8", dtype);
    if (!is_config && !file_is_dir(path))
        return ctx_fail(ctx, RSD_ENOTFOUND, "%s: no such model directory", path);
    w = weights_new(&ctx->alloc, &e);
    if (!w)
        goto done;
    w->type = dtype == RSD_BF16 ? DTYPE_BF16 : DTYPE_F32;
    w->int8 = dtype == RSD_INT8;
    w->type_stored = dtype == RSD_STORED || w->int8;
    if (!is_config && file_join(&ctx->alloc, &config, &e, path, "config.json"))
        goto done;
    if (t5_config_read(&w->config, is_config ? path : config, &w->alloc, &e) || cut(&w->config, o, &e))
        goto done;
    if (is_config ? weights_random(w, ctx, o->seed, &e) : weights_load(w, ctx, path, &e))
        goto done;
    if ((w->int8 && weights_quantize(w, ctx, &e)) || weights_json(w, &e))
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
    return make(ctx, &(struct origin){.path = dir, .dtype = RSD_F32}, out);
}

int rsd_t5_open_as(rsd_ctx *ctx, const char *dir, int dtype, rsd_t5 **out) {
    return make(ctx, &(struct origin){.path = dir, .dtype = dtype}, out);
}

int rsd_t5_open_part(rsd_ctx *ctx, const char *dir, int dtype, int64_t encoder_layers, int64_t decoder_layers, rsd_t5 **out) {
    const struct origin o = {
        .path = dir, .dtype = dtype, .part = true, .encoder_layers = encoder_layers, .decoder_layers = decoder_layers};
    return make(ctx, &o, out);
}

int rsd_t5_create(rsd_ctx *ctx, const char *config, uint64_t seed, rsd_t5 **out) {
    return make(ctx, &(struct origin){.path = config, .is_config = true, .seed = seed, .dtype = RSD_F32}, out);
}

int rsd_t5_create_as(rsd_ctx *ctx, const char *config, uint64_t seed, int dtype, rsd_t5 **out) {
    return make(ctx, &(struct origin){.path = config, .is_config = true, .seed = seed, .dtype = dtype}, out);
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
    if (m->w->lent_to == m)
        m->w->lent_to = NULL;
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
                     .memory_dtype = m->w->int8 ? RSD_INT8 : types[m->w->type],
                     .gated = c->gated + c->silu,
                     .tied = c->tied,
                     .dropout = c->dropout};
    memcpy(out, &i, out->size < sizeof i ? out->size : sizeof i);
    return RSD_OK;
}

const char *rsd_t5_config(const rsd_t5 *m) {
    return str_z(&m->w->json);
}
