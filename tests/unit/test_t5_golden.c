/* Against Hugging Face's T5 in PyTorch: tests/tools/make_t5_fixtures.py. The tolerances are those of the design: 1e-5 of the
 * largest logit, 1e-4 of a tensor's largest gradient. */
#include "test_t5.h"

#include "t5/buckets.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const variants[] = {"v1_0", "v1_1"};
enum { VARIANTS = sizeof variants / sizeof *variants };

struct subject {
    rsd_ctx *ctx;
    rsd_t5 *m;
    struct golden g;
    struct owned_batch batch;
};

static void subject_open(struct subject *s, int variant, const char *golden) {
    char name[80];
    s->ctx = t5_ctx(2);
    OK(s->ctx, rsd_t5_open(s->ctx, t5_fixture(variants[variant]), &s->m));
    OK(s->ctx, rsd_t5_set_dropout(s->m, 0, 0, 0));
    snprintf(name, sizeof name, "%s/%s.safetensors", variants[variant], golden);
    golden_open(&s->g, t5_fixture(name));
}

static void subject_close(struct subject *s) {
    golden_close(&s->g);
    rsd_t5_close(s->m);
    rsd_ctx_close(s->ctx);
}

START_TEST(logits_and_logprobs_equal_hugging_face) {
    struct subject s;
    size_t n = 0, T = 0;
    subject_open(&s, _i, "golden");
    owned_golden(&s.batch, &s.g);
    const float *want = golden_get(&s.g, "logits", &n), *logprobs = golden_get(&s.g, "logprobs", &T);
    float *got = malloc(n * sizeof *got);
    OK(s.ctx, rsd_t5_forward(s.m, &s.batch.b, RSD_INFER));
    OK(s.ctx, rsd_t5_logits(s.m, got, n));
    ck_assert_double_le(relative_error(got, want, n), 1e-5);
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)want[i]));
    OK(s.ctx, rsd_t5_logprobs(s.m, got, T));
    for (size_t t = 0; t < T; t++) /* a difference of two logits */
        ck_assert_double_le(fabs((double)got[t] - (double)logprobs[t]), 2e-5 * most);
    FAILS(s.ctx, RSD_EINVAL, "positions", rsd_t5_logprobs(s.m, got, T + 1));
    free(got);
    owned_free(&s.batch);
    subject_close(&s);
}
END_TEST

/* Every parameter that we have, and no gradient in the fixture that we lack. */
static void compare_gradients(const struct subject *s, const char *prefix) {
    size_t found = 0;
    for (size_t i = 0; i < rsd_t5_params(s->m); i++) {
        rsd_param p = {.size = sizeof p};
        char name[160];
        size_t n = 0;
        OK(s->ctx, rsd_t5_param(s->m, i, &p));
        snprintf(name, sizeof name, "%s%s", prefix, p.name);
        const float *want = golden_get(&s->g, name, &n);
        ck_assert_uint_eq(n, p.count);
        float *got = malloc(n * sizeof *got);
        OK(s->ctx, rsd_t5_grad_read(s->m, i, got, n));
        double err = relative_error(got, want, n);
        ck_assert_msg(err <= 1e-4, "%s: %g", name, err);
        free(got);
        found++;
    }
    size_t stored = 0;
    for (size_t i = 0; i < s->g.file.n; i++)
        stored += strncmp(s->g.file.tensors[i].name, prefix, strlen(prefix)) == 0;
    ck_assert_uint_eq(found, stored);
}

START_TEST(loss_and_every_gradient_equal_hugging_face) {
    struct subject s;
    subject_open(&s, _i, "golden");
    owned_golden(&s.batch, &s.g);
    double want = (double)golden_get(&s.g, "loss", NULL)[0],
           loss = t5_step(s.ctx, s.m, &s.batch.b, RSD_LOSS_CE, 1.0 / s.batch.dec_offsets[s.batch.b.n]);
    ck_assert_double_le(fabs(loss - want), 1e-5 * want);
    compare_gradients(&s, "grad.");
    owned_free(&s.batch);
    subject_close(&s);
}
END_TEST

START_TEST(soft_targets_give_the_gradients_of_hugging_face) {
    struct subject s;
    size_t n = 0;
    subject_open(&s, _i, "golden");
    owned_golden(&s.batch, &s.g);
    int32_t *ids = golden_ids(&s.g, "soft.ids", &n);
    uint32_t *rows = calloc(n / 3 + 1, sizeof *rows);
    for (size_t t = 0; t <= n / 3; t++)
        rows[t] = (uint32_t)(3 * t);
    s.batch.b.row_offsets = rows;
    s.batch.b.row_ids = ids;
    s.batch.b.row_probs = golden_get(&s.g, "soft.probs", NULL);
    double want = (double)golden_get(&s.g, "soft.loss", NULL)[0],
           loss = t5_step(s.ctx, s.m, &s.batch.b, RSD_LOSS_KL, 1.0 / s.batch.dec_offsets[s.batch.b.n]);
    ck_assert_double_le(fabs(loss - want), 1e-5 * want);
    compare_gradients(&s, "soft.grad.");
    free(ids);
    free(rows);
    owned_free(&s.batch);
    subject_close(&s);
}
END_TEST

struct greedy {
    int32_t *ids;
    float *logprobs;
    const uint32_t *offsets;
    size_t *got, n;
    int *finish;
};

static int take_token(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    struct greedy *g = user;
    ck_assert_uint_lt(input, g->n);
    ck_assert_uint_eq(sample, 0);
    ck_assert_int_eq(g->finish[input], RSD_RUNNING);
    size_t at = g->offsets[input] + g->got[input]++;
    ck_assert_uint_lt(at, g->offsets[input + 1]);
    g->ids[at] = id;
    g->logprobs[at] = logprob;
    g->finish[input] = finish;
    return 0;
}

START_TEST(greedy_ids_equal_hugging_face_generate) {
    struct subject s;
    size_t n = 0, total = 0;
    subject_open(&s, _i, "prompts");
    int32_t *enc = golden_ids(&s.g, "enc_ids", NULL), *want = golden_ids(&s.g, "ids", &total);
    uint32_t *enc_offsets = golden_offsets(&s.g, "enc_offsets", &n), *offsets = golden_offsets(&s.g, "offsets", NULL);
    const float *logprobs = golden_get(&s.g, "logprobs", NULL);
    n--;
    ck_assert_uint_eq(n, 40);
    struct greedy g = {.ids = calloc(total, sizeof *g.ids),
                       .logprobs = calloc(total, sizeof *g.logprobs),
                       .offsets = offsets,
                       .got = calloc(n, sizeof *g.got),
                       .finish = calloc(n, sizeof *g.finish),
                       .n = n};
    rsd_generate_options o;
    rsd_generate_options_init(&o, sizeof o);
    o.max_tokens = 24;
    o.batch = 7;
    OK(s.ctx, rsd_t5_generate(s.m, enc, enc_offsets, n, &o, take_token, &g));
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(g.got[i], offsets[i + 1] - offsets[i]);
        ck_assert_int_eq(g.finish[i], want[offsets[i + 1] - 1] == 1 ? RSD_FINISH_STOP : RSD_FINISH_LENGTH);
    }
    for (size_t t = 0; t < total; t++) {
        ck_assert_int_eq(g.ids[t], want[t]);
        ck_assert_double_le(fabs((double)g.logprobs[t] - (double)logprobs[t]), 5e-5);
    }
    free(enc);
    free(want);
    free(enc_offsets);
    free(offsets);
    free(g.ids);
    free(g.logprobs);
    free(g.got);
    free(g.finish);
    subject_close(&s);
}
END_TEST

START_TEST(buckets_equal_hugging_face_at_every_distance) {
    static const size_t shapes[][2] = {{32, 128}, {8, 20}, {64, 512}, {32, 256}, {4, 10}};
    struct golden g;
    golden_open(&g, t5_fixture("buckets.safetensors"));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int both = 0; both < 2; both++) {
            char name[40];
            size_t n = 0;
            struct buckets b;
            snprintf(name, sizeof name, "%s.%zu.%zu", both ? "both" : "causal", shapes[i][0], shapes[i][1]);
            const float *want = golden_get(&g, name, &n);
            buckets_init(&b, both, shapes[i][0], shapes[i][1]);
            for (size_t k = 0; k < n; k++) {
                int64_t relative = (int64_t)k - (int64_t)(n / 2);
                ck_assert_msg(bucket_of(&b, relative) == (int32_t)want[k], "%s at %ld: %d, not %d", name, (long)relative,
                              (int)bucket_of(&b, relative), (int)want[k]);
            }
        }
    golden_close(&g);
}
END_TEST

TCase *t5_golden_case(void) {
    TCase *c = tcase_create("golden");
    tcase_add_loop_test(c, logits_and_logprobs_equal_hugging_face, 0, VARIANTS);
    tcase_add_loop_test(c, loss_and_every_gradient_equal_hugging_face, 0, VARIANTS);
    tcase_add_loop_test(c, soft_targets_give_the_gradients_of_hugging_face, 0, VARIANTS);
    tcase_add_loop_test(c, greedy_ids_equal_hugging_face_generate, 0, VARIANTS);
    tcase_add_test(c, buckets_equal_hugging_face_at_every_distance);
    return c;
}
