/* Aligned shards: replies as rows of soft targets, ready for batches.
 *
 * A position takes at most 30 bytes at k = 5 and vocabularies up to 65,536 (2 bytes an id, else 4), to which each reply adds 40
 * and its id:
 *
 *     tokens      2  the student's piece; the last of a reply is its end token, a hard row
 *     kinds       1  rsd_kind; bit 7: the blank at the start of the piece was a line feed
 *     counts      1  entries of the row
 *     placed      2  as a probability
 *     row_ids     2  an entry
 *     row_probs   2  an entry
 *
 * Beside the targets, 8 bytes a reply more, and per position
 *
 *     chunk_logprobs  4  a chunk; bit 6 of kinds marks its last position
 *     top_counts      1  the teacher's probabilities where a position starts with a token, largest first, else 0
 *     top_probs       2  an entry
 *
 * A probability p is kept as the nearest integer to 65535 sqrt(p): at most 1.6e-5 off near 1, where fp16 is off by 2.4e-4, and
 * still within 1.6 % at 1e-6, where fixed point would say 0. 0 and 1 are exact. Rows that would add up to more than 1 after
 * rounding lose the excess from their largest entry; top_probs are rounded down. */
#ifndef ALIGN_SHARD_H
#define ALIGN_SHARD_H

#include "align/section.h"
#include "reasondistill/aligner.h"

enum { SHARD_KIND = 0x07, SHARD_CHUNK = 0x40, SHARD_NEWLINE = 0x80 };

/* One reply, end token included. When written: borrowed for the call. When read: see shard_get. */
struct shard_reply {
    struct text id;
    struct text
        unknown; /* texts of the pieces that are the unknown id, each behind its length in one byte (longer ones are cut) */
    int64_t sample;
    int correct; /* 1, 0, -1: not known */
    size_t n;    /* positions */
    const int32_t *tokens;
    const uint8_t *kinds;        /* with SHARD_NEWLINE, and SHARD_CHUNK where a chunk ends */
    const uint32_t *row_offsets; /* [n+1] */
    const int32_t *row_ids;
    const float *row_probs;
    const float *placed;
    size_t n_chunks; /* positions with SHARD_CHUNK */
    const float *chunk_logprobs;
    const uint8_t *top_counts; /* [n]; NULL in a shard without chunks */
    const float *top_probs;    /* [sum of top_counts] */
};

/* What is told about all replies of a shard. */
struct shard_about {
    char tokenizer[65]; /* rsd_tokenizer_hash */
    int32_t vocab;
    int32_t method;        /* RSD_ALIGN_SPAN or _DTW */
    int32_t top_k;         /* most alternatives of a token; rows and top_probs have at most one entry more */
    bool chunks;           /* chunks and top_probs are there; older shards lack them */
    float kind_weights[8]; /* by rsd_kind, but for end tokens, which have 1 */
    rsd_align_report report;
};

struct shard_out;
int shard_begin(struct shard_out **out, const struct allocator *a, const char *path, const char *tokenizer, int32_t vocab,
                bool chunks, struct err *e);
int shard_add(struct shard_out *o, const struct shard_reply *r, struct err *e);
int shard_commit(struct shard_out *o, const struct shard_about *about, struct err *e); /* frees o in either case */
void shard_abort(struct shard_out *o);                                                 /* NULL is fine */

struct shard;
/* Maps and checks the whole file, so that nothing read from it later can be out of range. ERR_FORMAT: section and what was
 * expected. */
int shard_open(struct shard **out, const struct allocator *a, const char *path, struct err *e);
void shard_close(struct shard *s); /* NULL is fine */
const struct shard_about *shard_about(const struct shard *s);
size_t shard_replies(const struct shard *s);

/* Buffers that shard_get fills and that a shard_reply read points into. Zero it to start. */
struct shard_buffer {
    const struct allocator *a;
    int32_t *tokens, *row_ids;
    uint32_t *row_offsets;
    float *row_probs, *placed, *top_probs;
    size_t cap_tokens, cap_row_ids, cap_row_offsets, cap_row_probs, cap_placed, cap_top_probs;
};
void shard_buffer_free(struct shard_buffer *b);
/* Reply i < shard_replies. Borrowed from shard and buffer until the buffer's next use. */
int shard_get(const struct shard *s, size_t i, struct shard_buffer *b, struct shard_reply *out, struct err *e);
/* Id, sample, correctness and positions alone (the other arrays are NULL): costs nothing. */
void shard_peek(const struct shard *s, size_t i, struct shard_reply *out);

/* The student text of a reply: its pieces with their blanks and line feeds, without the end token. Appended to out. */
int shard_text(const struct shard_reply *r, const rsd_tokenizer *tok, struct str *out, struct err *e);

#endif
