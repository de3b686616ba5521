/* The API key. It lives in one buffer, which is overwritten before it is freed. */
#define _GNU_SOURCE /* explicit_bzero, memmem */
#include "teacher/key.h"

#include "core/file.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { KEY_MAX = 64 * 1024, SHORTEST = 8 /* of a key in a header */ };

static int check(struct str *key, const char *what, const char *name, struct err *e) {
    while (key->n > 0 && memchr(" \t\r", key->p[key->n - 1], 3))
        key->p[--key->n] = 0;
    if (key->n == 0)
        return err_set(e, ERR_INVALID, "%s %s: it is empty, an API key expected", what, name);
    for (size_t i = 0; i < key->n; i++)
        if (key->p[i] <= ' ' || key->p[i] > '~')
            return err_set(e, ERR_INVALID, "%s %s: byte %zu cannot be part of an API key (no blanks, printable ASCII)", what,
                           name, i);
    return 0;
}

int key_read(struct str *out, const char *file, const char *env, struct err *e) {
    int rc;
    if (file) {
        if ((rc = file_read(file, KEY_MAX, out, e)))
            return rc;
        const char *lf = out->n > 0 ? memchr(out->p, '\n', out->n) : NULL;
        if (lf) {
            out->n = (size_t)(lf - out->p);
            out->p[out->n] = 0;
        }
        return check(out, "api_key_file", file, e);
    }
    const char *value = env ? getenv(env) : NULL;
    if (!value || !*value)
        return 0;
    str_addz(out, value);
    return (rc = str_status(out, e)) ? rc : check(out, "environment variable", env, e);
}

void key_wipe(struct str *key) {
    if (key->p)
        explicit_bzero(key->p, key->cap);
    str_free(key);
}

static bool has_part(struct text name, const char *part) {
    const size_t n = strlen(part);
    for (size_t at = 0; at + n <= name.n; at++)
        if (strncasecmp(name.p + at, part, n) == 0)
            return true;
    return false;
}

/* "auth" between dashes: X-Auth, but not X-Author. */
static bool has_word(struct text name, const char *word) {
    const size_t n = strlen(word);
    for (size_t at = 0; at + n <= name.n; at++)
        if (strncasecmp(name.p + at, word, n) == 0 && (at == 0 || name.p[at - 1] == '-') &&
            (at + n == name.n || name.p[at + n] == '-'))
            return true;
    return false;
}

bool key_in_header(struct text name) {
    static const char *const parts[] = {"authorization", "key", "token", "secret", "cookie", "password", "credential"};
    bool found = has_word(name, "auth");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        found = found || has_part(name, parts[i]);
    return found && !has_part(name, "idempotency-key");
}

static struct text trim(struct text t) {
    while (t.n > 0 && memchr(" \t\"", *t.p, 3))
        t = (struct text){t.p + 1, t.n - 1};
    while (t.n > 0 && memchr(" \t\r\";", t.p[t.n - 1], 5))
        t.n--;
    return t;
}

static int keep(struct keys *k, const struct allocator *a, struct text key, struct err *e) {
    key = trim(key);
    if (key.n < SHORTEST)
        return 0;
    int rc = mem_reserve(a, (void *)&k->all, &k->cap, k->n + 1, sizeof *k->all, e);
    if (rc)
        return rc;
    struct str *s = &k->all[k->n++];
    str_init(s, a);
    str_add(s, key.p, key.n);
    return str_status(s, e);
}

/* A value, and the parts of it that an endpoint may repeat alone: behind "Bearer ", and behind each "name=" of cookies. */
static int keep_parts(struct keys *k, const struct allocator *a, struct text name, struct text value, struct err *e) {
    const char *p = value.p, *end = value.p + value.n, *blank = value.n ? memchr(value.p, ' ', value.n) : NULL;
    int rc = keep(k, a, value, e);
    if (!rc && blank && has_part(name, "authorization"))
        rc = keep(k, a, (struct text){blank, (size_t)(end - blank)}, e);
    while (!rc && has_part(name, "cookie") && p < end && (p = memchr(p, '=', (size_t)(end - p)))) {
        const char *stop = memchr(p, ';', (size_t)(end - p));
        rc = keep(k, a, (struct text){p + 1, (size_t)((stop ? stop : end) - p - 1)}, e);
        p = stop ? stop : end;
    }
    return rc;
}

int keys_given(struct keys *k, const struct allocator *a, const char *lines, struct err *e) {
    int rc = 0;
    for (const char *p = lines; p && *p && !rc; p += strcspn(p, "\n"), p += *p == '\n') {
        const size_t n = strcspn(p, "\n");
        const struct text name = {p, strcspn(p, ":\n")};
        if (name.n < n && key_in_header(name))
            rc = keep_parts(k, a, name, trim((struct text){p + name.n + 1, n - name.n - 1}), e);
    }
    return rc;
}

void keys_wipe(struct keys *k, const struct allocator *a) {
    for (size_t i = 0; i < k->n; i++)
        key_wipe(&k->all[i]);
    mem_free(a, k->all);
    *k = (struct keys){0};
}

/* The character that the JSON escape at p stands for, and its length; 0: none that a key may hold. */
static size_t escape(const char *p, size_t n, char *out) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    unsigned code = 0;
    if (n < 2 || p[0] != '\\')
        return 0;
    *out = p[1];
    if (memchr("\"\\/", p[1], 3))
        return 2;
    if (p[1] == 't') {
        *out = '\t';
        return 2;
    }
    if (p[1] != 'u' || n < 6)
        return 0;
    for (size_t i = 2; i < 6; i++) {
        const char *d = memchr(digits, p[i], 32);
        if (!d)
            return 0;
        code = code * 16 + (unsigned)(d - digits) % 16;
    }
    *out = (char)code;
    return (code >= ' ' && code <= '~') || code == '\t' ? 6 : 0;
}

/* Length of the key from its character `first` on as it stands at p, any character escaped; 0: it does not. */
static size_t spelled(const struct str *key, size_t first, const char *p, size_t n) {
    size_t at = 0;
    for (size_t i = first; i < key->n; i++) {
        char c = 0;
        size_t step = escape(p + at, n - at, &c);
        if (step > 0 && c == key->p[i])
            at += step;
        else if (at < n && p[at] == key->p[i])
            at++;
        else
            return 0;
    }
    return at;
}

bool key_blank(const struct str *key, struct text t, char *copy) {
    const char *end = t.p + t.n, *at = t.p;
    bool found = false;
    if (key->n == 0 || t.n < key->n)
        return false;
    while ((at = memmem(at, (size_t)(end - at), key->p, key->n))) {
        if (!copy)
            return true;
        found = true;
        memset(copy + (at - t.p), '*', key->n);
        at += key->n;
    }
    /* with escapes: what stands before the first of them stands as it is */
    for (at = t.p; (at = memchr(at, '\\', (size_t)(end - at))); at++) {
        char c;
        if (!escape(at, (size_t)(end - at), &c))
            continue;
        for (size_t j = 0; j < key->n && j <= (size_t)(at - t.p); j++) {
            size_t n = key->p[j] == c && memcmp(at - j, key->p, j) == 0 ? spelled(key, j, at, (size_t)(end - at)) : 0;
            if (n == 0)
                continue;
            if (!copy)
                return true;
            found = true;
            memset(copy + (at - t.p) - j, '*', n + j);
        }
    }
    return found;
}
