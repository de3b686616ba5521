/* Request bodies. Keys stand in a fixed order and numbers in their shortest form, so equal settings give equal bytes, and the
 * hash over them names what was asked. */
#include "teacher/request.h"

#include "core/hash.h"
#include "teacher/dialect.h"
#include "text/prompt.h"

#include <string.h>

static const char default_template[] = "Question: {question}\nLet's think step by step\n";

static int check_stop(const struct json *stop, struct err *e) {
    if (!stop || json_type(stop) == JSON_TEXT)
        return 0;
    size_t n = 0;
    for (const struct json *v = json_type(stop) == JSON_ARRAY ? json_first(stop) : NULL; v; v = json_next(v), n++)
        if (json_type(v) != JSON_TEXT)
            return err_set(e, ERR_INVALID, "stop: strings expected, number %zu is %s", n, json_type_name(json_type(v)));
    return n > 0 ? 0 : err_set(e, ERR_INVALID, "stop: a JSON string or a list of strings expected");
}

int request_check(const struct ask *ask, struct err *e) {
    static const char *const ours[] = {"n", "stream", "prompt", "messages", "seed"};
    if (ask->template_ && !strstr(ask->template_, "{question}"))
        return err_set(e, ERR_INVALID, "question_template: it must hold {question}");
    if (ask->extra && json_type(ask->extra) != JSON_OBJECT)
        return err_set(e, ERR_INVALID, "extra: a JSON object expected, not %s", json_type_name(json_type(ask->extra)));
    for (size_t i = 0; ask->extra && i < sizeof ours / sizeof *ours; i++)
        if (json_get(ask->extra, ours[i]))
            return err_set(e, ERR_INVALID, "extra: \"%s\" is set by the client itself", ours[i]);
    return check_stop(ask->stop, e);
}

bool request_key(struct json_out *o, const struct ask *ask, const char *key) {
    if (ask->extra && json_get(ask->extra, key))
        return false;
    json_put_key(o, key);
    return true;
}

/* A key as it came: json_put_key wants one that ends with a NUL and holds none, which parsed keys do unless somebody means
 * harm. */
static void put_extra(struct json_out *o, const struct ask *ask) {
    for (const struct json *v = ask->extra ? json_first(ask->extra) : NULL; v; v = json_next(v)) {
        struct text key = json_key(v);
        if (json_type(v) == JSON_NULL || memchr(key.p, 0, key.n))
            continue;
        json_put_key(o, key.p);
        json_put_value(o, v);
    }
}

int request_prompt(const struct ask *ask, struct text question, struct str *out, struct err *e) {
    const char *t = ask->template_ ? ask->template_ : default_template;
    str_add(out, ask->prefix.p, ask->prefix.n);
    if (!ask->template_ && ask->prefix.n > 0)
        while (!out->failed && (out->n < 2 || memcmp(out->p + out->n - 2, "\n\n", 2) != 0))
            str_addc(out, '\n');
    return prompt_fill(out, text_of(t), question, e);
}

size_t request_prompt_size(const struct ask *ask, size_t question) {
    static const char hole[] = "{question}";
    const char *t = ask->template_ ? ask->template_ : default_template;
    size_t n = ask->system.n + ask->prefix.n + 2 /* newlines between */ + strlen(t);
    while ((t = strstr(t, hole))) {
        n += question;
        t += sizeof hole - 1;
    }
    return n;
}

int request_most(const struct ask *ask, double *each, size_t *drawn, struct err *e) {
    static const char *const limits[] = {"max_tokens", "max_completion_tokens", "n_predict"};
    int64_t best = 0;
    int rc = 0;
    *each = ask->extra && json_get(ask->extra, limits[0]) ? -1 : ask->max_tokens;
    for (size_t i = 0; ask->extra && !rc && i < sizeof limits / sizeof *limits; i++) {
        double most = -1;
        rc = json_opt_number(ask->extra, limits[i], 0, 1e12, &most, e);
        *each = most > *each ? most : *each;
    }
    if (ask->extra && !rc)
        rc = json_opt_int(ask->extra, "best_of", 0, 1 << 20, &best, e);
    *drawn = (size_t)best;
    if (rc)
        return err_within(e, "extra");
    return *each >= 0 ? 0 : err_set(e, ERR_INVALID, "extra: takes max_tokens away and sets no limit in its place");
}

static int put_body(const struct ask *ask, const struct dialect *d, struct text prompt, uint64_t seed, size_t n, struct str *out,
                    struct err *e) {
    struct json_out o;
    json_begin(&o, out, 0);
    json_object(&o);
    if (ask->model && request_key(&o, ask, "model"))
        json_put_z(&o, ask->model);
    d->put_request(&o, ask, prompt);
    if (request_key(&o, ask, "temperature"))
        json_put_double(&o, ask->temperature);
    if (ask->top_p < 1 && request_key(&o, ask, "top_p"))
        json_put_double(&o, ask->top_p);
    if (request_key(&o, ask, "max_tokens"))
        json_put_int(&o, ask->max_tokens);
    if (ask->stop && request_key(&o, ask, "stop"))
        json_put_value(&o, ask->stop);
    put_extra(&o, ask);
    if (ask->seed) {
        json_put_key(&o, "seed");
        json_put_int(&o, (int64_t)(seed & INT64_MAX));
    }
    if (n > 0) {
        json_put_key(&o, "n");
        json_put_int(&o, (int64_t)n);
    }
    json_end_object(&o);
    return str_status(out, e);
}

int request_body(const struct ask *ask, const struct dialect *d, struct text prompt, int64_t first, size_t n, struct str *out,
                 struct err *e) {
    return put_body(ask, d, prompt, ask->seed + (uint64_t)first, n, out, e);
}

int request_hash(const struct ask *ask, const struct dialect *d, struct text prompt, const struct allocator *a, char out[65],
                 struct err *e) {
    struct str body;
    struct sha256 s;
    unsigned char digest[32];
    str_init(&body, a);
    int rc = put_body(ask, d, prompt, ask->seed, 0, &body, e);
    if (!rc) {
        sha256_begin(&s);
        sha256_add(&s, body.p, body.n);
        sha256_end(&s, digest);
        sha256_hex(digest, out);
    }
    str_free(&body);
    return rc;
}
