/* Merging with a heap of pairs by rank, then by place: n log n for a chunk of n bytes, whatever it holds. Entries are never taken
 * out of the heap early: one counts only if its place still has a pair of its rank. */
#include "text/bpe.h"

#include "core/hash.h"

#include <stdlib.h>
#include <string.h>

struct bpe_pair {
    uint64_t key; /* left << 32 | right */
    uint32_t rank;
    int32_t id;
};

struct bpe_node { /* a piece of the chunk, at the place of its first byte */
    int32_t id, merged;
    uint32_t prev, next; /* NONE, or the length, at the ends */
    uint32_t rank;       /* of the pair with the next one; NONE: no such merge, or the piece is gone */
};
static const uint32_t NONE = UINT32_MAX;

int bpe_add(struct bpe *b, struct bpe_merge m, struct err *e) {
    int code = b->n >= NONE ? err_set(e, ERR_UNSUPPORTED, "more than 2^32 merges")
                            : mem_reserve(b->v->a, &b->merges, &b->cap, b->n + 1, sizeof *b->merges, e);
    if (!code)
        b->merges[b->n++] = m;
    return code;
}

void bpe_free(struct bpe *b) {
    if (!b->v)
        return;
    void *const blocks[] = {b->merges, b->pairs, b->first, b->nodes, b->heap};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        mem_free(b->v->a, blocks[i]);
    *b = (struct bpe){0};
}

static int by_key(const void *x, const void *y) {
    const struct bpe_pair *a = x, *b = y;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return (a->rank > b->rank) - (a->rank < b->rank);
}

int bpe_ready(struct bpe *b, struct err *e) {
    const struct allocator *a = b->v->a;
    for (int c = 0; c < 256; c++) {
        char byte = (char)(unsigned char)c;
        b->byte[c] = vocab_find(b->v, (struct text){&byte, 1});
        if (b->byte[c] < 0)
            return err_set(e, ERR_FORMAT, "no piece for byte 0x%02x: this is no vocabulary over bytes, or it was cut",
                           (unsigned)c);
    }
    b->pairs = mem_new(a, b->n, sizeof *b->pairs, e);
    b->first = mem_zero(a, b->v->n + 1, sizeof *b->first, e);
    if (!b->pairs || !b->first)
        return ERR_NOMEM;
    for (size_t i = 0; i < b->n; i++)
        b->pairs[i] = (struct bpe_pair){(uint64_t)(uint32_t)b->merges[i].left << 32 | (uint32_t)b->merges[i].right,
                                        b->merges[i].rank, b->merges[i].id};
    qsort(b->pairs, b->n, sizeof *b->pairs, by_key);
    for (size_t i = 0; i < b->n; i++) {
        if (i && b->pairs[i].key == b->pairs[i - 1].key)
            return err_set(e, ERR_FORMAT, "merges %u and %u join the same pieces", (unsigned)b->pairs[i - 1].rank,
                           (unsigned)b->pairs[i].rank);
        b->first[(b->pairs[i].key >> 32) + 1] = (uint32_t)i + 1;
    }
    for (size_t i = 0; i < b->v->n; i++)
        b->first[i + 1] = b->first[i + 1] > b->first[i] ? b->first[i + 1] : b->first[i];
    return 0;
}

int bpe_derive(struct bpe *b, struct err *e) {
    for (size_t id = 0; id < b->v->n; id++) {
        struct text t = vocab_piece(b->v, id);
        if (b->v->pieces[id].kind != PIECE_NORMAL)
            continue;
        for (size_t k = 1; k < t.n; k++) {
            struct bpe_merge m = {vocab_find(b->v, (struct text){t.p, k}), -1, (int32_t)id, (uint32_t)id};
            if (m.left >= 0)
                m.right = vocab_find(b->v, (struct text){t.p + k, t.n - k});
            if (m.left < 0 || m.right < 0 || b->v->pieces[m.left].kind != PIECE_NORMAL ||
                b->v->pieces[m.right].kind != PIECE_NORMAL)
                continue;
            int code = bpe_add(b, m, e);
            if (code)
                return code;
        }
    }
    return 0;
}

static const struct bpe_pair *find_pair(const struct bpe *b, int32_t left, int32_t right) {
    size_t low = b->first[left], high = b->first[left + 1];
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (b->pairs[mid].key < key)
            low = mid + 1;
        else
            high = mid;
    }
    return low < b->first[left + 1] && b->pairs[low].key == key ? &b->pairs[low] : NULL;
}

/* ---- the heap: rank << 32 | place, smallest first ---- */

static void heap_add(uint64_t *heap, size_t *n, uint64_t x) {
    size_t i = (*n)++;
    for (size_t up; i && heap[up = (i - 1) / 2] > x; i = up)
        heap[i] = heap[up];
    heap[i] = x;
}

static uint64_t heap_take(uint64_t *heap, size_t *n) {
    uint64_t top = heap[0], x = heap[--*n];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < *n; i = k) {
        k += k + 1 < *n && heap[k + 1] < heap[k];
        if (heap[k] >= x)
            break;
        heap[i] = heap[k];
    }
    heap[i] = x;
    return top;
}

/* Looks up the pair that starts at place i, and puts it on the heap. */
static void pair_up(struct bpe *b, size_t i, size_t len, size_t *n) {
    struct bpe_node *node = &b->nodes[i];
    const struct bpe_pair *p = node->next < len ? find_pair(b, node->id, b->nodes[node->next].id) : NULL;
    node->rank = p ? p->rank : NONE;
    if (!p)
        return;
    node->merged = p->id;
    heap_add(b->heap, n, (uint64_t)p->rank << 32 | i);
}

static int put(struct cut *out, int32_t id, size_t from, size_t to, struct err *e) {
    int code = mem_reserve(out->a, &out->ids, &out->ids_cap, out->n + 1, sizeof *out->ids, e);
    code = code ? code : mem_reserve(out->a, &out->from, &out->from_cap, out->n + 1, sizeof *out->from, e);
    code = code ? code : mem_reserve(out->a, &out->to, &out->to_cap, out->n + 1, sizeof *out->to, e);
    if (code)
        return code;
    out->ids[out->n] = id;
    out->from[out->n] = (uint32_t)from;
    out->to[out->n++] = (uint32_t)to;
    return 0;
}

static int cut_chunk(struct bpe *b, const char *p, size_t len, size_t at, struct cut *out, struct err *e) {
    int32_t id = b->whole ? vocab_find(b->v, (struct text){p, len}) : -1;
    if (id >= 0 && b->v->pieces[id].kind == PIECE_NORMAL)
        return put(out, id, at, at + len, e);
    /* at most one entry a pair at the start, and two a merge */
    int code = mem_reserve(b->v->a, &b->nodes, &b->cap_nodes, len, sizeof *b->nodes, e);
    code = code ? code : mem_reserve(b->v->a, &b->heap, &b->cap_heap, 3 * len, sizeof *b->heap, e);
    if (code)
        return code;
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        b->nodes[i] = (struct bpe_node){b->byte[(unsigned char)p[i]], -1, i ? (uint32_t)i - 1 : NONE, (uint32_t)i + 1, NONE};
    for (size_t i = 0; i < len; i++)
        pair_up(b, i, len, &n);
    while (n) {
        uint64_t top = heap_take(b->heap, &n);
        size_t i = (uint32_t)top;
        struct bpe_node *node = &b->nodes[i];
        if (node->rank == NONE || node->rank != top >> 32)
            continue;
        b->nodes[node->next].rank = NONE;
        node->id = node->merged;
        node->next = b->nodes[node->next].next;
        if (node->next < len)
            b->nodes[node->next].prev = (uint32_t)i;
        pair_up(b, i, len, &n);
        if (node->prev != NONE)
            pair_up(b, node->prev, len, &n);
    }
    for (size_t i = 0; i < len && !code; i = b->nodes[i].next)
        code = put(out, b->nodes[i].id, at + i, at + b->nodes[i].next, e);
    return code;
}

int bpe_cut(struct bpe *b, struct text t, struct cut *out, struct err *e) {
    int code = 0;
    out->n = 0;
    if (t.n > INT32_MAX)
        return err_set(e, ERR_INVALID, "a text of %zu bytes is too long to tokenise: the limit is 2 GiB", t.n);
    for (size_t at = 0, end; at < t.n && !code; at = end) {
        end = split_next(b->pattern, t, at);
        code = cut_chunk(b, t.p + at, end - at, at, out, e);
    }
    return code;
}

static void hash_u32(struct sha256 *s, uint32_t x) {
    unsigned char bytes[4] = {(unsigned char)x, (unsigned char)(x >> 8), (unsigned char)(x >> 16), (unsigned char)(x >> 24)};
    sha256_add(s, bytes, sizeof bytes);
}

void bpe_hash(const struct bpe *b, char hex[65]) {
    struct sha256 s;
    sha256_begin(&s);
    sha256_add(&s, "bpe 1", 5);
    hash_u32(&s, (uint32_t)b->v->n);
    for (size_t i = 0; i < b->v->n; i++) {
        struct text t = vocab_piece(b->v, i);
        hash_u32(&s, (uint32_t)b->v->pieces[i].kind);
        hash_u32(&s, (uint32_t)t.n);
        sha256_add(&s, t.p, t.n);
    }
    hash_u32(&s, (uint32_t)b->pattern | (uint32_t)b->whole << 8);
    for (size_t i = 0; i < b->n; i++) {
        hash_u32(&s, (uint32_t)b->merges[i].left);
        hash_u32(&s, (uint32_t)b->merges[i].right);
        hash_u32(&s, (uint32_t)b->merges[i].id);
        hash_u32(&s, b->merges[i].rank);
    }
    unsigned char digest[32];
    sha256_end(&s, digest);
    sha256_hex(digest, hex);
}
