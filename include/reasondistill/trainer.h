/* The trainer: runs a configuration, keeps a run directory, and can be stopped anywhere.
 *
 * run.json: "model", "data", "out" are needed; all other keys have defaults (rsd_trainer_config shows them). A run is a
 * function of its configuration: same files, seed and build give the same bits, stopped and resumed or not.
 *
 * The run directory holds run.json, mixture.json (what each format weighs: rsd_trainer_mixture), checkpoints/step-N (model
 * directories), eval/step-N-NAME.json (rsd_evaluator_file) and metrics.jsonl. Each logged step is a line of the latter,
 *
 *     {"step","loss","accuracy","lr","grad_norm","weight","tokens","seconds","shares":{"zs-cot":0.8,...},
 *      "losses":{"zs-cot":0.1,...}}
 *
 * shares: of each format in the step's target tokens as the loss weighs them; losses: mean of each, over its own weights. Each
 * evaluation is a line behind its step's:
 *
 *     {"step","set","kind":"id"|"ood"|"seen","task","format","n","correct","accuracy","low","high","no_answer","mean_tokens",
 *      "lenient_accuracy","answer_perplexity","rationale_perplexity","seconds"}   (rsd_score; null: not measured)
 *
 * and a line {"step","stopped":"patience","best_step","best"} ends a run that was stopped early. Lines are whole while it runs. */
#ifndef REASONDISTILL_TRAINER_H
#define REASONDISTILL_TRAINER_H

#include "reasondistill/dataset.h"
#include "reasondistill/evaluator.h"
#include "reasondistill/loss.h"
#include "reasondistill/optimizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_trainer rsd_trainer;

/* Opens a run from a configuration file. Relative paths in it are relative to the working directory. Without `resume` the run
 * directory must not hold a run; with it, training goes on from its newest whole checkpoint (or from the start if there is
 * none), and the configuration must be the one the run was started with. *out is the caller's. RSD_EFORMAT (file, key; an
 * unknown key comes with the nearest known one), RSD_EMISMATCH (tokenizer, model or configuration do not fit), RSD_EBUSY (the
 * directory holds a run), RSD_ENOTFOUND, RSD_EIO, RSD_ENOMEM. RSD_EMISMATCH also if a question of the data set stands in the items
 * of an evaluation (unless it is of kind "seen") or in a file of "hold_out", or an item of an evaluation among demonstrations: the
 * text names both places. */
RSD_API int rsd_trainer_open(rsd_ctx *ctx, const char *run_json, int resume, rsd_trainer **out);
RSD_API void rsd_trainer_close(rsd_trainer *t);

/* What each rsd_format weighs in a run. */
typedef struct rsd_mixture {
    size_t size;                   /* set by the caller */
    uint64_t items[8], targets[8]; /* items and target tokens of the first epoch */
    double loss[8];                /* share in the sum of target tokens times the format's weight in the loss; sums to 1 */
    double norm[8];     /* of the gradient of the format's part of the first batches, at the weights the run starts from */
    double gradient[8]; /* share in the sum of norms. NaN, as norm, where not measured */
    uint64_t batches, batch_items[8]; /* that were measured, and their items of each format */
} rsd_mixture;

/* The mixture, from the data set and, before the first step, measured: "share_batches" batches spread over the first epoch, forward
 * and backward, without dropout and without touching weights. Later, where there is but one format, and with fused updates, norm and
 * gradient are NaN. rsd_trainer_step does this before the first step; both write mixture.json. RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_trainer_mixture(rsd_trainer *t, rsd_mixture *out);

/* The configuration with all defaults filled in, as run.json; borrowed, as long as the trainer. */
RSD_API const char *rsd_trainer_config(const rsd_trainer *t);
/* The same without opening model or data; run_json NULL: all defaults, null where a key is needed. *json is borrowed until the next
 * call with this ctx. RSD_EFORMAT, RSD_ENOTFOUND. */
RSD_API int rsd_trainer_print_config(rsd_ctx *ctx, const char *run_json, const char **json);
/* Every key of run.json, a line each: type, range, default, what it is for. *text is borrowed as above. RSD_ENOMEM. */
RSD_API int rsd_trainer_explain_config(rsd_ctx *ctx, const char **text);

typedef struct rsd_step {
    size_t size;                /* set by the caller */
    uint64_t step, steps;       /* done, of */
    double loss, lr, grad_norm; /* loss: mean over the weights of the step */
    double accuracy;            /* share of positions whose argmax is the label */
    double seconds;             /* this step */
    double tokens_per_second;   /* encoder + decoder, smoothed */
    double seconds_left;
    uint64_t tokens; /* encoder + decoder, this step */
    /* Mean accuracy of the sets that "watch" names, evaluated after this step (NaN: none was), and the best so far: 0 steps and NaN
     * before the first. */
    double watched, best;
    uint64_t best_step;
    int32_t stopped; /* 1: "patience" evaluations in a row were not better than the best: the run ends here */
    int32_t reserved;
} rsd_step;

/* One optimizer step. Writes the metrics line, the evaluations and the checkpoint when they are due. A step whose loss or
 * gradient is not a finite number leaves the weights as they were, is logged, and has the loss NaN.
 *
 * RSD_END: all steps are done, or the run has been stopped early. RSD_AGAIN: the function of rsd_trainer_set_progress stopped an
 * evaluation; the step is done, the evaluations that are missing come first in the next call, also after a save and in a run that is
 * resumed. RSD_ENUMERIC: more than "skips" steps without numbers in a row (which tensor, which checkpoint to resume from). RSD_EIO,
 * RSD_ENOMEM: a step that failed before the update can be tried again. With fused updates a gradient that is not finite stops the
 * run at once: RSD_ENUMERIC names tensor and checkpoint; then, and after any failure during the update, steps and saving are
 * RSD_ESTATE. */
RSD_API int rsd_trainer_step(rsd_trainer *t, rsd_step *out);
/* Non-zero stops after a checkpoint has been written, and is handed back. */
typedef int (*rsd_step_fn)(void *user, const rsd_step *step);
/* Called while evaluations run, after each item: done, of. Non-zero stops. NULL: nothing is called. */
RSD_API void rsd_trainer_set_progress(rsd_trainer *t, rsd_progress_fn fn, void *user);

/* All steps that are left, calling fn (may be NULL) after each, then a final checkpoint; also one before RSD_AGAIN is handed back.
 * Written with the functions of this header alone. */
RSD_API int rsd_trainer_run(rsd_trainer *t, rsd_step_fn fn, void *user);
/* A checkpoint now, unless this step has one: checkpoints/step-N, complete or not there. RSD_EIO: the earlier ones are
 * untouched. */
RSD_API int rsd_trainer_save(rsd_trainer *t);

RSD_API rsd_t5 *rsd_trainer_model(rsd_trainer *t);            /* the trainer's */
RSD_API rsd_tokenizer *rsd_trainer_tokenizer(rsd_trainer *t); /* the trainer's */
RSD_API const char *rsd_trainer_directory(const rsd_trainer *t);

#ifdef __cplusplus
}
#endif
#endif
