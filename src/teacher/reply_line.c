/* A reply as one line of a teacher store (DESIGN section 4), written and read. Numbers are printed so that they read back to
 * the same bits. */
#include "base/ctx.h"
#include "teacher/bytes.h"
#include "teacher/reply.h"

#include <math.h>
#include <string.h>

static void put_str(struct json_out *o, const char *key, const struct str *s) {
    json_put_key(o, key);
    json_put_text(o, (struct text){str_z(s), s->n});
}

static void put_usage(struct json_out *o, const rsd_reply *r) {
    json_put_key(o, "usage");
    if (r->prompt_tokens < 0 && r->completion_tokens < 0) {
        json_put_null(o);
        return;
    }
    json_object(o);
    if (r->prompt_tokens >= 0) {
        json_put_key(o, "prompt_tokens");
        json_put_int(o, r->prompt_tokens);
    }
    if (r->completion_tokens >= 0) {
        json_put_key(o, "completion_tokens");
        json_put_int(o, r->completion_tokens);
    }
    json_end_object(o);
}

static void put_tokens(struct json_out *o, const rsd_reply *r) {
    const char *bytes = str_z(&r->bytes);
    json_put_key(o, "tokens");
    if (!r->logprobs_given) {
        json_put_null(o);
        json_put_key(o, "logprobs");
        json_put_null(o);
        json_put_key(o, "top");
        json_put_null(o);
        return;
    }
    json_array(o);
    for (size_t i = 0; i < r->n_tokens; i++)
        token_put(o, (struct text){bytes + r->tokens[i].at, r->tokens[i].n});
    json_end_array(o);
    json_put_key(o, "logprobs");
    json_array(o);
    for (size_t i = 0; i < r->n_tokens; i++)
        json_put_double(o, r->tokens[i].logprob); /* NaN is written as null */
    json_end_array(o);
    json_put_key(o, "top");
    json_array(o);
    for (size_t i = 0; i < r->n_tokens; i++) {
        json_array(o);
        for (size_t j = 0; j < r->tokens[i].tops; j++) {
            const struct reply_top *t = &r->tops[r->tokens[i].top + j];
            json_array(o);
            token_put(o, (struct text){bytes + t->at, t->n});
            json_put_double(o, t->logprob);
            json_end_array(o);
        }
        json_end_array(o);
    }
    json_end_array(o);
}

int reply_write(const rsd_reply *r, struct str *out, struct err *e) {
    struct json_out o;
    json_begin(&o, out, 0);
    json_object(&o);
    put_str(&o, "id", &r->id);
    json_put_key(&o, "sample");
    json_put_int(&o, r->sample);
    json_put_key(&o, "request_sha256");
    json_put_z(&o, r->request_sha256[0] ? r->request_sha256 : NULL);
    put_str(&o, "model", &r->model);
    put_str(&o, "question", &r->question);
    put_str(&o, "text", &r->text);
    put_tokens(&o, r);
    if (r->has_finish) {
        put_str(&o, "finish", &r->finish);
    } else {
        json_put_key(&o, "finish");
        json_put_null(&o);
    }
    put_usage(&o, r);
    json_put_key(&o, "correct");
    if (r->correct < 0)
        json_put_null(&o);
    else
        json_put_bool(&o, r->correct != 0);
    json_end_object(&o);
    return str_status(out, e);
}

/* ---- reading ---- */

static int read_strings(rsd_reply *r, const struct json *line, struct err *e) {
    struct text id = {0}, question = {0}, text = {0}, model = {0}, finish = {0}, sha = {0}, student = {0};
    int rc;
    if ((rc = json_need_text(line, "id", &id, e)) || (rc = json_need_text(line, "question", &question, e)) ||
        (rc = json_need_text(line, "text", &text, e)) || (rc = json_opt_text(line, "model", &model, e)) ||
        (rc = json_opt_text(line, "finish", &finish, e)) || (rc = json_opt_text(line, "student_text", &student, e)) ||
        (rc = json_opt_text(line, "request_sha256", &sha, e)))
        return rc;
    r->has_finish = finish.p != NULL;
    r->has_student_text = student.p != NULL;
    if ((rc = reply_set(&r->student_text, student, e)))
        return rc;
    if (sha.n > 0 && sha.n != 64)
        return err_set(e, ERR_FORMAT, "\"request_sha256\": 64 hexadecimal digits expected, %zu characters found", sha.n);
    if (sha.n > 0)
        memcpy(r->request_sha256, sha.p, sha.n);
    if ((rc = reply_set(&r->id, id, e)) || (rc = reply_set(&r->question, question, e)) || (rc = reply_set(&r->text, text, e)) ||
        (rc = reply_set(&r->model, model, e)))
        return rc;
    return reply_set(&r->finish, finish, e);
}

static int read_correct(rsd_reply *r, const struct json *line, struct err *e) {
    const struct json *v = json_get(line, "correct");
    if (!v || json_type(v) == JSON_NULL)
        return 0;
    if (json_type(v) == JSON_BOOL) {
        r->correct = json_bool(v) ? 1 : 0;
        return 0;
    }
    int64_t n = 0;
    int rc = json_need_int(line, "correct", 0, 1, &n, e);
    r->correct = (int)n;
    return rc;
}

/* [[T, x], ...] of one token */
static int read_tops(rsd_reply *r, const struct json *list, struct str *scratch, struct err *e) {
    if (json_type(list) == JSON_NULL)
        return 0;
    if (json_type(list) != JSON_ARRAY)
        return err_set(e, ERR_FORMAT, "a list of [token, log-probability] expected, %s found", json_type_name(json_type(list)));
    for (const struct json *pair = json_first(list); pair; pair = json_next(pair)) {
        const struct json *token = json_type(pair) == JSON_ARRAY ? json_first(pair) : NULL;
        const struct json *x = token ? json_next(token) : NULL;
        double logprob;
        int rc;
        if (!x || json_next(x))
            return err_set(e, ERR_FORMAT, "[token, log-probability] expected");
        str_clear(scratch);
        if ((rc = token_read(token, scratch, e)) || (rc = reply_logprob(x, &logprob, e)) ||
            (rc = reply_add_top(r, (struct text){str_z(scratch), scratch->n}, logprob, e)))
            return rc;
    }
    return 0;
}

static int read_tokens(rsd_reply *r, const struct json *line, struct str *scratch, struct err *e) {
    const struct json *tokens = json_get(line, "tokens"), *logprobs = NULL, *top = NULL;
    int rc;
    if (!tokens || json_type(tokens) == JSON_NULL)
        return 0;
    if ((rc = json_need_type(line, "tokens", JSON_ARRAY, &tokens, e)) ||
        (rc = json_need_type(line, "logprobs", JSON_ARRAY, &logprobs, e)) ||
        (rc = json_need_type(line, "top", JSON_ARRAY, &top, e)))
        return rc;
    r->logprobs_given = true;
    const struct json *t = json_first(tokens), *x = json_first(logprobs), *alternatives = json_first(top);
    for (size_t i = 0; t && x && alternatives; i++, t = json_next(t), x = json_next(x), alternatives = json_next(alternatives)) {
        double logprob;
        str_clear(scratch);
        if ((rc = token_read(t, scratch, e)) || (rc = reply_logprob(x, &logprob, e)) ||
            (rc = reply_add_token(r, (struct text){str_z(scratch), scratch->n}, logprob, -1, e)) ||
            (rc = read_tops(r, alternatives, scratch, e))) {
            err_within(e, "token %zu", i);
            return rc;
        }
    }
    if (t || x || alternatives)
        return err_set(e, ERR_FORMAT, "\"tokens\", \"logprobs\" and \"top\" must have the same length (%zu, %zu, %zu)",
                       json_count(tokens), json_count(logprobs), json_count(top));
    return 0;
}

int reply_read(rsd_ctx *ctx, const struct json *line, rsd_reply **out, struct err *e) {
    struct str scratch;
    rsd_reply *r = NULL;
    const struct json *usage = json_get(line, "usage");
    int rc;
    *out = NULL;
    str_init(&scratch, &ctx->alloc);
    if ((rc = reply_new(ctx, &r, e)) || (rc = read_strings(r, line, e)) ||
        (rc = json_need_int(line, "sample", 0, INT64_C(1) << 40, &r->sample, e)) || (rc = read_correct(r, line, e)) ||
        (rc = read_tokens(r, line, &scratch, e)) || (rc = reply_settle(r, PROMPT_NONE, e)))
        goto done;
    if (usage && json_type(usage) == JSON_OBJECT &&
        ((rc = json_opt_int(usage, "prompt_tokens", 0, INT64_MAX / 2, &r->prompt_tokens, e)) ||
         (rc = json_opt_int(usage, "completion_tokens", 0, INT64_MAX / 2, &r->completion_tokens, e))))
        goto done;
    *out = r;
    r = NULL;
done:
    str_free(&scratch);
    rsd_reply_close(r);
    return rc;
}
