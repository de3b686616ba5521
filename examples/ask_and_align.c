/* Ask a teacher, align its reply:  ask_and_align URL|replay:FILE TOKENIZER QUESTION [MODEL]
 *
 * Sends one question to an OpenAI-compatible endpoint (or looks it up among recorded replies), cuts the reply as the student
 * would, and prints for each of the student's pieces the teacher's tokens that it came from, how the two meet, and the
 * probabilities that were carried over. */
#include <reasondistill/reasondistill.h>

#include <stdio.h>
#include <string.h>

enum { SHOWN = 3 };

/* A token's bytes between bars, line feeds made visible. */
static void print_token(const char *p, size_t n) {
    putchar('|');
    for (size_t i = 0; i < n; i++)
        p[i] == '\n' ? fputs("\\n", stdout) : putchar(p[i]);
}

static void print_row(rsd_tokenizer *tok, const rsd_alignment *a, const rsd_reply *reply, size_t s) {
    const char *piece = NULL, *token = NULL;
    size_t n = 0;
    double logprob = 0;
    rsd_tokenizer_piece(tok, a->student_ids[s], &piece, &n);
    printf("%-6s  %.*s\t", rsd_kind_name(a->kinds[s]), (int)n, piece);
    for (uint32_t i = a->map_offsets[s]; i < a->map_offsets[s + 1]; i++)
        if (rsd_reply_token(reply, a->teacher_first + a->map[i], &token, &n, &logprob) == RSD_OK)
            print_token(token, n);
    printf("|\t");
    for (uint32_t i = a->row_offsets[s]; i < a->row_offsets[s + 1] && i < a->row_offsets[s] + SHOWN; i++) {
        rsd_tokenizer_piece(tok, a->row_ids[i], &piece, &n);
        printf("  %.*s %.3f", (int)n, piece, (double)a->row_probs[i]);
    }
    putchar('\n');
}

static int align(rsd_ctx *ctx, rsd_tokenizer *tok, const rsd_reply *reply) {
    rsd_aligner *aligner = NULL;
    const rsd_alignment *a = NULL;
    int status = rsd_aligner_open(ctx, tok, NULL, &aligner);
    if (status == RSD_OK)
        status = rsd_aligner_align(aligner, reply, &a);
    if (status == RSD_OK) {
        printf("%.*s\n\n%zu teacher tokens, %zu student pieces\n", (int)a->text_len, a->text, a->n_teacher, a->n_student);
        for (size_t s = 0; s < a->n_student; s++)
            print_row(tok, a, reply, s);
    }
    rsd_aligner_close(aligner);
    return status;
}

/* The reply belongs to the teacher and lives until its next call. */
static int ask(rsd_teacher *teacher, const char *question, const rsd_reply **reply) {
    const rsd_question q = {.id = "question", .id_len = 8, .question = question, .question_len = strlen(question)};
    int status = rsd_teacher_submit(teacher, &q);
    while (status == RSD_OK || status == RSD_AGAIN) {
        status = rsd_teacher_poll(teacher, 1000, reply);
        if (status == RSD_OK)
            return RSD_OK;
    }
    if (status == RSD_END)
        fprintf(stderr, "ask_and_align: the recorded replies have none to this question\n");
    return status == RSD_END ? RSD_ENOTFOUND : status;
}

int main(int argc, char **argv) {
    rsd_ctx *ctx = NULL;
    rsd_tokenizer *tok = NULL;
    rsd_teacher *teacher = NULL;
    const rsd_reply *reply = NULL;
    rsd_teacher_options options;
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: ask_and_align URL|replay:FILE TOKENIZER QUESTION [MODEL]\n");
        return 2;
    }
    rsd_teacher_options_init(&options, sizeof options);
    options.url = argv[1];
    options.model = argc == 5 ? argv[4] : NULL;
    int status = rsd_ctx_open(NULL, &ctx);
    if (status == RSD_OK)
        status = rsd_tokenizer_open(ctx, argv[2], &tok);
    if (status == RSD_OK)
        status = rsd_teacher_open(ctx, &options, &teacher);
    if (status == RSD_OK)
        status = ask(teacher, argv[3], &reply);
    if (status == RSD_OK)
        status = align(ctx, tok, reply);
    if (status != RSD_OK)
        fprintf(stderr, "ask_and_align: %s: %s\n", rsd_strerror(status), ctx != NULL ? rsd_ctx_error(ctx) : "no context");

    rsd_teacher_close(teacher);
    rsd_tokenizer_close(tok);
    rsd_ctx_close(ctx);
    return status == RSD_OK ? 0 : 1;
}
