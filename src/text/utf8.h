/* UTF-8: the door to utf8proc. Invalid bytes are never an error here, they are found one at a time. */
#ifndef TEXT_UTF8_H
#define TEXT_UTF8_H

#include "core/str.h"

/* Bytes of the valid character at p (1 to 4) and its code point, or 0 if there is none: overlong forms, surrogates, values
 * above U+10FFFF and cut sequences are invalid. n > 0. cp may be NULL. */
size_t utf8_next(const char *p, size_t n, int32_t *cp);

bool utf8_valid(struct text t, size_t *bad); /* bad (may be NULL): offset of the first invalid byte */
size_t utf8_count(struct text t);            /* code points; an invalid byte counts as one */

/* What a code point is: bits, at most one of the letters. Unicode's general category, and its White_Space. */
enum utf8_class {
    UTF8_SPACE = 1,
    UTF8_NUMBER = 2, /* N* */
    UTF8_UPPER = 4,  /* Lu, Lt */
    UTF8_LOWER = 8,  /* Ll */
    UTF8_OTHER = 16, /* Lm, Lo */
    UTF8_MARK = 32,  /* M* */
    UTF8_LETTER = UTF8_UPPER | UTF8_LOWER | UTF8_OTHER
};
unsigned utf8_class(int32_t cp);
size_t utf8_columns(struct text t); /* columns on a terminal: wide characters 2, combining and control 0, an invalid byte 1 */

#endif
