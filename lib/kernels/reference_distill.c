/* The naive form of `distill`: every class is a set of tokens, every probability a quotient of two sums over the row, and the
 * gradient the product of the divergence's derivative with the full matrix of d log s_j / d logit_v. */
#include "kernels/table.h"

#include <math.h>

/* The class of a token: its place in the row's ids, n if it is in none. */
static size_t class_of(const int32_t *ids, size_t n, size_t v) {
    for (size_t i = 0; i < n; i++) {
        if ((size_t)ids[i] == v) {
            return i;
        }
    }
    return n;
}

static double largest(const float *z, size_t V) {
    double max = -INFINITY;
    for (size_t i = 0; i < V; i++) {
        max = fmax(max, (double)z[i]);
    }
    return max;
}

enum side { OPEN, CLOSED, WITH_REST }; /* what s is divided by: all tokens, the row's, the row's and the rest */

struct problem {
    const float *z;
    double max; /* of z */
    size_t V, n;
    const int32_t *ids;
    double T;
    enum side side;
};

static double mass(const struct problem *p, size_t v, double T) {
    return exp(((double)p->z[v] - p->max) / T);
}

/* s_j of class j: the class's mass to the power of 1/T over the sum of such (OPEN: over all tokens one by one) */
static double share(const struct problem *p, size_t j) {
    double top = 0, all = 0;
    if (p->side == OPEN) {
        for (size_t v = 0; v < p->V; v++) {
            all += mass(p, v, p->T);
        }
        return mass(p, (size_t)p->ids[j], p->T) / all;
    }
    for (size_t c = 0; c < p->n + (p->side == WITH_REST); c++) {
        double sum = 0;
        for (size_t v = 0; v < p->V; v++) {
            sum += class_of(p->ids, p->n, v) == c ? mass(p, v, 1) : 0;
        }
        all += pow(sum, 1 / p->T);
        top = c == j ? pow(sum, 1 / p->T) : top;
    }
    return top / all;
}

/* Member v's part of class j's mass. */
static double part(const struct problem *p, size_t j, size_t v) {
    double sum = 0;
    for (size_t u = 0; u < p->V; u++) {
        sum += class_of(p->ids, p->n, u) == j ? mass(p, u, 1) : 0;
    }
    return class_of(p->ids, p->n, v) == j ? mass(p, v, 1) / sum : 0;
}

/* d log s_j / d z_v */
static double slope(const struct problem *p, size_t j, size_t v, const double *s) {
    size_t c = class_of(p->ids, p->n, v);
    if (p->side == OPEN) {
        struct problem one = *p;
        int32_t id = (int32_t)v;
        one.ids = &id;
        one.n = 1;
        return ((c == j) - share(&one, 0)) / p->T;
    }
    if (c == p->n && p->side == CLOSED) {
        return 0;
    }
    return (part(p, j, v) - s[c] * part(p, c, v)) / p->T;
}

static double point(int kind, double p, double s, double *ds) {
    double m = (p + s) / 2, floored = p < 1e-6 ? 1e-6 : p;
    switch (kind) {
    case DISTILL_FORWARD:
        *ds = -p / s;
        return p > 0 ? p * log(p / s) : 0;
    case DISTILL_REVERSE:
        *ds = s > 0 ? log(s / floored) : 0;
        return (s > 0 ? s * log(s / floored) : 0) - s + p;
    case DISTILL_JS:
        *ds = s > 0 ? log(s / m) / 2 : 0;
        return ((p > 0 ? p * log(p / m) : 0) + (s > 0 ? s * log(s / m) : 0)) / 2;
    default:
        *ds = s > p ? 1 : s < p ? -1 : 0;
        return fabs(s - p);
    }
}

static void tops(int32_t *ids, size_t k, const float *z, size_t V) {
    for (size_t i = 0; i < k; i++) {
        ids[i] = -1;
        for (size_t v = 0; v < V; v++) {
            if (class_of(ids, i, v) == i && (ids[i] < 0 || z[v] > z[ids[i]])) {
                ids[i] = (int32_t)v;
            }
        }
    }
}

/* Teacher's p of every class, the rest last. */
static void teacher(double *p, const float *probs, size_t n, double rest, const struct distill *how, double T, bool rest_counts) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        p[i] = pow(probs ? (double)probs[i] : 1, 1 / T);
        sum += p[i];
    }
    p[n] = pow(rest, 1 / T);
    bool plain = how->tail == DISTILL_DROP && fabs(T - 1) < 1e-12;
    double all = plain ? 1 : sum + (rest_counts ? p[n] : 0);
    for (size_t i = 0; i <= n && all > 0; i++) {
        p[i] /= all;
    }
}

/* One row; d [V] += weight * gradient. */
static double soft_row(const struct distill_rows *t, size_t r, const float *z, size_t V, double *d, double *room, int32_t *ids) {
    const struct distill *how = &t->how[t->which[r]];
    size_t first = t->targets.offsets ? t->targets.offsets[r] - t->targets.offsets[0] : r, n = 1;
    const float *probs = NULL;
    struct problem p = {.z = z, .max = largest(z, V), .V = V, .ids = t->labels + r, .T = (double)how->temperature};
    if (how->kind == DISTILL_SORTED) {
        probs = t->top + r * t->top_k;
        for (n = 0; n < t->top_k && n < V && probs[n] > 0; n++) {
        }
        tops(ids, n, z, V);
        p.ids = ids;
    } else if (how->kind != DISTILL_UNLIKELY && t->targets.offsets) {
        n = t->targets.offsets[r + 1] - t->targets.offsets[r];
        probs = t->targets.probs + first;
        p.ids = t->targets.ids + first;
    }
    if (how->kind == DISTILL_NONE || n == 0) {
        return 0;
    }
    bool plain = how->kind == DISTILL_SORTED || how->kind == DISTILL_UNLIKELY;
    bool row_alone = how->tail == DISTILL_RENORMALISE && (how->kind == DISTILL_REVERSE || how->kind == DISTILL_JS);
    bool rest_counts = how->tail == DISTILL_BUCKET || how->kind == DISTILL_UNLIKELY;
    p.n = n;
    p.T = plain ? 1 : p.T;
    p.side = rest_counts ? (n < V ? WITH_REST : CLOSED) : row_alone ? CLOSED : OPEN;
    double *s = room, *q = room + n + 1, sum = 0, rest = 1;
    for (size_t i = 0; i < n; i++) {
        rest -= probs ? (double)probs[i] : 1;
    }
    rest = t->tails && how->kind != DISTILL_SORTED ? (double)t->tails[r] : rest;
    rest = rest < 1e-6 ? 0 : rest;
    teacher(q, probs, n, rest, how, p.T, how->tail == DISTILL_DROP || p.side == WITH_REST);
    size_t classes = n + (p.side == WITH_REST);
    for (size_t j = 0; j < classes; j++) {
        s[j] = share(&p, j);
    }
    for (size_t j = 0; j < classes; j++) {
        double ds = 0, loss = 0;
        if (how->kind == DISTILL_UNLIKELY) {
            loss = j == n ? -log(s[j]) : 0;
            ds = j == n ? -1 / s[j] : 0;
        } else {
            loss = point(how->kind, q[j], s[j], &ds);
        }
        sum += p.T * p.T * loss;
        for (size_t v = 0; d && v < V; v++) {
            d[v] += (double)t->soft[r] * p.T * p.T * ds * s[j] * slope(&p, j, v, s);
        }
    }
    return how->kind == DISTILL_UNLIKELY && p.side == CLOSED ? INFINITY : sum;
}

void distill_reference(const struct exec *x, float *nll, float *smooth, float *soft, struct mat logits,
                       const struct distill_rows *t, int grad) {
    size_t V = logits.cols, most = V > t->top_k ? V : t->top_k;
    struct arena_mark mark = arena_mark(x->scratch);
    for (size_t r = 0; t->targets.offsets && r < logits.rows; r++) {
        size_t n = t->targets.offsets[r + 1] - t->targets.offsets[r];
        most = n > most ? n : most;
    }
    double *d = arena_take(x->scratch, V, sizeof *d, x->err), *room = arena_take(x->scratch, 2 * most + 2, sizeof *room, x->err);
    int32_t *ids = arena_take(x->scratch, most, sizeof *ids, x->err);
    for (size_t r = 0; d && room && ids && r < logits.rows; r++) {
        float *z = row_of(logits, r);
        size_t label = (size_t)t->labels[r];
        const struct problem p = {.z = z, .max = largest(z, V)};
        double e = (double)t->how[t->which[r]].smoothing, all = 0, mean = 0;
        for (size_t v = 0; v < V; v++) {
            all += mass(&p, v, 1);
            d[v] = 0;
        }
        for (size_t v = 0; v < V; v++) {
            double q = mass(&p, v, 1) / all, hit = v == label;
            mean -= log(q) / (double)V;
            d[v] += (double)t->hard[r] * (q - hit) + (double)t->smooth[r] * (q - (1 - e) * hit - e / (double)V);
        }
        soft[r] = (float)soft_row(t, r, z, V, grad ? d : NULL, room, ids);
        nll[r] = (float)-log(mass(&p, label, 1) / all);
        smooth[r] = (float)((1 - e) * -log(mass(&p, label, 1) / all) + (e > 0 ? e * mean : 0));
        for (size_t v = 0; grad && v < V; v++) {
            z[v] = (float)d[v];
        }
    }
    arena_release(x->scratch, mark);
}
