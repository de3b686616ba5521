/* Beam search, with the results of Hugging Face's generate (transformers, generation/utils.py, _beam_search): in each step the
 * 2 x beams best continuations of all running hypotheses are looked at, best first. Those that end become complete hypotheses if
 * they are among the first `beams`; of the others the first `beams` go on. Sums of log-probabilities are kept in fp32, as there.
 *
 * A search starts with one slot and grows. The first child of a hypothesis stays in its parent's slot; only its further children
 * copy the caches, into slots whose hypotheses have no child. The encoder's side is one memory for the whole search. */
#include "t5/generation.h"

#include <math.h>
#include <string.h>

struct hypothesis {
    float score;
    int finish;
    size_t n;
    int32_t *ids;
    float *logprobs;
};

struct child {
    size_t parent; /* which running hypothesis */
    int32_t id;
    float logprob, score;
};

struct search {
    size_t input, running, complete;
    bool used;
    size_t *slot;            /* [beams] of the running hypotheses, best first */
    float *score;            /* [beams] */
    struct hypothesis *done; /* [beams] best first */
};

struct beam {
    struct generation *g;
    size_t beams, n_searches, waiting /* searches without an input */;
    struct search *searches;
    size_t *encoded; /* [n_searches] */
    /* of a step: the 2 x beams largest logits of every place */
    int32_t *top_ids;
    float *top;
    /* of one search */
    struct child *children;                /* [beams] */
    size_t n_children, *at, *spare, *slot; /* [beams] */
};

static int beam_open(struct beam *b, struct err *e) {
    struct generation *g = b->g;
    struct arena *a = g->r.acts;
    size_t batch = (size_t)g->o.batch, beams = b->beams, most = batch > beams ? batch / beams : 1;
    b->n_searches = g->n < most ? g->n : most;
    b->waiting = b->n_searches;
    size_t slots = b->n_searches * beams;
    struct search *searches = arena_take(a, b->n_searches, sizeof *searches, e);
    b->encoded = arena_take(a, b->n_searches, sizeof *b->encoded, e);
    b->top_ids = arena_take(a, slots, 2 * beams * sizeof *b->top_ids, e);
    b->top = arena_take(a, slots, 2 * beams * sizeof *b->top, e);
    b->children = arena_take(a, beams, sizeof *b->children, e);
    b->at = arena_take(a, beams, sizeof *b->at, e);
    b->spare = arena_take(a, beams, sizeof *b->spare, e);
    b->slot = arena_take(a, beams, sizeof *b->slot, e);
    if (!searches)
        return e->code;
    memset(searches, 0, b->n_searches * sizeof *searches);
    for (size_t i = 0; i < b->n_searches; i++) {
        searches[i].slot = arena_take(a, beams, sizeof(size_t), e);
        searches[i].score = arena_take(a, beams, sizeof(float), e);
        searches[i].done = arena_take(a, beams, sizeof(struct hypothesis), e);
    }
    b->searches = searches;
    return decoding_open(&g->d, &g->r, g->m->w, &g->m->ctx->alloc, slots, b->n_searches, (size_t)g->o.max_tokens,
                         (size_t)g->o.vocab);
}

static void forget(const struct beam *b, struct hypothesis *h) {
    mem_free(b->g->d.a, h->ids);
    mem_free(b->g->d.a, h->logprobs);
}

static void beam_close(struct beam *b) {
    for (size_t i = 0; b->searches && i < b->n_searches; i++)
        for (size_t k = 0; k < b->searches[i].complete; k++)
            forget(b, &b->searches[i].done[k]);
}

static int refill(struct beam *b) {
    struct generation *g = b->g;
    while (b->waiting && g->next < g->n) {
        size_t n = generation_inputs(g, b->waiting), k = 0;
        if (decoding_encode(&g->d, &g->r, g->m->w, g->ids, g->offsets + g->next, n, b->encoded))
            return exec_status(&g->r.x);
        for (size_t i = 0; i < b->n_searches && k < n; i++) {
            struct search *s = &b->searches[i];
            if (s->used)
                continue;
            s->used = true;
            s->input = g->next++;
            s->running = 1;
            s->slot[0] = decoding_begin(&g->d, g->r.c->start_id, b->encoded[k]);
            s->score[0] = 0;
            decoding_release(&g->d, b->encoded[k++]); /* its slots hold it from now on */
        }
        b->waiting -= n;
    }
    return 0;
}

static float by_length(const struct beam *b, float score, size_t n) {
    return score / (float)pow((double)n, b->g->o.length_penalty);
}

/* A sequence that ended takes its place among the complete hypotheses of the search, or is not good enough. */
static int complete(struct beam *b, struct search *s, size_t slot, float score, int finish, struct err *e) {
    const struct decoding *d = &b->g->d;
    size_t n = d->length[slot], at = s->complete;
    if (at == b->beams && !(score > s->done[at - 1].score))
        return 0;
    struct hypothesis h = {.score = score,
                           .finish = finish,
                           .n = n,
                           .ids = mem_new(d->a, n, sizeof *h.ids, e),
                           .logprobs = mem_new(d->a, n, sizeof *h.logprobs, e)};
    if (e->code) {
        forget(b, &h);
        return e->code;
    }
    memcpy(h.ids, decoding_ids(d, slot), n * sizeof *h.ids);
    memcpy(h.logprobs, decoding_logprobs(d, slot), n * sizeof *h.logprobs);
    if (at == b->beams)
        forget(b, &s->done[--at]);
    else
        s->complete++;
    for (; at > 0 && score > s->done[at - 1].score; at--)
        s->done[at] = s->done[at - 1];
    s->done[at] = h;
    return 0;
}

/* The best continuation that is left: every hypothesis offers its own best first. */
static struct child next_child(struct beam *b, const struct search *s) {
    const struct decoding *d = &b->g->d;
    struct child best = {.id = -1, .score = -INFINITY};
    for (size_t k = 0; k < s->running; k++) {
        size_t place = d->place[s->slot[k]], i = place * 2 * b->beams + b->at[k];
        if (b->at[k] == 2 * b->beams || b->top_ids[i] < 0)
            continue;
        float logprob = b->top[i] - d->lse[place], score = s->score[k] + logprob;
        if (best.id < 0 || score > best.score)
            best = (struct child){k, b->top_ids[i], logprob, score};
    }
    if (best.id >= 0)
        b->at[best.parent]++;
    return best;
}

/* Looks at the continuations of one search: complete hypotheses are kept, those that go on are b->children. What the stop
 * function returned, if it stops all, or an error. */
static int continuations(struct beam *b, struct search *s, struct err *e) {
    struct generation *g = b->g;
    memset(b->at, 0, b->beams * sizeof *b->at);
    b->n_children = 0;
    for (size_t i = 0; i < 2 * b->beams && (i < b->beams || b->n_children < b->beams); i++) {
        struct child c = next_child(b, s);
        size_t slot = s->slot[c.parent], n = g->d.length[slot];
        int finish = RSD_RUNNING;
        if (c.id < 0 || !isfinite(c.score))
            return generation_not_finite(s->input, n - 1, e);
        decoding_choose(&g->d, slot, c.id, c.logprob);
        int rc = generation_finish(g, s->input, decoding_ids(&g->d, slot), n, &finish);
        if (!rc && finish != RSD_RUNNING && i < b->beams)
            rc = complete(b, s, slot, by_length(b, c.score, n), finish, e);
        if (rc)
            return rc;
        if (finish == RSD_RUNNING && b->n_children < b->beams)
            b->children[b->n_children++] = c;
    }
    return 0;
}

static bool over(const struct beam *b, const struct search *s) {
    const rsd_generate_options *o = &b->g->o;
    if (!b->n_children)
        return true;
    if (s->complete < b->beams)
        return false;
    if (o->early_stopping == RSD_EARLY_FIRST)
        return true;
    bool longest = o->early_stopping == RSD_EARLY_NEVER && o->length_penalty > 0;
    size_t n = longest ? (size_t)o->max_tokens : b->g->d.length[s->slot[0]];
    return !(by_length(b, b->children[0].score, n) > s->done[b->beams - 1].score);
}

/* The children take their slots, and their tokens. */
static void go_on(struct beam *b, struct search *s) {
    struct generation *g = b->g;
    struct decoding *d = &g->d;
    size_t spare = 0, memory = d->memory[s->slot[0]];
    bool *leaving = d->leaving;
    for (size_t k = 0; k < s->running; k++) {
        bool kept = false;
        for (size_t c = 0; c < b->n_children && !kept; c++)
            kept = b->children[c].parent == k;
        if (!kept)
            b->spare[spare++] = s->slot[k];
    }
    for (size_t c = 0; c < b->n_children; c++) {
        size_t parent = b->children[c].parent, from = s->slot[parent];
        bool first = true;
        for (size_t k = 0; k < c && first; k++)
            first = b->children[k].parent != parent;
        b->slot[c] = first ? from : spare ? b->spare[--spare] : decoding_begin(d, g->r.c->start_id, memory);
        if (!first)
            decoding_fork(d, &g->r, from, b->slot[c]);
    }
    while (spare)
        leaving[d->place[b->spare[--spare]]] = true;
    for (size_t c = 0; c < b->n_children; c++) {
        s->slot[c] = b->slot[c];
        s->score[c] = b->children[c].score;
        decoding_choose(d, s->slot[c], b->children[c].id, b->children[c].logprob);
    }
    s->running = b->n_children;
}

/* Hands out the best hypotheses; the search waits for another input. */
static int finish(struct beam *b, struct search *s) {
    struct generation *g = b->g;
    int rc = 0;
    for (size_t k = 0; k < s->running; k++)
        g->d.leaving[g->d.place[s->slot[k]]] = true;
    for (size_t k = 0; k < s->complete && k < (size_t)g->o.n; k++) {
        const struct hypothesis *h = &s->done[k];
        for (size_t t = 0; t < h->n && !rc; t++)
            rc = g->fn(g->user, s->input, k, h->ids[t], h->logprobs[t], t + 1 < h->n ? RSD_RUNNING : h->finish);
    }
    for (size_t k = 0; k < s->complete; k++)
        forget(b, &s->done[k]);
    s->complete = s->running = 0;
    s->used = false;
    b->waiting++;
    return rc;
}

static int step(struct beam *b, struct err *e) {
    struct generation *g = b->g;
    int rc = decoding_step(&g->d, &g->r, g->m->w);
    row_top(&g->r.x, b->top_ids, b->top, mat_rows(g->d.logits, 0, g->d.active), 2 * b->beams);
    rc = rc ? rc : e->code;
    for (size_t i = 0; i < b->n_searches && !rc; i++) {
        struct search *s = &b->searches[i];
        if (!s->used)
            continue;
        rc = continuations(b, s, e);
        if (rc)
            break;
        if (over(b, s))
            rc = finish(b, s);
        else
            go_on(b, s);
    }
    decoding_leave(&g->d);
    return rc ? rc : e->code;
}

int generation_beam(struct generation *g, struct err *e) {
    struct beam b = {.g = g, .beams = (size_t)g->o.beams};
    int rc = beam_open(&b, e);
    while (!rc) {
        if (b.waiting * 4 >= b.n_searches)
            rc = refill(&b);
        if (rc || !g->d.active)
            break;
        rc = step(&b, e);
    }
    beam_close(&b);
    return rc;
}
