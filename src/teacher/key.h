/* The API key: read once, sent in one header, printed nowhere. */
#ifndef TEACHER_KEY_H
#define TEACHER_KEY_H

#include "core/str.h"

/* From the first line of `file`, else from the environment variable `env`; *out stays empty if neither is given or the
 * variable is not set. ERR_INVALID: a key with blanks or control characters, an empty file. Errors name the file or the
 * variable, never the key. */
int key_read(struct str *out, const char *file, const char *env, struct err *e);
void key_wipe(struct str *key); /* overwrites and frees */
/* Whether the key stands in t, also with characters as JSON escapes; overwritten there in `copy`, a copy of t (NULL: none). */
bool key_blank(const struct str *key, struct text t, char *copy);

#endif
