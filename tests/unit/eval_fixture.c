/* A tiny student that has learned a few answers by heart. */
#include "test_eval.h"

#include <string.h>

const struct eval_fact eval_facts[N] = {{"a", "what is one plus one", "2", "The answer is 2"},
                                        {"b", "what is two plus one so what is two plus one so what", "3", "The answer is 5"},
                                        {"c", "what is four plus one", "5", "so five so"},
                                        {"d", "what is six", "6", "so six . The answer is 6"}};

void eval_items(const char *path, size_t from, size_t to, const char *question, const char *answer) {
    static const char *const quotes[2] = {"\"", ""}; /* every second answer is a number */
    struct str s;
    str_init(&s, NULL);
    for (size_t i = from; i < to; i++)
        str_addf(&s, "{\"id\": \"%s\", \"%s\": \"%s\", \"%s\": %s%s%s, \"rationale\": \"so\"}\n", eval_facts[i].id, question,
                 eval_facts[i].question, answer, quotes[i % 2], eval_facts[i].gold, quotes[i % 2]);
    test_write(path, s.p, s.n);
    str_free(&s);
}

static void append(rsd_tokenizer *tok, const char *text, int32_t *to, uint32_t *n) {
    const int32_t *ids;
    size_t count;
    ck_assert_int_eq(rsd_tokenizer_encode(tok, text, strlen(text), &ids, &count), RSD_OK);
    for (size_t i = 0; i < count; i++)
        to[(*n)++] = ids[i];
    to[(*n)++] = rsd_tokenizer_eos(tok);
}

/* Trains on the zero-shot answer-only inputs until they are known by heart. */
static void learn(struct fix *f) {
    int32_t enc[400], dec[400];
    uint32_t enc_offsets[N + 1] = {0}, dec_offsets[N + 1] = {0}, n_enc = 0, n_dec = 0;
    for (int i = 0; i < N; i++) {
        char text[200];
        strcat(strcat(strcpy(text, "Q: "), eval_facts[i].question), " A:");
        append(f->tok, text, enc, &n_enc);
        append(f->tok, eval_facts[i].learned, dec, &n_dec);
        enc_offsets[i + 1] = n_enc;
        dec_offsets[i + 1] = n_dec;
    }
    rsd_batch b = {
        .size = sizeof b, .n = N, .enc_ids = enc, .enc_offsets = enc_offsets, .dec_ids = dec, .dec_offsets = dec_offsets};
    rsd_optimizer *o = NULL;
    double loss = 1;
    OK(f->ctx, rsd_optimizer_open(f->ctx, f->model, NULL, &o));
    for (int t = 0; t < 600 && loss > 0.01; t++) {
        loss = fixture_pass(f->ctx, f->model, &b);
        OK(f->ctx, rsd_optimizer_step(o, 0.02, NULL));
    }
    ck_assert_msg(loss <= 0.01, "the loss stays at %g", loss);
    rsd_optimizer_close(o);
}

struct fix eval_open(bool trained) {
    struct fix f = {.ctx = fixture_ctx(), .dir = test_dir()};
    const char *vocab = test_path(f.dir, "spiece.model"), *config = test_path(f.dir, "config.json");
    fixture_vocab(vocab);
    OK(f.ctx, rsd_tokenizer_open(f.ctx, vocab, &f.tok));
    ck_assert_int_eq(rsd_tokenizer_size(f.tok), FIXTURE_VOCAB - 2);
    fixture_config(config, FIXTURE_VOCAB, "0");
    OK(f.ctx, rsd_t5_create(f.ctx, config, 1, &f.model));
    strcpy(f.data, test_path(f.dir, "items.jsonl"));
    eval_items(f.data, 0, N, "question", "answer");
    if (trained)
        learn(&f);
    return f;
}

void eval_close(struct fix *f) {
    rsd_t5_close(f->model);
    rsd_tokenizer_close(f->tok);
    rsd_ctx_close(f->ctx);
}

rsd_evaluator_options eval_answer_only(void) {
    rsd_evaluator_options o;
    ck_assert_int_eq(rsd_evaluator_options_init(&o, sizeof o), RSD_OK);
    ck_assert_int_eq(o.shots, 4);
    o.format = RSD_FORMAT_ZS_AO;
    o.max_tokens = 12;
    return o;
}

rsd_score eval_score(struct fix *f, const rsd_evaluator_options *o, const char *task, const char *data, const char *out) {
    rsd_evaluator *v = NULL;
    rsd_score s = {.size = sizeof s};
    OK(f->ctx, rsd_evaluator_open(f->ctx, f->model, f->tok, o, &v));
    OK(f->ctx, rsd_evaluator_file(v, task, data, out, NULL, NULL, &s));
    rsd_evaluator_close(v);
    return s;
}
