/* The pieces that all sublayers are made of: linear layers and the residual stream x + dropout(f(norm(x))).
 *
 * The stream is F32 also where weights and activations are BF16: it is a sum of two or three terms a layer that grows with depth, and in
 * 8 bits the later terms would be lost. So are gradients of activations, which live for one layer only. */
#include "core/rng.h"
#include "t5/model.h"

struct dropout run_dropout(const struct run *r, size_t layer, enum place place) {
    struct dropout d = r->drop;
    d.p = r->train ? d.p : 0;
    d.stream = rng_mix(r->step, (uint64_t)layer * PLACES + (uint64_t)place);
    return d;
}

struct mat run_mat(const struct run *r, size_t rows, size_t cols) {
    return arena_mat(r->acts, DTYPE_F32, rows, cols, r->x.err);
}

struct mat run_act(const struct run *r, size_t rows, size_t cols) {
    return arena_mat(r->acts, r->act, rows, cols, r->x.err);
}

float *run_vector(const struct run *r, size_t rows, size_t cols) {
    return run_mat(r, rows, cols).data;
}

struct projection linear_projection(struct linear l, struct mat y) {
    return (struct projection){.y = y, .w = l.whole.data ? l.whole : l.base->w, .scales = l.scales, .alpha = 1};
}

static void forward(const struct run *r, const struct branch *b, size_t n, struct mat in, float beta) {
    struct product train[MAX_PRODUCTS];
    struct projection infer[MAX_PRODUCTS];
    for (size_t i = 0; i < n; i++) {
        train[i] = (struct product){b[i].y, 0, in, 1, b[i].l.base->w, 1, beta};
        infer[i] = linear_projection(b[i].l, b[i].y);
        infer[i].beta = beta;
    }
    if (b->l.whole.data)
        project(&r->x, in, infer, n);
    else
        gemm_group(&r->x, train, n);
}

void linear_forward(const struct run *r, const struct branch *b, size_t n, struct mat in) {
    forward(r, b, n, in, 0);
}

void linear_add(const struct run *r, struct mat y, struct linear l, struct mat in) {
    struct projection p = linear_projection(l, y);
    p.beta = 1;
    project(&r->x, in, &p, 1);
}

struct mat param_grad(const struct run *r, const struct param *p) {
    if (!p->frozen && *p->fresh)
        fill(&r->x, p->grad, 0);
    *p->fresh = *p->fresh && p->frozen;
    return p->frozen ? (struct mat){0} : p->grad;
}

float param_beta(const struct param *p) {
    float beta = *p->fresh ? 0 : 1;
    *p->fresh = false;
    return beta;
}

void linear_backward(const struct run *r, struct mat din, const struct branch *b, size_t n, struct mat in, float beta) {
    struct product inputs[MAX_PRODUCTS], weights[MAX_PRODUCTS];
    size_t trained = 0;
    for (size_t i = 0; i < n; i++) {
        const struct param *w = b[i].l.base;
        inputs[i] = (struct product){din, 0, b[i].y, 0, w->w, 1, i ? 1 : beta};
        if (!w->frozen)
            weights[trained++] = (struct product){w->grad, 1, b[i].y, 0, in, 1, param_beta(w)};
    }
    gemm_group(&r->x, inputs, din.data ? n : 0);
    gemm_group(&r->x, weights, trained);
}

struct mat residual_mat(const struct run *r, struct mat x) {
    return r->train ? run_mat(r, x.rows, x.cols) : x;
}

void residual_forward(const struct run *r, struct mat y, struct mat x, struct linear l, struct mat in, struct dropout d) {
    if (d.p > 0) {
        struct arena_mark mark = arena_mark(r->acts);
        struct mat o = run_mat(r, x.rows, x.cols);
        linear_forward(r, &(struct branch){l, o}, 1, in);
        dropout_apply(&r->x, o, o, d);
        add(&r->x, y, x, o);
        arena_release(r->acts, mark);
        return;
    }
    if (y.data != x.data)
        copy(&r->x, y, x);
    forward(r, &(struct branch){l, y}, 1, in, 1);
}

void residual_backward(const struct run *r, struct mat din, struct linear l, struct mat dstream, struct mat in,
                       struct dropout d) {
    struct arena_mark mark = arena_mark(r->acts);
    struct mat dout = dstream;
    if (d.p > 0) {
        dout = run_mat(r, dstream.rows, dstream.cols);
        dropout_apply(&r->x, dout, dstream, d);
    }
    linear_backward(r, din, &(struct branch){l, dout}, 1, in, 0);
    arena_release(r->acts, mark);
}
