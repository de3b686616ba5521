/* What the suites of the data room share. */
#ifndef TEST_DATA_H
#define TEST_DATA_H

#include "util.h"

#include "base/ctx.h"
#include "data/plan.h"

Suite *data_questions_suite(void);
Suite *data_original_suite(void);
Suite *data_overlap_suite(void);
Suite *data_mix_suite(void);
Suite *data_build_suite(void);
Suite *data_dataset_suite(void);

/* The 35 real replies under the ids of their GSM8K questions, and some of these questions, in a folder that vanishes: everything
 * a data set is built of. */
struct world {
    struct fail_alloc memory;
    rsd_ctx *ctx;
    rsd_tokenizer *tok;
    char questions[512], replies[512], aligned[512], out[512];
};
/* n_questions of the training questions; every third reply is labelled wrong where `some_wrong`. */
void world_open(struct world *w, size_t n_questions, bool some_wrong);
void world_close(struct world *w);
void world_build(struct world *w, const rsd_build_options *o); /* NULL: defaults; paths are filled in */
rsd_dataset *world_dataset(struct world *w, const rsd_dataset_options *o);
rsd_build_options world_options(const struct world *w);

#endif
