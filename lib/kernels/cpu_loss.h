/* Part of cpu.c: rows of logits. A row of 32128 floats is read twice for its log-sum-exp: it stays in the second-level cache. */
#ifndef KERNELS_CPU_LOSS_H
#define KERNELS_CPU_LOSS_H

#include "kernels/cpu_types.h"

struct loss_job {
    struct rows rows;
    struct mat logits;
    float *out;
    int32_t *best;
    const int32_t *ids;
};

/* Sums of 4096 elements in F32, their sum in double: the error does not grow with the vocabulary. */
static inline double row_sum_exp(const float *v, size_t n, float max) {
    double total = 0;
    for (size_t first = 0; first < n; first += 4096) {
        size_t m = min_size(4096, n - first);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < m; i++) {
            sum += exp_fast(v[first + i] - max);
        }
        total += (double)sum;
    }
    return total;
}

static void row_lse_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct loss_job *j = (const struct loss_job *)(const void *)rows;
    for (size_t r = first; r < last; r++) {
        const float *v = row_of(j->logits, r);
        float max = max_of(v, j->logits.cols);
        j->out[r] = isinf(max) ? max : (float)((double)max + log(row_sum_exp(v, j->logits.cols, max)));
    }
}

static void row_lse_cpu(const struct exec *x, float *lse, struct mat logits) {
    struct loss_job j = {.rows = {.fn = row_lse_rows}, .logits = logits, .out = lse};
    run_rows(x, &j.rows, logits.rows, logits.cols);
}

static void row_argmax_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct loss_job *j = (const struct loss_job *)(const void *)rows;
    for (size_t r = first; r < last; r++) {
        const float *v = row_of(j->logits, r);
        float max = -INFINITY;
        size_t from = 0; /* the piece in which the maximum was first met: only that is searched */
        for (size_t c = 0; c < j->logits.cols; c += 1024) {
            float here = max_of(v + c, min_size(1024, j->logits.cols - c));
            if (here > max) {
                max = here;
                from = c;
            }
        }
        size_t best = from;
        while (best < j->logits.cols && !(v[best] >= max)) {
            best++;
        }
        j->best[r] = best < j->logits.cols ? (int32_t)best : 0;
    }
}

static void row_argmax_cpu(const struct exec *x, int32_t *best, struct mat logits) {
    struct loss_job j = {.rows = {.fn = row_argmax_rows}, .logits = logits, .best = best};
    run_rows(x, &j.rows, logits.rows, logits.cols);
}

static void row_pick_cpu(const struct exec *x, float *picked, struct mat logits, const int32_t *ids) {
    (void)x;
    for (size_t r = 0; r < logits.rows; r++) {
        picked[r] = row_of(logits, r)[ids[r]];
    }
}

/* ---- sum of squares ---- */

enum { SQUARES = 32768 };

struct squares_job {
    struct rows rows;
    struct mat a;
    size_t pieces;
    double *part;
};

static void squares_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct squares_job *j = (const struct squares_job *)(const void *)rows;
    for (size_t i = first; i < last; i++) {
        size_t c = i % j->pieces * SQUARES, n = min_size(SQUARES, j->a.cols - c);
        double sum = 0;
        float buffer[CHUNK];
        for (size_t at = 0, m; at < n; at += m) {
            m = is_wide(j->a) ? n : min_size(CHUNK, n - at);
            const float *v = place(j->a, i / j->pieces, c + at);
            if (!is_wide(j->a)) {
                load_floats(buffer, v, j->a.dtype, m);
                v = buffer;
            }
#pragma omp simd reduction(+ : sum)
            for (size_t k = 0; k < m; k++) {
                sum += (double)v[k] * (double)v[k];
            }
        }
        j->part[i] = sum;
    }
}

static double sum_squares_cpu(const struct exec *x, struct mat a) {
    struct arena_mark mark = arena_mark(x->scratch);
    if (a.ld == a.cols) {
        a = mat_of(a.data, a.dtype, 1, a.rows * a.cols);
    }
    struct squares_job j = {.rows = {.fn = squares_rows}, .a = a, .pieces = (a.cols + SQUARES - 1) / SQUARES};
    size_t n = a.rows * j.pieces;
    double sum = 0;
    j.part = arena_take(x->scratch, n, sizeof(double), x->err);
    if (j.part) {
        run_rows(x, &j.rows, n, min_size(SQUARES, a.cols));
        for (size_t i = 0; i < n; i++) {
            sum += j.part[i];
        }
    }
    arena_release(x->scratch, mark);
    return sum;
}

#endif
