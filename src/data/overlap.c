/* The reference drew its 200 development items from the questions it trained on, so its choice of checkpoint rewarded memory.
 * Comparing texts finds copies, not paraphrases: questions of one template with other numbers are different questions. */
#include "data/overlap.h"

#include <stdio.h>
#include <string.h>

/* Bytes of the blank at the start of t: ASCII's, or U+00A0, U+2009, U+202F. */
static size_t blank(struct text t) {
    if (t.n && (*t.p == ' ' || (*t.p >= '\t' && *t.p <= '\r')))
        return 1;
    if (t.n >= 2 && !memcmp(t.p, "\xC2\xA0", 2))
        return 2;
    return t.n >= 3 && (!memcmp(t.p, "\xE2\x80\x89", 3) || !memcmp(t.p, "\xE2\x80\xAF", 3)) ? 3 : 0;
}

/* Of a quotation mark: ' " ` or U+2018 to U+201F. */
static size_t quote(struct text t) {
    if (t.n && (*t.p == '\'' || *t.p == '"' || *t.p == '`'))
        return 1;
    return t.n >= 3 && !memcmp(t.p, "\xE2\x80", 2) && (unsigned char)t.p[2] >= 0x98 && (unsigned char)t.p[2] <= 0x9F ? 3 : 0;
}

static bool is_mark(char c) {
    return c == '.' || c == ',' || c == ';' || c == ':' || c == '!' || c == '?';
}

/* Bytes that go at the start of t although they are no blank: quotes, and marks with nothing but marks and quotes up to a blank. */
static size_t goes(struct text t) {
    size_t i = quote(t), n;
    if (i || !t.n || !is_mark(*t.p))
        return i;
    for (i = 1; i < t.n && i < 8; i += n) {
        struct text rest = {t.p + i, t.n - i};
        n = is_mark(*rest.p) ? 1 : quote(rest);
        if (!n)
            return blank(rest) ? i : 0;
    }
    return i == t.n ? i : 0;
}

int question_normal(struct str *out, struct text t, struct err *e) {
    bool gap = false, any = false;
    for (size_t i = 0, n; i < t.n; i += n) {
        struct text rest = {t.p + i, t.n - i};
        char c = *rest.p;
        if ((n = blank(rest))) {
            gap = any;
            continue;
        }
        if ((n = goes(rest)))
            continue;
        if (gap)
            str_addc(out, ' ');
        str_addc(out, c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c);
        gap = false;
        any = true;
        n = 1;
    }
    return str_status(out, e);
}

int overlap_open(struct overlap *o, const struct questions *q, struct err *e) {
    *o = (struct overlap){.q = q};
    map_init(&o->seen, q->a);
    str_init(&o->key, q->a);
    int code = 0;
    for (size_t i = 0, before; i < q->n && !code; i++) {
        code = overlap_find(o, questions_get(q, i).question, &before, e);
        if (!code)
            code = map_put(&o->seen, (struct text){str_z(&o->key), o->key.n}, i, e);
        code = code < 0 ? code : 0;
    }
    return code;
}

void overlap_free(struct overlap *o) {
    if (!o->q)
        return;
    map_free(&o->seen);
    str_free(&o->key);
    *o = (struct overlap){0};
}

int overlap_find(struct overlap *o, struct text question, size_t *i, struct err *e) {
    str_clear(&o->key);
    if (question_normal(&o->key, question, e))
        return e->code;
    return map_get(&o->seen, (struct text){str_z(&o->key), o->key.n}, i);
}

static int shown(struct text t) {
    return (int)(t.n < 60 ? t.n : 60);
}

int overlap_refuse(struct overlap *o, const char *place, const struct questions *held, const char *held_place, const char *advice,
                   struct err *e) {
    size_t n = 0, first = 0, at = 0, i;
    for (size_t k = 0; k < held->n; k++) {
        int found = overlap_find(o, questions_get(held, k).question, &i, e);
        if (found < 0)
            return found;
        if (found && !n++) {
            first = i;
            at = k;
        }
    }
    if (!n)
        return 0;
    struct text a = questions_get(o->q, first).id, b = questions_get(held, at).id;
    char more[48] = "";
    if (n > 1)
        snprintf(more, sizeof more, ", and %zu more", n - 1);
    return err_set(e, ERR_MISMATCH, "%.120s: question %zu (\"%.*s\") also stands in %.120s: question %zu (\"%.*s\")%s: %s", place,
                   first + 1, shown(a), a.p, held_place, at + 1, shown(b), b.p, more, advice);
}
