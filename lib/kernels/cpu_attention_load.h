/* Part of cpu.c: what an attention task copies before it computes (cpu_attention.h): its head's part of queries, keys and values,
 * in the order in which the products read them.
 *
 * Operands are words: an F32, or, where queries, keys and values are BF16 and the processor multiplies pairs of them
 * (cpu_gemm_micro.h), two neighbours in the dimension that is summed over. So a matrix that is summed over both ways, along its
 * rows and down its columns, is kept in two layouts, which are the same where words are F32. */
#ifndef KERNELS_CPU_ATTENTION_LOAD_H
#define KERNELS_CPU_ATTENTION_LOAD_H

#include "kernels/cpu_block.h"
#include "kernels/cpu_lanes.h"

enum {
    BLOCK = 64, /* queries and keys of a block */
    AHEAD = 12, /* rows asked for before they are read */
};

/* Memory of a worker. Blocks of keys lie one behind another; D: width of a head, rounded up to whole registers of words; p: numbers in
 * a word, 1 or 2, and n / p is rounded up. */
struct attention_space {
    float *q, *dout;           /* [BLOCK, D / p]: of the tile */
    float *q_down, *dout_down; /* [BLOCK / p, D]: the same, to be summed over the queries; of F32 the same memory */
    float *kt, *vt;            /* [D / p, BLOCK] each block: transposed, zero behind the last key */
    float *k, *v;              /* [BLOCK / p, D] each block */
    float *dk, *dv;            /* [BLOCK, D] each block, F32 */
    float *a, *b;              /* [BLOCK, BLOCK]: scores, later probabilities (forward: of all blocks); gradient of the scores */
    float *a_down, *b_down;    /* [BLOCK / p, BLOCK]: pairs of queries of the same; of F32 the same memory */
    float *kept;               /* [BLOCK, kept_stride] halves of a word: bits of what dropout keeps (mask_row) */
    float *out;                /* [BLOCK, D]: output, or dq; F32 */
    float *max, *sum;          /* [BLOCK, LANES]: of each row, lane by lane */
    float *mean;               /* [BLOCK] */
};

struct attention_job {
    struct rows rows;
    const struct attention *s;
    struct mat q, k, v, out, dq, dk, dv, dbias, dout;
    float *lse;
    const float *lse_in;
    bool backward, pair; /* pair: operands are pairs of BF16 */
    size_t groups, D;    /* D: of attention_space */
    size_t keys;         /* of the longest sequence, in whole blocks */
    uint64_t *area;      /* of the dropout masks (mask.h), NULL without dropout */
    float *work;         /* workers x work_each */
    size_t work_each;
    struct mat part; /* gradient of the bias of each (group, head) */
};

/* One tile: queries i0 .. i0+m of a sequence for one head, against its first n keys. */
struct tile {
    const struct attention_space *to;
    size_t span, h, i0, m, rows, n; /* rows: m in whole units */
    const struct attention_span *p;
    float *dbias;
};

static size_t position(const struct attention_job *j, const struct tile *t, size_t i) {
    return j->s->causal ? t->i0 + i + t->p->k_len - t->p->q_len : t->i0 + i;
}

static size_t keys_of(const struct attention_job *j, const struct tile *t, size_t i) {
    return j->s->causal ? position(j, t, i) + 1 : t->n;
}

static size_t lse_at(const struct attention_job *j, const struct tile *t, size_t i) {
    return t->h * j->q.rows + t->p->q_first + t->i0 + i;
}

/* ---- what lies where ---- */

/* Words of n numbers in the dimension that is summed over. */
static inline size_t depth(const struct attention_job *j, size_t n) {
    return j->pair ? n / 2 + n % 2 : n;
}

/* 16 bits each: those of a row may begin within a group and end within another, and one more is read behind them. */
static inline size_t kept_stride(const struct attention_job *j) {
    return j->keys / LANES + 2 * MASK_GROUP / LANES + 2;
}

/* Pieces of a worker's memory; p NULL: only their size is wanted. */
static size_t attention_space(struct attention_space *s, float *p, const struct attention_job *j) {
    bool twice = j->backward && j->pair;
    size_t at = 0, tile = BLOCK * depth(j, j->D), all = j->keys * depth(j, j->D), wide = BLOCK * j->D;
    size_t scores = BLOCK * (j->backward ? BLOCK : j->keys), mask = j->area ? BLOCK * kept_stride(j) / 2 : 0;
    struct {
        float **to;
        size_t n;
    } const pieces[] = {{&s->q, tile},
                        {&s->dout, j->backward ? tile : 0},
                        {&s->q_down, twice ? tile : 0},
                        {&s->dout_down, twice ? tile : 0},
                        {&s->kt, all},
                        {&s->vt, j->backward ? all : 0},
                        {&s->k, j->backward ? all : 0},
                        {&s->v, j->backward ? 0 : all},
                        {&s->dk, j->backward ? j->keys * j->D : 0},
                        {&s->dv, j->backward ? j->keys * j->D : 0},
                        {&s->a, scores},
                        {&s->b, j->backward ? scores : 0},
                        {&s->a_down, twice ? scores / 2 : 0},
                        {&s->b_down, twice ? scores / 2 : 0},
                        {&s->kept, mask},
                        {&s->out, wide},
                        {&s->max, BLOCK * LANES},
                        {&s->sum, BLOCK * LANES},
                        {&s->mean, BLOCK}};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        *pieces[i].to = p ? p + at : NULL;
        at += pieces[i].n;
    }
    if (!twice) {
        s->q_down = s->q;
        s->dout_down = s->dout;
        s->a_down = s->a;
        s->b_down = s->b;
    }
    return at;
}

/* Up to 16 numbers of row r of head h from the head's column c on, zero behind the last. */
static inline vec part_of_row(const struct attention_job *j, struct mat m, size_t r, size_t h, size_t c) {
    size_t d = j->s->d_kv;
    if (c + LANES <= d) {
        return vec_load(place(m, r, h * d + c), m.dtype);
    }
    vec v = {0};
    if (c < d) {
        load_floats((float *)&v, place(m, r, h * d + c), m.dtype, d - c);
    }
    return v;
}

/* 16 words of a row from the head's word c on. */
static inline vec words_of_row(const struct attention_job *j, struct mat m, size_t r, size_t h, size_t c) {
    if (!j->pair) {
        return part_of_row(j, m, r, h, c);
    }
    return vec_neighbours(part_of_row(j, m, r, h, 2 * c), part_of_row(j, m, r, h, 2 * c + LANES));
}

/* A head's part of a row that is read soon: short pieces far apart are no pattern that the processor sees by itself. */
static inline void ask_for(struct mat m, size_t r, size_t c, size_t d) {
    for (size_t at = 0; r < m.rows && at < d * width_of(m); at += 64) {
        __builtin_prefetch((const char *)place(m, r, c) + at);
    }
}

/* to [rows, D / p] = rows r .. r + n of head h; what is not there is zero */
static void load_rows(const struct attention_job *j, float *to, struct mat m, size_t r, size_t n, size_t rows, size_t h) {
    size_t D = depth(j, j->D);
    for (size_t i = 0; i < n; i++) {
        ask_for(m, r + i + AHEAD, h * j->s->d_kv, j->s->d_kv);
        for (size_t c = 0; c < D; c += LANES) {
            vec_to(to + i * D + c, words_of_row(j, m, r + i, h, c));
        }
    }
    memset(to + n * D, 0, (rows - n) * D * sizeof *to);
}

/* to [n / p, D] = the same rows, to be summed over */
static void load_down(const struct attention_job *j, float *to, struct mat m, size_t r, size_t n, size_t h) {
    if (!j->pair) {
        load_rows(j, to, m, r, n, n, h);
        return;
    }
    for (size_t i = 0; i < n; i += 2) {
        ask_for(m, r + i + AHEAD, h * j->s->d_kv, j->s->d_kv);
        ask_for(m, r + i + AHEAD + 1, h * j->s->d_kv, j->s->d_kv);
        for (size_t c = 0; c < j->D; c += LANES) {
            vec next = i + 1 < n ? part_of_row(j, m, r + i + 1, h, c) : (vec){0};
            vec_to(to + i / 2 * j->D + c, vec_pairs(part_of_row(j, m, r + i, h, c), next));
        }
    }
}

/* to [D / p, BLOCK] = rows r .. r + n of head h, transposed; zero up to whole registers of keys */
static void load_turned(const struct attention_job *j, float *to, struct mat m, size_t r, size_t n, size_t h) {
    for (size_t i0 = 0; i0 < n; i0 += LANES) {
        for (size_t i = 0; i < LANES; i++) {
            ask_for(m, r + i0 + LANES + i, h * j->s->d_kv, j->s->d_kv);
        }
        for (size_t c0 = 0; c0 < depth(j, j->D); c0 += LANES) {
            vec row[LANES];
            for (size_t i = 0; i < LANES; i++) {
                row[i] = i0 + i < n ? words_of_row(j, m, r + i0 + i, h, c0) : (vec){0};
            }
            vec_transpose(row);
            for (size_t c = 0; c < LANES; c++) {
                vec_to(to + (c0 + c) * BLOCK + i0, row[c]);
            }
        }
    }
}

/* The keys of a sequence, block by block. */
static void load_keys(const struct attention_job *j, const struct attention_space *to, const struct attention_span *p, size_t h) {
    for (size_t k0 = 0; k0 < p->k_len; k0 += BLOCK) {
        size_t n = min_size(BLOCK, p->k_len - k0), r = p->k_first + k0, turned = k0 * depth(j, j->D), down = depth(j, k0) * j->D;
        load_turned(j, to->kt + turned, j->k, r, n, h);
        if (j->backward) {
            load_turned(j, to->vt + turned, j->v, r, n, h);
            load_down(j, to->k + down, j->k, r, n, h);
            memset(to->dk + k0 * j->D, 0, round_rows(n) * j->D * sizeof(float));
            memset(to->dv + k0 * j->D, 0, round_rows(n) * j->D * sizeof(float));
        } else {
            load_down(j, to->v + down, j->v, r, n, h);
        }
    }
}

/* Rows r .. of head h += rows of `from`, or = with overwrite. */
static void add_rows(const struct attention_job *j, struct mat m, size_t r, size_t n, size_t h, const float *restrict from) {
    for (size_t i = 0; i < n; i++) {
        float *restrict to = row_of(m, r + i) + h * j->s->d_kv;
        if (j->s->overwrite) {
            memcpy(to, from + i * j->D, j->s->d_kv * sizeof *to);
            continue;
        }
        ask_for(m, r + i + AHEAD, h * j->s->d_kv, j->s->d_kv);
#pragma omp simd
        for (size_t c = 0; c < j->s->d_kv; c++) {
            to[c] += from[i * j->D + c];
        }
    }
}

#endif
