/* The chat dialect: a system message, one message of the user; answers in "message", log-probabilities as items in
 * "logprobs"."content". A model that declines says so in "refusal", with items of its own; that is its answer then. Shapes:
 * openai-python, types/chat/chat_completion.py. */
#include "base/ctx.h"
#include "teacher/dialect.h"
#include "teacher/request.h"
#include "teacher/token_items.h"

static void put_message(struct json_out *o, const char *role, struct text content) {
    json_object(o);
    json_put_key(o, "role");
    json_put_z(o, role);
    json_put_key(o, "content");
    json_put_text(o, content);
    json_end_object(o);
}

static void put_request(struct json_out *o, const struct ask *ask, struct text prompt) {
    json_put_key(o, "messages");
    json_array(o);
    if (ask->system.n > 0)
        put_message(o, "system", ask->system);
    put_message(o, "user", prompt);
    json_end_array(o);
    if (ask->top_logprobs < 0)
        return;
    if (request_key(o, ask, "logprobs"))
        json_put_bool(o, true);
    if (ask->top_logprobs > 0 && request_key(o, ask, "top_logprobs"))
        json_put_int(o, ask->top_logprobs);
}

static bool knows(const struct json *choice) {
    const struct json *message = json_get(choice, "message");
    return message && json_type(message) == JSON_OBJECT;
}

static int read_choice(rsd_reply *r, const struct json *choice, struct err *e) {
    const struct json *message = json_get(choice, "message"), *logprobs = json_get(choice, "logprobs"), *list = NULL;
    struct text content = {0}, refusal = {0}, finish = {0};
    int rc;
    if ((rc = json_opt_text(message, "content", &content, e)) || (rc = json_opt_text(message, "refusal", &refusal, e))) {
        err_within(e, "message");
        return rc;
    }
    bool declined = !content.p && refusal.p;
    if ((rc = json_opt_text(choice, "finish_reason", &finish, e)) || (rc = reply_set(&r->finish, finish, e)) ||
        (rc = reply_set(&r->text, declined ? refusal : content, e)))
        return rc;
    r->has_finish = finish.p != NULL;
    if (!logprobs || json_type(logprobs) == JSON_NULL)
        return 0;
    if ((rc = json_need_type(choice, "logprobs", JSON_OBJECT, &logprobs, e)))
        return rc;
    const char *key = declined ? "refusal" : "content";
    list = json_get(logprobs, key);
    if (!list || json_type(list) == JSON_NULL)
        return 0;
    if ((rc = json_need_type(logprobs, key, JSON_ARRAY, &list, e)) || (rc = token_items_read(r, list, e)))
        err_within(e, "logprobs");
    return rc;
}

const struct dialect dialect_chat = {
    .name = "chat", .path = "/chat/completions", .put_request = put_request, .knows = knows, .read = read_choice};
