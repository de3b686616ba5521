/* Members of an object that must have a type and a range. One sentence for every mistake: the key, what was expected, what is
 * there. */
#include "core/json_inner.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* 1: *out is the member; 0: it is absent (or null) and that is allowed; negative: error. */
static int member(const struct json *obj, const char *key, bool optional, const char *what, const struct json **out,
                  struct err *e) {
    if (!obj || json_type(obj) != JSON_OBJECT)
        return err_set(e, ERR_FORMAT, "expected an object with the key \"%s\", found %s", key,
                       obj ? json_type_name(json_type(obj)) : "nothing");
    *out = json_get(obj, key);
    if (optional && (!*out || json_type(*out) == JSON_NULL))
        return 0;
    if (!*out)
        return err_set(e, ERR_FORMAT, "key \"%s\" is missing: expected %s", key, what);
    return 1;
}

static int wrong(const struct json *v, const char *key, const char *what, struct err *e) {
    char found[32] = "a number";
    struct c_locale locale;
    if (json_type(v) != JSON_NUMBER)
        return err_set(e, ERR_FORMAT, "key \"%s\": expected %s, found %s", key, what, json_type_name(json_type(v)));
    if (c_locale_enter(&locale)) {
        json_format_double(found, json_number(v));
        c_locale_leave(&locale);
    }
    return err_set(e, ERR_FORMAT, "key \"%s\": expected %s, found %s", key, what, found);
}

static int get_text(const struct json *obj, const char *key, bool optional, struct text *out, struct err *e) {
    const struct json *v = NULL;
    int got = member(obj, key, optional, "a string", &v, e);
    if (got <= 0)
        return got;
    if (json_type(v) != JSON_TEXT)
        return wrong(v, key, "a string", e);
    *out = json_text(v);
    return ERR_NONE;
}

static int get_int(const struct json *obj, const char *key, bool optional, int64_t min, int64_t max, int64_t *out,
                   struct err *e) {
    char what[96];
    if (min == INT64_MIN && max == INT64_MAX)
        snprintf(what, sizeof what, "an integer");
    else if (max == INT64_MAX)
        snprintf(what, sizeof what, "an integer of at least %" PRId64, min);
    else
        snprintf(what, sizeof what, "an integer from %" PRId64 " to %" PRId64, min, max);
    const struct json *v = NULL;
    int got = member(obj, key, optional, what, &v, e);
    if (got <= 0)
        return got;
    int64_t x;
    if (!json_exact(v, &x) || x < min || x > max)
        return wrong(v, key, what, e);
    *out = x;
    return ERR_NONE;
}

static int get_number(const struct json *obj, const char *key, bool optional, double min, double max, double *out,
                      struct err *e) {
    char what[96] = "a number", low[32] = "", high[32] = "";
    struct c_locale locale;
    if (c_locale_enter(&locale)) {
        if (isfinite(min))
            json_format_double(low, min);
        if (isfinite(max))
            json_format_double(high, max);
        c_locale_leave(&locale);
        if (*low && *high)
            snprintf(what, sizeof what, "a number from %s to %s", low, high);
        else if (*low || *high)
            snprintf(what, sizeof what, "a number of at %s %s", *low ? "least" : "most", *low ? low : high);
    }
    const struct json *v = NULL;
    int got = member(obj, key, optional, what, &v, e);
    if (got <= 0)
        return got;
    double x = json_number(v);
    if (!(x >= min && x <= max))
        return wrong(v, key, what, e);
    *out = x;
    return ERR_NONE;
}

static int get_bool(const struct json *obj, const char *key, bool optional, bool *out, struct err *e) {
    const struct json *v = NULL;
    int got = member(obj, key, optional, json_type_name(JSON_BOOL), &v, e);
    if (got <= 0)
        return got;
    if (json_type(v) != JSON_BOOL)
        return wrong(v, key, json_type_name(JSON_BOOL), e);
    *out = json_bool(v);
    return ERR_NONE;
}

int json_need_text(const struct json *obj, const char *key, struct text *out, struct err *e) {
    return get_text(obj, key, false, out, e);
}

int json_need_int(const struct json *obj, const char *key, int64_t min, int64_t max, int64_t *out, struct err *e) {
    return get_int(obj, key, false, min, max, out, e);
}

int json_need_number(const struct json *obj, const char *key, double min, double max, double *out, struct err *e) {
    return get_number(obj, key, false, min, max, out, e);
}

int json_need_bool(const struct json *obj, const char *key, bool *out, struct err *e) {
    return get_bool(obj, key, false, out, e);
}

int json_need_type(const struct json *obj, const char *key, enum json_type t, const struct json **out, struct err *e) {
    const struct json *v = NULL;
    int got = member(obj, key, false, json_type_name(t), &v, e);
    if (got <= 0)
        return got;
    if (json_type(v) != t)
        return wrong(v, key, json_type_name(t), e);
    *out = v;
    return ERR_NONE;
}

int json_opt_text(const struct json *obj, const char *key, struct text *out, struct err *e) {
    return get_text(obj, key, true, out, e);
}

int json_opt_int(const struct json *obj, const char *key, int64_t min, int64_t max, int64_t *out, struct err *e) {
    return get_int(obj, key, true, min, max, out, e);
}

int json_opt_number(const struct json *obj, const char *key, double min, double max, double *out, struct err *e) {
    return get_number(obj, key, true, min, max, out, e);
}

int json_opt_bool(const struct json *obj, const char *key, bool *out, struct err *e) {
    return get_bool(obj, key, true, out, e);
}
