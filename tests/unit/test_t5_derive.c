/* Models made of models: merged, shallower. */
#include "test_t5.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float *param_named(rsd_ctx *ctx, rsd_t5 *m, const char *name, size_t *n) {
    size_t i = 0;
    rsd_param p = {.size = sizeof p};
    OK(ctx, rsd_t5_param_find(m, name, &i));
    OK(ctx, rsd_t5_param(m, i, &p));
    float *w = malloc(p.count * sizeof *w);
    OK(ctx, rsd_t5_param_read(m, i, w, p.count));
    *n = p.count;
    return w;
}

START_TEST(merging_interpolates_every_parameter) {
    static const double alphas[] = {0, 0.25, 1};
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *base = t5_make(ctx, tiny_gated, 1), *tuned = t5_make(ctx, tiny_gated, 2);
    for (size_t k = 0; k < 3; k++) {
        rsd_t5 *m = t5_make(ctx, tiny_gated, 1);
        OK(ctx, rsd_t5_merge(m, tuned, alphas[k]));
        for (size_t i = 0; i < rsd_t5_params(m); i++) {
            rsd_param p = {.size = sizeof p};
            size_t n = 0;
            OK(ctx, rsd_t5_param(m, i, &p));
            float *a = param_named(ctx, base, p.name, &n), *b = param_named(ctx, tuned, p.name, &n),
                  *w = param_named(ctx, m, p.name, &n);
            if (k == 0)
                ck_assert_mem_eq(w, a, n * sizeof *w);
            else if (k == 2)
                ck_assert_mem_eq(w, b, n * sizeof *w);
            else
                for (size_t j = 0; j < n; j++)
                    ck_assert_double_le(fabs((double)w[j] - (0.75 * (double)a[j] + 0.25 * (double)b[j])), 1e-6);
            free(a);
            free(b);
            free(w);
        }
        rsd_t5_close(m);
    }
    rsd_t5_close(base);
    rsd_t5_close(tuned);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(models_that_do_not_belong_together_are_not_merged) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_gated, 1), *other = t5_make(ctx, tiny_tied, 1), *same = t5_make(ctx, tiny_gated, 2),
           *shared = NULL;
    ck_assert_int_eq(rsd_t5_merge(m, other, 0.5), RSD_EMISMATCH);
    FAILS(ctx, RSD_EINVAL, "alpha", rsd_t5_merge(m, same, 1.5));
    FAILS(ctx, RSD_EINVAL, "alpha", rsd_t5_merge(m, same, (double)NAN));
    OK(ctx, rsd_t5_share(m, ctx, &shared));
    FAILS(ctx, RSD_EBUSY, "shared", rsd_t5_merge(m, same, 0.5));
    rsd_t5_close(shared);
    OK(ctx, rsd_t5_merge(m, same, 0.5));
    rsd_t5_close(m);
    rsd_t5_close(other);
    rsd_t5_close(same);
    rsd_ctx_close(ctx);
}
END_TEST

/* Parameter by parameter: what `m` should be of the weights of three models. */
static void check_sum(rsd_ctx *ctx, rsd_t5 *m, rsd_t5 *const *models, const double *weights, double tolerance) {
    for (size_t i = 0; i < rsd_t5_params(m); i++) {
        rsd_param p = {.size = sizeof p};
        size_t n = 0;
        OK(ctx, rsd_t5_param(m, i, &p));
        float *w = param_named(ctx, m, p.name, &n), *of[3];
        for (int k = 0; k < 3; k++)
            of[k] = param_named(ctx, models[k], p.name, &n);
        for (size_t j = 0; j < n; j++) {
            double sum = weights[0] * (double)of[0][j] + weights[1] * (double)of[1][j] + weights[2] * (double)of[2][j];
            ck_assert_msg(fabs((double)w[j] - sum) <= tolerance * fmax(1, fabs(sum)), "%s[%zu]: %g, expected %g", p.name, j,
                          (double)w[j], sum);
        }
        for (int k = 0; k < 3; k++)
            free(of[k]);
        free(w);
    }
}

START_TEST(sums_of_several_models_are_soups_and_task_vectors) {
    static const double weights[][3] = {{1.0 / 3, 1.0 / 3, 1.0 / 3}, /* a uniform soup */
                                        {0.5, 0.25, 0.25},
                                        {1 - 0.4 - 0.8, 0.4, 0.8}, /* base + 0.4 (first - base) + 0.8 (second - base) */
                                        {1 + 0.5, -0.5, 0},        /* away from what the first has learned */
                                        {0, 2, 0}};
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *models[3] = {t5_make(ctx, tiny_gated, 1), t5_make(ctx, tiny_gated, 2), t5_make(ctx, tiny_gated, 3)};
    for (size_t k = 0; k < sizeof weights / sizeof *weights; k++) {
        rsd_t5 *m = t5_make(ctx, tiny_gated, 9); /* what it was before does not matter */
        OK(ctx, rsd_t5_combine(m, models, weights[k], 3));
        check_sum(ctx, m, models, weights[k], 1e-6);
        rsd_t5_close(m);
    }
    rsd_t5 *first = t5_make(ctx, tiny_gated, 1), *in_place[3] = {first, models[1], models[2]};
    OK(ctx, rsd_t5_combine(first, in_place, weights[2], 3)); /* the result may be one of them */
    check_sum(ctx, first, models, weights[2], 1e-6);
    rsd_t5_close(first);
    for (int k = 0; k < 3; k++)
        rsd_t5_close(models[k]);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_sum_of_one_model_is_that_model_bit_for_bit) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *models[3] = {t5_make(ctx, tiny_gated, 1), t5_make(ctx, tiny_gated, 2), t5_make(ctx, tiny_gated, 3)}, *lerped, *m;
    for (int k = 0; k < 3; k++) {
        double weights[3] = {0};
        weights[k] = 1;
        m = t5_make(ctx, tiny_gated, 9);
        OK(ctx, rsd_t5_combine(m, models, weights, 3));
        check_sum(ctx, m, models, weights, 0);
        rsd_t5_close(m);
    }
    for (int k = 1; k < 10; k++) { /* and of two it is what rsd_t5_merge gives */
        const double alpha = k / 10.0, weights[2] = {1 - alpha, alpha}, whole[3] = {1, 0, 0};
        lerped = t5_make(ctx, tiny_gated, 1);
        m = t5_make(ctx, tiny_gated, 9);
        OK(ctx, rsd_t5_merge(lerped, models[1], alpha));
        OK(ctx, rsd_t5_combine(m, models, weights, 2));
        rsd_t5 *const same[3] = {lerped, m, m};
        check_sum(ctx, m, same, whole, 0);
        rsd_t5_close(lerped);
        rsd_t5_close(m);
    }
    for (int k = 0; k < 3; k++)
        rsd_t5_close(models[k]);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(sums_without_sense_are_refused_and_leave_the_model) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_gated, 1), *same = t5_make(ctx, tiny_gated, 2), *other = t5_make(ctx, tiny_tied, 1),
           *before = t5_make(ctx, tiny_gated, 1), *shared = NULL;
    rsd_t5 *const models[] = {m, same, other}, *const whole[] = {before, before, before};
    FAILS(ctx, RSD_EMISMATCH, "model 3: ", rsd_t5_combine(m, models, (const double[]){0.5, 0.5, 0}, 3));
    FAILS(ctx, RSD_EINVAL, "weight 2", rsd_t5_combine(m, models, (const double[]){0.5, (double)INFINITY}, 2));
    FAILS(ctx, RSD_EINVAL, "all weights are 0", rsd_t5_combine(m, models, (const double[]){0, 0}, 2));
    FAILS(ctx, RSD_EINVAL, "no models", rsd_t5_combine(m, models, (const double[]){1}, 0));
    OK(ctx, rsd_t5_share(m, ctx, &shared));
    FAILS(ctx, RSD_EBUSY, "shared", rsd_t5_combine(m, models, (const double[]){0.5, 0.5}, 2));
    rsd_t5_close(shared);
    check_sum(ctx, m, whole, (const double[]){1, 0, 0}, 0);
    rsd_t5_close(m);
    rsd_t5_close(same);
    rsd_t5_close(other);
    rsd_t5_close(before);
    rsd_ctx_close(ctx);
}
END_TEST

/* Of three decoder layers the first and the last stay; what lies outside the blocks is copied. */
START_TEST(a_shallower_model_has_the_layers_of_the_deeper_one) {
    static const char *const pairs[][2] = {
        {"shared.weight", "shared.weight"},
        {"lm_head.weight", "lm_head.weight"},
        {"encoder.final_layer_norm.weight", "encoder.final_layer_norm.weight"},
        {"encoder.block.0.layer.1.DenseReluDense.wo.weight", "encoder.block.0.layer.1.DenseReluDense.wo.weight"},
        {"decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
         "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
        {"decoder.block.0.layer.1.EncDecAttention.k.weight", "decoder.block.0.layer.1.EncDecAttention.k.weight"},
        {"decoder.block.1.layer.1.EncDecAttention.k.weight", "decoder.block.2.layer.1.EncDecAttention.k.weight"}};
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_gated, 1), *s = NULL, *none = NULL;
    rsd_t5_info i = {.size = sizeof i};
    OK(ctx, rsd_t5_shrink(m, 1, 2, &s));
    OK(ctx, rsd_t5_info_get(s, &i));
    ck_assert(i.encoder_layers == 1 && i.decoder_layers == 2 && !i.tied);
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++) {
        size_t n = 0, n2 = 0;
        float *a = param_named(ctx, s, pairs[k][0], &n), *b = param_named(ctx, m, pairs[k][1], &n2);
        ck_assert_uint_eq(n, n2);
        ck_assert_msg(memcmp(a, b, n * sizeof *a) == 0, "%s", pairs[k][0]);
        free(a);
        free(b);
    }
    static const size_t lengths[][2] = {{4, 3}};
    struct owned_batch o;
    owned_random(&o, 1, lengths, 37, 1);
    rsd_t5_close(m); /* nothing is borrowed from it */
    ck_assert(isfinite(t5_step(ctx, s, &o.b, RSD_LOSS_CE, 1)));
    FAILS(ctx, RSD_EINVAL, "layers", rsd_t5_shrink(s, 2, 2, &none));
    FAILS(ctx, RSD_EINVAL, "layers", rsd_t5_shrink(s, 0, 2, &none));
    ck_assert_ptr_null(none);
    owned_free(&o);
    rsd_t5_close(s);
    rsd_ctx_close(ctx);
}
END_TEST

TCase *t5_derive_case(void) {
    TCase *c = tcase_create("derive");
    tcase_add_test(c, merging_interpolates_every_parameter);
    tcase_add_test(c, models_that_do_not_belong_together_are_not_merged);
    tcase_add_test(c, sums_of_several_models_are_soups_and_task_vectors);
    tcase_add_test(c, a_sum_of_one_model_is_that_model_bit_for_bit);
    tcase_add_test(c, sums_without_sense_are_refused_and_leave_the_model);
    tcase_add_test(c, a_shallower_model_has_the_layers_of_the_deeper_one);
    return c;
}
