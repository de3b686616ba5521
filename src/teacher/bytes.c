/* Token bytes. A byte-level tokenizer cuts characters in two; JSON strings cannot hold the halves. The legacy API prints such
 * a token like a Python bytes literal behind "bytes:", our store writes hexadecimal digits. */
#include "teacher/bytes.h"

#include <string.h>

size_t bytes_points(struct text t) {
    size_t points = 0;
    for (size_t i = 0; i < t.n; points++) {
        size_t step = utf8_sequence(t.p + i, t.n - i);
        i += step ? step : 1;
    }
    return points;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The byte that \xHH at s stands for, or -1. */
static int escaped_byte(const char *s, size_t n) {
    if (n < 4 || s[0] != '\\' || s[1] != 'x')
        return -1;
    int hi = hex_digit(s[2]), lo = hex_digit(s[3]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

void token_from_api(struct text s, struct str *out) {
    static const char mark[] = "bytes:";
    const size_t m = sizeof mark - 1;
    bool escaped = false;
    if (s.n > m && memcmp(s.p, mark, m) == 0)
        for (size_t i = m; i < s.n && !escaped; i++)
            escaped = escaped_byte(s.p + i, s.n - i) >= 0;
    if (!escaped) {
        str_add(out, s.p, s.n);
        return;
    }
    for (size_t i = m; i < s.n;) {
        int byte = escaped_byte(s.p + i, s.n - i);
        if (byte >= 0) {
            str_addc(out, (char)byte);
            i += 4;
            continue;
        }
        static const char letters[] = "nrt\\'", meant[] = "\n\r\t\\'";
        const char *letter = s.p[i] == '\\' && i + 1 < s.n ? memchr(letters, s.p[i + 1], sizeof letters - 1) : NULL;
        if (letter) {
            str_addc(out, meant[letter - letters]);
            i += 2;
            continue;
        }
        str_addc(out, s.p[i++]);
    }
}

void token_from_escapes(struct text s, struct str *out) {
    size_t begin = out->n, i = 0;
    while (i < s.n) {
        int byte = escaped_byte(s.p + i, s.n - i);
        if (byte < 0)
            break;
        str_addc(out, (char)byte);
        i += 4;
    }
    if (out->failed || (i > 0 && i == s.n && !text_is_utf8((struct text){out->p + begin, out->n - begin})))
        return;
    out->n = begin;
    token_from_api(s, out);
}

void token_put(struct json_out *o, struct text t) {
    if (text_is_utf8(t)) {
        json_put_text(o, t);
        return;
    }
    struct str hex;
    str_init(&hex, o->s->a);
    for (size_t i = 0; i < t.n; i++)
        str_addf(&hex, "%02x", (unsigned)(unsigned char)t.p[i]);
    json_object(o);
    json_put_key(o, "hex");
    json_put_text(o, (struct text){str_z(&hex), hex.n});
    json_end_object(o);
    if (hex.failed)
        o->s->failed = true;
    str_free(&hex);
}

int token_read(const struct json *v, struct str *out, struct err *e) {
    if (json_type(v) == JSON_TEXT) {
        struct text t = json_text(v);
        str_add(out, t.p, t.n);
        return str_status(out, e);
    }
    struct text hex;
    if (json_type(v) != JSON_OBJECT)
        return err_set(e, ERR_FORMAT, "a token is a string or {\"hex\":\"..\"}, not %s", json_type_name(json_type(v)));
    if (json_need_text(v, "hex", &hex, e))
        return e ? e->code : ERR_FORMAT;
    if (hex.n % 2)
        return err_set(e, ERR_FORMAT, "\"hex\" has an odd number of digits");
    for (size_t i = 0; i < hex.n; i += 2) {
        int hi = hex_digit(hex.p[i]), lo = hex_digit(hex.p[i + 1]);
        if (hi < 0 || lo < 0)
            return err_set(e, ERR_FORMAT, "\"hex\" holds something else than hexadecimal digits");
        str_addc(out, (char)(hi * 16 + lo));
    }
    return str_status(out, e);
}
