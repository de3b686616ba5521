#include "train_data.h"

#include "train_fixture.h"
#include "util.h"

#include <stdio.h>
#include <string.h>

static const char *const names[] = {"one", "two", "three", "four", "five", "six"};

/* Question i asks for a sum of two numbers; its solution says it in words and then the answer. */
static void question_of(int i, char *out, size_t n) {
    snprintf(out, n, "what is %s plus %s", names[i % 4], names[i / 4]);
}

static int answer_of(int i) {
    return i % 4 + i / 4 + 2;
}

static void write_questions(const char *path, int n) {
    struct str s;
    char q[100];
    str_init(&s, NULL);
    for (int i = 0; i < n; i++) {
        question_of(i, q, sizeof q);
        str_addf(&s, "{\"id\": \"q%d\", \"question\": \"%s\", \"answer\": \"%d\", \"rationale\": \"so %s plus %s is %d .\"}\n", i,
                 q, answer_of(i), names[i % 4], names[i / 4], answer_of(i));
    }
    test_write(path, s.p, s.n);
    str_free(&s);
}

/* One row of a teacher store: each word a token with its blank in front, another word as the alternative. */
static void add_reply(struct str *out, int i) {
    char text[200], q[100];
    struct str tokens, logprobs, top;
    str_init(&tokens, NULL);
    str_init(&logprobs, NULL);
    str_init(&top, NULL);
    snprintf(text, sizeof text, "so %s plus %s is %d . The answer is %d", names[i % 4], names[i / 4], answer_of(i), answer_of(i));
    question_of(i, q, sizeof q);
    for (const char *p = text; *p;) {
        size_t n = 1 + strcspn(p + 1, " ");
        const char *comma = tokens.n ? ", " : "";
        str_addf(&tokens, "%s\"%.*s\"", comma, (int)n, p);
        str_addf(&logprobs, "%s-0.25", comma);
        str_addf(&top, "%s[[\"%.*s\", -0.25], [\" six\", -2.5]]", comma, (int)n, p);
        p += n;
    }
    str_addf(out,
             "{\"id\": \"q%d\", \"sample\": 0, \"request_sha256\": \"%064d\", \"model\": \"m\", \"question\": \"%s\", \"text\": "
             "\"%s\","
             "\"tokens\": [%s], \"logprobs\": [%s], \"top\": [%s], \"finish\": \"stop\", \"usage\": null, \"correct\": true}\n",
             i, i, q, text, str_z(&tokens), str_z(&logprobs), str_z(&top));
    str_free(&tokens);
    str_free(&logprobs);
    str_free(&top);
}

void train_data(rsd_ctx *ctx, const char *dir, int n) {
    char questions[400], store[400], aligned[400], data[400];
    rsd_tokenizer *tok = NULL;
    rsd_aligner *a = NULL;
    struct str rows;
    strcpy(questions, test_path(dir, "items.jsonl"));
    strcpy(store, test_path(dir, "teacher.jsonl"));
    strcpy(aligned, test_path(dir, "aligned.rsd"));
    strcpy(data, test_path(dir, "data"));
    write_questions(questions, n);
    str_init(&rows, NULL);
    for (int i = 0; i < n; i++)
        add_reply(&rows, i);
    test_write(store, rows.p, rows.n);
    str_free(&rows);

    OK(ctx, rsd_tokenizer_open(ctx, test_path(dir, "spiece.model"), &tok));
    OK(ctx, rsd_aligner_open(ctx, tok, NULL, &a));
    OK(ctx, rsd_aligner_file(a, store, aligned, 0, NULL));
    rsd_aligner_close(a);
    rsd_tokenizer_close(tok);
    rsd_build_options o;
    rsd_build_report report = {.size = sizeof report};
    ck_assert_int_eq(rsd_build_options_init(&o, sizeof o), RSD_OK);
    o.questions = questions;
    o.aligned = aligned;
    o.out = data;
    if (n <= o.shots)
        o.formats = 1u << RSD_FORMAT_ZS_AO | 1u << RSD_FORMAT_ZS_COT;
    OK(ctx, rsd_dataset_build(ctx, &o, &report));
    ck_assert_uint_eq(report.kept, (unsigned)n);
}
