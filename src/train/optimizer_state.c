/* The memory of an optimizer: one block for all states, so that nothing is lost between them, and a list of what lies where, by
 * the names that checkpoints use. */
#include "train/optimizer_state.h"

#include "train/optimizer.h"

enum { UNIT = 16 }; /* floats: states begin on a boundary of 64 bytes */
static const char letters[N_STATES] = {'m', 'v', 'r', 'c', 'w'};

static void shape_of(const rsd_optimizer *o, const struct slot *s, enum state k, size_t shape[2]) {
    bool factored = o->o.kind == RSD_ADAFACTOR && s->shape[0] > 1;
    shape[0] = k == STATE_ROWS && factored ? 1 : k == STATE_COLS ? 1 : s->shape[0];
    shape[1] = k == STATE_ROWS && factored ? s->shape[0] : s->shape[1];
}

static bool keeps(const rsd_optimizer *o, const struct slot *s, enum state k, bool narrow) {
    bool adafactor = o->o.kind == RSD_ADAFACTOR;
    if (!s->trained)
        return false;
    switch (k) {
    case STATE_M:
        return !adafactor || o->o.momentum > 0;
    case STATE_V:
        return !adafactor;
    case STATE_ROWS:
        return adafactor;
    case STATE_COLS:
        return adafactor && s->shape[0] > 1;
    case STATE_MASTER:
        return narrow && o->o.masters;
    case N_STATES:
        break;
    }
    return false;
}

/* Names and shapes of one parameter's states. */
static int add_slot(rsd_optimizer *o, const struct param *p, size_t *cap, size_t *floats, struct err *e) {
    struct slot *s = &o->slots[o->n_slots];
    *s = (struct slot){.name = p->name, .shape = {p->w.rows, p->w.cols}, .trained = !p->frozen};
    for (enum state k = STATE_M; k < N_STATES; k++) {
        if (!keeps(o, s, k, p->w.dtype != DTYPE_F32))
            continue;
        if (mem_reserve(&o->ctx->alloc, &o->tensors, cap, o->n_tensors + 1, sizeof *o->tensors, e))
            return e->code;
        struct state_tensor *t = &o->tensors[o->n_tensors++];
        *t = (struct state_tensor){.slot = o->n_slots, .name_at = o->names.n, .state = k};
        shape_of(o, s, k, t->shape);
        str_addf(&o->names, "%c.%s", letters[k], p->name);
        str_addc(&o->names, '\0');
        size_t n = 0;
        if (!size_mul(t->shape[0], t->shape[1], &n) || !size_add(n, UNIT - 1, &n) || !size_add(*floats, n / UNIT * UNIT, floats))
            return err_set(e, ERR_NOMEM, "the state of the optimizer does not fit into a size_t");
    }
    o->n_slots++;
    return 0;
}

/* First walk over the layers: what is to be kept. */
static int find_slots(rsd_optimizer *o, size_t *floats, struct err *e) {
    size_t cap = 0, tensor_cap = 0, layers = params_layers(o->model);
    for (size_t layer = 0; layer < layers; layer++) {
        struct param *p = NULL;
        size_t n = 0;
        if (params_acquire(o->model, layer, true, &p, &n, e))
            return e->code;
        int code = mem_reserve(&o->ctx->alloc, &o->slots, &cap, o->n_slots + n, sizeof *o->slots, e);
        for (size_t i = 0; i < n && !code; i++)
            code = add_slot(o, &p[i], &tensor_cap, floats, e);
        params_release(o->model, layer, false);
        if (code)
            return code;
    }
    return str_status(&o->names, e);
}

/* Second walk: the masters start as the weights. */
static int fill_masters(rsd_optimizer *o, const struct exec *x) {
    size_t slot = 0, layers = params_layers(o->model);
    for (size_t layer = 0; layer < layers; layer++) {
        struct param *p = NULL;
        size_t n = 0;
        if (params_acquire(o->model, layer, false, &p, &n, x->err))
            return x->err->code;
        for (size_t i = 0; i < n; i++, slot++)
            if (o->slots[slot].state[STATE_MASTER].data)
                copy(x, o->slots[slot].state[STATE_MASTER], p[i].w);
        params_release(o->model, layer, false);
    }
    return exec_status(x);
}

int state_open(rsd_optimizer *o, struct err *e) {
    size_t floats = 0;
    arena_init(&o->arena, &o->ctx->alloc);
    str_init(&o->names, &o->ctx->alloc);
    if (find_slots(o, &floats, e))
        return e->code;
    struct exec x = ctx_exec(o->ctx, e);
    struct mat all = arena_mat(&o->arena, DTYPE_F32, 1, floats, e);
    if (!all.data)
        return err_within(e, "the state of the optimizer");
    fill(&x, all, 0);
    for (size_t i = 0, at = 0; i < o->n_tensors; i++) {
        const struct state_tensor *t = &o->tensors[i];
        size_t n = t->shape[0] * t->shape[1];
        o->slots[t->slot].state[t->state] = mat_of(mat_cols(all, at, n).data, DTYPE_F32, t->shape[0], t->shape[1]);
        at += (n + UNIT - 1) / UNIT * UNIT;
    }
    return o->o.masters ? fill_masters(o, &x) : exec_status(&x);
}

void state_close(rsd_optimizer *o) {
    arena_free(&o->arena);
    str_free(&o->names);
    mem_free(&o->ctx->alloc, o->tensors);
    mem_free(&o->ctx->alloc, o->slots);
}

size_t optimizer_tensors(const rsd_optimizer *o) {
    return o->n_tensors;
}

void optimizer_tensor(const rsd_optimizer *o, size_t i, struct safetensors_item *out) {
    const struct state_tensor *t = &o->tensors[i];
    *out = (struct safetensors_item){.name = o->names.p + t->name_at,
                                     .dtype = DTYPE_F32,
                                     .ndim = 2,
                                     .shape = t->shape,
                                     .data = o->slots[t->slot].state[t->state].data,
                                     .from = DTYPE_F32};
}

int optimizer_restore(rsd_optimizer *o, const struct safetensors *from, uint64_t steps, struct err *e) {
    for (size_t i = 0; i < o->n_tensors; i++) {
        const struct state_tensor *s = &o->tensors[i];
        const char *name = o->names.p + s->name_at;
        const struct safetensor *t = safetensors_find(from, name);
        if (!t)
            return err_set(e, ERR_MISMATCH, "tensor %s is missing", name);
        if (!t->known || t->dtype != DTYPE_F32 || t->ndim != 2 || t->shape[0] != s->shape[0] || t->shape[1] != s->shape[1])
            return err_set(e, ERR_MISMATCH, "tensor %s: expected F32 of %zu x %zu, found %s of %zu elements", name, s->shape[0],
                           s->shape[1], t->dtype_text, t->count);
        dtype_convert(o->slots[s->slot].state[s->state].data, DTYPE_F32, t->data, DTYPE_F32, t->count);
    }
    o->t = steps;
    return 0;
}
