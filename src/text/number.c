/* Numbers in running text. Digits are turned into a double by hand (19 significant digits, then a power of ten), so that no
 * locale is asked and equal values written differently (72, 72.0, 72.00; 1,200 and 1200; 5/2 and 2.5) become the same double. */
#include "text/answer.h"

#include <math.h>

static bool digit_at(struct text t, size_t i) {
    return i < t.n && t.p[i] >= '0' && t.p[i] <= '9';
}

static bool alnum_at(struct text t, size_t i) {
    return digit_at(t, i) || (i < t.n && ((t.p[i] >= 'a' && t.p[i] <= 'z') || (t.p[i] >= 'A' && t.p[i] <= 'Z')));
}

/* A comma at i with exactly three digits behind it. */
static bool thousands_at(struct text t, size_t i) {
    return i < t.n && t.p[i] == ',' && digit_at(t, i + 1) && digit_at(t, i + 2) && digit_at(t, i + 3) && !digit_at(t, i + 4);
}

struct decimal { /* digits * 10^exponent */
    uint64_t digits;
    long exponent;
    bool whole; /* no point, no exponent */
};

static void decimal_push(struct decimal *d, unsigned digit, bool fraction) {
    if (d->digits < 1000000000000000000U) {
        d->digits = d->digits * 10 + digit;
        d->exponent -= fraction;
    } else {
        d->exponent += !fraction;
    }
}

static double decimal_value(struct decimal d) {
    while (d.digits && d.digits % 10 == 0) { /* 72.00 and 72 take the same way */
        d.digits /= 10;
        d.exponent++;
    }
    while (d.digits && d.exponent > 0 && d.digits <= UINT64_MAX / 10) {
        d.digits *= 10;
        d.exponent--;
    }
    if (!d.digits || !d.exponent)
        return (double)d.digits;
    long k = d.exponent < 0 ? -d.exponent : d.exponent;
    double scale = pow(10, (double)(k < 400 ? k : 400));
    return d.exponent < 0 ? (double)d.digits / scale : (double)d.digits * scale;
}

/* Unsigned digits with thousands commas, decimals, exponent. Returns the end, `i` if there is no number. */
static size_t scan_decimal(struct text t, size_t i, struct decimal *d) {
    *d = (struct decimal){.whole = true};
    size_t start = i, first = i;
    while (digit_at(t, i))
        decimal_push(d, (unsigned)(t.p[i++] - '0'), false);
    if (i - first >= 1 && i - first <= 3 && t.p[first] != '0')
        while (thousands_at(t, i))
            for (size_t end = i + 4; ++i < end;)
                decimal_push(d, (unsigned)(t.p[i] - '0'), false);
    if (i < t.n && t.p[i] == '.' && digit_at(t, i + 1)) {
        d->whole = false;
        for (i++; digit_at(t, i); i++)
            decimal_push(d, (unsigned)(t.p[i] - '0'), true);
    }
    if (i > start && i < t.n && (t.p[i] == 'e' || t.p[i] == 'E')) {
        size_t k = i + 1;
        bool minus = k < t.n && t.p[k] == '-';
        k += k < t.n && (t.p[k] == '-' || t.p[k] == '+');
        long exponent = 0;
        size_t from = k;
        for (; digit_at(t, k); k++)
            exponent = exponent < 10000 ? exponent * 10 + (t.p[k] - '0') : exponent;
        if (k > from && !alnum_at(t, k)) {
            d->whole = false;
            d->exponent += minus ? -exponent : exponent;
            i = k;
        }
    }
    return i;
}

/* Bytes of a fraction that is one character, U+00BC to U+00BE or U+2153 to U+215E, and its value. */
static size_t vulgar_at(struct text t, size_t i, double *value) {
    static const unsigned char tops[] = {1, 2, 1, 2, 3, 4, 1, 5, 1, 3, 5, 7}, bottoms[] = {3, 3, 5, 5, 5, 5, 6, 6, 8, 8, 8, 8};
    if (i + 2 <= t.n && t.p[i] == '\xc2' && t.p[i + 1] >= '\xbc' && t.p[i + 1] <= '\xbe') {
        *value = (t.p[i + 1] - '\xbc' + 1) / 4.0;
        return 2;
    }
    if (i + 3 <= t.n && t.p[i] == '\xe2' && t.p[i + 1] == '\x85' && t.p[i + 2] >= '\x93' && t.p[i + 2] <= '\x9e') {
        const int k = t.p[i + 2] - '\x93';
        *value = (double)tops[k] / bottoms[k];
        return 3;
    }
    return 0;
}

/* Bytes of a fraction's stroke: "/" or U+2044, which Unicode's normal form makes of such characters. */
static size_t stroke_at(struct text t, size_t i) {
    if (i < t.n && t.p[i] == '/')
        return 1;
    return i + 3 <= t.n && t.p[i] == '\xe2' && t.p[i + 1] == '\x81' && t.p[i + 2] == '\x84' ? 3 : 0;
}

/* "5/2", and "2 1/2" behind a whole number: *value takes it in, the end is returned; `i` if there is no fraction. */
static size_t scan_fraction(struct text t, size_t i, struct decimal top, double *value) {
    struct decimal below, part;
    double one = 0;
    size_t stroke = stroke_at(t, i), blank = i < t.n && t.p[i] == ' ', vulgar = top.whole ? vulgar_at(t, i + blank, &one) : 0;
    if (stroke) {
        size_t end = scan_decimal(t, i + stroke, &below);
        double b = decimal_value(below);
        if (end > i + stroke && b > 0 && !stroke_at(t, end)) {
            *value = decimal_value(top) / b;
            return end;
        }
    } else if (vulgar) {
        *value = decimal_value(top) + one;
        return i + blank + vulgar;
    } else if (top.whole && blank && digit_at(t, i + 1)) {
        size_t mid = scan_decimal(t, i + 1, &part);
        if (part.whole && (stroke = stroke_at(t, mid))) {
            size_t end = scan_decimal(t, mid + stroke, &below);
            double a = decimal_value(part), b = decimal_value(below);
            if (end > mid + stroke && below.whole && b > 0 && a < b && !stroke_at(t, end)) {
                *value = (decimal_value(top) * b + a) / b;
                return end;
            }
        }
    }
    return i;
}

/* Bytes of the currency sign at i: $, or one of U+00A3 U+00A5 U+20AC U+20B9. */
static size_t currency_at(struct text t, size_t i) {
    if (i < t.n && t.p[i] == '$')
        return 1;
    if (i + 2 <= t.n && t.p[i] == '\xc2' && (t.p[i + 1] == '\xa3' || t.p[i + 1] == '\xa5'))
        return 2;
    if (i + 3 <= t.n && t.p[i] == '\xe2' && t.p[i + 1] == '\x82' && (t.p[i + 2] == '\xac' || t.p[i + 2] == '\xb9'))
        return 3;
    return 0;
}

static size_t currency_before(struct text t, size_t i) {
    for (size_t n = 1; n <= 3 && n <= i; n++)
        if (currency_at(t, i - n) == n)
            return n;
    return 0;
}

/* Bytes of a minus that ends before i: "-" or U+2212. */
static size_t minus_before(struct text t, size_t i) {
    if (i >= 1 && t.p[i - 1] == '-')
        return 1;
    return i >= 3 && t.p[i - 3] == '\xe2' && t.p[i - 2] == '\x88' && t.p[i - 1] == '\x92' ? 3 : 0;
}

/* Goes left from the digits at i over currency, sign ("-$5", "$-5") and the bracket of "-(1/3)". A minus behind a word, a
 * number or another minus is an operator or a dash. Returns where the number begins. */
static size_t scan_sign(struct text t, size_t i, size_t end, bool *negative) {
    size_t at = i - currency_before(t, i);
    bool bracket = at && t.p[at - 1] == '(' && end < t.n && t.p[end] == ')';
    size_t left = at - bracket, minus = minus_before(t, left), before = left - minus;
    *negative = minus && !(before && (alnum_at(t, before - 1) || t.p[before - 1] == ')' || t.p[before - 1] == '-'));
    return *negative ? before - currency_before(t, before) : at;
}

/* The number whose digits begin at i; where it ends, i if there is none. */
static size_t scan_number(struct text t, size_t i, double *value) {
    struct decimal d;
    if (!digit_at(t, i) && !(t.p[i] == '.' && digit_at(t, i + 1) && !(i && digit_at(t, i - 1))))
        return i + vulgar_at(t, i, value);
    size_t end = scan_decimal(t, i, &d);
    *value = decimal_value(d);
    if (!(i && t.p[i - 1] == '/')) /* 3/4/2023 is a date */
        end = scan_fraction(t, end, d, value);
    return end;
}

bool number_next(struct text t, size_t *pos, struct number *out) {
    for (size_t i = *pos; i < t.n;) {
        double v = 0;
        size_t end = scan_number(t, i, &v);
        if (end == i) {
            i++;
            continue;
        }
        bool negative = false;
        size_t begin = scan_sign(t, i, end, &negative);
        *pos = i = end;
        if (!isfinite(v))
            continue;
        *out = (struct number){negative ? -v : v, begin, end};
        return true;
    }
    *pos = t.n;
    return false;
}

bool number_last_digits(struct text t, double *value) {
    bool found = false;
    for (size_t i = 0; i < t.n;) {
        struct decimal d = {.whole = true};
        size_t start = i;
        while (digit_at(t, i))
            decimal_push(&d, (unsigned)(t.p[i++] - '0'), false);
        if (i < t.n && t.p[i] == '.' && digit_at(t, i + 1))
            for (i++; digit_at(t, i); i++)
                decimal_push(&d, (unsigned)(t.p[i] - '0'), true);
        if (i > start) {
            *value = decimal_value(d);
            found = true;
        }
        i += i == start;
    }
    return found;
}

static bool blank_at(struct text t, size_t i) {
    return i < t.n && (t.p[i] == ' ' || (t.p[i] >= '\t' && t.p[i] <= '\r'));
}

bool number_whole(struct text t, double *value) {
    size_t pos = 0;
    struct number n;
    if (!number_next(t, &pos, &n))
        return false;
    size_t i = 0;
    while (blank_at(t, i))
        i++;
    if (n.begin != i && !(n.begin == i + 1 && (t.p[i] == '+' || t.p[i] == '(')))
        return false;
    for (i = n.end; i < t.n;) {
        size_t currency = currency_at(t, i);
        if (!currency && !blank_at(t, i) && t.p[i] != '%' && t.p[i] != ')' && !(t.p[i] == '.' && i == n.end))
            return false;
        i += currency ? currency : 1;
    }
    *value = n.value;
    return true;
}
