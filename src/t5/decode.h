/* Decoding token by token with caches: what every way of generation (greedy, beam, sampling) is made of. */
#ifndef T5_DECODE_H
#define T5_DECODE_H

#include "t5/model.h"

/* Keys and values of one decoder layer: slot s owns rows s * room .. of each matrix. */
struct layer_cache {
    struct mat k, v;
};

struct decoding {
    const struct allocator *a;
    size_t slots, active, layers;
    size_t *order;                            /* [slots] the active ones first, the free ones behind */
    size_t *length;                           /* [slots] tokens decoded so far */
    size_t *memory;                           /* [slots] tokens of its input */
    int32_t *last;                            /* [slots] token that is decoded next */
    bool *leaving;                            /* [slots] by place in `order` */
    size_t self_room, cross_room, max_tokens; /* rows of a slot */
    struct layer_cache *self, *cross;         /* [layers] */
    struct mat bias;                          /* [H, self_room] */
    /* of the last step, by place in `order` */
    struct mat logits;
    int32_t *best;
    float *lse, *picked;
};

/* Small tables and logits come from r->acts, caches from the allocator. Closing one that failed to open is fine. */
int decoding_open(struct decoding *d, const struct run *r, const struct t5_weights *w, const struct allocator *a, size_t slots,
                  size_t max_tokens);
void decoding_close(struct decoding *d);

/* Encodes n inputs and gives them the slots order[active .. active + n), which become active. offsets need not start at 0. */
int decoding_enter(struct decoding *d, const struct run *r, const struct t5_weights *w, const int32_t *ids,
                   const uint32_t *offsets, size_t n);
/* One token further for every active slot: logits, best, lse and picked (the logit of best); length grows by one. */
int decoding_step(struct decoding *d, const struct run *r, const struct t5_weights *w);
/* Frees the slots of the places marked in `leaving`; the others keep their order. */
void decoding_leave(struct decoding *d);

#endif
