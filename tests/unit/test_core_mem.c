#include "core/log.h"
#include "core/map.h"
#include "core/rng.h"
#include "test_core.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors ---- */

START_TEST(first_error_stays) {
    struct err e = {0};
    ck_assert_int_eq(err_set(&e, ERR_IO, "disk %d", 7), ERR_IO);
    ck_assert_int_eq(err_set(&e, ERR_FORMAT, "later"), ERR_FORMAT); /* the function's own code is returned all the same */
    ck_assert_int_eq(e.code, ERR_IO);
    ck_assert_str_eq(e.text, "disk 7");
    ck_assert_int_eq(err_within(&e, "file %s", "x"), ERR_IO);
    ck_assert_str_eq(e.text, "file x: disk 7");
    err_clear(&e);
    ck_assert_int_eq(e.code, 0);
    err_clear(&e);
    ck_assert_int_eq(err_set(&e, ERR_FORMAT, "line %d: bad", 3), ERR_FORMAT);
    ck_assert_int_eq(err_within(&e, "f.xml"), ERR_FORMAT);
    ck_assert_str_eq(e.text, "f.xml, line 3: bad");
    err_clear(&e);
    ck_assert_int_eq(err_within(&e, "nothing"), 0);
    ck_assert_str_eq(e.text, "");
    ck_assert_int_eq(err_set(NULL, ERR_BUSY, "x"), ERR_BUSY);
}
END_TEST

START_TEST(errno_becomes_a_code_and_a_reason) {
    struct err e = {0};
    ck_assert_int_eq(err_errno(&e, ENOENT, "a/b"), ERR_NOTFOUND);
    ck_assert_str_eq(e.text, "a/b: No such file or directory");
    err_clear(&e);
    ck_assert_int_eq(err_errno(&e, ENOMEM, "x"), ERR_NOMEM);
    err_clear(&e);
    char path[2000];
    memset(path, 'p', sizeof path);
    path[sizeof path - 1] = 0;
    ck_assert_int_eq(err_errno(&e, EACCES, "%s", path), ERR_IO);
    ck_assert_ptr_nonnull(strstr(e.text, ": Permission denied")); /* the reason survives a path that is too long */
    ck_assert_uint_lt(strlen(e.text), sizeof e.text);
    ck_assert_int_eq(err_errno(NULL, EACCES, "x"), ERR_IO);
}
END_TEST

START_TEST(error_text_is_one_line_of_whole_characters) {
    struct err e = {0};
    err_set(&e, ERR_FORMAT, "key \"a\nb\t\x1b[2J\"");
    ck_assert_str_eq(e.text, "key \"a?b??[2J\"");
    for (size_t shift = 0; shift < 4; shift++) {
        char text[800] = "";
        memset(text, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof text; i += 4)
            memcpy(text + i, "\xF0\x9F\x98\x80", 4);
        err_clear(&e);
        err_set(&e, ERR_FORMAT, "%s", text);
        ck_assert(text_is_utf8(text_of(e.text)));
        ck_assert_uint_gt(strlen(e.text), sizeof e.text - 6);
        err_within(&e, "where");
        ck_assert(text_is_utf8(text_of(e.text)));
        ck_assert_int_eq(strncmp(e.text, "where: ", 7), 0);
    }
}
END_TEST

/* ---- memory ---- */

START_TEST(sizes_that_overflow_are_refused) {
    size_t out;
    ck_assert(size_mul(SIZE_MAX / 2, 2, &out) && out == SIZE_MAX - 1);
    ck_assert(!size_mul(SIZE_MAX / 2 + 1, 2, &out));
    ck_assert(size_add(SIZE_MAX - 1, 1, &out) && !size_add(SIZE_MAX, 1, &out));
    struct err e = {0};
    ck_assert_ptr_null(mem_new(&mem_std, SIZE_MAX / 4, 8, &e));
    ck_assert_int_eq(e.code, ERR_NOMEM);
    err_clear(&e);
    ck_assert_ptr_null(mem_aligned(&mem_std, SIZE_MAX - 8, 1, &e));
    ck_assert_int_eq(e.code, ERR_NOMEM);
    err_clear(&e);
    ck_assert_ptr_null(mem_strndup(NULL, "", SIZE_MAX, &e));
    ck_assert_int_eq(e.code, ERR_NOMEM);
    int *v = NULL;
    size_t cap = 0;
    ck_assert_int_eq(mem_reserve(NULL, &v, &cap, SIZE_MAX / 2, sizeof *v, NULL), ERR_NOMEM);
    ck_assert_uint_eq(cap, 0);
}
END_TEST

START_TEST(arrays_grow_by_doubling) {
    struct fail_alloc f;
    fail_alloc_init(&f, 0, false);
    size_t *v = NULL, cap = 0;
    for (size_t i = 0; i < 10000; i++) {
        ck_assert_int_eq(mem_reserve(&f.a, &v, &cap, i + 1, sizeof *v, NULL), 0);
        v[i] = i;
    }
    for (size_t i = 0; i < 10000; i++)
        ck_assert_uint_eq(v[i], i);
    ck_assert_uint_lt(f.count, 16);
    mem_free(&f.a, v);
    ck_assert_uint_eq(f.live, 0);
}
END_TEST

START_TEST(aligned_blocks_are_aligned_and_freed) {
    struct fail_alloc f;
    fail_alloc_init(&f, 0, false);
    void *p[100];
    for (size_t i = 0; i < 100; i++) {
        p[i] = mem_aligned(&f.a, i * 13, 1, NULL);
        ck_assert_uint_eq((uintptr_t)p[i] % 64, 0);
        memset(p[i], 0xAA, i * 13);
    }
    for (size_t i = 0; i < 100; i++)
        mem_free_aligned(&f.a, p[i]);
    mem_free_aligned(&f.a, NULL);
    ck_assert_uint_eq(f.live, 0);
}
END_TEST

START_TEST(zero_objects_are_a_valid_pointer) {
    void *p = mem_new(NULL, 0, 8, NULL), *q = mem_zero(NULL, 0, 8, NULL);
    ck_assert(p && q);
    mem_free(NULL, p);
    mem_free(NULL, q);
    mem_free(NULL, NULL);
    char *s = mem_strndup(NULL, "abc", 2, NULL);
    ck_assert_str_eq(s, "ab");
    mem_free(NULL, s);
}
END_TEST

/* ---- strings ---- */

START_TEST(buffers_hold_any_bytes_and_a_terminator) {
    struct str s;
    str_init(&s, NULL);
    ck_assert_str_eq(str_z(&s), "");
    str_add(&s, "a\0b", 3);
    str_addc(&s, 0);
    str_addz(&s, NULL);
    str_addz(&s, "c");
    ck_assert_uint_eq(s.n, 5);
    ck_assert_int_eq(memcmp(s.p, "a\0b\0c", 6), 0);
    char *room = str_reserve(&s, 100);
    memset(room, 'x', 100);
    s.n += 100;
    ck_assert_uint_eq(strlen(str_z(&s) + 4), 101);
    char *mine = str_take(&s);
    ck_assert_uint_eq(strlen(mine + 4), 101);
    mem_free(NULL, mine);
    ck_assert_uint_eq(s.n, 0);
    mine = str_take(&s); /* an empty one is a string, too */
    ck_assert_str_eq(mine, "");
    mem_free(NULL, mine);
    str_free(&s);
}
END_TEST

START_TEST(formatted_text_of_any_length) {
    struct str s;
    str_init(&s, NULL);
    for (int n = 250; n < 262; n++) {
        str_clear(&s);
        str_addf(&s, "%0*d|", n, 5);
        ck_assert_uint_eq(s.n, (size_t)n + 1);
        ck_assert_str_eq(s.p + n - 1, "5|");
    }
    str_free(&s);
}
END_TEST

START_TEST(views_compare_by_bytes) {
    struct text a = {"a\0b", 3}, b = {"a\0c", 3}, none = {NULL, 0};
    ck_assert(text_eq(a, a) && !text_eq(a, b) && !text_eq(a, (struct text){"a", 1}));
    ck_assert(text_eq(none, text_of(NULL)) && text_eq(none, text_of("")));
    ck_assert(text_is(text_of("xy"), "xy") && !text_is(text_of("xy"), "x"));
}
END_TEST

/* All starts of two bytes, and the edges of Unicode 15, table 3-7. */
START_TEST(utf8_is_checked_to_the_letter) {
    static const struct {
        const char *bytes;
        size_t length;
    } cases[] = {
        {"a", 1},        {"\xC2\x80", 2},     {"\xC1\xBF", 0},         {"\xC0\x80", 0},         {"\xDF\xBF", 2},
        {"\x80", 0},     {"\xE0\x9F\xBF", 0}, {"\xE0\xA0\x80", 3},     {"\xED\x9F\xBF", 3},     {"\xED\xA0\x80", 0},
        {"\xEE\x80", 0}, {"\xEF\xBF\xBF", 3}, {"\xF0\x8F\xBF\xBF", 0}, {"\xF0\x90\x80\x80", 4}, {"\xF4\x8F\xBF\xBF", 4},
        {"\xC2", 0},     {"\xC2\x41", 0},     {"\xF4\x90\x80\x80", 0}, {"\xF5\x80\x80\x80", 0}, {"\xF0\x90\x80", 0},
        {"\xFF", 0},     {"\xE1\x80\x41", 0}, {"\xF1\x80\x80\x41", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_uint_eq(utf8_sequence(cases[i].bytes, strlen(cases[i].bytes)), cases[i].length);
    ck_assert_uint_eq(utf8_sequence("", 0), 0);
    ck_assert_uint_eq(utf8_sequence("\0", 1), 1);
    ck_assert(text_is_utf8(text_of("a\xC3\xA9z")) && !text_is_utf8(text_of("a\xC3")) && text_is_utf8((struct text){NULL, 0}));
}
END_TEST

static void write_text(struct str *s) {
    for (int i = 0; i < 50; i++) {
        str_addz(s, "some text ");
        str_addf(s, "%d %0300d", i, i);
        str_addc(s, '\n');
    }
}

START_TEST(string_without_memory_says_so_once) {
    for (int for_ever = 0; for_ever < 2; for_ever++)
        for (size_t i = 1;; i++) {
            struct fail_alloc f;
            struct str s;
            struct err e = {0};
            fail_alloc_init(&f, i, for_ever);
            str_init(&s, &f.a);
            write_text(&s);
            int code = str_status(&s, &e);
            size_t n = s.n;
            char *taken = str_take(&s);
            ck_assert_int_eq(taken == NULL, f.failed > 0);
            if (taken)
                ck_assert_uint_eq(strlen(taken), n);
            mem_free(&f.a, taken);
            str_free(&s);
            ck_assert_uint_eq(f.live, 0);
            if (!f.failed) {
                ck_assert_int_eq(code, 0);
                ck_assert_uint_gt(i, 5);
                break;
            }
            ck_assert_int_eq(code, ERR_NOMEM);
            ck_assert_ptr_nonnull(strstr(e.text, "out of memory"));
        }
}
END_TEST

/* ---- map ---- */

static struct text key_of(char buf[64], size_t i) {
    int n = snprintf(buf, 64, "%zu key of some length %zu", i, i * 7919);
    if (i % 3 == 0)
        buf[i % 5] = 0; /* U+0000 is a byte like others */
    return (struct text){buf, (size_t)n};
}

START_TEST(map_finds_what_was_put) {
    struct map m;
    char k[64];
    size_t v;
    map_init(&m, NULL);
    ck_assert(!map_get(&m, text_of("x"), &v));
    for (size_t i = 0; i < 20000; i++)
        ck_assert_int_eq(map_put(&m, key_of(k, i), i, NULL), 0);
    ck_assert_uint_le(m.n * 2, m.cap);
    for (size_t i = 0; i < 20000; i += 2)
        ck_assert_int_eq(map_put(&m, key_of(k, i), i + 1000000, NULL), 0);
    size_t n = m.n;
    for (size_t i = 0; i < 20000; i++) {
        ck_assert(map_get(&m, key_of(k, i), &v));
        ck_assert_uint_eq(v, i % 2 ? i : i + 1000000);
    }
    ck_assert(!map_get(&m, key_of(k, 20001), NULL));
    ck_assert_uint_eq(n, 20000);
    ck_assert_int_eq(map_put(&m, (struct text){NULL, 0}, 5, NULL), 0); /* the empty key is a key */
    ck_assert(map_get(&m, text_of(""), &v) && v == 5);
    map_free(&m);
    ck_assert(!map_get(&m, text_of(""), NULL));
    map_free(&m);
}
END_TEST

/* Without a random key an attacker could prepare keys; two maps that hash alike would show it. */
START_TEST(maps_have_keys_of_their_own) {
    struct map a, b;
    map_init(&a, NULL);
    map_init(&b, NULL);
    map_put(&a, text_of("x"), 1, NULL);
    map_put(&b, text_of("x"), 1, NULL);
    ck_assert(a.seed != b.seed);
    map_free(&a);
    map_free(&b);
}
END_TEST

/* With linear probing a weak hash shows as long runs: similar keys must spread as random ones do. */
START_TEST(similar_keys_spread) {
    struct map m;
    char k[64];
    map_init(&m, NULL);
    double start = clock_seconds();
    for (size_t i = 0; i < 200000; i++) {
        snprintf(k, sizeof k, "%08zu", i << 4);
        ck_assert_int_eq(map_put(&m, (struct text){k, 8}, i, NULL), 0);
    }
    for (size_t i = 0; i < 200000; i++) {
        snprintf(k, sizeof k, "%08zu", i << 4);
        ck_assert(map_get(&m, (struct text){k, 8}, NULL));
    }
    ck_assert_double_lt(clock_seconds() - start, 20); /* 0.1 s; quadratic would be minutes */
    map_free(&m);
}
END_TEST

START_TEST(map_without_memory_stays_whole) {
    for (int for_ever = 0; for_ever < 2; for_ever++)
        for (size_t i = 1;; i++) {
            struct fail_alloc f;
            struct map m;
            char k[64];
            bool there[300] = {false};
            fail_alloc_init(&f, i, for_ever);
            map_init(&m, &f.a);
            for (size_t j = 0; j < 300; j++) {
                struct err e = {0};
                size_t failed = f.failed;
                int code = map_put(&m, key_of(k, j), j, &e);
                ck_assert_int_eq(code, f.failed > failed ? ERR_NOMEM : 0);
                ck_assert_int_eq(e.code, code);
                there[j] = code == 0;
            }
            for (size_t j = 0; j < 300; j++) {
                size_t v = 0;
                ck_assert_int_eq(map_get(&m, key_of(k, j), &v), there[j]);
                ck_assert(!there[j] || v == j);
            }
            map_free(&m);
            ck_assert_uint_eq(f.live, 0);
            if (!f.failed) {
                ck_assert_uint_gt(i, 10);
                break;
            }
        }
}
END_TEST

/* ---- log ---- */

static void keep_line(void *user, int level, const char *text) {
    snprintf(user, 100, "%d %s", level, text);
}

START_TEST(messages_reach_the_host_only_through_its_function) {
    char got[100] = "";
    struct log l = {keep_line, got}, silent = {NULL, NULL};
    log_write(&l, LOG_WARN, "%s %d", "x", 3);
    ck_assert_str_eq(got, "1 x 3");
    log_write(&silent, LOG_ERROR, "y");
    log_write(NULL, LOG_ERROR, "z");
    ck_assert_str_eq(got, "1 x 3");
}
END_TEST

START_TEST(clock_runs_forward) {
    double a = clock_seconds(), b = clock_seconds();
    ck_assert(b >= a && a > 0 && b - a < 60);
}
END_TEST

Suite *core_mem_suite(void) {
    Suite *s = suite_create("core/mem");
    TCase *t = tcase_create("err");
    tcase_add_test(t, first_error_stays);
    tcase_add_test(t, errno_becomes_a_code_and_a_reason);
    tcase_add_test(t, error_text_is_one_line_of_whole_characters);
    suite_add_tcase(s, t);
    t = tcase_create("mem");
    tcase_add_test(t, sizes_that_overflow_are_refused);
    tcase_add_test(t, arrays_grow_by_doubling);
    tcase_add_test(t, aligned_blocks_are_aligned_and_freed);
    tcase_add_test(t, zero_objects_are_a_valid_pointer);
    suite_add_tcase(s, t);
    t = tcase_create("str");
    tcase_add_test(t, buffers_hold_any_bytes_and_a_terminator);
    tcase_add_test(t, formatted_text_of_any_length);
    tcase_add_test(t, views_compare_by_bytes);
    tcase_add_test(t, utf8_is_checked_to_the_letter);
    tcase_add_test(t, string_without_memory_says_so_once);
    suite_add_tcase(s, t);
    t = tcase_create("map");
    tcase_add_test(t, map_finds_what_was_put);
    tcase_add_test(t, maps_have_keys_of_their_own);
    tcase_add_test(t, similar_keys_spread);
    tcase_add_test(t, map_without_memory_stays_whole);
    suite_add_tcase(s, t);
    t = tcase_create("log");
    tcase_add_test(t, messages_reach_the_host_only_through_its_function);
    tcase_add_test(t, clock_runs_forward);
    suite_add_tcase(s, t);
    return s;
}
