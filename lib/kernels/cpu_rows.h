/* Part of cpu.c: embedding, norm and the expansion of the relative bias: operations on rows. */
#ifndef KERNELS_CPU_ROWS_H
#define KERNELS_CPU_ROWS_H

#include "kernels/cpu_types.h"

struct embedding_job {
    struct rows rows;
    struct mat y, w;
    const int32_t *ids;
};

static void embedding_forward_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct embedding_job *j = (const struct embedding_job *)(const void *)rows;
    for (size_t t = first; t < last; t++) {
        const void *w = place(j->w, (size_t)j->ids[t], 0);
        if (is_wide(j->y)) {
            load_floats(row_of(j->y, t), w, j->w.dtype, j->y.cols);
        } else {
            dtype_convert(place(j->y, t, 0), j->y.dtype, w, j->w.dtype, j->y.cols);
        }
    }
}

static void embedding_forward_cpu(const struct exec *x, struct mat y, struct mat w, const int32_t *ids) {
    struct embedding_job j = {.rows = {.fn = embedding_forward_rows}, .y = y, .w = w, .ids = ids};
    run_rows(x, &j.rows, y.rows, y.cols);
}

/* A task owns a range of columns and walks all tokens in order: sums of a repeated id never depend on who came first. */
enum { EMBEDDING_COLUMNS = 64 };

static void embedding_backward_columns(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct embedding_job *j = (const struct embedding_job *)(const void *)rows;
    size_t c0 = first * EMBEDDING_COLUMNS, c1 = min_size(last * EMBEDDING_COLUMNS, j->y.cols);
    for (size_t t = 0; t < j->y.rows; t++) {
        float *dw = row_of(j->w, (size_t)j->ids[t]);
        const float *dy = row_of(j->y, t);
#pragma omp simd
        for (size_t c = c0; c < c1; c++) {
            dw[c] += dy[c];
        }
    }
}

static void embedding_backward_cpu(const struct exec *x, struct mat dw, struct mat dy, const int32_t *ids) {
    struct embedding_job j = {.rows = {.fn = embedding_backward_columns}, .y = dy, .w = dw, .ids = ids};
    run_rows(x, &j.rows, (dy.cols + EMBEDDING_COLUMNS - 1) / EMBEDDING_COLUMNS, dy.rows * EMBEDDING_COLUMNS);
}

/* ---- RMS norm ---- */

struct norm_job {
    struct rows rows;
    struct mat y, in, g, din;
    float *rrms, eps;
    const float *rrms_in;
    struct mat part; /* backward: dg of each block of NORM_BLOCK rows */
};

static void rmsnorm_forward_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct norm_job *j = (const struct norm_job *)(const void *)rows;
    size_t C = j->y.cols;
    const float *g = j->g.data;
    float buffer[CHUNK];
    for (size_t t = first; t < last; t++) {
        const float *in = row_of(j->in, t);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t c = 0; c < C; c++) {
            sum += in[c] * in[c];
        }
        float r = 1.0F / sqrtf(sum / (float)C + j->eps);
        j->rrms[t] = r;
        for (size_t c0 = 0, n; c0 < C; c0 += n) {
            n = is_wide(j->y) ? C : min_size(CHUNK, C - c0);
            float *y = is_wide(j->y) ? row_of(j->y, t) : buffer;
#pragma omp simd
            for (size_t c = 0; c < n; c++) {
                y[c] = in[c0 + c] * r * g[c0 + c];
            }
            if (!is_wide(j->y)) {
                store_floats(place(j->y, t, c0), j->y.dtype, buffer, n);
            }
        }
    }
}

static void rmsnorm_forward_cpu(const struct exec *x, struct mat y, float *rrms, struct mat in, struct mat g, float eps) {
    struct norm_job j = {.rows = {.fn = rmsnorm_forward_rows}, .y = y, .in = in, .g = g, .rrms = rrms, .eps = eps};
    run_rows(x, &j.rows, y.rows, y.cols);
}

/* dg is a sum over rows: each block of rows makes its own, and the blocks are added in order. */
enum { NORM_BLOCK = 64 };

static void rmsnorm_backward_blocks(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct norm_job *j = (const struct norm_job *)(const void *)rows;
    size_t C = j->y.cols;
    const float *g = j->g.data;
    for (size_t block = first; block < last; block++) {
        float *restrict part = row_of(j->part, block);
        memset(part, 0, C * sizeof *part);
        for (size_t t = block * NORM_BLOCK; t < min_size((block + 1) * NORM_BLOCK, j->y.rows); t++) {
            const float *dy = row_of(j->y, t), *in = row_of(j->in, t);
            float *din = row_of(j->din, t), r = j->rrms_in[t], dot = 0;
#pragma omp simd reduction(+ : dot)
            for (size_t c = 0; c < C; c++) {
                dot += dy[c] * g[c] * in[c];
                part[c] += dy[c] * in[c] * r;
            }
            float k = r * r * r * dot / (float)C;
#pragma omp simd
            for (size_t c = 0; c < C; c++) {
                din[c] += r * g[c] * dy[c] - k * in[c];
            }
        }
    }
}

static void rmsnorm_backward_cpu(const struct exec *x, struct mat din, struct mat dg, struct mat dy, struct mat in, struct mat g,
                                 const float *rrms) {
    struct arena_mark mark = arena_mark(x->scratch);
    size_t blocks = (dy.rows + NORM_BLOCK - 1) / NORM_BLOCK, C = dy.cols;
    struct norm_job j = {.rows = {.fn = rmsnorm_backward_blocks}, .y = dy, .in = in, .g = g, .din = din, .rrms_in = rrms};
    j.part = arena_mat(x->scratch, DTYPE_F32, blocks, C, x->err);
    if (j.part.data) {
        run_rows(x, &j.rows, blocks, NORM_BLOCK * C);
        float *sum = dg.data;
        for (size_t b = 0; sum && b < blocks; b++) {
            const float *part = row_of(j.part, b);
#pragma omp simd
            for (size_t c = 0; c < C; c++) {
                sum[c] += part[c];
            }
        }
    }
    arena_release(x->scratch, mark);
}

/* ---- relative bias: small, one thread ---- */

static void bias_expand_forward_cpu(const struct exec *x, struct mat bias, struct mat table, const int32_t *bucket) {
    (void)x;
    for (size_t h = 0; h < bias.rows; h++) {
        float *y = row_of(bias, h);
        for (size_t d = 0; d < bias.cols; d++) {
            y[d] = row_of(table, (size_t)bucket[d])[h];
        }
    }
}

static void bias_expand_backward_cpu(const struct exec *x, struct mat dtable, struct mat dbias, const int32_t *bucket) {
    (void)x;
    for (size_t h = 0; h < dbias.rows; h++) {
        const float *dy = row_of(dbias, h);
        for (size_t d = 0; d < dbias.cols; d++) {
            row_of(dtable, (size_t)bucket[d])[h] += dy[d];
        }
    }
}

#endif
