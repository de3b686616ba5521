/* Optimisers: from gradients to weights. */
#ifndef REASONDISTILL_OPTIMIZER_H
#define REASONDISTILL_OPTIMIZER_H

#include "reasondistill/t5.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_optimizer rsd_optimizer;

enum { RSD_ADAMW };

typedef struct rsd_optimizer_options {
    size_t size;
    double beta1, beta2, eps, decay; /* default 0.9, 0.999, 1e-8, 0 */
    double clip;                     /* largest global norm of the gradient; 0: no clipping; default 1 */
    int32_t kind;                    /* RSD_ADAMW (Loshchilov & Hutter 2019) */
    int32_t reserved;                /* 0 */
} rsd_optimizer_options;
RSD_API int rsd_optimizer_options_init(rsd_optimizer_options *o, size_t size);

/* The model must stay open as long as the optimizer. *out is the caller's. RSD_EINVAL, RSD_EBUSY (shared weights), RSD_ENOMEM. */
RSD_API int rsd_optimizer_open(rsd_ctx *ctx, rsd_t5 *model, const rsd_optimizer_options *options, rsd_optimizer **out);
RSD_API void rsd_optimizer_close(rsd_optimizer *o);

/* Clips, updates the weights with learning rate lr, and zeroes the gradients. *norm (may be NULL): the gradient's norm before
 * clipping. RSD_ENUMERIC: a gradient is not finite (which tensor); weights and state are untouched. */
RSD_API int rsd_optimizer_step(rsd_optimizer *o, double lr, double *norm);
RSD_API uint64_t rsd_optimizer_steps(const rsd_optimizer *o); /* steps done */

#ifdef __cplusplus
}
#endif
#endif
