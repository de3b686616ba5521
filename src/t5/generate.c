/* Greedy generation for any number of inputs with a fixed number of sequences in flight.
 *
 * Each sequence in flight has a slot: a range of rows in the caches of every decoder layer, for the keys and values of its own
 * tokens and for those of the encoder's output, which are computed once. A finished sequence frees its slot, and as soon as a
 * few slots are free the next inputs are encoded together and take their places; so the batch stays full to the end (continuous
 * batching: Yu et al., "Orca", OSDI 2022). Caches grow by doubling up to what the longest sequence in flight needs. */
#include "base/options.h"
#include "t5/batch.h"
#include "t5/decode.h"

#include <math.h>

OPTIONS_NO_TAIL(rsd_generate_options, batch);

static const rsd_generate_options generate_defaults = {.size = sizeof(rsd_generate_options), .max_tokens = 256, .batch = 32};

enum { MAX_BATCH = 4096, MAX_TOKENS = 1 << 20, ENCODE_TOKENS = 4096 };

int rsd_generate_options_init(rsd_generate_options *o, size_t size) {
    return options_init(o, size, &generate_defaults, sizeof generate_defaults, NULL);
}

struct generation {
    rsd_t5 *m;
    struct run r;
    struct decoding d;
    const int32_t *ids;
    const uint32_t *offsets;
    size_t n, next; /* inputs, the next one to be encoded */
    size_t max_tokens;
    size_t *input; /* of each slot */
    rsd_token_fn fn;
    void *user;
};

/* Encodes as many waiting inputs as there are free slots, in packed batches of bounded size. */
static int refill(struct generation *g) {
    while (g->next < g->n && g->d.active < g->d.slots) {
        size_t first = g->next, room = g->d.slots - g->d.active, end = first + 1;
        while (end < g->n && end - first < room && g->offsets[end + 1] - g->offsets[first] <= ENCODE_TOKENS)
            end++;
        for (size_t i = first; i < end; i++)
            g->input[g->d.order[g->d.active + i - first]] = i;
        if (decoding_enter(&g->d, &g->r, g->m->w, g->ids, g->offsets + first, end - first))
            return exec_status(&g->r.x);
        g->next = end;
    }
    return 0;
}

/* Hands out one token of every sequence in flight; those that end leave. Returns what fn returned, or an error. */
static int hand_out(struct generation *g, struct err *e) {
    const struct t5_config *c = g->r.c;
    size_t left = 0;
    for (size_t i = 0; i < g->d.active; i++) {
        size_t slot = g->d.order[i], input = g->input[slot];
        int32_t id = g->d.best[i];
        float logprob = g->d.picked[i] - g->d.lse[i];
        if (!isfinite(logprob))
            return err_set(e, ERR_NUMERIC, "input %zu: the logits of token %zu are not finite numbers: the weights are damaged",
                           input, g->d.length[slot] - 1);
        int finish = id == c->eos_id ? RSD_FINISH_STOP : g->d.length[slot] >= g->max_tokens ? RSD_FINISH_LENGTH : RSD_RUNNING;
        int rc = g->fn(g->user, input, id, logprob, finish);
        if (rc)
            return rc;
        g->d.last[slot] = id;
        g->d.leaving[i] = finish != RSD_RUNNING;
        left += finish != RSD_RUNNING;
    }
    if (left)
        decoding_leave(&g->d);
    return 0;
}

static int generate(struct generation *g, struct err *e) {
    for (;;) {
        size_t room = g->d.slots - g->d.active;
        /* One by one is wasteful: encoding is a matrix product over all new inputs. */
        if ((g->d.active == 0 || room * 4 >= g->d.slots) && refill(g))
            return e->code;
        if (!g->d.active)
            return 0;
        if (decoding_step(&g->d, &g->r, g->m->w))
            return e->code;
        int rc = hand_out(g, e);
        if (rc)
            return rc;
    }
}

int rsd_t5_generate(rsd_t5 *m, const int32_t *enc_ids, const uint32_t *enc_offsets, size_t n, const rsd_generate_options *options,
                    rsd_token_fn fn, void *user) {
    struct err e = {0};
    rsd_generate_options o;
    if (options_read(&o, sizeof o, &generate_defaults, options, "rsd_generate_options", &e))
        return ctx_return(m->ctx, e.code, &e);
    if (!fn || o.max_tokens < 1 || o.max_tokens > MAX_TOKENS || o.batch < 1 || o.batch > MAX_BATCH)
        return ctx_fail(m->ctx, RSD_EINVAL,
                        "rsd_t5_generate: expected a function, max_tokens 1 to %d (got %d), batch 1 to %d (got %d)", MAX_TOKENS,
                        (int)o.max_tokens, MAX_BATCH, (int)o.batch);
    if (!n)
        return RSD_OK;
    if (batch_check_side("encoder", enc_ids, enc_offsets, n, m->w->config.vocab, &e))
        return ctx_return(m->ctx, e.code, &e);
    struct generation g = {.m = m,
                           .r = model_run(m, false, &e),
                           .ids = enc_ids,
                           .offsets = enc_offsets,
                           .n = n,
                           .max_tokens = (size_t)o.max_tokens,
                           .fn = fn,
                           .user = user};
    size_t slots = n < (size_t)o.batch ? n : (size_t)o.batch;
    arena_reset(&m->decoding);
    g.r.acts = &m->decoding;
    g.input = arena_take(&m->decoding, slots, sizeof *g.input, &e);
    int rc = e.code ? e.code : decoding_open(&g.d, &g.r, m->w, &m->ctx->alloc, slots, g.max_tokens);
    if (!rc)
        rc = generate(&g, &e);
    decoding_close(&g.d);
    return e.code ? ctx_return(m->ctx, e.code, &e) : rc;
}
