/* The only file that sees utf8proc: decoding with all rules of RFC 3629, and widths from the Unicode tables. ASCII never
 * reaches the library. */
#include "text/utf8.h"

#include <utf8proc.h>

size_t utf8_next(const char *p, size_t n, int32_t *cp) {
    unsigned char c = (unsigned char)*p;
    if (c < 0x80) {
        if (cp)
            *cp = c;
        return 1;
    }
    utf8proc_int32_t v = -1;
    utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)p, n < 4 ? (utf8proc_ssize_t)n : 4, &v);
    if (k <= 0)
        return 0;
    if (cp)
        *cp = v;
    return (size_t)k;
}

bool utf8_valid(struct text t, size_t *bad) {
    for (size_t i = 0; i < t.n;) {
        size_t k = utf8_next(t.p + i, t.n - i, NULL);
        if (!k) {
            if (bad)
                *bad = i;
            return false;
        }
        i += k;
    }
    return true;
}

size_t utf8_count(struct text t) {
    size_t count = 0;
    for (size_t i = 0; i < t.n; count++) {
        size_t k = utf8_next(t.p + i, t.n - i, NULL);
        i += k ? k : 1;
    }
    return count;
}

static unsigned ascii_class(int32_t c) {
    if (c == ' ' || (c >= '\t' && c <= '\r'))
        return UTF8_SPACE;
    if (c >= '0' && c <= '9')
        return UTF8_NUMBER;
    if (c >= 'A' && c <= 'Z')
        return UTF8_UPPER;
    return c >= 'a' && c <= 'z' ? UTF8_LOWER : 0;
}

unsigned utf8_class(int32_t cp) {
    if (cp < 0x80)
        return ascii_class(cp);
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return UTF8_UPPER;
    case UTF8PROC_CATEGORY_LL:
        return UTF8_LOWER;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return UTF8_OTHER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return UTF8_MARK;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return UTF8_NUMBER;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return UTF8_SPACE;
    default:
        return cp == 0x85 ? UTF8_SPACE : 0; /* the one control character above ASCII that is White_Space */
    }
}

size_t utf8_columns(struct text t) {
    size_t columns = 0;
    for (size_t i = 0; i < t.n;) {
        int32_t cp = 0;
        size_t k = utf8_next(t.p + i, t.n - i, &cp);
        int w = k ? utf8proc_charwidth(cp) : 1;
        columns += w > 0 ? (size_t)w : 0;
        i += k ? k : 1;
    }
    return columns;
}
