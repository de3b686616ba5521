/* What greedy generation, sampling and beam search share: the inputs, the options, and when a sequence ends. */
#ifndef T5_GENERATION_H
#define T5_GENERATION_H

#include "t5/decode.h"

enum { ENCODE_TOKENS = 4096 }; /* inputs are encoded together up to here */

struct generation {
    rsd_t5 *m;
    struct run r;
    struct decoding d;
    rsd_generate_options o;
    const int32_t *ids;
    const uint32_t *offsets;
    size_t n, next; /* inputs, the next one to be encoded */
    rsd_token_fn fn;
    void *user;
};

/* Number of inputs from g->next on, at most `most`, that are encoded together. */
size_t generation_inputs(const struct generation *g, size_t most);
/* Whether the sequence ids[0 .. n) ends with its last token: into *finish. What the stop function returned, if it stops all. */
int generation_finish(const struct generation *g, size_t input, const int32_t *ids, size_t n, int *finish);
int generation_not_finite(size_t input, size_t token, struct err *e); /* sets e; its code */

/* Opens g->d and runs it to the end. What a callback returned, or an error in e. sample.c, beam.c */
int generation_sample(struct generation *g, struct err *e); /* greedy too */
int generation_beam(struct generation *g, struct err *e);

#endif
