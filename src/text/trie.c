/* Building a double array from sorted keys. States are placed breadth first (no recursion: keys may be long); each takes the
 * first base whose slots are free, searched only in the last few blocks, so that building is linear in practice and fills
 * about nine slots of ten. */
#include "text/trie.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256, OPEN_BLOCKS = 16, LABEL_FREE = 256 };
static const size_t MAX_UNITS = (size_t)1 << 24;

struct state { /* keys lo..hi share their first `depth` bytes and end up in unit `at` */
    uint32_t lo, hi, depth, at;
};

struct builder {
    struct trie *t;
    struct trie_key *keys;
    struct state *queue;
    size_t queue_n, queue_cap, unit_cap;
    unsigned char *base_used;
    size_t base_cap;
    uint32_t *next_free, *prev_free; /* ring of free units in the open blocks; valid only while free_head is set */
    size_t next_cap, prev_cap;
    size_t free_head; /* 0: none (unit 0 is the root and never free) */
};

static int by_bytes(const void *pa, const void *pb) {
    const struct trie_key *a = pa, *b = pb;
    size_t n = a->key.n < b->key.n ? a->key.n : b->key.n;
    int c = memcmp(a->key.p, b->key.p, n);
    return c ? c : (a->key.n > b->key.n) - (a->key.n < b->key.n);
}

static uint64_t unit_make(size_t base, unsigned label, int32_t value) {
    return (uint64_t)base | (uint64_t)label << 24 | (uint64_t)((uint32_t)value + 1) << 33;
}

static void free_add(struct builder *b, uint32_t i) {
    if (!b->free_head) {
        b->next_free[i] = b->prev_free[i] = i;
        b->free_head = i;
        return;
    }
    uint32_t head = (uint32_t)b->free_head, tail = b->prev_free[head];
    b->next_free[tail] = i;
    b->prev_free[i] = tail;
    b->next_free[i] = head;
    b->prev_free[head] = i;
}

static void free_take(struct builder *b, uint32_t i) {
    uint32_t next = b->next_free[i], prev = b->prev_free[i];
    b->next_free[prev] = next;
    b->prev_free[next] = prev;
    if (b->free_head == i)
        b->free_head = next == i ? 0 : next;
    b->next_free[i] = 0;
}

static bool is_free(const struct builder *b, size_t i) {
    return i && b->next_free[i];
}

static int add_block(struct builder *b, struct err *e) {
    struct trie *t = b->t;
    size_t n = t->n + BLOCK;
    if (n > MAX_UNITS)
        return err_set(e, ERR_UNSUPPORTED, "the pieces need more than %zu trie units", MAX_UNITS);
    int code = mem_reserve(t->a, &t->unit, &b->unit_cap, n, sizeof *t->unit, e);
    if (!code)
        code = mem_reserve(t->a, &b->base_used, &b->base_cap, n, 1, e);
    if (!code)
        code = mem_reserve(t->a, &b->next_free, &b->next_cap, n, sizeof *b->next_free, e);
    if (!code)
        code = mem_reserve(t->a, &b->prev_free, &b->prev_cap, n, sizeof *b->prev_free, e);
    if (code)
        return code;
    memset(b->base_used + t->n, 0, BLOCK);
    memset(b->next_free + t->n, 0, BLOCK * sizeof *b->next_free);
    size_t closed = n > OPEN_BLOCKS * BLOCK ? n - OPEN_BLOCKS * BLOCK : 0;
    for (size_t i = closed > BLOCK ? closed - BLOCK : 0; i < closed; i++)
        if (is_free(b, i))
            free_take(b, (uint32_t)i);
    for (size_t i = t->n; i < n; i++) {
        t->unit[i] = unit_make(0, LABEL_FREE, -1);
        if (i)
            free_add(b, (uint32_t)i);
    }
    t->n = n;
    return 0;
}

static bool base_fits(const struct builder *b, size_t base, const unsigned char *labels, size_t n) {
    if (base == 0 || b->base_used[base])
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_free(b, base ^ labels[i]))
            return false;
    return true;
}

static int find_base(struct builder *b, const unsigned char *labels, size_t n, size_t *out, struct err *e) {
    for (int round = 0; round < 2; round++) {
        if (b->free_head) {
            size_t i = b->free_head;
            do {
                size_t base = i ^ labels[0];
                if (base_fits(b, base, labels, n)) {
                    *out = base;
                    return 0;
                }
                i = b->next_free[i];
            } while (i != b->free_head);
        }
        int code = add_block(b, e);
        if (code)
            return code;
    }
    return err_set(e, ERR_UNSUPPORTED,
                   "no room in a fresh trie block"); /* cannot happen: an empty block takes any set of labels */
}

/* Splits the keys of a state by their next byte, places the children and queues them. */
static int expand(struct builder *b, struct state s, struct err *e) {
    unsigned char labels[256];
    uint32_t start[257];
    size_t n = 0;
    uint32_t lo = s.lo;
    int32_t value = -1;
    if (b->keys[lo].key.n == s.depth)
        value = b->keys[lo++].value;
    for (uint32_t i = lo; i < s.hi; i++) {
        unsigned char c = (unsigned char)b->keys[i].key.p[s.depth];
        if (!n || labels[n - 1] != c) {
            labels[n] = c;
            start[n++] = i;
        }
    }
    start[n] = s.hi;
    size_t base = 0;
    if (n) {
        int code = find_base(b, labels, n, &base, e);
        if (code)
            return code;
        b->base_used[base] = 1;
        code = mem_reserve(b->t->a, &b->queue, &b->queue_cap, b->queue_n + n, sizeof *b->queue, e);
        if (code)
            return code;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t at = (uint32_t)(base ^ labels[i]);
        free_take(b, at);
        b->t->unit[at] = unit_make(0, labels[i], -1);
        b->queue[b->queue_n++] = (struct state){start[i], start[i + 1], s.depth + 1, at};
    }
    unsigned label = (unsigned)(b->t->unit[s.at] >> 24 & 0x1ff);
    b->t->unit[s.at] = unit_make(base, s.at ? label : LABEL_FREE, value);
    return 0;
}

int trie_build(struct trie *t, const struct allocator *a, struct trie_key *keys, size_t n, struct err *e) {
    *t = (struct trie){.a = a};
    struct builder b = {.t = t, .keys = keys};
    int code = 0;
    if (n > MAX_UNITS)
        return err_set(e, ERR_UNSUPPORTED, "more than %zu pieces", MAX_UNITS);
    if (n)
        qsort(keys, n, sizeof *keys, by_bytes);
    for (size_t i = 0; i < n; i++)
        if (!keys[i].key.n || keys[i].key.n > UINT32_MAX || (i && text_eq(keys[i].key, keys[i - 1].key)))
            return err_set(e, ERR_INVALID, "trie: a key is empty, too long or comes twice");
    code = add_block(&b, e);
    if (code)
        goto done;
    if (n) {
        code = mem_reserve(a, &b.queue, &b.queue_cap, 1, sizeof *b.queue, e);
        if (code)
            goto done;
        b.queue[b.queue_n++] = (struct state){0, (uint32_t)n, 0, 0};
    }
    for (size_t i = 0; i < b.queue_n && !code; i++)
        code = expand(&b, b.queue[i], e);
done:
    mem_free(a, b.queue);
    mem_free(a, b.base_used);
    mem_free(a, b.next_free);
    mem_free(a, b.prev_free);
    if (code)
        trie_free(t);
    return code;
}

void trie_free(struct trie *t) {
    if (t->unit)
        mem_free(t->a, t->unit);
    *t = (struct trie){0};
}
