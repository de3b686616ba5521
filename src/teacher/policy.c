/* The retry policy: transport faults, 408, 409, 429 and 5xx are tried again after min(0.5 * 2^tries, 8) seconds less up to a
 * quarter of jitter, or after what the server asks for, up to a limit; who is asked to wait longer than that comes back another
 * day. Quota that is used up does not come back by asking. */
#include "teacher/policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool quota_is_gone(struct text code) {
    static const char *const final[] = {"insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
                                        "project_spend_limit_exceeded", "organization_usage_limit_exceeded"};
    for (size_t i = 0; i < sizeof final / sizeof *final; i++)
        if (text_is(code, final[i]))
            return true;
    return false;
}

static bool worth_a_retry(const struct policy_facts *f) {
    if (f->final_fault || quota_is_gone(f->code) || quota_is_gone(f->type))
        return false;
    if (f->broken_body)
        return true;
    if (f->should_retry >= 0)
        return f->should_retry == 1;
    return f->status == 0 || f->status == 408 || f->status == 409 || f->status == 429 || f->status >= 500;
}

bool policy_ends_all(const struct policy_facts *f) {
    return f->status == 401 || f->status == 403 || quota_is_gone(f->code) || quota_is_gone(f->type);
}

struct policy_verdict policy_decide(const struct policy_facts *f, unsigned tries, unsigned retries, double longest,
                                    double uniform) {
    if (!worth_a_retry(f))
        return (struct policy_verdict){0};
    if (f->retry_after > longest)
        return (struct policy_verdict){.come_back = true, .wait = f->retry_after};
    if (tries > retries && !f->loading)
        return (struct policy_verdict){0};
    if (f->retry_after > 0)
        return (struct policy_verdict){.retry = true, .wait = f->retry_after};
    double wait = 0.5;
    for (unsigned i = 1; i < tries && wait < 8; i++)
        wait *= 2;
    return (struct policy_verdict){.retry = true, .wait = wait * (1 - 0.25 * uniform)};
}

static struct text trim(struct text t) {
    while (t.n > 0 && (t.p[0] == ' ' || t.p[0] == '\t'))
        t = (struct text){t.p + 1, t.n - 1};
    while (t.n > 0 && memchr(" \t\r\n", t.p[t.n - 1], 4))
        t.n--;
    return t;
}

/* Digits with an optional fraction; strtod would ask the locale. Huge numbers become large, not wrong. */
static bool decimal(struct text t, double *out) {
    double value = 0, unit = 1;
    size_t digits = 0, i = 0;
    for (; i < t.n && t.p[i] >= '0' && t.p[i] <= '9'; i++, digits++)
        value = value * 10 + (t.p[i] - '0');
    if (i < t.n && t.p[i] == '.')
        for (i++; i < t.n && t.p[i] >= '0' && t.p[i] <= '9'; i++, digits++)
            value += (t.p[i] - '0') * (unit /= 10);
    *out = value;
    return digits > 0 && i == t.n && isfinite(value);
}

static bool two_digits(const char *p, int *out) {
    if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
        return false;
    *out = (p[0] - '0') * 10 + (p[1] - '0');
    return true;
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar: years are counted from March, so that the leap day is the last. */
static int64_t days(int64_t year, int month, int day) {
    year -= month <= 2;
    int64_t era = year / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* The two obsolete forms of a date (RFC 9110, 5.6.7) in today's: "Sunday, 06-Nov-94 08:49:37 GMT", of which years from 70 on
 * are taken for the last century's, and "Sun Nov  6 08:49:37 1994". */
static struct text renew(struct text t, char out[30]) {
    const char *c = t.n > 0 ? memchr(t.p, ',', t.n) : NULL;
    if (c && t.p + t.n - c == 24 && c - t.p >= 3 && c[4] == '-' && c[8] == '-' && memcmp(c + 20, " GMT", 4) == 0)
        snprintf(out, 30, "%.3s, %.2s %.3s %s%.2s %.8s GMT", t.p, c + 2, c + 5, c[9] >= '7' ? "19" : "20", c + 9, c + 12);
    else if (!c && t.n == 24 && t.p[3] == ' ')
        snprintf(out, 30, "%.3s, %c%c %.3s %.4s %.8s GMT", t.p, t.p[8] == ' ' ? '0' : t.p[8], t.p[9], t.p + 4, t.p + 20,
                 t.p + 11);
    else
        return t;
    return text_of(out);
}

bool policy_http_date(struct text t, int64_t *out) {
    char now[30];
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int day, century, year, hour, minute, second, month = 0;
    t = renew(t, now);
    /* 0123456789012345678901234567 8
     * Sun, 06 Nov 1994 08:49:37 GMT */
    if (t.n != 29 || t.p[3] != ',' || t.p[4] != ' ' || t.p[7] != ' ' || t.p[11] != ' ' || t.p[16] != ' ' || t.p[19] != ':' ||
        t.p[22] != ':' || memcmp(t.p + 25, " GMT", 4) != 0)
        return false;
    if (!two_digits(t.p + 5, &day) || !two_digits(t.p + 12, &century) || !two_digits(t.p + 14, &year) ||
        !two_digits(t.p + 17, &hour) || !two_digits(t.p + 20, &minute) || !two_digits(t.p + 23, &second))
        return false;
    while (month < 12 && memcmp(t.p + 8, months + 3 * month, 3) != 0)
        month++;
    if (month == 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
        return false;
    *out = ((days(century * 100 + year, month + 1, day) * 24 + hour) * 60 + minute) * 60 + second;
    return true;
}

double policy_retry_after(struct text ms, struct text after, double now) {
    double x;
    int64_t date;
    ms = trim(ms);
    after = trim(after);
    if (decimal(ms, &x))
        return x / 1000;
    if (decimal(after, &x))
        return x;
    if (policy_http_date(after, &date))
        return (double)date > now ? (double)date - now : 0;
    return -1;
}
