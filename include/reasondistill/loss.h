/* Losses: what the student is told about each position. A loss sees logits and targets, never the model. */
#ifndef REASONDISTILL_LOSS_H
#define REASONDISTILL_LOSS_H

#include "reasondistill/t5.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_loss rsd_loss;

enum {
    /* Sample matching: -log q(dec_id). */
    RSD_LOSS_CE,
    /* Distribution matching: sum_i p_i (log p_i - log q_i) over the row; gradient by logit v: q_v sum_i p_i - p_v. What the rows
     * lack is left out (the reference). */
    RSD_LOSS_KL
};

typedef struct rsd_loss_options {
    size_t size;
    int32_t kind;     /* RSD_LOSS_KL */
    int32_t reserved; /* 0 */
} rsd_loss_options;
RSD_API int rsd_loss_options_init(rsd_loss_options *o, size_t size);

/* *out is the caller's. RSD_EINVAL, RSD_ENOMEM. */
RSD_API int rsd_loss_open(rsd_ctx *ctx, const rsd_loss_options *options, rsd_loss **out);
RSD_API void rsd_loss_close(rsd_loss *l);

/* Sum of position weight times sequence weight: what the mean is taken over. Pure. */
RSD_API double rsd_loss_weight(const rsd_batch *batch);

/* Says which targets the next tiles belong to, and the factor on loss and gradient: 1 / (sum of the weights of all batches, on
 * all ranks, that make one optimizer step). The batch is borrowed until the last tile. RSD_EINVAL (malformed rows: which
 * position), RSD_EVERSION. */
RSD_API int rsd_loss_begin(rsd_loss *l, const rsd_batch *batch, double scale);
/* An rsd_tile_fn with the rsd_loss as user: overwrites logits with gradients. RSD_ENUMERIC: a loss that is no finite number
 * (which position); RSD_EINVAL: an id outside the vocabulary, a tile of another batch; RSD_ESTATE: no rsd_loss_begin;
 * RSD_ENOMEM. */
RSD_API int rsd_loss_tile(void *loss, rsd_tile *tile);

typedef struct rsd_loss_result {
    size_t size;                 /* set by the caller */
    double loss;                 /* sum over positions of scale * weight * loss */
    double weight;               /* sum of the weights seen */
    uint64_t positions, correct; /* of a weight above 0; correct: argmax equals dec_id */
} rsd_loss_result;
/* Sums since the last rsd_loss_begin. */
RSD_API int rsd_loss_result_get(const rsd_loss *l, rsd_loss_result *out);

#ifdef __cplusplus
}
#endif
#endif
