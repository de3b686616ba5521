/* What a data set folder holds, put together: questions, aligned replies, which belong together, and who may be shown as a solved
 * example to whom. */
#ifndef DATA_CORPUS_H
#define DATA_CORPUS_H

#include "align/shard.h"
#include "data/questions.h"
#include "data/recipe.h"

enum { NO_REPLY = UINT32_MAX };

struct shelf {
    size_t first, n, n_texts;
};

struct corpus {
    const struct allocator *a;
    struct recipe recipe;
    struct questions questions;
    struct shard *shard; /* NULL: answers only */
    size_t n_replies;
    uint32_t *question_of; /* [n_replies] */
    uint32_t *first_reply; /* [questions] its first correct reply, or NO_REPLY */
    uint32_t *twin;        /* [questions] the first question with the same text (overlap.h) */
    uint32_t *pool[2];     /* questions that can be solved examples: without [0] and with [1] reasoning */
    size_t n_pool[2];
    size_t n_texts[2];      /* different texts in the pool */
    struct shelf *shelf[2]; /* [tasks + 1] the questions of one task in the pool, which is ordered by tasks */
    struct str scratch;
};

/* From a folder. `what`: dataset.json, questions.rsd and aligned.rsd in it. */
int corpus_open(struct corpus *c, const struct allocator *a, const char *folder, struct err *e);
/* From parts that the caller has read: `questions` and `shard` become the corpus's, also on failure. */
int corpus_init(struct corpus *c, const struct allocator *a, const struct recipe *recipe, struct questions *questions,
                struct shard *shard, struct err *e);
void corpus_close(struct corpus *c); /* harmless on zeros */

/* ERR_INVALID unless the formats of `formats` have their items, and the in-context ones enough examples. */
int corpus_check(const struct corpus *c, uint32_t formats, struct err *e);

/* Examples for item `item` of a format in one epoch: recipe.shots different questions, none with the text of `question`, all of
 * its task if that has enough of them. A pure function of its arguments and the recipe's seed. corpus_check must have passed. */
void corpus_demos(const struct corpus *c, int format, size_t item, size_t question, uint64_t epoch, uint32_t *out);

/* One solved example, as it stands in front of a question of that format. Appended to out. */
int corpus_demo_text(struct corpus *c, const rsd_tokenizer *tok, int format, size_t question, struct str *out, struct err *e);
/* The question itself, last in the input. */
int corpus_question_text(const struct corpus *c, int format, size_t question, struct str *out, struct err *e);
int corpus_answer_text(const struct corpus *c, int format, size_t question, struct str *out, struct err *e);

#endif
