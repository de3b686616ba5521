/* The door to the BLAS: the only file that includes cblas.h.
 *
 * A product is cut into tiles of C by its shape alone; each tile is one call of cblas_sgemm, made by whichever thread of the pool
 * comes first. With a BLAS that runs one thread per call the result therefore has the same bits for any number of threads in
 * the pool. Where the host kept the BLAS's own threads (RSD_BLAS_LEAVE) and our pool is one thread, one call does it all. */
#include "kernels/table.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

/* What only OpenBLAS has: weak, so that any CBLAS links. */
#if defined(__GNUC__)
extern void openblas_set_num_threads(int n) __attribute__((weak));
extern int openblas_get_num_threads(void) __attribute__((weak));
extern char *openblas_get_config(void) __attribute__((weak));
extern char *openblas_get_corename(void) __attribute__((weak));
#endif

const char *blas_name(void) {
    return openblas_get_config ? openblas_get_config() : "a BLAS that does not tell its name";
}

int blas_set_single_thread(void) {
    if (!openblas_set_num_threads) {
        return -1;
    }
    openblas_set_num_threads(1);
    return 0;
}

void gemm_tile(float *c, size_t ldc, size_t m, size_t n, size_t k, int ta, const float *a, size_t lda, int tb, const float *b,
               size_t ldb, float alpha, float beta) {
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a,
                (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

struct gemm_job {
    struct mat c, a, b;
    size_t k, tile_m, tile_n, tiles_n;
    int ta, tb;
    float alpha, beta;
};

static size_t at_least(size_t v, size_t min) {
    return v > min ? v : min;
}

static void gemm_task(void *arg, size_t task, size_t worker) {
    (void)worker;
    const struct gemm_job *j = arg;
    size_t m0 = task / j->tiles_n * j->tile_m, n0 = task % j->tiles_n * j->tile_n;
    size_t m = j->c.rows - m0 < j->tile_m ? j->c.rows - m0 : j->tile_m;
    size_t n = j->c.cols - n0 < j->tile_n ? j->c.cols - n0 : j->tile_n;
    const float *a = (const float *)j->a.data + (j->ta ? m0 : m0 * j->a.ld);
    const float *b = (const float *)j->b.data + (j->tb ? n0 * j->b.ld : n0);
    /* A single row has any stride; the BLAS wants one that is at least its length. */
    gemm_tile(row_of(j->c, m0) + n0, at_least(j->c.ld, j->c.cols), m, n, j->k, j->ta, a, at_least(j->a.ld, j->a.cols), j->tb, b,
              at_least(j->b.ld, j->b.cols), j->alpha, j->beta);
}

/* Cuts n into pieces of at most `most`, equal to within `unit`. */
static size_t piece(size_t n, size_t most, size_t unit) {
    size_t pieces = (n + most - 1) / most;
    size_t each = (n + pieces - 1) / pieces;
    return (each + unit - 1) / unit * unit;
}

static size_t tiles(const struct gemm_job *j) {
    return ((j->c.rows + j->tile_m - 1) / j->tile_m) * ((j->c.cols + j->tile_n - 1) / j->tile_n);
}

/* Large tiles, since each packs its operands for itself (below 400 x 400 that costs more than a tenth); yet enough of them
 * that the threads end together, down to some ten microseconds each. */
static void cut(struct gemm_job *j) {
    double work = (double)j->c.rows * (double)j->c.cols * (double)j->k;
    size_t most_m = 2048, most_n = 1024;
    for (;;) {
        j->tile_m = piece(j->c.rows, most_m, 16);
        j->tile_n = piece(j->c.cols, most_n, 16);
        size_t n = tiles(j);
        if (n >= 8 || (n >= 4 && j->tile_m * j->tile_n <= 400 * 400) || work / (double)n < 2e6 ||
            (j->tile_m <= 32 && j->tile_n <= 32)) {
            return;
        }
        if (j->tile_m >= j->tile_n) {
            most_m = (j->tile_m + 1) / 2;
        } else {
            most_n = (j->tile_n + 1) / 2;
        }
    }
}

void gemm_blas(const struct exec *x, struct mat c, int ta, struct mat a, int tb, struct mat b, float alpha, float beta) {
    size_t k = ta ? a.rows : a.cols, m = c.rows, n = c.cols;
    if (m == 0 || n == 0) {
        return;
    }
    struct gemm_job j = {
        .c = c, .a = a, .b = b, .k = k, .tile_m = m, .tile_n = n, .ta = ta, .tb = tb, .alpha = alpha, .beta = beta};
    bool blas_threads = pool_threads(x->pool) == 1 && openblas_get_num_threads && openblas_get_num_threads() > 1;
    if (!blas_threads) {
        cut(&j);
    }
    j.tiles_n = (n + j.tile_n - 1) / j.tile_n;
    size_t count = tiles(&j);
    if (count == 1) {
        gemm_task(&j, 0, 0);
    } else {
        pool_run(x->pool, count, gemm_task, &j);
    }
}
