/* What encoder and decoder have in common: embedded tokens in front, the relative bias that block 0 owns and all blocks use, the
 * final norm behind. */
#include "t5/buckets.h"
#include "t5/model.h"

#include <math.h>

/* One value per head and distance that occurs in this batch. */
static void expand_bias(const struct run *r, struct stack_acts *s, const struct t5_stack *stack, bool bidirectional) {
    size_t distances = s->longest + (bidirectional ? s->longest - 1 : 0);
    s->bias_zero = s->longest - 1;
    s->bucket = arena_take(r->acts, distances, sizeof *s->bucket, r->x.err);
    s->bias = run_mat(r, r->c->heads, distances);
    s->dbias = r->train ? run_mat(r, r->c->heads, distances) : (struct mat){0};
    if (!s->bucket)
        return;
    struct buckets b;
    buckets_init(&b, bidirectional, r->c->buckets, r->c->max_distance);
    for (size_t d = 0; d < distances; d++)
        s->bucket[d] = bucket_of(&b, (int64_t)d - (int64_t)s->bias_zero);
    bias_expand_forward(&r->x, s->bias, stack->bias->w, s->bucket);
}

struct mat stack_begin(const struct run *r, struct stack_acts *s, const struct t5_stack *stack, const struct param *embedding,
                       bool bidirectional, enum place place) {
    struct mat x = run_mat(r, s->tokens, r->c->d_model);
    s->rrms = run_vector(r, 1, s->tokens);
    s->out = run_act(r, s->tokens, r->c->d_model);
    s->blocks = arena_take(r->acts, stack->n, sizeof *s->blocks, r->x.err);
    expand_bias(r, s, stack, bidirectional);
    embedding_forward(&r->x, x, embedding->w, s->ids);
    struct dropout d = run_dropout(r, 0, place);
    if (d.p > 0)
        dropout_apply(&r->x, x, x, d);
    return x;
}

void stack_end(const struct run *r, struct stack_acts *s, const struct t5_stack *stack, struct mat x) {
    s->x = x;
    rmsnorm_forward(&r->x, s->out, s->rrms, x, stack->final_norm->w, r->c->eps);
    struct dropout d = run_dropout(r, stack->first_layer + stack->n - 1, PLACE_FINAL);
    if (d.p > 0)
        dropout_apply(&r->x, s->out, s->out, d);
}

struct attention stack_self(const struct run *r, const struct stack_acts *s, bool causal, size_t layer) {
    return (struct attention){.heads = r->c->heads,
                              .d_kv = r->c->d_kv,
                              .spans = s->self,
                              .n_spans = s->n_spans,
                              .causal = causal,
                              .bias = s->bias,
                              .bias_zero = s->bias_zero,
                              .dropout = run_dropout(r, layer, PLACE_SELF_PROBS)};
}

struct mat stack_backward_begin(const struct run *r, struct stack_acts *s, const struct t5_stack *stack) {
    fill(&r->x, s->dbias, 0);
    struct mat dx = run_mat(r, s->tokens, r->c->d_model);
    fill(&r->x, dx, 0);
    struct dropout d = run_dropout(r, stack->first_layer + stack->n - 1, PLACE_FINAL);
    if (d.p > 0)
        dropout_apply(&r->x, s->dout, s->dout, d);
    rmsnorm_backward(&r->x, dx, param_grad(r, stack->final_norm), s->dout, s->x, stack->final_norm->w, s->rrms);
    return dx;
}

void stack_backward_end(const struct run *r, struct stack_acts *s, const struct t5_stack *stack, const struct param *embedding,
                        struct mat dx, enum place place) {
    if (!stack->bias->frozen)
        bias_expand_backward(&r->x, param_grad(r, stack->bias), s->dbias, s->bucket);
    struct dropout d = run_dropout(r, 0, place);
    if (d.p > 0)
        dropout_apply(&r->x, dx, dx, d);
    if (!embedding->frozen)
        embedding_backward(&r->x, param_grad(r, embedding), dx, s->ids);
}
