/* Losses over tiles of logits: a tile comes in, its gradient goes out in the same memory, and sums stay behind.
 *
 * The arithmetic on rows is one kernel (`distill`), which knows every divergence and takes for each row the weights of its
 * gradients. Here is what belongs to a batch: which options a sequence has, its weights and sign, chunks over several rows,
 * counting, and the sums in double precision. The definitions, with derivations and sources, are in reasondistill/loss.h. */
#include "train/loss.h"

#include "base/ctx.h"
#include "base/options.h"
#include "kernels/kernels.h"
#include "reasondistill/format.h"

#include <math.h>
#include <string.h>

enum { SETS = 1 + RSD_FORMATS }; /* options: of rsd_loss_open, then of each format */

struct rsd_loss {
    rsd_ctx *ctx;
    rsd_loss_options o[SETS];
    struct distill how[2][SETS]; /* replies to learn from; wrong ones */
    struct arena arena;          /* of the tile at hand */
    rsd_batch b;                 /* what rsd_loss_begin was given; n = 0 before */
    double scale;
    int32_t max_id; /* largest id of the targets: to be compared with the vocabulary that the first tile tells */
    rsd_loss_result sum;
};

static const rsd_batch batch_defaults = {.size = sizeof(rsd_batch)};

/* ---- options ---- */

static void set_options(rsd_loss *l, size_t i, const rsd_loss_options *o) {
    static const int kinds[] = {
        [RSD_LOSS_CE] = DISTILL_NONE, [RSD_LOSS_KL] = DISTILL_FORWARD, [RSD_LOSS_REVERSE_KL] = DISTILL_REVERSE,
        [RSD_LOSS_JS] = DISTILL_JS,   [RSD_LOSS_ALM] = DISTILL_NONE,   [RSD_LOSS_ULD] = DISTILL_SORTED};
    static const int tails[] = {
        [RSD_TAIL_DROP] = DISTILL_DROP, [RSD_TAIL_RENORMALISE] = DISTILL_RENORMALISE, [RSD_TAIL_BUCKET] = DISTILL_BUCKET};
    float smoothing = (float)o->label_smoothing;
    l->o[i] = *o;
    l->how[0][i] = (struct distill){loss_alpha(o) < 1 ? kinds[o->kind] : DISTILL_NONE, tails[o->tail],
                                    o->kind == RSD_LOSS_ALM ? 1 : (float)o->temperature, smoothing};
    l->how[1][i] = (struct distill){o->unlikelihood > 0 ? DISTILL_UNLIKELY : DISTILL_NONE, DISTILL_DROP, 1, 0};
}

int rsd_loss_open(rsd_ctx *ctx, const rsd_loss_options *options, rsd_loss **out) {
    struct err e = {0};
    if (!ctx || !out)
        return RSD_EINVAL;
    *out = NULL;
    rsd_loss_options o;
    if (loss_read_options(&o, options, &e))
        return ctx_return(ctx, e.code, &e);
    rsd_loss *l = mem_zero(&ctx->alloc, 1, sizeof *l, &e);
    if (!l)
        return ctx_return(ctx, e.code, &e);
    l->ctx = ctx;
    for (size_t i = 0; i < SETS; i++)
        set_options(l, i, &o);
    arena_init(&l->arena, &ctx->alloc);
    *out = l;
    return RSD_OK;
}

void rsd_loss_close(rsd_loss *l) {
    if (!l)
        return;
    arena_free(&l->arena);
    mem_free(&l->ctx->alloc, l);
}

int rsd_loss_set_format(rsd_loss *l, int format, const rsd_loss_options *options) {
    struct err e = {0};
    if (!l)
        return RSD_EINVAL;
    if (format < 0 || format >= RSD_FORMATS)
        return ctx_fail(l->ctx, RSD_EINVAL, "rsd_loss_set_format: there is no format %d", format);
    rsd_loss_options o = l->o[0];
    if (options && loss_read_options(&o, options, &e))
        return ctx_return(l->ctx, e.code, &e);
    memset(&l->b, 0, sizeof l->b); /* a batch that was begun with other options has not been checked for these */
    set_options(l, 1 + (size_t)format, &o);
    return RSD_OK;
}

/* ---- batches ---- */

static size_t set_of(const rsd_batch *b, size_t s) {
    return b->formats && b->formats[s] < RSD_FORMATS ? 1 + (size_t)b->formats[s] : 0;
}

static bool is_wrong(const rsd_loss *l, size_t s) {
    return l->b.signs && l->b.signs[s] < 0 && l->o[set_of(&l->b, s)].unlikelihood > 0;
}

static bool uses_chunks(const rsd_loss *l, size_t s) {
    const rsd_loss_options *o = &l->o[set_of(&l->b, s)];
    return o->kind == RSD_LOSS_ALM && loss_alpha(o) < 1 && !is_wrong(l, s);
}

static double weight_of(const rsd_batch *b, size_t s, size_t t) {
    return (b->weights ? (double)b->weights[t] : 1) * (b->seq_weights ? (double)b->seq_weights[s] : 1);
}

double rsd_loss_weight(const rsd_batch *batch) {
    rsd_batch b;
    if (!batch || options_read(&b, sizeof b, &batch_defaults, batch, "rsd_batch", NULL) || !b.dec_offsets)
        return 0;
    double sum = 0;
    for (size_t s = 0; s < b.n; s++)
        for (size_t t = b.dec_offsets[s]; t < b.dec_offsets[s + 1]; t++)
            sum += weight_of(&b, s, t);
    return sum;
}

/* What the kinds in use need from the batch. */
static int check_needs(const rsd_loss *l, struct err *e) {
    for (size_t s = 0; s < l->b.n; s++) {
        const rsd_loss_options *o = &l->o[set_of(&l->b, s)];
        if (uses_chunks(l, s) && !l->b.chunk_begin)
            return err_set(e, ERR_INVALID,
                           "batch: it has no chunks, which loss alm compares: align the replies again, with chunks");
        if (o->kind == RSD_LOSS_ULD && loss_alpha(o) < 1 && !l->b.top_probs)
            return err_set(e, ERR_INVALID,
                           "batch: it has no top_probs, which loss uld compares: align the replies again, with top_probs");
    }
    return 0;
}

int rsd_loss_begin(rsd_loss *l, const rsd_batch *batch, double scale) {
    struct err e = {0};
    if (!l)
        return RSD_EINVAL;
    memset(&l->b, 0, sizeof l->b);
    l->sum = (rsd_loss_result){.size = sizeof l->sum};
    if (!batch || !isfinite(scale) || scale < 0)
        return ctx_fail(l->ctx, RSD_EINVAL, "rsd_loss_begin: no batch, or a scale that is not a finite number of at least 0");
    int code = options_read(&l->b, sizeof l->b, &batch_defaults, batch, "rsd_batch", &e);
    if (!code)
        code = loss_check_batch(&l->b, &l->max_id, &e);
    if (!code)
        code = check_needs(l, &e);
    if (code) {
        memset(&l->b, 0, sizeof l->b);
        return ctx_return(l->ctx, code, &e);
    }
    l->scale = scale;
    return RSD_OK;
}

/* ---- tiles ---- */

static int check_tile(const rsd_loss *l, const rsd_tile *tile, struct err *e) {
    const rsd_batch *b = &l->b;
    if (!b->n)
        return err_set(e, RSD_ESTATE, "rsd_loss_tile: call rsd_loss_begin first");
    if (tile->size < sizeof *tile || !tile->logits || !tile->vocab || tile->ld < tile->vocab)
        return err_set(e, ERR_INVALID, "rsd_loss_tile: a tile without logits, or with ld below vocab");
    size_t last = tile->first_sequence + tile->n_sequences;
    if (!tile->n_sequences || last > b->n || b->dec_offsets[tile->first_sequence] != tile->first_position ||
        b->dec_offsets[last] - b->dec_offsets[tile->first_sequence] != tile->n_positions)
        return err_set(e, ERR_INVALID,
                       "rsd_loss_tile: sequences %zu to %zu of the tile do not match the batch given to rsd_loss_begin",
                       tile->first_sequence, last);
    if ((size_t)l->max_id >= tile->vocab)
        return err_set(e, ERR_INVALID, "batch: id %d of the targets is outside the vocabulary of %zu", (int)l->max_id,
                       tile->vocab);
    return 0;
}

/* One tile's rows: weights and results, each [n]. */
struct rows {
    size_t first, n;                     /* positions of the batch */
    double *weight, *ce, *d;             /* of the position and sequence; factors on the two parts of the loss */
    float *hard, *smooth, *soft;         /* weights of the kernel's gradients */
    float *nll, *ce_loss, *d_loss, *alm; /* what came out; alm: the chunk's loss */
    uint8_t *which;
    int32_t *best;
    bool chunks;
};

static int take_rows(rsd_loss *l, struct rows *r, struct err *e) {
    float **floats[] = {&r->hard, &r->smooth, &r->soft, &r->nll, &r->ce_loss, &r->d_loss, &r->alm};
    double **doubles[] = {&r->weight, &r->ce, &r->d};
    arena_reset(&l->arena);
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++)
        *floats[i] = arena_take(&l->arena, r->n, sizeof(float), e);
    for (size_t i = 0; i < sizeof doubles / sizeof doubles[0]; i++)
        *doubles[i] = arena_take(&l->arena, r->n, sizeof(double), e);
    r->which = arena_take(&l->arena, r->n, 1, e);
    r->best = arena_take(&l->arena, r->n, sizeof(int32_t), e);
    return e->code;
}

static void fill_rows(const rsd_loss *l, const rsd_tile *tile, struct rows *r) {
    for (size_t s = tile->first_sequence, i = 0; s < tile->first_sequence + tile->n_sequences; s++) {
        size_t set = set_of(&l->b, s);
        const rsd_loss_options *o = &l->o[set];
        bool wrong = is_wrong(l, s);
        double alpha = loss_alpha(o);
        r->chunks = r->chunks || uses_chunks(l, s);
        for (size_t t = l->b.dec_offsets[s]; t < l->b.dec_offsets[s + 1]; t++, i++) {
            r->weight[i] = weight_of(&l->b, s, t);
            r->ce[i] = wrong ? 0 : o->weight * alpha;
            r->d[i] = o->weight * (wrong ? o->unlikelihood : 1 - alpha);
            r->hard[i] = r->alm[i] = 0;
            r->smooth[i] = (float)(l->scale * r->weight[i] * r->ce[i]);
            r->soft[i] = (float)(l->scale * r->weight[i] * r->d[i]);
            r->which[i] = (uint8_t)(set + (wrong ? SETS : 0));
        }
    }
}

/* log(1 - (1 - 2^-20) e^u) for u <= 0: finite at 0, and without a difference of nearly equal numbers near it. */
static double log_not(double u) {
    return log(-expm1(u) + 0x1p-20 * exp(u));
}

/* Chunks of sequences that use them: loss of each position, weight of its gradient. RSD_LOSS_ALM tells the formula. */
static void chunk_rows(const rsd_loss *l, const rsd_tile *tile, struct rows *r) {
    const rsd_batch *b = &l->b;
    size_t s = tile->first_sequence;
    for (size_t c = 0; c < b->n_chunks; c++) {
        size_t from = b->chunk_begin[c], to = b->chunk_end[c];
        if (from < r->first || from >= r->first + r->n)
            continue;
        while (b->dec_offsets[s + 1] <= from)
            s++;
        if (!uses_chunks(l, s))
            continue;
        double T = l->o[set_of(b, s)].temperature, log_a = (double)b->chunk_logprobs[c] / T, a = exp(log_a), u = 0, weight = 0;
        for (size_t i = from - r->first; i < to - r->first; i++) {
            u -= (double)r->nll[i] / T;
            weight += (double)r->soft[i];
        }
        double odds = (1 - 0x1p-20) * exp(u - log_not(u)), slope = (1 - a) * odds - a;
        double loss = (a > 0 ? a * (log_a - u) : 0) + (1 - a) * (log_not(log_a) - log_not(u));
        for (size_t i = from - r->first; i < to - r->first; i++) {
            r->alm[i] = (float)loss;
            r->hard[i] = (float)(-slope / T * weight);
        }
    }
}

/* Loss, weight and hits of the tile's rows go into the sums; a loss that is no number stops here, before backward. */
static int count_rows(rsd_loss *l, const struct rows *r, struct err *e) {
    for (size_t i = 0; i < r->n; i++) {
        double loss = (r->ce[i] > 0 ? r->ce[i] * (double)r->ce_loss[i] : 0) +
                      (r->d[i] > 0 ? r->d[i] * ((double)r->d_loss[i] + (double)r->alm[i]) : 0);
        if (!isfinite(loss) || isnan(r->nll[i]))
            return err_set(
                e, ERR_NUMERIC,
                "the loss of position %zu is not a finite number: the logits are not finite, or the learning rate is too high",
                r->first + i);
        if (r->weight[i] <= 0)
            continue;
        l->sum.loss += l->scale * r->weight[i] * loss;
        l->sum.weight += r->weight[i];
        size_t set = r->which[i] % SETS;
        if (set) {
            l->sum.format_loss[set - 1] += l->scale * r->weight[i] * loss;
            l->sum.format_weight[set - 1] += r->weight[i];
        }
        l->sum.positions++;
        l->sum.correct += r->best[i] == l->b.dec_ids[r->first + i];
    }
    return 0;
}

static struct distill_rows targets_of(const rsd_loss *l, const struct rows *r) {
    const rsd_batch *b = &l->b;
    struct distill_rows t = {.labels = b->dec_ids + r->first,
                             .tails = b->row_offsets && b->tails ? b->tails + r->first : NULL,
                             .top = b->top_probs ? b->top_probs + r->first * b->top_k : NULL,
                             .top_k = b->top_probs ? b->top_k : 0,
                             .how = l->how[0],
                             .which = r->which,
                             .hard = r->hard,
                             .smooth = r->smooth,
                             .soft = r->soft};
    if (b->row_offsets) {
        const uint32_t *offsets = b->row_offsets + r->first;
        t.targets = (struct sparse_rows){offsets, b->row_ids + offsets[0], b->row_probs + offsets[0]};
    }
    return t;
}

int rsd_loss_tile(void *loss, rsd_tile *tile) {
    struct err e = {0};
    rsd_loss *l = loss;
    if (!l)
        return RSD_EINVAL;
    if (!tile || check_tile(l, tile, &e))
        return tile ? ctx_return(l->ctx, e.code, &e) : ctx_fail(l->ctx, RSD_EINVAL, "rsd_loss_tile: no tile");
    struct rows r = {.first = tile->first_position, .n = tile->n_positions};
    if (take_rows(l, &r, &e))
        return ctx_return(l->ctx, e.code, &e);
    fill_rows(l, tile, &r);
    struct exec x = ctx_exec(l->ctx, &e);
    struct mat logits = {tile->logits, DTYPE_F32, r.n, tile->vocab, tile->ld};
    struct distill_rows t = targets_of(l, &r);
    row_argmax(&x, r.best, logits);
    if (r.chunks) { /* a chunk's gradient needs the probabilities of all its rows first */
        distill(&x, r.nll, r.ce_loss, r.d_loss, logits, &t, 0);
        if (!exec_status(&x))
            chunk_rows(l, tile, &r);
    }
    distill(&x, r.nll, r.ce_loss, r.d_loss, logits, &t, 1);
    if (exec_status(&x) || count_rows(l, &r, &e))
        return ctx_return(l->ctx, e.code, &e);
    return RSD_OK;
}

int rsd_loss_result_get(const rsd_loss *l, rsd_loss_result *out) {
    if (!l || !out || out->size < sizeof(size_t))
        return RSD_EINVAL;
    size_t size = out->size;
    memcpy(out, &l->sum, size < sizeof l->sum ? size : sizeof l->sum);
    out->size = size;
    return RSD_OK;
}
