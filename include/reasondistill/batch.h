/* A batch: sequences laid end to end, never padded. Anyone may make one; rsd_dataset hands out nothing else. */
#ifndef REASONDISTILL_BATCH_H
#define REASONDISTILL_BATCH_H

#include "reasondistill/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* n sequences. Sequence s reads enc_ids[enc_offsets[s] .. enc_offsets[s+1]) and is to write dec_ids[dec_offsets[s] ..
 * dec_offsets[s+1]), its end token included. At position t the decoder is given dec_ids[t-1], at a sequence's first position the
 * decoder start token, and predicts dec_ids[t]. No sequence may be empty on either side. T_enc = enc_offsets[n], T_dec =
 * dec_offsets[n]; offsets start at 0. Fields that may be NULL say what that means. A zeroed struct with `size` and the first
 * five fields set is a batch with hard labels. */
typedef struct rsd_batch {
    size_t size; /* sizeof(rsd_batch) */
    size_t n;
    const int32_t *enc_ids;      /* [T_enc] */
    const uint32_t *enc_offsets; /* [n+1] */
    const int32_t *dec_ids;      /* [T_dec] */
    const uint32_t *dec_offsets; /* [n+1] */

    /* Soft targets: position t has the entries row_offsets[t] .. row_offsets[t+1). NULL: each row is its dec_id with probability
     * 1. */
    const uint32_t *row_offsets; /* [T_dec+1] */
    const int32_t *row_ids;
    const float *row_probs; /* [0,1], a row's sum at most 1 */
    const float *tails;     /* [T_dec] probability that could not be placed; NULL: 1 - the row's sum */
    const uint8_t *kinds;   /* [T_dec] rsd_kind; NULL: not known */
    const float *weights;   /* [T_dec] weight of a position; NULL: 1 */

    const uint8_t *formats;    /* [n] rsd_format; NULL: not known */
    const float *seq_weights;  /* [n]; NULL: 1 */
    const int8_t *signs;       /* [n] +1 learn it, -1 a wrong reply, for losses that use them; NULL: +1 */
    const uint8_t *loss_slots; /* [n] which of the trainer's losses; NULL: 0 */

    /* Chunks: positions chunk_begin[c] .. chunk_end[c] spell the same text as teacher tokens whose joint log-likelihood is
     * chunk_logprobs[c], at most 0. In order, none twice, none across sequences; positions may be in none. NULL: not kept. */
    size_t n_chunks;
    const uint32_t *chunk_begin, *chunk_end;
    const float *chunk_logprobs;

    /* The teacher's probabilities at each position, largest first, whatever their tokens: [T_dec, top_k]; 0 behind the last,
     * and all 0 where the position goes on with a token that began before it, or nothing is known.
     * NULL: not kept. */
    size_t top_k;
    const float *top_probs;
} rsd_batch;

#ifdef __cplusplus
}
#endif
#endif
