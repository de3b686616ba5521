/* Reading tasks: JSON Lines in the two shapes that data sets of questions have. */
#include "eval/items.h"

#include "core/json.h"

#include <string.h>

static const size_t MAX_LINE = (size_t)4 << 20;

void items_init(struct items *s, const struct allocator *a) {
    memset(s, 0, sizeof *s);
    s->a = a;
    arena_init(&s->texts, a);
}

void items_free(struct items *s) {
    mem_free(s->a, s->v);
    mem_free(s->a, s->groups);
    arena_free(&s->texts);
}

static int keep(struct items *s, struct text from, struct text *to, struct err *e) {
    char *p = arena_take(&s->texts, from.n + 1, 1, e);
    if (!p)
        return e->code;
    memcpy(p, from.n ? from.p : "", from.n);
    p[from.n] = 0;
    *to = (struct text){p, from.n};
    return 0;
}

/* A gold answer is a text, or a number, which is kept as it is written in JSON. */
static int need_answer(const struct json *doc, const char *key, struct str *number, struct text *out, struct err *e) {
    struct json_out o;
    const struct json *v = json_get(doc, key);
    if (!v || json_type(v) != JSON_NUMBER)
        return json_need_text(doc, key, out, e);
    json_begin(&o, number, 0);
    json_put_double(&o, json_number(v));
    *out = (struct text){str_z(number), number->n};
    return str_status(number, e);
}

static int add_line(struct items *s, struct text line, struct err *e) {
    struct json *doc = NULL;
    struct text id = {0}, question = {0}, answer = {0}, rationale = {0};
    struct str number;
    if (json_parse(line.p, line.n, &doc, e))
        return e->code;
    str_init(&number, s->a);
    bool other = json_get(doc, "input") && !json_get(doc, "question");
    if (json_need_text(doc, "id", &id, e) || json_need_text(doc, other ? "input" : "question", &question, e) ||
        need_answer(doc, other ? "target" : "answer", &number, &answer, e) || json_opt_text(doc, "rationale", &rationale, e))
        goto done;
    if (mem_reserve(s->a, &s->v, &s->cap, s->n + 1, sizeof *s->v, e))
        goto done;
    struct item *i = &s->v[s->n];
    *i = (struct item){.group = s->n_groups - 1};
    if (!keep(s, id, &i->id, e) && !keep(s, question, &i->question, e) && !keep(s, answer, &i->answer, e) &&
        !keep(s, rationale, &i->rationale, e))
        s->n++;
done:
    str_free(&number);
    json_free(doc);
    return e->code;
}

static int add_group(struct items *s, const char *path, struct err *e) {
    const char *slash = strrchr(path, '/');
    struct text name = text_of(slash ? slash + 1 : path);
    if (name.n > 6 && !memcmp(name.p + name.n - 6, ".jsonl", 6))
        name.n -= 6;
    if (mem_reserve(s->a, &s->groups, &s->groups_cap, s->n_groups + 1, sizeof *s->groups, e) ||
        keep(s, name, &s->groups[s->n_groups], e))
        return e->code;
    s->n_groups++;
    return 0;
}

int items_read(struct items *s, const char *path, size_t limit, struct err *e) {
    struct lines l = {0};
    struct text line;
    size_t before = s->n;
    if (add_group(s, path, e) || lines_open(&l, s->a, path, MAX_LINE, e))
        return e->code;
    while ((!limit || s->n - before < limit) && lines_next(&l, &line, e) == 1)
        if (line.n && add_line(s, line, e)) {
            err_within(e, "%s: line %zu", path, l.line);
            break;
        }
    lines_close(&l);
    if (!e->code && s->n == before)
        err_set(e, ERR_FORMAT, "%s: holds no items", path);
    return e->code;
}

int items_read_folder(struct items *s, const char *path, size_t limit, struct err *e) {
    char **names = NULL;
    size_t n = 0, before = s->n_groups;
    if (dir_names(s->a, path, &names, &n, e))
        return e->code;
    for (size_t i = 0; i < n && !e->code; i++) {
        char *file = NULL;
        size_t len = strlen(names[i]);
        if (len > 6 && !strcmp(names[i] + len - 6, ".jsonl") && !file_join(s->a, &file, e, path, names[i]))
            items_read(s, file, limit, e);
        mem_free(s->a, file);
    }
    dir_names_free(s->a, names, n);
    if (!e->code && s->n_groups == before)
        err_set(e, ERR_NOTFOUND, "%s: holds no *.jsonl", path);
    return e->code;
}
