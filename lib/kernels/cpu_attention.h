/* Part of cpu.c: attention over packed sequences (Dao et al. 2022 for the backward pass: probabilities are made again from the
 * kept log-sum-exp, one tile of queries at a time, so nothing of size Tq x Tk outlives its tile).
 *
 * A task is one head of a group of sequences; what it adds to (rows of its sequences, columns of its head) is its own, and the
 * gradient of the bias, a sum over all sequences, is kept per group and added in order. The products of a tile go to the BLAS
 * in the task's own thread, those of short sequences and of the few queries of a decoder that generates to cpu_product.h. */
#ifndef KERNELS_CPU_ATTENTION_H
#define KERNELS_CPU_ATTENTION_H

#include "kernels/cpu_product.h"

enum {
    TILE_ROWS = 128,   /* queries at a time: their scores against 512 keys take 256 KiB */
    MAX_GROUPS = 32,   /* enough tasks for any pool, few enough copies of the bias */
    LOOP_ROWS = 4,     /* fewer queries than this: row by row */
    SMALL_TILE = 8192, /* scores of a tile up to which our own product is faster than a call of the BLAS */
};

struct attention_job {
    struct rows rows;
    const struct attention *s;
    struct mat q, k, v, out, dq, dk, dv, dbias, dout;
    float *lse;
    const float *lse_in;
    bool backward;
    size_t groups, tile; /* tile: floats in one tile buffer */
    uint64_t *area;      /* of the dropout masks (mask.h), NULL without dropout */
    float *work;         /* workers x work_each */
    size_t work_each;
    struct mat part; /* gradient of the bias of each (group, head) */
};

/* One tile: queries i0 .. i0+m of a sequence for one head, against its first n keys. */
struct tile {
    size_t span, h, i0, m, n, ld; /* ld: n rounded up to whole registers */
    bool small;
    const struct attention_span *p;
    float *a, *b;  /* [m,ld] scores; gradient of the scores. Columns n .. ld are zero in the end */
    float *w;      /* [m,n] dropout multipliers */
    float *turned; /* [D,ld] keys or values, transposed */
    float *norm;   /* [m] */
    float *dbias;
};

static size_t position(const struct attention_job *j, const struct tile *t, size_t i) {
    return j->s->causal ? t->i0 + i + t->p->k_len - t->p->q_len : t->i0 + i;
}

static size_t keys_of(const struct attention_job *j, const struct tile *t, size_t i) {
    return j->s->causal ? position(j, t, i) + 1 : t->n;
}

static float *q_rows(const struct attention_job *j, const struct tile *t, struct mat m) {
    return row_of(m, t->p->q_first + t->i0) + t->h * j->s->d_kv;
}

static float *k_rows(const struct attention_job *j, const struct tile *t, struct mat m) {
    return row_of(m, t->p->k_first) + t->h * j->s->d_kv;
}

/* a [m,n] = x [m,D] y [n,D]^T */
static void scores(const struct attention_job *j, const struct tile *t, float *a, struct mat x, struct mat y) {
    const float *xr = q_rows(j, t, x), *yr = k_rows(j, t, y);
    size_t D = j->s->d_kv;
    if (t->m < LOOP_ROWS && !j->backward) {
        struct thin p = {a, xr, yr, t->ld, x.ld, y.ld, D, 1, 0, 0};
        thin_product(&p, t->m, t->n);
    } else if (t->small) {
        transpose(t->turned, t->ld, yr, y.ld, t->n, D);
        product(a, t->ld, t->m, t->ld, D, (struct strided){xr, x.ld, 1}, t->turned, t->ld, false);
    } else {
        gemm_tile(a, t->ld, t->m, t->n, D, 0, xr, x.ld, 1, yr, y.ld, 1, 0);
    }
}

/* y [m,D] = a [m,n] x [n,D], or += in the backward pass */
static void rows_of_queries(const struct attention_job *j, const struct tile *t, struct mat y, const float *a, struct mat x) {
    float *yr = q_rows(j, t, y);
    const float *xr = k_rows(j, t, x);
    size_t D = j->s->d_kv;
    if (t->m < LOOP_ROWS && !j->backward) {
        for (size_t i = 0; i < t->m; i++) {
            sum_rows(yr + i * y.ld, a + i * t->ld, xr, x.ld, t->n, D);
        }
    } else if (t->small) {
        product(yr, y.ld, t->m, D, t->n, (struct strided){a, t->ld, 1}, xr, x.ld, j->backward);
    } else {
        gemm_tile(yr, y.ld, t->m, D, t->n, 0, a, t->ld, 0, xr, x.ld, 1, j->backward ? 1 : 0);
    }
}

/* y [n,D] += a [m,n]^T x [m,D] */
static void rows_of_keys(const struct attention_job *j, const struct tile *t, struct mat y, const float *a, struct mat x) {
    size_t D = j->s->d_kv;
    if (t->small) {
        product(k_rows(j, t, y), y.ld, t->n, D, t->m, (struct strided){a, 1, t->ld}, q_rows(j, t, x), x.ld, true);
    } else {
        gemm_tile(k_rows(j, t, y), y.ld, t->n, D, t->m, 1, a, t->ld, 0, q_rows(j, t, x), x.ld, 1, 1);
    }
}

/* What lies behind the n keys of a row counts for nothing in the softmax; the last register is always whole. */
static size_t pad_row(float *a, size_t n, float value) {
    size_t whole = round_lanes(n);
    for (size_t k = n; k < whole; k++) {
        a[k] = value;
    }
    return whole;
}

static void add_bias(const struct attention_job *j, const struct tile *t, size_t i, float *restrict a, size_t n) {
    if (!j->s->bias.data) {
        return;
    }
    const float *restrict bias = row_of(j->s->bias, t->h) + j->s->bias_zero - position(j, t, i);
#pragma omp simd
    for (size_t k = 0; k < n; k++) {
        a[k] += bias[k];
    }
}

static void tile_mask(const struct attention_job *j, const struct tile *t) {
    uint64_t first = t->h * j->area[j->s->n_spans] + j->area[t->span] + t->i0 * t->p->k_len;
    if (t->n == t->p->k_len) {
        mask_fill(t->w, t->m * t->n, first, &j->s->dropout);
        return;
    }
    for (size_t i = 0; i < t->m; i++) {
        mask_fill(t->w + i * t->n, t->n, first + i * t->p->k_len, &j->s->dropout);
    }
}

/* ---- forward ---- */

/* a = e^(a - max), and 1 / sum: the division is left to the row of the output, which is shorter. */
static float softmax_row(float *restrict a, size_t whole, float *lse) {
    float max = max_of(a, whole), sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < whole / LANES * LANES; k++) {
        a[k] = exp_fast(a[k] - max);
        sum += a[k];
    }
    if (lse) {
        *lse = max + logf(sum);
    }
    return 1.0F / sum;
}

static void multiply(float *restrict a, const float *restrict w, size_t n) {
#pragma omp simd
    for (size_t k = 0; k < n; k++) {
        a[k] *= w[k];
    }
}

static void tile_forward(const struct attention_job *j, const struct tile *t) {
    scores(j, t, t->a, j->q, j->k);
    if (j->area) {
        tile_mask(j, t);
    }
    for (size_t i = 0; i < t->m; i++) {
        float *a = t->a + i * t->ld;
        size_t n = keys_of(j, t, i);
        add_bias(j, t, i, a, n);
        float *lse = j->lse ? &j->lse[t->h * j->q.rows + t->p->q_first + t->i0 + i] : NULL;
        size_t whole = pad_row(a, n, -INFINITY);
        t->norm[i] = softmax_row(a, whole, lse);
        memset(a + whole, 0, (t->ld - whole) * sizeof *a);
        if (j->area) {
            multiply(a, t->w + i * t->n, n);
        }
    }
    rows_of_queries(j, t, j->out, t->a, j->v);
    for (size_t i = 0; i < t->m; i++) {
        float *o = q_rows(j, t, j->out) + i * j->out.ld, k = t->norm[i];
#pragma omp simd
        for (size_t d = 0; d < j->s->d_kv; d++) {
            o[d] *= k;
        }
    }
}

/* ---- backward ---- */

/* From scores a and b = dout v^T: a becomes the probabilities, b the gradient of the scores. */
static void softmax_back_row(float *restrict a, float *restrict b, size_t whole, float lse, float mean) {
#pragma omp simd
    for (size_t k = 0; k < whole / LANES * LANES; k++) {
        float p = exp_fast(a[k] - lse);
        b[k] = p * (b[k] - mean);
        a[k] = p;
    }
}

/* The same with dropout: a becomes the probabilities as the values met them. */
static void softmax_back_row_dropped(float *restrict a, float *restrict b, const float *restrict w, size_t n, float lse,
                                     float mean) {
#pragma omp simd
    for (size_t k = 0; k < n; k++) {
        float p = exp_fast(a[k] - lse);
        b[k] = p * (w[k] * b[k] - mean);
        a[k] = p * w[k];
    }
}

static void tile_backward(const struct attention_job *j, const struct tile *t) {
    const float *dout = q_rows(j, t, j->dout), *out = q_rows(j, t, j->out);
    scores(j, t, t->a, j->q, j->k);
    scores(j, t, t->b, j->dout, j->v);
    if (j->area) {
        tile_mask(j, t);
    }
    for (size_t i = 0; i < t->m; i++) {
        float *a = t->a + i * t->ld, *b = t->b + i * t->ld;
        size_t n = keys_of(j, t, i);
        /* sum_j p_j dp_j = dout . out: Dao et al., section 3.1 */
        float mean = dot(dout + i * j->dout.ld, out + i * j->out.ld, j->s->d_kv);
        float lse = j->lse_in[t->h * j->q.rows + t->p->q_first + t->i0 + i];
        add_bias(j, t, i, a, n);
        if (j->area) {
            softmax_back_row_dropped(a, b, t->w + i * t->n, n, lse, mean);
            memset(a + n, 0, (t->ld - n) * sizeof *a);
            memset(b + n, 0, (t->ld - n) * sizeof *b);
        } else {
            size_t whole = pad_row(a, n, -INFINITY);
            pad_row(b, n, 0);
            softmax_back_row(a, b, whole, lse, mean);
            memset(a + whole, 0, (t->ld - whole) * sizeof *a);
            memset(b + whole, 0, (t->ld - whole) * sizeof *b);
        }
        if (t->dbias) {
            float *restrict dbias = t->dbias + j->s->bias_zero - position(j, t, i);
#pragma omp simd
            for (size_t c = 0; c < n; c++) {
                dbias[c] += b[c];
            }
        }
    }
    rows_of_keys(j, t, j->dv, t->a, j->dout);
    rows_of_keys(j, t, j->dk, t->b, j->q);
    rows_of_queries(j, t, j->dq, t->b, j->k);
}

/* ---- tasks ---- */

static void attention_tasks(const struct rows *rows, size_t first, size_t last, size_t worker) {
    const struct attention_job *j = (const struct attention_job *)(const void *)rows;
    float *work = j->work + worker * j->work_each;
    struct tile t = {.a = work,
                     .b = work + j->tile,
                     .w = work + 2 * j->tile,
                     .turned = work + 3 * j->tile,
                     .norm = work + j->work_each - TILE_ROWS};
    for (size_t task = first; task < last; task++) {
        size_t group = task / j->s->heads;
        t.h = task % j->s->heads;
        t.dbias = j->part.data ? row_of(j->part, task) : NULL;
        if (t.dbias) {
            memset(t.dbias, 0, j->part.cols * sizeof(float));
        }
        size_t end = (group + 1) * j->s->n_spans / j->groups;
        for (t.span = group * j->s->n_spans / j->groups; t.span < end; t.span++) {
            t.p = &j->s->spans[t.span];
            for (t.i0 = 0; t.i0 < t.p->q_len; t.i0 += TILE_ROWS) {
                t.m = min_size(TILE_ROWS, t.p->q_len - t.i0);
                t.n = j->s->causal ? position(j, &t, t.m - 1) + 1 : t.p->k_len;
                t.ld = round_lanes(t.n);
                t.small = j->s->d_kv % LANES == 0 && t.m * t.ld <= SMALL_TILE;
                if (j->backward) {
                    tile_backward(j, &t);
                } else {
                    tile_forward(j, &t);
                }
            }
        }
    }
}

/* Sequences that share keys must stay in one group: backward adds to the same rows of dk and dv. */
static bool keys_shared(const struct attention *s) {
    for (size_t i = 1; i < s->n_spans; i++) {
        if (s->spans[i].k_first < s->spans[i - 1].k_first + s->spans[i - 1].k_len) {
            return true;
        }
    }
    return false;
}

static void attention_run(const struct exec *x, struct attention_job *j) {
    const struct attention *s = j->s;
    struct arena_mark mark = arena_mark(x->scratch);
    size_t rows = 0, keys = 0, turned = 0, work = 0, total = 0;
    double macs = 0;
    for (size_t i = 0; i < s->n_spans; i++) {
        rows = max_size(rows, min_size(TILE_ROWS, s->spans[i].q_len));
        keys = max_size(keys, s->spans[i].k_len);
        macs += (double)s->spans[i].q_len * (double)s->spans[i].k_len * (double)(s->d_kv * s->heads);
    }
    if (rows == 0 || s->heads == 0) {
        return;
    }
    j->rows.fn = attention_tasks;
    j->groups = j->backward && keys_shared(s) ? 1 : min_size(s->n_spans, MAX_GROUPS);
    if (!size_mul(rows, round_lanes(keys), &j->tile) || !size_mul(j->tile, 3, &work) ||
        !size_mul(s->d_kv, min_size(round_lanes(keys), SMALL_TILE), &turned) || !size_add(work, turned, &work) ||
        !size_add(work, TILE_ROWS, &j->work_each) || !size_mul(j->work_each, pool_threads(x->pool), &total)) {
        err_set(x->err, ERR_NOMEM, "attention: %zu keys are beyond memory", keys);
        return;
    }
    j->work = arena_take(x->scratch, total, sizeof(float), x->err);
    if (s->dropout.p > 0) {
        j->area = arena_take(x->scratch, s->n_spans + 1, sizeof *j->area, x->err);
        if (j->area) {
            mask_areas(j->area, s);
        }
    }
    if (j->dbias.data) {
        j->part = arena_mat(x->scratch, DTYPE_F32, j->groups * s->heads, j->dbias.cols, x->err);
    }
    if (!exec_status(x) && j->work) {
        j->rows.n = j->groups * s->heads;
        j->rows.step = 1;
        if (macs < 65536) { /* a handful of microseconds: not worth waking anybody */
            attention_tasks(&j->rows, 0, j->rows.n, 0);
        } else {
            pool_run(x->pool, j->rows.n, rows_task, j);
        }
        for (size_t i = 0; i < j->part.rows; i++) {
            float *sum = row_of(j->dbias, i % s->heads);
            const float *part = row_of(j->part, i);
#pragma omp simd
            for (size_t c = 0; c < j->part.cols; c++) {
                sum[c] += part[c];
            }
        }
    }
    arena_release(x->scratch, mark);
}

static void attention_forward_cpu(const struct exec *x, struct mat out, float *lse, struct mat q, struct mat k, struct mat v,
                                  const struct attention *s) {
    struct attention_job j = {.s = s, .q = q, .k = k, .v = v, .out = out, .lse = lse};
    attention_run(x, &j);
}

static void attention_backward_cpu(const struct exec *x, struct mat dq, struct mat dk, struct mat dv, struct mat dbias,
                                   struct mat dout, struct mat out, struct mat q, struct mat k, struct mat v, const float *lse,
                                   const struct attention *s) {
    struct attention_job j = {.s = s,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out = out,
                              .dq = dq,
                              .dk = dk,
                              .dv = dv,
                              .dbias = dbias,
                              .dout = dout,
                              .lse_in = lse,
                              .backward = true};
    attention_run(x, &j);
}

#endif
