/* The encoder: every token of a sequence sees every other. */
#include "t5/model.h"

void encoder_forward(const struct run *r, const struct t5_weights *w, struct stack_acts *s) {
    const struct t5_stack *stack = &w->encoder;
    struct mat x = stack_begin(r, s, stack, w->shared, true, PLACE_EMBEDDING);
    for (size_t i = 0; i < stack->n && !exec_status(&r->x); i++) {
        size_t layer = stack->first_layer + i;
        struct attention self = stack_self(r, s, false, layer);
        x = attention_sublayer(r, &s->blocks[i].self, &stack->blocks[i].self, x, NULL, &self,
                               run_dropout(r, layer, PLACE_SELF_OUT));
        x = ffn_sublayer(r, &s->blocks[i].ffn, &stack->blocks[i].ffn, x, run_dropout(r, layer, PLACE_FFN_INNER),
                         run_dropout(r, layer, PLACE_FFN_OUT));
    }
    stack_end(r, s, stack, x);
}

void encoder_backward(const struct run *r, const struct t5_weights *w, struct stack_acts *s) {
    const struct t5_stack *stack = &w->encoder;
    struct mat dx = stack_backward_begin(r, s, stack);
    for (size_t i = stack->n; i-- > 0 && !exec_status(&r->x);) {
        size_t layer = stack->first_layer + i;
        struct attention self = stack_self(r, s, false, layer);
        ffn_sublayer_backward(r, &s->blocks[i].ffn, &stack->blocks[i].ffn, dx, run_dropout(r, layer, PLACE_FFN_INNER),
                              run_dropout(r, layer, PLACE_FFN_OUT));
        attention_sublayer_backward(r, &s->blocks[i].self, &stack->blocks[i].self, dx, NULL, (struct mat){0}, s->dbias, &self,
                                    run_dropout(r, layer, PLACE_SELF_OUT));
    }
    stack_backward_end(r, s, stack, w->shared, dx, PLACE_EMBEDDING);
}
