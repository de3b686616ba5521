/* Part of cpu.c: attention over packed sequences (Dao et al. 2022 for the backward pass: probabilities are made again from the kept
 * log-sum-exp, one tile of queries at a time, so nothing of size Tq x Tk outlives its tile).
 *
 * A task is one head of a group of sequences; what it adds to (rows of its sequences, columns of its head) is its own, and the
 * gradient of the bias, a sum over all sequences, is kept per group and added in order. Products of a tile go to the BLAS in
 * the task's own thread; the few queries of a decoder that generates are plain loops that stream over keys and values. */
#ifndef KERNELS_CPU_ATTENTION_H
#define KERNELS_CPU_ATTENTION_H

#include "kernels/cpu_vector.h"

enum {
    TILE_ROWS = 128, /* queries at a time: their scores against 512 keys take 256 KiB */
    MAX_GROUPS = 32, /* enough tasks for any pool, few enough copies of the bias */
    LOOP_ROWS = 4,   /* fewer queries than this: no BLAS */
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
    size_t span, h, i0, m, n;
    const struct attention_span *p;
    float *a, *b, *w, *vec; /* scores; gradient of the scores; dropout multipliers; one value a query */
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

static inline float dot(const float *a, const float *b, size_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* y[j] = x . rows[j]      four rows at a time share the loads of x */
static void dot_rows(float *restrict y, const float *restrict x, const float *restrict rows, size_t ld, size_t n, size_t D) {
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        const float *r = rows + j * ld;
        float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
        for (size_t d = 0; d < D; d++) {
            s0 += x[d] * r[d];
            s1 += x[d] * r[ld + d];
            s2 += x[d] * r[2 * ld + d];
            s3 += x[d] * r[3 * ld + d];
        }
        y[j] = s0;
        y[j + 1] = s1;
        y[j + 2] = s2;
        y[j + 3] = s3;
    }
    for (; j < n; j++) {
        y[j] = dot(x, rows + j * ld, D);
    }
}

/* y = sum_j p[j] rows[j] */
static void sum_rows(float *restrict y, const float *restrict p, const float *restrict rows, size_t ld, size_t n, size_t D) {
    memset(y, 0, D * sizeof *y);
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        const float *r = rows + j * ld;
        float p0 = p[j], p1 = p[j + 1], p2 = p[j + 2], p3 = p[j + 3];
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            y[d] += (p0 * r[d] + p1 * r[ld + d]) + (p2 * r[2 * ld + d] + p3 * r[3 * ld + d]);
        }
    }
    for (; j < n; j++) {
        const float *r = rows + j * ld;
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            y[d] += p[j] * r[d];
        }
    }
}

/* a [m,n] = x [m,D] y [n,D]^T */
static void scores(const struct attention_job *j, const struct tile *t, float *a, struct mat x, struct mat y) {
    const float *xr = q_rows(j, t, x), *yr = k_rows(j, t, y);
    if (t->m >= LOOP_ROWS) {
        gemm_tile(a, t->n, t->m, t->n, j->s->d_kv, 0, xr, x.ld, 1, yr, y.ld, 1, 0);
        return;
    }
    for (size_t i = 0; i < t->m; i++) {
        dot_rows(a + i * t->n, xr + i * x.ld, yr, y.ld, t->n, j->s->d_kv);
    }
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
static float softmax_row(float *restrict a, size_t n, float *lse) {
    float max = max_of(a, n), sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < n; k++) {
        a[k] = exp_fast(a[k] - max);
        sum += a[k];
    }
    if (lse) {
        *lse = max + logf(sum);
    }
    return 1.0F / sum;
}

static void tile_forward(const struct attention_job *j, const struct tile *t) {
    size_t D = j->s->d_kv;
    scores(j, t, t->a, j->q, j->k);
    for (size_t i = 0; i < t->m; i++) {
        float *a = t->a + i * t->n;
        size_t n = keys_of(j, t, i);
        add_bias(j, t, i, a, n);
        float *lse = j->lse ? &j->lse[t->h * j->q.rows + t->p->q_first + t->i0 + i] : NULL;
        t->vec[i] = softmax_row(a, n, lse);
        memset(a + n, 0, (t->n - n) * sizeof *a);
    }
    if (j->area) {
        tile_mask(j, t);
#pragma omp simd
        for (size_t k = 0; k < t->m * t->n; k++) {
            t->a[k] *= t->w[k];
        }
    }
    float *out = q_rows(j, t, j->out);
    const float *v = k_rows(j, t, j->v);
    if (t->m >= LOOP_ROWS) {
        gemm_tile(out, j->out.ld, t->m, D, t->n, 0, t->a, t->n, 0, v, j->v.ld, 1, 0);
    } else {
        for (size_t i = 0; i < t->m; i++) {
            sum_rows(out + i * j->out.ld, t->a + i * t->n, v, j->v.ld, t->n, D);
        }
    }
    for (size_t i = 0; i < t->m; i++) {
        float *o = out + i * j->out.ld, k = t->vec[i];
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            o[d] *= k;
        }
    }
}

/* ---- backward ---- */

/* From scores a and db = dout v^T: a becomes what multiplies dout in dv, b the gradient of the scores. w: dropout or NULL. */
static void softmax_back_row(float *restrict a, float *restrict b, const float *restrict w, size_t n, float lse, float mean) {
    if (w) {
#pragma omp simd
        for (size_t k = 0; k < n; k++) {
            float p = exp_fast(a[k] - lse);
            b[k] = p * (w[k] * b[k] - mean);
            a[k] = p * w[k];
        }
        return;
    }
#pragma omp simd
    for (size_t k = 0; k < n; k++) {
        float p = exp_fast(a[k] - lse);
        b[k] = p * (b[k] - mean);
        a[k] = p;
    }
}

static void tile_backward(const struct attention_job *j, const struct tile *t) {
    size_t D = j->s->d_kv;
    const float *dout = q_rows(j, t, j->dout), *out = q_rows(j, t, j->out), *q = q_rows(j, t, j->q), *k = k_rows(j, t, j->k);
    scores(j, t, t->a, j->q, j->k);
    scores(j, t, t->b, j->dout, j->v);
    if (j->area) {
        tile_mask(j, t);
    }
    for (size_t i = 0; i < t->m; i++) {
        float *a = t->a + i * t->n, *b = t->b + i * t->n;
        size_t n = keys_of(j, t, i);
        /* sum_j p_j dp_j = dout . out: Dao et al., section 3.1 */
        float mean = dot(dout + i * j->dout.ld, out + i * j->out.ld, D);
        float lse = j->lse_in[t->h * j->q.rows + t->p->q_first + t->i0 + i];
        add_bias(j, t, i, a, n);
        softmax_back_row(a, b, j->area ? t->w + i * t->n : NULL, n, lse, mean);
        memset(a + n, 0, (t->n - n) * sizeof *a);
        memset(b + n, 0, (t->n - n) * sizeof *b);
        if (t->dbias) {
            float *restrict dbias = t->dbias + j->s->bias_zero - position(j, t, i);
#pragma omp simd
            for (size_t c = 0; c < n; c++) {
                dbias[c] += b[c];
            }
        }
    }
    gemm_tile(k_rows(j, t, j->dv), j->dv.ld, t->n, D, t->m, 1, t->a, t->n, 0, dout, j->dout.ld, 1, 1);
    gemm_tile(k_rows(j, t, j->dk), j->dk.ld, t->n, D, t->m, 1, t->b, t->n, 0, q, j->q.ld, 1, 1);
    gemm_tile(q_rows(j, t, j->dq), j->dq.ld, t->m, D, t->n, 0, t->b, t->n, 0, k, j->k.ld, 1, 1);
}

/* ---- tasks ---- */

static void attention_tasks(const struct rows *rows, size_t first, size_t last, size_t worker) {
    const struct attention_job *j = (const struct attention_job *)(const void *)rows;
    float *work = j->work + worker * j->work_each;
    struct tile t = {.a = work, .b = work + j->tile, .w = work + 2 * j->tile, .vec = work + 3 * j->tile};
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
    size_t rows = 0, keys = 0, work = 0, total = 0;
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
    if (!size_mul(rows, (keys + 15) / 16 * 16, &j->tile) || !size_mul(j->tile, 3, &work) ||
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
