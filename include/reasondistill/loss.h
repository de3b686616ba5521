/* Losses: what the student is told about each position. A loss sees logits and targets, never the model.
 *
 * Of one position, with logits z, q = softmax(z), label y, the teacher's row p over the tokens S and t = what the row lacks:
 *
 *     loss = weight (alpha CE + (1 - alpha) D)        times position weight, sequence weight and rsd_loss_begin's scale
 *
 * CE = -(1 - e) log q_y - e / V sum_v log q_v, e the label smoothing (Szegedy et al. 2016). dCE/dz_v = q_v - (1 - e) [v = y] -
 * e / V. D is the kind's own. A divergence compares classes: the tokens of S, and with the tail BUCKET one class for all others,
 * which holds t and R = sum of q outside S. With s_j the student's probability of class j and c_j = dD / dlog s_j:
 *
 *     dD/dz_v = c_v - s_v C,   v in S         C = sum_j c_j, as dlog s_j / dz_v = [v = j] - s_v
 *     dD/dz_v = -q_v C,        outside, tails DROP and RENORMALISE of KL: s_v = q_v sums to 1 over the whole vocabulary
 *     dD/dz_v = (q_v / R) (c_R - s_R C),  outside, BUCKET: log R is a log-sum-exp, whose derivatives are q_v / R
 *     dD/dz_v = 0,             outside, where s is q divided by its sum over S
 *
 *     kind         D                                              c_j
 *     KL           sum p_j log(p_j / s_j)                         -p_j; so dD/dz_v = q_v sum_i p_i - p_v for DROP
 *     REVERSE_KL   sum s_j log(s_j / p_j) - s_j + p_j             s_j log(s_j / p_j)
 *     JS           sum (p_j log(p_j/m_j) + s_j log(s_j/m_j)) / 2  s_j log(s_j / m_j) / 2,  m = (p + s) / 2
 *     ULD          sum |p_(j) - q_(j)|, both sorted               q_(j) sign(q_(j) - p_(j))
 *     ALM          KL of two coins, of the chunk                  see RSD_LOSS_ALM
 *
 * Exponents are taken from each row's maximum and R is summed, not subtracted: losses and gradients are exact to single
 * precision for logits up to +-1e4. With S the whole vocabulary every tail gives the dense divergence. */
#ifndef REASONDISTILL_LOSS_H
#define REASONDISTILL_LOSS_H

#include "reasondistill/t5.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_loss rsd_loss;

enum {
    /* Sample matching: CE alone, whatever alpha is. */
    RSD_LOSS_CE,
    /* Distribution matching (Fu et al. 2023, section 3; Hinton et al. 2015): forward KL, covers all that the teacher may say. */
    RSD_LOSS_KL,
    /* Stays with what the teacher finds likely (Gu et al. 2024). The terms - s + p make it 0 only for s = p where the row does
     * not sum to 1; they cancel elsewhere. A p_j below 1e-6 counts as 1e-6: a certain label would cost infinitely much. */
    RSD_LOSS_REVERSE_KL,
    /* Jensen-Shannon: between the two, at most log 2. Small gradients where the student is far off: wants alpha > 0. */
    RSD_LOSS_JS,
    /* Chunk likelihood (Minixhofer et al. 2025, arXiv 2503.20083): for each chunk of the batch, the teacher's and the student's
     * probability of its text, a = exp(chunk_logprob / T) and b = exp(sum of log q_y / T), as two coins: D = a log(a / b) + (1 -
     * a) log((1 - a) / (1 - b)), with b (1 - 2^-20) in 1 - b. Each position of the chunk has the loss D, so a chunk counts by
     * its length. With u = sum of log q_y / T, dD/du = (1 - a) b / (1 - b) - a and dD/dz_v = dD/du (1 / T) ([v = y] - q_v).
     * Positions in no chunk have D = 0. Needs the batch's chunks.
     * The paper's correction for the bias of chunk ends (both sides times the probability that a blank follows) is left out: it
     * needs the student's mass on all pieces that begin with a blank at the position behind the chunk, and a top-k teacher tells
     * only bounds of its own: on the 35 real replies of the test data 0.036 to 0.058 nats a chunk end (means over 1,307 ends of
     * words), next to 0.302 nats a token. */
    RSD_LOSS_ALM,
    /* Transport between sorted probabilities (Boizard et al. 2024, ULD): needs the batch's top_probs, knows no tokens. Compares as
     * many as the teacher gave; BUCKET adds |t - R|, RENORMALISE divides p by its sum. A position without has D = 0. */
    RSD_LOSS_ULD
};

/* What becomes of the probability t that a row lacks (the batch's tails, else 1 - the row's sum; below 1e-6 it is rounding, and
 * 0). */
enum {
    RSD_TAIL_DROP,        /* left out: p as it is (the reference) */
    RSD_TAIL_RENORMALISE, /* taken for 0: p is divided by its sum; for REVERSE_KL and JS q, too, by its sum over S */
    RSD_TAIL_BUCKET       /* one class more, for all other tokens */
};

typedef struct rsd_loss_options {
    size_t size;
    int32_t kind; /* RSD_LOSS_KL */
    int32_t tail; /* RSD_TAIL_DROP */
    /* Share of CE, from 0 to 1. Below 0 (default): 0.5 for ALM and ULD, which leave positions or tokens unsaid, else 0. */
    double alpha;
    /* T, above 0, of KL, REVERSE_KL, JS and ALM; 1. Acts on the classes compared: p_j^(1/T) and s_j^(1/T), each divided by its
     * sum over the classes (DROP: over S and t, and over softmax(z / T)). The divergence is multiplied by T^2, so that gradients
     * keep their size (Hinton et al. 2015); ALM's is not. */
    double temperature;
    double label_smoothing; /* e, from 0 to below 1; 0 */
    /* Unlikelihood (Welleck et al. 2020): sequences with a sign of -1 have the loss weight * unlikelihood * -log(1 - q_y) instead,
     * gradient q_v - [v != y] q_v / (1 - q_y). 0 (default): the sign says nothing. */
    double unlikelihood;
    double weight; /* factor on the loss, of a format say, at least 0; 1. The mean's divisor (rsd_loss_weight) is without it. */
} rsd_loss_options;
RSD_API int rsd_loss_options_init(rsd_loss_options *o, size_t size);

/* The kinds and tails by name: "ce", "kl", "reverse_kl", "js", "alm", "uld"; "drop", "renormalise", "bucket". NULL for others.
 * Static. */
RSD_API const char *rsd_loss_kind_name(int kind);
RSD_API const char *rsd_tail_name(int tail);

/* *out is the caller's. RSD_EINVAL (an option out of its range, or without effect on this kind: which), RSD_EVERSION,
 * RSD_ENOMEM. */
RSD_API int rsd_loss_open(rsd_ctx *ctx, const rsd_loss_options *options, rsd_loss **out);
RSD_API void rsd_loss_close(rsd_loss *l);

/* Other options for the sequences of one format (rsd_format), from the next rsd_loss_begin on; NULL: those of rsd_loss_open
 * again. RSD_EINVAL as above, or a format that does not exist; RSD_EVERSION. */
RSD_API int rsd_loss_set_format(rsd_loss *l, int format, const rsd_loss_options *options);

/* Sum of position weight times sequence weight: what the mean is taken over. Pure. */
RSD_API double rsd_loss_weight(const rsd_batch *batch);

/* Says which targets the next tiles belong to, and the factor on loss and gradient: 1 / (sum of the weights of all batches, on
 * all ranks, that make one optimizer step). The batch is borrowed until the last tile. The ids of a row must differ. RSD_EINVAL
 * (malformed rows, tails, chunks or top_probs: which position; chunks or top_probs missing that a kind needs), RSD_EVERSION,
 * RSD_ENOMEM. */
RSD_API int rsd_loss_begin(rsd_loss *l, const rsd_batch *batch, double scale);
/* An rsd_tile_fn with the rsd_loss as user: overwrites logits with gradients. RSD_ENUMERIC: a loss that is no finite number
 * (which position); RSD_EINVAL: an id outside the vocabulary, a tile of another batch; RSD_ESTATE: no rsd_loss_begin;
 * RSD_ENOMEM. */
RSD_API int rsd_loss_tile(void *loss, rsd_tile *tile);

typedef struct rsd_loss_result {
    size_t size;                             /* set by the caller */
    double loss;                             /* sum over positions of scale * weight * loss */
    double weight;                           /* sum of the weights seen */
    uint64_t positions, correct;             /* of a weight above 0; correct: argmax equals dec_id */
    double format_loss[8], format_weight[8]; /* the parts of loss and weight of each rsd_format, where the batch says formats */
} rsd_loss_result;
/* Sums since the last rsd_loss_begin. */
RSD_API int rsd_loss_result_get(const rsd_loss *l, rsd_loss_result *out);

#ifdef __cplusplus
}
#endif
#endif
