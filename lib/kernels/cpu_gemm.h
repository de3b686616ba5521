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

/* One pass over n products of one shape that have an operand in common. The others are joined: rows of op(a) (n a_parts) or columns of
 * op(b) (n b_parts). */
struct gemm_job {
    struct mat c[MAX_PRODUCTS];
    struct operand a[MAX_PRODUCTS], b[MAX_PRODUCTS];
    size_t a_parts, b_parts;
    float alpha, beta;
    bool pair, share_b;
    size_t words, chunk; /* words of the inner dimension, in pieces of `chunk` */
    size_t first, n;     /* this pass: n pieces from piece `first` on */
    float *shared;       /* [n][panels][stride] */
    float *own;          /* [workers][own_each] */
    size_t shared_stride, own_stride, own_each;
    size_t tasks;
};

/* What is packed: the panels of a few operands of one shape, one operand after the other. */
struct side {
    const struct operand *o;
    size_t parts, panels_each, W;
    bool b;
};

static inline struct side side_of(const struct gemm_job *j, bool b) {
    struct side s = {b ? j->b : j->a, b ? j->b_parts : j->a_parts, 0, b ? GEMM_COLS : GEMM_ROWS, b};
    s.panels_each = (s.o->n + s.W - 1) / s.W;
    return s;
}

static inline size_t panels_of(struct side s) {
    return s.parts * s.panels_each;
}

/* Words `from` .. + n of `panels` panels of one operand of the side. */
static inline void pack_panels(const struct gemm_job *j, struct side s, float *to, size_t stride, size_t panel, size_t panels,
                               size_t from, size_t n) {
    (s.b ? pack_b : pack_a)(to, stride, s.o + panel / s.panels_each, panel % s.panels_each, panels, from, n, j->pair);
}

static inline size_t piece_words(const struct gemm_job *j, size_t piece) {
    return min_size(j->chunk, j->words - piece * j->chunk);
}

/* Packing tasks of a piece: a panel each, or a slice of all panels of an operand. */
static inline size_t share_tasks(const struct gemm_job *j, struct side s) {
    return s.o->along ? panels_of(s) : s.parts * ((j->chunk + GEMM_SLICE - 1) / GEMM_SLICE);
}

static inline void gemm_share(void *arg, size_t task, size_t worker) {
    (void)worker;
    const struct gemm_job *j = arg;
    const struct side s = side_of(j, j->share_b);
    size_t tasks = share_tasks(j, s), i = task / tasks, part = task % tasks, panel = part, from = 0, panels = 1,
           n = piece_words(j, j->first + i);
    if (!s.o->along) {
        from = part / s.parts * GEMM_SLICE;
        panel = part % s.parts * s.panels_each;
        panels = s.panels_each;
        if (from >= n) {
            return;
        }
        n = min_size(GEMM_SLICE, n - from);
    }
    float *to = j->shared + (i * panels_of(s) + panel) * j->shared_stride + from * s.W;
    pack_panels(j, s, to, j->shared_stride, panel, panels, (j->first + i) * j->chunk + from, n);
}

/* Panels p0 .. p1 of a task's own side. */
static inline void pack_own(const struct gemm_job *j, float *own, size_t p0, size_t p1, size_t piece) {
    const struct side s = side_of(j, !j->share_b);
    for (size_t p = p0; p < p1;) {
        size_t n = min_size(p1 - p, s.panels_each - p % s.panels_each);
        pack_panels(j, s, own + (p - p0) * j->own_stride, j->own_stride, p, n, piece * j->chunk, piece_words(j, piece));
        p += n;
    }
}

/* Panels i and l of a and b: one tile of c. */
static inline void gemm_one(const struct gemm_job *j, struct micro *t, struct side a, struct side b, size_t i, size_t l) {
    const struct mat *c = j->c;
    if (a.parts > 1) {
        c += i / a.panels_each;
        i %= a.panels_each;
    }
    if (b.parts > 1) {
        c += l / b.panels_each;
        l %= b.panels_each;
    }
    t->rows = min_size(GEMM_ROWS, c->rows - i * GEMM_ROWS);
    t->cols = min_size(GEMM_COLS, c->cols - l * GEMM_COLS);
    t->c = place(*c, i * GEMM_ROWS, l * GEMM_COLS);
    t->ldc = c->ld;
    micro(t, j->pair);
}

/* A block of rows p0 .. p1 (panels), in the cache, by all columns: while the first panels of the block are multiplied, the next
 * panel of the columns is fetched. */
static inline void gemm_rows(const struct gemm_job *j, struct micro *t, const float *shared, const float *own, size_t p0,
                             size_t p1) {
    const struct side a = side_of(j, false), b = side_of(j, true);
    size_t all = panels_of(b);
    for (size_t l = 0; l < all; l++) {
        t->b = shared + l * j->shared_stride;
        for (size_t i = p0; i < p1; i++) {
            t->a = own + (i - p0) * j->own_stride;
            t->ahead = i - p0 < 2 ? t->b + j->shared_stride + (i - p0) * 16 * t->words : t->a;
            gemm_one(j, t, a, b, i, l);
        }
    }
}

static inline void gemm_columns(const struct gemm_job *j, struct micro *t, const float *shared, const float *own, size_t p0,
                                size_t p1) {
    const struct side a = side_of(j, false), b = side_of(j, true);
    size_t all = panels_of(a);
    for (size_t i = 0; i < all; i++) {
        t->a = shared + i * j->shared_stride;
        for (size_t l = p0; l < p1; l++) {
            t->b = own + (l - p0) * j->own_stride;
            t->ahead = l == p0 ? t->a + j->shared_stride : t->b;
            gemm_one(j, t, a, b, i, l);
        }
    }
}

static inline void gemm_block(void *arg, size_t task, size_t worker) {
    const struct gemm_job *j = arg;
    size_t panels = panels_of(side_of(j, !j->share_b)), p0 = panels * task / j->tasks, p1 = panels * (task + 1) / j->tasks;
    size_t shared_each = panels_of(side_of(j, j->share_b)) * j->shared_stride;
    float *own = j->own + worker * j->own_each;
    struct micro t = {.type = j->c->dtype, .alpha = j->alpha};
    for (size_t i = 0; i < j->n; i++) {
        t.words = piece_words(j, j->first + i);
        t.beta = j->first + i == 0 ? j->beta : 1;
        pack_own(j, own, p0, p1, j->first + i);
        (j->share_b ? gemm_rows : gemm_columns)(j, &t, j->shared + i * shared_each, own, p0, p1);
    }
}

/* Blocks that fit, several for each thread so that they end together, yet large: each block reads all of the shared operand
 * again. The number of threads may decide, as no sum depends on it. */
static inline size_t gemm_tasks(const struct gemm_job *j, struct side own, size_t threads) {
    double work = (double)j->c->rows * (double)j->c->cols * (double)j->words * (double)(j->a_parts * j->b_parts);
    size_t panels = panels_of(own), worth = (size_t)(work / GEMM_TASK) + 1, fit = max_size(1, GEMM_OWN / (j->chunk * own.W));
    size_t tasks = max_size((panels + fit - 1) / fit, min_size(4 * threads, panels * own.W / 96));
    return min_size(panels, round_up(max_size(1, min_size(tasks, worth)), threads));
}

static inline void gemm_run(const struct exec *x, struct gemm_job *j) {
    size_t most = is_wide(*j->c) ? GEMM_CHUNK : GEMM_CHUNK_BF16, threads = pool_threads(x->pool);
    const struct side shared = side_of(j, j->share_b), own = side_of(j, !j->share_b);
    size_t pieces = max_size(1, (j->words + most - 1) / most);
    j->chunk = round_up(max_size(1, (j->words + pieces - 1) / pieces), REG);
    pieces = max_size(1, (j->words + j->chunk - 1) / j->chunk);
    j->shared_stride = panel_stride(shared.W, j->chunk);
    j->own_stride = panel_stride(own.W, j->chunk);
    j->tasks = gemm_tasks(j, own, threads);
    j->own_each = (panels_of(own) / j->tasks + 1) * j->own_stride;
    size_t pass = min_size(pieces, max_size(1, GEMM_SHARED / (panels_of(shared) * j->shared_stride))); /* pieces at a time */
    j->shared = arena_take(x->scratch, pass * panels_of(shared) * j->shared_stride, sizeof(float), x->err);
    j->own = arena_take(x->scratch, threads * j->own_each, sizeof(float), x->err);
    for (; j->shared && j->own && j->first < pieces; j->first += pass) {
        j->n = min_size(pass, pieces - j->first);
        pool_run(x->pool, j->n * share_tasks(j, shared), gemm_share, j);
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

/* ---- products side by side ---- */

static inline bool same_shape(struct mat a, struct mat b) {
    return a.rows == b.rows && a.cols == b.cols && a.dtype == b.dtype;
}

static inline bool same_matrix(struct mat a, struct mat b) {
    return same_shape(a, b) && a.data == b.data && a.ld == b.ld;
}

/* What n products have in common, if that is enough to make them in one pass. */
enum common { NOTHING, COMMON_A, COMMON_B };

static inline enum common common_of(const struct product *p, size_t n) {
    bool a = true, b = true;
    for (size_t i = 1; i < n; i++) {
        if (!same_shape(p[i].c, p->c) || !same_shape(p[i].a, p->a) || !same_shape(p[i].b, p->b) || p[i].ta != p->ta ||
            p[i].tb != p->tb || memcmp(&p[i].alpha, &p->alpha, sizeof p->alpha) != 0 ||
            memcmp(&p[i].beta, &p->beta, sizeof p->beta) != 0) {
            return NOTHING;
        }
        a = a && same_matrix(p[i].a, p->a);
        b = b && same_matrix(p[i].b, p->b);
    }
    return n < 2 ? NOTHING : a ? COMMON_A : b ? COMMON_B : NOTHING;
}

static inline bool by_pairs(const struct product *p) {
    return HAS_PAIRS && !(is_wide(p->a) && is_wide(p->b));
}

static inline size_t inner_of(const struct product *p) {
    return p->ta ? p->a.rows : p->a.cols;
}

/* By panels; `common` says of what n products are made. */
static inline void gemm_panels(const struct exec *x, const struct product *p, size_t n, enum common common) {
    size_t k = inner_of(p);
    struct gemm_job j = {.a_parts = common == COMMON_B ? n : 1,
                         .b_parts = common == COMMON_A ? n : 1,
                         .alpha = p->alpha,
                         .beta = p->beta,
                         .pair = by_pairs(p)};
    for (size_t i = 0; i < n; i++) {
        j.c[i] = p[i].c;
        j.a[i] = (struct operand){p[i].a.data, p[i].a.dtype, !p[i].ta, p[i].a.ld, p[i].c.rows, k};
        j.b[i] = (struct operand){p[i].b.data, p[i].b.dtype, p[i].tb, p[i].b.ld, p[i].c.cols, k};
    }
    j.share_b = p->c.cols <= p->c.rows;
    j.words = words_of(k, j.pair);
    gemm_run(x, &j);
}

/* A BF16 c cannot hold what has been summed up so far: an F32 one stands for it. */
static inline void gemm_aside(const struct exec *x, const struct product *p) {
    struct gemm_convert in = {.rows = {.fn = convert_rows}}, out = in;
    struct product wide = *p;
    wide.c = arena_mat(x->scratch, DTYPE_F32, p->c.rows, p->c.cols, x->err);
    in.to = out.from = wide.c;
    in.from = out.to = p->c;
    if (wide.c.data && reads_c(p->beta)) {
        run_rows(x, &in.rows, p->c.rows, p->c.cols);
    }
    if (wide.c.data) {
        gemm_panels(x, &wide, 1, NOTHING);
    }
    if (!exec_status(x)) {
        run_rows(x, &out.rows, p->c.rows, p->c.cols);
    }
}

/* A sum that is made in several pieces needs an F32 c. */
static inline bool needs_aside(const struct product *p) {
    return !is_wide(p->c) && words_of(inner_of(p), by_pairs(p)) > GEMM_CHUNK_BF16;
}

static inline void gemm_own(const struct exec *x, const struct product *p, size_t n) {
    enum common common = common_of(p, n);
    size_t together = common == NOTHING || needs_aside(p) ? 1 : n;
    for (size_t i = 0; i < n; i += together) {
        struct arena_mark mark = arena_mark(x->scratch);
        bool empty = p[i].c.rows == 0 || p[i].c.cols == 0;
        if (!empty && needs_aside(p + i)) {
            gemm_aside(x, p + i);
        } else if (!empty) {
            gemm_panels(x, p + i, together, together > 1 ? common : NOTHING);
        }
        arena_release(x->scratch, mark);
    }
}

#endif
