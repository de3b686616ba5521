#include "core/file.h"
#include "test_core.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void error_is(struct err *e, int code, const char *needle) {
    ck_assert_msg(e->code == code, "code %d, text \"%s\"", e->code, e->text);
    ck_assert_msg(strstr(e->text, needle) != NULL, "\"%s\" does not say \"%s\"", e->text, needle);
    err_clear(e);
}

static void file_is(const char *path, const char *expected) {
    size_t n;
    char *p = test_read(path, &n);
    ck_assert_uint_eq(n, strlen(expected));
    ck_assert_int_eq(memcmp(p, expected, n), 0);
    free(p);
}

static size_t names_in(const char *dir) {
    char **names;
    size_t n;
    ck_assert_int_eq(dir_names(NULL, dir, &names, &n, NULL), 0);
    dir_names_free(NULL, names, n);
    return n;
}

/* A child in which every file may have at most `limit` bytes: the system's way to a full disk. Its exit status. */
static int with_full_disk(rlim_t limit, int (*work)(const char *dir), const char *dir) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit r = {limit, limit};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &r))
            _exit(99);
        _exit(work(dir));
    }
    int status = -1;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- reading ---- */

START_TEST(whole_files_are_read_up_to_a_limit) {
    const char *dir = test_dir(), *path = test_path(dir, "f");
    struct str s;
    struct err e = {0};
    str_init(&s, NULL);
    test_write(path, "ab\0cd", 5);
    str_addz(&s, "before:");
    ck_assert_int_eq(file_read(path, 5, &s, &e), 0);
    ck_assert(text_eq((struct text){s.p, s.n}, (struct text){"before:ab\0cd", 12}));
    ck_assert_int_eq(s.p[s.n], 0);
    ck_assert_int_eq(file_read(path, 4, &s, &e), ERR_FORMAT);
    error_is(&e, ERR_FORMAT, "has 5 bytes, at most 4");
    ck_assert_uint_eq(s.n, 12);
    file_read(dir, 100, &s, &e);
    error_is(&e, ERR_INVALID, "is a folder");
    file_read(test_path(dir, "none"), 100, &s, &e);
    error_is(&e, ERR_NOTFOUND, "none: cannot be opened: No such file");
    test_write(path, "", 0);
    ck_assert_int_eq(file_read(path, 0, &s, &e), 0);
    ck_assert_uint_eq(s.n, 12);
    str_free(&s);
}
END_TEST

START_TEST(pipes_and_endless_files_are_limited_too) {
    struct str s;
    struct err e = {0};
    str_init(&s, NULL);
    ck_assert_int_eq(file_read("/dev/zero", 100000, &s, &e), ERR_FORMAT);
    error_is(&e, ERR_FORMAT, "more than the 100000 bytes allowed");
    ck_assert_uint_eq(s.n, 0);
    ck_assert_int_eq(file_read("/dev/null", 0, &s, &e), 0);
    str_free(&s);
}
END_TEST

START_TEST(reading_without_memory_is_an_error) {
    const char *path = test_path(test_dir(), "f");
    test_write(path, "abc\ndef\n", 8);
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        struct str s;
        struct lines l;
        struct text t;
        fail_alloc_init(&f, i, true);
        str_init(&s, &f.a);
        int code = file_read(path, 100, &s, NULL);
        str_free(&s);
        int opened = lines_open(&l, &f.a, path, 10, NULL);
        int next = opened ? opened : lines_next(&l, &t, NULL);
        lines_close(&l);
        ck_assert_uint_eq(f.live, 0);
        if (!f.failed) {
            ck_assert_int_eq(code, 0);
            ck_assert_int_eq(next, 1);
            break;
        }
        ck_assert(code == ERR_NOMEM || next == ERR_NOMEM);
    }
}
END_TEST

START_TEST(maps_are_private) {
    const char *dir = test_dir(), *path = test_path(dir, "f");
    struct file_map m;
    struct err e = {0};
    test_write(path, "hello", 5);
    ck_assert_int_eq(file_map_open(&m, path, true, &e), 0);
    ck_assert_uint_eq(m.n, 5);
    memcpy(m.p, "HELLO", 5);
    file_is(path, "hello");
    file_map_close(&m);
    file_map_close(&m);
    ck_assert_int_eq(file_map_open(&m, path, false, &e), 0);
    ck_assert_int_eq(memcmp(m.p, "hello", 5), 0);
    file_map_close(&m);
    test_write(path, "", 0);
    ck_assert_int_eq(file_map_open(&m, path, false, &e), 0);
    ck_assert(m.p == NULL && m.n == 0);
    file_map_close(&m);
    file_map_open(&m, dir, false, &e);
    error_is(&e, ERR_INVALID, "is a folder");
    file_map_open(&m, "/dev/null", false, &e);
    error_is(&e, ERR_INVALID, "not a regular file");
    file_map_open(&m, test_path(dir, "none"), false, &e);
    error_is(&e, ERR_NOTFOUND, "none");
}
END_TEST

START_TEST(lines_end_at_line_feeds_only) {
    const char *path = test_path(test_dir(), "f");
    /* CR LF, an empty line, U+0085 and U+2028 and a lone CR inside, U+0000, no LF at the end */
    const char text[] = "one\r\n\ntwo\xC2\x85\xE2\x80\xA8x\ry\nz\0z\nlast\r";
    static const struct text expected[] = {{"one", 3}, {"", 0}, {"two\xC2\x85\xE2\x80\xA8x\ry", 11}, {"z\0z", 3}, {"last\r", 5}};
    struct lines l;
    struct text t;
    struct err e = {0};
    test_write(path, text, sizeof text - 1);
    ck_assert_int_eq(lines_open(&l, NULL, path, 100, &e), 0);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(lines_next(&l, &t, &e), 1);
        ck_assert_uint_eq(l.line, i + 1);
        ck_assert_msg(text_eq(t, expected[i]), "line %zu: %.*s", i + 1, (int)t.n, t.p);
    }
    ck_assert_int_eq(lines_next(&l, &t, &e), 0);
    ck_assert_int_eq(lines_next(&l, &t, &e), 0);
    lines_close(&l);
    test_write(path, "", 0);
    ck_assert_int_eq(lines_open(&l, NULL, path, 100, &e), 0);
    ck_assert_int_eq(lines_next(&l, &t, &e), 0);
    lines_close(&l);
}
END_TEST

START_TEST(lines_of_any_length_up_to_the_limit) {
    const char *path = test_path(test_dir(), "f");
    struct str s;
    struct lines l;
    struct text t;
    struct err e = {0};
    str_init(&s, NULL);
    for (size_t n = 0; n < 700; n++) { /* 245,000 bytes: lines that cross every buffer */
        for (size_t i = 0; i < n; i++)
            str_addc(&s, (char)('a' + n % 26));
        str_addz(&s, n % 2 ? "\n" : "\r\n");
    }
    for (size_t i = 0; i < 300000; i++)
        str_addc(&s, 'z');
    test_write(path, s.p, s.n);
    ck_assert_int_eq(lines_open(&l, NULL, path, 300000, &e), 0);
    for (size_t n = 0; n < 700; n++) {
        ck_assert_int_eq(lines_next(&l, &t, &e), 1);
        ck_assert_uint_eq(t.n, n);
        for (size_t i = 0; i < n; i++)
            ck_assert_int_eq(t.p[i], (char)('a' + n % 26));
    }
    ck_assert_int_eq(lines_next(&l, &t, &e), 1);
    ck_assert_uint_eq(t.n, 300000);
    ck_assert_int_eq(lines_next(&l, &t, &e), 0);
    lines_close(&l);
    ck_assert_int_eq(lines_open(&l, NULL, path, 299999, &e), 0);
    int got;
    while ((got = lines_next(&l, &t, &e)) == 1)
        continue;
    ck_assert_int_eq(got, ERR_FORMAT);
    error_is(&e, ERR_FORMAT, "line 701: has more than the 299999 bytes");
    lines_close(&l);
    /* the limit counts neither LF nor CR LF */
    for (size_t n = 3; n < 5; n++) {
        test_write(path, "abc\r\nabcd\r\n", 11);
        ck_assert_int_eq(lines_open(&l, NULL, path, n, &e), 0);
        ck_assert_int_eq(lines_next(&l, &t, &e), 1);
        ck_assert_int_eq(lines_next(&l, &t, NULL), n == 3 ? ERR_FORMAT : 1);
        lines_close(&l);
    }
    str_free(&s);
}
END_TEST

START_TEST(standard_input_is_read_as_it_comes) {
    int ends[2];
    struct lines l;
    struct text t;
    struct err e = {0};
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    ck_assert_int_eq(lines_open(&l, NULL, "-", 10, &e), 0);
    ck_assert_int_eq(write(ends[1], "a\nb", 3), 3);
    ck_assert_int_eq(lines_next(&l, &t, &e), 1); /* without waiting for more */
    ck_assert(text_is(t, "a"));
    ck_assert_int_eq(write(ends[1], "c\nlong long line", 16), 16);
    close(ends[1]);
    ck_assert_int_eq(lines_next(&l, &t, &e), 1);
    ck_assert(text_is(t, "bc"));
    lines_next(&l, &t, &e);
    error_is(&e, ERR_FORMAT, "standard input, line 3");
    lines_close(&l);
    ck_assert_int_ge(fcntl(STDIN_FILENO, F_GETFD), 0); /* not ours to close */
}
END_TEST

START_TEST(reading_a_folder_as_lines_is_an_error) {
    struct lines l;
    struct err e = {0};
    struct text t;
    lines_open(&l, NULL, test_dir(), 10, &e);
    error_is(&e, ERR_INVALID, "is a folder");
    ck_assert_int_eq(lines_next(&l, &t, &e), ERR_INVALID);
    lines_close(&l);
}
END_TEST

/* ---- replacing ---- */

START_TEST(old_file_stands_until_commit) {
    const char *dir = test_dir(), *path = test_path(dir, "f");
    struct file_write f;
    struct err e = {0};
    test_write(path, "old", 3);
    ck_assert_int_eq(chmod(path, 0640), 0);
    ck_assert_int_eq(file_begin(&f, NULL, path, &e), 0);
    ck_assert_int_eq(file_put(&f, "new ", 4, &e), 0);
    file_is(path, "old");
    ck_assert_uint_eq(names_in(dir), 2);
    file_abort(&f);
    file_is(path, "old");
    ck_assert_uint_eq(names_in(dir), 1);
    ck_assert_int_eq(file_begin(&f, NULL, path, &e), 0);
    ck_assert_int_eq(file_put(&f, "new ", 4, &e), 0);
    ck_assert_int_eq(file_put(&f, "file", 4, &e), 0);
    ck_assert_uint_eq(f.written, 8);
    ck_assert_int_eq(file_commit(&f, &e), 0);
    file_abort(&f);
    file_is(path, "new file");
    ck_assert_uint_eq(names_in(dir), 1);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0640);
    ck_assert_int_eq(file_put(&f, "x", 1, &e), ERR_INVALID);
    err_clear(&e);
    ck_assert_int_eq(file_commit(&f, &e), ERR_INVALID);
}
END_TEST

START_TEST(large_and_small_pieces_keep_their_order) {
    const char *path = test_path(test_dir(), "f");
    struct file_write f;
    size_t n = 0, back;
    char *big = malloc(3000000), *all = malloc(20000000);
    ck_assert_int_eq(file_begin(&f, NULL, path, NULL), 0);
    for (size_t i = 0; i < 12; i++) {
        size_t len = i % 4 == 3 ? 1000000 + i : i * 40009 % 300000;
        for (size_t k = 0; k < len; k++)
            big[k] = (char)(i * 31 + k * 7 + (k >> 8));
        memcpy(all + n, big, len);
        n += len;
        ck_assert_int_eq(file_put(&f, big, len, NULL), 0);
    }
    ck_assert_int_eq(file_commit(&f, NULL), 0);
    char *p = test_read(path, &back);
    ck_assert_uint_eq(back, n);
    ck_assert_int_eq(memcmp(p, all, n), 0);
    free(p);
    free(big);
    free(all);
}
END_TEST

START_TEST(two_writers_of_one_file_do_not_meet) {
    const char *dir = test_dir(), *path = test_path(dir, "f");
    struct file_write a, b;
    ck_assert_int_eq(file_begin(&a, NULL, path, NULL), 0);
    ck_assert_int_eq(file_begin(&b, NULL, path, NULL), 0);
    ck_assert_int_eq(file_put(&a, "aaaa", 4, NULL), 0);
    ck_assert_int_eq(file_put(&b, "b", 1, NULL), 0);
    ck_assert_int_eq(file_commit(&a, NULL), 0);
    file_is(path, "aaaa");
    ck_assert_int_eq(file_commit(&b, NULL), 0);
    file_is(path, "b");
    ck_assert_uint_eq(names_in(dir), 1);
}
END_TEST

START_TEST(links_stay_links) {
    const char *dir = test_dir(), *path = test_path(dir, "target"), *link = test_path(dir, "link");
    struct stat st;
    test_write(path, "old", 3);
    ck_assert_int_eq(symlink("target", link), 0);
    ck_assert_int_eq(file_replace(NULL, link, "new", 3, NULL), 0);
    ck_assert_int_eq(lstat(link, &st), 0);
    ck_assert(S_ISLNK(st.st_mode));
    file_is(path, "new");
}
END_TEST

START_TEST(places_that_cannot_be_written_are_named) {
    const char *dir = test_dir(), *path = test_path(dir, "f");
    struct err e = {0};
    file_replace(NULL, test_path(dir, "none/f"), "x", 1, &e);
    error_is(&e, ERR_NOTFOUND, "none/f");
    file_replace(NULL, dir, "x", 1, &e);
    error_is(&e, ERR_INVALID, "is a folder");
    file_replace(NULL, "/dev/null", "x", 1, &e); /* as root, a rename would take the device away from everybody */
    error_is(&e, ERR_INVALID, "not a regular file");
    test_write(path, "x", 1);
    file_replace(NULL, test_path(dir, "f/g"), "x", 1, &e);
    error_is(&e, ERR_IO, "Not a directory");
    if (geteuid() != 0) {
        ck_assert_int_eq(chmod(dir, 0555), 0);
        file_replace(NULL, path, "y", 1, &e);
        chmod(dir, 0755);
        error_is(&e, ERR_IO, "Permission denied");
        file_is(path, "x");
    }
    ck_assert_uint_eq(names_in(dir), 1);
}
END_TEST

/* 0: the error was reported, in file_put or at the latest in file_commit, and named the path. */
static int replace_on_full_disk(const char *dir) {
    static char block[50000];
    struct file_write f;
    struct err e = {0};
    if (file_begin(&f, NULL, test_path(dir, "f"), &e))
        return 1;
    for (int i = 0; i < 20; i++)
        file_put(&f, block, sizeof block, NULL); /* the caller does not look */
    if (file_commit(&f, &e) == 0)
        return 2;
    return strstr(e.text, "/f: ") ? 0 : 3;
}
static int replace_small_on_full_disk(const char *dir) {
    struct err e = {0};
    int code = file_replace(NULL, test_path(dir, "f"), "0123456789", 10, &e);
    return code == ERR_IO && strstr(e.text, "File too large") ? 0 : 1;
}
START_TEST(full_disk_leaves_the_old_file) {
    const char *dir = test_dir();
    test_write(test_path(dir, "f"), "old", 3);
    ck_assert_int_eq(with_full_disk(400000, replace_on_full_disk, dir), 0);
    ck_assert_int_eq(with_full_disk(5, replace_small_on_full_disk, dir), 0);
    file_is(test_path(dir, "f"), "old");
    ck_assert_uint_eq(names_in(dir), 1);
}
END_TEST

START_TEST(writing_without_memory_leaves_the_old_file) {
    const char *dir = test_dir(), *path = test_path(dir, "f");
    for (int for_ever = 0; for_ever < 2; for_ever++)
        for (size_t i = 1;; i++) {
            struct fail_alloc f;
            test_write(path, "old", 3);
            fail_alloc_init(&f, i, for_ever);
            int code = file_replace(&f.a, path, "new", 3, NULL);
            ck_assert_uint_eq(f.live, 0);
            ck_assert_uint_eq(names_in(dir), 1);
            ck_assert_int_eq(code, f.failed ? ERR_NOMEM : 0);
            file_is(path, f.failed ? "old" : "new");
            if (!f.failed) {
                ck_assert_uint_gt(i, 2);
                break;
            }
        }
}
END_TEST

/* ---- folders ---- */

START_TEST(folders_are_made_with_parents_and_removed_with_contents) {
    const char *dir = test_dir(), *deep = test_path(dir, "a//b/c/"), *outside = test_path(dir, "outside");
    struct err e = {0};
    ck_assert_int_eq(dir_make(deep, &e), 0);
    ck_assert_int_eq(dir_make(deep, &e), 0);
    ck_assert(file_is_dir(test_path(dir, "a/b/c")) && file_exists(deep) && !file_exists(outside));
    ck_assert_int_eq(dir_make(outside, &e), 0);
    test_write(test_path(dir, "outside/kept"), "k", 1);
    test_write(test_path(dir, "a/b/file"), "f", 1);
    ck_assert_int_eq(symlink(outside, test_path(dir, "a/b/c/link")), 0);
    ck_assert_int_eq(symlink("nowhere", test_path(dir, "a/dangling")), 0);
    ck_assert_int_eq(dir_remove(test_path(dir, "a"), &e), 0);
    ck_assert(!file_exists(test_path(dir, "a")));
    file_is(test_path(dir, "outside/kept"), "k"); /* links are removed, not followed */
    ck_assert_int_eq(dir_remove(test_path(dir, "a"), &e), 0);
    dir_make(test_path(dir, "outside/kept/x"), &e);
    error_is(&e, ERR_INVALID, "kept exists and is not a folder");
    dir_make("", &e);
    error_is(&e, ERR_INVALID, "needs a name");
    ck_assert(!file_is_dir(test_path(dir, "outside/kept")));
}
END_TEST

START_TEST(names_are_sorted_by_bytes) {
    const char *dir = test_dir();
    static const char *const files[] = {"b", "a", "Z", ".hidden", "\xC3\xA9", "a1", "10", "9"};
    static const char *const sorted[] = {".hidden", "10", "9", "Z", "a", "a1", "b", "\xC3\xA9"};
    char **names;
    size_t n;
    struct err e = {0};
    for (size_t i = 0; i < 8; i++)
        test_write(test_path(dir, files[i]), "", 0);
    for (size_t k = 1;; k++) {
        struct fail_alloc f;
        fail_alloc_init(&f, k, false);
        int code = dir_names(&f.a, dir, &names, &n, NULL);
        if (f.failed)
            ck_assert(code == ERR_NOMEM && names == NULL && n == 0);
        else
            dir_names_free(&f.a, names, n);
        ck_assert_uint_eq(f.live, 0);
        if (!f.failed)
            break;
    }
    ck_assert_int_eq(dir_names(NULL, dir, &names, &n, &e), 0);
    ck_assert_uint_eq(n, 8);
    for (size_t i = 0; i < 8; i++)
        ck_assert_str_eq(names[i], sorted[i]);
    dir_names_free(NULL, names, n);
    dir_names(NULL, test_path(dir, "none"), &names, &n, &e);
    error_is(&e, ERR_NOTFOUND, "none");
}
END_TEST

START_TEST(folders_appear_complete_or_not_at_all) {
    const char *dir = test_dir(), *tmp = test_path(dir, "step-1.tmp"), *final = test_path(dir, "step-1");
    struct err e = {0};
    dir_commit(tmp, final, &e);
    error_is(&e, ERR_NOTFOUND, "step-1.tmp");
    ck_assert_int_eq(dir_make(tmp, &e), 0);
    test_write(test_path(dir, "step-1.tmp/w"), "w", 1);
    ck_assert_int_eq(dir_commit(tmp, final, &e), 0);
    ck_assert(!file_exists(tmp));
    file_is(test_path(dir, "step-1/w"), "w");
    ck_assert_int_eq(dir_make(tmp, &e), 0);
    dir_commit(tmp, final, &e);
    error_is(&e, ERR_BUSY, "step-1: exists already");
    ck_assert(file_is_dir(tmp));
    ck_assert_int_eq(dir_remove(final, &e), 0);
    ck_assert_int_eq(dir_make(final, &e), 0);
    dir_commit(tmp, final, &e); /* an empty folder is not replaced either */
    error_is(&e, ERR_BUSY, "step-1: exists already");
    dir_commit(tmp, test_path(dir, "none/step-1"), &e);
    error_is(&e, ERR_NOTFOUND, "none/step-1");
}
END_TEST

START_TEST(paths_are_joined_with_one_slash) {
    char *p;
    ck_assert_int_eq(file_join(NULL, &p, NULL, "a", "b"), 0);
    ck_assert_str_eq(p, "a/b");
    mem_free(NULL, p);
    ck_assert_int_eq(file_join(NULL, &p, NULL, "a/", "b"), 0);
    ck_assert_str_eq(p, "a/b");
    mem_free(NULL, p);
    ck_assert_int_eq(file_join(NULL, &p, NULL, "", "b"), 0);
    ck_assert_str_eq(p, "b");
    mem_free(NULL, p);
    struct fail_alloc f;
    fail_alloc_init(&f, 1, true);
    ck_assert_int_eq(file_join(&f.a, &p, NULL, "a", "b"), ERR_NOMEM);
    ck_assert_ptr_null(p);
}
END_TEST

/* ---- logs ---- */

START_TEST(torn_last_line_is_cut_off) {
    const char *path = test_path(test_dir(), "log");
    const char *whole = "{\"id\":1}\n{\"id\":2}\n";
    char text[40000];
    /* killed after every number of bytes of the third line; torn parts longer than the block that is searched, too */
    for (size_t torn = 0; torn < 36000; torn += torn < 20 ? 1 : 5000) {
        struct append f;
        struct err e = {0};
        size_t n = strlen(whole);
        memcpy(text, whole, n);
        memset(text + n, 'x', torn);
        test_write(path, text, n + torn);
        ck_assert_int_eq(append_open(&f, NULL, path, &e), 0);
        ck_assert_uint_eq(f.torn, torn);
        file_is(path, whole);
        ck_assert_int_eq(append_line(&f, "{\"id\":3}", 8, &e), 0);
        ck_assert_int_eq(append_close(&f, &e), 0);
        file_is(path, "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n");
    }
    struct append f;
    test_write(path, "no line feed at all", 19);
    ck_assert_int_eq(append_open(&f, NULL, path, NULL), 0);
    ck_assert_uint_eq(f.torn, 19);
    ck_assert_int_eq(append_close(&f, NULL), 0);
    file_is(path, "");
}
END_TEST

START_TEST(lines_are_whole_in_the_file_at_once) {
    const char *path = test_path(test_dir(), "log");
    struct append f;
    struct err e = {0};
    ck_assert_int_eq(append_open(&f, NULL, path, &e), 0);
    ck_assert_uint_eq(f.torn, 0);
    ck_assert_int_eq(append_line(&f, "one", 3, &e), 0);
    file_is(path, "one\n"); /* before any sync */
    ck_assert(f.dirty);
    ck_assert_int_eq(append_line(&f, NULL, 0, &e), 0);
    ck_assert_int_eq(append_sync(&f, &e), 0);
    ck_assert(!f.dirty);
    append_line(&f, "a\nb", 3, &e);
    error_is(&e, ERR_INVALID, "line feed");
    file_is(path, "one\n\n");
    f.synced -= 2; /* as if two seconds had passed */
    ck_assert_int_eq(append_line(&f, "two", 3, &e), 0);
    ck_assert(!f.dirty);
    ck_assert_int_eq(append_truncate(&f, 4, &e), 0);
    ck_assert_int_eq(append_line(&f, "x", 1, &e), 0);
    file_is(path, "one\nx\n");
    append_truncate(&f, 100, &e);
    error_is(&e, ERR_INVALID, "cannot keep 100 bytes of 6");
    ck_assert_int_eq(append_close(&f, &e), 0);
    ck_assert_int_eq(append_close(&f, &e), 0);
    append_line(&f, "x", 1, &e);
    error_is(&e, ERR_INVALID, "not open");
}
END_TEST

START_TEST(one_writer_at_a_time) {
    const char *path = test_path(test_dir(), "log");
    struct append f, g;
    struct err e = {0};
    ck_assert_int_eq(append_open(&f, NULL, path, &e), 0);
    append_open(&g, NULL, path, &e); /* in one process */
    error_is(&e, ERR_BUSY, "log: is being written by another");
    fflush(NULL);
    pid_t pid = fork(); /* and in two */
    if (pid == 0) {
        struct append h;
        _exit(append_open(&h, NULL, path, NULL) == ERR_BUSY ? 0 : 1);
    }
    int status = -1;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(append_line(&f, "still mine", 10, &e), 0);
    ck_assert_int_eq(append_close(&f, &e), 0);
    ck_assert_int_eq(append_open(&g, NULL, path, &e), 0);
    ck_assert_int_eq(append_close(&g, &e), 0);
    file_is(path, "still mine\n");
}
END_TEST

/* A writer killed between lines leaves its lines and no lock. */
START_TEST(killed_writer_leaves_whole_lines_and_no_lock) {
    const char *path = test_path(test_dir(), "log");
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct append f;
        if (append_open(&f, NULL, path, NULL))
            _exit(1);
        for (int i = 0;; i++) {
            append_line(&f, "0123456789", 10, NULL);
            if (i == 100 && write(ends[1], "x", 1) != 1)
                _exit(1);
        }
    }
    char c;
    ck_assert_int_eq(read(ends[0], &c, 1), 1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    struct append f;
    ck_assert_int_eq(append_open(&f, NULL, path, NULL), 0);
    ck_assert_int_eq(append_close(&f, NULL), 0);
    size_t n;
    char *p = test_read(path, &n);
    ck_assert(n >= 101 * 11 && n % 11 == 0);
    for (size_t i = 0; i < n; i += 11)
        ck_assert_int_eq(memcmp(p + i, "0123456789\n", 11), 0);
    free(p);
}
END_TEST

static int append_on_full_disk(const char *dir) {
    struct append f;
    struct err e = {0};
    if (append_open(&f, NULL, test_path(dir, "log"), &e) || append_line(&f, "0123456789", 10, &e))
        return 1;
    if (append_line(&f, "this line is cut by the limit", 29, &e) != ERR_IO || !strstr(e.text, "log"))
        return 2;
    err_clear(&e);
    if (append_line(&f, "fits", 4, &e)) /* the log goes on where the torn line began */
        return 3;
    return append_close(&f, &e) ? 4 : 0;
}
START_TEST(line_that_does_not_fit_is_taken_back) {
    const char *dir = test_dir();
    ck_assert_int_eq(with_full_disk(20, append_on_full_disk, dir), 0);
    file_is(test_path(dir, "log"), "0123456789\nfits\n");
}
END_TEST

START_TEST(logs_in_impossible_places_are_named) {
    const char *dir = test_dir();
    struct append f;
    struct err e = {0};
    append_open(&f, NULL, test_path(dir, "none/log"), &e);
    error_is(&e, ERR_NOTFOUND, "none/log");
    append_open(&f, NULL, dir, &e);
    error_is(&e, ERR_INVALID, "not a regular file");
    append_open(&f, NULL, "/dev/full", &e);
    error_is(&e, ERR_INVALID, "not a regular file");
    struct fail_alloc a;
    fail_alloc_init(&a, 1, true);
    ck_assert_int_eq(append_open(&f, &a.a, test_path(dir, "log"), NULL), ERR_NOMEM);
    ck_assert_int_eq(append_close(&f, &e), 0);
    ck_assert_uint_eq(names_in(dir), 0);
}
END_TEST

/* Calls interrupted by signals are continued: an alarm every half millisecond, without SA_RESTART, while a slow pipe is read. */
static void nothing(int sig) {
    (void)sig;
}
START_TEST(interrupted_calls_are_continued) {
    int ends[2];
    struct lines l;
    struct text t;
    struct err e = {0};
    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 20; i++) {
            usleep(3000);
            if (write(ends[1], "line\n", 5) != 5)
                _exit(1);
        }
        _exit(0);
    }
    close(ends[1]);
    ck_assert_int_eq(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    struct sigaction act = {.sa_handler = nothing};
    struct itimerval every = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    ck_assert_int_eq(sigaction(SIGALRM, &act, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &every, NULL), 0);
    ck_assert_int_eq(lines_open(&l, NULL, "-", 10, &e), 0);
    int n = 0, got;
    while ((got = lines_next(&l, &t, &e)) == 1)
        n++;
    setitimer(ITIMER_REAL, &never, NULL);
    ck_assert_msg(got == 0, "%s", e.text);
    ck_assert_int_eq(n, 20);
    lines_close(&l);
    waitpid(pid, NULL, 0);
}
END_TEST

Suite *core_file_suite(void) {
    Suite *s = suite_create("core/file");
    TCase *t = tcase_create("read");
    tcase_add_test(t, whole_files_are_read_up_to_a_limit);
    tcase_add_test(t, pipes_and_endless_files_are_limited_too);
    tcase_add_test(t, reading_without_memory_is_an_error);
    tcase_add_test(t, maps_are_private);
    tcase_add_test(t, lines_end_at_line_feeds_only);
    tcase_add_test(t, lines_of_any_length_up_to_the_limit);
    tcase_add_test(t, standard_input_is_read_as_it_comes);
    tcase_add_test(t, reading_a_folder_as_lines_is_an_error);
    tcase_add_test(t, interrupted_calls_are_continued);
    suite_add_tcase(s, t);
    t = tcase_create("write");
    tcase_add_test(t, old_file_stands_until_commit);
    tcase_add_test(t, large_and_small_pieces_keep_their_order);
    tcase_add_test(t, two_writers_of_one_file_do_not_meet);
    tcase_add_test(t, links_stay_links);
    tcase_add_test(t, places_that_cannot_be_written_are_named);
    tcase_add_test(t, full_disk_leaves_the_old_file);
    tcase_add_test(t, writing_without_memory_leaves_the_old_file);
    suite_add_tcase(s, t);
    t = tcase_create("folders");
    tcase_add_test(t, folders_are_made_with_parents_and_removed_with_contents);
    tcase_add_test(t, names_are_sorted_by_bytes);
    tcase_add_test(t, folders_appear_complete_or_not_at_all);
    tcase_add_test(t, paths_are_joined_with_one_slash);
    suite_add_tcase(s, t);
    t = tcase_create("append");
    tcase_add_test(t, torn_last_line_is_cut_off);
    tcase_add_test(t, lines_are_whole_in_the_file_at_once);
    tcase_add_test(t, one_writer_at_a_time);
    tcase_add_test(t, killed_writer_leaves_whole_lines_and_no_lock);
    tcase_add_test(t, line_that_does_not_fit_is_taken_back);
    tcase_add_test(t, logs_in_impossible_places_are_named);
    suite_add_tcase(s, t);
    return s;
}
