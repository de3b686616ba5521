#include "util.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char base[PATH_MAX]; /* holds the folders of all tests; made before Check forks */

static void make_base(void) {
    const char *tmp = getenv("TMPDIR");
    if (!tmp || !*tmp)
        tmp = "/tmp";
    if (snprintf(base, sizeof base, "%s/rsd-test-XXXXXX", tmp) >= (int)sizeof base || !mkdtemp(base)) {
        fprintf(stderr, "no temporary folder can be made in %s\n", tmp);
        exit(1);
    }
}

int test_run(SRunner *runner) {
    make_base();
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
    srunner_free(runner);
    struct err e = {0};
    if (dir_remove(base, &e))
        fprintf(stderr, "%s\n", e.text);
    return failed || !ran; /* a run without tests proves nothing */
}

static char *next_path(void) {
    static char paths[32][PATH_MAX];
    static unsigned turn;
    return paths[turn++ % 32];
}

const char *test_path(const char *dir, const char *name) {
    char *to = next_path();
    ck_assert_int_lt(snprintf(to, PATH_MAX, "%s/%s", dir, name), PATH_MAX);
    return to;
}

const char *test_data(const char *name) {
    const char *pack = getenv("RSD_TEST_DATA");
    if (pack && *pack)
        ck_assert_msg(file_is_dir(pack), "RSD_TEST_DATA is %s, which is not a folder", pack);
    else
        pack = TEST_SOURCE_ROOT "/../shared/data";
    return file_is_dir(pack) ? test_path(pack, name) : NULL;
}

void test_skip(const char *func, const char *why) {
    size_t n = strlen(func);
    if (n > 3 && strcmp(func + n - 3, "_fn") == 0) /* Check's addition to the name */
        n -= 3;
    printf("SKIPPED: %.*s: %s\n", (int)n, func, why);
    fflush(stdout); /* a forked test leaves by _exit */
}

const char *test_dir(void) {
    static char dir[PATH_MAX];
    static unsigned made;
    ck_assert_int_lt(snprintf(dir, sizeof dir, "%s/%ld-%u", base, (long)getpid(), made++), (int)sizeof dir);
    struct err e = {0};
    ck_assert_msg(dir_make(dir, &e) == 0, "%s", e.text);
    return dir;
}

void test_write(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f != NULL, "%s cannot be opened", path);
    ck_assert_uint_eq(fwrite(p, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

char *test_read(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s cannot be opened", path);
    ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    ck_assert_int_ge(size, 0);
    rewind(f);
    char *p = malloc((size_t)size + 1);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq(fread(p, 1, (size_t)size, f), (size_t)size);
    p[size] = 0;
    fclose(f);
    if (n)
        *n = (size_t)size;
    return p;
}

static void *fail_resize(void *user, void *p, size_t size) {
    struct fail_alloc *f = user;
    if (size == 0) {
        if (p)
            f->live--;
        free(p);
        return NULL;
    }
    f->count++;
    if (f->fail_at && (f->count == f->fail_at || (f->for_ever && f->count > f->fail_at))) {
        f->failed++;
        return NULL;
    }
    void *q = realloc(p, size);
    if (!q)
        abort();
    if (!p)
        f->live++;
    return q;
}

void fail_alloc_init(struct fail_alloc *f, size_t fail_at, bool for_ever) {
    *f = (struct fail_alloc){.a = {fail_resize, f}, .fail_at = fail_at, .for_ever = for_ever};
}
