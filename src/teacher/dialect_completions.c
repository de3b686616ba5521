/* The legacy completions dialect: "logprobs": {"tokens": [..], "token_logprobs": [..], "top_logprobs": [{token: x, ..}, ..],
 * "text_offset": [..]}. Every list may be null or missing, entries may be null (the first one is, where a prompt is scored), a
 * dictionary may hold k+1 entries (the sampled token when it is not among the k). llama.cpp answers with "content", a list of
 * items, here too. Shapes: openai-python, types/completion_choice.py. */
#include "base/ctx.h"
#include "teacher/bytes.h"
#include "teacher/dialect.h"
#include "teacher/request.h"
#include "teacher/token_items.h"

#include <string.h>

static void put_request(struct json_out *o, const struct ask *ask, struct text prompt) {
    json_put_key(o, "prompt");
    json_put_text(o, prompt);
    if (ask->top_logprobs >= 0 && request_key(o, ask, "logprobs"))
        json_put_int(o, ask->top_logprobs);
}

static bool knows(const struct json *choice) {
    const struct json *text = json_get(choice, "text");
    return text && json_type(text) == JSON_TEXT;
}

/* A list of the logprobs object, or NULL where it is null or missing. */
static int list(const struct json *logprobs, const char *key, const struct json **out, struct err *e) {
    *out = json_get(logprobs, key);
    if (*out && json_type(*out) == JSON_NULL)
        *out = NULL;
    return *out ? json_need_type(logprobs, key, JSON_ARRAY, out, e) : 0;
}

static int read_tops(rsd_reply *r, const struct json *tops, struct str *scratch, struct err *e) {
    if (json_type(tops) == JSON_NULL)
        return 0;
    if (json_type(tops) != JSON_OBJECT)
        return err_set(e, ERR_FORMAT, "an object of token: log-probability expected, %s found", json_type_name(json_type(tops)));
    for (const struct json *top = json_first(tops); top; top = json_next(top)) {
        double x;
        int rc;
        str_clear(scratch);
        token_from_api(json_key(top), scratch);
        if ((rc = str_status(scratch, e)) || (rc = reply_logprob(top, &x, e)) ||
            (rc = reply_add_top(r, (struct text){str_z(scratch), scratch->n}, x, e)))
            return rc;
    }
    return 0;
}

static int read_offset(const struct json *v, int64_t *out, struct err *e) {
    *out = -1;
    if (!v || json_type(v) == JSON_NULL)
        return 0;
    double x = json_type(v) == JSON_NUMBER ? json_number(v) : -1;
    if (!(x >= 0 && x < 9e15) || x != (double)(int64_t)x)
        return err_set(e, ERR_FORMAT, "text_offset: a whole number of characters expected");
    *out = (int64_t)x;
    return 0;
}

static int read_logprobs(rsd_reply *r, const struct json *logprobs, struct str *scratch, struct err *e) {
    const struct json *tokens, *own, *tops, *offsets;
    int rc;
    if ((rc = list(logprobs, "tokens", &tokens, e)) || (rc = list(logprobs, "token_logprobs", &own, e)) ||
        (rc = list(logprobs, "top_logprobs", &tops, e)) || (rc = list(logprobs, "text_offset", &offsets, e)))
        return rc;
    if (!tokens)
        return 0;
    r->logprobs_given = own != NULL;
    const struct json *x = own ? json_first(own) : NULL, *top = tops ? json_first(tops) : NULL,
                      *at = offsets ? json_first(offsets) : NULL;
    size_t i = 0;
    for (const struct json *t = json_first(tokens); t; t = json_next(t), i++) {
        double logprob;
        int64_t offset;
        if ((own && !x) || (tops && !top) || (offsets && !at))
            return err_set(e, ERR_FORMAT, "\"%s\" is shorter than \"tokens\": it ends before token %zu",
                           own && !x      ? "token_logprobs"
                           : tops && !top ? "top_logprobs"
                                          : "text_offset",
                           i);
        if (json_type(t) != JSON_TEXT)
            return err_set(e, ERR_FORMAT, "\"tokens\": token %zu: a string expected, %s found", i, json_type_name(json_type(t)));
        str_clear(scratch);
        token_from_api(json_text(t), scratch);
        if ((rc = str_status(scratch, e)) || (rc = reply_logprob(x, &logprob, e)) || (rc = read_offset(at, &offset, e)) ||
            (rc = reply_add_token(r, (struct text){str_z(scratch), scratch->n}, logprob, offset, e)) ||
            (top && (rc = read_tops(r, top, scratch, e)))) {
            err_within(e, "token %zu", i);
            return rc;
        }
        x = x ? json_next(x) : NULL;
        top = top ? json_next(top) : NULL;
        at = at ? json_next(at) : NULL;
    }
    if (x || top || at)
        return err_set(e, ERR_FORMAT, "\"%s\" is longer than \"tokens\" (%zu)",
                       x     ? "token_logprobs"
                       : top ? "top_logprobs"
                             : "text_offset",
                       i);
    return 0;
}

static int read_choice(rsd_reply *r, const struct json *choice, struct err *e) {
    struct text text, finish = {0};
    const struct json *logprobs = json_get(choice, "logprobs");
    struct str scratch;
    int rc;
    str_init(&scratch, &r->ctx->alloc);
    if ((rc = json_need_text(choice, "text", &text, e)) || (rc = json_opt_text(choice, "finish_reason", &finish, e)) ||
        (rc = reply_set(&r->text, text, e)) || (rc = reply_set(&r->finish, finish, e)))
        goto done;
    r->has_finish = finish.p != NULL;
    if (!logprobs || json_type(logprobs) == JSON_NULL)
        goto done;
    if ((rc = json_need_type(choice, "logprobs", JSON_OBJECT, &logprobs, e)))
        goto done;
    const struct json *content = json_get(logprobs, "content");
    if (content && json_type(content) != JSON_NULL)
        rc = json_need_type(logprobs, "content", JSON_ARRAY, &content, e) ? ERR_FORMAT : token_items_read(r, content, e);
    else
        rc = read_logprobs(r, logprobs, &scratch, e);
    if (rc)
        err_within(e, "logprobs");
done:
    str_free(&scratch);
    return rc;
}

const struct dialect dialect_completions = {
    .name = "completions", .path = "/completions", .put_request = put_request, .knows = knows, .read = read_choice};
