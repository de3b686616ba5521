/* JSON: the door to cJSON for reading, and a streaming writer.
 *
 * cJSON alone reads numbers through the locale, cuts strings at \u0000, lets invalid UTF-8 and duplicate keys pass and allows a
 * depth of 1000. json_parse closes these: a scan before (UTF-8, depth 64, \u0000 carried as the overlong C0 80, which valid
 * UTF-8 cannot contain, and turned back afterwards), a per-thread C locale during, a check of keys after.
 * Errors give the byte offset. Values are borrowed from their document. */
#ifndef CORE_JSON_H
#define CORE_JSON_H

#include "core/str.h"

#include <stdint.h>

struct json; /* a value; really a cJSON */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_TEXT, JSON_ARRAY, JSON_OBJECT };

/* Parses exactly one value with optional blanks around it; *out is the caller's (json_free), NULL on failure. What is wrong in
 * the bytes is ERR_FORMAT with "byte N: expected ..., found ..."; a byte order mark is refused, half of a surrogate pair and
 * numbers beyond double precision, too. ERR_UNSUPPORTED beyond 2 GiB, ERR_NOMEM. Memory is cJSON's (malloc, or the host's cJSON
 * hooks). */
int json_parse(const char *p, size_t n, struct json **out, struct err *e);
/* Error names the path. */
int json_read_file(const char *path, size_t max, const struct allocator *a, struct json **out, struct err *e);
void json_free(struct json *doc);

enum json_type json_type(const struct json *v);
const char *json_type_name(enum json_type t);        /* "a string", "a number", ... for error texts */
size_t json_count(const struct json *v);             /* members of an array or object: walks */
const struct json *json_first(const struct json *v); /* first member, NULL if none: iterate with json_next */
const struct json *json_next(const struct json *v);
struct text json_key(const struct json *v);                           /* key of a member of an object */
const struct json *json_get(const struct json *obj, const char *key); /* NULL if absent or obj is no object */
struct text json_text(const struct json *v);                          /* of a JSON_TEXT; else empty */
double json_number(const struct json *v);                             /* of a JSON_NUMBER; else NaN */
bool json_exact(const struct json *v, int64_t *out); /* the number as an integer, if it is one of 64 bits; all digits count */
bool json_bool(const struct json *v);                /* of a JSON_BOOL; else false */

/* Members that must have a type and a range: 0 and *out, or ERR_FORMAT saying which key, what was expected and what was found.
 * The opt_ forms leave *out alone where the key is absent or null. */
int json_need_text(const struct json *obj, const char *key, struct text *out, struct err *e);
int json_need_int(const struct json *obj, const char *key, int64_t min, int64_t max, int64_t *out, struct err *e);
int json_need_number(const struct json *obj, const char *key, double min, double max, double *out, struct err *e);
int json_need_bool(const struct json *obj, const char *key, bool *out, struct err *e);
int json_need_type(const struct json *obj, const char *key, enum json_type t, const struct json **out, struct err *e);
int json_opt_text(const struct json *obj, const char *key, struct text *out, struct err *e);
int json_opt_int(const struct json *obj, const char *key, int64_t min, int64_t max, int64_t *out, struct err *e);
int json_opt_number(const struct json *obj, const char *key, double min, double max, double *out, struct err *e);
int json_opt_bool(const struct json *obj, const char *key, bool *out, struct err *e);

/* Writer: appends to a str, puts commas itself, escapes only what must be; bytes that are not UTF-8 are the caller's mistake and
 * become U+FFFD. Indented by `indent` blanks a level, or all on one line if 0. Failures show in str_status, deeper nesting than
 * 64 and an end without a beginning, too. */
struct json_out {
    struct str *s;
    unsigned indent, depth;
    uint64_t first; /* bit d: nothing written at depth d yet */
    bool after_key;
};
void json_begin(struct json_out *o, struct str *s, unsigned indent);
void json_object(struct json_out *o); /* { */
void json_array(struct json_out *o);  /* [ */
void json_end_object(struct json_out *o);
void json_end_array(struct json_out *o);
void json_put_key(struct json_out *o, const char *key);
void json_put_text(struct json_out *o, struct text t);
void json_put_z(struct json_out *o, const char *cstr); /* NULL writes null */
void json_put_int(struct json_out *o, int64_t v);
/* Shortest form that reads back the same bits; NaN and infinity become null. */
void json_put_double(struct json_out *o, double v);
void json_put_float(struct json_out *o, float v); /* the same for single precision */
void json_put_bool(struct json_out *o, bool v);
void json_put_null(struct json_out *o);
void json_put_value(struct json_out *o, const struct json *v); /* a parsed value, written again */

#endif
