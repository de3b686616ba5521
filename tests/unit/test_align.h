/* What the suites of the aligner's room share. */
#ifndef TEST_ALIGN_H
#define TEST_ALIGN_H

#include "util.h"

#include "align/align.h"
#include "teacher/reply.h"

Suite *align_dtw_suite(void);
Suite *align_span_suite(void);
Suite *align_shard_suite(void);
Suite *align_bridge_suite(void);
Suite *align_pair_suite(void);
Suite *align_chunk_suite(void);
Suite *align_report_suite(void);

/* A context, the T5 tokenizer of the data pack, an aligner, and the 35 real replies. */
struct bench {
    rsd_ctx *ctx;
    rsd_tokenizer *tok;
    rsd_aligner *aligner;
    rsd_reply *replies[64];
    size_t n;
};
void bench_open(struct bench *b, int method);
void bench_close(struct bench *b);
/* The same without data pack and replies: a vocabulary of a dozen pieces without normalisation, where a line feed is an unknown
 * character; with `across` it has pieces that go across blanks. */
void bench_open_small(struct bench *b, bool across);

/* A reply of one's own: tokens and alternatives as text, probabilities as such. */
rsd_reply *reply_begin(rsd_ctx *ctx, const char *id);
void reply_token(rsd_reply *r, const char *token, double prob);
void reply_other(rsd_reply *r, const char *token, double prob); /* an alternative of the last token */
void reply_end(rsd_reply *r);                                   /* the text becomes the join of the tokens */

#endif
