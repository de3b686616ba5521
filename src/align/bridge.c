/* A reply aligned to a text that is not quite its own: cut, cleaned, or written anew in places. An edit alignment over bytes
 * says which byte of the reply stands for which byte of the text; the steps of the teacher are then laid out over the text,
 * and everything goes on as if the teacher had written it. What it told about a token stays where the token stayed:
 *
 *     the same bytes              the step as it was
 *     bytes gone from it          the step as it was: the mass of what was cleaned to this text
 *     one of its alternatives     the step with the probability of that alternative; the token becomes an alternative itself
 *     other bytes, new bytes      a step that tells nothing
 *     gone                        passed over
 *
 * The alignment is Levenshtein's in a band around the diagonal that is doubled until the distance fits into it (E. Ukkonen,
 * "Algorithms for approximate string matching", 1985), between a common start and a common end, so that the work grows with
 * length times number of changes. A gap too large for it is taken as written anew. */
#include "align/align.h"

#include <math.h>
#include <string.h>

/* RUN: so many equal bytes in a row are no accident; tokens outside such runs are marked. */
enum { RUN = 12, BAND = 32 };
static const size_t MAX_CELLS = (size_t)1 << 25;
static const uint32_t GONE = UINT32_MAX, FAR = UINT32_MAX / 2;
enum { DIAGONAL, DROP, ADD };

struct bridge_work {
    uint32_t *to;  /* [reply] byte of the text, or GONE */
    uint32_t *run; /* [reply] length of the run of equal bytes that the byte is in; 0: it is not equal */
    uint32_t *cost;
    uint8_t *way;
    size_t cap_to, cap_run, cap_cost, cap_way;
};

void bridge_work_free(rsd_aligner *a) {
    struct bridge_work *w = a->bridge;
    if (!w)
        return;
    const struct allocator *m = &a->ctx->alloc;
    mem_free(m, w->to);
    mem_free(m, w->run);
    mem_free(m, w->cost);
    mem_free(m, w->way);
    mem_free(m, w);
    a->bridge = NULL;
}

/* Distances within the band low .. high of j - i; ways[i, j-i-low]. FAR if the end is not reached. */
static uint32_t fill_band(struct bridge_work *w, const char *r, size_t n, const char *t, size_t m, ptrdiff_t low,
                          ptrdiff_t high) {
    size_t width = (size_t)(high - low + 1);
    uint32_t *row = w->cost;
    for (size_t i = 0; i <= n; i++)
        for (size_t k = 0; k < width; k++) {
            ptrdiff_t j = (ptrdiff_t)i + low + (ptrdiff_t)k;
            uint32_t best = i || j ? FAR : 0;
            uint8_t way = DIAGONAL;
            if (j >= 0 && j <= (ptrdiff_t)m) {
                if (i && j && row[k] < FAR) /* row[k] is still that of i-1: the diagonal */
                    best = row[k] + (r[i - 1] != t[j - 1]);
                if (i && k + 1 < width && row[k + 1] + 1 < best) {
                    best = row[k + 1] + 1;
                    way = DROP;
                }
                if (j && k && row[k - 1] + 1 < best) {
                    best = row[k - 1] + 1;
                    way = ADD;
                }
            }
            row[k] = best;
            w->way[i * width + k] = way;
        }
    return row[(size_t)((ptrdiff_t)m - (ptrdiff_t)n - low)];
}

/* The bytes r[0..n) against t[0..m), which start at `at` of reply and text. */
static int align_middle(rsd_aligner *a, const char *r, size_t n, const char *t, size_t m, size_t at, struct err *e) {
    struct bridge_work *w = a->bridge;
    const struct allocator *alloc = &a->ctx->alloc;
    ptrdiff_t apart = (ptrdiff_t)m - (ptrdiff_t)n, low = 0, high = 0;
    size_t width = 0;
    for (size_t i = 0; i < n; i++)
        w->to[at + i] = GONE;
    for (size_t band = BAND;; band *= 2) {
        low = (apart < 0 ? apart : 0) - (ptrdiff_t)band;
        high = (apart > 0 ? apart : 0) + (ptrdiff_t)band;
        width = (size_t)(high - low + 1);
        if (!n || !m || width > MAX_CELLS / (n + 1))
            return 0; /* too far apart: written anew */
        int code = mem_reserve(alloc, &w->cost, &w->cap_cost, width, sizeof *w->cost, e);
        code = code ? code : mem_reserve(alloc, &w->way, &w->cap_way, width * (n + 1), 1, e);
        if (code)
            return code;
        for (size_t k = 0; k < width; k++)
            w->cost[k] = FAR;
        /* a path that leaves the band costs more than `band` */
        if (fill_band(w, r, n, t, m, low, high) <= band + (size_t)(apart < 0 ? -apart : apart) || band > n + m)
            break;
    }
    for (size_t i = n, j = m; i || j;) {
        uint8_t way = w->way[i * width + (size_t)((ptrdiff_t)j - (ptrdiff_t)i - low)];
        i -= way != ADD;
        j -= way != DROP;
        if (way == DIAGONAL)
            w->to[at + i] = (uint32_t)(at + j);
    }
    return 0;
}

static int align_bytes(rsd_aligner *a, struct text t, struct err *e) {
    struct bridge_work *w = a->bridge;
    struct text r = a->reply;
    int code = mem_reserve(&a->ctx->alloc, &w->to, &w->cap_to, r.n + 1, sizeof *w->to, e);
    code = code ? code : mem_reserve(&a->ctx->alloc, &w->run, &w->cap_run, r.n + 1, sizeof *w->run, e);
    if (code)
        return code;
    size_t least = r.n < t.n ? r.n : t.n, head = 0, tail = 0;
    while (head < least && r.p[head] == t.p[head])
        head++;
    while (tail < least - head && r.p[r.n - 1 - tail] == t.p[t.n - 1 - tail])
        tail++;
    for (size_t i = 0; i < head; i++)
        w->to[i] = (uint32_t)i;
    for (size_t i = 0; i < tail; i++)
        w->to[r.n - 1 - i] = (uint32_t)(t.n - 1 - i);
    if ((code = align_middle(a, r.p + head, r.n - head - tail, t.p + head, t.n - head - tail, head, e)))
        return code;
    for (size_t i = 0, end; i < r.n; i = end) {
        for (end = i; end < r.n && w->to[end] != GONE && r.p[end] == t.p[w->to[end]] && w->to[end] - w->to[i] == end - i; end++)
            continue;
        for (size_t k = i; k < end; k++)
            w->run[k] = (uint32_t)(end - i);
        if (end == i)
            w->run[end++] = 0;
    }
    return 0;
}

/* ---- steps over the text ---- */

static int add_step(rsd_aligner *a, struct step s, struct err *e) {
    int code = mem_reserve(&a->ctx->alloc, &a->other, &a->cap.other, a->n_other + 1, sizeof *a->other, e);
    if (!code)
        a->other[a->n_other++] = s;
    return code;
}

static int add_new(rsd_aligner *a, struct text t, size_t begin, size_t end, size_t origin, struct err *e) {
    if (begin == end)
        return 0;
    struct step s = {{{t.p + begin, end - begin}, 1}, begin, end, a->n_tops, 0, origin, true, NAN};
    return add_step(a, s, e);
}

/* The step whose token was replaced by one of its alternatives, or by something that it told nothing about. */
static int replace(rsd_aligner *a, struct step *s, struct choice was, struct err *e) {
    const struct choice *tops = a->tops + s->first;
    size_t k = 0;
    while (k < s->n && !text_eq(tops[k].bytes, s->token.bytes))
        k++;
    if (k == s->n) {
        s->n = 0;
        s->token.prob = 1;
        return 0;
    }
    int code = mem_reserve(&a->ctx->alloc, &a->tops, &a->cap.tops, a->n_tops + s->n + 1, sizeof *a->tops, e);
    if (code)
        return code;
    tops = a->tops + s->first;
    s->token.prob = tops[k].prob > 0 ? tops[k].prob : was.prob * 1e-12;
    size_t first = a->n_tops;
    bool there = false;
    for (size_t i = 0; i < s->n; i++) {
        there |= text_eq(tops[i].bytes, was.bytes);
        a->tops[a->n_tops++] = tops[i];
    }
    if (!there)
        a->tops[a->n_tops++] = was;
    s->first = first;
    s->n = a->n_tops - first;
    return 0;
}

/* Token i over the text, if anything is left of it; *at: end of what is laid out. */
static int place(rsd_aligner *a, struct text t, size_t i, size_t *at, struct err *e) {
    const struct bridge_work *w = a->bridge;
    struct step s = a->steps[i];
    struct choice was = s.token;
    size_t first = s.begin, last = s.end, kept = 0, equal = 0;
    uint32_t longest = 0;
    while (first < last && w->to[first] == GONE)
        first++;
    while (last > first && w->to[last - 1] == GONE)
        last--;
    if (first == last) {
        /* behind the end of the text the first token still tells how its last word might have gone on */
        bool behind = *at == t.n && s.begin && w->to[s.begin - 1] == t.n - 1 && s.end > s.begin;
        s.end = t.n + (s.end - s.begin);
        s.begin = t.n;
        return behind ? add_step(a, s, e) : 0;
    }
    for (size_t k = first; k < last; k++) {
        kept += w->to[k] != GONE;
        equal += w->run[k] != 0;
        longest = w->run[k] > longest ? w->run[k] : longest;
    }
    size_t begin = w->to[first], end = (size_t)w->to[last - 1] + 1;
    int code = add_new(a, t, *at, begin, i ? i - 1 : 0, e);
    bool whole = equal == s.end - s.begin && end - begin == equal, cleaned = equal == kept && end - begin == kept;
    bool cut = cleaned && last - first == kept && (first == s.begin || !begin) && (last == s.end || end == t.n);
    s.token.bytes = (struct text){t.p + begin, end - begin};
    s.logprob = whole ? s.logprob : NAN;
    s.begin = begin;
    s.end = end;
    s.bridge = !(whole || cut) || (longest < RUN && longest < t.n);
    if (!cleaned && !code)
        code = replace(a, &s, was, e);
    *at = end;
    return code ? code : add_step(a, s, e);
}

int align_bridge(rsd_aligner *a, struct text t, struct err *e) {
    size_t at = 0;
    int code = 0;
    if (t.n > UINT32_MAX / 8 || a->reply.n > UINT32_MAX / 8)
        return err_set(e, ERR_UNSUPPORTED, "a text of %zu bytes is too long to align", t.n > a->reply.n ? t.n : a->reply.n);
    if (!a->bridge && !(a->bridge = mem_zero(&a->ctx->alloc, 1, sizeof *a->bridge, e)))
        return ERR_NOMEM;
    code = align_bytes(a, t, e);
    a->n_other = 0;
    for (size_t i = 0; i < a->n_steps && !code; i++)
        code = place(a, t, i, &at, e);
    code = code ? code : add_new(a, t, at, t.n, a->n_steps ? a->n_steps - 1 : 0, e);
    if (code)
        return code;
    /* from here on the reply is the text */
    struct step *steps = a->steps;
    size_t cap = a->cap.steps;
    a->steps = a->other;
    a->cap.steps = a->cap.other;
    a->n_steps = a->n_other;
    a->other = steps;
    a->cap.other = cap;
    a->reply = t;
    a->bridged = true;
    return 0;
}
