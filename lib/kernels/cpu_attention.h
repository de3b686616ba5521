/* Part of cpu.c: attention over packed sequences (Dao et al. 2022 for the backward pass: probabilities are made again from the
 * kept log-sum-exp, one tile of queries at a time, so nothing of size Tq x Tk outlives its tile).
 *
 * A task is one head of a group of sequences; what it adds to (rows of its sequences, columns of its head) is its own, and the
 * gradient of the bias, a sum over all sequences, is kept per group and added in order. A task copies its head's part of a
 * sequence as words, in the order in which they are read (cpu_attention_load.h), then computes in blocks of 64 queries by 64 keys:
 * a handful of operands and results of at most 16 KiB each that stay in the near caches, with softmax, bias and dropout applied in
 * between. */
#ifndef KERNELS_CPU_ATTENTION_H
#define KERNELS_CPU_ATTENTION_H

#include "kernels/cpu_attention_load.h"

enum {
    MAX_GROUPS = 32, /* enough tasks for any pool, few enough copies of the bias */
    FEW_ROWS = 4,    /* fewer queries than this (a decoder that generates): row by row, nothing is copied */
};

/* c [m,n] = a b, or += with `add`: k words summed up */
static void product(const struct attention_job *j, float *c, size_t ldc, size_t m, size_t n, size_t k, struct strided a,
                    const float *b, size_t ldb, bool add) {
    (j->pair ? block_pairs : block_product)(c, ldc, m, n, k, a, b, ldb, add);
}

/* Row of probabilities or gradients as an operand that is summed over the keys, in place. */
static void row_as_words(const struct attention_job *j, float *a, size_t wide) {
    for (size_t k = 0; j->pair && k < wide; k += 2 * LANES) {
        vec_to(a + k / 2, vec_neighbours(vec_of(a + k), vec_of(a + k + LANES)));
    }
}

/* The same of m rows as an operand that is summed over the queries. */
static void rows_down(const struct attention_job *j, float *to, const float *a, size_t m, size_t wide) {
    for (size_t i = 0; j->pair && i < m; i += 2) {
        for (size_t k = 0; k < wide; k += LANES) {
            vec next = i + 1 < m ? vec_of(a + (i + 1) * BLOCK + k) : (vec){0};
            vec_to(to + i / 2 * BLOCK + k, vec_pairs(vec_of(a + i * BLOCK + k), next));
        }
    }
}

static uint64_t mask_first(const struct attention_job *j, const struct tile *t) {
    return t->h * j->area[j->s->n_spans] + j->area[t->span] + t->i0 * t->p->k_len;
}

/* The tile's mask: rows one behind another, or, where the tile ends before its keys do, each in groups of its own. */
static void tile_mask(const struct attention_job *j, const struct tile *t) {
    uint64_t first = mask_first(j, t);
    uint16_t *kept = (uint16_t *)(void *)t->to->kept;
    if (t->n == t->p->k_len) {
        mask_bits(kept, t->m * t->n, first, &j->s->dropout);
    } else {
        for (size_t i = 0; i < t->m; i++) {
            mask_bits(kept + i * kept_stride(j), t->n, first + i * t->p->k_len, &j->s->dropout);
        }
    }
}

/* Query i and key k: bit `at` of `kept`. */
struct mask_row {
    const uint16_t *kept;
    size_t at;
};

static inline struct mask_row mask_row(const struct attention_job *j, const struct tile *t, size_t i, size_t k) {
    uint64_t first = mask_first(j, t);
    const uint16_t *kept = (const uint16_t *)(const void *)t->to->kept;
    if (t->n == t->p->k_len) {
        return (struct mask_row){kept, first % MASK_GROUP + i * t->n + k};
    }
    return (struct mask_row){kept + i * kept_stride(j), (first + i * t->p->k_len) % MASK_GROUP + k};
}

/* What is added to the scores of query i and keys k0 .. k0 + wide: the bias, and -infinity for keys that it does not see. */
static const float *row_bias(const struct attention_job *j, const struct tile *t, size_t i, size_t k0, size_t wide,
                             float room[BLOCK]) {
    static const float zeros[BLOCK];
    size_t sees = keys_of(j, t, i), n = sees > k0 ? min_size(wide, sees - k0) : 0;
    const float *bias = zeros;
    if (j->s->bias.data && n > 0) {
        bias = row_of(j->s->bias, t->h) + j->s->bias_zero + k0 - position(j, t, i);
    }
    if (n == wide) {
        return bias;
    }
    for (size_t k = n / LANES * LANES; k < wide; k += LANES) {
        vec_to(room + k, vec_all(-INFINITY));
    }
    memcpy(room, bias, n * sizeof *room);
    return room;
}

/* ---- forward ---- */

/* a += bias; the largest of each lane */
static void bias_and_max(float *a, const float *bias, float *max, size_t wide) {
    vec most = vec_of(max);
    for (size_t c = 0; c < wide; c += LANES) {
        vec s = vec_of(a + c) + vec_of(bias + c);
        vec_to(a + c, s);
        most = vec_max(s, most);
    }
    vec_to(max, most);
}

static void exp_and_sum(float *a, float max, float *sum, size_t wide) {
    vec total = vec_of(sum), top = vec_all(max);
    for (size_t c = 0; c < wide; c += LANES) {
        vec p = vec_exp_down(vec_of(a + c) - top);
        vec_to(a + c, p);
        total += p;
    }
    vec_to(sum, total);
}

/* Drops of query i what is dropped of its keys from k0 on. */
static void drop(const struct attention_job *j, const struct tile *t, float *a, size_t i, size_t k0, size_t wide) {
    const struct mask_row r = mask_row(j, t, i, k0);
    vec up = vec_all(mask_scale(&j->s->dropout));
    for (size_t k = 0; k < wide; k += LANES) {
        vec_to(a + k, vec_kept(vec_of(a + k) * up, mask_at(r.kept, r.at + k)));
    }
}

static void scores_forward(const struct attention_job *j, const struct tile *t) {
    const struct attention_space *s = t->to;
    float room[BLOCK];
    for (size_t i = 0; i < t->m * LANES; i++) {
        s->max[i] = -INFINITY;
        s->sum[i] = 0;
    }
    for (size_t k0 = 0; k0 < t->n; k0 += BLOCK) {
        size_t wide = round_lanes(min_size(BLOCK, t->n - k0));
        float *a = s->a + k0 * BLOCK;
        size_t D = depth(j, j->D);
        product(j, a, BLOCK, t->rows, wide, depth(j, j->s->d_kv), (struct strided){s->q, D, 1}, s->kt + k0 * D, BLOCK, false);
        for (size_t i = 0; i < t->m; i++) {
            bias_and_max(a + i * BLOCK, row_bias(j, t, i, k0, wide, room), s->max + i * LANES, wide);
        }
    }
    for (size_t i = 0; i < t->m; i++) {
        s->max[i] = max_of(s->max + i * LANES, LANES); /* in front of what has been read */
    }
}

static void tile_forward(const struct attention_job *j, const struct tile *t) {
    const struct attention_space *s = t->to;
    load_rows(j, s->q, j->q, t->p->q_first + t->i0, t->m, t->rows, t->h);
    if (j->area) {
        tile_mask(j, t);
    }
    scores_forward(j, t);
    for (size_t k0 = 0; k0 < t->n; k0 += BLOCK) {
        size_t n = min_size(BLOCK, t->n - k0), wide = round_lanes(n);
        float *a = s->a + k0 * BLOCK;
        for (size_t i = 0; i < t->m; i++) {
            exp_and_sum(a + i * BLOCK, s->max[i], s->sum + i * LANES, wide);
            if (j->area) {
                drop(j, t, a + i * BLOCK, i, k0, wide);
            }
            row_as_words(j, a + i * BLOCK, wide);
        }
        product(j, s->out, j->D, t->rows, j->D, depth(j, n), (struct strided){a, BLOCK, 1}, s->v + depth(j, k0) * j->D, j->D,
                k0 > 0);
    }
    for (size_t i = 0; i < t->m; i++) {
        const float *lanes = s->sum + i * LANES;
        float sum = 0, *out = s->out + i * j->D;
#pragma omp simd reduction(+ : sum)
        for (size_t l = 0; l < LANES; l++) {
            sum += lanes[l];
        }
        float norm = 1.0F / sum;
#pragma omp simd
        for (size_t c = 0; c < j->s->d_kv; c++) {
            out[c] *= norm;
        }
        store_floats(place(j->out, t->p->q_first + t->i0 + i, t->h * j->s->d_kv), j->out.dtype, out, j->s->d_kv);
        if (j->lse) {
            j->lse[lse_at(j, t, i)] = s->max[i] + logf(sum);
        }
    }
}

/* A handful of queries, each against keys that are read from where they lie. */
static void few_forward(const struct attention_job *j, const struct tile *t) {
    size_t D = j->s->d_kv, ld = j->keys, c = t->h * D;
    const float *k = row_of(j->k, t->p->k_first) + c, *v = row_of(j->v, t->p->k_first) + c;
    struct thin thin = {t->to->a, row_of(j->q, t->p->q_first + t->i0) + c, k, ld, j->q.ld, j->k.ld, D, 1, 0, 0};
    thin_product(&thin, t->m, t->n);
    for (size_t i = 0; i < t->m; i++) { /* memory that nobody wrote may hold NaN, which -infinity would not hide */
        memset(t->to->a + i * ld + t->n, 0, (round_lanes(t->n) - t->n) * sizeof(float));
    }
    if (j->area) {
        tile_mask(j, t);
    }
    for (size_t i = 0; i < t->m; i++) {
        float *a = t->to->a + i * ld, max[LANES], sum[LANES] = {0}, room[BLOCK], total = 0;
        size_t n = keys_of(j, t, i);
        for (size_t l = 0; l < LANES; l++) {
            max[l] = -INFINITY;
        }
        for (size_t k0 = 0; k0 < n; k0 += BLOCK) {
            size_t wide = round_lanes(min_size(BLOCK, n - k0));
            bias_and_max(a + k0, row_bias(j, t, i, k0, wide, room), max, wide);
        }
        float most = max_of(max, LANES), *out = row_of(j->out, t->p->q_first + t->i0 + i) + c;
        exp_and_sum(a, most, sum, round_lanes(n));
        for (size_t l = 0; l < LANES; l++) {
            total += sum[l];
        }
        if (j->area) {
            drop(j, t, a, i, 0, round_lanes(n));
        }
        sum_rows(out, a, v, j->v.ld, n, D);
        for (size_t d = 0; d < D; d++) {
            out[d] *= 1.0F / total;
        }
        if (j->lse) {
            j->lse[lse_at(j, t, i)] = most + logf(total);
        }
    }
}

/* ---- backward ---- */

/* From scores a and b = dout v^T: a becomes the probabilities, b the gradient of the scores. */
static void softmax_back_row(float *a, float *b, const float *bias, size_t wide, float lse, float mean) {
    vec l = vec_all(lse), m = vec_all(mean);
    for (size_t k = 0; k < wide; k += LANES) {
        vec p = vec_exp_down(vec_of(a + k) + vec_of(bias + k) - l);
        vec_to(b + k, p * (vec_of(b + k) - m));
        vec_to(a + k, p);
    }
}

/* The same with dropout: a becomes the probabilities as the values met them. */
static void softmax_back_row_dropped(const struct attention_job *j, const struct tile *t, size_t i, size_t k0, const float *bias,
                                     size_t wide, float lse) {
    const struct mask_row r = mask_row(j, t, i, k0);
    float *a = t->to->a + i * BLOCK, *b = t->to->b + i * BLOCK;
    vec l = vec_all(lse), m = vec_all(t->to->mean[i]), up = vec_all(mask_scale(&j->s->dropout));
    for (size_t k = 0; k < wide; k += LANES) {
        uint16_t kept = mask_at(r.kept, r.at + k);
        vec p = vec_exp_down(vec_of(a + k) + vec_of(bias + k) - l);
        vec_to(b + k, p * (vec_kept(up * vec_of(b + k), kept) - m));
        vec_to(a + k, vec_kept(p * up, kept));
    }
}

static void add_bias_gradient(const struct attention_job *j, const struct tile *t, size_t i, size_t k0, const float *restrict b) {
    size_t sees = keys_of(j, t, i), n = sees > k0 ? min_size(BLOCK, sees - k0) : 0;
    if (n > 0) {
        float *restrict dbias = t->dbias + j->s->bias_zero + k0 - position(j, t, i);
#pragma omp simd
        for (size_t c = 0; c < n; c++) {
            dbias[c] += b[c];
        }
    }
}

static void block_backward(const struct attention_job *j, const struct tile *t, size_t k0) {
    const struct attention_space *s = t->to;
    size_t n = min_size(BLOCK, t->n - k0), wide = round_lanes(n), D = j->D, Dw = depth(j, D), d = depth(j, j->s->d_kv);
    float room[BLOCK];
    product(j, s->a, BLOCK, t->rows, wide, d, (struct strided){s->q, Dw, 1}, s->kt + k0 * Dw, BLOCK, false);
    product(j, s->b, BLOCK, t->rows, wide, d, (struct strided){s->dout, Dw, 1}, s->vt + k0 * Dw, BLOCK, false);
    for (size_t i = 0; i < t->m; i++) {
        float *a = s->a + i * BLOCK, *b = s->b + i * BLOCK, lse = j->lse_in[lse_at(j, t, i)];
        const float *bias = row_bias(j, t, i, k0, wide, room);
        if (j->area) {
            softmax_back_row_dropped(j, t, i, k0, bias, wide, lse);
        } else {
            softmax_back_row(a, b, bias, wide, lse, s->mean[i]);
        }
        if (t->dbias) {
            add_bias_gradient(j, t, i, k0, b);
        }
    }
    rows_down(j, s->a_down, s->a, t->m, wide);
    rows_down(j, s->b_down, s->b, t->m, wide);
    for (size_t i = 0; i < t->m; i++) {
        row_as_words(j, s->b + i * BLOCK, wide);
    }
    product(j, s->dv + k0 * D, D, round_rows(n), D, depth(j, t->m), (struct strided){s->a_down, 1, BLOCK}, s->dout_down, D, true);
    product(j, s->dk + k0 * D, D, round_rows(n), D, depth(j, t->m), (struct strided){s->b_down, 1, BLOCK}, s->q_down, D, true);
    product(j, s->out, D, t->rows, D, depth(j, n), (struct strided){s->b, BLOCK, 1}, s->k + depth(j, k0) * D, D, k0 > 0);
}

/* sum_j p_j dp_j = dout . out: Dao et al., section 3.1 */
static float mean_of_row(const struct attention_job *j, size_t r, size_t h) {
    vec sum = {0};
    for (size_t c = 0; c < j->s->d_kv; c += LANES) {
        sum += part_of_row(j, j->dout, r, h, c) * part_of_row(j, j->out, r, h, c);
    }
    return sum_lanes(&sum);
}

static void tile_backward(const struct attention_job *j, const struct tile *t) {
    const struct attention_space *s = t->to;
    size_t r = t->p->q_first + t->i0;
    load_rows(j, s->dout, j->dout, r, t->m, t->rows, t->h);
    load_rows(j, s->q, j->q, r, t->m, t->rows, t->h);
    if (j->pair) {
        load_down(j, s->dout_down, j->dout, r, t->m, t->h);
        load_down(j, s->q_down, j->q, r, t->m, t->h);
    }
    for (size_t i = 0; i < t->m; i++) {
        s->mean[i] = mean_of_row(j, r + i, t->h);
    }
    if (j->area) {
        tile_mask(j, t);
    }
    for (size_t k0 = 0; k0 < t->n; k0 += BLOCK) {
        block_backward(j, t, k0);
    }
    add_rows(j, j->dq, r, t->m, t->h, s->out);
}

/* ---- tasks ---- */

static bool is_few(const struct attention_job *j, const struct attention_span *p) {
    return !j->backward && p->q_len < FEW_ROWS && is_wide(j->q) && is_wide(j->k) && is_wide(j->v) && is_wide(j->out);
}

static void span_task(const struct attention_job *j, struct tile *t) {
    bool few = is_few(j, t->p);
    if (!few && t->p->q_len > 0) {
        load_keys(j, t->to, t->p, t->h);
    }
    for (t->i0 = 0; t->i0 < t->p->q_len; t->i0 += BLOCK) {
        t->m = min_size(BLOCK, t->p->q_len - t->i0);
        t->rows = round_rows(t->m);
        t->n = j->s->causal ? position(j, t, t->m - 1) + 1 : t->p->k_len;
        (j->backward ? tile_backward : few ? few_forward : tile_forward)(j, t);
    }
    for (size_t k0 = 0; j->backward && t->p->q_len > 0 && k0 < t->p->k_len; k0 += BLOCK) {
        size_t n = min_size(BLOCK, t->p->k_len - k0);
        add_rows(j, j->dk, t->p->k_first + k0, n, t->h, t->to->dk + k0 * j->D);
        add_rows(j, j->dv, t->p->k_first + k0, n, t->h, t->to->dv + k0 * j->D);
    }
}

static void attention_tasks(const struct rows *rows, size_t first, size_t last, size_t worker) {
    const struct attention_job *j = (const struct attention_job *)(const void *)rows;
    struct attention_space space;
    attention_space(&space, j->work + worker * j->work_each, j);
    struct tile t = {.to = &space};
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
            span_task(j, &t);
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

/* Sizes of the worker's memory; false if they do not fit. */
static bool attention_sizes(struct attention_job *j, size_t keys, size_t workers, size_t *total) {
    struct attention_space none;
    size_t most = 0;
    j->D = j->pair ? 2 * round_lanes(depth(j, j->s->d_kv)) : round_lanes(j->s->d_kv);
    /* No piece is larger than 4 * keys * (D + BLOCK), and there are fewer than 20. */
    if (!size_add(keys, BLOCK - 1, &keys) || !size_mul(keys, j->D + BLOCK, &most) || !size_mul(most, 80, &most)) {
        return false;
    }
    j->keys = keys / BLOCK * BLOCK;
    j->work_each = attention_space(&none, NULL, j);
    return size_mul(j->work_each, workers, total);
}

static void attention_run(const struct exec *x, struct attention_job *j) {
    const struct attention *s = j->s;
    struct arena_mark mark = arena_mark(x->scratch);
    size_t rows = 0, keys = 0, total = 0;
    double macs = 0;
    for (size_t i = 0; i < s->n_spans; i++) {
        rows = max_size(rows, s->spans[i].q_len);
        keys = max_size(keys, s->spans[i].k_len);
        macs += (double)s->spans[i].q_len * (double)s->spans[i].k_len * (double)(s->d_kv * s->heads);
    }
    if (rows == 0 || s->heads == 0) {
        return;
    }
    j->rows.fn = attention_tasks;
    j->pair = HAS_PAIRS && !is_wide(j->q) && !is_wide(j->k) && !is_wide(j->v);
    j->groups = j->backward && keys_shared(s) ? 1 : min_size(s->n_spans, MAX_GROUPS);
    if (s->dropout.p > 0) {
        j->area = arena_take(x->scratch, s->n_spans + 1, sizeof *j->area, x->err);
        if (j->area) {
            mask_areas(j->area, s);
        }
    }
    if (!attention_sizes(j, keys, pool_threads(x->pool), &total)) {
        err_set(x->err, ERR_NOMEM, "attention: %zu keys are beyond memory", keys);
        arena_release(x->scratch, mark);
        return;
    }
    j->work = arena_take(x->scratch, total, sizeof(float), x->err);
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
