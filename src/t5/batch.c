/* A batch is read many times and by many threads; it is checked here, once. */
#include "t5/batch.h"

#include "base/options.h"

OPTIONS_NO_TAIL(rsd_batch, top_probs);

int batch_check_side(const char *side, const int32_t *ids, const uint32_t *offsets, size_t n, size_t vocab, struct err *e) {
    if (!ids || !offsets)
        return err_set(e, ERR_INVALID, "%s ids or offsets are missing", side);
    if (offsets[0] != 0)
        return err_set(e, ERR_INVALID, "%s offsets start at %u: expected 0", side, (unsigned)offsets[0]);
    for (size_t s = 0; s < n; s++) {
        if (offsets[s + 1] < offsets[s])
            return err_set(e, ERR_INVALID, "%s offsets fall from %u to %u at sequence %zu", side, (unsigned)offsets[s],
                           (unsigned)offsets[s + 1], s);
        if (offsets[s + 1] == offsets[s])
            return err_set(e, ERR_INVALID, "%s sequence %zu is empty: give it at least its end token", side, s);
        for (size_t t = offsets[s]; t < offsets[s + 1]; t++)
            if (ids[t] < 0 || (size_t)ids[t] >= vocab)
                return err_set(e, ERR_INVALID, "%s sequence %zu, position %zu: id %d is outside the vocabulary of %zu", side, s,
                               t - offsets[s], (int)ids[t], vocab);
    }
    return 0;
}

int batch_read(rsd_batch *out, const rsd_batch *in, size_t vocab, struct err *e) {
    static const rsd_batch none = {.size = sizeof none};
    if (!in)
        return err_set(e, ERR_INVALID, "no batch");
    if (options_read(out, sizeof *out, &none, in, "rsd_batch", e))
        return e->code;
    if (!out->n)
        return err_set(e, ERR_INVALID, "a batch without sequences");
    if (batch_check_side("encoder", out->enc_ids, out->enc_offsets, out->n, vocab, e))
        return e->code;
    return batch_check_side("decoder", out->dec_ids, out->dec_offsets, out->n, vocab, e);
}
