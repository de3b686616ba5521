/* Forward and backward against themselves: finite differences, other thread counts, other batches, wrong calls, memory that runs
 * out. */
#include "test_t5.h"

#include "core/rng.h"
#include "t5/model.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t lengths[][2] = {{4, 3}, {1, 1}, {7, 5}};
enum { SEQUENCES = sizeof lengths / sizeof *lengths, VOCAB = 37 };

static float *read_param(rsd_ctx *ctx, rsd_t5 *m, size_t i, size_t *n) {
    rsd_param p = {.size = sizeof p};
    OK(ctx, rsd_t5_param(m, i, &p));
    float *w = malloc(p.count * sizeof *w);
    OK(ctx, rsd_t5_param_read(m, i, w, p.count));
    *n = p.count;
    return w;
}

static float *read_grad(rsd_ctx *ctx, rsd_t5 *m, size_t i, size_t *n) {
    rsd_param p = {.size = sizeof p};
    OK(ctx, rsd_t5_param(m, i, &p));
    float *g = malloc(p.count * sizeof *g);
    OK(ctx, rsd_t5_grad_read(m, i, g, p.count));
    *n = p.count;
    return g;
}

static double loss_along(rsd_ctx *ctx, rsd_t5 *m, const rsd_batch *b, size_t i, const float *w, const float *d, size_t n,
                         float step) {
    float *moved = malloc(n * sizeof *moved);
    for (size_t k = 0; k < n; k++)
        moved[k] = w[k] + step * d[k];
    OK(ctx, rsd_t5_param_write(m, i, moved, n));
    free(moved);
    return t5_step(ctx, m, b, RSD_LOSS_CE, 1);
}

/* Every tensor along its gradient (the direction with the most signal), without and with dropout, whose masks are the same for
 * the same step. The loss is about 30 in fp32, so 2e-3 of either side is 1e-3 of rounding in the slope. The seed is one where no
 * ReLU changes side within the step: such a kink bends the difference by some percent, which the smooth variant never shows. */
START_TEST(gradients_equal_finite_differences) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, _i & 1 ? tiny_gated : tiny_tied, 8);
    struct owned_batch o;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    OK(ctx, rsd_t5_set_dropout(m, _i & 2 ? 0.3 : 0, 11, 5));
    t5_step(ctx, m, &o.b, RSD_LOSS_CE, 1);
    size_t n_params = rsd_t5_params(m), n = 0;
    float **grads = calloc(n_params, sizeof *grads);
    for (size_t i = 0; i < n_params; i++)
        grads[i] = read_grad(ctx, m, i, &n);
    for (size_t i = 0; i < n_params; i++) {
        rsd_param p = {.size = sizeof p};
        OK(ctx, rsd_t5_param(m, i, &p));
        float *w = read_param(ctx, m, i, &n);
        double norm = 0;
        for (size_t k = 0; k < n; k++)
            norm += (double)grads[i][k] * (double)grads[i][k];
        norm = sqrt(norm);
        ck_assert_msg(norm > 1e-6, "%s has no gradient", p.name);
        float *d = malloc(n * sizeof *d);
        for (size_t k = 0; k < n; k++)
            d[k] = grads[i][k] / (float)norm;
        const float step = 2e-3F;
        double up = loss_along(ctx, m, &o.b, i, w, d, n, step), down = loss_along(ctx, m, &o.b, i, w, d, n, -step);
        double slope = (up - down) / (2 * (double)step);
        ck_assert_msg(fabs(slope - norm) <= 1e-2 * norm + 2e-3, "%s: slope %g, gradient %g", p.name, slope, norm);
        OK(ctx, rsd_t5_param_write(m, i, w, n));
        free(w);
        free(d);
    }
    for (size_t i = 0; i < n_params; i++)
        free(grads[i]);
    free(grads);
    owned_free(&o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

/* All gradients and logits of one step, one after another. */
static float *everything(int threads, const char *config, size_t *total) {
    static const size_t longer[][2] = {{40, 30}, {3, 2}, {129, 17}, {1, 1}, {65, 33}};
    rsd_ctx *ctx = t5_ctx(threads);
    rsd_t5 *m = t5_make(ctx, config, 7);
    struct owned_batch o;
    owned_random(&o, 5, longer, VOCAB, 3);
    OK(ctx, rsd_t5_set_dropout(m, 0.2, 1, 1));
    t5_step(ctx, m, &o.b, RSD_LOSS_CE, 1);
    rsd_t5_info info = {.size = sizeof info};
    OK(ctx, rsd_t5_info_get(m, &info));
    size_t n_logits = o.dec_offsets[5] * (size_t)info.vocab, at = 0;
    *total = (size_t)info.parameters + n_logits;
    float *all = calloc(*total, sizeof *all);
    for (size_t i = 0; i < rsd_t5_params(m); i++) {
        size_t n = 0;
        float *g = read_grad(ctx, m, i, &n);
        memcpy(all + at, g, n * sizeof *g);
        at += n;
        free(g);
    }
    OK(ctx, rsd_t5_logits(m, all + at, n_logits));
    ck_assert_uint_eq(at + n_logits, *total);
    owned_free(&o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
    return all;
}

START_TEST(one_two_and_three_threads_give_the_same_bits) {
    size_t n = 0, n2 = 0;
    const char *config = _i ? tiny_gated : tiny_tied;
    float *one = everything(1, config, &n);
    for (int threads = 2; threads <= 3; threads++) {
        float *more = everything(threads, config, &n2);
        ck_assert_uint_eq(n, n2);
        ck_assert_mem_eq(one, more, n * sizeof *one);
        free(more);
    }
    free(one);
}
END_TEST

START_TEST(a_sequence_does_not_see_its_neighbours) {
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *m = t5_make(ctx, _i ? tiny_gated : tiny_tied, 7);
    struct owned_batch o;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    size_t n = o.dec_offsets[SEQUENCES] * VOCAB;
    float *together = malloc(n * sizeof *together), *alone = malloc(n * sizeof *alone);
    OK(ctx, rsd_t5_forward(m, &o.b, RSD_INFER));
    OK(ctx, rsd_t5_logits(m, together, n));
    for (size_t s = 0; s < SEQUENCES; s++) {
        struct owned_batch p = owned_part(&o, s);
        OK(ctx, rsd_t5_forward(m, &p.b, RSD_INFER));
        OK(ctx, rsd_t5_logits(m, alone + o.dec_offsets[s] * VOCAB, p.dec_offsets[1] * VOCAB));
        owned_part_free(&p);
    }
    ck_assert_double_le(relative_error(alone, together, n), 1e-6); /* the BLAS may sum in another order for other shapes */
    free(together);
    free(alone);
    owned_free(&o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(gradients_add_up_over_micro_batches) {
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *m = t5_make(ctx, _i ? tiny_gated : tiny_tied, 7);
    struct owned_batch o;
    size_t n = 0;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    OK(ctx, rsd_t5_set_dropout(m, 0, 0, 0));
    double whole = t5_step(ctx, m, &o.b, RSD_LOSS_CE, 0.5), parts = 0;
    float **want = calloc(rsd_t5_params(m), sizeof *want);
    for (size_t i = 0; i < rsd_t5_params(m); i++)
        want[i] = read_grad(ctx, m, i, &n);
    OK(ctx, rsd_t5_zero_grad(m));
    for (size_t s = 0; s < SEQUENCES; s++) {
        struct owned_batch p = owned_part(&o, s);
        parts += t5_step(ctx, m, &p.b, RSD_LOSS_CE, 0.5);
        owned_part_free(&p);
    }
    ck_assert_double_le(fabs(whole - parts), 1e-6 * whole);
    for (size_t i = 0; i < rsd_t5_params(m); i++) {
        float *got = read_grad(ctx, m, i, &n);
        ck_assert_double_le(relative_error(got, want[i], n), 1e-5);
        free(got);
        free(want[i]);
    }
    free(want);
    owned_free(&o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

/* Settings made between forward and backward are for the next forward. */
START_TEST(backward_makes_the_masks_of_its_forward) {
    rsd_ctx *ctx = t5_ctx(1);
    struct owned_batch o;
    float *grads[2];
    size_t n = 0;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    for (int k = 0; k < 2; k++) {
        rsd_t5 *m = t5_make(ctx, tiny_gated, 7);
        rsd_loss *loss = NULL;
        OK(ctx, rsd_loss_open(ctx, NULL, &loss));
        OK(ctx, rsd_t5_set_dropout(m, 0.3, 1, 1));
        OK(ctx, rsd_t5_forward(m, &o.b, RSD_TRAIN));
        if (k)
            OK(ctx, rsd_t5_set_dropout(m, 0.1, 2, 2));
        OK(ctx, rsd_loss_begin(loss, &o.b, 1));
        OK(ctx, rsd_t5_head(m, rsd_loss_tile, loss));
        OK(ctx, rsd_t5_backward(m));
        grads[k] = read_grad(ctx, m, 0, &n);
        rsd_loss_close(loss);
        rsd_t5_close(m);
    }
    ck_assert_mem_eq(grads[0], grads[1], n * sizeof *grads[0]);
    free(grads[0]);
    free(grads[1]);
    owned_free(&o);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(dropout_is_a_function_of_seed_and_step) {
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *m = t5_make(ctx, tiny_gated, 7);
    struct owned_batch o;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    double loss[5];
    static const uint64_t settings[5][2] = {{1, 1}, {1, 1}, {1, 2}, {2, 1}, {1, 1}};
    for (size_t i = 0; i < 5; i++) {
        OK(ctx, rsd_t5_set_dropout(m, i < 4 ? 0.3 : 0, settings[i][0], settings[i][1]));
        loss[i] = t5_step(ctx, m, &o.b, RSD_LOSS_CE, 1);
    }
    ck_assert(loss[0] == loss[1]);
    ck_assert(loss[0] != loss[2] && loss[0] != loss[3] && loss[2] != loss[3]);
    float logits[9 * VOCAB], *again = calloc(9 * VOCAB, sizeof *again);
    OK(ctx, rsd_t5_logits(m, logits, 9 * VOCAB)); /* of the training pass without dropout */
    OK(ctx, rsd_t5_set_dropout(m, 0.3, 1, 1));
    OK(ctx, rsd_t5_forward(m, &o.b, RSD_INFER)); /* never drops */
    OK(ctx, rsd_t5_logits(m, again, 9 * VOCAB));
    ck_assert_mem_eq(logits, again, sizeof logits);
    FAILS(ctx, RSD_EINVAL, "rate", rsd_t5_set_dropout(m, 1, 0, 0));
    FAILS(ctx, RSD_EINVAL, "rate", rsd_t5_set_dropout(m, (double)NAN, 0, 0));
    free(again);
    owned_free(&o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

static int leave(void *user, rsd_tile *tile) {
    (void)tile;
    return *(const int *)user;
}

START_TEST(calls_in_the_wrong_order_are_refused) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_tied, 7);
    struct owned_batch o;
    float x[9 * VOCAB];
    int zero = 0, stop = 4711;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    FAILS(ctx, RSD_ESTATE, "rsd_t5_forward", rsd_t5_head(m, leave, &zero));
    FAILS(ctx, RSD_ESTATE, "rsd_t5_forward", rsd_t5_logits(m, x, 9 * VOCAB));
    FAILS(ctx, RSD_ESTATE, "rsd_t5_forward", rsd_t5_backward(m));
    OK(ctx, rsd_t5_forward(m, &o.b, RSD_INFER));
    OK(ctx, rsd_t5_head(m, leave, &zero));
    OK(ctx, rsd_t5_head(m, leave, &zero));
    FAILS(ctx, RSD_ESTATE, "RSD_TRAIN", rsd_t5_backward(m));
    FAILS(ctx, RSD_EINVAL, "9 positions x 37", rsd_t5_logits(m, x, 9 * VOCAB - 1));
    FAILS(ctx, RSD_EINVAL, "no function", rsd_t5_head(m, NULL, NULL));
    OK(ctx, rsd_t5_forward(m, &o.b, RSD_TRAIN));
    FAILS(ctx, RSD_ESTATE, "rsd_t5_head", rsd_t5_backward(m));
    ck_assert_int_eq(rsd_t5_head(m, leave, &stop), stop); /* handed back unchanged */
    FAILS(ctx, RSD_ESTATE, "rsd_t5_head", rsd_t5_backward(m));
    OK(ctx, rsd_t5_forward(m, &o.b, RSD_TRAIN));
    OK(ctx, rsd_t5_head(m, leave, &zero));
    FAILS(ctx, RSD_ESTATE, "already", rsd_t5_head(m, leave, &zero));
    OK(ctx, rsd_t5_backward(m));
    FAILS(ctx, RSD_ESTATE, "rsd_t5_head", rsd_t5_backward(m));
    FAILS(ctx, RSD_EINVAL, "mode 7", rsd_t5_forward(m, &o.b, 7));
    owned_free(&o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_malformed_batch_is_refused_by_sequence_and_position) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_tied, 7);
    struct owned_batch o;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    FAILS(ctx, RSD_EINVAL, "no batch", rsd_t5_forward(m, NULL, RSD_INFER));
    rsd_batch b = o.b;
    b.n = 0;
    FAILS(ctx, RSD_EINVAL, "without sequences", rsd_t5_forward(m, &b, RSD_INFER));
    b = o.b;
    b.dec_ids = NULL;
    FAILS(ctx, RSD_EINVAL, "decoder ids", rsd_t5_forward(m, &b, RSD_INFER));
    o.enc_ids[5] = VOCAB;
    FAILS(ctx, RSD_EINVAL, "encoder sequence 2, position 0: id 37", rsd_t5_forward(m, &o.b, RSD_INFER));
    o.enc_ids[5] = -1;
    FAILS(ctx, RSD_EINVAL, "id -1", rsd_t5_forward(m, &o.b, RSD_INFER));
    o.enc_ids[5] = 2;
    o.dec_ids[8] = 1000;
    FAILS(ctx, RSD_EINVAL, "decoder sequence 2, position 4: id 1000", rsd_t5_forward(m, &o.b, RSD_INFER));
    o.dec_ids[8] = 1;
    o.dec_offsets[2] = 3;
    FAILS(ctx, RSD_EINVAL, "decoder sequence 1 is empty", rsd_t5_forward(m, &o.b, RSD_INFER));
    o.dec_offsets[2] = 2;
    FAILS(ctx, RSD_EINVAL, "fall from 3 to 2", rsd_t5_forward(m, &o.b, RSD_INFER));
    o.dec_offsets[2] = 4;
    o.enc_offsets[0] = 1;
    FAILS(ctx, RSD_EINVAL, "expected 0", rsd_t5_forward(m, &o.b, RSD_INFER));
    o.enc_offsets[0] = 0;
    struct {
        rsd_batch b;
        uint64_t more;
    } newer = {.b = o.b, .more = 0};
    newer.b.size = sizeof newer;
    OK(ctx, rsd_t5_forward(m, &newer.b, RSD_INFER));
    newer.more = 1;
    ck_assert_int_eq(rsd_t5_forward(m, &newer.b, RSD_INFER), RSD_EVERSION);
    owned_free(&o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(parameters_are_found_read_and_written_by_name) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_gated, 7);
    rsd_t5_info info = {.size = sizeof info};
    OK(ctx, rsd_t5_info_get(m, &info));
    size_t total = 0, layer = 0, i = 0;
    for (size_t k = 0; k < rsd_t5_params(m); k++) {
        rsd_param p = {.size = sizeof p};
        OK(ctx, rsd_t5_param(m, k, &p));
        OK(ctx, rsd_t5_param_find(m, p.name, &i));
        ck_assert_uint_eq(i, k);
        ck_assert_uint_eq(p.count, p.ndim == 2 ? p.shape[0] * p.shape[1] : p.shape[0]);
        ck_assert(p.layer == layer || p.layer == layer + 1);
        layer = p.layer;
        total += p.count;
    }
    ck_assert_uint_eq(layer, 1 + 2 + 3); /* embedding, encoder, decoder, head */
    ck_assert_uint_eq(total, info.parameters);
    OK(ctx, rsd_t5_param_find(m, "decoder.block.2.layer.1.EncDecAttention.k.weight", &i));
    float w[12 * 8], v[12 * 8], bits = 0;
    OK(ctx, rsd_t5_grad_read(m, i, w, 96));
    for (size_t k = 0; k < 96; k++) {
        ck_assert(w[k] == 0); /* before the first backward */
        w[k] = (float)k;
    }
    OK(ctx, rsd_t5_param_write(m, i, w, 96));
    OK(ctx, rsd_t5_param_read(m, i, v, 96));
    ck_assert_mem_eq(w, v, sizeof w);
    FAILS(ctx, RSD_EINVAL, "k.weight has 96", rsd_t5_param_read(m, i, v, 95));
    FAILS(ctx, RSD_EINVAL, "of 66", rsd_t5_param_write(m, 76, &bits, 1));
    ck_assert_int_eq(rsd_t5_param_find(m, "no.such", &i), RSD_ENOTFOUND);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(shared_weights_serve_several_contexts_and_are_not_trained) {
    rsd_ctx *one = t5_ctx(1), *two = t5_ctx(2);
    rsd_t5 *m = t5_make(one, tiny_gated, 7), *s = NULL;
    struct owned_batch o;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    float a[9 * VOCAB], b[9 * VOCAB], w[8] = {0};
    size_t i = 0;
    OK(one, rsd_t5_share(m, two, &s));
    OK(one, rsd_t5_forward(m, &o.b, RSD_INFER));
    OK(two, rsd_t5_forward(s, &o.b, RSD_INFER));
    OK(one, rsd_t5_logits(m, a, 9 * VOCAB));
    OK(two, rsd_t5_logits(s, b, 9 * VOCAB));
    ck_assert_mem_eq(a, b, sizeof a);
    OK(one, rsd_t5_param_find(m, "encoder.final_layer_norm.weight", &i));
    FAILS(one, RSD_EBUSY, "shared", rsd_t5_forward(m, &o.b, RSD_TRAIN));
    FAILS(two, RSD_EBUSY, "shared", rsd_t5_forward(s, &o.b, RSD_TRAIN));
    FAILS(two, RSD_EBUSY, "shared", rsd_t5_param_write(s, i, w, 8));
    rsd_t5_close(m); /* the weights live as long as one handle does */
    rsd_ctx_close(one);
    OK(two, rsd_t5_forward(s, &o.b, RSD_INFER));
    OK(two, rsd_t5_logits(s, b, 9 * VOCAB));
    ck_assert_mem_eq(a, b, sizeof a);
    t5_step(two, s, &o.b, RSD_LOSS_CE, 1);
    owned_free(&o);
    rsd_t5_close(s);
    rsd_ctx_close(two);
}
END_TEST

static rsd_ctx *counting_ctx(struct fail_alloc *f) {
    rsd_ctx *ctx = NULL;
    rsd_ctx_options o;
    rsd_ctx_options_init(&o, sizeof o);
    o.resize = f->a.resize;
    o.resize_user = f->a.user;
    return rsd_ctx_open(&o, &ctx) == RSD_OK ? ctx : NULL;
}

static int bare_step(rsd_t5 *m, const rsd_batch *b) {
    int zero = 0, rc = rsd_t5_forward(m, b, RSD_TRAIN);
    rc = rc ? rc : rsd_t5_head(m, leave, &zero);
    return rc ? rc : rsd_t5_backward(m);
}

START_TEST(steps_after_the_second_allocate_nothing) {
    struct fail_alloc f;
    fail_alloc_init(&f, 0, false);
    rsd_ctx *ctx = counting_ctx(&f);
    rsd_t5 *m = t5_make(ctx, tiny_gated, 7);
    struct owned_batch o;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    OK(ctx, bare_step(m, &o.b));
    OK(ctx, bare_step(m, &o.b));
    size_t before = f.count;
    OK(ctx, bare_step(m, &o.b));
    ck_assert_uint_eq(f.count, before);
    owned_free(&o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
    ck_assert_uint_eq(f.live, 0);
}
END_TEST

/* Activations of the decoder lie where gradients of the encoder will, unless those are accumulated. */
START_TEST(activations_and_gradients_share_memory_where_they_can) {
    rsd_ctx *ctx = t5_ctx(2);
    struct owned_batch o;
    size_t n = 0, own[2];
    float *grad[2];
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    for (int shared = 0; shared < 2; shared++) {
        rsd_t5 *m = t5_make(ctx, tiny_gated, 7);
        size_t first = m->w->layer_first[m->w->encoder.first_layer];
        OK(ctx, rsd_t5_set_dropout(m, 0, 0, 0));
        t5_step(ctx, m, &o.b, RSD_LOSS_CE, 1);
        grad[shared] = read_grad(ctx, m, first, &n);
        if (shared)
            OK(ctx, rsd_t5_zero_grad(m));
        m->acts.peak = 0;
        t5_step(ctx, m, &o.b, RSD_LOSS_CE, 1);
        own[shared] = m->acts.peak;
        float *again = read_grad(ctx, m, first, &n);
        for (size_t i = 0; i < n; i++)
            ck_assert_float_eq(again[i], shared ? grad[1][i] : 2 * grad[0][i]);
        free(again);
        rsd_t5_close(m);
    }
    ck_assert_uint_lt(own[1] + n * sizeof(float), own[0]);
    ck_assert_mem_eq(grad[0], grad[1], n * sizeof(float));
    free(grad[0]);
    free(grad[1]);
    owned_free(&o);
    rsd_ctx_close(ctx);
}
END_TEST

/* An optimizer that wants gradients in the middle of a pass gets them, and the pass ends. */
START_TEST(a_step_between_forward_and_backward_ends_the_pass) {
    rsd_ctx *ctx = t5_ctx(1);
    struct owned_batch o;
    rsd_optimizer *opt = NULL;
    float logits[2][9 * VOCAB];
    int zero = 0;
    double norm = 1;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    rsd_t5 *m = t5_make(ctx, tiny_gated, 7);
    OK(ctx, rsd_optimizer_open(ctx, m, NULL, &opt));
    for (int headed = 0; headed < 2; headed++) {
        OK(ctx, rsd_t5_forward(m, &o.b, RSD_TRAIN));
        OK(ctx, rsd_t5_logits(m, logits[0], 9 * VOCAB));
        if (headed)
            OK(ctx, rsd_t5_head(m, leave, &zero));
        OK(ctx, rsd_t5_zero_grad(m));
        OK(ctx, rsd_optimizer_step(opt, 0, &norm));
        ck_assert_double_eq(norm, 0);
        FAILS(ctx, RSD_ESTATE, "call rsd_t5_forward with RSD_TRAIN", rsd_t5_backward(m));
        OK(ctx, rsd_t5_logits(m, logits[1], 9 * VOCAB));
        ck_assert_mem_eq(logits[0], logits[1], sizeof logits[0]);
        t5_step(ctx, m, &o.b, RSD_LOSS_CE, 1);
        OK(ctx, rsd_optimizer_step(opt, 0, &norm));
        ck_assert_double_gt(norm, 0);
    }
    rsd_optimizer_close(opt);
    rsd_t5_close(m);
    owned_free(&o);
    rsd_ctx_close(ctx);
}
END_TEST

static int take(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    (void)user, (void)input, (void)sample, (void)id, (void)logprob, (void)finish;
    return 0;
}

static int whole_life(rsd_ctx *ctx, const char *config, const char *dir, const rsd_batch *b) {
    rsd_t5 *m = NULL, *s = NULL, *opened = NULL;
    rsd_generate_options o;
    rsd_generate_options_init(&o, sizeof o);
    o.max_tokens = 40; /* the caches grow once */
    int rc = rsd_t5_create(ctx, config, 7, &m);
    rc = rc ? rc : bare_step(m, b);
    rc = rc ? rc : rsd_t5_generate(m, b->enc_ids, b->enc_offsets, b->n, &o, take, NULL);
    rc = rc ? rc : rsd_t5_share(m, ctx, &s);
    rc = rc ? rc : rsd_t5_save(m, dir, RSD_BF16, NULL);
    rc = rc ? rc : rsd_t5_open(ctx, dir, &opened);
    rsd_t5_close(opened);
    rsd_t5_close(s);
    rsd_t5_close(m);
    return rc;
}

START_TEST(memory_that_runs_out_is_an_error_and_leaks_nothing) {
    struct owned_batch o;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    const char *config = test_path(test_dir(), "config.json");
    char parent[PATH_MAX - 8], dir[PATH_MAX];
    test_write(config, tiny_tied, strlen(tiny_tied));
    snprintf(parent, sizeof parent, "%s", test_dir());
    snprintf(dir, sizeof dir, "%s/model", parent);
    size_t failures = 0, n_names = 0;
    char **names = NULL;
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        fail_alloc_init(&f, i, _i);
        rsd_ctx *ctx = counting_ctx(&f);
        int rc = ctx ? whole_life(ctx, config, dir, &o.b) : RSD_ENOMEM;
        rsd_ctx_close(ctx);
        ck_assert_uint_eq(f.live, 0);
        if (!f.failed) {
            ck_assert_int_eq(rc, RSD_OK);
            break;
        }
        ck_assert_int_eq(rc, RSD_ENOMEM);
        failures++;
        ck_assert_int_eq(dir_names(&mem_std, parent, &names, &n_names, NULL), 0);
        ck_assert_msg(n_names == 0 || (n_names == 1 && !strcmp(names[0], "model")), "half-written: %s", names[0]);
        dir_names_free(&mem_std, names, n_names);
        ck_assert_int_eq(dir_remove(dir, NULL), 0);
    }
    ck_assert_uint_gt(failures, 20);
    owned_free(&o);
}
END_TEST

TCase *t5_pass_case(void) {
    TCase *c = tcase_create("pass");
    tcase_add_loop_test(c, gradients_equal_finite_differences, 0, 4);
    tcase_add_loop_test(c, one_two_and_three_threads_give_the_same_bits, 0, 2);
    tcase_add_test(c, activations_and_gradients_share_memory_where_they_can);
    tcase_add_test(c, a_step_between_forward_and_backward_ends_the_pass);
    tcase_add_loop_test(c, a_sequence_does_not_see_its_neighbours, 0, 2);
    tcase_add_loop_test(c, gradients_add_up_over_micro_batches, 0, 2);
    tcase_add_test(c, backward_makes_the_masks_of_its_forward);
    tcase_add_test(c, dropout_is_a_function_of_seed_and_step);
    tcase_add_test(c, calls_in_the_wrong_order_are_refused);
    tcase_add_test(c, a_malformed_batch_is_refused_by_sequence_and_position);
    tcase_add_test(c, parameters_are_found_read_and_written_by_name);
    tcase_add_test(c, shared_weights_serve_several_contexts_and_are_not_trained);
    tcase_add_test(c, steps_after_the_second_allocate_nothing);
    tcase_add_loop_test(c, memory_that_runs_out_is_an_error_and_leaks_nothing, 0, 2);
    return c;
}
