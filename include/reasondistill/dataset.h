/* Data sets: questions, correct replies aligned to the student, and the four formats made of them while reading.
 *
 *     rsd_dataset_build(ctx, &build, &report);                              once
 *     rsd_dataset_open(ctx, "DATA", tok, NULL, &d);
 *     for (uint64_t i = 0; i < steps; i++) { rsd_dataset_batch(d, i, &batch); ... }
 *
 * Inputs and targets end with the end token. Chain-of-thought items are replies, answer-only items are questions with an answer;
 * their targets are hard. Demonstrations come from the questions of the data set: the human solution without its calculator
 * marks, or a correct reply. They change from epoch to epoch and never have the text of the question itself, under
 * whatever id. Where questions say their task (a key "task"; the file's name, of several files), demonstrations are of the same
 * task if it has more than `shots` of them, else of any.
 *
 * Files of questions are read by task. Every task takes lines {"id","question"|"input","answer"|"target","rationale"}: an answer
 * may be a number, answer and rationale may be missing, other keys are passed over. "jsonl" takes nothing else; the others also
 * take the files that these benchmarks are published in, and make ids of task, file and number ("gsm8k_train-0"):
 *
 *     gsm8k       lines {"question","answer"}, answers ending in a line "#### N" (Cobbe et al. 2021)
 *     multiarith  an array of {"iIndex","sQuestion","lSolutions"} (Roy & Roth 2015)
 *     asdiv       XML: Problem with ID, Body, Question, Answer; "9 (apples)" is 9 (Miao et al. 2020)
 *     svamp       an array of {"ID","Body","Question","Answer"} (Patel et al. 2021)
 *     bbh         an object with "examples": [{"input","target"}] (Suzgun et al. 2022), or a folder of them; "jsonl", too, takes
 *                 a folder, of *.jsonl and *.json
 *
 * What is trained on must not be what is tested with. Questions count as the same if they are but for the case of ASCII letters,
 * runs of blanks, quotation marks, and punctuation at the end of words: copies are found, paraphrases are not. */
#ifndef REASONDISTILL_DATASET_H
#define REASONDISTILL_DATASET_H

#include "reasondistill/batch.h"
#include "reasondistill/format.h"
#include "reasondistill/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_dataset rsd_dataset;

enum { RSD_KEEP_CORRECT, RSD_KEEP_ALL };
/* The human solution, where there is none the first correct reply; or the other way round. */
enum { RSD_DEMOS_HUMAN, RSD_DEMOS_TEACHER };
/* What a weight is a share of: the items drawn, or their target tokens, which is what the loss adds up over. */
enum { RSD_MIX_ITEMS, RSD_MIX_TARGETS };

/* Strings are read during the call only. */
typedef struct rsd_build_options {
    size_t size;
    const char *questions; /* file, or folder, of the questions, read as `task` says; "-": standard input, as lines */
    const char *aligned;   /* shard made by rsd_aligner_file; NULL: answers only */
    const char *out;       /* folder to make; must not exist */
    uint64_t seed;         /* of the demonstrations; default 1 */
    uint32_t formats;      /* bit 1 << rsd_format; default all four */
    int32_t shots;         /* demonstrations of the in-context formats, default 4 */
    int32_t keep;          /* RSD_KEEP_CORRECT */
    int32_t reserved;      /* 0 */
    const char *task;      /* how `questions` is read; NULL: "jsonl" */
    /* Files or folders of development and test items, each of any task's kind. */
    const char *const *hold_out; /* [n_hold_out] */
    size_t n_hold_out;
    int32_t drop_held_out; /* 1: questions that stand in them are left out; 0 (default): the first one is an error */
    int32_t demos;         /* what a demonstration's reasoning is: RSD_DEMOS_HUMAN */
} rsd_build_options;
RSD_API int rsd_build_options_init(rsd_build_options *o, size_t size);

typedef struct rsd_build_report {
    size_t size; /* set by the caller */
    uint64_t questions, replies, kept, wrong;
    uint64_t unknown, no_question; /* replies that are not labelled, and without their question (or it is held out) */
    uint64_t held_out;             /* questions left out by drop_held_out */
} rsd_build_report;

/* Makes a data set folder; it appears complete or not at all. In-context formats need more than `shots` questions that have a
 * rationale or a kept reply. report may be NULL. RSD_EINVAL, RSD_ENOTFOUND, RSD_EFORMAT (file: line), RSD_EMISMATCH (a question
 * is held out: where it stands in both), RSD_EBUSY (out exists), RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_dataset_build(rsd_ctx *ctx, const rsd_build_options *options, rsd_build_report *report);

/* Reads questions as `task` says (NULL: "jsonl") and writes them to the file `out` as lines {"id","question","answer",
 * "rationale"}, which every verb reads, and "task", where the lines say it or, of several files, the file's name. *n (may be NULL):
 * how many. RSD_EINVAL, RSD_ENOTFOUND, RSD_EFORMAT (file: place), RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_dataset_convert(rsd_ctx *ctx, const char *task, const char *in, const char *out, uint64_t *n);

typedef struct rsd_dataset_options {
    size_t size;
    /* Share of each rsd_format in what `mix` says, need not sum to 1; all 0 (default): the formats of the data set, equally.
     * An epoch has every item once; of a format with a larger share than items, several times, nearly equally often. Equal shares of
     * items are far from equal shares of the gradient: a chain of thought has twenty times the tokens of an answer (the reference's
     * mix of four formats was 79, 20, 0.6 and 0.3 % of them). */
    double weights[8];
    uint64_t seed;         /* of the order; default 1 */
    uint64_t batch_tokens; /* encoder + decoder tokens of a batch at most (a longer item is a batch of its own); default 4096 */
    uint32_t rank, world;  /* this process gets every world-th batch, from rank; default 0 of 1 */
    int32_t max_enc, max_dec; /* longer items are left out and counted; default 1024, 512 */
    int32_t soft;             /* 1 (default): rows of the teacher's probabilities; 0: hard labels */
    int32_t mix;              /* RSD_MIX_ITEMS */
} rsd_dataset_options;
RSD_API int rsd_dataset_options_init(rsd_dataset_options *o, size_t size);

/* The tokenizer must be the one the shard was aligned for (by hash: RSD_EMISMATCH) and stay open as long as the data set. *out is
 * the caller's. RSD_ENOTFOUND, RSD_EFORMAT (damaged shard: section), RSD_EINVAL (a format that the data set was not built for),
 * RSD_ENOMEM. */
RSD_API int rsd_dataset_open(rsd_ctx *ctx, const char *path, rsd_tokenizer *tok, const rsd_dataset_options *options,
                             rsd_dataset **out);
RSD_API void rsd_dataset_close(rsd_dataset *d);

/* Batch number `index` of an endless sequence of epochs, each shuffled anew: a pure function of data, options and index, so a run
 * can stop and go on anywhere. Items of like length are grouped. *batch is borrowed until the next call on this data set.
 * RSD_ENOMEM, RSD_EFORMAT. */
RSD_API int rsd_dataset_batch(rsd_dataset *d, uint64_t index, const rsd_batch **batch);
/* Of that batch the sequences of some formats only (bits 1 << rsd_format), to measure what each does; n may be 0. */
RSD_API int rsd_dataset_batch_of(rsd_dataset *d, uint64_t index, uint32_t formats, const rsd_batch **batch);

typedef struct rsd_dataset_info {
    size_t size; /* set by the caller */
    uint64_t questions, replies;
    uint64_t items[8], left_out, batches; /* of each rsd_format, too long, and batches in the first epoch, all ranks together */
    uint64_t inputs[8], targets[8];       /* tokens of each rsd_format in the first epoch, end tokens included */
} rsd_dataset_info;
RSD_API int rsd_dataset_info_get(rsd_dataset *d, rsd_dataset_info *out);

/* RSD_OK if no question of the data set stands in a file or folder of items of any task's kind, RSD_EMISMATCH with the first one's
 * place in both if one does. RSD_EINVAL, RSD_ENOTFOUND, RSD_EFORMAT (file: place), RSD_ENOMEM. */
RSD_API int rsd_dataset_disjoint(rsd_dataset *d, const char *items);

/* Input and target text of item `i` (< questions or replies by format) of one format, to look at: borrowed until the next call.
 * RSD_EINVAL, RSD_ENOMEM. */
RSD_API int rsd_dataset_text(rsd_dataset *d, int format, uint64_t i, const char **input, size_t *input_len, const char **target,
                             size_t *target_len);

#ifdef __cplusplus
}
#endif
#endif
