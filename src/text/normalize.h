/* SentencePiece's text normalisation, with the way back to the original bytes. */
#ifndef TEXT_NORMALIZE_H
#define TEXT_NORMALIZE_H

#include "text/trie.h"

/* What a model file says. `charsmap` is its precompiled table, empty for none; `user` holds the user-defined symbols, which
 * pass unchanged (unit NULL: none). */
struct normalizer {
    uint32_t *unit; /* Darts-clone double array, NULL: no table */
    size_t n_units;
    char *strings; /* replacement texts, each ended by a 0 byte */
    size_t n_strings;
    bool dummy_prefix, remove_extra, escape;
    const struct trie *user;
    unsigned char ascii[128]; /* what a byte becomes when another ASCII byte or the end follows: enum in normalize.c */
    const struct allocator *a;
};

/* Flags and user are set by the caller before. `offset`: of the charsmap in its file, for errors. ERR_FORMAT, ERR_NOMEM. */
int normalizer_init(struct normalizer *z, const struct allocator *a, struct text charsmap, size_t offset, struct err *e);
void normalizer_free(struct normalizer *z);

/* The normalised text. Bytes from one piece of input [b, e) share to[k] = e; the first of them has from[k] = b, the others e.
 * A run of normalised bytes k .. l-1 thus came from from[k] .. to[l-1], and cutting anywhere gives spans in order that do not
 * overlap. Zero it to start; buffers are used again. */
struct normal {
    char *p;
    uint32_t *from, *to;
    size_t n, cap;
    const struct allocator *a;
};
int normalize(const struct normalizer *z, struct text in, struct normal *out, struct err *e);
void normal_free(struct normal *out);

#define SPACE_SYMBOL "\xe2\x96\x81" /* U+2581 stands for a blank */

#endif
