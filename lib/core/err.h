/* Errors of the floor: a code and one readable line.
 *
 * Every function that can fail takes a `struct err *` (NULL: the caller does not care) and returns 0 or one of the negative
 * codes below. The first error stays until err_clear: clean-up that fails afterwards cannot hide the cause. */
#ifndef CORE_ERR_H
#define CORE_ERR_H

#include <stdarg.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define PRINTF_LIKE(fmt, first)
#endif

enum err_code {
    ERR_NONE = 0,
    ERR_INVALID = -1,     /* the caller's argument */
    ERR_NOMEM = -2,       /* the allocator said no, or a size overflowed */
    ERR_IO = -3,          /* the operating system said no */
    ERR_FORMAT = -4,      /* bytes that are not what they should be */
    ERR_VERSION = -5,     /* written by a newer version */
    ERR_BUSY = -6,        /* locked or in use elsewhere */
    ERR_NUMERIC = -7,     /* NaN or infinity where a number is needed */
    ERR_UNSUPPORTED = -8, /* well-formed, but not something we do */
    ERR_MISMATCH = -9,    /* two things that do not belong together */
    ERR_NOTFOUND = -10,   /* no such file, key or tensor */
};

struct err {
    int code;
    char text[512];
};

/* Sets code and text unless an error is already there. Returns `code` in either case: `return err_set(...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
int err_setv(struct err *e, int code, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);

/* err_set from errno: "text: No such file or directory". ENOENT becomes ERR_NOTFOUND, ENOMEM ERR_NOMEM, all others ERR_IO. */
int err_errno(struct err *e, int errnum, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "where: " in front of the text of an error that is set, "where, " if that begins with "line ": each level that knows more
 * adds it. Returns e's code. */
int err_within(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

void err_clear(struct err *e);

#endif
