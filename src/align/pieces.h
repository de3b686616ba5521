/* Pieces of short texts, remembered: alternatives repeat, so nearly all of them are looked up instead of tokenised. */
#ifndef ALIGN_PIECES_H
#define ALIGN_PIECES_H

#include "core/str.h"
#include "reasondistill/tokenizer.h"

struct pieces_entry {
    size_t at, n;
};

struct pieces {
    rsd_ctx *ctx;
    rsd_tokenizer *tok;
    const struct allocator *a;
    struct pieces_slot *slots; /* NULL until the first text */
    int32_t *ids;              /* of the reply at hand */
    size_t n_ids, cap_ids;
};

void pieces_init(struct pieces *p, rsd_ctx *ctx, rsd_tokenizer *tok);
void pieces_free(struct pieces *p);
/* The pieces of `t` as ids[out->at .. out->at + out->n). Positions stay valid until pieces_begin; ids may move. Uses the
 * tokenizer. */
int pieces_get(struct pieces *p, struct text t, struct pieces_entry *out, struct err *e);
/* The same in two steps, so that the memory of several look-ups is fetched at once: first all texts, then all pieces. A text is
 * spelled into `key` itself, with zeros behind its n bytes. */
enum { PIECES_KEY = 24 };
struct pieces_query {
    union {
        uint64_t word[PIECES_KEY / 8];
        char text[PIECES_KEY];
    } key;
    size_t n;
    struct pieces_slot *slot;
};
int pieces_ask(struct pieces *p, struct pieces_query *q, struct err *e);
int pieces_answer(struct pieces *p, const struct pieces_query *q, struct pieces_entry *out, struct err *e);

void pieces_begin(struct pieces *p); /* a new reply: positions handed out are void, what was learned stays */

/* True if U+2581 stands only at the start of pieces: then a text is cut word by word, and a word has the same pieces in every
 * text. */
bool pieces_are_words(const rsd_tokenizer *tok);
/* *out: whether the byte stands for a blank between words. Uses the tokenizer. */
int pieces_take_as_blank(rsd_ctx *ctx, rsd_tokenizer *tok, char c, bool *out, struct err *e);

#endif
