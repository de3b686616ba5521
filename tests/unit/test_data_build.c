/* Data set folders: what is kept, and that a folder is there as a whole or not at all. */
#include "test_data.h"

#include <stdlib.h>
#include <string.h>

static size_t entries(const char *folder) {
    char **names;
    size_t n;
    ck_assert_int_eq(dir_names(&mem_std, folder, &names, &n, NULL), 0);
    dir_names_free(&mem_std, names, n);
    return n;
}

START_TEST(correct_replies_are_kept) {
    SKIP_WITHOUT_DATA();
    struct world w;
    rsd_build_report r = {.size = sizeof r};
    world_open(&w, 40, true);
    rsd_build_options o = world_options(&w);
    ck_assert_msg(!rsd_dataset_build(w.ctx, &o, &r), "%s", rsd_ctx_error(w.ctx));
    ck_assert_uint_eq(r.questions, 40);
    ck_assert_uint_eq(r.replies, 35);
    ck_assert_uint_eq(r.wrong, 12);
    ck_assert_uint_eq(r.kept, 23);
    ck_assert_uint_eq(entries(w.out), 3);
    rsd_dataset *d = world_dataset(&w, NULL);
    rsd_dataset_info i = {.size = sizeof i};
    ck_assert_int_eq(rsd_dataset_info_get(d, &i), RSD_OK);
    ck_assert_uint_eq(i.replies, 23);
    ck_assert_uint_eq(i.questions, 40);
    rsd_dataset_close(d);
    world_close(&w);
}
END_TEST

START_TEST(replies_without_their_question_are_counted) {
    SKIP_WITHOUT_DATA();
    struct world w;
    rsd_build_report r = {.size = sizeof r};
    world_open(&w, 1, false); /* one reply answers question 1, which is not there */
    rsd_build_options o = world_options(&w);
    o.formats = 1u << RSD_FORMAT_ZS_COT;
    ck_assert_msg(!rsd_dataset_build(w.ctx, &o, &r), "%s", rsd_ctx_error(w.ctx));
    ck_assert_uint_eq(r.no_question, 1);
    ck_assert_uint_eq(r.kept, 34);
    world_close(&w);
}
END_TEST

START_TEST(failed_build_leaves_nothing) {
    SKIP_WITHOUT_DATA();
    struct world w;
    world_open(&w, 3, false); /* three questions cannot show four examples */
    char parent[512];
    strcpy(parent, w.out);
    *strrchr(parent, '/') = 0;
    size_t before = entries(parent);
    rsd_build_options o = world_options(&w);
    ck_assert_int_eq(rsd_dataset_build(w.ctx, &o, NULL), RSD_EINVAL);
    ck_assert_msg(strstr(rsd_ctx_error(w.ctx), "4 examples") != NULL, "%s", rsd_ctx_error(w.ctx));
    o.aligned = NULL;
    ck_assert_int_eq(rsd_dataset_build(w.ctx, &o, NULL), RSD_EINVAL);
    o.aligned = "no such file";
    ck_assert_int_eq(rsd_dataset_build(w.ctx, &o, NULL), RSD_ENOTFOUND);
    o.aligned = w.questions;
    ck_assert_int_eq(rsd_dataset_build(w.ctx, &o, NULL), RSD_EFORMAT);
    ck_assert_uint_eq(entries(parent), before);
    o = world_options(&w);
    o.shots = 2;
    world_build(&w, &o);
    ck_assert_int_eq(rsd_dataset_build(w.ctx, &o, NULL), RSD_EBUSY); /* and what is there stays */
    ck_assert_uint_eq(entries(w.out), 3);
    world_close(&w);
}
END_TEST

START_TEST(answers_alone_need_no_replies) {
    SKIP_WITHOUT_DATA();
    struct world w;
    world_open(&w, 20, false);
    rsd_build_options o = world_options(&w);
    o.aligned = NULL;
    o.formats = 1u << RSD_FORMAT_ZS_AO | 1u << RSD_FORMAT_IC_AO;
    world_build(&w, &o);
    rsd_dataset_options d;
    rsd_dataset_options_init(&d, sizeof d);
    rsd_dataset *set = world_dataset(&w, &d);
    const rsd_batch *batch;
    ck_assert_int_eq(rsd_dataset_batch(set, 0, &batch), RSD_OK);
    rsd_dataset_close(set);
    d.weights[RSD_FORMAT_ZS_COT] = 1;
    ck_assert_int_eq(rsd_dataset_open(w.ctx, w.out, w.tok, &d, &set), RSD_EINVAL);
    ck_assert_msg(strstr(rsd_ctx_error(w.ctx), "zs-cot") != NULL, "%s", rsd_ctx_error(w.ctx));
    world_close(&w);
}
END_TEST

static void expect_open(struct world *w, int code, const char *where) {
    rsd_dataset *d;
    ck_assert_int_eq(rsd_dataset_open(w->ctx, w->out, w->tok, NULL, &d), code);
    ck_assert_ptr_null(d);
    ck_assert_msg(strstr(rsd_ctx_error(w->ctx), where) != NULL, "%s", rsd_ctx_error(w->ctx));
}

START_TEST(damaged_folder_is_refused) {
    SKIP_WITHOUT_DATA();
    struct world w;
    size_t n;
    char path[600];
    world_open(&w, 20, false);
    expect_open(&w, RSD_ENOTFOUND, "DATA");
    world_build(&w, NULL);
    static const char *const names[] = {"aligned.rsd", "questions.rsd", "dataset.json"};
    for (size_t i = 0; i < 3; i++) {
        strcpy(path, test_path(w.out, names[i]));
        char *bytes = test_read(path, &n);
        test_write(path, bytes, n / 2);
        expect_open(&w, RSD_EFORMAT, names[i]);
        test_write(path, bytes, n);
        rsd_dataset_close(world_dataset(&w, NULL));
        if (i == 2) { /* another tokenizer's */
            char *hash = strstr(bytes, "\"tokenizer\": \"");
            ck_assert_ptr_nonnull(hash);
            hash[14] = hash[14] == '0' ? '1' : '0';
            test_write(path, bytes, n);
            expect_open(&w, RSD_EMISMATCH, "tokenizer");
        }
        free(bytes);
    }
    world_close(&w);
}
END_TEST

Suite *data_build_suite(void) {
    Suite *s = suite_create("data build");
    TCase *t = tcase_create("build");
    tcase_add_test(t, correct_replies_are_kept);
    tcase_add_test(t, replies_without_their_question_are_counted);
    tcase_add_test(t, failed_build_leaves_nothing);
    tcase_add_test(t, answers_alone_need_no_replies);
    tcase_add_test(t, damaged_folder_is_refused);
    suite_add_tcase(s, t);
    return s;
}
