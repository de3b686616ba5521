/* Texts lie one after another in one buffer, records point into it: the binary form is the two as they are. */
#include "data/questions.h"

#include "align/section.h"
#include "data/original.h"

#include <string.h>

enum { ID, QUESTION, ANSWER, RATIONALE, PARTS };

struct question_at { /* as in the file */
    uint64_t at;
    uint32_t n[PARTS];
};
_Static_assert(sizeof(struct question_at) == 24, "as in the file");

void questions_start(struct questions *q, const struct allocator *a) {
    *q = (struct questions){.a = a};
    str_init(&q->bytes, a);
    map_init(&q->index, a);
    map_init(&q->tasks, a);
}

void questions_free(struct questions *q) {
    if (!q->a)
        return;
    mem_free(q->a, q->at);
    mem_free(q->a, q->task);
    for (size_t i = 0; i < q->n_groups; i++)
        mem_free(q->a, q->groups[i].name);
    mem_free(q->a, q->groups);
    for (size_t i = 0; i < q->n_names; i++)
        mem_free(q->a, q->names[i]);
    mem_free(q->a, q->names);
    str_free(&q->bytes);
    map_free(&q->index);
    map_free(&q->tasks);
    *q = (struct questions){0};
}

struct question questions_get(const struct questions *q, size_t i) {
    const struct question_at *r = &q->at[i];
    struct text t[PARTS];
    const char *p = str_z(&q->bytes) + r->at;
    for (size_t k = 0; k < PARTS; p += r->n[k], k++)
        t[k] = (struct text){p, r->n[k]};
    return (struct question){t[ID], t[QUESTION], t[ANSWER], t[RATIONALE], q->task[i]};
}

bool questions_find(const struct questions *q, struct text id, size_t *i) {
    return map_get(&q->index, id, i);
}

int questions_task(struct questions *q, struct text name, uint32_t *task, struct err *e) {
    size_t number = q->n_tasks + 1;
    if (!map_get(&q->tasks, name, &number)) {
        if (number > UINT32_MAX)
            return err_set(e, ERR_UNSUPPORTED, "more than 2^32 tasks");
        if (mem_reserve(q->a, &q->names, &q->cap_names, number, sizeof *q->names, e) ||
            !(q->names[q->n_names] = mem_strndup(q->a, name.p, name.n, e)))
            return e->code;
        q->n_names++;
        if (map_put(&q->tasks, name, number, e))
            return e->code;
        q->n_tasks = number;
    }
    *task = (uint32_t)number;
    return 0;
}

struct text questions_task_name(const struct questions *q, uint32_t task) {
    return task && task <= q->n_names ? text_of(q->names[task - 1]) : (struct text){"", 0};
}

int questions_put(struct questions *q, const struct question *x, struct err *e) {
    const struct text t[PARTS] = {x->id, x->question, x->answer, x->rationale};
    size_t before;
    if (!t[ID].n || !t[QUESTION].n)
        return err_set(e, ERR_FORMAT, "\"%s\" is empty", t[ID].n ? "question" : "id");
    if (map_get(&q->index, t[ID], &before))
        return err_set(e, ERR_FORMAT, "the id \"%.*s\" came before, as question %zu: ids must be different",
                       (int)(t[ID].n < 100 ? t[ID].n : 100), t[ID].p, before + 1);
    int code = mem_reserve(q->a, &q->at, &q->cap, q->n + 1, sizeof *q->at, e);
    code = code ? code : mem_reserve(q->a, &q->task, &q->cap_task, q->n + 1, sizeof *q->task, e);
    code = code ? code : map_put(&q->index, t[ID], q->n, e);
    if (code)
        return code;
    struct question_at r = {.at = q->bytes.n};
    for (size_t k = 0; k < PARTS; k++) {
        r.n[k] = (uint32_t)t[k].n;
        str_add(&q->bytes, t[k].p, t[k].n);
    }
    q->n_tasks = x->task > q->n_tasks ? x->task : q->n_tasks;
    q->task[q->n] = x->task;
    q->at[q->n++] = r;
    return str_status(&q->bytes, e);
}

/* ---- files ---- */

static const char *const names[TASKS] = {
    [TASK_GSM8K] = "gsm8k", [TASK_MULTIARITH] = "multiarith", [TASK_ASDIV] = "asdiv", [TASK_SVAMP] = "svamp", [TASK_BBH] = "bbh",
    [TASK_JSONL] = "jsonl"};

const char *task_name(int task) {
    return task >= 0 && task < TASKS ? names[task] : NULL;
}

int task_find(const char *name, int *task, struct err *e) {
    for (int i = 0; i < TASKS; i++)
        if (!strcmp(names[i], name)) {
            *task = i;
            return 0;
        }
    return err_set(e, ERR_INVALID, "unknown task \"%.60s\": expected gsm8k, multiarith, asdiv, svamp, bbh or jsonl", name);
}

static bool ends_in(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

static int add_group(struct questions *q, const char *path, struct err *e) {
    static const char *const ends[] = {".jsonl", ".json", ".xml"};
    const char *slash = strrchr(path, '/'), *base = strcmp(path, "-") ? slash ? slash + 1 : path : "stdin";
    size_t n = strlen(base);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_in(base, ends[i])) {
            n -= strlen(ends[i]);
            break;
        }
    int code = mem_reserve(q->a, &q->groups, &q->cap_groups, q->n_groups + 1, sizeof *q->groups, e);
    char *name = code ? NULL : mem_strndup(q->a, base, n, e);
    if (!name)
        return e->code;
    q->groups[q->n_groups++] = (struct question_group){name, q->n};
    return 0;
}

static bool is_blank_line(struct text t) {
    for (size_t i = 0; i < t.n; i++)
        if (t.p[i] != ' ' && t.p[i] != '\t')
            return false;
    return true;
}

static int read_lines(struct questions *q, const struct questions_from *from, const char *path, struct err *e) {
    struct lines l;
    struct text line;
    int code = lines_open(&l, q->a, path, QUESTIONS_LINE_MAX, e);
    if (code)
        return code;
    while (!original_full(q, from) && (code = lines_next(&l, &line, e)) == 1)
        if (!is_blank_line(line) && (code = original_line(q, from, line, e))) {
            err_within(e, "%s, line %zu", path, l.line);
            break;
        }
    lines_close(&l);
    return code < 0 ? code : 0;
}

enum layout { LINES, DOCUMENT, XML };

/* By its first character; an object may be a line or the whole file: then its first line decides. */
static enum layout layout_of(const struct questions_from *from, const char *path, struct text file) {
    static const bool object_too[] = {[TASK_BBH] = true, [TASKS] = true};
    size_t i = file.n >= 3 && !memcmp(file.p, "\xEF\xBB\xBF", 3) ? 3 : 0;
    while (i < file.n && strchr(" \t\r\n", file.p[i]) && file.p[i])
        i++;
    if (i == file.n || from->task == TASK_JSONL)
        return LINES;
    if (file.p[i] == '<' && (from->task == TASK_ASDIV || from->task == TASK_ANY))
        return XML;
    if (file.p[i] == '[' && (from->task == TASK_SVAMP || from->task == TASK_MULTIARITH || from->task == TASK_ANY))
        return DOCUMENT;
    if (file.p[i] != '{' || !object_too[from->task == TASK_ANY ? TASKS : from->task] || ends_in(path, ".jsonl"))
        return LINES;
    const char *end = memchr(file.p + i, '\n', file.n - i);
    struct json *first = NULL;
    bool line =
        !json_parse(file.p + i, end ? (size_t)(end - file.p) - i : file.n - i, &first, NULL) && !json_get(first, "examples");
    json_free(first);
    return line ? LINES : DOCUMENT;
}

static int read_document(struct questions *q, const struct questions_from *from, struct text file, struct err *e) {
    struct json *doc = NULL;
    int code = json_parse(file.p, file.n, &doc, e);
    code = code ? code : original_document(q, from, doc, e);
    json_free(doc);
    return code;
}

static int read_file(struct questions *q, const struct questions_from *from, const char *path, struct err *e) {
    struct file_map map = {0};
    struct err unmapped = {0};
    enum layout layout = LINES;
    int code = add_group(q, path, e);
    /* what cannot be mapped, a pipe say, is read as lines, and complained about there */
    bool mapped = !code && strcmp(path, "-") && !file_map_open(&map, path, false, &unmapped);
    struct text file = {map.p ? map.p : "", map.n};
    if (mapped)
        layout = layout_of(from, path, file);
    if (!code && layout != LINES && map.n > QUESTIONS_FILE_MAX)
        code =
            err_set(e, ERR_UNSUPPORTED, "%s: has %zu bytes, at most %d are read at once", path, map.n, (int)QUESTIONS_FILE_MAX);
    if (!code && layout == LINES)
        code = read_lines(q, from, path, e); /* names the path */
    else if (!code && (code = layout == XML ? original_asdiv(q, from, file, e) : read_document(q, from, file, e)))
        err_within(e, "%s", path);
    if (!code && !original_count(q))
        code = err_set(e, ERR_FORMAT, "%s: holds no items", path);
    file_map_close(&map);
    return code;
}

int questions_files(const struct questions_from *from, const struct allocator *a,
                    int (*f)(void *user, const char *path, struct err *e), void *user, struct err *e) {
    bool several = from->task == TASK_BBH || from->task == TASK_JSONL || from->task == TASK_ANY, any = false;
    char **all = NULL;
    size_t n = 0;
    if (!file_is_dir(from->path))
        return f(user, from->path, e);
    if (!several)
        return err_set(e, ERR_INVALID, "%s: is a folder: task %s is one file", from->path, task_name(from->task));
    int code = dir_names(a, from->path, &all, &n, e);
    for (size_t i = 0; i < n && !code; i++) {
        char *path = NULL;
        if (!ends_in(all[i], ".jsonl") && !ends_in(all[i], ".json"))
            continue;
        code = file_join(a, &path, e, from->path, all[i]);
        code = code ? code : f(user, path, e);
        any = true;
        mem_free(a, path);
    }
    dir_names_free(a, all, n);
    return code || any ? code : err_set(e, ERR_NOTFOUND, "%s: holds no *.jsonl and no *.json", from->path);
}

struct adding {
    struct questions *q;
    const struct questions_from *from;
};

static int add_file(void *user, const char *path, struct err *e) {
    struct adding *x = user;
    return read_file(x->q, x->from, path, e);
}

int questions_add(struct questions *q, const struct questions_from *from, struct err *e) {
    struct adding x = {q, from};
    int code = questions_files(from, q->a, add_file, &x, e);
    for (size_t i = 0; i < q->n && !code && q->n_groups > 1; i++)
        code = q->task[i] ? 0 : questions_task(q, text_of(q->groups[questions_group(q, i)].name), &q->task[i], e);
    return code;
}

int questions_read(struct questions *q, const struct allocator *a, const struct questions_from *from, struct err *e) {
    questions_start(q, a);
    int code = questions_add(q, from, e);
    if (code)
        questions_free(q);
    return code;
}

size_t questions_group(const struct questions *q, size_t i) {
    size_t low = 0, high = q->n_groups;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (q->groups[mid].first <= i)
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* ---- binary form ---- */

int questions_save(const struct questions *q, const char *path, struct err *e) {
    struct section_out o;
    int code = section_begin(&o, q->a, path, SECTION_QUESTIONS, e);
    if (code)
        return code;
    code = section_put(&o, "questions", 0, q->at, q->n * sizeof *q->at, e);
    code = code ? code : section_put(&o, "text", 0, str_z(&q->bytes), q->bytes.n, e);
    if (!code && q->n_tasks)
        code = section_put(&o, "tasks", 0, q->task, q->n * sizeof *q->task, e);
    code = code ? code : section_commit(&o, e);
    section_abort(&o);
    return code;
}

int questions_load(struct questions *q, const struct allocator *a, const char *path, struct err *e) {
    struct section_in in;
    const void *records, *text, *tasks = NULL;
    size_t n, n_text, n_tasks = 0;
    questions_start(q, a);
    int code = section_open(&in, path, SECTION_QUESTIONS, e); /* names the path */
    if (code)
        return code;
    code = section_find(&in, "questions", 0, sizeof(struct question_at), &records, &n, e);
    code = code ? code : section_find(&in, "text", 0, 1, &text, &n_text, e);
    for (size_t i = 0; i < in.n && !code; i++) /* absent where no question has a task */
        if (!strncmp(in.entries[i].name, "tasks", sizeof in.entries[i].name))
            code = section_find(&in, "tasks", 0, sizeof *q->task, &tasks, &n_tasks, e);
    if (!code && tasks && n_tasks != n)
        code = err_set(e, ERR_FORMAT, "section tasks: %zu tasks of %zu questions", n_tasks, n);
    uint64_t at = 0;
    for (size_t i = 0; i < n && tasks && !code; i++)
        if (((const uint32_t *)tasks)[i] > n)
            code = err_set(e, ERR_FORMAT, "section tasks: record %zu is not possible", i);
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
        if (!code) {
            struct question x = {t[ID], t[QUESTION], t[ANSWER], t[RATIONALE], tasks ? ((const uint32_t *)tasks)[i] : 0};
            code = questions_put(q, &x, e);
        }
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
