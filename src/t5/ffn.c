/* The feed-forward sublayer: relu(norm(x) wi) wo (v1.0), or gelu(norm(x) wi_0) * (norm(x) wi_1) wo (v1.1: Shazeer 2020, "GLU
 * variants improve Transformer"; UL2 with silu). The inner activation and its dropout are made again in the backward pass, with
 * recomputation also what it is made of. */
#include "t5/model.h"

/* The inner value that wo reads; in place of h for ReLU without dropout. */
static struct mat inner_value(const struct run *r, const struct ffn_acts *k, struct dropout inner) {
    if (!k->g.data && inner.p <= 0)
        return k->h;
    struct mat z = run_act(r, k->h.rows, k->h.cols);
    if (k->g.data)
        (r->c->silu ? swiglu_forward : geglu_forward)(&r->x, z, k->h, k->g, inner);
    else
        dropout_apply(&r->x, z, k->h, inner);
    return z;
}

static void take_factors(const struct run *r, struct ffn_acts *k, const struct ffn_weights *w, size_t T) {
    k->h = run_act(r, T, r->c->d_ff);
    k->g = w->gate.base ? run_act(r, T, r->c->d_ff) : (struct mat){0};
}

/* y: the normed stream */
static void make_factors(const struct run *r, const struct ffn_acts *k, const struct ffn_weights *w, struct mat y) {
    linear_forward(r, (const struct branch[]){{w->wi, k->h}, {w->gate, k->g}}, w->gate.base ? 2 : 1, y);
    if (!w->gate.base)
        relu_forward(&r->x, k->h, k->h);
}

struct mat ffn_sublayer(const struct run *r, struct ffn_acts *k, const struct ffn_weights *w, struct mat x, struct dropout inner,
                        struct dropout out) {
    struct arena_mark all = arena_mark(r->acts);
    k->x = x;
    k->rrms = run_vector(r, 1, x.rows);
    struct mat stream = residual_mat(r, x);
    struct arena_mark kept = arena_mark(r->acts);
    take_factors(r, k, w, x.rows);

    struct arena_mark mark = arena_mark(r->acts);
    struct mat y = run_act(r, x.rows, x.cols);
    rmsnorm_forward(&r->x, y, k->rrms, x, w->norm->w, r->c->eps);
    make_factors(r, k, w, y);
    arena_release(r->acts, mark);
    residual_forward(r, stream, x, w->wo, inner_value(r, k, inner), out);
    arena_release(r->acts, !r->train ? all : r->recompute ? kept : mark);
    return stream;
}

void ffn_sublayer_backward(const struct run *r, const struct ffn_acts *acts, const struct ffn_weights *w, struct mat dx,
                           struct dropout inner, struct dropout out) {
    size_t T = dx.rows, F = r->c->d_ff;
    struct ffn_acts local = *acts, *k = &local;
    struct arena_mark mark = arena_mark(r->acts);
    struct mat y = run_act(r, T, dx.cols), dy = run_mat(r, T, dx.cols), dz = run_mat(r, T, F);
    rmsnorm_forward(&r->x, y, k->rrms, k->x, w->norm->w, r->c->eps);
    if (r->recompute) {
        take_factors(r, k, w, T);
        make_factors(r, k, w, y);
    }
    struct branch wo = residual_backward(r, dz, w->wo, dx, out);
    if (k->g.data) {
        /* What was kept and is met for the last time makes room for gradients, but BF16 is too narrow for them. */
        bool wide = r->act == DTYPE_F32;
        struct mat dh = wide ? k->h : run_mat(r, T, F), dg = wide ? k->g : run_mat(r, T, F), z = wide ? dz : run_act(r, T, F);
        (r->c->silu ? swiglu_backward : geglu_backward)(&r->x, z, dh, dg, dz, k->h, k->g, inner);
        linear_backward_weights(r, &wo, 1, z);
        linear_backward(r, dy, (const struct branch[]){{w->wi, dh}, {w->gate, dg}}, 2, y, 0);
    } else {
        linear_backward_weights(r, &wo, 1, inner_value(r, k, inner));
        if (inner.p > 0)
            dropout_apply(&r->x, dz, dz, inner);
        relu_backward(&r->x, dz, dz, k->h);
        linear_backward(r, dy, &(const struct branch){w->wi, dz}, 1, y, 0);
    }
    rmsnorm_backward(&r->x, dx, param_grad(r, w->norm), dy, k->x, w->norm->w, k->rrms);
    arena_release(r->acts, mark);
}
