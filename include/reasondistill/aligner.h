/* The aligner: carries the teacher's tokens and probabilities over to the pieces of the student's tokenizer.
 *
 *     rsd_aligner_open(ctx, tok, NULL, &a);
 *     rsd_aligner_file(a, "teacher.jsonl", "aligned.rsd", 0, NULL);      or rsd_aligner_align(a, reply, &alignment)
 *
 * RSD_ALIGN_DTW is the alignment of Fu et al. 2023, case for case: dynamic time warping on edit distance; soft targets only where
 * one piece equals one token.
 *
 * RSD_ALIGN_SPAN works on the bytes that tokens and pieces cover, so boundaries are exact and nothing is guessed. The teacher's
 * reply with its alternatives is a tree: the path of the tokens t_1 t_2 ... that it wrote and, at step i, branches that leave the
 * path with an alternative w, of probability p(t_1) ... p(t_i-1) p(w). Each branch spells a text, each text has pieces. With P(s)
 * the mass of the branches, the path among them, whose pieces begin with s, the row of position j, where the reply has the pieces
 * s_1 s_2 ..., is
 *
 *     row_j[v] = P(s_1 .. s_j-1 v) / P(s_1 .. s_j-1)
 *
 * One rule for all groups. A token that is a piece: its alternatives, each by its first piece. A piece of several tokens: the
 * chain rule along the path, alternatives of each token joined to what stands before it. A token of several pieces: the marginal
 * over first pieces, then conditionals. Convention: a branch ends at a piece boundary, since what would follow it is not known;
 * at the position behind it its mass is tail. So are tokens below the top k, alternatives that are only blanks, and halves of
 * characters. An alternative such as "<|endoftext|>" is the student's end token. Branches are tokenised together with the word
 * they continue (in words above 192 bytes: alone). Printed probabilities that add up to more than 1 are scaled down to 1. Rows
 * have at most k + 1 entries, the largest and the reply's own piece; what that leaves out is tail as well. */
#ifndef REASONDISTILL_ALIGNER_H
#define REASONDISTILL_ALIGNER_H

#include "reasondistill/reply.h"
#include "reasondistill/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_aligner rsd_aligner;

enum { RSD_ALIGN_SPAN, RSD_ALIGN_DTW };

typedef enum rsd_kind {
    RSD_KIND_EXACT,  /* one piece, one token, the same text */
    RSD_KIND_BLANK,  /* the same but for blanks or a newline before it */
    RSD_KIND_MERGE,  /* one piece from several tokens */
    RSD_KIND_SPLIT,  /* first piece of a token that several pieces make */
    RSD_KIND_CONT,   /* later pieces of one token: reported, not counted as soft */
    RSD_KIND_BRIDGE, /* the texts differ here; an edit alignment bridged the gap */
    RSD_KIND_HARD    /* only the piece itself, probability 1 */
} rsd_kind;
RSD_API const char *rsd_kind_name(int kind); /* "exact", ...; never NULL */

typedef struct rsd_aligner_options {
    size_t size;
    int32_t method;           /* RSD_ALIGN_SPAN */
    int32_t cut_after_answer; /* 1 (default): the text is cut after its first line with "answer is" (dtw: not its tokens) */
    /* By rsd_kind: the weight that a loss gives positions of that kind, at least 0; all 1, the last must be. A shard hands it on to
     * the batches of data sets that are built of it. The end token has 1. */
    double kind_weights[8];
    /* Alternatives a token that the teacher was asked for, 1 to 1000; 0 (default): any. A reply none of whose tokens has so many, or
     * one of whose tokens has more (one more is fine: the token itself, where it is outside them), is RSD_EFORMAT: it was asked for
     * in another way than the others. Single tokens may have fewer, as endpoints give them. */
    int64_t top_logprobs;
} rsd_aligner_options;
RSD_API int rsd_aligner_options_init(rsd_aligner_options *o, size_t size);

/* The tokenizer must stay open as long as the aligner. *out is the caller's. RSD_EINVAL (method, kind_weights, top_logprobs), RSD_EVERSION,
 * RSD_ENOMEM. */
RSD_API int rsd_aligner_open(rsd_ctx *ctx, rsd_tokenizer *tok, const rsd_aligner_options *options, rsd_aligner **out);
RSD_API void rsd_aligner_close(rsd_aligner *a);

/* S student pieces (without the end token), N teacher tokens that were aligned. All arrays are borrowed until the next call on
 * the aligner. */
typedef struct rsd_alignment {
    size_t size;      /* sizeof(rsd_alignment) of the library */
    const char *text; /* the student text: the reply, cut and stripped */
    size_t text_len;
    size_t teacher_first;        /* index in the reply of the first token that was aligned */
    size_t n_teacher;            /* N */
    size_t n_student;            /* S */
    const int32_t *student_ids;  /* [S] */
    const uint32_t *map_offsets; /* [S+1] piece s came from tokens map[map_offsets[s] .. map_offsets[s+1]) */
    const uint32_t *map;         /* 0 .. N-1 */
    const uint32_t *row_offsets; /* [S+1] */
    const int32_t *row_ids; /* target row of piece s, most probable first but for dtw (sampled token first, as the reference) */
    const float *row_probs; /* in [0,1], sum at most 1; the rest is tail */
    const float *placed;    /* [S] sum of the teacher's own, unnormalised probabilities that stand in the row */
    const float *given;     /* [S] sum of those told at the position: what could have been placed */
    const uint8_t *kinds;   /* [S] rsd_kind */
    const float *tails;     /* [S] what the row leaves to all other pieces: 1 - its sum */
    const float *weights;   /* [S] of a loss, by the kind (rsd_aligner_options) */
} rsd_alignment;

/* Aligns one reply. RSD_ENOLOGPROBS (no tokens), RSD_EFORMAT (tokens that do not join to the text, NaN or positive
 * log-probabilities: which token; another number of alternatives than `top_logprobs`), RSD_ENOMEM. */
RSD_API int rsd_aligner_align(rsd_aligner *a, const rsd_reply *reply, const rsd_alignment **out);

/* Aligns the reply to a text that is not quite its own: cut, cleaned, or written anew in places (nothing is cut here; blanks
 * at both ends are stripped). Bytes of both are matched by edit distance, and what the teacher told about a token goes where
 * the token went: unchanged, or with bytes gone, it keeps its probabilities; one that became one of its alternatives takes
 * that alternative's; one that is gone is passed over; other and new bytes have been told nothing about (hard). Pieces of
 * changed tokens, and of tokens between changes that are less than 12 bytes apart, are RSD_KIND_BRIDGE. Probabilities behind a
 * change are those that the teacher had behind its own words. With the reply's own text, and with cuts at its ends, the result
 * is that of rsd_aligner_align. The text is read during the call only. Errors as there. */
RSD_API int rsd_aligner_align_text(rsd_aligner *a, const rsd_reply *reply, const char *text, size_t len,
                                   const rsd_alignment **out);

/* The line of `align --json` for the last alignment, without line feed: id, sample, status 1, student_text, teacher_tokens,
 * student_ids, student_pieces, student_to_teacher, teacher_to_student, dtw: path, cost; step_probs [[piece, p], ...], rows
 * [[id, p], ...], kinds, placed, given, tail, weights (of each position), chunks [[position behind it, log-likelihood or null],
 * ...] (see rsd_aligner_file), and coverage {positions, soft, placed, given, a count of each kind, kind_placed {mean of each kind
 * that occurs}}. The reply must still be open. Borrowed until the next call. RSD_ESTATE, RSD_ENOMEM. */
RSD_API int rsd_aligner_json(rsd_aligner *a, const char **json, size_t *len);

/* Where the mass of the last alignment comes from, to be drawn as a picture: one line, {"id", "sample", "method", "tokens" [N] (a
 * string, or {"hex"} where it is no UTF-8), "pieces" [S], "kinds" [S], "placed" [S], "tail" [S], "cells" [[token, piece, mass],
 * ...]}, cells in the order of pieces, then tokens, mass above 0. span: the mass of a cell is what the alternatives told at that
 * token have in the row of that piece; the reply's own piece stands at the last token that it came from, with all alternatives
 * that only differ behind it. dtw: the row's mass, in equal parts over the tokens of the piece. So the cells of a piece add up to
 * its row, 1 - tail. The reply must still be open. Borrowed until the next call. RSD_ESTATE, RSD_ENOMEM. */
RSD_API int rsd_aligner_heatmap(rsd_aligner *a, const char **json, size_t *len);

typedef struct rsd_align_report {
    size_t size; /* set by the caller */
    uint64_t replies, skipped, positions;
    uint64_t kinds[8];                    /* positions of each rsd_kind */
    double placed, given;                 /* sums over positions */
    double kind_placed[8], kind_given[8]; /* the same over the positions of each kind */
} rsd_align_report;

/* Every reply of a file (a teacher store or bare bodies) into an aligned shard; `out` appears complete or not at all ("-":
 * standard output; NULL: none, for the report alone). skip_bad: a bad reply is counted and left out instead of ending the
 * call. A line with "student_text" is aligned to that text (rsd_aligner_align_text). The end token is added to each reply as a hard
 * position and is not in the report. The shard also has chunks, the smallest runs of pieces that spell
 * the same as a run of tokens (span: they end at the same byte, blanks aside; dtw: its path goes on diagonally, the letters agree),
 * and the teacher's probabilities in falling order, both for batch.h. report may be NULL. RSD_EFORMAT (line), RSD_ENOTFOUND,
 * RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_aligner_file(rsd_aligner *a, const char *in, const char *out, int skip_bad, rsd_align_report *report);

#ifdef __cplusplus
}
#endif
#endif
