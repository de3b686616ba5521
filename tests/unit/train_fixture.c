#include "train_fixture.h"

#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

rsd_ctx *fixture_ctx(void) {
    rsd_ctx *ctx = NULL;
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    return ctx;
}

void fixture_config(const char *path, int vocab, const char *dropout) {
    char text[600];
    int n = snprintf(
        text, sizeof text,
        "{\"model_type\": \"t5\", \"vocab_size\": %d, \"d_model\": 8, \"d_kv\": 4, \"d_ff\": 12, \"num_layers\": 1,"
        "\"num_decoder_layers\": 1, \"num_heads\": 2, \"feed_forward_proj\": \"gated-gelu\", \"tie_word_embeddings\": false,"
        "\"relative_attention_num_buckets\": 8, \"relative_attention_max_distance\": 16, \"dropout_rate\": %s,"
        "\"layer_norm_epsilon\": 1e-6, \"initializer_factor\": 1.0, \"pad_token_id\": 0, \"eos_token_id\": 1,"
        "\"decoder_start_token_id\": 0}",
        vocab, dropout);
    ck_assert(n > 0 && (size_t)n < sizeof text);
    test_write(path, text, (size_t)n);
}

/* SentencePiece's ModelProto on the wire: field 1 the pieces {1: text, 2: score, 3: type}, field 2 {3: model type}, field 3
 * {3: dummy prefix}. */
static void add_piece(struct str *s, const char *piece, float score, int type) {
    size_t n = strlen(piece);
    unsigned char bits[4];
    memcpy(bits, &score, sizeof bits);
    str_addc(s, 0x0A);
    str_addc(s, (char)(n + 2 + 5 + 2));
    str_addc(s, 0x0A);
    str_addc(s, (char)n);
    str_add(s, piece, n);
    str_addc(s, 0x15);
    str_add(s, (const char *)bits, 4);
    str_addc(s, 0x18);
    str_addc(s, (char)type);
}

void fixture_vocab(const char *path) {
    static const char *const words[] = {"Q:",  "A:",    "Let's", "think", "step", "by",   "The",  "answer", "is", "one",
                                        "two", "three", "four",  "five",  "six",  "plus", "what", "1",      "2",  "3",
                                        "4",   "5",     "6",     "7",     "8",    "9",    "so",   "."};
    enum { WORDS = sizeof words / sizeof words[0] };
    struct str s;
    str_init(&s, NULL);
    add_piece(&s, "<pad>", 0, 3);
    add_piece(&s, "</s>", 0, 3);
    add_piece(&s, "<unk>", 0, 2);
    for (int i = 0; i < WORDS; i++) {
        char piece[32];
        snprintf(piece, sizeof piece, "\xe2\x96\x81%s", words[i]);
        add_piece(&s, piece, -2, 1);
    }
    add_piece(&s, "\xe2\x96\x81", -4, 1);
    for (char c = 'a'; c <= 'z'; c++)
        add_piece(&s, (char[]){c, 0}, -5, 1);
    str_add(&s, "\x12\x02\x18\x01", 4);
    str_add(&s, "\x1a\x02\x18\x01", 4);
    test_write(path, s.p, s.n);
    str_free(&s);
    ck_assert_int_eq(3 + WORDS + 1 + 26 + 100, FIXTURE_VOCAB - 2); /* two rows more than pieces, as real models have */
}

const rsd_batch *fixture_batch(void) {
    static const int32_t enc[] = {3, 4, 5, 1, 7, 8, 1};
    static const uint32_t enc_offsets[] = {0, 4, 7};
    static const int32_t dec[] = {9, 10, 1, 11, 1};
    static const uint32_t dec_offsets[] = {0, 3, 5};
    static const rsd_batch batch = {
        .size = sizeof batch, .n = 2, .enc_ids = enc, .enc_offsets = enc_offsets, .dec_ids = dec, .dec_offsets = dec_offsets};
    return &batch;
}

double fixture_pass(rsd_ctx *ctx, rsd_t5 *m, const rsd_batch *b) {
    rsd_loss *l = NULL;
    rsd_loss_result r = {.size = sizeof r};
    OK(ctx, rsd_loss_open(ctx, NULL, &l));
    OK(ctx, rsd_t5_forward(m, b, RSD_TRAIN));
    OK(ctx, rsd_loss_begin(l, b, 1 / rsd_loss_weight(b)));
    OK(ctx, rsd_t5_head(m, rsd_loss_tile, l));
    OK(ctx, rsd_loss_result_get(l, &r));
    OK(ctx, rsd_t5_backward(m));
    rsd_loss_close(l);
    return r.loss;
}

void fixture_overflow(rsd_ctx *ctx, rsd_t5 *m) {
    static const struct {
        const char *name;
        float v;
    } set[] = {{"decoder.block.0.layer.0.layer_norm.weight", 1e30F},
               {"decoder.block.0.layer.0.SelfAttention.q.weight", 0},
               {"decoder.block.0.layer.0.SelfAttention.k.weight", 0},
               {FIXTURE_OVERFLOWS, 0},
               {"decoder.block.0.layer.0.SelfAttention.o.weight", 1e20F}};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) {
        size_t at = 0;
        rsd_param p = {.size = sizeof p};
        float w[64];
        OK(ctx, rsd_t5_param_find(m, set[i].name, &at));
        OK(ctx, rsd_t5_param(m, at, &p));
        ck_assert_uint_le(p.count, 64);
        for (size_t k = 0; k < p.count; k++)
            w[k] = set[i].v;
        OK(ctx, rsd_t5_param_write(m, at, w, p.count));
    }
}

float *fixture_read(rsd_ctx *ctx, rsd_t5 *m, int grads, size_t *n) {
    size_t all = 0, at = 0;
    for (size_t i = 0; i < rsd_t5_params(m); i++) {
        rsd_param p = {.size = sizeof p};
        OK(ctx, rsd_t5_param(m, i, &p));
        all += p.count;
    }
    float *out = malloc(all * sizeof *out);
    ck_assert_ptr_nonnull(out);
    for (size_t i = 0; i < rsd_t5_params(m); i++) {
        rsd_param p = {.size = sizeof p};
        OK(ctx, rsd_t5_param(m, i, &p));
        OK(ctx, (grads ? rsd_t5_grad_read : rsd_t5_param_read)(m, i, out + at, p.count));
        at += p.count;
    }
    *n = all;
    return out;
}
