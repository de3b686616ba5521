/* Views and growing buffers. A buffer always has one byte more than it uses, so the terminator can be put there at any time,
 * also after a caller has written into reserved room. UTF-8 is checked by the table of well-formed sequences, Unicode 15, table
 * 3-7. */
#include "core/str.h"

#include <stdio.h>
#include <string.h>

struct text text_of(const char *cstr) {
    return cstr ? (struct text){cstr, strlen(cstr)} : (struct text){"", 0};
}

bool text_eq(struct text a, struct text b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool text_is(struct text a, const char *cstr) {
    return text_eq(a, text_of(cstr));
}

size_t utf8_sequence(const char *p, size_t n) {
    const unsigned char *s = (const unsigned char *)p;
    if (n == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    size_t want = s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    if (want == 0 || n < want)
        return 0;
    /* Only the second byte has bounds that depend on the first: overlong forms, surrogates, beyond U+10FFFF. */
    unsigned low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    unsigned high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < want; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return want;
}

bool text_is_utf8(struct text t) {
    for (size_t i = 0; i < t.n;) {
        size_t k = utf8_sequence(t.p + i, t.n - i);
        if (!k)
            return false;
        i += k;
    }
    return true;
}

void str_init(struct str *s, const struct allocator *a) {
    *s = (struct str){.a = a};
}

void str_free(struct str *s) {
    mem_free(s->a, s->p);
    *s = (struct str){.a = s->a};
}

void str_clear(struct str *s) {
    s->n = 0;
    s->failed = false;
    if (s->p)
        s->p[0] = 0;
}

char *str_reserve(struct str *s, size_t n) {
    size_t need;
    if (s->failed)
        return NULL;
    if (!size_add(s->n, n, &need) || !size_add(need, 1, &need) || mem_reserve(s->a, &s->p, &s->cap, need, 1, NULL)) {
        s->failed = true;
        return NULL;
    }
    return s->p + s->n;
}

void str_add(struct str *s, const char *p, size_t n) {
    char *to = str_reserve(s, n);
    if (!to)
        return;
    if (n)
        memcpy(to, p, n);
    s->n += n;
    s->p[s->n] = 0;
}

void str_addz(struct str *s, const char *cstr) {
    struct text t = text_of(cstr);
    str_add(s, t.p, t.n);
}

void str_addc(struct str *s, char c) {
    str_add(s, &c, 1);
}

void str_addf(struct str *s, const char *fmt, ...) {
    char small[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n < 0) {
        s->failed = true;
        return;
    }
    if ((size_t)n < sizeof small) {
        str_add(s, small, (size_t)n);
        return;
    }
    char *to = str_reserve(s, (size_t)n);
    if (!to)
        return;
    va_start(ap, fmt);
    vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    s->n += (size_t)n;
}

int str_status(const struct str *s, struct err *e) {
    return s->failed ? err_set(e, ERR_NOMEM, "out of memory: a text of more than %zu bytes", s->n) : ERR_NONE;
}

const char *str_z(const struct str *s) {
    if (!s->p)
        return "";
    s->p[s->n] = 0;
    return s->p;
}

char *str_take(struct str *s) {
    if (!str_reserve(s, 0))
        return NULL;
    char *p = s->p;
    p[s->n] = 0;
    *s = (struct str){.a = s->a};
    return p;
}
