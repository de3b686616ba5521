/* The machinery behind configuration tables. A default is written as JSON in the table and read by the same code as the user's
 * value, so that it cannot be of another type or out of its own range; the nearest name is by Levenshtein distance (1966). */
#include "train/keys.h"

#include <math.h>
#include <string.h>

enum { MAX_NAME = 32 };

static void *field_of(const struct key *k, void *base) {
    return (char *)base + k->at;
}

/* A number as JSON writes it, whatever the locale. */
static void add_number(struct str *s, double v) {
    struct json_out o;
    json_begin(&o, s, 0);
    json_put_double(&o, v);
}

static bool whole(const struct key *k, double v) {
    return k->type != &key_int || floor(v) == v;
}

static void add_range(struct str *s, const struct key *k) {
    str_addz(s, k->type->name);
    if (k->type == &key_int || k->type == &key_number) {
        str_addz(s, " from ");
        add_number(s, k->min);
        str_addz(s, " to ");
        add_number(s, k->max);
    }
    for (int i = 0; k->choice && k->choice(i); i++)
        str_addf(s, "%s\"%s\"", i ? ", " : " ", k->choice(i));
}

/* "key "lr": expected a number from 0 to 1, found a string" */
static int wrong(const struct key *k, const struct json *v, const struct arena *texts, struct err *e) {
    struct str s;
    str_init(&s, texts->a);
    add_range(&s, k);
    str_addz(&s, ", found ");
    if (json_type(v) == JSON_NUMBER)
        add_number(&s, json_number(v));
    else if (json_type(v) == JSON_TEXT)
        str_addf(&s, "\"%.60s\"", json_text(v).n ? json_text(v).p : "");
    else
        str_addz(&s, json_type_name(json_type(v)));
    err_set(e, ERR_FORMAT, "key \"%s\": expected %s", k->name, str_z(&s));
    str_free(&s);
    return ERR_FORMAT;
}

static bool null_allowed(const struct key *k) {
    return k->fallback && !strcmp(k->fallback, "null");
}

static int read_text(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e) {
    char **out = field;
    *out = NULL;
    if (json_type(v) == JSON_NULL && null_allowed(k))
        return 0;
    struct text t = json_text(v);
    if (json_type(v) != JSON_TEXT || !t.n || memchr(t.p, 0, t.n))
        return wrong(k, v, texts, e);
    *out = arena_take(texts, t.n + 1, 1, e);
    if (!*out)
        return e->code;
    memcpy(*out, t.p, t.n);
    (*out)[t.n] = 0;
    return 0;
}

static void write_text(const void *field, const struct key *k, struct json_out *o) {
    (void)k;
    json_put_z(o, *(char *const *)field);
}

static int read_number(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e) {
    double x = json_number(v);
    if (json_type(v) == JSON_NULL && null_allowed(k))
        x = NAN;
    else if (json_type(v) != JSON_NUMBER || !(x >= k->min && x <= k->max) || !whole(k, x))
        return wrong(k, v, texts, e);
    if (k->type == &key_int)
        *(int64_t *)field = (int64_t)x;
    else
        *(double *)field = x;
    return 0;
}

static void write_int(const void *field, const struct key *k, struct json_out *o) {
    (void)k;
    json_put_int(o, *(const int64_t *)field);
}

static void write_number(const void *field, const struct key *k, struct json_out *o) {
    (void)k;
    json_put_double(o, *(const double *)field);
}

static int read_choice(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e) {
    for (int i = 0; json_type(v) == JSON_TEXT && k->choice(i); i++)
        if (text_is(json_text(v), k->choice(i))) {
            *(int64_t *)field = i;
            return 0;
        }
    return wrong(k, v, texts, e);
}

static void write_choice(const void *field, const struct key *k, struct json_out *o) {
    json_put_z(o, k->choice((int)*(const int64_t *)field));
}

static int read_bool(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e) {
    if (json_type(v) != JSON_BOOL)
        return wrong(k, v, texts, e);
    *(int64_t *)field = json_bool(v);
    return 0;
}

static void write_bool(const void *field, const struct key *k, struct json_out *o) {
    (void)k;
    json_put_bool(o, *(const int64_t *)field != 0);
}

static int read_names(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e) {
    struct names *out = field;
    *out = (struct names){0};
    if (json_type(v) != JSON_ARRAY)
        return wrong(k, v, texts, e);
    out->v = arena_take(texts, json_count(v) + 1, sizeof *out->v, e);
    if (!out->v)
        return e->code;
    for (const struct json *m = json_first(v); m; m = json_next(m)) {
        if (json_type(m) != JSON_TEXT)
            return wrong(k, m, texts, e);
        if (read_text(&out->v[out->n], k, m, texts, e))
            return e->code;
        out->n++;
    }
    return 0;
}

static void write_names(const void *field, const struct key *k, struct json_out *o) {
    (void)k;
    const struct names *names = field;
    json_array(o);
    for (size_t i = 0; i < names->n; i++)
        json_put_z(o, names->v[i]);
    json_end_array(o);
}

const struct key_type key_text = {"a text", read_text, write_text};
const struct key_type key_int = {"a whole number", read_number, write_int};
const struct key_type key_number = {"a number", read_number, write_number};
const struct key_type key_choice = {"one of", read_choice, write_choice};
const struct key_type key_bool = {"true or false", read_bool, write_bool};
const struct key_type key_names = {"an array of texts", read_names, write_names};

/* Insertions, deletions and replacements that turn a into b; of a long `a` only the first characters count. */
static size_t distance(struct text a, const char *b) {
    size_t n = strlen(b), row[MAX_NAME + 1], m = a.n < 2 * MAX_NAME ? a.n : 2 * MAX_NAME;
    if (n > MAX_NAME)
        n = MAX_NAME;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; i < m; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t replace = diagonal + (a.p[i] != b[j]), other = 1 + (row[j] < row[j + 1] ? row[j] : row[j + 1]);
            diagonal = row[j + 1];
            row[j + 1] = replace < other ? replace : other;
        }
    }
    return row[n];
}

static int unknown(struct keys t, struct text name, struct err *e) {
    const char *best = "";
    size_t least = (size_t)-1;
    for (size_t i = 0; i < t.n; i++) {
        size_t d = distance(name, t.v[i].name);
        if (d < least) {
            least = d;
            best = t.v[i].name;
        }
    }
    int len = (int)(name.n < 60 ? name.n : 60);
    /* slips of the fingers, not a word that merely shares some letters */
    if (least > (name.n < 5 ? 1 : name.n < 9 ? 2 : name.n / 4))
        return err_set(e, ERR_FORMAT, "unknown key \"%.*s\"", len, name.p);
    return err_set(e, ERR_FORMAT, "unknown key \"%.*s\": did you mean \"%s\"?", len, name.p, best);
}

static bool known(struct keys t, struct text name) {
    for (size_t i = 0; i < t.n; i++)
        if (text_is(name, t.v[i].name))
            return true;
    return false;
}

int keys_read(struct keys t, void *base, const struct json *object, struct arena *texts, struct err *e) {
    if (json_type(object) != JSON_OBJECT)
        return err_set(e, ERR_FORMAT, "expected an object, found %s", json_type_name(json_type(object)));
    for (const struct json *m = json_first(object); m; m = json_next(m))
        if (!known(t, json_key(m)))
            return unknown(t, json_key(m), e);
    for (size_t i = 0; i < t.n; i++) {
        const struct key *k = &t.v[i];
        const struct json *v = json_get(object, k->name);
        struct json *fallback = NULL;
        if (!v && !k->fallback)
            return err_set(e, ERR_FORMAT, "key \"%s\" is missing: %s", k->name, k->help);
        if (!v && json_parse(k->fallback, strlen(k->fallback), &fallback, e))
            return err_within(e, "default of key \"%s\"", k->name);
        int code = k->type->read(field_of(k, base), k, v ? v : fallback, texts, e);
        json_free(fallback);
        if (code)
            return code;
    }
    return 0;
}

void keys_write(struct keys t, const void *base, struct json_out *o) {
    json_object(o);
    for (size_t i = 0; i < t.n; i++) {
        json_put_key(o, t.v[i].name);
        t.v[i].type->write((const char *)base + t.v[i].at, &t.v[i], o);
    }
    json_end_object(o);
}

int keys_compare(struct keys t, const void *before, const void *now, const struct allocator *a, struct err *e) {
    struct str text[2];
    str_init(&text[0], a);
    str_init(&text[1], a);
    int code = 0;
    for (size_t i = 0; i < t.n && !code; i++) {
        const struct key *k = &t.v[i];
        for (int side = 0; side < 2; side++) {
            struct json_out o;
            str_clear(&text[side]);
            json_begin(&o, &text[side], 0);
            k->type->write((const char *)(side ? now : before) + k->at, k, &o);
            code = code ? code : str_status(&text[side], e);
        }
        if (!code && !k->free && strcmp(str_z(&text[0]), str_z(&text[1])))
            code = err_set(e, ERR_MISMATCH, "key \"%s\" was %s when the run was started and is %s now", k->name, str_z(&text[0]),
                           str_z(&text[1]));
    }
    str_free(&text[0]);
    str_free(&text[1]);
    return code;
}

void keys_explain(struct keys t, struct str *out) {
    for (size_t i = 0; i < t.n; i++) {
        const struct key *k = &t.v[i];
        str_addf(out, "%-13s ", k->name);
        add_range(out, k);
        str_addf(out, "%s%s: %s\n", k->fallback ? "; default " : "; needed", k->fallback ? k->fallback : "", k->help);
    }
}
