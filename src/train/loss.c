/* Losses over tiles of logits: a tile comes in, its gradient goes out in the same memory, and sums stay behind.
 *
 * Every kind of loss is a function from the rows of one tile to a loss per row and a gradient in place of the logits
 * (struct loss_kind): a new kind is a new function and a line in `kinds`. What all kinds share is here once: the checks of the
 * targets, the weight of each row, counting, and the sums in double precision.
 *
 * Sample matching and distribution matching as in Fu et al. 2023, section 3; the KL term of a row is that of Hinton et al. 2015
 * on the teacher's k most probable tokens. */
#include "train/loss.h"

#include "base/ctx.h"
#include "base/options.h"

#include <math.h>
#include <string.h>

OPTIONS_NO_TAIL(rsd_loss_options, reserved);

static const rsd_loss_options loss_defaults = {.size = sizeof(rsd_loss_options), .kind = RSD_LOSS_KL};

/* Probabilities of a row are single precision: a full row of 32,000 entries may exceed 1 by rounding alone. */
static const double ROW_SUM_MAX = 1 + 1e-3;

struct rsd_loss {
    rsd_ctx *ctx;
    rsd_loss_options o;
    struct arena arena; /* of the tile at hand */
    rsd_batch b;        /* what rsd_loss_begin was given; n = 0 before */
    double scale;
    int32_t max_id; /* largest id of the targets: to be compared with the vocabulary that the first tile tells */
    rsd_loss_result sum;
};

/* The rows of one tile, made ready for a kind. */
struct rows {
    struct mat logits;
    const int32_t *labels;
    const float *lse, *weight; /* weight: of position and sequence, times scale */
    float *loss;               /* out, without the weight */
    size_t first;              /* position of row 0 in the batch */
};

struct loss_kind {
    const char *name;
    void (*tile)(rsd_loss *l, const struct exec *x, const struct rows *r);
};

/* Each row its label with probability 1. */
static void hard_rows(rsd_loss *l, const struct exec *x, const struct rows *r, int kl) {
    size_t n = r->logits.rows;
    uint32_t *offsets = arena_take(&l->arena, n + 1, sizeof *offsets, x->err);
    float *ones = arena_take(&l->arena, n, sizeof *ones, x->err);
    if (!offsets || !ones)
        return;
    for (size_t i = 0; i <= n; i++)
        offsets[i] = (uint32_t)i;
    for (size_t i = 0; i < n; i++)
        ones[i] = 1;
    soft_xent(x, r->loss, r->logits, r->lse, (struct sparse_rows){offsets, r->labels, ones}, r->weight, kl, 1);
}

static void ce_tile(rsd_loss *l, const struct exec *x, const struct rows *r) {
    hard_rows(l, x, r, 0);
}

static void kl_tile(rsd_loss *l, const struct exec *x, const struct rows *r) {
    if (!l->b.row_offsets) {
        hard_rows(l, x, r, 1);
        return;
    }
    const uint32_t *offsets = l->b.row_offsets + r->first;
    soft_xent(x, r->loss, r->logits, r->lse,
              (struct sparse_rows){offsets, l->b.row_ids + offsets[0], l->b.row_probs + offsets[0]}, r->weight, 1, 1);
}

static const struct loss_kind kinds[] = {[RSD_LOSS_CE] = {"ce", ce_tile}, [RSD_LOSS_KL] = {"kl", kl_tile}};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

const char *loss_kind_name(int kind) {
    return kind >= 0 && kind < N_KINDS ? kinds[kind].name : NULL;
}

int rsd_loss_options_init(rsd_loss_options *o, size_t size) {
    return options_init(o, size, &loss_defaults, sizeof loss_defaults, NULL);
}

int rsd_loss_open(rsd_ctx *ctx, const rsd_loss_options *options, rsd_loss **out) {
    struct err e = {0};
    if (!ctx || !out)
        return RSD_EINVAL;
    *out = NULL;
    rsd_loss_options o;
    if (options_read(&o, sizeof o, &loss_defaults, options, "rsd_loss_options", &e))
        return ctx_return(ctx, e.code, &e);
    if (o.kind < 0 || o.kind >= N_KINDS || o.reserved)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_loss_options: kind %d is none of RSD_LOSS_..., or reserved is not 0", (int)o.kind);
    rsd_loss *l = mem_zero(&ctx->alloc, 1, sizeof *l, &e);
    if (!l)
        return ctx_return(ctx, e.code, &e);
    l->ctx = ctx;
    l->o = o;
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

static const rsd_batch batch_defaults = {.size = sizeof(rsd_batch)};

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

static bool good_weight(float w) {
    return isfinite(w) && w >= 0;
}

/* Entries of one row: probabilities that can be probabilities. */
static int check_row(const rsd_batch *b, size_t t, int32_t *max_id, struct err *e) {
    double sum = 0;
    for (size_t i = b->row_offsets[t]; i < b->row_offsets[t + 1]; i++) {
        float p = b->row_probs[i];
        if (!(p >= 0 && p <= 1))
            return err_set(e, ERR_INVALID, "batch: position %zu: a row_probs entry is outside [0, 1]", t);
        if (b->row_ids[i] < 0)
            return err_set(e, ERR_INVALID, "batch: position %zu: row_ids entry %d is negative", t, (int)b->row_ids[i]);
        if (b->row_ids[i] > *max_id)
            *max_id = b->row_ids[i];
        sum += (double)p;
    }
    if (sum > ROW_SUM_MAX)
        return err_set(e, ERR_INVALID, "batch: position %zu: the probabilities of its row sum to more than 1", t);
    return 0;
}

static int check_batch(const rsd_batch *b, int32_t *max_id, struct err *e) {
    if (!b->n || !b->dec_ids || !b->dec_offsets)
        return err_set(e, ERR_INVALID, "batch: no sequences, or dec_ids or dec_offsets is NULL");
    if (b->row_offsets && (!b->row_ids || !b->row_probs))
        return err_set(e, ERR_INVALID, "batch: row_offsets without row_ids and row_probs");
    if (b->dec_offsets[0] != 0 || (b->row_offsets && b->row_offsets[0] != 0))
        return err_set(e, ERR_INVALID, "batch: dec_offsets and row_offsets must start at 0");
    for (size_t s = 0; s < b->n; s++) {
        if (b->dec_offsets[s + 1] <= b->dec_offsets[s])
            return err_set(e, ERR_INVALID, "batch: sequence %zu has no target tokens (dec_offsets must rise)", s);
        if (b->seq_weights && !good_weight(b->seq_weights[s]))
            return err_set(e, ERR_INVALID, "batch: seq_weights of sequence %zu is not a finite number of at least 0", s);
    }
    *max_id = 0;
    size_t T = b->dec_offsets[b->n];
    for (size_t t = 0; t < T; t++) {
        if (b->dec_ids[t] < 0)
            return err_set(e, ERR_INVALID, "batch: position %zu: id %d is negative", t, (int)b->dec_ids[t]);
        if (b->dec_ids[t] > *max_id)
            *max_id = b->dec_ids[t];
        if (b->weights && !good_weight(b->weights[t]))
            return err_set(e, ERR_INVALID, "batch: the weight of position %zu is not a finite number of at least 0", t);
        if (b->row_offsets && b->row_offsets[t + 1] < b->row_offsets[t])
            return err_set(e, ERR_INVALID, "batch: row_offsets fall at position %zu", t);
        if (b->row_offsets && check_row(b, t, max_id, e))
            return e->code;
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
    rsd_batch b;
    if (options_read(&b, sizeof b, &batch_defaults, batch, "rsd_batch", &e) || check_batch(&b, &l->max_id, &e))
        return ctx_return(l->ctx, e.code, &e);
    l->b = b;
    l->scale = scale;
    return RSD_OK;
}

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

/* Loss, weight and hits of the tile's rows go into the sums; a loss that is no number stops here, before backward. */
static int count_rows(rsd_loss *l, const rsd_tile *tile, const struct rows *r, const int32_t *best, const double *weight,
                      struct err *e) {
    for (size_t i = 0; i < tile->n_positions; i++) {
        if (!isfinite(r->loss[i]) || !isfinite(r->lse[i]))
            return err_set(
                e, ERR_NUMERIC,
                "the loss of position %zu is not a finite number: the logits are not finite, or the learning rate is too high",
                r->first + i);
        if (weight[i] <= 0)
            continue;
        l->sum.loss += l->scale * weight[i] * (double)r->loss[i];
        l->sum.weight += weight[i];
        l->sum.positions++;
        l->sum.correct += best[i] == r->labels[i];
    }
    return 0;
}

int rsd_loss_tile(void *loss, rsd_tile *tile) {
    struct err e = {0};
    rsd_loss *l = loss;
    if (!l)
        return RSD_EINVAL;
    if (!tile || check_tile(l, tile, &e))
        return tile ? ctx_return(l->ctx, e.code, &e) : ctx_fail(l->ctx, RSD_EINVAL, "rsd_loss_tile: no tile");
    size_t n = tile->n_positions;
    arena_reset(&l->arena);
    float *lse = arena_take(&l->arena, n, sizeof *lse, &e);
    float *out = arena_take(&l->arena, n, sizeof *out, &e);
    float *w = arena_take(&l->arena, n, sizeof *w, &e);
    double *weight = arena_take(&l->arena, n, sizeof *weight, &e);
    int32_t *best = arena_take(&l->arena, n, sizeof *best, &e);
    if (!lse || !out || !w || !weight || !best)
        return ctx_return(l->ctx, e.code, &e);

    for (size_t s = tile->first_sequence, i = 0; s < tile->first_sequence + tile->n_sequences; s++)
        for (size_t t = l->b.dec_offsets[s]; t < l->b.dec_offsets[s + 1]; t++, i++) {
            weight[i] = weight_of(&l->b, s, t);
            w[i] = (float)(weight[i] * l->scale);
        }
    struct exec x = ctx_exec(l->ctx, &e);
    struct mat logits = {tile->logits, DTYPE_F32, n, tile->vocab, tile->ld};
    struct rows r = {.logits = logits,
                     .labels = l->b.dec_ids + tile->first_position,
                     .lse = lse,
                     .weight = w,
                     .loss = out,
                     .first = tile->first_position};
    row_argmax(&x, best, logits);
    row_lse(&x, lse, logits);
    kinds[l->o.kind].tile(l, &x, &r);
    if (exec_status(&x) || count_rows(l, tile, &r, best, weight, &e))
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
