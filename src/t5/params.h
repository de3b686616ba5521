/* The parameters of a model, reached layer by layer: the one way to weights and gradients for everything outside the forward and
 * backward pass, so that paging an 11B model from disk, sharding and all-reduce stay local to the file behind this header. */
#ifndef T5_PARAMS_H
#define T5_PARAMS_H

#include "core/err.h"
#include "reasondistill/t5.h"
#include "tensor/mat.h"

struct param {
    const char *name; /* Hugging Face's */
    struct mat w;     /* rows x cols; a vector is one row */
    struct mat grad;  /* fp32, the same shape; data NULL where no gradients are kept */
    bool *fresh;      /* grad is zero, but not in memory yet: the first that adds to it overwrites what lies there (grads.c) */
    bool frozen;      /* no gradient is computed, no optimizer writes it */
};

/* Layer groups: 0 the shared embedding, then encoder blocks with their final norm, decoder blocks with theirs, last the untied
 * head. */
size_t params_layers(const rsd_t5 *m);

/* The parameters of one layer, valid until released; at most one layer at a time is guaranteed to fit. `dirty`: the weights
 * were written: their version rises and packed copies are made again. Writing to shared weights is ERR_BUSY at acquire with
 * `write`. */
int params_acquire(rsd_t5 *m, size_t layer, bool write, struct param **out, size_t *n, struct err *e);
void params_release(rsd_t5 *m, size_t layer, bool dirty);

/* All gradients as one row of fp32 in parameter order, allocated (zero) on the first call. Not while they are fused. To read or write
 * them in any other way is to look at memory that may not be written yet. */
int params_grads(rsd_t5 *m, struct mat *all, struct err *e);

/* Fused: gradients are never all there. params_backward calls fn for each layer group when its gradients are complete, in the order
 * of the backward pass, and forgets them when fn returns; an error of fn ends the pass. While fused, rsd_t5_backward is refused.
 * *user is the caller's pointer to the model: it becomes NULL when the model is closed first. user NULL: no longer fused. */
typedef int params_layer_fn(void *user, size_t layer, struct err *e);
int params_fuse(rsd_t5 *m, rsd_t5 **user, struct err *e);
int params_backward(rsd_t5 *m, params_layer_fn *fn, void *user, struct err *e);

#endif
