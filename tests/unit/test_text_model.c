/* Models made on the spot: every kind of piece, every flag of the normaliser, files that are wrong, memory that ends. */
#include "test_text.h"

#include "core/rng.h"
#include "text/vocab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rsd_ctx *ctx;
static struct str model;

static void begin(void) {
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    str_init(&model, &mem_std);
}

static void end(void) {
    str_free(&model);
    rsd_ctx_close(ctx);
}

static void encodes(rsd_tokenizer *t, const char *text, const char *pieces) {
    char *got = encoded(t, text, strlen(text));
    ck_assert_str_eq(got, pieces);
    free(got);
}

static rsd_tokenizer *opened(void) {
    rsd_tokenizer *t = open_bytes(ctx, &model);
    ck_assert_msg(t != NULL, "%s", rsd_ctx_error(ctx));
    return t;
}

/* Flags of the normaliser: -1 leaves one out. */
static void add_normalizer(int dummy, int extra, int escape, bool charsmap) {
    struct str n, map;
    str_init(&n, &mem_std);
    str_init(&map, &mem_std);
    if (charsmap)
        model_charsmap(&map);
    model_bytes(&n, 2, (struct text){str_z(&map), map.n});
    if (dummy >= 0)
        model_number(&n, 3, (uint64_t)dummy);
    if (extra >= 0)
        model_number(&n, 4, (uint64_t)extra);
    if (escape >= 0)
        model_number(&n, 5, (uint64_t)escape);
    model_bytes(&model, 3, (struct text){str_z(&n), n.n});
    str_free(&n);
    str_free(&map);
}

START_TEST(a_small_model_without_specs_works) {
    model_small(&model);
    rsd_tokenizer *t = opened();
    encodes(t, "ab c  cab", "\u2581ab|\u2581|c|\u2581cab");
    encodes(t, "", "");
    encodes(t, "  ", "");
    encodes(t, "xyz ab", "\u2581|xyz|\u2581ab");
    ck_assert_int_eq(rsd_tokenizer_size(t), 15 + 100);
    ck_assert_int_eq(rsd_tokenizer_pad(t), 0);
    ck_assert_int_eq(rsd_tokenizer_eos(t), 1);
    ck_assert_int_eq(rsd_tokenizer_unk(t), 2);
    rsd_tokenizer_close(t);
}
END_TEST

START_TEST(the_best_sum_of_scores_wins_and_the_first_found_on_a_tie) {
    model_piece(&model, "<unk>", 0, 2);
    model_piece(&model, "\u2581", -1, 1);
    model_piece(&model, "a", -1, 1);
    model_piece(&model, "aa", -2, 1);
    model_piece(&model, "aaa", -2.5F, 1);
    rsd_tokenizer *t = opened();
    encodes(t, "aa", "\u2581|aa"); /* from the first a, "aa" is found before "a" + "a" */
    encodes(t, "aaa", "\u2581|aaa");
    encodes(t, "aaaa", "\u2581|a|aaa");
    ck_assert_int_eq(rsd_tokenizer_pad(t), -1);
    rsd_tokenizer_close(t);
}
END_TEST

START_TEST(the_charsmap_replaces_deletes_and_makes_blanks) {
    model_small(&model);
    add_normalizer(-1, -1, -1, true);
    rsd_tokenizer *t = opened();
    encodes(t, "Ab\tcAb", "\u2581ab|\u2581cab");
    encodes(t, "a#b", "\u2581ab");
    encodes(t, "\t#\t", "");
    encodes(t, "#", "");
    encodes(t, "@", "\u2581|a|t|\u2581|b|a|t");
    rsd_tokenizer_close(t);
}
END_TEST

static const struct {
    int dummy, extra, escape;
    const char *text, *pieces, *decoded;
} flags[] = {
    {1, 1, 1, " ab  ab ", "\u2581ab|\u2581ab", "ab ab"},
    {0, 1, 1, " ab  ab ", "ab|\u2581ab", "ab ab"},
    {1, 0, 1, " ab  ab ", "\u2581|\u2581ab|\u2581|\u2581ab|\u2581", " ab  ab "},
    {0, 0, 1, " ab  ab ", "\u2581ab|\u2581|\u2581ab|\u2581", " ab  ab "},
    {1, 1, 0, " ab  ab ", " |ab| |ab", " \u2047 ab \u2047 ab"},
};

START_TEST(normaliser_flags_do_what_they_say) {
    model_small(&model);
    add_normalizer(flags[_i].dummy, flags[_i].extra, flags[_i].escape, false);
    rsd_tokenizer *t = opened();
    encodes(t, flags[_i].text, flags[_i].pieces);
    const int32_t *ids = NULL;
    struct text back;
    size_t n = 0;
    ck_assert_int_eq(rsd_tokenizer_encode(t, flags[_i].text, strlen(flags[_i].text), &ids, &n), RSD_OK);
    ck_assert_int_eq(rsd_tokenizer_decode(t, ids, n, &back.p, &back.n), RSD_OK);
    if (flags[_i].dummy || flags[_i].extra)
        ck_assert_str_eq(back.p, flags[_i].decoded);
    rsd_tokenizer_close(t);
}
END_TEST

START_TEST(user_defined_pieces_are_kept_whole) {
    model_small(&model);
    model_piece(&model, "A#", 0, 4); /* the charsmap would change both characters */
    model_piece(&model, "bcb", 0, 4);
    add_normalizer(-1, -1, -1, true);
    rsd_tokenizer *t = opened();
    encodes(t, "A#A", "\u2581|A#|a");
    encodes(t, "abcbc", "\u2581|a|bcb|c"); /* -0.1 against -1.5 for "ab" */
    rsd_tokenizer_close(t);
}
END_TEST

START_TEST(unused_and_control_pieces_are_never_found_in_text) {
    model_small(&model);
    model_piece(&model, "abc", 0, 5);
    rsd_tokenizer *t = opened();
    encodes(t, "abc", "\u2581ab|c");
    encodes(t, "</s>", "\u2581|</s>");
    const int32_t *ids = NULL;
    size_t n = 0;
    ck_assert_int_eq(rsd_tokenizer_encode(t, "</s>", 4, &ids, &n), RSD_OK);
    ck_assert_int_eq(ids[1], 2);
    rsd_tokenizer_close(t);
}
END_TEST

static void trainer_with(unsigned field, uint64_t value) {
    struct str spec;
    str_init(&spec, &mem_std);
    model_number(&spec, field, value);
    model_bytes(&model, 2, (struct text){str_z(&spec), spec.n});
    str_free(&spec);
}

static void bad_bpe(void) {
    trainer_with(3, 2);
}
static void bad_suffix(void) {
    trainer_with(24, 1);
}
static void bad_fallback(void) {
    trainer_with(35, 1);
}
static void bad_byte_piece(void) {
    model_piece(&model, "<0x41>", 0, 6);
}
static void bad_score(void) {
    model_piece(&model, "d", NAN, 1);
}
static void bad_utf8(void) {
    model_piece(&model, "\xff", -1, 1);
}
static void bad_empty(void) {
    model_piece(&model, "", -1, 1);
}
static void bad_twice(void) {
    model_piece(&model, "ab", -1, 1);
}
static void bad_unknowns(void) {
    model_piece(&model, "<unk2>", 0, 2);
}
static void bad_kind(void) {
    model_piece(&model, "d", 0, 9);
}
static void bad_wire(void) {
    model_number(&model, 1, 5);
}
static void bad_charsmap(void) {
    struct str n;
    str_init(&n, &mem_std);
    model_bytes(&n, 2, text_of("no table"));
    model_bytes(&model, 3, (struct text){str_z(&n), n.n});
    str_free(&n);
}

static const struct {
    void (*add)(void);
    int code;
    const char *says;
} refused[] = {
    {bad_bpe, RSD_EUNSUPPORTED, "bpe"},
    {bad_suffix, RSD_EUNSUPPORTED, "treat_whitespace_as_suffix"},
    {bad_fallback, RSD_EUNSUPPORTED, "byte_fallback"},
    {bad_byte_piece, RSD_EUNSUPPORTED, "byte fallback"},
    {bad_score, RSD_EFORMAT, "not a finite number"},
    {bad_utf8, RSD_EFORMAT, "not UTF-8"},
    {bad_empty, RSD_EFORMAT, "empty"},
    {bad_twice, RSD_EFORMAT, "text of piece 7"},
    {bad_unknowns, RSD_EFORMAT, "unknown type"},
    {bad_kind, RSD_EFORMAT, "type 9"},
    {bad_wire, RSD_EFORMAT, "wire type"},
    {bad_charsmap, RSD_EFORMAT, "normalisation table"},
};

START_TEST(what_we_cannot_do_is_refused_by_name) {
    model_small(&model);
    refused[_i].add();
    ck_assert_ptr_null(open_bytes(ctx, &model));
    ck_assert_msg(strstr(rsd_ctx_error(ctx), refused[_i].says) && strstr(rsd_ctx_error(ctx), "spiece.model: "), "%s",
                  rsd_ctx_error(ctx));
    ck_assert_int_eq(rsd_tokenizer_open(ctx, "/nonexistent/spiece.model", &(rsd_tokenizer *){NULL}), RSD_ENOTFOUND);
}
END_TEST

START_TEST(every_truncation_is_refused_or_a_whole_number_of_fields) {
    model_small(&model);
    add_normalizer(-1, -1, -1, true);
    size_t whole = 0;
    for (size_t n = 0; n < model.n; n++) {
        struct vocab v;
        struct err e = {0};
        struct text part = {malloc(n + 1), n}; /* its own block: reading past the end would show */
        memcpy((char *)(uintptr_t)part.p, model.p, n);
        vocab_init(&v, &mem_std);
        int code = vocab_read_spiece(&v, part, &e);
        whole += code == 0;
        ck_assert_msg(!code || (code == ERR_FORMAT && e.text[0]), "%zu bytes: %s", n, e.text);
        vocab_free(&v);
        free((char *)(uintptr_t)part.p);
    }
    ck_assert_uint_eq(whole, 13); /* after <unk> and after each of the 12 pieces behind it */
}
END_TEST

START_TEST(random_damage_never_crashes) {
    model_small(&model);
    model_piece(&model, "A#", 0, 4);
    add_normalizer(-1, -1, -1, true);
    struct rng r = rng_make(5, 0);
    size_t opened_anyway = 0;
    for (int round = 0; round < 4000; round++) {
        struct str copy;
        str_init(&copy, &mem_std);
        str_add(&copy, model.p, model.n);
        size_t range = round % 2 ? model.n : 400; /* half of them among the pieces */
        for (uint64_t k = 1 + rng_below(&r, 4); k > 0; k--)
            copy.p[rng_below(&r, range)] = (char)(unsigned char)rng_u64(&r);
        rsd_tokenizer *t = open_bytes(ctx, &copy);
        if (t) {
            opened_anyway++;
            free(encoded(t, "A#@ ab\tcab #1\xff \u00e9", 18));
        }
        rsd_tokenizer_close(t);
        str_free(&copy);
    }
    ck_assert_uint_gt(opened_anyway, 100);
    ck_assert_uint_lt(opened_anyway, 3900);
}
END_TEST

static int work(const rsd_ctx_options *o, const char *path, struct fail_alloc *f, size_t fail_at) {
    rsd_ctx *c = NULL;
    rsd_tokenizer *t = NULL;
    const int32_t *ids = NULL;
    struct text out;
    size_t n = 0;
    int code = rsd_ctx_open(o, &c);
    ck_assert_int_eq(code, RSD_OK);
    f->fail_at = fail_at ? f->count + fail_at : 0;
    code = rsd_tokenizer_open(c, path, &t);
    if (!code)
        code = rsd_tokenizer_encode(t, "ab cab @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@", 60, &ids, &n);
    if (!code)
        code = rsd_tokenizer_decode(t, ids, n, &out.p, &out.n);
    rsd_tokenizer_close(t);
    rsd_ctx_close(c);
    return code;
}

static void memory_ends(const char *path) {
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        rsd_ctx_options o;
        fail_alloc_init(&f, 0, false);
        ck_assert_int_eq(rsd_ctx_options_init(&o, sizeof o), RSD_OK);
        o.resize = f.a.resize;
        o.resize_user = f.a.user;
        int code = work(&o, path, &f, i);
        ck_assert_uint_eq(f.live, 0);
        if (!f.failed) {
            ck_assert_int_eq(code, RSD_OK);
            ck_assert_uint_gt(i, 20);
            return;
        }
        ck_assert_int_eq(code, RSD_ENOMEM);
    }
}

START_TEST(every_failed_allocation_is_reported_and_nothing_leaks) {
    model_small(&model);
    model_piece(&model, "A#", 0, 4);
    add_normalizer(-1, -1, -1, true);
    const char *path = test_path(test_dir(), "spiece.model");
    test_write(path, model.p, model.n);
    memory_ends(path);
}
END_TEST

/* tokenizer.json: pieces and the rest of the document around a normaliser and a splitter. */
static void json_model(const char *normalizer, const char *splitter, const char *type, const char *added) {
    str_clear(&model);
    str_addf(&model,
             "{\"added_tokens\":[%s],\"normalizer\":%s,\"pre_tokenizer\":%s,\"model\":{\"type\":\"%s\",\"unk_id\":2,\"vocab\":"
             "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0]",
             added, normalizer, splitter, type);
    static const char *const words[] = {"\u2581",   "a",         "b", "c",       "ab",     "bc",
                                        "\u2581ab", "\u2581cab", "1", "\u25811", "\u00e9", "t"};
    for (int i = 0; i < 12; i++)
        str_addf(&model, ",[\"%s\",-%d.%03d]", words[i], 1 + i / 8, 125 * (i % 8));
    str_addz(&model, "]}}");
}

#define ADDED                                                                                                                    \
    "{\"id\":0,\"content\":\"<pad>\",\"special\":true},{\"id\":1,\"content\":\"</s>\",\"special\":true},"                        \
    "{\"id\":2,\"content\":\"<unk>\",\"special\":true}"
#define RUNS "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"\u2581\"}"
#define META "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":\"always\",\"split\":true}"

static const struct {
    const char *normalizer, *splitter, *text, *pieces;
} json_forms[] = {
    {"{\"type\":\"Sequence\",\"normalizers\":[" RUNS "]}", META, " ab  cab ", "\u2581ab|\u2581cab"},
    {RUNS, "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"add_prefix_space\":true}", "ab  cab", "\u2581ab|\u2581cab"},
    {RUNS, "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"add_prefix_space\":false}", "ab  cab", "ab|\u2581cab"},
    {RUNS, "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":\"never\"}", "ab  cab", "ab|\u2581cab"},
    {RUNS, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"}," META "]}", "ab  cab",
     "\u2581ab|\u2581cab"},
    {"null", META, "ab  cab", "\u2581ab|\u2581|\u2581cab"},
};

START_TEST(json_files_in_all_known_forms_open) {
    json_model(json_forms[_i].normalizer, json_forms[_i].splitter, "Unigram", ADDED);
    rsd_tokenizer *t = opened();
    encodes(t, json_forms[_i].text, json_forms[_i].pieces);
    ck_assert_int_eq(rsd_tokenizer_eos(t), 1);
    ck_assert_int_eq(rsd_tokenizer_size(t), 15);
    rsd_tokenizer_close(t);
}
END_TEST

START_TEST(added_tokens_behind_the_pieces_become_ids) {
    json_model(RUNS, META, "Unigram", ADDED ",{\"id\":15,\"content\":\"<extra_id_0>\",\"special\":true}");
    rsd_tokenizer *t = opened();
    int32_t id = -1;
    ck_assert_int_eq(rsd_tokenizer_find(t, "<extra_id_0>", 12, &id), RSD_OK);
    ck_assert_int_eq(id, 15);
    rsd_tokenizer_close(t);
}
END_TEST

START_TEST(the_hash_is_that_of_the_same_spiece_model) {
    struct str extra;
    str_init(&extra, &mem_std);
    for (int i = 0; i < 100; i++)
        str_addf(&extra, ",{\"id\":%d,\"content\":\"<extra_id_%d>\",\"special\":true}", 15 + i, 99 - i);
    char *added = malloc(extra.n + sizeof ADDED);
    sprintf(added, "%s%s", ADDED, str_z(&extra));
    json_model(RUNS, META, "Unigram", added);
    rsd_tokenizer *a = opened();
    str_clear(&model);
    model_small(&model);
    rsd_tokenizer *b = opened();
    ck_assert_str_eq(rsd_tokenizer_hash(a), rsd_tokenizer_hash(b));
    rsd_tokenizer_close(b);
    model_piece(&model, "z", -3, 1);
    b = opened();
    ck_assert_str_ne(rsd_tokenizer_hash(a), rsd_tokenizer_hash(b));
    rsd_tokenizer_close(a);
    rsd_tokenizer_close(b);
    free(added);
    str_free(&extra);
}
END_TEST

static const struct {
    const char *normalizer, *splitter, *type, *added;
    int code;
    const char *says;
} json_bad[] = {
    {"{\"type\":\"Lowercase\"}", META, "Unigram", ADDED, RSD_EUNSUPPORTED, "Lowercase"},
    {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"b\"}", META, "Unigram", ADDED, RSD_EUNSUPPORTED,
     "Replace"},
    {RUNS, "{\"type\":\"ByteLevel\"}", "Unigram", ADDED, RSD_EUNSUPPORTED, "ByteLevel"},
    {RUNS, "null", "Unigram", ADDED, RSD_EUNSUPPORTED, "Metaspace"},
    {RUNS, META, "WordPiece", ADDED, RSD_EUNSUPPORTED, "WordPiece"},
    {RUNS, META, "Unigram", "{\"id\":15,\"content\":\"x\",\"special\":false}", RSD_EUNSUPPORTED, "x (id 15)"},
    {RUNS, META, "Unigram", "{\"id\":20,\"content\":\"x\",\"special\":true}", RSD_EFORMAT, "id 20"},
    {RUNS, META, "Unigram", "{\"id\":4,\"content\":\"x\",\"special\":true}", RSD_EFORMAT, "id 4"},
    {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"ab!d\"}", META, "Unigram", ADDED, RSD_EFORMAT, "base64"},
    {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"YWJjZA==\"}", META, "Unigram", ADDED, RSD_EFORMAT,
     "normalisation table"},
    {"[]", META, "Unigram", ADDED, RSD_EFORMAT, "normalizer: expected an object"},
};

START_TEST(json_files_we_cannot_follow_are_refused_by_name) {
    json_model(json_bad[_i].normalizer, json_bad[_i].splitter, json_bad[_i].type, json_bad[_i].added);
    const char *path = test_path(test_dir(), "tokenizer.json");
    test_write(path, model.p, model.n);
    rsd_tokenizer *t = NULL;
    ck_assert_int_eq(rsd_tokenizer_open(ctx, path, &t), json_bad[_i].code);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), json_bad[_i].says) && strstr(rsd_ctx_error(ctx), "tokenizer.json: "), "%s",
                  rsd_ctx_error(ctx));
}
END_TEST

/* Damage that leaves JSON: a value or key replaced by another one. */
START_TEST(json_files_with_other_values_never_crash) {
    static const char *const values[] = {
        "null", "1", "-7", "\"x\"", "[]", "{}", "true", "[[\"a\",1]]", "{\"type\":\"Sequence\"}"};
    struct rng r = rng_make(2, 0);
    size_t opened_anyway = 0, refused_files = 0;
    for (int round = 0; round < 3000; round++) {
        json_model("{\"type\":\"Sequence\",\"normalizers\":[" RUNS "]}", META, "Unigram", ADDED);
        struct str damaged;
        str_init(&damaged, &mem_std);
        size_t at = rng_below(&r, model.n);
        while (at < model.n && !strchr(":,[", model.p[at]))
            at++;
        size_t from = at + 1, to = from;
        int depth = 0;
        for (bool quoted = false; to < model.n && (quoted || depth > 0 || !strchr(",]}", model.p[to])); to++) {
            quoted = quoted != (model.p[to] == '"');
            depth += quoted ? 0 : (model.p[to] == '{' || model.p[to] == '[') - (model.p[to] == '}' || model.p[to] == ']');
        }
        str_add(&damaged, model.p, from < model.n ? from : model.n);
        str_addz(&damaged, values[rng_below(&r, sizeof values / sizeof *values)]);
        str_add(&damaged, model.p + to, model.n - to);
        rsd_tokenizer *t = open_bytes(ctx, &damaged);
        if (t) {
            opened_anyway++;
            free(encoded(t, "ab cab", 6));
        } else {
            refused_files++;
            ck_assert_ptr_nonnull(strstr(rsd_ctx_error(ctx), "spiece.model: "));
        }
        rsd_tokenizer_close(t);
        str_free(&damaged);
    }
    ck_assert_uint_gt(opened_anyway, 100);
    ck_assert_uint_gt(refused_files, 1000);
}
END_TEST

Suite *text_model_suite(void) {
    Suite *s = suite_create("text models");
    TCase *c = tcase_create("made models");
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, a_small_model_without_specs_works);
    tcase_add_test(c, the_best_sum_of_scores_wins_and_the_first_found_on_a_tie);
    tcase_add_test(c, the_charsmap_replaces_deletes_and_makes_blanks);
    tcase_add_loop_test(c, normaliser_flags_do_what_they_say, 0, (int)(sizeof flags / sizeof *flags));
    tcase_add_test(c, user_defined_pieces_are_kept_whole);
    tcase_add_test(c, unused_and_control_pieces_are_never_found_in_text);
    tcase_add_loop_test(c, what_we_cannot_do_is_refused_by_name, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(c, every_truncation_is_refused_or_a_whole_number_of_fields);
    tcase_add_test(c, random_damage_never_crashes);
    tcase_add_test(c, every_failed_allocation_is_reported_and_nothing_leaks);
    tcase_add_loop_test(c, json_files_in_all_known_forms_open, 0, (int)(sizeof json_forms / sizeof *json_forms));
    tcase_add_test(c, added_tokens_behind_the_pieces_become_ids);
    tcase_add_test(c, the_hash_is_that_of_the_same_spiece_model);
    tcase_add_loop_test(c, json_files_we_cannot_follow_are_refused_by_name, 0, (int)(sizeof json_bad / sizeof *json_bad));
    tcase_add_test(c, json_files_with_other_values_never_crash);
    suite_add_tcase(s, c);
    return s;
}
