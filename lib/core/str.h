/* Byte strings with explicit lengths: views (`struct text`) and a growing buffer (`struct str`).
 * Text may hold U+0000, so nothing here relies on a terminator, yet a buffer always keeps one behind its end for C callers. */
#ifndef CORE_STR_H
#define CORE_STR_H

#include "core/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct text { /* borrowed */
    const char *p;
    size_t n;
};

struct text text_of(const char *cstr); /* NULL gives the empty text */
bool text_eq(struct text a, struct text b);
bool text_is(struct text a, const char *cstr);

/* Length (1 to 4) of the well-formed UTF-8 sequence at the start of p[0..n), 0 if there is none. */
size_t utf8_sequence(const char *p, size_t n);
bool text_is_utf8(struct text t);

/* A buffer that remembers that an allocation failed: write all you want, ask once at the end (str_status). */
struct str {
    char *p; /* NULL until something is written */
    size_t n, cap;
    const struct allocator *a;
    bool failed;
};

void str_init(struct str *s, const struct allocator *a);
void str_free(struct str *s);
void str_clear(struct str *s); /* n = 0, memory kept, failure forgotten */
void str_add(struct str *s, const char *p, size_t n);
void str_addz(struct str *s, const char *cstr);
void str_addc(struct str *s, char c);
void str_addf(struct str *s, const char *fmt, ...) PRINTF_LIKE(2, 3); /* not for floating point: the locale would be in it */
char *str_reserve(struct str *s, size_t n); /* room for n more bytes at the end, NULL on failure; the caller adds to s->n */
int str_status(const struct str *s, struct err *e); /* 0 or ERR_NOMEM */
const char *str_z(const struct str *s);             /* never NULL; "" when empty */
char *str_take(struct str *s); /* the bytes (allocated, terminated) become the caller's; s is empty. NULL after a failure */

#endif
