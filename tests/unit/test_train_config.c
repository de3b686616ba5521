/* run.json: every key with its default, and an error that names the key for everything else. */
#include "test_train.h"

#include "core/json.h"
#include "reasondistill/trainer.h"
#include "train/config.h"
#include "util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MINIMAL "\"model\": \"m\", \"data\": \"d\", \"out\": \"o\""

static const char *write_run(const char *members) {
    struct str s;
    str_init(&s, NULL);
    str_addf(&s, "{%s}", members);
    const char *path = test_path(test_dir(), "run.json");
    test_write(path, s.p, s.n);
    str_free(&s);
    return path;
}

static struct run_config read_good(const char *members) {
    struct run_config c;
    struct err e = {0};
    ck_assert_msg(run_config_read(&c, NULL, write_run(members), &e) == 0, "%s", e.text);
    return c;
}

START_TEST(defaults_are_those_of_the_help) {
    struct run_config c = read_good(MINIMAL);
    ck_assert_str_eq(c.model, "m");
    ck_assert_str_eq(c.tokenizer, "m");
    ck_assert_int_eq(c.steps, 1000);
    ck_assert_double_eq(c.lr, 5e-4);
    ck_assert_double_eq(c.beta2, 0.999);
    ck_assert_int_eq(c.loss.common.kind, RSD_LOSS_KL);
    ck_assert(isnan(c.dropout));
    ck_assert_uint_eq(c.evals.n, 0);
    for (int i = 0; i < 8; i++)
        ck_assert_double_eq(c.formats[i], 0);
    run_config_free(&c);
}
END_TEST

START_TEST(values_are_read_and_printed_again) {
    struct run_config c =
        read_good(MINIMAL ", \"lr\": 0.01, \"schedule\": \"cosine\", \"loss\": \"ce\", \"dropout\": 0.1, \"steps\": 7,"
                          "\"formats\": {\"zs-cot\": 1, \"ic-ao\": 0.5},"
                          "\"eval\": [{\"task\": \"gsm8k\", \"data\": \"f\", \"limit\": 3}]");
    ck_assert_double_eq(c.formats[RSD_FORMAT_ZS_COT], 1);
    ck_assert_double_eq(c.formats[RSD_FORMAT_IC_AO], 0.5);
    ck_assert_str_eq(c.evals.v[0].name, "gsm8k-zs-cot");
    ck_assert_int_eq(c.evals.v[0].limit, 3);
    struct str text;
    struct err e = {0};
    str_init(&text, NULL);
    ck_assert_int_eq(run_config_write(&c, &text, &e), 0);
    const char *path = test_path(test_dir(), "again.json");
    test_write(path, text.p, text.n);
    struct run_config again;
    ck_assert_msg(run_config_read(&again, NULL, path, &e) == 0, "%s", e.text);
    ck_assert_msg(run_config_compare(&c, &again, NULL, &e) == 0, "%s", e.text);
    struct str second;
    str_init(&second, NULL);
    ck_assert_int_eq(run_config_write(&again, &second, &e), 0);
    ck_assert_str_eq(str_z(&text), str_z(&second));
    str_free(&second);
    str_free(&text);
    run_config_free(&again);
    run_config_free(&c);
}
END_TEST

/* Refused with a text that names the file and holds `says`. */
static void refuse(const char *members, const char *says) {
    struct run_config c;
    struct err e = {0};
    ck_assert_int_eq(run_config_read(&c, NULL, write_run(members), &e), ERR_FORMAT);
    ck_assert_msg(strstr(e.text, says) && strstr(e.text, "run.json"), "%s", e.text);
    run_config_free(&c);
}

/* What "loss" is printed as, once read. */
static void loss_is(const char *given, const char *printed) {
    char members[400];
    snprintf(members, sizeof members, MINIMAL ", \"loss\": %s", given);
    struct run_config c = read_good(members);
    struct str text;
    struct err e = {0};
    struct json *doc = NULL;
    str_init(&text, NULL);
    ck_assert_int_eq(run_config_write(&c, &text, &e), 0);
    ck_assert_int_eq(json_parse(text.p, text.n, &doc, &e), 0);
    struct str got;
    struct json_out o;
    str_init(&got, NULL);
    json_begin(&o, &got, 0);
    json_put_value(&o, json_get(doc, "loss"));
    ck_assert_str_eq(str_z(&got), printed);
    str_free(&got);
    str_free(&text);
    json_free(doc);
    run_config_free(&c);
}

START_TEST(loss_is_a_name_options_or_one_for_each_format) {
    loss_is("\"js\"", "\"js\"");
    loss_is("{\"kind\": \"uld\"}", "\"uld\"");
    loss_is("{}", "\"kl\"");
    const char *full = "{\"kind\":\"kl\",\"tail\":\"bucket\",\"alpha\":0.25,\"temperature\":2,\"label_smoothing\":0.1,"
                       "\"unlikelihood\":0.5,\"weight\":3}";
    loss_is(full, full);
    loss_is("{\"zs-cot\": {\"kind\": \"reverse_kl\"}, \"zs-ao\": \"ce\"}", "{\"zs-ao\":\"ce\",\"zs-cot\":\"reverse_kl\"}");
    struct run_config c = read_good(MINIMAL ", \"loss\": {\"ic-cot\": {\"alpha\": 0.5}, \"zs-ao\": \"ce\"}");
    ck_assert(c.loss.own[RSD_FORMAT_IC_COT] && c.loss.own[RSD_FORMAT_ZS_AO] && !c.loss.own[RSD_FORMAT_ZS_COT]);
    ck_assert_double_eq(c.loss.of[RSD_FORMAT_IC_COT].alpha, 0.5);
    ck_assert_int_eq(c.loss.of[RSD_FORMAT_ZS_AO].kind, RSD_LOSS_CE);
    ck_assert(loss_choices_soft(&c.loss));
    run_config_free(&c);
    c = read_good(MINIMAL ", \"loss\": \"ce\"");
    ck_assert(!loss_choices_soft(&c.loss));
    run_config_free(&c);
    refuse(MINIMAL ", \"loss\": {\"temprature\": 2}", "\"temperature\"");
    refuse(MINIMAL ", \"loss\": {\"temperature\": 0}", "key \"temperature\"");
    refuse(MINIMAL ", \"loss\": {\"kind\": \"ce\", \"temperature\": 2}", "key \"loss\": loss ce: it has no temperature");
    refuse(MINIMAL ", \"loss\": {\"zs-ao\": \"ce\", \"zs-xx\": \"kl\"}", "unknown format \"zs-xx\"");
    refuse(MINIMAL ", \"loss\": {\"zs-ao\": {\"tail\": \"bin\"}}", "format zs-ao");
    refuse(MINIMAL ", \"loss\": 3", "found 3");
}
END_TEST

START_TEST(unknown_key_comes_with_the_nearest_known_one) {
    refuse(MINIMAL ", \"batch_token\": 1", "\"batch_tokens\"");
    struct run_config far;
    struct err e = {0};
    ck_assert_int_eq(run_config_read(&far, NULL, write_run(MINIMAL ", \"learning_rate\": 1"), &e), ERR_FORMAT);
    ck_assert_msg(strstr(e.text, "unknown key \"learning_rate\"") && !strstr(e.text, "did you mean"), "%s", e.text);
    run_config_free(&far);
    refuse(MINIMAL ", \"shedule\": \"linear\"", "\"schedule\"");
    refuse(MINIMAL ", \"eval\": [{\"task\": \"bbh\", \"data\": \"f\", \"max_token\": 3}]", "\"max_tokens\"");
    char longest[600];
    strcpy(longest, MINIMAL ", \"");
    memset(longest + strlen(longest), 'x', 400);
    strcpy(longest + strlen(MINIMAL ", \"") + 400, "\": 1");
    refuse(longest, "unknown key \"xxx");
}
END_TEST

START_TEST(wrong_types_say_what_was_expected_and_found) {
    refuse(MINIMAL ", \"steps\": \"many\"", "key \"steps\": expected a whole number from 1 to ");
    refuse(MINIMAL ", \"steps\": 1.5", "found 1.5");
    refuse(MINIMAL ", \"lr\": null", "key \"lr\"");
    refuse(MINIMAL ", \"loss\": \"mse\"", "\"alm\", \"uld\", found \"mse\"");
    refuse(MINIMAL ", \"eval\": {}", "expected an array");
    refuse(MINIMAL ", \"formats\": [\"zs-cot\"]", "expected an object");
    refuse("\"model\": 1, \"data\": \"d\", \"out\": \"o\"", "key \"model\": expected a text");
    refuse("\"model\": \"m\", \"data\": \"\", \"out\": \"o\"", "key \"data\"");
    refuse("\"model\": \"m\\u0000x\", \"data\": \"d\", \"out\": \"o\"", "key \"model\"");
}
END_TEST

START_TEST(values_out_of_range_are_refused) {
    refuse(MINIMAL ", \"steps\": 0", "found 0");
    refuse(MINIMAL ", \"lr\": -1", "key \"lr\"");
    refuse(MINIMAL ", \"beta1\": 1", "key \"beta1\"");
    refuse(MINIMAL ", \"dropout\": 1", "key \"dropout\"");
    refuse(MINIMAL ", \"seed\": 1e300", "key \"seed\"");
    refuse(MINIMAL ", \"formats\": {\"zs\": 1}", "unknown format \"zs\"");
    refuse(MINIMAL ", \"formats\": {\"zs-ao\": 0}", "all weights are 0");
    refuse(MINIMAL ", \"formats\": {\"zs-ao\": -1}", "zs-ao");
}
END_TEST

START_TEST(missing_keys_say_what_they_are_for) {
    refuse("\"model\": \"m\", \"out\": \"o\"", "key \"data\" is missing: data set folder");
}
END_TEST

START_TEST(evaluations_need_names_of_their_own) {
    refuse(MINIMAL ", \"eval\": [{\"task\": \"gsm8k\", \"data\": \"a\"}, {\"task\": \"gsm8k\", \"data\": \"b\"}]",
           "gsm8k-zs-cot");
    refuse(MINIMAL ", \"eval\": [{\"task\": \"gsm8k\", \"data\": \"a\", \"name\": \"../x\"}]", "entry 0");
    struct run_config c = read_good(
        MINIMAL ", \"eval\": [{\"task\": \"gsm8k\", \"data\": \"a\"}, {\"task\": \"gsm8k\", \"data\": \"b\", \"name\": \"b\"}]");
    ck_assert_str_eq(c.evals.v[1].name, "b");
    run_config_free(&c);
}
END_TEST

#define TWO_SETS                                                                                                                 \
    ", \"eval\": [{\"task\": \"gsm8k\", \"data\": \"f\", \"name\": \"a\"}, {\"task\": \"bbh\", \"data\": \"f\", \"kind\": "      \
    "\"ood\", \"name\": "                                                                                                        \
    "\"b\"}, {\"task\": \"jsonl\", \"data\": \"f\", \"kind\": \"seen\", \"name\": \"c\"}]"

START_TEST(watched_are_a_set_a_kind_or_all_that_are_not_trained_on) {
    static const struct {
        const char *key;
        bool watched[3];
    } cases[] = {{"", {true, true, false}},
                 {", \"watch\": \"id\"", {true, false, false}},
                 {", \"watch\": \"ood\"", {false, true, false}},
                 {", \"watch\": \"a\"", {true, false, false}},
                 {", \"watch\": \"c\"", {false, false, true}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1000];
        snprintf(text, sizeof text, MINIMAL TWO_SETS ", \"eval_every\": 1, \"patience\": 2%s", cases[i].key);
        struct run_config c = read_good(text);
        for (size_t k = 0; k < 3; k++)
            ck_assert_int_eq(run_config_watches(&c, &c.evals.v[k]), cases[i].watched[k]);
        run_config_free(&c);
    }
    refuse(MINIMAL TWO_SETS ", \"watch\": \"d\"", "key \"watch\": expected");
    refuse(MINIMAL ", \"watch\": \"id\"", "key \"watch\": expected");
    refuse(MINIMAL TWO_SETS ", \"patience\": 2", "key \"patience\": needs evaluations");
    refuse(MINIMAL ", \"keep_best\": 2, \"eval_every\": 1", "key \"keep_best\": needs evaluations");
    refuse(MINIMAL ", \"eval\": [{\"task\": \"gsm8k\", \"data\": \"f\", \"name\": \"ood\"}]", "stands for all evaluations");
    refuse(MINIMAL ", \"eval\": [{\"task\": \"gsm8k\", \"data\": \"f\", \"kind\": \"in\"}]", "\"id\"");
    refuse(MINIMAL ", \"mix\": \"tokens\"", "\"targets\"");
}
END_TEST

START_TEST(only_keys_that_do_not_touch_the_weights_may_change_in_a_run) {
    struct run_config a = read_good(MINIMAL), b = read_good(MINIMAL ", \"save_every\": 3, \"threads\": 2, \"log_every\": 9"),
                      c = read_good(MINIMAL ", \"lr\": 0.25");
    struct err e = {0};
    ck_assert_int_eq(run_config_compare(&a, &b, NULL, &e), 0);
    ck_assert_int_eq(run_config_compare(&a, &c, NULL, &e), ERR_MISMATCH);
    ck_assert_msg(strstr(e.text, "\"lr\" was 0.0005") && strstr(e.text, "0.25"), "%s", e.text);
    run_config_free(&a);
    run_config_free(&b);
    run_config_free(&c);
}
END_TEST

START_TEST(warm_up_is_steps_or_a_share) {
    static const struct {
        const char *json;
        uint64_t steps;
    } cases[] = {{"0", 0}, {"0.05", 50}, {"0.0004", 0}, {"1", 1}, {"30", 30}, {"5000", 999}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char members[200];
        strcpy(members, MINIMAL ", \"warmup\": ");
        struct run_config c = read_good(strcat(members, cases[i].json));
        ck_assert_uint_eq(run_config_warmup(&c), cases[i].steps);
        run_config_free(&c);
    }
}
END_TEST

START_TEST(help_names_every_key_that_is_printed) {
    struct run_config c = read_good(MINIMAL);
    struct str text, help;
    struct err e = {0};
    struct json *doc = NULL;
    str_init(&text, NULL);
    str_init(&help, NULL);
    ck_assert_int_eq(run_config_write(&c, &text, &e), 0);
    run_config_explain(&help);
    ck_assert_int_eq(json_parse(text.p, text.n, &doc, &e), 0);
    ck_assert_uint_gt(json_count(doc), 25);
    for (const struct json *m = json_first(doc); m; m = json_next(m))
        ck_assert_msg(strstr(str_z(&help), json_key(m).p) != NULL, "%s", json_key(m).p);
    ck_assert_ptr_nonnull(strstr(str_z(&help), "default 0.999"));
    json_free(doc);
    str_free(&text);
    str_free(&help);
    run_config_free(&c);
}
END_TEST

START_TEST(any_allocation_may_fail) {
    const char *path = write_run(MINIMAL ", \"formats\": {\"zs-ao\": 1}, \"eval\": [{\"task\": \"gsm8k\", \"data\": \"a\"}]");
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        struct run_config c;
        struct err e = {0};
        fail_alloc_init(&f, i, false);
        int code = run_config_read(&c, &f.a, path, &e);
        run_config_free(&c);
        ck_assert_uint_eq(f.live, 0);
        if (!f.failed) {
            ck_assert_msg(code == 0, "%s", e.text);
            break;
        }
        ck_assert_int_eq(code, ERR_NOMEM);
    }
}
END_TEST

Suite *train_config_suite(void) {
    Suite *s = suite_create("train_config");
    TCase *c = tcase_create("config");
    tcase_add_test(c, defaults_are_those_of_the_help);
    tcase_add_test(c, values_are_read_and_printed_again);
    tcase_add_test(c, loss_is_a_name_options_or_one_for_each_format);
    tcase_add_test(c, unknown_key_comes_with_the_nearest_known_one);
    tcase_add_test(c, wrong_types_say_what_was_expected_and_found);
    tcase_add_test(c, values_out_of_range_are_refused);
    tcase_add_test(c, missing_keys_say_what_they_are_for);
    tcase_add_test(c, evaluations_need_names_of_their_own);
    tcase_add_test(c, watched_are_a_set_a_kind_or_all_that_are_not_trained_on);
    tcase_add_test(c, only_keys_that_do_not_touch_the_weights_may_change_in_a_run);
    tcase_add_test(c, warm_up_is_steps_or_a_share);
    tcase_add_test(c, help_names_every_key_that_is_printed);
    tcase_add_test(c, any_allocation_may_fail);
    suite_add_tcase(s, c);
    return s;
}
