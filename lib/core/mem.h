/* Memory: the caller's allocator, and sizes that are checked before they are multiplied. */
#ifndef CORE_MEM_H
#define CORE_MEM_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

/* resize(user, NULL, n) allocates, resize(user, p, n) moves, resize(user, p, 0) frees and returns NULL. Must be aligned for any
 * C type. May be called from the pool's threads only by code that says so. A NULL `struct allocator *` means mem_std. */
struct allocator {
    void *(*resize)(void *user, void *p, size_t size);
    void *user;
};

extern const struct allocator mem_std; /* malloc and friends */

/* *out = a * b (a + b), false if that does not fit. The only place where sizes are multiplied. */
bool size_mul(size_t a, size_t b, size_t *out);
bool size_add(size_t a, size_t b, size_t *out);

/* n objects of `size` bytes; n = 0 gives a valid pointer. NULL and ERR_NOMEM (with the size in the text) on failure. */
void *mem_new(const struct allocator *a, size_t n, size_t size, struct err *e);
void *mem_zero(const struct allocator *a, size_t n, size_t size, struct err *e);          /* the same, filled with 0 */
void *mem_grow(const struct allocator *a, void *p, size_t n, size_t size, struct err *e); /* on failure p stays valid */
void mem_free(const struct allocator *a, void *p);                                        /* NULL is fine */
char *mem_strndup(const struct allocator *a, const char *s, size_t n, struct err *e);

/* Makes room for at least `need` objects in an array that grows by doubling: *p and *cap are updated together.
 *     if (mem_reserve(a, (void **)&v, &cap, n + 1, sizeof *v, e)) goto done; */
int mem_reserve(const struct allocator *a, void *p, size_t *cap, size_t need, size_t size, struct err *e);

/* Aligned blocks (64 bytes: a cache line, an AVX-512 register) for tensors. Freed by mem_free_aligned only. */
void *mem_aligned(const struct allocator *a, size_t n, size_t size, struct err *e);
void mem_free_aligned(const struct allocator *a, void *p);

#endif
