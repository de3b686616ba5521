/* Part of cpu.c: matrix products of any size and mix of types by packed panels (cpu_gemm_micro.h).
 *
 * The smaller operand is packed once, by all threads together, and shared; a task takes a block of the larger one, packs it into
 * memory of its own that fits into the second-level cache, and multiplies it by all of the other. So each operand is read once
 * from where it lies, and converted once. The inner dimension is cut into pieces by its length alone and each element of c is
 * summed up in its order: the bits of a result do not depend on threads, on tasks, or on the other rows and columns. */
#ifndef KERNELS_CPU_GEMM_H
#define KERNELS_CPU_GEMM_H

#include "kernels/cpu_gemm_pack.h"

enum {
    GEMM_CHUNK = 768,       /* most words of the inner dimension between two visits to c */
    GEMM_CHUNK_BF16 = 1536, /* the same where c is BF16, which is visited once */
    GEMM_OWN = 96 << 10,    /* words of a task's own block: less than half of a second-level cache of 1 MiB */
    GEMM_SHARED = 1 << 20,  /* words of the shared operand that are packed at a time, and stay in a third-level cache meanwhile */
    GEMM_TASK = 2 << 20,    /* multiplications below which another task is not worth while */
    GEMM_SLICE = 64         /* words of one packing task, where rows lie across the inner dimension */
};

struct gemm_job {
    struct mat c;
    struct operand a, b;
    float alpha, beta;
    bool pair, share_b;
    size_t first, words, chunk; /* this pass: from word `first` on, in chunks */
    float *shared;              /* [chunks][panels][stride] */
    float *own;                 /* [workers][own_each] */
    size_t shared_stride, own_stride, own_each;
    size_t tasks;
};

static inline size_t panels_of(const struct operand *o, size_t W) {
    return (o->n + W - 1) / W;
}

static inline size_t shared_panels(const struct gemm_job *j) {
    return j->share_b ? panels_of(&j->b, GEMM_COLS) : panels_of(&j->a, GEMM_ROWS);
}

static inline size_t own_panels(const struct gemm_job *j) {
    return j->share_b ? panels_of(&j->a, GEMM_ROWS) : panels_of(&j->b, GEMM_COLS);
}

/* Packing tasks of a chunk: a panel each, or a slice of all panels. */
static inline size_t share_parts(const struct gemm_job *j) {
    bool along = j->share_b ? j->b.along : j->a.along;
    return along ? shared_panels(j) : (j->chunk + GEMM_SLICE - 1) / GEMM_SLICE;
}

static inline void gemm_share(void *arg, size_t task, size_t worker) {
    (void)worker;
    const struct gemm_job *j = arg;
    const struct operand *o = j->share_b ? &j->b : &j->a;
    size_t all = shared_panels(j), parts = share_parts(j), chunk = task / parts, part = task % parts,
           W = j->share_b ? GEMM_COLS : GEMM_ROWS;
    size_t at = chunk * j->chunk, n = min_size(j->chunk, j->words - at), panel = o->along ? part : 0, panels = o->along ? 1 : all;
    float *to = j->shared + (chunk * all + panel) * j->shared_stride;
    if (!o->along) {
        size_t w = part * GEMM_SLICE;
        if (w >= n) {
            return;
        }
        to += w * W;
        at += w;
        n = min_size(GEMM_SLICE, n - w);
    }
    (j->share_b ? pack_b : pack_a)(to, j->shared_stride, o, panel, panels, j->first + at, n, j->pair);
}

/* Panels i and l of a and b: one tile of c. */
static inline void gemm_one(const struct gemm_job *j, struct micro *t, size_t i, size_t l) {
    t->rows = min_size(GEMM_ROWS, j->c.rows - i * GEMM_ROWS);
    t->cols = min_size(GEMM_COLS, j->c.cols - l * GEMM_COLS);
    t->c = place(j->c, i * GEMM_ROWS, l * GEMM_COLS);
    micro(t, j->pair);
}

/* A block of rows p0 .. p1 (panels), in the cache, by all columns: while the first panels of the block are multiplied, the next
 * panel of the columns is fetched. */
static inline void gemm_rows(const struct gemm_job *j, struct micro *t, const float *shared, const float *own, size_t p0,
                             size_t p1) {
    size_t all = shared_panels(j);
    for (size_t l = 0; l < all; l++) {
        t->b = shared + l * j->shared_stride;
        for (size_t i = p0; i < p1; i++) {
            t->a = own + (i - p0) * j->own_stride;
            t->ahead = i - p0 < 2 ? t->b + j->shared_stride + (i - p0) * 16 * t->words : t->a;
            gemm_one(j, t, i, l);
        }
    }
}

static inline void gemm_columns(const struct gemm_job *j, struct micro *t, const float *shared, const float *own, size_t p0,
                                size_t p1) {
    size_t all = shared_panels(j);
    for (size_t i = 0; i < all; i++) {
        t->a = shared + i * j->shared_stride;
        for (size_t l = p0; l < p1; l++) {
            t->b = own + (l - p0) * j->own_stride;
            t->ahead = l == p0 ? t->a + j->shared_stride : t->b;
            gemm_one(j, t, i, l);
        }
    }
}

static inline void gemm_block(void *arg, size_t task, size_t worker) {
    const struct gemm_job *j = arg;
    size_t panels = own_panels(j), p0 = panels * task / j->tasks, p1 = panels * (task + 1) / j->tasks;
    float *own = j->own + worker * j->own_each;
    struct micro t = {.type = j->c.dtype, .ldc = j->c.ld, .alpha = j->alpha};
    for (size_t at = 0; at == 0 || at < j->words; at += j->chunk) {
        const float *shared = j->shared + at / j->chunk * shared_panels(j) * j->shared_stride;
        t.words = min_size(j->chunk, j->words - at);
        t.beta = j->first + at == 0 ? j->beta : 1;
        if (j->share_b) {
            pack_a(own, j->own_stride, &j->a, p0, p1 - p0, j->first + at, t.words, j->pair);
            gemm_rows(j, &t, shared, own, p0, p1);
        } else {
            pack_b(own, j->own_stride, &j->b, p0, p1 - p0, j->first + at, t.words, j->pair);
            gemm_columns(j, &t, shared, own, p0, p1);
        }
    }
}

/* Blocks that fit, several for each thread so that they end together, yet large: each block reads all of the shared operand
 * again. The number of threads may decide, as no sum depends on it. */
static inline size_t gemm_tasks(const struct gemm_job *j, size_t W, size_t threads) {
    double work = (double)j->c.rows * (double)j->c.cols * (double)j->words;
    size_t panels = own_panels(j), worth = (size_t)(work / GEMM_TASK) + 1, fit = max_size(1, GEMM_OWN / (j->chunk * W));
    size_t tasks = max_size((panels + fit - 1) / fit, min_size(4 * threads, panels * W / 96));
    return min_size(panels, round_up(max_size(1, min_size(tasks, worth)), threads));
}

static inline void gemm_run(const struct exec *x, struct gemm_job *j, size_t words) {
    size_t most = is_wide(j->c) ? GEMM_CHUNK : GEMM_CHUNK_BF16, chunks = max_size(1, (words + most - 1) / most);
    size_t own_width = j->share_b ? GEMM_ROWS : GEMM_COLS, threads = pool_threads(x->pool);
    j->chunk = round_up(max_size(1, (words + chunks - 1) / chunks), REG);
    j->shared_stride = panel_stride(j->share_b ? GEMM_COLS : GEMM_ROWS, j->chunk);
    j->own_stride = panel_stride(own_width, j->chunk);
    j->words = words;
    j->tasks = gemm_tasks(j, own_width, threads);
    j->own_each = (own_panels(j) / j->tasks + 1) * j->own_stride;
    size_t pass = min_size(chunks, max_size(1, GEMM_SHARED / (shared_panels(j) * j->shared_stride))); /* chunks at a time */
    j->shared = arena_take(x->scratch, pass * shared_panels(j) * j->shared_stride, sizeof(float), x->err);
    j->own = arena_take(x->scratch, threads * j->own_each, sizeof(float), x->err);
    for (size_t at = 0; j->shared && j->own && (at == 0 || at < words); at += pass * j->chunk) {
        j->first = at;
        j->words = min_size(pass * j->chunk, words - at);
        pool_run(x->pool, (j->words + j->chunk - 1) / j->chunk * share_parts(j), gemm_share, j);
        pool_run(x->pool, j->tasks, gemm_block, j);
    }
}

struct gemm_convert {
    struct rows rows;
    struct mat to, from;
};

static inline void convert_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct gemm_convert *j = (const struct gemm_convert *)(const void *)rows;
    for (size_t r = first; r < last; r++) {
        float part[CHUNK];
        for (size_t i = 0; i < j->to.cols; i += CHUNK) {
            size_t n = min_size(CHUNK, j->to.cols - i);
            load_floats(part, place(j->from, r, i), j->from.dtype, n);
            store_floats(place(j->to, r, i), j->to.dtype, part, n);
        }
    }
}

static inline void gemm_own(const struct exec *x, struct mat c, int ta, struct mat a, int tb, struct mat b, float alpha,
                            float beta) {
    size_t k = ta ? a.rows : a.cols;
    struct gemm_job j = {.c = c,
                         .a = {a.data, a.dtype, !ta, a.ld, c.rows, k},
                         .b = {b.data, b.dtype, tb, b.ld, c.cols, k},
                         .alpha = alpha,
                         .beta = beta,
                         .pair = HAS_PAIRS && !(is_wide(a) && is_wide(b)),
                         .share_b = c.cols <= c.rows};
    if (c.rows == 0 || c.cols == 0) {
        return;
    }
    struct arena_mark mark = arena_mark(x->scratch);
    size_t words = words_of(k, j.pair);
    /* A BF16 c cannot hold what has been summed up so far. */
    bool aside = !is_wide(c) && words > GEMM_CHUNK_BF16;
    struct gemm_convert in = {.rows = {.fn = convert_rows}}, out = in;
    if (aside) {
        j.c = arena_mat(x->scratch, DTYPE_F32, c.rows, c.cols, x->err);
        in.to = out.from = j.c;
        in.from = out.to = c;
        if (j.c.data && reads_c(beta)) {
            run_rows(x, &in.rows, c.rows, c.cols);
        }
    }
    if (j.c.data) {
        gemm_run(x, &j, words);
    }
    if (aside && !exec_status(x)) {
        run_rows(x, &out.rows, c.rows, c.cols);
    }
    arena_release(x->scratch, mark);
}

#endif
