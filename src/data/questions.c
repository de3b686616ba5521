/* Texts lie one after another in one buffer, records point into it: the binary form is the two as they are. */
#include "data/questions.h"

#include "align/section.h"
#include "core/json.h"

#include <string.h>

enum { ID, QUESTION, ANSWER, RATIONALE, PARTS };

struct question_at { /* as in the file */
    uint64_t at;
    uint32_t n[PARTS];
};
_Static_assert(sizeof(struct question_at) == 24, "as in the file");

static void start(struct questions *q, const struct allocator *a) {
    *q = (struct questions){.a = a};
    str_init(&q->bytes, a);
    map_init(&q->index, a);
}

void questions_free(struct questions *q) {
    if (!q->a)
        return;
    mem_free(q->a, q->at);
    str_free(&q->bytes);
    map_free(&q->index);
    *q = (struct questions){0};
}

struct question questions_get(const struct questions *q, size_t i) {
    const struct question_at *r = &q->at[i];
    struct text t[PARTS];
    const char *p = str_z(&q->bytes) + r->at;
    for (size_t k = 0; k < PARTS; p += r->n[k], k++)
        t[k] = (struct text){p, r->n[k]};
    return (struct question){t[ID], t[QUESTION], t[ANSWER], t[RATIONALE]};
}

bool questions_find(const struct questions *q, struct text id, size_t *i) {
    return map_get(&q->index, id, i);
}

static int add(struct questions *q, const struct text t[PARTS], struct err *e) {
    size_t before;
    if (!t[ID].n || !t[QUESTION].n)
        return err_set(e, ERR_FORMAT, "\"%s\" is empty", t[ID].n ? "question" : "id");
    if (map_get(&q->index, t[ID], &before))
        return err_set(e, ERR_FORMAT, "the id \"%.*s\" came before, as question %zu: ids must be different",
                       (int)(t[ID].n < 100 ? t[ID].n : 100), t[ID].p, before + 1);
    int code = mem_reserve(q->a, &q->at, &q->cap, q->n + 1, sizeof *q->at, e);
    code = code ? code : map_put(&q->index, t[ID], q->n, e);
    if (code)
        return code;
    struct question_at r = {.at = q->bytes.n};
    for (size_t k = 0; k < PARTS; k++) {
        r.n[k] = (uint32_t)t[k].n;
        str_add(&q->bytes, t[k].p, t[k].n);
    }
    q->at[q->n++] = r;
    return str_status(&q->bytes, e);
}

/* The answer as text, also where it was written as a number. */
static int read_answer(const struct json *doc, struct str *number, struct text *out, struct err *e) {
    const struct json *v = json_get(doc, "answer");
    if (!v || json_type(v) != JSON_NUMBER)
        return json_opt_text(doc, "answer", out, e);
    struct json_out o;
    str_clear(number);
    json_begin(&o, number, 0);
    json_put_value(&o, v);
    *out = (struct text){str_z(number), number->n};
    return str_status(number, e);
}

static int read_line(struct questions *q, struct text line, struct str *number, struct err *e) {
    struct json *doc = NULL;
    struct text t[PARTS] = {{"", 0}, {"", 0}, {"", 0}, {"", 0}};
    int code = json_parse(line.p, line.n, &doc, e);
    if (!code && json_type(doc) != JSON_OBJECT)
        code = err_set(e, ERR_FORMAT, "expected an object {\"id\",\"question\",\"answer\",\"rationale\"}, found %s",
                       json_type_name(json_type(doc)));
    code = code ? code : json_need_text(doc, "id", &t[ID], e);
    code = code ? code : json_need_text(doc, "question", &t[QUESTION], e);
    code = code ? code : read_answer(doc, number, &t[ANSWER], e);
    code = code ? code : json_opt_text(doc, "rationale", &t[RATIONALE], e);
    code = code ? code : add(q, t, e);
    json_free(doc);
    return code;
}

static bool is_blank_line(struct text t) {
    for (size_t i = 0; i < t.n; i++)
        if (t.p[i] != ' ' && t.p[i] != '\t')
            return false;
    return true;
}

int questions_read(struct questions *q, const struct allocator *a, const char *path, struct err *e) {
    struct lines l;
    struct text line;
    struct str number;
    start(q, a);
    int code = lines_open(&l, a, path, QUESTIONS_LINE_MAX, e);
    if (code)
        return code;
    str_init(&number, a);
    while ((code = lines_next(&l, &line, e)) == 1) {
        if (is_blank_line(line))
            continue;
        if ((code = read_line(q, line, &number, e))) {
            err_within(e, "%s: line %zu", path, l.line);
            break;
        }
    }
    lines_close(&l);
    str_free(&number);
    if (code)
        questions_free(q);
    return code;
}

int questions_save(const struct questions *q, const char *path, struct err *e) {
    struct section_out o;
    int code = section_begin(&o, q->a, path, SECTION_QUESTIONS, e);
    if (code)
        return code;
    code = section_put(&o, "questions", 0, q->at, q->n * sizeof *q->at, e);
    code = code ? code : section_put(&o, "text", 0, str_z(&q->bytes), q->bytes.n, e);
    code = code ? code : section_commit(&o, e);
    section_abort(&o);
    return code;
}

int questions_load(struct questions *q, const struct allocator *a, const char *path, struct err *e) {
    struct section_in in;
    const void *records, *text;
    size_t n, n_text;
    start(q, a);
    int code = section_open(&in, path, SECTION_QUESTIONS, e); /* names the path */
    if (code)
        return code;
    code = section_find(&in, "questions", 0, sizeof(struct question_at), &records, &n, e);
    code = code ? code : section_find(&in, "text", 0, 1, &text, &n_text, e);
    uint64_t at = 0;
    for (size_t i = 0; i < n && !code; i++) {
        struct question_at r = ((const struct question_at *)records)[i];
        struct text t[PARTS];
        if (r.at != at)
            code = err_set(e, ERR_FORMAT, "section questions: record %zu is not possible", i);
        for (size_t k = 0; k < PARTS && !code; k++) {
            if (r.n[k] > n_text - at)
                code = err_set(e, ERR_FORMAT, "section questions: record %zu ends behind the text", i);
            t[k] = (struct text){(const char *)text + at, r.n[k]};
            at += r.n[k];
        }
        code = code ? code : add(q, t, e);
    }
    if (!code && at != n_text)
        code = err_set(e, ERR_FORMAT, "section text: %zu bytes, expected %llu", n_text, (unsigned long long)at);
    section_close(&in);
    if (code) {
        err_within(e, "%s", path);
        questions_free(q);
    }
    return code;
}
