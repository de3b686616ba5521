/* Whether a batch can be learned from: every array that a loss will read, checked once before the first tile. */
#include "train/loss.h"

#include "core/err.h"

#include <math.h>
#include <stdbool.h>

/* Probabilities of a row are single precision: a full row of 32,000 entries may exceed 1 by rounding alone. */
static const double ROW_SUM_MAX = 1 + 1e-3;

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

static int check_top(const rsd_batch *b, size_t t, struct err *e) {
    const float *p = b->top_probs + t * b->top_k;
    double sum = 0;
    for (size_t i = 0; i < b->top_k; i++) {
        if (!(p[i] >= 0 && p[i] <= (i ? p[i - 1] : 1)))
            return err_set(e, ERR_INVALID, "batch: position %zu: top_probs must be in [0, 1] and fall", t);
        sum += (double)p[i];
    }
    if (sum > ROW_SUM_MAX)
        return err_set(e, ERR_INVALID, "batch: position %zu: its top_probs sum to more than 1", t);
    return 0;
}

/* Chunks in the order of their positions, none across two sequences. */
static int check_chunks(const rsd_batch *b, struct err *e) {
    if (!b->chunk_end || !b->chunk_logprobs)
        return err_set(e, ERR_INVALID, "batch: chunk_begin without chunk_end and chunk_logprobs");
    for (size_t c = 0, s = 0; c < b->n_chunks; c++) {
        size_t from = b->chunk_begin[c], to = b->chunk_end[c];
        if (from >= to || (c && from < b->chunk_end[c - 1]))
            return err_set(e, ERR_INVALID, "batch: chunk %zu (positions %zu to %zu) is empty, or begins before the last one ends",
                           c, from, to);
        while (s < b->n && b->dec_offsets[s + 1] <= from)
            s++;
        if (s == b->n || to > b->dec_offsets[s + 1])
            return err_set(e, ERR_INVALID, "batch: chunk %zu (positions %zu to %zu) does not lie inside one sequence", c, from,
                           to);
        if (!(b->chunk_logprobs[c] <= 0))
            return err_set(e, ERR_INVALID, "batch: the log-likelihood of chunk %zu is not a number of at most 0", c);
    }
    return 0;
}

int loss_check_batch(const rsd_batch *b, int32_t *max_id, struct err *e) {
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
        if (b->tails && !(b->tails[t] >= 0 && (double)b->tails[t] <= ROW_SUM_MAX))
            return err_set(e, ERR_INVALID, "batch: the tail of position %zu is outside [0, 1]", t);
        if ((b->row_offsets && check_row(b, t, max_id, e)) || (b->top_probs && check_top(b, t, e)))
            return e->code;
    }
    return b->chunk_begin ? check_chunks(b, e) : 0;
}
