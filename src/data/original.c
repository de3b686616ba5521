/* JSON in the shapes that benchmarks are published in. A record is told by its task, not by guessing: only TASK_ANY, which is for
 * looking at questions alone, takes whatever fits. */
#include "data/original.h"

#include <stdio.h>
#include <string.h>

size_t original_count(const struct questions *q) {
    return q->n - q->groups[q->n_groups - 1].first;
}

bool original_full(const struct questions *q, const struct questions_from *from) {
    return from->limit && original_count(q) >= from->limit;
}

int original_put(struct questions *q, const struct questions_from *from, const char *prefix, struct question x, struct err *e) {
    struct str id;
    if (from->answers && !x.answer.n)
        return err_set(e, ERR_FORMAT, "key \"answer\" is missing or empty: what is tested needs one");
    if (!*prefix)
        return questions_put(q, &x, e);
    str_init(&id, q->a);
    str_addz(&id, prefix);
    str_add(&id, x.id.p, x.id.n);
    x.id = (struct text){str_z(&id), id.n};
    int code = str_status(&id, e);
    code = code ? code : questions_put(q, &x, e);
    str_free(&id);
    return code;
}

/* The same with an id made of task, file and number: "gsm8k_train-0". `word` is not repeated where the file's name has it. */
static int put_numbered(struct questions *q, const struct questions_from *from, const char *word, const char *between,
                        struct question x, struct err *e) {
    struct text file = text_of(q->groups[q->n_groups - 1].name);
    struct str id;
    size_t n = strlen(word);
    str_init(&id, q->a);
    if (file.n < n || memcmp(file.p, word, n)) {
        str_addz(&id, word);
        str_addz(&id, between);
    }
    str_add(&id, file.p, file.n);
    str_addf(&id, "-%zu", original_count(q));
    x.id = (struct text){str_z(&id), id.n};
    int code = str_status(&id, e);
    code = code ? code : original_put(q, from, "", x, e);
    str_free(&id);
    return code;
}

/* ---- answers ---- */

/* An answer as text, also where it was written as a number: 51.0 is "51". */
static int read_answer(const struct json *v, const char *key, struct str *number, struct text *out, struct err *e) {
    struct json_out o;
    if (!v || json_type(v) == JSON_NULL) {
        *out = (struct text){"", 0};
        return 0;
    }
    if (json_type(v) == JSON_TEXT) {
        *out = json_text(v);
        return 0;
    }
    if (json_type(v) != JSON_NUMBER)
        return err_set(e, ERR_FORMAT, "key \"%s\": expected a string or a number, found %s", key, json_type_name(json_type(v)));
    str_clear(number);
    json_begin(&o, number, 0);
    json_put_value(&o, v);
    *out = (struct text){str_z(number), number->n};
    return str_status(number, e);
}

/* GSM8K keeps solution and answer in one text: the last line is "#### N". False if it has none. */
static bool split_solution(struct text t, struct text *rationale, struct text *answer) {
    size_t line = t.n;
    while (line && t.p[line - 1] != '\n')
        line--;
    if (t.n - line < 4 || memcmp(t.p + line, "####", 4))
        return false;
    *rationale = (struct text){t.p, line ? line - 1 : 0};
    *answer = (struct text){t.p + line + 4, t.n - line - 4};
    while (answer->n && *answer->p == ' ') {
        answer->p++;
        answer->n--;
    }
    return true;
}

/* ---- lines ---- */

static int read_line(struct questions *q, const struct questions_from *from, const struct json *doc, struct str *number,
                     struct err *e) {
    struct question x = {.rationale = {"", 0}};
    bool gsm8k = from->task == TASK_GSM8K || from->task == TASK_ANY, numbered = gsm8k && !json_get(doc, "id");
    if (json_type(doc) != JSON_OBJECT)
        return err_set(e, ERR_FORMAT, "expected an object {\"id\",\"question\",\"answer\",\"rationale\"}, found %s",
                       json_type_name(json_type(doc)));
    bool other = json_get(doc, "input") && !json_get(doc, "question");
    const char *answer = other ? "target" : "answer";
    if ((!numbered && json_need_text(doc, "id", &x.id, e)) || json_need_text(doc, other ? "input" : "question", &x.question, e) ||
        read_answer(json_get(doc, answer), answer, number, &x.answer, e) || json_opt_text(doc, "rationale", &x.rationale, e))
        return e->code;
    const struct json *task = json_get(doc, "task");
    if (task && json_type(task) == JSON_TEXT && json_text(task).n && questions_task(q, json_text(task), &x.task, e))
        return e->code;
    bool whole = gsm8k && !x.rationale.n && split_solution(x.answer, &x.rationale, &x.answer);
    if (from->task == TASK_GSM8K && numbered && !whole)
        return err_set(e, ERR_FORMAT,
                       "key \"answer\": expected a solution that ends in a line \"#### N\", as in GSM8K; lines of your own need "
                       "an \"id\"");
    return numbered ? put_numbered(q, from, "gsm8k", "_", x, e) : original_put(q, from, "", x, e);
}

int original_line(struct questions *q, const struct questions_from *from, struct text line, struct err *e) {
    struct json *doc = NULL;
    struct str number;
    str_init(&number, q->a);
    int code = json_parse(line.p, line.n, &doc, e);
    code = code ? code : read_line(q, from, doc, &number, e);
    json_free(doc);
    str_free(&number);
    return code;
}

/* ---- documents ---- */

static int read_svamp(struct questions *q, const struct questions_from *from, const struct json *doc, struct str *number,
                      struct err *e) {
    struct question x = {.rationale = {"", 0}};
    struct text body, question;
    struct str joined;
    if (json_need_text(doc, "ID", &x.id, e) || json_need_text(doc, "Body", &body, e) ||
        json_need_text(doc, "Question", &question, e) || read_answer(json_get(doc, "Answer"), "Answer", number, &x.answer, e))
        return e->code;
    str_init(&joined, q->a);
    str_add(&joined, body.p, body.n);
    str_addz(&joined, body.n ? " " : "");
    str_add(&joined, question.p, question.n);
    x.question = (struct text){str_z(&joined), joined.n};
    int code = str_status(&joined, e);
    code = code ? code : original_put(q, from, "svamp-", x, e);
    str_free(&joined);
    return code;
}

/* Several solutions are joined as in ASDiv. */
static int add_solutions(const struct json *list, struct str *answer, struct str *number, struct err *e) {
    struct text t;
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        if (read_answer(v, "lSolutions", number, &t, e))
            return e->code;
        str_addz(answer, answer->n ? "; " : "");
        str_add(answer, t.p, t.n);
    }
    return str_status(answer, e);
}

static int read_multiarith(struct questions *q, const struct questions_from *from, const struct json *doc, struct str *number,
                           struct err *e) {
    struct question x = {.rationale = {"", 0}};
    const struct json *solutions = NULL;
    struct str answer;
    int64_t index = 0;
    char id[32];
    if (json_need_int(doc, "iIndex", 0, INT64_MAX, &index, e) || json_need_text(doc, "sQuestion", &x.question, e) ||
        json_need_type(doc, "lSolutions", JSON_ARRAY, &solutions, e))
        return e->code;
    if (x.question.n && *x.question.p == ' ') /* one blank at each end is the file's */
        x.question = (struct text){x.question.p + 1, x.question.n - 1};
    if (x.question.n && x.question.p[x.question.n - 1] == ' ')
        x.question.n--;
    snprintf(id, sizeof id, "%lld", (long long)index);
    x.id = text_of(id);
    str_init(&answer, q->a);
    int code = add_solutions(solutions, &answer, number, e);
    x.answer = (struct text){str_z(&answer), answer.n};
    code = code ? code : original_put(q, from, "multiarith-", x, e);
    str_free(&answer);
    return code;
}

static int read_bbh(struct questions *q, const struct questions_from *from, const struct json *doc, struct str *number,
                    struct err *e) {
    struct question x = {.rationale = {"", 0}};
    if (json_need_text(doc, "input", &x.question, e) || read_answer(json_get(doc, "target"), "target", number, &x.answer, e))
        return e->code;
    return put_numbered(q, from, "bbh", "-", x, e);
}

typedef int (*read_fn)(struct questions *, const struct questions_from *, const struct json *, struct str *, struct err *);

/* Which record an element of an array is; NULL for none that the task has. */
static read_fn reader_of(int task, const struct json *element) {
    if (task == TASK_SVAMP || (task == TASK_ANY && json_get(element, "Body")))
        return read_svamp;
    if (task == TASK_MULTIARITH || (task == TASK_ANY && json_get(element, "sQuestion")))
        return read_multiarith;
    return NULL;
}

int original_document(struct questions *q, const struct questions_from *from, const struct json *doc, struct err *e) {
    const struct json *list = doc;
    const char *what = "element";
    struct str number;
    size_t i = 0;
    bool bbh = json_type(doc) == JSON_OBJECT;
    if (bbh && json_need_type(doc, "examples", JSON_ARRAY, &list, e))
        return err_within(e, "neither lines of objects nor one object as in BIG-Bench-Hard");
    what = bbh ? "\"examples\", element" : what;
    str_init(&number, q->a);
    for (const struct json *m = json_first(list); m && !e->code && !original_full(q, from); m = json_next(m), i++) {
        read_fn read = bbh ? read_bbh : reader_of(from->task, m);
        if (!read)
            err_set(e, ERR_FORMAT, "an array is read for the tasks svamp and multiarith only%s",
                    from->task == TASK_ANY ? ", and this element is of neither" : "");
        else
            read(q, from, m, &number, e);
        if (e->code)
            err_within(e, "%s %zu", what, i);
    }
    str_free(&number);
    return e->code;
}
