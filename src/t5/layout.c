/* Which tensors a T5 has, under Hugging Face's names (modeling_t5.py), in the order in which gradients lie and layers are paged:
 * group 0 the shared embedding, one group per encoder block, one per decoder block, one for an untied head. A stack's final norm
 * belongs to its last block. The standard deviations are those of T5's own code (mesh_tensorflow; t5x network.py): attention is
 * not scaled by d_kv^-1/2 when it runs, so the queries start smaller instead. */
#include "t5/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct layout {
    struct t5_weights *w;
    size_t layer, cap;
    struct err *e;
    bool failed;
};

static const struct param *put(struct layout *l, size_t ndim, size_t rows, size_t cols, double std, const char *name) {
    struct t5_weights *w = l->w;
    size_t count = 0, total = 0, length = strlen(name);
    if (l->failed || w->n == l->cap || !size_mul(rows, cols, &count) || !size_add(w->count, count, &total) ||
        total > SIZE_MAX / 8) {
        l->failed = true;
        return NULL;
    }
    char *kept = arena_take(&w->keep, length + 1, 1, l->e);
    if (!kept || map_put(&w->by_name, (struct text){name, length}, w->n, l->e)) {
        l->failed = true;
        return NULL;
    }
    memcpy(kept, name, length + 1);
    struct param_info *info = &w->info[w->n];
    *info = (struct param_info){.ndim = ndim,
                                .shape = {ndim == 2 ? rows : cols, ndim == 2 ? cols : 0},
                                .count = count,
                                .layer = l->layer,
                                .offset = w->count,
                                .std = std};
    struct param *p = &w->params[w->n++];
    *p = (struct param){.name = kept,
                        .w = mat_of(NULL, w->type, rows, cols),
                        .grad = mat_of(NULL, DTYPE_F32, rows, cols),
                        .fresh = &w->fresh[w->n - 1]};
    *p->fresh = true;
    w->count = total;
    return p;
}

static const struct param *put_in(struct layout *l, const char *stack, size_t block, size_t sub, const char *rest, size_t ndim,
                                  size_t rows, size_t cols, double std) {
    char name[128];
    snprintf(name, sizeof name, "%s.block.%zu.layer.%zu.%s", stack, block, sub, rest);
    return put(l, ndim, rows, cols, std, name);
}

static double inverse_root(size_t n) {
    return 1 / sqrt((double)n);
}

static void put_attention(struct layout *l, struct attention_weights *a, const char *stack, size_t block, size_t sub,
                          const char *kind, const struct param **bias) {
    const struct t5_config *c = &l->w->config;
    double f = c->init_factor, wide = inverse_root(c->d_model);
    char rest[64];
    struct linear *const part[] = {&a->q, &a->k, &a->v, &a->o};
    for (size_t i = 0; i < 4; i++) {
        snprintf(rest, sizeof rest, "%s.%c.weight", kind, "qkvo"[i]);
        double std = i == 0 ? wide * inverse_root(c->d_kv) : i == 3 ? inverse_root(c->inner) : wide;
        part[i]->base =
            put_in(l, stack, block, sub, rest, 2, i == 3 ? c->d_model : c->inner, i == 3 ? c->inner : c->d_model, f * std);
    }
    if (bias) {
        snprintf(rest, sizeof rest, "%s.relative_attention_bias.weight", kind);
        *bias = put_in(l, stack, block, sub, rest, 2, c->buckets, c->heads, f * wide);
    }
    a->norm = put_in(l, stack, block, sub, "layer_norm.weight", 1, 1, c->d_model, 0);
}

static void put_ffn(struct layout *l, struct ffn_weights *w, const char *stack, size_t block, size_t sub) {
    const struct t5_config *c = &l->w->config;
    double in = c->init_factor * inverse_root(c->d_model), out = c->init_factor * inverse_root(c->d_ff);
    w->wi.base = put_in(l, stack, block, sub, c->gated ? "DenseReluDense.wi_0.weight" : "DenseReluDense.wi.weight", 2, c->d_ff,
                        c->d_model, in);
    if (c->gated)
        w->gate.base = put_in(l, stack, block, sub, "DenseReluDense.wi_1.weight", 2, c->d_ff, c->d_model, in);
    w->wo.base = put_in(l, stack, block, sub, "DenseReluDense.wo.weight", 2, c->d_model, c->d_ff, out);
    w->norm = put_in(l, stack, block, sub, "layer_norm.weight", 1, 1, c->d_model, 0);
}

static void put_stack(struct layout *l, struct t5_stack *s, const char *name, bool decoder) {
    char final_norm[64];
    snprintf(final_norm, sizeof final_norm, "%s.final_layer_norm.weight", name);
    s->first_layer = l->layer;
    for (size_t i = 0; i < s->n && !l->failed; i++) {
        l->w->layer_first[l->layer] = l->w->n;
        struct t5_block *b = &s->blocks[i];
        put_attention(l, &b->self, name, i, 0, "SelfAttention", i == 0 ? &s->bias : NULL);
        if (decoder)
            put_attention(l, &b->cross, name, i, 1, "EncDecAttention", NULL);
        put_ffn(l, &b->ffn, name, i, decoder ? 2 : 1);
        if (i + 1 == s->n)
            s->final_norm = put(l, 1, 1, l->w->config.d_model, 0, final_norm);
        l->layer++;
    }
}

int weights_layout(struct t5_weights *w, struct err *e) {
    const struct t5_config *c = &w->config;
    w->layers = 1 + c->encoder_layers + c->decoder_layers + (c->tied ? 0 : 1);
    struct layout l = {.w = w, .cap = 6 + 10 * c->encoder_layers + 15 * c->decoder_layers, .e = e};
    w->params = arena_take(&w->keep, l.cap, sizeof *w->params, e);
    w->info = arena_take(&w->keep, l.cap, sizeof *w->info, e);
    w->fresh = arena_take(&w->keep, l.cap, sizeof *w->fresh, e);
    w->layer_first = arena_take(&w->keep, w->layers + 1, sizeof *w->layer_first, e);
    w->encoder.n = c->encoder_layers;
    w->decoder.n = c->decoder_layers;
    w->encoder.blocks = arena_take(&w->keep, w->encoder.n, sizeof *w->encoder.blocks, e);
    w->decoder.blocks = arena_take(&w->keep, w->decoder.n, sizeof *w->decoder.blocks, e);
    if (!w->params || !w->info || !w->fresh || !w->layer_first || !w->encoder.blocks || !w->decoder.blocks)
        return ERR_NOMEM;
    memset(w->encoder.blocks, 0, w->encoder.n * sizeof *w->encoder.blocks);
    memset(w->decoder.blocks, 0, w->decoder.n * sizeof *w->decoder.blocks);

    w->layer_first[0] = 0;
    w->shared = put(&l, 2, c->vocab, c->d_model, c->init_factor, "shared.weight");
    l.layer = 1;
    put_stack(&l, &w->encoder, "encoder", false);
    put_stack(&l, &w->decoder, "decoder", true);
    w->head = w->shared;
    if (!c->tied) {
        w->layer_first[l.layer] = w->n;
        w->head = put(&l, 2, c->vocab, c->d_model, c->init_factor * inverse_root(c->d_model), "lm_head.weight");
    }
    w->layer_first[w->layers] = w->n;
    return l.failed ? err_set(e, ERR_NOMEM, "a model of this size does not fit into memory") : 0;
}

struct t5_weights *weights_new(const struct allocator *a, struct err *e) {
    struct t5_weights *w = mem_zero(a, 1, sizeof *w, e);
    if (!w)
        return NULL;
    atomic_init(&w->refs, 1);
    w->alloc = *a;
    arena_init(&w->keep, &w->alloc);
    map_init(&w->by_name, &w->alloc);
    str_init(&w->json, &w->alloc);
    return w;
}

void weights_release(struct t5_weights *w) {
    if (!w || atomic_fetch_sub(&w->refs, 1) > 1)
        return;
    for (size_t i = 0; i < w->n_shards; i++)
        safetensors_close(&w->shards[i]);
    struct allocator a = w->alloc;
    mem_free(&a, w->shards);
    mem_free_aligned(&a, w->memory);
    mem_free_aligned(&a, w->quantized);
    mem_free_aligned(&a, w->grads);
    map_free(&w->by_name);
    str_free(&w->json);
    arena_free(&w->keep);
    t5_config_free(&w->config);
    mem_free(&a, w);
}

int weights_json(struct t5_weights *w, struct err *e) {
    str_clear(&w->json);
    t5_config_emit(&w->config, w->dtype, &w->json);
    return str_status(&w->json, e);
}
