/* A transport takes requests and brings what came of them, in any order. It knows nothing of samples, stores or retries; the
 * teacher knows nothing of sockets. */
#ifndef TEACHER_TRANSPORT_H
#define TEACHER_TRANSPORT_H

#include "core/str.h"
#include "reasondistill/teacher.h"
#include "teacher/pace.h"

struct request {      /* borrowed until it has come back */
    size_t tag;       /* the caller's name for it, handed back */
    const char *path; /* of the dialect, e.g. "/completions" */
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
    bool for_all;       /* and no other request either: a certificate that does not hold */
    bool unreachable;   /* no connection came about */
    double retry_after; /* seconds that the server asked to wait; negative: it did not ask */
    int should_retry;   /* x-should-retry: 1, 0, or -1: not said */
    struct pace_facts pace;
    struct text body;
    bool recorded; /* body is a line of a file: the one reply wanted is number `choice` of it */
    bool wire;     /* recorded as it came over the wire: without id and question, and with the prompt's echo if there was one */
    size_t choice;
    size_t line; /* of the file */
    char fault[256];
};

struct transport {
    const struct transport_ops *ops;
    size_t max_samples; /* in one request */
    bool instant;       /* answers without delay: no limits and no waits */
    const char *api;    /* name of the dialect that a recording was made with; NULL: not known */
};

struct transport_ops {
    int (*start)(struct transport *t, const struct request *r, struct err *e);
    /* 1: *out; 0: nothing within `seconds`; negative: the transport itself failed. */
    int (*poll)(struct transport *t, double seconds, struct outcome *out, struct err *e);
    /* rsd_teacher_wait_fds; lowers *seconds to when poll must be called although no descriptor is ready. */
    int (*wait)(struct transport *t, rsd_fd *fds, size_t cap, size_t *n, double *seconds, struct err *e);
    void (*close)(struct transport *t);
};

int replay_open(struct transport **out, rsd_ctx *ctx, const char *path, struct err *e);

struct http_options {
    struct text url;                                     /* base, e.g. "http://host/v1" */
    const char *key;                                     /* NULL: none. Copied; sent in one header and nowhere else */
    const char *key_header;                              /* NULL: "Authorization: Bearer KEY" */
    const char *headers;                                 /* lines "Name: value"; NULL: none */
    const char *ca_file;                                 /* NULL: the system's certificates */
    double timeout, connect_timeout, first_byte_timeout; /* the last 0: none */
    size_t max_body;
    bool insecure, http2;
};
int http_open(struct transport **out, rsd_ctx *ctx, const struct http_options *o, struct err *e);

#endif
