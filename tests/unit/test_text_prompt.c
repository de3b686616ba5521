/* The four formats, to the byte, against samples the reference printed. */
#include "test_text.h"

#include "text/prompt.h"

#include <stdlib.h>
#include <string.h>

static struct str out;

static void begin(void) {
    str_init(&out, &mem_std);
}

static void end(void) {
    str_free(&out);
}

static const struct demo demos[] = {
    {{"How many?", 9}, {"5 x 2 = <<5*2=10>>10 eggs.\n#### 10", 34}, {"10", 2}},
    {{"And now?", 8}, {"", 0}, {"-3", 2}},
};

static const char *const inputs[] = {
    "Q: q? A:",
    "Q: q?\nLet's think step by step",
    "Q: How many?\nA: The answer is 10\n\nQ: And now?\nA: The answer is -3\n\nQ: q?\nA:",
    ("Q: How many?\nLet's think step by step\n5 x 2 = 10 eggs.\nThe answer is 10\n\n"
     "Q: And now?\nLet's think step by step\nThe answer is -3\n\nQ: q?\nLet's think step by step"),
};

START_TEST(inputs_follow_the_templates) {
    ck_assert_int_eq(prompt_input(&out, _i, text_of("q?"), demos, 2, NULL), 0);
    ck_assert_str_eq(str_z(&out), inputs[_i]);
}
END_TEST

static const char *const targets[] = {"The answer is 7", "a\nb\nThe answer is 7", "The answer is 7", "a\nb\nThe answer is 7"};

START_TEST(targets_follow_the_templates) {
    ck_assert_int_eq(prompt_target(&out, _i, text_of("\na\nb \n"), text_of("7"), NULL), 0);
    ck_assert_str_eq(str_z(&out), targets[_i]);
    str_clear(&out);
    ck_assert_int_eq(prompt_target(&out, _i, text_of(" "), text_of("7"), NULL), 0);
    ck_assert_str_eq(str_z(&out), "The answer is 7");
}
END_TEST

START_TEST(formats_have_names_and_no_others_exist) {
    static const char *const names[] = {"zs-ao", "zs-cot", "ic-ao", "ic-cot"};
    for (int i = 0; i < RSD_FORMATS; i++) {
        ck_assert_str_eq(rsd_format_name(i), names[i]);
        ck_assert_int_eq(rsd_format_parse(names[i], strlen(names[i])), i);
    }
    ck_assert_str_eq(rsd_format_name(4), "?");
    ck_assert_str_eq(rsd_format_name(-1), "?");
    ck_assert_int_eq(rsd_format_parse("zs", 2), -1);
    ck_assert_int_eq(rsd_format_parse("zs-cot2", 7), -1);
    ck_assert_int_eq(rsd_format_parse(NULL, 0), -1);
    ck_assert_int_eq(prompt_input(&out, 4, text_of("q"), NULL, 0, NULL), ERR_INVALID);
    ck_assert_int_eq(prompt_target(&out, -1, text_of("q"), text_of("a"), NULL), ERR_INVALID);
}
END_TEST

static const struct {
    const char *raw, *clean;
} solutions[] = {
    {"48/2 = <<48/2=24>>24", "48/2 = 24"},
    {"<<1=1>><<2=2>>x", "x"},
    {"a << b >> c", "a << b >> c"},
    {"a <<1=1", "a <<1=1"},
    {"a <<1\n=1>> b", "a <<1\n=1>> b"},
    {"<<<<1=1>>", "<<"},
    {"x\n#### 5", "x"},
    {"#### 5", ""},
    {" x #### 5 \n", "x #### 5"},
    {"", ""},
};

START_TEST(calculator_marks_and_the_last_line_are_removed) {
    ck_assert_int_eq(solution_clean(&out, text_of(solutions[_i].raw), NULL), 0);
    ck_assert_str_eq(str_z(&out), solutions[_i].clean);
}
END_TEST

START_TEST(the_question_replaces_every_hole_once) {
    struct err e = {0};
    ck_assert_int_eq(prompt_fill(&out, text_of("Q: {question}\n{x} {question}"), text_of("what is {question}?"), &e), 0);
    ck_assert_str_eq(str_z(&out), "Q: what is {question}?\n{x} what is {question}?");
    ck_assert_int_eq(prompt_fill(&out, text_of("no {hole}"), text_of("q"), &e), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.text, "{question}"));
}
END_TEST

START_TEST(a_question_with_other_blanks_is_the_same) {
    ck_assert(demo_is_same(text_of("How many?"), text_of(" How  many?\n")));
    ck_assert(!demo_is_same(text_of("How many?"), text_of("How many")));
    ck_assert(!demo_is_same(text_of("How many"), text_of("How many?")));
}
END_TEST

static struct text keep(const struct json *line, const char *key) {
    struct text t = json_text(json_get(line, key));
    char *p = malloc(t.n + 1);
    memcpy(p, t.p, t.n);
    p[t.n] = 0;
    return (struct text){p, t.n};
}

/* The training part, in memory. */
struct pool_of {
    struct demo *v;
    size_t n;
};

static void collect(const struct json *line, void *user) {
    struct pool_of *p = user;
    p->v[p->n++] = (struct demo){keep(line, "question"), keep(line, "rationale"), keep(line, "answer")};
}

static const struct demo *find_demo(const struct pool_of *p, struct text question) {
    for (size_t i = 0; i < p->n; i++)
        if (text_eq(p->v[i].question, question))
            return &p->v[i];
    return NULL;
}

struct sample_check {
    const struct pool_of *pool;
    size_t checked;
};

/* A printed in-context sample is taken apart at its blank lines; built again from the data set's questions and solutions it
 * must be the same. */
static void rebuild_sample(const struct json *line, void *user) {
    struct sample_check *s = user;
    struct text name = json_text(json_get(line, "format")), printed = json_text(json_get(line, "question"));
    int format = text_is(name, "in_context_chain_of_thought")  ? RSD_FORMAT_IC_COT
                 : text_is(name, "in_context_answer_only")     ? RSD_FORMAT_IC_AO
                 : text_is(name, "zero_shot_chain_of_thought") ? RSD_FORMAT_ZS_COT
                 : text_is(name, "zero_shot_answer_only")      ? RSD_FORMAT_ZS_AO
                                                               : -1;
    if (format < 0)
        return;
    struct demo found[8];
    struct text question = {0};
    size_t n = 0;
    for (size_t i = 0; i + 3 < printed.n; i++) {
        if (memcmp(printed.p + i, "Q: ", 3) || (i && printed.p[i - 1] != '\n'))
            continue;
        size_t from = i + 3, to = from;
        while (to < printed.n && printed.p[to] != '\n')
            to++;
        question = (struct text){printed.p + from, to - from};
        if (format == RSD_FORMAT_ZS_AO)
            question.n -= 3;
        const struct demo *d = find_demo(s->pool, question);
        if (!d || n == 8)
            return; /* an older question text */
        found[n++] = *d;
    }
    if (!n)
        return;
    str_clear(&out);
    ck_assert_int_eq(prompt_input(&out, format, question, found, n - 1, NULL), 0);
    size_t first = 0;
    while (first + 3 < printed.n && memcmp(printed.p + first, "Q: ", 3))
        first++;
    struct text want = {printed.p + first, printed.n - first};
    ck_assert_msg(want.n == out.n && !memcmp(want.p, out.p, out.n), "%s\n---\n%.*s", str_z(&out), (int)want.n, want.p);
    s->checked++;
}

START_TEST(samples_printed_by_the_reference_are_rebuilt) {
    SKIP_WITHOUT_DATA();
    struct pool_of pool = {.v = calloc(8000, sizeof(struct demo))};
    ck_assert_uint_eq(each_line("tasks/gsm8k_train.jsonl", collect, &pool), 7473);
    struct sample_check s = {.pool = &pool};
    each_line("teacher/reference_samples.jsonl", rebuild_sample, &s);
    ck_assert_uint_ge(s.checked, 8);
    for (size_t i = 0; i < pool.n; i++) {
        free((char *)(uintptr_t)pool.v[i].question.p);
        free((char *)(uintptr_t)pool.v[i].solution.p);
        free((char *)(uintptr_t)pool.v[i].answer.p);
    }
    free(pool.v);
}
END_TEST

Suite *text_prompt_suite(void) {
    Suite *s = suite_create("text prompts");
    TCase *c = tcase_create("prompts");
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_loop_test(c, inputs_follow_the_templates, 0, RSD_FORMATS);
    tcase_add_loop_test(c, targets_follow_the_templates, 0, RSD_FORMATS);
    tcase_add_test(c, formats_have_names_and_no_others_exist);
    tcase_add_loop_test(c, calculator_marks_and_the_last_line_are_removed, 0, (int)(sizeof solutions / sizeof *solutions));
    tcase_add_test(c, the_question_replaces_every_hole_once);
    tcase_add_test(c, a_question_with_other_blanks_is_the_same);
    tcase_add_test(c, samples_printed_by_the_reference_are_rebuilt);
    suite_add_tcase(s, c);
    return s;
}
