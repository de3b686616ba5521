/* The configuration of a run: run.json, with every key and its default. */
#ifndef TRAIN_CONFIG_H
#define TRAIN_CONFIG_H

#include "core/json.h"
#include "tensor/mat.h"
#include "train/keys.h"
#include "train/loss_keys.h"

/* One evaluation on the way. */
struct eval_job {
    char *data, *demos, *name; /* name: of the files; made of task and format if not given. demos may be NULL */
    int64_t task, format, limit, shots, max_tokens, batch, kind;
};

/* Like the questions that are trained on, another distribution, or the questions themselves. */
enum eval_kind { EVAL_ID, EVAL_OOD, EVAL_SEEN };

struct eval_jobs {
    struct eval_job *v;
    size_t n;
};

struct run_config {
    char *model, *tokenizer, *data, *out, *watch;
    int64_t mix, share_batches, patience, keep_best, eval_start;
    int64_t steps, batch_tokens, accumulate, max_enc, max_dec, optimizer, schedule, dtype, threads, seed, skips;
    int64_t log_every, save_every, keep, eval_every;
    int64_t masters, fused, recompute, relative_step, scale_parameter;
    double formats[8], lr, beta1, beta2, eps, decay, warmup, clip, dropout; /* dropout: NaN for the model's own */
    double clip_tensor, update_clip, decay_rate, momentum;
    struct names freeze, hold_out;
    struct loss_choices loss;
    struct eval_jobs evals;
    struct arena arena; /* of all texts */
};

/* Zero *c first; run_config_free in either case. ERR_FORMAT with file and key. */
int run_config_read(struct run_config *c, const struct allocator *a, const char *path, struct err *e);
/* The same of no file: needed keys are NULL. */
int run_config_defaults(struct run_config *c, const struct allocator *a, struct err *e);
void run_config_free(struct run_config *c);
/* run.json, indented, every key. */
int run_config_write(const struct run_config *c, struct str *out, struct err *e);
/* Two parts of one run: ERR_MISMATCH names the first key that touches the weights and differs. */
int run_config_compare(const struct run_config *before, const struct run_config *now, const struct allocator *a, struct err *e);
void run_config_explain(struct str *out);

const char *run_config_task(const struct eval_job *j); /* its name */
const char *run_config_kind(const struct eval_job *j); /* "id", "ood", "seen" */
/* Whether "patience" and "keep_best" look at this set. */
bool run_config_watches(const struct run_config *c, const struct eval_job *j);
uint64_t run_config_warmup(const struct run_config *c); /* in steps */

#endif
