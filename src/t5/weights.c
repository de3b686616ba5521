/* Binds the tensors of a model directory to the layout: model.safetensors, or the shards that model.safetensors.index.json
 * names. What has the type that is asked for and lies on its alignment is used where it is mapped (the map is private: writing
 * copies the page); the rest is converted into one block. */
#include "t5/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INDEX = 1 << 26 };

struct loader {
    struct t5_weights *w;
    rsd_ctx *ctx;
    const char *dir;
    struct json *index; /* NULL: one file */
    const struct json *weight_map;
    char **paths; /* of the shards */
    size_t cap;
    struct map shard_of; /* file name -> number */
    struct map place;    /* tensor -> number of its shard, from the index */
};

static int open_shard(struct loader *l, struct text name, size_t *number, struct err *e) {
    struct t5_weights *w = l->w;
    if (map_get(&l->shard_of, name, number))
        return 0;
    if (!name.n || memchr(name.p, '/', name.n) || memchr(name.p, 0, name.n) || text_is(name, "..") || text_is(name, "."))
        return err_set(e, ERR_FORMAT,
                       "%s/model.safetensors.index.json: weight_map names \"%.*s\": expected a file of this folder", l->dir,
                       (int)(name.n < 80 ? name.n : 80), name.p);
    char *file = mem_strndup(&w->alloc, name.p, name.n, e), *path = NULL;
    int rc = file ? 0 : ERR_NOMEM;
    if (!rc)
        rc = file_join(&w->alloc, &path, e, l->dir, file);
    if (!rc)
        rc = safetensors_open(&w->shards[w->n_shards], &w->alloc, path, e);
    if (!rc) {
        *number = w->n_shards++;
        l->paths[*number] = path;
        path = NULL;
        rc = map_put(&l->shard_of, name, *number, e);
    }
    mem_free(&w->alloc, file);
    mem_free(&w->alloc, path);
    return rc;
}

/* All shards are opened first: their number bounds the arrays. */
static int open_files(struct loader *l, struct err *e) {
    struct t5_weights *w = l->w;
    char *single = NULL, *index = NULL, *pickle = NULL;
    size_t number = 0;
    l->cap = 1;
    if (file_join(&w->alloc, &single, e, l->dir, "model.safetensors") ||
        file_join(&w->alloc, &index, e, l->dir, "model.safetensors.index.json") ||
        file_join(&w->alloc, &pickle, e, l->dir, "pytorch_model.bin"))
        goto done;
    if (!file_exists(single)) {
        if (!file_exists(index)) {
            err_set(e, ERR_NOTFOUND, "%s: no such file%s", single,
                    file_exists(pickle)
                        ? "; pytorch_model.bin is a pickle and is not read: save it again with safe_serialization=True"
                        : "");
            goto done;
        }
        if (json_read_file(index, MAX_INDEX, &w->alloc, &l->index, e))
            goto done;
        if (json_need_type(l->index, "weight_map", JSON_OBJECT, &l->weight_map, e)) {
            err_within(e, "%s", index);
            goto done;
        }
        l->cap = json_count(l->weight_map);
    }
    w->shards = mem_zero(&w->alloc, l->cap, sizeof *w->shards, e);
    l->paths = mem_zero(&w->alloc, l->cap, sizeof *l->paths, e);
    if (!w->shards || !l->paths)
        goto done;
    if (!l->weight_map)
        open_shard(l, text_of("model.safetensors"), &number, e);
    else
        for (const struct json *v = json_first(l->weight_map); v && !e->code; v = json_next(v))
            if (!open_shard(l, json_text(v), &number, e))
                map_put(&l->place, json_key(v), number, e);
done:
    mem_free(&w->alloc, single);
    mem_free(&w->alloc, index);
    mem_free(&w->alloc, pickle);
    return e->code;
}

/* Where a tensor is: NULL if nowhere, or if the index is wrong about it (then e is set). */
static const struct safetensor *find(const struct loader *l, const char *name, size_t *shard, struct err *e) {
    const struct t5_weights *w = l->w;
    *shard = 0;
    if (!w->n_shards || (l->weight_map && !map_get(&l->place, text_of(name), shard)))
        return NULL;
    const struct safetensor *t = safetensors_find(&w->shards[*shard], name);
    if (!t && l->weight_map)
        err_set(e, ERR_FORMAT, "%s: tensor %s is missing, though model.safetensors.index.json places it there", l->paths[*shard],
                name);
    return t;
}

static const char *const shared_names[] = {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight",
                                           "lm_head.weight"};

/* The shared embedding goes by several names; the head's only where the head is tied. */
static const struct safetensor *find_param(const struct loader *l, size_t i, size_t *shard, struct err *e) {
    const struct t5_weights *w = l->w;
    const struct safetensor *t = NULL;
    size_t names = &w->params[i] != w->shared ? 1 : w->config.tied ? 4 : 3;
    for (size_t k = 0; k < names && !t && !e->code; k++)
        t = find(l, names == 1 ? w->params[i].name : shared_names[k], shard, e);
    return t;
}

static void describe(const size_t *shape, size_t ndim, char *out, size_t n) {
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; i < ndim && used < n; i++) {
        int k = snprintf(out + used, n - used, "%s%zu", i ? ", " : "", shape[i]);
        used += k > 0 ? (size_t)k : 0;
    }
}

static int check_tensor(const struct loader *l, size_t i, const struct safetensor *t, size_t shard, struct err *e) {
    const struct param_info *info = &l->w->info[i];
    const char *name = l->w->params[i].name;
    if (!t)
        return err_set(e, ERR_FORMAT, "%s: tensor %s is missing: config.json asks for it", l->weight_map ? l->dir : l->paths[0],
                       name);
    bool same = t->ndim == info->ndim;
    for (size_t d = 0; same && d < t->ndim; d++)
        same = t->shape[d] == info->shape[d];
    if (!same) {
        char want[64], got[128];
        describe(info->shape, info->ndim, want, sizeof want);
        describe(t->shape, t->ndim, got, sizeof got);
        return err_set(e, ERR_FORMAT, "%s: tensor %s has shape [%s]: config.json asks for [%s]", l->paths[shard], t->name, got,
                       want);
    }
    if (!t->known)
        return err_set(e, ERR_FORMAT, "%s: tensor %s is %s: expected F32, F16 or BF16", l->paths[shard], t->name, t->dtype_text);
    return 0;
}

/* lm_head.weight decides what the head is: stored, it is the head, whatever tie_word_embeddings says; a stored copy of the
 * embedding is the tied head. (transformers 5 writes tie_word_embeddings true always and decides in the same way.) */
static int settle_head(struct loader *l, struct err *e) {
    struct t5_config *c = &l->w->config;
    size_t shard = 0;
    const struct safetensor *head = find(l, "lm_head.weight", &shard, e), *shared = NULL;
    for (size_t k = 0; k < 3 && !shared && !e->code; k++)
        shared = find(l, shared_names[k], &shard, e);
    if (e->code)
        return e->code;
    const struct safetensor *embedding = shared ? shared : head;
    if (l->w->type_stored && embedding)
        l->w->type = embedding->dtype == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    bool equal = head && shared && head->bytes == shared->bytes && memcmp(head->data, shared->data, head->bytes) == 0;
    if (!head && shared && !c->tied)
        log_write(&l->ctx->log, LOG_WARN,
                  "%s: lm_head.weight is not stored though tie_word_embeddings is false: the shared embedding is the head",
                  l->dir);
    c->tied = !head || equal || (c->tied && !shared);
    return 0;
}

/* Of a layer that the file has and the model does not want. */
static bool in_layer(const char *name, const char *stack, size_t from, size_t to) {
    size_t n = strlen(stack);
    char *end = NULL;
    if (strncmp(name, stack, n) != 0)
        return false;
    unsigned long layer = strtoul(name + n, &end, 10);
    return end != name + n && *end == '.' && layer >= from && layer < to;
}

/* Tensors that nothing asked for. Inside the stacks they mean that config.json describes another network. */
static int check_surplus(const struct loader *l, struct err *e) {
    const struct t5_weights *w = l->w;
    for (size_t s = 0; s < w->n_shards; s++)
        for (size_t i = 0; i < w->shards[s].n; i++) {
            const char *name = w->shards[s].tensors[i].name;
            bool fine = map_get(&w->by_name, text_of(name), NULL) ||
                        /* the first checkpoints stored one that no implementation uses */
                        !strcmp(name, "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight");
            for (size_t k = 0; k < 4 && !fine; k++)
                fine = !strcmp(name, shared_names[k]);
            fine = fine || in_layer(name, "encoder.block.", w->config.encoder_layers, w->config.encoder_stored) ||
                   in_layer(name, "decoder.block.", w->config.decoder_layers, w->config.decoder_stored);
            if (fine)
                continue;
            if (!strncmp(name, "encoder.", 8) || !strncmp(name, "decoder.", 8))
                return err_set(e, ERR_FORMAT, "%s: tensor %s: config.json does not ask for it (layers, feed_forward_proj?)",
                               l->paths[s], name);
            log_write(&l->ctx->log, LOG_WARN, "%s: tensor %s is not used", l->paths[s], name);
        }
    return 0;
}

static bool stays_mapped(const struct t5_weights *w, size_t i, const struct safetensor *t) {
    return weights_quantizes(w, i) || (t->dtype == w->type && (uintptr_t)t->data % dtype_size(t->dtype) == 0);
}

static int bind(struct loader *l, struct err *e) {
    struct t5_weights *w = l->w;
    size_t converted = 0, used = 0, shard = 0;
    for (size_t i = 0; i < w->n; i++) {
        const struct safetensor *t = find_param(l, i, &shard, e);
        if (e->code || check_tensor(l, i, t, shard, e))
            return e->code;
        converted += stays_mapped(w, i, t) ? 0 : w->info[i].count;
        w->bytes += w->info[i].count * dtype_size(w->type);
        if (i == 0)
            w->dtype = t->dtype;
    }
    if (check_surplus(l, e))
        return e->code;
    w->memory = mem_aligned(&w->alloc, converted, dtype_size(w->type), e);
    if (!w->memory)
        return err_within(e, "weights of %zu parameters", converted);
    struct exec x = ctx_exec(l->ctx, e);
    struct mat all = mat_of(w->memory, w->type, 1, converted);
    for (size_t i = 0; i < w->n && !e->code; i++) {
        const struct safetensor *t = find_param(l, i, &shard, e);
        struct param *p = &w->params[i];
        if (stays_mapped(w, i, t)) {
            p->w.data = t->data;
            p->w.dtype = t->dtype;
            continue;
        }
        p->w.data = mat_cols(all, used, w->info[i].count).data;
        used += w->info[i].count;
        copy(&x, p->w, mat_of(t->data, t->dtype, p->w.rows, p->w.cols));
    }
    return e->code;
}

int weights_load(struct t5_weights *w, rsd_ctx *ctx, const char *dir, struct err *e) {
    struct loader l = {.w = w, .ctx = ctx, .dir = dir};
    map_init(&l.shard_of, &w->alloc);
    map_init(&l.place, &w->alloc);
    if (open_files(&l, e) || settle_head(&l, e) || weights_layout(w, e))
        goto done;
    bind(&l, e);
done:
    for (size_t i = 0; l.paths && i < w->n_shards; i++)
        mem_free(&w->alloc, l.paths[i]);
    mem_free(&w->alloc, l.paths);
    map_free(&l.shard_of);
    map_free(&l.place);
    json_free(l.index);
    return e->code;
}
