/* Replies of a file, one after another: a teacher store, bare response bodies, or both mixed.
 *
 *     if (reply_file_open(&f, ctx, path, &e)) ...
 *     while ((rc = reply_file_next(&f, &reply, &e)) == 1) { ...; rsd_reply_close(reply); }
 *     reply_file_close(&f);
 *
 * Errors name file and line. After an error in a line (ERR_FORMAT, RSD_EREFUSED) the next call goes on with the next line;
 * clear the err before. */
#ifndef TEACHER_REPLY_FILE_H
#define TEACHER_REPLY_FILE_H

#include "core/file.h"
#include "core/map.h"
#include "teacher/reply.h"

enum { REPLY_LINE_MAX = 64 << 20 };

struct reply_file {
    rsd_ctx *ctx;
    struct lines lines;
    char *path;
    struct map bare;  /* bare bodies have no sample numbers: replies seen so far of an id */
    struct json *doc; /* a body with choices left */
    const struct json *choice;
    size_t place; /* of `choice` among its choices */
};

/* path "-" is standard input. */
int reply_file_open(struct reply_file *f, rsd_ctx *ctx, const char *path, struct err *e);
/* 1: *out is the caller's; 0: end; negative: error. Blank lines are passed over. Bare replies are numbered per id in file
 * order. */
int reply_file_next(struct reply_file *f, rsd_reply **out, struct err *e);
size_t reply_file_line(const struct reply_file *f); /* of the reply handed out last, from 1 */
void reply_file_close(struct reply_file *f);

#endif
