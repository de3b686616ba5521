/* Errors are values that the caller owns, so threads and contexts never share one.
 * The text is one line: control bytes that came in with a path or a key become '?', and a cut never splits a UTF-8 character. */
#include "core/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Tidies what snprintf left in text: it may have cut a character in two. */
static void tidy(char *text) {
    size_t n = strlen(text);
    if (n == sizeof((struct err *)0)->text - 1) {
        size_t k = n; /* start of the last character */
        while (k > 0 && n - k < 4 && ((unsigned char)text[k - 1] & 0xC0) == 0x80)
            k--;
        if (k > 0) {
            unsigned char lead = (unsigned char)text[k - 1];
            size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
            if (want > 1 && n - (k - 1) < want)
                text[k - 1] = 0;
        }
    }
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F)
            *c = '?';
}

int err_setv(struct err *e, int code, const char *fmt, va_list ap) {
    if (!e || e->code)
        return code;
    e->code = code;
    if (vsnprintf(e->text, sizeof e->text, fmt, ap) < 0)
        e->text[0] = 0;
    tidy(e->text);
    return code;
}

int err_set(struct err *e, int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err_setv(e, code, fmt, ap);
    va_end(ap);
    return code;
}

int err_errno(struct err *e, int errnum, const char *fmt, ...) {
    int code = errnum == ENOENT ? ERR_NOTFOUND : errnum == ENOMEM ? ERR_NOMEM : ERR_IO;
    if (!e || e->code)
        return code;
    char what[sizeof e->text], why[128];
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(what, sizeof what, fmt, ap) < 0)
        what[0] = 0;
    va_end(ap);
    if (strerror_r(errnum, why, sizeof why))
        snprintf(why, sizeof why, "error %d of the system", errnum);
    /* The reason stays even where a long path fills the line. */
    size_t room = sizeof e->text - strlen(why) - 3;
    return err_set(e, code, "%.*s: %s", (int)room, what, why);
}

int err_within(struct err *e, const char *fmt, ...) {
    if (!e || !e->code)
        return e ? e->code : ERR_NONE;
    char old[sizeof e->text], where[sizeof e->text / 2];
    memcpy(old, e->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(where, sizeof where, fmt, ap) < 0)
        where[0] = 0;
    va_end(ap);
    size_t n = strlen(where);
    memcpy(e->text, where, n);
    e->text[n++] = strncmp(old, "line ", 5) ? ':' : ',';
    e->text[n++] = ' ';
    size_t rest = strlen(old);
    if (rest > sizeof e->text - 1 - n)
        rest = sizeof e->text - 1 - n;
    memcpy(e->text + n, old, rest);
    e->text[n + rest] = 0;
    tidy(e->text);
    return e->code;
}

void err_clear(struct err *e) {
    if (e) {
        e->code = ERR_NONE;
        e->text[0] = 0;
    }
}
