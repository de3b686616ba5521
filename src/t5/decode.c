/* One decoder step for all sequences in flight, whatever their lengths: linear layers see one row per sequence, attention one
 * query per sequence, whose keys are the slot's rows of the cache, or those of the memory that it shares with others. The relative
 * bias needs no cache of its own: a query at position p reads distances 0 .. -p.
 *
 * A step reads every weight of the decoder once, and that is its time; so layers that read one input are one call, and nothing
 * is asked from the allocator unless a cache is full. */
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

static struct mat new_mat(const struct decoding *d, enum dtype type, size_t rows, size_t cols, struct err *e) {
    size_t n = 0;
    struct mat m = mat_of(NULL, type, rows, cols);
    if (size_mul(rows, cols, &n))
        m.data = mem_aligned(d->a, n, dtype_size(type), e);
    else
        err_set(e, ERR_NOMEM, "a cache of %zu x %zu does not fit into memory", rows, cols);
    return m;
}

/* Regions of a cache: who uses how many rows of his heads. */
struct regions {
    size_t n, room;
    const size_t *used;
};

/* The first n rows of every head of a region, a head a row. */
static struct mat heads_of(const struct decoding *d, struct mat m, size_t room, size_t region, size_t n) {
    m = mat_rows(m, region * d->heads * room, d->heads);
    m.cols = n * d->d_kv;
    m.ld = room * d->d_kv;
    return m;
}

static void grow_mat(struct decoding *d, const struct run *r, struct mat *m, struct regions old, size_t room) {
    struct mat grown = new_mat(d, d->cached, old.n * d->heads * room, d->d_kv, r->x.err);
    if (!grown.data)
        return;
    for (size_t i = 0; i < old.n && m->data; i++)
        if (old.used[i])
            copy(&r->x, heads_of(d, grown, room, i, old.used[i]), heads_of(d, *m, old.room, i, old.used[i]));
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
    d->bias = new_mat(d, DTYPE_F32, r->c->heads, d->self_room, r->x.err);
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
    *d = (struct decoding){.a = a,
                           .slots = slots,
                           .memories = memories,
                           .layers = w->decoder.n,
                           .vocab = vocab,
                           .heads = r->c->heads,
                           .d_kv = r->c->d_kv,
                           .cached = w->type == DTYPE_F32 && !w->int8 ? DTYPE_F32 : DTYPE_BF16,
                           .max_tokens = max_tokens};
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

/* Rows from .. +n of packed keys or values, head by head into a memory. */
static void store_heads(const struct decoding *d, const struct run *r, struct mat cache, size_t memory, struct mat packed,
                        size_t from, size_t n) {
    for (size_t h = 0; h < d->heads; h++)
        copy(&r->x, mat_rows(cache, (memory * d->heads + h) * d->cross_room, n),
             mat_cols(mat_rows(packed, from, n), h * d->d_kv, d->d_kv));
}

/* Cross-attention keys and values of the new inputs, from the encoder's output. */
static void fill_cross(struct decoding *d, const struct run *r, const struct t5_weights *w, struct mat out,
                       const uint32_t *offsets, size_t n, const size_t *memory) {
    struct mat k = run_act(r, out.rows, r->c->inner), v = run_act(r, out.rows, r->c->inner);
    for (size_t l = 0; l < d->layers; l++) {
        const struct attention_weights *a = &w->decoder.blocks[l].cross;
        linear_forward(r, (const struct branch[]){{a->k, k}, {a->v, v}}, 2, out);
        for (size_t i = 0; i < n && !exec_status(&r->x); i++) {
            size_t from = offsets[i] - offsets[0], rows = offsets[i + 1] - offsets[i];
            store_heads(d, r, d->cross[l].k, memory[i], k, from, rows);
            store_heads(d, r, d->cross[l].v, memory[i], v, from, rows);
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
        copy(&r->x, heads_of(d, d->self[l].k, room, to, n), heads_of(d, d->self[l].k, room, from, n));
        copy(&r->x, heads_of(d, d->self[l].v, room, to, n), heads_of(d, d->self[l].v, room, from, n));
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

/* What a step needs beside the caches. */
struct step {
    const struct run *r;
    struct mat x, y;                      /* the stream; its norm */
    float *rrms;                          /* of which nobody asks */
    size_t *slot, *self, *memory, *cross; /* of each sequence: regions of the caches and keys in them */
    struct mat q, k, v, out, h, g;
};

static bool step_open(struct step *s, const struct decoding *d) {
    const struct run *r = s->r;
    size_t n = d->active, C = r->c->d_model, D = r->c->inner, F = r->c->d_ff;
    s->slot = arena_take(r->acts, n, sizeof *s->slot, r->x.err);
    s->self = arena_take(r->acts, n, sizeof *s->self, r->x.err);
    s->memory = arena_take(r->acts, n, sizeof *s->memory, r->x.err);
    s->cross = arena_take(r->acts, n, sizeof *s->cross, r->x.err);
    s->rrms = run_vector(r, 1, n);
    s->x = run_mat(r, n, C);
    s->y = run_mat(r, n, C);
    s->q = run_mat(r, n, D);
    s->k = run_mat(r, n, D);
    s->v = run_mat(r, n, D);
    s->out = run_mat(r, n, D);
    s->h = run_mat(r, n, F);
    s->g = run_mat(r, n, F);
    return !exec_status(&r->x);
}

static void norm(const struct step *s, const struct param *w) {
    rmsnorm_forward(&s->r->x, s->y, s->rrms, s->x, w->w, s->r->c->eps);
}

/* x += attention of one row per active slot over its rows of the cache */
static void attend_self(const struct step *s, const struct decoding *d, const struct attention_weights *a,
                        const struct layer_cache *c) {
    const struct exec *x = &s->r->x;
    norm(s, a->norm);
    const struct projection p[] = {linear_projection(a->q, s->q), linear_projection(a->k, s->k), linear_projection(a->v, s->v)};
    project(x, s->y, p, 3);
    attention_step(x, s->out, s->q,
                   &(struct attention_step){.heads = d->heads,
                                            .d_kv = d->d_kv,
                                            .room = d->self_room,
                                            .k = c->k,
                                            .v = c->v,
                                            .new_k = s->k,
                                            .new_v = s->v,
                                            .region = s->slot,
                                            .length = s->self,
                                            .bias = d->bias,
                                            .bias_zero = d->self_room - 1});
    linear_add(s->r, s->x, a->o, s->out);
}

static void attend_memory(const struct step *s, const struct decoding *d, const struct attention_weights *a,
                          const struct layer_cache *c) {
    const struct exec *x = &s->r->x;
    norm(s, a->norm);
    const struct projection p = linear_projection(a->q, s->q);
    project(x, s->y, &p, 1);
    attention_step(x, s->out, s->q,
                   &(struct attention_step){.heads = d->heads,
                                            .d_kv = d->d_kv,
                                            .room = d->cross_room,
                                            .k = c->k,
                                            .v = c->v,
                                            .region = s->memory,
                                            .length = s->cross});
    linear_add(s->r, s->x, a->o, s->out);
}

static void feed_forward(const struct step *s, const struct ffn_weights *w) {
    const struct exec *x = &s->r->x;
    bool gated = w->gate.base != NULL;
    norm(s, w->norm);
    const struct projection p[] = {linear_projection(w->wi, s->h), linear_projection(gated ? w->gate : w->wi, s->g)};
    project(x, s->y, p, gated ? 2 : 1);
    if (!gated)
        relu_forward(x, s->h, s->h);
    else
        (s->r->c->silu ? swiglu_forward : geglu_forward)(x, s->h, s->h, s->g, NO_DROPOUT);
    linear_add(s->r, s->x, w->wo, s->h);
}

int decoding_step(struct decoding *d, const struct run *r, const struct t5_weights *w) {
    size_t n = d->active, longest = 0;
    for (size_t i = 0; i < n; i++)
        longest = d->length[d->order[i]] > longest ? d->length[d->order[i]] : longest;
    if (longest == d->self_room && grow_self(d, r, w, longest + 1))
        return exec_status(&r->x);

    struct arena_mark mark = arena_mark(r->acts);
    struct step s = {.r = r};
    int32_t *ids = arena_take(r->acts, n, sizeof *ids, r->x.err);
    if (!step_open(&s, d) || !ids)
        return exec_status(&r->x);
    for (size_t i = 0; i < n; i++) {
        size_t slot = d->order[i];
        ids[i] = d->last[slot];
        s.slot[i] = slot;
        s.self[i] = d->length[slot] + 1;
        s.memory[i] = d->memory[slot];
        s.cross[i] = d->memory_length[d->memory[slot]];
        d->place[slot] = i;
    }
    embedding_forward(&r->x, s.x, w->shared->w, ids);
    for (size_t l = 0; l < d->layers; l++) {
        const struct t5_block *b = &w->decoder.blocks[l];
        attend_self(&s, d, &b->self, &d->self[l]);
        attend_memory(&s, d, &b->cross, &d->cross[l]);
        feed_forward(&s, &b->ffn);
    }
    norm(&s, w->decoder.final_norm);
    struct mat logits = mat_rows(d->logits, 0, n);
    head_project(r, w, logits, s.y);
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
