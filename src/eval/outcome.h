/* What came out for each item, counting it, and writing it down. */
#ifndef EVAL_OUTCOME_H
#define EVAL_OUTCOME_H

#include "eval/items.h"
#include "reasondistill/evaluator.h"

struct outcome {
    struct text output; /* what the student wrote */
    size_t tokens;      /* its end token included */
    int finish;         /* RSD_FINISH_... */
    struct text answer; /* the part of it that states the answer; empty if none does */
    bool stated, correct;
    const struct item **demos; /* the demonstrations it was shown */
    size_t n_demos;
};

/* Reads the answers (ANSWER_STRICT) of outcomes whose output is filled in. */
void outcome_judge(struct outcome *o, const struct item *item);

/* Sums. Over several groups accuracy is the mean of the groups' accuracies, and the interval is Wilson's for that share and
 * all items. */
int outcome_score(const struct items *items, const struct outcome *o, const struct allocator *a, rsd_score *out, struct err *e);

/* eval.json. */
int outcome_write(const struct items *items, const struct outcome *o, const char *task, const char *data,
                  const rsd_evaluator_options *options, const rsd_score *score, struct str *out, struct err *e);

#endif
