/* Lists of token items, the newer shape of log-probabilities: [{"token", "logprob", "bytes", "top_logprobs": [{"token",
 * "logprob", "bytes"}]}]. */
#ifndef TEACHER_TOKEN_ITEMS_H
#define TEACHER_TOKEN_ITEMS_H

#include "teacher/reply.h"

/* Adds the tokens of "content" (or "refusal") to the reply, whose text has been set. Errors name the item. */
int token_items_read(rsd_reply *r, const struct json *list, struct err *e);

#endif
