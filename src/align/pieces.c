/* A table with one slot a text of up to KEY bytes, each slot one line of the CPU's cache; the text that comes last to a slot
 * has it. So the table never grows, needs one line of memory a look-up, and texts made to collide only lose what it saves. Most
 * of a look-up is the wait for that line, so several are asked for before the first is answered. */
#include "align/pieces.h"

#include "align/align.h"

#include <string.h>

enum { SLOTS = 1 << 16, KEY = PIECES_KEY, IDS = 9 };

struct pieces_slot {
    uint64_t key[KEY / 8]; /* the text, zeros behind it */
    uint8_t len, n, full;
    int32_t ids[IDS];
};
_Static_assert(sizeof(struct pieces_slot) == 64, "a line");

void pieces_init(struct pieces *p, rsd_ctx *ctx, rsd_tokenizer *tok) {
    *p = (struct pieces){.ctx = ctx, .tok = tok, .a = &ctx->alloc};
}

void pieces_free(struct pieces *p) {
    if (!p->ctx)
        return;
    mem_free_aligned(p->a, p->slots);
    mem_free(p->a, p->ids);
    *p = (struct pieces){0};
}

void pieces_begin(struct pieces *p) {
    p->n_ids = 0;
}

static size_t slot_of(const uint64_t key[KEY / 8], size_t len) {
    uint64_t h = len;
    for (size_t i = 0; i < KEY / 8; i++) {
        h = (h ^ key[i]) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return (size_t)(h * 0xBF58476D1CE4E5B9u >> 48);
}
_Static_assert(SLOTS == 1 << 16, "what slot_of gives");

static int append(struct pieces *p, const int32_t *ids, size_t n, struct pieces_entry *out, struct err *e) {
    int code = n <= p->cap_ids - p->n_ids ? 0 : mem_reserve(p->a, &p->ids, &p->cap_ids, p->n_ids + n, sizeof *p->ids, e);
    if (code)
        return code;
    for (size_t i = 0; i < n; i++)
        p->ids[p->n_ids + i] = ids[i];
    *out = (struct pieces_entry){p->n_ids, n};
    p->n_ids += n;
    return 0;
}

int pieces_ask(struct pieces *p, struct pieces_query *q, struct err *e) {
    if (!p->slots) {
        if (!(p->slots = mem_aligned(p->a, SLOTS, sizeof *p->slots, e)))
            return ERR_NOMEM;
        memset(p->slots, 0, SLOTS * sizeof *p->slots);
    }
    q->slot = &p->slots[slot_of(q->key.word, q->n)];
    __builtin_prefetch(q->slot, 1);
    return 0;
}

int pieces_answer(struct pieces *p, const struct pieces_query *q, struct pieces_entry *out, struct err *e) {
    struct pieces_slot *slot = q->slot;
    if (slot->full && slot->len == q->n && !memcmp(slot->key, q->key.word, sizeof slot->key))
        return append(p, slot->ids, slot->n, out, e);
    const int32_t *ids;
    size_t n;
    int code = rsd_tokenizer_encode(p->tok, q->key.text, q->n, &ids, &n);
    if (code)
        return align_carry(p->ctx, code, e);
    if (n <= IDS) {
        memcpy(slot->key, q->key.word, sizeof slot->key);
        slot->len = (uint8_t)q->n;
        slot->n = (uint8_t)n;
        slot->full = 1;
        for (size_t i = 0; i < n; i++)
            slot->ids[i] = ids[i];
    }
    return append(p, ids, n, out, e);
}

int pieces_get(struct pieces *p, struct text t, struct pieces_entry *out, struct err *e) {
    if (t.n <= KEY) {
        struct pieces_query q = {.n = t.n};
        if (t.n)
            memcpy(q.key.text, t.p, t.n);
        int code = pieces_ask(p, &q, e);
        return code ? code : pieces_answer(p, &q, out, e);
    }
    const int32_t *ids;
    size_t n;
    int code = rsd_tokenizer_encode(p->tok, t.p, t.n, &ids, &n);
    return code ? align_carry(p->ctx, code, e) : append(p, ids, n, out, e);
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
