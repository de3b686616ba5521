/* Inputs and targets as pieces, put together from parts that are tokenised once.
 *
 * An input is examples, then a question, each starting behind a blank: where pieces do not go across blanks (align/pieces.h) the
 * pieces of the whole are those of the parts, one after another. Other vocabularies have every item tokenised as a whole. */
#ifndef DATA_PARTS_H
#define DATA_PARTS_H

#include "data/corpus.h"

enum part_kind {
    PART_QUESTION,                           /* + format */
    PART_DEMO = PART_QUESTION + RSD_FORMATS, /* + format */
    PART_ANSWER = PART_DEMO + RSD_FORMATS,
    PART_KINDS
};

struct part {
    size_t at;
    uint32_t n;
    bool known;
};

struct parts {
    rsd_ctx *ctx;
    rsd_tokenizer *tok;
    struct corpus *c;
    bool whole;                     /* tokenise items as a whole */
    struct part *table[PART_KINDS]; /* [questions], made when first needed */
    int32_t *ids;
    size_t n, cap;
    struct str text;
};

void parts_init(struct parts *p, rsd_ctx *ctx, rsd_tokenizer *tok, struct corpus *c);
void parts_free(struct parts *p);

struct item { /* of a format: question by number, or reply by number */
    int format;
    size_t number;
    uint64_t epoch; /* examples change with it */
};
size_t item_question(const struct corpus *c, struct item i);

/* Pieces of the input without the end token: their number, and, if out is given, they are appended to it. */
struct ids {
    const struct allocator *a;
    int32_t *p;
    size_t n, cap;
};
int parts_input(struct parts *p, struct item i, struct ids *out, size_t *n, struct err *e);
/* The target "The answer is N" of an answer-only item, likewise. */
int parts_answer(struct parts *p, struct item i, struct ids *out, size_t *n, struct err *e);
/* The whole input text, appended. */
int parts_input_text(struct parts *p, struct item i, struct str *out, struct err *e);

#endif
