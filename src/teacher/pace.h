/* How fast to ask: limits of the user, what the endpoint says about its own, and how many requests it bears at once. Pure
 * functions of facts and a clock. */
#ifndef TEACHER_PACE_H
#define TEACHER_PACE_H

#include "core/str.h"

/* What an answer's headers say of its limits (x-ratelimit-*); negative: not said. */
struct pace_facts {
    double remaining_requests, remaining_tokens;
    double reset_requests, reset_tokens; /* seconds until they are full again */
};
extern const struct pace_facts pace_nothing;

struct pace {
    double rpm, tpm;         /* the user's limits a minute; 0: none */
    double requests, tokens; /* that may be started now; tokens may be negative for a while */
    double at;               /* when these were true */
    double not_before;       /* as the endpoint asked */
    double window, most;     /* requests in flight that it bears, 1 .. most */
    double cut;              /* when the window was halved last */
};
void pace_init(struct pace *p, double rpm, double tpm, double most, double now);

/* Seconds until a request of about `tokens` tokens may start with `flying` in flight; 0: now, negative: when one of them has
 * come back. */
double pace_wait(struct pace *p, double tokens, size_t flying, double now);
void pace_started(struct pace *p, double tokens);
/* A request is over: what it took instead of what was thought. */
void pace_settled(struct pace *p, double thought, double took);
/* An answer: the window grows by one a round trip where all is well and is halved, at most once a second, where there were too
 * many. `wait`: seconds that nothing is to be started for, or negative. */
void pace_heard(struct pace *p, int status, double wait, const struct pace_facts *f, double now);

/* Seconds of a Go duration ("1s", "6m0s", "1h2m3.5s", "20ms") or of a bare number; negative for anything else. */
double pace_duration(struct text t);

#endif
