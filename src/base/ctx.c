/* The context: one per thread of the host, nothing shared between two of them but the BLAS under RSD_BLAS_OWN. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "base/ctx.h"

#include "base/options.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

OPTIONS_NO_TAIL(rsd_ctx_options, kernels);

static const rsd_ctx_options ctx_defaults = {.size = sizeof(rsd_ctx_options), .seed = 1, .blas = RSD_BLAS_LEAVE};

enum { MAX_THREADS = 1024 };

int rsd_ctx_options_init(rsd_ctx_options *o, size_t size) {
    return options_init(o, size, &ctx_defaults, sizeof ctx_defaults, NULL);
}

static size_t cpus_allowed(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? (size_t)n : 1;
}

int rsd_ctx_open(const rsd_ctx_options *options, rsd_ctx **out) {
    struct err e = {0};
    if (!out)
        return RSD_EINVAL;
    *out = NULL;
    rsd_ctx_options o;
    if (options_read(&o, sizeof o, &ctx_defaults, options, "rsd_ctx_options", &e))
        return e.code;
    if (o.threads < 0 || o.threads > MAX_THREADS || (o.blas != RSD_BLAS_LEAVE && o.blas != RSD_BLAS_OWN))
        return RSD_EINVAL;
    if (o.blas == RSD_BLAS_OWN && blas_set_single_thread())
        return RSD_EUNSUPPORTED;
    const struct kernels *kernels = kernels_named(o.kernels, &e);
    if (!kernels) {
        if (o.log)
            o.log(o.log_user, RSD_LOG_ERROR, e.text);
        return e.code;
    }

    struct allocator a = o.resize ? (struct allocator){o.resize, o.resize_user} : mem_std;
    rsd_ctx *ctx = mem_zero(&a, 1, sizeof *ctx, &e);
    if (!ctx)
        return e.code;
    ctx->alloc = a;
    ctx->log = (struct log){o.log, o.log_user};
    ctx->seed = o.seed;
    ctx->blas = o.blas;
    ctx->kernels = kernels;
    arena_init(&ctx->scratch, &ctx->alloc);
    str_init(&ctx->text, &ctx->alloc);
    size_t threads = o.blas == RSD_BLAS_LEAVE ? 1 : o.threads ? (size_t)o.threads : cpus_allowed();
    if (pool_open(&ctx->pool, &ctx->alloc, threads, &e)) {
        rsd_ctx_close(ctx);
        return e.code;
    }
    snprintf(ctx->backend, sizeof ctx->backend, "%s; kernels: %s", blas_name(), kernels_name(ctx->kernels));
    *out = ctx;
    return RSD_OK;
}

void rsd_ctx_close(rsd_ctx *ctx) {
    if (!ctx)
        return;
    pool_close(ctx->pool);
    arena_free(&ctx->scratch);
    str_free(&ctx->text);
    struct allocator a = ctx->alloc;
    mem_free(&a, ctx);
}

const char *rsd_ctx_error(const rsd_ctx *ctx) {
    return ctx ? ctx->err.text : "";
}

int rsd_ctx_threads(const rsd_ctx *ctx) {
    return ctx ? (int)pool_threads(ctx->pool) : 0;
}

const char *rsd_ctx_backend(const rsd_ctx *ctx) {
    return ctx ? ctx->backend : "";
}

const char *rsd_ctx_kernels(size_t i) {
    const char *names[KERNELS_MOST];
    const struct kernels *tables[KERNELS_MOST];
    return i < kernels_list(names, tables) ? names[i] : NULL;
}

int ctx_return(rsd_ctx *ctx, int code, const struct err *e) {
    if (code < 0) {
        ctx->err.code = code;
        memcpy(ctx->err.text, e->text, sizeof ctx->err.text);
    }
    return code;
}

int ctx_fail(rsd_ctx *ctx, int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err_clear(&ctx->err);
    err_setv(&ctx->err, code, fmt, ap);
    va_end(ap);
    return code;
}

struct exec ctx_exec(rsd_ctx *ctx, struct err *e) {
    return (struct exec){.k = ctx->kernels, .pool = ctx->pool, .scratch = &ctx->scratch, .err = e};
}
