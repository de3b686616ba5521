/* A cache from text to pieces. It grows with the number of different alternatives, which natural text keeps small, and is dropped
 * as a whole at a limit. */
#include "align/pieces.h"

#include "align/align.h"

#include <string.h>

enum { MAX_ENTRIES = 1 << 18 };

void pieces_init(struct pieces *p, rsd_ctx *ctx, rsd_tokenizer *tok) {
    *p = (struct pieces){.ctx = ctx, .tok = tok, .a = &ctx->alloc};
    map_init(&p->index, p->a);
}

void pieces_free(struct pieces *p) {
    if (!p->ctx)
        return;
    map_free(&p->index);
    mem_free(p->a, p->entries);
    mem_free(p->a, p->ids);
    *p = (struct pieces){0};
}

void pieces_trim(struct pieces *p) {
    if (p->n_entries < MAX_ENTRIES)
        return;
    map_free(&p->index);
    p->n_entries = 0;
    p->n_ids = 0;
}

int pieces_get(struct pieces *p, struct text t, struct pieces_entry *out, struct err *e) {
    size_t at;
    if (map_get(&p->index, t, &at)) {
        *out = p->entries[at];
        return 0;
    }
    const int32_t *ids;
    size_t n;
    int code = rsd_tokenizer_encode(p->tok, t.p, t.n, &ids, &n);
    if (code)
        return align_carry(p->ctx, code, e);
    if ((code = mem_reserve(p->a, &p->ids, &p->cap_ids, p->n_ids + n, sizeof *p->ids, e)) ||
        (code = mem_reserve(p->a, &p->entries, &p->cap_entries, p->n_entries + 1, sizeof *p->entries, e)) ||
        (code = map_put(&p->index, t, p->n_entries, e)))
        return code;
    if (n)
        memcpy(p->ids + p->n_ids, ids, n * sizeof *ids);
    *out = p->entries[p->n_entries++] = (struct pieces_entry){p->n_ids, n};
    p->n_ids += n;
    return 0;
}

bool pieces_are_words(const rsd_tokenizer *tok) {
    static const char blank[] = "\xe2\x96\x81";
    for (int32_t id = 0; id < rsd_tokenizer_size(tok); id++) {
        const char *piece;
        size_t n;
        if (rsd_tokenizer_piece(tok, id, &piece, &n))
            return false;
        for (size_t i = 1; i + 3 <= n; i++)
            if (!memcmp(piece + i, blank, 3))
                return false;
    }
    return true;
}

int pieces_take_as_blank(rsd_ctx *ctx, rsd_tokenizer *tok, char c, bool *out, struct err *e) {
    int32_t want[8];
    const int32_t *ids;
    size_t n, m;
    char text[3] = {'a', c, 'a'};
    *out = false;
    int code = rsd_tokenizer_encode(tok, "a a", 3, &ids, &n);
    if (code || n > sizeof want / sizeof *want)
        return align_carry(ctx, code, e);
    if (n)
        memcpy(want, ids, n * sizeof *ids);
    if ((code = rsd_tokenizer_encode(tok, text, 3, &ids, &m)))
        return align_carry(ctx, code, e);
    *out = m == n && (!n || !memcmp(want, ids, n * sizeof *ids));
    return 0;
}
