/* A response body, or a line of a store: whichever it is, its replies. */
#ifndef TEACHER_BODY_H
#define TEACHER_BODY_H

#include "teacher/reply.h"

bool body_is_store_line(const struct json *doc);

/* First member of "choices", NULL if it is empty. An error object instead is RSD_EREFUSED with its message; ERR_FORMAT. */
int body_choices(const struct json *doc, const struct json **first, struct err *e);

/* One choice as a settled reply. id, question and model are the body's where it has them at top level; usage, told for all
 * choices together, goes to the one at `place` 0 ("index" does not matter: samples are exchangeable). */
int body_reply(rsd_ctx *ctx, const struct json *doc, const struct json *choice, size_t place, int64_t prompt_points,
               rsd_reply **out, struct err *e);

/* Reply number `choice` of a line: RSD_END if there is no such. Bare bodies must have "id" and "question". */
int reply_from_line(rsd_ctx *ctx, const struct json *doc, size_t choice, rsd_reply **out, struct err *e);

/* What a body says of the tokens it took; left alone where it says nothing that makes sense. */
void body_usage(const struct json *doc, int64_t *prompt, int64_t *completion);

/* {"error": {"message", "type", "code"}} as "code: message", also where parts are missing; false if there is no such object. */
bool body_error(const struct json *doc, struct str *message, struct text *type, struct text *code);

#endif
