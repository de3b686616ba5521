/* Part of cpu.c: operations on each element by itself. One driver cuts the matrices into pieces; where none of them has gaps
 * between its rows they are one long row. y may be one of the sources, so pointers are not `restrict`; lanes never cross. Where
 * an operand is BF16 the driver hands out small F32 buffers in its place: operations know F32 alone. */
#ifndef KERNELS_CPU_ELEMENTWISE_H
#define KERNELS_CPU_ELEMENTWISE_H

#include "kernels/cpu_lanes.h"
#include "kernels/cpu_types.h"

enum { MAX_OPERANDS = 5, PIECE = 8192 /* a multiple of MASK_GROUP */ };

/* p[i]: n elements of operand i; `element`: number of the first, counted row after row without gaps. */
typedef void span_fn(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg);

struct elementwise {
    struct rows rows;
    struct mat m[MAX_OPERANDS];
    size_t count, outs, pieces; /* the first `outs` operands are written; pieces a row */
    bool mixed;                 /* some operand is BF16 */
    span_fn *fn;
    const void *arg;
    const struct rounding *rounding; /* of operand 0, or NULL: to nearest */
};

/* n elements of row r from column c on, a buffer at a time. */
static void mixed_span(const struct elementwise *e, size_t r, size_t c, size_t n, uint64_t element) {
    float buffer[MAX_OPERANDS][CHUNK];
    for (size_t i = 0, m; i < n; i += m) {
        float *p[MAX_OPERANDS] = {NULL};
        m = min_size(CHUNK, n - i);
        for (size_t k = 0; k < e->count; k++) {
            void *at = place(e->m[k], r, c + i);
            p[k] = is_wide(e->m[k]) ? at : buffer[k];
            if (p[k] == buffer[k]) {
                load_floats(p[k], at, e->m[k].dtype, m);
            }
        }
        e->fn(p, m, element + i, e->arg);
        for (size_t k = 0; k < e->outs; k++) {
            if (p[k] == buffer[k] && k == 0 && e->rounding) {
                store_weights(place(e->m[k], r, c + i), e->m[k].dtype, p[k], m, element + i, e->rounding);
            } else if (p[k] == buffer[k]) {
                store_floats(place(e->m[k], r, c + i), e->m[k].dtype, p[k], m);
            }
        }
    }
}

static void elementwise_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct elementwise *e = (const struct elementwise *)(const void *)rows;
    size_t cols = e->m[0].cols;
    for (size_t i = first; i < last; i++) {
        float *p[MAX_OPERANDS] = {NULL};
        size_t r = i / e->pieces, c = i % e->pieces * PIECE;
        if (e->mixed) {
            mixed_span(e, r, c, min_size(PIECE, cols - c), (uint64_t)r * cols + c);
            continue;
        }
        for (size_t k = 0; k < e->count; k++) {
            p[k] = row_of(e->m[k], r) + c;
        }
        e->fn(p, min_size(PIECE, cols - c), (uint64_t)r * cols + c, e->arg);
    }
}

static void elementwise(const struct exec *x, span_fn *fn, const void *arg, const struct rounding *rounding, size_t outs,
                        const struct mat *m, size_t count) {
    struct elementwise e = {
        .rows = {.fn = elementwise_rows}, .count = count, .outs = outs, .fn = fn, .arg = arg, .rounding = rounding};
    bool gaps = false;
    for (size_t i = 0; i < count; i++) {
        e.m[i] = m[i];
        gaps = gaps || (m[i].rows > 1 && m[i].ld != m[i].cols);
        e.mixed = e.mixed || !is_wide(m[i]);
    }
    for (size_t i = 0; i < count && !gaps; i++) {
        e.m[i] = mat_of(m[i].data, m[i].dtype, 1, m[i].rows * m[i].cols);
    }
    e.pieces = (e.m[0].cols + PIECE - 1) / PIECE;
    run_rows(x, &e.rows, e.m[0].rows * e.pieces, min_size(PIECE, e.m[0].cols));
}

#define OPERANDS(...)             (const struct mat[]){__VA_ARGS__}, sizeof((const struct mat[]){__VA_ARGS__}) / sizeof(struct mat)
#define ELEMENTWISE(fn, arg, ...) elementwise(x, fn, arg, NULL, 1, OPERANDS(__VA_ARGS__))

static void dropout_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    const struct dropout *d = arg;
    uint16_t kept[MASK_GROUP / LANES];
    float *y = p[0], up = mask_scale(d);
    const float *in = p[1];
    for (size_t i = 0, m; i < n; i += m) {
        size_t skip = (size_t)(element + i) % MASK_GROUP;
        m = min_size(n - i, MASK_GROUP - skip);
        /* The mask takes long enough for the processor to lose sight of the next elements. */
        for (size_t k = 0; k < MASK_GROUP; k += LANES) {
            size_t ahead = min_size(i + 4 * MASK_GROUP + k, n - 1);
            __builtin_prefetch(in + ahead);
            __builtin_prefetch(y + ahead, 1);
        }
        mask_group(kept, (element + i) / MASK_GROUP, d);
        for (size_t k = 0; m == MASK_GROUP && k < m; k += LANES) {
            vec_to(y + i + k, vec_kept(vec_of(in + i + k) * vec_all(up), kept[k / LANES]));
        }
        for (size_t k = 0; m < MASK_GROUP && k < m; k++) {
            bool keep = kept[(skip + k) / LANES] >> (skip + k) % LANES & 1;
            y[i + k] = keep ? in[i + k] * up : 0.0F;
        }
    }
}

static void copy_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    if (p[0] != p[1]) {
        memcpy(p[0], p[1], n * sizeof(float));
    }
}

static void dropout_apply_cpu(const struct exec *x, struct mat y, struct mat in, struct dropout d) {
    if (d.p > 0) {
        ELEMENTWISE(dropout_span, &d, y, in);
    } else {
        ELEMENTWISE(copy_span, NULL, y, in);
    }
}

static void relu_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    float *y = p[0];
    const float *in = p[1];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        y[i] = in[i] <= 0 ? 0.0F : in[i]; /* NaN comes through */
    }
}

static void relu_forward_cpu(const struct exec *x, struct mat y, struct mat in) {
    ELEMENTWISE(relu_span, NULL, y, in);
}

static void relu_back_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    float *din = p[0];
    const float *dy = p[1], *in = p[2];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        din[i] = in[i] > 0 ? dy[i] : 0.0F;
    }
}

static void relu_backward_cpu(const struct exec *x, struct mat din, struct mat dy, struct mat in) {
    ELEMENTWISE(relu_back_span, NULL, din, dy, in);
}

/* gelu_tanh(a) = a s with s = (1 + tanh u) / 2 = 1 / (1 + e^-2u): no difference of nearly equal numbers anywhere, so the error
 * is a few ulp of the result. */
#define GELU_K 0.797884561F /* sqrt(2/pi) */
#define GELU_C 0.044715F

static inline float gelu_sigmoid(float a) {
    return 1.0F / (1.0F + exp_fast(-2.0F * GELU_K * a * (1.0F + GELU_C * a * a)));
}

static void geglu_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    float *y = p[0];
    const float *a = p[1], *b = p[2];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        y[i] = a[i] * gelu_sigmoid(a[i]) * b[i];
    }
}

static void geglu_forward_cpu(const struct exec *x, struct mat y, struct mat a, struct mat b) {
    ELEMENTWISE(geglu_span, NULL, y, a, b);
}

/* d(a s)/da = s + a s (1-s) 2 du/da */
static void geglu_back_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    float *da = p[0], *db = p[1];
    const float *dy = p[2], *a = p[3], *b = p[4];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float av = a[i], bv = b[i], d = dy[i], s = gelu_sigmoid(av);
        /* Far left s and 1-s underflow before a^3 grows beyond bounds: clamped, the product is 0 and not 0 * infinity. */
        float c = av < -30.0F ? -30.0F : av;
        c = c > 30.0F ? 30.0F : c;
        float slope = s + s * (1.0F - s) * c * (2.0F * GELU_K) * (1.0F + 3.0F * GELU_C * c * c);
        da[i] = d * bv * slope;
        db[i] = d * av * s;
    }
}

static void geglu_backward_cpu(const struct exec *x, struct mat da, struct mat db, struct mat dy, struct mat a, struct mat b) {
    elementwise(x, geglu_back_span, NULL, NULL, 2, OPERANDS(da, db, dy, a, b));
}

static inline float sigmoid(float a) {
    return 1.0F / (1.0F + exp_fast(-a));
}

static void swiglu_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    float *y = p[0];
    const float *a = p[1], *b = p[2];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        y[i] = a[i] * sigmoid(a[i]) * b[i];
    }
}

static void swiglu_forward_cpu(const struct exec *x, struct mat y, struct mat a, struct mat b) {
    ELEMENTWISE(swiglu_span, NULL, y, a, b);
}

/* d(a s)/da = s + a s (1-s) */
static void swiglu_back_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    float *da = p[0], *db = p[1];
    const float *dy = p[2], *a = p[3], *b = p[4];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float av = a[i], bv = b[i], d = dy[i], s = sigmoid(av);
        da[i] = d * bv * (s + av * s * (1.0F - s));
        db[i] = d * av * s;
    }
}

static void swiglu_backward_cpu(const struct exec *x, struct mat da, struct mat db, struct mat dy, struct mat a, struct mat b) {
    elementwise(x, swiglu_back_span, NULL, NULL, 2, OPERANDS(da, db, dy, a, b));
}

static void add_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    float *y = p[0];
    const float *a = p[1], *b = p[2];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        y[i] = a[i] + b[i];
    }
}

static void add_cpu(const struct exec *x, struct mat y, struct mat a, struct mat b) {
    ELEMENTWISE(add_span, NULL, y, a, b);
}

static void scale_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element;
    float *y = p[0], s = *(const float *)arg;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        y[i] *= s;
    }
}

static void scale_cpu(const struct exec *x, struct mat y, float s) {
    ELEMENTWISE(scale_span, &s, y);
}

static void fill_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element;
    float *y = p[0], v = *(const float *)arg;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        y[i] = v;
    }
}

static void fill_cpu(const struct exec *x, struct mat y, float v) {
    ELEMENTWISE(fill_span, &v, y);
}

static void lerp_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element;
    float *y = p[0], t = *(const float *)arg, s = 1.0F - t;
    const float *a = p[1], *b = p[2];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        y[i] = s * a[i] + t * b[i];
    }
}

static void lerp_cpu(const struct exec *x, struct mat y, struct mat a, struct mat b, float t) {
    if (t <= 0 && t >= 0) {
        ELEMENTWISE(copy_span, NULL, y, a);
    } else if (t <= 1 && t >= 1) {
        ELEMENTWISE(copy_span, NULL, y, b);
    } else {
        ELEMENTWISE(lerp_span, &t, y, a, b);
    }
}

#endif
