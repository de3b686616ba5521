/* The inside of a context: what every handle needs and nothing that a handle owns. */
#ifndef BASE_CTX_H
#define BASE_CTX_H

#include "core/log.h"
#include "core/mem.h"
#include "core/str.h"
#include "kernels/kernels.h"
#include "reasondistill/ctx.h"

struct rsd_ctx {
    struct allocator alloc;
    struct log log;
    struct err err; /* the last failure; rsd_ctx_error reads its text */
    struct pool *pool;
    struct arena scratch;
    const struct kernels *kernels;
    uint64_t seed;
    int blas;
    char backend[160];
    struct str text; /* handed out by functions that have no handle to keep it */
};

/* Every public function that can fail works with a local `struct err` and leaves through ctx_return: the code, with the text kept
 * for rsd_ctx_error. 0 and positive codes leave the old text alone. */
int ctx_return(rsd_ctx *ctx, int code, const struct err *e);
/* For a failure that is known at once: sets the text, returns the code. */
int ctx_fail(rsd_ctx *ctx, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Kernels for one chain of calls: failures land in e. */
struct exec ctx_exec(rsd_ctx *ctx, struct err *e);

#endif
