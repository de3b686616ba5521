/* The door to cJSON. The text is checked first (json_scan.c), parsed in the C locale, then settled in one walk: C0 80 turns back
 * into U+0000, lengths go where cJSON leaves room (`valueint`: length of the key; `valuedouble` of a string: length of the text),
 * integers beyond 2^53 get their exact value, and keys of every object are sorted to find duplicates in n log n. */
#include "core/file.h"
#include "core/json_inner.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    KIND = 0xFF,      /* cJSON's types; the bits above are its flags */
    EXACT = 1 << 16,  /* our flag: valuedouble holds the bytes of an int64_t */
    SMALL_OBJECT = 16 /* keys of up to so many members are sorted on the stack */
};

bool c_locale_enter(struct c_locale *l) {
    l->c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (l->c == (locale_t)0)
        return false;
    l->old = uselocale(l->c);
    return true;
}

void c_locale_leave(struct c_locale *l) {
    uselocale(l->old);
    freelocale(l->c);
}

static const cJSON *node(const struct json *v) {
    return (const cJSON *)v;
}

/* C0 80 -> 00 in place; returns the length. */
static size_t restore_nul(char *s) {
    size_t n = strlen(s);
    char *in = memchr(s, '\xC0', n), *end = s + n, *out = in;
    if (!in)
        return n;
    while (in < end) {
        bool nul = *in == '\xC0';
        *out++ = nul ? '\0' : *in;
        in += nul ? 2 : 1;
    }
    *out = 0;
    return (size_t)(out - s);
}

struct settle {
    const struct json_exact *exact, *end;
    size_t numbers, keys; /* met so far, in the order of the text */
    size_t duplicate;     /* ordinal of the key that appears again, SIZE_MAX: none */
    const cJSON *duplicate_of;
};

struct member {
    const cJSON *item;
    size_t ordinal;
};

static int by_key(const void *va, const void *vb) {
    const struct member *a = va, *b = vb;
    size_t na = (size_t)a->item->valueint, nb = (size_t)b->item->valueint;
    int order = memcmp(a->item->string, b->item->string, na < nb ? na : nb);
    if (order)
        return order;
    if (na != nb)
        return na < nb ? -1 : 1;
    return a->ordinal < b->ordinal ? -1 : 1;
}

static void find_duplicate(struct settle *s, struct member *m, size_t n) {
    qsort(m, n, sizeof *m, by_key);
    for (size_t i = 1; i < n; i++) {
        const cJSON *a = m[i - 1].item, *b = m[i].item;
        if (a->valueint == b->valueint && memcmp(a->string, b->string, (size_t)a->valueint) == 0 && m[i].ordinal < s->duplicate) {
            s->duplicate = m[i].ordinal;
            s->duplicate_of = b;
        }
    }
}

static int settle_value(struct settle *s, cJSON *v, struct err *e);

/* Depth is at most 64: the scan has seen to it. */
static int settle_object(struct settle *s, cJSON *v, struct err *e) {
    struct member few[SMALL_OBJECT], *m = few;
    size_t n = 0, i = 0;
    int code = ERR_NONE;
    for (const cJSON *c = v->child; c; c = c->next)
        n++;
    if (n > SMALL_OBJECT && !(m = mem_new(NULL, n, sizeof *m, e)))
        return ERR_NOMEM;
    for (cJSON *c = v->child; c && !code; c = c->next) {
        m[i++] = (struct member){c, s->keys++};
        c->valueint = (int)restore_nul(c->string);
        code = settle_value(s, c, e);
    }
    if (!code)
        find_duplicate(s, m, n);
    if (m != few)
        mem_free(NULL, m);
    return code;
}

static int settle_value(struct settle *s, cJSON *v, struct err *e) {
    int code = ERR_NONE;
    switch (v->type & KIND) {
    case cJSON_Number:
        if (s->exact != s->end && s->exact->ordinal == s->numbers) {
            memcpy(&v->valuedouble, &s->exact->value, sizeof v->valuedouble);
            v->type |= EXACT;
            s->exact++;
        }
        s->numbers++;
        break;
    case cJSON_String:
        v->valuedouble = (double)restore_nul(v->valuestring);
        break;
    case cJSON_Array:
        for (cJSON *c = v->child; c && !code; c = c->next)
            code = settle_value(s, c, e);
        break;
    case cJSON_Object:
        code = settle_object(s, v, e);
        break;
    default:
        break;
    }
    return code;
}

/* Says where the second of two equal keys is: the text is read again up to it. */
static int refuse_duplicate(const struct settle *s, const char *p, size_t n, struct err *e) {
    struct json_scan again;
    int code = json_scan(&again, p, n, s->duplicate, e);
    if (code)
        return code;
    size_t len = (size_t)s->duplicate_of->valueint, shown = 0;
    while (shown < len && shown < 60)
        shown += utf8_sequence(s->duplicate_of->string + shown, len - shown);
    code = err_set(e, ERR_FORMAT, "byte %zu: the key \"%.*s\" appears twice in one object", again.found, (int)shown,
                   s->duplicate_of->string);
    json_scan_free(&again);
    return code;
}

static int parse(const char *p, size_t n, struct json **out, struct err *e) {
    struct json_scan scan;
    int code = json_scan(&scan, p, n, SIZE_MAX, e);
    if (code)
        return code;
    const char *text = scan.from ? scan.copy.p : p;
    cJSON *doc = cJSON_ParseWithLengthOpts(text, scan.from ? scan.copy.n : n, NULL, false);
    if (!doc) {
        code = err_set(e, ERR_NOMEM, "out of memory: a JSON document of %zu bytes", n);
    } else {
        struct settle s = {.exact = scan.exact, .duplicate = SIZE_MAX};
        s.end = scan.exact ? scan.exact + scan.n_exact : NULL;
        code = settle_value(&s, doc, e);
        if (!code && s.duplicate != SIZE_MAX)
            code = refuse_duplicate(&s, p, n, e);
    }
    json_scan_free(&scan);
    if (code)
        cJSON_Delete(doc);
    else
        *out = (struct json *)doc;
    return code;
}

int json_parse(const char *p, size_t n, struct json **out, struct err *e) {
    *out = NULL;
    if (n >= INT_MAX)
        return err_set(e, ERR_UNSUPPORTED, "a JSON document of %zu bytes: at most 2 GiB can be read", n);
    if (n >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0)
        return err_set(e, ERR_FORMAT, "byte 0: a byte order mark (EF BB BF), which JSON forbids; save the file without it");
    struct c_locale locale;
    if (!c_locale_enter(&locale))
        return err_set(e, ERR_NOMEM, "out of memory: the C locale");
    int code = parse(p, n, out, e);
    c_locale_leave(&locale);
    return code;
}

int json_read_file(const char *path, size_t max, const struct allocator *a, struct json **out, struct err *e) {
    *out = NULL;
    struct str s;
    struct err inner = {0}; /* e may hold an earlier error, to which the path does not belong */
    str_init(&s, a);
    int code = file_read(path, max, &s, e);
    if (!code && (code = json_parse(str_z(&s), s.n, out, &inner)) != 0)
        err_set(e, code, "%s: %s", path, inner.text);
    str_free(&s);
    return code;
}

void json_free(struct json *doc) {
    cJSON_Delete((cJSON *)doc);
}

enum json_type json_type(const struct json *v) {
    switch (node(v)->type & KIND) {
    case cJSON_True:
    case cJSON_False:
        return JSON_BOOL;
    case cJSON_Number:
        return JSON_NUMBER;
    case cJSON_String:
        return JSON_TEXT;
    case cJSON_Array:
        return JSON_ARRAY;
    case cJSON_Object:
        return JSON_OBJECT;
    default:
        return JSON_NULL;
    }
}

const char *json_type_name(enum json_type t) {
    static const char *const names[] = {"null", "true or false", "a number", "a string", "an array", "an object"};
    return names[t];
}

const struct json *json_first(const struct json *v) {
    return (const struct json *)node(v)->child;
}

const struct json *json_next(const struct json *v) {
    return (const struct json *)node(v)->next;
}

size_t json_count(const struct json *v) {
    size_t n = 0;
    for (const struct json *m = json_first(v); m; m = json_next(m))
        n++;
    return n;
}

struct text json_key(const struct json *v) {
    const cJSON *c = node(v);
    return c->string ? (struct text){c->string, (size_t)c->valueint} : (struct text){"", 0};
}

const struct json *json_get(const struct json *obj, const char *key) {
    if (!obj || json_type(obj) != JSON_OBJECT)
        return NULL;
    struct text want = text_of(key);
    for (const struct json *m = json_first(obj); m; m = json_next(m))
        if (text_eq(json_key(m), want))
            return m;
    return NULL;
}

struct text json_text(const struct json *v) {
    const cJSON *c = node(v);
    return json_type(v) == JSON_TEXT ? (struct text){c->valuestring, (size_t)c->valuedouble} : (struct text){"", 0};
}

bool json_exact(const struct json *v, int64_t *out) {
    const cJSON *c = node(v);
    if (json_type(v) != JSON_NUMBER)
        return false;
    if (c->type & EXACT) {
        memcpy(out, &c->valuedouble, sizeof *out);
        return true;
    }
    if (!(fabs(c->valuedouble) <= 0x1p53) || trunc(c->valuedouble) != c->valuedouble)
        return false;
    *out = (int64_t)c->valuedouble;
    return true;
}

double json_number(const struct json *v) {
    int64_t exact;
    if (json_type(v) != JSON_NUMBER)
        return NAN;
    return node(v)->type & EXACT && json_exact(v, &exact) ? (double)exact : node(v)->valuedouble;
}

bool json_bool(const struct json *v) {
    return (node(v)->type & KIND) == cJSON_True;
}
