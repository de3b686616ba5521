/* One answer of a teacher: its text, its tokens as bytes, and the log-probabilities that came with them. */
#ifndef REASONDISTILL_REPLY_H
#define REASONDISTILL_REPLY_H

#include "reasondistill/ctx.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_reply rsd_reply;

/* Reads one reply: a line of a teacher store, or a bare response body in an OpenAI shape (completions or chat, also as vLLM
 * and llama.cpp write them) with top-level "id" and "question"; `choice` says which of the body's choices (a store line has
 * only choice 0). Echoed tokens before the completion (by text_offset) are dropped, as are end marks behind it; the others
 * must join to the text. Where a token ends inside a character and the text therefore shows U+FFFD, the bytes of the tokens
 * are taken as the text. *out is the caller's. RSD_END: no such choice. RSD_EFORMAT (key and what was expected),
 * RSD_ENOLOGPROBS only when `need_logprobs`, RSD_ENOMEM. */
RSD_API int rsd_reply_parse(rsd_ctx *ctx, const char *json, size_t len, size_t choice, int need_logprobs, rsd_reply **out);
RSD_API void rsd_reply_close(rsd_reply *r);

/* Borrowed, as long as the reply; terminated, *len (may be NULL) without the terminator. "" where there is none. */
RSD_API const char *rsd_reply_id(const rsd_reply *r, size_t *len);
RSD_API const char *rsd_reply_question(const rsd_reply *r, size_t *len);
RSD_API const char *rsd_reply_text(const rsd_reply *r, size_t *len);
RSD_API const char *rsd_reply_model(const rsd_reply *r, size_t *len);
RSD_API const char *rsd_reply_finish(const rsd_reply *r, size_t *len); /* "stop", "length", ... */
RSD_API int64_t rsd_reply_sample(const rsd_reply *r);
RSD_API int rsd_reply_correct(const rsd_reply *r); /* 1, 0, or -1: not known */

RSD_API size_t rsd_reply_tokens(const rsd_reply *r); /* 0: no tokens came */
/* Token i: bytes (any, also half characters) and log-probability (natural log, at most 0; NaN: not given, or a server's
 * stand-in for minus infinity such as -9999, which only the store line keeps). RSD_EINVAL for i out of range. */
RSD_API int rsd_reply_token(const rsd_reply *r, size_t i, const char **bytes, size_t *len, double *logprob);
RSD_API size_t rsd_reply_tops(const rsd_reply *r, size_t i); /* alternatives at token i */
/* Alternative j at token i, in the order of the reply; the sampled token may or may not be among them. */
RSD_API int rsd_reply_top(const rsd_reply *r, size_t i, size_t j, const char **bytes, size_t *len, double *logprob);

/* The line for a teacher store, without line feed. *json is borrowed until the next call on this reply. RSD_ENOMEM. */
RSD_API int rsd_reply_json(rsd_reply *r, const char **json, size_t *len);

#ifdef __cplusplus
}
#endif
#endif
