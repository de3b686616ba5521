/* AdamW against its definition in double precision, and what it must leave alone. */
#include "test_train.h"

#include "t5/params.h"
#include "train/optimizer.h"
#include "train_fixture.h"
#include "util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static rsd_t5 *tiny(rsd_ctx *ctx, uint64_t seed) {
    rsd_t5 *m = NULL;
    const char *path = test_path(test_dir(), "config.json");
    fixture_config(path, 20, "0");
    OK(ctx, rsd_t5_create(ctx, path, seed, &m));
    return m;
}

static rsd_optimizer *adamw(rsd_ctx *ctx, rsd_t5 *m, double decay, double clip) {
    rsd_optimizer *o = NULL;
    rsd_optimizer_options opt;
    rsd_optimizer_options_init(&opt, sizeof opt);
    ck_assert_double_eq(opt.clip, 1);
    opt.decay = decay;
    opt.clip = clip;
    opt.beta2 = 0.98;
    OK(ctx, rsd_optimizer_open(ctx, m, &opt, &o));
    return o;
}

static double norm_of(const float *g, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)g[i] * (double)g[i];
    return sqrt(sum);
}

/* Five steps beside a plain double implementation that is given the same gradients. Weights are single precision and of size
 * about 1: each step may round by 1e-7, and a moment near eps turns rounding of the gradient into rounding of a whole step. */
static void follow(double decay, double clip) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m = tiny(ctx, 1);
    rsd_optimizer *o = adamw(ctx, m, decay, clip);
    size_t n = 0;
    float *w = fixture_read(ctx, m, 0, &n);
    double *want = calloc(3 * n, sizeof *want), *m1 = want + n, *m2 = want + 2 * n;
    ck_assert_ptr_nonnull(want);
    for (size_t i = 0; i < n; i++)
        want[i] = (double)w[i];
    bool clipped = false;
    for (int t = 1; t <= 5; t++) {
        double lr = 0.01 * t, norm = 0, length;
        fixture_pass(ctx, m, fixture_batch());
        size_t n_g;
        float *g = fixture_read(ctx, m, 1, &n_g);
        ck_assert_uint_eq(n, n_g);
        length = norm_of(g, n);
        double factor = clip > 0 && length > clip ? clip / length : 1;
        clipped |= factor < 1;
        for (size_t i = 0; i < n; i++) {
            double x = (double)g[i] * factor;
            m1[i] = 0.9 * m1[i] + 0.1 * x;
            m2[i] = 0.98 * m2[i] + 0.02 * x * x;
            want[i] -= lr * decay * want[i];
            want[i] -= lr * (m1[i] / (1 - pow(0.9, t))) / (sqrt(m2[i] / (1 - pow(0.98, t))) + 1e-8);
        }
        free(g);
        OK(ctx, rsd_optimizer_step(o, lr, &norm));
        ck_assert_double_eq_tol(norm, length, 1e-9 * length);
        ck_assert_uint_eq(rsd_optimizer_steps(o), (uint64_t)t);
        float *now = fixture_read(ctx, m, 0, &n);
        for (size_t i = 0; i < n; i++) {
            ck_assert_msg(fabs((double)now[i] - want[i]) < 2e-5, "step %d, element %zu: %g for %g", t, i, (double)now[i],
                          want[i]);
            want[i] = (double)now[i]; /* so that rounding does not add up */
        }
        free(now);
        g = fixture_read(ctx, m, 1, &n_g);
        ck_assert_double_eq(norm_of(g, n), 0);
        free(g);
    }
    ck_assert(clipped == (clip > 0));
    free(want);
    free(w);
    rsd_optimizer_close(o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}

START_TEST(adamw_follows_its_definition) {
    follow(0, 0);
}
END_TEST

START_TEST(decay_is_applied_to_the_weights_not_to_the_gradient) {
    follow(0.1, 0);
}
END_TEST

START_TEST(gradient_is_scaled_to_the_largest_norm) {
    follow(0.01, 0.05);
}
END_TEST

START_TEST(loss_falls) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m = tiny(ctx, 3);
    rsd_optimizer *o = adamw(ctx, m, 0, 1);
    double first = 0, last = 0;
    for (int t = 0; t < 60; t++) {
        last = fixture_pass(ctx, m, fixture_batch());
        if (!t)
            first = last;
        OK(ctx, rsd_optimizer_step(o, 0.02, NULL));
    }
    ck_assert_msg(last < first / 10, "%g, then %g", first, last);
    rsd_optimizer_close(o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(bad_gradient_is_named_and_touches_nothing) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m = tiny(ctx, 1), *same = tiny(ctx, 1);
    rsd_optimizer *o = adamw(ctx, m, 0.1, 1), *p = adamw(ctx, same, 0.1, 1);
    struct param *params = NULL;
    size_t n = 0, count = 0;
    fixture_pass(ctx, m, fixture_batch());
    ck_assert_int_eq(params_acquire(m, 1, false, &params, &n, NULL), 0);
    ((float *)params[2].grad.data)[3] = NAN;
    const char *name = params[2].name;
    params_release(m, 1, false);
    float *before = fixture_read(ctx, m, 0, &count);
    ck_assert_int_eq(rsd_optimizer_step(o, 0.1, NULL), RSD_ENUMERIC);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), name) != NULL, "%s", rsd_ctx_error(ctx));
    float *after = fixture_read(ctx, m, 0, &count);
    ck_assert_int_eq(memcmp(before, after, count * sizeof *before), 0);
    ck_assert_uint_eq(rsd_optimizer_steps(o), 0);
    free(before);
    free(after);

    /* The moments are untouched too: the next good step is that of an optimizer that never saw the bad one. */
    OK(ctx, rsd_t5_zero_grad(m));
    fixture_pass(ctx, m, fixture_batch());
    fixture_pass(ctx, same, fixture_batch());
    OK(ctx, rsd_optimizer_step(o, 0.1, NULL));
    OK(ctx, rsd_optimizer_step(p, 0.1, NULL));
    before = fixture_read(ctx, m, 0, &count);
    after = fixture_read(ctx, same, 0, &count);
    ck_assert_int_eq(memcmp(before, after, count * sizeof *before), 0);
    free(before);
    free(after);
    rsd_optimizer_close(o);
    rsd_optimizer_close(p);
    rsd_t5_close(m);
    rsd_t5_close(same);
    rsd_ctx_close(ctx);
}
END_TEST

static void write_state(const rsd_optimizer *o, const char *path) {
    struct err e = {0};
    size_t n = optimizer_tensors(o);
    struct safetensors_item *items = calloc(n, sizeof *items);
    ck_assert_ptr_nonnull(items);
    for (size_t i = 0; i < n; i++)
        optimizer_tensor(o, i, &items[i]);
    ck_assert_msg(safetensors_write(NULL, path, items, n, NULL, 0, &e) == 0, "%s", e.text);
    free(items);
}

START_TEST(state_that_was_written_goes_on_with_the_same_bits) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m = tiny(ctx, 1);
    rsd_optimizer *o = adamw(ctx, m, 0.1, 1), *p = NULL;
    for (int t = 0; t < 3; t++) {
        fixture_pass(ctx, m, fixture_batch());
        OK(ctx, rsd_optimizer_step(o, 0.02, NULL));
    }
    const char *dir = test_dir(), *state = test_path(dir, "state.safetensors"), *copy_dir = test_path(dir, "model");
    struct safetensors file = {0};
    struct err e = {0};
    rsd_t5 *copy_of = NULL;
    write_state(o, state);
    OK(ctx, rsd_t5_save(m, copy_dir, RSD_F32, NULL));
    OK(ctx, rsd_t5_open(ctx, copy_dir, &copy_of));
    p = adamw(ctx, copy_of, 0.1, 1);
    ck_assert_msg(safetensors_open(&file, &mem_std, state, &e) == 0, "%s", e.text);
    ck_assert_msg(optimizer_restore(p, &file, 3, &e) == 0, "%s", e.text);
    safetensors_close(&file);
    for (int t = 0; t < 2; t++) {
        fixture_pass(ctx, m, fixture_batch());
        OK(ctx, rsd_optimizer_step(o, 0.02, NULL));
        fixture_pass(ctx, copy_of, fixture_batch());
        OK(ctx, rsd_optimizer_step(p, 0.02, NULL));
    }
    size_t n = 0;
    float *a = fixture_read(ctx, m, 0, &n), *b = fixture_read(ctx, copy_of, 0, &n);
    ck_assert_int_eq(memcmp(a, b, n * sizeof *a), 0);
    free(a);
    free(b);
    rsd_optimizer_close(o);
    rsd_optimizer_close(p);
    rsd_t5_close(m);
    rsd_t5_close(copy_of);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(state_of_another_model_is_refused) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m = tiny(ctx, 1), *other = NULL;
    const char *dir = test_dir(), *config = test_path(dir, "config.json"), *state = test_path(dir, "state.safetensors");
    fixture_config(config, 21, "0");
    OK(ctx, rsd_t5_create(ctx, config, 1, &other));
    rsd_optimizer *o = adamw(ctx, m, 0, 1), *p = adamw(ctx, other, 0, 1);
    struct safetensors file = {0};
    struct err e = {0};
    write_state(o, state);
    ck_assert_int_eq(safetensors_open(&file, &mem_std, state, &e), 0);
    ck_assert_int_eq(optimizer_restore(p, &file, 1, &e), ERR_MISMATCH);
    ck_assert_msg(strstr(e.text, "m.") && strstr(e.text, "21 x 8"), "%s", e.text);
    safetensors_close(&file);
    rsd_optimizer_close(o);
    rsd_optimizer_close(p);
    rsd_t5_close(m);
    rsd_t5_close(other);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(shared_weights_are_not_trained) {
    rsd_ctx *ctx = fixture_ctx(), *second = fixture_ctx();
    rsd_t5 *m = tiny(ctx, 1), *twin = NULL;
    rsd_optimizer *o = NULL;
    OK(ctx, rsd_t5_share(m, second, &twin));
    ck_assert_int_eq(rsd_optimizer_open(ctx, m, NULL, &o), RSD_EBUSY);
    ck_assert_ptr_null(o);
    rsd_t5_close(twin);
    OK(ctx, rsd_optimizer_open(ctx, m, NULL, &o));
    rsd_optimizer_close(o);
    rsd_t5_close(m);
    rsd_ctx_close(second);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(options_out_of_range_are_refused) {
    rsd_ctx *ctx = fixture_ctx();
    rsd_t5 *m = tiny(ctx, 1);
    for (int i = 0; i < 6; i++) {
        rsd_optimizer *o = NULL;
        rsd_optimizer_options opt;
        rsd_optimizer_options_init(&opt, sizeof opt);
        double *fields[] = {&opt.beta1, &opt.beta2, &opt.eps, &opt.decay, &opt.clip};
        if (i < 5)
            *fields[i] = i < 2 ? 1 : -1;
        else
            opt.kind = 7;
        ck_assert_int_eq(rsd_optimizer_open(ctx, m, &opt, &o), RSD_EINVAL);
        ck_assert_ptr_null(o);
    }
    rsd_optimizer *o = adamw(ctx, m, 0, 1);
    ck_assert_int_eq(rsd_optimizer_step(o, NAN, NULL), RSD_EINVAL);
    ck_assert_int_eq(rsd_optimizer_step(o, -1, NULL), RSD_EINVAL);
    rsd_optimizer_close(o);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *train_optimizer_suite(void) {
    Suite *s = suite_create("train_optimizer");
    TCase *c = tcase_create("optimizer");
    tcase_add_test(c, adamw_follows_its_definition);
    tcase_add_test(c, decay_is_applied_to_the_weights_not_to_the_gradient);
    tcase_add_test(c, gradient_is_scaled_to_the_largest_norm);
    tcase_add_test(c, loss_falls);
    tcase_add_test(c, bad_gradient_is_named_and_touches_nothing);
    tcase_add_test(c, state_that_was_written_goes_on_with_the_same_bits);
    tcase_add_test(c, state_of_another_model_is_refused);
    tcase_add_test(c, shared_weights_are_not_trained);
    tcase_add_test(c, options_out_of_range_are_refused);
    suite_add_tcase(s, c);
    return s;
}
