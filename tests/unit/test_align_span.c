/* Soft targets over bytes: against an enumeration of everything the teacher told, and on the real replies. */
#include "test_align.h"

#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the slow way: every branch is tokenised as a whole text and asked at every position ---- */

struct told { /* one thing that the teacher may have written */
    double mass;
    size_t from; /* byte where it leaves the reply; SIZE_MAX: the reply itself */
    bool known;
    int32_t ids[512];
    size_t n;
};
enum { MAX_TOLD = 4096 };

static void tokenise(struct bench *b, struct told *t, const char *text, size_t from, struct text tail) {
    char whole[4096];
    const int32_t *ids;
    ck_assert_uint_lt(from + tail.n, sizeof whole);
    memcpy(whole, text, from);
    memcpy(whole + from, tail.p, tail.n);
    size_t n = from + tail.n;
    /* the start of a character is no character */
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)whole[n - back];
        if ((c & 0xC0) != 0x80) {
            n -= c >= 0xC0 && (c >= 0xF0 ? 4U : c >= 0xE0 ? 3U : 2U) > back ? back : 0;
            break;
        }
    }
    ck_assert_int_eq(rsd_tokenizer_encode(b->tok, whole, n, &ids, &t->n), RSD_OK);
    ck_assert_uint_lt(t->n, 512);
    memcpy(t->ids, ids, t->n * sizeof *ids);
}

/* All branches of a reply that starts with its first step. */
static size_t tell(struct bench *b, const rsd_reply *r, struct told *out, size_t first, size_t at) {
    double path = 1;
    size_t n = 0, len, text_len;
    const char *text = rsd_reply_text(r, &text_len) + at;
    for (size_t i = first, from = 0; i < rsd_reply_tokens(r); i++) {
        struct text token, top;
        double logprob, x, sum;
        if (at + from > b->aligner->text_end)
            break; /* not told about the text */
        rsd_reply_token(r, i, &token.p, &token.n, &logprob);
        sum = exp(logprob);
        for (size_t k = 0; k < rsd_reply_tops(r, i); k++) {
            rsd_reply_top(r, i, k, &top.p, &top.n, &x);
            sum += text_eq(top, token) ? 0 : exp(x);
        }
        double scale = sum > 1 ? path / sum : path;
        for (size_t k = 0; k < rsd_reply_tops(r, i); k++) {
            rsd_reply_top(r, i, k, &top.p, &top.n, &x);
            if (text_eq(top, token))
                continue;
            ck_assert_uint_lt(n, MAX_TOLD - 2);
            out[n] = (struct told){.mass = scale * exp(x), .from = from, .known = true};
            bool end = text_is(top, "<|endoftext|>");
            tokenise(b, &out[n], text, from, end ? (struct text){"", 0} : top);
            if (end)
                out[n].ids[out[n].n++] = rsd_tokenizer_eos(b->tok);
            n++;
        }
        if (sum < 1)
            out[n++] = (struct told){.mass = path * (1 - sum), .from = from};
        path = scale * exp(logprob);
        from += token.n;
    }
    len = (size_t)(b->aligner->text_end - at);
    out[n] = (struct told){.mass = path, .from = SIZE_MAX, .known = true};
    tokenise(b, &out[n++], text, len, (struct text){"", 0});
    return n;
}

/* What thing t says at position j, given that it agrees before: an id, -1 for the tail; *agrees otherwise false. */
static int32_t says(const rsd_aligner *a, const struct told *t, size_t j, size_t at, bool *agrees) {
    *agrees = true;
    if (!t->known) {
        *agrees = !j || at + t->from >= a->regions[j - 1].end;
        return at + t->from >= a->regions[j].end ? a->ids[j] : -1;
    }
    for (size_t k = 0; k < j && *agrees; k++)
        *agrees = k < t->n && t->ids[k] == a->ids[k];
    return *agrees && j < t->n ? t->ids[j] : -1;
}

/* Every row of the alignment against the enumeration. */
static void check_enumerated(struct bench *b, const rsd_reply *r, const rsd_alignment *al) {
    static struct told told[MAX_TOLD];
    const rsd_aligner *a = b->aligner;
    size_t at = a->steps[a->first].begin;
    size_t n = tell(b, r, told, a->first, at);
    for (size_t j = 0; j < al->n_student; j++) {
        double whole = 0, least = 1, others = 0;
        for (size_t k = 0; k < n; k++) {
            bool agrees;
            says(a, &told[k], j, at, &agrees);
            whole += agrees ? told[k].mass : 0;
        }
        for (size_t i = al->row_offsets[j]; i < al->row_offsets[j + 1]; i++) {
            double mass = 0;
            for (size_t k = 0; k < n; k++) {
                bool agrees;
                int32_t id = says(a, &told[k], j, at, &agrees);
                mass += agrees && id == al->row_ids[i] ? told[k].mass : 0;
            }
            ck_assert_msg(fabs(mass / whole - (double)al->row_probs[i]) < 2e-6, "piece %zu, id %d: %.9g, enumerated %.9g", j,
                          al->row_ids[i], (double)al->row_probs[i], mass / whole);
            if (al->row_ids[i] != al->student_ids[j])
                least = fmin(least, mass / whole);
        }
        /* what was left out of a full row is not larger than what stands in it */
        if (al->row_offsets[j + 1] - al->row_offsets[j] <= a->max_tops)
            least = 1e-7;
        for (size_t k = 0; k < n; k++) {
            bool agrees, there = false;
            int32_t id = says(a, &told[k], j, at, &agrees);
            for (size_t i = al->row_offsets[j]; i < al->row_offsets[j + 1]; i++)
                there |= al->row_ids[i] == id;
            others = agrees && id >= 0 && !there ? fmax(others, told[k].mass / whole) : others;
        }
        ck_assert_msg(others <= least + 2e-6, "piece %zu: %g was left out of its row", j, others);
    }
}

/* What holds for every alignment. */
static void check_sane(const rsd_aligner *a, const rsd_alignment *al) {
    size_t covered = 0;
    ck_assert_uint_eq(al->row_offsets[0], 0);
    for (size_t j = 0; j < al->n_student; j++) {
        double sum = 0;
        bool own = false;
        ck_assert_uint_lt(al->row_offsets[j], al->row_offsets[j + 1]);
        ck_assert_uint_le(al->row_offsets[j + 1] - al->row_offsets[j], a->max_tops + 1);
        for (size_t i = al->row_offsets[j]; i < al->row_offsets[j + 1]; i++) {
            ck_assert(al->row_probs[i] >= 0 && al->row_probs[i] <= 1);
            sum += (double)al->row_probs[i];
            own |= al->row_ids[i] == al->student_ids[j];
            for (size_t k = al->row_offsets[j]; k < i; k++)
                ck_assert_int_ne(al->row_ids[k], al->row_ids[i]);
        }
        ck_assert(own);
        ck_assert_double_le(sum, 1 + 1e-6);
        ck_assert(al->placed[j] >= 0 && al->placed[j] <= al->given[j] + 1e-6F && al->given[j] <= 1);
        ck_assert(al->kinds[j] == RSD_KIND_HARD || al->row_offsets[j + 1] > al->row_offsets[j] + 1 ||
                  al->row_probs[al->row_offsets[j]] < 1);
        /* regions lie end to end, and the tokens of a piece cover its region */
        size_t begin = a->regions[j].begin, end = a->regions[j].end;
        if (j)
            ck_assert_uint_eq(begin, a->regions[j - 1].end);
        ck_assert_uint_lt(al->map_offsets[j], al->map_offsets[j + 1]);
        const struct step *first = &a->steps[a->first + al->map[al->map_offsets[j]]],
                          *last = &a->steps[a->first + al->map[al->map_offsets[j + 1] - 1]];
        if (begin < end)
            ck_assert(first->begin <= begin && first->end > begin && last->begin < end && last->end >= end);
        for (size_t k = al->map_offsets[j]; k < al->map_offsets[j + 1]; k++) {
            ck_assert_uint_le(al->map[k], covered); /* no token is passed over */
            covered = al->map[k] + 1 > covered ? al->map[k] + 1 : covered;
        }
    }
    if (al->n_student)
        ck_assert_uint_eq(covered, al->n_teacher);
}

START_TEST(real_replies_equal_the_enumeration) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    for (size_t i = 0; i < b.n; i++) {
        const rsd_alignment *al;
        ck_assert_int_eq(rsd_aligner_align(b.aligner, b.replies[i], &al), RSD_OK);
        check_sane(b.aligner, al);
        check_enumerated(&b, b.replies[i], al);
    }
    bench_close(&b);
}
END_TEST

/* Pieces of text of every sort, to be joined and cut anywhere. No dots that run together: their cuts are ties, which rounding
 * decides by what stands before. */
static const char *const bits[] = {" the",   " 4",  "8",   "48", "\n",     "  ", " Natalia", " baby",          "sitting",
                                   "\u00bd", "/",   "2",   "%",  "{",      "}~", "\u2014",   " \u00e9t\u00e9", "s",
                                   ".",      ",",   "\t",  "a",  "\u4e2d", " $", "12",       "\u00a8",         "He",
                                   " sold",  "ing", "100", "-",  " x"};

static const char *const small_bits[] = {"a",    "b",  "c",  " ",  "1",      "2",  "12", " a b",
                                         "b c ", "  ", "\n", "ab", "\u00e9", "bc", " a"};

static void random_text(struct rng *g, bool small, char *out, size_t n) {
    const char *const *from = small ? small_bits : bits;
    size_t m = small ? sizeof small_bits / sizeof *small_bits : sizeof bits / sizeof *bits;
    out[0] = 0;
    while (n--)
        strcat(out, from[rng_below(g, m)]);
}

/* Tokens are random cuts of random text, characters cut in two included; alternatives are random text. */
static rsd_reply *random_reply(rsd_ctx *ctx, struct rng *g, bool small) {
    char text[1024], cut[64], other[64];
    rsd_reply *r = reply_begin(ctx, "random");
    random_text(g, small, text, 3 + (size_t)rng_below(g, 14));
    size_t n = strlen(text);
    for (size_t i = 0; i < n;) {
        size_t len = 1 + (size_t)rng_below(g, 6);
        len = len < n - i ? len : n - i;
        memcpy(cut, text + i, len);
        cut[len] = 0;
        i += len;
        double left = 1, p = 0.3 + 0.6 * rng_uniform(g);
        reply_token(r, cut, p);
        left -= p;
        if (rng_below(g, 2))
            reply_other(r, cut, p);
        for (size_t k = 0; k < 4; k++) {
            random_text(g, small, other, 1 + (size_t)rng_below(g, 2));
            p = left * 0.7 * rng_uniform(g);
            left -= p;
            reply_other(r, rng_below(g, 20) ? other : "<|endoftext|>", p);
        }
    }
    reply_end(r);
    return r;
}

static void check_random(struct bench *b, bool small, uint64_t rounds) {
    for (uint64_t round = 0; round < rounds; round++) {
        struct rng g = rng_make(11, round);
        rsd_reply *r = random_reply(b->ctx, &g, small);
        const rsd_alignment *al;
        ck_assert_msg(rsd_aligner_align(b->aligner, r, &al) == RSD_OK, "%s", rsd_ctx_error(b->ctx));
        if (al->n_student) {
            check_sane(b->aligner, al);
            check_enumerated(b, r, al);
        }
        rsd_reply_close(r);
    }
}

START_TEST(random_replies_equal_the_enumeration) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    check_random(&b, false, 1500);
    bench_close(&b);
}
END_TEST

START_TEST(other_vocabularies_equal_the_enumeration) {
    for (int across = 0; across < 2; across++) {
        struct bench b;
        bench_open_small(&b, across);
        check_random(&b, true, 1500);
        bench_close(&b);
    }
}
END_TEST

/* A token for each piece, and nothing else told: every row is the token's probability on its piece. */
START_TEST(tokens_of_the_student_align_one_to_one) {
    struct bench b;
    bench_open_small(&b, false);
    for (uint64_t round = 0; round < 200; round++) {
        struct rng g = rng_make(12, round);
        char text[1024], token[64];
        const int32_t *ids;
        const uint32_t *begin, *end;
        const rsd_alignment *al;
        uint32_t cuts[512];
        size_t n;
        random_text(&g, true, text, 12);
        for (size_t i = strlen(text); i && (text[i - 1] == ' ' || text[i - 1] == '\n'); i--)
            text[i - 1] = 0;
        ck_assert_int_eq(rsd_tokenizer_encode(b.tok, text, strlen(text), &ids, &n), RSD_OK);
        rsd_tokenizer_spans(b.tok, &begin, &end);
        ck_assert_uint_lt(n, 512);
        if (!n || begin[0] || text[0] == ' ' || text[0] == '\n')
            continue; /* the aligner leaves blanks at the start out */
        memcpy(cuts, end, n * sizeof *end);
        rsd_reply *r = reply_begin(b.ctx, "own");
        for (size_t j = 0, at = 0; j < n; at = cuts[j++]) {
            memcpy(token, text + at, cuts[j] - at);
            token[cuts[j] - at] = 0;
            if (token[0])
                reply_token(r, token, 0.25);
        }
        reply_end(r);
        ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_OK);
        ck_assert_uint_eq(al->n_student, n);
        for (size_t j = 0, t = 0; j < n; j++) {
            if (cuts[j] == (j ? cuts[j - 1] : 0))
                continue; /* the blank that encoding puts in front, alone: no token spells it */
            ck_assert_uint_eq(al->map_offsets[j + 1] - al->map_offsets[j], 1);
            ck_assert_uint_eq(al->map[al->map_offsets[j]], t++);
            ck_assert(al->kinds[j] == RSD_KIND_EXACT || al->kinds[j] == RSD_KIND_BLANK);
            ck_assert_uint_eq(al->row_offsets[j + 1] - al->row_offsets[j], 1);
            if (j && cuts[j - 1])
                ck_assert_float_eq_tol(al->row_probs[al->row_offsets[j]], 0.25F, 1e-6F);
        }
        rsd_reply_close(r);
    }
    bench_close(&b);
}
END_TEST

static void print_row(const char *name, const rsd_align_report *r) {
    double n = (double)r->positions;
    printf("  %-5s", name);
    for (int k = 0; k <= RSD_KIND_HARD; k++)
        printf(" %s %.2f%%", rsd_kind_name(k), 100 * (double)r->kinds[k] / n);
    printf("; placed %.4f of %.4f given\n", r->placed / n, r->given / n);
}

/* Coverage on real replies, both methods in one table. */
START_TEST(coverage_on_real_replies_is_kept) {
    SKIP_WITHOUT_DATA();
    rsd_align_report report[2];
    double told = 0, tokens = 0;
    for (int method = RSD_ALIGN_SPAN; method <= RSD_ALIGN_DTW; method++) {
        struct bench b;
        bench_open(&b, method);
        rsd_align_report *r = &report[method];
        *r = (rsd_align_report){.size = sizeof *r};
        const char *out = test_path(test_dir(), "aligned.rsd");
        ck_assert_msg(!rsd_aligner_file(b.aligner, test_data("teacher/codex_gsm8k_top5.jsonl"), out, 0, r), "%s",
                      rsd_ctx_error(b.ctx));
        ck_assert_uint_eq(r->replies, 35);
        for (size_t i = 0; method == RSD_ALIGN_SPAN && i < b.n; i++)
            for (size_t t = 0; t < rsd_reply_tokens(b.replies[i]); t++, tokens++)
                for (size_t k = 0; k < rsd_reply_tops(b.replies[i], t); k++) {
                    struct text bytes;
                    double x;
                    rsd_reply_top(b.replies[i], t, k, &bytes.p, &bytes.n, &x);
                    told += exp(x);
                }
        bench_close(&b);
    }
    print_row("span", &report[0]);
    print_row("dtw", &report[1]);
    const rsd_align_report *s = &report[RSD_ALIGN_SPAN];
    double n = (double)s->positions;
    ck_assert_double_le((double)s->kinds[RSD_KIND_HARD], 0.01 * n);
    ck_assert_double_ge((double)(s->kinds[RSD_KIND_EXACT] + s->kinds[RSD_KIND_BLANK] + s->kinds[RSD_KIND_MERGE] +
                                 s->kinds[RSD_KIND_SPLIT] + s->kinds[RSD_KIND_BRIDGE]),
                        0.97 * n);
    ck_assert_double_ge(s->placed, 0.97 * s->given);
    ck_assert_double_ge(s->placed / n, 0.97 * told / tokens); /* of what the teacher gave at its tokens */
    ck_assert_double_ge((double)report[RSD_ALIGN_DTW].kinds[RSD_KIND_HARD], 0.1 * n);
}
END_TEST

static float prob_of(const struct bench *b, const rsd_alignment *al, size_t j, const char *piece) {
    int32_t id = -1;
    ck_assert_msg(!rsd_tokenizer_find(b->tok, piece, strlen(piece), &id), "%s", piece);
    for (size_t i = al->row_offsets[j]; i < al->row_offsets[j + 1]; i++)
        if (al->row_ids[i] == id)
            return al->row_probs[i];
    return 0;
}

static void expect_pieces(const struct bench *b, const char *want) {
    char got[512] = "";
    for (size_t j = 0; j < b->aligner->s; j++) {
        struct text t = align_surface(b->aligner, j);
        strncat(got, t.p, t.n);
        strcat(got, "|");
    }
    ck_assert_str_eq(got, want);
}

/* Each kind of group by hand. */
START_TEST(kinds_and_rows_are_those_of_the_rule) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    rsd_reply *r = reply_begin(b.ctx, "r");
    const rsd_alignment *al;
    reply_token(r, "He", 0.6); /* no blank in front: blank */
    reply_other(r, "She", 0.3);
    reply_token(r, " sold", 0.9); /* exact */
    reply_other(r, " has", 0.05);
    reply_token(r, " 48", 0.8);
    reply_other(r, " 24", 0.1);
    reply_token(r, "/", 0.5); /* merge: one piece, two tokens */
    reply_other(r, " and", 0.25);
    reply_token(r, "2", 0.8);
    reply_other(r, "4", 0.1);
    reply_token(r, ".", 0.9);
    reply_token(r, "\n", 0.5); /* and a line feed that belongs to the next piece */
    reply_other(r, " So", 0.4);
    reply_token(r, "She", 0.5);
    reply_other(r, "So", 0.25);
    reply_token(r, " babysitting", 0.75); /* split */
    reply_other(r, " baby", 0.125);
    reply_other(r, " is", 0.125);
    reply_end(r);
    ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_OK);
    expect_pieces(&b, "\u2581He|\u2581sold|\u258148|/2|.|\u2581She|\u2581baby|s|i|tting|");
    static const int kinds[] = {RSD_KIND_BLANK, RSD_KIND_EXACT, RSD_KIND_EXACT, RSD_KIND_MERGE, RSD_KIND_EXACT,
                                RSD_KIND_BLANK, RSD_KIND_SPLIT, RSD_KIND_CONT,  RSD_KIND_HARD,  RSD_KIND_HARD};
    for (size_t j = 0; j < al->n_student; j++)
        ck_assert_msg(al->kinds[j] == kinds[j], "piece %zu: %s, expected %s", j, rsd_kind_name(al->kinds[j]),
                      rsd_kind_name(kinds[j]));
    ck_assert_float_eq_tol(prob_of(&b, al, 0, "\u2581She"), 0.3F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, 2, "\u258124"), 0.1F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, 3, "/2"), 0.4F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, 3, "/4"), 0.05F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, 3, "\u2581and"), 0.25F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, 5, "\u2581She"), 0.25F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, 5, "\u2581So"), 0.4F + 0.125F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, 6, "\u2581baby"), 0.875F, 1e-6F); /* ` babysitting` and ` baby` */
    ck_assert_float_eq_tol(prob_of(&b, al, 7, "s"), 0.75F / 0.875F, 1e-6F);  /* what follows ` baby` is not told: tail */
    ck_assert_float_eq_tol(al->placed[7], 0.75F, 1e-6F);
    ck_assert_float_eq_tol(al->given[7], 0.875F, 1e-6F);
    rsd_reply_close(r);
    bench_close(&b);
}
END_TEST

/* The branch `8` behind ` 4` makes the piece of ` 48`: it takes from `4` where the pieces part, not one piece later. */
START_TEST(number_that_goes_on_counts_as_the_longer_number) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    rsd_reply *r = reply_begin(b.ctx, "r");
    const rsd_alignment *al;
    reply_token(r, " 4", 0.5);
    reply_other(r, " 48", 0.125);
    reply_token(r, " clips", 0.75);
    reply_other(r, "8", 0.25);
    reply_end(r);
    ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_OK);
    expect_pieces(&b, "\u25814|\u2581clips|");
    ck_assert_float_eq_tol(prob_of(&b, al, 0, "\u25814"), 0.375F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, 0, "\u258148"), 0.25F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, 1, "\u2581clips"), 1, 1e-6F);
    ck_assert_int_eq(al->kinds[1], RSD_KIND_HARD);
    rsd_reply_close(r);
    bench_close(&b);
}
END_TEST

START_TEST(bad_replies_are_located) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    const rsd_alignment *al;
    rsd_reply *r = reply_begin(b.ctx, "r1");
    ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_ENOLOGPROBS);
    reply_token(r, "a", 0.5);
    ck_assert_int_eq(reply_add_token(r, text_of("b"), NAN, -1, NULL), 0);
    str_addz(&r->text, "b");
    ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_EFORMAT);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(b.ctx), "r1"));
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(b.ctx), "token 1"));
    r->tokens[1].logprob = 0.5;
    ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_EFORMAT);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(b.ctx), "positive"));
    r->tokens[1].logprob = -0.5;
    ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_OK);
    str_addz(&r->text, "c");
    ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_EFORMAT);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(b.ctx), "byte 2"));
    rsd_reply_close(r);
    bench_close(&b);
}
END_TEST

START_TEST(a_reply_with_other_alternatives_than_declared_is_located) {
    static const struct {
        int others[2];    /* at two tokens */
        const char *says; /* NULL: fine where two are declared */
    } rows[] = {{{2, 2}, NULL},
                {{2, 0}, NULL}, /* single tokens may have fewer */
                {{1, 3}, NULL}, /* the token itself is one more */
                {{1, 4}, "token 1: it has 4 alternatives, expected 2"},
                {{1, 0}, "1 alternatives at most, expected 2"},
                {{0, 0}, "0 alternatives at most, expected 2"}};
    static const char *const others[] = {"a", "b", "c", "1"};
    struct bench b;
    bench_open_small(&b, false);
    rsd_aligner_options o;
    rsd_aligner_options_init(&o, sizeof o);
    rsd_aligner *strict = NULL;
    const rsd_alignment *al;
    o.top_logprobs = 1001;
    ck_assert_int_eq(rsd_aligner_open(b.ctx, b.tok, &o, &strict), RSD_EINVAL);
    o.top_logprobs = 2;
    ck_assert_int_eq(rsd_aligner_open(b.ctx, b.tok, &o, &strict), RSD_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rsd_reply *r = reply_begin(b.ctx, "r1");
        for (int t = 0; t < 2; t++) {
            reply_token(r, "a", 0.2);
            for (int k = 0; k < rows[i].others[t]; k++)
                reply_other(r, others[k], 0.2);
        }
        reply_end(r);
        ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_OK);
        ck_assert_int_eq(rsd_aligner_align(strict, r, &al), rows[i].says ? RSD_EFORMAT : RSD_OK);
        ck_assert_msg(!rows[i].says || (strstr(rsd_ctx_error(b.ctx), rows[i].says) && strstr(rsd_ctx_error(b.ctx), "r1")),
                      "%zu: %s", i, rsd_ctx_error(b.ctx));
        rsd_reply_close(r);
    }
    rsd_aligner_close(strict);
    bench_close(&b);
}
END_TEST

/* A text without a blank is one word; its length must not be squared in time. */
START_TEST(long_words_take_linear_time) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    double seconds[2];
    for (int big = 0; big < 2; big++) {
        rsd_reply *r = reply_begin(b.ctx, "long");
        const rsd_alignment *al;
        for (int i = 0; i < (big ? 32000 : 4000); i++) {
            reply_token(r, i % 7 ? "ab" : "qu1", 0.5);
            reply_other(r, "cd", 0.25);
        }
        reply_end(r);
        double start = clock_seconds();
        ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_OK);
        seconds[big] = clock_seconds() - start;
        check_sane(b.aligner, al);
        rsd_reply_close(r);
    }
    ck_assert_msg(seconds[1] < 40 * seconds[0] + 0.05, "%g s, eight times as long %g s", seconds[0], seconds[1]);
    bench_close(&b);
}
END_TEST

Suite *align_span_suite(void) {
    Suite *s = suite_create("align span");
    TCase *t = tcase_create("span");
    tcase_add_test(t, real_replies_equal_the_enumeration);
    tcase_add_test(t, random_replies_equal_the_enumeration);
    tcase_add_test(t, other_vocabularies_equal_the_enumeration);
    tcase_add_test(t, tokens_of_the_student_align_one_to_one);
    tcase_add_test(t, coverage_on_real_replies_is_kept);
    tcase_add_test(t, kinds_and_rows_are_those_of_the_rule);
    tcase_add_test(t, number_that_goes_on_counts_as_the_longer_number);
    tcase_add_test(t, bad_replies_are_located);
    tcase_add_test(t, a_reply_with_other_alternatives_than_declared_is_located);
    tcase_add_test(t, long_words_take_linear_time);
    suite_add_tcase(s, t);
    return s;
}
