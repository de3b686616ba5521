/* The inside of rsd_t5: weights that several handles may share, and what one handle keeps of its last pass. */
#ifndef T5_MODEL_H
#define T5_MODEL_H

#include "base/ctx.h"
#include "core/map.h"
#include "t5/config.h"
#include "t5/params.h"
#include "tensor/safetensors.h"

#include <stdatomic.h>

/* ---- weights ---- */

/* y = x w^T. All linear layers are this struct; adapters become members here. */
struct linear {
    const struct param *base; /* w [out, in] */
    struct mat whole;         /* the same in 8 bits, made at open and read instead of it; without memory unless asked for */
    const float *scales;      /* [out] of its rows */
};

struct attention_weights {
    struct linear q, k, v, o;
    const struct param *norm;
};

struct ffn_weights {
    struct linear wi, gate, wo; /* gated: gelu(wi x) * (gate x); gate.base NULL where it is ReLU */
    const struct param *norm;
};

struct t5_block {
    struct attention_weights self, cross; /* cross: decoder only */
    struct ffn_weights ffn;
};

struct t5_stack {
    struct t5_block *blocks;
    size_t n;
    size_t first_layer;                    /* layer group of block 0 */
    const struct param *bias, *final_norm; /* bias [buckets, H] */
};

struct param_info {
    size_t ndim, shape[2], count, layer;
    size_t offset; /* of its gradient in the arena of gradients */
    double std;    /* of random initialisation; 0: ones */
};

struct t5_weights {
    atomic_size_t refs;
    struct allocator alloc; /* of the context that opened them */
    struct t5_config config;
    enum dtype dtype; /* of the files, that of the weights if made here */
    enum dtype type;  /* of the weights in memory: F32 or BF16 */
    bool type_stored; /* it is taken from the embedding */
    struct str json;  /* config.json as it will be saved */
    uint64_t version; /* rises with every write */

    struct arena keep; /* names, tables, blocks */
    struct param *params;
    struct param_info *info;
    size_t n, count;             /* tensors, elements */
    size_t layers, *layer_first; /* [layers + 1] */
    struct map by_name;
    const struct param *shared, *head; /* equal if tied */
    struct linear head_whole;          /* of int8 models: the head in 8 bits */
    bool int8;                         /* linear layers and head in 8 bits, for inference alone */
    void *quantized;                   /* memory of these */
    struct t5_stack encoder, decoder;

    struct safetensors *shards; /* files that stay mapped */
    size_t n_shards;
    void *memory; /* weights that are not mapped */
    /* Gradients, fp32: all of them in parameter order; or, fused, those of the first layer group, of the head if it is one, and
     * room for one block at a time. NULL before they are needed. */
    float *grads;
    size_t n_grads;
    bool *fresh;     /* [n]: of each parameter */
    rsd_t5 *lent_to; /* whose pass has activations where gradients of the encoder will lie, or NULL */
    bool fused;
    uint64_t bytes;
};

/* The table of tensors that `config` asks for: names, shapes, layers, blocks; no data yet. layout.c */
int weights_layout(struct t5_weights *w, struct err *e);
struct t5_weights *weights_new(const struct allocator *a, struct err *e); /* refs 1 */
void weights_release(struct t5_weights *w);
/* Binds every tensor of the layout to the files of a model directory. weights.c */
int weights_load(struct t5_weights *w, rsd_ctx *ctx, const char *dir, struct err *e);
/* The linear layers and the head in 8 bits, from the weights as they are bound; `quantizes`: whether parameter i needs no other
 * form. quantize.c */
int weights_quantize(struct t5_weights *w, rsd_ctx *ctx, struct err *e);
bool weights_quantizes(const struct t5_weights *w, size_t i);
int weights_memory(struct t5_weights *w, struct err *e); /* memory for all tensors of a layout, in fp32. init.c */
/* The value of a tensor is a pure function of (seed, its name, shape, std). init.c */
int weights_random(struct t5_weights *w, rsd_ctx *ctx, uint64_t seed, struct err *e);
int weights_json(struct t5_weights *w, struct err *e);

/* ---- one pass ---- */

/* What a sublayer keeps for its backward pass. */
struct attention_acts {
    struct mat x; /* input of the norm: the residual stream */
    float *rrms;
    struct mat q, k, v, a; /* a: output of attention, before wo */
    float *lse;
};

struct ffn_acts {
    struct mat x;
    float *rrms;
    struct mat h, g; /* gated: both factors before the activation; ReLU: h after it, g without memory */
};

struct block_acts {
    struct attention_acts self, cross;
    struct ffn_acts ffn;
};

struct stack_acts {
    size_t tokens;
    const int32_t *ids;
    struct attention_span *self, *cross;
    size_t n_spans, longest;
    int32_t *bucket;
    struct mat bias, dbias; /* [H, distances] */
    size_t bias_zero;
    struct block_acts *blocks;
    struct arena_mark blocks_begin; /* decoder: what its blocks keep lies behind */
    struct mat room;                /* decoder: memory for that, free until its backward pass is over; or none */
    struct mat x;                   /* the residual stream behind the last block */
    float *rrms;
    struct mat out;  /* behind the final norm; BF16 while training in it */
    struct mat dout; /* its gradient */
};

/* Where a pass computes: kernels, memory for activations, dropout. */
struct run {
    struct exec x;
    struct arena *acts;
    const struct t5_config *c;
    bool train, recompute;
    enum dtype act;      /* of activations that the backward pass needs */
    struct dropout drop; /* seed and rate; the stream is made by place */
    uint64_t step;
};

enum t5_state { T5_IDLE, T5_INFERRED, T5_TRAINING, T5_HEADED };

struct rsd_t5 {
    rsd_ctx *ctx;
    struct t5_weights *w;
    double dropout; /* of the next forward */
    uint64_t seed, step;
    rsd_t5 **fused_by; /* a fused optimizer's pointer to this handle, or NULL */
    bool recompute;    /* of the next forward */
    bool remade;       /* the last forward left it to the backward pass to make a block's activations again */

    enum t5_state state;
    struct arena acts;     /* of the last forward, kept until the next */
    struct arena decoding; /* of generate */
    rsd_batch batch;
    struct dropout drop; /* of the last forward: its backward makes the same masks */
    uint64_t drop_step;
    struct stack_acts enc, dec;
};

/* A handle on w, whose reference becomes the handle's; NULL on failure (the reference is still the caller's). open.c */
rsd_t5 *model_new(rsd_ctx *ctx, struct t5_weights *w, struct err *e);
struct run model_run(rsd_t5 *m, bool train, struct err *e);
bool model_shared(const rsd_t5 *m);
int model_grads(rsd_t5 *m, struct err *e); /* allocates them, zero, on the first call */
/* Gradients of the encoder are zero, and not in memory, until the decoder's backward pass is over: one row of memory for what its
 * blocks keep until then. Without memory if they are not zero, or fused. */
struct mat grads_lend(rsd_t5 *m);
/* Whoever needs that memory earlier ends the pass that borrowed it: no backward pass without another forward. */
void grads_take_back(struct t5_weights *w);
/* Gradients first .. end that nobody has added to become zero in memory, too. */
void grads_settle(const struct exec *x, struct t5_weights *w, size_t first, size_t end);

/* The backward pass tells a listener where it stands: gradients of a layer group are made room for before the first of them is
 * added, and are complete when `done` is called. fn NULL: nobody listens. grads.c */
struct listener {
    rsd_t5 *m;
    params_layer_fn *fn;
    void *user;
};
void grads_begin(const struct listener *l, size_t layer);
void grads_done(const struct run *r, const struct listener *l, size_t layer);

/* Places of a layer where something is dropped. */
enum place {
    PLACE_EMBEDDING,
    PLACE_DECODER_EMBEDDING,
    PLACE_SELF_PROBS,
    PLACE_SELF_OUT,
    PLACE_CROSS_PROBS,
    PLACE_CROSS_OUT,
    PLACE_FFN_INNER,
    PLACE_FFN_OUT,
    PLACE_FINAL,
    PLACES
};
struct dropout run_dropout(const struct run *r, size_t layer, enum place place);

/* ---- layers (layer.c, attention.c, ffn.c) ---- */

struct mat run_mat(const struct run *r, size_t rows, size_t cols); /* F32 */
struct mat run_act(const struct run *r, size_t rows, size_t cols); /* of the type of activations */
float *run_vector(const struct run *r, size_t rows, size_t cols);

struct projection linear_projection(struct linear l, struct mat y);                 /* y = in w^T as a part of project() */
void linear_add(const struct run *r, struct mat y, struct linear l, struct mat in); /* y += in w^T, a few rows */
/* Linear layers of one input: up to MAX_PRODUCTS of one kind. y: what comes out; in the backward pass, its gradient. */
struct branch {
    struct linear l;
    struct mat y;
};
/* y_i = in w_i^T */
void linear_forward(const struct run *r, const struct branch *b, size_t n, struct mat in);
struct mat param_grad(const struct run *r, const struct param *p); /* to add to; without memory if frozen */
float param_beta(const struct param *p);                           /* for a product that adds to the gradient */
/* din = sum of dy_i w_i + beta din */
void linear_backward_input(const struct run *r, struct mat din, const struct branch *b, size_t n, float beta);
/* dw_i += dy_i^T in, unless frozen */
void linear_backward_weights(const struct run *r, const struct branch *b, size_t n, struct mat in);
/* Both. */
void linear_backward(const struct run *r, struct mat din, const struct branch *b, size_t n, struct mat in, float beta);
/* The stream behind a sublayer whose inner result is `in`: y = x + dropout(in w^T); y may be x. */
void residual_forward(const struct run *r, struct mat y, struct mat x, struct linear l, struct mat in, struct dropout d);
/* Memory for the stream behind a sublayer: new while training, else x again. */
struct mat residual_mat(const struct run *r, struct mat x);
/* din = the gradient of `in`, given the gradient of the stream. Returns what linear_backward_weights needs, valid until dstream
 * changes. */
struct branch residual_backward(const struct run *r, struct mat din, struct linear l, struct mat dstream, struct dropout d);

/* memory: what keys and values are made of (cross), or NULL (self). Returns the new stream. */
struct mat attention_sublayer(const struct run *r, struct attention_acts *k, const struct attention_weights *w, struct mat x,
                              const struct mat *memory, const struct attention *s, struct dropout out);
/* dx: gradient of the stream behind the sublayer on entry, before it on return. dmemory += (cross) */
void attention_sublayer_backward(const struct run *r, const struct attention_acts *k, const struct attention_weights *w,
                                 struct mat dx, const struct mat *memory, struct mat dmemory, struct mat dbias,
                                 const struct attention *s, struct dropout out);
struct mat ffn_sublayer(const struct run *r, struct ffn_acts *k, const struct ffn_weights *w, struct mat x, struct dropout inner,
                        struct dropout out);
void ffn_sublayer_backward(const struct run *r, const struct ffn_acts *k, const struct ffn_weights *w, struct mat dx,
                           struct dropout inner, struct dropout out);

/* Logits of decoder outputs: the first logits.cols ids of the vocabulary. head.c */
void head_logits(const struct run *r, const struct t5_weights *w, struct mat logits, struct mat out);
/* The same for a few rows, whose bits do not depend on each other. */
void head_project(const struct run *r, const struct t5_weights *w, struct mat logits, struct mat out);

/* ---- stacks (stack.c, encoder.c, decoder.c) ---- */

/* Spans, relative bias and embedded tokens of a stack; ids, tokens, self spans and longest are set. */
struct mat stack_begin(const struct run *r, struct stack_acts *s, const struct t5_stack *stack, const struct param *embedding,
                       bool bidirectional, enum place place);
void stack_end(const struct run *r, struct stack_acts *s, const struct t5_stack *stack, struct mat x);
struct attention stack_self(const struct run *r, const struct stack_acts *s, bool causal, size_t layer);
/* dx of the stream behind the last block, from s->dout. */
struct mat stack_backward_begin(const struct run *r, struct stack_acts *s, const struct t5_stack *stack);
void stack_backward_end(const struct run *r, struct stack_acts *s, const struct t5_stack *stack, const struct param *embedding,
                        struct mat dx, enum place place);

void encoder_forward(const struct run *r, const struct t5_weights *w, struct stack_acts *s);
void encoder_backward(const struct run *r, const struct t5_weights *w, struct stack_acts *s, const struct listener *l);
void decoder_forward(const struct run *r, const struct t5_weights *w, struct stack_acts *s, struct mat memory);
void decoder_backward(const struct run *r, const struct t5_weights *w, struct stack_acts *s, struct mat memory,
                      struct mat dmemory, const struct listener *l);

#endif
