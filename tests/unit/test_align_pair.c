/* Teacher and student with real tokenizers: p50k byte pairs against T5, p50k against itself, and teachers whose every text can be
 * enumerated. */
#include "test_align.h"

#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A context with p50k as the teacher's tokenizer, and an aligner to T5 or to p50k itself. */
struct pair {
    struct bench b; /* its tokenizer is the student's */
    rsd_tokenizer *teacher;
};

static void open_pair(struct pair *p, const char *student) {
    rsd_aligner_options o;
    *p = (struct pair){0};
    ck_assert_int_eq(rsd_ctx_open(NULL, &p->b.ctx), RSD_OK);
    ck_assert_int_eq(rsd_tokenizer_open(p->b.ctx, test_data("tokenizer/p50k_base.tiktoken"), &p->teacher), RSD_OK);
    ck_assert_int_eq(rsd_tokenizer_open(p->b.ctx, test_data(student), &p->b.tok), RSD_OK);
    rsd_aligner_options_init(&o, sizeof o);
    ck_assert_int_eq(rsd_aligner_open(p->b.ctx, p->b.tok, &o, &p->b.aligner), RSD_OK);
}

static void close_pair(struct pair *p) {
    rsd_tokenizer_close(p->teacher);
    bench_close(&p->b);
}

static const char *const bits[] = {" the",
                                   " 4",
                                   "8",
                                   " 48",
                                   "\n",
                                   "  ",
                                   " Natalia",
                                   " babysitting",
                                   "isn't",
                                   "\u00bd",
                                   "/2",
                                   "%",
                                   "{}",
                                   "~^",
                                   "\u20ac",
                                   ".",
                                   ",",
                                   " \u00e9t\u00e9",
                                   "\u4e2d\u6587",
                                   " $12",
                                   ".\n\n",
                                   "He",
                                   " sold",
                                   "100,000",
                                   "-",
                                   " x=",
                                   "\U0001F600",
                                   "\t",
                                   " So",
                                   "ing"};

static void random_text(struct rng *g, char *out, size_t n) {
    out[0] = 0;
    while (n--)
        strcat(out, bits[rng_below(g, sizeof bits / sizeof *bits)]);
}

static void add_bytes(rsd_reply *r, struct text t, double p, bool token) {
    ck_assert_int_eq(token ? reply_add_token(r, t, log(p), -1, NULL) : reply_add_top(r, t, log(p), NULL), 0);
    if (token)
        str_add(&r->text, t.p, t.n);
}

/* The text as the teacher's tokenizer cuts it. Alternatives: tokens of the vocabulary, those of `words` only with a blank in
 * front. */
static rsd_reply *teacher_reply(struct pair *p, struct rng *g, const char *text, size_t tops, bool words) {
    rsd_reply *r = reply_begin(p->b.ctx, "pair");
    const int32_t *ids;
    int32_t kept[1024];
    size_t n;
    ck_assert_int_eq(rsd_tokenizer_encode(p->teacher, text, strlen(text), &ids, &n), RSD_OK);
    ck_assert_uint_le(n, 1024);
    memcpy(kept, ids, n * sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        struct text t;
        double q = 0.3 + 0.6 * rng_uniform(g), left = 1 - q;
        rsd_tokenizer_piece(p->teacher, kept[i], &t.p, &t.n);
        add_bytes(r, t, q, true);
        for (size_t k = 0; k < tops; k++) {
            int32_t id = (int32_t)rng_below(g, 50256);
            rsd_tokenizer_piece(p->teacher, id, &t.p, &t.n);
            q = left * 0.7 * rng_uniform(g);
            if (id == kept[i] || (words && (t.n < 2 || t.p[0] != ' ' || t.p[1] < 'a' || t.p[1] > 'z')))
                continue;
            left -= q;
            add_bytes(r, t, q, false);
        }
    }
    reply_end(r);
    return r;
}

/* Every byte is covered once, boundaries agree, masses are in [0,1]. */
static void check_cover(const struct pair *p, const rsd_reply *r, const rsd_alignment *al) {
    const rsd_aligner *a = p->b.aligner;
    size_t token = 0, text_len;
    rsd_reply_text(r, &text_len);
    for (size_t j = 0; j < al->n_student; j++) {
        double sum = 0;
        ck_assert_uint_eq(a->regions[j].begin, j                                          ? a->regions[j - 1].end
                                               : a->steps[a->first].begin < a->text_begin ? a->steps[a->first].begin
                                                                                          : a->text_begin);
        ck_assert_uint_ge(a->regions[j].end, a->regions[j].begin);
        for (size_t k = al->row_offsets[j]; k < al->row_offsets[j + 1]; k++) {
            ck_assert(al->row_probs[k] >= 0 && al->row_probs[k] <= 1);
            sum += (double)al->row_probs[k];
        }
        ck_assert_double_le(sum, 1 + 1e-6);
        ck_assert(al->placed[j] >= 0 && al->placed[j] <= al->given[j] + 1e-6F && al->given[j] <= 1);
        for (size_t k = al->map_offsets[j]; k < al->map_offsets[j + 1]; k++) {
            ck_assert(al->map[k] == token || al->map[k] + 1 == token);
            token = al->map[k] + 1;
        }
        if (al->kinds[j] == RSD_KIND_EXACT) { /* both ends are ends of its token */
            const struct step *s = &a->steps[a->first + al->map[al->map_offsets[j]]];
            ck_assert(s->begin == a->regions[j].begin && s->end == a->regions[j].end);
        }
    }
    ck_assert_uint_eq(a->regions[al->n_student - 1].end, a->text_end);
    ck_assert_uint_eq(token, al->n_teacher);
}

START_TEST(every_byte_is_covered_once_between_real_tokenizers) {
    SKIP_WITHOUT_DATA();
    struct pair p;
    open_pair(&p, _i ? "tokenizer/p50k_base.tiktoken" : "tokenizer/spiece.model");
    for (uint64_t round = 0; round < 1500; round++) {
        struct rng g = rng_make(21, round);
        const rsd_alignment *al;
        char text[1024];
        random_text(&g, text, 1 + (size_t)rng_below(&g, 30));
        rsd_reply *r = teacher_reply(&p, &g, text, 4, false);
        ck_assert_msg(!rsd_aligner_align(p.b.aligner, r, &al), "%s", rsd_ctx_error(p.b.ctx));
        if (al->n_student)
            check_cover(&p, r, al);
        rsd_reply_close(r);
    }
    close_pair(&p);
}
END_TEST

/* p50k against itself: one piece a token, and rows that are what the teacher told, where alternatives start a word. */
START_TEST(a_tokenizer_aligned_with_itself_is_the_identity) {
    SKIP_WITHOUT_DATA();
    struct pair p;
    size_t exact = 0, rows = 0;
    open_pair(&p, "tokenizer/p50k_base.tiktoken");
    for (uint64_t round = 0; round < 500; round++) {
        struct rng g = rng_make(22, round);
        const rsd_alignment *al;
        char text[1024];
        random_text(&g, text, 1 + (size_t)rng_below(&g, 30));
        strcat(text, "."); /* no blank at the end, which would be stripped */
        rsd_reply *r = teacher_reply(&p, &g, text, 4, true);
        ck_assert_int_eq(rsd_aligner_align(p.b.aligner, r, &al), RSD_OK);
        ck_assert_uint_eq(al->n_student, al->n_teacher);
        for (size_t j = 0; j < al->n_student; j++) {
            struct text t;
            double logprob;
            size_t i = al->teacher_first + j;
            rsd_reply_token(r, i, &t.p, &t.n, &logprob);
            ck_assert_uint_eq(al->map_offsets[j + 1], j + 1);
            ck_assert_uint_eq(al->map[j], j);
            ck_assert_int_eq(al->kinds[j], RSD_KIND_EXACT);
            exact++;
            /* a token that is a word: nothing before or behind it can be cut otherwise */
            const char *text_at = rsd_reply_text(r, NULL) + p.b.aligner->regions[j].begin;
            if (!j || text_at[0] != ' ' || text_at[-1] <= ' ' || text_at[-1] >= 0x7F || t.n < 2 || text_at[1] <= ' ' ||
                text_at[t.n] != ' ')
                continue;
            ck_assert_uint_eq(al->row_offsets[j + 1] - al->row_offsets[j], 1 + rsd_reply_tops(r, i));
            for (size_t k = 0; k <= rsd_reply_tops(r, i); k++, rows++) {
                int32_t id = al->student_ids[j];
                float got = -1;
                if (k) {
                    rsd_reply_top(r, i, k - 1, &t.p, &t.n, &logprob);
                    ck_assert_int_eq(rsd_tokenizer_find(p.teacher, t.p, t.n, &id), RSD_OK);
                }
                for (size_t m = al->row_offsets[j]; m < al->row_offsets[j + 1]; m++)
                    got = al->row_ids[m] == id ? al->row_probs[m] : got;
                ck_assert_float_eq_tol(got, (float)exp(logprob), 1e-5F);
            }
        }
        rsd_reply_close(r);
    }
    ck_assert_uint_gt(exact, 5000);
    ck_assert_uint_gt(rows, 500);
    close_pair(&p);
}
END_TEST

/* ---- teachers whose every text is known ---- */

enum { DEPTH = 5, CHOICES = 4, TEXTS = 1024 };

struct text_told {
    double mass;
    int32_t ids[64];
    size_t n;
};

/* What the teacher says behind the choices so far. */
static void distribution(uint64_t seed, const size_t *path, size_t depth, double q[CHOICES]) {
    uint64_t state = seed;
    double sum = 0;
    for (size_t i = 0; i < depth; i++)
        state = rng_mix(state, path[i] + 1);
    struct rng g = rng_make(state, depth);
    for (size_t k = 0; k < CHOICES; k++)
        sum += q[k] = 0.05 + rng_uniform(&g);
    for (size_t k = 0; k < CHOICES; k++)
        q[k] /= sum;
}

static void digits(size_t number, size_t path[DEPTH]) {
    for (size_t i = 0; i < DEPTH; i++, number /= CHOICES)
        path[i] = number % CHOICES;
}

static size_t spell(const char *const words[CHOICES], const size_t *path, size_t n, char *out) {
    out[0] = 0;
    for (size_t i = 0; i < n; i++)
        strcat(out, words[path[i]]);
    return strlen(out);
}

static void tell_all(struct pair *p, const char *const words[CHOICES], uint64_t seed, struct text_told *out) {
    for (size_t number = 0; number < TEXTS; number++) {
        size_t path[DEPTH];
        char text[256];
        const int32_t *ids;
        double q[CHOICES];
        digits(number, path);
        out[number].mass = 1;
        for (size_t i = 0; i < DEPTH; i++) {
            distribution(seed, path, i, q);
            out[number].mass *= q[path[i]];
        }
        size_t len = spell(words, path, DEPTH, text);
        ck_assert_int_eq(rsd_tokenizer_encode(p->b.tok, text, len, &ids, &out[number].n), RSD_OK);
        ck_assert_uint_le(out[number].n, 64);
        memcpy(out[number].ids, ids, out[number].n * sizeof *ids);
    }
}

/* Mass of the texts that begin with pieces ids[0..n), and then `id` if it is not negative. */
static double mass_of(const struct text_told *all, const int32_t *ids, size_t n, int32_t id) {
    double mass = 0;
    for (size_t k = 0; k < TEXTS; k++)
        if (all[k].n >= n + (id >= 0) && !memcmp(all[k].ids, ids, n * sizeof *ids) && (id < 0 || all[k].ids[n] == id))
            mass += all[k].mass;
    return mass;
}

/* Aligns every eighth text of the teacher. *worst: largest difference between a row's entry and the enumerated marginal;
 * *mean: mean over positions of half the sum of differences, the tail included; *open: mean tail. */
static void compare(struct pair *p, const char *const words[CHOICES], uint64_t seed, double *worst, double *mean, double *open) {
    static struct text_told all[TEXTS];
    size_t positions = 0;
    *worst = *mean = *open = 0;
    tell_all(p, words, seed, all);
    for (size_t number = seed % 8; number < TEXTS; number += 8) {
        size_t path[DEPTH];
        const rsd_alignment *al;
        digits(number, path);
        rsd_reply *r = reply_begin(p->b.ctx, "synthetic");
        for (size_t i = 0; i < DEPTH; i++) {
            double q[CHOICES];
            distribution(seed, path, i, q);
            reply_token(r, words[path[i]], q[path[i]]);
            for (size_t k = 0; k < CHOICES; k++)
                reply_other(r, words[k], q[k]);
        }
        reply_end(r);
        ck_assert_int_eq(rsd_aligner_align(p->b.aligner, r, &al), RSD_OK);
        ck_assert_uint_eq(al->n_student, all[number].n);
        for (size_t j = 0; j < al->n_student; j++, positions++) {
            double whole = mass_of(all, al->student_ids, j, -1), apart = 0, sum = 0;
            for (size_t k = al->row_offsets[j]; k < al->row_offsets[j + 1]; k++) {
                double want = mass_of(all, al->student_ids, j, al->row_ids[k]) / whole, d = fabs(want - (double)al->row_probs[k]);
                *worst = fmax(*worst, d);
                apart += d;
                sum += (double)al->row_probs[k];
            }
            *mean += apart / 2;
            *open += 1 - sum;
        }
        rsd_reply_close(r);
    }
    *mean /= (double)positions;
    *open /= (double)positions;
}

/* Words behind blanks, none of which begins another one's pieces: an alternative ends where a piece ends. */
START_TEST(marginals_are_exact_where_alternatives_end_at_pieces) {
    SKIP_WITHOUT_DATA();
    static const char *const teachers[][CHOICES] = {
        {" sold", " babysitting", " clips", " Natalia"},
        {" half", " because", " 48", " unbelievably"},
        {" x", " \u00e9t\u00e9", " total", " $12"},
        {" disproportionate", " disproved", " disk", " distilleries"},
    };
    struct pair p;
    open_pair(&p, "tokenizer/spiece.model");
    for (size_t t = 0; t < sizeof teachers / sizeof *teachers; t++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            double worst, mean, open;
            compare(&p, teachers[t], seed, &worst, &mean, &open);
            ck_assert_msg(worst < 2e-6, "teacher %zu: %g", t, worst);
            ck_assert_double_le(fabs(open), 2e-6);
        }
    close_pair(&p);
}
END_TEST

/* Digits and endings may go on inside a piece. What the convention costs is measured. */
START_TEST(cost_of_the_convention_is_measured) {
    SKIP_WITHOUT_DATA();
    static const char *const teachers[][CHOICES] = {
        {" 4", "8", "0", " and"},
        {" baby", "sit", "ting", " sold"},
        {" 1", "2", "/", " half"},
    };
    struct pair p;
    double sum = 0, tail = 0;
    open_pair(&p, "tokenizer/spiece.model");
    for (size_t t = 0; t < sizeof teachers / sizeof *teachers; t++) {
        double worst, mean, open;
        compare(&p, teachers[t], 1, &worst, &mean, &open);
        printf("  teacher %zu breaks the convention: error %.4f mean (total variation), %.4f worst entry; tail %.4f\n", t, mean,
               worst, open);
        sum += mean / 3;
        tail += open / 3;
    }
    ck_assert_double_gt(sum, 1e-3); /* the enumeration sees the difference */
    ck_assert_double_lt(sum, 0.25);
    ck_assert_double_lt(tail, 0.5);
    close_pair(&p);
}
END_TEST

/* Of the mass of real alternatives, how much ends in a piece that the vocabulary has a longer form of. */
START_TEST(extendable_share_of_real_alternatives_is_measured) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    int32_t size = rsd_tokenizer_size(b.tok);
    static unsigned char longer[40000];
    ck_assert_int_le(size, 40000);
    for (int32_t id = 0; id < size; id++) {
        struct text t;
        rsd_tokenizer_piece(b.tok, id, &t.p, &t.n);
        for (size_t n = 1; n < t.n; n++) {
            int32_t head;
            if (!rsd_tokenizer_find(b.tok, t.p, n, &head))
                longer[head] = 1;
        }
    }
    double all = 0, open = 0;
    for (size_t i = 0; i < b.n; i++)
        for (size_t t = 0; t < rsd_reply_tokens(b.replies[i]); t++) {
            struct text token, top;
            double x;
            rsd_reply_token(b.replies[i], t, &token.p, &token.n, &x);
            for (size_t k = 0; k < rsd_reply_tops(b.replies[i], t); k++) {
                const int32_t *ids;
                size_t n;
                rsd_reply_top(b.replies[i], t, k, &top.p, &top.n, &x);
                if (text_eq(top, token))
                    continue;
                ck_assert_int_eq(rsd_tokenizer_encode(b.tok, top.p, top.n, &ids, &n), RSD_OK);
                all += exp(x);
                open += n && longer[ids[n - 1]] ? exp(x) : 0;
            }
        }
    printf("  of the mass of real alternatives %.1f %% end in a piece that could go on\n", 100 * open / all);
    ck_assert_double_gt(open / all, 0.4);
    ck_assert_double_lt(open / all, 0.9);
    bench_close(&b);
}
END_TEST

Suite *align_pair_suite(void) {
    Suite *s = suite_create("align pair");
    TCase *t = tcase_create("pair");
    tcase_add_loop_test(t, every_byte_is_covered_once_between_real_tokenizers, 0, 2);
    tcase_add_test(t, a_tokenizer_aligned_with_itself_is_the_identity);
    tcase_add_test(t, marginals_are_exact_where_alternatives_end_at_pieces);
    tcase_add_test(t, cost_of_the_convention_is_measured);
    tcase_add_test(t, extendable_share_of_real_alternatives_is_measured);
    suite_add_tcase(s, t);
    return s;
}
