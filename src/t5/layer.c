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

void linear_backward_input(const struct run *r, struct mat din, const struct branch *b, size_t n, float beta) {
    struct product p[MAX_PRODUCTS];
    for (size_t i = 0; i < n; i++)
        p[i] = (struct product){din, 0, b[i].y, 0, b[i].l.base->w, 1, i ? 1 : beta};
    gemm_group(&r->x, p, n);
}

void linear_backward_weights(const struct run *r, const struct branch *b, size_t n, struct mat in) {
    struct product p[MAX_PRODUCTS];
    size_t trained = 0;
    for (size_t i = 0; i < n; i++)
        if (!b[i].l.base->frozen)
            p[trained++] = (struct product){b[i].l.base->grad, 1, b[i].y, 0, in, 1, param_beta(b[i].l.base)};
    gemm_group(&r->x, p, trained);
}

void linear_backward(const struct run *r, struct mat din, const struct branch *b, size_t n, struct mat in, float beta) {
    linear_backward_input(r, din, b, n, beta);
    linear_backward_weights(r, b, n, in);
}

struct mat residual_mat(const struct run *r, struct mat x) {
    return r->train ? run_mat(r, x.rows, x.cols) : x;
}

void residual_forward(const struct run *r, struct mat y, struct mat x, struct linear l, struct mat in, struct dropout d) {
    if (d.p > 0) {
        struct arena_mark mark = arena_mark(r->acts);
        struct mat o = run_mat(r, x.rows, x.cols);
        linear_forward(r, &(struct branch){l, o}, 1, in);
        add(&r->x, y, x, o, d);
        arena_release(r->acts, mark);
        return;
    }
    if (y.data != x.data)
        copy(&r->x, y, x);
    forward(r, &(struct branch){l, y}, 1, in, 1);
}

struct branch residual_backward(const struct run *r, struct mat din, struct linear l, struct mat dstream, struct dropout d) {
    struct branch b = {l, dstream};
    if (d.p > 0) {
        b.y = run_mat(r, dstream.rows, dstream.cols);
        dropout_apply(&r->x, b.y, dstream, d);
    }
    linear_backward_input(r, din, &b, 1, 0);
    return b;
}
