/* The context, option structs, status codes. */
#include "util.h"

#include "base/ctx.h"
#include "base/options.h"
#include "reasondistill/reasondistill.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- status codes ---- */

START_TEST(every_status_has_a_text_of_its_own) {
    static const int all[] = {
#define VALUE(name, value, text) name,
        RSD_STATUS_LIST(VALUE)
#undef VALUE
    };
    enum { N = sizeof all / sizeof *all };
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < i; k++) {
            ck_assert_int_ne(all[i], all[k]);
            ck_assert_str_ne(rsd_strerror(all[i]), rsd_strerror(all[k]));
        }
    ck_assert_str_eq(rsd_strerror(-9999), rsd_strerror(9999));
    ck_assert_str_ne(rsd_strerror(-9999), rsd_strerror(RSD_OK));
}
END_TEST

START_TEST(values_of_codes_never_change) {
    ck_assert_int_eq(RSD_OK, 0);
    ck_assert_int_eq(RSD_END, 1);
    ck_assert_int_eq(RSD_EINVAL, -1);
    ck_assert_int_eq(RSD_ENOTFOUND, -10);
    ck_assert_int_eq(RSD_ESTATE, -14);
}
END_TEST

START_TEST(version_of_library_and_headers_agree) {
    char made[32];
    snprintf(made, sizeof made, "%d.%d.%d", RSD_VERSION_MAJOR, RSD_VERSION_MINOR, RSD_VERSION_PATCH);
    ck_assert_str_eq(rsd_version(), RSD_VERSION_STRING);
    ck_assert_str_eq(made, RSD_VERSION_STRING);
}
END_TEST

/* ---- option structs ---- */

START_TEST(options_of_an_older_caller_get_defaults_for_what_they_lack) {
    rsd_ctx_options o, read;
    const rsd_ctx_options defaults = {.size = sizeof defaults, .seed = 7, .threads = 3};
    struct err e = {0};
    memset(&o, 0x55, sizeof o);
    o.size = offsetof(rsd_ctx_options, threads);
    o.seed = 9;
    ck_assert_int_eq(options_read(&read, sizeof read, &defaults, &o, "o", &e), 0);
    ck_assert_uint_eq(read.seed, 9);
    ck_assert_int_eq(read.threads, 3);
    ck_assert_uint_eq(read.size, sizeof read);
}
END_TEST

START_TEST(options_of_a_newer_caller_may_only_hold_zeros_behind_ours) {
    struct {
        rsd_ctx_options o;
        uint64_t later;
    } newer;
    rsd_ctx_options read;
    const rsd_ctx_options defaults = {.size = sizeof defaults, .seed = 7};
    struct err e = {0};
    ck_assert_int_eq(options_init(&newer, sizeof newer, &defaults, sizeof defaults, &e), 0);
    ck_assert_uint_eq(newer.o.size, sizeof newer);
    ck_assert_uint_eq(newer.later, 0);
    ck_assert_int_eq(options_read(&read, sizeof read, &defaults, &newer, "newer", &e), 0);
    ck_assert_uint_eq(read.seed, 7);
    newer.later = (uint64_t)1 << 63;
    ck_assert_int_eq(options_read(&read, sizeof read, &defaults, &newer, "newer", &e), ERR_VERSION);
    ck_assert_ptr_nonnull(strstr(e.text, "newer"));
}
END_TEST

START_TEST(a_struct_that_was_not_filled_is_refused) {
    rsd_ctx_options o = {0};
    rsd_ctx *ctx = NULL;
    ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_EINVAL);
    ck_assert_ptr_null(ctx);
    ck_assert_int_eq(rsd_ctx_options_init(&o, 4), RSD_EINVAL);
    ck_assert_int_eq(rsd_ctx_options_init(NULL, sizeof o), RSD_EINVAL);
}
END_TEST

/* Every public option struct is filled by its own function to the size the caller knows, and not a byte further. */
#define FILLS(type)                                                                                                              \
    do {                                                                                                                         \
        struct {                                                                                                                 \
            type o;                                                                                                              \
            unsigned char behind[8];                                                                                             \
        } room;                                                                                                                  \
        memset(&room, 0xAA, sizeof room);                                                                                        \
        ck_assert_int_eq(type##_init(&room.o, sizeof room.o), RSD_OK);                                                           \
        ck_assert_uint_eq(room.o.size, sizeof room.o);                                                                           \
        ck_assert_uint_eq(room.behind[0], 0xAA);                                                                                 \
        memset(&room, 0xAA, sizeof room);                                                                                        \
        ck_assert_int_eq(type##_init(&room.o, sizeof(size_t)), RSD_OK);                                                          \
        ck_assert_uint_eq(((unsigned char *)&room)[sizeof(size_t)], 0xAA);                                                       \
    } while (0)

START_TEST(init_writes_what_the_caller_knows_and_no_more) {
    FILLS(rsd_ctx_options);
    FILLS(rsd_teacher_options);
    FILLS(rsd_aligner_options);
    FILLS(rsd_build_options);
    FILLS(rsd_dataset_options);
    FILLS(rsd_generate_options);
    FILLS(rsd_loss_options);
    FILLS(rsd_optimizer_options);
    FILLS(rsd_evaluator_options);
}
END_TEST

/* ---- context ---- */

START_TEST(threads_are_ours_only_under_own) {
    rsd_ctx_options o;
    rsd_ctx *ctx = NULL;
    rsd_ctx_options_init(&o, sizeof o);
    o.threads = 3;
    ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_OK);
    ck_assert_int_eq(rsd_ctx_threads(ctx), 1); /* RSD_BLAS_LEAVE */
    rsd_ctx_close(ctx);
    o.blas = RSD_BLAS_OWN;
    ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_OK);
    ck_assert_int_eq(rsd_ctx_threads(ctx), 3);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_backend(ctx), "kernels: "));
    rsd_ctx_close(ctx);
    rsd_ctx_close(NULL);
}
END_TEST

START_TEST(wrong_values_are_refused) {
    rsd_ctx_options o;
    rsd_ctx *ctx = NULL;
    rsd_ctx_options_init(&o, sizeof o);
    o.threads = -1;
    ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_EINVAL);
    rsd_ctx_options_init(&o, sizeof o);
    o.blas = 2;
    ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_EINVAL);
    ck_assert_int_eq(rsd_ctx_open(NULL, NULL), RSD_EINVAL);
}
END_TEST

static void keep_text(void *user, int level, const char *text) {
    ck_assert_int_eq(level, RSD_LOG_ERROR);
    snprintf(user, 256, "%s", text);
}

START_TEST(kernels_are_chosen_by_name_and_an_unknown_name_lists_them) {
    rsd_ctx_options o;
    rsd_ctx *ctx = NULL;
    char text[256] = "";
    size_t n = 0;
    rsd_ctx_options_init(&o, sizeof o);
    o.log = keep_text;
    o.log_user = text;
    for (; (o.kernels = rsd_ctx_kernels(n)) != NULL; n++) {
        ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_OK);
        const char *in_use = strstr(rsd_ctx_backend(ctx), "kernels: cpu ");
        ck_assert_ptr_nonnull(in_use);
        ck_assert_ptr_nonnull(strstr(in_use, strcmp(o.kernels, "blas") ? o.kernels : ", BLAS"));
        rsd_ctx_close(ctx);
    }
    ck_assert_uint_ge(n, 2);
    o.kernels = "abacus";
    ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_EINVAL);
    ck_assert_ptr_null(ctx);
    ck_assert_ptr_nonnull(strstr(text, "kernels \"abacus\""));
    ck_assert_ptr_nonnull(strstr(text, "generic, blas"));
}
END_TEST

START_TEST(the_text_of_an_error_is_that_of_the_last_failure) {
    rsd_ctx *a = NULL, *b = NULL;
    rsd_tokenizer *tok = NULL;
    rsd_t5 *m = NULL;
    ck_assert_int_eq(rsd_ctx_open(NULL, &a), RSD_OK);
    ck_assert_int_eq(rsd_ctx_open(NULL, &b), RSD_OK);
    ck_assert_str_eq(rsd_ctx_error(a), "");
    ck_assert_int_eq(rsd_tokenizer_open(a, "/no/such/tokenizer", &tok), RSD_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(a), "/no/such/tokenizer"));
    ck_assert_str_eq(rsd_ctx_error(b), "");
    ck_assert_int_eq(rsd_t5_open(a, "/no/such/model", &m), RSD_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(a), "/no/such/model"));
    ck_assert_ptr_null(strchr(rsd_ctx_error(a), '\n'));
    rsd_ctx_close(a);
    rsd_ctx_close(b);
}
END_TEST

static void *count_resize(void *user, void *p, size_t size) {
    size_t *live = user;
    if (!p && size)
        ++*live;
    if (p && !size) {
        --*live;
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

START_TEST(memory_comes_from_the_host_and_goes_back) {
    size_t live = 0;
    rsd_ctx_options o;
    rsd_ctx *ctx = NULL;
    rsd_ctx_options_init(&o, sizeof o);
    o.resize = count_resize;
    o.resize_user = &live;
    ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_OK);
    ck_assert_uint_gt(live, 0);
    rsd_ctx_close(ctx);
    ck_assert_uint_eq(live, 0);
}
END_TEST

static void *open_and_close(void *arg) {
    (void)arg;
    for (int i = 0; i < 20; i++) {
        rsd_ctx_options o;
        rsd_ctx *ctx = NULL;
        rsd_ctx_options_init(&o, sizeof o);
        o.blas = RSD_BLAS_OWN;
        o.threads = 2;
        if (rsd_ctx_open(&o, &ctx))
            return "failed";
        rsd_ctx_close(ctx);
    }
    return NULL;
}

START_TEST(contexts_of_several_threads_do_not_meet) {
    pthread_t t[3];
    void *result = NULL;
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, open_and_close, NULL), 0);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(t[i], &result);
        ck_assert_ptr_null(result);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("base");
    TCase *t = tcase_create("status, options, context");
    suite_add_tcase(s, t);
    tcase_add_test(t, every_status_has_a_text_of_its_own);
    tcase_add_test(t, values_of_codes_never_change);
    tcase_add_test(t, version_of_library_and_headers_agree);
    tcase_add_test(t, options_of_an_older_caller_get_defaults_for_what_they_lack);
    tcase_add_test(t, options_of_a_newer_caller_may_only_hold_zeros_behind_ours);
    tcase_add_test(t, a_struct_that_was_not_filled_is_refused);
    tcase_add_test(t, init_writes_what_the_caller_knows_and_no_more);
    tcase_add_test(t, threads_are_ours_only_under_own);
    tcase_add_test(t, wrong_values_are_refused);
    tcase_add_test(t, kernels_are_chosen_by_name_and_an_unknown_name_lists_them);
    tcase_add_test(t, the_text_of_an_error_is_that_of_the_last_failure);
    tcase_add_test(t, memory_comes_from_the_host_and_goes_back);
    tcase_add_test(t, contexts_of_several_threads_do_not_meet);
    return test_run(srunner_create(s));
}
