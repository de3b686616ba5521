/* Items of a task, as the reader of questions gives them. */
#include "eval/items.h"

#include <string.h>

void items_init(struct items *s, const struct allocator *a) {
    memset(s, 0, sizeof *s);
    s->a = a;
    arena_init(&s->texts, a);
    questions_start(&s->questions, a);
}

void items_free(struct items *s) {
    mem_free(s->a, s->v);
    mem_free(s->a, s->groups);
    questions_free(&s->questions);
    arena_free(&s->texts);
}

int items_read(struct items *s, const char *task, const char *path, size_t limit, struct err *e) {
    struct questions *q = &s->questions;
    struct questions_from from = {.path = path, .task = TASK_ANY, .limit = limit, .answers = true};
    if ((task && task_find(task, &from.task, e)) || questions_add(q, &from, e) ||
        mem_reserve(s->a, &s->v, &s->cap, q->n, sizeof *s->v, e) ||
        mem_reserve(s->a, &s->groups, &s->groups_cap, q->n_groups, sizeof *s->groups, e))
        return e->code;
    for (s->n = 0; s->n < q->n; s->n++) { /* the texts may have moved: those of before, too */
        struct question x = questions_get(q, s->n);
        s->v[s->n] =
            (struct item){x.id, x.question, x.answer, x.rationale, questions_task_name(q, x.task), questions_group(q, s->n)};
    }
    for (s->n_groups = 0; s->n_groups < q->n_groups; s->n_groups++)
        s->groups[s->n_groups] = text_of(q->groups[s->n_groups].name);
    return 0;
}
