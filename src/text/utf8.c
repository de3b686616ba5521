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
