/* Qualification: what the log-probabilities of an endpoint are good for. Everything that servers do in place of a distribution
 * was seen in the wild: none at all, nulls, the same stand-in everywhere, zeros, fewer alternatives than asked for, what the
 * samplers left. */
#include "base/ctx.h"
#include "teacher/reply.h"

#include <math.h>
#include <string.h>

static bool usable(double logprob) {
    return logprob > LOGPROB_SENTINEL; /* false for NaN */
}

static void check_token(const rsd_reply *r, const struct reply_token *t, int32_t k, rsd_findings *f) {
    double sum = 0;
    uint64_t good = 0;
    bool inside = false;
    const char *bytes = str_z(&r->bytes);
    for (size_t j = 0; j < t->tops; j++) {
        const struct reply_top *top = &r->tops[t->top + j];
        inside |= top->n == t->n && memcmp(bytes + top->at, bytes + t->at, t->n) == 0;
        if (usable(top->logprob)) {
            sum += exp(top->logprob);
            good++;
        }
    }
    f->tokens++;
    f->null_tokens += isnan(t->logprob) ? 1 : 0;
    f->sentinels += t->logprob <= LOGPROB_SENTINEL;
    f->zeros += t->logprob >= 0 && good < 2;
    f->fewer += t->tops < (size_t)(k > 0 ? k : 0);
    f->most = t->tops > f->most ? t->tops : f->most;
    f->outside += t->tops > 0 && !inside;
    f->above_one += sum > 1.001;
    f->thin += good < 2;
}

/* A few odd tokens (an end mark, a token that two strings share) do no harm; a tenth of all does. */
static uint64_t verdict(const rsd_findings *f) {
    uint64_t tenth = f->tokens / 10;
    if (f->tokens == 0 || f->post_sampling > 0 || f->without * 10 > f->replies ||
        f->null_tokens + f->sentinels + f->zeros > tenth)
        return RSD_FIT_TEXT;
    return f->thin > tenth || f->above_one > tenth ? RSD_FIT_OWN : RSD_FIT_DISTRIBUTION;
}

int rsd_reply_check(const rsd_reply *r, int32_t k, rsd_findings *f) {
    if (!r || !f || f->size < sizeof *f)
        return r ? ctx_fail(r->ctx, RSD_EINVAL, "rsd_reply_check: findings with size set to sizeof(rsd_findings) expected")
                 : RSD_EINVAL;
    f->replies++;
    f->post_sampling += r->post_sampling;
    f->without += !r->logprobs_given || (r->n_tokens == 0 && r->text.n > 0);
    for (size_t i = 0; r->logprobs_given && i < r->n_tokens; i++)
        check_token(r, &r->tokens[i], k, f);
    f->fit = verdict(f);
    return RSD_OK;
}
