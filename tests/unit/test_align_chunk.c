/* Chunks and sorted probabilities: against the definition, on random replies and on the real ones. */
#include "test_align.h"

#include "align/shard.h"
#include "core/rng.h"

#include <math.h>
#include <string.h>

/* Chunks end at pieces that rise to the last; returns the sum of their log-likelihoods, NaN if one is not known. */
static double check_cover(rsd_aligner *a) {
    double sum = 0;
    struct err e = {0};
    ck_assert_int_eq(align_chunks(a, &e), 0);
    size_t before = 0;
    for (size_t c = 0; c < a->n_chunks; c++) {
        ck_assert_uint_gt(a->chunk_ends[c], before);
        before = a->chunk_ends[c];
        ck_assert(!(a->chunk_logprobs[c] > 0));
        sum += (double)a->chunk_logprobs[c];
    }
    ck_assert_uint_eq(before, a->s);
    return sum;
}

static double aligned_sum(const rsd_reply *r, const rsd_alignment *al) {
    double sum = 0;
    for (size_t i = 0; i < al->n_teacher; i++) {
        double logprob;
        const char *p;
        size_t n;
        ck_assert_int_eq(rsd_reply_token(r, al->teacher_first + i, &p, &n, &logprob), RSD_OK);
        sum += logprob;
    }
    return sum;
}

/* Sorted, at most 1, only where a token starts: as many rows as tokens that do. */
static size_t check_tops(const rsd_aligner *a) {
    size_t rows = 0;
    for (size_t j = 0; j < a->s; j++) {
        float p[256];
        size_t n = align_top_probs(a, j, p, 255);
        double sum = 0;
        ck_assert(!n == (a->starts[j] == NO_STEP || isnan(a->steps[a->starts[j]].logprob)));
        for (size_t k = 0; k < n; k++) {
            ck_assert(p[k] >= 0 && (!k || p[k] <= p[k - 1]));
            sum += (double)p[k];
        }
        ck_assert_double_le(sum, 1 + 1e-6);
        rows += n > 0;
    }
    return rows;
}

START_TEST(chunks_are_the_smallest_common_groups) {
    struct bench b;
    const rsd_alignment *al;
    bench_open_small(&b, false);
    /* pieces: _ab | _ 12 | _ab c ... whatever they are: tokens that end inside a piece join chunks, pieces inside a token too */
    rsd_reply *r = reply_begin(b.ctx, "a");
    reply_token(r, "a", 0.5);
    reply_other(r, "b", 0.75); /* adds up to more than 1 */
    reply_token(r, "b", 0.25);
    reply_token(r, " b c", 0.125);
    reply_other(r, " c", 0.5);
    reply_token(r, " a", 0.5);
    reply_end(r);
    ck_assert_msg(!rsd_aligner_align(b.aligner, r, &al), "%s", rsd_ctx_error(b.ctx));
    const rsd_aligner *a = b.aligner;
    check_cover(b.aligner);
    ck_assert_uint_eq(a->n_chunks, 3);
    const char *words[] = {"ab", " b c", " a"};
    const double logprobs[] = {log(0.5 * 0.25), log(0.125), log(0.5)};
    for (size_t c = 0, at = 0; c < 3; c++) {
        at += strlen(words[c]);
        ck_assert_uint_eq(a->regions[a->chunk_ends[c] - 1].end, at);
        ck_assert(fabs((double)a->chunk_logprobs[c] - logprobs[c]) < 1e-6);
    }
    float p[8];
    ck_assert_uint_eq(align_top_probs(a, 0, p, 8), 2);
    ck_assert(fabsf(p[0] - 0.6F) < 1e-6F && fabsf(p[1] - 0.4F) < 1e-6F);
    size_t second = a->chunk_ends[0];
    ck_assert_uint_eq(align_top_probs(a, second, p, 8), 2);
    ck_assert(fabsf(p[0] - 0.5F) < 1e-6F && fabsf(p[1] - 0.125F) < 1e-6F);
    for (size_t j = second + 1; j < a->chunk_ends[1]; j++) /* goes on with the token */
        ck_assert_uint_eq(align_top_probs(a, j, p, 8), 0);
    rsd_reply_close(r);
    bench_close(&b);
}
END_TEST

/* Any cut of a text into tokens: everything is covered once, and nothing of the likelihood is lost. */
START_TEST(likelihood_of_random_replies_is_kept) {
    static const char letters[] = "abc12  ";
    struct bench b;
    bench_open_small(&b, false);
    for (uint64_t round = 0; round < 3000; round++) {
        struct rng g = rng_make(11, round);
        const rsd_alignment *al;
        rsd_reply *r = reply_begin(b.ctx, "a");
        size_t n = 1 + (size_t)rng_below(&g, 20);
        for (size_t i = 0; i < n; i++) {
            char token[8] = "";
            for (size_t k = 1 + (size_t)rng_below(&g, 4), c = 0; c < k; c++)
                token[c] = letters[rng_below(&g, sizeof letters - 1)];
            if (!i || i == n - 1)
                token[0] = 'a';
            if (i == n - 1)
                token[1] = 0;
            reply_token(r, token, 0.05 + 0.95 * rng_uniform(&g));
        }
        reply_end(r);
        ck_assert_msg(!rsd_aligner_align(b.aligner, r, &al), "%s", rsd_ctx_error(b.ctx));
        double sum = check_cover(b.aligner);
        ck_assert_msg(fabs(sum - aligned_sum(r, al)) < 1e-4, "\"%s\": %g, expected %g", al->text, sum, aligned_sum(r, al));
        check_tops(b.aligner);
        /* each chunk ends with a token, blanks aside */
        const rsd_aligner *a = b.aligner;
        for (size_t c = 0; c < a->n_chunks; c++) {
            size_t end = a->regions[a->chunk_ends[c] - 1].end, i = 0;
            for (; i < a->n_steps; i++) {
                size_t at = a->steps[i].end, k = end < at ? end : at, last = end < at ? at : end;
                while (k < last && a->reply.p[k] == ' ')
                    k++;
                if (k == last)
                    break;
            }
            ck_assert_uint_lt(i, a->n_steps);
        }
        rsd_reply_close(r);
    }
    bench_close(&b);
}
END_TEST

START_TEST(real_replies_have_chunks) {
    SKIP_WITHOUT_DATA();
    for (int method = RSD_ALIGN_SPAN; method <= RSD_ALIGN_DTW; method++) {
        struct bench b;
        size_t positions = 0, chunks = 0, unknown = 0, rows = 0, tokens = 0;
        bench_open(&b, method);
        for (size_t i = 0; i < b.n; i++) {
            const rsd_alignment *al;
            ck_assert_int_eq(rsd_aligner_align(b.aligner, b.replies[i], &al), RSD_OK);
            double sum = check_cover(b.aligner);
            if (!isnan(sum))
                ck_assert(fabs(sum - aligned_sum(b.replies[i], al)) < 1e-3);
            for (size_t c = 0; c < b.aligner->n_chunks; c++)
                unknown += isnan(b.aligner->chunk_logprobs[c]) != 0;
            positions += al->n_student;
            tokens += al->n_teacher;
            chunks += b.aligner->n_chunks;
            rows += check_tops(b.aligner);
        }
        /* most words of English are one token; newlines join the word behind them */
        ck_assert_msg(chunks > positions * 3 / 4 && unknown * 20 < chunks && rows > positions * 3 / 4 && rows <= tokens,
                      "method %d: %zu chunks, %zu unknown, %zu rows of %zu positions, %zu tokens", method, chunks, unknown, rows,
                      positions, tokens);
        bench_close(&b);
    }
}
END_TEST

/* A text of one's own: what the teacher did not write has no likelihood, the rest keeps its own. */
START_TEST(new_text_has_no_likelihood) {
    struct bench b;
    const rsd_alignment *al;
    bench_open_small(&b, false);
    rsd_reply *r = reply_begin(b.ctx, "a");
    for (const char *p = "ab"; *p; p++)
        reply_token(r, *p == 'a' ? "abc ab abc abc" : " 12 ab ab", 0.5);
    reply_end(r);
    const char *text = "abc ab abc abcc 12 ab ab";
    ck_assert_msg(!rsd_aligner_align_text(b.aligner, r, text, strlen(text), &al), "%s", rsd_ctx_error(b.ctx));
    ck_assert(isnan(check_cover(b.aligner)));
    const rsd_aligner *a = b.aligner;
    ck_assert(!isnan(a->chunk_logprobs[0]) && fabs((double)a->chunk_logprobs[0] - log(0.5)) < 1e-6);
    ck_assert(fabs((double)a->chunk_logprobs[a->n_chunks - 1] - log(0.5)) < 1e-6);
    rsd_reply_close(r);
    bench_close(&b);
}
END_TEST

Suite *align_chunk_suite(void) {
    Suite *s = suite_create("align chunk");
    TCase *t = tcase_create("chunk");
    tcase_add_test(t, chunks_are_the_smallest_common_groups);
    tcase_add_test(t, likelihood_of_random_replies_is_kept);
    tcase_add_test(t, real_replies_have_chunks);
    tcase_add_test(t, new_text_has_no_likelihood);
    suite_add_tcase(s, t);
    return s;
}
