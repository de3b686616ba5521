/* The inside of a reply, and how one is built: fields first, then token by token with its alternatives, then reply_settle. */
#ifndef TEACHER_REPLY_H
#define TEACHER_REPLY_H

#include "core/json.h"
#include "reasondistill/reply.h"

/* Servers without minus infinity send -9999 (OpenAI, vLLM) or -3.4e38 (llama.cpp). Such values are kept in the store as they
 * came and are never probabilities: accessors say NaN. */
#define LOGPROB_SENTINEL (-9999.0)

struct reply_top {
    size_t at, n; /* bytes in `bytes` */
    double logprob;
};

struct reply_token {
    size_t at, n;
    double logprob;   /* as it came; NaN: not given */
    int64_t offset;   /* code points from the start of the prompt, -1: not given */
    size_t top, tops; /* alternatives in `tops` */
};

struct rsd_reply {
    rsd_ctx *ctx;
    struct str id, question, text, model, finish;
    bool has_finish;
    struct str student_text; /* what a line gives for aligning in place of the text; not part of the reply */
    bool has_student_text;
    char request_sha256[65]; /* "" where not known */
    int64_t sample;
    int correct;
    int64_t prompt_tokens, completion_tokens; /* of the whole request, on its first choice; -1: not told */
    bool logprobs_given;                      /* the reply spoke about log-probabilities at all */
    bool post_sampling;                       /* the server sent what its samplers left, not the model's probabilities */
    struct str bytes;                         /* of all tokens and alternatives */
    struct reply_token *tokens;
    size_t n_tokens, cap_tokens;
    struct reply_top *tops;
    size_t n_tops, cap_tops;
    struct str line; /* what rsd_reply_json handed out */
};

int reply_new(rsd_ctx *ctx, rsd_reply **out, struct err *e);
int reply_set(struct str *field, struct text t, struct err *e);

int reply_add_token(rsd_reply *r, struct text bytes, double logprob, int64_t offset, struct err *e);
int reply_add_top(rsd_reply *r, struct text bytes, double logprob, struct err *e); /* to the token added last */
/* null or absent gives NaN; a tiny positive value (a softmax rounded in single precision) 0; a larger one or another type is
 * ERR_FORMAT. */
int reply_logprob(const struct json *v, double *out, struct err *e);

/* Makes tokens and text agree: echoed tokens before the completion and end marks behind it are dropped, and where tokens cut
 * characters the text becomes the exact join of their bytes. prompt_points: length of the prompt in code points, or one of the
 * constants. ERR_FORMAT: they cannot be made to agree. (settle.c) */
enum { PROMPT_UNKNOWN = -1, PROMPT_NONE = -2 /* nothing may be dropped: the line of a store */ };
int reply_settle(rsd_reply *r, int64_t prompt_points, struct err *e);

/* For tokens that show U+FFFD where the text has the characters: tokens that share characters become one. *mended false:
 * something else is wrong; the tokens are of no use then. (mend.c) */
int reply_mend(rsd_reply *r, bool *mended, struct err *e);

/* RSD_ENOLOGPROBS unless the tokens have log-probabilities and, where `tops` is set, alternatives. */
int reply_need_logprobs(const rsd_reply *r, bool tops, struct err *e);

/* The store's line, appended to `out` without LF, and its reader. (reply_line.c) */
int reply_write(const rsd_reply *r, struct str *out, struct err *e);
int reply_read(rsd_ctx *ctx, const struct json *line, rsd_reply **out, struct err *e);

#endif
