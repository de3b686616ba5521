/* Token bytes: the two notations for what is not UTF-8. */
#ifndef TEACHER_BYTES_H
#define TEACHER_BYTES_H

#include "core/json.h"

size_t bytes_points(struct text t); /* code points; an invalid byte counts as one */

/* The API's notation for tokens that are no UTF-8: "bytes: \xc3" stands for the bytes 20 C3. Other strings are taken as they
 * are. Appended to `out`. */
void token_from_api(struct text s, struct str *out);

/* A token that is nothing but escapes, "\\xf0\\x9f" or behind "bytes:", and stands for bytes that are no UTF-8; else taken as
 * it is. For servers that print such tokens into chat replies. Appended to `out`. */
void token_from_escapes(struct text s, struct str *out);

/* The store's notation: a string, or {"hex":"20c3"}. */
void token_put(struct json_out *o, struct text t);
int token_read(const struct json *v, struct str *out, struct err *e); /* appended to `out` */

#endif
