/* Calls of the operating system fail in turn: the linker puts the functions below in front of the real ones (--wrap). For every N
 * the N-th call fails, and what is under the final name must be the old bytes or the new ones, never a mixture, and the caller
 * must hear of it. */
#include "test_core.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    bool on, crumbs;       /* crumbs: one byte a write, and every other call is interrupted first */
    bool part, for_ever;   /* part: one byte a write; for_ever: all calls after the failing one fail, too */
    size_t count, fail_at; /* from 1 */
    int errnum;
    const char *failed; /* the call that did */
} fault;

static bool fails(const char *call) {
    if (!fault.on)
        return false;
    fault.count++;
    if (fault.crumbs && fault.count % 2 && strcmp(call, "rename") != 0) { /* which is never interrupted */
        errno = EINTR;
        return true;
    }
    if (fault.count != fault.fail_at && !(fault.for_ever && fault.count > fault.fail_at))
        return false;
    fault.failed = call;
    errno = fault.errnum;
    return true;
}

static bool in_crumbs(void) {
    return fault.on && (fault.crumbs || fault.part);
}

#define WRAP(type, name, parameters, arguments)                                                                                  \
    type __real_##name parameters;                                                                                               \
    type __wrap_##name parameters;                                                                                               \
    type __wrap_##name parameters {                                                                                              \
        return fails(#name) ? -1 : __real_##name arguments;                                                                      \
    }

WRAP(int, fsync, (int fd), (fd))
WRAP(int, ftruncate, (int fd, off_t n), (fd, n))
WRAP(int, ftruncate64, (int fd, off_t n), (fd, n))
WRAP(int, rename, (const char *from, const char *to), (from, to))
WRAP(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, in_crumbs() && n ? 1 : n))

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd) { /* the descriptor is gone in any case */
    bool failed = fails("close");
    int errnum = errno, rc = __real_close(fd);
    errno = errnum;
    return failed ? -1 : rc;
}

ssize_t __real_writev(int fd, const struct iovec *v, int n);
ssize_t __wrap_writev(int fd, const struct iovec *v, int n);
ssize_t __wrap_writev(int fd, const struct iovec *v, int n) {
    if (fails("writev"))
        return -1;
    if (in_crumbs())
        for (int i = 0; i < n; i++)
            if (v[i].iov_len)
                return __real_write(fd, v[i].iov_base, 1);
    return __real_writev(fd, v, n);
}

static void arm(size_t fail_at, int errnum, bool crumbs) {
    memset(&fault, 0, sizeof fault);
    fault.on = true;
    fault.fail_at = fail_at;
    fault.errnum = errnum;
    fault.crumbs = crumbs;
}

static bool file_is(const char *path, const char *expected) {
    size_t n;
    char *p = test_read(path, &n);
    bool same = n == strlen(expected) && memcmp(p, expected, n) == 0;
    free(p);
    return same;
}

static size_t names_in(const char *dir) {
    char **names;
    size_t n;
    ck_assert_int_eq(dir_names(NULL, dir, &names, &n, NULL), 0);
    dir_names_free(NULL, names, n);
    return n;
}

START_TEST(replacing_survives_every_failing_call) {
    const char *dir = test_dir(), *path = test_path(dir, "f");
    size_t i;
    for (i = 1;; i++) {
        struct err e = {0};
        test_write(path, "old", 3);
        arm(i, EIO, false);
        int code = file_replace(NULL, path, "new bytes", 9, &e);
        fault.on = false;
        ck_assert_uint_eq(names_in(dir), 1);
        ck_assert(file_is(path, "new bytes") || (code && file_is(path, "old")));
        if (!fault.failed) {
            ck_assert_int_eq(code, 0);
            break;
        }
        /* closing a folder that was read has nothing to lose; all else must be heard of */
        ck_assert_msg(code == ERR_IO || strcmp(fault.failed, "close") == 0, "%s failed unheard", fault.failed);
        ck_assert_int_eq(code, e.code);
        ck_assert_msg(!code || strstr(e.text, "Input/output error"), "%s", e.text);
    }
    ck_assert_uint_ge(i, 7); /* write, fsync, close, rename, fsync and close of the folder, and none */
}
END_TEST

START_TEST(short_and_interrupted_writes_are_continued) {
    const char *dir = test_dir(), *path = test_path(dir, "f"), *log = test_path(dir, "log");
    struct err e = {0};
    struct append f;
    arm(0, 0, true);
    int code = file_replace(NULL, path, "new bytes", 9, &e);
    int opened = append_open(&f, NULL, log, &e);
    int line = append_line(&f, "one line", 8, &e);
    int closed = append_close(&f, &e);
    fault.on = false;
    ck_assert_msg(!code && !opened && !line && !closed, "%s", e.text);
    ck_assert(file_is(path, "new bytes") && file_is(log, "one line\n"));
}
END_TEST

START_TEST(folder_commit_reports_every_failing_call) {
    const char *dir = test_dir(), *tmp = test_path(dir, "x.tmp"), *final = test_path(dir, "x");
    for (size_t i = 1;; i++) {
        struct err e = {0};
        ck_assert_int_eq(dir_remove(final, NULL) + dir_remove(tmp, NULL) + dir_make(tmp, NULL), 0);
        arm(i, EIO, false);
        int code = dir_commit(tmp, final, &e);
        fault.on = false;
        ck_assert(file_is_dir(final) != file_is_dir(tmp));
        ck_assert(code || file_is_dir(final));
        if (!fault.failed)
            break;
        ck_assert_msg(code == ERR_IO || strcmp(fault.failed, "close") == 0, "%s failed unheard", fault.failed);
    }
    /* some file systems cannot sync folders and say so: that is no failure */
    ck_assert_int_eq(dir_remove(final, NULL) + dir_make(tmp, NULL), 0);
    arm(1, EINVAL, false);
    ck_assert_int_eq(dir_commit(tmp, final, NULL), 0);
    ck_assert_str_eq(fault.failed, "fsync");
    fault.on = false;
}
END_TEST

START_TEST(log_keeps_whole_lines_whatever_fails) {
    const char *path = test_path(test_dir(), "log");
    size_t heard = 0, i;
    for (i = 1;; i++) {
        struct append f;
        int codes[4] = {0};
        test_write(path, "first\nto", 8);
        arm(i, EIO, false);
        codes[0] = append_open(&f, NULL, path, NULL);
        if (!codes[0]) {
            codes[1] = append_line(&f, "second", 6, NULL);
            codes[2] = append_sync(&f, NULL);
        }
        codes[3] = append_close(&f, NULL);
        fault.on = false;
        bool all = file_is(path, "first\nsecond\n"), none = file_is(path, "first\n"), untouched = file_is(path, "first\nto");
        bool failed = codes[0] || codes[1] || codes[2] || codes[3];
        ck_assert(all || none || untouched);
        ck_assert(all || codes[0] || codes[1]); /* a line that is not there was refused */
        heard += failed;
        if (!fault.failed)
            break;
        ck_assert_msg(failed || strcmp(fault.failed, "close") == 0, "%s failed unheard", fault.failed);
    }
    ck_assert_uint_ge(heard, 5);
}
END_TEST

/* One byte of a line is written, the rest is not, and that byte cannot be taken back: a further line would be glued to it. */
START_TEST(log_that_cannot_be_repaired_takes_no_more_lines) {
    const char *path = test_path(test_dir(), "log");
    struct append f;
    struct err e = {0};
    ck_assert_int_eq(append_open(&f, NULL, path, NULL), 0);
    arm(2, EIO, false);
    fault.part = fault.for_ever = true;
    ck_assert_int_eq(append_line(&f, "line", 4, &e), ERR_IO);
    fault.on = false;
    ck_assert(file_is(path, "l"));
    ck_assert_int_eq(append_line(&f, "next", 4, NULL), ERR_INVALID);
    ck_assert_int_eq(append_close(&f, NULL), 0);
    ck_assert_int_eq(append_open(&f, NULL, path, NULL), 0);
    ck_assert_uint_eq(f.torn, 1);
    /* where it can be taken back, the log goes on */
    arm(2, ENOSPC, false);
    fault.part = true;
    ck_assert_int_eq(append_line(&f, "line", 4, NULL), ERR_IO);
    fault.on = false;
    ck_assert_int_eq(append_line(&f, "next", 4, NULL), 0);
    ck_assert_int_eq(append_close(&f, NULL), 0);
    ck_assert(file_is(path, "next\n"));
}
END_TEST

Suite *core_io_suite(void) {
    Suite *s = suite_create("core/io");
    TCase *t = tcase_create("faults");
    tcase_add_test(t, replacing_survives_every_failing_call);
    tcase_add_test(t, short_and_interrupted_writes_are_continued);
    tcase_add_test(t, folder_commit_reports_every_failing_call);
    tcase_add_test(t, log_keeps_whole_lines_whatever_fails);
    tcase_add_test(t, log_that_cannot_be_repaired_takes_no_more_lines);
    suite_add_tcase(s, t);
    return s;
}
