/* Arenas: a list of blocks that is filled from the front. Blocks stay for reuse, so that a step that takes the same pieces as
 * the step before asks nothing from the system. A new block is a part of all that is there, so there are few of them; they are joined
 * into one only where the pieces fit them badly, since to join them is to touch all memory anew. */
#include "tensor/mat.h"

#include <assert.h>
#include <stdint.h>

struct arena_block {
    struct arena_block *next;
    size_t cap, n; /* bytes in `data`, and taken from it */
    unsigned char *data;
    bool lent; /* the memory is not the arena's, and this header lies at its begin */
};

enum { ALIGN = 64, SMALLEST = 1 << 16, HEADER = 64 /* of a lent block */ };
static_assert(sizeof(struct arena_block) <= HEADER, "a block's header fits");

void arena_init(struct arena *r, const struct allocator *a) {
    *r = (struct arena){.a = a};
}

/* Lent blocks go from the list that begins at *link. */
static void drop_lent(struct arena_block **link) {
    while (*link) {
        if ((*link)->lent) {
            *link = (*link)->next;
        } else {
            link = &(*link)->next;
        }
    }
}

void arena_free(struct arena *r) {
    drop_lent(&r->first);
    for (struct arena_block *b = r->first, *next; b; b = next) {
        next = b->next;
        mem_free_aligned(r->a, b->data);
        mem_free(r->a, b);
    }
    *r = (struct arena){.peak = r->peak, .a = r->a};
}

static size_t capacity(const struct arena *r) {
    size_t sum = 0;
    for (const struct arena_block *b = r->first; b; b = b->next) {
        sum += b->lent ? 0 : b->cap;
    }
    return sum;
}

void arena_reset(struct arena *r) {
    drop_lent(&r->first);
    if (r->first && r->first->next && capacity(r) / 2 > r->peak) {
        arena_free(r); /* the next block is made as large as the peak: all pieces in one */
        return;
    }
    r->last = r->first;
    r->used = 0;
    if (r->first) {
        r->first->n = 0;
    }
}

/* b becomes the block behind the one that is being filled. */
static void insert(struct arena *r, struct arena_block *b) {
    struct arena_block **link = r->last ? &r->last->next : &r->first;
    b->next = *link;
    *link = b;
}

void arena_lend(struct arena *r, void *p, size_t bytes) {
    size_t past = (size_t)((uintptr_t)p % ALIGN), skip = past ? ALIGN - past : 0;
    if (bytes < skip + HEADER) {
        return;
    }
    struct arena_block *b = (struct arena_block *)(void *)((unsigned char *)p + skip);
    *b = (struct arena_block){.cap = bytes - skip - HEADER, .data = (unsigned char *)b + HEADER, .lent = true};
    insert(r, b);
    r->last = b;
}

static struct arena_block *add_block(struct arena *r, size_t need, struct err *e) {
    size_t part = r->first ? capacity(r) / 4 : r->peak, cap = need > SMALLEST ? need : SMALLEST;
    if (cap < part) {
        cap = part;
    }
    struct arena_block *b = mem_new(r->a, 1, sizeof *b, e);
    unsigned char *data = b ? mem_aligned(r->a, cap, 1, e) : NULL;
    if (!data) {
        mem_free(r->a, b);
        return NULL;
    }
    *b = (struct arena_block){.cap = cap, .data = data};
    insert(r, b);
    return b;
}

void *arena_take(struct arena *r, size_t n, size_t size, struct err *e) {
    size_t bytes = 0;
    if (!size_mul(n, size, &bytes) || !size_add(bytes, ALIGN - 1, &bytes)) {
        err_set(e, ERR_NOMEM, "%zu objects of %zu bytes do not fit into memory", n, size);
        return NULL;
    }
    bytes &= ~(size_t)(ALIGN - 1);
    struct arena_block *b = r->last;
    if (!b || b->cap - b->n < bytes) {
        do { /* blocks that are too small stay empty this time */
            b = b ? b->next : NULL;
        } while (b && b->cap < bytes);
        if (!b) {
            b = add_block(r, bytes, e);
        }
        if (!b) {
            return NULL;
        }
        b->n = 0;
        r->last = b;
    }
    void *p = b->data + b->n;
    b->n += bytes;
    r->used += b->lent ? 0 : bytes;
    r->peak = r->used > r->peak ? r->used : r->peak;
    return p;
}

struct mat arena_mat(struct arena *r, enum dtype dtype, size_t rows, size_t cols, struct err *e) {
    struct mat m = mat_of(NULL, dtype, rows, cols);
    size_t n = 0;
    if (!size_mul(rows, cols, &n)) {
        err_set(e, ERR_NOMEM, "a matrix of %zu x %zu does not fit into memory", rows, cols);
        return m;
    }
    m.data = arena_take(r, n, dtype_size(dtype), e);
    return m;
}

struct arena_mark arena_mark(const struct arena *r) {
    return (struct arena_mark){.last = r->last, .in_block = r->last ? r->last->n : 0, .used = r->used};
}

void arena_release(struct arena *r, struct arena_mark m) {
    drop_lent(m.last ? &m.last->next : &r->first);
    r->last = m.last ? m.last : r->first; /* marked while empty: start again with the first block */
    r->used = m.used;
    if (r->last) {
        r->last->n = m.in_block;
    }
}
