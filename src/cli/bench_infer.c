/* bench generate, encode, open: what a model costs that only answers. */
#include "cli/bench.h"

#include "core/file.h"
#include "core/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENIZER_IDS = 32100 }; /* the random model's end token lies behind: it writes as many tokens as it is asked for */

static int count_token(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    uint64_t *tokens = user;
    (void)input, (void)sample, (void)id, (void)logprob, (void)finish;
    ++*tokens;
    return 0;
}

/* Greedy, for the batch that was made. Negative on failure. */
static double generate(struct bench *b, rsd_t5 *m, int32_t max_tokens, uint64_t *tokens) {
    rsd_generate_options o;
    rsd_generate_options_init(&o, sizeof o);
    o.batch = (int32_t)b->batch;
    o.max_tokens = max_tokens;
    o.vocab = b->info.vocab > TOKENIZER_IDS ? TOKENIZER_IDS : 0;
    double start = clock_seconds();
    *tokens = 0;
    if (rsd_t5_generate(m, b->ids, b->enc_offsets, (size_t)b->batch, &o, count_token, tokens))
        return -1;
    return clock_seconds() - start;
}

/* Weights that each token reads, whatever the batch: all of the decoder but the keys and values of the cross-attention. */
static double decoder_bytes(const rsd_t5_info *m) {
    double d = (double)m->d_model, inner = (double)(m->heads * m->d_kv), ff = (m->gated ? 3 : 2) * d * (double)m->d_ff;
    double weights = (double)m->decoder_layers * (6 * d * inner + ff) + d * (double)m->vocab;
    return weights * (m->memory_dtype == RSD_INT8 ? 1 : m->memory_dtype == RSD_BF16 ? 2 : 4);
}

int bench_generate(struct bench *b) {
    double per_token[BENCH_STEPS], first[BENCH_STEPS];
    uint64_t all = 0;
    if (bench_make_model(b) || bench_make_batch(b, (size_t)b->batch, (size_t)b->enc, 1))
        return EXIT_FAILED;
    for (int64_t s = -1; s < b->steps; s++) {
        if (s == 0)
            bench_watch_threads(b);
        double times[2];
        uint64_t tokens[2];
        for (int run = 0; run < 2; run++) /* one token, then all: the difference is decoding alone */
            if ((times[run] = generate(b, b->m, run ? (int32_t)b->dec : 1, &tokens[run])) < 0)
                return cli_failed(b->ctx);
        if (tokens[1] <= tokens[0]) {
            fprintf(stderr, "reasondistill bench: --dec must be at least 2, and the model must not stop at once\n");
            return EXIT_FAILED;
        }
        bench_step(b, s, times[1]);
        if (s < 0)
            continue;
        first[s] = times[0];
        per_token[s] = 1e3 * (times[1] - times[0]) / ((double)(tokens[1] - tokens[0]) / (double)b->batch);
        all = tokens[1];
    }
    bench_put_threads(b);
    const size_t n = (size_t)b->steps;
    double seconds = bench_put_seconds(b), ms = bench_median(per_token, n), begin = bench_median(first, n);
    bench_put(b, "tokens", (double)all);
    bench_put(b, "tokens_per_s", (double)all / seconds);
    bench_put(b, "ms_per_token", ms); /* of each sequence, all of a batch side by side */
    /* Each token is written beside one of every other sequence, and looks at the ones before it. */
    double length = (double)all / (double)b->batch, rows = (double)b->batch;
    struct work w = {.sequences = rows,
                     .enc = rows * (double)b->enc,
                     .dec = (double)all,
                     .enc_enc = rows * (double)(b->enc * b->enc),
                     .dec_dec = (double)all * (length + 1) / 2,
                     .dec_enc = (double)all * (double)b->enc};
    double bytes = decoder_bytes(&b->info) * length;
    struct limit l = bench_put_limit(b, seconds, work_gflop(&b->info, &w, true), bytes);
    double floor_ms = 1e-6 * decoder_bytes(&b->info) / l.read;
    bench_put(b, "limit_ms_per_token", floor_ms);
    bench_put(b, "share_of_ms_limit", floor_ms / ms);
    json_put_key(&b->out, "phases");
    json_object(&b->out);
    bench_put(b, "first_token", begin); /* encoder, keys and values of its output, one token */
    bench_put(b, "decode", seconds - begin);
    json_end_object(&b->out);
    return EXIT_OK;
}

/* The encoder, then one decoder token of each sequence without head: a forward pass has both. */
int bench_encode(struct bench *b) {
    struct work w = {0};
    if (bench_make_model(b) || bench_make_batch(b, (size_t)b->batch, (size_t)b->enc, 1))
        return EXIT_FAILED;
    const rsd_batch batch = bench_batch(b, (size_t)b->batch, (size_t)b->enc);
    for (int64_t s = -1; s < b->steps; s++) {
        if (s == 0)
            bench_watch_threads(b);
        double start = clock_seconds();
        if (rsd_t5_forward(b->m, &batch, RSD_INFER))
            return cli_failed(b->ctx);
        bench_step(b, s, clock_seconds() - start);
    }
    bench_put_threads(b);
    double seconds = bench_put_seconds(b);
    work_add(&w, &batch);
    bench_put(b, "tokens_per_s", w.enc / seconds);
    bench_put_limit(b, seconds, work_gflop(&b->info, &w, false), 0);
    return EXIT_OK;
}

/* ---- open ---- */

/* The random model as a directory, so that there is something to open. */
static int save_random(struct bench *b, char *dir, size_t size) {
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, size, "%s/reasondistill-bench-XXXXXX", tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    if (!mkdtemp(dir) || rmdir(dir)) {
        fprintf(stderr, "reasondistill bench: %s: no temporary folder can be made\n", dir);
        return EXIT_FAILED;
    }
    int status = bench_make_model(b);
    if (status == EXIT_OK && rsd_t5_save(b->m, dir, b->info.memory_dtype, NULL))
        status = cli_failed(b->ctx);
    rsd_t5_close(b->m);
    b->m = NULL;
    return status;
}

/* Opening as stored, then the first token of one input with nothing but the page cache warm. */
int bench_open(struct bench *b) {
    char made[256] = "";
    double first[BENCH_STEPS];
    int status = b->model ? EXIT_OK : save_random(b, made, sizeof made);
    const char *dir = b->model ? b->model : made;
    b->batch = 1;
    for (int64_t s = -1; s < b->steps && status == EXIT_OK; s++) {
        if (s == 0)
            bench_watch_threads(b);
        uint64_t tokens;
        rsd_t5 *m = NULL;
        double start = clock_seconds(), opened = 0, more = 0;
        if (rsd_t5_open_as(b->ctx, dir, RSD_STORED, &m))
            status = cli_failed(b->ctx);
        opened = clock_seconds() - start;
        if (status == EXIT_OK && !b->ids) {
            b->info = (rsd_t5_info){.size = sizeof b->info};
            rsd_t5_info_get(m, &b->info);
            status = bench_make_batch(b, 1, (size_t)b->enc, 1);
        }
        if (status == EXIT_OK && (more = generate(b, m, 1, &tokens)) < 0)
            status = cli_failed(b->ctx);
        rsd_t5_close(m);
        if (s >= 0) {
            b->seconds[s] = opened;
            first[s] = opened + more;
        }
    }
    if (status == EXIT_OK) {
        bench_put_threads(b);
        bench_put_seconds(b);
        bench_put(b, "first_token_seconds", bench_median(first, (size_t)b->steps));
        bench_put(b, "model_bytes", (double)b->info.bytes);
    }
    struct err e = {0};
    return *made && dir_remove(made, &e) && status == EXIT_OK ? cli_err(&e) : status;
}
