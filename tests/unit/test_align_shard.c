/* Aligned shards: what goes in comes out, and no damage gets through. */
#include "test_align.h"

#include "align/shard_file.h"
#include "core/json.h"
#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 500 };

/* Replies that any reader can make again from the number alone. */
struct sample {
    struct shard_reply r;
    char id[32];
    int32_t tokens[64], row_ids[512];
    uint8_t kinds[64];
    uint32_t offsets[65];
    float probs[512], placed[64], chunks[64], tops[512];
    uint8_t top_counts[64];
};

static void make(struct sample *s, uint64_t number, int32_t vocab) {
    struct rng g = rng_make(3, number);
    size_t n = 1 + (size_t)rng_below(&g, 60), n_chunks = 0, n_tops = 0;
    strcpy(s->id, "question-x");
    s->id[9] = (char)('a' + number % 26);
    s->offsets[0] = 0;
    for (size_t t = 0; t < n; t++) {
        size_t k = 1 + (size_t)rng_below(&g, 6);
        float left = 1;
        s->tokens[t] = (int32_t)rng_below(&g, (uint64_t)vocab);
        s->kinds[t] = (uint8_t)(rng_below(&g, 7) | (rng_below(&g, 5) ? 0 : SHARD_NEWLINE));
        if (rng_below(&g, 3)) {
            s->kinds[t] |= SHARD_CHUNK;
            s->chunks[n_chunks++] = rng_below(&g, 4) ? -9 * (float)rng_uniform(&g) : NAN;
        }
        s->top_counts[t] = (uint8_t)rng_below(&g, 7);
        float top = 0.5F;
        for (size_t i = 0; i < s->top_counts[t]; i++, top *= (float)rng_uniform(&g))
            s->tops[n_tops++] = top;
        s->placed[t] = (float)rng_uniform(&g);
        s->offsets[t + 1] = s->offsets[t] + (uint32_t)k;
        for (size_t i = 0; i < k; i++) {
            float p = i ? left * (float)rng_uniform(&g) : rng_below(&g, 3) ? (float)rng_uniform(&g) : 1;
            s->row_ids[s->offsets[t] + i] = (int32_t)rng_below(&g, (uint64_t)vocab);
            s->probs[s->offsets[t] + i] = p;
            left -= p;
        }
    }
    s->r = (struct shard_reply){.id = text_of(s->id),
                                .unknown = {"\3abc", number % 2 ? 4 : 0},
                                .sample = (int64_t)number,
                                .correct = (int)(number % 3) - 1,
                                .n = n,
                                .tokens = s->tokens,
                                .kinds = s->kinds,
                                .row_offsets = s->offsets,
                                .row_ids = s->row_ids,
                                .row_probs = s->probs,
                                .placed = s->placed,
                                .n_chunks = n_chunks,
                                .chunk_logprobs = s->chunks,
                                .top_counts = s->top_counts,
                                .top_probs = s->tops};
}

static void write_shard(const char *path, size_t n, int32_t vocab, bool chunks) {
    struct shard_out *out;
    struct err e = {0};
    struct shard_about about = {.method = RSD_ALIGN_SPAN,
                                .top_k = 5,
                                .report = {.size = sizeof about.report, .replies = n, .placed = 0.5},
                                .kind_weights = {1, 1, 1, 1, 1, 1, 1, 1}};
    ck_assert_int_eq(shard_begin(&out, &mem_std, path, "0123456789abcdef", vocab, chunks, &e), 0);
    for (size_t i = 0; i < n; i++) {
        struct sample s;
        make(&s, i, vocab);
        ck_assert_msg(!shard_add(out, &s.r, &e), "%s", e.text);
    }
    ck_assert_msg(!shard_commit(out, &about, &e), "%s", e.text);
}

static void check_chunks(const struct shard_reply *got, const struct shard_reply *want) {
    size_t at = 0;
    ck_assert_uint_eq(got->n_chunks, want->n_chunks);
    for (size_t i = 0; i < want->n_chunks; i++) {
        float p = want->chunk_logprobs[i], q = got->chunk_logprobs[i];
        if (!(isnan(p) ? isnan(q) : fabsf(p - q) <= 0))
            ck_abort_msg("chunk %zu: %g became %g", i, (double)p, (double)q);
    }
    ck_assert_mem_eq(got->top_counts, want->top_counts, want->n);
    for (size_t t = 0; t < want->n; t++)
        for (size_t i = 0; i < want->top_counts[t]; i++, at++) {
            float p = want->top_probs[at], q = got->top_probs[at], step = 2 * sqrtf(p) / 65535;
            if (!(q <= p * (1 + 1e-6F) && q >= p - 1.01F * step - 1e-9F)) /* never above, at most a step below */
                ck_abort_msg("%g became %g", (double)p, (double)q);
        }
}

static void check_reply(const struct shard_reply *got, const struct sample *want, bool chunks) {
    const struct shard_reply *w = &want->r;
    ck_assert(text_eq(got->id, w->id) && text_eq(got->unknown, w->unknown));
    ck_assert(got->sample == w->sample && got->correct == w->correct && got->n == w->n);
    ck_assert_mem_eq(got->tokens, w->tokens, w->n * sizeof *w->tokens);
    for (size_t t = 0; t < w->n; t++) /* an assertion each would take longer than everything else */
        if (got->kinds[t] != (w->kinds[t] & (chunks ? 0xFFU : 0xFFU - SHARD_CHUNK)))
            ck_abort_msg("position %zu: kind %d became %d", t, w->kinds[t], got->kinds[t]);
    if (chunks)
        check_chunks(got, w);
    else
        ck_assert(!got->n_chunks && !got->chunk_logprobs && !got->top_counts && !got->top_probs);
    ck_assert_mem_eq(got->row_offsets, w->row_offsets, (w->n + 1) * sizeof *w->row_offsets);
    ck_assert_mem_eq(got->row_ids, w->row_ids, w->row_offsets[w->n] * sizeof *w->row_ids);
    for (size_t t = 0; t < w->n; t++) {
        float sum = 0;
        for (size_t i = w->row_offsets[t]; i < w->row_offsets[t + 1]; i++) {
            /* half a step of the square root, on either side; sums brought down to one cost a few steps more */
            float step = 2 * sqrtf(w->row_probs[i]) / 65535;
            if (!(fabsf(got->row_probs[i] - w->row_probs[i]) <= 4 * step + 1e-9F))
                ck_abort_msg("%g became %g", (double)w->row_probs[i], (double)got->row_probs[i]);
            sum += got->row_probs[i];
        }
        if (!(sum <= 1 && fabsf(got->placed[t] - w->placed[t]) < 2e-5F))
            ck_abort_msg("position %zu: sum %g, placed %g", t, (double)sum, (double)got->placed[t]);
    }
}

static void round_trip(size_t n, int32_t vocab, bool chunks) {
    const char *path = test_path(test_dir(), "x.rsd");
    struct shard *s;
    struct err e = {0};
    struct shard_buffer buffer = {.a = &mem_std};
    write_shard(path, n, vocab, chunks);
    ck_assert_msg(!shard_open(&s, &mem_std, path, &e), "%s", e.text);
    ck_assert_uint_eq(shard_replies(s), n);
    ck_assert_int_eq(shard_about(s)->vocab, vocab);
    ck_assert_int_eq(shard_about(s)->top_k, 5);
    ck_assert_int_eq(shard_about(s)->chunks, chunks);
    ck_assert_str_eq(shard_about(s)->tokenizer, "0123456789abcdef");
    ck_assert_double_eq(shard_about(s)->report.placed, 0.5);
    for (size_t i = n; i-- > 0;) {
        struct shard_reply r;
        struct sample want;
        make(&want, i, vocab);
        ck_assert_int_eq(shard_get(s, i, &buffer, &r, &e), 0);
        check_reply(&r, &want, chunks);
    }
    shard_buffer_free(&buffer);
    shard_close(s);
}

START_TEST(replies_come_back) {
    round_trip(0, VOCAB, true);
    round_trip(40, VOCAB, true);
    round_trip(40, 100000, true); /* ids of four bytes */
}
END_TEST

/* Without chunks the file has no sign of them: what was written before there were any. */
START_TEST(shards_without_chunks_open) {
    struct section_in in;
    struct err e = {0};
    round_trip(40, VOCAB, false);
    const char *path = test_path(test_dir(), "x.rsd");
    write_shard(path, 3, VOCAB, false);
    ck_assert_int_eq(section_open(&in, path, SECTION_ALIGNED, &e), 0);
    ck_assert_uint_eq(in.n, SHARD_CHUNK_AT + 1); /* the columns of old, and meta */
    const void *meta;
    struct json *doc;
    size_t n;
    ck_assert_int_eq(section_find(&in, "meta", 0, 1, &meta, &n, &e), 0);
    ck_assert_int_eq(json_parse(meta, n, &doc, &e), 0);
    ck_assert(json_get(doc, "top_k") && !json_get(doc, "chunks"));
    json_free(doc);
    section_close(&in);
}
END_TEST

START_TEST(many_replies_fill_several_blocks) {
    round_trip(35000, VOCAB, true); /* more than a million positions */
}
END_TEST

START_TEST(zero_and_one_are_exact) {
    ck_assert_float_eq(shard_prob(65535), 1);
    ck_assert_float_eq(shard_prob(0), 0);
}
END_TEST

static void expect_refused(const char *path) {
    struct shard *s = NULL;
    struct err e = {0};
    int code = shard_open(&s, &mem_std, path, &e);
    ck_assert_msg(code == ERR_FORMAT || code == ERR_VERSION, "damage was not seen (%d)", code);
    ck_assert_ptr_null(s);
    ck_assert_msg(strstr(e.text, "x.rsd") != NULL, "%s", e.text);
}

START_TEST(every_cut_is_refused) {
    const char *dir = test_dir();
    char path[512], cut[512];
    size_t n;
    strcpy(path, test_path(dir, "whole.rsd"));
    strcpy(cut, test_path(dir, "x.rsd"));
    write_shard(path, 1, VOCAB, true);
    char *bytes = test_read(path, &n);
    for (size_t k = 0; k < n; k++) {
        test_write(cut, bytes, k);
        expect_refused(cut);
    }
    free(bytes);
}
END_TEST

START_TEST(every_flipped_bit_is_refused) {
    const char *dir = test_dir();
    char path[512], hurt[512];
    size_t n;
    strcpy(path, test_path(dir, "whole.rsd"));
    strcpy(hurt, test_path(dir, "x.rsd"));
    write_shard(path, 1, VOCAB, true);
    char *bytes = test_read(path, &n);
    for (size_t k = 0; k < n; k++) {
        bytes[k] = (char)(bytes[k] ^ 1 << k % 8);
        test_write(hurt, bytes, n);
        expect_refused(hurt);
        bytes[k] = (char)(bytes[k] ^ 1 << k % 8);
    }
    free(bytes);
}
END_TEST

/* Whoever writes wrong numbers with right checksums is found out as well: each section in turn is replaced by random bytes of its
 * length. */
START_TEST(impossible_sections_are_refused) {
    const char *dir = test_dir();
    char path[512], bad[512];
    struct section_in in;
    struct err e = {0};
    strcpy(path, test_path(dir, "whole.rsd"));
    strcpy(bad, test_path(dir, "x.rsd"));
    write_shard(path, 4, VOCAB, true);
    ck_assert_int_eq(section_open(&in, path, SECTION_ALIGNED, &e), 0);
    for (uint64_t round = 0; round < 240; round++) {
        struct section_out out;
        struct rng g = rng_make(5, round);
        size_t victim = (size_t)rng_below(&g, in.n);
        ck_assert_int_eq(section_begin(&out, &mem_std, bad, SECTION_ALIGNED, &e), 0);
        for (size_t i = 0; i < in.n; i++) {
            const struct section_entry *s = &in.entries[i];
            char copy[8192];
            size_t n = (size_t)s->length;
            ck_assert_uint_le(n, sizeof copy);
            memcpy(copy, (const char *)in.map.p + s->offset, n);
            if (i == victim && n) {
                for (uint64_t k = 0; k < 1 + rng_below(&g, 4); k++)
                    copy[rng_below(&g, n)] = (char)rng_u64(&g);
                n -= rng_below(&g, 3) ? 0 : (size_t)rng_below(&g, n);
            }
            ck_assert_int_eq(section_put(&out, s->name, s->block, copy, n, &e), 0);
        }
        ck_assert_int_eq(section_commit(&out, &e), 0);
        struct shard *s = NULL;
        struct err found = {0};
        struct shard_buffer buffer = {.a = &mem_std};
        int code = shard_open(&s, &mem_std, bad, &found);
        ck_assert(code == 0 || code == ERR_FORMAT);
        /* other numbers may be as possible as the old ones: then all of them can be read */
        for (size_t i = 0; !code && i < shard_replies(s); i++) {
            struct shard_reply r;
            ck_assert_int_eq(shard_get(s, i, &buffer, &r, &found), 0);
            for (size_t t = 0; t < r.n; t++)
                ck_assert(r.tokens[t] >= 0 && r.tokens[t] < shard_about(s)->vocab && r.top_counts[t] <= 6);
            for (size_t c = 0; c < r.n_chunks; c++)
                ck_assert(!(r.chunk_logprobs[c] > 0));
        }
        shard_buffer_free(&buffer);
        shard_close(s);
    }
    section_close(&in);
}
END_TEST

START_TEST(targets_take_at_most_32_bytes_a_position) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    struct section_in in;
    struct err e = {0};
    rsd_align_report r = {.size = sizeof r};
    size_t n;
    bench_open(&b, RSD_ALIGN_SPAN);
    const char *out = test_path(test_dir(), "x.rsd");
    ck_assert_int_eq(rsd_aligner_file(b.aligner, test_data("teacher/codex_gsm8k_top5.jsonl"), out, 0, &r), RSD_OK);
    free(test_read(out, &n));
    /* the whole file but chunks and sorted probabilities, by positions and end tokens */
    size_t beside = 0;
    ck_assert_int_eq(section_open(&in, out, SECTION_ALIGNED, &e), 0);
    for (size_t i = 0; i < in.n; i++)
        for (size_t c = SHARD_CHUNK_AT; c < SHARD_COLUMNS; c++)
            beside += strcmp(in.entries[i].name, shard_column_names[c]) ? 0 : (size_t)in.entries[i].length;
    section_close(&in);
    ck_assert_uint_gt(beside, 5 * r.positions);
    ck_assert_uint_le(beside, 16 * (r.positions + r.replies));
    ck_assert_uint_le(n - beside, 32 * (r.positions + r.replies));
    bench_close(&b);
}
END_TEST

START_TEST(text_comes_back_from_pieces) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    struct shard *s;
    struct err e = {0};
    struct shard_buffer buffer = {.a = &mem_std};
    struct str text;
    str_init(&text, &mem_std);
    bench_open(&b, RSD_ALIGN_SPAN);
    const char *out = test_path(test_dir(), "x.rsd");
    ck_assert_int_eq(rsd_aligner_file(b.aligner, test_data("teacher/codex_gsm8k_top5.jsonl"), out, 0, NULL), RSD_OK);
    ck_assert_int_eq(shard_open(&s, &mem_std, out, &e), 0);
    ck_assert_uint_eq(shard_replies(s), b.n);
    for (size_t i = 0; i < b.n; i++) {
        const rsd_alignment *al;
        struct shard_reply r;
        ck_assert_int_eq(rsd_aligner_align(b.aligner, b.replies[i], &al), RSD_OK);
        ck_assert_int_eq(shard_get(s, i, &buffer, &r, &e), 0);
        str_clear(&text);
        ck_assert_int_eq(shard_text(&r, b.tok, &text, &e), 0);
        ck_assert_str_eq(str_z(&text), al->text);
        ck_assert_uint_eq(r.n, al->n_student + 1);
        ck_assert_int_eq(r.tokens[r.n - 1], rsd_tokenizer_eos(b.tok));
        ck_assert_int_eq(r.kinds[r.n - 1], RSD_KIND_HARD);
    }
    str_free(&text);
    shard_buffer_free(&buffer);
    shard_close(s);
    bench_close(&b);
}
END_TEST

START_TEST(bad_lines_stop_or_are_skipped) {
    SKIP_WITHOUT_DATA();
    struct bench b;
    rsd_align_report r = {.size = sizeof r};
    static const char lines[] =
        "{\"id\":\"a\",\"sample\":0,\"question\":\"q\",\"text\":\"x y\",\"tokens\":[\"x\",\" "
        "y\"],\"logprobs\":[-1,-1],\"top\":[[],[]]}\n"
        "{\"id\":\"b\",\"sample\":0,\"question\":\"q\",\"text\":\"x\",\"tokens\":null,\"logprobs\":null,\"top\":null}\n"
        "this is no JSON\n";
    bench_open(&b, RSD_ALIGN_SPAN);
    const char *dir = test_dir();
    char in[512], out[512];
    strcpy(in, test_path(dir, "in.jsonl"));
    strcpy(out, test_path(dir, "out.rsd"));
    test_write(in, lines, sizeof lines - 1);
    ck_assert_int_lt(rsd_aligner_file(b.aligner, in, out, 0, &r), 0);
    ck_assert_msg(strstr(rsd_ctx_error(b.ctx), "line 2") != NULL, "%s", rsd_ctx_error(b.ctx));
    ck_assert(!file_exists(out));
    ck_assert_msg(rsd_aligner_file(b.aligner, in, out, 1, &r) == RSD_OK, "%s", rsd_ctx_error(b.ctx));
    ck_assert_uint_eq(r.replies, 1);
    ck_assert_uint_eq(r.skipped, 2);
    ck_assert(file_exists(out));
    bench_close(&b);
}
END_TEST

/* Aligner, line, shard: every allocation fails once; an error, nothing leaked, nothing written. */
START_TEST(out_of_memory_leaves_no_trace) {
    static const char line[] =
        "{\"id\":\"a\",\"sample\":0,\"question\":\"q\",\"text\":\"a b\\nab {\",\"tokens\":[\"a\",\" b\",\"\\na\",\"b {\"],"
        "\"logprobs\":[-1,-1,-1,-1],\"top\":[[[\"b\",-2]],[],[[\"12\",-1.5]],[]]}\n";
    for (int method = RSD_ALIGN_SPAN; method <= RSD_ALIGN_DTW; method++) {
        struct bench b;
        struct fail_alloc f;
        char in[512], out[512];
        rsd_aligner_options o;
        bench_open_small(&b, false);
        const char *dir = test_dir();
        strcpy(in, test_path(dir, "in.jsonl"));
        strcpy(out, test_path(dir, "out.rsd"));
        test_write(in, line, sizeof line - 1);
        rsd_aligner_options_init(&o, sizeof o);
        o.method = method;
        size_t i = 1;
        for (;; i++) {
            rsd_aligner *a = NULL;
            rsd_reply *r = NULL;
            const rsd_alignment *al;
            const char *json;
            size_t len;
            struct allocator before = b.ctx->alloc;
            fail_alloc_init(&f, i, false);
            b.ctx->alloc = f.a;
            int code = rsd_aligner_open(b.ctx, b.tok, &o, &a);
            code = code ? code : rsd_reply_parse(b.ctx, line, sizeof line - 2, 0, 1, &r);
            code = code ? code : rsd_aligner_align(a, r, &al);
            code = code ? code : rsd_aligner_json(a, &json, &len);
            code = code ? code : rsd_aligner_heatmap(a, &json, &len);
            code = code ? code : rsd_aligner_file(a, in, out, 0, NULL);
            rsd_reply_close(r);
            rsd_aligner_close(a);
            b.ctx->alloc = before;
            bool over = !f.failed;
            ck_assert_msg(code == (over ? RSD_OK : RSD_ENOMEM), "allocation %zu: %d, %s", i, code, rsd_ctx_error(b.ctx));
            ck_assert_uint_eq(f.live, 0);
            ck_assert_int_eq(file_exists(out), over);
            if (over)
                break;
        }
        ck_assert_uint_gt(i, 30);
        bench_close(&b);
    }
}
END_TEST

Suite *align_shard_suite(void) {
    Suite *s = suite_create("align shard");
    TCase *t = tcase_create("shard");
    tcase_add_test(t, replies_come_back);
    tcase_add_test(t, many_replies_fill_several_blocks);
    tcase_add_test(t, zero_and_one_are_exact);
    tcase_add_test(t, every_cut_is_refused);
    tcase_add_test(t, every_flipped_bit_is_refused);
    tcase_add_test(t, impossible_sections_are_refused);
    tcase_add_test(t, targets_take_at_most_32_bytes_a_position);
    tcase_add_test(t, shards_without_chunks_open);
    tcase_add_test(t, text_comes_back_from_pieces);
    tcase_add_test(t, out_of_memory_leaves_no_trace);
    tcase_add_test(t, bad_lines_stop_or_are_skipped);
    suite_add_tcase(s, t);
    return s;
}
