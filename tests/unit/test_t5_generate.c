/* Generation against the forward pass, and with other numbers of sequences in flight. */
#include "test_t5.h"

#include "core/rng.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 37, INPUTS = 23, MOST = 90 };

struct collected {
    int32_t ids[INPUTS][MOST];
    float logprobs[INPUTS][MOST];
    size_t n[INPUTS], calls, stop_at, most_open, open;
    int finish[INPUTS];
};

static int collect(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    struct collected *c = user;
    ck_assert_uint_eq(sample, 0);
    if (++c->calls == c->stop_at)
        return 4711;
    ck_assert_uint_lt(input, INPUTS);
    ck_assert_uint_lt(c->n[input], MOST);
    ck_assert_int_eq(c->finish[input], RSD_RUNNING); /* nothing comes after the end */
    c->open += c->n[input] == 0;
    c->most_open = c->open > c->most_open ? c->open : c->most_open;
    c->open -= finish != RSD_RUNNING;
    c->ids[input][c->n[input]] = id;
    c->logprobs[input][c->n[input]++] = logprob;
    c->finish[input] = finish;
    return 0;
}

struct inputs {
    int32_t *ids;
    uint32_t *offsets;
};

static struct inputs make_inputs(void) {
    struct rng r = rng_make(4, 4);
    struct inputs in = {.ids = calloc(INPUTS * 50, sizeof(int32_t)), .offsets = calloc(INPUTS + 1, sizeof(uint32_t))};
    for (size_t i = 0; i < INPUTS; i++) {
        in.offsets[i + 1] = in.offsets[i] + 1 + (uint32_t)rng_below(&r, i == 11 ? 50 : 12);
        for (size_t t = in.offsets[i]; t < in.offsets[i + 1]; t++)
            in.ids[t] = (int32_t)rng_below(&r, VOCAB);
    }
    return in;
}

static void free_inputs(struct inputs *in) {
    free(in->ids);
    free(in->offsets);
}

static struct collected *generate(rsd_ctx *ctx, rsd_t5 *m, const struct inputs *in, int batch) {
    struct collected *c = calloc(1, sizeof *c);
    rsd_generate_options o;
    OK(ctx, rsd_generate_options_init(&o, sizeof o));
    o.max_tokens = MOST;
    o.batch = batch;
    OK(ctx, rsd_t5_generate(m, in->ids, in->offsets, INPUTS, &o, collect, c));
    for (size_t i = 0; i < INPUTS; i++) {
        ck_assert_int_ne(c->finish[i], RSD_RUNNING);
        ck_assert_int_eq(c->finish[i] == RSD_FINISH_STOP, c->ids[i][c->n[i] - 1] == 1);
        ck_assert(c->finish[i] == RSD_FINISH_STOP || c->n[i] == MOST);
    }
    ck_assert_uint_le(c->most_open, (size_t)batch);
    return c;
}

/* Scales one row of a matrix, or all of it. */
static void scale_param(rsd_ctx *ctx, rsd_t5 *m, const char *name, size_t row, float by) {
    size_t i = 0;
    rsd_param p = {.size = sizeof p};
    OK(ctx, rsd_t5_param_find(m, name, &i));
    OK(ctx, rsd_t5_param(m, i, &p));
    float *w = malloc(p.count * sizeof *w);
    OK(ctx, rsd_t5_param_read(m, i, w, p.count));
    for (size_t k = 0; k < p.count; k++)
        w[k] *= row == SIZE_MAX || k / p.shape[1] == row ? by : 1;
    OK(ctx, rsd_t5_param_write(m, i, w, p.count));
    free(w);
}

/* A model whose sequences end after different numbers of tokens: positions matter much, the end token often wins. */
static rsd_t5 *uneven_model(rsd_ctx *ctx, const char *config) {
    rsd_t5 *m = t5_make(ctx, config, 2);
    scale_param(ctx, m, "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", SIZE_MAX, 8);
    scale_param(ctx, m, config == tiny_tied ? "shared.weight" : "lm_head.weight", 1, 3);
    return m;
}

/* Every token is the argmax of a forward pass that is given the tokens before it, and its logprob is the forward's. */
START_TEST(generated_tokens_are_the_argmax_of_the_forward_pass) {
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *m = uneven_model(ctx, _i ? tiny_gated : tiny_tied);
    struct inputs in = make_inputs();
    struct collected *c = generate(ctx, m, &in, 5);
    size_t stopped = 0;
    for (size_t i = 0; i < INPUTS; i++) {
        uint32_t enc_offsets[2] = {0, in.offsets[i + 1] - in.offsets[i]}, dec_offsets[2] = {0, (uint32_t)c->n[i]};
        rsd_batch b = {.size = sizeof b,
                       .n = 1,
                       .enc_ids = in.ids + in.offsets[i],
                       .enc_offsets = enc_offsets,
                       .dec_ids = c->ids[i],
                       .dec_offsets = dec_offsets};
        float *logits = malloc(c->n[i] * VOCAB * sizeof *logits);
        OK(ctx, rsd_t5_forward(m, &b, RSD_INFER));
        OK(ctx, rsd_t5_logits(m, logits, c->n[i] * VOCAB));
        for (size_t t = 0; t < c->n[i]; t++) {
            const float *row = logits + t * VOCAB;
            size_t best = 0;
            double sum = 0;
            for (size_t v = 0; v < VOCAB; v++) {
                best = row[v] > row[best] ? v : best;
                sum += exp((double)row[v]);
            }
            ck_assert_int_eq((int32_t)best, c->ids[i][t]);
            ck_assert_double_le(fabs((double)row[best] - log(sum) - (double)c->logprobs[i][t]), 1e-4);
        }
        stopped += c->finish[i] == RSD_FINISH_STOP;
        free(logits);
    }
    ck_assert_msg(stopped > 3 && stopped < INPUTS, "%zu of %d stopped: the test wants both", stopped, (int)INPUTS);
    free(c);
    free_inputs(&in);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(refilled_batches_give_what_one_by_one_gives) {
    static const int batches[] = {3, 8, 64};
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *m = uneven_model(ctx, _i ? tiny_gated : tiny_tied);
    struct inputs in = make_inputs();
    struct collected *one = generate(ctx, m, &in, 1);
    for (size_t k = 0; k < 3; k++) {
        struct collected *c = generate(ctx, m, &in, batches[k]);
        for (size_t i = 0; i < INPUTS; i++) {
            ck_assert_uint_eq(c->n[i], one->n[i]);
            ck_assert_mem_eq(c->ids[i], one->ids[i], c->n[i] * sizeof(int32_t));
            ck_assert_double_le(relative_error(c->logprobs[i], one->logprobs[i], c->n[i]), 1e-4);
        }
        free(c);
    }
    free(one);
    free_inputs(&in);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

struct thread_job {
    rsd_ctx *ctx;
    rsd_t5 *m;
    const struct inputs *in;
    struct collected *c;
};

static void *generate_thread(void *arg) {
    struct thread_job *j = arg;
    j->c = generate(j->ctx, j->m, j->in, 6);
    return NULL;
}

START_TEST(two_threads_generate_from_one_set_of_weights) {
    struct inputs in = make_inputs();
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = uneven_model(ctx, tiny_gated);
    struct collected *alone = generate(ctx, m, &in, 6);
    struct thread_job jobs[2];
    pthread_t threads[2];
    for (size_t k = 0; k < 2; k++) {
        jobs[k] = (struct thread_job){.ctx = t5_ctx(1), .in = &in};
        OK(ctx, rsd_t5_share(m, jobs[k].ctx, &jobs[k].m));
    }
    for (size_t k = 0; k < 2; k++)
        ck_assert_int_eq(pthread_create(&threads[k], NULL, generate_thread, &jobs[k]), 0);
    for (size_t k = 0; k < 2; k++) {
        ck_assert_int_eq(pthread_join(threads[k], NULL), 0);
        ck_assert_mem_eq(jobs[k].c->ids, alone->ids, sizeof alone->ids);
        ck_assert_mem_eq(jobs[k].c->logprobs, alone->logprobs, sizeof alone->logprobs);
        free(jobs[k].c);
        rsd_t5_close(jobs[k].m);
        rsd_ctx_close(jobs[k].ctx);
    }
    free(alone);
    free_inputs(&in);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_callback_that_returns_nonzero_stops_generation) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_tied, 7);
    struct inputs in = make_inputs();
    struct collected *c = calloc(1, sizeof *c);
    c->stop_at = 31;
    ck_assert_int_eq(rsd_t5_generate(m, in.ids, in.offsets, INPUTS, NULL, collect, c), 4711);
    ck_assert_uint_eq(c->calls, 31);
    free(c);
    free_inputs(&in);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_pending_forward_survives_generation) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_tied, 7);
    struct inputs in = make_inputs();
    static const size_t lengths[][2] = {{4, 3}, {2, 2}};
    struct owned_batch o;
    float before[5 * VOCAB], after[5 * VOCAB];
    owned_random(&o, 2, lengths, VOCAB, 3);
    OK(ctx, rsd_t5_forward(m, &o.b, RSD_TRAIN));
    OK(ctx, rsd_t5_logits(m, before, 5 * VOCAB));
    struct collected *c = generate(ctx, m, &in, 4);
    OK(ctx, rsd_t5_logits(m, after, 5 * VOCAB));
    ck_assert_mem_eq(before, after, sizeof before);
    free(c);
    owned_free(&o);
    free_inputs(&in);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(wrong_inputs_and_options_are_refused) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_tied, 7);
    struct inputs in = make_inputs();
    struct collected *c = calloc(1, sizeof *c);
    rsd_generate_options o;
    OK(ctx, rsd_t5_generate(m, NULL, NULL, 0, NULL, collect, c));
    FAILS(ctx, RSD_EINVAL, "missing", rsd_t5_generate(m, NULL, NULL, 1, NULL, collect, c));
    FAILS(ctx, RSD_EINVAL, "function", rsd_t5_generate(m, in.ids, in.offsets, INPUTS, NULL, NULL, NULL));
    OK(ctx, rsd_generate_options_init(&o, sizeof o));
    o.max_tokens = 0;
    FAILS(ctx, RSD_EINVAL, "max_tokens", rsd_t5_generate(m, in.ids, in.offsets, INPUTS, &o, collect, c));
    OK(ctx, rsd_generate_options_init(&o, sizeof o));
    o.batch = -1;
    FAILS(ctx, RSD_EINVAL, "batch", rsd_t5_generate(m, in.ids, in.offsets, INPUTS, &o, collect, c));
    in.ids[0] = VOCAB;
    FAILS(ctx, RSD_EINVAL, "sequence 0, position 0: id 37", rsd_t5_generate(m, in.ids, in.offsets, INPUTS, NULL, collect, c));
    in.ids[0] = 3;
    in.offsets[4] = in.offsets[3];
    FAILS(ctx, RSD_EINVAL, "sequence 3 is empty", rsd_t5_generate(m, in.ids, in.offsets, INPUTS, NULL, collect, c));
    ck_assert_uint_eq(c->calls, 0);
    free(c);
    free_inputs(&in);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(damaged_weights_are_reported_not_decoded) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_tied, 7);
    struct inputs in = make_inputs();
    struct collected *c = calloc(1, sizeof *c);
    float nans[8] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    size_t i = 0;
    OK(ctx, rsd_t5_param_find(m, "decoder.final_layer_norm.weight", &i));
    OK(ctx, rsd_t5_param_write(m, i, nans, 8));
    FAILS(ctx, RSD_ENUMERIC, "input 0", rsd_t5_generate(m, in.ids, in.offsets, INPUTS, NULL, collect, c));
    free(c);
    free_inputs(&in);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

TCase *t5_generate_case(void) {
    TCase *c = tcase_create("generate");
    tcase_add_loop_test(c, generated_tokens_are_the_argmax_of_the_forward_pass, 0, 2);
    tcase_add_loop_test(c, refilled_batches_give_what_one_by_one_gives, 0, 2);
    tcase_add_test(c, two_threads_generate_from_one_set_of_weights);
    tcase_add_test(c, a_callback_that_returns_nonzero_stops_generation);
    tcase_add_test(c, a_pending_forward_survives_generation);
    tcase_add_test(c, wrong_inputs_and_options_are_refused);
    tcase_add_test(c, damaged_weights_are_reported_not_decoded);
    return c;
}
