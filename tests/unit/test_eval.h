/* What the tests of the evaluation room share. */
#ifndef TEST_EVAL_H
#define TEST_EVAL_H

#include "core/json.h"
#include "train_fixture.h"
#include "util.h"

enum { N = 4 };

/* The student writes `learned`; the second answer is wrong, the third says none. */
struct eval_fact {
    const char *id, *question, *gold, *learned;
};
extern const struct eval_fact eval_facts[N];

struct fix {
    rsd_ctx *ctx;
    rsd_tokenizer *tok;
    rsd_t5 *model;
    const char *dir;
    char data[400];
};

/* Lines of some facts; `question` and `answer` are the keys. */
void eval_items(const char *path, size_t from, size_t to, const char *question, const char *answer);
struct fix eval_open(bool trained);
void eval_close(struct fix *f);
rsd_evaluator_options eval_answer_only(void);
rsd_score eval_score(struct fix *f, const rsd_evaluator_options *o, const char *task, const char *data, const char *out);

TCase *eval_grid_case(void);
TCase *eval_runs_case(void);
TCase *eval_statistics_case(void);

#endif
