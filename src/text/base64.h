/* Base64 (RFC 4648), as tokenizer files use it. */
#ifndef TEXT_BASE64_H
#define TEXT_BASE64_H

#include "core/str.h"

/* Appends the bytes; "=" at the end may be missing. ERR_FORMAT: which character. */
int base64_add(struct str *out, struct text in, struct err *e);

#endif
