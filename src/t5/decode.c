/* One decoder step for all sequences in flight, whatever their lengths: linear layers see one row per sequence, attention one
 * span per sequence, whose keys are the slot's rows of the cache, or those of the memory that it shares with others. The relative
 * bias needs no cache of its own: a query at position p reads distances 0 .. -p. */
#include "t5/decode.h"

#include "t5/buckets.h"

#include <string.h>

enum { FIRST_ROOM = 32 };

static void free_caches(struct decoding *d, struct layer_cache *c) {
    for (size_t i = 0; c && i < d->layers; i++) {
        mem_free_aligned(d->a, c[i].k.data);
        mem_free_aligned(d->a, c[i].v.data);
    }
}

void decoding_close(struct decoding *d) {
    free_caches(d, d->self);
    free_caches(d, d->cross);
    mem_free_aligned(d->a, d->bias.data);
    mem_free(d->a, d->ids);
    mem_free(d->a, d->logprobs);
}

static struct mat new_mat(const struct decoding *d, size_t rows, size_t cols, struct err *e) {
    size_t n = 0;
    struct mat m = mat_of(NULL, DTYPE_F32, rows, cols);
    if (size_mul(rows, cols, &n))
        m.data = mem_aligned(d->a, n, sizeof(float), e);
    else
        err_set(e, ERR_NOMEM, "a cache of %zu x %zu does not fit into memory", rows, cols);
    return m;
}

/* Regions of a cache: who uses how many rows of his. */
struct regions {
    size_t n, room;
    const size_t *used;
};

static void grow_mat(struct decoding *d, const struct run *r, struct mat *m, struct regions old, size_t room) {
    struct mat grown = new_mat(d, old.n * room, r->c->inner, r->x.err);
    if (!grown.data)
        return;
    for (size_t i = 0; i < old.n && m->data; i++)
        if (old.used[i])
            copy(&r->x, mat_rows(grown, i * room, old.used[i]), mat_rows(*m, i * old.room, old.used[i]));
    mem_free_aligned(d->a, m->data);
    *m = grown;
}

static int grow(struct decoding *d, const struct run *r, struct layer_cache *c, struct regions old, size_t room) {
    for (size_t i = 0; i < d->layers && !exec_status(&r->x); i++) {
        grow_mat(d, r, &c[i].k, old, room);
        grow_mat(d, r, &c[i].v, old, room);
    }
    return exec_status(&r->x);
}

/* Room for more: twice as much, or what is needed. */
static size_t next_room(size_t room, size_t need, size_t most) {
    size_t to = need > room * 2 ? need : room * 2;
    return to < most ? to : most;
}

static int grow_written(struct decoding *d, size_t room, struct err *e) {
    size_t n = 0;
    if (!size_mul(d->slots, room, &n))
        return err_set(e, ERR_NOMEM, "%zu sequences of %zu tokens do not fit into memory", d->slots, room);
    int32_t *ids = mem_new(d->a, n, sizeof *ids, e);
    float *logprobs = mem_new(d->a, n, sizeof *logprobs, e);
    for (size_t s = 0; ids && logprobs && s < d->slots && d->self_room; s++) {
        memcpy(ids + s * room, d->ids + s * d->self_room, d->length[s] * sizeof *ids);
        memcpy(logprobs + s * room, d->logprobs + s * d->self_room, d->length[s] * sizeof *logprobs);
    }
    mem_free(d->a, d->ids);
    mem_free(d->a, d->logprobs);
    d->ids = ids;
    d->logprobs = logprobs;
    return e->code;
}

/* Bias of all distances that fit into the self-attention caches. */
static int make_bias(struct decoding *d, const struct run *r, const struct t5_weights *w) {
    struct buckets b;
    buckets_init(&b, false, r->c->buckets, r->c->max_distance);
    struct arena_mark mark = arena_mark(r->acts);
    int32_t *bucket = arena_take(r->acts, d->self_room, sizeof *bucket, r->x.err);
    mem_free_aligned(d->a, d->bias.data);
    d->bias = new_mat(d, r->c->heads, d->self_room, r->x.err);
    for (size_t i = 0; bucket && i < d->self_room; i++)
        bucket[i] = bucket_of(&b, (int64_t)i - (int64_t)(d->self_room - 1));
    bias_expand_forward(&r->x, d->bias, w->decoder.bias->w, bucket);
    arena_release(r->acts, mark);
    return exec_status(&r->x);
}

static int grow_self(struct decoding *d, const struct run *r, const struct t5_weights *w, size_t need) {
    size_t room = next_room(d->self_room, need, d->max_tokens);
    if (grow(d, r, d->self, (struct regions){d->slots, d->self_room, d->length}, room) || grow_written(d, room, r->x.err))
        return exec_status(&r->x);
    d->self_room = room;
    return make_bias(d, r, w);
}

int decoding_open(struct decoding *d, const struct run *r, const struct t5_weights *w, const struct allocator *a, size_t slots,
                  size_t memories, size_t max_tokens, size_t vocab) {
    struct err *e = r->x.err;
    *d = (struct decoding){
        .a = a, .slots = slots, .memories = memories, .layers = w->decoder.n, .max_tokens = max_tokens, .vocab = vocab};
    d->order = arena_take(r->acts, slots, sizeof *d->order, e);
    d->place = arena_take(r->acts, slots, sizeof *d->place, e);
    d->length = arena_take(r->acts, slots, sizeof *d->length, e);
    d->memory = arena_take(r->acts, slots, sizeof *d->memory, e);
    d->last = arena_take(r->acts, slots, sizeof *d->last, e);
    d->leaving = arena_take(r->acts, slots, sizeof *d->leaving, e);
    d->memory_length = arena_take(r->acts, memories, sizeof *d->memory_length, e);
    d->uses = arena_take(r->acts, memories, sizeof *d->uses, e);
    d->lse = run_vector(r, 1, slots);
    d->logits = run_mat(r, slots, vocab);
    struct layer_cache *self = arena_take(r->acts, d->layers, sizeof *self, e),
                       *cross = arena_take(r->acts, d->layers, sizeof *cross, e);
    if (exec_status(&r->x))
        return exec_status(&r->x);
    for (size_t i = 0; i < d->layers; i++)
        self[i] = cross[i] = (struct layer_cache){{0}, {0}};
    d->self = self;
    d->cross = cross;
    for (size_t i = 0; i < slots; i++) {
        d->order[i] = i;
        d->length[i] = 0;
        d->leaving[i] = false;
    }
    for (size_t i = 0; i < memories; i++)
        d->memory_length[i] = d->uses[i] = 0;
    return grow_self(d, r, w, max_tokens < FIRST_ROOM ? max_tokens : FIRST_ROOM);
}

/* Cross-attention keys and values of the new inputs, from the encoder's output. */
static void fill_cross(struct decoding *d, const struct run *r, const struct t5_weights *w, struct mat out,
                       const uint32_t *offsets, size_t n, const size_t *memory) {
    struct mat k = run_mat(r, out.rows, r->c->inner), v = run_mat(r, out.rows, r->c->inner);
    for (size_t l = 0; l < d->layers; l++) {
        const struct attention_weights *a = &w->decoder.blocks[l].cross;
        linear_forward(r, k, a->k, out, 0);
        linear_forward(r, v, a->v, out, 0);
        for (size_t i = 0; i < n && !exec_status(&r->x); i++) {
            size_t from = offsets[i] - offsets[0], rows = offsets[i + 1] - offsets[i];
            copy(&r->x, mat_rows(d->cross[l].k, memory[i] * d->cross_room, rows), mat_rows(k, from, rows));
            copy(&r->x, mat_rows(d->cross[l].v, memory[i] * d->cross_room, rows), mat_rows(v, from, rows));
        }
    }
}

int decoding_encode(struct decoding *d, const struct run *r, const struct t5_weights *w, const int32_t *ids,
                    const uint32_t *offsets, size_t n, size_t *memory) {
    struct stack_acts s = {.tokens = offsets[n] - offsets[0], .ids = ids + offsets[0], .n_spans = n};
    struct arena_mark mark = arena_mark(r->acts);
    s.self = arena_take(r->acts, n, sizeof *s.self, r->x.err);
    if (!s.self)
        return exec_status(&r->x);
    for (size_t i = 0, at = 0; i < n; i++, at++) {
        size_t first = offsets[i] - offsets[0], rows = offsets[i + 1] - offsets[i];
        s.self[i] = (struct attention_span){first, rows, first, rows};
        s.longest = rows > s.longest ? rows : s.longest;
        while (d->uses[at])
            at++;
        memory[i] = at;
    }
    encoder_forward(r, w, &s);
    if (!exec_status(&r->x) && s.longest > d->cross_room) {
        size_t room = next_room(d->cross_room, s.longest, SIZE_MAX);
        if (!grow(d, r, d->cross, (struct regions){d->memories, d->cross_room, d->memory_length}, room))
            d->cross_room = room;
    }
    if (exec_status(&r->x))
        return exec_status(&r->x);
    fill_cross(d, r, w, s.out, offsets, n, memory);
    arena_release(r->acts, mark);
    for (size_t i = 0; i < n; i++) {
        d->uses[memory[i]] = 1;
        d->memory_length[memory[i]] = offsets[i + 1] - offsets[i];
    }
    return exec_status(&r->x);
}

void decoding_release(struct decoding *d, size_t memory) {
    if (--d->uses[memory] == 0)
        d->memory_length[memory] = 0;
}

size_t decoding_begin(struct decoding *d, int32_t start, size_t memory) {
    size_t slot = d->order[d->active++];
    d->uses[memory]++;
    d->memory[slot] = memory;
    d->length[slot] = 0;
    d->last[slot] = start;
    return slot;
}

void decoding_fork(struct decoding *d, const struct run *r, size_t from, size_t to) {
    size_t n = d->length[from], room = d->self_room;
    for (size_t l = 0; l < d->layers; l++) {
        copy(&r->x, mat_rows(d->self[l].k, to * room, n), mat_rows(d->self[l].k, from * room, n));
        copy(&r->x, mat_rows(d->self[l].v, to * room, n), mat_rows(d->self[l].v, from * room, n));
    }
    memcpy(d->ids + to * room, d->ids + from * room, n * sizeof *d->ids);
    memcpy(d->logprobs + to * room, d->logprobs + from * room, n * sizeof *d->logprobs);
    d->length[to] = n;
    d->last[to] = d->last[from];
}

void decoding_choose(struct decoding *d, size_t slot, int32_t id, float logprob) {
    size_t at = slot * d->self_room + d->length[slot] - 1;
    d->last[slot] = d->ids[at] = id;
    d->logprobs[at] = logprob;
}

const int32_t *decoding_ids(const struct decoding *d, size_t slot) {
    return d->ids + slot * d->self_room;
}

const float *decoding_logprobs(const struct decoding *d, size_t slot) {
    return d->logprobs + slot * d->self_room;
}

/* x += attention of one row per active slot over its rows of the cache */
static void attend(const struct decoding *d, const struct run *r, const struct attention_weights *a, struct mat x,
                   struct layer_cache *c, struct attention_span *spans, bool self) {
    struct arena_mark mark = arena_mark(r->acts);
    size_t n = d->active, D = r->c->inner;
    struct mat y = run_mat(r, n, x.cols), q = run_mat(r, n, D), out = run_mat(r, n, D);
    rmsnorm_forward(&r->x, y, run_vector(r, 1, n), x, a->norm->w, r->c->eps);
    linear_forward(r, q, a->q, y, 0);
    if (self) {
        struct mat k = run_mat(r, n, D), v = run_mat(r, n, D);
        linear_forward(r, k, a->k, y, 0);
        linear_forward(r, v, a->v, y, 0);
        for (size_t i = 0; i < n && !exec_status(&r->x); i++) {
            size_t row = d->order[i] * d->self_room + d->length[d->order[i]];
            copy(&r->x, mat_rows(c->k, row, 1), mat_rows(k, i, 1));
            copy(&r->x, mat_rows(c->v, row, 1), mat_rows(v, i, 1));
        }
    }
    struct attention s = {.heads = r->c->heads, .d_kv = r->c->d_kv, .spans = spans, .n_spans = n, .causal = self};
    if (self) {
        s.bias = d->bias;
        s.bias_zero = d->self_room - 1;
    }
    attention_forward(&r->x, out, NULL, q, c->k, c->v, &s);
    linear_forward(r, x, a->o, out, 1);
    arena_release(r->acts, mark);
}

int decoding_step(struct decoding *d, const struct run *r, const struct t5_weights *w) {
    size_t n = d->active, longest = 0;
    for (size_t i = 0; i < n; i++)
        longest = d->length[d->order[i]] > longest ? d->length[d->order[i]] : longest;
    if (longest == d->self_room && grow_self(d, r, w, longest + 1))
        return exec_status(&r->x);

    struct arena_mark mark = arena_mark(r->acts);
    int32_t *ids = arena_take(r->acts, n, sizeof *ids, r->x.err);
    struct attention_span *self = arena_take(r->acts, n, sizeof *self, r->x.err),
                          *cross = arena_take(r->acts, n, sizeof *cross, r->x.err);
    struct mat x = run_mat(r, n, r->c->d_model), out = run_mat(r, n, r->c->d_model);
    if (exec_status(&r->x))
        return exec_status(&r->x);
    for (size_t i = 0; i < n; i++) {
        size_t s = d->order[i];
        ids[i] = d->last[s];
        self[i] = (struct attention_span){i, 1, s * d->self_room, d->length[s] + 1};
        cross[i] = (struct attention_span){i, 1, d->memory[s] * d->cross_room, d->memory_length[d->memory[s]]};
        d->place[s] = i;
    }
    embedding_forward(&r->x, x, w->shared->w, ids);
    struct dropout none = {0};
    for (size_t l = 0; l < d->layers; l++) {
        const struct t5_block *b = &w->decoder.blocks[l];
        struct ffn_acts kept;
        attend(d, r, &b->self, x, &d->self[l], self, true);
        attend(d, r, &b->cross, x, &d->cross[l], cross, false);
        x = ffn_sublayer(r, &kept, &b->ffn, x, none, none);
    }
    rmsnorm_forward(&r->x, out, run_vector(r, 1, n), x, w->decoder.final_norm->w, r->c->eps);
    struct mat logits = mat_rows(d->logits, 0, n);
    head_logits(r, w, logits, out);
    row_lse(&r->x, d->lse, logits);
    arena_release(r->acts, mark);
    for (size_t i = 0; i < n; i++)
        d->length[d->order[i]]++;
    return exec_status(&r->x);
}

void decoding_leave(struct decoding *d) {
    size_t kept = 0;
    for (size_t i = 0; i < d->active; i++) {
        size_t slot = d->order[i];
        if (d->leaving[i]) {
            d->leaving[i] = false;
            d->length[slot] = 0;
            decoding_release(d, d->memory[slot]);
            continue;
        }
        d->order[i] = d->order[kept];
        d->order[kept++] = slot;
    }
    d->active = kept;
}
