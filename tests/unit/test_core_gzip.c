/* Compressed lines: read as plain ones, whatever the buffers, and never trusted. */
#include "core/gzip.h"

#include "core/rng.h"
#include "test_core.h"

#include <stdlib.h>
#include <string.h>

static void error_is(const struct err *e, int code, const char *needle) {
    ck_assert_msg(e->code == code && strstr(e->text, needle), "code %d, text \"%s\"", e->code, e->text);
}

/* A library that was built without zlib says so, and that is all there is to test. */
static bool built_without(void) {
    struct gunzip *g = NULL;
    struct err e = {0};
    if (gunzip_open(&g, &mem_std, &e) == 0) {
        gunzip_close(g);
        return false;
    }
    error_is(&e, ERR_UNSUPPORTED, "without zlib");
    return true;
}

/* text as one member, put in pieces of `step`. */
static void write_member(const char *path, const char *text, size_t n, size_t step) {
    struct file_write f;
    struct gzip_write *z = NULL;
    struct err e = {0};
    ck_assert_int_eq(file_begin(&f, &mem_std, path, &e), 0);
    ck_assert_int_eq(gzip_begin(&z, &mem_std, &f, &e), 0);
    for (size_t at = 0; at < n; at += step)
        ck_assert_int_eq(gzip_put(z, text + at, n - at < step ? n - at : step, &e), 0);
    ck_assert_int_eq(gzip_end(z, &e), 0);
    ck_assert_int_eq(file_commit(&f, &e), 0);
}

static void fill(struct str *s, size_t lines) {
    struct rng g = rng_make(1, 2);
    for (size_t i = 0; i < lines; i++) {
        str_addf(s, "%zu:", i);
        for (size_t n = (size_t)rng_below(&g, i % 50 ? 90 : 200000); n > 0; n--)
            str_addc(s, (char)('a' + rng_below(&g, i % 3 ? 26 : 2)));
        str_addc(s, '\n');
    }
}

START_TEST(compressed_lines_are_those_of_the_text) {
    const char *dir = test_dir(), *plain = test_path(dir, "plain"), *packed = test_path(dir, "packed");
    struct str s;
    struct lines a, b;
    struct text x, y;
    struct err e = {0};
    size_t n, m;
    if (built_without())
        return;
    str_init(&s, NULL);
    fill(&s, 400);
    test_write(plain, s.p, s.n);
    write_member(packed, s.p, s.n, _i ? 17 : s.n);
    if (_i == 2) { /* members end to end, an empty one between them; the seam lies within a line */
        write_member(packed, s.p, 100001, s.n);
        char *first = test_read(packed, &n);
        write_member(packed, "", 0, 1);
        char *none = test_read(packed, &m);
        struct str all;
        str_init(&all, NULL);
        str_add(&all, first, n);
        str_add(&all, none, m);
        write_member(packed, s.p + 100001, s.n - 100001, 1000);
        char *last = test_read(packed, &n);
        str_add(&all, last, n);
        test_write(packed, all.p, all.n);
        free(first);
        free(none);
        free(last);
        str_free(&all);
    }
    ck_assert_int_eq(lines_open(&a, NULL, plain, 1 << 20, &e), 0);
    ck_assert_int_eq(lines_open(&b, NULL, packed, 1 << 20, &e), 0);
    int got;
    while ((got = lines_next(&a, &x, &e)) == 1) {
        ck_assert_msg(lines_next(&b, &y, &e) == 1, "line %zu: %s", a.line, e.text);
        ck_assert(text_eq(x, y));
    }
    ck_assert_int_eq(got, 0);
    ck_assert_int_eq(lines_next(&b, &y, &e), 0);
    ck_assert(b.gz && !b.torn && !a.gz);
    lines_close(&a);
    lines_close(&b);
    str_free(&s);
}
END_TEST

START_TEST(compressed_data_that_break_off_anywhere_are_told_once_behind_their_whole_lines) {
    static const char text[] = "{\"a\":1}\n{\"b\":2}\n\n{\"c\":3}\n";
    const char *path = test_path(test_dir(), "f");
    size_t n;
    if (built_without())
        return;
    write_member(path, text, sizeof text - 1, 9);
    char *whole = test_read(path, &n);
    for (size_t cut = 2; cut < n; cut++) {
        struct lines l;
        struct text t;
        struct err e = {0};
        size_t lines = 0;
        int got;
        test_write(path, whole, cut);
        ck_assert_int_eq(lines_open(&l, NULL, path, 100, &e), 0);
        while ((got = lines_next(&l, &t, &e)) == 1)
            lines++;
        ck_assert_int_eq(got, ERR_FORMAT);
        error_is(&e, ERR_FORMAT, "break off");
        ck_assert(lines <= 4 && l.torn && l.torn_bytes > 0);
        ck_assert_int_eq(lines_next(&l, &t, &e), 0);
        lines_close(&l);
    }
    free(whole);
}
END_TEST

START_TEST(damaged_bytes_are_an_error_or_change_nothing_and_never_go_on_for_ever) {
    const char *path = test_path(test_dir(), "f");
    struct str s;
    size_t n, errors = 0;
    if (built_without())
        return;
    str_init(&s, NULL);
    fill(&s, 20);
    write_member(path, s.p, s.n, 1000);
    char *whole = test_read(path, &n);
    for (size_t round = 0; round < 300; round++) {
        struct lines l;
        struct text t;
        struct err e = {0};
        size_t at = round < 20 ? round + 2 : (round * 7919) % n;
        whole[at] ^= (char)(1 << round % 8);
        test_write(path, whole, n);
        whole[at] ^= (char)(1 << round % 8);
        ck_assert_int_eq(lines_open(&l, NULL, path, 1 << 20, &e), 0);
        int got;
        while ((got = lines_next(&l, &t, &e)) == 1)
            continue;
        if (got < 0) {
            ck_assert_int_eq(e.code, ERR_FORMAT);
            ck_assert_int_eq(lines_next(&l, &t, &e), 0);
            errors++;
        }
        lines_close(&l);
    }
    ck_assert_uint_ge(errors, 280); /* a header's time stamp and such may change */
    free(whole);
    str_free(&s);
}
END_TEST

START_TEST(a_line_is_limited_after_decompression) {
    const char *path = test_path(test_dir(), "f");
    struct str s;
    struct lines l;
    struct text t;
    struct err e = {0};
    if (built_without())
        return;
    str_init(&s, NULL);
    str_addz(&s, "before\n");
    for (size_t i = 0; i < (size_t)20 << 20; i++)
        str_addc(&s, 'x');
    str_addz(&s, "\nbehind\n");
    write_member(path, s.p, s.n, s.n);
    ck_assert_int_eq(lines_open(&l, NULL, path, 100000, &e), 0);
    ck_assert(lines_next(&l, &t, &e) == 1 && text_is(t, "before"));
    ck_assert_int_eq(lines_next(&l, &t, &e), ERR_FORMAT);
    error_is(&e, ERR_FORMAT, "line 2: has more than the 100000 bytes");
    ck_assert_uint_lt(l.buf.cap, 1 << 20); /* of twenty */
    ck_assert(lines_next(&l, &t, &e) == 1 && text_is(t, "behind") && l.line == 3);
    ck_assert_int_eq(lines_next(&l, &t, &e), 0);
    lines_close(&l);
    str_free(&s);
}
END_TEST

Suite *core_gzip_suite(void) {
    Suite *s = suite_create("core/gzip");
    TCase *t = tcase_create("lines");
    tcase_add_loop_test(t, compressed_lines_are_those_of_the_text, 0, 3);
    tcase_add_test(t, compressed_data_that_break_off_anywhere_are_told_once_behind_their_whole_lines);
    tcase_add_test(t, damaged_bytes_are_an_error_or_change_nothing_and_never_go_on_for_ever);
    tcase_add_test(t, a_line_is_limited_after_decompression);
    suite_add_tcase(s, t);
    return s;
}
