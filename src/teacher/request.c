/* Request bodies. Keys stand in a fixed order and numbers in their shortest form, so equal settings give equal bytes, and the hash over them names what was asked. */
#include "teacher/request.h"

#include "core/hash.h"
#include "teacher/dialect.h"
#include "text/prompt.h"

#include <string.h>

static const char default_template[] = "Question: {question}\nLet's think step by step\n";

int request_check(const struct ask *ask, struct err *e) {
    if (ask->template_ && !strstr(ask->template_, "{question}"))
        return err_set(e, ERR_INVALID, "question_template: it must hold {question}");
    return 0;
}

int request_prompt(const struct ask *ask, struct text question, struct str *out, struct err *e) {
    const char *t = ask->template_ ? ask->template_ : default_template;
    str_add(out, ask->prefix.p, ask->prefix.n);
    if (!ask->template_ && ask->prefix.n > 0)
        while (!out->failed && (out->n < 2 || memcmp(out->p + out->n - 2, "\n\n", 2) != 0))
            str_addc(out, '\n');
    return prompt_fill(out, text_of(t), question, e);
}

static int put_body(const struct ask *ask, const struct dialect *d, struct text prompt, uint64_t seed, size_t n, struct str *out,
                    struct err *e) {
    struct json_out o;
    json_begin(&o, out, 0);
    json_object(&o);
    if (ask->model) {
        json_put_key(&o, "model");
        json_put_z(&o, ask->model);
    }
    d->put_request(&o, ask, prompt);
    json_put_key(&o, "temperature");
    json_put_double(&o, ask->temperature);
    json_put_key(&o, "max_tokens");
    json_put_int(&o, ask->max_tokens);
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
