/* Weights of 8 bits: how near they are to BF16 on a model that has learned something, and what such a model refuses. */
#include "test_t5.h"

#include "core/rng.h"
#include "t5/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 37, SEQUENCES = 24, LENGTH = 10 };

/* Each token follows from the one before it, the first from the input: something that can be learned in seconds. */
static void follow(struct owned_batch *o, uint64_t seed) {
    size_t lengths[SEQUENCES][2];
    for (size_t i = 0; i < SEQUENCES; i++) {
        lengths[i][0] = 1 + i % 5;
        lengths[i][1] = LENGTH;
    }
    owned_random(o, SEQUENCES, lengths, VOCAB, seed);
    for (size_t i = 0; i < SEQUENCES; i++) {
        int32_t last = o->enc_ids[o->enc_offsets[i]];
        for (size_t t = o->dec_offsets[i]; t < o->dec_offsets[i + 1]; t++)
            o->dec_ids[t] = last = (last * 5 + 3) % VOCAB;
    }
}

/* A trained model in a directory of its own. */
static const char *trained(rsd_ctx *ctx, const char *config, const char *name, int dtype) {
    const char *dir = test_path(test_dir(), name);
    rsd_t5 *m = t5_make(ctx, config, 3);
    rsd_optimizer *opt = NULL;
    rsd_optimizer_options o;
    OK(ctx, rsd_optimizer_options_init(&o, sizeof o));
    OK(ctx, rsd_optimizer_open(ctx, m, &o, &opt));
    OK(ctx, rsd_t5_set_dropout(m, 0, 1, 0));
    for (uint64_t step = 0; step < 250; step++) {
        struct owned_batch b;
        follow(&b, 100 + step);
        t5_step(ctx, m, &b.b, RSD_LOSS_CE, 1.0 / (SEQUENCES * LENGTH));
        OK(ctx, rsd_optimizer_step(opt, 5e-3, NULL));
        OK(ctx, rsd_t5_zero_grad(m));
        owned_free(&b);
    }
    OK(ctx, rsd_t5_save(m, dir, dtype, NULL));
    rsd_optimizer_close(opt);
    rsd_t5_close(m);
    return dir;
}

static void best(rsd_ctx *ctx, rsd_t5 *m, const rsd_batch *b, int32_t *ids, float *logits) {
    size_t n = b->dec_offsets[b->n];
    OK(ctx, rsd_t5_forward(m, b, RSD_INFER));
    OK(ctx, rsd_t5_logits(m, logits, n * VOCAB));
    for (size_t t = 0; t < n; t++) {
        ids[t] = 0;
        for (int32_t v = 1; v < VOCAB; v++)
            if (logits[t * VOCAB + (size_t)v] > logits[t * VOCAB + (size_t)ids[t]])
                ids[t] = v;
    }
}

START_TEST(first_choices_of_8_bits_are_those_of_bf16) {
    enum { N = SEQUENCES * LENGTH };
    static float logits[2][N * VOCAB];
    int32_t ids[2][N];
    rsd_ctx *ctx = t5_ctx(2);
    const char *dir = trained(ctx, _i ? tiny_gated : tiny_tied, "int8-model", RSD_BF16);
    rsd_t5 *half = NULL, *whole = NULL;
    size_t right = 0, same = 0, all = 0;
    OK(ctx, rsd_t5_open_as(ctx, dir, RSD_STORED, &half));
    OK(ctx, rsd_t5_open_as(ctx, dir, RSD_INT8, &whole));
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct owned_batch b;
        follow(&b, seed);
        best(ctx, half, &b.b, ids[0], logits[0]);
        best(ctx, whole, &b.b, ids[1], logits[1]);
        for (size_t t = 0; t < N; t++, all++) {
            right += ids[0][t] == b.dec_ids[t];
            same += ids[0][t] == ids[1][t];
        }
        double off = relative_error(logits[1], logits[0], (size_t)N * VOCAB);
        /* 8 bits are there, and they are near: a weight is off by up to 1/254 of the largest of its row, and in a model of this
         * width few such errors stand against each other */
        ck_assert_msg(off > 1e-4 && off < 0.2, "logits are off by %g", off);
        owned_free(&b);
    }
    ck_assert_msg((double)right >= 0.9 * (double)all, "the model has not learned: %zu of %zu", right, all);
    ck_assert_msg((double)same >= 0.98 * (double)all, "same first choice for %zu of %zu tokens", same, all);
    rsd_t5_close(half);
    rsd_t5_close(whole);
    rsd_ctx_close(ctx);
}
END_TEST

struct written {
    int32_t ids[SEQUENCES][LENGTH];
    float logprobs[SEQUENCES][LENGTH];
    size_t n[SEQUENCES];
};

static int take(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    struct written *w = user;
    (void)sample, (void)finish;
    ck_assert(input < SEQUENCES && w->n[input] < LENGTH);
    w->ids[input][w->n[input]] = id;
    w->logprobs[input][w->n[input]++] = logprob;
    return 0;
}

START_TEST(generation_in_8_bits_does_not_depend_on_batch_or_threads) {
    struct written want, got;
    struct owned_batch b;
    rsd_generate_options o;
    follow(&b, 4);
    rsd_generate_options_init(&o, sizeof o);
    o.max_tokens = LENGTH;
    for (int run = 0; run < 4; run++) {
        rsd_ctx *ctx = t5_ctx(1 + run % 3);
        const char *path = test_path(test_dir(), "int8.json");
        rsd_t5 *m = NULL;
        test_write(path, tiny_gated, strlen(tiny_gated));
        OK(ctx, rsd_t5_create_as(ctx, path, 5, RSD_INT8, &m));
        o.batch = run == 0 ? 1 : 7 * run;
        memset(&got, 0, sizeof got);
        OK(ctx, rsd_t5_generate(m, b.enc_ids, b.enc_offsets, SEQUENCES, &o, take, &got));
        if (run)
            ck_assert_mem_eq(&got, &want, sizeof got);
        want = got;
        rsd_t5_close(m);
        rsd_ctx_close(ctx);
    }
    owned_free(&b);
}
END_TEST

START_TEST(a_model_of_8_bits_is_small_and_tells_what_the_files_hold) {
    static const int stored[] = {RSD_F32, RSD_F16, RSD_BF16};
    rsd_ctx *ctx = t5_ctx(1);
    const char *dir = test_path(test_dir(), "int8-files");
    rsd_t5 *made = t5_make(ctx, tiny_gated, 3), *wide = NULL, *whole = NULL;
    OK(ctx, rsd_t5_save(made, dir, stored[_i], NULL));
    OK(ctx, rsd_t5_open(ctx, dir, &wide));
    OK(ctx, rsd_t5_open_as(ctx, dir, RSD_INT8, &whole));
    rsd_t5_info a = {.size = sizeof a}, b = {.size = sizeof b};
    OK(ctx, rsd_t5_info_get(wide, &a));
    OK(ctx, rsd_t5_info_get(whole, &b));
    ck_assert_int_eq(b.memory_dtype, RSD_INT8);
    ck_assert_int_eq(b.dtype, stored[_i]);
    ck_assert_uint_eq(a.parameters, b.parameters);
    ck_assert_uint_lt(4 * b.bytes, 3 * a.bytes); /* of so small a model the embedding is a good part */
    for (size_t i = 0; i < rsd_t5_params(whole); i++) {
        size_t n = whole->w->info[i].count;
        float *p = malloc(n * sizeof *p), *q = malloc(n * sizeof *q);
        OK(ctx, rsd_t5_param_read(wide, i, p, n));
        OK(ctx, rsd_t5_param_read(whole, i, q, n));
        ck_assert_mem_eq(p, q, n * sizeof *p);
        free(p);
        free(q);
    }
    rsd_t5_close(made);
    rsd_t5_close(wide);
    rsd_t5_close(whole);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_model_of_8_bits_is_for_inference_alone) {
    rsd_ctx *ctx = t5_ctx(1);
    const char *path = test_path(test_dir(), "int8.json");
    rsd_t5 *m = NULL, *other = t5_make(ctx, tiny_gated, 3), *small = NULL;
    struct owned_batch b;
    float ones[4096] = {1};
    size_t norm = 0;
    follow(&b, 1);
    test_write(path, tiny_gated, strlen(tiny_gated));
    OK(ctx, rsd_t5_create_as(ctx, path, 3, RSD_INT8, &m));
    OK(ctx, rsd_t5_param_find(m, "encoder.final_layer_norm.weight", &norm));
    FAILS(ctx, RSD_EUNSUPPORTED, "8 bits", rsd_t5_forward(m, &b.b, RSD_TRAIN));
    FAILS(ctx, RSD_EUNSUPPORTED, "8 bits", rsd_t5_param_write(m, norm, ones, m->w->info[norm].count));
    FAILS(ctx, RSD_EUNSUPPORTED, "8 bits", rsd_t5_merge(m, other, 0.5));
    FAILS(ctx, RSD_EUNSUPPORTED, "8 bits", rsd_t5_save(m, test_path(test_dir(), "never"), RSD_BF16, NULL));
    OK(ctx, rsd_t5_shrink(m, 1, 1, &small)); /* of what it was made of */
    OK(ctx, rsd_t5_forward(small, &b.b, RSD_TRAIN));
    rsd_t5_close(m);
    rsd_t5_close(other);
    rsd_t5_close(small);
    owned_free(&b);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(damaged_weights_show_in_8_bits) {
    rsd_ctx *ctx = t5_ctx(1);
    const char *dir = test_path(test_dir(), "int8-damaged");
    rsd_t5 *m = t5_make(ctx, tiny_gated, 3);
    struct owned_batch b;
    struct written got = {0};
    size_t i = 0;
    follow(&b, 1);
    OK(ctx, rsd_t5_param_find(m, "decoder.block.0.layer.2.DenseReluDense.wo.weight", &i));
    float *w = calloc(m->w->info[i].count, sizeof *w);
    w[3] = NAN;
    OK(ctx, rsd_t5_param_write(m, i, w, m->w->info[i].count));
    OK(ctx, rsd_t5_save(m, dir, RSD_F32, NULL));
    rsd_t5_close(m);
    OK(ctx, rsd_t5_open_as(ctx, dir, RSD_INT8, &m));
    FAILS(ctx, RSD_ENUMERIC, "damaged", rsd_t5_generate(m, b.enc_ids, b.enc_offsets, 2, NULL, take, &got));
    free(w);
    rsd_t5_close(m);
    owned_free(&b);
    rsd_ctx_close(ctx);
}
END_TEST

TCase *t5_int8_case(void) {
    TCase *c = tcase_create("int8");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, first_choices_of_8_bits_are_those_of_bf16, 0, 2);
    tcase_add_test(c, generation_in_8_bits_does_not_depend_on_batch_or_threads);
    tcase_add_loop_test(c, a_model_of_8_bits_is_small_and_tells_what_the_files_hold, 0, 3);
    tcase_add_test(c, a_model_of_8_bits_is_for_inference_alone);
    tcase_add_test(c, damaged_weights_show_in_8_bits);
    return c;
}
