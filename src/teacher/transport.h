/* A transport takes requests and brings what came of them, in any order. It knows nothing of samples, stores or retries; the teacher knows nothing of sockets. */
#ifndef TEACHER_TRANSPORT_H
#define TEACHER_TRANSPORT_H

#include "core/str.h"
#include "reasondistill/ctx.h"

struct request { /* borrowed until it has come back */
    size_t tag;  /* the caller's name for it, handed back */
    struct text body;
    const char *hash; /* request_hash */
    struct text id, question;
    int64_t first; /* samples first .. first+n-1 */
    size_t n;
};

enum outcome_kind {
    OUTCOME_BODY,   /* an answer of any status, its body complete */
    OUTCOME_FAULT,  /* no answer; `fault` says why */
    OUTCOME_MISSING /* a recording does not have it */
};

struct outcome { /* borrowed until the next poll */
    size_t tag;
    enum outcome_kind kind;
    int status;         /* HTTP */
    bool final;         /* a fault that trying again cannot cure */
    double retry_after; /* seconds that the server asked to wait; negative: it did not ask */
    int should_retry;   /* x-should-retry: 1, 0, or -1: not said */
    struct text body;
    bool recorded; /* body is a line of a file: the one reply wanted is number `choice` of it */
    size_t choice;
    size_t line; /* of the file */
    char fault[256];
};

struct transport {
    const struct transport_ops *ops;
};

struct transport_ops {
    size_t max_samples; /* in one request */
    int (*start)(struct transport *t, const struct request *r, struct err *e);
    /* 1: *out; 0: nothing within `seconds`; negative: the transport itself failed. */
    int (*poll)(struct transport *t, double seconds, struct outcome *out, struct err *e);
    void (*close)(struct transport *t);
};

int replay_open(struct transport **out, rsd_ctx *ctx, const char *path, struct err *e);

struct http_options {
    const char *url;  /* base, e.g. "http://host/v1" */
    const char *path; /* of the dialect, e.g. "/completions" */
    const char *key;  /* NULL: none. Copied; sent as "Authorization: Bearer" and nowhere else */
    double timeout, connect_timeout;
};
int http_open(struct transport **out, rsd_ctx *ctx, const struct http_options *o, struct err *e);

#endif
