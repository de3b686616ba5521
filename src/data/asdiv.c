/* ASDiv (Miao, Liang, Su 2020): Problem elements with ID, Body, Question, Answer. An answer may carry its unit in brackets, which
 * is no part of what has to be said: "9 (apples)" is 9, "5 (years old); 15 (years old)" is 5; 15, "-(1/3)" stays. */
#include "data/original.h"
#include "data/xml.h"

#include <string.h>

enum { BODY, QUESTION, ANSWER, PARTS };
static const char *const parts[PARTS] = {"Body", "Question", "Answer"};

static struct text strip(struct text t) {
    while (t.n && strchr(" \t\n\r", *t.p) && *t.p) {
        t.p++;
        t.n--;
    }
    while (t.n && t.p[t.n - 1] && strchr(" \t\n\r", t.p[t.n - 1]))
        t.n--;
    return t;
}

/* Without a bracket at the end that has a blank before it. */
static struct text without_unit(struct text t) {
    size_t depth = 0;
    t = strip(t);
    if (!t.n || t.p[t.n - 1] != ')')
        return t;
    for (size_t i = t.n; i-- > 0;) {
        depth += t.p[i] == ')';
        depth -= t.p[i] == '(';
        if (!depth)
            return i && t.p[i - 1] == ' ' ? strip((struct text){t.p, i}) : t;
    }
    return t;
}

static void add_answer(struct str *out, struct text t) {
    size_t begin = 0, depth = 0;
    for (size_t i = 0; i <= t.n; i++) {
        char c = i < t.n ? t.p[i] : ';';
        depth += c == '(';
        depth -= c == ')' && depth;
        if (i < t.n && (c != ';' || depth))
            continue;
        struct text part = without_unit((struct text){t.p + begin, i - begin});
        str_addz(out, begin ? "; " : "");
        str_add(out, part.p, part.n);
        begin = i + 1;
    }
}

struct problem {
    struct str id, text[PARTS], joined, answer;
    bool has[PARTS];
    int part;     /* whose text is being read, or PARTS */
    size_t depth; /* of the Problem element; 0: outside */
};

static int put(struct problem *p, struct xml *x, struct questions *q, const struct questions_from *from, struct err *e) {
    for (size_t k = 0; k < PARTS; k++)
        if (!p->has[k])
            return xml_fail(x, x->at, e, "Problem \"%.60s\" has no <%s>", str_z(&p->id), parts[k]);
    str_clear(&p->joined);
    str_clear(&p->answer);
    str_add(&p->joined, str_z(&p->text[BODY]), p->text[BODY].n);
    str_addz(&p->joined, p->text[BODY].n ? " " : "");
    str_add(&p->joined, str_z(&p->text[QUESTION]), p->text[QUESTION].n);
    add_answer(&p->answer, (struct text){str_z(&p->text[ANSWER]), p->text[ANSWER].n});
    if (str_status(&p->joined, e) || str_status(&p->answer, e))
        return e->code;
    struct question n = {
        {str_z(&p->id), p->id.n}, {str_z(&p->joined), p->joined.n}, {str_z(&p->answer), p->answer.n}, {"", 0}, 0};
    if (original_put(q, from, "asdiv-", n, e)) {
        struct err why = *e;
        err_clear(e);
        return why.code == ERR_FORMAT ? xml_fail(x, x->at, e, "%s", why.text) : err_set(e, why.code, "%s", why.text);
    }
    return 0;
}

static int open_element(struct problem *p, struct xml *x, struct err *e) {
    if (!p->depth && text_is(x->name, "Problem")) {
        p->depth = x->depth;
        memset(p->has, 0, sizeof p->has);
        return xml_attribute(x, "ID", &p->id, e);
    }
    if (!p->depth || x->depth != p->depth + 1)
        return 0;
    for (int k = 0; k < PARTS; k++) {
        if (!text_is(x->name, parts[k]))
            continue;
        if (p->has[k])
            return xml_fail(x, x->at, e, "Problem \"%.60s\" has <%s> twice", str_z(&p->id), parts[k]);
        p->has[k] = true;
        p->part = k;
        str_clear(&p->text[k]);
    }
    return 0;
}

static int walk(struct problem *p, struct xml *x, struct questions *q, const struct questions_from *from, struct err *e) {
    for (int event; !original_full(q, from) && (event = xml_next(x, e)) != XML_END;) {
        if (event < 0)
            return event;
        if (event == XML_OPEN && open_element(p, x, e))
            return e->code;
        if (event == XML_TEXT && p->part < PARTS && xml_add_text(x, &p->text[p->part], e))
            return e->code;
        if (event != XML_CLOSE)
            continue;
        if (x->depth <= p->depth)
            p->part = PARTS;
        if (p->depth && x->depth < p->depth) {
            p->depth = 0;
            if (put(p, x, q, from, e))
                return e->code;
        }
    }
    return original_count(q) ? 0 : xml_fail(x, x->at, e, "expected elements <Problem> with <Body>, <Question> and <Answer>");
}

int original_asdiv(struct questions *q, const struct questions_from *from, struct text file, struct err *e) {
    struct problem p = {.part = PARTS};
    struct xml x;
    struct str *const all[] = {&p.id, &p.text[BODY], &p.text[QUESTION], &p.text[ANSWER], &p.joined, &p.answer};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        str_init(all[i], q->a);
    xml_begin(&x, file);
    int code = walk(&p, &x, q, from, e);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        str_free(all[i]);
    return code;
}
