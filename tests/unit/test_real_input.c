/* The main job on real input, through the public interface alone: the 35 generations of code-davinci-002 in the data pack, the
 * real T5 vocabulary, real GSM8K questions, and a model of the real flan-t5-small shape with random weights. */
#include "util.h"

#include "core/json.h"
#include "reasondistill/reasondistill.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUESTIONS = 24, REPLIES = 35, STEPS = 24 };

static const char small[] =
    "{\"model_type\":\"t5\",\"d_model\":512,\"d_ff\":1024,\"d_kv\":64,\"num_heads\":6,\"num_layers\":8,\"num_decoder_layers\":8,"
    "\"vocab_size\":32128,\"feed_forward_proj\":\"gated-gelu\",\"tie_word_embeddings\":false,\"dropout_rate\":0.0}";

static rsd_ctx *open_ctx(void) {
    rsd_ctx_options o;
    rsd_ctx *ctx = NULL;
    rsd_ctx_options_init(&o, sizeof o);
    o.blas = RSD_BLAS_OWN;
    ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_OK);
    return ctx;
}

#define OK(call) ck_assert_msg((call) == RSD_OK, "%s: %s", #call, rsd_ctx_error(ctx))

/* The first lines of GSM8K's training questions, as a file of their own; returns them. */
static char *some_questions(const char *path) {
    size_t n = 0, end = 0;
    char *all = test_read(test_data("tasks/gsm8k_train.jsonl"), &n);
    for (int line = 0; line < QUESTIONS; line++)
        end += strcspn(all + end, "\n") + 1;
    all[end] = 0;
    test_write(path, all, end);
    return all;
}

/* Asks the recorded teacher both questions that it was asked, 34 times each: 35 replies are there. */
static void collect(rsd_ctx *ctx, const char *store, const char *questions, uint64_t *stored, uint64_t *already) {
    char url[4096];
    rsd_teacher_options o;
    rsd_teacher *t = NULL;
    rsd_teacher_stats stats = {.size = sizeof stats};
    snprintf(url, sizeof url, "replay:%s", test_data("teacher/codex_gsm8k_top5.jsonl"));
    rsd_teacher_options_init(&o, sizeof o);
    o.url = url;
    o.store = store;
    o.samples = 34;
    OK(rsd_teacher_open(ctx, &o, &t));
    for (int i = 0; i < 2; i++) {
        struct json *q = NULL;
        size_t line = strcspn(questions, "\n");
        ck_assert_int_eq(json_parse(questions, line, &q, NULL), 0);
        struct text id = json_text(json_get(q, "id")), question = json_text(json_get(q, "question")),
                    answer = json_text(json_get(q, "answer"));
        const rsd_question ask = {id.p, id.n, question.p, question.n, answer.p, answer.n};
        OK(rsd_teacher_submit(t, &ask));
        json_free(q);
        questions += line + 1;
    }
    const rsd_reply *reply = NULL;
    int status = RSD_OK;
    while ((status = rsd_teacher_poll(t, 100, &reply)) != RSD_END)
        ck_assert_msg(status == RSD_OK || status == RSD_AGAIN || status == RSD_ENOTFOUND, "%s", rsd_ctx_error(ctx));
    OK(rsd_teacher_stats_get(t, &stats));
    *stored = stats.stored;
    *already = stats.already;
    rsd_teacher_close(t);
}

static void logits_of(rsd_ctx *ctx, const char *dir, const rsd_batch *batch, float *out, size_t n) {
    rsd_t5 *m = NULL;
    OK(rsd_t5_open(ctx, dir, &m));
    OK(rsd_t5_forward(m, batch, RSD_INFER));
    OK(rsd_t5_logits(m, out, n));
    rsd_t5_close(m);
}

START_TEST(real_replies_train_a_model_of_real_shape) {
    SKIP_WITHOUT_DATA();
    char dir[1024], store[1200], shard[1200], data[1200], student[1200], run[1200], out[1200], questions_path[1200], config[1200],
        checkpoint[1300], text[8192];
    snprintf(dir, sizeof dir, "%s", test_dir());
    snprintf(store, sizeof store, "%s/teacher.jsonl", dir);
    snprintf(shard, sizeof shard, "%s/aligned.rsd", dir);
    snprintf(data, sizeof data, "%s/data", dir);
    snprintf(student, sizeof student, "%s/student", dir);
    snprintf(run, sizeof run, "%s/run.json", dir);
    snprintf(out, sizeof out, "%s/run", dir);
    snprintf(questions_path, sizeof questions_path, "%s/questions.jsonl", dir);
    snprintf(config, sizeof config, "%s/config.json", dir);
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoints/step-%d", out, STEPS);
    test_write(config, small, strlen(small));
    char *questions = some_questions(questions_path);
    rsd_ctx *ctx = open_ctx();

    /* Through client and store; the second time nothing is asked. */
    uint64_t stored = 0, already = 0;
    collect(ctx, store, questions, &stored, &already);
    ck_assert_uint_eq(stored, REPLIES);
    collect(ctx, store, questions, &stored, &already);
    ck_assert_uint_eq(stored, 0);
    ck_assert_uint_eq(already, REPLIES);

    /* Alignment with the real vocabulary, all four formats with real questions. */
    rsd_tokenizer *tok = NULL;
    rsd_aligner *aligner = NULL;
    rsd_align_report report = {.size = sizeof report};
    OK(rsd_tokenizer_open(ctx, test_data("tokenizer/spiece.model"), &tok));
    OK(rsd_aligner_open(ctx, tok, NULL, &aligner));
    OK(rsd_aligner_file(aligner, store, shard, 0, &report));
    ck_assert_uint_eq(report.replies, REPLIES);
    rsd_build_options build;
    rsd_build_report built = {.size = sizeof built};
    rsd_build_options_init(&build, sizeof build);
    build.questions = questions_path;
    build.aligned = shard;
    build.out = data;
    OK(rsd_dataset_build(ctx, &build, &built));
    ck_assert_uint_eq(built.kept, REPLIES); /* the pack says that all 35 are right */

    /* A student of the real shape learns these items. */
    rsd_t5 *m = NULL;
    OK(rsd_t5_create(ctx, config, 1, &m));
    OK(rsd_t5_save(m, student, RSD_F32, rsd_tokenizer_path(tok)));
    rsd_t5_close(m);
    snprintf(text, sizeof text,
             "{\"model\":\"%s\",\"data\":\"%s\",\"out\":\"%s\",\"steps\":%d,\"batch_tokens\":1500,\"lr\":2e-3,\"warmup\":4,"
             "\"schedule\":\"constant\",\"save_every\":0,"
             "\"log_every\":1,\"seed\":1}",
             student, data, out, STEPS);
    test_write(run, text, strlen(text));
    rsd_trainer *trainer = NULL;
    rsd_step step = {.size = sizeof step};
    double first = 0, last = 0;
    OK(rsd_trainer_open(ctx, run, 0, &trainer));
    for (int i = 0; i < STEPS; i++) {
        OK(rsd_trainer_step(trainer, &step));
        first += i < 2 ? step.loss / 2 : 0;
        last += i >= STEPS - 2 ? step.loss / 2 : 0;
    }
    ck_assert_int_eq(rsd_trainer_step(trainer, &step), RSD_END);
    OK(rsd_trainer_save(trainer));
    ck_assert_msg(last < first / 2, "the loss went from %g to %g", first, last);

    /* The checkpoint is the model, bit for bit. */
    rsd_dataset_options o;
    rsd_dataset *d = NULL;
    const rsd_batch *batch = NULL;
    rsd_dataset_options_init(&o, sizeof o);
    o.batch_tokens = 600;
    OK(rsd_dataset_open(ctx, data, tok, &o, &d));
    OK(rsd_dataset_batch(d, 0, &batch));
    size_t n = (size_t)batch->dec_offsets[batch->n] * 32128;
    float *live = malloc(n * sizeof *live), *again = malloc(n * sizeof *again);
    ck_assert(live && again);
    OK(rsd_t5_forward(rsd_trainer_model(trainer), batch, RSD_INFER));
    OK(rsd_t5_logits(rsd_trainer_model(trainer), live, n));
    logits_of(ctx, checkpoint, batch, again, n);
    ck_assert_mem_eq(live, again, n * sizeof *live);

    free(live);
    free(again);
    free(questions);
    rsd_dataset_close(d);
    rsd_trainer_close(trainer);
    rsd_aligner_close(aligner);
    rsd_tokenizer_close(tok);
    rsd_ctx_close(ctx);
}
END_TEST

int main(void) {
    Suite *s = suite_create("real input");
    TCase *t = tcase_create("main job");
    tcase_set_timeout(t, 400);
    tcase_add_test(t, real_replies_train_a_model_of_real_shape);
    suite_add_tcase(s, t);
    return test_run(srunner_create(s));
}
