/* Hash map from byte strings to a size_t (usually an index into an array of the caller's). Keys are copied.
 * Open addressing, load at most 1/2, hashed with a per-map seed so that hostile keys cannot be prepared. Zero it to start. */
#ifndef CORE_MAP_H
#define CORE_MAP_H

#include "core/str.h"

struct map {
    struct map_slot *slots;
    size_t n, cap;
    struct str keys; /* all key bytes, one after another */
    uint64_t seed;
    const struct allocator *a;
};

void map_init(struct map *m, const struct allocator *a);
void map_free(struct map *m);
int map_put(struct map *m, struct text key, size_t value, struct err *e); /* replaces an earlier value */
bool map_get(const struct map *m, struct text key, size_t *value);        /* value may be NULL */

/* The hash beneath, for tables of another shape: SipHash-1-3 under a random seed, never 0. address: of the table. */
uint64_t map_seed(const void *address);
uint64_t map_hash(uint64_t seed, const void *key, size_t n);

#endif
