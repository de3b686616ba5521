/* Every allocation of the library goes through a caller's allocator; every size is checked here before it is multiplied.
 * Aligned blocks are cut out of a larger block of the allocator, with the pointer to give back stored just in front. Large ones
 * ask for huge pages: their first touch is several times faster (one page fault instead of 512), and products that walk through
 * many rows at once do not run out of address translations. */
#include "core/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { ALIGN = 64, HUGE_PAGE = 1 << 21, HUGE_FROM = 1 << 23 /* bytes: below, half a page lost matters */ };

static void *std_resize(void *user, void *p, size_t size) {
    (void)user;
    if (!size) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

const struct allocator mem_std = {std_resize, NULL};

static void *resize(const struct allocator *a, void *p, size_t size) {
    if (!a)
        a = &mem_std;
    return a->resize(a->user, p, size);
}

bool size_mul(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

bool size_add(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

void *mem_grow(const struct allocator *a, void *p, size_t n, size_t size, struct err *e) {
    size_t bytes;
    if (!size_mul(n, size, &bytes)) {
        err_set(e, ERR_NOMEM, "out of memory: %zu objects of %zu bytes do not fit into the address space", n, size);
        return NULL;
    }
    void *q = resize(a, p, bytes ? bytes : 1);
    if (!q)
        err_set(e, ERR_NOMEM, "out of memory: %zu bytes", bytes);
    return q;
}

void *mem_new(const struct allocator *a, size_t n, size_t size, struct err *e) {
    return mem_grow(a, NULL, n, size, e);
}

void *mem_zero(const struct allocator *a, size_t n, size_t size, struct err *e) {
    void *p = mem_grow(a, NULL, n, size, e);
    if (p)
        memset(p, 0, n * size);
    return p;
}

void mem_free(const struct allocator *a, void *p) {
    if (p)
        resize(a, p, 0);
}

char *mem_strndup(const struct allocator *a, const char *s, size_t n, struct err *e) {
    size_t bytes;
    if (!size_add(n, 1, &bytes)) {
        err_set(e, ERR_NOMEM, "out of memory: a string of %zu bytes", n);
        return NULL;
    }
    char *p = mem_new(a, bytes, 1, e);
    if (!p)
        return NULL;
    if (n)
        memcpy(p, s, n);
    p[n] = 0;
    return p;
}

/* The caller's pointer may have any type: it is copied as bytes, since void * and T * must not alias. */
int mem_reserve(const struct allocator *a, void *p, size_t *cap, size_t need, size_t size, struct err *e) {
    if (need <= *cap)
        return ERR_NONE;
    size_t want = *cap < 8 ? 8 : *cap, bytes;
    while (want < need && size_mul(want, 2, &bytes))
        want = bytes;
    if (want < need || !size_mul(want, size, &bytes))
        want = need; /* doubling no longer fits, the need itself may */
    void *old, *q;
    memcpy(&old, p, sizeof old);
    q = mem_grow(a, old, want, size, e);
    if (!q)
        return ERR_NOMEM;
    memcpy(p, &q, sizeof q);
    *cap = want;
    return ERR_NONE;
}

/* Advice on the whole huge pages inside the block; a system that does not take it loses nothing. */
static void use_huge_pages(unsigned char *p, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    size_t past = (size_t)((uintptr_t)p % HUGE_PAGE), skip = past ? HUGE_PAGE - past : 0;
    if (bytes >= HUGE_FROM)
        (void)madvise(p + skip, (bytes - skip) / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#else
    (void)p, (void)bytes;
#endif
}

void *mem_aligned(const struct allocator *a, size_t n, size_t size, struct err *e) {
    size_t bytes, all;
    if (!size_mul(n, size, &bytes) || !size_add(bytes, ALIGN + sizeof(void *), &all)) {
        err_set(e, ERR_NOMEM, "out of memory: %zu objects of %zu bytes do not fit into the address space", n, size);
        return NULL;
    }
    unsigned char *raw = mem_new(a, all, 1, e);
    if (!raw)
        return NULL;
    size_t past = (size_t)((uintptr_t)(raw + sizeof(void *)) % ALIGN);
    unsigned char *p = raw + sizeof(void *) + (past ? ALIGN - past : 0);
    memcpy(p - sizeof(void *), &raw, sizeof raw);
    use_huge_pages(p, bytes);
    return p;
}

void mem_free_aligned(const struct allocator *a, void *p) {
    if (!p)
        return;
    void *raw;
    memcpy(&raw, (unsigned char *)p - sizeof raw, sizeof raw);
    mem_free(a, raw);
}
