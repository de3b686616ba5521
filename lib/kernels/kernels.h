/* Every numeric operation of a training step, in the order in which a step uses them.
 *
 * A kernel takes `const struct exec *x` first: which table of implementations, which threads, which scratch memory. Functions
 * come in pairs x_forward / x_backward; backward adds to its outputs (dx += ...) unless a line says `=`; a gradient is named
 * by a d in front. T tokens, C width, H heads, D width of a head, F inner width of the FFN, V vocabulary.
 *
 * Types: sums and everything between load and store are F32. Weights and what the forward pass hands on may be BF16 (products in any
 * mix); gradients, logits, and what is summed up over many tokens are F32. Stores to BF16 round to nearest even. A product in which
 * an operand is BF16 may round the other to BF16 first (to nearest even; denormals count as 0) and sum up in F32: the table
 * "avx512bf16" does, by the processor's instruction for it; the others widen. Attention of "avx512bf16" over BF16 q, k and v, too,
 * rounds what it multiplies: probabilities (after their sum was taken), gradients of scores, and dout.
 *
 * Failure is sticky: a kernel that cannot get scratch memory (ERR_NOMEM), meets shapes that do not fit together or are beyond
 * the BLAS's int (ERR_INVALID), or an element type it has no code for (ERR_UNSUPPORTED), records it in x->err and returns; while
 * an error stands kernels do nothing. Ask once after a chain of kernels (exec_status). Results have the same bits for any number
 * of threads as long as the BLAS runs one thread per call: every task computes a tile fixed by the shapes alone.
 *
 * A second backend (CUDA with cuBLAS) is one more table; code outside lib/ never looks at mat.data. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "core/pool.h"
#include "tensor/mat.h"

#include <stdint.h>

struct exec {
    const struct kernels *k; /* the table: exec_open fills it by CPU features */
    struct pool *pool;       /* NULL: one thread */
    struct arena *scratch;   /* released by each kernel before it returns */
    struct err *err;         /* never NULL */
};

int exec_status(const struct exec *x); /* 0, or the code of the first failure */

/* ---- the BLAS behind the door (gemm.c) ---- */

const char *blas_name(void);                       /* "OpenBLAS 0.3.21 SkylakeX ..." as the library tells */
int blas_set_single_thread(void);                  /* RSD_BLAS_OWN: process-wide, once. 0, or -1 if this BLAS offers no way */
const char *kernels_name(const struct kernels *k); /* "cpu avx512", ... */
const struct kernels *kernels_choose(void);        /* the best table for this CPU */
/* By name: "avx512bf16", "avx512", "avx2", "generic"; "blas": the best, but products of matrices of more than 16 rows by the
 * BLAS; NULL or "auto": the best. NULL and ERR_INVALID, with a list, for what this build or CPU lacks. */
const struct kernels *kernels_named(const char *name, struct err *e);
enum { KERNELS_MOST = 8 };
size_t kernels_list(const char *names[KERNELS_MOST], const struct kernels *tables[KERNELS_MOST]); /* best first; how many */
const struct kernels *kernels_reference(void); /* naive loops in double precision, one thread: what the tests compare with */

/* ---- types ---- */

/* How F32 results become BF16 weights. To nearest even, small updates would be lost for good: a weight has 8 bits, and a step of
 * less than 1/512 of it changes nothing. `stochastic` rounds up with the probability that makes the mean exact (Gupta et al. 2015):
 * 16 random bits are added below the kept ones, element i of w takes its bits as element i of a dropout mask of (seed, stream). */
struct rounding {
    int stochastic;
    uint64_t seed, stream;
};

/* ---- embedding ---- */

/* y[t,:] = w[ids[t],:]          y [T,C]  w [V,C]; ids are checked by the caller */
void embedding_forward(const struct exec *x, struct mat y, struct mat w, const int32_t *ids);
/* dw[ids[t],:] += dy[t,:]       in the order of t: equal bits for any number of threads */
void embedding_backward(const struct exec *x, struct mat dw, struct mat dy, const int32_t *ids);

/* ---- dropout (inverted: kept values are divided by 1 - p) ---- */

/* A mask is a pure function of (seed, stream, element), so that backward makes it again instead of storing it. p is rounded to a
 * multiple of 2^-16. */
struct dropout {
    float p; /* 0: nothing is dropped and nothing is drawn */
    uint64_t seed, stream;
};
#define NO_DROPOUT ((struct dropout){0})
/* y = mask(x) * x / (1-p), in place allowed; backward is the same function on gradients. */
void dropout_apply(const struct exec *x, struct mat y, struct mat in, struct dropout d);

/* ---- RMS norm (Zhang & Sennrich 2019; T5 has no mean and no bias) ---- */

/* y[t,:] = x[t,:] / rms(x[t,:]) * g     rms(v) = sqrt(mean(v^2) + eps)     rrms [T]: 1 / rms, kept for backward */
void rmsnorm_forward(const struct exec *x, struct mat y, float *rrms, struct mat in, struct mat g, float eps);
/* din += ..., dg += ... (dg without memory: not wanted) */
void rmsnorm_backward(const struct exec *x, struct mat din, struct mat dg, struct mat dy, struct mat in, struct mat g,
                      const float *rrms);

/* ---- matrix product ---- */

/* c = alpha * op(a) op(b) + beta * c     op = transpose where ta (tb) is set; beta 0 does not read c. With up to 16 rows, ta =
 * 0 and tb = 1 the bits of a row of c do not depend on the other rows: what a batch generates is what each would generate
 * alone. Linear layer with weights w [O,C] as Hugging Face stores them: y = gemm(0, x, 1, w); dx += gemm(0, dy, 0, w); dw +=
 * gemm(1, dy, 0, x). */
void gemm(const struct exec *x, struct mat c, int ta, struct mat a, int tb, struct mat b, float alpha, float beta);
/* A few products, with the bits of gemm one after the other. Those of one shape that have op(a) or op(b) in common may be made in one
 * pass that packs it once: layers of one input, and their weights' gradients. */
enum { MAX_PRODUCTS = 4 };
struct product {
    struct mat c;
    int ta;
    struct mat a;
    int tb;
    struct mat b;
    float alpha, beta;
};
void gemm_group(const struct exec *x, const struct product *p, size_t n);

/* Products of one input: y_i = alpha in w_i^T + beta y_i for a few matrices that are read in one pass. With up to 64 rows the bits of
 * a row do not depend on the others. Weights may be I8, for inference alone: w[n,k] stands for scales[n] * w[n,k]; the input is
 * rounded to whole numbers of up to 15 bits with a scale per row, and the bits of a row never depend on the others.
 *     y_i [M,N_i]  in [M,K]  w_i [N_i,K], all of one type  scales [N_i], NULL unless I8 */
enum { MAX_PROJECTIONS = MAX_PRODUCTS };
struct projection {
    struct mat y, w;
    const float *scales;
    float alpha, beta;
};
void project(const struct exec *x, struct mat in, const struct projection *p, size_t n);
/* q[n,k] = round(w[n,k] / scales[n]), scales[n] = max_k |w[n,k]| / 127: q I8, w of any type. A row that holds a NaN or an infinity gets
 * the scale NaN. */
void quantize_rows(const struct exec *x, struct mat q, float *scales, struct mat w);

/* ---- attention over packed sequences, relative bias, no 1/sqrt(D) ---- */

/* One sequence: its queries are rows q_first .. +q_len, its keys and values rows k_first .. +k_len. */
struct attention_span {
    size_t q_first, q_len, k_first, k_len;
};
struct attention {
    size_t heads, d_kv;
    const struct attention_span *spans;
    size_t n_spans;
    /* Query i of a sequence stands at position i + k_len - q_len if causal (a decoder with a cache has q_len 1 and k_len the
     * tokens so far), else at i. Causal queries see keys up to their own position. */
    int causal;
    /* Score of (query at position p, key j) gets bias[h, j - p + bias_zero]; bias [H, distances]; data NULL: no bias. */
    struct mat bias;
    size_t bias_zero;
    struct dropout dropout; /* on the probabilities */
    int overwrite;          /* backward: dq, dk and dv become the gradients instead of being added to */
};
/* out[i, h*D..] = sum_j softmax_j(q_i . k_j + bias) v_j      q, out [Tq, H*D]   k, v [Tk, H*D]
 * lse [H, Tq]: log of the sum of exp of the scores, kept for backward (NULL in inference). Nothing of size Tq x Tk is kept. */
void attention_forward(const struct exec *x, struct mat out, float *lse, struct mat q, struct mat k, struct mat v,
                       const struct attention *s);
/* Keys may be shared between sequences; a query belongs to one.
 * dq, dk, dv += ..., or = with s->overwrite; dbias [H, distances] += ... (data NULL: not wanted)
 * (recomputes the probabilities, as Dao et al. 2022) */
void attention_backward(const struct exec *x, struct mat dq, struct mat dk, struct mat dv, struct mat dbias, struct mat dout,
                        struct mat out, struct mat q, struct mat k, struct mat v, const float *lse, const struct attention *s);

/* The same for one query a sequence over a cache. The keys and values of head h of a region stand in rows (region * heads + h) *
 * room on, one a token, without gaps. The query of sequence i is the last of its length[i] > 0 positions and sees all of them; with
 * new_k and new_v its own key and value are stored there first. No two sequences with new keys share a region.
 *     out, q [n, H*D] F32   k, v [regions * H * room, D] F32 or BF16   new_k, new_v [n, H*D], data NULL: none   region, length [n]
 * Score of key j gets bias[h, j - (length - 1) + bias_zero]; bias.data NULL: none. */
struct attention_step {
    size_t heads, d_kv, room;
    struct mat k, v, new_k, new_v;
    const size_t *region, *length;
    struct mat bias;
    size_t bias_zero;
};
void attention_step(const struct exec *x, struct mat out, struct mat q, const struct attention_step *s);

/* bias[h, d] = table[bucket[d], h]       bias [H, distances]  table [buckets, H]  bucket [distances] */
void bias_expand_forward(const struct exec *x, struct mat bias, struct mat table, const int32_t *bucket);
/* dtable[bucket[d], h] += dbias[h, d] */
void bias_expand_backward(const struct exec *x, struct mat dtable, struct mat dbias, const int32_t *bucket);

/* ---- activations ---- */

/* y = relu(x), in place allowed; backward: din = dy where in > 0 (=, may alias dy) */
void relu_forward(const struct exec *x, struct mat y, struct mat in);
void relu_backward(const struct exec *x, struct mat din, struct mat dy, struct mat in);
/* y = dropout(gelu_tanh(a) * b)
 * gelu_tanh(a) = a/2 (1 + tanh(sqrt(2/pi) (a + 0.044715 a^3)))  (Hendrycks & Gimpel; T5 v1.1's gate) */
void geglu_forward(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d);
/* da = ..., db = ..., and once more y, which the next layer's backward needs (=; may alias a, b, dy) */
void geglu_backward(const struct exec *x, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a, struct mat b,
                    struct dropout d);
/* y = dropout(silu(a) * b)     silu(a) = a / (1 + e^-a)  (Elfwing et al. 2018; the gate of UL2); backward as geglu's */
void swiglu_forward(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d);
void swiglu_backward(const struct exec *x, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a, struct mat b,
                     struct dropout d);

/* ---- elementwise ---- */

void add(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d); /* y = a + dropout(b), may alias */
void scale(const struct exec *x, struct mat y, float s);                                    /* y *= s */
void fill(const struct exec *x, struct mat y, float v);                                     /* y = v */
/* y[i] = std * N(0,1)     a pure function of (seed, stream, i); y without gaps between rows */
void fill_normal(const struct exec *x, struct mat y, float std, uint64_t seed, uint64_t stream);
void copy(const struct exec *x, struct mat y, struct mat a); /* y = a, converting */
void lerp(const struct exec *x, struct mat y, struct mat a, struct mat b,
          float t); /* y = (1-t) a + t b; t = 0, 1 give a, b bit for bit */

/* ---- losses: rows of logits in, gradient out in their place ---- */

/* Sparse targets: row r of the tile has entries offsets[r] - offsets[0] .. offsets[r+1] - offsets[0] of (ids, probs): a tile
 * in the middle of a batch passes pointers to its own first offset and its own first entry. Ids are checked by the caller. */
struct sparse_rows {
    const uint32_t *offsets;
    const int32_t *ids;
    const float *probs;
};
/* lse[r] = log sum_v exp(logits[r,v]), by the maximum first: no overflow for finite logits */
void row_lse(const struct exec *x, float *lse, struct mat logits);
/* How the student's row q = softmax(logits[r]) is compared with what the teacher told about it. */
enum {
    DISTILL_NONE,    /* hard label alone */
    DISTILL_FORWARD, /* sum_j p_j log(p_j / s_j) */
    DISTILL_REVERSE, /* sum_j s_j log(s_j / p_j) - s_j + p_j, where a p_j below 1e-6 counts as 1e-6 */
    DISTILL_JS,      /* sum_j (p_j log(p_j / m_j) + s_j log(s_j / m_j)) / 2    m = (p + s) / 2 */
    DISTILL_SORTED,  /* sum_j |p_j - s_j|, both sorted: classes are the student's most probable tokens */
    DISTILL_UNLIKELY /* -log(1 - q_label) */
};
/* The classes j and the student's probability s_j of each; t is what the teacher's row lacks.
 *   drop         the row's tokens: s_j = q_j, p_j as given
 *   renormalise  the row's tokens, p_j divided by their sum. FORWARD and SORTED: s_j = q_j; else s_j = q_j / sum_i q_i, as a q
 *                outside the row would meet a p of 0
 *   bucket       the row's tokens and one class more for all others: t against R = 1 - sum_i q_i, summed over the others and not
 *                by a difference; both sides sum to 1 */
enum { DISTILL_DROP, DISTILL_RENORMALISE, DISTILL_BUCKET };
/* A temperature acts on the classes that are compared: p_j^(1/T), s_j^(1/T), each divided by their sum (drop: the sum over the
 * row and t, and over all q_v), and the divergence is multiplied by T^2. SORTED and UNLIKELY have none. */
struct distill {
    int kind, tail;
    float temperature;
    float smoothing; /* of the hard label: it is (1 - smoothing) label + smoothing / V */
};
struct distill_rows {
    const int32_t *labels;      /* [T] */
    struct sparse_rows targets; /* of distinct ids; offsets NULL: each row its label with probability 1 */
    const float *tails;         /* t of each row; NULL: 1 - the row's sum. Below 1e-6 it is rounding, and 0 */
    const float *top;           /* SORTED: [T, top_k], largest first, 0 behind the last */
    size_t top_k;
    const struct distill *how; /* row r: how[which[r]] */
    const uint8_t *which;
    const float *hard, *smooth, *soft; /* [T] weights of the gradients below */
};
/* nll[r] = -log q_label, smooth[r] = the same with smoothing, soft[r] = the divergence (0 for NONE), and, with grad,
 *   logits[r,:] = hard nll' + smooth smooth' + soft soft'      (=; a weight of 0 adds nothing)
 * Each gradient is that of a sum over classes: with c_j = d soft / d log s_j, d soft / d logit_v = c_v - s_v sum_j c_j for a
 * class of one token, and that of the bucket spread by q_v / R over its tokens (soft_classes in cpu_distill.h). Logits of any
 * finite size: exponents are taken from each row's maximum. */
void distill(const struct exec *x, float *nll, float *smooth, float *soft, struct mat logits, const struct distill_rows *t,
             int grad);
/* best[r] = argmax_v logits[r,v], the first of equals; NaN is never the best unless all are (then 0) */
void row_argmax(const struct exec *x, int32_t *best, struct mat logits);
/* picked[r] = logits[r, ids[r]] */
void row_pick(const struct exec *x, float *picked, struct mat logits, const int32_t *ids);

/* ---- choosing tokens ---- */

/* ids, values [T, k] = the k largest of each row, largest first, the first of equals first. Where a row has fewer than k that are
 * neither NaN nor -infinity, the rest is id -1, value -infinity. k > 0 */
void row_top(const struct exec *x, int32_t *ids, float *values, struct mat logits, size_t k);
struct sampling {
    float temperature, top_p; /* > 0; (0, 1], 1: all */
    size_t top_k;             /* 0: all */
};
/* ids[r] ~ softmax(logits[r] / temperature) over the top_k largest, of these the fewest whose probabilities reach top_p (Fan et al.
 * 2018; Holtzman et al. 2020): the inverse of the cumulative distribution at u[r] in [0, 1). Id 0 for a row without a finite
 * maximum. */
void row_sample(const struct exec *x, int32_t *ids, struct mat logits, const double *u, struct sampling how);

/* ---- optimiser ---- */

/* Sum of squares in double, in an order fixed by the size alone. NaN and infinity come through. */
double sum_squares(const struct exec *x, struct mat a);
/* AdamW (Loshchilov & Hutter 2019, as torch.optim.AdamW): g = grad * grad_scale
 *   m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  w -= lr * decay * w;  w -= lr * (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)
 * w, m, v, g: of one shape; w F32 or BF16, the others F32 */
struct adamw {
    float lr, beta1, beta2, eps, decay;
    uint64_t t; /* this step, from 1 */
    float grad_scale;
    struct rounding rounding;
};
void adamw_update(const struct exec *x, struct mat w, struct mat m, struct mat v, struct mat g, const struct adamw *o);

/* Adafactor (Shazeer & Stern 2018, algorithms 4 and 5), in the form of transformers.Adafactor: g = grad * grad_scale
 *   factored:  r = b2 r + (1-b2) (mean over columns of g^2 + eps)    r [1,R]      w [R,C]
 *              c = b2 c + (1-b2) (mean over rows of g^2 + eps)       c [1,C]
 *              u = g / sqrt(r / mean(r)) / sqrt(c)
 *   else:      r = b2 r + (1-b2) (g^2 + eps), of w's shape           (c without memory)
 *              u = g / sqrt(r)
 *   u = lr u / max(1, rms(u) / clip)                                 (clip 0: not clipped)
 *   m = b1 m + (1-b1) u;  u = m                                      (m without memory: no first moment)
 *   w = w - decay lr w - u
 * w F32 or BF16, the others F32. lr is the step as it is: the caller has multiplied it with max(scale floor, rms(w)) if it wants. */
struct adafactor {
    float lr, beta1, beta2, eps, clip, decay, grad_scale;
    struct rounding rounding;
};
void adafactor_update(const struct exec *x, struct mat w, struct mat r, struct mat c, struct mat m, struct mat g,
                      const struct adafactor *o);

#endif
