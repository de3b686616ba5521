/* Part of cpu.c: operations on each element by itself. One driver cuts the matrices into pieces; where none of them has gaps
 * between its rows they are one long row. y may be one of the sources, so pointers are not `restrict`; lanes never cross. Where
 * an operand is BF16 the driver hands out small F32 buffers in its place: operations know F32 alone. Dropout is the driver's, too:
 * an operation that something is dropped before or behind needs no other pass over memory for it. */
#ifndef KERNELS_CPU_ELEMENTWISE_H
#define KERNELS_CPU_ELEMENTWISE_H

#include "kernels/cpu_lanes.h"
#include "kernels/cpu_types.h"

enum { MAX_OPERANDS = 6, PIECE = 8192 /* a multiple of MASK_GROUP */, DROPPED_CHUNK = 256 /* too */ };

/* p[i]: n elements of operand i; `element`: number of the first, counted row after row without gaps. */
typedef void span_fn(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg);

struct elementwise {
    struct rows rows;
    struct mat m[MAX_OPERANDS];
    size_t count, outs, pieces; /* the first `outs` operands are written; pieces a row */
    bool chunked;               /* some operand is BF16, or is dropped */
    span_fn *fn;
    const void *arg;
    const struct rounding *rounding; /* of operand 0, or NULL: to nearest */
    const struct dropout *drop;      /* or NULL */
    unsigned dropped;                /* bit k: it meets operand k, which is read or written, not both */
};

/* What is kept of n elements, times `up`; bit `first` of kept is that of in[0]. */
static void keep_some(float *y, const float *in, size_t n, const uint16_t *kept, size_t first, float up) {
    size_t i = 0;
    for (; first % LANES == 0 && i + LANES <= n; i += LANES) {
        vec_to(y + i, vec_kept(vec_of(in + i) * vec_all(up), kept[(first + i) / LANES]));
    }
    for (; i + LANES <= n; i += LANES) {
        vec_to(y + i, vec_kept(vec_of(in + i) * vec_all(up), mask_at(kept, first + i)));
    }
    for (; i < n; i++) {
        y[i] = mask_at(kept, first + i) & 1 ? in[i] * up : 0.0F;
    }
}

/* The bits of mask elements first .. first + n, DROPPED_CHUNK at most. They take long enough to make for the processor to lose sight
 * of what is read next, so it is fetched meanwhile: one chunk ahead, and a short one, which is still in the first-level cache when its
 * turn comes. */
static void mask_chunk(uint16_t *kept, const struct elementwise *e, size_t r, size_t c, size_t n, uint64_t first) {
    for (size_t i = 0; i < n + first % MASK_GROUP; i += MASK_GROUP) {
        for (size_t k = 0; k < e->count && c + DROPPED_CHUNK + i < e->m[k].cols; k++) {
            const char *ahead = place(e->m[k], r, c + DROPPED_CHUNK + i);
            for (size_t line = 0; line < MASK_GROUP * width_of(e->m[k]); line += 64) {
                __builtin_prefetch(ahead + line);
            }
        }
        mask_group(kept + i / LANES, (first + i) / MASK_GROUP, e->drop);
    }
}

/* n elements of row r from column c on, a buffer at a time. */
static void chunked_span(const struct elementwise *e, size_t r, size_t c, size_t n, uint64_t element) {
    float buffer[MAX_OPERANDS][CHUNK], up = e->drop ? mask_scale(e->drop) : 1;
    uint16_t kept[(DROPPED_CHUNK + MASK_GROUP) / LANES + 1];
    for (size_t i = 0, m; i < n; i += m) {
        float *p[MAX_OPERANDS] = {NULL};
        size_t first = (size_t)(element + i) % MASK_GROUP;
        m = min_size(e->drop ? DROPPED_CHUNK : CHUNK, n - i);
        if (e->drop) {
            mask_chunk(kept, e, r, c + i, m, element + i);
        }
        for (size_t k = 0; k < e->count; k++) {
            void *at = place(e->m[k], r, c + i);
            bool wide = is_wide(e->m[k]), drop = e->dropped >> k & 1;
            p[k] = wide && !drop ? at : buffer[k];
            if (!wide) {
                load_floats(p[k], at, e->m[k].dtype, m);
            }
            if (drop && k >= e->outs) {
                keep_some(p[k], wide ? at : p[k], m, kept, first, up);
            }
        }
        e->fn(p, m, element + i, e->arg);
        for (size_t k = 0; k < e->outs; k++) {
            void *at = place(e->m[k], r, c + i);
            bool wide = is_wide(e->m[k]);
            if (e->dropped >> k & 1) {
                keep_some(wide ? at : p[k], p[k], m, kept, first, up);
            }
            if (!wide && k == 0 && e->rounding) {
                store_weights(at, e->m[k].dtype, p[k], m, element + i, e->rounding);
            } else if (!wide) {
                store_floats(at, e->m[k].dtype, p[k], m);
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
        if (e->chunked) {
            chunked_span(e, r, c, min_size(PIECE, cols - c), (uint64_t)r * cols + c);
            continue;
        }
        for (size_t k = 0; k < e->count; k++) {
            p[k] = row_of(e->m[k], r) + c;
        }
        e->fn(p, min_size(PIECE, cols - c), (uint64_t)r * cols + c, e->arg);
    }
}

static void elementwise(const struct exec *x, struct elementwise e) {
    bool gaps = false;
    e.rows.fn = elementwise_rows;
    e.chunked = e.drop;
    e.dropped = e.drop ? e.dropped : 0;
    for (size_t i = 0; i < e.count; i++) {
        gaps = gaps || (e.m[i].rows > 1 && e.m[i].ld != e.m[i].cols);
        e.chunked = e.chunked || !is_wide(e.m[i]);
    }
    for (size_t i = 0; i < e.count && !gaps; i++) {
        e.m[i] = mat_of(e.m[i].data, e.m[i].dtype, 1, e.m[i].rows * e.m[i].cols);
    }
    e.pieces = (e.m[0].cols + PIECE - 1) / PIECE;
    run_rows(x, &e.rows, e.m[0].rows * e.pieces, min_size(PIECE, e.m[0].cols));
}

/* fn(arg) of the matrices behind it, the first of which is written. */
#define OPERANDS(...)          .m = {__VA_ARGS__}, .count = sizeof((const struct mat[]){__VA_ARGS__}) / sizeof(struct mat)
#define ELEMENTWISE(f, a, ...) elementwise(x, (struct elementwise){.fn = f, .arg = a, .outs = 1, OPERANDS(__VA_ARGS__)})

static void copy_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    if (p[0] != p[1]) {
        memcpy(p[0], p[1], n * sizeof(float));
    }
}

/* What elementwise() is told of a dropout. */
static const struct dropout *drop_if(const struct dropout *d) {
    return d->p > 0 ? d : NULL;
}

static void dropout_apply_cpu(const struct exec *x, struct mat y, struct mat in, struct dropout d) {
    struct elementwise e = {.fn = copy_span, .outs = 1, OPERANDS(y, in), .drop = drop_if(&d), .dropped = 1};
    elementwise(x, e);
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

/* Dropout meets what a gate gives, and the gradient of that. */
enum { GATE_DROPS = 1U << 0, GATE_BACK_DROPS = 1U << 0 | 1U << 3 };

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

static void geglu_forward_cpu(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d) {
    elementwise(x,
                (struct elementwise){.fn = geglu_span, .outs = 1, OPERANDS(y, a, b), .drop = drop_if(&d), .dropped = GATE_DROPS});
}

/* d(a s)/da = s + a s (1-s) 2 du/da */
static void geglu_back_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    float *y = p[0], *da = p[1], *db = p[2];
    const float *dy = p[3], *a = p[4], *b = p[5];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float av = a[i], bv = b[i], d = dy[i], s = gelu_sigmoid(av);
        /* Far left s and 1-s underflow before a^3 grows beyond bounds: clamped, the product is 0 and not 0 * infinity. */
        float c = av < -30.0F ? -30.0F : av;
        c = c > 30.0F ? 30.0F : c;
        float slope = s + s * (1.0F - s) * c * (2.0F * GELU_K) * (1.0F + 3.0F * GELU_C * c * c);
        y[i] = av * s * bv;
        da[i] = d * bv * slope;
        db[i] = d * av * s;
    }
}

static void geglu_backward_cpu(const struct exec *x, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a,
                               struct mat b, struct dropout d) {
    elementwise(
        x, (struct elementwise){
               .fn = geglu_back_span, .outs = 3, OPERANDS(y, da, db, dy, a, b), .drop = drop_if(&d), .dropped = GATE_BACK_DROPS});
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

static void swiglu_forward_cpu(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d) {
    elementwise(
        x, (struct elementwise){.fn = swiglu_span, .outs = 1, OPERANDS(y, a, b), .drop = drop_if(&d), .dropped = GATE_DROPS});
}

/* d(a s)/da = s + a s (1-s) */
static void swiglu_back_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element, (void)arg;
    float *y = p[0], *da = p[1], *db = p[2];
    const float *dy = p[3], *a = p[4], *b = p[5];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float av = a[i], bv = b[i], d = dy[i], s = sigmoid(av);
        y[i] = av * s * bv;
        da[i] = d * bv * (s + av * s * (1.0F - s));
        db[i] = d * av * s;
    }
}

static void swiglu_backward_cpu(const struct exec *x, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a,
                                struct mat b, struct dropout d) {
    elementwise(
        x,
        (struct elementwise){
            .fn = swiglu_back_span, .outs = 3, OPERANDS(y, da, db, dy, a, b), .drop = drop_if(&d), .dropped = GATE_BACK_DROPS});
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

static void add_cpu(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d) {
    elementwise(x, (struct elementwise){.fn = add_span, .outs = 1, OPERANDS(y, a, b), .drop = drop_if(&d), .dropped = 1U << 2});
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
