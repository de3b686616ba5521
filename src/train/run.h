/* The inside of a trainer: what its files share. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "base/ctx.h"
#include "core/file.h"
#include "reasondistill/trainer.h"
#include "train/config.h"

#include <inttypes.h>

/* Where a run stands: with the configuration, the weights and the moments, all that the next step depends on. */
struct progress {
    uint64_t step;     /* steps done */
    uint64_t position; /* batches read */
    uint64_t updates;  /* of the optimizer: steps that were not skipped */
    uint64_t skipped;  /* in a row, up to now */

    uint64_t evaluated;        /* 1 + the step whose evaluations are complete; 0: none is */
    double watched;            /* mean accuracy of the watched sets at this step; NaN: not evaluated here */
    double best;               /* the highest of them; NaN: none yet */
    uint64_t best_step, stale; /* stale: evaluations since the best */
    bool stopped;              /* by "patience" */
};

struct rsd_trainer {
    rsd_ctx *ctx;
    struct run_config config;
    struct str json;      /* the configuration with all defaults */
    char *dir, *saves;    /* the run directory and its checkpoints */
    char data_sha256[65]; /* of dataset.json: a checkpoint belongs to its data */
    rsd_tokenizer *tok;
    rsd_t5 *model;
    rsd_dataset *data;
    rsd_loss *loss;
    rsd_optimizer *opt;
    struct append metrics; /* also the lock of the run directory */
    bool metrics_open;
    struct progress at;
    rsd_mixture mixture;
    bool mixed; /* the mixture is known */
    rsd_progress_fn progress;
    void *progress_user;
    bool saved;                       /* there is a checkpoint of at.step */
    bool torn;                        /* a fused update failed: the weights belong to no step */
    bool any_saved;                   /* this run has a checkpoint: */
    uint64_t saved_step;              /* its newest */
    double mean_seconds, mean_tokens; /* of a step, exponentially smoothed: for display */
};

/* The text of a failed public call, into an err of ours. Returns code. */
int run_took(rsd_ctx *ctx, int code, struct err *e);

/* RSD_F32 or RSD_BF16 */
int run_dtype(const rsd_trainer *t);

/* dir/name with printf; NULL and e set on failure. The caller's (mem_free). */
char *run_path(const rsd_trainer *t, struct err *e, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* ---- checkpoint.c ---- */

/* Writes checkpoints/step-N for at.step: complete or not there. Then removes what `keep` and `keep_best` do not keep. */
int checkpoint_write(rsd_trainer *t, struct err *e);
/* Writes the notes of an existing checkpoint of at.step anew: its evaluations came later than itself. */
int checkpoint_note(rsd_trainer *t, struct err *e);
/* Whether at.watched is among the best keep_best of the checkpoints there are. */
int checkpoint_is_among_best(rsd_trainer *t, bool *is, struct err *e);
/* Removes what a killed run left half-written, and finds the newest checkpoint whose files are all as they were written;
 * damaged ones are logged and passed over. *path (the caller's) is NULL if there is none; then t->at is 0. Else t->at is where
 * it stands. */
int checkpoint_find(rsd_trainer *t, char **path, struct err *e);
/* The optimizer's state from that checkpoint. */
int checkpoint_restore(rsd_trainer *t, const char *path, struct err *e);

/* ---- evals.c ---- */

/* That everything evaluations need is there, and that nothing they test with is trained on or shown. */
int evals_check(rsd_trainer *t, struct err *e);
/* Whether evaluations of at.step are due and not complete. */
bool evals_pending(const rsd_trainer *t);
/* Does them, logs them, and looks at what they say. RSD_AGAIN: stopped. */
int evals_run(rsd_trainer *t, struct err *e);

/* ---- mixture.c ---- */

/* Fills t->mixture and writes it down, if that has not been done. */
int mixture_make(rsd_trainer *t, struct err *e);
/* Weight of a format in the loss. */
double mixture_weight(const rsd_trainer *t, int format);

/* ---- run_dir.c ---- */

/* Checks that a run may use its directory and, if it goes on, that the configuration is its own. *holds: there is a run. */
int run_dir_check(rsd_trainer *t, int resume, bool *holds, struct err *e);
int run_dir_lock(rsd_trainer *t, struct err *e); /* makes the directory; ERR_BUSY while another process trains in it */
int run_dir_write_config(rsd_trainer *t, struct err *e);
/* Drops metrics lines and evaluations of steps after at.step: they will come again. */
int run_dir_cut(rsd_trainer *t, struct err *e);
/* shares: of each format in the weighted target tokens of the step; losses: the mean of each, NaN where there is none. */
int run_dir_log_step(rsd_trainer *t, const rsd_step *s, double weight, const double shares[RSD_FORMATS],
                     const double losses[RSD_FORMATS], struct err *e);
int run_dir_log_eval(rsd_trainer *t, const struct eval_job *j, const rsd_score *s, struct err *e);
int run_dir_log_stop(rsd_trainer *t, struct err *e);
/* What the metrics say of an evaluation of at.step. *found false: nothing. */
int run_dir_find_eval(rsd_trainer *t, const char *set, double *accuracy, bool *found, struct err *e);

#endif
