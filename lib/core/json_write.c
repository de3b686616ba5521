/* Writing: values go straight to a buffer, one bit per level remembers whether a comma is due.
 * Numbers get the fewest digits that read back to the same bits: 15 always survive a double and 17 always suffice, 6 and 9 for
 * single precision (Goldberg, "What every computer scientist should know about floating-point arithmetic", 1991). */
#include "core/json_inner.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEPTH = 64 };

static uint64_t bit(const struct json_out *o) {
    return (uint64_t)1 << (o->depth - 1);
}

static void new_line(struct json_out *o) {
    if (!o->indent)
        return;
    str_addc(o->s, '\n');
    for (size_t i = (size_t)o->indent * o->depth; i > 0; i--)
        str_addc(o->s, ' ');
}

/* What stands between the last member and the next. */
static void separate(struct json_out *o) {
    if (o->after_key) {
        o->after_key = false;
        return;
    }
    if (!o->depth)
        return;
    if (!(o->first & bit(o)))
        str_addc(o->s, ',');
    o->first &= ~bit(o);
    new_line(o);
}

static void open_with(struct json_out *o, char c) {
    separate(o);
    str_addc(o->s, c);
    if (o->depth == MAX_DEPTH) { /* no reader of ours would take it */
        o->s->failed = true;
        return;
    }
    o->depth++;
    o->first |= bit(o);
}

static void close_with(struct json_out *o, char c) {
    if (!o->depth) {
        o->s->failed = true;
        return;
    }
    bool empty = (o->first & bit(o)) != 0;
    o->depth--;
    if (!empty)
        new_line(o);
    str_addc(o->s, c);
}

void json_begin(struct json_out *o, struct str *s, unsigned indent) {
    *o = (struct json_out){.s = s, .indent = indent};
}

void json_object(struct json_out *o) {
    open_with(o, '{');
}

void json_array(struct json_out *o) {
    open_with(o, '[');
}

void json_end_object(struct json_out *o) {
    close_with(o, '}');
}

void json_end_array(struct json_out *o) {
    close_with(o, ']');
}

static void quoted(struct str *s, struct text t) {
    size_t from = 0, i = 0;
    str_addc(s, '"');
    while (i < t.n) {
        unsigned char c = (unsigned char)t.p[i];
        size_t k = c < 0x80 ? 1 : utf8_sequence(t.p + i, t.n - i);
        if (k && c >= 0x20 && c != '"' && c != '\\') {
            i += k;
            continue;
        }
        str_add(s, t.p + from, i - from);
        switch (c) {
        case '"':
            str_add(s, "\\\"", 2);
            break;
        case '\\':
            str_add(s, "\\\\", 2);
            break;
        case '\n':
            str_add(s, "\\n", 2);
            break;
        case '\r':
            str_add(s, "\\r", 2);
            break;
        case '\t':
            str_add(s, "\\t", 2);
            break;
        default:
            if (c < 0x20)
                str_addf(s, "\\u%04x", c);
            else
                str_add(s, "\xEF\xBF\xBD", 3); /* U+FFFD */
        }
        from = ++i;
    }
    str_add(s, t.p + from, i - from);
    str_addc(s, '"');
}

static void put_key(struct json_out *o, struct text key) {
    separate(o);
    quoted(o->s, key);
    str_add(o->s, ": ", o->indent ? 2 : 1);
    o->after_key = true;
}

void json_put_key(struct json_out *o, const char *key) {
    put_key(o, text_of(key));
}

void json_put_text(struct json_out *o, struct text t) {
    separate(o);
    quoted(o->s, t);
}

void json_put_z(struct json_out *o, const char *cstr) {
    if (cstr)
        json_put_text(o, text_of(cstr));
    else
        json_put_null(o);
}

void json_put_int(struct json_out *o, int64_t v) {
    separate(o);
    str_addf(o->s, "%" PRId64, v);
}

/* Small integers need no search. A negative zero does: its sign must survive. */
static bool format_integer(char out[32], double v) {
    if (!(fabs(v) < 1e15) || v != trunc(v) || (v == 0 && signbit(v)))
        return false;
    snprintf(out, 32, "%" PRId64, (int64_t)v);
    return true;
}

/* Numbers of at most 15 digits behind which nothing is lost, the usual case: m / 10^k is the double nearest to that decimal,
 * because both are exact and division rounds once; and no two decimals of 15 digits share a double, so this is what "%.15g"
 * would print. */
static bool format_decimal(char out[32], double v) {
    static const double power[] = {1,    1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,
                                   1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19};
    double a = fabs(v);
    if (!(a >= 1e-4 && a < 1e15))
        return false;
    for (int k = 1; k <= 19 && a * power[k] < 1e15; k++) {
        double m = nearbyint(a * power[k]);
        if (m / power[k] != a)
            continue;
        char digits[32];
        int n = 0;
        for (uint64_t rest = (uint64_t)m; rest > 0 || n <= k; rest /= 10) {
            if (n == k)
                digits[n++] = '.';
            digits[n++] = (char)('0' + rest % 10);
        }
        if (signbit(v))
            *out++ = '-';
        while (n > 0)
            *out++ = digits[--n];
        *out = 0;
        return true;
    }
    return false;
}

void json_format_double(char out[32], double v) {
    if (format_integer(out, v) || format_decimal(out, v))
        return;
    for (int digits = fabs(v) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            return;
    }
}

void json_format_float(char out[32], float v) {
    if (fabsf(v) < 1e6f && format_integer(out, (double)v))
        return;
    for (int digits = fabsf(v) < FLT_MIN ? 1 : 6; digits <= 9; digits++) {
        snprintf(out, 32, "%.*g", digits, (double)v);
        if ((float)strtod(out, NULL) == v) /* readers take the way over double */
            return;
    }
}

void json_put_double(struct json_out *o, double v) {
    char t[32];
    struct c_locale locale;
    if (!isfinite(v)) {
        json_put_null(o);
        return;
    }
    separate(o);
    if (!format_integer(t, v)) {
        if (!c_locale_enter(&locale)) {
            o->s->failed = true;
            return;
        }
        json_format_double(t, v);
        c_locale_leave(&locale);
    }
    str_addz(o->s, t);
}

void json_put_float(struct json_out *o, float v) {
    char t[32];
    struct c_locale locale;
    if (!isfinite(v)) {
        json_put_null(o);
        return;
    }
    separate(o);
    if (!c_locale_enter(&locale)) {
        o->s->failed = true;
        return;
    }
    json_format_float(t, v);
    c_locale_leave(&locale);
    str_addz(o->s, t);
}

void json_put_bool(struct json_out *o, bool v) {
    separate(o);
    str_addz(o->s, v ? "true" : "false");
}

void json_put_null(struct json_out *o) {
    separate(o);
    str_addz(o->s, "null");
}

/* A document is at most 64 deep, and so is the recursion. */
void json_put_value(struct json_out *o, const struct json *v) {
    int64_t exact;
    switch (json_type(v)) {
    case JSON_NULL:
        json_put_null(o);
        break;
    case JSON_BOOL:
        json_put_bool(o, json_bool(v));
        break;
    case JSON_NUMBER:
        if (json_exact(v, &exact) && exact != 0)
            json_put_int(o, exact);
        else
            json_put_double(o, json_number(v));
        break;
    case JSON_TEXT:
        json_put_text(o, json_text(v));
        break;
    case JSON_ARRAY:
        json_array(o);
        for (const struct json *m = json_first(v); m; m = json_next(m))
            json_put_value(o, m);
        json_end_array(o);
        break;
    case JSON_OBJECT:
        json_object(o);
        for (const struct json *m = json_first(v); m; m = json_next(m)) {
            put_key(o, json_key(m));
            json_put_value(o, m);
        }
        json_end_object(o);
        break;
    }
}
