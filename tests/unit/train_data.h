/* A small data set made through the public interface: replies with probabilities, aligned, built. */
#ifndef TRAIN_DATA_H
#define TRAIN_DATA_H

#include "reasondistill/reasondistill.h"

/* Makes dir/data of n questions (at most twelve) with their replies, for the vocabulary dir/spiece.model; dir/items.jsonl has
 * the same questions. */
void train_data(rsd_ctx *ctx, const char *dir, int n);

#endif
