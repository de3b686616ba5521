/* Replies aligned to texts that are not quite their own. */
#include "test_align.h"

#include "core/json.h"
#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const rsd_alignment *align_to(struct bench *b, const rsd_reply *r, const char *text, size_t n) {
    const rsd_alignment *al;
    ck_assert_msg(!rsd_aligner_align_text(b->aligner, r, text, n, &al), "%s", rsd_ctx_error(b->ctx));
    return al;
}

/* Regions and tokens in order, masses in [0,1], the reply's own piece in each row. */
static void check(const rsd_aligner *a, const rsd_alignment *al) {
    for (size_t j = 0; j < al->n_student; j++) {
        double sum = 0;
        bool own = false;
        ck_assert(!j || a->regions[j].begin == a->regions[j - 1].end);
        ck_assert_uint_lt(al->map_offsets[j], al->map_offsets[j + 1]);
        for (size_t k = al->map_offsets[j]; k < al->map_offsets[j + 1]; k++)
            ck_assert(al->map[k] < al->n_teacher && (!k || al->map[k] >= al->map[k - 1]));
        for (size_t k = al->row_offsets[j]; k < al->row_offsets[j + 1]; k++) {
            ck_assert(al->row_probs[k] >= 0 && al->row_probs[k] <= 1);
            sum += (double)al->row_probs[k];
            own |= al->row_ids[k] == al->student_ids[j];
        }
        ck_assert(own);
        ck_assert_double_le(sum, 1 + 1e-6);
        ck_assert(al->placed[j] >= 0 && al->placed[j] <= al->given[j] + 1e-6F && al->given[j] <= 1);
        ck_assert(al->row_offsets[j + 1] > al->row_offsets[j] + 1 || al->row_probs[al->row_offsets[j]] < 1 ||
                  al->kinds[j] == RSD_KIND_HARD);
    }
    ck_assert(!al->n_student || a->regions[al->n_student - 1].end <= a->text_end); /* what normalisation removes has no piece */
}

/* The line of the last alignment, of malloc. */
static char *line_of(struct bench *b) {
    const char *json;
    size_t n;
    ck_assert_int_eq(rsd_aligner_json(b->aligner, &json, &n), RSD_OK);
    return strndup(json, n);
}

START_TEST(own_text_and_cuts_change_nothing) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    for (size_t i = 0; i < b.n; i++) {
        const rsd_alignment *al;
        ck_assert_int_eq(rsd_aligner_align(b.aligner, b.replies[i], &al), RSD_OK);
        char *want = line_of(&b), *text = strndup(al->text, al->text_len);
        align_to(&b, b.replies[i], text, strlen(text)); /* stripped, and cut behind the answer */
        char *got = line_of(&b);
        ck_assert_str_eq(got, want);
        free(want);
        free(got);
        free(text);
    }
    bench_close(&b);
}
END_TEST

static float prob_of(const struct bench *b, const rsd_alignment *al, size_t j, const char *piece) {
    int32_t id = -1;
    ck_assert_int_eq(rsd_tokenizer_find(b->tok, piece, strlen(piece), &id), RSD_OK);
    for (size_t i = al->row_offsets[j]; i < al->row_offsets[j + 1]; i++)
        if (al->row_ids[i] == id)
            return al->row_probs[i];
    return 0;
}

static rsd_reply *clips(struct bench *b) {
    rsd_reply *r = reply_begin(b->ctx, "clips");
    reply_token(r, "Natalia sold", 0.5);
    reply_token(r, " 48", 0.6);
    reply_other(r, " 24", 0.3);
    reply_token(r, " clips altogether in May", 0.75);
    reply_token(r, ":", 0.5);
    reply_other(r, ".", 0.25);
    reply_token(r, " so many", 0.5);
    reply_other(r, " that", 0.25);
    reply_end(r);
    return r;
}

START_TEST(changed_tokens_follow_the_rule) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    rsd_reply *r = clips(&b);
    const char *text = "Natalia sold 24 clips altogether in May so many"; /* an alternative taken, a token gone */
    const rsd_alignment *al = align_to(&b, r, text, strlen(text));
    check(b.aligner, al);
    size_t at = 0;
    while (prob_of(&b, al, at, "\u258124") == 0.0F)
        at++;
    ck_assert_int_eq(al->kinds[at], RSD_KIND_BRIDGE);
    ck_assert_float_eq_tol(prob_of(&b, al, at, "\u258124"), 0.3F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, at, "\u258148"), 0.6F, 1e-6F);
    while (prob_of(&b, al, at, "\u2581so") == 0.0F)
        at++;
    ck_assert_float_eq_tol(prob_of(&b, al, at, "\u2581so"), 0.5F, 1e-6F);
    ck_assert_float_eq_tol(prob_of(&b, al, at, "\u2581that"), 0.25F, 1e-6F);

    text = "Natalia sold 96 clips altogether in May: so very many"; /* something that nothing was told about, and something new */
    al = align_to(&b, r, text, strlen(text));
    check(b.aligner, al);
    for (at = 0; at < al->n_student && strncmp(al->text + b.aligner->regions[at].begin, " 96", 3); at++)
        continue;
    ck_assert_uint_lt(at, al->n_student);
    ck_assert_int_eq(al->kinds[at], RSD_KIND_HARD);
    rsd_reply_close(r);
    bench_close(&b);
}
END_TEST

/* Words and commas taken out. Soft targets stay, and nothing is claimed beyond what was given. */
START_TEST(cleaned_replies_keep_their_soft_targets) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    size_t kinds[8] = {0}, positions = 0;
    bench_open(&b, RSD_ALIGN_SPAN);
    for (size_t i = 0; i < b.n; i++) {
        const rsd_alignment *al;
        char text[8192];
        size_t n = 0;
        ck_assert_int_eq(rsd_aligner_align(b.aligner, b.replies[i], &al), RSD_OK);
        for (size_t k = 0; k < al->text_len; k++) /* every fourth comma and every "the" */
            if (!(al->text[k] == ',' && k % 4) && !(k + 4 < al->text_len && !memcmp(al->text + k, " the", 4) && (k += 3)))
                text[n++] = al->text[k];
        al = align_to(&b, b.replies[i], text, n);
        check(b.aligner, al);
        for (size_t j = 0; j < al->n_student; j++)
            kinds[al->kinds[j]]++;
        positions += al->n_student;
    }
    printf("  cleaned replies: bridge %.1f %%, hard %.1f %%\n", 100.0 * (double)kinds[RSD_KIND_BRIDGE] / (double)positions,
           100.0 * (double)kinds[RSD_KIND_HARD] / (double)positions);
    ck_assert_uint_gt(kinds[RSD_KIND_BRIDGE], 0);
    ck_assert_double_le((double)kinds[RSD_KIND_HARD], 0.02 * (double)positions);
    bench_close(&b);
}
END_TEST

START_TEST(any_text_is_covered) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    for (uint64_t round = 0; round < 600; round++) {
        struct rng g = rng_make(31, round);
        size_t len, n = 0, other_len;
        const rsd_reply *r = b.replies[rng_below(&g, b.n)];
        const char *from = rsd_reply_text(r, &len), *other = rsd_reply_text(b.replies[rng_below(&g, b.n)], &other_len);
        char text[16384];
        double often = rng_uniform(&g) * rng_uniform(&g);
        for (size_t k = 0; k < len; k++) {
            bool change = rng_uniform(&g) < often * 0.3;
            if (!change || rng_below(&g, 3))
                text[n++] = change ? (char)(unsigned char)rng_below(&g, 256) : from[k];
            if (change && !rng_below(&g, 4))
                text[n++] = (char)(unsigned char)(32 + rng_below(&g, 90));
            if (!rng_below(&g, 400) && k + 60 < len)
                k += 50; /* a hole */
        }
        if (round % 10 == 9) { /* another text altogether, or none */
            n = round % 20 == 9 ? other_len : 0;
            memcpy(text, other, n);
        }
        check(b.aligner, align_to(&b, r, text, n));
    }
    bench_close(&b);
}
END_TEST

/* The line of a reply tells where its probability went. */
START_TEST(rows_and_tail_of_a_line_add_up) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    for (size_t i = 0; i < b.n; i++) {
        const rsd_alignment *al;
        struct json *doc = NULL;
        ck_assert_int_eq(rsd_aligner_align(b.aligner, b.replies[i], &al), RSD_OK);
        char *line = line_of(&b);
        ck_assert_int_eq(json_parse(line, strlen(line), &doc, NULL), 0);
        const struct json *row = json_first(json_get(doc, "rows")), *tail = json_first(json_get(doc, "tail"));
        size_t n = 0;
        for (; row && tail; row = json_next(row), tail = json_next(tail), n++) {
            double sum = json_number(tail);
            for (const struct json *k = json_first(row); k; k = json_next(k))
                sum += json_number(json_next(json_first(k)));
            ck_assert_double_eq_tol(sum, 1, 1e-5);
        }
        ck_assert_uint_eq(n, al->n_student);
        const struct json *coverage = json_get(doc, "coverage");
        ck_assert_double_eq(json_number(json_get(coverage, "positions")), (double)n);
        ck_assert_double_ge(json_number(json_get(coverage, "soft")), 0.9);
        json_free(doc);
        free(line);
    }
    bench_close(&b);
}
END_TEST

START_TEST(long_texts_far_apart_do_not_take_all_memory) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_SPAN);
    rsd_reply *r = reply_begin(b.ctx, "long");
    for (int i = 0; i < 30000; i++)
        reply_token(r, i % 3 ? " ab" : " c", 0.5);
    reply_end(r);
    char *text = malloc(90000);
    for (size_t i = 0; i < 90000; i++)
        text[i] = "xyz "[i * i % 7 % 4];
    const rsd_alignment *al = align_to(&b, r, text, 90000);
    check(b.aligner, al);
    free(text);
    rsd_reply_close(r);
    bench_close(&b);
}
END_TEST

Suite *align_bridge_suite(void) {
    Suite *s = suite_create("align bridge");
    TCase *t = tcase_create("bridge");
    tcase_add_test(t, own_text_and_cuts_change_nothing);
    tcase_add_test(t, changed_tokens_follow_the_rule);
    tcase_add_test(t, cleaned_replies_keep_their_soft_targets);
    tcase_add_test(t, any_text_is_covered);
    tcase_add_test(t, rows_and_tail_of_a_line_add_up);
    tcase_add_test(t, long_texts_far_apart_do_not_take_all_memory);
    suite_add_tcase(s, t);
    return s;
}
