/* Many models on many sets of items: the checkpoints of a run, a line through weight space, a family of sizes.
 *
 *     rsd_grid_open(ctx, NULL, &g);
 *     rsd_grid_parse_set(g, "dev=gsm8k:zs-cot:dev.jsonl", RSD_SET_ID);
 *     rsd_grid_parse_set(g, "svamp:zs-cot:svamp.jsonl", RSD_SET_OOD);
 *     rsd_grid_run(g, "run", NULL, NULL);
 *     rsd_grid_choose(g, RSD_RULE_BEST_MEAN_OOD, &row);
 *     rsd_grid_text(g, &text);
 *
 * A row is a model, a column a set, and each set has a role: in distribution (the task that was trained for), out of distribution
 * (what should not be lost), or test, which no rule looks at. Shares and means are strict accuracies, or what options.parser says. */
#ifndef REASONDISTILL_GRID_H
#define REASONDISTILL_GRID_H

#include "reasondistill/evaluator.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_grid rsd_grid;

/* What all sets share; as in rsd_evaluator_options, and with the same defaults. Strings are copied. */
typedef struct rsd_grid_options {
    size_t size;
    const char *cache; /* results by content; NULL (default): none, but rsd_grid_run keeps its own in RUN/eval/select */
    const char *demos; /* for in-context sets that have none of their own */
    uint64_t seed;
    int32_t shots, max_tokens, batch, limit;
    int32_t parser;     /* RSD_PARSER_STRICT (default), ...: by which accuracies are compared */
    int32_t perplexity; /* 1 (default): perplexities are measured, too; 0 spares the forward pass over the gold texts */
} rsd_grid_options;
RSD_API int rsd_grid_options_init(rsd_grid_options *o, size_t size);

/* options NULL: defaults. *out is the caller's. RSD_EINVAL, RSD_EVERSION, RSD_ENOMEM. */
RSD_API int rsd_grid_open(rsd_ctx *ctx, const rsd_grid_options *options, rsd_grid **out);
RSD_API void rsd_grid_close(rsd_grid *g);

enum { RSD_SET_ID, RSD_SET_OOD, RSD_SET_TEST };

typedef struct rsd_grid_set {
    size_t size;             /* set by the caller */
    const char *name;        /* NULL: the file's, without folder and extension, and the format */
    const char *task, *data; /* as rsd_evaluator_file takes them */
    const char *demos;       /* NULL: those of the options */
    int32_t format;          /* rsd_format */
    int32_t role;            /* RSD_SET_... */
    /* 0: those of the options; of two limits the smaller one holds. A struct that ends before them has 0. */
    int32_t shots, max_tokens, batch, limit;
} rsd_grid_set;
/* One column more. RSD_EINVAL: no task or data, a format or role that does not exist, demonstrations that an in-context set lacks, a
 * name that another set has; RSD_ESTATE: there are rows already; RSD_ENOMEM. */
RSD_API int rsd_grid_add_set(rsd_grid *g, const rsd_grid_set *set);
/* The same from "[NAME=]TASK:FORMAT:DATA", as "gsm8k:zs-cot:dev.jsonl". RSD_EINVAL: what is wrong. */
RSD_API int rsd_grid_parse_set(rsd_grid *g, const char *text, int role);

/* Sets as the run itself has evaluated them: a column for each entry of "eval" in RUN/run.json, by its name, with its settings and
 * the run's seed, if it has one; kind "id" and "ood" are roles, "seen" becomes a test. A limit of the options holds where it is the smaller one.
 * Paths are as in run.json: relative ones from the working directory. *n (may be NULL): how many; on failure none. RSD_ENOTFOUND: no
 * run.json; RSD_EFORMAT: what in it is no such configuration; errors of rsd_grid_add_set. */
RSD_API int rsd_grid_run_sets(rsd_grid *g, const char *run, size_t *n);

/* One row more: the model is evaluated on every set. x: where it stands (a step, an alpha, log parameters). progress counts all
 * evaluations of the call, in thousandths. Errors of rsd_evaluator_open and rsd_evaluator_file, with the set's name in front; then the
 * row is not added. */
RSD_API int rsd_grid_model(rsd_grid *g, const char *name, double x, rsd_t5 *model, rsd_tokenizer *tok, rsd_progress_fn progress,
                           void *user);
/* A row for each checkpoint of a run directory (checkpoints/step-N), by step. RSD_ENOTFOUND: it has none; errors of rsd_t5_open and
 * rsd_grid_model. Rows that were added before a failure stay. */
RSD_API int rsd_grid_run(rsd_grid *g, const char *run, rsd_progress_fn progress, void *user);

/* A line through weight space: base + alpha * (sum of weights[i] * tuned[i] / sum of weights - base). */
typedef struct rsd_sweep {
    size_t size;      /* set by the caller */
    const char *base; /* model directories */
    const char *const *tuned;
    const double *weights; /* [n_tuned] at least 0, not all 0; NULL: equal */
    size_t n_tuned;
    const double *alphas; /* finite; 0 is the base and, with one tuned model, 1 that model, bit for bit */
    size_t n_alphas;
    const char *save; /* folder for the models, as alpha-0.5; NULL: none is written */
} rsd_sweep;
/* A row for each alpha, one model in memory beside those that are mapped. RSD_EMISMATCH: models or tokenizers that do not belong
 * together (which); RSD_EINVAL; errors of rsd_t5_open, rsd_t5_combine, rsd_t5_save and rsd_grid_model. */
RSD_API int rsd_grid_sweep(rsd_grid *g, const rsd_sweep *sweep, rsd_progress_fn progress, void *user);

RSD_API size_t rsd_grid_rows(const rsd_grid *g);
RSD_API size_t rsd_grid_sets(const rsd_grid *g);
RSD_API const char *rsd_grid_row_name(const rsd_grid *g, size_t row); /* NULL: there is none. Borrowed, as long as the grid */
RSD_API const char *rsd_grid_set_name(const rsd_grid *g, size_t set); /* the same */
RSD_API double rsd_grid_x(const rsd_grid *g, size_t row);             /* NaN: there is none */
RSD_API int rsd_grid_score(const rsd_grid *g, size_t row, size_t set, rsd_score *out); /* RSD_EINVAL */
/* Mean accuracy over the sets of a role; NaN without such sets or row. */
RSD_API double rsd_grid_mean(const rsd_grid *g, size_t row, int role);
/* 1: no other row is at least as good on both means (in and out of distribution) and better on one. */
RSD_API int rsd_grid_front(const rsd_grid *g, size_t row);

/* Which row to keep. Of equals the first.
 *   last              the last row
 *   best-id           the highest mean in distribution
 *   best-mean-ood     the highest mean out of distribution: the rule of Fu et al. 2023, whose best checkpoint in distribution was not
 *                     the best one elsewhere
 *   pareto            of the rows of rsd_grid_front the one nearest to the best of both means, in units of each mean's range */
enum { RSD_RULE_LAST, RSD_RULE_BEST_ID, RSD_RULE_BEST_MEAN_OOD, RSD_RULE_PARETO, RSD_RULES };
RSD_API const char *rsd_rule_name(int rule); /* "last", ...; NULL for others. Static */
/* RSD_END: no row, or no set of a role that the rule needs; RSD_EINVAL. */
RSD_API int rsd_grid_choose(const rsd_grid *g, int rule, size_t *row);

/* The table of accuracies and, unless the rows are a sweep's, what each rule would choose, for a terminal and as JSON. *text is
 * borrowed until the next of these two calls. RSD_ENOMEM. */
RSD_API int rsd_grid_text(rsd_grid *g, const char **text);
RSD_API int rsd_grid_json(rsd_grid *g, const char **text);

#ifdef __cplusplus
}
#endif
#endif
