/* Soft targets over bytes. What the teacher told is a tree: the path of the tokens it wrote, and at each step the tokens it might
 * have written instead. Every branch spells a text, every text has pieces, so every branch says which piece comes next at each
 * position that it agrees with. The row of a position is the mass of the branches that agree with all pieces before it, by the
 * piece they put there:
 *
 *     row_j[v] = P(s_1 .. s_j-1, v) / P(s_1 .. s_j-1)
 *
 * This is one rule for all cases: a token that is a piece; a piece of several tokens (the chain rule along the path, branches by
 * their prefix); a token of several pieces (marginal over first pieces, then conditionals). What the tree does not know ends in
 * the tail: tokens below the top k, and whatever follows a branch. By convention a branch, and a token below the top k, ends at a
 * piece boundary: it never changes pieces that end before it starts to differ. Where the branch is known, it is tokenised
 * together with the word it continues, so that ` 4` with the branch `8` counts as the piece of ` 48`. Pieces do not go across
 * blanks, so a word is tokenised alone: the work is linear in length, and short texts repeat (pieces.h). */
#include "align/align.h"

#include <math.h>
#include <string.h>

/* REACH: bytes of one word that are tokenised together, and seen ahead; in longer words branches are looked up by themselves.
 * AT_ONCE: alternatives whose texts are looked up together.
 * FORGET: branches of less mass than this go into the tail: they are below what single precision adds up. */
enum { REACH = 192, AT_ONCE = 8 };
static const double FORGET = 1e-14;

/* A branch: mass, and the pieces it has from the position at hand on: first `same` pieces of the reply, then ids of the
 * cache. */
struct branch {
    double mass;
    size_t same;
    size_t at, n;
    size_t from; /* byte where it leaves the path */
    size_t step; /* that it leaves it at */
    bool known;
    bool over; /* then comes the end token */
};

/* What a step said of the position at hand, kept for heat maps alone. */
struct told {
    int32_t id;
    size_t token;
    double mass;
};

struct span_work {
    struct branch *live;
    size_t n_live, cap_live;
    struct told *told;
    size_t n_told, cap_told;
    double *mass; /* the row at hand */
    int32_t *ids;
    size_t n, cap_mass, cap_ids;
    size_t *word; /* [S+1] first piece of the word that piece j is in; [j+1] != [j] at word starts */
    size_t cap_word;
    struct str text;
    double path; /* mass of the path so far */
    size_t next; /* step to be expanded next */
    double placed, given;
};

void span_work_free(rsd_aligner *a) {
    struct span_work *w = a->span;
    if (!w)
        return;
    const struct allocator *m = &a->ctx->alloc;
    mem_free(m, w->live);
    mem_free(m, w->told);
    mem_free(m, w->mass);
    mem_free(m, w->ids);
    mem_free(m, w->word);
    str_free(&w->text);
    mem_free(m, w);
    a->span = NULL;
}

static bool is_blank(const rsd_aligner *a, char c) {
    return a->blank[(unsigned char)c];
}

static bool starts_piece(struct text t) {
    return t.n >= 3 && !memcmp(t.p, "\xe2\x96\x81", 3);
}

/* How a chat or text model spells that its answer ends here. */
static bool is_end_mark(struct text t) {
    static const char *const marks[] = {"<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>",
                                        "<|end|>",       "</s>",       "<eos>"};
    if (t.n < 4 || t.p[0] != '<')
        return false;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (text_is(t, marks[i]))
            return true;
    return false;
}

/* Bytes of t without a character that it begins but does not end. */
static size_t whole_characters(const char *p, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)p[n - back];
        if ((c & 0xC0) == 0x80)
            continue;
        size_t want = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
        return want > back ? n - back : n;
    }
    return n;
}

/* Bytes of a branch that are tokenised. Pieces of bytes spell half characters, others wait for the rest. */
static struct text told_bytes(const rsd_aligner *a, const char *p, size_t n) {
    return (struct text){p, a->bytes ? n : whole_characters(p, n)};
}

/* Whether a word ends at `from` if a blank follows there. A byte pair tokenizer keeps runs of blanks together, so the byte
 * before must be none, and of ASCII, where that shows. */
static bool word_may_end(const rsd_aligner *a, size_t from) {
    unsigned char c = from ? (unsigned char)a->reply.p[from - 1] : ' ';
    return !a->bytes || (c > ' ' && c < 0x7F);
}

static int add_branch(rsd_aligner *a, struct branch b, struct err *e) {
    struct span_work *w = a->span;
    int code =
        w->n_live < w->cap_live ? 0 : mem_reserve(&a->ctx->alloc, &w->live, &w->cap_live, w->n_live + 1, sizeof *w->live, e);
    if (!code)
        w->live[w->n_live++] = b;
    return code;
}

/* First piece behind j whose word is another one. */
static size_t word_end(const struct span_work *w, size_t j, size_t s) {
    size_t k = j;
    while (k < s && w->word[k] == w->word[j])
        k++;
    return k;
}

/* An alternative, and the text whose pieces it needs: its own where the word [begin, end) is over and it goes on behind it, else
 * all of the word that stands before it, and it. */
struct wish {
    struct pieces_query query; /* of a short text; without a slot: of none, or of a long one */
    size_t begin, end;
    bool mark, behind;
};

static int foresee(rsd_aligner *a, struct wish *w, size_t begin, size_t end, size_t from, struct text bytes, struct err *e) {
    w->begin = begin;
    w->end = end;
    w->query.slot = NULL;
    w->mark = is_end_mark(bytes);
    w->behind = from == end && (w->mark || (a->words && bytes.n && is_blank(a, bytes.p[0]) && word_may_end(a, from)));
    const size_t before = w->behind ? 0 : from - begin, behind = w->mark ? 0 : bytes.n;
    if ((w->behind && w->mark) || before + behind > PIECES_KEY)
        return 0;
    struct pieces_query *q = &w->query;
    memset(&q->key, 0, sizeof q->key);
    if (before)
        memcpy(q->key.text, a->reply.p + begin, before);
    if (behind)
        memcpy(q->key.text + before, bytes.p, behind);
    q->n = told_bytes(a, q->key.text, before + behind).n;
    memset(q->key.text + q->n, 0, before + behind - q->n);
    return pieces_ask(&a->cache, q, e);
}

static int get_pieces(rsd_aligner *a, const struct wish *w, size_t from, struct text bytes, struct pieces_entry *out,
                      struct err *e) {
    if (w->query.slot)
        return pieces_answer(&a->cache, &w->query, out, e);
    struct str *text = &a->span->text;
    str_clear(text);
    if (!w->behind)
        str_add(text, a->reply.p + w->begin, from - w->begin);
    if (!w->mark)
        str_add(text, bytes.p, bytes.n);
    int code = str_status(text, e);
    return code ? code : pieces_get(&a->cache, told_bytes(a, str_z(text), text->n), out, e);
}

/* The branch that leaves the path at byte `from` with the choice, as pieces from position j on. [first, last) is the word of piece
 * j. */
static int expand_choice(rsd_aligner *a, size_t j, size_t first, size_t last, size_t step, const struct wish *wish,
                         struct text bytes, double mass, struct err *e) {
    size_t from = a->steps[step].begin;
    struct branch b = {.mass = mass, .from = from, .step = step, .known = true};
    struct pieces_entry entry;
    int code;
    if (wish->behind) { /* the word is over, the branch goes on behind it */
        b.same = last - j;
        b.over = bytes.p[0] == '<';
        if (!b.over) {
            if ((code = get_pieces(a, wish, from, bytes, &entry, e)))
                return code;
            b.at = entry.at;
            b.n = entry.n;
        }
        return add_branch(a, b, e);
    }
    if (from - wish->begin > REACH && a->words) {
        /* a word too long to be tokenised again and again: all that is known is what stands before */
        while (j + b.same < last && a->regions[j + b.same].end <= from)
            b.same++;
        return add_branch(a, b, e);
    }
    if ((code = get_pieces(a, wish, from, bytes, &entry, e)))
        return code;
    /* pieces before j have been told already: the branch must agree */
    size_t k = 0;
    while (first + k < j && k < entry.n && a->cache.ids[entry.at + k] == a->ids[first + k])
        k++;
    if (first + k < j)
        return 0;
    b.at = entry.at + k;
    b.n = entry.n - k;
    b.over = wish->mark;
    return add_branch(a, b, e);
}

/* Splits the path's mass at step i: its branches become live, what is not told becomes an unknown branch, the token keeps the
 * rest. */
static int expand(rsd_aligner *a, size_t i, size_t j, size_t first, size_t last, struct err *e) {
    struct span_work *w = a->span;
    const struct step *s = &a->steps[i];
    const size_t begin = a->regions[first].begin, end = a->regions[last - 1].end;
    double told = s->token.prob;
    for (size_t k = 0; k < s->n; k++)
        if (!text_eq(a->tops[s->first + k].bytes, s->token.bytes))
            told += a->tops[s->first + k].prob;
    double scale = told > 1 ? w->path / told : w->path; /* printed probabilities may add up to a little more than one */
    for (size_t from = 0; from < s->n; from += AT_ONCE) {
        const struct choice *c = &a->tops[s->first + from];
        const size_t n = s->n - from < AT_ONCE ? s->n - from : AT_ONCE;
        struct wish wishes[AT_ONCE];
        int code = 0;
        size_t which[AT_ONCE], m = 0; /* the token itself is no branch */
        for (size_t k = 0; k < n && !code; k++)
            if (!text_eq(c[k].bytes, s->token.bytes)) {
                code = foresee(a, &wishes[m], begin, end, s->begin, c[k].bytes, e);
                which[m++] = k;
            }
        for (size_t k = 0; k < m && !code; k++)
            code = expand_choice(a, j, first, last, i, &wishes[k], c[which[k]].bytes, scale * c[which[k]].prob, e);
        if (code)
            return code;
    }
    if (told < 1) {
        int code = add_branch(a, (struct branch){.mass = w->path * (1 - told), .from = s->begin, .step = i}, e);
        if (code)
            return code;
    }
    w->path = scale * s->token.prob;
    return 0;
}

static int put(rsd_aligner *a, int32_t id, double mass, struct err *e) {
    struct span_work *w = a->span;
    for (size_t i = 0; i < w->n; i++)
        if (w->ids[i] == id) {
            w->mass[i] += mass;
            return 0;
        }
    if (w->n == w->cap_ids || w->n == w->cap_mass) {
        const struct allocator *m = &a->ctx->alloc;
        int code = mem_reserve(m, &w->ids, &w->cap_ids, w->n + 1, sizeof *w->ids, e);
        code = code ? code : mem_reserve(m, &w->mass, &w->cap_mass, w->n + 1, sizeof *w->mass, e);
        if (code)
            return code;
    }
    w->ids[w->n] = id;
    w->mass[w->n++] = mass;
    return 0;
}

/* What branch b says at position j: *id, -1 for the tail. True if it goes on to position j+1. */
static bool advance(const rsd_aligner *a, struct branch *b, size_t j, int32_t *id) {
    *id = -1;
    if (!b->known) {
        if (b->from < a->regions[j].end)
            return false;
        *id = a->ids[j];
        return true;
    }
    if (b->same) {
        b->same--;
        *id = a->ids[j];
        return true;
    }
    if (b->n) {
        *id = a->cache.ids[b->at++];
        b->n--;
        return *id == a->ids[j];
    }
    if (b->over)
        *id = rsd_tokenizer_eos(a->tok);
    return false;
}

static int tell(rsd_aligner *a, int32_t id, size_t token, double mass, struct err *e) {
    struct span_work *w = a->span;
    int code = mem_reserve(&a->ctx->alloc, &w->told, &w->cap_told, w->n_told + 1, sizeof *w->told, e);
    if (!code)
        w->told[w->n_told++] = (struct told){id, token, mass};
    return code;
}

/* Cells of position j: what was told about the pieces that its row has kept. */
static int warm_up(rsd_aligner *a, size_t j, double whole, struct err *e) {
    const struct span_work *w = a->span;
    int code = 0;
    for (size_t k = 0; k < w->n_told && !code; k++)
        for (size_t i = 0; i < w->n && !code; i++)
            if (w->ids[i] == w->told[k].id && w->told[k].mass > 0)
                code = align_add_cell(a, w->told[k].token, j, w->told[k].mass / whole, e);
    return code;
}

/* Row of position j from the live branches; those that agree with piece j stay. `whole`: mass of all that agreed before. */
static int collect(rsd_aligner *a, size_t j, double *whole, struct err *e) {
    struct span_work *w = a->span;
    double known = w->path, all = w->path;
    /* the piece itself stands at the last token that it came from */
    size_t own = a->n_map > a->map_offsets[j] ? a->map[a->n_map - 1] : 0;
    w->n = w->n_told = 0;
    int code = put(a, a->ids[j], w->path, e);
    if (a->maps_heat && !code)
        code = tell(a, a->ids[j], own, w->path, e);
    size_t kept = 0;
    for (size_t k = 0; k < w->n_live && !code; k++) {
        struct branch b = w->live[k];
        bool counts = b.known || b.from >= a->regions[j].end;
        int32_t id;
        bool stays = advance(a, &b, j, &id);
        all += b.mass;
        known += counts ? b.mass : 0;
        if (id >= 0)
            code = put(a, id, b.mass, e);
        if (id >= 0 && a->maps_heat && !code)
            code = tell(a, id, b.from < a->regions[j].end ? align_token(a, b.step) : own, b.mass, e);
        if (stays)
            w->live[kept++] = b;
    }
    w->n_live = kept;
    *whole = all;
    w->given = known;
    return code;
}

/* Most probable first, at most max_tops + 1 entries, the reply's own piece always among them. */
static int write_row(rsd_aligner *a, size_t j, double whole, double unit, struct err *e) {
    struct span_work *w = a->span;
    size_t most = a->max_tops + 1, first = a->n_rows;
    for (size_t i = 1; i < w->n; i++) { /* insertion keeps the order of equal ones */
        double mass = w->mass[i];
        int32_t id = w->ids[i];
        size_t k = i;
        for (; k && w->mass[k - 1] < mass; k--) {
            w->mass[k] = w->mass[k - 1];
            w->ids[k] = w->ids[k - 1];
        }
        w->mass[k] = mass;
        w->ids[k] = id;
    }
    size_t own = 0;
    while (w->ids[own] != a->ids[j])
        own++;
    if (own >= most) {
        w->ids[most - 1] = w->ids[own];
        w->mass[most - 1] = w->mass[own];
    }
    w->n = w->n < most ? w->n : most;
    double placed = 0;
    for (size_t i = 0; i < w->n; i++) {
        int code = w->mass[i] > 0 || w->ids[i] == a->ids[j] ? align_add_row(a, w->ids[i], fmin(w->mass[i] / whole, 1), e) : 0;
        if (code)
            return code;
        placed += w->mass[i];
    }
    a->row_offsets[j + 1] = (uint32_t)a->n_rows;
    a->placed[j] = (float)fmin(placed / unit, 1);
    a->given[j] = (float)fmin(w->given / unit, 1);
    if (a->n_rows == first + 1 && a->row_probs[first] >= 1)
        a->kinds[j] = RSD_KIND_HARD;
    return 0;
}

static bool blanks_only(const rsd_aligner *a, size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++)
        if (!is_blank(a, a->reply.p[i]))
            return false;
    return true;
}

/* Token and piece spell the same, blank for U+2581. */
static bool same_text(const rsd_aligner *a, struct text token, struct text piece) {
    size_t i = 0;
    if (a->bytes)
        return text_eq(token, piece);
    for (size_t k = 0; k < token.n; k++) {
        if (token.p[k] == ' ') {
            if (i + 3 > piece.n || memcmp(piece.p + i, "\xe2\x96\x81", 3) != 0)
                return false;
            i += 3;
        } else if (i >= piece.n || piece.p[i++] != token.p[k]) {
            return false;
        }
    }
    return i == piece.n;
}

/* Which tokens piece j came from, and what that makes of it. *t: first step that may touch it, moved on. *boundary: a token
 * starts where the piece does. */
static int classify(rsd_aligner *a, size_t j, size_t *t, bool *boundary, struct err *e) {
    struct region r = a->regions[j];
    size_t content = r.begin, last = a->first + a->n;
    while (content < r.end && is_blank(a, a->reply.p[content]))
        content++;
    if (content == r.end)
        content = r.begin; /* a blank is all there is of it */
    while (*t + 1 < last && a->steps[*t].end <= r.begin)
        ++*t;
    size_t k = *t, tokens = 0, lead = *t;
    bool bridge = false;
    *boundary = false;
    int code = 0;
    for (; k < last && !code && (k == *t || a->steps[k].begin < r.end); k++) {
        const struct step *s = &a->steps[k];
        size_t token = align_token(a, k), n = a->n_map;
        bool again = n > a->map_offsets[j] && a->map[n - 1] == token;
        code = (s->end > s->begin || k == *t) && !again ? align_add_map(a, token, e) : 0;
        bridge |= s->bridge;
        *boundary |= s->begin >= r.begin && s->begin <= content && s->end > s->begin;
        if (s->end > content && s->begin < r.end && !tokens++)
            lead = k;
    }
    a->map_offsets[j + 1] = (uint32_t)a->n_map;
    const struct step *s = &a->steps[lead];
    bool ends = s->end == r.end || (s->end > r.end && blanks_only(a, r.end, s->end));
    if (r.begin == r.end) /* more pieces of a character that normalisation spelled out */
        a->kinds[j] = RSD_KIND_CONT;
    else if (tokens > 1)
        a->kinds[j] = RSD_KIND_MERGE;
    else if (!*boundary)
        a->kinds[j] = RSD_KIND_CONT;
    else if (!ends)
        a->kinds[j] = RSD_KIND_SPLIT;
    else
        a->kinds[j] = s->begin == r.begin && s->end == r.end && same_text(a, s->token.bytes, align_surface(a, j))
                          ? RSD_KIND_EXACT
                          : RSD_KIND_BLANK;
    if (bridge)
        a->kinds[j] = RSD_KIND_BRIDGE;
    return code;
}

/* Words, or the whole text as one where pieces may go across blanks. A word starts with a blank of one byte: others (U+00A0, and
 * U+00A8, which is spelled out as a blank and a mark) may lie on both sides of a step, and then a branch does not have them. */
static int find_words(rsd_aligner *a, struct err *e) {
    struct span_work *w = a->span;
    int code = mem_reserve(&a->ctx->alloc, &w->word, &w->cap_word, a->s + 1, sizeof *w->word, e);
    for (size_t j = 0, first = 0; j < a->s && !code; j++) {
        struct region r = a->regions[j];
        if (a->words && r.begin < r.end && is_blank(a, a->reply.p[r.begin]) &&
            (a->bytes ? word_may_end(a, r.begin) : starts_piece(align_surface(a, j))))
            first = j;
        w->word[j] = first;
    }
    return code;
}

int align_span(rsd_aligner *a, struct err *e) {
    int code;
    if (!a->span) {
        if (!(a->span = mem_zero(&a->ctx->alloc, 1, sizeof *a->span, e)))
            return ERR_NOMEM;
        str_init(&a->span->text, &a->ctx->alloc);
    }
    struct span_work *w = a->span;
    if ((code = find_words(a, e)))
        return code;
    w->n_live = 0;
    w->next = a->first;
    w->path = 1;
    double unit = 1;
    for (size_t j = 0, last = 0, t = a->first; j < a->s; j++) {
        if (j == last)
            last = word_end(w, j, a->s);
        size_t ahead = a->regions[last - 1].end, reach = a->regions[j].end + REACH;
        for (; w->next < a->n_steps && a->steps[w->next].begin <= (ahead < reach || !a->words ? ahead : reach); w->next++)
            if ((code = expand(a, w->next, j, w->word[j], last, e)))
                return code;
        bool boundary;
        double whole;
        if ((code = classify(a, j, &t, &boundary, e)) || (code = collect(a, j, &whole, e)))
            return code;
        unit = boundary || !j ? whole : unit;
        if ((code = write_row(a, j, whole, unit, e)) || (a->maps_heat && (code = warm_up(a, j, whole, e))))
            return code;
        /* at a boundary the masses become relative to it; between boundaries they keep their unit, which `placed` is told in */
        if (boundary) {
            w->path /= whole;
            size_t kept = 0;
            for (size_t k = 0; k < w->n_live; k++) {
                w->live[k].mass /= whole;
                if (w->live[k].mass > FORGET)
                    w->live[kept++] = w->live[k];
            }
            w->n_live = kept;
            unit = 1;
        }
    }
    return 0;
}
