/* A dialect is what differs between OpenAI-compatible endpoints: where they listen, what a request calls its parts, how a
 * choice tells tokens and log-probabilities. One file each; dialect.c lists them. */
#ifndef TEACHER_DIALECT_H
#define TEACHER_DIALECT_H

#include "teacher/reply.h"

struct ask; /* request.h */

struct dialect {
    const char *name; /* "completions", as in cassettes and messages */
    const char *path; /* behind the base URL: "/completions" */
    /* Members of the request body that differ: prompt or messages, and how log-probabilities are asked for. */
    void (*put_request)(struct json_out *o, const struct ask *ask, struct text prompt);
    /* Does this member of "choices" speak the dialect? */
    bool (*knows)(const struct json *choice);
    /* Text, finish, tokens and log-probabilities of a choice, before they are settled. Located errors. */
    int (*read)(rsd_reply *r, const struct json *choice, struct err *e);
};

extern const struct dialect dialect_completions, dialect_chat;

const struct dialect *dialect_of(const struct json *choice); /* NULL: none */

#endif
