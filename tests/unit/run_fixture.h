/* A tiny model, a data set and run files, for tests of runs. */
#ifndef RUN_FIXTURE_H
#define RUN_FIXTURE_H

#include "reasondistill/reasondistill.h"
#include "train_fixture.h"
#include "util.h"

struct fix {
    rsd_ctx *ctx;
    char dir[300], json[400];
    char log[4000]; /* all warnings */
};

void open_fix_of(struct fix *f, int questions, int blas);
void open_fix(struct fix *f); /* of 12 questions */
void close_fix(struct fix *f);
const char *at(const struct fix *f, const char *name); /* a path in its folder */

/* Six steps of two batches each unless `more` says otherwise. Returns the path of run.json. */
const char *write_run(struct fix *f, const char *out, const char *more);
/* A checkpoint every second step. */
#define SAVES ", \"save_every\": 2, \"keep\": 0"

/* Opens and runs; stop 0: to the end. */
void run(struct fix *f, const char *json, int resume, uint64_t stop);
/* Steps without the checkpoint that rsd_trainer_run writes when it stops: what a kill leaves. */
void run_and_die(struct fix *f, const char *json, int resume, uint64_t last);
void refuse(struct fix *f, const char *json, int resume, int code, const char *says);

void same_file(const struct fix *f, const char *a, const char *b, const char *name);
void same_end(const struct fix *f, const char *a, const char *b); /* the checkpoints of step 6 */
/* Steps of the lines of metrics.jsonl as text, e.g. "1 2 3 "; losses too if they are asked for. */
void metrics(const struct fix *f, const char *run_dir, char *out, double *loss);

#endif
