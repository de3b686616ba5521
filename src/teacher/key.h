/* The API key: read once, sent in one header, printed nowhere; and what else of the user's headers is as secret as it. */
#ifndef TEACHER_KEY_H
#define TEACHER_KEY_H

#include "core/str.h"

/* From the first line of `file`, else from the environment variable `env`; *out stays empty if neither is given or the
 * variable is not set. ERR_INVALID: a key with blanks or control characters, an empty file. Errors name the file or the
 * variable, never the key. */
int key_read(struct str *out, const char *file, const char *env, struct err *e);
void key_wipe(struct str *key); /* overwrites and frees */

/* Keys among the user's headers. */
struct keys {
    struct str *all;
    size_t n, cap;
};
/* Whether a header of that name holds a key, as far as the name tells. */
bool key_in_header(struct text name);
/* The keys in lines "Name: value": of Authorization also the part behind the scheme, of cookies each value. Those of fewer than
 * 8 characters are no secret and could stand anywhere. ERR_NOMEM. */
int keys_given(struct keys *k, const struct allocator *a, const char *lines, struct err *e);
void keys_wipe(struct keys *k, const struct allocator *a);

/* Whether the key stands in t, also with characters as JSON escapes; overwritten there in `copy`, a copy of t (NULL: none). */
bool key_blank(const struct str *key, struct text t, char *copy);

#endif
