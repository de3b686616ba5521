/* Open addressing with linear probing over slots that keep the full hash, so that a probe rarely touches key bytes.
 * The hash is SipHash-1-3 (Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012) under a random key: without knowing it
 * nobody can prepare keys that collide. Nothing iterates over the slots, so the random order never shows. */
#include "core/map.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

struct map_slot {
    uint64_t hash; /* 0: free */
    size_t at, n;  /* key bytes in map.keys */
    size_t value;
};

static uint64_t rotl(uint64_t x, int b) {
    return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[4]) {
    v[0] += v[1], v[1] = rotl(v[1], 13) ^ v[0], v[0] = rotl(v[0], 32);
    v[2] += v[3], v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotl(v[1], 17) ^ v[2], v[2] = rotl(v[2], 32);
}

uint64_t map_hash(uint64_t seed, const void *key, size_t n) {
    const char *p = key;
    uint64_t k1 = rotl(seed, 29) ^ 0x9E3779B97F4A7C15u;
    uint64_t v[4] = {seed ^ 0x736F6D6570736575u, k1 ^ 0x646F72616E646F6Du, seed ^ 0x6C7967656E657261u, k1 ^ 0x7465646279746573u};
    uint64_t word, last = (uint64_t)n << 56;
    size_t whole = n - n % 8;
    for (size_t i = 0; i < whole; i += 8) {
        memcpy(&word, p + i, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    for (size_t i = whole; i < n; i++)
        last |= (uint64_t)(unsigned char)p[i] << 8 * (i - whole);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xFF;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    uint64_t h = v[0] ^ v[1] ^ v[2] ^ v[3];
    return h ? h : 1;
}

uint64_t map_seed(const void *address) {
    uint64_t seed;
    if (getentropy(&seed, sizeof seed) == 0)
        return seed;
    struct timespec t = {0};
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_nsec * 0x9E3779B97F4A7C15u ^ (uint64_t)t.tv_sec ^ (uint64_t)(uintptr_t)address << 17;
}

void map_init(struct map *m, const struct allocator *a) {
    *m = (struct map){.a = a};
    str_init(&m->keys, a);
}

void map_free(struct map *m) {
    mem_free(m->a, m->slots);
    str_free(&m->keys);
    map_init(m, m->a);
}

/* The slot of the key, or the free slot where it belongs. cap is a power of two and at least half of it is free. */
static struct map_slot *find(const struct map *m, struct text key, uint64_t hash) {
    for (size_t i = (size_t)hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *s = &m->slots[i];
        if (!s->hash)
            return s;
        if (s->hash == hash && s->n == key.n && (key.n == 0 || memcmp(m->keys.p + s->at, key.p, key.n) == 0))
            return s;
    }
}

static int grow(struct map *m, struct err *e) {
    size_t cap = 16;
    if (m->cap && !size_mul(m->cap, 2, &cap))
        return err_set(e, ERR_NOMEM, "out of memory: a map of %zu keys", m->n);
    struct map_slot *slots = mem_zero(m->a, cap, sizeof *slots, e);
    if (!slots)
        return ERR_NOMEM;
    for (size_t i = 0; i < m->cap; i++) {
        if (!m->slots[i].hash)
            continue;
        size_t to = (size_t)m->slots[i].hash & (cap - 1);
        while (slots[to].hash)
            to = (to + 1) & (cap - 1);
        slots[to] = m->slots[i];
    }
    mem_free(m->a, m->slots);
    m->slots = slots;
    m->cap = cap;
    return ERR_NONE;
}

int map_put(struct map *m, struct text key, size_t value, struct err *e) {
    if (!m->cap)
        m->seed = map_seed(m);
    uint64_t hash = map_hash(m->seed, key.p, key.n);
    struct map_slot *s = m->cap ? find(m, key, hash) : NULL;
    if (s && s->hash) {
        s->value = value;
        return ERR_NONE;
    }
    if (m->n >= m->cap / 2) {
        if (grow(m, e))
            return ERR_NOMEM;
        s = find(m, key, hash);
    }
    size_t at = m->keys.n;
    str_add(&m->keys, key.p, key.n);
    if (str_status(&m->keys, e)) {
        m->keys.failed = false; /* the map is as it was and can be used */
        return ERR_NOMEM;
    }
    *s = (struct map_slot){hash, at, key.n, value};
    m->n++;
    return ERR_NONE;
}

bool map_get(const struct map *m, struct text key, size_t *value) {
    if (!m->cap)
        return false;
    const struct map_slot *s = find(m, key, map_hash(m->seed, key.p, key.n));
    if (!s->hash)
        return false;
    if (value)
        *value = s->value;
    return true;
}
