/* Question files: what is read, what is refused and where. */
#include "test_data.h"

#include <stdlib.h>
#include <string.h>

static int read(struct questions *q, const char *lines, struct err *e) {
    const char *path = test_path(test_dir(), "q.jsonl");
    test_write(path, lines, strlen(lines));
    return questions_read(q, &mem_std, &(struct questions_from){.path = path, .task = TASK_JSONL}, e);
}

START_TEST(lines_are_read) {
    struct questions q;
    struct err e = {0};
    size_t i = 9;
    ck_assert_msg(!read(&q,
                        "{\"id\":\"a\",\"question\":\"How many?\",\"answer\":\"72\",\"rationale\":\"because\",\"source\":\"x\"}\n"
                        "  \n"
                        "{\"id\":\"b\",\"question\":\"\\u0000?\",\"answer\":7.5}\r\n"
                        "{\"id\":\"c\",\"question\":\"q\"}",
                        &e),
                  "%s", e.text);
    ck_assert_uint_eq(q.n, 3);
    ck_assert(text_is(questions_get(&q, 0).rationale, "because"));
    ck_assert(text_is(questions_get(&q, 0).answer, "72"));
    ck_assert_uint_eq(questions_get(&q, 1).question.n, 2);
    ck_assert(text_is(questions_get(&q, 1).answer, "7.5"));
    ck_assert(questions_find(&q, text_of("c"), &i) && i == 2);
    ck_assert(!questions_find(&q, text_of("d"), &i));
    ck_assert_uint_eq(questions_get(&q, 2).answer.n, 0);
    questions_free(&q);
}
END_TEST

START_TEST(bad_lines_are_located) {
    static const char *const bad[] = {"{\"id\":\"a\",\"question\":\"q\"}\n{\"id\":\"a\",\"question\":\"q\"}", /* an id again */
                                      "\n{\"id\":\"\",\"question\":\"q\"}",
                                      "\n{\"id\":\"a\",\"question\":\"\"}",
                                      "\n{\"id\":\"a\"}",
                                      "\n{\"id\":1,\"question\":\"q\"}",
                                      "\n[\"a\"]",
                                      "\n{\"id\":\"a\",\"question\":\"q\",\"answer\":[]}",
                                      "\nnonsense"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct questions q;
        struct err e = {0};
        ck_assert_int_eq(read(&q, bad[i], &e), ERR_FORMAT);
        ck_assert_msg(strstr(e.text, "q.jsonl, line 2") != NULL, "%s", e.text);
    }
}
END_TEST

START_TEST(binary_form_brings_back_the_same) {
    SKIP_WITHOUT_DATA();
    struct questions q, back;
    struct err e = {0};
    const char *path = test_path(test_dir(), "q.rsd");
    ck_assert_msg(!questions_read(&q, &mem_std,
                                  &(struct questions_from){.path = test_data("tasks/gsm8k_test.jsonl"), .task = TASK_GSM8K}, &e),
                  "%s", e.text);
    ck_assert_uint_eq(q.n, 1319);
    ck_assert_msg(!questions_save(&q, path, &e), "%s", e.text);
    ck_assert_msg(!questions_load(&back, &mem_std, path, &e), "%s", e.text);
    ck_assert_uint_eq(back.n, q.n);
    for (size_t i = 0; i < q.n; i++) {
        struct question a = questions_get(&q, i), b = questions_get(&back, i);
        ck_assert(text_eq(a.id, b.id) && text_eq(a.question, b.question) && text_eq(a.answer, b.answer) &&
                  text_eq(a.rationale, b.rationale));
    }
    questions_free(&q);
    questions_free(&back);
}
END_TEST

START_TEST(tasks_are_told_apart_and_kept) {
    struct questions q, back;
    struct err e = {0};
    const char *path = test_path(test_dir(), "q.rsd");
    const uint32_t want[] = {1, 0, 2, 1, 0};
    ck_assert_msg(
        !read(&q,
              "{\"id\":\"a\",\"question\":\"q\",\"task\":\"sort\"}\n{\"id\":\"b\",\"question\":\"q\"}\n"
              "{\"id\":\"c\",\"question\":\"q\",\"task\":\"add\"}\n{\"id\":\"d\",\"question\":\"q\",\"task\":\"sort\"}\n"
              "{\"id\":\"e\",\"question\":\"q\",\"task\":7}\n",
              &e),
        "%s", e.text);
    ck_assert(text_is(questions_task_name(&q, 2), "add") && !questions_task_name(&q, 0).n && !questions_task_name(&q, 3).n);
    ck_assert_int_eq(questions_save(&q, path, &e), 0);
    ck_assert_msg(!questions_load(&back, &mem_std, path, &e), "%s", e.text);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_uint_eq(questions_get(&q, i).task, want[i]);
        ck_assert_uint_eq(questions_get(&back, i).task, want[i]);
    }
    questions_free(&back);
    q.task[4] = 6; /* more tasks than questions: nobody makes room for them */
    ck_assert_int_eq(questions_save(&q, path, &e), 0);
    ck_assert_int_eq(questions_load(&back, &mem_std, path, &e), ERR_FORMAT);
    ck_assert_msg(strstr(e.text, "section tasks: record 4 is not possible") != NULL, "%s", e.text);
    questions_free(&q);
}
END_TEST

START_TEST(damaged_binary_form_is_refused) {
    struct questions q;
    struct err e = {0};
    size_t n;
    char path[512], hurt[512];
    ck_assert_int_eq(read(&q, "{\"id\":\"a\",\"question\":\"q\"}\n", &e), 0);
    const char *dir = test_dir();
    strcpy(path, test_path(dir, "q.rsd"));
    strcpy(hurt, test_path(dir, "hurt.rsd"));
    ck_assert_int_eq(questions_save(&q, path, &e), 0);
    questions_free(&q);
    char *bytes = test_read(path, &n);
    for (size_t k = 0; k < n; k += 3) {
        struct err found = {0};
        bytes[k] = (char)(bytes[k] ^ 4);
        test_write(hurt, bytes, n);
        ck_assert_int_lt(questions_load(&q, &mem_std, hurt, &found), 0);
        ck_assert_ptr_nonnull(strstr(found.text, "hurt.rsd"));
        bytes[k] = (char)(bytes[k] ^ 4);
        test_write(hurt, bytes, k);
        ck_assert_int_lt(questions_load(&q, &mem_std, hurt, NULL), 0);
    }
    free(bytes);
}
END_TEST

Suite *data_questions_suite(void) {
    Suite *s = suite_create("data questions");
    TCase *t = tcase_create("questions");
    tcase_add_test(t, lines_are_read);
    tcase_add_test(t, bad_lines_are_located);
    tcase_add_test(t, binary_form_brings_back_the_same);
    tcase_add_test(t, tasks_are_told_apart_and_kept);
    tcase_add_test(t, damaged_binary_form_is_refused);
    suite_add_tcase(s, t);
    return s;
}
