/* T5 (Raffel et al. 2020; v1.1: Shazeer 2020 gated GELU): forward, backward, generation, in packed batches.
 *
 *     rsd_t5_forward(m, &batch, RSD_TRAIN);
 *     rsd_loss_begin(loss, &batch, 1.0 / weight);
 *     rsd_t5_head(m, rsd_loss_tile, loss);
 *     rsd_t5_backward(m);
 *     rsd_optimizer_step(opt, lr, &norm); */
#ifndef REASONDISTILL_T5_H
#define REASONDISTILL_T5_H

#include "reasondistill/batch.h"
#include "reasondistill/ctx.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_t5 rsd_t5;

enum { RSD_F32, RSD_F16, RSD_BF16, RSD_STORED, RSD_INT8 };

/* Opens a Hugging Face model directory: config.json and model.safetensors (or its index with shards), F32, F16 or BF16. F32
 * weights are mapped, and copied page by page only when written to (the file never changes); others are converted to F32. The
 * head is lm_head.weight if that is stored, else the shared embedding. *out is the caller's. RSD_ENOTFOUND, RSD_EFORMAT (file,
 * key or tensor: shape or dtype expected and found), RSD_EUNSUPPORTED (a config value that changes results and is not supported,
 * named), RSD_ENOMEM, RSD_EIO. */
RSD_API int rsd_t5_open(rsd_ctx *ctx, const char *dir, rsd_t5 **out);

/* The same with the weights in memory as RSD_F32 or RSD_BF16 (half the memory; what is stored so is mapped, the rest rounded to
 * nearest even). A model of BF16 weights computes with F32 sums, keeps its activations in BF16 while training (the residual stream
 * and all gradients are F32), and in F32 otherwise. RSD_STORED: as the embedding is stored, F16 as F32; a directory of F32 or BF16
 * then takes address space but no memory until its weights are used. RSD_INT8: linear layers and head become 8-bit whole numbers
 * with a scale per row while the model is opened (the largest weight of a row is 127), embedding and norms stay as stored: for
 * inference alone, in a quarter of F32's memory. Such a model is not trained, written, merged or saved (RSD_EUNSUPPORTED there);
 * rsd_t5_param_read gives what the files hold. RSD_EUNSUPPORTED: RSD_F16, whose gradients would need scaling. */
RSD_API int rsd_t5_open_as(rsd_ctx *ctx, const char *dir, int dtype, rsd_t5 **out);

/* The same with only the first layers of each stack, which are all that is read: a model of its own, whose config says so. A look at
 * a model that does not fit into memory, or a start for a shallower one. RSD_EINVAL: no layers, or more than there are. */
RSD_API int rsd_t5_open_part(rsd_ctx *ctx, const char *dir, int dtype, int64_t encoder_layers, int64_t decoder_layers,
                             rsd_t5 **out);

/* A new model with random weights from a config.json (path), initialised as in the T5 paper's code: embeddings N(0, 1), q
 * (d_model d_kv)^-1/2, k and v d_model^-1/2, o (heads d_kv)^-1/2, FFN in d_model^-1/2, out d_ff^-1/2, relative bias
 * d_model^-1/2, untied head d_model^-1/2, times initializer_factor. Each tensor is a pure function of (its name, shape, config,
 * seed), for any number of threads. *out is the caller's. Errors as rsd_t5_open. */
RSD_API int rsd_t5_create(rsd_ctx *ctx, const char *config, uint64_t seed, rsd_t5 **out);
/* The same in RSD_F32 or RSD_BF16, as rsd_t5_open_as: the same numbers, rounded. */
RSD_API int rsd_t5_create_as(rsd_ctx *ctx, const char *config, uint64_t seed, int dtype, rsd_t5 **out);

/* A second handle for another context on the same immutable, reference-counted weights: several threads generate from one set,
 * each with its own context. Training or writing either is RSD_EBUSY while both are open. The weights belong to the allocator of
 * the first context and may be freed from the thread that closes the last handle. RSD_EINVAL, RSD_ENOMEM. */
RSD_API int rsd_t5_share(rsd_t5 *src, rsd_ctx *ctx, rsd_t5 **out);
RSD_API void rsd_t5_close(rsd_t5 *m);

/* Writes config.json, generation_config.json and model.safetensors in dtype (RSD_F32, ...) to a folder that must not exist; it
 * appears complete or not at all. Copies `tokenizer_path` (a file; NULL: none) beside them, as tokenizer.json if its name ends
 * in .json, else as spiece.model. Keys of config.json that the library does not know are kept. RSD_EBUSY (exists), RSD_ENOTFOUND
 * (the tokenizer), RSD_EINVAL, RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_t5_save(rsd_t5 *m, const char *dir, int dtype, const char *tokenizer_path);

enum { RSD_INFER = 0, RSD_TRAIN = 1 };

/* Encoder and decoder up to the final norm, for one packed batch. RSD_TRAIN keeps what backward needs and applies the config's
 * dropout (rsd_t5_set_dropout). The batch's arrays are borrowed until rsd_t5_backward or, for rsd_t5_head, rsd_t5_logits and
 * rsd_t5_logprobs, until the next forward. What the last forward kept stays in memory for the next one to reuse. RSD_EINVAL (an
 * empty sequence, an id outside the vocabulary: which sequence and position; a malformed batch), RSD_EVERSION, RSD_EBUSY
 * (training shared weights), RSD_ENOMEM. */
RSD_API int rsd_t5_forward(rsd_t5 *m, const rsd_batch *batch, int mode);

/* Logits of some whole sequences. */
typedef struct rsd_tile {
    size_t size;
    float *logits; /* [n_positions, vocab], row r at logits + r * ld */
    size_t ld, vocab;
    size_t first_sequence, n_sequences; /* of the batch */
    size_t first_position, n_positions; /* rows are decoder positions first_position .. +n_positions of the batch */
} rsd_tile;
/* Reads the logits; after RSD_TRAIN it must overwrite every row with the gradient of the loss by the logits. Non-zero stops and
 * is handed back. It may read the model's parameters, but start no other pass over it and no optimizer's step. */
typedef int (*rsd_tile_fn)(void *user, rsd_tile *tile);

/* Computes logits tile by tile (whole sequences, in order) and hands each to fn; after a forward with RSD_TRAIN the gradients
 * that fn leaves are carried back into head and decoder. [T_dec, V] never exists at once. After RSD_TRAIN once per forward,
 * after RSD_INFER any number of times. If fn stops after RSD_TRAIN, the head's gradient holds the tiles before it and the pass
 * is over: rsd_t5_zero_grad before the next. RSD_ESTATE without a forward, RSD_EBUSY (training shared weights), RSD_EINVAL,
 * RSD_ENOMEM. */
RSD_API int rsd_t5_head(rsd_t5 *m, rsd_tile_fn fn, void *user);

/* Gradients of all parameters are added to the gradient buffers, which the first forward with RSD_TRAIN makes (4 bytes a
 * parameter). While gradients of the encoder are 0, the pass keeps activations of the decoder there: an optimizer's step between
 * forward and backward ends the pass, and backward is RSD_ESTATE. So it is unless a head has run after a forward with RSD_TRAIN;
 * RSD_EBUSY, RSD_ENOMEM: the gradients are then undefined. */
RSD_API int rsd_t5_backward(rsd_t5 *m);
RSD_API int rsd_t5_zero_grad(rsd_t5 *m); /* sets all gradients to 0 */

/* All logits of the last forward, [T_dec, vocab], into the caller's memory of n floats. RSD_EINVAL if n is not T_dec * vocab,
 * RSD_ESTATE. */
RSD_API int rsd_t5_logits(rsd_t5 *m, float *out, size_t n);

/* Log-probability (natural log) of each dec_id of the last forward, into the caller's memory of n floats. RSD_EINVAL if n is not
 * T_dec, RSD_ESTATE. */
RSD_API int rsd_t5_logprobs(rsd_t5 *m, float *out, size_t n);

/* Dropout rate from the next forward on (default: the config's) and the seed of its masks (default: the context's); `step` makes
 * masks differ between passes: same (seed, step), same masks, for any number of threads. Micro-batches of one step want values
 * of their own. RSD_EINVAL outside [0, 1). */
RSD_API int rsd_t5_set_dropout(rsd_t5 *m, double rate, uint64_t seed, uint64_t step);

/* m = (1 - alpha) m + alpha other, for every parameter; alpha 0 and 1 give m and other bit for bit. RSD_EMISMATCH: the
 * configurations or shapes differ (where, and how); RSD_EINVAL: alpha outside [0, 1]; RSD_EBUSY: shared weights. */
RSD_API int rsd_t5_merge(rsd_t5 *m, rsd_t5 *other, double alpha);

/* m = sum of weights[i] * models[i] over n models, for every parameter, whatever m was before; m may be one of them. Weights need not
 * be positive nor sum to 1: {1-a, a} interpolates as rsd_t5_merge does (to the bit), 1/n each is the uniform soup (Wortsman et al.
 * 2022, arXiv 2203.05482), and {1 - sum of a_i, a_1, ..., a_k} of a base and k models tuned from it is base + sum of a_i times what
 * each has learned (task vectors, Ilharco et al. 2023, arXiv 2212.04089). A weight of 1 beside zeros gives that model bit for bit.
 * Sums are in F32. RSD_EMISMATCH: model i differs from m in configuration or shape (i counts from 1); RSD_EINVAL: no models, a weight
 * that is not finite, all weights 0; RSD_EBUSY: the weights of m are shared; RSD_ENOMEM. */
RSD_API int rsd_t5_combine(rsd_t5 *m, rsd_t5 *const *models, const double *weights, size_t n);

/* A shallower model of src's layers: the first, the last, and what lies evenly between (one layer: the first). *out is the
 * caller's. RSD_EINVAL: no layers, or more than src has; errors of rsd_t5_create. */
RSD_API int rsd_t5_shrink(rsd_t5 *src, int64_t encoder_layers, int64_t decoder_layers, rsd_t5 **out);

/* Bounds the memory of activations: with `on`, a forward with RSD_TRAIN keeps one [tokens, d_model] matrix a block, and backward
 * computes the rest again, block by block: the same bits, for about a third more work. From the next forward on; off in a new
 * model. RSD_OK. */
RSD_API int rsd_t5_set_recompute(rsd_t5 *m, int on);

/* ---- parameters ---- */

typedef struct rsd_param {
    size_t size;      /* set by the caller */
    const char *name; /* Hugging Face's, as long as the model */
    size_t ndim, shape[2], count;
    /* Layer group: 0 the shared embedding, then encoder and decoder blocks (the last of each with the final norm), last a head of
     * its own. */
    size_t layer;
    int32_t frozen, reserved; /* rsd_t5_freeze; 0 */
} rsd_param;
RSD_API size_t rsd_t5_params(const rsd_t5 *m); /* number of tensors; a tied head counts once */
RSD_API int rsd_t5_param(const rsd_t5 *m, size_t i, rsd_param *out);
RSD_API int rsd_t5_param_find(const rsd_t5 *m, const char *name, size_t *i);    /* RSD_ENOTFOUND */
RSD_API int rsd_t5_param_read(rsd_t5 *m, size_t i, float *out, size_t n);       /* as fp32, n = count; else RSD_EINVAL */
RSD_API int rsd_t5_param_write(rsd_t5 *m, size_t i, const float *in, size_t n); /* RSD_EBUSY if shared */
/* Zeros before the first backward, for frozen parameters, and what a fused optimizer has used up. */
RSD_API int rsd_t5_grad_read(rsd_t5 *m, size_t i, float *out, size_t n);
/* Freezes (1) or thaws (0) the parameters whose name fits `pattern`, in which * stands for any characters: "shared.weight",
 * "encoder.*". No gradient is computed for what is frozen, and no optimizer writes it. All gradients become 0. Optimizers keep state
 * for what was not frozen when they were opened. *matched (may be NULL): how many fit. RSD_ENOTFOUND (none), RSD_EBUSY, RSD_EINVAL. */
RSD_API int rsd_t5_freeze(rsd_t5 *m, const char *pattern, int frozen, size_t *matched);

/* ---- facts ---- */

typedef struct rsd_t5_info {
    size_t size;                /* set by the caller */
    uint64_t parameters, bytes; /* bytes of the weights in memory or mapped */
    int64_t d_model, d_kv, d_ff, heads, encoder_layers, decoder_layers, vocab;
    int32_t dtype;        /* of the files; of the weights for a model made here */
    int32_t gated, tied;  /* 0 ReLU, 1 tanh-GELU gate, 2 SiLU gate; the head is the embedding */
    int32_t memory_dtype; /* of the weights in memory: RSD_F32, RSD_BF16 or RSD_INT8 */
    double dropout;
} rsd_t5_info;
RSD_API int rsd_t5_info_get(const rsd_t5 *m, rsd_t5_info *out);
RSD_API const char *rsd_t5_config(const rsd_t5 *m); /* config.json as it will be saved; as long as the model */

/* ---- generation ---- */

/* Asked after each token of a sequence that would go on: 0 goes on, 1 ends it here (RSD_FINISH_MATCH), anything else stops
 * generation and is handed back. ids [n]: what was written for `input` so far. The answer must depend on the ids alone: beam
 * search asks about candidates too. This is how stop strings are made: decode the ids, look for the string. */
typedef int (*rsd_stop_fn)(void *user, size_t input, const int32_t *ids, size_t n);

enum { RSD_GREEDY, RSD_SAMPLE, RSD_BEAM };
enum { RSD_EARLY_HEURISTIC, RSD_EARLY_FIRST, RSD_EARLY_NEVER };

typedef struct rsd_generate_options {
    size_t size;
    int32_t max_tokens; /* new tokens of a sequence at most, default 256 */
    int32_t batch;      /* sequences in flight; finished ones leave and waiting ones take their place; default 32 */
    int32_t mode;       /* RSD_GREEDY (default), RSD_SAMPLE, RSD_BEAM */
    int32_t n;          /* outputs of an input: samples, or the best hypotheses of a beam search; default 1 */
    /* RSD_SAMPLE: from softmax(logits / temperature), the top_k most probable ids, of these the fewest whose probabilities reach
     * top_p. Draws depend on (seed, first_input + input, sample, position) and not on what else is in flight. */
    double temperature;   /* 0.001 to 1000, default 1 */
    double top_p;         /* above 0, up to 1 (default): all */
    uint64_t seed;        /* 0 (default): the context's */
    uint64_t first_input; /* added to the number of an input, for a caller that comes with parts of a larger whole */
    int32_t top_k;        /* 0 (default): all */
    /* RSD_BEAM: hypotheses are compared by the sum of their log-probabilities / length^length_penalty, end token included.
     * `beams` (default 4) are followed, each one of the sequences in flight. A search ends when `beams` hypotheses are complete
     * and, by early_stopping (Hugging Face's False, True and "never"): RSD_EARLY_HEURISTIC (default) the best running one would
     * not improve on them if it ended now; RSD_EARLY_FIRST at once; RSD_EARLY_NEVER not even if it went on to max_tokens. */
    int32_t beams, early_stopping;
    /* A sequence ends (RSD_FINISH_REPEAT) when its last tokens are one block of at most repeat_span (default 32) ids, repeat_stop
     * times in a row; 0 (default): never; else 2 or more. */
    int32_t repeat_stop, repeat_span;
    /* Ids from here on are never written and have no probability: T5's matrix has 28 rows more than its tokenizer has pieces.
     * 0 (default): all may be. */
    int32_t vocab;
    double length_penalty; /* default 1 */
    rsd_stop_fn stop;      /* NULL (default): only the end token, repeat_stop and max_tokens end a sequence */
    void *stop_user;
} rsd_generate_options;
RSD_API int rsd_generate_options_init(rsd_generate_options *o, size_t size);

/* How a sequence ended: the end token, max_tokens, the stop function, repeat_stop. */
enum { RSD_RUNNING, RSD_FINISH_STOP, RSD_FINISH_LENGTH, RSD_FINISH_MATCH, RSD_FINISH_REPEAT };

/* One token of output `sample` (0 .. options.n - 1) of an input. Tokens of one output come in order, those of different ones
 * interleave; hypotheses of a beam search come whole, best first. The end token comes with RSD_FINISH_STOP. logprob: natural log
 * of its probability, before temperature, top_k and top_p. Non-zero stops and is handed back. */
typedef int (*rsd_token_fn)(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish);

/* Generation for n inputs laid end to end (enc_ids[enc_offsets[i] .. enc_offsets[i+1]), end token included); each is encoded
 * once, however many outputs it has. Caches for `batch` sequences are kept while it runs; a forward that waits for its head or
 * backward is not disturbed. The same bits for any number of threads; with another batch, logits may differ in their last bits.
 * RSD_EINVAL (as rsd_t5_forward; an option outside its range: which), RSD_EVERSION, RSD_ENUMERIC (logits that
 * are not finite), RSD_ENOMEM. */
RSD_API int rsd_t5_generate(rsd_t5 *m, const int32_t *enc_ids, const uint32_t *enc_offsets, size_t n,
                            const rsd_generate_options *options, rsd_token_fn fn, void *user);

#ifdef __cplusplus
}
#endif
#endif
