/* config.json of the T5 family: what changes results is read and bounded, what does not is kept and written again. */
#ifndef T5_CONFIG_H
#define T5_CONFIG_H

#include "core/json.h"
#include "tensor/mat.h"

struct t5_config {
    size_t vocab, d_model, d_kv, d_ff, heads, encoder_layers, decoder_layers;
    size_t encoder_stored, decoder_stored; /* layers of the file; those above are as many, or the first of them */
    size_t inner;                          /* heads * d_kv */
    size_t buckets, max_distance;
    double dropout, init_factor;
    float eps;
    bool gated;  /* tanh-GELU gate (v1.1, Flan, mT5), else ReLU (v1.0) */
    bool silu;   /* gated, but by SiLU (UL2) */
    bool tied;   /* the head is the shared embedding */
    bool scaled; /* logits are multiplied by d_model^-1/2 */
    int32_t start_id, eos_id, pad_id;
    struct json *doc; /* as read */
};

/* Every dimension is bounded here, so that products of two of them fit anywhere. ERR_NOTFOUND, ERR_FORMAT (file, key),
 * ERR_UNSUPPORTED (a key that changes results in a way that is not implemented). The doc is the caller's: t5_config_free. */
int t5_config_read(struct t5_config *c, const char *path, const struct allocator *a, struct err *e);
void t5_config_free(struct t5_config *c);

/* config.json for weights of `dtype`. Failures show in str_status. */
void t5_config_emit(const struct t5_config *c, enum dtype dtype, struct str *out);

#endif
