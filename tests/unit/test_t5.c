#include "test_t5.h"

#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char tiny_tied[] =
    "{\"model_type\":\"t5\",\"vocab_size\":37,\"d_model\":8,\"d_kv\":3,\"d_ff\":12,\"num_layers\":2,\"num_heads\":2,"
    "\"dropout_rate\":0.1,\"feed_forward_proj\":\"relu\",\"initializer_factor\":1.0}";
const char tiny_gated[] =
    "{\"model_type\":\"t5\",\"vocab_size\":37,\"d_model\":8,\"d_kv\":4,\"d_ff\":10,\"num_layers\":2,\"num_decoder_layers\":3,"
    "\"num_heads\":3,\"dropout_rate\":0.1,\"feed_forward_proj\":\"gated-gelu\",\"tie_word_embeddings\":false}";

rsd_ctx *t5_ctx(int threads) {
    rsd_ctx *ctx = NULL;
    rsd_ctx_options o;
    ck_assert_int_eq(rsd_ctx_options_init(&o, sizeof o), RSD_OK);
    o.threads = threads;
    o.blas = RSD_BLAS_OWN;
    o.kernels = getenv("RSD_TEST_KERNELS"); /* the goldens are run with each name */
    ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_OK);
    return ctx;
}

const char *t5_fixture(const char *name) {
    return test_path(TEST_SOURCE_ROOT "/tests/fixtures/t5", name);
}

void golden_open(struct golden *g, const char *path) {
    struct err e = {0};
    ck_assert_msg(safetensors_open(&g->file, &mem_std, path, &e) == 0, "%s", e.text);
}

void golden_close(struct golden *g) {
    safetensors_close(&g->file);
}

const float *golden_get(const struct golden *g, const char *name, size_t *count) {
    const struct safetensor *t = safetensors_find(&g->file, name);
    ck_assert_msg(t != NULL && t->dtype == DTYPE_F32 && (uintptr_t)t->data % 4 == 0, "no fp32 tensor %s", name);
    if (count)
        *count = t->count;
    return (const float *)(const void *)t->data;
}

int32_t *golden_ids(const struct golden *g, const char *name, size_t *count) {
    const struct safetensor *t = safetensors_find(&g->file, name);
    ck_assert_msg(t != NULL && t->known, "no tensor %s", name);
    float *f = malloc((t->count + 1) * sizeof *f);
    int32_t *ids = malloc((t->count + 1) * sizeof *ids);
    dtype_convert(f, DTYPE_F32, t->data, t->dtype, t->count);
    for (size_t i = 0; i < t->count; i++)
        ids[i] = (int32_t)f[i];
    if (count)
        *count = t->count;
    free(f);
    return ids;
}

uint32_t *golden_offsets(const struct golden *g, const char *name, size_t *count) {
    int32_t *ids = golden_ids(g, name, count);
    return (uint32_t *)ids;
}

static void owned_point(struct owned_batch *o, size_t n) {
    o->b = (rsd_batch){.size = sizeof o->b,
                       .n = n,
                       .enc_ids = o->enc_ids,
                       .enc_offsets = o->enc_offsets,
                       .dec_ids = o->dec_ids,
                       .dec_offsets = o->dec_offsets};
}

static void random_side(int32_t **ids, uint32_t **offsets, size_t n, const size_t (*lengths)[2], size_t side, int32_t vocab,
                        struct rng *r) {
    *offsets = calloc(n + 1, sizeof **offsets);
    for (size_t s = 0; s < n; s++)
        (*offsets)[s + 1] = (*offsets)[s] + (uint32_t)lengths[s][side];
    *ids = calloc((*offsets)[n], sizeof **ids);
    for (size_t t = 0; t < (*offsets)[n]; t++)
        (*ids)[t] = 2 + (int32_t)rng_below(r, (uint64_t)vocab - 2);
    for (size_t s = 0; s < n; s++)
        (*ids)[(*offsets)[s + 1] - 1] = 1;
}

void owned_random(struct owned_batch *o, size_t n, const size_t (*lengths)[2], int32_t vocab, uint64_t seed) {
    struct rng r = rng_make(seed, 1);
    random_side(&o->enc_ids, &o->enc_offsets, n, lengths, 0, vocab, &r);
    random_side(&o->dec_ids, &o->dec_offsets, n, lengths, 1, vocab, &r);
    owned_point(o, n);
}

void owned_golden(struct owned_batch *o, const struct golden *g) {
    size_t n = 0;
    o->enc_ids = golden_ids(g, "enc_ids", NULL);
    o->dec_ids = golden_ids(g, "dec_ids", NULL);
    o->enc_offsets = golden_offsets(g, "enc_offsets", &n);
    o->dec_offsets = golden_offsets(g, "dec_offsets", &n);
    owned_point(o, n - 1);
}

void owned_free(struct owned_batch *o) {
    free(o->enc_ids);
    free(o->dec_ids);
    free(o->enc_offsets);
    free(o->dec_offsets);
}

struct owned_batch owned_part(const struct owned_batch *o, size_t s) {
    struct owned_batch p = {.enc_ids = o->enc_ids + o->enc_offsets[s], .dec_ids = o->dec_ids + o->dec_offsets[s]};
    p.enc_offsets = calloc(2, sizeof *p.enc_offsets);
    p.dec_offsets = calloc(2, sizeof *p.dec_offsets);
    p.enc_offsets[1] = o->enc_offsets[s + 1] - o->enc_offsets[s];
    p.dec_offsets[1] = o->dec_offsets[s + 1] - o->dec_offsets[s];
    owned_point(&p, 1);
    return p;
}

void owned_part_free(struct owned_batch *o) {
    free(o->enc_offsets);
    free(o->dec_offsets);
}

double relative_error(const float *a, const float *b, size_t n) {
    double worst = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(a[i]))
            return INFINITY;
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        most = fmax(most, fabs((double)b[i]));
    }
    return most > 0 ? worst / most : worst;
}

rsd_t5 *t5_make(rsd_ctx *ctx, const char *config, uint64_t seed) {
    const char *path = test_path(test_dir(), "config.json");
    rsd_t5 *m = NULL;
    test_write(path, config, strlen(config));
    OK(ctx, rsd_t5_create(ctx, path, seed, &m));
    return m;
}

double t5_step(rsd_ctx *ctx, rsd_t5 *m, const rsd_batch *b, int kind, double scale) {
    rsd_loss *loss = NULL;
    rsd_loss_options o;
    rsd_loss_options_init(&o, sizeof o);
    o.kind = kind;
    OK(ctx, rsd_loss_open(ctx, &o, &loss));
    OK(ctx, rsd_t5_forward(m, b, RSD_TRAIN));
    OK(ctx, rsd_loss_begin(loss, b, scale));
    OK(ctx, rsd_t5_head(m, rsd_loss_tile, loss));
    OK(ctx, rsd_t5_backward(m));
    rsd_loss_result r = {.size = sizeof r};
    OK(ctx, rsd_loss_result_get(loss, &r));
    rsd_loss_close(loss);
    return r.loss;
}

/* Whether RSD_TEST_KERNELS names what this CPU has; unset: yes. */
static bool kernels_run_here(void) {
    const char *name = getenv("RSD_TEST_KERNELS");
    bool known = !name;
    for (size_t i = 0; name && rsd_ctx_kernels(i); i++) {
        known = known || strcmp(name, rsd_ctx_kernels(i)) == 0;
    }
    return known;
}

int main(void) {
    if (!kernels_run_here()) {
        return 77; /* skipped, to meson */
    }
    Suite *s = suite_create("t5");
    suite_add_tcase(s, t5_golden_case());
    suite_add_tcase(s, t5_pass_case());
    suite_add_tcase(s, t5_files_case());
    suite_add_tcase(s, t5_config_case());
    suite_add_tcase(s, t5_generate_case());
    suite_add_tcase(s, t5_derive_case());
    suite_add_tcase(s, t5_mixed_case());
    suite_add_tcase(s, t5_int8_case());
    suite_add_tcase(s, t5_sample_case());
    suite_add_tcase(s, t5_sizes_case());
    return test_run(srunner_create(s));
}
