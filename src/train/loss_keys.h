/* The key "loss" of run.json: a name, an object of options, or either of these for each format. */
#ifndef TRAIN_LOSS_KEYS_H
#define TRAIN_LOSS_KEYS_H

#include "reasondistill/format.h"
#include "reasondistill/loss.h"
#include "train/keys.h"

#include <stdbool.h>

/* rsd_loss_options as keys hold them. */
struct loss_choice {
    int64_t kind, tail;
    double alpha, temperature, label_smoothing, unlikelihood, weight; /* alpha: NaN for the kind's own */
};

struct loss_choices {
    struct loss_choice common, of[RSD_FORMATS];
    bool own[RSD_FORMATS]; /* the format has one of its own */
};

extern const struct key_type key_loss; /* struct loss_choices */
void loss_keys_explain(struct str *out);

/* Opens the loss that was chosen. */
int loss_choices_open(rsd_ctx *ctx, const struct loss_choices *c, rsd_loss **out);
/* Whether anything but cross-entropy on hard labels is asked for. */
bool loss_choices_soft(const struct loss_choices *c);

#endif
