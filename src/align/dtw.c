/* The reference's alignment (Fu et al. 2023, section 3): dynamic time warping over teacher tokens and student pieces.
 *
 *     M[i,j] = cost(i,j) + min(M[i-1,j-1], M[i-1,j], M[i,j-1])      of equal predecessors the first of this order is taken
 *
 * cost = Levenshtein distance in code points of the token without blanks and the piece without U+2581. One token is compared with
 * all pieces at a time, its bit vectors built once: G. Myers, "A fast bit-vector algorithm for approximate string matching based
 * on dynamic programming", JACM 46 (1999), in the form for whole strings of H. Hyyro (2003). Time and memory grow with tokens
 * times pieces. */
#include "align/align.h"

#include "core/map.h"
#include "text/normalize.h"
#include "text/utf8.h"

#include <string.h>

enum { BITS = 64, ASCII = 128, SPACE_SIGN = 0x2581 };

struct span32 {
    uint32_t at, n;
};

struct dtw_work {
    /* letters of all pieces: code points numbered densely, ASCII as it is */
    struct map alphabet;
    uint32_t *letters;      /* of the pieces, one after another */
    struct span32 *pieces;  /* [S] */
    uint32_t *token;        /* letters of the token at hand; UINT32_MAX where no piece has it */
    uint64_t *bits;         /* [alphabet] where in the token the letter stands */
    uint32_t *row, *column; /* distance rows for tokens above 64 letters */
    uint64_t *above;        /* [S] the row of M above */
    uint8_t *from;          /* [N, S] 0 diagonal, 1 token back, 2 piece back */
    struct str key;         /* a token written as a piece */
    size_t n_letters, cap_letters, cap_pieces, cap_token, cap_bits, cap_row, cap_above, cap_from;
};

void dtw_work_free(rsd_aligner *a) {
    struct dtw_work *w = a->dtw;
    if (!w)
        return;
    const struct allocator *m = &a->ctx->alloc;
    map_free(&w->alphabet);
    str_free(&w->key);
    void *const blocks[] = {w->letters, w->pieces, w->token, w->bits, w->row, w->above, w->from};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        mem_free(m, blocks[i]);
    mem_free(m, w);
    a->dtw = NULL;
}

/* The number of a code point; new ones are added if `add`, else UINT32_MAX. */
static int letter(struct dtw_work *w, int32_t point, bool add, uint32_t *out, struct err *e) {
    if (point < ASCII) {
        *out = (uint32_t)point;
        return 0;
    }
    struct text key = {(const char *)&point, sizeof point};
    size_t found = 0;
    *out = UINT32_MAX;
    if (map_get(&w->alphabet, key, &found))
        *out = (uint32_t)found;
    else if (add) {
        found = ASCII + w->alphabet.n;
        *out = (uint32_t)found;
        return map_put(&w->alphabet, key, found, e);
    }
    return 0;
}

/* Appends the letters of t but those equal to `without` to v[*n ..). */
static int read_letters(rsd_aligner *a, struct text t, int32_t without, bool add, uint32_t **v, size_t *cap, size_t *n,
                        struct err *e) {
    int code = mem_reserve(&a->ctx->alloc, v, cap, *n + t.n, sizeof **v, e);
    for (size_t i = 0; i < t.n && !code;) {
        int32_t point = 0xFFFD;
        size_t len = utf8_next(t.p + i, t.n - i, &point);
        i += len ? len : 1;
        point = len ? point : 0xFFFD;
        if (point != without)
            code = letter(a->dtw, point, add, &(*v)[(*n)++], e);
    }
    return code;
}

static int read_pieces(rsd_aligner *a, struct err *e) {
    struct dtw_work *w = a->dtw;
    int code = mem_reserve(&a->ctx->alloc, &w->pieces, &w->cap_pieces, a->s, sizeof *w->pieces, e);
    map_free(&w->alphabet);
    w->n_letters = 0;
    for (size_t j = 0; j < a->s && !code; j++) {
        size_t at = w->n_letters;
        code = read_letters(a, align_surface(a, j), SPACE_SIGN, true, &w->letters, &w->cap_letters, &w->n_letters, e);
        w->pieces[j] = (struct span32){(uint32_t)at, (uint32_t)(w->n_letters - at)};
    }
    size_t old = w->cap_bits;
    code = code ? code : mem_reserve(&a->ctx->alloc, &w->bits, &w->cap_bits, ASCII + w->alphabet.n, sizeof *w->bits, e);
    if (!code && w->cap_bits > old)
        memset(w->bits + old, 0, (w->cap_bits - old) * sizeof *w->bits);
    return code;
}

/* Distance of the token whose letter bits are set (m <= 64 letters) to the letters t[0..n). */
static uint32_t distance_bits(const uint64_t *bits, size_t m, const uint32_t *t, size_t n) {
    if (!m)
        return (uint32_t)n;
    uint64_t plus = ~(uint64_t)0, minus = 0, top = (uint64_t)1 << (m - 1);
    uint32_t d = (uint32_t)m;
    for (size_t i = 0; i < n; i++) {
        uint64_t eq = bits[t[i]], xv = eq | minus;
        uint64_t xh = (((eq & plus) + plus) ^ plus) | eq;
        uint64_t ph = minus | ~(xh | plus), mh = plus & xh;
        d += (ph & top) != 0;
        d -= (mh & top) != 0;
        ph = ph << 1 | 1;
        mh <<= 1;
        plus = mh | ~(xv | ph);
        minus = ph & xv;
    }
    return d;
}

/* The same for any length, by rows. row: room for m + 1. */
static uint32_t distance_rows(uint32_t *row, const uint32_t *s, size_t m, const uint32_t *t, size_t n) {
    for (size_t i = 0; i <= m; i++)
        row[i] = (uint32_t)i;
    for (size_t j = 0; j < n; j++) {
        uint32_t diagonal = row[0];
        row[0] = (uint32_t)j + 1;
        for (size_t i = 0; i < m; i++) {
            uint32_t best = diagonal + (s[i] != t[j]);
            diagonal = row[i + 1];
            best = diagonal + 1 < best ? diagonal + 1 : best;
            row[i + 1] = row[i] + 1 < best ? row[i] + 1 : best;
        }
    }
    return row[m];
}

/* One row of M over all pieces: `above` becomes this row. */
static void fill_row(const rsd_aligner *a, size_t i, size_t m) {
    struct dtw_work *w = a->dtw;
    uint8_t *from = w->from + i * a->s;
    uint64_t diagonal = 0, left = 0;
    for (size_t j = 0; j < a->s; j++) {
        struct span32 p = w->pieces[j];
        uint32_t d = m <= BITS ? distance_bits(w->bits, m, w->letters + p.at, p.n)
                               : distance_rows(w->row, w->token, m, w->letters + p.at, p.n);
        uint64_t up = w->above[j], best = i && j ? diagonal : UINT64_MAX;
        uint8_t way = 0;
        if (i && up < best) {
            best = up;
            way = 1;
        }
        if (j && left < best) {
            best = left;
            way = 2;
        }
        best = i || j ? best : 0;
        diagonal = up;
        left = w->above[j] = best + d;
        from[j] = way;
    }
}

static int fill_matrix(rsd_aligner *a, struct err *e) {
    struct dtw_work *w = a->dtw;
    const struct allocator *m = &a->ctx->alloc;
    size_t cells;
    int code;
    if (!size_mul(a->n, a->s, &cells))
        return err_set(e, ERR_NOMEM, "out of memory: a warping matrix of %zu x %zu", a->n, a->s);
    if ((code = mem_reserve(m, &w->from, &w->cap_from, cells, 1, e)) ||
        (code = mem_reserve(m, &w->above, &w->cap_above, a->s, sizeof *w->above, e)))
        return code;
    for (size_t i = 0; i < a->n; i++) {
        size_t n = 0;
        code = read_letters(a, a->steps[a->first + i].token.bytes, ' ', false, &w->token, &w->cap_token, &n, e);
        code = code ? code : mem_reserve(m, &w->row, &w->cap_row, n + 1, sizeof *w->row, e);
        if (code)
            return code;
        for (size_t k = 0; k < n && n <= BITS; k++)
            if (w->token[k] != UINT32_MAX)
                w->bits[w->token[k]] |= (uint64_t)1 << k;
        fill_row(a, i, n);
        for (size_t k = 0; k < n && n <= BITS; k++)
            if (w->token[k] != UINT32_MAX)
                w->bits[w->token[k]] = 0;
    }
    a->cost = w->above[a->s - 1];
    return 0;
}

static int walk_back(rsd_aligner *a, struct err *e) {
    const struct dtw_work *w = a->dtw;
    int code = mem_reserve(&a->ctx->alloc, &a->path, &a->cap.path, a->n + a->s, sizeof *a->path, e);
    if (code)
        return code;
    size_t i = a->n - 1, j = a->s - 1, n = 0;
    for (;;) {
        a->path[n++] = (struct path_step){(uint32_t)i, (uint32_t)j};
        if (!i && !j)
            break;
        uint8_t way = w->from[i * a->s + j];
        i -= way != 2;
        j -= way != 1;
    }
    for (size_t k = 0; k < n / 2; k++) {
        struct path_step t = a->path[k];
        a->path[k] = a->path[n - 1 - k];
        a->path[n - 1 - k] = t;
    }
    a->n_path = n;
    return 0;
}

/* The bytes with U+2581 for each blank. */
static struct text as_piece(struct str *key, struct text t) {
    str_clear(key);
    for (size_t i = 0; i < t.n; i++) {
        if (t.p[i] == ' ')
            str_addz(key, SPACE_SYMBOL);
        else
            str_addc(key, t.p[i]);
    }
    return (struct text){str_z(key), key->n};
}

/* Adds the choice to the row if it is a piece of the vocabulary and not there yet. */
static int add_choice(rsd_aligner *a, size_t row, const struct choice *c, struct err *e) {
    int32_t id;
    struct text key = as_piece(&a->dtw->key, c->bytes);
    int code = str_status(&a->dtw->key, e);
    if (code || rsd_tokenizer_find(a->tok, key.p, key.n, &id))
        return code;
    for (size_t i = row; i < a->n_rows; i++)
        if (a->row_ids[i] == id)
            return 0;
    return align_add_row(a, id, c->prob, e);
}

static double top_mass(const rsd_aligner *a, const struct step *s) {
    double sum = 0;
    bool sampled = false;
    for (size_t k = 0; k < s->n; k++) {
        sum += a->tops[s->first + k].prob;
        sampled |= text_eq(a->tops[s->first + k].bytes, s->token.bytes);
    }
    sum += sampled ? 0 : s->token.prob;
    return sum < 1 ? sum : 1;
}

/* Soft only where piece j maps to exactly one token and equals it; then the token, and the alternatives in the reply's order. */
static int fill_target(rsd_aligner *a, size_t j, struct err *e) {
    size_t begin = a->map_offsets[j], n = a->n_map - begin, row = a->n_rows;
    const struct step *s = &a->steps[a->first + a->map[begin]];
    struct text surface = align_surface(a, j), key = as_piece(&a->dtw->key, s->token.bytes);
    int code = str_status(&a->dtw->key, e);
    double placed = 0;
    if (code)
        return code;
    a->given[j] = (float)top_mass(a, s);
    if (n == 1 && text_eq(surface, key) && a->ids[j] != rsd_tokenizer_unk(a->tok)) {
        code = add_choice(a, row, &s->token, e);
        for (size_t k = 0; k < s->n && !code; k++)
            code = add_choice(a, row, &a->tops[s->first + k], e);
        for (size_t i = row; i < a->n_rows; i++)
            placed += (double)a->row_probs[i];
    } else {
        code = align_add_row(a, a->ids[j], 1, e);
        placed = 1;
        for (size_t k = 0; k < n; k++)
            placed *= a->steps[a->first + a->map[begin + k]].token.prob;
    }
    a->placed[j] = (float)(placed < 1 ? placed : 1);
    a->kinds[j] = !code && a->n_rows == row + 1 && a->row_probs[row] >= 1 ? RSD_KIND_HARD : RSD_KIND_EXACT;
    a->row_offsets[j + 1] = (uint32_t)a->n_rows;
    return code;
}

int align_dtw(rsd_aligner *a, struct err *e) {
    int code;
    if (!a->dtw) {
        if (!(a->dtw = mem_zero(&a->ctx->alloc, 1, sizeof *a->dtw, e)))
            return ERR_NOMEM;
        map_init(&a->dtw->alphabet, &a->ctx->alloc);
        str_init(&a->dtw->key, &a->ctx->alloc);
    }
    if (!a->s || !a->n) {
        a->s = 0;
        return 0;
    }
    if ((code = read_pieces(a, e)) || (code = fill_matrix(a, e)) || (code = walk_back(a, e)))
        return code;
    for (size_t j = 0, k = 0; j < a->s && !code; j++) {
        /* a piece's tokens are a run of the path, and each token comes once in it */
        for (; k < a->n_path && a->path[k].piece == j && !code; k++)
            code = align_add_map(a, a->path[k].token, e);
        code = code ? code : fill_target(a, j, e);
        a->map_offsets[j + 1] = (uint32_t)a->n_map;
    }
    return code;
}
