/* Evaluation: final-answer accuracy of a student on a task, with its uncertainty.
 *
 *     rsd_evaluator_options_init(&o, sizeof o);
 *     o.format = RSD_FORMAT_ZS_COT;
 *     rsd_evaluator_open(ctx, model, tok, &o, &e);
 *     rsd_evaluator_file(e, "gsm8k", "gsm8k_test.jsonl", "eval.json", NULL, NULL, &score);
 *
 * Every output is judged three times. Strict: the answer stands behind the last "The answer is", which is what a student is trained
 * to write. Lenient: what an untrained model may write instead ("answer is" in any case, "#### N", else the last number or line; of a
 * text the first clause, of an option its letter). Both read thousands separators, signs, fractions, currency and units. Reference:
 * what the code of Fu et al. 2023 would say: the last `\d*\.?\d+` is that of the gold answer, and for BIG-Bench Hard the gold answer
 * stands somewhere in the output, with a chain of thought behind "the answer is" in lower case, which its students were trained to
 * write as "The answer is". */
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

/* Strings are copied. */
typedef struct rsd_evaluator_options {
    size_t size;
    /* questions with rationale for the in-context formats, as the task's lines, or a folder of such files; NULL: none. More than
     * `shots`; never the question itself is shown. An item whose task (the key "task", or of several files the file's name) has
     * more than `shots` of them is shown those alone: BIG-Bench-Hard has examples for each of its tasks */
    const char *demos;
    uint64_t seed;      /* of the demonstrations and of sampling; default 1 */
    int32_t format;     /* RSD_FORMAT_ZS_COT */
    int32_t shots;      /* default 4 */
    int32_t max_tokens; /* default 256 */
    int32_t batch;      /* default 32 */
    int32_t limit;      /* first items only (of each file of a folder); 0 (default): all */
    int32_t reserved;   /* 0 */
    /* One greedy output (temperature 0, the default) or `samples` outputs, 1 to 256, drawn at a temperature of up to 1000 from the
     * fewest tokens whose probabilities reach top_p (default 1: all). */
    double temperature, top_p;
    int32_t samples; /* default 1 */
    /* 1 (default): also the perplexities of gold answer and rationale, for one forward pass more */
    int32_t perplexity;
    int32_t maj[8]; /* numbers of votes for maj@k, each 1 to samples; 0 behind the last. Default: none */
    /* A folder of results, kept under a name made of their content: weights, tokenizer, items, demonstrations, options. What it holds
     * is not computed again, the rest is added. NULL (default): none. The model must not change while the evaluator is open. */
    const char *cache;
    const char *label; /* for the results: how the model is called; default "". The name of a file in `cache` begins with it */
} rsd_evaluator_options;
RSD_API int rsd_evaluator_options_init(rsd_evaluator_options *o, size_t size);

/* Model and tokenizer must stay open as long as the evaluator. *out is the caller's. RSD_EINVAL, RSD_EMISMATCH (tokenizer
 * larger than the model's vocabulary), RSD_EFORMAT, RSD_ENOTFOUND, RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_evaluator_open(rsd_ctx *ctx, rsd_t5 *model, rsd_tokenizer *tok, const rsd_evaluator_options *options,
                               rsd_evaluator **out);
RSD_API void rsd_evaluator_close(rsd_evaluator *e);

/* Accuracies are shares of all outputs; over the files of a folder the mean of theirs (macro). Intervals: Wilson's, 95 %, for that
 * share and n trials: n samples of one item do not count as n items. */
typedef struct rsd_score {
    size_t size; /* set by the caller */
    uint64_t n, correct, no_answer;
    double accuracy, low, high;
    double mean_tokens; /* output length, end token included */
    double seconds;
    uint64_t outputs; /* n * samples: what correct and no_answer are out of */
    uint64_t lenient_correct, lenient_no_answer, reference_correct;
    double lenient_accuracy, lenient_low, lenient_high, reference_accuracy;
    /* exp of the mean of -log p over all tokens of the gold answers (what follows "The answer is", end token included), and of the
     * rationales in front of them (formats with a chain of thought, items that have one), given the input and the gold text before
     * them. 0: not measured. */
    double answer_perplexity, rationale_perplexity;
    double maj[8], lenient_maj[8]; /* rsd_maj_at_k for options.maj: the mean over items, macro as above */
    int32_t reused, reserved;      /* 1: taken from `cache` */
} rsd_score;
/* Non-zero stops and is handed back. */
typedef int (*rsd_progress_fn)(void *user, uint64_t done, uint64_t of);

/* Generates for every item of a file and scores it. task: "gsm8k", "multiarith", "asdiv", "svamp", "bbh" or "jsonl" (lines
 * {"id","question","answer"[,"rationale"]}); each reads such lines, the benchmark's own file, and of bbh and jsonl a folder of them.
 * `out` (may be NULL): a JSON file with the figures and all outputs, complete or not there. RSD_EINVAL (unknown task), RSD_EFORMAT
 * (file: line), RSD_ENOTFOUND, RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_evaluator_file(rsd_evaluator *e, const char *task, const char *data, const char *out, rsd_progress_fn progress,
                               void *user, rsd_score *score);

/* An item on which two models differ: a_right or b_right is 1. Non-zero stops and is handed back. */
typedef int (*rsd_differ_fn)(void *user, const char *id, size_t id_len, int a_right, int b_right);

/* Compares two files that rsd_evaluator_file wrote, item by item (by id), under one of the parsers. Where there are several samples of
 * an item, its answer is that of most of them (the reference: the first). fn may be NULL. RSD_EMISMATCH: the files do not hold the
 * same items with the same gold answers (which); RSD_EFORMAT (file, item), RSD_ENOTFOUND, RSD_EINVAL, RSD_ENOMEM. */
RSD_API int rsd_compare_files(rsd_ctx *ctx, const char *a, const char *b, int parser, rsd_differ_fn fn, void *user,
                              rsd_paired *out);

#ifdef __cplusplus
}
#endif
#endif
