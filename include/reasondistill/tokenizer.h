/* Tokenizers: SentencePiece unigram (Kudo 2018) as T5 uses it, and byte pair encoding over bytes (GPT-2 and its descendants), to
 * count or to compare with a teacher's tokens.
 *
 *     rsd_tokenizer *tok = NULL;
 *     rsd_tokenizer_open(ctx, "flan-t5-small/spiece.model", &tok);
 *     rsd_tokenizer_encode(tok, "two blanks", 10, &ids, &n);
 *
 * Unigram ids equal those of the sentencepiece library (ties included: forward Viterbi, sums in double, best scores kept in single
 * precision), byte pair ids those of tiktoken. No end token is added and special tokens in text are spelled out, never parsed. */
#ifndef REASONDISTILL_TOKENIZER_H
#define REASONDISTILL_TOKENIZER_H

#include "reasondistill/ctx.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_tokenizer rsd_tokenizer;

/* Opens a `spiece.model`, a `tokenizer.json` (Unigram, or BPE over bytes), a `.tiktoken`, a `vocab.bpe` or `merges.txt` with its
 * `encoder.json` or `vocab.json` beside (all told apart by content), or a model directory (spiece.model, else tokenizer.json, else
 * merges). To a spiece.model without sentinels T5's 100 extra ids are added behind its pieces: <extra_id_99> first,
 * <extra_id_0> last. *out is the caller's. RSD_ENOTFOUND, RSD_EIO, RSD_EFORMAT (byte offset or key), RSD_EUNSUPPORTED (a model
 * type or normalizer that we do not do, named), RSD_ENOMEM. */
RSD_API int rsd_tokenizer_open(rsd_ctx *ctx, const char *path, rsd_tokenizer **out);
/* The same for a byte pair vocabulary whose text is cut into chunks by a pattern that the file does not tell: "gpt2", "cl100k" (as
 * tiktoken has it now), "llama3" (as it was, and as tokenizer.json files have it: blanks at the end of a text are cut behind its
 * last line end) or "o200k". NULL: as the file says, or as is known of the file by its SHA-256 (r50k_base, p50k_base, cl100k_base,
 * o200k_base, GPT-2), else RSD_EUNSUPPORTED. RSD_EINVAL: another name, or no byte pair vocabulary. */
RSD_API int rsd_tokenizer_open_pattern(rsd_ctx *ctx, const char *path, const char *pattern, rsd_tokenizer **out);
RSD_API void rsd_tokenizer_close(rsd_tokenizer *tok);

/* Text (UTF-8, any bytes allowed: each invalid byte counts as U+FFFD; may hold U+0000) to ids. *ids borrowed until the next
 * call on this tokenizer. Time is linear in len (byte pairs: but for a logarithm in the length of a word; they keep invalid bytes
 * as they are). RSD_EINVAL (2 GiB or more), RSD_ENOMEM. */
RSD_API int rsd_tokenizer_encode(rsd_tokenizer *tok, const char *text, size_t len, const int32_t **ids, size_t *n);

/* Where the pieces of the last rsd_tokenizer_encode came from: piece i covers bytes begin[i] .. end[i] of that text. Spans are
 * in order, do not overlap, and cover the text but for blanks and characters that normalisation removed. A blank that became
 * the U+2581 of a piece belongs to that piece: of several in a row the last, the others are removed; the U+2581 in front of
 * the text covers nothing. Where one character became several pieces (one half: `1`, `/`, `2`) the first has its bytes and the
 * others none. Byte pair pieces lie end to end and cover everything, be it within a character. Arrays of the n of that call,
 * borrowed as its ids. RSD_ESTATE before any encode. */
RSD_API int rsd_tokenizer_spans(const rsd_tokenizer *tok, const uint32_t **begin, const uint32_t **end);

/* Ids to text, as sentencepiece decodes: U+2581 becomes a blank, blanks at the start are dropped, control ids print nothing, the
 * unknown id prints " \u2047 ", extra ids their name; of byte pairs the bytes, which may be no UTF-8. *text is borrowed until the
 * next call, terminated, *len without the terminator. RSD_EINVAL for an id outside the vocabulary (which, where), RSD_ENOMEM. */
RSD_API int rsd_tokenizer_decode(rsd_tokenizer *tok, const int32_t *ids, size_t n, const char **text, size_t *len);

/* The piece of an id, e.g. "\u2581the" in UTF-8; for pieces of an encoded text see rsd_tokenizer_surface. Borrowed, as long as
 * the tokenizer. RSD_EINVAL. */
RSD_API int rsd_tokenizer_piece(const rsd_tokenizer *tok, int32_t id, const char **piece, size_t *len);
/* Piece i of the last encode as sentencepiece prints it: the piece, or for an unknown run its normalised surface. Borrowed
 * until the next call. RSD_EINVAL, RSD_ESTATE. */
RSD_API int rsd_tokenizer_surface(const rsd_tokenizer *tok, size_t i, const char **piece, size_t *len);
/* The id of a piece, or RSD_ENOTFOUND (without touching the ctx's error). */
RSD_API int rsd_tokenizer_find(const rsd_tokenizer *tok, const char *piece, size_t len, int32_t *id);

RSD_API int32_t rsd_tokenizer_size(const rsd_tokenizer *tok);        /* pieces and extra ids: 32,100 for T5 */
RSD_API int32_t rsd_tokenizer_pad(const rsd_tokenizer *tok);         /* 0 for T5; -1 if there is none */
RSD_API int32_t rsd_tokenizer_eos(const rsd_tokenizer *tok);         /* 1 for T5; -1 if there is none */
RSD_API int32_t rsd_tokenizer_unk(const rsd_tokenizer *tok);         /* 2 for T5; -1 if there is none */
RSD_API int rsd_tokenizer_bytes(const rsd_tokenizer *tok);           /* 1: pieces are bytes (BPE), 0: UTF-8 with U+2581 */
RSD_API const char *rsd_tokenizer_pattern(const rsd_tokenizer *tok); /* "gpt2", ...; "" without byte pairs */
/* SHA-256 in hex over pieces, kinds, scores and normalisation, equal for a spiece.model and the tokenizer.json of the same
 * vocabulary. As long as the tokenizer. */
RSD_API const char *rsd_tokenizer_hash(const rsd_tokenizer *tok);
/* The file that was opened, to be copied beside a model. As long as the tokenizer. */
RSD_API const char *rsd_tokenizer_path(const rsd_tokenizer *tok);

#ifdef __cplusplus
}
#endif
#endif
