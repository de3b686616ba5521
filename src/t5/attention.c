/* Self- and cross-attention sublayers. Kept for backward: the stream, q, k, v, the attention output and one number per query and
 * head; the normed input is made again from the stream, which costs less than its memory. With recomputation q, k and v are made
 * again, too. */
#include "t5/model.h"

static void take_inputs(const struct run *r, struct attention_acts *k, size_t T, size_t S) {
    k->q = run_act(r, T, r->c->inner);
    k->k = run_act(r, S, r->c->inner);
    k->v = run_act(r, S, r->c->inner);
}

/* y: the normed stream */
static void make_inputs(const struct run *r, const struct attention_acts *k, const struct attention_weights *w, struct mat y,
                        const struct mat *memory) {
    const struct branch b[] = {{w->q, k->q}, {w->k, k->k}, {w->v, k->v}};
    linear_forward(r, b, memory ? 1 : 3, y);
    if (memory)
        linear_forward(r, b + 1, 2, *memory);
}

struct mat attention_sublayer(const struct run *r, struct attention_acts *k, const struct attention_weights *w, struct mat x,
                              const struct mat *memory, const struct attention *s, struct dropout out) {
    size_t T = x.rows, S = memory ? memory->rows : T;
    struct arena_mark all = arena_mark(r->acts);
    k->x = x;
    k->rrms = run_vector(r, 1, T);
    k->a = run_act(r, T, r->c->inner);
    k->lse = r->train ? run_vector(r, r->c->heads, T) : NULL;
    struct mat stream = residual_mat(r, x);
    struct arena_mark kept = arena_mark(r->acts);
    take_inputs(r, k, T, S);

    struct arena_mark mark = arena_mark(r->acts);
    struct mat y = run_act(r, T, x.cols);
    rmsnorm_forward(&r->x, y, k->rrms, x, w->norm->w, r->c->eps);
    make_inputs(r, k, w, y, memory);
    arena_release(r->acts, mark);
    attention_forward(&r->x, k->a, k->lse, k->q, k->k, k->v, s);
    residual_forward(r, stream, x, w->o, k->a, out);
    if (!r->train || r->recompute)
        arena_release(r->acts, r->train ? kept : all);
    return stream;
}

void attention_sublayer_backward(const struct run *r, const struct attention_acts *acts, const struct attention_weights *w,
                                 struct mat dx, const struct mat *memory, struct mat dmemory, struct mat dbias,
                                 const struct attention *s, struct dropout out) {
    size_t T = dx.rows, S = memory ? memory->rows : T, D = r->c->inner;
    struct attention_acts local = *acts, *k = &local;
    struct arena_mark mark = arena_mark(r->acts);
    struct mat y = run_act(r, T, dx.cols), dy = run_mat(r, T, dx.cols);
    rmsnorm_forward(&r->x, y, k->rrms, k->x, w->norm->w, r->c->eps); /* as in the forward pass, bit for bit */
    if (r->recompute) {
        take_inputs(r, k, T, S);
        make_inputs(r, k, w, y, memory);
    }
    struct mat da = run_mat(r, T, D), dq = run_mat(r, T, D), dk = run_mat(r, S, D), dv = run_mat(r, S, D);
    struct attention fresh = *s;
    fresh.overwrite = 1;
    struct branch o = residual_backward(r, da, w->o, dx, out);
    linear_backward_weights(r, &o, 1, k->a);
    attention_backward(&r->x, dq, dk, dv, dbias, da, k->a, k->q, k->k, k->v, k->lse, &fresh);
    const struct branch b[] = {{w->q, dq}, {w->k, dk}, {w->v, dv}};
    linear_backward(r, dy, b, memory ? 1 : 3, y, 0);
    if (memory)
        linear_backward(r, dmemory, b + 1, 2, *memory, 1);
    rmsnorm_backward(&r->x, dx, param_grad(r, w->norm), dy, k->x, w->norm->w, k->rrms);
    arena_release(r->acts, mark);
}
