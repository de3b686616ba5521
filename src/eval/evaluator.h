/* The inside of an evaluator: what its files share. */
#ifndef EVAL_EVALUATOR_H
#define EVAL_EVALUATOR_H

#include "eval/items.h"
#include "reasondistill/evaluator.h"
#include "text/answer.h"

struct json;

enum { MAX_SHOTS = 64, MAX_SAMPLES = 256, MAX_MAJ = 8, BATCHES_PER_WINDOW = 16 };

struct rsd_evaluator {
    rsd_ctx *ctx;
    rsd_t5 *model;
    rsd_tokenizer *tok;
    rsd_evaluator_options o; /* its strings are the evaluator's copies */
    char *demos_path, *cache, *label;
    struct items demos;
    char weights[65]; /* SHA-256 of the model, once it was needed */
};

enum { STRICT, LENIENT, REFERENCE, PARSERS }; /* RSD_PARSER_...; the first two are ANSWER_..., too */

struct reply {
    struct text output; /* what the student wrote */
    size_t tokens;      /* its end token included */
    int finish;         /* RSD_FINISH_... */
    struct answer answer[2];
    bool correct[PARSERS];
};

struct likelihood {
    double sum; /* of -log p */
    uint64_t tokens;
};

/* What came out for one item. */
struct outcome {
    struct reply *replies;     /* [samples] */
    size_t vote[2];            /* strict, lenient: the first reply that gives the answer of most; 0 where nobody voted */
    size_t votes[2];           /* for it */
    double maj[2][MAX_MAJ];    /* strict, lenient: for options.maj */
    const struct item **demos; /* the demonstrations it was shown */
    size_t n_demos;
    struct likelihood answer, rationale;
};

/* One task on its way. */
struct evaluation {
    rsd_evaluator *v;
    const char *task, *data;
    struct items items;
    struct outcome *outcomes;
    char content[65]; /* "" without a cache */
    rsd_score score;
    rsd_progress_fn progress;
    void *user;
    int stopped; /* what progress returned */
};

/* ---- window.c: the student answers ---- */

/* Outputs of all items, judged. Non-zero without an error set: the progress function stopped it. */
int evaluation_answer(struct evaluation *t, struct err *e);
/* Text of item `index` as it is put to the student. */
int evaluation_prompt(struct evaluation *t, size_t index, struct str *text, struct err *e);

/* ---- likelihood.c ---- */

/* Adds the likelihoods of the gold texts of n items: item order[i] has the input ids[offsets[i] .. offsets[i+1]). */
int evaluation_likelihood(struct evaluation *t, const size_t *order, const int32_t *ids, const uint32_t *offsets, size_t n,
                          struct err *e);

/* ---- outcome.c: from outputs to figures ---- */

void evaluation_judge(const struct evaluation *t, size_t index, struct reply *r);
/* The vote of the replies of an item. */
int evaluation_vote(const struct evaluation *t, struct outcome *o, struct err *e);
int evaluation_score(struct evaluation *t, struct err *e);

/* ---- figures.c: eval.json ---- */

int evaluation_write(const struct evaluation *t, struct str *out, struct err *e);
/* The figures of such a file. */
int figures_read(const struct json *doc, rsd_score *out, struct err *e);

/* ---- cache.c ---- */

/* Fills t->content, a hash of all that the result depends on. */
int evaluation_content(struct evaluation *t, struct err *e);
/* The result of that content, if the cache has it: *text is the file (empty: there is none), t->score its figures. */
int cache_find(struct evaluation *t, struct str *text, struct err *e);
/* Where it is to be kept; the caller's. */
char *cache_path(const struct evaluation *t, struct err *e);

#endif
