/* A reply as a value: text, tokens as bytes, log-probabilities. All bytes of tokens and alternatives lie in one buffer and are
 * named by offset, so that a reply of a hundred tokens with five alternatives each costs four allocations. */
#include "teacher/reply.h"

#include "base/ctx.h"
#include "core/mem.h"
#include "teacher/body.h"

#include <math.h>
#include <string.h>

int reply_new(rsd_ctx *ctx, rsd_reply **out, struct err *e) {
    rsd_reply *r = mem_zero(&ctx->alloc, 1, sizeof *r, e);
    *out = r;
    if (!r)
        return ERR_NOMEM;
    r->ctx = ctx;
    struct str *strings[] = {&r->id, &r->question, &r->text, &r->model, &r->finish, &r->bytes, &r->line, &r->student_text};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        str_init(strings[i], &ctx->alloc);
    r->correct = -1;
    r->prompt_tokens = r->completion_tokens = -1;
    return 0;
}

void rsd_reply_close(rsd_reply *r) {
    if (!r)
        return;
    struct str *strings[] = {&r->id, &r->question, &r->text, &r->model, &r->finish, &r->bytes, &r->line, &r->student_text};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        str_free(strings[i]);
    const struct allocator *a = &r->ctx->alloc;
    mem_free(a, r->tokens);
    mem_free(a, r->tops);
    mem_free(a, r);
}

int reply_set(struct str *field, struct text t, struct err *e) {
    str_clear(field);
    str_add(field, t.p, t.n);
    return str_status(field, e);
}

int reply_add_token(rsd_reply *r, struct text bytes, double logprob, int64_t offset, struct err *e) {
    if (mem_reserve(&r->ctx->alloc, (void *)&r->tokens, &r->cap_tokens, r->n_tokens + 1, sizeof *r->tokens, e))
        return ERR_NOMEM;
    r->tokens[r->n_tokens++] =
        (struct reply_token){.at = r->bytes.n, .n = bytes.n, .logprob = logprob, .offset = offset, .top = r->n_tops};
    str_add(&r->bytes, bytes.p, bytes.n);
    return str_status(&r->bytes, e);
}

int reply_add_top(rsd_reply *r, struct text bytes, double logprob, struct err *e) {
    if (mem_reserve(&r->ctx->alloc, (void *)&r->tops, &r->cap_tops, r->n_tops + 1, sizeof *r->tops, e))
        return ERR_NOMEM;
    r->tops[r->n_tops++] = (struct reply_top){.at = r->bytes.n, .n = bytes.n, .logprob = logprob};
    r->tokens[r->n_tokens - 1].tops++;
    str_add(&r->bytes, bytes.p, bytes.n);
    return str_status(&r->bytes, e);
}

int reply_logprob(const struct json *v, double *out, struct err *e) {
    *out = NAN;
    if (!v || json_type(v) == JSON_NULL)
        return 0;
    if (json_type(v) != JSON_NUMBER)
        return err_set(e, ERR_FORMAT, "a log-probability is a number or null, not %s", json_type_name(json_type(v)));
    double x = json_number(v);
    if (!isfinite(x) || x > 1e-6)
        return err_set(e, ERR_FORMAT, "a log-probability is at most 0, this one is not");
    *out = x > 0 ? 0.0 : x;
    return 0;
}

int reply_need_logprobs(const rsd_reply *r, bool tops, struct err *e) {
    if (r->post_sampling)
        return err_set(
            e, RSD_ENOLOGPROBS,
            "the server sends probabilities after sampling (\"prob\", \"top_probs\"): switch its post_sampling_probs off");
    if (!r->logprobs_given || (r->n_tokens == 0 && r->text.n > 0))
        return err_set(e, RSD_ENOLOGPROBS,
                       "the reply has no token log-probabilities: ask for logprobs, or use an endpoint that gives them");
    size_t known = 0, alternatives = 0;
    for (size_t i = 0; i < r->n_tokens; i++) {
        known += r->tokens[i].logprob > LOGPROB_SENTINEL;
        alternatives += r->tokens[i].tops;
    }
    for (size_t i = 0; i < r->n_tops; i++)
        known += r->tops[i].logprob > LOGPROB_SENTINEL;
    if (r->n_tokens > 0 && known == 0)
        return err_set(e, RSD_ENOLOGPROBS,
                       "the reply has tokens, but every log-probability is null or a stand-in for minus infinity");
    if (tops && r->n_tokens > 0 && alternatives == 0)
        return err_set(e, RSD_ENOLOGPROBS, "the reply has log-probabilities of its own tokens only, none of alternatives");
    return 0;
}

/* ---- the public side ---- */

int rsd_reply_parse(rsd_ctx *ctx, const char *json, size_t len, size_t choice, int need_logprobs, rsd_reply **out) {
    struct err e = {0};
    struct json *doc = NULL;
    rsd_reply *r = NULL;
    int rc = RSD_EINVAL;
    if (!ctx)
        return RSD_EINVAL;
    if (!out || (!json && len > 0)) {
        ctx_fail(ctx, RSD_EINVAL, "rsd_reply_parse: out and json must not be NULL");
        return RSD_EINVAL;
    }
    *out = NULL;
    if ((rc = json_parse(json, len, &doc, &e)))
        goto done;
    if ((rc = reply_from_line(ctx, doc, choice, &r, &e)) != 0)
        goto done;
    if (need_logprobs && (rc = reply_need_logprobs(r, false, &e)))
        goto done;
    *out = r;
    r = NULL;
done:
    json_free(doc);
    rsd_reply_close(r);
    return ctx_return(ctx, rc, &e);
}

static const char *borrow(const struct str *s, size_t *len) {
    if (len)
        *len = s ? s->n : 0;
    return s ? str_z(s) : "";
}

const char *rsd_reply_id(const rsd_reply *r, size_t *len) {
    return borrow(r ? &r->id : NULL, len);
}

const char *rsd_reply_question(const rsd_reply *r, size_t *len) {
    return borrow(r ? &r->question : NULL, len);
}

const char *rsd_reply_text(const rsd_reply *r, size_t *len) {
    return borrow(r ? &r->text : NULL, len);
}

const char *rsd_reply_model(const rsd_reply *r, size_t *len) {
    return borrow(r ? &r->model : NULL, len);
}

const char *rsd_reply_finish(const rsd_reply *r, size_t *len) {
    return borrow(r ? &r->finish : NULL, len);
}

int64_t rsd_reply_sample(const rsd_reply *r) {
    return r ? r->sample : 0;
}

int rsd_reply_correct(const rsd_reply *r) {
    return r ? r->correct : -1;
}

size_t rsd_reply_tokens(const rsd_reply *r) {
    return r ? r->n_tokens : 0;
}

static double probability_or_nan(double logprob) {
    return logprob <= LOGPROB_SENTINEL ? (double)NAN : logprob;
}

static int hand_out(const rsd_reply *r, size_t at, size_t n, double logprob, const char **bytes, size_t *len, double *out) {
    if (bytes)
        *bytes = str_z(&r->bytes) + at;
    if (len)
        *len = n;
    if (out)
        *out = probability_or_nan(logprob);
    return RSD_OK;
}

int rsd_reply_token(const rsd_reply *r, size_t i, const char **bytes, size_t *len, double *logprob) {
    if (!r)
        return RSD_EINVAL;
    if (i >= r->n_tokens)
        return ctx_fail(r->ctx, RSD_EINVAL, "rsd_reply_token: token %zu of %zu", i, r->n_tokens);
    const struct reply_token *t = &r->tokens[i];
    return hand_out(r, t->at, t->n, t->logprob, bytes, len, logprob);
}

size_t rsd_reply_tops(const rsd_reply *r, size_t i) {
    return r && i < r->n_tokens ? r->tokens[i].tops : 0;
}

int rsd_reply_top(const rsd_reply *r, size_t i, size_t j, const char **bytes, size_t *len, double *logprob) {
    if (!r)
        return RSD_EINVAL;
    if (i >= r->n_tokens || j >= r->tokens[i].tops)
        return ctx_fail(r->ctx, RSD_EINVAL, "rsd_reply_top: alternative %zu at token %zu: there are %zu", j, i,
                        rsd_reply_tops(r, i));
    const struct reply_top *t = &r->tops[r->tokens[i].top + j];
    return hand_out(r, t->at, t->n, t->logprob, bytes, len, logprob);
}

int rsd_reply_json(rsd_reply *r, const char **json, size_t *len) {
    struct err e = {0};
    if (!r)
        return RSD_EINVAL;
    str_clear(&r->line);
    if (reply_write(r, &r->line, &e))
        return ctx_return(r->ctx, e.code, &e);
    if (json)
        *json = str_z(&r->line);
    if (len)
        *len = r->line.n;
    return RSD_OK;
}
