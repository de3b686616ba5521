/* Which loss for which teacher: a small student is distilled from a teacher whose every probability is known, once with each
 * loss, from the same weights, on the same batches, for the same number of steps.
 *
 *     ninja -C build tests/bench/loss_table && build/tests/bench/loss_table [STEPS]
 *
 * The teacher: V tokens, each with random vectors; the logits of the next token are a sum of products of the last token's and
 * the three input tokens' vectors with its own. Its words are drawn from it; told are the five most probable tokens, as by an
 * API, the rest is tail; chunks are runs of one to three words with their joint probability. On held-out inputs all of the
 * teacher's distribution is compared with all of the student's. */
#include "core/rng.h"
#include "reasondistill/reasondistill.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { V = 64, FIRST = 4, RANK = 5, INPUT = 3, WORDS = 8, LENGTH = WORDS + 1, TOLD = 5, N = 24, T = N * LENGTH, HELD_OUT = 40 };

static double vectors[4][V][RANK]; /* of input, of the last token, and what each is multiplied with */

static void make_teacher(void) {
    struct rng r = rng_make(11, 0);
    for (int k = 0; k < 4; k++)
        for (int v = 0; v < V; v++)
            for (int i = 0; i < RANK; i++)
                vectors[k][v][i] = rng_normal(&r);
}

/* p of the next token; the end token 1 comes after WORDS words and never before. */
static void teacher(double *p, const int32_t *input, int32_t last, int word) {
    double sum = 0;
    for (int v = 0; v < V; v++) {
        double z = 0;
        for (int i = 0; i < RANK; i++) {
            double in = 0;
            for (int j = 0; j < INPUT; j++)
                in += vectors[0][input[j]][i] / sqrt(INPUT);
            z += in * vectors[1][v][i] + vectors[2][last][i] * vectors[3][v][i];
        }
        p[v] = word == WORDS ? v == 1 : v < FIRST ? 0 : exp(0.8 * z);
        sum += p[v];
    }
    for (int v = 0; v < V; v++)
        p[v] /= sum;
}

struct data {
    int32_t enc[N * (INPUT + 1)], dec[T], ids[T * TOLD];
    uint32_t enc_offsets[N + 1], dec_offsets[N + 1], rows[T + 1], begin[T], end[T];
    float probs[T * TOLD], tails[T], top[T * TOLD], logprobs[T];
    int8_t signs[N];
    double p[T][V];
    rsd_batch batch;
};

static int32_t draw(struct rng *r, const double *p) {
    double u = rng_uniform(r);
    for (int32_t v = 0; v < V; v++)
        if ((u -= p[v]) < 0)
            return v;
    return V - 1;
}

static void tell(struct data *d, size_t t) {
    const double *p = d->p[t];
    bool used[V] = {false};
    double sum = 0;
    size_t n = d->rows[t];
    for (int i = 0; i < TOLD; i++) {
        int best = 0;
        for (int v = 0; v < V; v++)
            best = !used[v] && (used[best] || p[v] > p[best]) ? v : best;
        used[best] = true;
        d->top[t * TOLD + (size_t)i] = (float)p[best];
        if (p[best] > 0) {
            d->ids[n] = best;
            d->probs[n++] = (float)p[best];
            sum += p[best];
        }
    }
    d->rows[t + 1] = (uint32_t)n;
    d->tails[t] = (float)fmax(0, 1 - sum);
}

/* Batch number i; in `wrong` of the sequences the words are drawn from anything. */
static void make_batch(struct data *d, uint64_t i, double wrong) {
    struct rng r = rng_make(3, i);
    memset(d, 0, sizeof *d);
    size_t chunks = 0;
    for (size_t s = 0; s < N; s++) {
        int32_t *in = d->enc + s * (INPUT + 1), last = 0;
        for (int j = 0; j < INPUT; j++)
            in[j] = FIRST + (int32_t)rng_below(&r, V - FIRST);
        in[INPUT] = 1;
        d->signs[s] = rng_uniform(&r) < wrong ? -1 : 1;
        size_t left = 0;
        for (int w = 0; w < LENGTH; w++) {
            size_t t = s * LENGTH + (size_t)w;
            teacher(d->p[t], in, last, w);
            last = d->dec[t] = draw(&r, d->p[t]);
            if (d->signs[s] < 0 && w < WORDS)
                last = d->dec[t] = FIRST + (int32_t)rng_below(&r, V - FIRST);
            tell(d, t);
            if (!left) {
                left = 1 + (size_t)rng_below(&r, 3);
                d->begin[chunks++] = (uint32_t)t;
            }
            d->end[chunks - 1] = (uint32_t)t + 1;
            d->logprobs[chunks - 1] += (float)fmin(0, log(d->p[t][last]));
            left--;
        }
        d->enc_offsets[s + 1] = (uint32_t)((s + 1) * (INPUT + 1));
        d->dec_offsets[s + 1] = (uint32_t)((s + 1) * LENGTH);
    }
    d->batch = (rsd_batch){.size = sizeof d->batch,
                           .n = N,
                           .enc_ids = d->enc,
                           .enc_offsets = d->enc_offsets,
                           .dec_ids = d->dec,
                           .dec_offsets = d->dec_offsets,
                           .row_offsets = d->rows,
                           .row_ids = d->ids,
                           .row_probs = d->probs,
                           .tails = d->tails,
                           .signs = d->signs,
                           .n_chunks = chunks,
                           .chunk_begin = d->begin,
                           .chunk_end = d->end,
                           .chunk_logprobs = d->logprobs,
                           .top_k = TOLD,
                           .top_probs = d->top};
}

struct score {
    double forward, reverse, top1, nll, seconds;
};

static int measure(rsd_t5 *m, struct data *d, struct score *s) {
    static float z[T * V];
    double n = (double)HELD_OUT * T;
    for (uint64_t i = 0; i < HELD_OUT; i++) {
        make_batch(d, (uint64_t)1 << 40 | i, 0);
        int code = rsd_t5_forward(m, &d->batch, RSD_INFER);
        code = code ? code : rsd_t5_logits(m, z, (size_t)T * V);
        if (code)
            return code;
        for (size_t t = 0; t < T; t++) {
            double max = -INFINITY, sum = 0;
            int best = 0, told = 0;
            for (int v = 0; v < V; v++) {
                max = fmax(max, (double)z[t * V + (size_t)v]);
                best = z[t * V + (size_t)v] > z[t * V + (size_t)best] ? v : best;
                told = d->p[t][v] > d->p[t][told] ? v : told;
            }
            for (int v = 0; v < V; v++)
                sum += exp((double)z[t * V + (size_t)v] - max);
            for (int v = 0; v < V; v++) {
                double p = d->p[t][v], log_q = (double)z[t * V + (size_t)v] - max - log(sum);
                s->forward += p > 0 ? p * (log(p) - log_q) / n : 0;
                s->reverse += exp(log_q) * (log_q - log(fmax(p, 1e-6))) / n;
                s->nll -= v == d->dec[t] ? log_q / n : 0;
            }
            s->top1 += (best == told) / n;
        }
    }
    return 0;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int distil(rsd_ctx *ctx, const char *config, const rsd_loss_options *o, double wrong, int steps, struct score *s) {
    static struct data d;
    rsd_t5 *m = NULL;
    rsd_loss *l = NULL;
    rsd_optimizer *opt = NULL;
    memset(s, 0, sizeof *s);
    int code = rsd_t5_create(ctx, config, 5, &m);
    code = code ? code : rsd_loss_open(ctx, o, &l);
    code = code ? code : rsd_optimizer_open(ctx, m, NULL, &opt);
    double start = now();
    for (int i = 0; i < steps && !code; i++) {
        make_batch(&d, (uint64_t)i, wrong);
        double norm = 0, lr = 5e-3 * fmin(1, fmin((i + 1) / 50.0, (steps - i) / (0.5 * steps)));
        code = rsd_t5_forward(m, &d.batch, RSD_TRAIN);
        code = code ? code : rsd_loss_begin(l, &d.batch, 1 / rsd_loss_weight(&d.batch));
        code = code ? code : rsd_t5_head(m, rsd_loss_tile, l);
        code = code ? code : rsd_t5_backward(m);
        code = code ? code : rsd_optimizer_step(opt, lr, &norm);
    }
    s->seconds = now() - start;
    code = code ? code : measure(m, &d, s);
    rsd_optimizer_close(opt);
    rsd_loss_close(l);
    rsd_t5_close(m);
    return code;
}

static const struct {
    const char *name;
    int32_t kind, tail;
    double alpha, temperature, smoothing, unlikelihood, wrong;
} runs[] = {
    {"ce", RSD_LOSS_CE, 0, -1, 1, 0, 0, 0},
    {"ce, label_smoothing 0.1", RSD_LOSS_CE, 0, -1, 1, 0.1, 0, 0},
    {"kl, drop", RSD_LOSS_KL, RSD_TAIL_DROP, 0, 1, 0, 0, 0},
    {"kl, renormalise", RSD_LOSS_KL, RSD_TAIL_RENORMALISE, 0, 1, 0, 0, 0},
    {"kl, bucket", RSD_LOSS_KL, RSD_TAIL_BUCKET, 0, 1, 0, 0, 0},
    {"kl, bucket, temperature 2", RSD_LOSS_KL, RSD_TAIL_BUCKET, 0, 2, 0, 0, 0},
    {"kl, bucket, alpha 0.5", RSD_LOSS_KL, RSD_TAIL_BUCKET, 0.5, 1, 0, 0, 0},
    {"reverse_kl, bucket", RSD_LOSS_REVERSE_KL, RSD_TAIL_BUCKET, 0, 1, 0, 0, 0},
    {"reverse_kl, bucket, alpha 0.5", RSD_LOSS_REVERSE_KL, RSD_TAIL_BUCKET, 0.5, 1, 0, 0, 0},
    {"js, bucket", RSD_LOSS_JS, RSD_TAIL_BUCKET, 0, 1, 0, 0, 0},
    {"js, bucket, alpha 0.5", RSD_LOSS_JS, RSD_TAIL_BUCKET, 0.5, 1, 0, 0, 0},
    {"alm, alpha 0", RSD_LOSS_ALM, 0, 0, 1, 0, 0, 0},
    {"alm, alpha 0.5", RSD_LOSS_ALM, 0, 0.5, 1, 0, 0, 0},
    {"uld, alpha 0.5", RSD_LOSS_ULD, 0, 0.5, 1, 0, 0, 0},
    {"uld, bucket, alpha 0.5", RSD_LOSS_ULD, RSD_TAIL_BUCKET, 0.5, 1, 0, 0, 0},
    {"ce; 1 in 5 replies wrong", RSD_LOSS_CE, 0, -1, 1, 0, 0, 0.2},
    {"ce, unlikelihood 0.5; 1 in 5 replies wrong", RSD_LOSS_CE, 0, -1, 1, 0, 0.5, 0.2},
};

int main(int argc, char **argv) {
    const char *config = "loss_table.config.json";
    int steps = argc > 1 ? atoi(argv[1]) : 1000, code = 0;
    FILE *f = fopen(config, "w");
    if (!f || steps < 1)
        return 2;
    fprintf(f,
            "{\"model_type\": \"t5\", \"vocab_size\": %d, \"d_model\": 48, \"d_kv\": 12, \"d_ff\": 96, \"num_layers\": 2, "
            "\"num_decoder_layers\": 2, \"num_heads\": 4, \"feed_forward_proj\": \"gated-gelu\", \"tie_word_embeddings\": false, "
            "\"dropout_rate\": 0.0, \"pad_token_id\": 0, \"eos_token_id\": 1, \"decoder_start_token_id\": 0}",
            V);
    fclose(f);
    rsd_ctx *ctx = NULL;
    rsd_ctx_options o;
    rsd_ctx_options_init(&o, sizeof o);
    o.threads = 1;
    o.blas = RSD_BLAS_OWN;
    code = rsd_ctx_open(&o, &ctx);
    make_teacher();
    printf("%d steps of %d positions; held out %d positions\n\n", steps, T, HELD_OUT * T);
    printf("| loss | KL(teacher, student) | KL(student, teacher) | same first choice | -log q of its words | ms a step |\n"
           "| --- | --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; i < sizeof runs / sizeof runs[0] && !code; i++) {
        rsd_loss_options l;
        struct score s;
        rsd_loss_options_init(&l, sizeof l);
        l.kind = runs[i].kind;
        l.tail = runs[i].tail;
        l.alpha = runs[i].alpha;
        l.temperature = runs[i].temperature;
        l.label_smoothing = runs[i].smoothing;
        l.unlikelihood = runs[i].unlikelihood;
        code = distil(ctx, config, &l, runs[i].wrong, steps, &s);
        if (!code)
            printf("| %s | %.4f | %.4f | %.1f %% | %.4f | %.1f |\n", runs[i].name, s.forward, s.reverse, 100 * s.top1, s.nll,
                   1e3 * s.seconds / steps);
        fflush(stdout);
    }
    if (code)
        fprintf(stderr, "loss_table: %s\n", ctx ? rsd_ctx_error(ctx) : "no context");
    rsd_ctx_close(ctx);
    remove(config);
    return code != 0;
}
