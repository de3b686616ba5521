/* The naive table: each operation as its formula in kernels.h says it, element by element, in double precision and one thread.
 * It is what the fast tables are compared with; nothing here is clever. */
#include "core/rng.h"
#include "kernels/mask.h"
#include "kernels/table.h"

#include <math.h>
#include <string.h>

static float get(struct mat m, size_t r, size_t c) {
    if (m.dtype == DTYPE_F32) {
        return row_of(m, r)[c];
    }
    float v;
    dtype_convert(&v, DTYPE_F32, mat_cols(mat_rows(m, r, 1), c, 1).data, m.dtype, 1);
    return v;
}

static void set(struct mat m, size_t r, size_t c, double v) {
    float f = (float)v;
    if (m.dtype == DTYPE_F32) {
        row_of(m, r)[c] = f;
        return;
    }
    dtype_convert(mat_cols(mat_rows(m, r, 1), c, 1).data, m.dtype, &f, DTYPE_F32, 1);
}

static void embedding_forward_ref(const struct exec *x, struct mat y, struct mat w, const int32_t *ids) {
    (void)x;
    for (size_t t = 0; t < y.rows; t++) {
        for (size_t c = 0; c < y.cols; c++) {
            set(y, t, c, get(w, (size_t)ids[t], c));
        }
    }
}

static void embedding_backward_ref(const struct exec *x, struct mat dw, struct mat dy, const int32_t *ids) {
    (void)x;
    for (size_t t = 0; t < dy.rows; t++) {
        for (size_t c = 0; c < dy.cols; c++) {
            set(dw, (size_t)ids[t], c, (double)get(dw, (size_t)ids[t], c) + (double)get(dy, t, c));
        }
    }
}

static uint32_t random_half(uint64_t seed, uint64_t stream, uint64_t element) {
    uint32_t words[4], r = (uint32_t)(element % MASK_GROUP);
    philox(words, seed, stream, element / MASK_GROUP * MASK_BLOCKS + r % MASK_BLOCKS);
    return words[r / 32] >> (r / 16 % 2 * 16) & 0xffffU;
}

/* 0 for a dropped element, else 1 / (1-p) */
static double keep(struct dropout d, uint64_t element) {
    if (d.p <= 0) {
        return 1;
    }
    return random_half(d.seed, d.stream, element) >= mask_threshold(d.p) ? 1 / (1 - (double)d.p) : 0;
}

/* A weight, rounded as asked for. */
static void set_weight(struct mat m, size_t r, size_t c, double v, struct rounding how) {
    if (m.dtype == DTYPE_F32 || !how.stochastic || !isfinite((float)v)) {
        set(m, r, c, v);
        return;
    }
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    bits = (bits + random_half(how.seed, how.stream, r * m.cols + c)) & 0xffff0000U;
    memcpy(&f, &bits, sizeof f);
    set(m, r, c, (double)f);
}

/* v behind the dropout of element (r, c) of a matrix like m */
static double dropped(struct dropout d, struct mat m, size_t r, size_t c, double v) {
    double k = keep(d, r * m.cols + c);
    return k > 0 ? k * v : 0;
}

static void dropout_apply_ref(const struct exec *x, struct mat y, struct mat in, struct dropout d) {
    (void)x;
    for (size_t r = 0; r < y.rows; r++) {
        for (size_t c = 0; c < y.cols; c++) {
            set(y, r, c, dropped(d, y, r, c, (double)get(in, r, c)));
        }
    }
}

static void rmsnorm_forward_ref(const struct exec *x, struct mat y, float *rrms, struct mat in, struct mat g, float eps) {
    (void)x;
    for (size_t t = 0; t < y.rows; t++) {
        double sum = 0;
        for (size_t c = 0; c < y.cols; c++) {
            sum += (double)get(in, t, c) * (double)get(in, t, c);
        }
        double r = 1 / sqrt(sum / (double)y.cols + (double)eps);
        rrms[t] = (float)r;
        for (size_t c = 0; c < y.cols; c++) {
            set(y, t, c, (double)get(in, t, c) * r * (double)get(g, 0, c));
        }
    }
}

static void rmsnorm_backward_ref(const struct exec *x, struct mat din, struct mat dg, struct mat dy, struct mat in, struct mat g,
                                 const float *rrms) {
    (void)x;
    for (size_t t = 0; t < dy.rows; t++) {
        double r = (double)rrms[t], dot = 0;
        for (size_t c = 0; c < dy.cols; c++) {
            dot += (double)get(dy, t, c) * (double)get(g, 0, c) * (double)get(in, t, c);
        }
        for (size_t c = 0; c < dy.cols; c++) {
            double d =
                r * (double)get(g, 0, c) * (double)get(dy, t, c) - r * r * r * dot / (double)dy.cols * (double)get(in, t, c);
            set(din, t, c, (double)get(din, t, c) + d);
        }
    }
    for (size_t c = 0; dg.data && c < dy.cols; c++) {
        double sum = (double)get(dg, 0, c);
        for (size_t t = 0; t < dy.rows; t++) {
            sum += (double)get(dy, t, c) * (double)get(in, t, c) * (double)rrms[t];
        }
        set(dg, 0, c, sum);
    }
}

static void gemm_ref(const struct exec *x, struct mat c, int ta, struct mat a, int tb, struct mat b, float alpha, float beta) {
    (void)x;
    size_t inner = ta ? a.rows : a.cols;
    for (size_t i = 0; i < c.rows; i++) {
        for (size_t j = 0; j < c.cols; j++) {
            double sum = 0;
            for (size_t k = 0; k < inner; k++) {
                sum += (double)(ta ? get(a, k, i) : get(a, i, k)) * (double)(tb ? get(b, j, k) : get(b, k, j));
            }
            double old = beta != 0 ? (double)beta * (double)get(c, i, j) : 0;
            set(c, i, j, (double)alpha * sum + old);
        }
    }
}

static void gemms_ref(const struct exec *x, const struct product *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        gemm_ref(x, p[i].c, p[i].ta, p[i].a, p[i].tb, p[i].b, p[i].alpha, p[i].beta);
    }
}

/* I8 weights are numbers as good as any: the input is not rounded here. */
static void project_ref(const struct exec *x, struct mat in, const struct projection *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (p[i].w.dtype != DTYPE_I8) {
            gemm_ref(x, p[i].y, 0, in, 1, p[i].w, p[i].alpha, p[i].beta);
            continue;
        }
        for (size_t r = 0; r < in.rows; r++) {
            for (size_t j = 0; j < p[i].w.rows; j++) {
                const int8_t *w = mat_rows(p[i].w, j, 1).data;
                double sum = 0, old = p[i].beta != 0 ? (double)p[i].beta * (double)get(p[i].y, r, j) : 0;
                for (size_t k = 0; k < in.cols; k++) {
                    sum += (double)get(in, r, k) * (double)p[i].scales[j] * w[k];
                }
                set(p[i].y, r, j, (double)p[i].alpha * sum + old);
            }
        }
    }
}

static void quantize_rows_ref(const struct exec *x, struct mat q, float *scales, struct mat w) {
    (void)x;
    for (size_t r = 0; r < w.rows; r++) {
        double largest = 0;
        bool finite = true;
        for (size_t c = 0; c < w.cols; c++) {
            largest = fmax(largest, fabs((double)get(w, r, c)));
            finite = finite && isfinite(get(w, r, c));
        }
        scales[r] = finite ? (float)(largest / 127) : NAN;
        for (size_t c = 0; c < w.cols; c++) {
            double v = finite && largest > 0 ? rint((double)get(w, r, c) * 127 / largest) : 0;
            ((int8_t *)mat_rows(q, r, 1).data)[c] = (int8_t)v;
        }
    }
}

/* ---- attention: one query of one head at a time ---- */

struct query {
    size_t span, i, pos, keys, head;
    const struct attention_span *p;
    uint64_t element; /* of its first probability */
};

static double score(const struct attention *s, const struct query *u, size_t j, struct mat q, struct mat k) {
    double sum = 0;
    for (size_t d = 0; d < s->d_kv; d++) {
        sum += (double)get(q, u->p->q_first + u->i, u->head * s->d_kv + d) *
               (double)get(k, u->p->k_first + j, u->head * s->d_kv + d);
    }
    return sum + (s->bias.data ? (double)get(s->bias, u->head, s->bias_zero + j - u->pos) : 0);
}

/* Calls fn for every (span, head, query) with room for two rows of probabilities. */
struct attention_run {
    const struct attention *s;
    struct mat q, k, v, out, dq, dk, dv, dbias, dout;
    float *lse;
    const float *lse_in;
    double *row, *drow;
};

static void each_query(const struct exec *x, struct attention_run *run,
                       void (*fn)(const struct attention_run *, const struct query *)) {
    const struct attention *s = run->s;
    struct arena_mark mark = arena_mark(x->scratch);
    size_t most = 1;
    for (size_t i = 0; i < s->n_spans; i++) {
        most = s->spans[i].k_len > most ? s->spans[i].k_len : most;
    }
    uint64_t *area = arena_take(x->scratch, s->n_spans + 1, sizeof *area, x->err);
    run->row = arena_take(x->scratch, most, sizeof(double), x->err);
    run->drow = arena_take(x->scratch, most, sizeof(double), x->err);
    if (area && run->row && run->drow) {
        mask_areas(area, s);
        for (size_t span = 0; span < s->n_spans; span++) {
            const struct attention_span *p = &s->spans[span];
            for (size_t h = 0; h < s->heads; h++) {
                for (size_t i = 0; i < p->q_len; i++) {
                    size_t pos = s->causal ? i + p->k_len - p->q_len : i;
                    struct query u = {.span = span,
                                      .i = i,
                                      .pos = pos,
                                      .keys = s->causal ? pos + 1 : p->k_len,
                                      .head = h,
                                      .p = p,
                                      .element = h * area[s->n_spans] + area[span] + i * p->k_len};
                    fn(run, &u);
                }
            }
        }
    }
    arena_release(x->scratch, mark);
}

static void query_forward(const struct attention_run *run, const struct query *u) {
    const struct attention *s = run->s;
    double max = -INFINITY, sum = 0;
    for (size_t j = 0; j < u->keys; j++) {
        run->row[j] = score(s, u, j, run->q, run->k);
        max = fmax(max, run->row[j]);
    }
    for (size_t j = 0; j < u->keys; j++) {
        run->row[j] = exp(run->row[j] - max);
        sum += run->row[j];
    }
    for (size_t d = 0; d < s->d_kv; d++) {
        double o = 0;
        for (size_t j = 0; j < u->keys; j++) {
            o += run->row[j] / sum * keep(s->dropout, u->element + j) *
                 (double)get(run->v, u->p->k_first + j, u->head * s->d_kv + d);
        }
        set(run->out, u->p->q_first + u->i, u->head * s->d_kv + d, o);
    }
    if (run->lse) {
        run->lse[u->head * run->q.rows + u->p->q_first + u->i] = (float)(max + log(sum));
    }
}

static void query_backward(const struct attention_run *run, const struct query *u) {
    const struct attention *s = run->s;
    size_t r = u->p->q_first + u->i, c0 = u->head * s->d_kv;
    double lse = (double)run->lse_in[u->head * run->q.rows + r], mean = 0;
    for (size_t j = 0; j < u->keys; j++) {
        double p = exp(score(s, u, j, run->q, run->k) - lse), kept = keep(s->dropout, u->element + j), dp = 0;
        for (size_t d = 0; d < s->d_kv; d++) {
            size_t rk = u->p->k_first + j;
            double o = (double)get(run->dout, r, c0 + d);
            dp += o * (double)get(run->v, rk, c0 + d);
            set(run->dv, rk, c0 + d, (double)get(run->dv, rk, c0 + d) + p * kept * o);
        }
        run->row[j] = p;
        run->drow[j] = dp * kept;
        mean += p * run->drow[j];
    }
    for (size_t j = 0; j < u->keys; j++) {
        double ds = run->row[j] * (run->drow[j] - mean);
        size_t rk = u->p->k_first + j;
        for (size_t d = 0; d < s->d_kv; d++) {
            set(run->dq, r, c0 + d, (double)get(run->dq, r, c0 + d) + ds * (double)get(run->k, rk, c0 + d));
            set(run->dk, rk, c0 + d, (double)get(run->dk, rk, c0 + d) + ds * (double)get(run->q, r, c0 + d));
        }
        if (run->dbias.data) {
            size_t at = s->bias_zero + j - u->pos;
            set(run->dbias, u->head, at, (double)get(run->dbias, u->head, at) + ds);
        }
    }
}

static void attention_forward_ref(const struct exec *x, struct mat out, float *lse, struct mat q, struct mat k, struct mat v,
                                  const struct attention *s) {
    struct attention_run run = {.s = s, .q = q, .k = k, .v = v, .out = out, .lse = lse};
    each_query(x, &run, query_forward);
}

static void fill_ref(const struct exec *x, struct mat y, float v) {
    (void)x;
    for (size_t r = 0; r < y.rows; r++) {
        for (size_t c = 0; c < y.cols; c++) {
            set(y, r, c, v);
        }
    }
}

static void attention_backward_ref(const struct exec *x, struct mat dq, struct mat dk, struct mat dv, struct mat dbias,
                                   struct mat dout, struct mat out, struct mat q, struct mat k, struct mat v, const float *lse,
                                   const struct attention *s) {
    struct attention_run run = {
        .s = s, .q = q, .k = k, .v = v, .out = out, .dq = dq, .dk = dk, .dv = dv, .dbias = dbias, .dout = dout, .lse_in = lse};
    if (s->overwrite) {
        fill_ref(x, dq, 0);
        fill_ref(x, dk, 0);
        fill_ref(x, dv, 0);
    }
    each_query(x, &run, query_backward);
}

static void attention_step_ref(const struct exec *x, struct mat out, struct mat q, const struct attention_step *s) {
    size_t D = s->d_kv;
    for (size_t i = 0; i < q.rows * s->heads; i++) {
        size_t r = i / s->heads, h = i % s->heads, n = s->length[r], first = (s->region[r] * s->heads + h) * s->room;
        for (size_t d = 0; d < D && s->new_k.data; d++) {
            set(s->k, first + n - 1, d, (double)get(s->new_k, r, h * D + d));
            set(s->v, first + n - 1, d, (double)get(s->new_v, r, h * D + d));
        }
        struct arena_mark mark = arena_mark(x->scratch);
        double *p = arena_take(x->scratch, n, sizeof *p, x->err), most = -INFINITY, sum = 0;
        for (size_t j = 0; p && j < n; j++) {
            p[j] = s->bias.data ? (double)get(s->bias, h, s->bias_zero + j - (n - 1)) : 0;
            for (size_t d = 0; d < D; d++) {
                p[j] += (double)get(q, r, h * D + d) * (double)get(s->k, first + j, d);
            }
            most = fmax(most, p[j]);
        }
        for (size_t j = 0; p && j < n; j++) {
            p[j] = exp(p[j] - most);
            sum += p[j];
        }
        for (size_t d = 0; p && d < D; d++) {
            double v = 0;
            for (size_t j = 0; j < n; j++) {
                v += p[j] / sum * (double)get(s->v, first + j, d);
            }
            set(out, r, h * D + d, v);
        }
        arena_release(x->scratch, mark);
    }
}

static void bias_expand_forward_ref(const struct exec *x, struct mat bias, struct mat table, const int32_t *bucket) {
    (void)x;
    for (size_t h = 0; h < bias.rows; h++) {
        for (size_t d = 0; d < bias.cols; d++) {
            set(bias, h, d, get(table, (size_t)bucket[d], h));
        }
    }
}

static void bias_expand_backward_ref(const struct exec *x, struct mat dtable, struct mat dbias, const int32_t *bucket) {
    (void)x;
    for (size_t h = 0; h < dbias.rows; h++) {
        for (size_t b = 0; b < dtable.rows; b++) {
            double sum = get(dtable, b, h);
            for (size_t d = 0; d < dbias.cols; d++) {
                sum += (size_t)bucket[d] == b ? (double)get(dbias, h, d) : 0;
            }
            set(dtable, b, h, sum);
        }
    }
}

/* ---- elementwise ---- */

static void relu_forward_ref(const struct exec *x, struct mat y, struct mat in) {
    (void)x;
    for (size_t r = 0; r < y.rows; r++) {
        for (size_t c = 0; c < y.cols; c++) {
            set(y, r, c, get(in, r, c) <= 0 ? 0 : get(in, r, c));
        }
    }
}

static void relu_backward_ref(const struct exec *x, struct mat din, struct mat dy, struct mat in) {
    (void)x;
    for (size_t r = 0; r < din.rows; r++) {
        for (size_t c = 0; c < din.cols; c++) {
            set(din, r, c, get(in, r, c) > 0 ? get(dy, r, c) : 0);
        }
    }
}

/* An activation and its slope. */
struct point {
    double value, slope;
};

static struct point gelu(double a) {
    double k = sqrt(2 / 3.14159265358979323846), t = tanh(k * (a + 0.044715 * a * a * a));
    return (struct point){a / 2 * (1 + t), (1 + t) / 2 + a / 2 * (1 - t * t) * k * (1 + 3 * 0.044715 * a * a)};
}

static struct point silu(double a) {
    double s = 1 / (1 + exp(-a));
    return (struct point){a * s, s + a * s * (1 - s)};
}

static void gate_forward(struct point (*act)(double), struct mat y, struct mat a, struct mat b, struct dropout d) {
    for (size_t r = 0; r < y.rows; r++) {
        for (size_t c = 0; c < y.cols; c++) {
            set(y, r, c, dropped(d, y, r, c, act((double)get(a, r, c)).value * (double)get(b, r, c)));
        }
    }
}

static void gate_backward(struct point (*act)(double), struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a,
                          struct mat b, struct dropout d) {
    for (size_t r = 0; r < dy.rows; r++) {
        for (size_t c = 0; c < dy.cols; c++) {
            struct point p = act((double)get(a, r, c));
            double bv = (double)get(b, r, c), dv = dropped(d, dy, r, c, (double)get(dy, r, c));
            set(y, r, c, dropped(d, y, r, c, p.value * bv));
            set(da, r, c, dv * bv * p.slope);
            set(db, r, c, dv * p.value);
        }
    }
}

static void geglu_forward_ref(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d) {
    (void)x;
    gate_forward(gelu, y, a, b, d);
}

static void geglu_backward_ref(const struct exec *x, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a,
                               struct mat b, struct dropout d) {
    (void)x;
    gate_backward(gelu, y, da, db, dy, a, b, d);
}

static void swiglu_forward_ref(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d) {
    (void)x;
    gate_forward(silu, y, a, b, d);
}

static void swiglu_backward_ref(const struct exec *x, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a,
                                struct mat b, struct dropout d) {
    (void)x;
    gate_backward(silu, y, da, db, dy, a, b, d);
}

static void add_ref(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d) {
    (void)x;
    for (size_t r = 0; r < y.rows; r++) {
        for (size_t c = 0; c < y.cols; c++) {
            set(y, r, c, (double)get(a, r, c) + dropped(d, y, r, c, (double)get(b, r, c)));
        }
    }
}

static void scale_ref(const struct exec *x, struct mat y, float s) {
    (void)x;
    for (size_t r = 0; r < y.rows; r++) {
        for (size_t c = 0; c < y.cols; c++) {
            set(y, r, c, (double)get(y, r, c) * (double)s);
        }
    }
}

static void lerp_ref(const struct exec *x, struct mat y, struct mat a, struct mat b, float t) {
    (void)x;
    for (size_t r = 0; r < y.rows; r++) {
        for (size_t c = 0; c < y.cols; c++) {
            double av = get(a, r, c), bv = get(b, r, c);
            set(y, r, c, t <= 0 && t >= 0 ? av : t <= 1 && t >= 1 ? bv : (1 - (double)t) * av + (double)t * bv);
        }
    }
}

/* ---- losses ---- */

static double lse_ref(struct mat logits, size_t r) {
    double max = -INFINITY, sum = 0;
    for (size_t v = 0; v < logits.cols; v++) {
        max = fmax(max, get(logits, r, v));
    }
    for (size_t v = 0; v < logits.cols && !isinf(max); v++) {
        sum += exp((double)get(logits, r, v) - max);
    }
    return isinf(max) ? max : max + log(sum);
}

static void row_lse_ref(const struct exec *x, float *lse, struct mat logits) {
    (void)x;
    for (size_t r = 0; r < logits.rows; r++) {
        lse[r] = (float)lse_ref(logits, r);
    }
}

static void row_argmax_ref(const struct exec *x, int32_t *best, struct mat logits) {
    (void)x;
    for (size_t r = 0; r < logits.rows; r++) {
        best[r] = 0;
        for (size_t v = 1; v < logits.cols; v++) {
            float top = get(logits, r, (size_t)best[r]), here = get(logits, r, v);
            best[r] = here > top || (isnan(top) && !isnan(here)) ? (int32_t)v : best[r];
        }
    }
}

static void row_pick_ref(const struct exec *x, float *picked, struct mat logits, const int32_t *ids) {
    (void)x;
    for (size_t r = 0; r < logits.rows; r++) {
        picked[r] = get(logits, r, (size_t)ids[r]);
    }
}

static void row_top_ref(const struct exec *x, int32_t *ids, float *values, struct mat logits, size_t k) {
    (void)x;
    for (size_t r = 0; r < logits.rows; r++) {
        for (size_t i = 0; i < k; i++) {
            int32_t best = -1, above = i ? ids[r * k + i - 1] : -1;
            float top = i ? values[r * k + i - 1] : INFINITY;
            for (size_t v = 0; (i == 0 || above >= 0) && v < logits.cols; v++) {
                float here = get(logits, r, v);
                bool later = i == 0 || here < top || (here <= top && (int32_t)v > above);
                if (later && here > (best < 0 ? -INFINITY : get(logits, r, (size_t)best))) {
                    best = (int32_t)v;
                }
            }
            ids[r * k + i] = best;
            values[r * k + i] = best < 0 ? -INFINITY : get(logits, r, (size_t)best);
        }
    }
}

/* Probabilities of what stays, unnormalised, the others 0; `order` [cols]: from the largest. The number that stay. */
static size_t sample_head(double *p, int32_t *order, float *values, struct mat row, struct sampling how) {
    bool all = !how.top_k && how.top_p >= 1;
    size_t k = how.top_k && how.top_k < row.cols ? how.top_k : row.cols, kept = 0;
    double total = 0, mass = 0;
    if (all) { /* the cumulative distribution in the order of the ids */
        row_top_ref(NULL, order, values, row, 1);
        for (size_t v = 0; v < row.cols; v++) {
            order[v] = (int32_t)v;
            double z = ((double)get(row, 0, v) - (double)values[0]) / (double)how.temperature;
            p[v] = isfinite(z) ? exp(z) : 0;
        }
        return row.cols;
    }
    row_top_ref(NULL, order, values, row, k);
    for (size_t i = 0; i < k; i++) {
        p[i] = order[i] < 0 ? 0 : exp(((double)values[i] - (double)values[0]) / (double)how.temperature);
        total += p[i];
    }
    while (kept < k && (!kept || how.top_p >= 1 || mass < (double)how.top_p * total)) {
        mass += p[kept++];
    }
    return kept;
}

static void row_sample_ref(const struct exec *x, int32_t *ids, struct mat logits, const double *u, struct sampling how) {
    struct arena_mark mark = arena_mark(x->scratch);
    double *p = arena_take(x->scratch, logits.cols, sizeof *p, x->err);
    int32_t *order = arena_take(x->scratch, logits.cols, sizeof *order, x->err);
    float *values = arena_take(x->scratch, logits.cols, sizeof *values, x->err);
    for (size_t r = 0; p && order && values && r < logits.rows; r++) {
        size_t kept = sample_head(p, order, values, mat_rows(logits, r, 1), how), at = 0;
        double mass = 0, sum = 0;
        for (size_t i = 0; i < kept; i++) {
            mass += p[i];
        }
        for (at = 0; at + 1 < kept; at++) {
            sum += p[at];
            if (sum > u[r] * mass) {
                break;
            }
        }
        ids[r] = isfinite(values[0]) ? order[at] : 0;
    }
    arena_release(x->scratch, mark);
}

/* ---- optimiser ---- */

static double sum_squares_ref(const struct exec *x, struct mat a) {
    (void)x;
    double sum = 0;
    for (size_t r = 0; r < a.rows; r++) {
        for (size_t c = 0; c < a.cols; c++) {
            sum += (double)get(a, r, c) * (double)get(a, r, c);
        }
    }
    return sum;
}

static void adamw_update_ref(const struct exec *x, struct mat w, struct mat m, struct mat v, struct mat g,
                             const struct adamw *o) {
    (void)x;
    double b1 = (double)o->beta1, b2 = (double)o->beta2;
    double c1 = 1 - pow(b1, (double)o->t), c2 = 1 - pow(b2, (double)o->t);
    for (size_t r = 0; r < w.rows; r++) {
        for (size_t c = 0; c < w.cols; c++) {
            double grad = (double)get(g, r, c) * (double)o->grad_scale;
            double mv = b1 * (double)get(m, r, c) + (1 - b1) * grad, vv = b2 * (double)get(v, r, c) + (1 - b2) * grad * grad;
            double wv = (double)get(w, r, c) * (1 - (double)o->lr * (double)o->decay);
            set_weight(w, r, c, wv - (double)o->lr * (mv / c1) / (sqrt(vv / c2) + (double)o->eps), o->rounding);
            set(m, r, c, mv);
            set(v, r, c, vv);
        }
    }
}

static double squared(struct mat g, size_t r, size_t c, const struct adafactor *o) {
    double v = (double)get(g, r, c) * (double)o->grad_scale;
    return v * v;
}

/* The second moments: rows and columns, or all elements. */
static void adafactor_moments(struct mat r, struct mat c, struct mat g, const struct adafactor *o) {
    double b2 = (double)o->beta2, eps = (double)o->eps;
    for (size_t i = 0; c.data && i < g.rows; i++) {
        double sum = 0;
        for (size_t j = 0; j < g.cols; j++) {
            sum += squared(g, i, j, o) + eps;
        }
        set(r, 0, i, b2 * (double)get(r, 0, i) + (1 - b2) * sum / (double)g.cols);
    }
    for (size_t j = 0; c.data && j < g.cols; j++) {
        double sum = 0;
        for (size_t i = 0; i < g.rows; i++) {
            sum += squared(g, i, j, o) + eps;
        }
        set(c, 0, j, b2 * (double)get(c, 0, j) + (1 - b2) * sum / (double)g.rows);
    }
    for (size_t i = 0; !c.data && i < g.rows; i++) {
        for (size_t j = 0; j < g.cols; j++) {
            set(r, i, j, b2 * (double)get(r, i, j) + (1 - b2) * (squared(g, i, j, o) + eps));
        }
    }
}

static void adafactor_update_ref(const struct exec *x, struct mat w, struct mat r, struct mat c, struct mat m, struct mat g,
                                 const struct adafactor *o) {
    (void)x;
    double mean = 0, sum = 0;
    adafactor_moments(r, c, g, o);
    for (size_t i = 0; c.data && i < w.rows; i++) {
        mean += (double)get(r, 0, i) / (double)w.rows;
    }
    for (int pass = 0; pass < 2; pass++) {
        double rms = sqrt(sum / ((double)w.rows * (double)w.cols)), lr = (double)o->lr;
        double scale = o->clip > 0 && rms > (double)o->clip ? lr * (double)o->clip / rms : lr;
        for (size_t i = 0; i < w.rows; i++) {
            for (size_t j = 0; j < w.cols; j++) {
                double v = c.data ? (double)get(r, 0, i) / mean * (double)get(c, 0, j) : (double)get(r, i, j);
                double u = (double)get(g, i, j) * (double)o->grad_scale / sqrt(v);
                if (pass == 0) {
                    sum += u * u;
                    continue;
                }
                u *= scale;
                if (m.data) {
                    u = (double)o->beta1 * (double)get(m, i, j) + (1 - (double)o->beta1) * u;
                    set(m, i, j, u);
                }
                set_weight(w, i, j, (double)get(w, i, j) * (1 - (double)o->decay * lr) - u, o->rounding);
            }
        }
    }
}

const struct kernels kernels_table_reference = {
    .name = "reference",
    .embedding_forward = embedding_forward_ref,
    .embedding_backward = embedding_backward_ref,
    .dropout_apply = dropout_apply_ref,
    .rmsnorm_forward = rmsnorm_forward_ref,
    .rmsnorm_backward = rmsnorm_backward_ref,
    .gemm = gemms_ref,
    .project = project_ref,
    .quantize_rows = quantize_rows_ref,
    .attention_forward = attention_forward_ref,
    .attention_backward = attention_backward_ref,
    .attention_step = attention_step_ref,
    .bias_expand_forward = bias_expand_forward_ref,
    .bias_expand_backward = bias_expand_backward_ref,
    .relu_forward = relu_forward_ref,
    .relu_backward = relu_backward_ref,
    .geglu_forward = geglu_forward_ref,
    .geglu_backward = geglu_backward_ref,
    .swiglu_forward = swiglu_forward_ref,
    .swiglu_backward = swiglu_backward_ref,
    .add = add_ref,
    .scale = scale_ref,
    .fill = fill_ref,
    .lerp = lerp_ref,
    .row_lse = row_lse_ref,
    .distill = distill_reference,
    .row_argmax = row_argmax_ref,
    .row_pick = row_pick_ref,
    .row_top = row_top_ref,
    .row_sample = row_sample_ref,
    .sum_squares = sum_squares_ref,
    .adamw_update = adamw_update_ref,
    .adafactor_update = adafactor_update_ref,
};
