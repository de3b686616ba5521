/* The items of a task: what is asked, what is right, and how a person solved it. */
#ifndef EVAL_ITEMS_H
#define EVAL_ITEMS_H

#include "base/ctx.h"
#include "core/file.h"

struct item {
    struct text id, question, answer, rationale; /* rationale may be empty */
    size_t group;
};

/* Items of one file, or of each file of a folder; a group is a file. Zero it, then items_init. */
struct items {
    struct item *v;
    size_t n, cap;
    struct text *groups; /* names of the files without folder and ".jsonl" */
    size_t n_groups, groups_cap;
    struct arena texts;
    const struct allocator *a;
};

void items_init(struct items *s, const struct allocator *a);
void items_free(struct items *s);
/* Adds the first `limit` (0: all) lines of a file as a group: {"id","question","answer"[,"rationale"]} or
 * {"id","input","target"}. ERR_FORMAT with file and line. */
int items_read(struct items *s, const char *path, size_t limit, struct err *e);
/* The same for each *.jsonl of a folder, by name. */
int items_read_folder(struct items *s, const char *path, size_t limit, struct err *e);

#endif
