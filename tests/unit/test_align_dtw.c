/* The reference's alignment, case for case, as it was printed and as it was run again on the real replies. */
#include "test_align.h"

#include "core/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct json *parse(const char *p, size_t n) {
    struct json *doc = NULL;
    struct err e = {0};
    ck_assert_msg(!json_parse(p, n, &doc, &e), "%s", e.text);
    return doc;
}

/* Values equal; numbers in step_probs as they were printed, with four decimals. */
static bool same(const struct json *a, const struct json *b, double tolerance) {
    if (json_type(a) != json_type(b))
        return false;
    if (json_type(a) == JSON_NUMBER)
        return fabs(json_number(a) - json_number(b)) <= tolerance;
    if (json_type(a) == JSON_TEXT)
        return text_eq(json_text(a), json_text(b));
    if (json_type(a) != JSON_ARRAY || json_count(a) != json_count(b))
        return false;
    for (a = json_first(a), b = json_first(b); a; a = json_next(a), b = json_next(b))
        if (!same(a, b, tolerance))
            return false;
    return true;
}

static struct json *align_json(struct bench *b, const rsd_reply *r) {
    const rsd_alignment *al;
    const char *json;
    size_t len;
    ck_assert_msg(rsd_aligner_align(b->aligner, r, &al) == RSD_OK, "%s", rsd_ctx_error(b->ctx));
    ck_assert_int_eq(rsd_aligner_json(b->aligner, &json, &len), RSD_OK);
    return parse(json, len);
}

static const rsd_reply *reply_of(const struct bench *b, struct text id) {
    for (size_t i = 0; i < b->n; i++) {
        struct text t;
        t.p = rsd_reply_id(b->replies[i], &t.n);
        if (text_eq(t, id))
            return b->replies[i];
    }
    return NULL;
}

static void check_fields(struct bench *b, const struct json *want, const char *const *keys, size_t n, struct text id) {
    const rsd_reply *r = reply_of(b, id);
    ck_assert_msg(r != NULL, "no reply %.*s", (int)id.n, id.p);
    struct json *got = align_json(b, r);
    for (size_t k = 0; k < n; k++) {
        const struct json *w = json_get(want, keys[k]), *g = json_get(got, keys[k]);
        ck_assert_msg(w && g && same(w, g, 5.1e-5), "%.*s: %s", (int)id.n, id.p, keys[k]);
    }
    json_free(got);
}

START_TEST(computed_alignments_are_reproduced) {
    SKIP_WITHOUT_DATA();
    static const char *const keys[] = {"student_text", "status", "teacher_tokens",     "student_pieces",     "student_ids",
                                       "path",         "cost",   "student_to_teacher", "teacher_to_student", "step_probs"};
    struct bench b;
    struct lines l;
    struct text line;
    size_t n = 0;
    bench_open(&b, RSD_ALIGN_DTW);
    ck_assert_int_eq(lines_open(&l, &mem_std, test_data("teacher/reference_alignment_computed.jsonl"), 1 << 24, NULL), 0);
    while (lines_next(&l, &line, NULL) == 1) {
        struct json *want = parse(line.p, line.n);
        check_fields(&b, want, keys, sizeof keys / sizeof *keys, json_text(json_get(want, "id")));
        json_free(want);
        n++;
    }
    ck_assert_uint_eq(n, 35);
    lines_close(&l);
    bench_close(&b);
}
END_TEST

START_TEST(printed_alignments_are_reproduced) {
    SKIP_WITHOUT_DATA();
    static const char *const keys[] = {"student_pieces", "student_ids", "teacher_tokens", "student_to_teacher", "step_probs"};
    struct bench b;
    struct json *doc = NULL;
    size_t n = 0;
    bench_open(&b, RSD_ALIGN_DTW);
    ck_assert_int_eq(json_read_file(test_data("teacher/reference_alignment_printed.json"), 1 << 24, NULL, &doc, NULL), 0);
    for (const struct json *i = json_first(doc); i; i = json_next(i)) {
        struct text kind = json_text(json_get(i, "kind")), id = json_text(json_get(i, "teacher"));
        if (text_is(kind, "mapping") || text_is(kind, "step_probs")) {
            check_fields(&b, i, keys, text_is(kind, "mapping") ? 4 : 5, id);
            n++;
        }
    }
    ck_assert_uint_eq(n, 2);
    json_free(doc);
    bench_close(&b);
}
END_TEST

/* The printed matrix still has the two newlines at the end; the cell in front of them is the cost without them. */
START_TEST(cost_is_the_printed_corner) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    struct json *doc = NULL;
    bench_open(&b, RSD_ALIGN_DTW);
    ck_assert_int_eq(json_read_file(test_data("teacher/reference_alignment_printed.json"), 1 << 24, NULL, &doc, NULL), 0);
    for (const struct json *i = json_first(doc); i; i = json_next(i)) {
        if (!text_is(json_text(json_get(i, "kind")), "cost_matrix"))
            continue;
        const struct json *corner = json_first(json_get(json_get(i, "corners"), "bottom_right"));
        double printed = json_number(json_next(json_next(json_first(corner))));
        struct json *got = align_json(&b, reply_of(&b, json_text(json_get(i, "teacher"))));
        ck_assert_double_eq(json_number(json_get(got, "cost")), printed);
        json_free(got);
    }
    json_free(doc);
    bench_close(&b);
}
END_TEST

/* Newlines, a colon with a blank, words behind the answer: the notebook's clean-up. */
START_TEST(text_is_cleaned_as_in_the_notebook) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_DTW);
    rsd_reply *r = reply_begin(b.ctx, "r");
    const char *const tokens[] = {"\n", "\n\n", "So", ":", " two", ".", "\n", "The", " answer", " is", " 2", "\n", "More", "\n"};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        reply_token(r, tokens[i], 0.5);
    reply_end(r);
    const rsd_alignment *al;
    ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_OK);
    ck_assert_str_eq(al->text, "Sotwo.\nThe answer is 2");
    ck_assert_uint_eq(al->teacher_first, 2);
    ck_assert_uint_eq(al->n_teacher, 11); /* the reference cuts the text, not the tokens */
    rsd_reply_close(r);
    bench_close(&b);
}
END_TEST

static size_t naive(const char *s, size_t m, const char *t, size_t n) {
    size_t row[256];
    for (size_t i = 0; i <= m; i++)
        row[i] = i;
    for (size_t j = 0; j < n; j++) {
        size_t diagonal = row[0];
        row[0] = j + 1;
        for (size_t i = 0; i < m; i++) {
            size_t best = diagonal + (s[i] != t[j]);
            diagonal = row[i + 1];
            best = diagonal + 1 < best ? diagonal + 1 : best;
            row[i + 1] = row[i] + 1 < best ? row[i] + 1 : best;
        }
    }
    return row[m];
}

/* One token against one piece or more: the cost is a sum of distances that a slow count gives as well. Token lengths on both
 * sides of 64 letters. */
START_TEST(distances_are_levenshtein) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, RSD_ALIGN_DTW);
    srand(7);
    for (int round = 0; round < 200; round++) {
        char token[160];
        size_t n = 1 + (size_t)(rand() % (round % 2 ? 150 : 12)), sum = 0;
        for (size_t i = 0; i < n; i++)
            token[i] = "abcde1"[rand() % 6];
        token[n] = 0;
        rsd_reply *r = reply_begin(b.ctx, "r");
        reply_token(r, token, 0.5);
        reply_end(r);
        const rsd_alignment *al;
        ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_OK);
        for (size_t j = 0; j < al->n_student; j++) {
            struct text p = align_surface(b.aligner, j);
            size_t skip = p.n >= 3 && !memcmp(p.p, "\xe2\x96\x81", 3) ? 3 : 0;
            sum += naive(token, n, p.p + skip, p.n - skip);
        }
        ck_assert_uint_eq(b.aligner->cost, sum);
        rsd_reply_close(r);
    }
    bench_close(&b);
}
END_TEST

Suite *align_dtw_suite(void) {
    Suite *s = suite_create("align dtw");
    TCase *t = tcase_create("dtw");
    tcase_add_test(t, computed_alignments_are_reproduced);
    tcase_add_test(t, printed_alignments_are_reproduced);
    tcase_add_test(t, cost_is_the_printed_corner);
    tcase_add_test(t, text_is_cleaned_as_in_the_notebook);
    tcase_add_test(t, distances_are_levenshtein);
    suite_add_tcase(s, t);
    return s;
}
