/* A tiny model and a batch by hand, for tests of training. */
#ifndef TRAIN_FIXTURE_H
#define TRAIN_FIXTURE_H

#include "reasondistill/reasondistill.h"

#include <check.h>

/* Fails the test with the context's text. */
#define OK(ctx, call) ck_assert_msg((call) == RSD_OK, "%s: %s", #call, rsd_ctx_error(ctx))

rsd_ctx *fixture_ctx(void);
/* config.json of a gated, untied model: d_model 8, 1 + 1 layers, 2 heads, the given vocabulary and dropout rate. */
void fixture_config(const char *path, int vocab, const char *dropout);
/* A unigram vocabulary: <pad>, </s>, <unk>, the words of the tests with a blank in front, and small letters. A model for it has
 * FIXTURE_VOCAB rows: T5's extra ids, and two rows more that no piece uses. */
void fixture_vocab(const char *path);
enum { FIXTURE_VOCAB = 160 };
/* Two sequences with ids below 20; static. */
const rsd_batch *fixture_batch(void);
/* Forward, loss, backward: gradients of the mean loss are added. Returns the loss. */
double fixture_pass(rsd_ctx *ctx, rsd_t5 *m, const rsd_batch *b);
/* Weights with which the loss is finite and the gradient of FIXTURE_OVERFLOWS is not: a large norm in front of it and a large weight
 * behind it meet only there, since in the forward pass it is 0 and stands between them. */
#define FIXTURE_OVERFLOWS "decoder.block.0.layer.0.SelfAttention.v.weight"
void fixture_overflow(rsd_ctx *ctx, rsd_t5 *m);
/* All weights (grads 0) or gradients (1), in order, of malloc. */
float *fixture_read(rsd_ctx *ctx, rsd_t5 *m, int grads, size_t *n);

#endif
