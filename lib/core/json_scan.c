/* A strict reader of the grammar of RFC 8259 that builds nothing. It finds what cJSON lets pass (invalid UTF-8, raw control
 * bytes, numbers such as 01 or 1e999, nesting beyond 64) with the byte where it is, and rewrites the few things cJSON cannot
 * carry: \u0000 becomes the bytes C0 80, and numbers longer than cJSON's buffer are shortened to 17 digits. One pass, no
 * recursion. */
#include "core/json_inner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64, LONG_NUMBER = 40 /* cJSON keeps 63 characters */ };

struct cursor {
    const char *p;
    size_t n, at;
    struct json_scan *s;
    struct err *e;
};

static int expected(struct cursor *c, size_t at, const char *what) {
    if (at >= c->n)
        return err_set(c->e, ERR_FORMAT, "byte %zu: expected %s, found the end", at, what);
    unsigned char b = (unsigned char)c->p[at];
    if (b > 0x20 && b < 0x7F)
        return err_set(c->e, ERR_FORMAT, "byte %zu: expected %s, found '%c'", at, what, b);
    return err_set(c->e, ERR_FORMAT, "byte %zu: expected %s, found the byte %02X", at, what, b);
}

static int peek(const struct cursor *c) {
    return c->at < c->n ? (unsigned char)c->p[c->at] : -1;
}

static void blanks(struct cursor *c) {
    while (c->at < c->n && (c->p[c->at] == ' ' || c->p[c->at] == '\n' || c->p[c->at] == '\r' || c->p[c->at] == '\t'))
        c->at++;
}

/* In the copy, the bytes [from, to) of the original become `with`. */
static int rewrite(struct cursor *c, size_t from, size_t to, const char *with, size_t n) {
    str_add(&c->s->copy, c->p + c->s->from, from - c->s->from);
    str_add(&c->s->copy, with, n);
    c->s->from = to;
    return str_status(&c->s->copy, c->e);
}

/* Value of the four hexadecimal digits at `at`, or -1. */
static long hex4(const struct cursor *c, size_t at) {
    if (c->n - at < 4)
        return -1;
    long v = 0;
    for (size_t i = at; i < at + 4; i++) {
        char d = c->p[i];
        int x = d >= '0' && d <= '9' ? d - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10 : d >= 'A' && d <= 'F' ? d - 'A' + 10 : -1;
        if (x < 0)
            return -1;
        v = v * 16 + x;
    }
    return v;
}

/* At a backslash. */
static int escape(struct cursor *c) {
    size_t start = c->at++;
    int kind = peek(c);
    if (kind < 0 || kind == 0 || !strchr("\"\\/bfnrtu", kind))
        return expected(c, c->at, "one of \" \\ / b f n r t u after a backslash");
    c->at++;
    if (kind != 'u')
        return ERR_NONE;
    long v = hex4(c, c->at);
    if (v < 0)
        return err_set(c->e, ERR_FORMAT, "byte %zu: expected four hexadecimal digits after \\u", start);
    c->at += 4;
    if (v == 0)
        return rewrite(c, start, c->at, "\xC0\x80", 2);
    if (v < 0xD800 || v > 0xDFFF)
        return ERR_NONE;
    long low = v < 0xDC00 && c->n - c->at >= 6 && c->p[c->at] == '\\' && c->p[c->at + 1] == 'u' ? hex4(c, c->at + 2) : -1;
    if (low < 0xDC00 || low > 0xDFFF)
        return err_set(c->e, ERR_FORMAT, "byte %zu: half of a surrogate pair (\\u%04lX), which is no character", start, v);
    c->at += 6;
    return ERR_NONE;
}

static int string(struct cursor *c) {
    size_t start = c->at++;
    for (;;) {
        int b = peek(c);
        if (b < 0)
            return err_set(c->e, ERR_FORMAT, "byte %zu: a string begins here that never ends", start);
        if (b == '"') {
            c->at++;
            return ERR_NONE;
        }
        if (b == '\\') {
            int code = escape(c);
            if (code)
                return code;
        } else if (b < 0x20) {
            return err_set(c->e, ERR_FORMAT, "byte %zu: a raw control byte %02X in a string; it must be escaped", c->at,
                           (unsigned)b);
        } else if (b < 0x80) {
            c->at++;
        } else {
            size_t k = utf8_sequence(c->p + c->at, c->n - c->at);
            if (!k)
                return err_set(c->e, ERR_FORMAT, "byte %zu: not valid UTF-8 (byte %02X)", c->at, (unsigned)b);
            c->at += k;
        }
    }
}

static size_t digits(struct cursor *c) {
    size_t start = c->at;
    while (c->at < c->n && c->p[c->at] >= '0' && c->p[c->at] <= '9')
        c->at++;
    return c->at - start;
}

/* An integer of 16 or more characters: kept beside the double if it fits into 64 bits. */
static int keep_exact(struct cursor *c, size_t start) {
    bool negative = c->p[start] == '-';
    int64_t v = 0;
    for (size_t i = start + negative; i < c->at; i++) {
        int d = c->p[i] - '0';
        if (__builtin_mul_overflow(v, (int64_t)10, &v) || __builtin_add_overflow(v, (int64_t)(negative ? -d : d), &v))
            return ERR_NONE;
    }
    struct json_scan *s = c->s;
    int code = mem_reserve(NULL, &s->exact, &s->cap_exact, s->n_exact + 1, sizeof *s->exact, c->e);
    if (!code)
        s->exact[s->n_exact++] = (struct json_exact){s->numbers, v};
    return code;
}

/* A number whose size or length is out of the ordinary: its value is looked at here. */
static int odd_number(struct cursor *c, size_t start) {
    size_t n = c->at - start;
    struct str t;
    str_init(&t, NULL);
    str_add(&t, c->p + start, n);
    int code = str_status(&t, c->e);
    if (!code) {
        double v = strtod(str_z(&t), NULL);
        if (isinf(v))
            code = err_set(c->e, ERR_FORMAT, "byte %zu: a number that is too large for double precision", start);
        else if (n > LONG_NUMBER) {
            char brief[32];
            json_format_double(brief, v);
            code = rewrite(c, start, c->at, brief, strlen(brief));
        }
    }
    str_free(&t);
    return code;
}

static int number(struct cursor *c) {
    size_t start = c->at;
    bool whole = true, raised = false;
    if (peek(c) == '-')
        c->at++;
    if (peek(c) == '0') {
        c->at++;
        if (peek(c) >= '0' && peek(c) <= '9')
            return expected(c, c->at, "no digit after a leading zero");
    } else if (!digits(c)) {
        return expected(c, c->at, "a digit");
    }
    if (peek(c) == '.') {
        whole = false;
        c->at++;
        if (!digits(c))
            return expected(c, c->at, "a digit after the decimal point");
    }
    if (peek(c) == 'e' || peek(c) == 'E') {
        whole = false;
        c->at++;
        raised = peek(c) != '-';
        if (peek(c) == '-' || peek(c) == '+')
            c->at++;
        if (!digits(c))
            return expected(c, c->at, "a digit in the exponent");
    }
    size_t n = c->at - start;
    int code = whole && n >= 16 && n <= 20 ? keep_exact(c, start) : ERR_NONE;
    if (!code && (raised || n > LONG_NUMBER))
        code = odd_number(c, start);
    c->s->numbers++;
    return code;
}

static int literal(struct cursor *c, const char *word) {
    size_t n = strlen(word);
    if (c->n - c->at < n || memcmp(c->p + c->at, word, n) != 0)
        return expected(c, c->at, "a value (a string, number, object, array, true, false or null)");
    c->at += n;
    return ERR_NONE;
}

static int scalar(struct cursor *c) {
    switch (peek(c)) {
    case '"':
        return string(c);
    case 't':
        return literal(c, "true");
    case 'f':
        return literal(c, "false");
    case 'n':
        return literal(c, "null");
    default:
        if (peek(c) == '-' || (peek(c) >= '0' && peek(c) <= '9'))
            return number(c);
        return expected(c, c->at, "a value (a string, number, object, array, true, false or null)");
    }
}

/* A key and its colon. */
static int key(struct cursor *c) {
    blanks(c);
    if (peek(c) != '"')
        return expected(c, c->at, "a key in double quotes");
    if (c->s->keys++ == c->s->want_key) {
        c->s->found = c->at;
        return ERR_NONE;
    }
    int code = string(c);
    if (code)
        return code;
    blanks(c);
    if (peek(c) != ':')
        return expected(c, c->at, "':' after a key");
    c->at++;
    return ERR_NONE;
}

static int document(struct cursor *c) {
    char close[MAX_DEPTH]; /* of the open arrays and objects */
    size_t depth = 0;
    int code = ERR_NONE;
    while (!code) {
        blanks(c);
        int b = peek(c);
        if (b == '{' || b == '[') {
            if (depth == MAX_DEPTH)
                return err_set(c->e, ERR_FORMAT, "byte %zu: nested deeper than %d", c->at, MAX_DEPTH);
            close[depth++] = b == '{' ? '}' : ']';
            c->at++;
            blanks(c);
            if (peek(c) != close[depth - 1]) {
                if (b == '{')
                    code = key(c);
                if (c->s->found != SIZE_MAX)
                    return code;
                continue; /* to the first member */
            }
            c->at++;
            depth--;
        } else {
            code = scalar(c);
        }
        /* A value has ended: so may what holds it. */
        for (; !code && depth; depth--) {
            blanks(c);
            if (peek(c) != close[depth - 1])
                break;
            c->at++;
        }
        if (code || !depth)
            break;
        if (peek(c) != ',')
            return expected(c, c->at, close[depth - 1] == '}' ? "',' or '}'" : "',' or ']'");
        c->at++;
        if (close[depth - 1] == '}')
            code = key(c);
        if (c->s->found != SIZE_MAX)
            return code;
    }
    if (code)
        return code;
    blanks(c);
    return c->at < c->n ? expected(c, c->at, "nothing more after the value") : ERR_NONE;
}

int json_scan(struct json_scan *s, const char *p, size_t n, size_t want_key, struct err *e) {
    *s = (struct json_scan){.want_key = want_key, .found = SIZE_MAX};
    str_init(&s->copy, NULL);
    struct cursor c = {p, n, 0, s, e};
    int code = document(&c);
    if (!code && s->from) {
        str_add(&s->copy, p + s->from, n - s->from);
        code = str_status(&s->copy, e);
    }
    if (code)
        json_scan_free(s);
    return code;
}

void json_scan_free(struct json_scan *s) {
    str_free(&s->copy);
    mem_free(NULL, s->exact);
    s->exact = NULL;
    s->n_exact = s->cap_exact = 0;
}
