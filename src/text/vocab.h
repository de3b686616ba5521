/* What a tokenizer file holds, whichever form it has: pieces with scores and kinds, and how text is normalised. */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include "core/map.h"
#include "text/normalize.h"

enum piece_kind { /* 1 to 6 as in sentencepiece_model.proto */
                  PIECE_NORMAL = 1,
                  PIECE_UNKNOWN = 2,
                  PIECE_CONTROL = 3,
                  PIECE_USER = 4,
                  PIECE_UNUSED = 5,
                  PIECE_BYTE = 6,
                  PIECE_EXTRA = 7 /* T5's sentinels: never found in text, decoded as their name */
};

struct piece {
    size_t at; /* in vocab.bytes, a 0 byte behind it */
    size_t n;
    float score;
    enum piece_kind kind;
};

struct vocab {
    const struct allocator *a;
    struct piece *pieces;
    size_t n, cap;
    struct str bytes, charsmap, unk_surface;
    size_t charsmap_offset; /* in the file, for errors */
    struct map index;
    bool dummy_prefix, remove_extra, escape;
    bool over_bytes;       /* pieces are bytes, not UTF-8 with U+2581 for a blank */
    int32_t pad, eos, unk; /* -1: none */
};

void vocab_init(struct vocab *v, const struct allocator *a);
void vocab_free(struct vocab *v);
struct text vocab_piece(const struct vocab *v, size_t id);
int32_t vocab_find(const struct vocab *v, struct text piece); /* -1 if absent */

/* Adds the next id. ERR_FORMAT: empty, not UTF-8, not finite, or there already. */
int vocab_add(struct vocab *v, struct text piece, float score, enum piece_kind kind, struct err *e);
/* Gives id `id` a piece of bytes; ids between that have none yet are unused. ERR_FORMAT: empty, or there already;
 * ERR_UNSUPPORTED: an id above 2^24. */
int vocab_put(struct vocab *v, size_t id, struct text piece, enum piece_kind kind, struct err *e);
/* Adds <extra_id_99> ... <extra_id_0> unless the pieces have sentinels already. */
int vocab_add_extra(struct vocab *v, struct err *e);
/* pad and eos from the control pieces: by the names that models in use have. */
void vocab_find_special(struct vocab *v);
/* SHA-256 over all that decides ids. */
void vocab_hash(const struct vocab *v, char hex[65]);

int vocab_read_spiece(struct vocab *v, struct text file, struct err *e); /* spiece.c */
/* hf_json.c; fills b instead of scores where the model is BPE. */
struct bpe;
int vocab_read_json(struct vocab *v, struct bpe *b, struct text file, struct err *e);

#endif
