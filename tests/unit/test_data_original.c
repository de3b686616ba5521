/* The files that benchmarks are published in: read as the data pack's plain lines say, and refused with the place. */
#include "core/json.h"
#include "data/xml.h"
#include "test_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_text(struct questions *q, const char *name, int task, const char *bytes, struct err *e) {
    const char *path = test_path(test_dir(), name);
    test_write(path, bytes, strlen(bytes));
    return questions_read(q, &mem_std, &(struct questions_from){.path = path, .task = task}, e);
}

static void same(const struct questions *a, const struct questions *b) {
    ck_assert_uint_eq(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        struct question x = questions_get(a, i), y = questions_get(b, i);
        ck_assert_msg(text_eq(x.id, y.id), "%.*s, %.*s", (int)x.id.n, x.id.p, (int)y.id.n, y.id.p);
        ck_assert_msg(text_eq(x.question, y.question), "%.*s: %.*s", (int)x.id.n, x.id.p, (int)x.question.n, x.question.p);
        ck_assert_msg(text_eq(x.answer, y.answer), "%.*s: \"%.*s\", \"%.*s\"", (int)x.id.n, x.id.p, (int)x.answer.n, x.answer.p,
                      (int)y.answer.n, y.answer.p);
        ck_assert(text_eq(x.rationale, y.rationale));
    }
}

/* The original against the pack's lines, which other code made of it. */
static void compare(int task, const char *original, const char *lines, size_t n) {
    struct questions a, b;
    struct err e = {0};
    struct questions_from from = {.path = test_data(original), .task = task};
    ck_assert_msg(!questions_read(&a, &mem_std, &from, &e), "%s", e.text);
    from.path = test_data(lines);
    ck_assert_msg(!questions_read(&b, &mem_std, &from, &e), "%s", e.text);
    ck_assert_uint_eq(a.n, n);
    same(&a, &b);
    questions_free(&a);
    from = (struct questions_from){.path = test_data(original), .task = TASK_ANY};
    ck_assert_msg(!questions_read(&a, &mem_std, &from, &e), "%s", e.text); /* told by its looks */
    same(&a, &b);
    questions_free(&a);
    questions_free(&b);
}

START_TEST(gsm8k_lines_give_solution_and_answer) {
    SKIP_WITHOUT_DATA();
    /* the id is made of task, file and number: the original's files are called train and test */
    compare(TASK_GSM8K, "original/gsm8k/train.jsonl", "tasks/gsm8k_train.jsonl", 7473);
    compare(TASK_GSM8K, "original/gsm8k/test.jsonl", "tasks/gsm8k_test.jsonl", 1319);
}
END_TEST

START_TEST(multiarith_array_is_read) {
    SKIP_WITHOUT_DATA();
    compare(TASK_MULTIARITH, "original/MultiArith.json", "tasks/multiarith.jsonl", 600);
}
END_TEST

START_TEST(svamp_array_is_read) {
    SKIP_WITHOUT_DATA();
    compare(TASK_SVAMP, "original/SVAMP.json", "tasks/svamp.jsonl", 1000);
}
END_TEST

START_TEST(asdiv_xml_is_read) {
    SKIP_WITHOUT_DATA();
    compare(TASK_ASDIV, "original/ASDiv.xml", "tasks/asdiv.jsonl", 2305);
}
END_TEST

START_TEST(bbh_objects_are_read) {
    SKIP_WITHOUT_DATA();
    static const char *const tasks[] = {"boolean_expressions",      "causal_judgement", "formal_fallacies",
                                        "multistep_arithmetic_two", "word_sorting",     "salient_translation_error_detection"};
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
        char original[100], lines[100];
        snprintf(original, sizeof original, "original/bbh/%s.json", tasks[i]);
        snprintf(lines, sizeof lines, "tasks/bbh/%s.jsonl", tasks[i]);
        compare(TASK_BBH, original, lines, i == 1 ? 187 : 250);
    }
}
END_TEST

START_TEST(folder_of_bbh_is_read_by_name) {
    SKIP_WITHOUT_DATA();
    struct questions q;
    struct err e = {0};
    struct questions_from from = {.path = test_data("original/bbh"), .task = TASK_BBH, .limit = 3};
    ck_assert_msg(!questions_read(&q, &mem_std, &from, &e), "%s", e.text);
    ck_assert_uint_eq(q.n, 18);
    ck_assert_uint_eq(q.n_groups, 6);
    ck_assert_str_eq(q.groups[5].name, "word_sorting");
    ck_assert_uint_eq(questions_group(&q, 14), 4);
    ck_assert_uint_eq(questions_group(&q, 15), 5);
    ck_assert(text_is(questions_get(&q, 15).id, "bbh-word_sorting-0"));
    questions_free(&q);
    from.task = TASK_SVAMP;
    ck_assert_int_eq(questions_read(&q, &mem_std, &from, &e), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.text, "svamp is one file"));
}
END_TEST

START_TEST(numbers_written_as_text_are_the_same_answers) {
    struct questions q;
    struct err e = {0};
    ck_assert_msg(!read_text(&q, "s.json", TASK_SVAMP,
                             "[{\"ID\":\"1\",\"Body\":\"b\",\"Question\":\"q\",\"Answer\":51.0},"
                             "{\"ID\":\"2\",\"Body\":\"\",\"Question\":\"q\",\"Answer\":0.5},"
                             "{\"ID\":\"3\",\"Body\":\"b\",\"Question\":\"q\",\"Answer\":22090603.0}]",
                             &e),
                  "%s", e.text);
    ck_assert(text_is(questions_get(&q, 0).answer, "51"));
    ck_assert(text_is(questions_get(&q, 0).question, "b q"));
    ck_assert(text_is(questions_get(&q, 1).answer, "0.5"));
    ck_assert(text_is(questions_get(&q, 1).question, "q"));
    ck_assert(text_is(questions_get(&q, 2).answer, "22090603"));
    questions_free(&q);
    ck_assert_msg(
        !read_text(&q, "m.json", TASK_MULTIARITH, "[{\"iIndex\":7,\"sQuestion\":\"  how? \",\"lSolutions\":[39.0, 2.5]}]", &e),
        "%s", e.text);
    ck_assert(text_is(questions_get(&q, 0).id, "multiarith-7"));
    ck_assert(text_is(questions_get(&q, 0).question, " how?"));
    ck_assert(text_is(questions_get(&q, 0).answer, "39; 2.5"));
    questions_free(&q);
}
END_TEST

START_TEST(units_in_brackets_are_no_part_of_an_answer) {
    static const char *const answers[][2] = {{"9 (apples)", "9"},
                                             {"14  (seats)", "14"},
                                             {"-(1/3)", "-(1/3)"},
                                             {"5 (years old); 15 (years; old)", "5; 15"},
                                             {"8 (sq. ft (of wood))", "8"},
                                             {"11; 12; 13", "11; 12; 13"},
                                             {"(a)", "(a)"},
                                             {"3 &gt; 2 &#x41;&#66;", "3 > 2 AB"},
                                             {"<![CDATA[1 & 2]]> x<!-- (c) -->", "1 & 2 x"}};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct questions q;
        struct err e = {0};
        char text[400];
        snprintf(text, sizeof text,
                 "\xEF\xBB\xBF<?xml version='1.0'?>\n<all>\r\n<Problem a='x > y' ID=\"1\"><Body/>"
                 "<Question>one\r\ntwo</Question><Answer>%s</Answer><Formula>1</Formula></Problem></all>\n",
                 answers[i][0]);
        ck_assert_msg(!read_text(&q, "a.xml", TASK_ASDIV, text, &e), "%s", e.text);
        struct question x = questions_get(&q, 0);
        ck_assert_msg(text_is(x.answer, answers[i][1]), "\"%.*s\"", (int)x.answer.n, x.answer.p);
        ck_assert(text_is(x.question, "one\ntwo"));
        ck_assert(text_is(x.id, "asdiv-1"));
        questions_free(&q);
    }
}
END_TEST

START_TEST(what_is_wrong_is_located) {
#define PROBLEM "<P>\n<Problem ID='1'><Body>b</Body>\n<Question>q</Question><Answer>1</Answer></Problem>"
    static const struct {
        int task;
        const char *name, *bytes, *where, *what;
    } bad[] = {
        {TASK_GSM8K, "g.jsonl", "{\"question\":\"q\",\"answer\":\"a\\n#### 1\"}\n{\"question\":\"q\",\"answer\":\"a\"}", "line 2",
         "#### N"},
        {TASK_GSM8K, "g.jsonl", "{\"question\":\"q\",\"answer\":[]}", "line 1", "\"answer\""},
        {TASK_JSONL, "g.jsonl", "{\"question\":\"q\",\"answer\":\"a\\n#### 1\"}", "line 1", "\"id\" is missing"},
        {TASK_SVAMP, "s.json", "[{\"ID\":\"1\",\"Body\":\"b\",\"Question\":\"q\"}, {\"ID\":\"2\",\"Body\":\"b\"}]", "element 1",
         "\"Question\" is missing"},
        {TASK_SVAMP, "s.json",
         "[{\"ID\":\"1\",\"Body\":\"b\",\"Question\":\"q\"}, {\"ID\":\"1\",\"Body\":\"b\",\"Question\":\"q\"}]", "element 1",
         "came before"},
        {TASK_SVAMP, "s.json", "[3]", "element 0", "\"ID\""},
        {TASK_SVAMP, "s.json", "[", "byte 1", "expected"},
        {TASK_SVAMP, "s.json", "[]", "s.json", "no items"},
        {TASK_MULTIARITH, "m.json", "[{\"iIndex\":0,\"sQuestion\":\" q \",\"lSolutions\":1}]", "element 0", "\"lSolutions\""},
        {TASK_MULTIARITH, "m.json", "[{\"iIndex\":0,\"sQuestion\":\" \",\"lSolutions\":[1]}]", "element 0",
         "\"question\" is empty"},
        {TASK_MULTIARITH, "m.json", "[{\"iIndex\":-1,\"sQuestion\":\" q \",\"lSolutions\":[1]}]", "element 0", "\"iIndex\""},
        {TASK_BBH, "b.json", "{\"canary\":\"x\"}", "line 1", "\"id\""},
        {TASK_BBH, "b.json", "{\n\"canary\":\"x\"}", "BIG-Bench-Hard", "\"examples\""},
        {TASK_BBH, "b.json", "{\"examples\":[{\"input\":\"i\",\"target\":\"t\"},{\"target\":\"t\"}]}", "\"examples\", element 1",
         "\"input\""},
        {TASK_BBH, "b.jsonl", "{\"id\":\"1\",\"input\":\"i\",\"target\":\"t\"}\n{", "line 2", "byte 1"},
        {TASK_ANY, "x.json", "[{\"what\":1}]", "element 0", "neither"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n<Problem><Body/></Problem></P>", "line 4", "no attribute ID"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n<Problem ID='2'><Body/></Problem></P>", "line 4", "no <Question>"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n<Problem ID='1'><Body/><Question>q</Question><Answer>1</Answer></Problem></P>", "line 4",
         "came before"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n<Problem ID='2'><Body>a</Body><Body>b</Body>", "line 4", "twice"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n</Q>", "line 4", "</Q> where <P> is open"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n<Q", "line 4", "does not end"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n", "line 4", "ends inside <P>"},
        {TASK_ASDIV, "a.xml", PROBLEM "</P>\n<P></P>", "line 4", "behind the end"},
        {TASK_ASDIV, "a.xml", PROBLEM "</P>\n\nx", "line 5", "outside of the root"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n<Problem ID='2'><Body>a & b</Body></Problem></P>", "line 4", "&amp;"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n<Problem ID='2'><Body>&#0;</Body></Problem></P>", "line 4", "&#number;"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n<Problem ID='2'><Body>\xFF</Body></Problem></P>", "line 4", "0xFF"},
        {TASK_ASDIV, "a.xml", PROBLEM "\n<Problem ID=2></Problem></P>", "line 4", "name=\"value\""},
        {TASK_ASDIV, "a.xml", "<!DOCTYPE p [<!ENTITY a 'b'>]>" PROBLEM "</P>", "line 1", "document types"},
        {TASK_ASDIV, "a.xml", "<P>\n<!-- ", "line 2", "does not end"},
        {TASK_ASDIV, "a.xml", "<html><body/></html>", "line 1", "<Problem>"},
        {TASK_JSONL, "a.xml", PROBLEM "</P>", "line 1", "byte 0"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct questions q;
        struct err e = {0};
        ck_assert_msg(read_text(&q, bad[i].name, bad[i].task, bad[i].bytes, &e) == ERR_FORMAT, "%zu: %s", i, e.text);
        ck_assert_msg(strstr(e.text, bad[i].name) && strstr(e.text, bad[i].where) && strstr(e.text, bad[i].what), "%zu: %s", i,
                      e.text);
    }
}
END_TEST

START_TEST(deep_xml_is_refused) {
    struct questions q;
    struct err e = {0};
    struct str s;
    str_init(&s, NULL);
    for (int i = 0; i < 65; i++)
        str_addz(&s, "<a>");
    ck_assert_int_eq(read_text(&q, "a.xml", TASK_ASDIV, s.p, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.text, "more than 64"));
    str_free(&s);
}
END_TEST

/* Cut anywhere, or with a byte changed: a value or a located error, never anything else. */
START_TEST(torn_and_damaged_files_are_read_or_refused) {
    static const char *const whole[] = {("<P>\n<Problem ID='1'><Body>b &lt; <![CDATA[c]]></Body><!-- d "
                                         "--><Question>q</Question><Answer>1 (m)</Answer></Problem></P>"),
                                        "[{\"ID\":\"1\",\"Body\":\"b\",\"Question\":\"q\",\"Answer\":51.0}]",
                                        "[{\"iIndex\":7,\"sQuestion\":\" how? \",\"lSolutions\":[39.0]}]",
                                        "{\"canary\":\"c\",\"examples\":[{\"input\":\"i\",\"target\":\"t\"}]}",
                                        "{\"question\":\"q\",\"answer\":\"a\\n#### 1\"}\n"};
    static const char values[] = {0, '<', '>', '&', '"', '/', '[', '}', '\xC3', ' '};
    const char *path = test_path(test_dir(), "hurt");
    for (size_t k = 0; k < sizeof whole / sizeof *whole; k++) {
        size_t n = strlen(whole[k]);
        char *bytes = malloc(n);
        memcpy(bytes, whole[k], n);
        for (size_t i = 0; i <= n; i++) {
            for (size_t round = 0; round < 3; round++) {
                struct questions q;
                struct err e = {0};
                size_t v = round ? (i + 5 * round) % sizeof values : sizeof values; /* none: cut */
                char before = i < n ? bytes[i] : 0;
                if (v < sizeof values && i < n)
                    bytes[i] = values[v];
                test_write(path, bytes, v < sizeof values ? n : i);
                int code = questions_read(&q, &mem_std, &(struct questions_from){.path = path, .task = TASK_ANY}, &e);
                ck_assert_msg(code == 0 || (code == ERR_FORMAT && strstr(e.text, "hurt")), "%d %s", code, e.text);
                questions_free(&q);
                if (i < n)
                    bytes[i] = before;
            }
        }
        free(bytes);
    }
}
END_TEST

START_TEST(readers_survive_every_failed_allocation) {
    static const char *const texts[] = {
        "<P><Problem ID='1'><Body>b</Body><Question>q</Question><Answer>1 (m)</Answer></Problem></P>",
        "[{\"ID\":\"1\",\"Body\":\"b\",\"Question\":\"q\",\"Answer\":51.0}]",
        "[{\"iIndex\":7,\"sQuestion\":\" how? \",\"lSolutions\":[39.0]}]", "{\"examples\":[{\"input\":\"i\",\"target\":\"t\"}]}",
        "{\"question\":\"q\",\"answer\":\"a\\n#### 1\"}\n"};
    const char *path = test_path(test_dir(), "q");
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        test_write(path, texts[k], strlen(texts[k]));
        for (size_t i = 1;; i++) {
            struct fail_alloc f;
            struct questions q;
            struct err e = {0};
            fail_alloc_init(&f, i, false);
            int code = questions_read(&q, &f.a, &(struct questions_from){.path = path, .task = TASK_ANY}, &e);
            questions_free(&q);
            ck_assert_uint_eq(f.live, 0);
            if (!f.failed) {
                ck_assert_msg(!code, "%s", e.text);
                break;
            }
            ck_assert_int_eq(code, ERR_NOMEM);
        }
    }
}
END_TEST

Suite *data_original_suite(void) {
    Suite *s = suite_create("data original");
    TCase *t = tcase_create("original");
    tcase_add_test(t, gsm8k_lines_give_solution_and_answer);
    tcase_add_test(t, multiarith_array_is_read);
    tcase_add_test(t, svamp_array_is_read);
    tcase_add_test(t, asdiv_xml_is_read);
    tcase_add_test(t, bbh_objects_are_read);
    tcase_add_test(t, folder_of_bbh_is_read_by_name);
    tcase_add_test(t, numbers_written_as_text_are_the_same_answers);
    tcase_add_test(t, units_in_brackets_are_no_part_of_an_answer);
    tcase_add_test(t, what_is_wrong_is_located);
    tcase_add_test(t, deep_xml_is_refused);
    tcase_add_test(t, torn_and_damaged_files_are_read_or_refused);
    tcase_add_test(t, readers_survive_every_failed_allocation);
    suite_add_tcase(s, t);
    return s;
}
