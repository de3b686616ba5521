/* The encoder: every token of a sequence sees every other.
 *
 * Recomputation (Chen et al. 2016, "Training deep nets with sublinear memory cost"): a sublayer keeps the stream in front of it and
 * the output of attention. The backward pass makes the rest again, sublayer by sublayer, with the same code and the same masks: the
 * same bits. It is what takes most memory for its multiplications: nothing that a product of two matrices of weights does not give,
 * and not the last product of a sublayer, whose result nobody needs. */
#include "t5/model.h"

static struct mat block_forward(const struct run *r, const struct t5_stack *stack, struct stack_acts *s, size_t i, struct mat x) {
    size_t layer = stack->first_layer + i;
    struct attention self = stack_self(r, s, false, layer);
    const struct t5_block *b = &stack->blocks[i];
    struct block_acts *k = &s->blocks[i];
    x = attention_sublayer(r, &k->self, &b->self, x, NULL, &self, run_dropout(r, layer, PLACE_SELF_OUT));
    return ffn_sublayer(r, &k->ffn, &b->ffn, x, run_dropout(r, layer, PLACE_FFN_INNER), run_dropout(r, layer, PLACE_FFN_OUT));
}

static void block_backward(const struct run *r, const struct t5_stack *stack, struct stack_acts *s, size_t i, struct mat dx) {
    size_t layer = stack->first_layer + i;
    struct attention self = stack_self(r, s, false, layer);
    const struct t5_block *b = &stack->blocks[i];
    const struct block_acts *k = &s->blocks[i];
    ffn_sublayer_backward(r, &k->ffn, &b->ffn, dx, run_dropout(r, layer, PLACE_FFN_INNER), run_dropout(r, layer, PLACE_FFN_OUT));
    attention_sublayer_backward(r, &k->self, &b->self, dx, NULL, (struct mat){0}, s->dbias, &self,
                                run_dropout(r, layer, PLACE_SELF_OUT));
}

void encoder_forward(const struct run *r, const struct t5_weights *w, struct stack_acts *s) {
    const struct t5_stack *stack = &w->encoder;
    struct mat x = stack_begin(r, s, stack, w->shared, true, PLACE_EMBEDDING);
    for (size_t i = 0; i < stack->n && !exec_status(&r->x); i++)
        x = block_forward(r, stack, s, i, x);
    stack_end(r, s, stack, x);
}

void encoder_backward(const struct run *r, const struct t5_weights *w, struct stack_acts *s, const struct listener *l) {
    const struct t5_stack *stack = &w->encoder;
    grads_begin(l, stack->first_layer + stack->n - 1);
    struct mat dx = stack_backward_begin(r, s, stack);
    for (size_t i = stack->n; i-- > 0 && !exec_status(&r->x);) {
        block_backward(r, stack, s, i, dx);
        if (i) {
            grads_done(r, l, stack->first_layer + i);
            grads_begin(l, stack->first_layer + i - 1);
        }
    }
    stack_backward_end(r, s, stack, w->shared, dx, PLACE_EMBEDDING);
    grads_done(r, l, stack->first_layer);
}
