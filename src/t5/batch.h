/* Checks of a batch that comes from outside. */
#ifndef T5_BATCH_H
#define T5_BATCH_H

#include "core/err.h"
#include "reasondistill/batch.h"

/* One side: offsets start at 0 and rise, ids lie below vocab. `side` names it in errors ("encoder"). */
int batch_check_side(const char *side, const int32_t *ids, const uint32_t *offsets, size_t n, size_t vocab, struct err *e);

/* *out = the caller's batch, whatever its version, with both sides checked. Targets are the loss's to check. */
int batch_read(rsd_batch *out, const rsd_batch *in, size_t vocab, struct err *e);

#endif
