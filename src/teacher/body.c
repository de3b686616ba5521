/* Response bodies in an OpenAI shape: {"id","model","choices":[..],"usage"}. What differs between endpoints lies in the
 * dialects. */
#include "teacher/body.h"

#include "base/ctx.h"
#include "teacher/dialect.h"

#include <string.h>

bool body_is_store_line(const struct json *doc) {
    return json_type(doc) == JSON_OBJECT && json_get(doc, "sample") && !json_get(doc, "choices");
}

bool body_error(const struct json *doc, struct str *message, struct text *type, struct text *code) {
    const struct json *error = json_get(doc, "error");
    *type = *code = (struct text){0};
    if (!error)
        return false;
    struct text text = {0};
    if (json_type(error) == JSON_TEXT) {
        text = json_text(error);
    } else if (json_type(error) == JSON_OBJECT) {
        const struct json *parts[] = {json_get(error, "message"), json_get(error, "type"), json_get(error, "code")};
        struct text *out[] = {&text, type, code};
        for (size_t i = 0; i < 3; i++)
            if (parts[i] && json_type(parts[i]) == JSON_TEXT)
                *out[i] = json_text(parts[i]);
    } else {
        return false;
    }
    struct text what = code->n > 0 ? *code : *type;
    if (what.n > 0) {
        str_add(message, what.p, what.n);
        str_addz(message, ": ");
    }
    str_add(message, text.p, text.n);
    return true;
}

int body_choices(const struct json *doc, const struct json **first, struct err *e) {
    const struct json *choices = NULL;
    *first = NULL;
    if (json_type(doc) != JSON_OBJECT)
        return err_set(e, ERR_FORMAT, "a reply is a JSON object, this is %s", json_type_name(json_type(doc)));
    if (!json_get(doc, "choices") && json_get(doc, "error")) {
        struct str message;
        struct text type, code;
        str_init(&message, &mem_std);
        body_error(doc, &message, &type, &code);
        err_set(e, RSD_EREFUSED, "the endpoint answered with an error: %.200s", str_z(&message));
        str_free(&message);
        return RSD_EREFUSED;
    }
    int rc = json_need_type(doc, "choices", JSON_ARRAY, &choices, e);
    if (!rc)
        *first = json_first(choices);
    return rc;
}

static int read_usage(rsd_reply *r, const struct json *doc, struct err *e) {
    const struct json *usage = json_get(doc, "usage");
    int rc;
    if (!usage || json_type(usage) != JSON_OBJECT)
        return 0;
    if ((rc = json_opt_int(usage, "prompt_tokens", 0, INT64_C(1) << 50, &r->prompt_tokens, e)) ||
        (rc = json_opt_int(usage, "completion_tokens", 0, INT64_C(1) << 50, &r->completion_tokens, e)))
        err_within(e, "usage");
    return rc;
}

void body_usage(const struct json *doc, int64_t *prompt, int64_t *completion) {
    const struct json *usage = json_get(doc, "usage");
    if (!usage || json_type(usage) != JSON_OBJECT)
        return;
    json_opt_int(usage, "prompt_tokens", 0, INT64_C(1) << 50, prompt, NULL);
    json_opt_int(usage, "completion_tokens", 0, INT64_C(1) << 50, completion, NULL);
}

static int read_top_level(rsd_reply *r, const struct json *doc, struct err *e) {
    struct text id = {0}, question = {0}, model = {0}, sha = {0}, student = {0};
    int rc;
    if ((rc = json_opt_text(doc, "id", &id, e)) || (rc = json_opt_text(doc, "question", &question, e)) ||
        (rc = json_opt_text(doc, "model", &model, e)) || (rc = json_opt_text(doc, "request_sha256", &sha, e)) ||
        (rc = json_opt_text(doc, "student_text", &student, e)) || (rc = reply_set(&r->student_text, student, e)) ||
        (rc = reply_set(&r->id, id, e)) || (rc = reply_set(&r->question, question, e)))
        return rc;
    r->has_student_text = student.p != NULL;
    if (sha.n == 64)
        memcpy(r->request_sha256, sha.p, sha.n);
    return reply_set(&r->model, model, e);
}

int body_reply(rsd_ctx *ctx, const struct json *doc, const struct json *choice, size_t place, int64_t prompt_points,
               rsd_reply **out, struct err *e) {
    rsd_reply *r = NULL;
    int rc;
    *out = NULL;
    const struct dialect *d = dialect_of(choice);
    if (!d)
        return err_set(
            e, ERR_FORMAT,
            "a member of \"choices\" with a \"text\" (completions) or a \"message\" (chat) expected, %s of another shape found",
            json_type_name(json_type(choice)));
    if ((rc = reply_new(ctx, &r, e)) || (rc = read_top_level(r, doc, e)) || (rc = d->read(r, choice, e)) ||
        (rc = reply_settle(r, prompt_points, e)) || (place == 0 && (rc = read_usage(r, doc, e))))
        goto done;
    *out = r;
    r = NULL;
done:
    rsd_reply_close(r);
    return rc;
}

int reply_from_line(rsd_ctx *ctx, const struct json *doc, size_t choice, rsd_reply **out, struct err *e) {
    const struct json *c = NULL;
    struct text needed;
    int rc;
    *out = NULL;
    if (body_is_store_line(doc))
        return choice > 0 ? RSD_END : reply_read(ctx, doc, out, e);
    if ((rc = body_choices(doc, &c, e)) || (rc = json_need_text(doc, "id", &needed, e)) ||
        (rc = json_need_text(doc, "question", &needed, e)))
        return rc;
    for (size_t i = 0; c && i < choice; i++)
        c = json_next(c);
    if (!c)
        return RSD_END;
    if ((rc = body_reply(ctx, doc, c, choice, PROMPT_UNKNOWN, out, e))) {
        err_within(e, "choices[%zu]", choice);
        return rc;
    }
    (*out)->sample = (int64_t)choice;
    return 0;
}
