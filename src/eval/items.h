/* The items of a task: what is asked, what is right, and how a person solved it. */
#ifndef EVAL_ITEMS_H
#define EVAL_ITEMS_H

#include "base/ctx.h"
#include "core/file.h"
#include "data/questions.h"

struct item {
    struct text id, question, answer, rationale; /* rationale may be empty */
    struct text task;                            /* what kind of question it is; empty where that is not said */
    size_t group;
};

/* Items of one file, or of each file of a folder; a group is a file. Zero it, then items_init. */
struct items {
    struct item *v;
    size_t n, cap;
    struct text *groups; /* names of the files without folder and extension */
    size_t n_groups, groups_cap;
    struct questions questions; /* the texts of the items */
    struct arena texts;
    const struct allocator *a;
};

void items_init(struct items *s, const struct allocator *a);
void items_free(struct items *s);
/* Adds the items of a file, or of a folder where the task is one of several files; the first `limit` (0: all) of each. Each must
 * have an answer. What is read: data/questions.h; task NULL: whatever the file is. Errors name file and place. */
int items_read(struct items *s, const char *task, const char *path, size_t limit, struct err *e);

#endif
