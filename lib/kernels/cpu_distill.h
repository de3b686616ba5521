/* Part of cpu.c: divergences between a row of logits and what a teacher told about a few of its tokens.
 *
 * All of them are functions of a handful of classes: the tokens of the teacher's row and, for some, one class for everything
 * else. So a row is read for its normalisers, the divergence and its derivative by log-probability are computed on the classes
 * in double precision, and the row is written once:
 *   gradient_v = A softmax_v(logits) + B softmax_v(second) + C        plus a correction for each class
 * where `second` is the row at a temperature or the row without the classes. Probabilities are kept as logarithms from the row's
 * maximum: nothing overflows, and the mass outside is a sum of its own, exact where it is 1e-30. */
#ifndef KERNELS_CPU_DISTILL_H
#define KERNELS_CPU_DISTILL_H

#include "kernels/cpu_loss.h"

/* softmax(s * logits): log q_v = s * (v - max) - log_sum. A pair, because max + log_sum would round to 1e-3 at 1e4. */
struct normaliser {
    float s, max;
    double log_sum;
};

static struct normaliser normaliser_of(const float *v, size_t n, float s) {
    struct normaliser z = {s, max_of(v, n), 0};
    if (isinf(z.max) && z.max < 0) { /* nothing to sum, or NaN alone */
        z.log_sum = n > 0 && isnan(v[0]) ? NAN : 0;
        return z;
    }
    double total = 0;
    for (size_t first = 0; first < n; first += 4096) {
        size_t m = min_size(4096, n - first);
        const float *piece = v + first;
        float sum = 0, max = z.max;
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < m; i++) {
            sum += exp_fast((piece[i] - max) * s);
        }
        total += (double)sum;
    }
    z.log_sum = log(total);
    return z;
}

static double log_share(struct normaliser z, float v) {
    return (double)z.s * ((double)v - (double)z.max) - z.log_sum;
}

/* Classes of one row, in memory of the worker: n of single tokens; class n is everything else, if there is `outside`. */
struct classes {
    size_t n;
    bool outside;
    int32_t *top; /* ids found here (SORTED) */
    const int32_t *ids;
    float *saved;
    double *p, *log_s, *c; /* teacher, student; c becomes the gradient by logit */
};

struct distill_job {
    struct rows rows;
    struct mat logits;
    const struct distill_rows *t;
    float *nll, *smooth, *soft;
    size_t room; /* classes of the longest row */
    int32_t *ids;
    float *saved;
    double *numbers;
    int grad;
};

/* ids of the k largest of v, in falling order, the first of equals first. Pieces without a candidate are passed over. */
static void top_of(int32_t *ids, size_t k, const float *v, size_t n) {
    size_t have = 0;
    for (size_t piece = 0; k > 0 && piece < n; piece += 1024) {
        size_t end = piece + min_size(1024, n - piece);
        if (have == k && !(max_of(v + piece, end - piece) > v[ids[k - 1]])) {
            continue;
        }
        for (size_t i = piece; i < end; i++) {
            if (have == k && !(v[i] > v[ids[k - 1]])) {
                continue;
            }
            size_t at = have < k ? have++ : k - 1;
            for (; at > 0 && v[i] > v[ids[at - 1]]; at--) {
                ids[at] = ids[at - 1];
            }
            ids[at] = (int32_t)i;
        }
    }
}

/* ---- the teacher ---- */

static double sharpen(double p, double temperature) {
    return p > 0 ? exp(log(p) / temperature) : 0;
}

/* p of every class from the row's probabilities (NULL: one entry with 1) and its tail. */
static void teacher_classes(struct classes *k, const float *probs, const float *tail, const struct distill *how) {
    double sum = 0, rest = 0;
    for (size_t i = 0; i < k->n; i++) {
        k->p[i] = probs ? (double)probs[i] : 1;
        sum += k->p[i];
    }
    rest = tail ? (double)*tail : 1 - sum;
    rest = rest < 1e-6 ? 0 : rest;
    if (how->temperature > 1 || how->temperature < 1) {
        sum = 0;
        rest = sharpen(rest, (double)how->temperature);
        for (size_t i = 0; i < k->n; i++) {
            k->p[i] = sharpen(k->p[i], (double)how->temperature);
            sum += k->p[i];
        }
    } else if (how->tail == DISTILL_DROP) {
        return;
    }
    double all = sum + (how->tail == DISTILL_DROP || k->outside ? rest : 0);
    for (size_t i = 0; i < k->n && all > 0; i++) {
        k->p[i] /= all;
    }
    k->p[k->n] = all > 0 ? rest / all : 0;
}

/* ---- divergences: sum over the classes, and c_j = derivative by log s_j ---- */

static double forward_kl(const struct classes *k, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += k->p[i] > 0 ? k->p[i] * (log(k->p[i]) - k->log_s[i]) : 0; /* 0 log 0 = 0 */
        k->c[i] = -k->p[i];
    }
    return sum;
}

static double reverse_kl(const struct classes *k, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double s = exp(k->log_s[i]), p = fmax(k->p[i], 1e-6), c = s > 0 ? s * (k->log_s[i] - log(p)) : 0;
        sum += c - s + k->p[i];
        k->c[i] = c;
    }
    return sum;
}

static double jensen_shannon(const struct classes *k, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double s = exp(k->log_s[i]), p = k->p[i], m = (p + s) / 2;
        double c = s > 0 ? s * (p > 0 ? k->log_s[i] - log(m) : log(2)) / 2 : 0;
        sum += c + (p > 0 ? p * (log(p) - log(m)) / 2 : 0);
        k->c[i] = c;
    }
    return sum;
}

static double sorted_distance(const struct classes *k, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double s = exp(k->log_s[i]), d = s - k->p[i];
        sum += fabs(d);
        k->c[i] = d > 0 ? s : d < 0 ? -s : 0;
    }
    return sum;
}

static double unlikelihood(const struct classes *k, size_t n) {
    for (size_t i = 0; i < n; i++) {
        k->c[i] = i < k->n ? 0 : -1;
    }
    return k->outside ? -k->log_s[k->n] : INFINITY;
}

static double divergence(const struct classes *k, int kind) {
    size_t n = k->n + k->outside;
    switch (kind) {
    case DISTILL_FORWARD:
        return forward_kl(k, n);
    case DISTILL_REVERSE:
        return reverse_kl(k, n);
    case DISTILL_JS:
        return jensen_shannon(k, n);
    case DISTILL_SORTED:
        return sorted_distance(k, n);
    default:
        return unlikelihood(k, n);
    }
}

/* ---- the student ---- */

/* The row without its classes. With `keep` the classes stay out (-infinity; `saved` has them), else they are put back. */
static struct normaliser outside_of(float *v, size_t n, const struct classes *k, bool keep) {
    for (size_t i = 0; i < k->n; i++) {
        v[k->ids[i]] = -INFINITY;
    }
    struct normaliser z = normaliser_of(v, n, 1);
    for (size_t i = 0; i < k->n && !keep; i++) {
        v[k->ids[i]] = k->saved[i];
    }
    return z;
}

/* log s of classes that sum to 1: softmax of u_j / T, with u the logits of the tokens and, outside, their log-sum-exp there.
 * Then du_j = c_j - s_j sum c: the derivative of a log-softmax. */
static void closed_classes(struct classes *k, struct normaliser full, struct normaliser out, double temperature) {
    size_t n = k->n + k->outside;
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) { /* both from the maximum of the whole row */
        double u = i < k->n ? (double)k->saved[i] - (double)full.max : ((double)out.max - (double)full.max) + out.log_sum;
        k->log_s[i] = u / temperature;
        max = fmax(max, k->log_s[i]);
    }
    for (size_t i = 0; i < n; i++) {
        sum += exp(k->log_s[i] - max);
    }
    for (size_t i = 0; i < n; i++) {
        k->log_s[i] -= max + log(sum);
    }
}

static double sum_of(const double *v, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += v[i];
    }
    return sum;
}

/* What the row's second term is: B softmax_v(second), and whether the classes were taken out of the row for it. */
struct spread {
    struct normaliser second;
    double b;
    bool out;
};

/* The divergence of one row. Classes and `spread` are left ready for the gradient; unless `grad` the row is as before. */
static double soft_classes(struct classes *k, struct spread *spread, float *v, size_t V, struct normaliser full,
                           const struct distill *how, const float *probs, const float *tail, int grad) {
    bool tempered = how->kind != DISTILL_SORTED && how->kind != DISTILL_UNLIKELY;
    struct distill h = {how->kind, how->tail, tempered ? how->temperature : 1, 0};
    bool open =
        h.tail == DISTILL_DROP || (h.tail == DISTILL_RENORMALISE && (h.kind == DISTILL_FORWARD || h.kind == DISTILL_SORTED));
    k->outside = h.tail == DISTILL_BUCKET || h.kind == DISTILL_UNLIKELY;
    for (size_t i = 0; i < k->n; i++) {
        k->saved[i] = v[k->ids[i]];
    }
    struct normaliser second = full;
    if (k->outside) {
        open = false;
        second = outside_of(v, V, k, grad);
        spread->out = grad;
        k->outside = !isinf(second.max); /* the row may name the whole vocabulary */
    } else if (open && (h.temperature > 1 || h.temperature < 1)) {
        second = normaliser_of(v, V, 1 / h.temperature);
    }
    teacher_classes(k, probs, tail, &h);
    if (open) {
        for (size_t i = 0; i < k->n; i++) {
            k->log_s[i] = log_share(second, k->saved[i]);
        }
    } else {
        closed_classes(k, full, second, (double)h.temperature);
    }
    double loss = divergence(k, h.kind), T = (double)h.temperature, sum = sum_of(k->c, k->n + k->outside);
    spread->second = second;
    spread->b = open ? -T * sum : 0; /* T^2 of the loss, 1 / T of the logits */
    for (size_t i = 0; i < k->n; i++) {
        k->c[i] = T * (k->c[i] - (open ? 0 : exp(k->log_s[i]) * sum));
    }
    if (k->outside) {
        spread->b = T * (k->c[k->n] - exp(k->log_s[k->n]) * sum);
    }
    return T * T * loss;
}

/* v = a softmax(full) + b softmax(second) + c */
static void write_row(float *v, size_t n, double a, struct normaliser full, double b, struct normaliser second, float c) {
    float a1 = (float)a, m1 = full.max, l1 = (float)full.log_sum;
    float b2 = (float)b, m2 = second.max, l2 = (float)second.log_sum, s2 = second.s;
    if (b2 > 0 || b2 < 0) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            v[i] = a1 * exp_fast(v[i] - m1 - l1) + b2 * exp_fast((v[i] - m2) * s2 - l2) + c;
        }
    } else if (a1 > 0 || a1 < 0) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            v[i] = a1 * exp_fast(v[i] - m1 - l1) + c;
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            v[i] = c;
        }
    }
}

static bool same_normaliser(struct normaliser a, struct normaliser b) {
    return !(a.s < b.s || a.s > b.s || a.max < b.max || a.max > b.max) && !(a.log_sum < b.log_sum || a.log_sum > b.log_sum);
}

static void distill_row(const struct distill_job *j, size_t r, struct classes *k) {
    const struct distill_rows *t = j->t;
    const struct distill *how = &t->how[t->which[r]];
    size_t V = j->logits.cols, at = t->targets.offsets ? t->targets.offsets[r] - t->targets.offsets[0] : r;
    float *v = row_of(j->logits, r), smooth = how->smoothing;
    struct normaliser full = normaliser_of(v, V, 1);
    double nll = -log_share(full, v[t->labels[r]]), uniform = 0, soft = 0;
    if (smooth > 0) { /* mean of -log q_v */
        double total = 0;
        for (size_t i = 0; i < V; i++) {
            total += (double)v[i] - (double)full.max;
        }
        uniform = full.log_sum - total / (double)V;
    }
    const float *probs = t->targets.offsets ? t->targets.probs + at : NULL;
    k->n = t->targets.offsets ? t->targets.offsets[r + 1] - t->targets.offsets[r] : 1;
    k->ids = t->targets.offsets ? t->targets.ids + at : t->labels + r;
    if (how->kind == DISTILL_UNLIKELY) {
        probs = NULL, k->n = 1, k->ids = t->labels + r;
    } else if (how->kind == DISTILL_SORTED) {
        probs = t->top + r * t->top_k;
        for (k->n = 0; k->n < t->top_k && k->n < V && probs[k->n] > 0;) {
            k->n++;
        }
        top_of(k->top, k->n, v, V);
        k->ids = k->top;
    }
    struct spread spread = {.second = full};
    bool bent = how->kind != DISTILL_NONE && k->n > 0; /* a row that tells nothing asks nothing */
    if (bent) {
        const float *tail = how->kind != DISTILL_SORTED && t->tails ? t->tails + r : NULL;
        soft = soft_classes(k, &spread, v, V, full, how, probs, tail, j->grad);
    }
    j->nll[r] = (float)nll;
    j->smooth[r] = (float)((1 - (double)smooth) * nll + (double)smooth * uniform);
    j->soft[r] = (float)soft;
    if (!j->grad) {
        return;
    }
    double hard = (double)t->hard[r] + (double)t->smooth[r], w = bent ? (double)t->soft[r] : 0, b = w * spread.b;
    double q_scale = hard;
    if (same_normaliser(full, spread.second)) { /* one exponential instead of two */
        hard += b;
        b = 0;
    }
    float c = (float)(-(double)t->smooth[r] * (double)smooth / (double)V);
    write_row(v, V, hard, full, b, spread.second, c);
    for (size_t i = 0; bent && i < k->n; i++) {
        v[k->ids[i]] += (float)(w * k->c[i] + (spread.out ? q_scale * exp(log_share(full, k->saved[i])) : 0));
    }
    v[t->labels[r]] -= (float)((double)t->hard[r] + (double)t->smooth[r] * (1 - (double)smooth));
}

static void distill_rows_task(const struct rows *rows, size_t first, size_t last, size_t worker) {
    const struct distill_job *j = (const struct distill_job *)(const void *)rows;
    size_t room = j->room;
    double *numbers = j->numbers + worker * room * 3;
    struct classes k = {.top = j->ids + worker * room,
                        .saved = j->saved + worker * room,
                        .p = numbers,
                        .log_s = numbers + room,
                        .c = numbers + 2 * room};
    for (size_t r = first; r < last; r++) {
        distill_row(j, r, &k);
    }
}

static void distill_cpu(const struct exec *x, float *nll, float *smooth, float *soft, struct mat logits,
                        const struct distill_rows *t, int grad) {
    struct arena_mark mark = arena_mark(x->scratch);
    struct distill_job j = {
        .rows = {.fn = distill_rows_task}, .logits = logits, .t = t, .nll = nll, .smooth = smooth, .soft = soft, .grad = grad};
    size_t most = max_size(1, t->top ? t->top_k : 0), all = 0;
    for (size_t r = 0; t->targets.offsets && r < logits.rows; r++) {
        most = max_size(most, t->targets.offsets[r + 1] - t->targets.offsets[r]);
    }
    j.room = most + 1;
    if (!size_mul(pool_threads(x->pool), j.room, &all) || !size_mul(all, 3, &all)) {
        err_set(x->err, ERR_NOMEM, "distill: rows of %zu entries", most);
        return;
    }
    j.ids = arena_take(x->scratch, all / 3, sizeof *j.ids, x->err);
    j.saved = arena_take(x->scratch, all / 3, sizeof *j.saved, x->err);
    j.numbers = arena_take(x->scratch, all, sizeof *j.numbers, x->err);
    if (j.ids && j.saved && j.numbers) {
        run_rows(x, &j.rows, logits.rows, logits.cols);
    }
    arena_release(x->scratch, mark);
}

#endif
