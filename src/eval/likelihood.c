/* How likely the gold texts are to the student: one forward pass over (input, gold target), and the log-probabilities of its tokens
 * summed by what they belong to. "The answer is" belongs to neither: it is the same for all items, and would hide the rest. */
#include "eval/evaluator.h"
#include "text/prompt.h"

#include <string.h>

enum { MOST_TOKENS = 8192 }; /* of the inputs of one pass, whose activations are all in memory; a longer input goes alone */

enum part { PART_NONE, PART_RATIONALE, PART_ANSWER };

struct targets {
    struct str text, rationale;
    int32_t *ids;
    uint8_t *parts; /* of each id */
    size_t n, ids_cap, parts_cap;
    uint32_t *offsets; /* [items + 1] */
    float *logprobs;
    size_t logprobs_cap;
};

/* Begins with `answer` characters of text at the end and `rationale` at the front; the pieces of the last encode say what they cover.
 * A blank in front of a piece is part of it, so the end of a piece tells where it belongs. */
static int mark_parts(const rsd_evaluator *v, struct targets *g, size_t n, size_t rationale, size_t answer, struct err *e) {
    const uint32_t *begin = NULL, *end = NULL;
    int code = rsd_tokenizer_spans(v->tok, &begin, &end);
    if (code)
        return err_set(e, code, "%s", rsd_ctx_error(v->ctx));
    for (size_t i = 0; i < n; i++)
        g->parts[g->n + i] = end[i] > g->text.n - answer ? PART_ANSWER : end[i] <= rationale ? PART_RATIONALE : PART_NONE;
    return 0;
}

/* The gold target of an item, tokenised. */
static int add_target(const struct evaluation *t, struct targets *g, const struct item *item, struct err *e) {
    const rsd_evaluator *v = t->v;
    const struct allocator *a = &v->ctx->alloc;
    const struct text answer = answer_gold(item->answer);
    const int32_t *ids = NULL, eos = rsd_tokenizer_eos(v->tok);
    size_t n = 0, rationale = 0;
    str_clear(&g->text);
    str_clear(&g->rationale);
    if (solution_clean(&g->rationale, item->rationale, e) ||
        prompt_target(&g->text, v->o.format, (struct text){str_z(&g->rationale), g->rationale.n}, answer, e))
        return e->code;
    if (format_has_reasoning(v->o.format))
        rationale = g->rationale.n;
    int code = rsd_tokenizer_encode(v->tok, str_z(&g->text), g->text.n, &ids, &n);
    if (code)
        return err_set(e, code, "%s", rsd_ctx_error(v->ctx));
    if (mem_reserve(a, &g->ids, &g->ids_cap, g->n + n + 1, sizeof *g->ids, e) ||
        mem_reserve(a, &g->parts, &g->parts_cap, g->n + n + 1, sizeof *g->parts, e) ||
        mark_parts(v, g, n, rationale, answer.n, e))
        return e->code;
    memcpy(g->ids + g->n, ids, n * sizeof *ids); /* never empty: "The answer is" stands in it */
    g->n += n;
    if (eos >= 0) {
        g->parts[g->n] = PART_ANSWER;
        g->ids[g->n++] = eos;
    }
    return 0;
}

/* Items of one batch, whose inputs start at offsets[0] of ids. */
static int add_batch(struct evaluation *t, struct targets *g, const size_t *order, const int32_t *ids, const uint32_t *offsets,
                     uint32_t *shifted, size_t n, struct err *e) {
    rsd_evaluator *v = t->v;
    g->n = 0;
    g->offsets[0] = 0;
    for (size_t i = 0; i < n; i++) {
        if (add_target(t, g, &t->items.v[order[i]], e))
            return e->code;
        g->offsets[i + 1] = (uint32_t)g->n;
    }
    for (size_t i = 0; i <= n; i++)
        shifted[i] = offsets[i] - offsets[0];
    const rsd_batch b = {.size = sizeof b,
                         .n = n,
                         .enc_ids = ids + offsets[0],
                         .enc_offsets = shifted,
                         .dec_ids = g->ids,
                         .dec_offsets = g->offsets};
    if (mem_reserve(&v->ctx->alloc, &g->logprobs, &g->logprobs_cap, g->n, sizeof *g->logprobs, e))
        return e->code;
    int code = rsd_t5_forward(v->model, &b, RSD_INFER);
    code = code ? code : rsd_t5_logprobs(v->model, g->logprobs, g->n);
    if (code)
        return err_set(e, code, "%s", rsd_ctx_error(v->ctx));
    for (size_t i = 0; i < n; i++)
        for (size_t k = g->offsets[i]; k < g->offsets[i + 1]; k++) {
            struct outcome *o = &t->outcomes[order[i]];
            struct likelihood *l = g->parts[k] == PART_ANSWER ? &o->answer : g->parts[k] == PART_RATIONALE ? &o->rationale : NULL;
            if (l) {
                l->sum -= (double)g->logprobs[k];
                l->tokens++;
            }
        }
    return 0;
}

int evaluation_likelihood(struct evaluation *t, const size_t *order, const int32_t *ids, const uint32_t *offsets, size_t n,
                          struct err *e) {
    const struct allocator *a = &t->v->ctx->alloc;
    const size_t batch = (size_t)t->v->o.batch;
    struct targets g = {0};
    str_init(&g.text, a);
    str_init(&g.rationale, a);
    g.offsets = mem_new(a, batch + 1, sizeof *g.offsets, e);
    uint32_t *shifted = mem_new(a, batch + 1, sizeof *shifted, e);
    for (size_t first = 0, some; first < n && !e->code; first += some) {
        for (some = 1; some < batch && first + some < n && offsets[first + some + 1] - offsets[first] <= MOST_TOKENS;)
            some++;
        add_batch(t, &g, order + first, ids, offsets + first, shifted, some, e);
    }
    str_free(&g.text);
    str_free(&g.rationale);
    mem_free(a, g.ids);
    mem_free(a, g.parts);
    mem_free(a, g.offsets);
    mem_free(a, g.logprobs);
    mem_free(a, shifted);
    return e->code;
}
