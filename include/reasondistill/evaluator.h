/* Evaluation: final-answer accuracy of a student on a task, with its uncertainty. */
#ifndef REASONDISTILL_EVALUATOR_H
#define REASONDISTILL_EVALUATOR_H

#include "reasondistill/format.h"
#include "reasondistill/statistics.h"
#include "reasondistill/t5.h"
#include "reasondistill/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_evaluator rsd_evaluator;

typedef struct rsd_evaluator_options {
    size_t size;
    /* questions with rationale for the in-context formats, as the task's lines; NULL: none. More than `shots`; never the
     * question itself is shown */
    const char *demos;
    uint64_t seed;      /* of the demonstrations; default 1 */
    int32_t format;     /* RSD_FORMAT_ZS_COT */
    int32_t shots;      /* default 4 */
    int32_t max_tokens; /* default 256 */
    int32_t batch;      /* default 32 */
    int32_t limit;      /* first items only; 0 (default): all */
    int32_t reserved;   /* 0 */
} rsd_evaluator_options;
RSD_API int rsd_evaluator_options_init(rsd_evaluator_options *o, size_t size);

/* Model and tokenizer must stay open as long as the evaluator. *out is the caller's. RSD_EINVAL, RSD_EMISMATCH (tokenizer
 * larger than the model's vocabulary), RSD_EFORMAT, RSD_ENOTFOUND, RSD_ENOMEM. */
RSD_API int rsd_evaluator_open(rsd_ctx *ctx, rsd_t5 *model, rsd_tokenizer *tok, const rsd_evaluator_options *options,
                               rsd_evaluator **out);
RSD_API void rsd_evaluator_close(rsd_evaluator *e);

typedef struct rsd_score {
    size_t size; /* set by the caller */
    uint64_t n, correct, no_answer;
    double accuracy, low, high; /* 95 % Wilson interval (Wilson 1927) */
    double mean_tokens;         /* output length */
    double seconds;
} rsd_score;
/* Non-zero stops and is handed back. */
typedef int (*rsd_progress_fn)(void *user, uint64_t done, uint64_t of);

/* Generates for every item of a file and scores it. task: "gsm8k", "multiarith", "asdiv", "svamp", "jsonl" (lines
 * {"id","question","answer"[,"rationale"]}) or "bbh" (lines {"id","input","target"}, or a folder of them, then the accuracy is
 * the macro mean and low and high are Wilson's for that share of all items). An answer counts if it stands behind the last
 * "The answer is". `out` (may be NULL): a JSON file with the figures and the outputs, complete or not there. RSD_EINVAL
 * (unknown task), RSD_EFORMAT (file: line), RSD_ENOTFOUND, RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_evaluator_file(rsd_evaluator *e, const char *task, const char *data, const char *out, rsd_progress_fn progress,
                               void *user, rsd_score *score);

#ifdef __cplusplus
}
#endif
#endif
