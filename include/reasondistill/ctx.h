/* The context: allocator, log, threads, seed, and the text of the last error.
 *
 *     rsd_ctx *ctx = NULL;
 *     rsd_ctx_options o;
 *     rsd_ctx_options_init(&o, sizeof o);
 *     o.threads = 2;
 *     if (rsd_ctx_open(&o, &ctx) != RSD_OK) ...
 *
 * A context and all handles made from it belong to one thread at a time; contexts share nothing that changes. Close every
 * handle before its context. All functions named rsd_<handle>_close take NULL and do nothing then. */
#ifndef REASONDISTILL_CTX_H
#define REASONDISTILL_CTX_H

#include "reasondistill/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_ctx rsd_ctx;

/* resize(user, NULL, n) allocates, resize(user, p, n) moves, resize(user, p, 0) frees and returns NULL. */
typedef void *(*rsd_resize_fn)(void *user, void *p, size_t size);

enum { RSD_LOG_ERROR, RSD_LOG_WARN, RSD_LOG_INFO, RSD_LOG_DEBUG };
typedef void (*rsd_log_fn)(void *user, int level, const char *text); /* one line without line feed; text is borrowed */

enum {
    /* Touch nothing: the BLAS threads as the host set it up, the library runs in the calling thread. */
    RSD_BLAS_LEAVE = 0,
    /* Set the BLAS to one thread, process-wide, once; the library's own pool of `threads` does the rest, and results have the
     * same bits for any number of threads. */
    RSD_BLAS_OWN = 1
};

typedef struct rsd_ctx_options {
    size_t size;
    rsd_resize_fn resize; /* NULL: malloc and friends */
    void *resize_user;
    rsd_log_fn log; /* NULL: silent */
    void *log_user;
    uint64_t seed;   /* default 1; where random numbers are drawn and no other seed is given */
    int32_t threads; /* 0 (default): one per CPU that the process may run on; under RSD_BLAS_LEAVE always 1 */
    int32_t blas;    /* RSD_BLAS_LEAVE (default) or RSD_BLAS_OWN */
    /* Which code multiplies matrices, and for which instructions all loops are made: a name that rsd_ctx_kernels tells. NULL or
     * "auto" (default): the best for this CPU. "blas" is the best, but products of matrices of more than 16 rows are the
     * BLAS's. Results differ in the order of sums; with "avx512bf16" products with BF16 weights, and attention over BF16
     * activations, round the other operand to BF16. Borrowed for the call. */
    const char *kernels;
} rsd_ctx_options;

/* Fills *o with defaults. size: sizeof(rsd_ctx_options) as the caller was compiled. The same rule for all option structs: a
 * shorter struct of an older caller means defaults for what it lacks; a longer one is RSD_EVERSION if what we do not know is
 * not zero. */
RSD_API int rsd_ctx_options_init(rsd_ctx_options *o, size_t size);

/* options NULL: defaults. *out is the caller's (rsd_ctx_close). RSD_EINVAL, RSD_ENOMEM, RSD_EVERSION, RSD_EUNSUPPORTED
 * (RSD_BLAS_OWN with a BLAS that cannot be told); then *out is NULL and there is no ctx to ask for a text. Kernels that this
 * build or CPU lacks are RSD_EINVAL, with a line that names those it has to options->log. */
RSD_API int rsd_ctx_open(const rsd_ctx_options *options, rsd_ctx **out);
RSD_API void rsd_ctx_close(rsd_ctx *ctx);

/* One line about the last call that failed with this ctx or one of its handles: what, where (file, line, tensor, byte), what
 * was expected, what to do. Borrowed until the next failing call; "" if none failed. */
RSD_API const char *rsd_ctx_error(const rsd_ctx *ctx);

RSD_API int rsd_ctx_threads(const rsd_ctx *ctx);
/* "OpenBLAS 0.3.21 ...; kernels: cpu avx512": which code does the work. Borrowed, as long as the ctx. */
RSD_API const char *rsd_ctx_backend(const rsd_ctx *ctx);
/* Name number i of those that rsd_ctx_options.kernels takes in this build on this CPU, best first: "avx512bf16", "avx512", "avx2",
 * "generic", "blas". NULL behind the last. Static. */
RSD_API const char *rsd_ctx_kernels(size_t i);

#ifdef __cplusplus
}
#endif
#endif
