/* Numbers in text, the two parsers, and the comparison, case by case and on all real answers. */
#include "test_text.h"

#include "core/rng.h"
#include "text/answer.h"

#include <locale.h>
#include <math.h>
#include <string.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const struct {
    const char *text;
    double last; /* NAN: none */
} numbers[] = {
    {"72", 72},          {"72.", 72},
    {"72.50", 72.5},     {".5", 0.5},
    {"1,200", 1200},     {"1,234,567.25 miles", 1234567.25},
    {"12,34", 34},       {"1,2000", 2000},
    {"5, 15", 15},       {"0,123", 123},
    {"-10", -10},        {"\u221210", -10},
    {"-$5.50", -5.5},    {"$-5", -5},
    {"-\u20ac5", -5},    {"48-2", 2},
    {"48 - 2", 2},       {"= -2", -2},
    {"(3)-2", 2},        {"GPT-4", 4},
    {"--5", 5},          {"5/2", 2.5},
    {"-5/2", -2.5},      {"-(1/3)", -1.0 / 3},
    {"(1/3)", 1.0 / 3},  {"2 1/2", 2.5},
    {"12 24/2", 12},     {"3/4/2023", 2023},
    {"5/0", 0},          {"1e3", 1000},
    {"1.5e-3", 0.0015},  {"2eggs", 2},
    {"3e5x", 5},         {"50%", 50},
    {"3:30 p.m.", 30},   {"1.2.3", 3},
    {"0.1", 0.1},        {"1e999", NAN},
    {"", NAN},           {"no number - at all.", NAN},
    {"\u00bd", 0.5},     {"2\u00bd cups", 2.5},
    {"2 \u00be", 2.75},  {"-\u2153", -1.0 / 3},
    {"1\u20444", 0.25},  {"2 1\u20442", 2.5},
    {"2.5\u00bd", 0.5},  {"\u215e", 0.875},
    {"72 \xff\xfe", 72}, {"123456789012345678901234567890", 123456789012345678901234567890.0},
};

START_TEST(numbers_are_read_as_people_write_them) {
    struct number n = {0};
    bool any = false;
    for (size_t pos = 0; number_next(text_of(numbers[_i].text), &pos, &n);)
        any = true;
    if (isnan(numbers[_i].last))
        ck_assert_msg(!any, "\"%s\" gave %g", numbers[_i].text, n.value);
    else
        ck_assert_msg(any && fabs(n.value - numbers[_i].last) <= 1e-15 * fabs(numbers[_i].last), "\"%s\" gave %.17g",
                      numbers[_i].text, n.value);
}
END_TEST

START_TEST(a_comma_locale_changes_nothing) {
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8"))
        setlocale(LC_ALL, "");
    double v = 0;
    ck_assert(number_whole(text_of("72.5"), &v));
    ck_assert_double_eq(v, 72.5);
    setlocale(LC_ALL, "C");
}
END_TEST

static const struct {
    const char *reply, *gold;
    bool strict, lenient;
} cases[] = {
    /* numbers */
    {"The answer is 72", "72", true, true},
    {"x = 5.\nThe answer is 72.\n\n", "72", true, true},
    {"The answer is 72.00", "72", true, true},
    {"The answer is72", "72", true, true},
    {"The answer is: $1,200.", "1200", true, true},
    {"The answer is 1200 dollars", "1,200", true, true},
    {"The answer is 2,000", "0", false, false},
    {"The answer is -10", "10", false, false},
    {"The answer is -10", "-10", true, true},
    {"The answer is 10", "-10", false, false},
    {"The answer is 5/2", "2.5", true, true},
    {"The answer is 2 1/2 hours", "5/2", true, true},
    {"The answer is -1/3", "-(1/3)", true, true},
    {"The answer is 1/3", "-(1/3)", false, false},
    {"The answer is 50%", "50", true, true},
    {"The answer is 7.2", "72", false, false},
    {"The answer is 720", "72", false, false},
    {"The answer is 71", "72", false, false},
    {"The answer is 48 + 24 = 72 clips", "72", true, true},
    {"The answer is 24 = 48 / 2", "24", false, false},
    {"The answer is 40. The answer is 72", "72", true, true},
    {"The answer is 72\n\nQuestion: how about 5?", "72", true, true},
    {"The answer is\n72", "72", true, true},
    /* only lenient */
    {"the answer is 72", "72", false, true},
    {"So the final ANSWER IS **72**.", "72", false, true},
    {"Answer: 72", "72", false, true},
    {"Some steps.\n#### 72", "72", false, true},
    {"She sold 48 + 24 = 72 clips.", "72", false, true},
    {"72", "72", false, true},
    {"The answer is 72 clips. (She sold 48 in April.)", "72", false, true},
    {"The answer is approx. 72.", "72", true, true},
    /* nothing there */
    {"The answer is", "72", false, false},
    {"The answer is unknown, 5 is wrong", "72", false, false},
    {"", "72", false, false},
    {"The answer is 72", "", false, false},
    {"The answer is ", "", false, false},
    {"", "", false, false},
    {"no", " \n", false, false},
    {"The answer is no number", "####", false, false},
    {"The answer is 5", "a rose", false, false},
    /* gold as GSM8K gives it */
    {"The answer is 72", "48/2=<<48/2=24>>24\n#### 72", true, true},
    {"The answer is 24", "48/2=<<48/2=24>>24\n#### 72", false, false},
    {"The answer is 1200", "x\n#### 1,200", true, true},
    /* text */
    {"The answer is Yes", "yes", true, true},
    {"The answer is yes.", "Yes", true, true},
    {"The answer is no", "Yes", false, false},
    {"The answer is Yes, because 5 > 3.", "Yes", false, true},
    {"So the answer is True.", "True", false, true},
    {"The answer is Mrs Hilt.", "Mrs. Hilt", true, true},
    {"The answer is they are equal", "They are equal", true, true},
    {"The answer is 3:30 pm", "3:30 p.m.", true, true},
    {"The answer is 3:30 p.m.", "3:30 p.m.", true, true},
    {"The answer is 3:30 a.m.", "3:30 p.m.", false, false},
    {"The answer is 3:4", "3:4", true, true},
    {"The answer is 4:3", "3:4", false, false},
    {"The answer is 60th caller", "The 60th caller.", false, false},
    {"invalid", "valid", false, false},
    {"a\nvalid", "valid", false, true},
    /* options */
    {"The answer is (B).", "(B)", true, true},
    {"The answer is (B) 3 dogs", "(B)", false, true},
    {"The answer is B", "(B)", true, true},
    {"The answer is B) three", "(B)", false, true},
    {"The answer is (A), not (B)", "(B)", false, false},
    {"(B)", "(B)", false, true},
    /* brackets */
    {"The answer is ] ) >", "] ) >", true, true},
    {"The answer is ] ) }", "] ) >", false, false},
    /* lists */
    {"The answer is 5; 15; 20", "5; 15; 20", true, true},
    {"The answer is 5, 15 and 20.", "5; 15; 20", true, true},
    {"The answer is 6,000 and 24,000", "6000; 24000", true, true},
    {"The answer is 15; 5; 20", "5; 15; 20", false, false},
    {"The answer is 5; 15", "5; 15; 20", false, false},
    {"The answer is 5; 15; 20; 25", "5; 15; 20", false, false},
};

START_TEST(replies_are_judged) {
    struct text reply = text_of(cases[_i].reply), gold = text_of(cases[_i].gold);
    ck_assert_msg(answer_correct(reply, gold, ANSWER_STRICT) == cases[_i].strict, "strict: \"%s\" for \"%s\"", cases[_i].reply,
                  cases[_i].gold);
    ck_assert_msg(answer_correct(reply, gold, ANSWER_LENIENT) == cases[_i].lenient, "lenient: \"%s\" for \"%s\"", cases[_i].reply,
                  cases[_i].gold);
}
END_TEST

/* What the reference's two functions say of these; not always what is true. */
static const struct {
    const char *reply, *gold;
    bool substring, reasoning, right;
} references[] = {
    {"The answer is 72", "72", false, false, true},
    {"72.0", "72", false, false, true},
    {"The answer is 5,000", "2,000", false, false, true}, /* 0 = 0 */
    {"The answer is 3", "-3", false, false, true},
    {"1.2.3", ".3", false, false, true},
    {"The answer is 5 in 2023", "5", false, false, false},
    {"The answer is 5", "none", false, false, true},
    {"no number", "5", false, false, false},
    {"no number", "none", false, false, false},
    {"(A)", "(A)", true, false, true},
    {"It is not (A) but (B)", "(A)", true, false, true},
    {"The answer is (A)", "(A)", true, true, false}, /* its students were trained to write a capital */
    {"So the answer is (A).", "(A)", true, true, true},
    {"(A). So the answer is (B).", "(A)", true, true, false},
    {"the answer is (B). No, the answer is (A).", "(A)", true, true, false},
    {"the answer is invalid", "valid", true, true, true},
};

START_TEST(the_reference_is_followed_where_it_errs) {
    ck_assert_msg(answer_reference(text_of(references[_i].reply), text_of(references[_i].gold), references[_i].substring,
                                   references[_i].reasoning) == references[_i].right,
                  "\"%s\" for \"%s\"", references[_i].reply, references[_i].gold);
}
END_TEST

static const struct {
    const char *a, *b, *gold;
    bool strict, lenient;
} votes[] = {
    {"The answer is 5", "so 2+3=5. The answer is 5.0", "72", true, true},
    {"The answer is 5", "The answer is 6", "72", false, false},
    {"The answer is unknown", "The answer is unknown", "72", false, false}, /* no number: no vote */
    {"so 5", "The answer is 5", "72", false, true},
    {"The answer is 5; 6", "The answer is 5 and 6", "5; 15; 20", true, true},
    {"The answer is none", "The answer is none", "5; 15; 20", false, false},
    {"The answer is Yes.", "The answer is yes", "No", true, true},
    {"The answer is Yes, it is", "The answer is yes", "No", false, true},
    {"The answer is (B) two dogs", "The answer is (b)", "(A)", false, true},
    {"The answer is (B)", "The answer is (C)", "(A)", false, false},
    {"", "", "No", false, false},
};

START_TEST(votes_for_the_same_answer_are_counted_together) {
    for (int p = ANSWER_STRICT; p <= ANSWER_LENIENT; p++) {
        const enum answer_parser parser = (enum answer_parser)p;
        struct answer a = answer_read(text_of(votes[_i].a), text_of(votes[_i].gold), parser),
                      b = answer_read(text_of(votes[_i].b), text_of(votes[_i].gold), parser);
        bool want = p == ANSWER_STRICT ? votes[_i].strict : votes[_i].lenient;
        ck_assert_msg(answer_same(a, b, parser) == want && answer_same(b, a, parser) == want, "parser %d: \"%s\", \"%s\"", p,
                      votes[_i].a, votes[_i].b);
    }
}
END_TEST

START_TEST(the_stated_answer_is_shown_as_written) {
    struct text a;
    ck_assert(answer_find(text_of("x\nThe answer is: $1,200 .\ny"), ANSWER_STRICT, &a));
    ck_assert(text_is(a, "$1,200"));
    ck_assert(!answer_find(text_of("the answer is 5"), ANSWER_STRICT, &a));
    ck_assert(answer_find(text_of("a\n (C)\n"), ANSWER_LENIENT, &a));
    ck_assert(text_is(a, "(C)"));
    ck_assert(!answer_find(text_of(" \n"), ANSWER_LENIENT, &a));
}
END_TEST

static const struct {
    const char *reply, *cut;
} cuts[] = {
    {"a\nThe answer is 5\n\nQuestion", "a\nThe answer is 5"},
    {"answer is 1 answer is 2\nanswer is 3", "answer is 1 answer is 2"},
    {"no such line\nhere", "no such line\nhere"},
    {"The answer is", "The answer is"},
    {"", ""},
};

START_TEST(replies_are_cut_after_the_first_answer_line) {
    ck_assert(text_is(answer_cut(text_of(cuts[_i].reply)), cuts[_i].cut));
}
END_TEST

START_TEST(bare_answers_are_compared) {
    ck_assert(answer_equal(text_of("72.0"), text_of("72")));
    ck_assert(answer_equal(text_of("$1,200"), text_of("1200")));
    ck_assert(answer_equal(text_of("yes"), text_of("Yes.")));
    ck_assert(!answer_equal(text_of(""), text_of("")));
    ck_assert(!answer_equal(text_of("72 or 5"), text_of("72")));
}
END_TEST

START_TEST(any_bytes_are_taken) {
    static const char parts[] = "0123456789.,-/()$ \n%e#;:\xe2\x82\xac\x88\x92\xff\x00"
                                "answer is The";
    struct rng r = rng_make(9, 0);
    char s[64];
    for (int round = 0; round < 60000; round++) {
        struct text t = {s, rng_below(&r, sizeof s)}, gold = {s, t.n ? rng_below(&r, t.n) : 0}, a;
        for (size_t i = 0; i < t.n; i++)
            s[i] = parts[rng_below(&r, sizeof parts)];
        if (t.n > 14 && round % 2)
            memcpy(s, "The answer is", 13);
        struct number n;
        size_t before = 0;
        for (size_t pos = 0; number_next(t, &pos, &n); before = pos) {
            ck_assert(n.begin < n.end && n.end == pos && pos > before && pos <= t.n);
            ck_assert(isfinite(n.value));
        }
        for (int p = ANSWER_STRICT; p <= ANSWER_LENIENT; p++) {
            if (answer_find(t, (enum answer_parser)p, &a))
                ck_assert(a.n > 0 && a.p >= s && a.p + a.n <= s + t.n);
            answer_correct(t, gold, (enum answer_parser)p);
        }
    }
}
END_TEST

static void check_gsm8k(const struct json *line, void *user) {
    struct text answer = json_text(json_get(line, "answer")), rationale = json_text(json_get(line, "rationale"));
    struct str *s = user;
    double got = 0, want = 0;
    str_clear(s);
    str_add(s, rationale.p, rationale.n);
    str_addz(s, "\n#### ");
    str_add(s, answer.p, answer.n);
    struct text full = {str_z(s), s->n};
    ck_assert(number_whole(answer, &want));
    ck_assert(answer_number(full, ANSWER_LENIENT, &got));
    ck_assert_double_eq(got, want);
    ck_assert(text_eq(answer_gold(full), answer));
    ck_assert(answer_correct(full, answer, ANSWER_LENIENT));
}

START_TEST(all_gsm8k_answers_are_found_in_their_solutions) {
    SKIP_WITHOUT_DATA();
    struct str s;
    str_init(&s, &mem_std);
    ck_assert_uint_eq(each_line("tasks/gsm8k_train.jsonl", check_gsm8k, &s), 7473);
    ck_assert_uint_eq(each_line("tasks/gsm8k_test.jsonl", check_gsm8k, &s), 1319);
    str_free(&s);
}
END_TEST

struct previous {
    struct str answer, said;
    size_t different;
};

/* A reply with this line's answer is right for this line and wrong for a line with another answer. */
static void check_task(const struct json *line, void *user) {
    struct previous *p = user;
    const struct json *target = json_get(line, "answer") ? json_get(line, "answer") : json_get(line, "target");
    struct text gold = json_text(target), before = {str_z(&p->answer), p->answer.n};
    str_clear(&p->said);
    str_addz(&p->said, "Some steps.\nThe answer is ");
    str_add(&p->said, gold.p, gold.n);
    struct text said = {str_z(&p->said), p->said.n};
    for (int parser = ANSWER_STRICT; parser <= ANSWER_LENIENT; parser++) {
        ck_assert_msg(answer_correct(said, gold, (enum answer_parser)parser), "parser %d: %s", parser, said.p);
        if (before.n && !answer_equal(gold, before) && !answer_equal(before, gold)) {
            double last = 0, was = 0;
            bool same_end =
                number_whole(before, &was) && answer_number(said, ANSWER_STRICT, &last) && !(last < was) && !(last > was);
            ck_assert_msg(same_end || !answer_correct(said, before, (enum answer_parser)parser), "parser %d: %s for %s", parser,
                          said.p, before.p);
            p->different++;
        }
    }
    str_clear(&p->answer);
    str_add(&p->answer, gold.p, gold.n);
}

START_TEST(all_task_answers_are_right_for_themselves_only) {
    SKIP_WITHOUT_DATA();
    static const char *const files[] = {"tasks/asdiv.jsonl", "tasks/svamp.jsonl", "tasks/multiarith.jsonl",
                                        "tasks/gsm8k_test.jsonl", "tasks/gsm8k_train.jsonl"};
    struct previous p = {0};
    str_init(&p.answer, &mem_std);
    str_init(&p.said, &mem_std);
    size_t n = 0, tasks = 0, names = 0;
    for (int i = 0; i < COUNT(files); i++)
        n += each_line(files[i], check_task, &p);
    ck_assert_uint_eq(n, 2305 + 1000 + 600 + 1319 + 7473);
    char **name = NULL;
    ck_assert_int_eq(dir_names(NULL, test_data("tasks/bbh"), &name, &names, NULL), 0);
    for (size_t i = 0; i < names; i++) {
        char path[300] = "tasks/bbh/";
        tasks += each_line(strncat(path, name[i], sizeof path - 20), check_task, &p);
    }
    ck_assert_uint_eq(names, 27);
    ck_assert_uint_eq(tasks, 6511);
    ck_assert_uint_gt(p.different, 20000);
    dir_names_free(NULL, name, names);
    str_free(&p.answer);
    str_free(&p.said);
}
END_TEST

static void check_codex(const struct json *line, void *user) {
    struct text reply = json_text(json_get(json_first(json_get(line, "choices")), "text")),
                gold = json_text(json_get(line, "gold_answer"));
    double correct = json_number(json_get(json_get(line, "meta"), "correct"));
    bool is_true = json_type(json_get(json_get(line, "meta"), "correct")) == JSON_BOOL
                       ? json_bool(json_get(json_get(line, "meta"), "correct"))
                       : correct > 0;
    ck_assert(gold.n > 0);
    ck_assert_int_eq(answer_correct(reply, gold, ANSWER_STRICT), is_true);
    ck_assert_int_eq(answer_correct(answer_cut(reply), gold, ANSWER_LENIENT), is_true);
    ++*(size_t *)user;
}

START_TEST(real_replies_are_labelled_as_recorded) {
    SKIP_WITHOUT_DATA();
    size_t n = 0;
    each_line("teacher/codex_gsm8k_top5.jsonl", check_codex, &n);
    ck_assert_uint_eq(n, 35);
}
END_TEST

/* Real chains of thought end in "So the answer is X.": what each parser makes of them. */
struct tally {
    size_t n[2], right[2][3]; /* answer only, chain of thought; strict, lenient, reference */
};

static void check_bbh_reply(const struct json *line, void *user) {
    struct tally *t = user;
    struct text reply = json_text(json_get(line, "prediction")), gold = json_text(json_get(line, "target"));
    bool cot =
        text_is(json_text(json_get(line, "mode")), "cot") || text_is(json_text(json_get(line, "mode")), "chain of thought");
    t->n[cot]++;
    t->right[cot][0] += answer_correct(reply, gold, ANSWER_STRICT);
    t->right[cot][1] += answer_correct(reply, gold, ANSWER_LENIENT);
    t->right[cot][2] += answer_reference(reply, gold, true, cot);
}

START_TEST(real_chains_of_thought_show_what_a_parser_costs) {
    SKIP_WITHOUT_DATA();
    static const size_t n[2] = {65, 135}, right[2][3] = {{0, 26, 29}, {0, 102, 104}};
    struct tally t = {0};
    each_line("teacher/codex_bbh_sample.jsonl", check_bbh_reply, &t);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(t.n[i], n[i]);
        for (int k = 0; k < 3; k++) /* 102 chains end in the gold answer; 2 more name several options, one of them right */
            ck_assert_uint_eq(t.right[i][k], right[i][k]);
    }
}
END_TEST

Suite *text_answer_suite(void) {
    Suite *s = suite_create("text answers");
    TCase *c = tcase_create("answers");
    tcase_add_loop_test(c, numbers_are_read_as_people_write_them, 0, COUNT(numbers));
    tcase_add_test(c, a_comma_locale_changes_nothing);
    tcase_add_loop_test(c, replies_are_judged, 0, COUNT(cases));
    tcase_add_loop_test(c, the_reference_is_followed_where_it_errs, 0, COUNT(references));
    tcase_add_loop_test(c, votes_for_the_same_answer_are_counted_together, 0, COUNT(votes));
    tcase_add_test(c, the_stated_answer_is_shown_as_written);
    tcase_add_loop_test(c, replies_are_cut_after_the_first_answer_line, 0, COUNT(cuts));
    tcase_add_test(c, bare_answers_are_compared);
    tcase_add_test(c, any_bytes_are_taken);
    tcase_add_test(c, all_gsm8k_answers_are_found_in_their_solutions);
    tcase_add_test(c, all_task_answers_are_right_for_themselves_only);
    tcase_add_test(c, real_chains_of_thought_show_what_a_parser_costs);
    tcase_add_test(c, real_replies_are_labelled_as_recorded);
    suite_add_tcase(s, c);
    return s;
}
