/* Byte pair encoding (Sennrich et al. 2016, over bytes as in GPT-2): a chunk of text starts as single bytes; the pair of
 * neighbours that was learned first is merged, until no pair is known. */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include "text/split.h"
#include "text/unigram.h"

struct bpe_merge { /* left and right become id; lower ranks first, equal ones from left to right */
    int32_t left, right, id;
    uint32_t rank;
};

struct bpe {
    const struct vocab *v;
    enum split_pattern pattern;
    bool whole; /* a chunk that is a piece stays whole, whatever the merges say */
    int32_t byte[256];
    struct bpe_merge *merges;
    size_t n, cap;
    struct bpe_pair *pairs; /* by left, then right */
    uint32_t *first;        /* [pieces+1] where the pairs of a left piece start */
    /* scratch, used again */
    struct bpe_node *nodes;
    uint64_t *heap;
    size_t cap_nodes, cap_heap;
};

/* Zero it, set v, pattern, whole and merges (bpe_add), then bpe_ready: finds the pieces of single bytes and orders the merges.
 * ERR_FORMAT: a byte without a piece, a merge that is there twice. */
int bpe_add(struct bpe *b, struct bpe_merge m, struct err *e);
int bpe_ready(struct bpe *b, struct err *e);
void bpe_free(struct bpe *b);
/* Merges of a vocabulary that has none written down: every cut of a piece into two pieces, ranked by the piece's id (what
 * tiktoken does). */
int bpe_derive(struct bpe *b, struct err *e);
/* The pieces of a text of less than 2 GiB; from and to are bytes of the text. */
int bpe_cut(struct bpe *b, struct text t, struct cut *out, struct err *e);

/* Fill vocabulary and bpe from a file; both are set up by the caller and freed by it in either case. bpe_ready is still to
 * come. */
int bpe_read_tiktoken(struct vocab *v, struct bpe *b, struct text file, struct err *e);
int bpe_read_merges(struct vocab *v, struct bpe *b, struct text merges, struct text encoder, struct err *e);
struct json;
int bpe_read_json(struct vocab *v, struct bpe *b, const struct json *doc, struct err *e); /* tokenizer.json */
bool bpe_is_tiktoken(struct text file);
bool bpe_is_merges(struct text file);

/* SHA-256 over all that decides ids. */
void bpe_hash(const struct bpe *b, char hex[65]);

#endif
