/* The public pass over one batch: forward, backward, and the order in which they may be called.
 *
 * Everything a pass needs lies in one arena that is emptied by the next forward, so that after the first step no memory is asked
 * from the system. Gradients flow in the order head, decoder, encoder; the encoder's output collects them from every decoder
 * block. */
#include "t5/batch.h"
#include "t5/model.h"

struct run model_run(rsd_t5 *m, bool train, struct err *e) {
    return (struct run){.x = ctx_exec(m->ctx, e),
                        .acts = &m->acts,
                        .c = &m->w->config,
                        .train = train,
                        .recompute = train && m->remade,
                        .act = m->w->int8 ? DTYPE_F32 : m->w->type,
                        .drop = m->drop,
                        .step = m->drop_step};
}

bool model_shared(const rsd_t5 *m) {
    return atomic_load(&m->w->refs) > 1;
}

/* Queries of sequence s are its own tokens; keys those of the same sequence in `keys`. */
static struct attention_span *make_spans(const struct run *r, const uint32_t *queries, const uint32_t *keys, size_t n) {
    struct attention_span *spans = arena_take(r->acts, n, sizeof *spans, r->x.err);
    for (size_t s = 0; spans && s < n; s++)
        spans[s] = (struct attention_span){queries[s], queries[s + 1] - queries[s], keys[s], keys[s + 1] - keys[s]};
    return spans;
}

static size_t longest(const uint32_t *offsets, size_t n) {
    size_t most = 0;
    for (size_t s = 0; s < n; s++)
        most = offsets[s + 1] - offsets[s] > most ? offsets[s + 1] - offsets[s] : most;
    return most;
}

/* The decoder is given what it wrote before: each sequence shifted by one behind the start token. */
static const int32_t *shifted(const struct run *r, const rsd_batch *b) {
    int32_t *ids = arena_take(r->acts, b->dec_offsets[b->n], sizeof *ids, r->x.err);
    for (size_t s = 0; ids && s < b->n; s++)
        for (size_t t = b->dec_offsets[s]; t < b->dec_offsets[s + 1]; t++)
            ids[t] = t == b->dec_offsets[s] ? r->c->start_id : b->dec_ids[t - 1];
    return ids;
}

static int forward(rsd_t5 *m, bool train, struct err *e) {
    const rsd_batch *b = &m->batch;
    m->drop = (struct dropout){.p = (float)m->dropout, .seed = m->seed};
    m->drop_step = m->step;
    m->remade = m->recompute;
    struct run r = model_run(m, train, e);
    if (m->w->lent_to == m)
        m->w->lent_to = NULL;
    arena_reset(&m->acts);
    m->enc = (struct stack_acts){
        .tokens = b->enc_offsets[b->n], .ids = b->enc_ids, .n_spans = b->n, .longest = longest(b->enc_offsets, b->n)};
    m->dec = (struct stack_acts){.tokens = b->dec_offsets[b->n], .n_spans = b->n, .longest = longest(b->dec_offsets, b->n)};
    m->enc.self = make_spans(&r, b->enc_offsets, b->enc_offsets, b->n);
    m->dec.self = make_spans(&r, b->dec_offsets, b->dec_offsets, b->n);
    m->dec.cross = make_spans(&r, b->dec_offsets, b->enc_offsets, b->n);
    m->dec.ids = shifted(&r, b);
    if (e->code || (train && model_grads(m, e)))
        return e->code;
    if (train)
        m->dec.room = grads_lend(m);
    encoder_forward(&r, m->w, &m->enc);
    if (train)
        m->enc.dout = run_mat(&r, m->enc.tokens, m->w->config.d_model);
    decoder_forward(&r, m->w, &m->dec, m->enc.out);
    return exec_status(&r.x);
}

int rsd_t5_forward(rsd_t5 *m, const rsd_batch *batch, int mode) {
    struct err e = {0};
    m->state = T5_IDLE;
    if (mode != RSD_INFER && mode != RSD_TRAIN)
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_forward: mode %d: expected RSD_INFER or RSD_TRAIN", mode);
    if (mode == RSD_TRAIN && m->w->int8)
        return ctx_fail(m->ctx, RSD_EUNSUPPORTED,
                        "rsd_t5_forward: weights of 8 bits are for inference: open the model as RSD_F32 or "
                        "RSD_BF16 to train it");
    if (mode == RSD_TRAIN && model_shared(m))
        return ctx_fail(m->ctx, RSD_EBUSY,
                        "rsd_t5_forward: the weights are shared with another handle: close it before training");
    if (batch_read(&m->batch, batch, m->w->config.vocab, &e) || forward(m, mode == RSD_TRAIN, &e))
        return ctx_return(m->ctx, e.code, &e);
    m->state = mode == RSD_TRAIN ? T5_TRAINING : T5_INFERRED;
    return RSD_OK;
}

/* The embedding's gradient is complete last: the encoder adds to it in the end. */
static void backward(rsd_t5 *m, const struct run *r, const struct listener *l) {
    fill(&r->x, m->enc.dout, 0);
    if (m->w->head != m->w->shared)
        grads_done(r, l, m->w->layers - 1);
    decoder_backward(r, m->w, &m->dec, m->enc.out, m->enc.dout, l);
    arena_release(r->acts, m->dec.blocks_begin); /* room for the encoder's backward pass, and for its gradients */
    m->w->lent_to = NULL;
    encoder_backward(r, m->w, &m->enc, l);
    grads_done(r, l, 0);
    m->state = T5_INFERRED; /* what backward needs is used up, logits can still be had */
}

static int check_backward(const rsd_t5 *m, const char *what, struct err *e) {
    if (m->state != T5_HEADED)
        return err_set(e, RSD_ESTATE, "%s: call rsd_t5_forward with RSD_TRAIN and rsd_t5_head before it", what);
    if (model_shared(m))
        return err_set(e, ERR_BUSY, "%s: the weights are shared with another handle: close it before training", what);
    return 0;
}

int rsd_t5_backward(rsd_t5 *m) {
    struct err e = {0};
    if (m->w->fused)
        return ctx_fail(m->ctx, RSD_ESTATE,
                        "rsd_t5_backward: a fused optimizer keeps no gradients and cannot accumulate them: call "
                        "rsd_optimizer_backward, once a step");
    if (!check_backward(m, "rsd_t5_backward", &e)) {
        struct run r = model_run(m, true, &e);
        backward(m, &r, &(struct listener){.m = m});
    }
    return ctx_return(m->ctx, e.code, &e);
}

int params_backward(rsd_t5 *m, params_layer_fn *fn, void *user, struct err *e) {
    if (check_backward(m, "rsd_optimizer_backward", e))
        return e->code;
    struct run r = model_run(m, true, e);
    backward(m, &r, &(struct listener){.m = m, .fn = fn, .user = user});
    return e->code;
}

int rsd_t5_set_recompute(rsd_t5 *m, int on) {
    m->recompute = on != 0;
    return RSD_OK;
}

int rsd_t5_set_dropout(rsd_t5 *m, double rate, uint64_t seed, uint64_t step) {
    if (!(rate >= 0 && rate < 1))
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_set_dropout: the rate must be at least 0 and below 1");
    m->dropout = rate;
    m->seed = seed;
    m->step = step;
    return RSD_OK;
}
