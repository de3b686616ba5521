/* BF16 weights, recomputation, frozen parameters: against the same model in F32, unbounded, unfrozen. */
#include "test_t5.h"

#include "t5/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const size_t lengths[][2] = {{4, 3}, {1, 1}, {17, 9}, {7, 5}};
enum { SEQUENCES = sizeof lengths / sizeof *lengths, VOCAB = 37 };

/* A model of a config text, by way of a file. */
static rsd_t5 *make(rsd_ctx *ctx, const char *config, int dtype) {
    const char *path = test_path(test_dir(), "config.json");
    rsd_t5 *m = NULL;
    test_write(path, config, strlen(config));
    OK(ctx, rsd_t5_create_as(ctx, path, 8, dtype, &m));
    return m;
}

/* All weights (what 0) or gradients (1), end to end. */
static float *read_all(rsd_ctx *ctx, rsd_t5 *m, int what, size_t *n) {
    float *all = malloc(m->w->count * sizeof *all);
    ck_assert_ptr_nonnull(all);
    for (size_t i = 0; i < m->w->n; i++)
        OK(ctx, (what ? rsd_t5_grad_read : rsd_t5_param_read)(m, i, all + m->w->info[i].offset, m->w->info[i].count));
    *n = m->w->count;
    return all;
}

START_TEST(recomputation_keeps_every_bit_and_less_memory) {
    rsd_ctx *ctx = t5_ctx(2);
    struct owned_batch o;
    float *grads[2];
    double loss[2];
    size_t n = 0, peak[2];
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    for (int on = 0; on < 2; on++) {
        rsd_t5 *m = make(ctx, _i & 1 ? tiny_gated : tiny_tied, _i & 2 ? RSD_BF16 : RSD_F32);
        OK(ctx, rsd_t5_set_dropout(m, 0.3, 11, 5));
        OK(ctx, rsd_t5_set_recompute(m, on));
        loss[on] = t5_step(ctx, m, &o.b, RSD_LOSS_CE, 1);
        OK(ctx, rsd_t5_zero_grad(m));
        OK(ctx, rsd_t5_forward(m, &o.b, RSD_TRAIN));
        peak[on] = m->acts.used;
        loss[on] = t5_step(ctx, m, &o.b, RSD_LOSS_CE, 1);
        grads[on] = read_all(ctx, m, 1, &n);
        rsd_t5_close(m);
    }
    ck_assert(memcmp(&loss[0], &loss[1], sizeof loss[0]) == 0);
    ck_assert(memcmp(grads[0], grads[1], n * sizeof **grads) == 0);
    ck_assert_uint_lt(peak[1], peak[0]);
    free(grads[0]);
    free(grads[1]);
    owned_free(&o);
    rsd_ctx_close(ctx);
}
END_TEST

/* BF16 has 8 bits: an operand is off by up to 2^-9 of itself; some tens of operations, whose errors are independent, stay within some
 * times that. The F32 model has the same, rounded, weights. */
START_TEST(bf16_follows_f32) {
    rsd_ctx *ctx = t5_ctx(1);
    const char *config = _i ? tiny_gated : tiny_tied;
    rsd_t5 *half = make(ctx, config, RSD_BF16), *full = make(ctx, config, RSD_F32);
    struct owned_batch o;
    size_t n = 0;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    for (size_t i = 0; i < full->w->n; i++) {
        float *w = malloc(full->w->info[i].count * sizeof *w);
        OK(ctx, rsd_t5_param_read(half, i, w, full->w->info[i].count));
        OK(ctx, rsd_t5_param_write(full, i, w, full->w->info[i].count));
        free(w);
    }
    rsd_t5_info info = {.size = sizeof info};
    OK(ctx, rsd_t5_info_get(half, &info));
    ck_assert_int_eq(info.memory_dtype, RSD_BF16);
    ck_assert_uint_eq(info.bytes, 2 * info.parameters);

    /* Without training only the weights are BF16, and these are the same numbers: F32 sums in another order, unless the kernels
     * round the other operand as well (kernels.h). */
    size_t logits = o.b.dec_offsets[o.b.n] * (size_t)VOCAB;
    float *a = malloc(logits * sizeof *a), *b = malloc(logits * sizeof *b);
    OK(ctx, rsd_t5_forward(half, &o.b, RSD_INFER));
    OK(ctx, rsd_t5_logits(half, a, logits));
    OK(ctx, rsd_t5_forward(full, &o.b, RSD_INFER));
    OK(ctx, rsd_t5_logits(full, b, logits));
    ck_assert_double_le(relative_error(a, b, logits), strstr(rsd_ctx_backend(ctx), "avx512bf16") ? 0.02 : 1e-5);
    free(a);
    free(b);

    OK(ctx, rsd_t5_set_dropout(half, 0, 1, 1));
    OK(ctx, rsd_t5_set_dropout(full, 0, 1, 1));
    double x = t5_step(ctx, half, &o.b, RSD_LOSS_CE, 1), y = t5_step(ctx, full, &o.b, RSD_LOSS_CE, 1);
    ck_assert_double_le(fabs(x - y), 0.01 * y);
    ck_assert_double_gt(fabs(x - y), 0); /* activations were rounded */
    a = read_all(ctx, half, 1, &n);
    b = read_all(ctx, full, 1, &n);
    for (size_t i = 0; i < full->w->n; i++) {
        size_t at = full->w->info[i].offset;
        double error = relative_error(a + at, b + at, full->w->info[i].count);
        ck_assert_msg(error <= 0.1, "%s is off by %g", full->w->params[i].name, error);
    }
    free(a);
    free(b);
    owned_free(&o);
    rsd_t5_close(half);
    rsd_t5_close(full);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(bf16_files_are_mapped_and_written_back_bit_for_bit) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = make(ctx, tiny_gated, RSD_BF16), *again = NULL, *wide = NULL;
    const char *dir = test_path(test_dir(), "model");
    OK(ctx, rsd_t5_save(m, dir, RSD_BF16, NULL));
    OK(ctx, rsd_t5_open_as(ctx, dir, RSD_BF16, &again));
    OK(ctx, rsd_t5_open(ctx, dir, &wide));
    size_t n = 0, mapped = 0;
    float *a = read_all(ctx, m, 0, &n), *b = read_all(ctx, again, 0, &n), *c = read_all(ctx, wide, 0, &n);
    ck_assert(memcmp(a, b, n * sizeof *a) == 0);
    ck_assert(memcmp(a, c, n * sizeof *a) == 0);
    for (size_t i = 0; i < again->w->n; i++) {
        const unsigned char *p = again->w->params[i].w.data, *map = again->w->shards[0].map.p;
        mapped += p >= map && p < map + again->w->shards[0].map.n;
        ck_assert_int_eq(again->w->params[i].w.dtype, DTYPE_BF16);
    }
    ck_assert_uint_eq(mapped, again->w->n);
    rsd_t5 *none = NULL;
    FAILS(ctx, RSD_EUNSUPPORTED, "RSD_BF16", rsd_t5_open_as(ctx, dir, RSD_F16, &none));
    FAILS(ctx, RSD_EINVAL, "dtype 9", rsd_t5_open_as(ctx, dir, 9, &none));
    ck_assert_ptr_null(none);
    free(a);
    free(b);
    free(c);
    rsd_t5_close(m);
    rsd_t5_close(again);
    rsd_t5_close(wide);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(frozen_parameters_get_no_gradient_and_the_others_the_same) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = make(ctx, _i ? tiny_gated : tiny_tied, RSD_F32);
    struct owned_batch o;
    size_t n = 0, matched = 0, frozen = 0;
    owned_random(&o, SEQUENCES, lengths, VOCAB, 3);
    t5_step(ctx, m, &o.b, RSD_LOSS_CE, 1);
    float *all = read_all(ctx, m, 1, &n);
    OK(ctx, rsd_t5_freeze(m, "*", 1, &matched));
    ck_assert_uint_eq(matched, m->w->n);
    OK(ctx, rsd_t5_freeze(m, "decoder.*.o.weight", 0, &matched));
    ck_assert_uint_eq(matched, 2 * m->w->decoder.n);
    OK(ctx, rsd_t5_freeze(m, "encoder.*layer_norm*", 0, &matched));
    ck_assert_uint_eq(matched, 2 * m->w->encoder.n + 1);
    FAILS(ctx, RSD_ENOTFOUND, "encoder.o", rsd_t5_freeze(m, "encoder.o", 1, NULL));
    FAILS(ctx, RSD_ENOTFOUND, "shared.weights", rsd_t5_freeze(m, "shared.weights", 1, NULL));
    t5_step(ctx, m, &o.b, RSD_LOSS_CE, 1);
    float *some = read_all(ctx, m, 1, &n);
    for (size_t i = 0; i < m->w->n; i++) {
        rsd_param p = {.size = sizeof p};
        OK(ctx, rsd_t5_param(m, i, &p));
        bool none = !strstr(p.name, ".o.weight") || p.name[0] != 'd';
        none = none && (!strstr(p.name, "layer_norm") || p.name[0] != 'e');
        ck_assert_int_eq(p.frozen, none);
        frozen += none;
        for (size_t k = 0; k < p.count; k++)
            ck_assert_float_eq(some[m->w->info[i].offset + k], none ? 0 : all[m->w->info[i].offset + k]);
    }
    ck_assert_uint_gt(frozen, 5);
    free(all);
    free(some);
    owned_free(&o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

TCase *t5_mixed_case(void) {
    TCase *c = tcase_create("mixed");
    tcase_add_loop_test(c, recomputation_keeps_every_bit_and_less_memory, 0, 4);
    tcase_add_loop_test(c, bf16_follows_f32, 0, 2);
    tcase_add_test(c, bf16_files_are_mapped_and_written_back_bit_for_bit);
    tcase_add_loop_test(c, frozen_parameters_get_no_gradient_and_the_others_the_same, 0, 2);
    return c;
}
