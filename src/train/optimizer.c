/* AdamW (Loshchilov & Hutter 2019) over the parameters of a model, with the gradient clipped by its global norm (Pascanu et
 * al. 2013).
 *
 * Weights are reached layer by layer, so that a model that does not fit into memory can be paged underneath; the gradients are
 * one row, so its norm is one sum in a fixed order. The moments lie in one block each, in parameter order. Nothing is written
 * before the norm is known to be finite: a bad gradient costs a step, never the weights. */
#include "train/optimizer.h"

#include "base/ctx.h"
#include "base/options.h"
#include "t5/params.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

OPTIONS_NO_TAIL(rsd_optimizer_options, reserved);

static const rsd_optimizer_options optimizer_defaults = {
    .size = sizeof(rsd_optimizer_options), .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0, .clip = 1, .kind = RSD_ADAMW};

/* Where the state of one parameter lies. */
struct slot {
    const char *name;
    size_t shape[2], first; /* first element in the blocks below */
};

enum { BLOCK_M, BLOCK_V, BLOCK_MASTER, N_BLOCKS };
static const char block_letters[N_BLOCKS] = {'m', 'v', 'w'};

struct rsd_optimizer {
    rsd_ctx *ctx;
    rsd_t5 *model;
    rsd_optimizer_options o;
    uint64_t t;
    size_t n_slots, count, n_blocks; /* n_blocks 2, or 3 with masters */
    struct slot *slots;
    struct mat blocks[N_BLOCKS]; /* one row of `count` fp32 each */
    struct arena arena;          /* of the blocks */
    struct str names;            /* "m.NAME" and so on, terminated, one behind another */
    size_t *name_at;             /* [n_slots * n_blocks] */
};

int rsd_optimizer_options_init(rsd_optimizer_options *o, size_t size) {
    return options_init(o, size, &optimizer_defaults, sizeof optimizer_defaults, NULL);
}

static int check_options(const rsd_optimizer_options *o, struct err *e) {
    if (o->kind != RSD_ADAMW || o->reserved)
        return err_set(e, ERR_INVALID, "rsd_optimizer_options: kind %d is not RSD_ADAMW, or reserved is not 0", (int)o->kind);
    if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1))
        return err_set(e, ERR_INVALID, "rsd_optimizer_options: beta1 and beta2 must lie in [0, 1)");
    if (!(o->eps > 0 && isfinite(o->eps) && o->decay >= 0 && isfinite(o->decay) && o->clip >= 0 && isfinite(o->clip)))
        return err_set(e, ERR_INVALID, "rsd_optimizer_options: eps must be above 0, decay and clip at least 0, all finite");
    return 0;
}

/* First walk over the layers: names, places, and whether masters are needed. */
static int find_slots(rsd_optimizer *o, struct err *e) {
    size_t cap = 0, layers = params_layers(o->model);
    o->n_blocks = 2;
    for (size_t layer = 0; layer < layers; layer++) {
        struct param *p = NULL;
        size_t n = 0;
        if (params_acquire(o->model, layer, true, &p, &n, e))
            return e->code;
        int code = mem_reserve(&o->ctx->alloc, &o->slots, &cap, o->n_slots + n, sizeof *o->slots, e);
        for (size_t i = 0; i < n && !code; i++) {
            o->slots[o->n_slots++] = (struct slot){p[i].name, {p[i].w.rows, p[i].w.cols}, o->count};
            size_t count = 0;
            if (!size_mul(p[i].w.rows, p[i].w.cols, &count) || !size_add(o->count, count, &o->count))
                code = err_set(e, ERR_NOMEM, "the number of parameters does not fit into a size_t");
            if (p[i].w.dtype != DTYPE_F32)
                o->n_blocks = 3;
        }
        params_release(o->model, layer, false);
        if (code)
            return code;
    }
    return 0;
}

static int make_names(rsd_optimizer *o, struct err *e) {
    size_t n = o->n_slots * o->n_blocks;
    o->name_at = mem_new(&o->ctx->alloc, n, sizeof *o->name_at, e);
    if (!o->name_at)
        return e->code;
    for (size_t b = 0; b < o->n_blocks; b++)
        for (size_t i = 0; i < o->n_slots; i++) {
            o->name_at[b * o->n_slots + i] = o->names.n;
            str_addf(&o->names, "%c.%s", block_letters[b], o->slots[i].name);
            str_addc(&o->names, '\0');
        }
    return str_status(&o->names, e);
}

static struct mat slot_mat(const rsd_optimizer *o, size_t block, size_t slot) {
    const struct slot *s = &o->slots[slot];
    struct mat m = mat_cols(o->blocks[block], s->first, s->shape[0] * s->shape[1]);
    return mat_of(m.data, DTYPE_F32, s->shape[0], s->shape[1]);
}

/* Second walk: the masters start as the weights. */
static int fill_masters(rsd_optimizer *o, const struct exec *x) {
    size_t slot = 0, layers = params_layers(o->model);
    for (size_t layer = 0; layer < layers; layer++) {
        struct param *p = NULL;
        size_t n = 0;
        if (params_acquire(o->model, layer, false, &p, &n, x->err))
            return x->err->code;
        for (size_t i = 0; i < n; i++)
            copy(x, slot_mat(o, BLOCK_MASTER, slot++), p[i].w);
        params_release(o->model, layer, false);
    }
    return exec_status(x);
}

static int make_blocks(rsd_optimizer *o, struct err *e) {
    struct exec x = ctx_exec(o->ctx, e);
    for (size_t b = 0; b < o->n_blocks; b++) {
        o->blocks[b] = arena_mat(&o->arena, DTYPE_F32, 1, o->count, e);
        if (!o->blocks[b].data)
            return e->code;
        fill(&x, o->blocks[b], 0);
    }
    return o->n_blocks == N_BLOCKS ? fill_masters(o, &x) : exec_status(&x);
}

int rsd_optimizer_open(rsd_ctx *ctx, rsd_t5 *model, const rsd_optimizer_options *options, rsd_optimizer **out) {
    struct err e = {0};
    if (!ctx || !out)
        return RSD_EINVAL;
    *out = NULL;
    if (!model)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_optimizer_open: no model");
    rsd_optimizer_options opt;
    if (options_read(&opt, sizeof opt, &optimizer_defaults, options, "rsd_optimizer_options", &e) || check_options(&opt, &e))
        return ctx_return(ctx, e.code, &e);
    rsd_optimizer *o = mem_zero(&ctx->alloc, 1, sizeof *o, &e);
    if (!o)
        return ctx_return(ctx, e.code, &e);
    o->ctx = ctx;
    o->model = model;
    o->o = opt;
    arena_init(&o->arena, &ctx->alloc);
    str_init(&o->names, &ctx->alloc);
    if (find_slots(o, &e) || make_names(o, &e) || make_blocks(o, &e)) {
        rsd_optimizer_close(o);
        return ctx_return(ctx, e.code, &e);
    }
    *out = o;
    return RSD_OK;
}

void rsd_optimizer_close(rsd_optimizer *o) {
    if (!o)
        return;
    arena_free(&o->arena);
    str_free(&o->names);
    mem_free(&o->ctx->alloc, o->name_at);
    mem_free(&o->ctx->alloc, o->slots);
    mem_free(&o->ctx->alloc, o);
}

/* The norm is not finite: says whose fault it is. */
static int name_bad_gradient(rsd_optimizer *o, const struct exec *x) {
    size_t layers = params_layers(o->model);
    for (size_t layer = 0; layer < layers; layer++) {
        struct param *p = NULL;
        size_t n = 0;
        if (params_acquire(o->model, layer, false, &p, &n, x->err))
            return x->err->code;
        for (size_t i = 0; i < n; i++)
            if (p[i].grad.data && !isfinite(sum_squares(x, p[i].grad)))
                err_set(x->err, ERR_NUMERIC, "the gradient of %s is not finite: the weights were left as they were", p[i].name);
        params_release(o->model, layer, false);
        if (x->err->code)
            return x->err->code;
    }
    return err_set(x->err, ERR_NUMERIC, "the norm of the gradient is not finite: the weights were left as they were");
}

static int update_layer(rsd_optimizer *o, const struct exec *x, size_t layer, size_t *slot, const struct adamw *a) {
    struct param *p = NULL;
    size_t n = 0;
    if (params_acquire(o->model, layer, true, &p, &n, x->err))
        return x->err->code;
    for (size_t i = 0; i < n; i++, ++*slot) {
        struct mat m = slot_mat(o, BLOCK_M, *slot), v = slot_mat(o, BLOCK_V, *slot);
        struct mat w = o->n_blocks == N_BLOCKS ? slot_mat(o, BLOCK_MASTER, *slot) : p[i].w;
        adamw_update(x, w, m, v, p[i].grad, a);
        if (o->n_blocks == N_BLOCKS)
            copy(x, p[i].w, w);
    }
    params_release(o->model, layer, true);
    return exec_status(x);
}

int rsd_optimizer_step(rsd_optimizer *o, double lr, double *norm) {
    struct err e = {0};
    if (!o)
        return RSD_EINVAL;
    if (!isfinite(lr) || lr < 0)
        return ctx_fail(o->ctx, RSD_EINVAL, "rsd_optimizer_step: the learning rate must be a finite number of at least 0");
    struct exec x = ctx_exec(o->ctx, &e);
    struct mat all = {0};
    if (params_grads(o->model, &all, &e))
        return ctx_return(o->ctx, e.code, &e);
    double length = sqrt(sum_squares(&x, all));
    if (norm)
        *norm = length;
    if (!exec_status(&x) && !isfinite(length))
        name_bad_gradient(o, &x);
    if (exec_status(&x))
        return ctx_return(o->ctx, e.code, &e);

    double scale = o->o.clip > 0 && length > o->o.clip ? o->o.clip / length : 1;
    struct adamw a = {.lr = (float)lr,
                      .beta1 = (float)o->o.beta1,
                      .beta2 = (float)o->o.beta2,
                      .eps = (float)o->o.eps,
                      .decay = (float)o->o.decay,
                      .t = o->t + 1,
                      .grad_scale = (float)scale};
    size_t slot = 0, layers = params_layers(o->model);
    for (size_t layer = 0; layer < layers; layer++)
        if (update_layer(o, &x, layer, &slot, &a))
            return ctx_return(o->ctx, e.code, &e);
    o->t++;
    return rsd_t5_zero_grad(o->model);
}

uint64_t rsd_optimizer_steps(const rsd_optimizer *o) {
    return o ? o->t : 0;
}

size_t optimizer_tensors(const rsd_optimizer *o) {
    return o->n_slots * o->n_blocks;
}

void optimizer_tensor(const rsd_optimizer *o, size_t i, struct safetensors_item *out) {
    size_t slot = i % o->n_slots;
    *out = (struct safetensors_item){.name = o->names.p + o->name_at[i],
                                     .dtype = DTYPE_F32,
                                     .ndim = 2,
                                     .shape = o->slots[slot].shape,
                                     .data = slot_mat(o, i / o->n_slots, slot).data,
                                     .from = DTYPE_F32};
}

int optimizer_restore(rsd_optimizer *o, const struct safetensors *from, uint64_t steps, struct err *e) {
    for (size_t i = 0; i < optimizer_tensors(o); i++) {
        size_t slot = i % o->n_slots;
        const struct slot *s = &o->slots[slot];
        const char *name = o->names.p + o->name_at[i];
        const struct safetensor *t = safetensors_find(from, name);
        if (!t)
            return err_set(e, ERR_MISMATCH, "tensor %s is missing", name);
        if (!t->known || t->dtype != DTYPE_F32 || t->ndim != 2 || t->shape[0] != s->shape[0] || t->shape[1] != s->shape[1])
            return err_set(e, ERR_MISMATCH, "tensor %s: expected F32 of %zu x %zu, found %s of %zu elements", name, s->shape[0],
                           s->shape[1], t->dtype_text, t->count);
        struct mat dst = slot_mat(o, i / o->n_slots, slot);
        dtype_convert(dst.data, DTYPE_F32, t->data, DTYPE_F32, t->count);
    }
    o->t = steps;
    return 0;
}
