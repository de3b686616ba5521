/* An epoch draws every item of every format that has a weight at least once; formats with a larger share than items are gone
 * through several times, nearly equally often. Items are shuffled, sorted by length within pools of some batches, cut into
 * batches by the token budget, and the batches shuffled again: lengths are alike within a batch while neighbours still change
 * from epoch to epoch. */
#include "data/plan.h"

#include "core/rng.h"
#include "text/prompt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POOL = 64 /* batches that are sorted together */, SHIFT = 3 /* bits of a packed item number that hold the format */ };
static const double MAX_DRAWS = 1e9;

void plan_free(struct plan *p) {
    mem_free(p->a, p->draws);
    mem_free(p->a, p->batches);
    mem_free(p->a, p->order);
    mem_free(p->a, p->shuffled);
    *p = (struct plan){.a = p->a};
}

static size_t items_of(const struct corpus *c, int format) {
    return format_has_reasoning(format) ? c->n_replies : c->n_pool[0];
}

/* Item `i` of a format by its own number: replies count themselves, answer-only items are the questions with an answer. */
static size_t number_of(const struct corpus *c, int format, size_t i) {
    return format_has_reasoning(format) ? i : c->pool[0][i];
}

static int target_tokens(struct parts *parts, struct item i, size_t *n, struct err *e) {
    if (format_has_reasoning(i.format)) {
        struct shard_reply r;
        shard_peek(parts->c->shard, i.number, &r);
        *n = r.n;
        return 0;
    }
    int code = parts_answer(parts, i, NULL, n, e);
    *n += 1; /* the end token */
    return code;
}

/* Shares of items from shares of target tokens: divided by the mean length of a format's targets. */
static int item_shares(struct parts *parts, const struct plan_options *o, double shares[RSD_FORMATS], struct err *e) {
    for (int f = 0; f < RSD_FORMATS; f++) {
        size_t items = items_of(parts->c, f), all = 0, n = 0;
        shares[f] = o->weights[f];
        for (size_t i = 0; i < items && o->by_targets && o->weights[f] > 0; i++) {
            int code = target_tokens(parts, (struct item){f, number_of(parts->c, f, i), 0}, &n, e);
            if (code)
                return code;
            all += n;
        }
        if (all)
            shares[f] *= (double)items / (double)all;
    }
    return 0;
}

static int count_draws(struct parts *parts, const struct plan_options *o, size_t n[RSD_FORMATS], struct err *e) {
    const struct corpus *c = parts->c;
    double most = 0, shares[RSD_FORMATS];
    int code = item_shares(parts, o, shares, e);
    for (int f = 0; f < RSD_FORMATS && !code; f++)
        if (shares[f] > 0)
            most = fmax(most, (double)items_of(c, f) / shares[f]);
    if (code)
        return code;
    double all = 0;
    for (int f = 0; f < RSD_FORMATS; f++)
        all += most * shares[f];
    if (all > MAX_DRAWS)
        return err_set(e, ERR_INVALID, "the weights ask for %.0f items an epoch so that each comes once: they are too far apart",
                       all);
    for (int f = 0; f < RSD_FORMATS; f++) {
        size_t items = items_of(c, f);
        n[f] = shares[f] > 0 ? (size_t)llround(most * shares[f]) : 0;
        n[f] = n[f] < items && shares[f] > 0 ? items : n[f];
    }
    return 0;
}

/* All draws of the epoch, packed (item << SHIFT | format), shuffled. */
static int draw_items(struct plan *p, struct parts *parts, const struct plan_options *o, size_t *total, struct err *e) {
    const struct corpus *c = parts->c;
    size_t n[RSD_FORMATS], at = 0;
    int code = count_draws(parts, o, n, e);
    if (code)
        return code;
    *total = 0;
    for (int f = 0; f < RSD_FORMATS; f++)
        *total += n[f];
    if ((code = mem_reserve(p->a, &p->order, &p->cap_order, *total, sizeof *p->order, e)))
        return code;
    for (int f = 0; f < RSD_FORMATS; f++) {
        size_t items = items_of(c, f);
        struct rng r = rng_make(o->seed, rng_mix(rng_mix(1, (uint64_t)f), p->epoch));
        if ((code = mem_reserve(p->a, &p->shuffled, &p->cap_shuffled, items, sizeof *p->shuffled, e)))
            return code;
        for (size_t i = 0; i < items; i++)
            p->shuffled[i] = i;
        rng_shuffle(&r, p->shuffled, items); /* a pass that is not whole takes its first ones */
        for (size_t i = 0; i < n[f]; i++)
            p->order[at++] = number_of(c, f, p->shuffled[i % items]) << SHIFT | (size_t)f;
    }
    struct rng r = rng_make(o->seed, rng_mix(2, p->epoch));
    rng_shuffle(&r, p->order, *total);
    return 0;
}

static int measure(struct plan *p, struct parts *parts, const struct plan_options *o, size_t total, struct err *e) {
    int code = mem_reserve(p->a, &p->draws, &p->cap_draws, total, sizeof *p->draws, e);
    p->n_draws = 0;
    p->left_out = 0;
    memset(p->items, 0, sizeof p->items);
    memset(p->inputs, 0, sizeof p->inputs);
    memset(p->targets, 0, sizeof p->targets);
    for (size_t k = 0; k < total && !code; k++) {
        struct item i = {(int)(p->order[k] & ((1u << SHIFT) - 1)), p->order[k] >> SHIFT, p->epoch};
        size_t enc = 0, dec = 0;
        code = parts_input(parts, i, NULL, &enc, e);
        code = code ? code : target_tokens(parts, i, &dec, e);
        enc++;
        if (enc > o->max_enc || dec > o->max_dec) {
            p->left_out++;
            continue;
        }
        p->draws[p->n_draws++] = (struct draw){(uint32_t)i.number, (uint32_t)i.format, (uint32_t)enc, (uint32_t)dec};
        p->items[i.format]++;
        p->inputs[i.format] += enc;
        p->targets[i.format] += dec;
    }
    if (!code && !p->n_draws)
        return err_set(e, ERR_INVALID, "all %llu items are longer than max_enc %zu or max_dec %zu",
                       (unsigned long long)p->left_out, o->max_enc, o->max_dec);
    return code;
}

static int by_key(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return (x[0] > y[0]) - (x[0] < y[0]);
}

/* Sorts draws begin .. end by length; equal ones stay in their order. */
static int sort_pool(struct plan *p, size_t begin, size_t end, struct err *e) {
    size_t n = end - begin;
    struct draw *copy = mem_new(p->a, n, sizeof *copy, e);
    uint64_t *keys = mem_new(p->a, n, sizeof *keys, e);
    int code = copy && keys ? 0 : ERR_NOMEM;
    for (size_t i = 0; i < n && !code; i++)
        keys[i] = (uint64_t)(p->draws[begin + i].enc + p->draws[begin + i].dec) << 32 | i;
    if (!code) {
        memcpy(copy, p->draws + begin, n * sizeof *copy);
        qsort(keys, n, sizeof *keys, by_key);
        for (size_t i = 0; i < n; i++)
            p->draws[begin + i] = copy[keys[i] & UINT32_MAX];
    }
    mem_free(p->a, copy);
    mem_free(p->a, keys);
    return code;
}

static size_t tokens_of(const struct draw *d) {
    return (size_t)d->enc + d->dec;
}

static int add_batch(struct plan *p, size_t begin, struct err *e) {
    int code = mem_reserve(p->a, &p->batches, &p->cap_batches, p->n_batches + 2, sizeof *p->batches, e);
    if (!code)
        p->batches[p->n_batches++] = begin;
    return code;
}

static int cut_batches(struct plan *p, const struct plan_options *o, struct err *e) {
    int code = 0;
    p->n_batches = 0;
    for (size_t begin = 0, end; begin < p->n_draws && !code; begin = end) {
        uint64_t tokens = 0;
        for (end = begin; end < p->n_draws && (end == begin || tokens / POOL < o->batch_tokens); end++)
            tokens += tokens_of(&p->draws[end]);
        code = sort_pool(p, begin, end, e);
        tokens = 0;
        for (size_t i = begin; i < end && !code; i++) {
            size_t n = tokens_of(&p->draws[i]);
            if (i == begin || tokens + n > o->batch_tokens) {
                code = add_batch(p, i, e);
                tokens = 0;
            }
            tokens += n;
        }
    }
    if (!code)
        p->batches[p->n_batches] = p->n_draws;
    return code;
}

/* Batches in random order: their draws are moved, so that batch b stays a run. */
static int shuffle_batches(struct plan *p, const struct plan_options *o, struct err *e) {
    size_t n = p->n_batches, at = 0;
    struct draw *copy = mem_new(p->a, p->n_draws, sizeof *copy, e);
    size_t *bounds = mem_new(p->a, n + 1, sizeof *bounds, e);
    int code = copy && bounds ? mem_reserve(p->a, &p->order, &p->cap_order, n, sizeof *p->order, e) : ERR_NOMEM;
    if (!code) {
        memcpy(copy, p->draws, p->n_draws * sizeof *copy);
        memcpy(bounds, p->batches, (n + 1) * sizeof *bounds);
        for (size_t b = 0; b < n; b++)
            p->order[b] = b;
        struct rng r = rng_make(o->seed, rng_mix(3, p->epoch));
        rng_shuffle(&r, p->order, n);
        for (size_t b = 0; b < n; b++) {
            size_t from = bounds[p->order[b]], count = bounds[p->order[b] + 1] - from;
            p->batches[b] = at;
            memcpy(p->draws + at, copy + from, count * sizeof *copy);
            at += count;
        }
    }
    mem_free(p->a, copy);
    mem_free(p->a, bounds);
    return code;
}

int plan_make(struct plan *p, struct parts *parts, const struct plan_options *o, uint64_t epoch, struct err *e) {
    size_t total = 0;
    p->epoch = epoch;
    p->n_batches = 0;
    int code = draw_items(p, parts, o, &total, e);
    code = code ? code : measure(p, parts, o, total, e);
    code = code ? code : cut_batches(p, o, e);
    code = code ? code : shuffle_batches(p, o, e);
    p->n_batches = code ? 0 : p->n_batches;
    return code;
}
