/* Intervals and tests for shares of right answers, and least squares. Shares come with Wilson's interval (E. B. Wilson, "Probable
 * inference, the law of succession, and statistical inference", JASA 1927), which stays inside [0, 1] and is right also near its
 * ends, where accuracies of small models live. */
#include "eval/statistics.h"

#include "base/ctx.h"

#include <math.h>
#include <string.h>

void wilson_share(double p, double n, double *low, double *high) {
    static const double z = 1.959963984540054; /* 97.5 % point of the normal distribution */
    double middle = p + z * z / (2 * n), half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)), all = 1 + z * z / n;
    *low = p <= 0 ? 0 : (middle - half) / all;
    *high = p >= 1 ? 1 : (middle + half) / all;
}

void rsd_wilson(uint64_t k, uint64_t n, double *low, double *high) {
    double l = 0, h = 1;
    if (n)
        wilson_share((double)(k < n ? k : n) / (double)n, (double)n, &l, &h);
    if (low)
        *low = l;
    if (high)
        *high = h;
}

double rsd_log_odds(uint64_t k, uint64_t n) {
    return n && k <= n ? log(((double)k + 0.5) / ((double)(n - k) + 0.5)) : (double)NAN;
}

/* ---- majority votes ---- */

enum { MOST_SAMPLES = 1000 }; /* binomial(1000, 500) is the last that a double holds with room to spare */

/* row[a] = binomial(n, a) for a = 0 .. most */
static void binomials(double *row, uint64_t n, size_t most) {
    row[0] = 1;
    for (size_t a = 1; a <= most; a++)
        row[a] = a > n ? 0 : row[a - 1] * (double)(n - a + 1) / (double)a;
}

/* Ways to take `taken` samples of the answers seen so far, each at most `most` times and `ties` of them exactly so often:
 * ways[ties * (room + 1) + taken], taken 0 .. room. */
struct ways {
    double *now, *next, *choose;
    size_t room, most, ties;
};

/* One answer of `votes` samples more; with `free` it may be taken any number of times and never ties (samples that do not vote). */
static void take_answer(struct ways *w, uint64_t votes, bool free) {
    const size_t row = w->room + 1, top = free || votes < w->most ? (size_t)(votes < w->room ? votes : w->room) : w->most;
    binomials(w->choose, votes, top);
    memset(w->next, 0, (w->ties + 1) * row * sizeof *w->next);
    for (size_t t = 0; t <= w->ties; t++)
        for (size_t a = 0; a <= top; a++) {
            const size_t to = t + (!free && a == w->most);
            for (size_t taken = 0; to <= w->ties && taken + a <= w->room; taken++)
                w->next[to * row + taken + a] += w->choose[a] * w->now[t * row + taken];
        }
    double *last = w->now;
    w->now = w->next;
    w->next = last;
}

/* Ways in which the right answer has `most` votes of k and no other has more, ties shared. */
static double ways_to_win(struct ways *w, const uint64_t *votes, size_t n, size_t right, uint64_t silent) {
    double sum = 0;
    memset(w->now, 0, (w->ties + 1) * (w->room + 1) * sizeof *w->now);
    w->now[0] = 1;
    for (size_t a = 0; a < n; a++)
        if (a != right && votes[a])
            take_answer(w, votes[a], false);
    take_answer(w, silent, true);
    for (size_t t = 0; t <= w->ties; t++)
        sum += w->now[t * (w->room + 1) + w->room] / (double)(t + 1);
    return sum;
}

int maj_at_k(const struct allocator *a, const uint64_t *votes, size_t n_answers, size_t right, uint64_t silent, uint64_t k,
             double *out, struct err *e) {
    uint64_t n = silent;
    for (size_t i = 0; i < n_answers && n <= MOST_SAMPLES && silent <= MOST_SAMPLES; i++)
        n = votes[i] > MOST_SAMPLES ? votes[i] : n + votes[i];
    if (!k || k > n || n > MOST_SAMPLES)
        return err_set(e, ERR_INVALID, "maj@%llu of %llu samples: k must be 1 to the number of samples, of which %d are the most",
                       (unsigned long long)k, (unsigned long long)n, (int)MOST_SAMPLES);
    *out = 0;
    if (right >= n_answers || !votes[right])
        return 0;
    const size_t width = (size_t)k + 1;
    size_t cells = 0;
    if (!size_mul(width, width, &cells))
        return err_set(e, ERR_NOMEM, "out of memory: maj@%zu", (size_t)k);
    double *grid = mem_new(a, cells, 2 * sizeof *grid, e), *choose = mem_new(a, width, 2 * sizeof *choose, e);
    if (grid && choose) {
        double sum = 0, *own = choose + width;
        struct ways w = {.now = grid, .next = grid + cells, .choose = choose};
        for (size_t j = 1; j <= k && j <= votes[right]; j++) {
            w.most = j;
            w.room = (size_t)k - j;
            w.ties = w.room / j;
            double others = ways_to_win(&w, votes, n_answers, right, silent);
            binomials(own, votes[right], j);
            sum += own[j] * others;
        }
        binomials(own, n, (size_t)k);
        *out = sum / own[k];
    }
    mem_free(a, grid);
    mem_free(a, choose);
    return e->code;
}

int rsd_maj_at_k(rsd_ctx *ctx, const uint64_t *votes, size_t n_answers, size_t right, uint64_t silent, uint64_t k, double *out) {
    struct err e = {0};
    if (!out || (n_answers && !votes))
        return ctx_fail(ctx, RSD_EINVAL, "rsd_maj_at_k: no votes or no result");
    maj_at_k(&ctx->alloc, votes, n_answers, right, silent, k, out, &e);
    return ctx_return(ctx, e.code, &e);
}

/* ---- pairs ---- */

/* P(X <= m) for X binomial(n, 1/2): from the largest term, whose logarithm is exact enough for any n, downwards. */
static double half_binomial(uint64_t m, uint64_t n) {
    double log_term = -(double)n * log(2), term = 1, sum = 1;
    for (uint64_t i = 1; i <= m; i++)
        log_term += log((double)(n - m + i) / (double)i);
    for (uint64_t i = m; i > 0 && term > sum * 1e-18; i--)
        sum += term *= (double)i / (double)(n - i + 1);
    return exp(log_term) * sum;
}

static void newcombe(rsd_paired *o) {
    const double a = (double)o->both, b = (double)o->only_a, c = (double)o->only_b, d = (double)o->neither, n = a + b + c + d;
    const double p = (a + b) / n, q = (a + c) / n, margins = sqrt((a + b) * (c + d)) * sqrt((a + c) * (b + d));
    double pl, ph, ql, qh, cross = a * d - b * c;
    if (cross > 0)
        cross = cross > n / 2 ? cross - n / 2 : 0;
    const double phi = margins > 0 ? cross / margins : 0;
    wilson_share(p, n, &pl, &ph);
    wilson_share(q, n, &ql, &qh);
    const double down = (p - pl) * (p - pl) - 2 * phi * (p - pl) * (qh - q) + (qh - q) * (qh - q);
    const double up = (ph - p) * (ph - p) - 2 * phi * (ph - p) * (q - ql) + (q - ql) * (q - ql);
    o->difference = (b - c) / n;
    o->low = o->difference - sqrt(down > 0 ? down : 0);
    o->high = o->difference + sqrt(up > 0 ? up : 0);
}

int rsd_mcnemar(uint64_t both, uint64_t only_a, uint64_t only_b, uint64_t neither, rsd_paired *out) {
    const uint64_t differ = only_a + only_b, fewer = only_a < only_b ? only_a : only_b;
    if (!out || out->size < sizeof(size_t) || both + differ + neither == 0)
        return RSD_EINVAL;
    rsd_paired o = {.size = out->size, .both = both, .only_a = only_a, .only_b = only_b, .neither = neither, .p = 1, .p_chi2 = 1};
    if (differ) {
        double gap = (double)(differ - 2 * fewer) - 1;
        o.chi2 = gap > 0 ? gap * gap / (double)differ : 0;
        o.p_chi2 = erfc(sqrt(o.chi2 / 2));
        o.p = 2 * half_binomial(fewer, differ);
        o.p = o.p < 1 ? o.p : 1;
    }
    newcombe(&o);
    memcpy(out, &o, out->size < sizeof o ? out->size : sizeof o);
    return RSD_OK;
}

/* ---- a line ---- */

/* The continued fraction of the incomplete beta function (Abramowitz & Stegun 26.5.8), by Lentz's method. */
static double beta_fraction(double x, double a, double b) {
    static const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1), f;
    d = 1 / (fabs(d) < tiny ? tiny : d);
    f = d;
    for (int m = 1; m < 1000; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double step = 1;
        for (int k = 0; k < 2; k++) {
            const double s = k ? odd : even;
            d = 1 + s * d;
            c = 1 + s / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            f *= step = c * d;
        }
        if (fabs(step - 1) < 1e-16)
            break;
    }
    return f;
}

/* log(Gamma(a + 1/2) / Gamma(a)), for a a multiple of 1/2: by recurrence from Gamma(1/2) = sqrt(pi), as lgamma writes to a global. */
static double log_gamma_step(double a) {
    const bool whole = floor(a) >= a;
    const double half_log_pi = 0.5723649429247001;
    double v = whole ? -log(2) + half_log_pi : -half_log_pi; /* Gamma(3/2) / Gamma(1); Gamma(1) / Gamma(1/2) */
    for (double x = whole ? 1 : 0.5; x < a; x += 1)
        v += log((x + 0.5) / x);
    return v;
}

/* P(|T| > t) of Student's t with df degrees of freedom: the incomplete beta I_x(df/2, 1/2) at x = df / (df + t^2). */
static double t_tails(double t, double df) {
    const double x = df / (df + t * t), a = df / 2, b = 0.5, half_log_pi = 0.5723649429247001;
    if (x >= 1)
        return 1;
    const double front = exp(a * log(x) + b * log1p(-x) + log_gamma_step(a) - half_log_pi);
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(x, a, b) / a : 1 - front * beta_fraction(1 - x, b, a) / b;
}

double student_t(double share, uint64_t df) {
    double low = 0, high = 2;
    if (df > 100000) /* the normal distribution, from here on to six places */
        df = 100000;
    while (t_tails(high, (double)df) > share && high < 1e12)
        high *= 2;
    for (int i = 0; i < 200 && high - low > 1e-15 * high; i++) {
        double middle = low + (high - low) / 2;
        if (t_tails(middle, (double)df) > share)
            low = middle;
        else
            high = middle;
    }
    return high;
}

int rsd_fit_line(const double *x, const double *y, size_t n, rsd_fit *out) {
    double mx = 0, my = 0, sxx = 0, sxy = 0, syy = 0, left = 0;
    if (!out || out->size < sizeof(size_t) || n < 2 || !x || !y)
        return RSD_EINVAL;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) || !isfinite(y[i]))
            return RSD_EINVAL;
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        sxx += (x[i] - mx) * (x[i] - mx);
        sxy += (x[i] - mx) * (y[i] - my);
        syy += (y[i] - my) * (y[i] - my);
    }
    if (!(sxx > 0) || !isfinite(sxx) || !isfinite(syy))
        return RSD_EINVAL;
    rsd_fit f = {.size = out->size, .n = n, .slope = sxy / sxx};
    f.intercept = my - f.slope * mx;
    for (size_t i = 0; i < n; i++) {
        double r = y[i] - my - f.slope * (x[i] - mx);
        left += r * r;
    }
    f.r2 = syy > 0 ? fmax(0, 1 - left / syy) : 1;
    f.error = n > 2 ? sqrt(left / (double)(n - 2)) : 0;
    const double half = n > 2 ? student_t(0.05, n - 2) * f.error / sqrt(sxx) : (double)INFINITY;
    f.slope_low = f.slope - half;
    f.slope_high = f.slope + half;
    memcpy(out, &f, out->size < sizeof f ? out->size : sizeof f);
    return RSD_OK;
}
