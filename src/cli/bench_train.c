/* bench train: optimizer steps on random batches of equal length, or on the packed batches of a data set.
 *
 * Of a data set every step is different, so its figures are sums over all steps. With --equal each packed step is followed by one on a
 * batch of equal-length sequences that has as many sequences and tokens of either side as the packed ones have on average: two
 * speeds under the same weather. */
#include "cli/bench.h"

#include "core/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum phase { DATA, FORWARD, HEAD, BACKWARD, OPTIMIZER, PHASES };
static const char *const phase_names[PHASES] = {"data", "forward", "head", "backward", "optimizer"};

static const double RATE = 1e-4;

struct training {
    rsd_tokenizer *tok;
    rsd_dataset *data;
    rsd_loss *loss;
    rsd_optimizer *opt;
    rsd_batch fixed; /* equal lengths */
    struct work work;
    double bytes; /* that an update moves at least */
    double phase[PHASES][BENCH_STEPS], equal[BENCH_STEPS];
    double last_loss;
};

static int open_data(struct bench *b, struct training *t) {
    rsd_dataset_options o;
    rsd_dataset_options_init(&o, sizeof o);
    o.batch_tokens = (uint64_t)b->batch_tokens;
    return rsd_tokenizer_open(b->ctx, b->tokenizer ? b->tokenizer : b->model, &t->tok) ||
                   rsd_dataset_open(b->ctx, b->data, t->tok, &o, &t->data)
               ? cli_failed(b->ctx)
               : EXIT_OK;
}

static int open_optimizer(struct bench *b, struct training *t) {
    rsd_optimizer_options o;
    rsd_optimizer_options_init(&o, sizeof o);
    o.kind = !strcmp(b->optimizer, "adafactor") ? RSD_ADAFACTOR : RSD_ADAMW;
    o.fused = b->fused;
    o.masters = b->masters;
    o.clip = b->fused ? 0 : 1;
    /* An update moves the weight twice and reads the gradient; AdamW also two moments, each twice. */
    const bool masters = b->info.memory_dtype == RSD_BF16 && b->masters;
    t->bytes = 4 + (masters || b->info.memory_dtype != RSD_BF16 ? 8 : 4) + (o.kind == RSD_ADAMW ? 16 : 0);
    return rsd_optimizer_open(b->ctx, b->m, &o, &t->opt);
}

/* One optimizer step; phases are added to p. */
static int step(struct bench *b, struct training *t, const rsd_batch *batch, uint64_t number, double p[PHASES]) {
    rsd_loss_result r = {.size = sizeof r};
    double since = clock_seconds();
    if (rsd_t5_set_dropout(b->m, b->dropout, 1, number) || rsd_t5_forward(b->m, batch, RSD_TRAIN))
        return EXIT_FAILED;
    p[FORWARD] = bench_lap(&since);
    if (rsd_loss_begin(t->loss, batch, 1.0 / rsd_loss_weight(batch)) || rsd_t5_head(b->m, rsd_loss_tile, t->loss))
        return EXIT_FAILED;
    p[HEAD] = bench_lap(&since);
    if (b->fused ? rsd_optimizer_backward(t->opt, RATE, NULL) : rsd_t5_backward(b->m))
        return EXIT_FAILED;
    p[BACKWARD] = bench_lap(&since);
    if (!b->fused && rsd_optimizer_step(t->opt, RATE, NULL))
        return EXIT_FAILED;
    p[OPTIMIZER] = bench_lap(&since);
    if (rsd_loss_result_get(t->loss, &r))
        return EXIT_FAILED;
    t->last_loss = r.loss;
    return EXIT_OK;
}

/* Sums over the batches of all steps; then the batch of equal lengths that is like their mean. */
static int look_at_data(struct bench *b, struct training *t) {
    const rsd_batch *batch = NULL;
    for (int64_t s = 0; s < b->steps; s++) {
        if (rsd_dataset_batch(t->data, (uint64_t)s, &batch))
            return cli_failed(b->ctx);
        work_add(&t->work, batch);
    }
    double n = fmax(1, round(t->work.sequences / (double)b->steps)), sequences = n * (double)b->steps;
    b->batch = (int64_t)n;
    b->enc = (int64_t)fmax(1, round(t->work.enc / sequences));
    b->dec = (int64_t)fmax(1, round(t->work.dec / sequences));
    return EXIT_OK;
}

static int run(struct bench *b, struct training *t) {
    double none[PHASES];
    for (int64_t s = -1; s < b->steps; s++) { /* step -1 warms up: memory is touched for the first time */
        const rsd_batch *batch = &t->fixed;
        if (s == 0)
            bench_watch_threads(b);
        double p[PHASES] = {0}, start = clock_seconds();
        if (t->data && rsd_dataset_batch(t->data, s < 0 ? 0 : (uint64_t)s, &batch))
            return cli_failed(b->ctx);
        p[DATA] = clock_seconds() - start;
        if (step(b, t, batch, (uint64_t)(s + 1), p))
            return cli_failed(b->ctx);
        bench_step(b, s, clock_seconds() - start);
        double done = clock_seconds();
        if (b->equal && step(b, t, &t->fixed, (uint64_t)(s + 1), none))
            return cli_failed(b->ctx);
        if (s < 0)
            continue;
        t->equal[s] = clock_seconds() - done;
        for (int k = 0; k < PHASES; k++)
            t->phase[k][s] = p[k];
    }
    return EXIT_OK;
}

static double sum(const double *v, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += v[i];
    return s;
}

static void put_data(struct bench *b, const struct training *t, double total) {
    const size_t n = (size_t)b->steps;
    const double tokens = t->work.enc + t->work.dec, speed = tokens / total;
    bench_put(b, "batch_sequences", t->work.sequences / (double)n);
    bench_put(b, "batch_enc_tokens", t->work.enc / (double)n);
    bench_put(b, "batch_dec_tokens", t->work.dec / (double)n);
    if (!b->equal)
        return;
    struct work equal = {0};
    work_add(&equal, &t->fixed);
    double seconds = sum(t->equal, n) / (double)n, equal_speed = (equal.enc + equal.dec) / seconds;
    bench_put(b, "equal_batch", equal.sequences);
    bench_put(b, "equal_enc", (double)b->enc);
    bench_put(b, "equal_dec", (double)b->dec);
    bench_put(b, "equal_seconds", seconds);
    bench_put(b, "equal_tokens_per_s", equal_speed);
    bench_put(b, "equal_gflops", 3 * work_gflop(&b->info, &equal, true) / seconds);
    bench_put(b, "share_of_equal", speed / equal_speed);
}

static void put_figures(struct bench *b, struct training *t) {
    const size_t n = (size_t)b->steps;
    bench_put_threads(b);
    double total = sum(b->seconds, n), seconds = bench_put_seconds(b);
    if (t->data) /* steps differ: their mean stands for one */
        seconds = total / (double)n;
    else
        work_add(&t->work, &t->fixed);
    double steps = t->data ? (double)n : 1, tokens = (t->work.enc + t->work.dec) / steps;
    bench_put(b, "tokens_per_s", tokens / seconds);
    if (t->data)
        put_data(b, t, total);
    bench_put(b, "loss", t->last_loss);
    bench_put_limit(b, seconds, 3 * work_gflop(&b->info, &t->work, true) / steps, t->bytes * (double)b->info.parameters);
    json_put_key(&b->out, "phases");
    json_object(&b->out);
    for (int k = t->data ? DATA : FORWARD; k < PHASES; k++)
        bench_put(b, phase_names[k], t->data ? sum(t->phase[k], n) / (double)n : bench_median(t->phase[k], n));
    json_end_object(&b->out);
}

int bench_train(struct bench *b) {
    struct training *t = calloc(1, sizeof *t); /* too large for some stacks */
    int status = EXIT_FAILED;
    if (!t)
        return EXIT_FAILED;
    if ((b->data && (open_data(b, t) || look_at_data(b, t))) || bench_make_model(b))
        goto done;
    if (bench_make_batch(b, (size_t)b->batch, (size_t)b->enc, (size_t)b->dec))
        goto done;
    t->fixed = bench_batch(b, (size_t)b->batch, (size_t)b->enc);
    if (rsd_loss_open(b->ctx, NULL, &t->loss) || open_optimizer(b, t) || rsd_t5_set_recompute(b->m, b->recompute))
        cli_failed(b->ctx);
    else
        status = run(b, t);
    if (status == EXIT_OK)
        put_figures(b, t);
done:
    rsd_optimizer_close(t->opt);
    rsd_loss_close(t->loss);
    rsd_dataset_close(t->data);
    rsd_tokenizer_close(t->tok);
    free(t);
    return status;
}
