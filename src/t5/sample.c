/* Greedy generation and sampling, for any number of inputs with a fixed number of sequences in flight.
 *
 * A finished sequence frees its slot, and as soon as a few slots are free the next inputs are encoded together and their samples
 * take the places; so the batch stays full to the end (continuous batching: Yu et al., "Orca", OSDI 2022). Caches grow by doubling
 * up to what the longest sequence in flight needs. A draw is made with the random number of its (seed, input, sample, position):
 * no state, nothing to share. */
#include "core/rng.h"
#include "t5/generation.h"

#include <math.h>

struct sampler {
    struct generation *g;
    size_t *input, *sample; /* of each slot */
    size_t *encoded;        /* [slots] memories of the inputs that are encoded together */
    /* The input of which not all samples have begun: its memory, and the first that waits. */
    bool open;
    size_t open_input, open_memory, open_sample;
    /* of a step, by place */
    int32_t *ids;
    float *picked;
    double *u;
};

static void begin_samples(struct sampler *s) {
    struct generation *g = s->g;
    while (g->d.active < g->d.slots && s->open_sample < (size_t)g->o.n) {
        size_t slot = decoding_begin(&g->d, g->r.c->start_id, s->open_memory);
        s->input[slot] = s->open_input;
        s->sample[slot] = s->open_sample++;
    }
    s->open = s->open_sample < (size_t)g->o.n;
    if (!s->open)
        decoding_release(&g->d, s->open_memory);
}

static int refill(struct sampler *s) {
    struct generation *g = s->g;
    if (s->open)
        begin_samples(s);
    while (!s->open && g->next < g->n && g->d.active < g->d.slots) {
        size_t room = g->d.slots - g->d.active, outputs = (size_t)g->o.n;
        size_t n = generation_inputs(g, (room + outputs - 1) / outputs);
        if (decoding_encode(&g->d, &g->r, g->m->w, g->ids, g->offsets + g->next, n, s->encoded))
            return exec_status(&g->r.x);
        for (size_t i = 0; i < n; i++) { /* all but the last find room for all of their samples */
            s->open_input = g->next++;
            s->open_memory = s->encoded[i];
            s->open_sample = 0;
            begin_samples(s);
        }
    }
    return 0;
}

/* The random number of a place: independent of everything that is not named here. */
static double draw(const struct sampler *s, size_t slot) {
    const struct generation *g = s->g;
    struct rng r = rng_make(g->o.seed, rng_mix(g->o.first_input + s->input[slot], s->sample[slot]));
    r.index = g->d.length[slot];
    return rng_uniform(&r);
}

static void choose(struct sampler *s) {
    struct generation *g = s->g;
    const struct exec *x = &g->r.x;
    struct mat logits = mat_rows(g->d.logits, 0, g->d.active);
    if (g->o.mode == RSD_GREEDY) {
        row_argmax(x, s->ids, logits);
    } else {
        for (size_t i = 0; i < g->d.active; i++)
            s->u[i] = draw(s, g->d.order[i]);
        struct sampling how = {.temperature = (float)g->o.temperature, .top_p = (float)g->o.top_p, .top_k = (size_t)g->o.top_k};
        row_sample(x, s->ids, logits, s->u, how);
    }
    row_pick(x, s->picked, logits, s->ids);
}

/* Hands out one token of every sequence in flight; those that end leave. Returns what a function of the caller returned, or an
 * error. */
static int hand_out(struct sampler *s, struct err *e) {
    struct generation *g = s->g;
    struct decoding *d = &g->d;
    for (size_t i = 0; i < d->active; i++) {
        size_t slot = d->order[i], input = s->input[slot], n = d->length[slot];
        float logprob = s->picked[i] - d->lse[i];
        int finish = RSD_RUNNING;
        if (!isfinite(logprob))
            return generation_not_finite(input, n - 1, e);
        decoding_choose(d, slot, s->ids[i], logprob);
        int rc = generation_finish(g, input, decoding_ids(d, slot), n, &finish);
        if (!rc)
            rc = g->fn(g->user, input, s->sample[slot], s->ids[i], logprob, finish);
        if (rc)
            return rc;
        d->leaving[i] = finish != RSD_RUNNING;
    }
    decoding_leave(d);
    return 0;
}

int generation_sample(struct generation *g, struct err *e) {
    struct arena *a = g->r.acts;
    size_t n = (size_t)g->o.n, batch = (size_t)g->o.batch, slots = g->n <= (batch - 1) / n ? g->n * n : batch;
    struct sampler s = {.g = g,
                        .input = arena_take(a, slots, sizeof *s.input, e),
                        .sample = arena_take(a, slots, sizeof *s.sample, e),
                        .encoded = arena_take(a, slots, sizeof *s.encoded, e),
                        .ids = arena_take(a, slots, sizeof *s.ids, e),
                        .picked = arena_take(a, slots, sizeof *s.picked, e),
                        .u = arena_take(a, slots, sizeof *s.u, e)};
    /* one more memory than slots: that of an input whose running samples have left while others wait */
    if (e->code ||
        decoding_open(&g->d, &g->r, g->m->w, &g->m->ctx->alloc, slots, slots + 1, (size_t)g->o.max_tokens, (size_t)g->o.vocab))
        return e->code;
    for (;;) {
        size_t room = slots - g->d.active;
        /* One by one is wasteful: encoding is a matrix product over all new inputs. */
        if ((g->d.active == 0 || room * 4 >= slots) && refill(&s))
            return e->code;
        if (!g->d.active)
            return 0;
        if (decoding_step(&g->d, &g->r, g->m->w))
            return e->code;
        choose(&s);
        int rc = e->code ? e->code : hand_out(&s, e);
        if (rc)
            return rc;
    }
}
