/* What an alignment tells about itself: tails, weights, where mass comes from, figures of a corpus; and lines that ask for another
 * text. */
#include "test_align.h"

#include "align/shard.h"
#include "core/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sums of the cells by piece; *crowd: cells beside the largest of their piece. */
static size_t sum_cells(const char *json, size_t len, double *by_piece, size_t n, size_t tokens) {
    struct json *doc = NULL;
    struct err e = {0};
    size_t cells = 0;
    double last_piece = 0, last_token = -1;
    ck_assert_msg(!json_parse(json, len, &doc, &e), "%s", e.text);
    ck_assert_uint_eq(json_count(json_get(doc, "tokens")), tokens);
    ck_assert_uint_eq(json_count(json_get(doc, "pieces")), n);
    ck_assert_uint_eq(json_count(json_get(doc, "kinds")), n);
    ck_assert_uint_eq(json_count(json_get(doc, "tail")), n);
    for (size_t j = 0; j < n; j++)
        by_piece[j] = 0;
    for (const struct json *c = json_first(json_get(doc, "cells")); c; c = json_next(c), cells++) {
        double token = json_number(json_first(c)), piece = json_number(json_next(json_first(c))),
               mass = json_number(json_next(json_next(json_first(c))));
        ck_assert(token < (double)tokens && piece < (double)n && mass > 0 && mass <= 1 + 1e-6);
        ck_assert(piece > last_piece || (fabs(piece - last_piece) < 0.5 && token > last_token));
        last_piece = piece;
        last_token = token;
        by_piece[(size_t)piece] += mass;
    }
    json_free(doc);
    return cells;
}

static void check_heat(rsd_aligner *a, const rsd_alignment *al) {
    const char *json;
    size_t len;
    ck_assert_int_eq(rsd_aligner_json(a, &json, &len), RSD_OK);
    char *before = strndup(json, len);
    float *tails = malloc((al->n_student + 1) * sizeof *tails);
    double *sums = malloc((al->n_student + 1) * sizeof *sums);
    memcpy(tails, al->tails, al->n_student * sizeof *tails);
    ck_assert_int_eq(rsd_aligner_heatmap(a, &json, &len), RSD_OK);
    size_t cells = sum_cells(json, len, sums, al->n_student, al->n_teacher);
    ck_assert_uint_ge(cells, al->n_student);
    for (size_t j = 0; j < al->n_student; j++)
        if (!(fabs(sums[j] + (double)tails[j] - 1) < 2e-5))
            ck_abort_msg("piece %zu: cells %g, tail %g", j, sums[j], (double)tails[j]);
    ck_assert_int_eq(rsd_aligner_json(a, &json, &len), RSD_OK); /* the alignment is what it was */
    ck_assert_str_eq(json, before);
    free(before);
    free(tails);
    free(sums);
}

START_TEST(cells_of_a_piece_add_up_to_its_row) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    bench_open(&b, _i);
    for (size_t i = 0; i < b.n; i++) {
        const rsd_alignment *al;
        ck_assert_int_eq(rsd_aligner_align(b.aligner, b.replies[i], &al), RSD_OK);
        check_heat(b.aligner, al);
        /* over another text, too */
        ck_assert_int_eq(rsd_aligner_align_text(b.aligner, b.replies[i], "48/2 = 24, so sold 72 altogether", 32, &al), RSD_OK);
        check_heat(b.aligner, al);
    }
    bench_close(&b);
}
END_TEST

/* `ab` is one piece of two tokens. Its row: ab .6 * .5; the branches c and 12 of the second token spell ac and a12, which begin with
 * a: .6 * .35; the branch b of the first token: .3. */
START_TEST(mass_stands_at_the_token_that_told_it) {
    struct bench b;
    const rsd_alignment *al;
    const char *json;
    size_t len;
    bench_open_small(&b, false);
    rsd_reply *r = reply_begin(b.ctx, "q");
    reply_token(r, "a", 0.6);
    reply_other(r, "b", 0.3);
    reply_token(r, "b", 0.5);
    reply_other(r, "c", 0.3);
    reply_other(r, "12", 0.05);
    reply_end(r);
    ck_assert_int_eq(rsd_aligner_heatmap(b.aligner, &json, &len), RSD_ESTATE);
    ck_assert_int_eq(rsd_aligner_align(b.aligner, r, &al), RSD_OK);
    ck_assert_uint_eq(al->n_student, 1);
    ck_assert_int_eq(al->kinds[0], RSD_KIND_MERGE);
    ck_assert(fabs((double)al->tails[0] - (0.1 + 0.6 * 0.15)) < 1e-6);
    ck_assert_int_eq(rsd_aligner_heatmap(b.aligner, &json, &len), RSD_OK);
    struct json *doc = NULL;
    ck_assert_int_eq(json_parse(json, len, &doc, NULL), 0);
    static const double want[2] = {0.3, 0.6 * 0.5 + 0.6 * 0.35};
    size_t i = 0;
    for (const struct json *c = json_first(json_get(doc, "cells")); c; c = json_next(c), i++) {
        ck_assert_uint_lt(i, 2);
        ck_assert(fabs(json_number(json_first(c)) - (double)i) < 0.1);
        ck_assert_msg(fabs(json_number(json_next(json_next(json_first(c)))) - want[i]) < 1e-6, "%s", json);
    }
    ck_assert_uint_eq(i, 2);
    json_free(doc);
    rsd_reply_close(r);
    bench_close(&b);
}
END_TEST

START_TEST(every_position_has_a_tail_and_the_weight_of_its_kind) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    rsd_aligner_options o;
    rsd_aligner *a = NULL;
    bench_open(&b, RSD_ALIGN_SPAN);
    rsd_aligner_options_init(&o, sizeof o);
    o.method = _i;
    for (int k = 0; k <= RSD_KIND_HARD; k++)
        o.kind_weights[k] = 0.25 * k;
    ck_assert_int_eq(rsd_aligner_open(b.ctx, b.tok, &o, &a), RSD_OK);
    for (size_t i = 0; i < b.n; i++) {
        const rsd_alignment *al;
        ck_assert_int_eq(rsd_aligner_align(a, b.replies[i], &al), RSD_OK);
        for (size_t j = 0; j < al->n_student; j++) {
            double sum = (double)al->tails[j];
            for (size_t k = al->row_offsets[j]; k < al->row_offsets[j + 1]; k++)
                sum += (double)al->row_probs[k];
            ck_assert(fabs(sum - 1) < 1e-5 || (_i == RSD_ALIGN_DTW && sum > 1 && sum < 1.001)); /* as printed, four decimals */
            ck_assert(fabs((double)al->weights[j] - 0.25 * al->kinds[j]) < 1e-6);
        }
    }
    rsd_aligner_close(a);
    static const struct {
        int kind;
        double weight;
    } bad[] = {{RSD_KIND_CONT, -1}, {RSD_KIND_EXACT, (double)NAN}, {RSD_KIND_HARD, (double)INFINITY}, {7, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rsd_aligner_options_init(&o, sizeof o);
        o.kind_weights[bad[i].kind] = bad[i].weight;
        ck_assert_int_eq(rsd_aligner_open(b.ctx, b.tok, &o, &a), RSD_EINVAL);
        ck_assert_ptr_nonnull(strstr(rsd_ctx_error(b.ctx), "kind_weights["));
    }
    bench_close(&b);
}
END_TEST

START_TEST(report_adds_up_over_kinds_and_stands_in_the_shard) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    struct err e = {0};
    struct shard *s = NULL;
    rsd_align_report r = {.size = sizeof r}, want = {.size = sizeof want};
    bench_open(&b, _i);
    b.aligner->weight[RSD_KIND_BLANK] = 0.5F;
    for (size_t i = 0; i < b.n; i++) {
        const rsd_alignment *al;
        ck_assert_int_eq(rsd_aligner_align(b.aligner, b.replies[i], &al), RSD_OK);
        for (size_t j = 0; j < al->n_student; j++) {
            want.kinds[al->kinds[j]]++;
            want.kind_placed[al->kinds[j]] += (double)al->placed[j];
            want.kind_given[al->kinds[j]] += (double)al->given[j];
        }
    }
    const char *out = test_path(test_dir(), "x.rsd");
    ck_assert_int_eq(rsd_aligner_file(b.aligner, test_data("teacher/codex_gsm8k_top5.jsonl"), out, 0, &r), RSD_OK);
    ck_assert_msg(!shard_open(&s, &mem_std, out, &e), "%s", e.text);
    const struct shard_about *about = shard_about(s);
    double placed = 0, given = 0;
    for (size_t k = 0; k < 8; k++) {
        ck_assert_uint_eq(r.kinds[k], want.kinds[k]);
        ck_assert(fabs(r.kind_placed[k] - want.kind_placed[k]) < 1e-6 && fabs(r.kind_given[k] - want.kind_given[k]) < 1e-6);
        ck_assert(fabs(r.kind_placed[k] - about->report.kind_placed[k]) < 1e-9);
        ck_assert(fabs(r.kind_given[k] - about->report.kind_given[k]) < 1e-9);
        ck_assert(fabs((double)about->kind_weights[k] - (k == RSD_KIND_BLANK ? 0.5 : 1)) < 1e-9);
        placed += r.kind_placed[k];
        given += r.kind_given[k];
    }
    ck_assert(fabs(placed - r.placed) < 1e-6 && fabs(given - r.given) < 1e-6 && placed > 1000);
    shard_close(s);
    bench_close(&b);
}
END_TEST

START_TEST(a_line_that_gives_another_text_is_aligned_to_it) {
    static const char lines[] =
        "{\"id\":\"a\",\"sample\":0,\"question\":\"q\",\"text\":\"a b ab\",\"tokens\":[\"a\",\" b\",\" ab\"],"
        "\"logprobs\":[-1,-1,-1],\"top\":[[],[[\" a\",-1.5]],[]],\"student_text\":\"a ab\"}\n"
        "{\"id\":\"a\",\"question\":\"q\",\"student_text\":\"b\",\"choices\":[{\"text\":\"b "
        "c\",\"index\":0,\"logprobs\":{\"tokens\":"
        "[\"b\",\" c\"],\"token_logprobs\":[-1,-2],\"top_logprobs\":[{},{}],\"text_offset\":[0,1]}}]}\n"
        "{\"id\":\"a\",\"sample\":2,\"question\":\"q\",\"text\":\"a b\",\"tokens\":[\"a\",\" "
        "b\"],\"logprobs\":[-1,-1],\"top\":[[],[]]}\n";
    static const char *const want[] = {"a ab", "b", "a b"};
    struct bench b;
    struct err e = {0};
    struct shard *s = NULL;
    struct shard_buffer buffer = {.a = &mem_std};
    struct str text;
    bench_open_small(&b, false);
    const char *dir = test_dir(), *in = test_path(dir, "in.jsonl"), *out = test_path(dir, "out.rsd");
    test_write(in, lines, sizeof lines - 1);
    ck_assert_msg(!rsd_aligner_file(b.aligner, in, out, 0, NULL), "%s", rsd_ctx_error(b.ctx));
    ck_assert_int_eq(shard_open(&s, &mem_std, out, &e), 0);
    ck_assert_uint_eq(shard_replies(s), 3);
    str_init(&text, &mem_std);
    for (size_t i = 0; i < 3; i++) {
        struct shard_reply r;
        ck_assert_int_eq(shard_get(s, i, &buffer, &r, &e), 0);
        str_clear(&text);
        ck_assert_int_eq(shard_text(&r, b.tok, &text, &e), 0);
        ck_assert_str_eq(str_z(&text), want[i]);
    }
    str_free(&text);
    shard_buffer_free(&buffer);
    shard_close(s);
    test_write(in, "{\"id\":\"a\",\"sample\":0,\"question\":\"q\",\"text\":\"a\",\"tokens\":[\"a\"],\"student_text\":7}\n", 81);
    ck_assert_int_eq(rsd_aligner_file(b.aligner, in, out, 0, NULL), RSD_EFORMAT);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(b.ctx), "student_text"));
    bench_close(&b);
}
END_TEST

Suite *align_report_suite(void) {
    Suite *s = suite_create("align report");
    TCase *t = tcase_create("report");
    tcase_add_loop_test(t, cells_of_a_piece_add_up_to_its_row, RSD_ALIGN_SPAN, RSD_ALIGN_DTW + 1);
    tcase_add_test(t, mass_stands_at_the_token_that_told_it);
    tcase_add_loop_test(t, every_position_has_a_tail_and_the_weight_of_its_kind, RSD_ALIGN_SPAN, RSD_ALIGN_DTW + 1);
    tcase_add_loop_test(t, report_adds_up_over_kinds_and_stands_in_the_shard, RSD_ALIGN_SPAN, RSD_ALIGN_DTW + 1);
    tcase_add_test(t, a_line_that_gives_another_text_is_aligned_to_it);
    suite_add_tcase(s, t);
    return s;
}
