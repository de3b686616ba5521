/* A double array over bytes (Aoe 1989): the state after byte c in state s is unit[base(s) ^ c], valid if that unit carries the
 * label c. A step is one load of 8 bytes and one comparison, whatever the number of keys. */
#ifndef TEXT_TRIE_H
#define TEXT_TRIE_H

#include "core/str.h"

/* unit: bits 0-23 base, 24-32 label (256: free), 33-63 value + 1 (0: no key ends here). No two states share a base, so the
 * label alone tells whether a unit belongs to the state that asks. */
struct trie {
    uint64_t *unit; /* a whole number of blocks of 256; unit[0] is the root */
    size_t n;
    const struct allocator *a;
};

struct trie_key {
    struct text key;
    int32_t value; /* >= 0 */
};

/* Sorts `keys`. Keys must be different and not empty (ERR_INVALID). ERR_UNSUPPORTED: more than 2^24 units. */
int trie_build(struct trie *t, const struct allocator *a, struct trie_key *keys, size_t n, struct err *e);
void trie_free(struct trie *t);

static inline size_t trie_base(uint64_t unit) {
    return (size_t)(unit & 0xffffff);
}
static inline int32_t trie_value(uint64_t unit) { /* -1: none */
    return (int32_t)(unit >> 33) - 1;
}
/* The unit after byte c, or 0 if there is none: a state that exists has a value or a base that is not 0. */
static inline uint64_t trie_step(const struct trie *t, uint64_t unit, unsigned char c) {
    uint64_t next = t->unit[trie_base(unit) ^ c];
    return (next >> 24 & 0x1ff) == c ? next : 0;
}

#endif
