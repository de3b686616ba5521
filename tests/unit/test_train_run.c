/* Runs on a tiny model and data set: what they leave on the disk, and that stopping, killing and damage change nothing. */
#include "test_train.h"

#include "core/json.h"
#include "run_fixture.h"
#include "t5/params.h"
#include "tensor/safetensors.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

START_TEST(run_leaves_a_directory_that_opens_as_a_model) {
    struct fix f;
    char lines[100];
    double losses[6];
    open_fix(&f);
    run(&f, write_run(&f, "run", SAVES), 0, 0);
    static const char *const files[] = {"run.json",
                                        "checkpoints/step-2/trainer.json",
                                        "checkpoints/step-4/model.safetensors",
                                        "checkpoints/step-6/config.json",
                                        "checkpoints/step-6/spiece.model",
                                        "checkpoints/step-6/trainer.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        ck_assert_msg(file_exists(test_path(at(&f, "run"), files[i])), "%s", files[i]);
    metrics(&f, "run", lines, losses);
    ck_assert_str_eq(lines, "1 2 3 4 5 6 ");
    for (int i = 0; i < 6; i++)
        ck_assert(losses[i] > 0 && losses[i] < 20);
    rsd_t5 *m = NULL;
    rsd_tokenizer *tok = NULL;
    OK(f.ctx, rsd_t5_open(f.ctx, at(&f, "run/checkpoints/step-6"), &m));
    OK(f.ctx, rsd_tokenizer_open(f.ctx, at(&f, "run/checkpoints/step-6"), &tok));
    rsd_tokenizer_close(tok);
    rsd_t5_close(m);
    close_fix(&f);
}
END_TEST

START_TEST(resumed_run_has_the_bits_of_one_that_was_not_stopped) {
    struct fix f;
    char a[100], b[100], name[8];
    double x[6], y[6];
    open_fix(&f);
    run(&f, write_run(&f, "straight", SAVES), 0, 0);
    metrics(&f, "straight", a, x);
    for (uint64_t k = 1; k < 6; k += 2) {
        sprintf(name, "run%d", (int)k);
        const char *json = write_run(&f, name, SAVES);
        run(&f, json, 0, k);
        run(&f, json, 1, 0);
        same_end(&f, "straight", name);
        metrics(&f, name, b, y);
        ck_assert_str_eq(a, b);
        ck_assert_int_eq(memcmp(x, y, sizeof x), 0);
    }
    close_fix(&f);
}
END_TEST

START_TEST(seed_changes_order_and_dropout) {
    struct fix f;
    char lines[100];
    double x[6], y[6];
    open_fix(&f);
    run(&f, write_run(&f, "one", ", \"seed\": 1"), 0, 0);
    run(&f, write_run(&f, "two", ", \"seed\": 2"), 0, 0);
    metrics(&f, "one", lines, x);
    metrics(&f, "two", lines, y);
    ck_assert(x[0] != y[0] && x[5] != y[5]);
    close_fix(&f);
}
END_TEST

/* One question, the same batch in every step, and a learning rate of 0: only masks can move the loss. */
START_TEST(dropout_masks_differ_from_step_to_step) {
    static const char *const rates[] = {"0", "0.5"};
    struct fix f;
    open_fix_of(&f, 1, RSD_BLAS_LEAVE);
    for (int i = 0; i < 2; i++) {
        char lines[100], more[200];
        double x[6];
        sprintf(more, ", \"lr\": 0, \"accumulate\": 1, \"formats\": {\"zs-ao\": 1}, \"dropout\": %s", rates[i]);
        run(&f, write_run(&f, rates[i], more), 0, 0);
        metrics(&f, rates[i], lines, x);
        for (int k = 1; k < 6; k++)
            ck_assert_msg((x[k] != x[0]) == (i == 1), "dropout %s: %g, then %g", rates[i], x[0], x[k]);
    }
    close_fix(&f);
}
END_TEST

/* Three times the same batch has the mean loss and the mean gradient of one; sums of three are rounded otherwise. */
START_TEST(accumulation_takes_the_mean_over_all_batches) {
    struct fix f;
    char lines[100];
    double x[6], y[6];
    open_fix_of(&f, 1, RSD_BLAS_LEAVE);
    run(&f, write_run(&f, "one", ", \"accumulate\": 1, \"dropout\": 0, \"formats\": {\"zs-cot\": 1}"), 0, 0);
    run(&f, write_run(&f, "three", ", \"accumulate\": 3, \"dropout\": 0, \"formats\": {\"zs-cot\": 1}"), 0, 0);
    metrics(&f, "one", lines, x);
    metrics(&f, "three", lines, y);
    for (int k = 0; k < 6; k++)
        ck_assert_double_eq_tol(x[k], y[k], 1e-3 * x[k]);
    ck_assert(x[5] < x[0]);
    close_fix(&f);
}
END_TEST

START_TEST(number_of_threads_does_not_change_the_bits) {
    struct fix f;
    open_fix_of(&f, 12, RSD_BLAS_OWN);
    run(&f, write_run(&f, "two", ", \"threads\": 2"), 0, 0);
    ck_assert_int_eq(rsd_ctx_threads(f.ctx), 2);
    run(&f, write_run(&f, "one", ", \"threads\": 1"), 0, 0);
    ck_assert_int_eq(rsd_ctx_threads(f.ctx), 1);
    same_end(&f, "one", "two");
    close_fix(&f);
}
END_TEST

START_TEST(killed_run_goes_on_from_its_last_checkpoint) {
    struct fix f;
    char lines[100];
    struct err e = {0};
    open_fix(&f);
    run(&f, write_run(&f, "straight", SAVES), 0, 0);
    const char *json = write_run(&f, "killed", SAVES);
    run_and_die(&f, json, 0, 5); /* saved at 4 */
    ck_assert_int_eq(dir_make(at(&f, "killed/checkpoints/step-5.tmp"), &e), 0);
    test_write(at(&f, "killed/checkpoints/step-5.tmp/model.safetensors"), "half", 4);
    ck_assert_int_eq(dir_make(at(&f, "killed/checkpoints/step-5.tmp.tmp-123"), &e), 0);
    size_t n = 0;
    char *text = test_read(at(&f, "killed/metrics.jsonl"), &n);
    text = realloc(text, n + 40);
    ck_assert_ptr_nonnull(text);
    strcpy(text + n, "{\"x\": 1}\n\n[]\n{\"step\": 6, \"lo");
    test_write(at(&f, "killed/metrics.jsonl"), text, strlen(text));
    free(text);
    metrics(&f, "straight", lines, NULL);

    rsd_trainer *t = NULL;
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 1, &t));
    ck_assert(!file_exists(at(&f, "killed/checkpoints/step-5.tmp")));
    ck_assert(!file_exists(at(&f, "killed/checkpoints/step-5.tmp.tmp-123")));
    metrics(&f, "killed", lines, NULL);
    ck_assert_str_eq(lines, "1 2 3 4 ");
    OK(f.ctx, rsd_trainer_run(t, NULL, NULL));
    rsd_trainer_close(t);
    same_end(&f, "straight", "killed");
    metrics(&f, "killed", lines, NULL);
    ck_assert_str_eq(lines, "1 2 3 4 5 6 ");
    close_fix(&f);
}
END_TEST

/* Damages one file of the newest checkpoint and expects the run to go on from the one before. */
static void damage(const char *file, bool truncate_it) {
    struct fix f;
    open_fix(&f);
    run(&f, write_run(&f, "straight", SAVES), 0, 0);
    const char *json = write_run(&f, "hurt", SAVES);
    run_and_die(&f, json, 0, 5);
    char path[400];
    size_t n = 0;
    strcpy(path, test_path(at(&f, "hurt/checkpoints/step-4"), file));
    char *bytes = test_read(path, &n);
    bytes[n / 2] ^= 1;
    test_write(path, bytes, truncate_it ? n / 2 : n);
    free(bytes);
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 1, &t));
    ck_assert_msg(strstr(f.log, "step-4") && strstr(f.log, file), "%s", f.log);
    OK(f.ctx, rsd_trainer_step(t, &s));
    ck_assert_uint_eq(s.step, 3);
    OK(f.ctx, rsd_trainer_run(t, NULL, NULL));
    rsd_trainer_close(t);
    same_end(&f, "straight", "hurt");
    close_fix(&f);
}

START_TEST(damaged_checkpoint_falls_back_to_the_one_before) {
    damage("model.safetensors", true);
    damage("model.safetensors", false);
    damage("trainer.safetensors", false);
    damage("trainer.json", true);
    damage("spiece.model", false);
}
END_TEST

START_TEST(run_without_checkpoint_starts_again) {
    struct fix f;
    char lines[100];
    open_fix(&f);
    run(&f, write_run(&f, "straight", SAVES), 0, 0);
    const char *json = write_run(&f, "early", SAVES);
    run_and_die(&f, json, 0, 1);
    run(&f, json, 1, 0);
    same_end(&f, "straight", "early");
    metrics(&f, "early", lines, NULL);
    ck_assert_str_eq(lines, "1 2 3 4 5 6 ");
    run(&f, write_run(&f, "fresh", SAVES), 1, 0); /* resume of what does not exist is a start */
    same_end(&f, "straight", "fresh");
    close_fix(&f);
}
END_TEST

START_TEST(directory_of_another_run_is_refused) {
    struct fix f;
    open_fix(&f);
    const char *json = write_run(&f, "run", SAVES);
    run(&f, json, 0, 2);
    refuse(&f, json, 0, RSD_EBUSY, "holds a run");
    refuse(&f, write_run(&f, "run", ", \"clip\": 2"), 1, RSD_EMISMATCH,
           "key \"clip\" was 1 when the run was started and is 2 now");
    refuse(&f, write_run(&f, "run", ", \"steps\": 9"), 1, RSD_EMISMATCH, "\"steps\"");
    run(&f, write_run(&f, "run", ", \"save_every\": 1, \"log_every\": 4"), 1, 0);
    char lines[100];
    metrics(&f, "run", lines, NULL);
    ck_assert_str_eq(lines, "1 2 4 6 "); /* every fourth and the last */
    close_fix(&f);
}
END_TEST

START_TEST(two_processes_do_not_train_in_one_directory) {
    struct fix f;
    rsd_trainer *t = NULL;
    open_fix(&f);
    const char *json = write_run(&f, "run", SAVES);
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 0, &t));
    rsd_ctx *other = fixture_ctx();
    rsd_trainer *second = NULL;
    ck_assert_int_eq(rsd_trainer_open(other, json, 1, &second), RSD_EBUSY);
    rsd_ctx_close(other);
    rsd_trainer_close(t);
    close_fix(&f);
}
END_TEST

START_TEST(data_that_changed_is_refused) {
    struct fix f;
    open_fix(&f);
    const char *json = write_run(&f, "run", SAVES);
    run(&f, json, 0, 2);
    size_t n = 0;
    char *text = test_read(at(&f, "data/dataset.json"), &n);
    text[n] = ' ';
    test_write(at(&f, "data/dataset.json"), text, n + 1);
    free(text);
    refuse(&f, json, 1, RSD_EMISMATCH, "dataset.json");
    close_fix(&f);
}
END_TEST

START_TEST(missing_parts_are_named_and_leave_no_run) {
    struct fix f;
    struct err e = {0};
    open_fix(&f);
    const char *json = write_run(&f, "run", "");
    char moved[400], model[400], data[400];
    strcpy(moved, at(&f, "moved"));
    strcpy(model, at(&f, "model"));
    strcpy(data, at(&f, "data"));
    ck_assert_int_eq(rename(model, moved), 0);
    refuse(&f, json, 0, RSD_ENOTFOUND, "model");
    ck_assert_int_eq(rename(moved, model), 0);
    ck_assert_int_eq(rename(data, moved), 0);
    refuse(&f, json, 0, RSD_ENOTFOUND, "data");
    ck_assert_int_eq(rename(moved, data), 0);
    refuse(&f, at(&f, "nowhere.json"), 0, RSD_ENOTFOUND, "nowhere.json");
    refuse(&f, write_run(&f, "run", ", \"dropuot\": 0"), 0, RSD_EFORMAT, "\"dropout\"");
    refuse(&f, write_run(&f, "run", ", \"eval_every\": 5, \"eval\": [{\"task\": \"gsm8k\", \"data\": \"nowhere.jsonl\"}]"), 0,
           RSD_ENOTFOUND, "gsm8k-zs-cot: nowhere.jsonl");
    ck_assert(!file_exists(at(&f, "run")));

    rsd_t5 *m = NULL;
    ck_assert_int_eq(dir_remove(model, &e), 0);
    fixture_config(at(&f, "config.json"), FIXTURE_VOCAB - 3, "0");
    OK(f.ctx, rsd_t5_create(f.ctx, at(&f, "config.json"), 1, &m));
    OK(f.ctx, rsd_t5_save(m, model, RSD_F32, at(&f, "spiece.model")));
    rsd_t5_close(m);
    refuse(&f, write_run(&f, "run", ""), 0, RSD_EMISMATCH, "158 pieces");
    ck_assert(!file_exists(at(&f, "run")));
    close_fix(&f);
}
END_TEST

START_TEST(old_checkpoints_go) {
    struct fix f;
    char **names = NULL;
    size_t n = 0;
    open_fix(&f);
    run(&f, write_run(&f, "run", ", \"save_every\": 1, \"keep\": 2"), 0, 0);
    ck_assert_int_eq(dir_names(NULL, at(&f, "run/checkpoints"), &names, &n, NULL), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(names[0], "step-5");
    ck_assert_str_eq(names[1], "step-6");
    dir_names_free(NULL, names, n);
    close_fix(&f);
}
END_TEST

START_TEST(full_disk_leaves_the_checkpoint_before_usable) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    open_fix(&f);
    run(&f, write_run(&f, "straight", SAVES), 0, 0);
    const char *json = write_run(&f, "full", SAVES);
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 0, &t));
    while (s.step < 3)
        OK(f.ctx, rsd_trainer_step(t, &s));
    struct rlimit before, small;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    for (rlim_t limit = 2000; limit < 40000; limit += 12000) { /* the disk is full in the model, in the moments */
        small = (struct rlimit){limit, before.rlim_max};
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
        int code = rsd_trainer_save(t);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
        ck_assert_int_eq(code, RSD_EIO);
        ck_assert_msg(strstr(rsd_ctx_error(f.ctx), "the earlier ones are untouched") != NULL, "%s", rsd_ctx_error(f.ctx));
        char **names = NULL;
        size_t n = 0;
        ck_assert_int_eq(dir_names(NULL, at(&f, "full/checkpoints"), &names, &n, NULL), 0);
        ck_assert_uint_eq(n, 1);
        ck_assert_str_eq(names[0], "step-2");
        dir_names_free(NULL, names, n);
    }
    rsd_trainer_close(t);
    run(&f, json, 1, 0);
    same_end(&f, "straight", "full");
    close_fix(&f);
}
END_TEST

/* Makes every weight of one tensor NaN. */
static void spoil(struct fix *f, rsd_t5 *m) {
    rsd_param p = {.size = sizeof p};
    OK(f->ctx, rsd_t5_param(m, 1, &p));
    float *v = malloc(p.count * sizeof *v);
    ck_assert_ptr_nonnull(v);
    for (size_t i = 0; i < p.count; i++)
        v[i] = NAN;
    OK(f->ctx, rsd_t5_param_write(m, 1, v, p.count));
    free(v);
}

START_TEST(steps_without_numbers_are_skipped_a_few_times) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    char lines[100];
    double losses[6];
    open_fix(&f);
    OK(f.ctx, rsd_trainer_open(f.ctx, write_run(&f, "run", ", \"skips\": 2"), 0, &t));
    OK(f.ctx, rsd_trainer_step(t, &s));
    ck_assert(isfinite(s.loss));
    spoil(&f, rsd_trainer_model(t));
    for (int i = 0; i < 2; i++) {
        OK(f.ctx, rsd_trainer_step(t, &s));
        ck_assert(isnan(s.loss));
    }
    ck_assert_msg(strstr(f.log, "step 3 is skipped") != NULL, "%s", f.log);
    ck_assert_int_eq(rsd_trainer_step(t, &s), RSD_ENUMERIC);
    ck_assert_msg(strstr(rsd_ctx_error(f.ctx), "step 4, after 2 skipped") != NULL, "%s", rsd_ctx_error(f.ctx));
    metrics(&f, "run", lines, losses);
    ck_assert_str_eq(lines, "1 2 3 ");
    ck_assert(!isnan(losses[0]) && isnan(losses[2]));
    rsd_trainer_close(t);
    close_fix(&f);
}
END_TEST

START_TEST(bad_gradient_costs_one_step) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    struct mat all = {0};
    open_fix(&f);
    OK(f.ctx, rsd_trainer_open(f.ctx, write_run(&f, "run", ", \"skips\": 1"), 0, &t));
    for (int i = 0; i < 6; i++) { /* every second step: never two in a row */
        if (i % 2) {
            ck_assert_int_eq(params_grads(rsd_trainer_model(t), &all, NULL), 0);
            ((float *)all.data)[0] = INFINITY;
        }
        OK(f.ctx, rsd_trainer_step(t, &s));
        ck_assert(isnan(s.loss) == (i % 2 == 1));
    }
    rsd_trainer_close(t);
    close_fix(&f);
}
END_TEST

START_TEST(skipped_steps_are_counted_across_a_stop) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    open_fix(&f);
    const char *json = write_run(&f, "run", ", \"skips\": 2");
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 0, &t));
    spoil(&f, rsd_trainer_model(t));
    OK(f.ctx, rsd_trainer_step(t, &s));
    OK(f.ctx, rsd_trainer_step(t, &s));
    OK(f.ctx, rsd_trainer_save(t));
    rsd_trainer_close(t);
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 1, &t));
    ck_assert_int_eq(rsd_trainer_step(t, &s), RSD_ENUMERIC);
    rsd_trainer_close(t);
    close_fix(&f);
}
END_TEST

START_TEST(evaluations_are_written_on_the_way_and_at_the_end) {
    struct fix f;
    char more[600];
    open_fix(&f);
    sprintf(more,
            SAVES ", \"eval_every\": 4, \"eval\": [{\"task\": \"jsonl\", \"data\": \"%s/items.jsonl\", \"limit\": 2, "
                  "\"max_tokens\": 3, \"name\": \"dev\", \"kind\": \"seen\"}]",
            f.dir);
    const char *json = write_run(&f, "run", more);
    run(&f, json, 0, 0);
    ck_assert(file_exists(at(&f, "run/eval/step-4-dev.json")));
    ck_assert(file_exists(at(&f, "run/eval/step-6-dev.json")));
    ck_assert(!file_exists(at(&f, "run/eval/step-2-dev.json")));
    run(&f, write_run(&f, "straight", SAVES), 0, 0);
    same_file(&f, "straight", "run", "checkpoints/step-6/model.safetensors"); /* looking does not touch */

    /* A run that goes on from an earlier step writes later evaluations anew. */
    struct err e = {0};
    ck_assert_int_eq(dir_remove(at(&f, "run/checkpoints/step-6"), &e), 0);
    rsd_trainer *t = NULL;
    OK(f.ctx, rsd_trainer_open(f.ctx, write_run(&f, "run", more), 1, &t));
    ck_assert(file_exists(at(&f, "run/eval/step-4-dev.json")));
    ck_assert(!file_exists(at(&f, "run/eval/step-6-dev.json")));
    rsd_trainer_close(t);
    close_fix(&f);
}
END_TEST

START_TEST(loss_falls_for_both_kinds) {
    static const char *const kinds[] = {"ce", "kl"};
    struct fix f;
    open_fix(&f);
    for (int k = 0; k < 2; k++) {
        char more[300];
        rsd_trainer *t = NULL;
        rsd_step s = {.size = sizeof s};
        double first = 0;
        sprintf(more, ", \"loss\": \"%s\", \"steps\": 80, \"warmup\": 2, \"dropout\": 0", kinds[k]);
        OK(f.ctx, rsd_trainer_open(f.ctx, write_run(&f, kinds[k], more), 0, &t));
        while (rsd_trainer_step(t, &s) == RSD_OK)
            if (s.step == 1)
                first = s.loss;
        ck_assert_uint_eq(s.step, 80);
        OK(f.ctx, rsd_trainer_save(t));
        rsd_trainer_close(t);
        double losses[80];
        char lines[400];
        metrics(&f, kinds[k], lines, losses);
        ck_assert_msg(losses[79] < first / 2, "%s: %g, then %g", kinds[k], first, losses[79]);
    }
    close_fix(&f);
}
END_TEST

/* From replies through shard and batches to the student; without cross-entropy, so that chunks or sorted probabilities alone
 * move it. They leave some positions unsaid, and sorted probabilities leave the words open. */
START_TEST(loss_falls_for_chunks_and_sorted_probabilities) {
    static const char *const kinds[] = {"alm", "uld"};
    struct fix f;
    open_fix(&f);
    for (int k = 0; k < 2; k++) {
        char more[300];
        rsd_trainer *t = NULL;
        rsd_step s = {.size = sizeof s};
        sprintf(more,
                ", \"loss\": {\"kind\": \"%s\", \"alpha\": 0}, \"formats\": {\"zs-cot\": 1}, \"steps\": 80, \"warmup\": 2, "
                "\"dropout\": 0",
                kinds[k]);
        OK(f.ctx, rsd_trainer_open(f.ctx, write_run(&f, kinds[k], more), 0, &t));
        while (rsd_trainer_step(t, &s) == RSD_OK)
            continue;
        ck_assert_uint_eq(s.step, 80);
        OK(f.ctx, rsd_trainer_save(t));
        rsd_trainer_close(t);
        double losses[80];
        char lines[400];
        metrics(&f, kinds[k], lines, losses);
        ck_assert_msg(losses[0] > 0.1 && losses[79] < losses[0] / 2, "%s: %g, then %g", kinds[k], losses[0], losses[79]);
    }
    close_fix(&f);
}
END_TEST

START_TEST(configuration_is_printed_with_all_defaults) {
    struct fix f;
    const char *json = NULL;
    open_fix(&f);
    OK(f.ctx, rsd_trainer_print_config(f.ctx, write_run(&f, "run", ""), &json));
    ck_assert_ptr_nonnull(strstr(json, "\"beta2\": 0.999"));
    ck_assert(!file_exists(at(&f, "run")));
    char first[8000];
    ck_assert_uint_lt(strlen(json), sizeof first);
    strcpy(first, json);
    rsd_trainer *t = NULL;
    OK(f.ctx, rsd_trainer_open(f.ctx, at(&f, "run.json"), 0, &t));
    ck_assert_str_eq(rsd_trainer_config(t), first);
    rsd_trainer_close(t);
    char *kept = test_read(at(&f, "run/run.json"), NULL);
    ck_assert_str_eq(kept, first);
    free(kept);
    ck_assert_int_eq(rsd_trainer_print_config(f.ctx, "nowhere.json", &json), RSD_ENOTFOUND);
    OK(f.ctx, rsd_trainer_explain_config(f.ctx, &json));
    ck_assert_ptr_nonnull(strstr(json, "save_every"));
    close_fix(&f);
}
END_TEST

/* One open, one step, one save, with the i-th allocation failing. */
static int work(struct fail_alloc *a, const char *json) {
    rsd_ctx_options o;
    rsd_ctx_options_init(&o, sizeof o);
    o.resize = a->a.resize;
    o.resize_user = a->a.user;
    rsd_ctx *ctx = NULL;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    int code = rsd_ctx_open(&o, &ctx);
    if (!code)
        code = rsd_trainer_open(ctx, json, 0, &t);
    if (!code)
        code = rsd_trainer_step(t, &s);
    if (!code)
        code = rsd_trainer_save(t);
    rsd_trainer_close(t);
    rsd_ctx_close(ctx);
    return code;
}

START_TEST(any_allocation_may_fail) {
    struct fix f;
    struct err e = {0};
    open_fix(&f);
    const char *json = write_run(&f, "run", "");
    for (size_t i = 1;; i += 1 + i / 40) { /* every one of the first, then spot checks */
        struct fail_alloc a;
        fail_alloc_init(&a, i, false);
        int code = work(&a, json);
        ck_assert_uint_eq(a.live, 0);
        ck_assert_int_eq(dir_remove(at(&f, "run"), &e), 0);
        if (!a.failed) {
            ck_assert_int_eq(code, RSD_OK);
            break;
        }
        ck_assert_msg(code == RSD_ENOMEM || code == RSD_OK, "allocation %zu: %d", i,
                      code); /* RSD_OK: what failed was only pruning */
    }
    close_fix(&f);
}
END_TEST

/* Values of keys that choose how weights are kept and updated. */
#define BF16      ", \"dtype\": \"bf16\""
#define ADAFACTOR ", \"optimizer\": \"adafactor\""
#define FUSED     ", \"accumulate\": 1, \"fused\": true, \"clip\": 0"
static const char *const widths[] = {(BF16 ADAFACTOR FUSED ", \"recompute\": true"), (BF16 ", \"masters\": true"),
                                     (BF16 ADAFACTOR ", \"momentum\": 0.9, \"relative_step\": true"
                                                     ", \"freeze\": [\"shared.weight\", \"encoder.*\"]"),
                                     (ADAFACTOR ", \"clip_tensor\": 0.1")};

/* With rounding at random, fused, or with what it freezes: resumed is as never stopped. */
START_TEST(every_width_resumes_to_the_same_bits) {
    struct fix f;
    char more[400];
    open_fix(&f);
    snprintf(more, sizeof more, "%s%s", SAVES, widths[_i]);
    run(&f, write_run(&f, "whole", more), 0, 0);
    run(&f, write_run(&f, "parts", more), 0, 3);
    run(&f, write_run(&f, "parts", more), 1, 0);
    same_file(&f, "whole", "parts", "checkpoints/step-6/model.safetensors");
    same_file(&f, "whole", "parts", "checkpoints/step-6/trainer.safetensors");
    struct safetensors s = {0}, start = {0};
    struct err e = {0};
    ck_assert_int_eq(safetensors_open(&s, &mem_std, at(&f, "whole/checkpoints/step-6/model.safetensors"), &e), 0);
    ck_assert_int_eq(safetensors_open(&start, &mem_std, at(&f, "model/model.safetensors"), &e), 0);
    bool frozen = strstr(more, "freeze") != NULL;
    for (size_t i = 0; i < s.n; i++) {
        ck_assert_int_eq(s.tensors[i].dtype, strstr(more, "bf16") ? DTYPE_BF16 : DTYPE_F32);
        if (frozen) { /* BF16 of what it was, or something else */
            const struct safetensor *was = safetensors_find(&start, s.tensors[i].name);
            unsigned char *half = malloc(was->bytes);
            dtype_convert(half, DTYPE_BF16, was->data, DTYPE_F32, was->count);
            bool still = !strncmp(was->name, "encoder.", 8) || !strcmp(was->name, "shared.weight");
            ck_assert_msg(!memcmp(half, s.tensors[i].data, s.tensors[i].bytes) == still, "%s", was->name);
            free(half);
        }
    }
    safetensors_close(&start);
    safetensors_close(&s);
    ck_assert_int_eq(safetensors_open(&s, &mem_std, at(&f, "whole/checkpoints/step-6/trainer.safetensors"), &e), 0);
    ck_assert(!safetensors_find(&s, "w.lm_head.weight") == !strstr(more, "masters"));
    ck_assert(!safetensors_find(&s, "r.encoder.final_layer_norm.weight") == (!strstr(more, "adafactor") || frozen));
    safetensors_close(&s);
    close_fix(&f);
}
END_TEST

START_TEST(fused_run_stops_at_a_bad_gradient_and_goes_on_from_its_checkpoint) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    open_fix(&f);
    const char *json = write_run(&f, "run", SAVES FUSED);
    OK(f.ctx, rsd_trainer_open(f.ctx, json, 0, &t));
    for (int i = 0; i < 3; i++)
        OK(f.ctx, rsd_trainer_step(t, &s));
    fixture_overflow(f.ctx, rsd_trainer_model(t));
    ck_assert_int_eq(rsd_trainer_step(t, &s), RSD_ENUMERIC);
    const char *text = rsd_ctx_error(f.ctx);
    ck_assert_msg(strstr(text, FIXTURE_OVERFLOWS) && strstr(text, "step 4:") && strstr(text, "checkpoints/step-2"), "%s", text);
    ck_assert_int_eq(rsd_trainer_step(t, &s), RSD_ESTATE);
    ck_assert_int_eq(rsd_trainer_save(t), RSD_ESTATE);
    rsd_trainer_close(t);
    ck_assert(!file_exists(at(&f, "run/checkpoints/step-3")));
    run(&f, json, 1, 0);
    run(&f, write_run(&f, "whole", SAVES FUSED), 0, 0);
    same_file(&f, "whole", "run", "checkpoints/step-6/model.safetensors");
    close_fix(&f);
}
END_TEST

START_TEST(fused_run_passes_over_a_loss_that_is_no_number) {
    struct fix f;
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    size_t norm = 0, n = 0;
    float was[8], bad[8];
    open_fix(&f);
    OK(f.ctx, rsd_trainer_open(f.ctx, write_run(&f, "run", FUSED), 0, &t));
    OK(f.ctx, rsd_trainer_step(t, &s));
    rsd_t5 *m = rsd_trainer_model(t);
    OK(f.ctx, rsd_t5_param_find(m, "decoder.final_layer_norm.weight", &norm));
    OK(f.ctx, rsd_t5_param_read(m, norm, was, 8));
    for (size_t i = 0; i < 8; i++)
        bad[i] = INFINITY;
    OK(f.ctx, rsd_t5_param_write(m, norm, bad, 8));
    float *before = fixture_read(f.ctx, m, 0, &n);
    OK(f.ctx, rsd_trainer_step(t, &s));
    ck_assert_double_nan(s.loss);
    float *after = fixture_read(f.ctx, m, 0, &n);
    ck_assert_int_eq(memcmp(before, after, n * sizeof *before), 0);
    OK(f.ctx, rsd_t5_param_write(m, norm, was, 8)); /* no gradient of the bad pass is left */
    OK(f.ctx, rsd_trainer_step(t, &s));
    ck_assert(isfinite(s.loss) && isfinite(s.grad_norm));
    free(before);
    free(after);
    rsd_trainer_close(t);
    close_fix(&f);
}
END_TEST

START_TEST(fused_runs_refuse_what_needs_all_gradients) {
    struct fix f;
    rsd_trainer *t = NULL;
    open_fix(&f);
    ck_assert_int_eq(rsd_trainer_open(f.ctx, write_run(&f, "run", ", \"fused\": true, \"accumulate\": 1"), 0, &t), RSD_EFORMAT);
    ck_assert_msg(strstr(rsd_ctx_error(f.ctx), "\"clip\" to 0") != NULL, "%s", rsd_ctx_error(f.ctx));
    ck_assert_int_eq(rsd_trainer_open(f.ctx, write_run(&f, "run", ", \"fused\": true, \"clip\": 0"), 0, &t), RSD_EFORMAT);
    ck_assert_msg(strstr(rsd_ctx_error(f.ctx), "\"accumulate\" to 1") != NULL, "%s", rsd_ctx_error(f.ctx));
    ck_assert_int_eq(rsd_trainer_open(f.ctx, write_run(&f, "run", ", \"freeze\": [\"none.such\"]"), 0, &t), RSD_ENOTFOUND);
    ck_assert_int_eq(rsd_trainer_open(f.ctx, write_run(&f, "run", ", \"freeze\": [3]"), 0, &t), RSD_EFORMAT);
    ck_assert_int_eq(rsd_trainer_open(f.ctx, write_run(&f, "run", ", \"fused\": 1"), 0, &t), RSD_EFORMAT);
    ck_assert_msg(strstr(rsd_ctx_error(f.ctx), "true or false") != NULL, "%s", rsd_ctx_error(f.ctx));
    close_fix(&f);
}
END_TEST

Suite *train_run_suite(void) {
    Suite *s = suite_create("train_run");
    TCase *c = tcase_create("run");
    tcase_add_loop_test(c, every_width_resumes_to_the_same_bits, 0, (int)(sizeof widths / sizeof *widths));
    tcase_add_test(c, fused_run_stops_at_a_bad_gradient_and_goes_on_from_its_checkpoint);
    tcase_add_test(c, fused_runs_refuse_what_needs_all_gradients);
    tcase_add_test(c, fused_run_passes_over_a_loss_that_is_no_number);
    tcase_add_test(c, run_leaves_a_directory_that_opens_as_a_model);
    tcase_add_test(c, resumed_run_has_the_bits_of_one_that_was_not_stopped);
    tcase_add_test(c, seed_changes_order_and_dropout);
    tcase_add_test(c, dropout_masks_differ_from_step_to_step);
    tcase_add_test(c, accumulation_takes_the_mean_over_all_batches);
    tcase_add_test(c, number_of_threads_does_not_change_the_bits);
    tcase_add_test(c, killed_run_goes_on_from_its_last_checkpoint);
    tcase_add_test(c, damaged_checkpoint_falls_back_to_the_one_before);
    tcase_add_test(c, run_without_checkpoint_starts_again);
    tcase_add_test(c, directory_of_another_run_is_refused);
    tcase_add_test(c, two_processes_do_not_train_in_one_directory);
    tcase_add_test(c, data_that_changed_is_refused);
    tcase_add_test(c, missing_parts_are_named_and_leave_no_run);
    tcase_add_test(c, old_checkpoints_go);
    tcase_add_test(c, full_disk_leaves_the_checkpoint_before_usable);
    tcase_add_test(c, steps_without_numbers_are_skipped_a_few_times);
    tcase_add_test(c, bad_gradient_costs_one_step);
    tcase_add_test(c, skipped_steps_are_counted_across_a_stop);
    tcase_add_test(c, evaluations_are_written_on_the_way_and_at_the_end);
    tcase_add_test(c, loss_falls_for_both_kinds);
    tcase_add_test(c, loss_falls_for_chunks_and_sorted_probabilities);
    tcase_add_test(c, configuration_is_printed_with_all_defaults);
    tcase_add_test(c, any_allocation_may_fail);
    suite_add_tcase(s, c);
    return s;
}
