/* Where gradients lie, and who hears of them. Usually all of them, so that they can be accumulated, read, and clipped by their
 * common norm. Fused with the update of the weights (Lv et al. 2023, "Full parameter fine-tuning for large language models with
 * limited resources") only what is being added to: the embedding, which both stacks and a tied head add to until the very end; a head
 * of its own, which is complete before the first block; and one block at a time, all in the same place.
 *
 * All of them: memory that is not needed at the same time is the same memory. What the decoder's blocks keep is used up before the
 * first gradient of the encoder is made, so it lies there, unless gradients are accumulated and stand there already.
 *
 * A gradient that is zero is only noted as such: the product that adds to it first writes without reading. What nobody has added to is
 * filled when somebody looks. */
#include "t5/model.h"

#include <string.h>

/* Elements of a layer group; they are neighbours. */
static size_t layer_count(const struct t5_weights *w, size_t layer) {
    size_t first = w->layer_first[layer], end = w->layer_first[layer + 1];
    return end == w->n ? w->count - w->info[first].offset : w->info[end].offset - w->info[first].offset;
}

static bool is_block(const struct t5_weights *w, size_t layer) {
    return layer >= w->encoder.first_layer && layer < w->decoder.first_layer + w->decoder.n;
}

/* Binds the gradients of a layer group to `at`; NULL: they have no place. */
static void bind_layer(struct t5_weights *w, size_t layer, float *at) {
    size_t first = w->layer_first[layer];
    for (size_t i = first; i < w->layer_first[layer + 1]; i++)
        w->params[i].grad.data = at ? at + (w->info[i].offset - w->info[first].offset) : NULL;
}

/* Room for blocks lies behind what is kept for longer. */
static size_t block_room(const struct t5_weights *w, size_t *behind) {
    size_t most = 0;
    *behind = 0;
    for (size_t layer = 0; layer < w->layers; layer++) {
        size_t n = layer_count(w, layer);
        if (!is_block(w, layer))
            *behind += n;
        else if (n > most)
            most = n;
    }
    return most;
}

int model_grads(rsd_t5 *m, struct err *e) {
    struct t5_weights *w = m->w;
    if (w->grads)
        return 0;
    size_t kept = 0, room = block_room(w, &kept), n = w->fused ? kept + room : w->count;
    w->grads = mem_aligned(&w->alloc, n, sizeof(float), e);
    if (!w->grads)
        return err_within(e, "gradients of %zu parameters", n);
    w->n_grads = n;
    memset(w->fresh, true, w->n * sizeof *w->fresh);
    float *at = w->grads;
    for (size_t layer = 0; layer < w->layers; layer++) {
        bool here = !w->fused || !is_block(w, layer);
        bind_layer(w, layer, here ? at : NULL);
        at += here ? layer_count(w, layer) : 0;
    }
    return e->code;
}

struct mat grads_lend(rsd_t5 *m) {
    struct t5_weights *w = m->w;
    size_t first = w->layer_first[w->encoder.first_layer], end = w->layer_first[w->encoder.first_layer + w->encoder.n];
    for (size_t i = first; i < end; i++)
        if (w->fused || !w->fresh[i])
            return (struct mat){0};
    w->lent_to = m;
    return mat_of(w->grads + w->info[first].offset, DTYPE_F32, 1, w->info[end].offset - w->info[first].offset);
}

void grads_take_back(struct t5_weights *w) {
    rsd_t5 *m = w->lent_to;
    w->lent_to = NULL;
    if (!m)
        return;
    arena_release(&m->acts, m->dec.blocks_begin);
    m->state = m->state == T5_IDLE ? T5_IDLE : T5_INFERRED;
}

void grads_settle(const struct exec *x, struct t5_weights *w, size_t first, size_t end) {
    for (size_t i = first; i < end; i++)
        if (w->fresh[i] && w->params[i].grad.data) {
            fill(x, w->params[i].grad, 0);
            w->fresh[i] = false;
        }
}

int params_fuse(rsd_t5 *m, rsd_t5 **user, struct err *e) {
    struct t5_weights *w = m->w;
    bool on = user != NULL;
    if (on && w->fused)
        return err_set(e, ERR_BUSY, "the model has a fused optimizer already: close it first");
    if (w->fused == on)
        return 0;
    grads_take_back(w);
    mem_free_aligned(&w->alloc, w->grads);
    w->grads = NULL;
    w->n_grads = 0;
    for (size_t layer = 0; layer < w->layers; layer++)
        bind_layer(w, layer, NULL);
    w->fused = on;
    m->fused_by = user;
    return 0;
}

static void set_fresh(struct t5_weights *w, size_t layer) {
    memset(w->fresh + w->layer_first[layer], true, (w->layer_first[layer + 1] - w->layer_first[layer]) * sizeof *w->fresh);
}

void grads_begin(const struct listener *l, size_t layer) {
    struct t5_weights *w = l->m->w;
    size_t behind = 0;
    if (!w->fused || !is_block(w, layer))
        return;
    block_room(w, &behind);
    bind_layer(w, layer, w->grads + behind);
    set_fresh(w, layer);
}

void grads_done(const struct run *r, const struct listener *l, size_t layer) {
    struct t5_weights *w = l->m->w;
    if (exec_status(&r->x) || !w->fused)
        return;
    grads_settle(&r->x, w, w->layer_first[layer], w->layer_first[layer + 1]);
    l->fn(l->user, layer, r->x.err);
    if (is_block(w, layer))
        bind_layer(w, layer, NULL);
    set_fresh(w, layer);
}

int rsd_t5_zero_grad(rsd_t5 *m) {
    memset(m->w->fresh, true, m->w->n * sizeof *m->w->fresh);
    return RSD_OK;
}
