/* Against Hugging Face's T5 in PyTorch: tests/tools/make_t5_fixtures.py. The tolerances are those of the design: 1e-5 of the
 * largest logit, 1e-4 of a tensor's largest gradient. Three times that for kernels that round each product and each sum: the generic
 * ones, and those of a sanitizer's build, which fuses fewer. v1_1 magnifies what is lost: 2.0e-4 by the generic kernels, 3.4e-5 by
 * the same with fused multiply-add; PyTorch's own single precision is off by 6.2e-5. */
#include "test_t5.h"

#include "t5/buckets.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Those with prompts first. */
static const char *const variants[] = {"v1_0", "v1_1", "mt5", "ul2", "lm_adapted", "flan_early", "t5_first"};
enum { VARIANTS = sizeof variants / sizeof *variants, WITH_PROMPTS = 4, PROMPTS = 50 };

struct subject {
    rsd_ctx *ctx;
    rsd_t5 *m;
    struct golden g;
    struct owned_batch batch;
};

static double limit(double fused) {
    const char *table = getenv("RSD_TEST_KERNELS");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    table = "generic";
#endif
    return table && strcmp(table, "generic") == 0 ? 3 * fused : fused;
}

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
    ck_assert_double_le(relative_error(got, want, n), limit(1e-5));
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
        ck_assert_msg(err <= limit(1e-4), "%s: %g", name, err);
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

START_TEST(ten_steps_of_adamw_follow_the_losses_of_pytorch) {
    struct subject s;
    size_t n = 0;
    rsd_optimizer *optimizer = NULL;
    rsd_optimizer_options o;
    rsd_optimizer_options_init(&o, sizeof o);
    o.clip = 0;
    o.decay = 0.01;
    o.beta1 = 0.9;
    o.beta2 = 0.999;
    o.eps = 1e-8;
    subject_open(&s, _i, "golden");
    owned_golden(&s.batch, &s.g);
    OK(s.ctx, rsd_optimizer_open(s.ctx, s.m, &o, &optimizer));
    const float *want = golden_get(&s.g, "adamw.losses", &n);
    ck_assert_uint_eq(n, 10);
    ck_assert_double_lt((double)want[9], 0.98 * (double)want[0]);
    for (size_t i = 0; i < n; i++) {
        double loss = t5_step(s.ctx, s.m, &s.batch.b, RSD_LOSS_CE, 1.0 / s.batch.dec_offsets[s.batch.b.n]);
        ck_assert_msg(fabs(loss - (double)want[i]) <= 1e-4 * (double)want[i], "step %zu: %g, not %g", i, loss, (double)want[i]);
        OK(s.ctx, rsd_optimizer_step(optimizer, 1e-3, NULL));
    }
    rsd_optimizer_close(optimizer);
    owned_free(&s.batch);
    subject_close(&s);
}
END_TEST

/* ---- generation ---- */

struct written {
    int32_t *ids;
    float *logprobs;
    uint32_t *offsets; /* what is expected of output i lies at offsets[i] .. offsets[i+1] */
    size_t *got, outputs, total;
    int *finish;
};

static void written_open(struct written *w, const struct golden *g, const char *prefix, size_t outputs) {
    char name[40];
    size_t n = 0;
    snprintf(name, sizeof name, "%soffsets", prefix);
    *w = (struct written){.offsets = golden_offsets(g, name, &n), .outputs = outputs};
    ck_assert_uint_eq(n, PROMPTS * outputs + 1);
    w->total = w->offsets[n - 1];
    w->ids = calloc(w->total, sizeof *w->ids);
    w->logprobs = calloc(w->total, sizeof *w->logprobs);
    w->got = calloc(n, sizeof *w->got);
    w->finish = calloc(n, sizeof *w->finish);
}

static void written_close(struct written *w) {
    free(w->ids);
    free(w->logprobs);
    free(w->offsets);
    free(w->got);
    free(w->finish);
}

static int take_token(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    struct written *w = user;
    ck_assert_uint_lt(input, PROMPTS);
    ck_assert_uint_lt(sample, w->outputs);
    size_t i = input * w->outputs + sample, at = w->offsets[i] + w->got[i]++;
    ck_assert_int_eq(w->finish[i], RSD_RUNNING);
    ck_assert_msg(at < w->offsets[i + 1], "input %zu, output %zu: more than %u tokens", input, sample,
                  w->offsets[i + 1] - w->offsets[i]);
    w->ids[at] = id;
    w->logprobs[at] = logprob;
    w->finish[i] = finish;
    return 0;
}

static void same_as_written(const struct written *w, const struct golden *g, const char *prefix) {
    char name[40];
    size_t total = 0;
    snprintf(name, sizeof name, "%sids", prefix);
    int32_t *want = golden_ids(g, name, &total);
    ck_assert_uint_eq(total, w->total);
    for (size_t i = 0; i < PROMPTS * w->outputs; i++) {
        ck_assert_uint_eq(w->got[i], w->offsets[i + 1] - w->offsets[i]);
        ck_assert_int_eq(w->finish[i], want[w->offsets[i + 1] - 1] == 1 ? RSD_FINISH_STOP : RSD_FINISH_LENGTH);
        for (size_t t = w->offsets[i]; t < w->offsets[i + 1]; t++)
            ck_assert_msg(w->ids[t] == want[t], "%soutput %zu, token %zu: %d, not %d", prefix, i, t - w->offsets[i],
                          (int)w->ids[t], (int)want[t]);
    }
    free(want);
}

struct asked {
    int32_t *ids;
    uint32_t *offsets;
};

static struct asked asked_open(const struct golden *g) {
    size_t n = 0;
    struct asked a = {golden_ids(g, "enc_ids", NULL), golden_offsets(g, "enc_offsets", &n)};
    ck_assert_uint_eq(n, PROMPTS + 1);
    return a;
}

static void asked_close(struct asked *a) {
    free(a->ids);
    free(a->offsets);
}

START_TEST(greedy_ids_equal_hugging_face_generate) {
    struct subject s;
    struct written w;
    subject_open(&s, _i, "prompts");
    struct asked a = asked_open(&s.g);
    const float *logprobs = golden_get(&s.g, "logprobs", NULL);
    rsd_generate_options o;
    rsd_generate_options_init(&o, sizeof o);
    o.max_tokens = 24;
    o.batch = 7;
    written_open(&w, &s.g, "", 1);
    OK(s.ctx, rsd_t5_generate(s.m, a.ids, a.offsets, PROMPTS, &o, take_token, &w));
    same_as_written(&w, &s.g, "");
    /* Scores are not divided by sqrt(d_kv), so exp magnifies the rounding of their sums: 3e-5 to 6e-5 by the order of the sums. */
    for (size_t t = 0; t < w.total; t++)
        ck_assert_double_le(fabs((double)w.logprobs[t] - (double)logprobs[t]), 1e-4);
    written_close(&w);
    asked_close(&a);
    subject_close(&s);
}
END_TEST

/* The score of each hypothesis is made of the log-probabilities that came with its tokens. */
static void same_scores(const struct written *w, const struct golden *g, const char *prefix, double length_penalty) {
    char name[40];
    size_t n = 0;
    snprintf(name, sizeof name, "%sscores", prefix);
    const float *want = golden_get(g, name, &n);
    ck_assert_uint_eq(n, PROMPTS * w->outputs);
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t t = w->offsets[i]; t < w->offsets[i + 1]; t++)
            sum += (double)w->logprobs[t];
        double score = sum / pow((double)w->got[i], length_penalty);
        ck_assert_double_le(fabs(score - (double)want[i]), 1e-4 * fmax(1, fabs((double)want[i])));
    }
}

START_TEST(beam_search_equals_hugging_face_generate) {
    enum { SETTINGS = 6 };
    struct subject s;
    subject_open(&s, _i / SETTINGS, "prompts");
    struct asked a = asked_open(&s.g);
    char prefix[16], name[40];
    snprintf(prefix, sizeof prefix, "beam%d.", _i % SETTINGS);
    snprintf(name, sizeof name, "%ssettings", prefix);
    const float *setting = golden_get(&s.g, name, NULL);
    rsd_generate_options o;
    rsd_generate_options_init(&o, sizeof o);
    o.max_tokens = 24;
    o.mode = RSD_BEAM;
    o.beams = (int32_t)setting[0];
    o.length_penalty = (double)setting[1];
    o.early_stopping = (int32_t)setting[2];
    o.n = (int32_t)setting[3];
    for (int batch = 1; batch <= 40; batch += 13) {
        struct written w;
        o.batch = batch;
        written_open(&w, &s.g, prefix, (size_t)o.n);
        OK(s.ctx, rsd_t5_generate(s.m, a.ids, a.offsets, PROMPTS, &o, take_token, &w));
        same_as_written(&w, &s.g, prefix);
        same_scores(&w, &s.g, prefix, (double)setting[1]);
        written_close(&w);
    }
    asked_close(&a);
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
            int32_t *want = golden_ids(&g, name, &n);
            buckets_init(&b, both, shapes[i][0], shapes[i][1]);
            for (size_t k = 0; k < n; k++) {
                int64_t relative = (int64_t)k - (int64_t)(n / 2);
                ck_assert_msg(bucket_of(&b, relative) == want[k], "%s at %ld: %d, not %d", name, (long)relative,
                              (int)bucket_of(&b, relative), (int)want[k]);
            }
            free(want);
        }
    golden_close(&g);
}
END_TEST

TCase *t5_golden_case(void) {
    TCase *c = tcase_create("golden");
    tcase_add_loop_test(c, logits_and_logprobs_equal_hugging_face, 0, VARIANTS);
    tcase_add_loop_test(c, loss_and_every_gradient_equal_hugging_face, 0, VARIANTS);
    tcase_add_loop_test(c, soft_targets_give_the_gradients_of_hugging_face, 0, VARIANTS);
    tcase_add_loop_test(c, ten_steps_of_adamw_follow_the_losses_of_pytorch, 0, VARIANTS);
    tcase_add_loop_test(c, greedy_ids_equal_hugging_face_generate, 0, WITH_PROMPTS);
    tcase_add_loop_test(c, beam_search_equals_hugging_face_generate, 0, 6 * WITH_PROMPTS);
    tcase_add_test(c, buckets_equal_hugging_face_at_every_distance);
    return c;
}
