/* Counting what came out, by group (file of a folder) and over all. */
#ifndef EVAL_OUTCOME_H
#define EVAL_OUTCOME_H

#include "eval/evaluator.h"

struct tally {
    uint64_t n, correct[PARSERS], silent[2];
    double maj[2][MAX_MAJ]; /* sums over items */
};
/* One for each group; the caller's (mem_free). */
struct tally *tally_groups(const struct evaluation *t, struct err *e);

/* The reply that stands for an item under a parser: that of the vote; for the reference the first. */
const struct reply *outcome_reply(const struct outcome *o, int parser);
bool outcome_right(const struct outcome *o, int parser);

#endif
