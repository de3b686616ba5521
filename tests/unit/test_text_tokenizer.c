/* The real T5 vocabulary against the goldens of the sentencepiece library, from both file forms. */
#include "test_text.h"

#include "core/log.h"
#include "core/rng.h"

#include <stdlib.h>
#include <string.h>

static rsd_ctx *ctx;
static rsd_tokenizer *open_real(const char *name) {
    rsd_tokenizer *t = NULL;
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    ck_assert_msg(rsd_tokenizer_open(ctx, test_data(name), &t) == RSD_OK, "%s", rsd_ctx_error(ctx));
    return t;
}

static void close_real(rsd_tokenizer *t) {
    rsd_tokenizer_close(t);
    rsd_ctx_close(ctx);
}

static struct text id_of(const struct json *line) {
    return json_text(json_get(line, "id"));
}

static unsigned hex_value(char c) {
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

/* The bytes to encode: "text" or "bytes_hex". */
static struct text input_of(const struct json *line, struct str *buf) {
    str_clear(buf);
    const struct json *bytes = json_get(line, "bytes_hex"), *text = json_get(line, "text");
    struct text hex = bytes ? json_text(bytes) : text_of("");
    for (size_t i = 0; i + 1 < hex.n; i += 2)
        str_addc(buf, (char)(unsigned char)(hex_value(hex.p[i]) << 4 | hex_value(hex.p[i + 1])));
    struct text t = text ? json_text(text) : text_of("");
    str_add(buf, t.p, t.n);
    return (struct text){str_z(buf), buf->n};
}

static void check_spans(rsd_tokenizer *t, struct text in, size_t n) {
    const uint32_t *begin = NULL, *end = NULL;
    uint32_t at = 0;
    ck_assert_int_eq(rsd_tokenizer_spans(t, &begin, &end), RSD_OK);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_ge(begin[i], at);
        ck_assert_uint_ge(end[i], begin[i]);
        at = end[i];
    }
    ck_assert_uint_le(at, in.n);
}

static void golden(const struct json *line, void *user) {
    rsd_tokenizer *t = user;
    struct str buf;
    str_init(&buf, &mem_std);
    struct text in = input_of(line, &buf), id = id_of(line);
    const int32_t *ids = NULL;
    size_t n = 0, i = 0;
    ck_assert_int_eq(rsd_tokenizer_encode(t, in.p, in.n, &ids, &n), RSD_OK);
    ck_assert_msg(n == json_count(json_get(line, "ids")), "%.*s: %zu ids", (int)id.n, id.p, n);
    for (const struct json *want = json_first(json_get(line, "ids")); want; want = json_next(want), i++)
        ck_assert_msg(ids[i] == (int32_t)json_number(want), "%.*s: id %zu is %d", (int)id.n, id.p, i, (int)ids[i]);
    i = 0;
    for (const struct json *want = json_first(json_get(line, "pieces")); want; want = json_next(want), i++) {
        struct text piece;
        ck_assert_int_eq(rsd_tokenizer_surface(t, i, &piece.p, &piece.n), RSD_OK);
        ck_assert_msg(text_eq(piece, json_text(want)), "%.*s: piece %zu is %.*s", (int)id.n, id.p, i, (int)piece.n, piece.p);
    }
    ck_assert_uint_eq(i, n);
    check_spans(t, in, n);
    str_free(&buf);
}

static void golden_decoded(const struct json *line, void *user) {
    rsd_tokenizer *t = user;
    const struct json *list = json_get(line, "ids");
    size_t n = 0;
    int32_t *ids = malloc((json_count(list) + 1) * sizeof *ids);
    for (const struct json *p = json_first(list); p; p = json_next(p))
        ids[n++] = (int32_t)json_number(p);
    struct text got, id = id_of(line), want = json_text(json_get(line, "decoded"));
    ck_assert_int_eq(rsd_tokenizer_decode(t, ids, n, &got.p, &got.n), RSD_OK);
    ck_assert_msg(text_eq(got, want), "%.*s: decoded %.*s", (int)id.n, id.p, (int)got.n, got.p);
    free(ids);
}

static const char *const files[] = {"tokenizer/spiece.model", "tokenizer/tokenizer.json"};

START_TEST(golden_ids_pieces_and_texts_are_reproduced) {
    SKIP_WITHOUT_DATA();
    rsd_tokenizer *t = open_real(files[_i]);
    ck_assert_uint_eq(each_line("tokenizer/golden_spm.jsonl", golden, t), 4121);
    ck_assert_uint_eq(each_line("tokenizer/golden_spm.jsonl", golden_decoded, t), 4121);
    ck_assert_uint_eq(each_line("tokenizer/golden_spm_vocab.jsonl", golden, t), 840);
    close_real(t);
}
END_TEST

START_TEST(invalid_bytes_count_as_replacement_characters) {
    SKIP_WITHOUT_DATA();
    rsd_tokenizer *t = open_real(files[_i]);
    ck_assert_uint_eq(each_line("tokenizer/golden_spm_invalid_utf8.jsonl", golden, t), 300);
    ck_assert_uint_eq(each_line("tokenizer/golden_spm_invalid_utf8.jsonl", golden_decoded, t), 300);
    close_real(t);
}
END_TEST

START_TEST(golden_id_lists_decode) {
    SKIP_WITHOUT_DATA();
    rsd_tokenizer *t = open_real(files[_i]);
    ck_assert_uint_eq(each_line("tokenizer/golden_spm_decode.jsonl", golden_decoded, t), 500);
    close_real(t);
}
END_TEST

START_TEST(both_files_are_the_same_tokenizer) {
    SKIP_WITHOUT_DATA();
    rsd_tokenizer *a = NULL, *b = NULL;
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    ck_assert_int_eq(rsd_tokenizer_open(ctx, test_data(files[0]), &a), RSD_OK);
    ck_assert_int_eq(rsd_tokenizer_open(ctx, test_data(files[1]), &b), RSD_OK);
    ck_assert_str_eq(rsd_tokenizer_hash(a), rsd_tokenizer_hash(b));
    ck_assert_uint_eq(strlen(rsd_tokenizer_hash(a)), 64);
    ck_assert_int_eq(rsd_tokenizer_size(a), 32100);
    ck_assert_int_eq(rsd_tokenizer_size(b), 32100);
    for (int32_t id = 0; id < 32100; id++) {
        struct text x, y;
        int32_t back = -1;
        ck_assert_int_eq(rsd_tokenizer_piece(a, id, &x.p, &x.n), RSD_OK);
        ck_assert_int_eq(rsd_tokenizer_piece(b, id, &y.p, &y.n), RSD_OK);
        ck_assert(text_eq(x, y));
        ck_assert_int_eq(rsd_tokenizer_find(a, x.p, x.n, &back), RSD_OK);
        ck_assert_int_eq(back, id);
    }
    ck_assert_int_eq(rsd_tokenizer_pad(b), 0);
    ck_assert_int_eq(rsd_tokenizer_eos(b), 1);
    ck_assert_int_eq(rsd_tokenizer_unk(b), 2);
    rsd_tokenizer_close(a);
    rsd_tokenizer_close(b);
    rsd_ctx_close(ctx);
}
END_TEST

static struct json *read_json(const char *name) {
    struct json *doc = NULL;
    struct err e = {0};
    ck_assert_msg(!json_read_file(test_data(name), (size_t)16 << 20, &mem_std, &doc, &e), "%s", e.text);
    return doc;
}

/* The real tokenizer.json with normaliser and splitter of another public file (whose table the pack leaves out: it is the
 * same). */
static void write_variant(const char *path, const struct json *real, const struct json *variant) {
    struct str s;
    struct json_out o;
    str_init(&s, &mem_std);
    json_begin(&o, &s, 0);
    json_object(&o);
    json_put_key(&o, "normalizer");
    json_object(&o);
    json_put_key(&o, "type");
    json_put_z(&o, "Sequence");
    json_put_key(&o, "normalizers");
    json_array(&o);
    const struct json *parts = json_get(json_get(variant, "normalizer"), "normalizers");
    for (const struct json *p = json_first(parts); p; p = json_next(p)) {
        bool table = text_is(json_text(json_get(p, "type")), "Precompiled");
        json_put_value(&o, table ? json_first(json_get(json_get(real, "normalizer"), "normalizers")) : p);
    }
    json_end_array(&o);
    json_end_object(&o);
    json_put_key(&o, "pre_tokenizer");
    json_put_value(&o, json_get(variant, "pre_tokenizer"));
    json_put_key(&o, "added_tokens");
    json_put_value(&o, json_get(real, "added_tokens"));
    json_put_key(&o, "model");
    json_put_value(&o, json_get(real, "model"));
    json_end_object(&o);
    ck_assert_int_eq(str_status(&s, NULL), 0);
    test_write(path, s.p, s.n);
    str_free(&s);
}

START_TEST(public_variants_of_the_json_file_are_the_same_tokenizer) {
    SKIP_WITHOUT_DATA();
    struct json *real = read_json("tokenizer/tokenizer.json"), *variants = read_json("tokenizer/tokenizer_json_variants.json");
    rsd_tokenizer *a = open_real(files[0]), *b = NULL;
    const char *path = test_path(test_dir(), "tokenizer.json");
    size_t n = 0;
    for (const struct json *v = json_first(variants); v; v = json_next(v), n++) {
        write_variant(path, real, v);
        ck_assert_msg(rsd_tokenizer_open(ctx, path, &b) == RSD_OK, "%s", rsd_ctx_error(ctx));
        ck_assert_str_eq(rsd_tokenizer_hash(a), rsd_tokenizer_hash(b));
        rsd_tokenizer_close(b);
    }
    ck_assert_uint_eq(n, 3);
    json_free(real);
    json_free(variants);
    close_real(a);
}
END_TEST

START_TEST(sentinels_stand_behind_the_pieces) {
    SKIP_WITHOUT_DATA();
    rsd_tokenizer *t = open_real(files[_i]);
    int32_t id = -1;
    ck_assert_int_eq(rsd_tokenizer_find(t, "<extra_id_0>", 12, &id), RSD_OK);
    ck_assert_int_eq(id, 32099);
    ck_assert_int_eq(rsd_tokenizer_find(t, "<extra_id_99>", 13, &id), RSD_OK);
    ck_assert_int_eq(id, 32000);
    ck_assert_int_eq(rsd_tokenizer_find(t, "<extra_id_100>", 14, &id), RSD_ENOTFOUND);
    const int32_t ids[] = {37, 32099, 1782, 1};
    struct text out;
    ck_assert_int_eq(rsd_tokenizer_decode(t, ids, 4, &out.p, &out.n), RSD_OK);
    ck_assert_str_eq(out.p, "The<extra_id_0> dog");
    close_real(t);
}
END_TEST

START_TEST(wrong_ids_and_early_calls_are_refused) {
    SKIP_WITHOUT_DATA();
    rsd_tokenizer *t = open_real(files[0]);
    struct text out;
    const uint32_t *begin = NULL, *end = NULL;
    ck_assert_int_eq(rsd_tokenizer_spans(t, &begin, &end), RSD_ESTATE);
    ck_assert_int_eq(rsd_tokenizer_surface(t, 0, &out.p, &out.n), RSD_ESTATE);
    const int32_t ids[] = {5, 32100};
    ck_assert_int_eq(rsd_tokenizer_decode(t, ids, 2, &out.p, &out.n), RSD_EINVAL);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "ids[1] is 32100"));
    ck_assert_int_eq(rsd_tokenizer_piece(t, -1, &out.p, &out.n), RSD_EINVAL);
    close_real(t);
}
END_TEST

/* Each piece with the bytes it came from: "piece<text>". */
static char *spans_shown(rsd_tokenizer *t, const char *text, size_t n) {
    const int32_t *ids = NULL;
    const uint32_t *begin = NULL, *end = NULL;
    size_t count = 0;
    struct str s;
    str_init(&s, &mem_std);
    ck_assert_int_eq(rsd_tokenizer_encode(t, text, n, &ids, &count), RSD_OK);
    ck_assert_int_eq(rsd_tokenizer_spans(t, &begin, &end), RSD_OK);
    for (size_t i = 0; i < count; i++) {
        struct text p;
        ck_assert_int_eq(rsd_tokenizer_surface(t, i, &p.p, &p.n), RSD_OK);
        str_add(&s, p.p, p.n);
        str_addc(&s, '{');
        str_add(&s, text + begin[i], end[i] - begin[i]);
        str_addc(&s, '}');
    }
    return str_take(&s);
}

static const struct {
    const char *text, *shown;
} spans[] = {
    {"two blanks", "\u2581two{two}\u2581blank{ blank}s{s}"},
    {"  two   blanks ", "\u2581two{two}\u2581blank{ blank}s{s}"},
    {"step\nShe", "\u2581step{step}\u2581She{\nShe}"},
    {"a {}~^ b", "\u2581{}a{a}\u2581{ }{}~^{{}~^}\u2581{ }b{b}"},
    {"the\x0bre", "\u2581there{the\x0bre}"},
    {"a\u3000\u200bb", "\u2581{}a{a}\u2581{\u200b}b{b}"},
    {"$12/2", "\u2581$12{$12}/2{/2}"},
    {"\ufb01ve", "\u2581five{\ufb01ve}"},
    {"1\u00bd", "\u258111{1\u00bd}\u2044{}2{}"},
    {"e\u0301", "\u2581{}\u00e9{e\u0301}"},
};

START_TEST(spans_name_the_original_bytes) {
    SKIP_WITHOUT_DATA();
    rsd_tokenizer *t = open_real(files[0]);
    char *got = spans_shown(t, spans[_i].text, strlen(spans[_i].text));
    ck_assert_str_eq(got, spans[_i].shown);
    free(got);
    close_real(t);
}
END_TEST

/* What no span covers must be nothing by itself: blanks and deleted characters encode to no ids. */
START_TEST(spans_cover_all_but_removed_blanks) {
    SKIP_WITHOUT_DATA();
    static const char *const parts[] = {"the",  " ",        "  ",     "\n",     "\t",      "48",     "$",      "{",
                                        "~",    "\u200b",   "\u2581", "\ufb01", "e\u0301", "\u3000", "\u2026", "\xf0\x9f\x98\x80",
                                        "\xff", "\xe2\x96", "answer", ".",      "<",       "\u00bd", "\x0b",   "\xc2\x85",
                                        "A"};
    rsd_tokenizer *t = open_real(files[0]), *other = NULL;
    ck_assert_int_eq(rsd_tokenizer_open(ctx, test_data(files[0]), &other), RSD_OK);
    struct rng r = rng_make(7, 0);
    struct str s;
    str_init(&s, &mem_std);
    size_t gaps = 0;
    for (int round = 0; round < 3000; round++) {
        str_clear(&s);
        for (uint64_t k = rng_below(&r, 20); k > 0; k--)
            str_addz(&s, parts[rng_below(&r, sizeof parts / sizeof *parts)]);
        const int32_t *ids = NULL, *gap_ids = NULL;
        const uint32_t *begin = NULL, *end = NULL;
        size_t n = 0, gap_n = 0;
        ck_assert_int_eq(rsd_tokenizer_encode(t, str_z(&s), s.n, &ids, &n), RSD_OK);
        ck_assert_int_eq(rsd_tokenizer_spans(t, &begin, &end), RSD_OK);
        check_spans(t, (struct text){str_z(&s), s.n}, n);
        size_t at = 0;
        for (size_t i = 0; i <= n; i++) {
            size_t next = i < n ? begin[i] : s.n;
            ck_assert_int_eq(rsd_tokenizer_encode(other, str_z(&s) + at, next - at, &gap_ids, &gap_n), RSD_OK);
            ck_assert_msg(gap_n == 0, "round %d: bytes %zu to %zu of \"%s\" belong to no piece", round, at, next, str_z(&s));
            gaps += next > at;
            at = i < n ? end[i] : at;
        }
    }
    ck_assert_uint_gt(gaps, 1000);
    str_free(&s);
    rsd_tokenizer_close(other);
    close_real(t);
}
END_TEST

START_TEST(time_is_linear_in_the_length_of_a_word) {
    SKIP_WITHOUT_DATA();
    rsd_tokenizer *t = open_real(files[0]);
    const size_t sizes[] = {200000, 3200000};
    double seconds[2] = {1e9, 1e9};
    char *text = malloc(sizes[1]);
    struct rng r = rng_make(3, 0);
    for (size_t i = 0; i < sizes[1]; i++)
        text[i] = (char)('a' + (char)rng_below(&r, 26));
    for (int k = 0; k < 2; k++) {
        for (int round = 0; round < 3; round++) {
            const int32_t *ids = NULL;
            size_t n = 0;
            double start = clock_seconds();
            ck_assert_int_eq(rsd_tokenizer_encode(t, text, sizes[k], &ids, &n), RSD_OK);
            double took = clock_seconds() - start;
            seconds[k] = took < seconds[k] ? took : seconds[k];
            ck_assert_uint_gt(n, sizes[k] / 4);
        }
    }
    ck_assert_msg(seconds[1] < 64 * seconds[0], "16 times the text took %.1f times as long",
                  seconds[1] / seconds[0]); /* quadratic: 256 */
    free(text);
    close_real(t);
}
END_TEST

START_TEST(a_model_folder_opens_by_its_tokenizer_files) {
    SKIP_WITHOUT_DATA();
    rsd_tokenizer *t = open_real("tokenizer");
    ck_assert_ptr_nonnull(strstr(rsd_tokenizer_path(t), "tokenizer/spiece.model"));
    rsd_tokenizer_close(t);
    ck_assert_int_eq(rsd_tokenizer_open(ctx, test_dir(), &t), RSD_ENOTFOUND);
    ck_assert_ptr_null(t);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "neither spiece.model nor tokenizer.json"));
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_real_model_cut_or_damaged_never_crashes) {
    SKIP_WITHOUT_DATA();
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    size_t n = 0;
    char *bytes = test_read(test_data(files[0]), &n);
    struct rng r = rng_make(11, 0);
    for (int round = 0; round < 24; round++) {
        struct str file = {.p = bytes, .n = round < 12 ? rng_below(&r, n) : n, .a = &mem_std};
        size_t at = round % 2 ? rng_below(&r, n) : n - 300 - rng_below(&r, 237000);
        char old = bytes[at];
        if (round >= 12)
            bytes[at] = (char)(bytes[at] ^ (1 << rng_below(&r, 8)));
        rsd_tokenizer *t = open_bytes(ctx, &file);
        if (t) {
            free(encoded(t, "Natalia sold caf\u00e9 \u2026 \ufb01 48/2\n", 30));
            rsd_tokenizer_close(t);
        } else {
            ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "spiece.model"));
        }
        bytes[at] = old;
    }
    free(bytes);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *text_tokenizer_suite(void) {
    Suite *s = suite_create("text tokenizer");
    TCase *c = tcase_create("real vocabulary");
    tcase_add_loop_test(c, golden_ids_pieces_and_texts_are_reproduced, 0, 2);
    tcase_add_loop_test(c, invalid_bytes_count_as_replacement_characters, 0, 2);
    tcase_add_loop_test(c, golden_id_lists_decode, 0, 2);
    tcase_add_loop_test(c, sentinels_stand_behind_the_pieces, 0, 2);
    tcase_add_test(c, both_files_are_the_same_tokenizer);
    tcase_add_test(c, public_variants_of_the_json_file_are_the_same_tokenizer);
    tcase_add_test(c, wrong_ids_and_early_calls_are_refused);
    tcase_add_loop_test(c, spans_name_the_original_bytes, 0, (int)(sizeof spans / sizeof *spans));
    tcase_add_test(c, spans_cover_all_but_removed_blanks);
    tcase_add_test(c, time_is_linear_in_the_length_of_a_word);
    tcase_add_test(c, a_model_folder_opens_by_its_tokenizer_files);
    tcase_add_test(c, a_real_model_cut_or_damaged_never_crashes);
    suite_add_tcase(s, c);
    return s;
}
