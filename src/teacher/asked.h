/* What must not be asked again: which samples of which question ids there are. A run of days may know millions of rows, so a
 * question costs some seventy bytes beside its id, its first 64 samples nothing more, and a row never a block of its own. */
#ifndef TEACHER_ASKED_H
#define TEACHER_ASKED_H

#include "core/str.h"

enum { ASKED_SAMPLES = 64 /* in one block */ };

struct asked_samples { /* samples first .. first + 63 of one question, a bit each */
    uint64_t there, correct;
};

struct asked_question {
    uint64_t id_at; /* in `ids` */
    uint32_t id_n;
    bool submitted;             /* its missing samples were queued */
    unsigned char question[16]; /* SHA-256 of its text, cut */
    uint64_t request;           /* of its first row: the first 16 digits of request_sha256, 1 where it has none; 0: no row */
    struct asked_samples first;
};

struct asked_block {
    uint64_t number; /* sample / 64, at least 1 */
    uint32_t question;
    struct asked_samples samples;
};

struct asked_table { /* open addressing: 1 + place of what is asked for, 0: free */
    uint32_t *slots;
    size_t cap;
};

struct asked {
    const struct allocator *a;
    struct str ids; /* one after another */
    struct asked_question *questions;
    size_t n_questions, cap_questions;
    struct asked_block *blocks;
    size_t n_blocks, cap_blocks;
    struct asked_table by_id, by_block;
    uint64_t seed;
};

void asked_init(struct asked *x, const struct allocator *a);
void asked_free(struct asked *x);
/* NULL: the id is not known. Borrowed until a question is added. */
struct asked_question *asked_find(const struct asked *x, struct text id);
/* The same, entered if it is not known. ERR_INVALID: the id is known with another question (where: "an earlier row", for the
 * text). */
int asked_enter(struct asked *x, struct text id, struct text question, const char *where, struct asked_question **out,
                struct err *e);
bool asked_has(const struct asked *x, const struct asked_question *q, int64_t sample, bool *correct);
int asked_mark(struct asked *x, struct asked_question *q, int64_t sample, bool correct, struct err *e);

/* The form in which `request` holds a request hash. */
uint64_t asked_request(const char *request_sha256);

#endif
