/* Status codes. RSD_OK is 0, positive values inform, negative values are errors; values are ABI and only ever appended. */
#ifndef REASONDISTILL_STATUS_H
#define REASONDISTILL_STATUS_H

#include <stddef.h>
#include <stdint.h>

#if defined(RSD_BUILD)
#define RSD_API __attribute__((visibility("default")))
#else
#define RSD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define RSD_VERSION_MAJOR  0
#define RSD_VERSION_MINOR  1
#define RSD_VERSION_PATCH  0
#define RSD_VERSION_STRING "0.1.0"

#define RSD_STATUS_LIST(X)                                                                                                       \
    X(RSD_OK, 0, "success")                                                                                                      \
    X(RSD_END, 1, "there is no more")                                                                                            \
    X(RSD_AGAIN, 2, "nothing yet: call again")                                                                                   \
    X(RSD_EINVAL, -1, "invalid argument")                                                                                        \
    X(RSD_ENOMEM, -2, "out of memory")                                                                                           \
    X(RSD_EIO, -3, "input or output failed")                                                                                     \
    X(RSD_EFORMAT, -4, "malformed data")                                                                                         \
    X(RSD_EVERSION, -5, "made for a newer version of the library")                                                               \
    X(RSD_EBUSY, -6, "in use elsewhere")                                                                                         \
    X(RSD_ENUMERIC, -7, "not a finite number")                                                                                   \
    X(RSD_EUNSUPPORTED, -8, "not supported")                                                                                     \
    X(RSD_EMISMATCH, -9, "things that do not belong together")                                                                   \
    X(RSD_ENOTFOUND, -10, "not found")                                                                                           \
    X(RSD_ENETWORK, -11, "the host could not be reached or the transfer broke")                                                  \
    X(RSD_EREFUSED, -12, "the endpoint refused the request")                                                                     \
    X(RSD_ENOLOGPROBS, -13, "the reply has no token log-probabilities")                                                          \
    X(RSD_ESTATE, -14, "called in the wrong order")

typedef enum rsd_status {
#define RSD_STATUS_ENUM(name, value, text) name = value,
    RSD_STATUS_LIST(RSD_STATUS_ENUM)
#undef RSD_STATUS_ENUM
} rsd_status;

/* A short text for any code, never NULL, static. The message with file, line and cure is in the ctx: rsd_ctx_error. */
RSD_API const char *rsd_strerror(int status);

/* Version of the library that is loaded, e.g. "0.1.0" (static), against RSD_VERSION_STRING of the headers. */
RSD_API const char *rsd_version(void);

#ifdef __cplusplus
}
#endif
#endif
