/* The decoder: every token sees those before it, and all of the encoder's output (`memory`) of its own sequence.
 * Recomputation as in encoder.c. */
#include "t5/model.h"

static struct attention cross_attention(const struct run *r, const struct stack_acts *s, size_t layer) {
    return (struct attention){.heads = r->c->heads,
                              .d_kv = r->c->d_kv,
                              .spans = s->cross,
                              .n_spans = s->n_spans,
                              .dropout = run_dropout(r, layer, PLACE_CROSS_PROBS)};
}

static struct mat block_forward(const struct run *r, const struct t5_stack *stack, struct stack_acts *s, size_t i, struct mat x,
                                struct mat memory) {
    size_t layer = stack->first_layer + i;
    struct attention self = stack_self(r, s, true, layer), cross = cross_attention(r, s, layer);
    const struct t5_block *b = &stack->blocks[i];
    struct block_acts *k = &s->blocks[i];
    x = attention_sublayer(r, &k->self, &b->self, x, NULL, &self, run_dropout(r, layer, PLACE_SELF_OUT));
    x = attention_sublayer(r, &k->cross, &b->cross, x, &memory, &cross, run_dropout(r, layer, PLACE_CROSS_OUT));
    return ffn_sublayer(r, &k->ffn, &b->ffn, x, run_dropout(r, layer, PLACE_FFN_INNER), run_dropout(r, layer, PLACE_FFN_OUT));
}

static void block_backward(const struct run *r, const struct t5_stack *stack, struct stack_acts *s, size_t i, struct mat dx,
                           struct mat memory, struct mat dmemory) {
    size_t layer = stack->first_layer + i;
    struct attention self = stack_self(r, s, true, layer), cross = cross_attention(r, s, layer);
    const struct t5_block *b = &stack->blocks[i];
    const struct block_acts *k = &s->blocks[i];
    ffn_sublayer_backward(r, &k->ffn, &b->ffn, dx, run_dropout(r, layer, PLACE_FFN_INNER), run_dropout(r, layer, PLACE_FFN_OUT));
    attention_sublayer_backward(r, &k->cross, &b->cross, dx, &memory, dmemory, (struct mat){0}, &cross,
                                run_dropout(r, layer, PLACE_CROSS_OUT));
    attention_sublayer_backward(r, &k->self, &b->self, dx, NULL, (struct mat){0}, s->dbias, &self,
                                run_dropout(r, layer, PLACE_SELF_OUT));
}

void decoder_forward(const struct run *r, const struct t5_weights *w, struct stack_acts *s, struct mat memory) {
    const struct t5_stack *stack = &w->decoder;
    struct mat x = stack_begin(r, s, stack, w->shared, false, PLACE_DECODER_EMBEDDING);
    s->blocks_begin = arena_mark(r->acts);
    if (s->room.data)
        arena_lend(r->acts, s->room.data, s->room.cols * sizeof(float));
    for (size_t i = 0; i < stack->n && !exec_status(&r->x); i++)
        x = block_forward(r, stack, s, i, x, memory);
    stack_end(r, s, stack, x);
}

void decoder_backward(const struct run *r, const struct t5_weights *w, struct stack_acts *s, struct mat memory,
                      struct mat dmemory, const struct listener *l) {
    const struct t5_stack *stack = &w->decoder;
    grads_begin(l, stack->first_layer + stack->n - 1);
    struct mat dx = stack_backward_begin(r, s, stack);
    for (size_t i = stack->n; i-- > 0 && !exec_status(&r->x);) {
        block_backward(r, stack, s, i, dx, memory, dmemory);
        if (i) {
            grads_done(r, l, stack->first_layer + i);
            grads_begin(l, stack->first_layer + i - 1);
        }
    }
    stack_backward_end(r, s, stack, w->shared, dx, PLACE_DECODER_EMBEDDING);
    grads_done(r, l, stack->first_layer);
}
