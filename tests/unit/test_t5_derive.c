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
    tcase_add_test(c, a_shallower_model_has_the_layers_of_the_deeper_one);
    return c;
}
