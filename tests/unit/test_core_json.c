#include "core/json.h"
#include "core/rng.h"
#include "test_core.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static struct json *parse_n(const char *p, size_t n) {
    struct json *doc;
    struct err e = {0};
    /* In a block of its exact size, so that ASan sees a read beyond the end. */
    char *copy = malloc(n ? n : 1);
    memcpy(copy, p, n);
    int code = json_parse(copy, n, &doc, &e);
    free(copy);
    ck_assert_msg(code == 0, "%.*s: %s", (int)n, p, e.text);
    return doc;
}

static struct json *parse(const char *text) {
    return parse_n(text, strlen(text));
}

/* The document, written on one line; of malloc. */
static char *written(const struct json *doc) {
    struct str s;
    struct json_out o;
    str_init(&s, NULL);
    json_begin(&o, &s, 0);
    json_put_value(&o, doc);
    return str_take(&s);
}

static void refused_n(const char *p, size_t n, const char *needle) {
    struct json *doc = NULL;
    struct err e = {0};
    char *copy = malloc(n ? n : 1);
    memcpy(copy, p, n);
    int code = json_parse(copy, n, &doc, &e);
    free(copy);
    ck_assert_msg(code == ERR_FORMAT, "accepted: %.*s", (int)n, p);
    ck_assert_ptr_null(doc);
    ck_assert_msg(strstr(e.text, needle) != NULL, "%.*s: \"%s\" does not say \"%s\"", (int)n, p, e.text, needle);
}

static void refused(const char *text, const char *needle) {
    refused_n(text, strlen(text), needle);
}

START_TEST(documents_are_read_and_written_again) {
    static const char *const same[] = {"null",
                                       "true",
                                       "false",
                                       "0",
                                       "-0",
                                       "12",
                                       "-1.5",
                                       "1e+300",
                                       "\"\"",
                                       "\"a b\"",
                                       "[]",
                                       "{}",
                                       "[1,[2,[3]],{}]",
                                       "{\"a\":{\"b\":[null,true,false]},\"\":1}",
                                       "\"\\\"\\\\\\n\\r\\t\\u0001\"",
                                       "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\x7F\"",
                                       "{\"a\\u0000b\":\"\\u0000\",\"a\\u0000\":\"x\\u0000y\\u0000\\u0000z\"}",
                                       "[9223372036854775807,-9223372036854775808]",
                                       "[9007199254740993,0.1,5e-324,2.2250738585072014e-308,1.7976931348623157e+308]"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        struct json *doc = parse(same[i]);
        char *out = written(doc);
        ck_assert_str_eq(out, same[i]);
        free(out);
        json_free(doc);
    }
}
END_TEST

START_TEST(other_spellings_mean_the_same) {
    static const char *const pairs[][2] = {
        {" \t\r\n[ 1 , 2 ] \n", "[1,2]"},
        {"\"\\u00e9\\u20AC\\uD83D\\ude00\\/\\b\\f\"", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80/\\u0008\\u000c\""},
        {"[1.0,1E2,10e-1,100000000000000000000]", "[1,100,1,1e+20]"},
        {"[1e-400,-1e-400]", "[0,-0]"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct json *doc = parse(pairs[i][0]);
        char *out = written(doc);
        ck_assert_str_eq(out, pairs[i][1]);
        free(out);
        json_free(doc);
    }
}
END_TEST

START_TEST(mistakes_are_named_with_their_byte) {
    refused("", "byte 0: expected a value");
    refused("  ", "byte 2: expected a value");
    refused("{\"a\" 1}", "byte 5: expected ':'");
    refused("{\"a\":1,}", "byte 7: expected a key");
    refused("{a:1}", "byte 1: expected a key");
    refused("[1,]", "byte 3: expected a value");
    refused("[1 2]", "byte 3: expected ',' or ']'");
    refused("{\"a\":1]", "byte 6: expected ',' or '}'");
    refused("[1", "byte 2: expected ',' or ']', found the end");
    refused("[] []", "byte 3: expected nothing more");
    refused("nul", "byte 0: expected a value");
    refused("nulll", "byte 4: expected nothing more");
    refused("NaN", "byte 0: expected a value");
    refused("'a'", "byte 0: expected a value");
    refused("\"abc", "byte 0: a string begins here that never ends");
    refused("\"a\\x\"", "byte 3: expected one of");
    refused("\"\\u12g4\"", "byte 1: expected four hexadecimal digits");
    refused("\"\\u12", "byte 1: expected four hexadecimal digits");
    refused("[1] //", "byte 4: expected nothing more");
    refused("\xEF\xBB\xBF[]", "byte order mark");
    refused_n("[1]\0", 4, "byte 3: expected nothing more after the value, found the byte 00");
    refused_n("\"\\\0\"", 4, "byte 2: expected one of");
}
END_TEST

START_TEST(numbers_follow_the_grammar_and_fit) {
    refused("01", "byte 1");
    refused("-", "byte 1: expected a digit");
    refused("+1", "byte 0");
    refused(".5", "byte 0");
    refused("1.", "byte 2: expected a digit after the decimal point");
    refused("1.e3", "byte 2");
    refused("1e", "byte 2: expected a digit in the exponent");
    refused("1e+", "byte 3");
    refused("0x10", "byte 1");
    refused("[1,1e309]", "byte 3: a number that is too large");
    refused("-1e999999999999999999999", "byte 0: a number that is too large");
    char digits[500];
    memset(digits, '9', sizeof digits);
    refused_n(digits, sizeof digits, "byte 0: a number that is too large");
    /* longer than cJSON's buffer, yet a number */
    char text[600] = "[1234567890", *out;
    memset(text + 11, '0', 90);
    strcpy(text + 101, ",0.");
    memset(text + 104, '3', 400);
    strcpy(text + 504, ",1e-5,-7]");
    struct json *doc = parse(text);
    out = written(doc);
    ck_assert_str_eq(out, "[1.23456789e+99,0.3333333333333333,1e-05,-7]");
    free(out);
    json_free(doc);
}
END_TEST

START_TEST(strings_are_utf8_without_raw_control_bytes) {
    refused("\"a\nb\"", "byte 2: a raw control byte 0A");
    refused_n("\"\0\"", 3, "byte 1: a raw control byte 00");
    refused("\"\xC0\x80\"", "byte 1: not valid UTF-8"); /* what stands for U+0000 inside cannot come from outside */
    refused("\"ab\xED\xA0\x80\"", "byte 3: not valid UTF-8");
    refused("\"\xFF\"", "byte 1: not valid UTF-8 (byte FF)");
    refused("{\"\xC3\":1}", "byte 2: not valid UTF-8");
    refused("\"\\ud800\"", "byte 1: half of a surrogate pair");
    refused("\"\\udc00\\ud800\"", "byte 1: half of a surrogate pair");
    refused("\"\\ud800\\u0041\"", "byte 1: half of a surrogate pair");
    refused("\"\\ud800x", "byte 1: half of a surrogate pair");
}
END_TEST

START_TEST(nul_survives_in_texts_and_keys) {
    struct json *doc = parse("{\"k\\u0000y\":\"a\\u0000b\",\"n\\u0000\":12}");
    const struct json *m = json_first(doc);
    ck_assert(text_eq(json_key(m), (struct text){"k\0y", 3}));
    ck_assert(text_eq(json_text(m), (struct text){"a\0b", 3}));
    m = json_next(m);
    ck_assert(text_eq(json_key(m), (struct text){"n\0", 2}));
    ck_assert_double_eq(json_number(m), 12);
    ck_assert_ptr_null(json_get(doc, "k"));
    ck_assert_ptr_null(json_get(doc, "n"));
    json_free(doc);
}
END_TEST

START_TEST(depth_is_limited_to_64) {
    char text[200];
    for (size_t depth = 60; depth <= 70; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        if (depth <= 64)
            json_free(parse_n(text, 2 * depth));
        else
            refused_n(text, 2 * depth, "byte 64: nested deeper than 64");
    }
}
END_TEST

/* In small objects, in large ones, far below, with U+0000 in the key; the second place is the one named. */
START_TEST(duplicate_keys_are_refused_where_they_stand) {
    refused("{\"a\":1,\"b\":{\"c\":[{\"d\":1}]},\"a\":2}", "byte 27: the key \"a\" appears twice");
    refused("[{\"x\":1},{\"x\":{\"y\":1,\"z\":0,\"y\":3}}]", "byte 27: the key \"y\"");
    refused("{\"a\":1,\"\\u0061\":2}", "byte 7: the key \"a\"");
    refused("{\"a\\u0000b\":1,\"a\\u0000b\":2}", "byte 14");
    refused("{\"\":1,\"\":2}", "byte 6");
    json_free(parse("{\"a\\u0000b\":1,\"a\\u0000c\":2,\"a\":3,\"ab\":4}"));
    json_free(parse("[{\"a\":1},{\"a\":1},{\"b\":{\"a\":{\"a\":1}}}]"));
    struct str s;
    str_init(&s, NULL);
    str_addz(&s, "{");
    for (int i = 0; i < 300; i++)
        str_addf(&s, "\"k%d\":{\"k\":%d},", i, i);
    size_t at = s.n;
    str_addz(&s, "\"k77\":0}");
    char needle[64];
    snprintf(needle, sizeof needle, "byte %zu: the key \"k77\"", at);
    refused_n(s.p, s.n, needle);
    str_free(&s);
}
END_TEST

START_TEST(large_objects_cost_no_quadratic_time) {
    struct str s;
    str_init(&s, NULL);
    for (int i = 0; i < 200000; i++)
        str_addf(&s, "%c\"%07d\":%d", i ? ',' : '{', (i * 7919) % 200000, i);
    str_addz(&s, "}");
    struct rusage a, b;
    getrusage(RUSAGE_SELF, &a);
    struct json *doc = parse_n(s.p, s.n);
    getrusage(RUSAGE_SELF, &b);
    ck_assert_uint_eq(json_count(doc), 200000);
    ck_assert_int_lt(b.ru_utime.tv_sec - a.ru_utime.tv_sec, 10); /* 0.2 s; comparing all pairs takes minutes */
    json_free(doc);
    str_free(&s);
}
END_TEST

START_TEST(members_are_found_by_name_and_order) {
    struct json *doc = parse("{\"t\":\"x\",\"n\":2.5,\"b\":true,\"z\":null,\"a\":[1,2,3],\"o\":{\"q\":1}}");
    static const enum json_type types[] = {JSON_TEXT, JSON_NUMBER, JSON_BOOL, JSON_NULL, JSON_ARRAY, JSON_OBJECT};
    size_t i = 0;
    for (const struct json *m = json_first(doc); m; m = json_next(m))
        ck_assert_int_eq(json_type(m), types[i++]);
    ck_assert_uint_eq(i, 6);
    ck_assert_uint_eq(json_count(json_get(doc, "a")), 3);
    ck_assert(json_bool(json_get(doc, "b")) && !json_bool(json_get(doc, "t")));
    ck_assert(isnan(json_number(json_get(doc, "t"))) && json_text(json_get(doc, "n")).n == 0);
    ck_assert_ptr_null(json_get(doc, "missing"));
    ck_assert_ptr_null(json_get(json_get(doc, "a"), "a"));
    ck_assert_ptr_null(json_get(NULL, "a"));
    ck_assert_ptr_null(json_first(json_get(doc, "n")));
    json_free(doc);
    json_free(NULL);
}
END_TEST

static void says(struct err *e, const char *text) {
    ck_assert_int_eq(e->code, ERR_FORMAT);
    ck_assert_str_eq(e->text, text);
    err_clear(e);
}

START_TEST(wrong_members_say_what_was_expected) {
    struct json *doc = parse("{\"s\":\"x\",\"f\":2.5,\"i\":7,\"b\":true,\"z\":null,\"big\":9007199254740993,\"huge\":1e300}");
    struct err e = {0};
    struct text t;
    int64_t i = -1;
    double d = -1;
    bool b = false;
    const struct json *v;
    ck_assert_int_eq(json_need_text(doc, "s", &t, &e) + json_need_int(doc, "i", 0, 10, &i, &e) +
                         json_need_number(doc, "f", 0, 3, &d, &e) + json_need_bool(doc, "b", &b, &e) +
                         json_need_type(doc, "z", JSON_NULL, &v, &e),
                     0);
    ck_assert(text_is(t, "x") && i == 7 && d == 2.5 && b);
    ck_assert_int_eq(json_need_int(doc, "big", INT64_MIN, INT64_MAX, &i, &e), 0);
    ck_assert_int_eq(i, INT64_C(9007199254740993)); /* no way over double */
    json_need_text(doc, "i", &t, &e);
    says(&e, "key \"i\": expected a string, found 7");
    json_need_text(doc, "none", &t, &e);
    says(&e, "key \"none\" is missing: expected a string");
    json_need_int(doc, "f", 1, 100, &i, &e);
    says(&e, "key \"f\": expected an integer from 1 to 100, found 2.5");
    json_need_int(doc, "i", 8, INT64_MAX, &i, &e);
    says(&e, "key \"i\": expected an integer of at least 8, found 7");
    json_need_int(doc, "huge", INT64_MIN, INT64_MAX, &i, &e);
    says(&e, "key \"huge\": expected an integer, found 1e+300");
    json_need_number(doc, "f", 0, 0.5, &d, &e);
    says(&e, "key \"f\": expected a number from 0 to 0.5, found 2.5");
    json_need_number(doc, "s", 0, INFINITY, &d, &e);
    says(&e, "key \"s\": expected a number of at least 0, found a string");
    json_need_bool(doc, "z", &b, &e);
    says(&e, "key \"z\": expected true or false, found null");
    json_need_type(doc, "s", JSON_ARRAY, &v, &e);
    says(&e, "key \"s\": expected an array, found a string");
    json_need_int(json_get(doc, "s"), "x", 0, 1, &i, &e);
    says(&e, "expected an object with the key \"x\", found a string");
    json_free(doc);
}
END_TEST

START_TEST(optional_members_keep_their_default) {
    struct json *doc = parse("{\"z\":null,\"i\":\"7\"}");
    struct err e = {0};
    struct text t = {"d", 1};
    int64_t i = 5;
    double d = 6;
    bool b = true;
    ck_assert_int_eq(json_opt_text(doc, "none", &t, &e) + json_opt_int(doc, "z", 0, 1, &i, &e) +
                         json_opt_number(doc, "none", 0, 1, &d, &e) + json_opt_bool(doc, "z", &b, &e),
                     0);
    ck_assert(text_is(t, "d") && i == 5 && d == 6 && b);
    ck_assert_int_eq(json_opt_int(doc, "i", 0, 9, &i, &e), ERR_FORMAT); /* there, but wrong */
    says(&e, "key \"i\": expected an integer from 0 to 9, found a string");
    json_free(doc);
}
END_TEST

START_TEST(writer_puts_commas_and_indents) {
    struct str s;
    struct json_out o;
    str_init(&s, NULL);
    json_begin(&o, &s, 2);
    json_object(&o);
    json_put_key(&o, "a");
    json_array(&o);
    json_put_int(&o, INT64_MIN);
    json_put_bool(&o, true);
    json_object(&o);
    json_end_object(&o);
    json_end_array(&o);
    json_put_key(&o, "b");
    json_put_z(&o, NULL);
    json_put_key(&o, "c");
    json_put_text(&o, (struct text){"x\xFFy\xC3", 4});
    json_put_key(&o, "d");
    json_put_double(&o, NAN);
    json_end_object(&o);
    ck_assert_int_eq(str_status(&s, NULL), 0);
    ck_assert_str_eq(str_z(&s), "{\n  \"a\": [\n    -9223372036854775808,\n    true,\n    {}\n  ],\n  \"b\": null,\n"
                                "  \"c\": \"x\xEF\xBF\xBDy\xEF\xBF\xBD\",\n  \"d\": null\n}");
    str_free(&s);
}
END_TEST

START_TEST(writer_refuses_what_no_reader_takes) {
    struct str s;
    struct json_out o;
    str_init(&s, NULL);
    json_begin(&o, &s, 0);
    for (int i = 0; i < 64; i++)
        json_array(&o);
    ck_assert(!s.failed);
    json_array(&o);
    ck_assert(s.failed);
    str_clear(&s);
    json_begin(&o, &s, 0);
    json_end_array(&o);
    ck_assert(s.failed);
    str_free(&s);
}
END_TEST

static double bits_to_double(uint64_t bits) {
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Every number, written and read again, has the same bits; and no shorter %g would have done. */
START_TEST(numbers_are_short_and_exact) {
    struct rng r = rng_make(11, 0);
    struct str s;
    str_init(&s, NULL);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rng_u64(&r);
        double v = i % 3 == 0   ? bits_to_double(bits)
                   : i % 3 == 1 ? (double)(int64_t)(bits >> 40) / 1000
                                : bits_to_double(bits >> 12 | (uint64_t)(i & 2) << 62); /* subnormal */
        float f = (float)v;
        struct json_out o;
        if (!isfinite(v))
            continue;
        str_clear(&s);
        json_begin(&o, &s, 0);
        json_array(&o);
        json_put_double(&o, v);
        json_put_float(&o, f);
        json_end_array(&o);
        struct json *doc = parse_n(s.p, s.n);
        const struct json *m = json_first(doc);
        double back = json_number(m);
        ck_assert_msg(memcmp(&back, &v, sizeof v) == 0, "%s", s.p);
        if (isfinite(f)) {
            float fback = (float)json_number(json_next(m));
            ck_assert_msg(memcmp(&fback, &f, sizeof f) == 0, "%s", s.p);
        } else {
            ck_assert_int_eq(json_type(json_next(m)), JSON_NULL);
        }
        json_free(doc);
    }
    str_clear(&s);
    struct json_out o;
    json_begin(&o, &s, 0);
    json_array(&o);
    json_put_double(&o, 0.1);
    json_put_double(&o, 0.1 + 0.2);
    json_put_float(&o, 0.1f);
    json_put_float(&o, 16777216);
    json_put_double(&o, -0.0);
    json_put_double(&o, 1e15);
    json_put_double(&o, DBL_MAX);
    json_put_float(&o, 1e-45f);
    json_put_double(&o, -INFINITY);
    json_end_array(&o);
    ck_assert_str_eq(str_z(&s), "[0.1,0.30000000000000004,0.1,16777216,-0,1e+15,1.7976931348623157e+308,1e-45,null]");
    str_free(&s);
}
END_TEST

static size_t seen_c, seen_other;
static void *watching_malloc(size_t n) {
    *(strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? &seen_other : &seen_c) += 1;
    return malloc(n);
}

/* cJSON's own allocations are the witnesses: they see which locale it works in. */
START_TEST(parser_works_in_the_c_locale_of_its_thread) {
    locale_t mine = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);
    ck_assert_msg(mine != (locale_t)0, "no C.UTF-8");
    uselocale(mine);
    cJSON_Hooks hooks = {watching_malloc, free};
    cJSON_InitHooks(&hooks);
    json_free(parse("[0.5,{\"a\":1e5}]"));
    struct json *doc;
    ck_assert_int_eq(json_parse("[1,{\"a\":1,\"a\":2}]", 17, &doc, NULL), ERR_FORMAT); /* and comes back after an error */
    cJSON_InitHooks(NULL);
    ck_assert(uselocale((locale_t)0) == mine);
    uselocale(LC_GLOBAL_LOCALE);
    freelocale(mine);
    ck_assert_uint_gt(seen_c, 4);
    ck_assert_uint_eq(seen_other, 0);
}
END_TEST

/* glibc keeps a copy of LOCPATH that nobody frees. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:__argz_add_sep";
}

/* A locale with a decimal comma: one that is installed, else one compiled on the spot where its sources are. */
static const char *comma_locale(void) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8", "fr_FR.utf8"};
    const char *name = NULL;
    for (size_t i = 0; i < 5 && !name; i++)
        name = setlocale(LC_ALL, names[i]);
    if (name)
        return name;
    const char *dir = test_dir();
    char command[PATH_MAX + 100];
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' >/dev/null 2>&1", dir);
    if (system(command) != 0 || setenv("LOCPATH", dir, 1))
        return NULL;
    return setlocale(LC_ALL, "de_DE.UTF-8");
}

/* The whole process in a locale with a decimal comma, and this thread in another object of it: both stay as they were. */
START_TEST(locale_of_the_host_neither_matters_nor_changes) {
    const char *name = comma_locale();
    if (!name) {
        test_skip(__func__, "no locale with a decimal comma");
        return;
    }
    ck_assert_str_eq(localeconv()->decimal_point, ",");
    locale_t mine = newlocale(LC_ALL_MASK, name, (locale_t)0);
    locale_t before = uselocale(mine);
    struct json *doc = parse("[0.5,1.25e2,0.333333333333333333333333333333333333333333333333333333333333333333333333]");
    char *out = written(doc);
    ck_assert_str_eq(out, "[0.5,125,0.3333333333333333]");
    struct err e = {0};
    double d;
    struct json *obj = parse("{\"x\":1.5}");
    json_need_number(obj, "x", 0, 0.25, &d, &e);
    ck_assert_str_eq(e.text, "key \"x\": expected a number from 0 to 0.25, found 1.5");
    ck_assert(uselocale((locale_t)0) == mine);
    ck_assert_str_eq(localeconv()->decimal_point, ",");
    uselocale(before);
    ck_assert_str_eq(setlocale(LC_ALL, NULL), name);
    freelocale(mine);
    free(out);
    json_free(doc);
    json_free(obj);
}
END_TEST

/* A random document: what comes out of it is valid, and writing what was read gives the same bytes. */
static void random_value(struct rng *r, struct json_out *o, unsigned depth) {
    char bytes[16];
    uint64_t n = rng_below(r, 6);
    switch (rng_below(r, depth ? 8 : 6)) {
    case 0:
        json_put_null(o);
        break;
    case 1:
        json_put_bool(o, rng_below(r, 2) == 0);
        break;
    case 2:
        json_put_int(o, (int64_t)rng_u64(r) >> rng_below(r, 63));
        break;
    case 3: {
        double v = bits_to_double(rng_u64(r));
        json_put_double(o, isfinite(v) ? v : 0.5);
        break;
    }
    case 4:
    case 5:
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (char)(rng_below(r, 3) ? rng_below(r, 128) : rng_below(r, 256));
        json_put_text(o, (struct text){bytes, (size_t)rng_below(r, sizeof bytes + 1)});
        break;
    case 6:
        json_array(o);
        for (uint64_t i = 0; i < n; i++)
            random_value(r, o, depth - 1);
        json_end_array(o);
        break;
    default:
        json_object(o);
        for (uint64_t i = 0; i < n * n; i++) {
            char key[24];
            snprintf(key, sizeof key, "%llu\"\\\x01\xC3\xA9", (unsigned long long)(i * 7 % 37));
            json_put_key(o, key);
            random_value(r, o, depth - 1);
        }
        json_end_object(o);
    }
}

START_TEST(what_is_written_is_read_back_the_same) {
    struct rng r = rng_make(5, 0);
    struct str s;
    str_init(&s, NULL);
    for (int i = 0; i < 1000; i++) {
        struct json_out o;
        str_clear(&s);
        json_begin(&o, &s, i % 2 ? 3 : 0);
        random_value(&r, &o, 5);
        ck_assert_int_eq(str_status(&s, NULL), 0);
        struct json *doc = parse_n(s.p, s.n);
        char *once = written(doc);
        if (i % 2 == 0)
            ck_assert_str_eq(once, str_z(&s));
        struct json *again = parse(once);
        char *twice = written(again);
        ck_assert_str_eq(once, twice);
        free(once);
        free(twice);
        json_free(doc);
        json_free(again);
    }
    str_free(&s);
}
END_TEST

/* Random bytes, random pieces of JSON, and valid documents with one byte changed: a value or one located line, never more. */
START_TEST(any_bytes_give_a_value_or_a_located_error) {
    static const char *const pieces[] = {
        "{", "}", "[", "]",   ",",    ":",    "\"", "\"a\"",    "\"\\u0000\"", "\\",   "\\ud83d", "\\ude00",           "1", "-",
        "0", ".", "e", "1e5", "true", "null", " ",  "\xC3\xA9", "\xC0\x80",    "\xFF", "\n",      "123456789012345678"};
    struct rng r = rng_make(9, 0);
    size_t good = 0, bad = 0;
    struct str s;
    str_init(&s, NULL);
    for (int i = 0; i < 20000; i++) {
        str_clear(&s);
        if (i % 3 == 0) {
            for (uint64_t k = rng_below(&r, 12); k > 0; k--)
                str_addc(&s, (char)rng_below(&r, 256));
        } else if (i % 3 == 1) {
            for (uint64_t k = rng_below(&r, 12); k > 0; k--)
                str_addz(&s, pieces[rng_below(&r, sizeof pieces / sizeof *pieces)]);
        } else {
            struct json_out o;
            json_begin(&o, &s, 0);
            random_value(&r, &o, 3);
            s.p[rng_below(&r, s.n)] = (char)rng_below(&r, 256);
        }
        struct json *doc;
        struct err e = {0};
        char *exact = malloc(s.n ? s.n : 1);
        if (s.n)
            memcpy(exact, s.p, s.n);
        int code = json_parse(exact, s.n, &doc, &e);
        free(exact);
        if (code == 0) {
            char *once = written(doc);
            struct json *again = parse(once);
            free(once);
            json_free(again);
            json_free(doc);
            good++;
        } else {
            size_t at;
            ck_assert_int_eq(code, ERR_FORMAT);
            ck_assert_int_eq(sscanf(e.text, "byte %zu:", &at), 1);
            ck_assert_uint_le(at, s.n);
            ck_assert_ptr_null(doc);
            bad++;
        }
    }
    str_free(&s);
    ck_assert(good > 200 && bad > 1000); /* both kinds were there */
}
END_TEST

START_TEST(json_files_name_their_path) {
    const char *dir = test_dir(), *path = test_path(dir, "x.json");
    struct json *doc = NULL;
    struct err e = {0};
    test_write(path, "{\"a\": }", 7);
    ck_assert_int_eq(json_read_file(path, 100, NULL, &doc, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.text, "x.json: byte 6: expected a value"));
    err_clear(&e);
    ck_assert_int_eq(json_read_file(path, 3, NULL, &doc, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.text, "x.json"));
    err_clear(&e);
    ck_assert_int_eq(json_read_file(test_path(dir, "none"), 100, NULL, &doc, &e), ERR_NOTFOUND);
    test_write(path, "[1]\n", 4);
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        fail_alloc_init(&f, i, true);
        int code = json_read_file(path, 100, &f.a, &doc, NULL);
        ck_assert_uint_eq(f.live, 0);
        ck_assert_int_eq(code, f.failed ? ERR_NOMEM : 0);
        if (!f.failed)
            break;
    }
    ck_assert_uint_eq(json_count(doc), 1);
    json_free(doc);
}
END_TEST

START_TEST(writer_without_memory_fails_at_the_end) {
    struct json *doc = parse("{\"a\":[1,2.5,\"text that is longer than the first buffer\",null],\"b\\u0000\":{\"c\":true}}");
    for (int for_ever = 0; for_ever < 2; for_ever++)
        for (size_t i = 1;; i++) {
            struct fail_alloc f;
            struct str s;
            struct json_out o;
            fail_alloc_init(&f, i, for_ever);
            str_init(&s, &f.a);
            json_begin(&o, &s, 4);
            json_put_value(&o, doc);
            int code = str_status(&s, NULL);
            str_free(&s);
            ck_assert_uint_eq(f.live, 0);
            ck_assert_int_eq(code, f.failed ? ERR_NOMEM : 0);
            if (!f.failed) {
                ck_assert_uint_gt(i, 3);
                break;
            }
        }
    json_free(doc);
}
END_TEST

Suite *core_json_suite(void) {
    Suite *s = suite_create("core/json");
    TCase *t = tcase_create("read");
    tcase_add_test(t, documents_are_read_and_written_again);
    tcase_add_test(t, other_spellings_mean_the_same);
    tcase_add_test(t, mistakes_are_named_with_their_byte);
    tcase_add_test(t, numbers_follow_the_grammar_and_fit);
    tcase_add_test(t, strings_are_utf8_without_raw_control_bytes);
    tcase_add_test(t, nul_survives_in_texts_and_keys);
    tcase_add_test(t, depth_is_limited_to_64);
    tcase_add_test(t, duplicate_keys_are_refused_where_they_stand);
    tcase_add_test(t, large_objects_cost_no_quadratic_time);
    tcase_add_test(t, parser_works_in_the_c_locale_of_its_thread);
    tcase_add_test(t, members_are_found_by_name_and_order);
    tcase_add_test(t, wrong_members_say_what_was_expected);
    tcase_add_test(t, optional_members_keep_their_default);
    tcase_add_test(t, json_files_name_their_path);
    suite_add_tcase(s, t);
    t = tcase_create("write");
    tcase_add_test(t, writer_puts_commas_and_indents);
    tcase_add_test(t, writer_refuses_what_no_reader_takes);
    tcase_add_test(t, numbers_are_short_and_exact);
    tcase_add_test(t, locale_of_the_host_neither_matters_nor_changes);
    tcase_add_test(t, what_is_written_is_read_back_the_same);
    tcase_add_test(t, any_bytes_give_a_value_or_a_located_error);
    tcase_add_test(t, writer_without_memory_fails_at_the_end);
    suite_add_tcase(s, t);
    return s;
}
