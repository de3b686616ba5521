/* Inside train: what the files of the loss share. */
#ifndef TRAIN_LOSS_H
#define TRAIN_LOSS_H

#include "core/err.h"
#include "reasondistill/loss.h"

/* Any array that a loss reads, if the batch has it: ERR_INVALID names the position. *max_id: the largest id of the targets, to
 * be compared with the vocabulary once it is known. (loss_check.c) */
int loss_check_batch(const rsd_batch *b, int32_t *max_id, struct err *e);

/* The caller's options over the defaults, checked: ERR_INVALID names the option, ERR_VERSION. (loss_options.c) */
int loss_read_options(rsd_loss_options *o, const rsd_loss_options *given, struct err *e);
/* Share of cross-entropy: alpha, or the kind's own. */
double loss_alpha(const rsd_loss_options *o);

#endif
