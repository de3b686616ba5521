/* Losses against PyTorch's own functions and autograd (tests/tools/make_loss_fixtures.py), and the reference's printed batch. */
#include "test_train.h"

#include "core/json.h"
#include "reasondistill/reasondistill.h"
#include "train/loss_keys.h"
#include "util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1024 };

/* Numbers of an array, as double. */
static size_t numbers(const struct json *doc, const char *key, double *out) {
    size_t n = 0;
    ck_assert_ptr_nonnull(json_get(doc, key));
    for (const struct json *v = json_first(json_get(doc, key)); v; v = json_next(v)) {
        ck_assert_uint_lt(n, ROOM);
        out[n++] = json_number(v);
    }
    return n;
}

static size_t floats(const struct json *doc, const char *key, float *out) {
    double v[ROOM];
    size_t n = numbers(doc, key, v);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)v[i];
    return n;
}

static size_t integers(const struct json *doc, const char *key, int32_t *out) {
    double v[ROOM];
    size_t n = numbers(doc, key, v);
    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t)v[i];
    return n;
}

struct fixture {
    struct json *doc;
    int64_t T, V, k;
    float logits[ROOM], probs[ROOM], dense[ROOM], logprobs[ROOM];
    int32_t labels[ROOM], ids[ROOM], all[ROOM];
    uint32_t dec_offsets[2], rows[ROOM], dense_rows[ROOM], begin[ROOM], end[ROOM];
    int8_t sign;
    size_t chunks;
};

static void read_fixture(struct fixture *f) {
    struct err e = {0};
    memset(f, 0, sizeof *f);
    ck_assert_msg(json_read_file(TEST_SOURCE_ROOT "/tests/fixtures/loss/torch.json", 1 << 20, &mem_std, &f->doc, &e) == 0, "%s",
                  e.text);
    ck_assert(json_exact(json_get(f->doc, "positions"), &f->T) && json_exact(json_get(f->doc, "vocabulary"), &f->V) &&
              json_exact(json_get(f->doc, "k"), &f->k));
    ck_assert_uint_eq(floats(f->doc, "logits", f->logits), (size_t)(f->T * f->V));
    ck_assert_uint_eq(floats(f->doc, "dense", f->dense), (size_t)(f->T * f->V));
    ck_assert_uint_eq(floats(f->doc, "probs", f->probs), (size_t)(f->T * f->k));
    integers(f->doc, "labels", f->labels);
    integers(f->doc, "ids", f->ids);
    for (int64_t i = 0; i <= f->T; i++) {
        f->rows[i] = (uint32_t)(i * f->k);
        f->dense_rows[i] = (uint32_t)(i * f->V);
    }
    for (int64_t i = 0; i < f->T * f->V; i++)
        f->all[i] = (int32_t)(i % f->V);
    for (const struct json *c = json_first(json_get(f->doc, "chunks")); c; c = json_next(c), f->chunks++) {
        const struct json *v = json_first(c);
        f->begin[f->chunks] = (uint32_t)json_number(v);
        f->end[f->chunks] = (uint32_t)json_number(json_next(v));
        f->logprobs[f->chunks] = (float)json_number(json_next(json_next(v)));
    }
    f->dec_offsets[1] = (uint32_t)f->T;
}

static rsd_batch batch_of(struct fixture *f, bool dense, bool wrong) {
    f->sign = wrong ? -1 : 1;
    return (rsd_batch){.size = sizeof(rsd_batch),
                       .n = 1,
                       .dec_ids = f->labels,
                       .dec_offsets = f->dec_offsets,
                       .row_offsets = dense ? f->dense_rows : f->rows,
                       .row_ids = dense ? f->all : f->ids,
                       .row_probs = dense ? f->dense : f->probs,
                       .signs = &f->sign,
                       .n_chunks = f->chunks,
                       .chunk_begin = f->begin,
                       .chunk_end = f->end,
                       .chunk_logprobs = f->logprobs,
                       .top_k = (size_t)f->k,
                       .top_probs = f->probs};
}

/* Tolerance 3e-6: a sum of six losses of up to ten, in single precision; gradients up to 3. */
static void check_case(struct fixture *f, const struct json *c, size_t i) {
    struct err e = {0};
    struct arena texts;
    struct loss_choices choice;
    const struct key k = {.name = "loss", .type = &key_loss, .choice = rsd_loss_kind_name};
    rsd_ctx *ctx = NULL;
    rsd_loss *loss = NULL;
    float x[ROOM];
    double want[ROOM];
    size_t n = numbers(c, "gradient", want);
    arena_init(&texts, &mem_std);
    ck_assert_msg(key_loss.read(&choice, &k, json_get(c, "loss"), &texts, &e) == 0, "%s", e.text);
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    ck_assert_int_eq(loss_choices_open(ctx, &choice, &loss), RSD_OK);
    rsd_batch b = batch_of(f, text_is(json_text(json_get(c, "targets")), "dense"), choice.common.unlikelihood > 0);
    memcpy(x, f->logits, sizeof x);
    ck_assert_msg(rsd_loss_begin(loss, &b, 1) == RSD_OK, "%s", rsd_ctx_error(ctx));
    rsd_tile tile = {.size = sizeof tile,
                     .logits = x,
                     .ld = (size_t)f->V,
                     .vocab = (size_t)f->V,
                     .n_sequences = 1,
                     .n_positions = (size_t)f->T};
    ck_assert_msg(rsd_loss_tile(loss, &tile) == RSD_OK, "%s", rsd_ctx_error(ctx));
    rsd_loss_result r = {.size = sizeof r};
    rsd_loss_result_get(loss, &r);
    double value = json_number(json_get(c, "value")), off = json_number(json_get(c, "tolerance"));
    ck_assert_msg(fabs(r.loss - value) <= off * (1 + fabs(value)), "case %zu: loss %.9g, PyTorch %.9g", i, r.loss, value);
    for (size_t j = 0; j < n; j++)
        ck_assert_msg(fabs((double)x[j] - want[j]) <= off, "case %zu: gradient %zu is %.9g, PyTorch %.9g", i, j, (double)x[j],
                      want[j]);
    rsd_loss_close(loss);
    rsd_ctx_close(ctx);
    arena_free(&texts);
}

START_TEST(losses_and_gradients_equal_those_of_pytorch) {
    static struct fixture f;
    read_fixture(&f);
    size_t n = 0;
    for (const struct json *c = json_first(json_get(f.doc, "cases")); c; c = json_next(c))
        check_case(&f, c, n++);
    ck_assert_uint_ge(n, 17);
    json_free(f.doc);
}
END_TEST

/* What the reference printed of its batch: labels, and the most probable token of each target row. A student that puts its mass
 * on those tokens agrees with the labels exactly where the two printed lists do. */
START_TEST(printed_batch_of_the_reference_is_counted_as_printed) {
    SKIP_WITHOUT_DATA();
    enum { V = 32128 };
    struct err e = {0};
    struct json *doc = NULL;
    static int32_t labels[ROOM], best[ROOM];
    ck_assert_msg(json_read_file(test_data("teacher/reference_batch.json"), 1 << 20, &mem_std, &doc, &e) == 0, "%s", e.text);
    const struct json *item = json_first(doc);
    size_t n = integers(item, "targets", labels), agree = 0;
    ck_assert_uint_eq(integers(item, "argmax_of_target_distribution", best), n);
    uint32_t dec_offsets[] = {0, (uint32_t)n}, rows[ROOM + 1] = {0};
    float ones[ROOM], *x = calloc(n * V, sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++) {
        ones[i] = 1;
        rows[i + 1] = (uint32_t)(i + 1);
        agree += labels[i] == best[i];
        x[i * V + (size_t)best[i]] = 20;
    }
    ck_assert(agree > 0 && agree < n);
    rsd_batch b = {.size = sizeof b,
                   .n = 1,
                   .dec_ids = labels,
                   .dec_offsets = dec_offsets,
                   .row_offsets = rows,
                   .row_ids = best,
                   .row_probs = ones};
    rsd_ctx *ctx = NULL;
    rsd_loss *loss = NULL;
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    ck_assert_int_eq(rsd_loss_open(ctx, NULL, &loss), RSD_OK);
    ck_assert_int_eq(rsd_loss_begin(loss, &b, 1.0 / (double)n), RSD_OK);
    rsd_tile tile = {.size = sizeof tile, .logits = x, .ld = V, .vocab = V, .n_sequences = 1, .n_positions = n};
    ck_assert_msg(rsd_loss_tile(loss, &tile) == RSD_OK, "%s", rsd_ctx_error(ctx));
    rsd_loss_result r = {.size = sizeof r};
    rsd_loss_result_get(loss, &r);
    ck_assert_uint_eq(r.positions, n);
    ck_assert_uint_eq(r.correct, agree);
    /* mean of p log(p / q) with p = 1 on the printed token: log(1 + 32127 e^-20), summed in runs of 4096 beside a 1 in single
     * precision: up to 4096 e^-20 may be lost */
    ck_assert_double_eq_tol(r.loss, log1p((V - 1) * exp(-20)), 1e-5);
    rsd_loss_close(loss);
    rsd_ctx_close(ctx);
    free(x);
    json_free(doc);
}
END_TEST

Suite *train_torch_suite(void) {
    Suite *s = suite_create("train_torch");
    TCase *c = tcase_create("torch");
    tcase_add_test(c, losses_and_gradients_equal_those_of_pytorch);
    tcase_add_test(c, printed_batch_of_the_reference_is_counted_as_printed);
    suite_add_tcase(s, c);
    return s;
}
