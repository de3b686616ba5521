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

/* ---- what an endpoint really gives ---- */

/* What the replies of an endpoint are good for. */
enum {
    RSD_FIT_TEXT,        /* text only: hard labels */
    RSD_FIT_OWN,         /* log-probabilities of the sampled tokens, no distributions */
    RSD_FIT_DISTRIBUTION /* distribution matching is possible */
};

typedef struct rsd_findings {
    size_t size;                              /* set by the caller */
    uint64_t replies, without, post_sampling; /* without: no token log-probabilities; post_sampling: what samplers left instead */
    uint64_t tokens, null_tokens, sentinels;  /* sentinels: -9999 and the like instead of a log-probability */
    uint64_t zeros;                           /* tokens of log-probability 0 without a single alternative */
    uint64_t fewer, most;                     /* tokens with fewer than k alternatives; alternatives of one token at most */
    uint64_t outside, above_one; /* sampled tokens that are no alternative; tokens whose alternatives sum to more than 1 */
    uint64_t thin;               /* tokens with fewer than two alternatives that have a probability */
    uint64_t fit;                /* RSD_FIT_*, of all replies so far */
} rsd_findings;

/* Adds a reply that was asked for with k alternatives to the findings (zeroed at first, but for size). RSD_EINVAL. */
RSD_API int rsd_reply_check(const rsd_reply *r, int32_t k, rsd_findings *f);

#ifdef __cplusplus
}
#endif
#endif
