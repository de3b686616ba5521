/* Two tables of 32-bit places, open addressing with linear probing under a keyed hash (core/map): ids to questions, and
 * (question, block of 64 samples) to bits for samples beyond a question's first 64. Whatever sample numbers a file holds, a row
 * costs at most one block and constant time. */
#include "teacher/asked.h"

#include "core/hash.h"
#include "core/map.h"

#include <string.h>

void asked_init(struct asked *x, const struct allocator *a) {
    *x = (struct asked){.a = a};
    str_init(&x->ids, a);
}

void asked_free(struct asked *x) {
    str_free(&x->ids);
    mem_free(x->a, x->questions);
    mem_free(x->a, x->blocks);
    mem_free(x->a, x->by_id.slots);
    mem_free(x->a, x->by_block.slots);
    asked_init(x, x->a);
}

static struct text id_of(const struct asked *x, const struct asked_question *q) {
    return (struct text){str_z(&x->ids) + q->id_at, q->id_n};
}

static uint64_t hash_id(const struct asked *x, struct text id) {
    return map_hash(x->seed, id.p, id.n);
}

static uint64_t hash_block(const struct asked *x, uint64_t number, uint64_t question) {
    const uint64_t key[2] = {number, question};
    return map_hash(x->seed, key, sizeof key);
}

static void insert(struct asked_table *t, uint64_t hash, size_t place) {
    size_t i = (size_t)hash & (t->cap - 1);
    while (t->slots[i])
        i = (i + 1) & (t->cap - 1);
    t->slots[i] = (uint32_t)place + 1;
}

/* Makes room for one more than n entries; *fresh: the table is empty and all entries must be inserted again. */
static int make_room(const struct asked *x, struct asked_table *t, size_t n, bool *fresh, struct err *e) {
    size_t cap = 16;
    *fresh = false;
    if (n < t->cap / 2)
        return 0;
    if (n >= UINT32_MAX / 2 || (t->cap && !size_mul(t->cap, 2, &cap)))
        return err_set(e, ERR_NOMEM, "out of memory: an index of %zu questions", n);
    uint32_t *slots = mem_zero(x->a, cap, sizeof *slots, e);
    if (!slots)
        return ERR_NOMEM;
    mem_free(x->a, t->slots);
    *t = (struct asked_table){slots, cap};
    *fresh = true;
    return 0;
}

struct asked_question *asked_find(const struct asked *x, struct text id) {
    const struct asked_table *t = &x->by_id;
    if (!t->cap)
        return NULL;
    for (size_t i = (size_t)hash_id(x, id) & (t->cap - 1); t->slots[i]; i = (i + 1) & (t->cap - 1)) {
        struct asked_question *q = &x->questions[t->slots[i] - 1];
        if (text_eq(id_of(x, q), id))
            return q;
    }
    return NULL;
}

static int add(struct asked *x, struct text id, const unsigned char digest[32], struct asked_question **out, struct err *e) {
    bool fresh;
    size_t n = x->n_questions;
    int rc;
    if (id.n > UINT32_MAX)
        return err_set(e, ERR_INVALID, "the id of a question has %zu bytes", id.n);
    if (!x->seed)
        x->seed = map_seed(x);
    if ((rc = mem_reserve(x->a, (void *)&x->questions, &x->cap_questions, n + 1, sizeof *x->questions, e)) ||
        (rc = make_room(x, &x->by_id, n, &fresh, e)))
        return rc;
    for (size_t i = 0; fresh && i < n; i++)
        insert(&x->by_id, hash_id(x, id_of(x, &x->questions[i])), i);
    struct asked_question *q = &x->questions[n];
    *q = (struct asked_question){.id_at = x->ids.n, .id_n = (uint32_t)id.n};
    memcpy(q->question, digest, sizeof q->question);
    str_add(&x->ids, id.p, id.n);
    if ((rc = str_status(&x->ids, e))) {
        x->ids.failed = false; /* the index is as it was and can be used */
        return rc;
    }
    insert(&x->by_id, hash_id(x, id), n);
    x->n_questions++;
    *out = q;
    return 0;
}

int asked_enter(struct asked *x, struct text id, struct text question, const char *where, struct asked_question **out,
                struct err *e) {
    unsigned char digest[32];
    struct sha256 sha;
    sha256_begin(&sha);
    sha256_add(&sha, question.p, question.n);
    sha256_end(&sha, digest);
    if (!(*out = asked_find(x, id)))
        return add(x, id, digest, out, e);
    if (memcmp((*out)->question, digest, sizeof(*out)->question) == 0)
        return 0;
    return err_set(e, ERR_INVALID, "question %.*s has another text than in %s: ids must be unique",
                   (int)(id.n < 100 ? id.n : 100), id.p, where);
}

/* The bits of a question's samples 64 * number and on, NULL if there are none. */
static struct asked_samples *samples_of(const struct asked *x, const struct asked_question *q, uint64_t number) {
    const struct asked_table *t = &x->by_block;
    size_t question = (size_t)(q - x->questions);
    if (number == 0)
        return &x->questions[question].first;
    if (!t->cap)
        return NULL;
    for (size_t i = (size_t)hash_block(x, number, question) & (t->cap - 1); t->slots[i]; i = (i + 1) & (t->cap - 1)) {
        struct asked_block *b = &x->blocks[t->slots[i] - 1];
        if (b->number == number && b->question == question)
            return &b->samples;
    }
    return NULL;
}

bool asked_has(const struct asked *x, const struct asked_question *q, int64_t sample, bool *correct) {
    const struct asked_samples *s = samples_of(x, q, (uint64_t)sample / ASKED_SAMPLES);
    uint64_t bit = (uint64_t)1 << (uint64_t)sample % ASKED_SAMPLES;
    if (correct)
        *correct = s && (s->correct & bit);
    return s && (s->there & bit);
}

static int add_block(struct asked *x, uint64_t number, size_t question, struct asked_samples **out, struct err *e) {
    bool fresh;
    size_t n = x->n_blocks;
    int rc;
    if ((rc = mem_reserve(x->a, (void *)&x->blocks, &x->cap_blocks, n + 1, sizeof *x->blocks, e)) ||
        (rc = make_room(x, &x->by_block, n, &fresh, e)))
        return rc;
    for (size_t i = 0; fresh && i < n; i++)
        insert(&x->by_block, hash_block(x, x->blocks[i].number, x->blocks[i].question), i);
    x->blocks[n] = (struct asked_block){.number = number, .question = (uint32_t)question};
    insert(&x->by_block, hash_block(x, number, question), n);
    *out = &x->blocks[x->n_blocks++].samples;
    return 0;
}

int asked_mark(struct asked *x, struct asked_question *q, int64_t sample, bool correct, struct err *e) {
    uint64_t number = (uint64_t)sample / ASKED_SAMPLES, bit = (uint64_t)1 << (uint64_t)sample % ASKED_SAMPLES;
    struct asked_samples *s = samples_of(x, q, number);
    int rc = s ? 0 : add_block(x, number, (size_t)(q - x->questions), &s, e);
    if (rc)
        return rc;
    s->there |= bit;
    s->correct |= correct ? bit : 0;
    return 0;
}

uint64_t asked_request(const char *hash) {
    uint64_t x = 0;
    for (size_t i = 0; i < 16 && hash[i]; i++) {
        unsigned char c = (unsigned char)hash[i];
        x = x << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return x ? x : 1;
}
