/* Questions with their gold answers and human solutions, from lines {"id","question","answer","rationale"} or from the file a
 * data set keeps of them. */
#ifndef DATA_QUESTIONS_H
#define DATA_QUESTIONS_H

#include "core/map.h"

#include <stdint.h>

enum { QUESTIONS_LINE_MAX = 16 << 20 };

/* answer and rationale are empty where there is none. */
struct question {
    struct text id, question, answer, rationale;
};

struct questions {
    const struct allocator *a;
    struct question_at *at;
    size_t n, cap;
    struct str bytes;
    struct map index; /* id -> number */
};

/* path "-" is standard input. Other keys are passed over; blank lines too. An answer may be a number. Errors name file and line:
 * a line that is no such object, an id that came before, an empty id or question. */
int questions_read(struct questions *q, const struct allocator *a, const char *path, struct err *e);
void questions_free(struct questions *q);                           /* harmless after a failed read, or on zeros */
struct question questions_get(const struct questions *q, size_t i); /* borrowed */
bool questions_find(const struct questions *q, struct text id, size_t *i);

/* The binary form (section.h, kind 2), read without parsing. */
int questions_save(const struct questions *q, const char *path, struct err *e);
int questions_load(struct questions *q, const struct allocator *a, const char *path, struct err *e);

#endif
