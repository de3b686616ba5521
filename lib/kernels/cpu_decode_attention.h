/* Part of cpu.c: attention of one query a sequence over a cache, as a decoder asks token by token.
 *
 * A cache holds the keys of a head one behind the other, so that a task (a sequence, a head) reads two runs of memory from one
 * end to the other, F32 or BF16 as they lie there. The new key and value are stored by the task that reads them first. Scores are
 * a product of one row (cpu_decode_product.h), or, where that would round the query to BF16, of two: what is kept, and the rest. The
 * sum of values is taken in the order of the keys. */
#ifndef KERNELS_CPU_DECODE_ATTENTION_H
#define KERNELS_CPU_DECODE_ATTENTION_H

#include "kernels/cpu_decode_product.h"

struct step_job {
    struct rows rows;
    struct mat q, out;
    const struct attention_step *s;
    size_t wide; /* d_kv rounded up to STRIDE */
    size_t keys; /* of the longest sequence, rounded up to LANES */
    float *work; /* workers x each */
    size_t each;
};

/* y = sum_j p[j] rows[j], rows of BF16: 32 at a time, even and odd apart. y has room for whole registers. */
static void sum_rows_bf16(float *restrict y, const float *restrict p, const uint16_t *rows, size_t n, size_t D) {
    size_t d = 0;
    for (; d + 2 * LANES <= D; d += 2 * LANES) {
        vec even[2] = {{0}, {0}}, odd[2] = {{0}, {0}};
        for (size_t j = 0; j < n; j++) {
            uvec u = *(const uvec *)(const void *)(rows + j * D + d);
            even[j % 2] += p[j] * (vec)(u << 16);
            odd[j % 2] += p[j] * (vec)(u & 0xffff0000U);
        }
        even[0] += even[1];
        odd[0] += odd[1];
        for (size_t l = 0; l < LANES; l++) {
            y[d + 2 * l] = even[0][l];
            y[d + 2 * l + 1] = odd[0][l];
        }
    }
    for (; d < D; d++) {
        float sum = 0;
        for (size_t j = 0; j < n; j++) {
            sum += p[j] * bits_float((uint32_t)rows[j * D + d] << 16);
        }
        y[d] = sum;
    }
}

/* The query in rows of `wide` as products with its keys read them; returns their number. `part` is overwritten. */
static size_t query_rows(const struct step_job *j, float *q, float *part) {
    if (is_wide(j->s->k)) {
        memcpy(q, part, j->wide * sizeof *q);
        return 1;
    }
    input_for_bf16(q, part, j->wide);
    if (!HAS_PAIRS) {
        return 1;
    }
    float *kept = q + j->wide;
    load_floats(kept, q, DTYPE_BF16, j->wide);
#pragma omp simd
    for (size_t d = 0; d < j->wide; d++) {
        part[d] -= kept[d];
    }
    input_for_bf16(q + j->wide, part, j->wide);
    return 2;
}

static void step_one(const struct step_job *j, size_t i, size_t h, float *work) {
    const struct attention_step *s = j->s;
    size_t D = s->d_kv, n = s->length[i], row = (s->region[i] * s->heads + h) * s->room, last = row + n - 1;
    float *a = work, *q = work + 2 * j->keys, *part = q + 2 * j->wide;
    if (s->new_k.data) {
        dtype_convert(place(s->k, last, 0), s->k.dtype, place(s->new_k, i, h * D), s->new_k.dtype, D);
        dtype_convert(place(s->v, last, 0), s->v.dtype, place(s->new_v, i, h * D), s->new_v.dtype, D);
    }
    const float *from = row_of(j->q, i) + h * D;
    memset(part, 0, j->wide * sizeof *part);
    memcpy(part, from, D * sizeof *part);
    size_t m = query_rows(j, q, part);
    struct few t = {.w = place(s->k, row, 0),
                    .ldw = D * dtype_size(s->k.dtype),
                    .a = q,
                    .lda = j->wide,
                    .k = D,
                    .y = a,
                    .ldy = j->keys,
                    .alpha = 1,
                    .ahead = FEW_AHEAD};
    (is_wide(s->k) ? few_product_f32 : few_product_bf16)(&t, m, n);
#pragma omp simd
    for (size_t k = 0; k < (m - 1) * n; k++) {
        a[k] += a[j->keys + k];
    }
    if (s->bias.data) {
        const float *restrict bias = row_of(s->bias, h) + s->bias_zero - (n - 1);
#pragma omp simd
        for (size_t k = 0; k < n; k++) {
            a[k] += bias[k];
        }
    }
    float max = max_of(a, n), sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < n; k++) {
        a[k] = exp_fast(a[k] - max);
        sum += a[k];
    }
    float *out = row_of(j->out, i) + h * D;
    if (is_wide(s->v)) {
        sum_rows(part, a, place(s->v, row, 0), D, n, D);
    } else {
        sum_rows_bf16(part, a, place(s->v, row, 0), n, D);
    }
    float by = 1.0F / sum;
#pragma omp simd
    for (size_t d = 0; d < D; d++) {
        out[d] = part[d] * by;
    }
}

static void step_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    const struct step_job *j = (const struct step_job *)(const void *)rows;
    for (size_t task = first; task < last; task++) {
        step_one(j, task / j->s->heads, task % j->s->heads, j->work + worker * j->each);
    }
}

static void attention_step_cpu(const struct exec *x, struct mat out, struct mat q, const struct attention_step *s) {
    struct step_job j = {.rows = {.fn = step_rows}, .q = q, .out = out, .s = s};
    struct arena_mark mark = arena_mark(x->scratch);
    size_t keys = 0, all = 0;
    for (size_t i = 0; i < q.rows; i++) {
        keys = max_size(keys, s->length[i]);
        all += s->length[i];
    }
    if (q.rows == 0 || s->heads == 0) {
        return;
    }
    j.keys = round_lanes(keys);
    j.wide = (s->d_kv + STRIDE - 1) / STRIDE * STRIDE;
    j.each = 2 * j.keys + 3 * j.wide;
    j.work = arena_take(x->scratch, pool_threads(x->pool) * j.each, sizeof(float), x->err);
    if (j.work) {
        run_rows(x, &j.rows, q.rows * s->heads, 2 * (all / q.rows + 1) * s->d_kv);
    }
    arena_release(x->scratch, mark);
}

#endif
