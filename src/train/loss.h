/* The kinds of losses by name, for configurations. */
#ifndef TRAIN_LOSS_H
#define TRAIN_LOSS_H

#include "reasondistill/loss.h"

/* "ce", "kl"; NULL for no kind. Static. */
const char *loss_kind_name(int kind);

#endif
