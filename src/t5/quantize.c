/* Weights of 8 bits for generation, whose time is that of reading them: every linear layer and the head become whole numbers with a
 * scale per row of outputs, from what the files hold (symmetric, the largest weight of a row is 127; Jacob et al. 2018 without
 * the offset). Embedding, relative bias and norms stay as they are: a step reads a row of them. What the files hold stays mapped
 * for rsd_t5_param_read, and needs no memory. */
#include "t5/model.h"

static bool stays_wide(const struct t5_weights *w, const struct param *p) {
    return p->w.rows == 1 || p == w->shared || p == w->encoder.bias || p == w->decoder.bias;
}

bool weights_quantizes(const struct t5_weights *w, size_t i) {
    return w->int8 && !stays_wide(w, &w->params[i]);
}

/* Calls fn for each linear layer, the head last. */
static void each_linear(struct t5_weights *w, void (*fn)(struct linear *l, void *user), void *user) {
    struct t5_stack *const stacks[] = {&w->encoder, &w->decoder};
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < stacks[s]->n; i++) {
            struct t5_block *b = &stacks[s]->blocks[i];
            struct linear *const all[] = {&b->self.q,  &b->self.k,  &b->self.v, &b->self.o,   &b->cross.q, &b->cross.k,
                                          &b->cross.v, &b->cross.o, &b->ffn.wi, &b->ffn.gate, &b->ffn.wo};
            for (size_t k = 0; k < sizeof all / sizeof *all; k++)
                if (all[k]->base)
                    fn(all[k], user);
        }
    w->head_whole.base = w->head;
    fn(&w->head_whole, user);
}

static size_t whole_lines(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

static void add_bytes(struct linear *l, void *user) {
    size_t *bytes = user;
    *bytes += whole_lines(l->base->w.rows * l->base->w.cols) + whole_lines(l->base->w.rows * sizeof(float));
}

struct filling {
    const struct exec *x;
    unsigned char *at;
};

static void quantize(struct linear *l, void *user) {
    struct filling *f = user;
    struct mat w = l->base->w;
    l->whole = mat_of(f->at, DTYPE_I8, w.rows, w.cols);
    f->at += whole_lines(w.rows * w.cols);
    float *scales = (float *)(void *)f->at;
    f->at += whole_lines(w.rows * sizeof *scales);
    l->scales = scales;
    quantize_rows(f->x, l->whole, scales, w);
}

int weights_quantize(struct t5_weights *w, rsd_ctx *ctx, struct err *e) {
    size_t bytes = 0;
    each_linear(w, add_bytes, &bytes); /* fewer than those of the parameters, which were counted */
    w->quantized = mem_aligned(&w->alloc, bytes, 1, e);
    if (!w->quantized)
        return err_within(e, "weights of 8 bits");
    struct exec x = ctx_exec(ctx, e);
    struct filling f = {&x, w->quantized};
    each_linear(w, quantize, &f);
    w->bytes = bytes;
    for (size_t i = 0; i < w->n; i++)
        w->bytes += stays_wide(w, &w->params[i]) ? w->info[i].count * dtype_size(w->params[i].w.dtype) : 0;
    for (size_t i = 0; i < w->n_shards; i++)
        file_map_forget(&w->shards[i].map);
    return exec_status(&x);
}
