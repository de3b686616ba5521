/* Part of cpu.c: products with a BF16 operand, by widening: tiles of both operands become F32 in memory of the worker's own, one
 * block of the inner dimension at a time, and the BLAS multiplies them. A tile is large enough that an element is widened once
 * for some hundred multiplications. The sum is F32 throughout; a BF16 result is rounded once, in the end.
 *
 * A BF16 product is exact in F32, so this differs from a BF16 instruction only in the order of the sum. */
#ifndef KERNELS_CPU_MIXED_H
#define KERNELS_CPU_MIXED_H

#include "kernels/cpu_decode_product.h"
#include "kernels/cpu_gemm.h"
#include "kernels/cpu_types.h"

enum { MIXED_TILE = 512, MIXED_INNER = 512 };

struct mixed_job {
    struct mat c, a, b;
    size_t k, tile_m, tile_n, tiles_n, inner;
    int ta, tb;
    float alpha, beta;
    float *work; /* workers x work_each */
    size_t work_each;
};

/* Rows r .. r + n, columns c .. c + m of an operand as F32: where they lie, or widened into `to`. */
static const float *wide_block(struct mat s, size_t r, size_t c, size_t n, size_t m, float *to, size_t *ld) {
    if (is_wide(s)) {
        *ld = max_size(s.ld, s.cols);
        return place(s, r, c);
    }
    for (size_t i = 0; i < n; i++) {
        load_floats(to + i * m, place(s, r + i, c), s.dtype, m);
    }
    *ld = m;
    return to;
}

static void mixed_task(void *arg, size_t task, size_t worker) {
    const struct mixed_job *j = arg;
    size_t m0 = task / j->tiles_n * j->tile_m, n0 = task % j->tiles_n * j->tile_n;
    size_t m = min_size(j->tile_m, j->c.rows - m0), n = min_size(j->tile_n, j->c.cols - n0), ldc = max_size(j->c.ld, j->c.cols);
    float *a_to = j->work + worker * j->work_each, *b_to = a_to + j->tile_m * j->inner, *c = b_to + j->tile_n * j->inner;
    bool own = !is_wide(j->c);
    if (!own) {
        c = row_of(j->c, m0) + n0;
    } else {
        ldc = n;
        for (size_t i = 0; i < m && reads_c(j->beta); i++) {
            load_floats(c + i * n, place(j->c, m0 + i, n0), j->c.dtype, n);
        }
    }
    for (size_t k0 = 0; k0 == 0 || k0 < j->k; k0 += j->inner) {
        size_t k = min_size(j->inner, j->k - k0), lda = 0, ldb = 0;
        const float *a = j->ta ? wide_block(j->a, k0, m0, k, m, a_to, &lda) : wide_block(j->a, m0, k0, m, k, a_to, &lda);
        const float *b = j->tb ? wide_block(j->b, n0, k0, n, k, b_to, &ldb) : wide_block(j->b, k0, n0, k, n, b_to, &ldb);
        gemm_tile(c, ldc, m, n, k, j->ta, a, max_size(lda, 1), j->tb, b, max_size(ldb, 1), j->alpha, k0 ? 1 : j->beta);
    }
    for (size_t i = 0; i < m && own; i++) {
        store_floats(place(j->c, m0 + i, n0), j->c.dtype, c + i * n, n);
    }
}

/* Tiles of at most MIXED_TILE, halved until there are enough for the threads to end together. */
static void mixed_cut(struct mixed_job *j) {
    double work = (double)j->c.rows * (double)j->c.cols * (double)j->k;
    j->tile_m = min_size(MIXED_TILE, j->c.rows);
    j->tile_n = min_size(MIXED_TILE, j->c.cols);
    for (;;) {
        j->tiles_n = (j->c.cols + j->tile_n - 1) / j->tile_n;
        size_t n = (j->c.rows + j->tile_m - 1) / j->tile_m * j->tiles_n;
        if (n >= 8 || work / (double)n < 4e6 || (j->tile_m <= 32 && j->tile_n <= 32)) {
            return;
        }
        *(j->tile_n >= j->tile_m ? &j->tile_n : &j->tile_m) /= 2;
    }
}

static void gemm_mixed(const struct exec *x, struct mat c, int ta, struct mat a, int tb, struct mat b, float alpha, float beta) {
    struct mixed_job j = {.c = c, .a = a, .b = b, .k = ta ? a.rows : a.cols, .ta = ta, .tb = tb, .alpha = alpha, .beta = beta};
    struct arena_mark mark = arena_mark(x->scratch);
    if (c.rows == 0 || c.cols == 0) {
        return;
    }
    mixed_cut(&j);
    j.inner = max_size(1, min_size(MIXED_INNER, j.k));
    j.work_each = (j.tile_m + j.tile_n) * j.inner + (is_wide(c) ? 0 : j.tile_m * j.tile_n);
    j.work = arena_take(x->scratch, pool_threads(x->pool) * j.work_each, sizeof(float), x->err);
    if (j.work) {
        pool_run(x->pool, (c.rows + j.tile_m - 1) / j.tile_m * j.tiles_n, mixed_task, &j);
    }
    arena_release(x->scratch, mark);
}

/* Products of any size and types by the BLAS. */
static void gemm_by_blas(const struct exec *x, struct mat c, int ta, struct mat a, int tb, struct mat b, float alpha,
                         float beta) {
    if (is_wide(c) && is_wide(a) && is_wide(b)) {
        gemm_blas(x, c, ta, a, tb, b, alpha, beta);
    } else {
        gemm_mixed(x, c, ta, a, tb, b, alpha, beta);
    }
}

/* The few rows of a decoder that generates: whoever multiplies the others. */
static bool is_thin(const struct product *p) {
    return !p->ta && p->tb && p->c.rows <= FEW_ROWS_GEMM;
}

static void gemm_thin(const struct exec *x, const struct product *p) {
    project_cpu(x, p->a, &(struct projection){.y = p->c, .w = p->b, .alpha = p->alpha, .beta = p->beta}, 1);
}

static void gemm_cpu_blas(const struct exec *x, const struct product *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (is_thin(p + i)) {
            gemm_thin(x, p + i);
        } else {
            gemm_by_blas(x, p[i].c, p[i].ta, p[i].a, p[i].tb, p[i].b, p[i].alpha, p[i].beta);
        }
    }
}

static void gemm_cpu(const struct exec *x, const struct product *p, size_t n) {
#if defined(__AVX2__)
    for (size_t i = 0; i < n;) {
        size_t thick = 0;
        while (i + thick < n && !is_thin(p + i + thick)) {
            thick++;
        }
        if (thick) {
            gemm_own(x, p + i, thick);
        } else {
            gemm_thin(x, p + i);
        }
        i += max_size(thick, 1);
    }
#else
    gemm_cpu_blas(x, p, n);
#endif
}

#endif
