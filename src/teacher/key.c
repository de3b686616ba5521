/* The API key. It lives in one buffer, which is overwritten before it is freed. */
#define _DEFAULT_SOURCE /* explicit_bzero */
#include "teacher/key.h"

#include "core/file.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 64 * 1024 };

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

void key_redact(const struct str *key, char *text) {
    if (key->n == 0)
        return;
    for (char *at = text; (at = strstr(at, key->p)); at += key->n)
        memset(at, '*', key->n);
}
