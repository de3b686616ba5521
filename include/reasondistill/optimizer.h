/* Optimisers: from gradients to weights. */
#ifndef REASONDISTILL_OPTIMIZER_H
#define REASONDISTILL_OPTIMIZER_H

#include "reasondistill/t5.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_optimizer rsd_optimizer;

enum { RSD_ADAMW, RSD_ADAFACTOR };

typedef struct rsd_optimizer_options {
    size_t size;
    double beta1, beta2, eps; /* of RSD_ADAMW: default 0.9, 0.999, 1e-8 */
    double decay;             /* weight decay, default 0 */
    double clip;              /* largest global norm of the gradient; 0: no clipping; default 1 */
    int32_t kind;             /* RSD_ADAMW (Loshchilov & Hutter 2019), RSD_ADAFACTOR (Shazeer & Stern 2018); default RSD_ADAMW */
    int32_t reserved;         /* 0 */
    double clip_tensor;       /* largest norm of each tensor's gradient; 0 (default): no clipping */

    /* Of RSD_ADAFACTOR. Matrices keep one second moment a row and one a column, vectors one an element; they decay by
     * 1 - t^-decay_rate. */
    double update_clip;             /* largest root mean square of an update before the rate; 0: any; default 1 */
    double decay_rate;              /* default 0.8 */
    double factor_eps, scale_floor; /* added to squares, 1e-30; least scale of a parameter, 1e-3 */
    double momentum;                /* decay of the first moment; 0 (default): none is kept */
    uint64_t seed;                  /* of stochastic rounding, default 1 */
    int32_t relative_step;          /* 1: the rate is min(0.01, t^-1/2) and lr is not used; default 0 */
    int32_t scale_parameter;        /* 1 (default): the rate is multiplied with max(scale_floor, rms(w)) of each parameter */
    int32_t warmup_init;            /* with relative_step: the rate is at most 1e-6 t */

    /* Of both kinds. BF16 weights are rounded stochastically, so that small steps count on the mean, unless there are masters. */
    int32_t masters;   /* 1: fp32 copies of BF16 weights are kept and updated; default 0 */
    int32_t fused;     /* 1: each layer is updated as soon as backward has its gradients, which are then forgotten (call
                      * rsd_optimizer_backward); needs clip 0; default 0 */
    int32_t reserved2; /* 0 */
} rsd_optimizer_options;
RSD_API int rsd_optimizer_options_init(rsd_optimizer_options *o, size_t size);

/* The model must stay open as long as the optimizer. *out is the caller's. RSD_EINVAL, RSD_EBUSY (shared weights), RSD_ENOMEM. */
RSD_API int rsd_optimizer_open(rsd_ctx *ctx, rsd_t5 *model, const rsd_optimizer_options *options, rsd_optimizer **out);
RSD_API void rsd_optimizer_close(rsd_optimizer *o);

/* Clips, updates the weights with learning rate lr, and zeroes the gradients. *norm (may be NULL): the gradient's norm before
 * clipping. RSD_ENUMERIC: a gradient is not finite (which tensor); weights and state are untouched. RSD_ESTATE: the optimizer is
 * fused, or a parameter has been thawed that was frozen when it was opened. */
RSD_API int rsd_optimizer_step(rsd_optimizer *o, double lr, double *norm);

/* rsd_t5_backward and rsd_optimizer_step in one, the only way to step a fused optimizer: after rsd_t5_head, once a step. Fused, with
 * clip 0, gives the bits of unfused. RSD_ENUMERIC, fused: a gradient is not finite (which tensor), and layers behind it may have
 * been updated: then every further call is RSD_ESTATE, and one goes on from a checkpoint. Other errors as of the two calls. */
RSD_API int rsd_optimizer_backward(rsd_optimizer *o, double lr, double *norm);

/* The rate of the next step when `lr` is asked for: lr, unless relative_step makes its own. */
RSD_API double rsd_optimizer_rate(const rsd_optimizer *o, double lr);
RSD_API uint64_t rsd_optimizer_steps(const rsd_optimizer *o); /* steps done */

#ifdef __cplusplus
}
#endif
#endif
