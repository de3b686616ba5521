/* Questions that stand in two places: what is trained on must not be what is tested with. */
#ifndef DATA_OVERLAP_H
#define DATA_OVERLAP_H

#include "data/questions.h"

/* The question as it is compared, appended: ASCII letters small, a blank for any run of blanks, no quotation marks, and no . , ; : !
 * ? at the end of a word. What a copy changes (a file's own spacing, a typesetter's quotes, SVAMP's missing full stops) goes, what a
 * formula is made of stays. */
int question_normal(struct str *out, struct text question, struct err *e);

/* The questions of one place, by that form. Zero it; overlap_free in either case. */
struct overlap {
    const struct questions *q;
    struct map seen;
    struct str key;
};
int overlap_open(struct overlap *o, const struct questions *q, struct err *e); /* q is borrowed */
void overlap_free(struct overlap *o);
/* 1 and its number in q if the question is there, 0 if not, or ERR_NOMEM. */
int overlap_find(struct overlap *o, struct text question, size_t *i, struct err *e);

/* ERR_MISMATCH if one of `held` is there: names the first in both places and says how many there are. `place` and `held_place`
 * are what errors call them; `advice` is what to do. */
int overlap_refuse(struct overlap *o, const char *place, const struct questions *held, const char *held_place, const char *advice,
                   struct err *e);

#endif
