/* Part of cpu.c: from gradients to weights. AdamW looks at each element by itself. Adafactor reads the gradient three times: for
 * the means of its squares, for the size of the update that they give, and for the update; what is summed over rows is summed
 * in blocks of rows that depend on the shape alone. */
#ifndef KERNELS_CPU_OPTIMIZER_H
#define KERNELS_CPU_OPTIMIZER_H

#include "kernels/cpu_elementwise.h"

struct adamw_factors {
    float b1, r1, b2, r2, keep, step, root, eps, grad_scale; /* r = 1 - b */
};

static void adamw_span(float *const p[MAX_OPERANDS], size_t n, uint64_t element, const void *arg) {
    (void)element;
    const struct adamw_factors f = *(const struct adamw_factors *)arg;
    float *restrict w = p[0], *restrict m = p[1], *restrict v = p[2];
    const float *restrict g = p[3];
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float grad = g[i] * f.grad_scale;
        float mv = f.b1 * m[i] + f.r1 * grad, vv = f.b2 * v[i] + f.r2 * grad * grad;
        m[i] = mv;
        v[i] = vv;
        w[i] = f.keep * w[i] - f.step * mv / (sqrtf(vv) * f.root + f.eps);
    }
}

static void adamw_update_cpu(const struct exec *x, struct mat w, struct mat m, struct mat v, struct mat g,
                             const struct adamw *o) {
    double b1 = (double)o->beta1, b2 = (double)o->beta2;
    struct adamw_factors f = {
        .b1 = o->beta1,
        .r1 = (float)(1 - b1),
        .b2 = o->beta2,
        .r2 = (float)(1 - b2),
        .keep = (float)(1 - (double)o->lr * (double)o->decay),
        .step = (float)((double)o->lr / (1 - pow(b1, (double)o->t))),
        .root = (float)(1 / sqrt(1 - pow(b2, (double)o->t))),
        .eps = o->eps,
        .grad_scale = o->grad_scale,
    };
    elementwise(x, (struct elementwise){.fn = adamw_span, .arg = &f, .outs = 3, OPERANDS(w, m, v, g), .rounding = &o->rounding});
}

/* ---- Adafactor ---- */

enum { FACTOR_BLOCK = 64 /* rows of a task */ };

struct factor_job {
    struct rows rows;
    struct mat w, g, m, part; /* part [blocks, C]: sums of squares over the rows of a block */
    float *row, *col;         /* [R] sums of squares, then 1 / sqrt of their moments; [C] 1 / sqrt of the moments */
    double *sums;             /* [blocks] squares of the update */
    float scale, step;        /* of the gradient; of the update */
    const struct adafactor *o;
};

static void factor_squares(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct factor_job *j = (const struct factor_job *)(const void *)rows;
    size_t C = j->g.cols;
    for (size_t block = first; block < last; block++) {
        float *restrict part = row_of(j->part, block);
        memset(part, 0, C * sizeof *part);
        for (size_t r = block * FACTOR_BLOCK; r < min_size((block + 1) * FACTOR_BLOCK, j->g.rows); r++) {
            const float *restrict g = row_of(j->g, r);
            float sum = 0, k = j->scale;
#pragma omp simd reduction(+ : sum)
            for (size_t c = 0; c < C; c++) {
                float s = g[c] * k * (g[c] * k);
                sum += s;
                part[c] += s;
            }
            j->row[r] = sum;
        }
    }
}

static void factor_sizes(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct factor_job *j = (const struct factor_job *)(const void *)rows;
    const float *restrict col = j->col;
    for (size_t block = first; block < last; block++) {
        double total = 0;
        for (size_t r = block * FACTOR_BLOCK; r < min_size((block + 1) * FACTOR_BLOCK, j->g.rows); r++) {
            const float *restrict g = row_of(j->g, r);
            float sum = 0, k = j->scale * j->row[r];
#pragma omp simd reduction(+ : sum)
            for (size_t c = 0; c < j->g.cols; c++) {
                float u = g[c] * k * col[c];
                sum += u * u;
            }
            total += (double)sum;
        }
        j->sums[block] = total;
    }
}

static void factor_steps(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct factor_job *j = (const struct factor_job *)(const void *)rows;
    float w[CHUNK], keep = (float)(1 - (double)j->o->decay * (double)j->o->lr), b1 = j->o->beta1, r1 = 1.0F - b1;
    size_t begin = first * FACTOR_BLOCK, end = min_size(last * FACTOR_BLOCK, j->g.rows), C = j->g.cols;
    for (size_t r = begin; r < end; r++) {
        for (size_t c = 0, n; c < C; c += n) {
            n = min_size(CHUNK, C - c);
            const float *restrict g = row_of(j->g, r) + c, *restrict col = j->col + c;
            float *restrict m = j->m.data ? row_of(j->m, r) + c : NULL, k = j->scale * j->row[r], step = j->step;
            load_floats(w, place(j->w, r, c), j->w.dtype, n);
            if (m) {
#pragma omp simd
                for (size_t i = 0; i < n; i++) {
                    m[i] = b1 * m[i] + r1 * (g[i] * k * col[i] * step);
                    w[i] = keep * w[i] - m[i];
                }
            } else {
#pragma omp simd
                for (size_t i = 0; i < n; i++) {
                    w[i] = keep * w[i] - g[i] * k * col[i] * step;
                }
            }
            store_weights(place(j->w, r, c), j->w.dtype, w, n, (uint64_t)r * C + c, &j->o->rounding);
        }
    }
}

/* One of the factors: moment = b2 moment + (1-b2) (sum / n + eps) */
static inline float moved(float moment, double sum, size_t n, const struct adafactor *o) {
    double b2 = (double)o->beta2;
    return (float)(b2 * (double)moment + (1 - b2) * (sum / (double)n + (double)o->eps));
}

static void factored(struct factor_job *j, struct mat r, struct mat c) {
    float *restrict row = r.data, *restrict col = c.data, *restrict sum = row_of(j->part, 0);
    size_t R = j->g.rows, C = j->g.cols;
    double mean = 0;
    for (size_t b = 1; b < j->part.rows; b++) {
        const float *restrict part = row_of(j->part, b);
#pragma omp simd
        for (size_t k = 0; k < C; k++) {
            sum[k] += part[k];
        }
    }
    for (size_t i = 0; i < R; i++) {
        row[i] = moved(row[i], (double)j->row[i], C, j->o);
        mean += (double)row[i] / (double)R;
    }
    for (size_t i = 0; i < R; i++) {
        j->row[i] = (float)(1 / sqrt((double)row[i] / mean));
    }
    for (size_t k = 0; k < C; k++) {
        col[k] = moved(col[k], (double)sum[k], R, j->o);
        j->col[k] = (float)(1 / sqrt((double)col[k]));
    }
}

/* A moment of its own for every element: one row, whose factor is 1. */
static void unfactored(struct factor_job *j, struct mat r) {
    float *restrict v = r.data;
    const float *restrict g = j->g.data;
    float b2 = j->o->beta2, r2 = (float)(1 - (double)b2), eps = j->o->eps, k = j->scale;
    j->row[0] = 1;
#pragma omp simd
    for (size_t i = 0; i < j->g.cols; i++) {
        v[i] = b2 * v[i] + r2 * (g[i] * k * (g[i] * k) + eps);
        j->col[i] = 1.0F / sqrtf(v[i]);
    }
}

static void adafactor_update_cpu(const struct exec *x, struct mat w, struct mat r, struct mat c, struct mat m, struct mat g,
                                 const struct adafactor *o) {
    struct arena_mark mark = arena_mark(x->scratch);
    struct factor_job j = {.w = w, .g = g, .m = m, .scale = o->grad_scale, .o = o};
    size_t blocks = (g.rows + FACTOR_BLOCK - 1) / FACTOR_BLOCK, cost = FACTOR_BLOCK * g.cols;
    j.row = arena_take(x->scratch, g.rows, sizeof(float), x->err);
    j.col = arena_take(x->scratch, g.cols, sizeof(float), x->err);
    j.sums = arena_take(x->scratch, blocks, sizeof(double), x->err);
    j.part = c.data ? arena_mat(x->scratch, DTYPE_F32, blocks, g.cols, x->err) : (struct mat){0};
    if (exec_status(x)) {
        arena_release(x->scratch, mark);
        return;
    }
    if (c.data) {
        j.rows.fn = factor_squares;
        run_rows(x, &j.rows, blocks, cost);
        factored(&j, r, c);
    } else {
        unfactored(&j, r);
    }
    double sum = 0;
    if (o->clip > 0) {
        j.rows.fn = factor_sizes;
        run_rows(x, &j.rows, blocks, cost);
        for (size_t b = 0; b < blocks; b++) {
            sum += j.sums[b];
        }
    }
    double rms = sqrt(sum / ((double)g.rows * (double)g.cols));
    j.step = rms > (double)o->clip ? (float)((double)o->lr * (double)o->clip / rms) : o->lr;
    j.rows.fn = factor_steps;
    run_rows(x, &j.rows, blocks, cost);
    arena_release(x->scratch, mark);
}

#endif
