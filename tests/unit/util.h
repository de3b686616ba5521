/* What unit tests share: the data pack, folders that vanish, an allocator that fails on demand.
 *
 *     START_TEST(golden_ids_are_reproduced) {
 *         SKIP_WITHOUT_DATA();
 *         const char *path = test_data("tokenizer/golden_spm.jsonl");
 *         ...
 *     }
 *     END_TEST
 *
 *     int main(void) {
 *         return test_run(srunner_create(text_suite()));
 *     }
 */
#ifndef TEST_UTIL_H
#define TEST_UTIL_H

#include "core/file.h"

#include <check.h>

/* Runs and frees the runner; the exit status for main. Folders of test_dir are removed, whatever happened. */
int test_run(SRunner *runner);

/* Path of a file of the data pack ($RSD_TEST_DATA, else ../shared/data beside the source), or NULL without a pack.
 * A $RSD_TEST_DATA that is no folder fails the test: nobody sets it in order to skip. "" is the pack itself.
 * Paths stay valid until the 32nd call of test_data and test_path after. */
const char *test_data(const char *name);
/* Prints `SKIPPED: <test>: no data pack`, which tests/run.sh counts. `func` is __func__ of the test. */
void test_skip(const char *func, const char *why);
#define SKIP_WITHOUT_DATA()                                                                                                      \
    do {                                                                                                                         \
        if (!test_data("")) {                                                                                                    \
            test_skip(__func__, "no data pack");                                                                                 \
            return;                                                                                                              \
        }                                                                                                                        \
    } while (0)

/* A fresh empty folder; valid until the next call in this process. Paths in it: test_path. */
const char *test_dir(void);
const char *test_path(const char *dir, const char *name);
void test_write(const char *path, const void *p, size_t n);
/* The file's bytes, terminated, of malloc; fails the test if it cannot be read. */
char *test_read(const char *path, size_t *n);

/* Counts allocations and fails the fail_at-th (from 1; 0: none), and with for_ever all after it. live: blocks not yet freed.
 *     for (size_t i = 1;; i++) {
 *         struct fail_alloc f;
 *         fail_alloc_init(&f, i, false);
 *         int code = work(&f.a, ...);
 *         ck_assert_uint_eq(f.live, 0);
 *         if (!f.failed) break;              the work was done before the i-th allocation
 *         ck_assert_int_eq(code, ERR_NOMEM);
 *     }
 * For one thread; the structure must stay where it is. */
struct fail_alloc {
    struct allocator a;
    size_t count, fail_at, live, failed;
    bool for_ever;
};
void fail_alloc_init(struct fail_alloc *f, size_t fail_at, bool for_ever);

#endif
