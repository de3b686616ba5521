/* The rule of option structs (first member: size_t size), in one place. */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include "core/err.h"

#include <stddef.h>

/* rsd_x_options_init: copies the first min(size, full) bytes of `defaults`, zeroes the rest of the caller's larger struct,
 * sets size. ERR_INVALID if size is smaller than the first member. */
int options_init(void *options, size_t size, const void *defaults, size_t full, struct err *e);

/* What a function works with: `defaults` overlaid with the caller's struct. NULL: defaults alone. A larger struct whose
 * unknown bytes are not all zero is ERR_VERSION. `what` names the struct in errors. */
int options_read(void *out, size_t full, const void *defaults, const void *options, const char *what, struct err *e);

/* Declares that a struct has no tail padding, so that its unknown bytes can be checked. */
#define OPTIONS_NO_TAIL(type, last)                                                                                              \
    _Static_assert(offsetof(type, last) + sizeof(((type *)0)->last) == sizeof(type), #type " ends in padding")

#endif
