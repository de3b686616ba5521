/* Optimizers on BF16 weights, Adafactor, fused updates: against transformers, and against each other bit for bit. */
#include "test_train.h"

#include "t5/model.h"
#include "tensor/safetensors.h"
#include "train/optimizer.h"
#include "train_fixture.h"
#include "util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rsd_t5 *tiny(rsd_ctx *ctx, int dtype) {
    rsd_t5 *m = NULL;
    const char *path = test_path(test_dir(), "config.json");
    fixture_config(path, 20, "0.1");
    OK(ctx, rsd_t5_create_as(ctx, path, 1, dtype, &m));
    return m;
}

static rsd_optimizer_options usual(int kind) {
    rsd_optimizer_options o;
    rsd_optimizer_options_init(&o, sizeof o);
    o.kind = kind;
    o.clip = 0;
    return o;
}

/* Forward, loss and head: what comes before the backward pass. */
static double to_head(rsd_ctx *ctx, rsd_t5 *m, uint64_t step) {
    rsd_loss *l = NULL;
    rsd_loss_result r = {.size = sizeof r};
    const rsd_batch *b = fixture_batch();
    OK(ctx, rsd_loss_open(ctx, NULL, &l));
    OK(ctx, rsd_t5_set_dropout(m, 0.1, 7, step));
    OK(ctx, rsd_t5_forward(m, b, RSD_TRAIN));
    OK(ctx, rsd_loss_begin(l, b, 1 / rsd_loss_weight(b)));
    OK(ctx, rsd_t5_head(m, rsd_loss_tile, l));
    OK(ctx, rsd_loss_result_get(l, &r));
    rsd_loss_close(l);
    return r.loss;
}

/* ---- Adafactor beside transformers': tests/tools/make_train_fixtures.py ---- */

static const char *const fixture_names[] = {"shared.weight", "encoder.block.0.layer.1.DenseReluDense.wi_0.weight",
                                            "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                                            "decoder.final_layer_norm.weight"};
enum { NAMES = sizeof fixture_names / sizeof *fixture_names, STEPS = 4 };

static const float *fixture_get(const struct safetensors *f, size_t count, const char *what, const char *name) {
    char full[160];
    snprintf(full, sizeof full, "%s.%s", what, name);
    const struct safetensor *t = safetensors_find(f, full);
    ck_assert_msg(t && t->dtype == DTYPE_F32 && t->count == count && (uintptr_t)t->data % sizeof(float) == 0, "no %s", full);
    return (const float *)(const void *)t->data;
}

/* SETTINGS of the script, in its order. */
static rsd_optimizer_options setting(int i) {
    rsd_optimizer_options o = usual(RSD_ADAFACTOR);
    o.relative_step = i == 1 || i == 2;
    o.warmup_init = i == 2;
    if (i == 3) {
        o.scale_parameter = 0;
        o.momentum = 0.9;
        o.decay = 0.1;
        o.update_clip = 0.5;
        o.decay_rate = 0.6;
    }
    return o;
}

/* Four steps from the same weights with the same gradients; F32 on both sides: 1e-5 of the largest change. */
START_TEST(adafactor_follows_transformers) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m = tiny(ctx, RSD_F32);
    rsd_optimizer *o = NULL;
    rsd_optimizer_options opt = setting(_i);
    struct safetensors f = {0};
    struct err e = {0};
    struct mat all = {0};
    char what[32];
    size_t at[NAMES], count[NAMES];
    ck_assert_msg(!safetensors_open(&f, &mem_std, TEST_SOURCE_ROOT "/tests/fixtures/train/adafactor.safetensors", &e), "%s",
                  e.text);
    OK(ctx, rsd_t5_freeze(m, "*", 1, NULL));
    for (size_t i = 0; i < NAMES; i++) {
        OK(ctx, rsd_t5_param_find(m, fixture_names[i], &at[i]));
        count[i] = m->w->info[at[i]].count;
        OK(ctx, rsd_t5_param_write(m, at[i], fixture_get(&f, count[i], "start", fixture_names[i]), count[i]));
        OK(ctx, rsd_t5_freeze(m, fixture_names[i], 0, NULL));
    }
    OK(ctx, rsd_optimizer_open(ctx, m, &opt, &o));
    for (int t = 0; t < STEPS; t++) {
        ck_assert_int_eq(params_grads(m, &all, &e), 0);
        snprintf(what, sizeof what, "grad.%d", t);
        for (size_t i = 0; i < NAMES; i++)
            memcpy(m->w->params[at[i]].grad.data, fixture_get(&f, count[i], what, fixture_names[i]), count[i] * sizeof(float));
        OK(ctx, rsd_optimizer_step(o, 0.01, NULL));
    }
    snprintf(what, sizeof what, "end.%d", _i);
    for (size_t i = 0; i < NAMES; i++) {
        const float *want = fixture_get(&f, count[i], what, fixture_names[i]);
        const float *start = fixture_get(&f, count[i], "start", fixture_names[i]), *got = m->w->params[at[i]].w.data;
        double moved = 0, worst = 0;
        for (size_t k = 0; k < count[i]; k++) {
            moved = fmax(moved, fabs((double)want[k] - (double)start[k]));
            /* one rounding of the weight in each step is not an error of the update */
            worst = fmax(worst, fabs((double)got[k] - (double)want[k]) - STEPS * 0x1p-23 * fabs((double)want[k]));
        }
        ck_assert(moved > 0);
        ck_assert_msg(worst <= 1e-5 * moved, "%s: off by %g of %g", fixture_names[i], worst, moved);
    }
    safetensors_close(&f);
    rsd_optimizer_close(o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

/* ---- fused ---- */

/* Bits of `how`: 0 Adafactor, 1 BF16, 2 masters, 3 some parameters frozen and all recomputed. */
static float *trained(int how, int fused, size_t *n) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m = tiny(ctx, how & 2 ? RSD_BF16 : RSD_F32);
    rsd_optimizer *o = NULL;
    rsd_optimizer_options opt = usual(how & 1 ? RSD_ADAFACTOR : RSD_ADAMW);
    opt.fused = fused;
    opt.clip_tensor = 0.05;
    opt.masters = how >> 2 & 1;
    opt.decay = 0.01;
    opt.seed = 3;
    if (how & 8) {
        OK(ctx, rsd_t5_freeze(m, "*.wi_0.weight", 1, NULL));
        OK(ctx, rsd_t5_freeze(m, "lm_head.weight", 1, NULL));
    }
    OK(ctx, rsd_t5_set_recompute(m, how & 8));
    OK(ctx, rsd_optimizer_open(ctx, m, &opt, &o));
    for (uint64_t t = 0; t < 4; t++) {
        double norm = -1;
        to_head(ctx, m, t);
        OK(ctx, rsd_optimizer_backward(o, 0.01, &norm));
        ck_assert(norm > 0);
        ck_assert_uint_eq(rsd_optimizer_steps(o), t + 1);
    }
    float *w = fixture_read(ctx, m, 0, n);
    if (fused)
        ck_assert_uint_lt(m->w->n_grads, m->w->count);
    rsd_optimizer_close(o);
    /* Behind a fused optimizer gradients are again all there. */
    to_head(ctx, m, 1);
    OK(ctx, rsd_t5_backward(m));
    ck_assert_uint_eq(m->w->n_grads, m->w->count);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
    return w;
}

START_TEST(fused_updates_have_the_bits_of_unfused_ones) {
    size_t n = 0;
    float *a = trained(_i, 0, &n), *b = trained(_i, 1, &n);
    ck_assert_int_eq(memcmp(a, b, n * sizeof *a), 0);
    free(a);
    free(b);
}
END_TEST

START_TEST(fused_refuses_what_it_cannot_do) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m = tiny(ctx, RSD_F32);
    rsd_optimizer *o = NULL, *second = NULL;
    rsd_optimizer_options opt = usual(RSD_ADAFACTOR);
    opt.fused = 1;
    opt.clip = 1;
    ck_assert_int_eq(rsd_optimizer_open(ctx, m, &opt, &o), RSD_EINVAL);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), "global norm") && strstr(rsd_ctx_error(ctx), "clip_tensor"), "%s",
                  rsd_ctx_error(ctx));
    opt.clip = 0;
    OK(ctx, rsd_optimizer_open(ctx, m, &opt, &o));
    ck_assert_int_eq(rsd_optimizer_open(ctx, m, &opt, &second), RSD_EBUSY);
    ck_assert_int_eq(rsd_optimizer_backward(o, 0.01, NULL), RSD_ESTATE);
    to_head(ctx, m, 0);
    ck_assert_int_eq(rsd_t5_backward(m), RSD_ESTATE);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), "accumulate") != NULL, "%s", rsd_ctx_error(ctx));
    ck_assert_int_eq(rsd_optimizer_step(o, 0.01, NULL), RSD_ESTATE);
    OK(ctx, rsd_optimizer_backward(o, 0.01, NULL)); /* none of these has done any harm */
    OK(ctx, rsd_t5_freeze(m, "shared.weight", 1, NULL));
    rsd_optimizer_close(o);
    OK(ctx, rsd_optimizer_open(ctx, m, &opt, &o));
    OK(ctx, rsd_t5_freeze(m, "shared.weight", 0, NULL));
    to_head(ctx, m, 0);
    ck_assert_int_eq(rsd_optimizer_backward(o, 0.01, NULL), RSD_ESTATE);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), "shared.weight was frozen") != NULL, "%s", rsd_ctx_error(ctx));
    rsd_t5_close(m); /* in this order too, for hosts that collect garbage */
    rsd_optimizer_close(o);
    rsd_ctx_close(ctx);
}
END_TEST

static int bad_gradients(void *user, rsd_tile *t) {
    (void)user;
    for (size_t i = 0; i < t->n_positions; i++)
        for (size_t k = 0; k < t->vocab; k++)
            t->logits[i * t->ld + k] = NAN;
    return 0;
}

START_TEST(fused_stops_at_the_first_bad_gradient_and_names_it) {
    for (int late = 0; late < 2; late++) {
        rsd_ctx *ctx = fixture_ctx();
        rsd_t5 *m = tiny(ctx, RSD_F32);
        rsd_optimizer *o = NULL;
        rsd_optimizer_options opt = usual(RSD_ADAFACTOR);
        size_t n = 0;
        opt.fused = 1;
        OK(ctx, rsd_optimizer_open(ctx, m, &opt, &o));
        if (late) {
            fixture_overflow(ctx, m);
            to_head(ctx, m, 0); /* the loss is finite */
        } else {
            OK(ctx, rsd_t5_forward(m, fixture_batch(), RSD_TRAIN));
            OK(ctx, rsd_t5_head(m, bad_gradients, NULL));
        }
        float *before = fixture_read(ctx, m, 0, &n);
        ck_assert_int_eq(rsd_optimizer_backward(o, 0.01, NULL), RSD_ENUMERIC);
        const char *text = rsd_ctx_error(ctx);
        ck_assert_msg(strstr(text, late ? FIXTURE_OVERFLOWS : "lm_head.weight") != NULL, "%s", text);
        ck_assert_msg((strstr(text, "between two steps") != NULL) == late, "%s", text);
        ck_assert_uint_eq(rsd_optimizer_steps(o), 0);
        float *after = fixture_read(ctx, m, 0, &n);
        ck_assert_int_eq(memcmp(before, after, n * sizeof *after) != 0, late);
        if (!late)
            to_head(ctx, m, 0);
        ck_assert_int_eq(rsd_optimizer_backward(o, 0.01, NULL), late ? RSD_ESTATE : RSD_OK);
        free(before);
        free(after);
        rsd_optimizer_close(o);
        rsd_t5_close(m);
        rsd_ctx_close(ctx);
    }
}
END_TEST

/* ---- widths ---- */

/* The loss after each of 40 steps. */
static void losses(double out[40], int dtype, int kind, int masters) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m = tiny(ctx, dtype);
    rsd_optimizer *o = NULL;
    rsd_optimizer_options opt = usual(kind);
    opt.masters = masters;
    OK(ctx, rsd_optimizer_open(ctx, m, &opt, &o));
    for (uint64_t t = 0; t < 40; t++) {
        out[t] = to_head(ctx, m, t);
        OK(ctx, rsd_optimizer_backward(o, kind == RSD_ADAFACTOR ? 0.05 : 0.01, NULL));
    }
    rsd_optimizer_close(o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}

/* Two roundings to 8 bits a step are noise beside which the same path is taken: the mean loss of the run within 5%, and the last ten
 * steps within a twentieth of where it began. */
START_TEST(loss_in_bf16_falls_as_in_f32) {
    for (int kind = RSD_ADAMW; kind <= RSD_ADAFACTOR; kind++) {
        double full[40], half[2][40], sum[3] = {0}, end[3] = {0};
        losses(full, RSD_F32, kind, 0);
        for (int masters = 0; masters < 2; masters++)
            losses(half[masters], RSD_BF16, kind, masters);
        for (int t = 0; t < 40; t++) {
            const double at[] = {full[t], half[0][t], half[1][t]};
            for (int k = 0; k < 3; k++) {
                sum[k] += at[k] / 40;
                end[k] += t >= 30 ? at[k] / 10 : 0;
            }
        }
        ck_assert_double_lt(end[0], full[0] / 2);
        for (int k = 1; k < 3; k++) {
            ck_assert_msg(fabs(sum[k] - sum[0]) <= 0.05 * sum[0], "kind %d, masters %d: mean loss %g for %g", kind, k - 1, sum[k],
                          sum[0]);
            ck_assert_msg(fabs(end[k] - end[0]) <= 0.05 * full[0], "kind %d, masters %d: last loss %g for %g", kind, k - 1,
                          end[k], end[0]);
        }
    }
}
END_TEST

/* 200 steps at a rate that moves no BF16 weight by half a unit: rounded to nearest nothing would ever change. The whole way, seen along
 * that of the same weights in F32, is as long: each weight's rounding errors are independent and cancel over some thousand weights;
 * 10% is left to the noise that they put on the gradients. */
START_TEST(small_steps_count_without_masters) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m[2] = {tiny(ctx, RSD_BF16), tiny(ctx, RSD_F32)};
    size_t n = 0;
    float *start = fixture_read(ctx, m[0], 0, &n), *end[2];
    double along = 0, way = 0;
    for (size_t i = 0; i < m[1]->w->n; i++)
        OK(ctx, rsd_t5_param_write(m[1], i, start + m[1]->w->info[i].offset, m[1]->w->info[i].count));
    for (int k = 0; k < 2; k++) {
        rsd_optimizer *o = NULL;
        rsd_optimizer_options opt = usual(RSD_ADAMW);
        OK(ctx, rsd_optimizer_open(ctx, m[k], &opt, &o));
        for (uint64_t t = 0; t < 200; t++) {
            to_head(ctx, m[k], 0);
            OK(ctx, rsd_optimizer_backward(o, 1e-4, NULL));
        }
        end[k] = fixture_read(ctx, m[k], 0, &n);
        rsd_optimizer_close(o);
        rsd_t5_close(m[k]);
    }
    for (size_t i = 0; i < n; i++) {
        double d = (double)end[1][i] - (double)start[i];
        along += d * ((double)end[0][i] - (double)start[i]);
        way += d * d;
    }
    ck_assert_msg(way > 0 && fabs(along / way - 1) <= 0.1, "%g of the way", along / way);
    free(start);
    free(end[0]);
    free(end[1]);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *train_mixed_suite(void) {
    Suite *s = suite_create("train_mixed");
    TCase *c = tcase_create("mixed");
    tcase_add_loop_test(c, adafactor_follows_transformers, 0, 4);
    tcase_add_loop_test(c, fused_updates_have_the_bits_of_unfused_ones, 0, 16);
    tcase_add_test(c, fused_refuses_what_it_cannot_do);
    tcase_add_test(c, fused_stops_at_the_first_bad_gradient_and_names_it);
    tcase_add_test(c, loss_in_bf16_falls_as_in_f32);
    tcase_add_test(c, small_steps_count_without_masters);
    suite_add_tcase(s, c);
    return s;
}
