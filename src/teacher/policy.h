/* Whether to ask again, and when: pure functions of what came back, after the policy of openai-python (_base_client.py). */
#ifndef TEACHER_POLICY_H
#define TEACHER_POLICY_H

#include "core/str.h"

#include <stdint.h>

struct policy_facts {
    int status;             /* HTTP status; 0: the transfer failed */
    bool final_fault;       /* a fault that trying again cannot cure: bad certificate, malformed URL */
    bool broken_body;       /* a success whose body is cut or no JSON */
    bool loading;           /* the server says that its model is not there yet: tries are not counted */
    double retry_after;     /* seconds; negative: not said */
    int should_retry;       /* 1, 0, -1: not said */
    struct text code, type; /* of the error object */
};

struct policy_verdict {
    bool retry;
    bool come_back; /* it would be worth a retry, but only after a wait longer than `longest`: not now, and nothing else either */
    double wait;    /* seconds, if either */
};

/* tries: requests made so far, at least 1; retries: allowed after the first; longest: seconds that a server may ask to wait;
 * uniform: in [0, 1), for the jitter. */
struct policy_verdict policy_decide(const struct policy_facts *f, unsigned tries, unsigned retries, double longest,
                                    double uniform);

/* A refusal that holds for every request with this key: 401, 403, a quota that is used up. */
bool policy_ends_all(const struct policy_facts *f);

/* Seconds that the headers ask to wait, negative if they say nothing that can be understood. `ms`: retry-after-ms; `after`:
 * retry-after as seconds, a decimal fraction, or an HTTP-date, seen from `now` (seconds since 1970). Empty where a header is
 * missing. */
double policy_retry_after(struct text ms, struct text after, double now);

/* Seconds since 1970 of an HTTP-date in its preferred form, "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7). */
bool policy_http_date(struct text t, int64_t *out);

#endif
