/* Buckets that fill by the minute, holding five seconds' worth, so that a limit is kept in every minute and a pause is not
 * followed by a flood. The number of requests in flight follows the rule of TCP (Jacobson, "Congestion avoidance and control",
 * 1988): one more a round trip, half when told that it was too much. */
#include "teacher/pace.h"

#include <math.h>
#include <string.h>

static const double BURST = 5.0 / 60, LONGEST_RESET = 60;

const struct pace_facts pace_nothing = {-1, -1, -1, -1};

static double room(double per_minute) {
    return fmax(1, per_minute * BURST);
}

void pace_init(struct pace *p, double rpm, double tpm, double most, double now) {
    *p = (struct pace){.rpm = rpm,
                       .tpm = tpm,
                       .requests = room(rpm),
                       .tokens = room(tpm),
                       .at = now,
                       .not_before = now,
                       .window = most,
                       .most = most,
                       .cut = now - 1};
}

double pace_wait(struct pace *p, double tokens, size_t flying, double now) {
    double wait = p->not_before > now ? p->not_before - now : 0, past = now > p->at ? now - p->at : 0;
    p->requests = fmin(room(p->rpm), p->requests + past * p->rpm / 60);
    p->tokens = fmin(room(p->tpm), p->tokens + past * p->tpm / 60);
    p->at = now;
    if ((double)flying >= floor(p->window))
        return -1;
    if (p->rpm > 0 && p->requests < 1)
        wait = fmax(wait, (1 - p->requests) * 60 / p->rpm);
    double need = fmin(tokens, room(p->tpm)); /* a request larger than the bucket starts when the bucket is full */
    if (p->tpm > 0 && p->tokens < need)
        wait = fmax(wait, (need - p->tokens) * 60 / p->tpm);
    return wait;
}

void pace_started(struct pace *p, double tokens) {
    p->requests -= 1;
    p->tokens -= tokens;
}

void pace_settled(struct pace *p, double thought, double took) {
    p->tokens += thought - took;
}

static void hold(struct pace *p, double seconds, double now) {
    if (seconds > 0)
        p->not_before = fmax(p->not_before, now + seconds);
}

void pace_heard(struct pace *p, int status, double wait, const struct pace_facts *f, double now) {
    if (status == 429 || status == 503) {
        hold(p, wait, now);
        if (now - p->cut >= 1) {
            p->window = fmax(1, floor(p->window) / 2);
            p->cut = now;
        }
    } else if (status >= 200 && status < 300) {
        p->window = fmin(p->most, p->window + 1 / p->window);
    }
    if (f->remaining_requests >= 0 && f->remaining_requests < 1)
        hold(p, fmin(f->reset_requests, LONGEST_RESET), now);
    if (f->remaining_tokens >= 0 && f->remaining_tokens < 1)
        hold(p, fmin(f->reset_tokens, LONGEST_RESET), now);
}

/* Digits with an optional fraction at the start of t; strtod would ask the locale. Bytes read, 0 if there are no digits. */
static size_t decimal(struct text t, double *out) {
    double value = 0, unit = 1;
    size_t i = 0, digits = 0;
    for (; i < t.n && t.p[i] >= '0' && t.p[i] <= '9'; i++, digits++)
        value = value * 10 + (t.p[i] - '0');
    if (i < t.n && t.p[i] == '.')
        for (i++; i < t.n && t.p[i] >= '0' && t.p[i] <= '9'; i++, digits++)
            value += (t.p[i] - '0') * (unit /= 10);
    *out = value;
    return digits > 0 && isfinite(value) ? i : 0;
}

double pace_duration(struct text t) {
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}, {"h", 3600}, {"m", 60}, {"s", 1}};
    double sum = 0, x;
    size_t n;
    while (t.n > 0 && (*t.p == ' ' || *t.p == '\t'))
        t = (struct text){t.p + 1, t.n - 1};
    while (t.n > 0 && memchr(" \t\r\n", t.p[t.n - 1], 4))
        t.n--;
    if ((n = decimal(t, &x)) == t.n)
        return n > 0 ? x : -1;
    while (t.n > 0) {
        size_t u = 0;
        if (!(n = decimal(t, &x)))
            return -1;
        t = (struct text){t.p + n, t.n - n};
        while (u < sizeof units / sizeof *units &&
               (t.n < strlen(units[u].name) || memcmp(t.p, units[u].name, strlen(units[u].name)) != 0))
            u++;
        if (u == sizeof units / sizeof *units)
            return -1;
        n = strlen(units[u].name);
        t = (struct text){t.p + n, t.n - n};
        sum += x * units[u].seconds;
    }
    return sum;
}
