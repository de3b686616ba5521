/* What an optimizer keeps for each parameter. */
#ifndef TRAIN_OPTIMIZER_STATE_H
#define TRAIN_OPTIMIZER_STATE_H

#include "base/ctx.h"
#include "reasondistill/optimizer.h"
#include "t5/params.h"

/* First and second moment of each element; second moments of rows and columns, or of each element where they are not factored
 * (rows alone); fp32 masters of BF16 weights. */
enum state { STATE_M, STATE_V, STATE_ROWS, STATE_COLS, STATE_MASTER, N_STATES };

struct slot {
    const char *name;
    size_t shape[2];
    bool trained;               /* not frozen when the optimizer was opened: else nothing is kept */
    struct mat state[N_STATES]; /* fp32; without memory where the optimizer has no use for it */
};

/* One tensor of the state as files name it. */
struct state_tensor {
    size_t slot, name_at, shape[2];
    enum state state;
};

struct rsd_optimizer {
    rsd_ctx *ctx;
    rsd_t5 *model;
    rsd_optimizer_options o;
    uint64_t t;
    bool torn; /* a fused update stopped half way */
    size_t n_slots, n_tensors;
    struct slot *slots; /* one per parameter, in their order */
    struct state_tensor *tensors;
    struct arena arena; /* of the states */
    struct str names;   /* "m.NAME" and so on, terminated, one behind another */
};

/* Slots for all parameters of the model, with room that is zero, or the weights for masters. */
int state_open(rsd_optimizer *o, struct err *e);
void state_close(rsd_optimizer *o);

#endif
