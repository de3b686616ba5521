/* Every kind of loss with its options against its definition, written down naively in double, and against central differences
 * of that; limits; what is refused. Figures of PyTorch's own formulas are in test_train_torch.c. */
#include "test_train.h"

#include "reasondistill/reasondistill.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { N = 3, T = 8, V = 6, LD = 7, TOP = 3 };

/* Ids of a row differ; position 3 has no row, position 7 names the whole vocabulary, position 5 is a hard label. */
static const uint32_t dec_offsets[N + 1] = {0, 3, 6, 8};
static const int32_t dec_ids[T] = {3, 1, 0, 5, 1, 2, 4, 1};
static const uint32_t row_offsets[T + 1] = {0, 3, 4, 6, 6, 8, 9, 11, 17};
static const int32_t row_ids[] = {3, 2, 5, 1, 4, 0, 5, 1, 2, 4, 0, 0, 1, 2, 3, 4, 5};
static const float row_probs[] = {0.5F, 0.25F, 0.125F, 0.875F,  0.5F,  0.25F,  0.5F,  0.375F, 1,
                                  0.5F, 0.25F, 0.25F,  0.0625F, 0.25F, 0.125F, 0.25F, 0.0625F};
static const float weights[T] = {1, 0.5F, 2, 1, 1, 0.75F, 1, 1};
static const float seq_weights[N] = {1, 1.5F, 0.5F};
static const uint8_t formats[N] = {RSD_FORMAT_ZS_COT, RSD_FORMAT_ZS_AO, RSD_FORMAT_ZS_COT};
static const int8_t signs[N] = {1, -1, 1};
static const uint32_t chunk_begin[] = {0, 2, 3, 6}, chunk_end[] = {2, 3, 5, 8};
static const float chunk_logprobs[] = {-1.5F, -0.125F, -2, -0.0625F};
static const float top_probs[T * TOP] = {0.5F, 0.3F, 0.1F, 0.9F, 0, 0, 0.4F, 0.35F, 0.2F,  0,    0,     0,
                                         0.6F, 0.2F, 0,    1,    0, 0, 0.8F, 0.1F,  0.05F, 0.5F, 0.25F, 0.25F};
static const double SCALE = 0.25;

static rsd_batch make_batch(void) {
    return (rsd_batch){.size = sizeof(rsd_batch),
                       .n = N,
                       .dec_ids = dec_ids,
                       .dec_offsets = dec_offsets,
                       .row_offsets = row_offsets,
                       .row_ids = row_ids,
                       .row_probs = row_probs,
                       .weights = weights,
                       .seq_weights = seq_weights,
                       .formats = formats,
                       .n_chunks = 4,
                       .chunk_begin = chunk_begin,
                       .chunk_end = chunk_end,
                       .chunk_logprobs = chunk_logprobs,
                       .top_k = TOP,
                       .top_probs = top_probs};
}

static void make_logits(float *x, double spread) {
    for (int i = 0; i < T * LD; i++)
        x[i] = (float)(spread * sin(1.7 * i + 0.3 + 0.01 * i * i));
}

/* ---- the definition ---- */

static double log_q(const double *z, int v, double temperature) {
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < V; i++)
        max = fmax(max, z[i] / temperature);
    for (int i = 0; i < V; i++)
        sum += exp(z[i] / temperature - max);
    return z[v] / temperature - max - log(sum);
}

static double term(int kind, double p, double s) {
    double m = (p + s) / 2, f = fmax(p, 1e-6);
    if (kind == RSD_LOSS_KL)
        return p > 0 ? p * log(p / s) : 0;
    if (kind == RSD_LOSS_REVERSE_KL)
        return s * log(s / f) - s + p;
    return (p > 0 ? p * log(p / m) : 0) / 2 + s * log(s / m) / 2;
}

/* KL, REVERSE_KL, JS of one position. */
static double row_loss(const rsd_batch *b, const rsd_loss_options *o, const double *z, int t) {
    double p[V + 1], s[V + 1], sum_p = 0, sum_s = 0, T1 = o->temperature, loss = 0, t_left = 1, r = 0;
    int n = 0, ids[V];
    bool in[V] = {false};
    if (b->row_offsets)
        for (uint32_t i = b->row_offsets[t]; i < b->row_offsets[t + 1]; i++, n++) {
            ids[n] = b->row_ids[i];
            p[n] = (double)b->row_probs[i];
        }
    else {
        ids[0] = b->dec_ids[t];
        p[n++] = 1;
    }
    if (!n)
        return 0;
    for (int i = 0; i < n; i++) {
        t_left -= p[i];
        in[ids[i]] = true;
    }
    for (int v = 0; v < V; v++)
        r += in[v] ? 0 : exp(log_q(z, v, 1));
    int classes = n;
    bool over_all = o->tail == RSD_TAIL_DROP || (o->tail == RSD_TAIL_RENORMALISE && o->kind == RSD_LOSS_KL);
    for (int i = 0; i < n; i++) {
        p[i] = pow(p[i], 1 / T1);
        s[i] = over_all ? exp(log_q(z, ids[i], T1)) : exp(log_q(z, ids[i], 1) / T1);
        sum_p += p[i];
        sum_s += s[i];
    }
    double rest = t_left < 1e-6 ? 0 : pow(t_left, 1 / T1);
    if (o->tail == RSD_TAIL_BUCKET && n < V) {
        p[n] = rest;
        s[n] = pow(r, 1 / T1);
        sum_p += p[n];
        sum_s += s[n];
        classes++;
    }
    if (o->tail == RSD_TAIL_DROP)
        sum_p = fabs(T1 - 1) < 1e-9 ? 1 : sum_p + rest;
    for (int i = 0; i < classes; i++)
        loss += term(o->kind, p[i] / sum_p, over_all ? s[i] : s[i] / sum_s);
    return T1 * T1 * loss;
}

static double uld_loss(const rsd_batch *b, const rsd_loss_options *o, const double *z, int t) {
    double q[V], sum = 0, rest_p = 1, rest_q = 1, loss = 0;
    for (int v = 0; v < V; v++)
        q[v] = exp(log_q(z, v, 1));
    for (int i = 0; i < V; i++)
        for (int j = i + 1; j < V; j++)
            if (q[j] > q[i]) {
                double swap = q[i];
                q[i] = q[j];
                q[j] = swap;
            }
    for (int i = 0; i < TOP; i++)
        sum += (double)b->top_probs[t * TOP + i];
    for (int i = 0; i < TOP && b->top_probs[t * TOP + i] > 0; i++) {
        double p = (double)b->top_probs[t * TOP + i];
        rest_p -= p;
        rest_q -= q[i];
        loss += fabs(p / (o->tail == RSD_TAIL_RENORMALISE ? sum : 1) - q[i]);
    }
    return loss + (o->tail == RSD_TAIL_BUCKET && sum > 0 ? fabs(rest_p - rest_q) : 0);
}

static double alm_loss(const rsd_batch *b, const rsd_loss_options *o, const double *z, int t) {
    for (size_t c = 0; c < b->n_chunks; c++)
        if ((uint32_t)t >= b->chunk_begin[c] && (uint32_t)t < b->chunk_end[c]) {
            double u = 0, a = exp((double)b->chunk_logprobs[c] / o->temperature);
            for (uint32_t i = b->chunk_begin[c]; i < b->chunk_end[c]; i++)
                u += log_q(z + (int)(i - (uint32_t)t) * LD, b->dec_ids[i], 1) / o->temperature;
            double s = exp(u), d = 1 - 0x1p-20;
            return a * log(a / s) + (1 - a) * log((1 - d * a) / (1 - d * s));
        }
    return 0;
}

static int sequence_of(int t) {
    return t < 3 ? 0 : t < 6 ? 1 : 2;
}

/* Sum of scale * weight * loss; `other`, if given, has the options of format ZS_AO. */
static double naive(const rsd_batch *b, const rsd_loss_options *mine, const rsd_loss_options *other, const double *x) {
    double sum = 0;
    for (int t = 0; t < T; t++) {
        int s = sequence_of(t), y = b->dec_ids[t];
        const double *z = x + t * LD;
        const rsd_loss_options *o = other && b->formats[s] == RSD_FORMAT_ZS_AO ? other : mine;
        double e = o->label_smoothing, ce = -(1 - e) * log_q(z, y, 1), d = 0, alpha = o->kind == RSD_LOSS_CE ? 1 : o->alpha,
               loss = 0;
        for (int v = 0; v < V; v++)
            ce -= e / V * log_q(z, v, 1);
        if (alpha < 0)
            alpha = o->kind == RSD_LOSS_ALM || o->kind == RSD_LOSS_ULD ? 0.5 : 0;
        if (o->kind == RSD_LOSS_ALM)
            d = alm_loss(b, o, z, t);
        else if (o->kind == RSD_LOSS_ULD)
            d = uld_loss(b, o, z, t);
        else if (o->kind != RSD_LOSS_CE)
            d = row_loss(b, o, z, t);
        loss = o->weight * (alpha * ce + (1 - alpha) * d);
        if (b->signs && b->signs[s] < 0 && o->unlikelihood > 0)
            loss = o->weight * o->unlikelihood * -log1p(-exp(log_q(z, y, 1)));
        sum += SCALE * (b->weights ? (double)b->weights[t] : 1) * (b->seq_weights ? (double)b->seq_weights[s] : 1) * loss;
    }
    return sum;
}

/* ---- the library ---- */

struct fix {
    rsd_ctx *ctx;
    rsd_loss *loss;
};

static struct fix open_loss(const rsd_loss_options *o, const rsd_loss_options *other) {
    struct fix f = {0};
    ck_assert_int_eq(rsd_ctx_open(NULL, &f.ctx), RSD_OK);
    ck_assert_msg(rsd_loss_open(f.ctx, o, &f.loss) == RSD_OK, "%s", rsd_ctx_error(f.ctx));
    if (other)
        ck_assert_msg(rsd_loss_set_format(f.loss, RSD_FORMAT_ZS_AO, other) == RSD_OK, "%s", rsd_ctx_error(f.ctx));
    return f;
}

static void close_loss(struct fix f) {
    rsd_loss_close(f.loss);
    rsd_ctx_close(f.ctx);
}

/* A tile of one sequence, then a tile of two: tiles that do not start at position 0, and that hold several sequences. */
static double run(struct fix f, const rsd_batch *b, float *x) {
    ck_assert_msg(rsd_loss_begin(f.loss, b, SCALE) == RSD_OK, "%s", rsd_ctx_error(f.ctx));
    for (size_t s = 0; s < N; s += 2) {
        size_t n = s ? 1 : 2;
        rsd_tile tile = {.size = sizeof tile,
                         .logits = x + dec_offsets[s] * LD,
                         .ld = LD,
                         .vocab = V,
                         .first_sequence = s,
                         .n_sequences = n,
                         .first_position = dec_offsets[s],
                         .n_positions = dec_offsets[s + n] - dec_offsets[s]};
        ck_assert_msg(rsd_loss_tile(f.loss, &tile) == RSD_OK, "%s", rsd_ctx_error(f.ctx));
    }
    rsd_loss_result r = {.size = sizeof r};
    ck_assert_int_eq(rsd_loss_result_get(f.loss, &r), RSD_OK);
    return r.loss;
}

/* Loss within single precision; gradient against central differences in double, off by about h^2. */
static void compare(const rsd_loss_options *o, const rsd_loss_options *other, const rsd_batch *b, double spread) {
    float x[T * LD], g[T * LD];
    double d[T * LD];
    make_logits(x, spread);
    memcpy(g, x, sizeof g);
    for (int i = 0; i < T * LD; i++)
        d[i] = (double)x[i];
    struct fix f = open_loss(o, other);
    double got = run(f, b, g), want = naive(b, o, other, d);
    const char *name = rsd_loss_kind_name(o->kind);
    ck_assert_msg(fabs(got - want) <= 1e-5 * (1 + fabs(want)), "%s, tail %d, T %g: loss %.9g, expected %.9g", name, (int)o->tail,
                  o->temperature, got, want);
    for (int i = 0; i < T * LD; i++) {
        if (i % LD >= V) {
            ck_assert(g[i] == x[i]);
            continue;
        }
        double keep = d[i], h = 1e-5;
        d[i] = keep + h;
        double up = naive(b, o, other, d);
        d[i] = keep - h;
        double down = naive(b, o, other, d), slope = (up - down) / (2 * h);
        d[i] = keep;
        ck_assert_msg(fabs((double)g[i] - slope) <= 3e-6 * (1 + fabs(slope)),
                      "%s, tail %d, T %g: gradient %d is %.9g, slope %.9g", name, (int)o->tail, o->temperature, i, (double)g[i],
                      slope);
    }
    close_loss(f);
}

static rsd_loss_options options(int kind, int tail, double temperature) {
    rsd_loss_options o;
    ck_assert_int_eq(rsd_loss_options_init(&o, sizeof o), RSD_OK);
    o.kind = kind;
    o.tail = tail;
    o.temperature = temperature;
    return o;
}

START_TEST(divergences_equal_their_definitions_and_differences) {
    static const double temperatures[] = {1, 2, 0.5};
    rsd_batch b = make_batch(), hard = make_batch();
    hard.row_offsets = NULL;
    for (int tail = RSD_TAIL_DROP; tail <= RSD_TAIL_BUCKET; tail++)
        for (int i = 0; i < 3; i++) {
            rsd_loss_options o = options(_i, tail, temperatures[i]);
            compare(&o, NULL, &b, 2);
            compare(&o, NULL, &hard, 1);
        }
}
END_TEST

START_TEST(sorted_transport_equals_its_definition_and_differences) {
    rsd_batch b = make_batch();
    for (int tail = RSD_TAIL_DROP; tail <= RSD_TAIL_BUCKET; tail++) {
        rsd_loss_options o = options(RSD_LOSS_ULD, tail, 1);
        compare(&o, NULL, &b, 2);
        o.alpha = 0;
        compare(&o, NULL, &b, 1);
    }
}
END_TEST

START_TEST(chunk_likelihood_equals_its_definition_and_differences) {
    static const double temperatures[] = {1, 3, 0.5};
    rsd_batch b = make_batch();
    for (int i = 0; i < 3; i++) {
        rsd_loss_options o = options(RSD_LOSS_ALM, RSD_TAIL_DROP, temperatures[i]);
        compare(&o, NULL, &b, 2);
        o.alpha = 0;
        compare(&o, NULL, &b, 1);
    }
}
END_TEST

START_TEST(mix_smoothing_and_weight_equal_their_definitions_and_differences) {
    rsd_batch b = make_batch();
    for (int kind = RSD_LOSS_CE; kind <= RSD_LOSS_ULD; kind++) {
        rsd_loss_options o = options(kind, RSD_TAIL_DROP, 1);
        o.alpha = 0.3;
        o.label_smoothing = 0.1;
        o.weight = 0.7;
        compare(&o, NULL, &b, 2);
    }
}
END_TEST

START_TEST(wrong_replies_are_made_unlikely) {
    rsd_batch b = make_batch();
    b.signs = signs;
    for (int kind = RSD_LOSS_CE; kind <= RSD_LOSS_ULD; kind++) {
        rsd_loss_options o = options(kind, RSD_TAIL_DROP, 1);
        compare(&o, NULL, &b, 2); /* unlikelihood 0: the sign says nothing */
        o.unlikelihood = 0.4;
        compare(&o, NULL, &b, 2);
    }
}
END_TEST

START_TEST(formats_have_options_of_their_own) {
    rsd_batch b = make_batch();
    b.signs = signs;
    rsd_loss_options cot = options(RSD_LOSS_KL, RSD_TAIL_BUCKET, 2), ao = options(RSD_LOSS_CE, RSD_TAIL_DROP, 1);
    ao.weight = 3;
    compare(&cot, &ao, &b, 2);
    ao.unlikelihood = 0.5;
    compare(&cot, &ao, &b, 2);
    cot = options(RSD_LOSS_ALM, RSD_TAIL_DROP, 2);
    compare(&cot, &ao, &b, 2);
    struct fix f = open_loss(&cot, NULL);
    ck_assert_int_eq(rsd_loss_set_format(f.loss, RSD_FORMATS, &ao), RSD_EINVAL);
    ck_assert_int_eq(rsd_loss_set_format(f.loss, -1, &ao), RSD_EINVAL);
    close_loss(f);
}
END_TEST

START_TEST(format_can_return_to_the_common_options) {
    rsd_batch b = make_batch();
    float x[T * LD], y[T * LD];
    make_logits(x, 2);
    memcpy(y, x, sizeof y);
    rsd_loss_options kl = options(RSD_LOSS_KL, RSD_TAIL_DROP, 1), ce = options(RSD_LOSS_CE, RSD_TAIL_DROP, 1);
    struct fix f = open_loss(&kl, &ce), g = open_loss(&kl, NULL);
    ck_assert_int_eq(rsd_loss_set_format(f.loss, RSD_FORMAT_ZS_AO, NULL), RSD_OK);
    ck_assert_double_eq(run(f, &b, x), run(g, &b, y));
    close_loss(f);
    close_loss(g);
}
END_TEST

/* Same loss and gradient, within `off`. */
static void equal_losses(const rsd_loss_options *a, const rsd_loss_options *b, const rsd_batch *batch, const rsd_batch *other,
                         double off) {
    float x[T * LD], y[T * LD];
    make_logits(x, 2);
    memcpy(y, x, sizeof y);
    struct fix f = open_loss(a, NULL), g = open_loss(b, NULL);
    ck_assert(fabs(run(f, batch, x) - run(g, other, y)) <= off);
    for (int i = 0; i < T * LD; i++)
        ck_assert(fabs((double)x[i] - (double)y[i]) <= off);
    close_loss(f);
    close_loss(g);
}

/* Rows that name every token: no tail, and all tails are one. */
static rsd_batch dense_batch(void) {
    static uint32_t offsets[T + 1];
    static int32_t ids[T * V];
    static float probs[T * V];
    rsd_batch b = make_batch();
    for (int t = 0; t < T; t++) {
        double sum = 0;
        for (int v = 0; v < V; v++)
            sum += exp(cos(t * 3.1 + v));
        for (int v = 0; v < V; v++) {
            ids[t * V + v] = (v * 5 + t) % V;
            probs[t * V + v] = (float)(exp(cos(t * 3.1 + v)) / sum);
        }
        offsets[t + 1] = (uint32_t)((t + 1) * V);
    }
    b.row_offsets = offsets;
    b.row_ids = ids;
    b.row_probs = probs;
    return b;
}

START_TEST(rows_of_the_whole_vocabulary_give_the_dense_loss_for_any_tail) {
    rsd_batch b = dense_batch();
    for (int kind = RSD_LOSS_KL; kind <= RSD_LOSS_JS; kind++)
        for (int t = 1; t < 4; t++) {
            rsd_loss_options drop = options(kind, RSD_TAIL_DROP, t), again = options(kind, RSD_TAIL_RENORMALISE, t),
                             bucket = options(kind, RSD_TAIL_BUCKET, t);
            compare(&drop, NULL, &b, 2); /* with no tail the definition is the dense one */
            equal_losses(&drop, &again, &b, &b, 2e-6);
            equal_losses(&drop, &bucket, &b, &b, 2e-6);
        }
}
END_TEST

START_TEST(alpha_0_and_1_are_the_two_losses) {
    rsd_batch b = make_batch();
    rsd_loss_options ce = options(RSD_LOSS_CE, RSD_TAIL_DROP, 1);
    for (int kind = RSD_LOSS_KL; kind <= RSD_LOSS_ULD; kind++) {
        rsd_loss_options o = options(kind, RSD_TAIL_DROP, 1);
        o.alpha = 1;
        equal_losses(&o, &ce, &b, &b, 0);
    }
    rsd_loss_options kl = options(RSD_LOSS_KL, RSD_TAIL_DROP, 1), zero = kl;
    zero.alpha = 0;
    equal_losses(&kl, &zero, &b, &b, 0);
}
END_TEST

START_TEST(hard_rows_make_kl_cross_entropy) {
    rsd_batch b = make_batch();
    b.row_offsets = NULL;
    rsd_loss_options kl = options(RSD_LOSS_KL, RSD_TAIL_DROP, 1), ce = options(RSD_LOSS_CE, RSD_TAIL_DROP, 1);
    equal_losses(&kl, &ce, &b, &b, 1e-6);
    kl.tail = RSD_TAIL_BUCKET;
    equal_losses(&kl, &ce, &b, &b, 1e-6);
}
END_TEST

/* At a high temperature T^2 KL tends to the squared distance of centred log-probabilities over 2 V (Hinton et al. 2015, section
 * 2.1): gradient (z - mean z - (l - mean l)) / V with l = log p. */
START_TEST(high_temperature_matches_logits) {
    rsd_batch b = dense_batch();
    b.weights = b.seq_weights = NULL;
    float x[T * LD], g[T * LD];
    make_logits(x, 1);
    memcpy(g, x, sizeof g);
    rsd_loss_options o = options(RSD_LOSS_KL, RSD_TAIL_BUCKET, 500);
    struct fix f = open_loss(&o, NULL);
    run(f, &b, g);
    for (int t = 0; t < T; t++) {
        double l[V], mean_l = 0, mean_z = 0;
        for (int i = 0; i < V; i++) {
            l[b.row_ids[t * V + i]] = log((double)b.row_probs[t * V + i]);
            mean_l += log((double)b.row_probs[t * V + i]) / V;
            mean_z += (double)x[t * LD + i] / V;
        }
        for (int v = 0; v < V; v++)
            ck_assert_double_eq_tol((double)g[t * LD + v] / SCALE, ((double)x[t * LD + v] - mean_z - (l[v] - mean_l)) / V, 2e-3);
    }
    close_loss(f);
}
END_TEST

START_TEST(student_that_equals_the_teacher_has_no_loss) {
    rsd_batch b = dense_batch();
    for (int kind = RSD_LOSS_KL; kind <= RSD_LOSS_JS; kind++)
        for (int tail = RSD_TAIL_DROP; tail <= RSD_TAIL_BUCKET; tail++) {
            float x[T * LD] = {0};
            for (int t = 0; t < T; t++)
                for (int i = 0; i < V; i++)
                    x[t * LD + b.row_ids[t * V + i]] = logf(b.row_probs[t * V + i]) + 7;
            rsd_loss_options o = options(kind, tail, 2);
            struct fix f = open_loss(&o, NULL);
            ck_assert_double_eq_tol(run(f, &b, x), 0, 1e-5);
            for (int i = 0; i < T * LD; i++)
                ck_assert_float_eq_tol(i % LD < V ? x[i] : 0, 0, 1e-6F);
            close_loss(f);
        }
}
END_TEST

START_TEST(logits_of_ten_thousand_give_numbers) {
    rsd_batch b = make_batch();
    b.signs = signs;
    for (int kind = RSD_LOSS_CE; kind <= RSD_LOSS_ULD; kind++)
        for (int tail = RSD_TAIL_DROP; tail <= RSD_TAIL_BUCKET; tail++) {
            bool has_tail = kind != RSD_LOSS_CE && kind != RSD_LOSS_ALM;
            rsd_loss_options o = options(kind, has_tail ? tail : RSD_TAIL_DROP, 1);
            o.unlikelihood = 1;
            float x[T * LD];
            make_logits(x, 1e4);
            struct fix f = open_loss(&o, NULL);
            ck_assert(isfinite(run(f, &b, x)));
            for (int i = 0; i < T * LD; i++)
                ck_assert(isfinite(x[i]));
            close_loss(f);
            /* a common shift of 1e4 changes nothing but the rounding of the logits themselves: multiples of 2^-10 here */
            float low[T * LD], high[T * LD];
            for (int i = 0; i < T * LD; i++) {
                low[i] = (float)(rint(2048 * sin(1.7 * i)) / 1024);
                high[i] = low[i] + 9216;
            }
            struct fix g = open_loss(&o, NULL);
            ck_assert_double_eq_tol(run(g, &b, low), run(g, &b, high), 1e-6);
            for (int i = 0; i < T * LD; i++)
                ck_assert_float_eq_tol(i % LD < V ? low[i] - high[i] : 0, 0, 1e-6F);
            close_loss(g);
        }
}
END_TEST

static void refuse(rsd_loss_options o, const char *says) {
    rsd_ctx *ctx = NULL;
    rsd_loss *l = NULL;
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    ck_assert_int_eq(rsd_loss_open(ctx, &o, &l), RSD_EINVAL);
    ck_assert_ptr_null(l);
    ck_assert_msg(strstr(rsd_ctx_error(ctx), says) != NULL, "%s", rsd_ctx_error(ctx));
    rsd_ctx_close(ctx);
}

START_TEST(options_without_range_or_effect_are_refused) {
    rsd_loss_options o = options(RSD_LOSS_KL, RSD_TAIL_DROP, 0);
    refuse(o, "temperature 0");
    o.temperature = NAN;
    refuse(o, "temperature");
    refuse(options(RSD_LOSS_CE, RSD_TAIL_DROP, 2), "no temperature");
    refuse(options(RSD_LOSS_ULD, RSD_TAIL_DROP, 2), "no temperature");
    refuse(options(RSD_LOSS_CE, RSD_TAIL_BUCKET, 1), "no tail");
    refuse(options(RSD_LOSS_KL, 3, 1), "tail 3");
    o = options(RSD_LOSS_KL, RSD_TAIL_DROP, 1);
    o.label_smoothing = 0.1;
    refuse(o, "label_smoothing");
    o.alpha = 0.5;
    o.label_smoothing = 1;
    refuse(o, "label_smoothing 1");
    o.label_smoothing = 0;
    o.alpha = 1.5;
    refuse(o, "alpha 1.5");
    o.alpha = NAN;
    refuse(o, "alpha");
    o.alpha = 0;
    o.weight = -1;
    refuse(o, "weight -1");
    o.weight = 1;
    o.unlikelihood = INFINITY;
    refuse(o, "unlikelihood");
}
END_TEST

START_TEST(options_of_the_first_version_still_open) {
    struct {
        size_t size;
        int32_t kind, reserved;
    } old = {sizeof old, RSD_LOSS_KL, 0};
    rsd_loss_options o;
    memset(&o, 0xff, sizeof o);
    memcpy(&o, &old, sizeof old);
    rsd_batch b = make_batch();
    rsd_loss_options now = options(RSD_LOSS_KL, RSD_TAIL_DROP, 1);
    equal_losses(&o, &now, &b, &b, 0);
}
END_TEST

static void refuse_batch(struct fix f, const rsd_batch *b, const char *says) {
    ck_assert_int_eq(rsd_loss_begin(f.loss, b, 1), RSD_EINVAL);
    ck_assert_msg(strstr(rsd_ctx_error(f.ctx), says) != NULL, "%s", rsd_ctx_error(f.ctx));
}

START_TEST(malformed_chunks_and_tops_are_refused) {
    rsd_loss_options alm = options(RSD_LOSS_ALM, RSD_TAIL_DROP, 1), uld = options(RSD_LOSS_ULD, RSD_TAIL_DROP, 1);
    struct fix f = open_loss(&alm, NULL), g = open_loss(&uld, NULL);
    rsd_batch b = make_batch();
    b.chunk_begin = NULL;
    refuse_batch(f, &b, "no chunks");
    b = make_batch();
    b.top_probs = NULL;
    refuse_batch(g, &b, "no top_probs");
    b = make_batch();
    const uint32_t across[] = {0, 2, 3, 6}, across_end[] = {2, 4, 5, 8}, back[] = {0, 1, 3, 6};
    b.chunk_begin = across;
    b.chunk_end = across_end;
    refuse_batch(f, &b, "chunk 1");
    b = make_batch();
    b.chunk_begin = back;
    refuse_batch(f, &b, "chunk 1");
    b = make_batch();
    const float likely[] = {-1, 0.5F, -1, -1}, none[] = {-1, -1, NAN, -1};
    b.chunk_logprobs = likely;
    refuse_batch(f, &b, "chunk 1");
    b.chunk_logprobs = none;
    refuse_batch(f, &b, "chunk 2");
    b = make_batch();
    float top[T * TOP], tails[T] = {0};
    memcpy(top, top_probs, sizeof top);
    b.top_probs = top;
    top[4 * TOP + 2] = 0.3F;
    refuse_batch(g, &b, "position 4");
    top[4 * TOP + 2] = NAN;
    refuse_batch(g, &b, "position 4");
    b = make_batch();
    b.tails = tails;
    tails[6] = -0.5F;
    refuse_batch(f, &b, "tail of position 6");
    close_loss(f);
    close_loss(g);
}
END_TEST

START_TEST(tails_of_the_batch_are_used) {
    /* The rest of a row of 0.5 may be told as 0.25: the bucket then holds a third of what is known. */
    static const uint32_t offsets[] = {0, 1}, dec[] = {0, 1};
    static const int32_t id = 1;
    static const float p = 0.5F, tail = 0.25F;
    rsd_batch b = {.size = sizeof b,
                   .n = 1,
                   .dec_ids = &id,
                   .dec_offsets = dec,
                   .row_offsets = offsets,
                   .row_ids = &id,
                   .row_probs = &p,
                   .tails = &tail};
    rsd_loss_options o = options(RSD_LOSS_KL, RSD_TAIL_BUCKET, 1);
    float x[4] = {0};
    struct fix f = open_loss(&o, NULL);
    ck_assert_int_eq(rsd_loss_begin(f.loss, &b, 1), RSD_OK);
    rsd_tile tile = {.size = sizeof tile, .logits = x, .ld = 4, .vocab = 4, .n_sequences = 1, .n_positions = 1};
    ck_assert_int_eq(rsd_loss_tile(f.loss, &tile), RSD_OK);
    rsd_loss_result r = {.size = sizeof r};
    rsd_loss_result_get(f.loss, &r);
    ck_assert_double_eq_tol(r.loss, 2 / 3.0 * log(8 / 3.0) + 1 / 3.0 * log(4 / 9.0), 1e-6);
    close_loss(f);
}
END_TEST

Suite *train_distill_suite(void) {
    Suite *s = suite_create("train_distill");
    TCase *c = tcase_create("distill");
    tcase_add_loop_test(c, divergences_equal_their_definitions_and_differences, RSD_LOSS_KL, RSD_LOSS_JS + 1);
    tcase_add_test(c, sorted_transport_equals_its_definition_and_differences);
    tcase_add_test(c, chunk_likelihood_equals_its_definition_and_differences);
    tcase_add_test(c, mix_smoothing_and_weight_equal_their_definitions_and_differences);
    tcase_add_test(c, wrong_replies_are_made_unlikely);
    tcase_add_test(c, formats_have_options_of_their_own);
    tcase_add_test(c, format_can_return_to_the_common_options);
    tcase_add_test(c, rows_of_the_whole_vocabulary_give_the_dense_loss_for_any_tail);
    tcase_add_test(c, alpha_0_and_1_are_the_two_losses);
    tcase_add_test(c, hard_rows_make_kl_cross_entropy);
    tcase_add_test(c, high_temperature_matches_logits);
    tcase_add_test(c, student_that_equals_the_teacher_has_no_loss);
    tcase_add_test(c, logits_of_ten_thousand_give_numbers);
    tcase_add_test(c, options_without_range_or_effect_are_refused);
    tcase_add_test(c, options_of_the_first_version_still_open);
    tcase_add_test(c, malformed_chunks_and_tops_are_refused);
    tcase_add_test(c, tails_of_the_batch_are_used);
    suite_add_tcase(s, c);
    return s;
}
