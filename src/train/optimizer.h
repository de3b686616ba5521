/* The optimizer's state, for checkpoints. */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "core/err.h"
#include "reasondistill/optimizer.h"
#include "tensor/safetensors.h"

/* The state as tensors that safetensors_write takes: per parameter the first and second moments ("m.NAME", "v.NAME") and, for
 * weights that are not fp32, their fp32 masters ("w.NAME"). Borrowed, valid until the optimizer is stepped or closed. */
size_t optimizer_tensors(const rsd_optimizer *o);
void optimizer_tensor(const rsd_optimizer *o, size_t i, struct safetensors_item *out);

/* Takes over a state that was written so, and the number of steps done. ERR_MISMATCH (which tensor) leaves a state that must
 * not be used. */
int optimizer_restore(rsd_optimizer *o, const struct safetensors *from, uint64_t steps, struct err *e);

#endif
