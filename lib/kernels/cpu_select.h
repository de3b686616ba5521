/* Part of cpu.c: choosing tokens from rows of logits.
 *
 * The k largest are kept sorted while the row is read once: after the first few hundred elements almost none of the others gets
 * past the smallest of them. A draw from the head of the distribution pops a heap of ids, so that only what is kept is sorted:
 * building the heap is linear, and top-k or top-p (Holtzman et al. 2020) mostly keep a few tokens of many thousands. */
#ifndef KERNELS_CPU_SELECT_H
#define KERNELS_CPU_SELECT_H

#include "kernels/cpu_vector.h"

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
    size_t k = how.top_k && how.top_k < n ? how.top_k : n, kept = 0;
    double total = 0, mass = 0, sum = 0;
    for (size_t c = 0; c < n; c++) {
        heap[c] = (int32_t)c;
        total += (double)sample_weight(v[c], max, by);
    }
    for (size_t i = n / 2; i-- > 0;) {
        sift_down(heap, n, i, v);
    }
    while (kept < k && (k < n || kept == 0 || mass < (double)how.top_p * total)) {
        int32_t id = heap[0];
        heap[0] = heap[n - ++kept];
        heap[n - kept] = id;
        sift_down(heap, n - kept, 0, v);
        mass += (double)sample_weight(v[id], max, by);
    }
    if (k < n && how.top_p < 1) { /* the nucleus of the k */
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

static void row_sample_rows(const struct rows *rows, size_t first, size_t last, size_t worker) {
    (void)worker;
    const struct select_job *j = (const struct select_job *)(const void *)rows;
    size_t n = j->logits.cols;
    for (size_t r = first; r < last; r++) {
        const float *v = row_of(j->logits, r);
        float max = max_of(v, n), by = 1 / j->how.temperature;
        if (!isfinite(max)) {
            j->ids[r] = 0;
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
