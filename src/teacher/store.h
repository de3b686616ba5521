/* The teacher store: one line per (question id, sample), appended and never rewritten. What is in it is never asked again. */
#ifndef TEACHER_STORE_H
#define TEACHER_STORE_H

#include "core/file.h"
#include "core/map.h"
#include "teacher/reply.h"

struct store {
    rsd_ctx *ctx;
    struct append log;
    bool open, broken;
    struct map rows; /* (id, sample) -> 1, or 2 if it is labelled correct */
    struct map ids;  /* id -> index in `questions` */
    struct stored_question *questions;
    size_t n_questions, cap_questions;
    size_t n_rows;
    struct str line, key; /* scratch */
};

struct stored_question {
    unsigned char question[32]; /* SHA-256 of its text */
    char request[65];           /* of the first row; "" where it has none */
};

/* Locks the file (ERR_BUSY), cuts off a torn last line and reads what is there. ERR_FORMAT with the line: a row that cannot be
 * read, a second row for one (id, sample), an id with two questions, a file that is no store. */
int store_open(struct store *s, rsd_ctx *ctx, const char *path, struct err *e);
/* 1, 0, or ERR_NOMEM. */
int store_has(struct store *s, struct text id, int64_t sample, bool *correct, struct err *e);
/* NULL: the store has no row of this id. */
const struct stored_question *store_question(const struct store *s, struct text id);
/* Appends a row; written when it returns. ERR_INVALID for a row that is there already, ERR_IO. */
int store_add(struct store *s, const rsd_reply *r, struct err *e);
int store_close(struct store *s, struct err *e); /* syncs; harmless on a store that is not open */

#endif
