/* The teacher store: one line per (question id, sample), appended and never rewritten. What is in it is never asked again. */
#ifndef TEACHER_STORE_H
#define TEACHER_STORE_H

#include "core/file.h"
#include "teacher/asked.h"
#include "teacher/reply.h"

struct store {
    rsd_ctx *ctx;
    struct append log;
    bool open, broken;
    struct asked *asked; /* the caller's: every row is entered there */
    struct str line;     /* scratch */
};

/* Locks the file (ERR_BUSY), cuts off a torn last line and reads what is there. ERR_FORMAT with the line: a row that cannot be
 * read, a second row for one (id, sample), an id with two questions, a file that is no store. */
int store_open(struct store *s, rsd_ctx *ctx, const char *path, struct asked *asked, struct err *e);
/* Appends a row; written when it returns. ERR_INVALID for a row that is there already, ERR_IO. */
int store_add(struct store *s, const rsd_reply *r, struct err *e);
int store_close(struct store *s, struct err *e); /* syncs; harmless on a store that is not open */

#endif
