/* Base64: six bits a character. */
#include "text/base64.h"

static int value_of(unsigned char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_add(struct str *out, struct text in, struct err *e) {
    while (in.n && in.p[in.n - 1] == '=')
        in.n--;
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < in.n; i++) {
        int v = value_of((unsigned char)in.p[i]);
        if (v < 0)
            return err_set(e, ERR_FORMAT, "character %zu is not base64", i);
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            str_addc(out, (char)(unsigned char)(bits >> have));
        }
    }
    return str_status(out, e);
}
