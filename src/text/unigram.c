/* Viterbi over characters, left to right: from the best path up to each character, all pieces that start there are tried from
 * short to long.
 *
 * Equal scores are common (runs of dots, long random words), so the arithmetic is part of the contract, bit for bit that of
 * sentencepiece: a candidate is a double (piece score + best so far), it wins if strictly greater than what is stored, and
 * what is stored is a float. The unknown piece's candidate is a float from the start. */
#include "text/unigram.h"

#include <float.h>
#include <string.h>

struct cut_node { /* the best path that ends here */
    float score;
    int32_t id;
    uint32_t start; /* NONE: nothing ends here */
};
static const uint32_t NONE = UINT32_MAX;
static const float UNKNOWN_PENALTY = 10.0F; /* below the least probable piece */

int unigram_init(struct unigram *u, const struct vocab *v, struct err *e) {
    const struct allocator *a = v->a;
    struct trie_key *keys = NULL, *user = NULL;
    size_t n = 0, n_user = 0;
    int code = ERR_NOMEM;
    float min = 0,
          max = FLT_MIN; /* sentencepiece starts so: with scores below 0 a user-defined piece costs 0.1, whatever its length */
    bool any = false;
    *u = (struct unigram){.v = v};
    u->score = mem_new(a, v->n, sizeof *u->score, e);
    keys = mem_new(a, v->n, sizeof *keys, e);
    user = mem_new(a, v->n, sizeof *user, e);
    if (!u->score || !keys || !user)
        goto done;
    for (size_t i = 0; i < v->n; i++) {
        const struct piece *p = &v->pieces[i];
        u->score[i] = p->score;
        if (p->kind == PIECE_NORMAL) {
            min = !any || p->score < min ? p->score : min;
            max = p->score > max ? p->score : max;
            any = true;
        }
        if (p->kind == PIECE_NORMAL || p->kind == PIECE_USER)
            keys[n++] = (struct trie_key){vocab_piece(v, i), (int32_t)i};
        if (p->kind == PIECE_USER)
            user[n_user++] = (struct trie_key){vocab_piece(v, i), (int32_t)i};
    }
    u->unk_score = min - UNKNOWN_PENALTY;
    u->max_score = max;
    code = trie_build(&u->pieces, a, keys, n, e);
    if (!code && n_user)
        code = trie_build(&u->user, a, user, n_user, e);
done:
    mem_free(a, keys);
    mem_free(a, user);
    if (code)
        unigram_free(u);
    return code;
}

void unigram_free(struct unigram *u) {
    if (!u->v)
        return;
    mem_free(u->v->a, u->score);
    trie_free(&u->pieces);
    trie_free(&u->user);
    *u = (struct unigram){0};
}

static size_t char_bytes(unsigned char lead) {
    return lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* A user-defined piece beats any likely cut of the same characters. */
static double user_score(const struct unigram *u, size_t length) {
    return (double)((float)length * u->max_score) - 0.1;
}

static void search(const struct unigram *u, const unsigned char *text, size_t n, struct cut_node *nodes) {
    const struct trie *t = &u->pieces;
    const bool has_user = u->user.unit != NULL;
    const uint64_t root = t->unit[0];
    memset(nodes, 0xff, (n + 1) * sizeof *nodes);
    nodes[0].score = 0;
    for (size_t start = 0, bytes; start < n; start += bytes) {
        const float so_far = nodes[start].score;
        bool single = false;
        bytes = char_bytes(text[start]);
        bytes = bytes < n - start ? bytes : n - start;
        uint64_t unit = root;
        for (size_t end = start; end < n;) {
            unit = trie_step(t, unit, text[end++]);
            if (!unit)
                break;
            const int32_t id = trie_value(unit);
            if (id < 0)
                continue;
            double score = (double)u->score[id];
            if (has_user && u->v->pieces[id].kind == PIECE_USER)
                score = user_score(u, end - start);
            const double candidate = score + (double)so_far;
            struct cut_node *node = &nodes[end];
            if (node->start == NONE || candidate > (double)node->score)
                *node = (struct cut_node){(float)candidate, id, (uint32_t)start};
            single = single || end - start == bytes;
        }
        if (!single) {
            const float candidate = u->unk_score + so_far;
            struct cut_node *node = &nodes[start + bytes];
            if (node->start == NONE || candidate > node->score)
                *node = (struct cut_node){candidate, u->v->unk, (uint32_t)start};
        }
    }
}

int unigram_cut(const struct unigram *u, const char *text, size_t n, struct cut *c, struct err *e) {
    const int32_t unk = u->v->unk;
    c->n = 0;
    if (!n)
        return 0;
    int code = mem_reserve(c->a, &c->nodes, &c->nodes_cap, n + 1, sizeof *c->nodes, e);
    if (code)
        return code;
    search(u, (const unsigned char *)text, n, c->nodes);
    size_t count = 0;
    for (size_t at = n, right = 0; at; at = c->nodes[at].start) { /* neighbouring unknown characters become one piece */
        const bool is_unk = c->nodes[at].id == unk;
        count += !(is_unk && right);
        right = is_unk;
    }
    code = mem_reserve(c->a, &c->ids, &c->ids_cap, count, sizeof *c->ids, e);
    code = code ? code : mem_reserve(c->a, &c->from, &c->from_cap, count, sizeof *c->from, e);
    code = code ? code : mem_reserve(c->a, &c->to, &c->to_cap, count, sizeof *c->to, e);
    if (code)
        return code;
    c->n = count;
    for (size_t at = n, i = count; at; at = c->nodes[at].start) {
        const struct cut_node *node = &c->nodes[at];
        if (i < count && node->id == unk && c->ids[i] == unk) {
            c->from[i] = node->start;
            continue;
        }
        i--;
        c->ids[i] = node->id;
        c->from[i] = node->start;
        c->to[i] = (uint32_t)at;
    }
    return 0;
}

void cut_free(struct cut *c) {
    if (!c->a)
        return;
    mem_free(c->a, c->ids);
    mem_free(c->a, c->from);
    mem_free(c->a, c->to);
    mem_free(c->a, c->nodes);
    *c = (struct cut){.a = c->a};
}
