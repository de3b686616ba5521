/* Losses against a naive double computation and against finite differences of it. */
#include "test_train.h"

#include "reasondistill/reasondistill.h"
#include "util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 2, T = 5, V = 7, LD = 9 };

static const uint32_t dec_offsets[N + 1] = {0, 2, 5};
static const int32_t dec_ids[T] = {3, 1, 0, 6, 1};
static const uint32_t row_offsets[T + 1] = {0, 3, 4, 6, 6, 9};
static const int32_t row_ids[] = {3, 2, 5, 1, 4, 0, 6, 1, 2};
static const float row_probs[] = {0.5F, 0.25F, 0.125F, 1, 0.75F, 0.25F, 0.25F, 0.375F, 0};
static const float weights[T] = {1, 0.5F, 2, 1, 0};
static const float seq_weights[N] = {1, 3};
static const double SCALE = 0.25;

static rsd_batch make_batch(void) {
    return (rsd_batch){.size = sizeof(rsd_batch), .n = N, .dec_ids = dec_ids, .dec_offsets = dec_offsets};
}

static rsd_batch soft_batch(void) {
    rsd_batch b = make_batch();
    b.row_offsets = row_offsets;
    b.row_ids = row_ids;
    b.row_probs = row_probs;
    b.weights = weights;
    b.seq_weights = seq_weights;
    return b;
}

static void make_logits(float *x, double spread) {
    for (int i = 0; i < T * LD; i++)
        x[i] = (float)(spread * sin(1.7 * i + 0.3));
}

static double weight_at(const rsd_batch *b, int t) {
    return (b->weights ? (double)b->weights[t] : 1) * (b->seq_weights ? (double)b->seq_weights[t >= 2] : 1);
}

/* The definition, in double: sum of scale * weight * loss. */
static double naive(const rsd_batch *b, int kind, const double *x) {
    double sum = 0;
    for (int t = 0; t < T; t++) {
        double z = 0, loss = 0;
        for (int v = 0; v < V; v++)
            z += exp(x[t * LD + v]);
        if (kind == RSD_LOSS_CE || !b->row_offsets)
            loss = log(z) - x[t * LD + b->dec_ids[t]];
        else
            for (uint32_t i = b->row_offsets[t]; i < b->row_offsets[t + 1]; i++) {
                double p = (double)b->row_probs[i];
                if (p > 0)
                    loss += p * (log(p) - (x[t * LD + b->row_ids[i]] - log(z)));
            }
        sum += SCALE * weight_at(b, t) * loss;
    }
    return sum;
}

struct fix {
    rsd_ctx *ctx;
    rsd_loss *loss;
};

static struct fix open_loss(int kind) {
    struct fix f = {0};
    ck_assert_int_eq(rsd_ctx_open(NULL, &f.ctx), RSD_OK);
    rsd_loss_options o;
    ck_assert_int_eq(rsd_loss_options_init(&o, sizeof o), RSD_OK);
    ck_assert_int_eq(o.kind, RSD_LOSS_KL);
    o.kind = kind;
    ck_assert_int_eq(rsd_loss_open(f.ctx, &o, &f.loss), RSD_OK);
    return f;
}

static void close_loss(struct fix f) {
    rsd_loss_close(f.loss);
    rsd_ctx_close(f.ctx);
}

static rsd_tile tile_of(float *x, size_t first, size_t n) {
    return (rsd_tile){.size = sizeof(rsd_tile),
                      .logits = x + dec_offsets[first] * LD,
                      .ld = LD,
                      .vocab = V,
                      .first_sequence = first,
                      .n_sequences = n,
                      .first_position = dec_offsets[first],
                      .n_positions = dec_offsets[first + n] - dec_offsets[first]};
}

/* One tile per sequence, so that a tile that does not start at position 0 is met. */
static rsd_loss_result run(struct fix f, const rsd_batch *b, float *x) {
    ck_assert_int_eq(rsd_loss_begin(f.loss, b, SCALE), RSD_OK);
    for (size_t s = 0; s < N; s++) {
        rsd_tile tile = tile_of(x, s, 1);
        ck_assert_msg(rsd_loss_tile(f.loss, &tile) == RSD_OK, "%s", rsd_ctx_error(f.ctx));
    }
    rsd_loss_result r = {.size = sizeof r};
    ck_assert_int_eq(rsd_loss_result_get(f.loss, &r), RSD_OK);
    return r;
}

/* Loss within rounding of single precision; gradient against central differences of the naive loss in double, whose error is
 * about h^2. */
static void compare(int kind, rsd_batch b, double spread) {
    float x[T * LD], g[T * LD];
    double d[T * LD];
    make_logits(x, spread);
    memcpy(g, x, sizeof g);
    for (int i = 0; i < T * LD; i++)
        d[i] = (double)x[i];
    struct fix f = open_loss(kind);
    rsd_loss_result r = run(f, &b, g);
    double want = naive(&b, kind, d);
    ck_assert_double_eq_tol(r.loss, want, 1e-5 * (1 + fabs(want)));
    ck_assert_double_eq_tol(r.weight, rsd_loss_weight(&b), 1e-12);
    for (int t = 0; t < T; t++)
        for (int v = 0; v < LD; v++) {
            int i = t * LD + v;
            if (v >= V) {
                ck_assert(g[i] == x[i]); /* behind the vocabulary nothing is touched */
                continue;
            }
            double keep = d[i], h = 1e-4;
            d[i] = keep + h;
            double up = naive(&b, kind, d);
            d[i] = keep - h;
            double down = naive(&b, kind, d);
            d[i] = keep;
            ck_assert_double_eq_tol((double)g[i], (up - down) / (2 * h), 2e-6);
        }
    close_loss(f);
}

START_TEST(ce_equals_the_definition_and_its_differences) {
    compare(RSD_LOSS_CE, make_batch(), 2);
    compare(RSD_LOSS_CE, soft_batch(), 2);
}
END_TEST

START_TEST(kl_equals_the_definition_and_its_differences) {
    compare(RSD_LOSS_KL, soft_batch(), 2);
    compare(RSD_LOSS_KL, make_batch(), 2); /* hard labels: rows of one */
}
END_TEST

START_TEST(weights_are_summed_over_position_and_sequence) {
    rsd_batch b = soft_batch();
    ck_assert_double_eq_tol(rsd_loss_weight(&b), 1 + 0.5 + 3 * (2 + 1 + 0), 1e-12);
    b = make_batch();
    ck_assert_double_eq_tol(rsd_loss_weight(&b), T, 1e-12);
}
END_TEST

START_TEST(hits_are_counted_where_the_weight_is_not_zero) {
    float x[T * LD] = {0};
    for (int t = 0; t < T; t++)
        x[t * LD + (t == 1 ? 0 : dec_ids[t])] = 5;
    rsd_batch b = soft_batch();
    struct fix f = open_loss(RSD_LOSS_CE);
    rsd_loss_result r = run(f, &b, x);
    ck_assert_uint_eq(r.positions, 4);
    ck_assert_uint_eq(r.correct, 3);
    close_loss(f);
}
END_TEST

START_TEST(large_logits_stay_finite) {
    compare(RSD_LOSS_KL, soft_batch(), 300);
    float x[T * LD];
    make_logits(x, 1e4);
    rsd_batch b = make_batch();
    struct fix f = open_loss(RSD_LOSS_CE);
    rsd_loss_result r = run(f, &b, x);
    ck_assert(isfinite(r.loss) && r.loss > 100);
    close_loss(f);
}
END_TEST

START_TEST(loss_that_is_no_number_names_its_position) {
    float x[T * LD];
    make_logits(x, 1);
    x[3 * LD + 2] = NAN;
    rsd_batch b = make_batch();
    struct fix f = open_loss(RSD_LOSS_KL);
    ck_assert_int_eq(rsd_loss_begin(f.loss, &b, 1), RSD_OK);
    rsd_tile tile = tile_of(x, 0, N);
    ck_assert_int_eq(rsd_loss_tile(f.loss, &tile), RSD_ENUMERIC);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(f.ctx), "position 3"));
    close_loss(f);
}
END_TEST

/* Refused by begin with a text that holds `says`. */
static void refuse(struct fix f, const rsd_batch *b, const char *says) {
    ck_assert_int_eq(rsd_loss_begin(f.loss, b, 1), RSD_EINVAL);
    ck_assert_msg(strstr(rsd_ctx_error(f.ctx), says) != NULL, "%s", rsd_ctx_error(f.ctx));
}

START_TEST(malformed_targets_are_refused_by_position) {
    struct fix f = open_loss(RSD_LOSS_KL);
    float probs[9], w[T];
    int32_t ids[9];
    uint32_t offsets[T + 1];
    rsd_batch b = soft_batch();
    memcpy(probs, row_probs, sizeof probs);
    b.row_probs = probs;
    probs[4] = 0.9F;
    refuse(f, &b, "position 2");
    probs[4] = NAN;
    refuse(f, &b, "position 2");
    probs[4] = -0.1F;
    refuse(f, &b, "position 2");

    b = soft_batch();
    memcpy(ids, row_ids, sizeof ids);
    b.row_ids = ids;
    ids[8] = -1;
    refuse(f, &b, "position 4");

    b = soft_batch();
    memcpy(w, weights, sizeof w);
    b.weights = w;
    w[1] = INFINITY;
    refuse(f, &b, "position 1");
    w[1] = -1;
    refuse(f, &b, "position 1");

    b = soft_batch();
    memcpy(offsets, row_offsets, sizeof offsets);
    b.row_offsets = offsets;
    offsets[2] = 2;
    refuse(f, &b, "position 1");

    b = make_batch();
    uint32_t empty[N + 1] = {0, 0, 5};
    b.dec_offsets = empty;
    refuse(f, &b, "sequence 0");
    b = make_batch();
    b.n = 0;
    refuse(f, &b, "no sequences");
    close_loss(f);
}
END_TEST

START_TEST(id_outside_the_vocabulary_is_refused) {
    float x[T * LD] = {0};
    int32_t ids[T] = {3, 1, V, 6, 1};
    rsd_batch b = make_batch();
    b.dec_ids = ids;
    struct fix f = open_loss(RSD_LOSS_CE);
    ck_assert_int_eq(rsd_loss_begin(f.loss, &b, 1), RSD_OK);
    rsd_tile tile = tile_of(x, 0, N);
    ck_assert_int_eq(rsd_loss_tile(f.loss, &tile), RSD_EINVAL);
    ck_assert_ptr_nonnull(strstr(rsd_ctx_error(f.ctx), "id 7"));
    close_loss(f);
}
END_TEST

START_TEST(tile_of_another_batch_is_refused) {
    float x[T * LD] = {0};
    rsd_batch b = make_batch();
    struct fix f = open_loss(RSD_LOSS_CE);
    rsd_tile tile = tile_of(x, 0, N);
    ck_assert_int_eq(rsd_loss_tile(f.loss, &tile), RSD_ESTATE);
    ck_assert_int_eq(rsd_loss_begin(f.loss, &b, 1), RSD_OK);
    tile.n_positions = 4;
    ck_assert_int_eq(rsd_loss_tile(f.loss, &tile), RSD_EINVAL);
    close_loss(f);
}
END_TEST

START_TEST(batch_of_a_newer_caller_is_refused_if_it_uses_what_is_new) {
    struct {
        rsd_batch b;
        size_t more;
    } big = {.b = make_batch()};
    big.b.size = sizeof big;
    struct fix f = open_loss(RSD_LOSS_CE);
    ck_assert_int_eq(rsd_loss_begin(f.loss, &big.b, 1), RSD_OK);
    big.more = 1;
    ck_assert_int_eq(rsd_loss_begin(f.loss, &big.b, 1), RSD_EVERSION);
    close_loss(f);
}
END_TEST

START_TEST(unknown_kind_is_refused) {
    rsd_ctx *ctx = NULL;
    rsd_loss *l = NULL;
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    rsd_loss_options o;
    rsd_loss_options_init(&o, sizeof o);
    o.kind = 99;
    ck_assert_int_eq(rsd_loss_open(ctx, &o, &l), RSD_EINVAL);
    ck_assert_ptr_null(l);
    rsd_ctx_close(ctx);
}
END_TEST

static int work(struct fail_alloc *a) {
    rsd_ctx_options o;
    rsd_ctx_options_init(&o, sizeof o);
    o.resize = a->a.resize;
    o.resize_user = a->a.user;
    rsd_ctx *ctx = NULL;
    rsd_loss *l = NULL;
    int code = rsd_ctx_open(&o, &ctx);
    if (code)
        return code;
    float x[T * LD];
    make_logits(x, 1);
    rsd_batch b = make_batch();
    code = rsd_loss_open(ctx, NULL, &l);
    rsd_tile tile = tile_of(x, 0, N);
    if (!code)
        code = rsd_loss_begin(l, &b, 1);
    if (!code)
        code = rsd_loss_tile(l, &tile);
    rsd_loss_close(l);
    rsd_ctx_close(ctx);
    return code;
}

START_TEST(any_allocation_may_fail) {
    for (size_t i = 1;; i++) {
        struct fail_alloc f;
        fail_alloc_init(&f, i, false);
        int code = work(&f);
        ck_assert_uint_eq(f.live, 0);
        if (!f.failed) {
            ck_assert_int_eq(code, RSD_OK);
            break;
        }
        ck_assert_int_eq(code, RSD_ENOMEM);
    }
}
END_TEST

Suite *train_loss_suite(void) {
    Suite *s = suite_create("train_loss");
    TCase *c = tcase_create("loss");
    tcase_add_test(c, ce_equals_the_definition_and_its_differences);
    tcase_add_test(c, kl_equals_the_definition_and_its_differences);
    tcase_add_test(c, weights_are_summed_over_position_and_sequence);
    tcase_add_test(c, hits_are_counted_where_the_weight_is_not_zero);
    tcase_add_test(c, large_logits_stay_finite);
    tcase_add_test(c, loss_that_is_no_number_names_its_position);
    tcase_add_test(c, malformed_targets_are_refused_by_position);
    tcase_add_test(c, id_outside_the_vocabulary_is_refused);
    tcase_add_test(c, tile_of_another_batch_is_refused);
    tcase_add_test(c, batch_of_a_newer_caller_is_refused_if_it_uses_what_is_new);
    tcase_add_test(c, unknown_kind_is_refused);
    tcase_add_test(c, any_allocation_may_fail);
    suite_add_tcase(s, c);
    return s;
}
