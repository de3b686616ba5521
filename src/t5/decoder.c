/* The decoder: every token sees those before it, and all of the encoder's output (`memory`) of its own sequence. */
#include "t5/model.h"

static struct attention cross_attention(const struct run *r, const struct stack_acts *s, size_t layer) {
    return (struct attention){.heads = r->c->heads,
                              .d_kv = r->c->d_kv,
                              .spans = s->cross,
                              .n_spans = s->n_spans,
                              .dropout = run_dropout(r, layer, PLACE_CROSS_PROBS)};
}

void decoder_forward(const struct run *r, const struct t5_weights *w, struct stack_acts *s, struct mat memory) {
    const struct t5_stack *stack = &w->decoder;
    struct mat x = stack_begin(r, s, stack, w->shared, false, PLACE_DECODER_EMBEDDING);
    for (size_t i = 0; i < stack->n && !exec_status(&r->x); i++) {
        size_t layer = stack->first_layer + i;
        struct attention self = stack_self(r, s, true, layer), cross = cross_attention(r, s, layer);
        const struct t5_block *b = &stack->blocks[i];
        struct block_acts *k = &s->blocks[i];
        x = attention_sublayer(r, &k->self, &b->self, x, NULL, &self, run_dropout(r, layer, PLACE_SELF_OUT));
        x = attention_sublayer(r, &k->cross, &b->cross, x, &memory, &cross, run_dropout(r, layer, PLACE_CROSS_OUT));
        x = ffn_sublayer(r, &k->ffn, &b->ffn, x, run_dropout(r, layer, PLACE_FFN_INNER), run_dropout(r, layer, PLACE_FFN_OUT));
    }
    stack_end(r, s, stack, x);
}

void decoder_backward(const struct run *r, const struct t5_weights *w, struct stack_acts *s, struct mat memory,
                      struct mat dmemory) {
    const struct t5_stack *stack = &w->decoder;
    struct mat dx = stack_backward_begin(r, s, stack);
    for (size_t i = stack->n; i-- > 0 && !exec_status(&r->x);) {
        size_t layer = stack->first_layer + i;
        struct attention self = stack_self(r, s, true, layer), cross = cross_attention(r, s, layer);
        const struct t5_block *b = &stack->blocks[i];
        const struct block_acts *k = &s->blocks[i];
        ffn_sublayer_backward(r, &k->ffn, &b->ffn, dx, run_dropout(r, layer, PLACE_FFN_INNER),
                              run_dropout(r, layer, PLACE_FFN_OUT));
        attention_sublayer_backward(r, &k->cross, &b->cross, dx, &memory, dmemory, (struct mat){0}, &cross,
                                    run_dropout(r, layer, PLACE_CROSS_OUT));
        attention_sublayer_backward(r, &k->self, &b->self, dx, NULL, (struct mat){0}, s->dbias, &self,
                                    run_dropout(r, layer, PLACE_SELF_OUT));
    }
    stack_backward_end(r, s, stack, w->shared, dx, PLACE_DECODER_EMBEDDING);
}
