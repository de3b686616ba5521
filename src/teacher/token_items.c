/* Token items of chat replies (and of llama.cpp's completions). "bytes" tells what a token is where the string cannot: half a
 * character. Some servers have no bytes, some re-encode the string (half characters are U+FFFD then, which reply_settle
 * mends), some print escapes into the string. llama.cpp can send what is left after its samplers as "prob" and "top_probs"
 * instead: probabilities, but not the model's, so they are noted and not taken. Shapes: openai-python, types/chat; vLLM,
 * entrypoints/openai; llama.cpp, tools/server. */
#define _GNU_SOURCE /* memmem */
#include "teacher/token_items.h"

#include "base/ctx.h"
#include "teacher/bytes.h"

#include <math.h>
#include <string.h>

static int read_bytes(const struct json *list, struct str *out, struct err *e) {
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        int64_t byte;
        if (json_type(v) != JSON_NUMBER || !json_exact(v, &byte) || byte < 0 || byte > 255)
            return err_set(e, ERR_FORMAT, "\"bytes\": whole numbers from 0 to 255 expected");
        str_addc(out, (char)(unsigned char)byte);
    }
    return 0;
}

/* What token an item is. */
static int read_token(const rsd_reply *r, const struct json *item, struct str *out, struct err *e) {
    const struct json *bytes = json_get(item, "bytes");
    struct text token;
    int rc;
    if (json_type(item) != JSON_OBJECT)
        return err_set(e, ERR_FORMAT, "an object with \"token\" and \"logprob\" expected, %s found",
                       json_type_name(json_type(item)));
    if ((rc = json_need_text(item, "token", &token, e)))
        return rc;
    str_clear(out);
    if (bytes && json_type(bytes) != JSON_NULL) {
        if ((rc = json_need_type(item, "bytes", JSON_ARRAY, &bytes, e)) || (rc = read_bytes(bytes, out, e)))
            return rc;
        if (out->n > 0 || token.n == 0)
            return str_status(out, e);
    }
    if (token.n == 0 || memmem(str_z(&r->text), r->text.n, token.p, token.n))
        str_add(out, token.p, token.n);
    else
        token_from_escapes(token, out);
    return str_status(out, e);
}

/* The log-probability of an item; one that says "prob" has none of the model's own. */
static int read_value(rsd_reply *r, const struct json *item, double *out, struct err *e) {
    if (!json_get(item, "logprob") && json_get(item, "prob")) {
        double p = 0;
        int rc = json_opt_number(item, "prob", 0, 1.001, &p, e);
        r->post_sampling = true;
        *out = NAN;
        return rc;
    }
    return reply_logprob(json_get(item, "logprob"), out, e);
}

static int read_tops(rsd_reply *r, const struct json *item, struct str *scratch, struct err *e) {
    const struct json *tops = json_get(item, "top_logprobs");
    int rc;
    if (!tops || json_type(tops) == JSON_NULL)
        return 0;
    if ((rc = json_need_type(item, "top_logprobs", JSON_ARRAY, &tops, e)))
        return rc;
    size_t j = 0;
    for (const struct json *top = json_first(tops); top; top = json_next(top), j++) {
        double x;
        if ((rc = read_token(r, top, scratch, e)) || (rc = reply_logprob(json_get(top, "logprob"), &x, e)) ||
            (rc = reply_add_top(r, (struct text){str_z(scratch), scratch->n}, x, e))) {
            err_within(e, "top_logprobs[%zu]", j);
            return rc;
        }
    }
    return 0;
}

int token_items_read(rsd_reply *r, const struct json *list, struct err *e) {
    struct str scratch;
    size_t i = 0;
    int rc = 0;
    str_init(&scratch, &r->ctx->alloc);
    r->logprobs_given = true;
    for (const struct json *item = json_first(list); item && !rc; item = json_next(item), i++) {
        double x;
        if ((rc = read_token(r, item, &scratch, e)) || (rc = read_value(r, item, &x, e)) ||
            (rc = reply_add_token(r, (struct text){str_z(&scratch), scratch.n}, x, -1, e)) ||
            (rc = read_tops(r, item, &scratch, e)))
            err_within(e, "token %zu", i);
    }
    str_free(&scratch);
    return rc;
}
