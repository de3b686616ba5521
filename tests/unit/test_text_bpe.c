/* Byte pair tokenizers: the goldens of p50k, the same ids from three file forms, the three patterns, files that are wrong. */
#include "test_text.h"

#include "core/log.h"
#include "core/rng.h"
#include "text/split.h"

#include <stdlib.h>
#include <string.h>

static rsd_ctx *ctx;

static void begin(void) {
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
}

static void end(void) {
    rsd_ctx_close(ctx);
}

static rsd_tokenizer *open_file(const char *path, const char *pattern) {
    rsd_tokenizer *t = NULL;
    ck_assert_msg(!rsd_tokenizer_open_pattern(ctx, path, pattern, &t), "%s", rsd_ctx_error(ctx));
    ck_assert_int_eq(rsd_tokenizer_bytes(t), 1);
    return t;
}

/* Pieces join to the text, each over its own bytes, and decoding gives the text back. */
static void check_bytes(rsd_tokenizer *t, const char *text, size_t len) {
    const int32_t *ids;
    const uint32_t *from, *to;
    const char *piece, *back;
    size_t n, m, at = 0;
    ck_assert_int_eq(rsd_tokenizer_encode(t, text, len, &ids, &n), RSD_OK);
    ck_assert_int_eq(rsd_tokenizer_spans(t, &from, &to), RSD_OK);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(rsd_tokenizer_surface(t, i, &piece, &m), RSD_OK);
        ck_assert_uint_eq(from[i], at);
        ck_assert_uint_eq(to[i] - from[i], m);
        ck_assert(m && !memcmp(piece, text + at, m));
        at = to[i];
    }
    ck_assert_uint_eq(at, len);
    ck_assert_int_eq(rsd_tokenizer_decode(t, ids, n, &back, &m), RSD_OK);
    ck_assert_uint_eq(m, len);
    ck_assert(!len || !memcmp(back, text, len));
}

struct golden {
    rsd_tokenizer *t;
    int32_t most; /* lines with larger ids are left out */
    size_t n;
};

static void golden(const struct json *line, void *user) {
    struct golden *g = user;
    struct text text = json_text(json_get(line, "text"));
    const int32_t *ids;
    size_t n, i = 0;
    for (const struct json *v = json_first(json_get(line, "ids")); v; v = json_next(v))
        if (json_number(v) > (double)g->most)
            return;
    ck_assert_int_eq(rsd_tokenizer_encode(g->t, text.p, text.n, &ids, &n), RSD_OK);
    for (const struct json *v = json_first(json_get(line, "ids")); v; v = json_next(v), i++)
        ck_assert_msg(i < n && ids[i] == (int32_t)json_number(v), "%.*s: id %zu", (int)json_text(json_get(line, "id")).n,
                      json_text(json_get(line, "id")).p, i);
    ck_assert_uint_eq(i, n);
    check_bytes(g->t, text.p, text.n);
    g->n++;
}

START_TEST(all_goldens_of_p50k_are_reproduced) {
    SKIP_WITHOUT_DATA();
    struct golden g = {open_file(test_data("tokenizer/p50k_base.tiktoken"), NULL), INT32_MAX, 0};
    ck_assert_int_eq(rsd_tokenizer_size(g.t), 50281);
    ck_assert_int_eq(rsd_tokenizer_eos(g.t), 50256);
    ck_assert_str_eq(rsd_tokenizer_pattern(g.t), "gpt2");
    ck_assert_uint_eq(each_line("tokenizer/golden_p50k.jsonl", golden, &g), 1914);
    ck_assert_uint_eq(g.n, 1914);
    rsd_tokenizer_close(g.t);
}
END_TEST

/* GPT-2's two files under the names they are looked for, and the tokenizer.json that says the same. */
static void copy_gpt2(const char *dir) {
    size_t n, m;
    char *merges = test_read(test_data("tokenizer/gpt2_vocab.bpe"), &n),
         *ids = test_read(test_data("tokenizer/gpt2_encoder.json"), &m);
    struct str json;
    str_init(&json, &mem_std);
    test_write(test_path(dir, "merges.txt"), merges, n);
    test_write(test_path(dir, "vocab.json"), ids, m);
    str_addz(&json, "{\"added_tokens\":[{\"id\":50256,\"content\":\"<|endoftext|>\",\"special\":true}],\"normalizer\":null,"
                    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
                    "\"model\":{\"type\":\"BPE\",\"vocab\":");
    str_add(&json, ids, m);
    str_addz(&json, ",\"merges\":[");
    bool first = true;
    for (char *line = strtok(merges, "\n"); (line = strtok(NULL, "\n"));) {
        str_addz(&json, first ? "\"" : ",\"");
        for (; *line; line++) {
            if (*line == '"' || *line == '\\')
                str_addc(&json, '\\');
            str_addc(&json, *line);
        }
        str_addc(&json, '"');
        first = false;
    }
    str_addz(&json, "]}}");
    test_write(test_path(dir, "tokenizer.json"), json.p, json.n);
    str_free(&json);
    free(merges);
    free(ids);
}

START_TEST(gpt2_has_the_same_ids_from_merges_and_from_tokenizer_json) {
    SKIP_WITHOUT_DATA();
    const char *dir = test_dir();
    copy_gpt2(dir);
    struct golden a = {open_file(test_path(dir, "merges.txt"), NULL), 50256, 0};
    struct golden b = {open_file(dir, NULL), 50256, 0}; /* the folder's tokenizer.json */
    each_line("tokenizer/golden_p50k.jsonl", golden, &a);
    each_line("tokenizer/golden_p50k.jsonl", golden, &b);
    ck_assert_uint_ge(a.n, 1880);
    ck_assert_uint_eq(a.n, b.n);
    ck_assert_int_eq(rsd_tokenizer_eos(a.t), 50256);
    ck_assert_int_eq(rsd_tokenizer_eos(b.t), 50256);
    rsd_tokenizer_close(a.t);
    rsd_tokenizer_close(b.t);
}
END_TEST

START_TEST(any_bytes_come_back) {
    SKIP_WITHOUT_DATA();
    static const char *const patterns[] = {"gpt2", "cl100k", "o200k", "llama3"};
    rsd_tokenizer *t = open_file(test_data("tokenizer/p50k_base.tiktoken"), patterns[_i]);
    for (uint64_t round = 0; round < 3000; round++) {
        struct rng g = rng_make(3, round);
        char text[64];
        size_t n = (size_t)rng_below(&g, sizeof text);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(unsigned char)(rng_below(&g, 2) ? rng_below(&g, 256) : 32 + rng_below(&g, 96));
        check_bytes(t, text, n);
    }
    rsd_tokenizer_close(t);
}
END_TEST

START_TEST(long_words_take_about_linear_time) {
    SKIP_WITHOUT_DATA();
    rsd_tokenizer *t = open_file(test_data("tokenizer/p50k_base.tiktoken"), "gpt2");
    double seconds[2];
    for (int big = 0; big < 2; big++) {
        size_t n = big ? 1600000 : 200000, m;
        char *text = malloc(n);
        const int32_t *ids;
        for (size_t i = 0; i < n; i++)
            text[i] = _i ? 'a' : (char)('a' + i * i / 7 % 26);
        double start = clock_seconds();
        ck_assert_int_eq(rsd_tokenizer_encode(t, text, n, &ids, &m), RSD_OK);
        seconds[big] = clock_seconds() - start;
        free(text);
    }
    ck_assert_msg(seconds[1] < 30 * seconds[0] + 0.1, "%g s, eight times as long %g s", seconds[0], seconds[1]);
    rsd_tokenizer_close(t);
}
END_TEST

/* Chunks as Python's regex module finds them with the expressions of split.c, joined by "|". */
static const struct {
    enum split_pattern pattern;
    const char *text, *chunks;
} splits[] = {
    {SPLIT_GPT2, "He's 12345 pounds, isn't he\077\012\012  Yes  \012",
     "He|'s| 12345| pounds|,| isn|'t| he|\077|\012\012 | Yes|  \012"},
    {SPLIT_GPT2, "'S'LL DON'T we'RE", "'|S|'|LL| DON|'|T| we|'|RE"},
    {SPLIT_GPT2, "HTTPServer iPhone's \307\205a a\303\211\314\201B\314\201c",
     "HTTPServer| iPhone|'s| \307\205a| a\303\211|\314\201|B|\314\201|c"},
    {SPLIT_GPT2, "3/4\012/x  --\015\012\015\012 5", "3|/|4|\012|/|x| | --|\015\012\015\012| 5"},
    {SPLIT_GPT2, "\302\240a\342\200\203 b\343\200\200\343\200\200c \302\205d",
     "\302\240|a|\342\200\203| b|\343\200\200|\343\200\200|c| |\302\205|d"},
    {SPLIT_GPT2, "\344\270\255\346\226\207\343\201\2021\331\243\302\262\302\275 \011x",
     "\344\270\255\346\226\207\343\201\202|1\331\243\302\262\302\275| |\011|x"},
    {SPLIT_GPT2, "\314\201a \314\201B !\314\201\012!", "\314\201|a| \314\201|B| !\314\201|\012|!"},
    {SPLIT_GPT2, "'\305\277a x'\305\277 AB\312\260C", "'|\305\277a| x|'|\305\277| AB\312\260C"},
    {SPLIT_CL100K, "He's 12345 pounds, isn't he\077\012\012  Yes  \012",
     "He|'s| |123|45| pounds|,| isn|'t| he|\077\012\012| | Yes|  \012"},
    {SPLIT_CL100K, "'S'LL DON'T we'RE", "'S|'LL| DON|'T| we|'RE"},
    {SPLIT_CL100K, "HTTPServer iPhone's \307\205a a\303\211\314\201B\314\201c",
     "HTTPServer| iPhone|'s| \307\205a| a\303\211|\314\201B|\314\201c"},
    {SPLIT_CL100K, "3/4\012/x  --\015\012\015\012 5", "3|/|4|\012|/x| | --\015\012\015\012| |5"},
    {SPLIT_CL100K, "\302\240a\342\200\203 b\343\200\200\343\200\200c \302\205d",
     "\302\240a|\342\200\203| b|\343\200\200|\343\200\200c| |\302\205d"},
    {SPLIT_CL100K, "\344\270\255\346\226\207\343\201\2021\331\243\302\262\302\275 \011x",
     "\344\270\255\346\226\207\343\201\202|1\331\243\302\262|\302\275| |\011x"},
    {SPLIT_CL100K, "\314\201a \314\201B !\314\201\012!", "\314\201a| \314\201|B| !\314\201\012|!"},
    {SPLIT_CL100K, "'\305\277a x'\305\277 AB\312\260C", "'\305\277|a| x|'\305\277| AB\312\260C"},
    /* only the end of a text tells these two apart */
    {SPLIT_CL100K, "a \012  \012 \302\240", "a| \012  \012 \302\240"},
    {SPLIT_LLAMA3, "a \012  \012 \302\240", "a| \012  \012| \302\240"},
    {SPLIT_CL100K, "a  \012  b ", "a|  \012| | b| "},
    {SPLIT_LLAMA3, "a  \012  b ", "a|  \012| | b| "},
    {SPLIT_LLAMA3, "'S'LL DON'T 1234", "'S|'LL| DON|'T| |123|4"},
    {SPLIT_O200K, "He's 12345 pounds, isn't he\077\012\012  Yes  \012",
     "He's| |123|45| pounds|,| isn't| he|\077\012\012| | Yes|  \012"},
    {SPLIT_O200K, "'S'LL DON'T we'RE", "'S'LL| DON'T| we'RE"},
    {SPLIT_O200K, "HTTPServer iPhone's \307\205a a\303\211\314\201B\314\201c",
     "HTTPServer| i|Phone's| \307\205a| a|\303\211\314\201B\314\201c"},
    {SPLIT_O200K, "3/4\012/x  --\015\012\015\012 5", "3|/|4|\012|/x| | --\015\012\015\012| |5"},
    {SPLIT_O200K, "\302\240a\342\200\203 b\343\200\200\343\200\200c \302\205d",
     "\302\240a|\342\200\203| b|\343\200\200|\343\200\200c| |\302\205d"},
    {SPLIT_O200K, "\344\270\255\346\226\207\343\201\2021\331\243\302\262\302\275 \011x",
     "\344\270\255\346\226\207\343\201\202|1\331\243\302\262|\302\275| |\011x"},
    {SPLIT_O200K, "\314\201a \314\201B !\314\201\012!", "\314\201a| \314\201|B| !\314\201\012|!"},
    {SPLIT_O200K, "'\305\277a x'\305\277 AB\312\260C", "'\305\277a| x'\305\277| AB\312\260|C"},
};

START_TEST(text_is_split_as_the_expression_says) {
    struct text t = text_of(splits[_i].text);
    char got[512] = "";
    for (size_t at = 0, next; at < t.n; at = next) {
        next = split_next(splits[_i].pattern, t, at);
        ck_assert(next > at && next <= t.n);
        if (at)
            strcat(got, "|");
        strncat(got, t.p + at, next - at);
    }
    ck_assert_str_eq(got, splits[_i].chunks);
}
END_TEST

/* As in tiktoken_ext/openai_public.py of tiktoken 0.14, and in Llama 3's tokenizer.json. */
START_TEST(expressions_in_use_are_known) {
    static const struct {
        enum split_pattern pattern;
        const char *regex;
    } in_use[] = {
        {SPLIT_GPT2, "'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s"},
        {SPLIT_CL100K,
         "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}+| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|"
         "\\s*[\\r\\n]|\\s+(?!\\S)|\\s"},
        {SPLIT_LLAMA3, "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
        {SPLIT_O200K,
         "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
        {SPLIT_UNKNOWN, "\\p{L}+|\\s+"},
    };
    for (size_t i = 0; i < sizeof in_use / sizeof *in_use; i++)
        ck_assert_int_eq(split_of_regex(text_of(in_use[i].regex)), in_use[i].pattern);
}
END_TEST

/* All bytes as pieces, ids 0 to 255, then `more`. */
static void tiktoken(struct str *out, const char *more) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    str_clear(out);
    for (unsigned c = 0; c < 256; c++)
        str_addf(out, "%c%c== %u\n", digits[c >> 2], digits[(c & 3) << 4], c);
    str_addz(out, more);
}

static int try_open(const struct str *file, const char *pattern, rsd_tokenizer **t) {
    const char *path = test_path(test_dir(), "x.tiktoken");
    test_write(path, str_z(file), file->n);
    return rsd_tokenizer_open_pattern(ctx, path, pattern, t);
}

/* aa = 256, aaa = 257 by (aa, a) and (a, aa): of equal ranks the left one is taken. */
START_TEST(merges_of_one_rank_go_from_left_to_right) {
    struct str f;
    rsd_tokenizer *t = NULL;
    str_init(&f, &mem_std);
    tiktoken(&f, "YWE= 256\nYWFh 257\nYmFhYWFh 258\n");
    ck_assert_msg(!try_open(&f, "gpt2", &t), "%s", rsd_ctx_error(ctx));
    char *got = encoded(t, "aaaaa baaaaab", 13);
    ck_assert_str_eq(got, "aa|aaa| |b|aa|aaa|b");
    free(got);
    rsd_tokenizer_close(t);
    str_free(&f);
}
END_TEST

static const struct {
    const char *more, *pattern;
    int code;
    const char *says;
} bad[] = {
    {"", NULL, RSD_EUNSUPPORTED, "gpt2, cl100k, llama3 or o200k"},
    {"", "gpt3", RSD_EINVAL, "gpt3"},
    {"YWE= 256\nYWE= 257\n", "gpt2", RSD_EFORMAT, "line 258"},
    {"YWE= 3\n", "gpt2", RSD_EFORMAT, "line 257"},
    {"Y*E= 300\n", "gpt2", RSD_EFORMAT, "not base64"},
    {"YWE= 999999999\n", "gpt2", RSD_EUNSUPPORTED, "999999999"},
    {"YWE=\n", "gpt2", RSD_EFORMAT, "expected base64"},
    {"= 300\n", "gpt2", RSD_EFORMAT, "empty"},
};

START_TEST(wrong_vocabularies_are_located) {
    struct str f;
    rsd_tokenizer *t = NULL;
    str_init(&f, &mem_std);
    tiktoken(&f, bad[_i].more);
    ck_assert_int_eq(try_open(&f, bad[_i].pattern, &t), bad[_i].code);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), bad[_i].says) != NULL, "%s", rsd_ctx_error(ctx));
    f.n = 5 * 255; /* the piece of a byte is missing */
    ck_assert_int_eq(try_open(&f, "gpt2", &t), RSD_EFORMAT);
    str_free(&f);
}
END_TEST

static const struct {
    const char *model, *splitter;
    int code;
    const char *says;
} bad_json[] = {
    {"\"vocab\":{\"a\":0},\"merges\":[]", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", RSD_EFORMAT,
     "no piece for byte"},
    {"\"vocab\":{\"a\":0},\"merges\":[\"a b\"]", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", RSD_EFORMAT, "merges[0]"},
    {"\"vocab\":{\"a\":0},\"merges\":[7]", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", RSD_EFORMAT, "merges[0]"},
    {"\"vocab\":{\"a\":-1},\"merges\":[]", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", RSD_EFORMAT, "\"a\""},
    {"\"vocab\":{\"a\\u00ad\":1},\"merges\":[]", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", RSD_EFORMAT, "no byte"},
    {"\"vocab\":{},\"merges\":[]", "{\"type\":\"ByteLevel\"}", RSD_EUNSUPPORTED, "add_prefix_space"},
    {"\"vocab\":{},\"merges\":[]", "{\"type\":\"Whitespace\"}", RSD_EUNSUPPORTED, "Whitespace"},
    {"\"vocab\":{},\"merges\":[]", "null", RSD_EUNSUPPORTED, "ByteLevel"},
    {"\"vocab\":{},\"merges\":[]",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"Isolated\"}]}",
     RSD_EUNSUPPORTED, "pattern x"},
    {"\"byte_fallback\":true,\"vocab\":{},\"merges\":[]", "null", RSD_EUNSUPPORTED, "byte_fallback"},
    {"\"vocab\":[],\"merges\":[]", "null", RSD_EFORMAT, "vocab"},
};

START_TEST(wrong_json_is_refused_by_name) {
    struct str f;
    rsd_tokenizer *t = NULL;
    str_init(&f, &mem_std);
    str_addf(&f, "{\"pre_tokenizer\":%s,\"model\":{\"type\":\"BPE\",%s}}", bad_json[_i].splitter, bad_json[_i].model);
    ck_assert_int_eq(try_open(&f, NULL, &t), bad_json[_i].code);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), bad_json[_i].says) != NULL, "%s", rsd_ctx_error(ctx));
    str_free(&f);
}
END_TEST

/* Cut anywhere, or with a byte changed, a file opens or is refused, and nothing else. */
START_TEST(damaged_files_are_refused_or_open) {
    struct str f;
    str_init(&f, &mem_std);
    tiktoken(&f, "YWE= 256\nYWFh 257\n");
    for (uint64_t round = 0; round < 400; round++) {
        struct rng g = rng_make(4, round);
        struct str copy;
        rsd_tokenizer *t = NULL;
        str_init(&copy, &mem_std);
        str_add(&copy, f.p, round % 2 ? f.n : (size_t)rng_below(&g, f.n));
        for (int k = 0; k < 3 && round % 2; k++)
            copy.p[rng_below(&g, copy.n)] = (char)(unsigned char)rng_below(&g, 256);
        if (!try_open(&copy, "gpt2", &t))
            check_bytes(t, "aaab a\xff", 7);
        rsd_tokenizer_close(t);
        str_free(&copy);
    }
    str_free(&f);
}
END_TEST

START_TEST(lost_allocations_are_reported) {
    struct str file;
    str_init(&file, &mem_std);
    tiktoken(&file, "YWE= 256\nYWFh 257\n");
    const char *path = test_path(test_dir(), "x.tiktoken");
    test_write(path, file.p, file.n);
    str_free(&file);
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        rsd_ctx_options o;
        rsd_ctx *c = NULL;
        rsd_tokenizer *t = NULL;
        const int32_t *ids;
        size_t n;
        fail_alloc_init(&f, i, false);
        rsd_ctx_options_init(&o, sizeof o);
        o.resize = f.a.resize;
        o.resize_user = f.a.user;
        int code = rsd_ctx_open(&o, &c);
        code = code ? code : rsd_tokenizer_open_pattern(c, path, "o200k", &t);
        code = code ? code : rsd_tokenizer_encode(t, "aaaa bcd", 8, &ids, &n);
        rsd_tokenizer_close(t);
        rsd_ctx_close(c);
        ck_assert_uint_eq(f.live, 0);
        ck_assert_int_eq(code, f.failed ? RSD_ENOMEM : RSD_OK);
        if (!f.failed)
            break;
    }
}
END_TEST

Suite *text_bpe_suite(void) {
    Suite *s = suite_create("text bpe");
    TCase *c = tcase_create("bpe");
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, all_goldens_of_p50k_are_reproduced);
    tcase_add_test(c, gpt2_has_the_same_ids_from_merges_and_from_tokenizer_json);
    tcase_add_loop_test(c, any_bytes_come_back, 0, 4);
    tcase_add_loop_test(c, long_words_take_about_linear_time, 0, 2);
    tcase_add_test(c, expressions_in_use_are_known);
    tcase_add_loop_test(c, text_is_split_as_the_expression_says, 0, sizeof splits / sizeof *splits);
    tcase_add_test(c, merges_of_one_rank_go_from_left_to_right);
    tcase_add_loop_test(c, wrong_vocabularies_are_located, 0, sizeof bad / sizeof *bad);
    tcase_add_loop_test(c, wrong_json_is_refused_by_name, 0, sizeof bad_json / sizeof *bad_json);
    tcase_add_test(c, damaged_files_are_refused_or_open);
    tcase_add_test(c, lost_allocations_are_reported);
    suite_add_tcase(s, c);
    return s;
}
