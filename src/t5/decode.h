/* Decoding token by token with caches: what every way of generation (greedy, sampling, beam search) is made of.
 *
 * A *memory* is one input: cross-attention keys and values of its encoder output. A *slot* is one sequence being written: its own
 * keys, values and tokens, and the memory that it reads. Samples and beams of one input share a memory. */
#ifndef T5_DECODE_H
#define T5_DECODE_H

#include "t5/model.h"

/* Keys and values of one decoder layer, as attention_step wants them: head h of slot (memory) s owns rows (s * heads + h) * room ..
 * of each matrix. BF16 unless the weights are F32. */
struct layer_cache {
    struct mat k, v;
};

struct decoding {
    const struct allocator *a;
    size_t slots, active, memories, layers, vocab, heads, d_kv;
    enum dtype cached;
    size_t *order;                            /* [slots] the active ones first, the free ones behind */
    size_t *place;                            /* [slots] where an active one stood in `order` at the last step */
    size_t *length;                           /* [slots] tokens decoded so far; 0 if free */
    size_t *memory;                           /* [slots] */
    int32_t *last;                            /* [slots] token that is decoded next */
    bool *leaving;                            /* [slots] by place in `order` */
    size_t *memory_length, *uses;             /* [memories] tokens; slots that read it and holders of it, 0: free */
    size_t self_room, cross_room, max_tokens; /* rows of a slot, of a memory */
    struct layer_cache *self, *cross;         /* [layers] */
    struct mat bias;                          /* [H, self_room] F32 */
    int32_t *ids;                             /* [slots, self_room] what was written */
    float *logprobs;                          /* and its log-probabilities */
    /* of the last step, by place in `order` */
    struct mat logits; /* [slots, vocab] */
    float *lse;
};

/* Small tables and logits come from r->acts, caches from the allocator. Ids from `vocab` on have no logits. Closing one that
 * failed to open is fine. */
int decoding_open(struct decoding *d, const struct run *r, const struct t5_weights *w, const struct allocator *a, size_t slots,
                  size_t memories, size_t max_tokens, size_t vocab);
void decoding_close(struct decoding *d);

/* Encodes n inputs, each into a free memory, whose first holder the caller is. offsets need not start at 0. */
int decoding_encode(struct decoding *d, const struct run *r, const struct t5_weights *w, const int32_t *ids,
                    const uint32_t *offsets, size_t n, size_t *memory);
void decoding_release(struct decoding *d, size_t memory);
size_t decoding_begin(struct decoding *d, int32_t start, size_t memory); /* a free slot, now active with nothing written */
/* `to` becomes what `from` is. Both are active slots of one memory. */
void decoding_fork(struct decoding *d, const struct run *r, size_t from, size_t to);

/* One token further for every active slot: logits and lse; length grows by one, the new token is not chosen yet. */
int decoding_step(struct decoding *d, const struct run *r, const struct t5_weights *w);
/* The token that follows, at [length - 1] of the slot. */
void decoding_choose(struct decoding *d, size_t slot, int32_t id, float logprob);
const int32_t *decoding_ids(const struct decoding *d, size_t slot);
const float *decoding_logprobs(const struct decoding *d, size_t slot);
/* Frees the slots of the places marked in `leaving`; the others keep their order. */
void decoding_leave(struct decoding *d);

#endif
