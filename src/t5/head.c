/* The head, tile by tile: the product of decoder output and vocabulary is by far the largest matrix of a step (T x 32128), and
 * the loss needs no two rows of it that belong to different sequences. So a tile of whole sequences is computed, the loss turns
 * it into its gradient in place, and the gradient is carried back to decoder output and head weights while it is warm. */
#include "t5/model.h"

#include <math.h>

enum { TILE = 512 }; /* positions: 66 MB of logits of 32128 tokens; a longer sequence is a tile of its own */

static float logit_scale(const struct t5_config *c) {
    return c->scaled ? (float)(1 / sqrt((double)c->d_model)) : 1;
}

void head_project(const struct run *r, const struct t5_weights *w, struct mat logits, struct mat out) {
    struct projection p = w->int8 ? linear_projection(w->head_whole, logits) : (struct projection){.y = logits, .w = w->head->w};
    p.w = mat_rows(p.w, 0, logits.cols);
    p.alpha = logit_scale(r->c);
    project(&r->x, out, &p, 1);
}

void head_logits(const struct run *r, const struct t5_weights *w, struct mat logits, struct mat out) {
    if (w->int8)
        head_project(r, w, logits, out);
    else
        gemm(&r->x, logits, 0, out, 1, mat_rows(w->head->w, 0, logits.cols), logit_scale(r->c), 0);
}

/* Sequences first .. return value fit into a tile. */
static size_t tile_end(const rsd_batch *b, size_t first) {
    size_t end = first + 1;
    while (end < b->n && b->dec_offsets[end + 1] - b->dec_offsets[first] <= TILE)
        end++;
    return end;
}

static size_t largest_tile(const rsd_batch *b) {
    size_t most = 0;
    for (size_t s = 0; s < b->n;) {
        size_t end = tile_end(b, s), rows = b->dec_offsets[end] - b->dec_offsets[s];
        most = rows > most ? rows : most;
        s = end;
    }
    return most;
}

/* Returns what fn returned, or an error of ours in e. */
static int run_tiles(rsd_t5 *m, const struct run *r, struct mat space, rsd_tile_fn fn, void *user) {
    const rsd_batch *b = &m->batch;
    size_t vocab = r->c->vocab;
    float s = logit_scale(r->c);
    for (size_t first = 0; first < b->n;) {
        size_t end = tile_end(b, first), position = b->dec_offsets[first], rows = b->dec_offsets[end] - position;
        struct mat logits = mat_rows(space, 0, rows), out = mat_rows(m->dec.out, position, rows);
        head_logits(r, m->w, logits, out);
        if (exec_status(&r->x))
            return exec_status(&r->x);
        rsd_tile tile = {.size = sizeof tile,
                         .logits = logits.data,
                         .ld = logits.ld,
                         .vocab = vocab,
                         .first_sequence = first,
                         .n_sequences = end - first,
                         .first_position = position,
                         .n_positions = rows};
        int rc = fn(user, &tile);
        if (rc)
            return rc;
        if (r->train) {
            gemm(&r->x, mat_rows(m->dec.dout, position, rows), 0, logits, 0, m->w->head->w, s, 0);
            if (!m->w->head->frozen)
                gemm(&r->x, m->w->head->grad, 1, logits, 0, out, s, param_beta(m->w->head));
        }
        first = end;
    }
    return exec_status(&r->x);
}

int rsd_t5_head(rsd_t5 *m, rsd_tile_fn fn, void *user) {
    struct err e = {0};
    if (!fn)
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_head: no function");
    if (m->state != T5_INFERRED && m->state != T5_TRAINING)
        return ctx_fail(m->ctx, RSD_ESTATE, "rsd_t5_head: %s",
                        m->state == T5_HEADED ? "the gradients of this forward are already carried back"
                                              : "call rsd_t5_forward before it");
    bool train = m->state == T5_TRAINING;
    if (train && model_shared(m))
        return ctx_fail(m->ctx, RSD_EBUSY, "rsd_t5_head: the weights are shared with another handle: close it before training");
    if (train && model_grads(m, &e))
        return ctx_return(m->ctx, e.code, &e);
    struct run r = model_run(m, train, &e);
    if (train) {
        m->state = T5_IDLE; /* a tile that fails leaves nothing to go on with */
        m->dec.dout = run_mat(&r, m->dec.tokens, r.c->d_model);
    }
    struct arena_mark mark = arena_mark(&m->acts);
    struct mat space = run_mat(&r, largest_tile(&m->batch), r.c->vocab);
    int rc = e.code ? e.code : run_tiles(m, &r, space, fn, user);
    arena_release(&m->acts, mark);
    if (e.code)
        return ctx_return(m->ctx, e.code, &e);
    if (rc == 0 && train)
        m->state = T5_HEADED;
    return rc;
}

/* A tile function: the row's log-sum-exp taken from the logit of the id that stands there. */
struct score {
    struct exec x;
    const rsd_batch *batch;
    float *out;
};

static int score_tile(void *user, rsd_tile *t) {
    struct score *s = user;
    struct mat logits = mat_of(t->logits, DTYPE_F32, t->n_positions, t->vocab);
    logits.ld = t->ld;
    struct arena_mark mark = arena_mark(s->x.scratch);
    struct mat lse = arena_mat(s->x.scratch, DTYPE_F32, 1, t->n_positions, s->x.err);
    struct mat out = mat_of(s->out + t->first_position, DTYPE_F32, 1, t->n_positions);
    if (lse.data) {
        row_lse(&s->x, lse.data, logits);
        row_pick(&s->x, out.data, logits, s->batch->dec_ids + t->first_position);
        scale(&s->x, lse, -1);
        add(&s->x, out, out, lse, NO_DROPOUT);
    }
    arena_release(s->x.scratch, mark);
    return exec_status(&s->x);
}

int rsd_t5_logprobs(rsd_t5 *m, float *out, size_t n) {
    struct err e = {0};
    if (m->state == T5_IDLE)
        return ctx_fail(m->ctx, RSD_ESTATE, "rsd_t5_logprobs: call rsd_t5_forward before it");
    if (!out || n != m->dec.tokens)
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_logprobs: room for %zu floats given, %zu positions", n, m->dec.tokens);
    struct run r = model_run(m, false, &e);
    struct score s = {.x = r.x, .batch = &m->batch, .out = out};
    struct arena_mark mark = arena_mark(&m->acts);
    struct mat space = run_mat(&r, largest_tile(&m->batch), r.c->vocab);
    if (!e.code)
        run_tiles(m, &r, space, score_tile, &s);
    arena_release(&m->acts, mark);
    return ctx_return(m->ctx, e.code, &e);
}

int rsd_t5_logits(rsd_t5 *m, float *out, size_t n) {
    struct err e = {0};
    if (m->state == T5_IDLE)
        return ctx_fail(m->ctx, RSD_ESTATE, "rsd_t5_logits: call rsd_t5_forward before it");
    size_t T = m->dec.tokens, V = m->w->config.vocab, need = 0;
    if (!out || !size_mul(T, V, &need) || n != need)
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_logits: room for %zu floats given, %zu positions x %zu needed", n, T, V);
    struct run r = model_run(m, false, &e);
    head_logits(&r, m->w, mat_of(out, DTYPE_F32, T, V), m->dec.out);
    return ctx_return(m->ctx, e.code, &e);
}
