/* Part of cpu.c: choosing tokens from rows of logits.
 *
 * The k largest are kept sorted while the row is read once: after the first few hundred elements almost none of the others gets
 * past the smallest of them. A draw from the k largest pops a heap of ids: building it is linear, and only what is kept is sorted.
 * The nucleus of a flat distribution (top-p, Holtzman et al. 2020) may be nearly everything, but a draw needs the order of two places
 * alone: where the nucleus ends, and where the drawn mass lies. So masses are gathered by value first, and only the buckets of
 * these two places are sorted. */
#ifndef KERNELS_CPU_SELECT_H
#define KERNELS_CPU_SELECT_H

#include "kernels/cpu_types.h"

struct select_job {
    struct rows rows;
    struct mat logits;
    int32_t *ids;
    float *values;
    size_t k;
    const double *u;
    struct sampling how;
    int32_t *heaps; /* [rows, cols] */
};

static void row_top_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct select_job *j = (const struct select_job *)(const void *)rows;
    for (size_t r = first; r < last; r++) {
        const float *v = row_of(j->logits, r);
        float *top = j->values + r * j->k;
        int32_t *id = j->ids + r * j->k;
        for (size_t i = 0; i < j->k; i++) {
            top[i] = -INFINITY;
            id[i] = -1;
        }
        for (size_t c = 0; c < j->logits.cols; c++) {
            if (!(v[c] > top[j->k - 1])) {
                continue;
            }
            size_t at = j->k - 1;
            for (; at > 0 && v[c] > top[at - 1]; at--) {
                top[at] = top[at - 1];
                id[at] = id[at - 1];
            }
            top[at] = v[c];
            id[at] = (int32_t)c;
        }
    }
}

static void row_top_cpu(const struct exec *x, int32_t *ids, float *values, struct mat logits, size_t k) {
    struct select_job j = {.rows = {.fn = row_top_rows}, .logits = logits, .ids = ids, .values = values, .k = k};
    run_rows(x, &j.rows, logits.rows, logits.cols);
}

/* ---- drawing ---- */

static inline float sample_weight(float v, float max, float by) {
    return exp_fast((v - max) * by);
}

static int32_t draw_from_all(const float *v, size_t n, float max, float by, double u) {
    double total = 0, sum = 0;
    for (size_t c = 0; c < n; c++) {
        total += (double)sample_weight(v[c], max, by);
    }
    size_t last = 0;
    for (size_t c = 0; c < n; c++) {
        float w = sample_weight(v[c], max, by);
        if (w > 0) {
            last = c; /* what rounding leaves at the end goes to the last that can be drawn */
            sum += (double)w;
            if (sum > u * total) {
                break;
            }
        }
    }
    return (int32_t)last;
}

/* Larger first, the first of equals first. */
static inline bool comes_before(const float *v, int32_t a, int32_t b) {
    return v[a] > v[b] || (v[a] >= v[b] && a < b);
}

static void sift_down(int32_t *heap, size_t n, size_t at, const float *v) {
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) {
            return;
        }
        if (child + 1 < n && comes_before(v, heap[child + 1], heap[child])) {
            child++;
        }
        if (!comes_before(v, heap[child], heap[at])) {
            return;
        }
        int32_t id = heap[at];
        heap[at] = heap[child];
        heap[child] = id;
        at = child;
    }
}

/* Popped ids are left behind the shrinking heap: the first at its end. */
static int32_t draw_from_head(const float *v, size_t n, float max, float by, double u, struct sampling how, int32_t *heap) {
    size_t k = how.top_k, kept = 0;
    double mass = 0, sum = 0;
    for (size_t c = 0; c < n; c++) {
        heap[c] = (int32_t)c;
    }
    for (size_t i = n / 2; i-- > 0;) {
        sift_down(heap, n, i, v);
    }
    while (kept < k) {
        int32_t id = heap[0];
        heap[0] = heap[n - ++kept];
        heap[n - kept] = id;
        sift_down(heap, n - kept, 0, v);
        mass += (double)sample_weight(v[id], max, by);
    }
    if (how.top_p < 1) { /* the nucleus of the k */
        double part = 0;
        for (size_t i = 1; i <= kept; i++) {
            part += (double)sample_weight(v[heap[n - i]], max, by);
            if (part >= (double)how.top_p * mass) {
                kept = i;
                mass = part;
            }
        }
    }
    for (size_t i = 1; i < kept; i++) {
        sum += (double)sample_weight(v[heap[n - i]], max, by);
        if (sum > u * mass) {
            return heap[n - i];
        }
    }
    return heap[n - kept];
}

/* ---- the nucleus of all ---- */

enum { BUCKETS = 1024 };

struct nucleus {
    const float *v;
    size_t n;
    float max, by, scale; /* bucket of v: (max - v) * scale */
    double mass[BUCKETS];
    int32_t *ids; /* [n] of the bucket that is sorted */
    size_t n_ids;
};

static size_t bucket_of(const struct nucleus *u, float v) {
    float b = (u->max - v) * u->scale;
    return b < BUCKETS - 1 ? (size_t)b : BUCKETS - 1;
}

/* Masses by bucket; their sum. Tokens too far below the largest to have a weight count for nothing. */
static double gather(struct nucleus *u) {
    float least = u->max, weight[CHUNK];
    for (size_t c = 0; c < u->n; c++) {
        least = u->v[c] < least ? u->v[c] : least;
    }
    float range = least < u->max ? u->max - least : 1, most = 100 / u->by;
    u->scale = (float)(BUCKETS - 1) / (range < most ? range : most);
    memset(u->mass, 0, sizeof u->mass);
    for (size_t c = 0; c < u->n; c += CHUNK) {
        size_t n = min_size(CHUNK, u->n - c);
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            weight[i] = sample_weight(u->v[c + i], u->max, u->by);
        }
        for (size_t i = 0; i < n; i++) {
            if (weight[i] > 0) {
                u->mass[bucket_of(u, u->v[c + i])] += (double)weight[i];
            }
        }
    }
    double total = 0;
    for (size_t b = 0; b < BUCKETS; b++) {
        total += u->mass[b];
    }
    return total;
}

/* The tokens of a bucket, in order, at the end of `ids`: the first is ids[n_ids - 1]. */
static void sort_bucket(struct nucleus *u, size_t bucket) {
    u->n_ids = 0;
    for (size_t c = 0; c < u->n; c++) {
        if (u->v[c] <= u->max && bucket_of(u, u->v[c]) == bucket && sample_weight(u->v[c], u->max, u->by) > 0) {
            u->ids[u->n_ids++] = (int32_t)c;
        }
    }
    for (size_t i = u->n_ids / 2; i-- > 0;) {
        sift_down(u->ids, u->n_ids, i, u->v);
    }
    for (size_t n = u->n_ids; n > 1;) {
        int32_t id = u->ids[0];
        u->ids[0] = u->ids[--n];
        u->ids[n] = id;
        sift_down(u->ids, n, 0, u->v);
    }
}

/* How many tokens of the sorted bucket, in front of which lies `sum`, until the sum reaches `goal` (is above it); the sum there. */
static size_t walk(const struct nucleus *u, double *sum, double goal, bool above) {
    size_t kept = 0;
    while (kept < u->n_ids) {
        *sum += (double)sample_weight(u->v[u->ids[u->n_ids - ++kept]], u->max, u->by);
        if (above ? *sum > goal : *sum >= goal) {
            break;
        }
    }
    return kept;
}

/* The first bucket from which on the sum of masses is at `goal`, at most `last`; *sum: what lies in front of it. */
static size_t find_bucket(const struct nucleus *u, double *sum, double goal, bool above, size_t last) {
    size_t b = 0;
    *sum = 0;
    for (; b < last; b++) {
        double next = *sum + u->mass[b];
        if (above ? next > goal : next >= goal) {
            break;
        }
        *sum = next;
    }
    return b;
}

static int32_t draw_from_nucleus(const float *v, size_t n, float max, float by, double draw, float top_p, int32_t *ids) {
    struct nucleus u = {.v = v, .n = n, .max = max, .by = by, .ids = ids};
    double total = gather(&u), mass = 0, sum = 0;
    size_t last = BUCKETS - 1;
    while (last > 0 && !(u.mass[last] > 0)) { /* what rounding leaves at the end goes to the last that has any */
        last--;
    }
    size_t end = find_bucket(&u, &mass, (double)top_p * total, false, last);
    sort_bucket(&u, end);
    size_t kept = walk(&u, &mass, (double)top_p * total, false);
    size_t at = find_bucket(&u, &sum, draw * mass, true, end);
    if (at != end) {
        sort_bucket(&u, at);
        kept = u.n_ids;
    }
    size_t place = walk(&u, &sum, draw * mass, true);
    return u.ids[u.n_ids - (place < kept ? place : kept)];
}

static void row_sample_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct select_job *j = (const struct select_job *)(const void *)rows;
    size_t n = j->logits.cols;
    for (size_t r = first; r < last; r++) {
        const float *v = row_of(j->logits, r);
        float max = max_of(v, n), by = 1 / j->how.temperature;
        if (!isfinite(max)) {
            j->ids[r] = 0;
        } else if (j->heaps && (!j->how.top_k || j->how.top_k >= n)) {
            j->ids[r] = draw_from_nucleus(v, n, max, by, j->u[r], j->how.top_p, j->heaps + r * n);
        } else if (j->heaps) {
            j->ids[r] = draw_from_head(v, n, max, by, j->u[r], j->how, j->heaps + r * n);
        } else {
            j->ids[r] = draw_from_all(v, n, max, by, j->u[r]);
        }
    }
}

static void row_sample_cpu(const struct exec *x, int32_t *ids, struct mat logits, const double *u, struct sampling how) {
    struct select_job j = {.rows = {.fn = row_sample_rows}, .logits = logits, .ids = ids, .u = u, .how = how};
    struct arena_mark mark = arena_mark(x->scratch);
    if (how.top_k || how.top_p < 1) {
        size_t n = 0;
        if (!size_mul(logits.rows, logits.cols, &n)) {
            err_set(x->err, ERR_NOMEM, "row_sample: a heap of %zu x %zu", logits.rows, logits.cols);
            return;
        }
        j.heaps = arena_take(x->scratch, n, sizeof *j.heaps, x->err);
        if (!j.heaps) {
            return;
        }
    }
    run_rows(x, &j.rows, logits.rows, 8 * logits.cols);
    arena_release(x->scratch, mark);
}

#endif
