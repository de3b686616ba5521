/* The unigram language model of SentencePiece (Kudo 2018): the most probable cut of normalised text into pieces. */
#ifndef TEXT_UNIGRAM_H
#define TEXT_UNIGRAM_H

#include "text/vocab.h"

struct unigram {
    const struct vocab *v;
    struct trie pieces; /* normal and user-defined ones */
    struct trie user;   /* user-defined ones alone, for the normaliser; unit NULL if there are none */
    float *score;       /* by id */
    float unk_score, max_score;
};

/* v must outlive u. */
int unigram_init(struct unigram *u, const struct vocab *v, struct err *e);
void unigram_free(struct unigram *u);

/* The best path, piece by piece: ids, and bytes from[i] .. to[i] of the normalised text. Zero it (but for a) to start. */
struct cut {
    int32_t *ids;
    uint32_t *from, *to;
    size_t n, ids_cap, from_cap, to_cap;
    struct cut_node *nodes;
    size_t nodes_cap;
    const struct allocator *a;
};
int unigram_cut(const struct unigram *u, const char *text, size_t n, struct cut *out, struct err *e);
void cut_free(struct cut *c);

#endif
