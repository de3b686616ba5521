/* What is asked: the settings of a teacher turned into request bodies, and the hash that names a request. */
#ifndef TEACHER_REQUEST_H
#define TEACHER_REQUEST_H

#include "core/json.h"

struct dialect;

struct ask {                 /* borrowed */
    const char *model;       /* NULL: not sent */
    struct text system;      /* of chat requests; empty: none */
    struct text prefix;      /* few-shot examples */
    const char *template_;   /* with "{question}"; NULL: the default */
    const struct json *stop; /* a string or strings; NULL: none */
    const struct json
        *extra; /* members that are sent as they are: one that is named like ours replaces it, null takes ours away; NULL: none */
    double temperature, top_p;        /* top_p 1 is not sent */
    int32_t max_tokens, top_logprobs; /* top_logprobs < 0: not asked for */
    uint64_t seed;                    /* 0: not sent */
};

/* ERR_INVALID: a template without "{question}", stop or extra of another kind, extra members that are not for the user to set. */
int request_check(const struct ask *ask, struct err *e);

/* Puts the key of a member of ours, unless the extra members have it. */
bool request_key(struct json_out *o, const struct ask *ask, const char *key);

/* The text that the model continues. With the default template the question stands one blank line behind the prefix. */
int request_prompt(const struct ask *ask, struct text question, struct str *out, struct err *e);

/* Bytes of that text and of a system message, at least. */
size_t request_prompt_size(const struct ask *ask, size_t question);

/* Tokens that one sample may take, and samples that an endpoint draws where n are asked for: extra members may replace ours.
 * ERR_INVALID: there is no limit. */
int request_most(const struct ask *ask, double *each, size_t *drawn, struct err *e);

/* The JSON body for samples `first` .. first+n-1. A seed is sent as seed + first, so that a split request draws different
 * samples. */
int request_body(const struct ask *ask, const struct dialect *d, struct text prompt, int64_t first, size_t n, struct str *out,
                 struct err *e);

/* SHA-256 in hex of the body without n and with the plain seed: the same for all samples of a question, however they were
 * split into requests. */
int request_hash(const struct ask *ask, const struct dialect *d, struct text prompt, const struct allocator *a, char out[65],
                 struct err *e);

#endif
