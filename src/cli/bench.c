/* bench: one JSON object of figures a case.
 *
 * Work is counted, not estimated: multiplications and additions of every matrix product, each token through its own stack only;
 * the backward pass counts twice the forward pass, and nothing is counted for what is computed again. */
#include "cli/bench_align.h"
#include "cli/bench_peak.h"
#include "cli/cli.h"
#include "core/log.h"
#include "core/rng.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { VOCAB = 32128, IDS = 32100, MAX_STEPS = 1000 };

struct shape {
    const char *name;
    int d_model, d_ff, layers, heads, d_kv;
};
static const struct shape shapes[] = {
    {"flan-t5-small", 512, 1024, 8, 6, 64}, {"flan-t5-base", 768, 2048, 12, 12, 64},  {"flan-t5-large", 1024, 2816, 24, 16, 64},
    {"flan-t5-xl", 2048, 5120, 24, 32, 64}, {"flan-t5-xxl", 4096, 10240, 24, 64, 64},
};

struct bench {
    const char *what, *shape, *tokenizer, *in, *method, *pattern, *dtype, *optimizer;
    bool fused, recompute;
    int64_t batch, enc, dec, steps, threads;
    double dropout;
    rsd_ctx *ctx;
    rsd_t5 *m;
    const struct shape *s;
    int32_t *ids; /* random input and target ids, end to end */
    uint32_t *enc_offsets, *dec_offsets;
    double seconds[MAX_STEPS], phases[4];
    size_t line; /* of the file, while its lines are measured */
    struct str text;
    struct json_out out;
};

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n) {
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* GFLOP of one forward pass of a batch. */
static double forward_gflop(const struct shape *s, double n, double enc, double dec, bool decoder) {
    double inner = (double)s->heads * s->d_kv, d = s->d_model, ff = 3 * d * s->d_ff, layers = s->layers;
    double encoder = layers * enc * (4 * d * inner + ff) + layers * 2 * enc * enc * inner;
    if (!decoder)
        return 2e-9 * n * encoder;
    double own = layers * dec * (6 * d * inner + ff) +
                 layers * 2 * dec * dec * inner; /* self-attention, query and output of the cross-attention, FFN */
    double cross =
        layers * enc * 2 * d * inner + layers * 2 * dec * enc * inner; /* keys and values of each input token, products */
    return 2e-9 * n * (encoder + own + cross + dec * d * VOCAB);
}

static void put(struct bench *b, const char *key, double v) {
    json_put_key(&b->out, key);
    json_put_double(&b->out, v);
}

static void put_head(struct bench *b) {
    json_begin(&b->out, &b->text, 0);
    json_object(&b->out);
    json_put_key(&b->out, "case");
    json_put_z(&b->out, b->what);
    json_put_key(&b->out, "backend");
    json_put_z(&b->out, rsd_ctx_backend(b->ctx));
    json_put_key(&b->out, "threads");
    json_put_int(&b->out, rsd_ctx_threads(b->ctx));
    json_put_key(&b->out, "environment");
    json_object(&b->out);
    static const char *const variables[] = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS",
                                            "GOTO_NUM_THREADS"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (getenv(variables[i])) {
            json_put_key(&b->out, variables[i]);
            json_put_z(&b->out, getenv(variables[i]));
        }
    json_end_object(&b->out);
}

static int put_tail(struct bench *b) {
    struct rusage usage;
    struct err e = {0};
    getrusage(RUSAGE_SELF, &usage);
    json_put_key(&b->out, "peak_rss_bytes");
    json_put_int(&b->out, (int64_t)usage.ru_maxrss * 1024);
    json_end_object(&b->out);
    return str_status(&b->text, &e) ? cli_err(&e) : puts(str_z(&b->text)) < 0 ? EXIT_FAILED : EXIT_OK;
}

/* A model of the shape with random weights. rsd_t5_create reads a file, so one is made and removed. */
static int make_model(struct bench *b) {
    char path[256];
    const char *dir = getenv("TMPDIR");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (!strcmp(shapes[i].name, b->shape))
            b->s = &shapes[i];
    snprintf(path, sizeof path, "%s/reasondistill-bench-XXXXXX", dir && strlen(dir) < 200 ? dir : "/tmp");
    int fd = mkstemp(path);
    if (fd < 0) {
        fprintf(stderr, "reasondistill bench: %s: no temporary file can be made\n", path);
        return EXIT_FAILED;
    }
    dprintf(fd,
            "{\"model_type\":\"t5\",\"d_model\":%d,\"d_ff\":%d,\"d_kv\":%d,\"num_heads\":%d,\"num_layers\":%d,\"num_decoder_"
            "layers\":%d,\"vocab_size\":%d,"
            "\"feed_forward_proj\":\"gated-gelu\",\"tie_word_embeddings\":false,\"dropout_rate\":%g}\n",
            b->s->d_model, b->s->d_ff, b->s->d_kv, b->s->heads, b->s->layers, b->s->layers, VOCAB, b->dropout);
    close(fd);
    int status =
        rsd_t5_create_as(b->ctx, path, 1, !strcmp(b->dtype, "bf16") ? RSD_BF16 : RSD_F32, &b->m) ? cli_failed(b->ctx) : EXIT_OK;
    unlink(path);
    return status;
}

static int make_batch(struct bench *b) {
    struct err e = {0};
    size_t n = (size_t)b->batch, enc = (size_t)b->enc, dec = (size_t)b->dec;
    struct rng r = rng_make(1, 0);
    b->ids = mem_new(&mem_std, n * (enc + dec), sizeof *b->ids, &e);
    b->enc_offsets = mem_new(&mem_std, n + 1, sizeof *b->enc_offsets, &e);
    b->dec_offsets = mem_new(&mem_std, n + 1, sizeof *b->dec_offsets, &e);
    if (e.code)
        return cli_err(&e);
    for (size_t i = 0; i < n * (enc + dec); i++)
        b->ids[i] = (int32_t)(3 + rng_below(&r, IDS - 3));
    for (size_t i = 0; i <= n; i++) {
        b->enc_offsets[i] = (uint32_t)(i * enc);
        b->dec_offsets[i] = (uint32_t)(i * dec);
    }
    return EXIT_OK;
}

static rsd_batch batch_of(const struct bench *b) {
    return (rsd_batch){.size = sizeof(rsd_batch),
                       .n = (size_t)b->batch,
                       .enc_ids = b->ids,
                       .enc_offsets = b->enc_offsets,
                       .dec_ids = b->ids + b->batch * b->enc,
                       .dec_offsets = b->dec_offsets};
}

static double lap(double *since) {
    double now = clock_seconds(), s = now - *since;
    *since = now;
    return s;
}

static int bench_train(struct bench *b) {
    rsd_loss *loss = NULL;
    rsd_optimizer *opt = NULL;
    int status = EXIT_FAILED;
    if (make_model(b) || make_batch(b))
        return EXIT_FAILED;
    const rsd_batch batch = batch_of(b);
    double tokens = (double)(b->batch * (b->enc + b->dec)), phase[4][MAX_STEPS];
    double gflop = 3 * forward_gflop(b->s, (double)b->batch, (double)b->enc, (double)b->dec, true);
    rsd_t5_info info = {.size = sizeof info};
    rsd_optimizer_options o;
    rsd_optimizer_options_init(&o, sizeof o);
    o.kind = !strcmp(b->optimizer, "adafactor") ? RSD_ADAFACTOR : RSD_ADAMW;
    o.fused = b->fused;
    o.clip = b->fused ? 0 : 1;
    if (rsd_loss_open(b->ctx, NULL, &loss) || rsd_optimizer_open(b->ctx, b->m, &o, &opt) ||
        rsd_t5_set_recompute(b->m, b->recompute))
        goto failed;
    for (int64_t s = -1; s < b->steps; s++) { /* step -1 warms up: memory is touched for the first time */
        double start = clock_seconds(), since = start, p[4];
        if (rsd_t5_set_dropout(b->m, b->dropout, 1, (uint64_t)(s + 1)) || rsd_t5_forward(b->m, &batch, RSD_TRAIN))
            goto failed;
        p[0] = lap(&since);
        if (rsd_loss_begin(loss, &batch, 1.0 / rsd_loss_weight(&batch)) || rsd_t5_head(b->m, rsd_loss_tile, loss))
            goto failed;
        p[1] = lap(&since);
        if (b->fused ? rsd_optimizer_backward(opt, 1e-4, NULL) : rsd_t5_backward(b->m))
            goto failed;
        p[2] = lap(&since);
        if (!b->fused && rsd_optimizer_step(opt, 1e-4, NULL))
            goto failed;
        p[3] = lap(&since);
        for (int k = 0; s >= 0 && k < 4; k++)
            phase[k][s] = p[k];
        if (s >= 0)
            b->seconds[s] = clock_seconds() - start;
    }
    rsd_t5_info_get(b->m, &info);
    double seconds = median(b->seconds, (size_t)b->steps), peak = peak_gflops((size_t)rsd_ctx_threads(b->ctx));
    double read = peak_read_gbs((size_t)rsd_ctx_threads(b->ctx));
    put(b, "seconds", seconds);
    put(b, "seconds_min", b->seconds[0]);
    put(b, "tokens_per_s", tokens / seconds);
    put(b, "gflop", gflop);
    put(b, "gflops", gflop / seconds);
    put(b, "peak_gflops", peak);
    put(b, "peak_read_gbs", read);
    /* What the update moves a parameter at least: the weight twice, the gradient; AdamW also two moments, each twice. */
    double bytes = 4 + (info.memory_dtype == RSD_BF16 ? 4 : 8) + (o.kind == RSD_ADAMW ? 16 : 0);
    put(b, "limit_seconds", gflop / peak + 1e-9 * bytes * (double)info.parameters / read);
    json_put_key(&b->out, "phases");
    json_object(&b->out);
    static const char *const names[] = {"forward", "head", "backward", "optimizer"};
    for (int k = 0; k < 4; k++)
        put(b, names[k], median(phase[k], (size_t)b->steps));
    json_end_object(&b->out);
    status = EXIT_OK;
failed:
    if (status)
        cli_failed(b->ctx);
    rsd_optimizer_close(opt);
    rsd_loss_close(loss);
    return status;
}

static int count_token(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    uint64_t *tokens = user;
    (void)input, (void)sample, (void)id, (void)logprob, (void)finish;
    ++*tokens;
    return 0;
}

static int bench_generate(struct bench *b) {
    if (make_model(b) || make_batch(b))
        return EXIT_FAILED;
    rsd_generate_options o;
    rsd_generate_options_init(&o, sizeof o);
    o.batch = (int32_t)b->batch;
    double per_step[MAX_STEPS];
    uint64_t all = 0;
    for (int64_t s = -1; s < b->steps; s++) {
        double times[2];
        uint64_t tokens[2];
        for (int run = 0; run < 2; run++) { /* one token, then all: the difference is decoding alone */
            double start = clock_seconds();
            o.max_tokens = run ? (int32_t)b->dec : 1;
            tokens[run] = 0;
            if (rsd_t5_generate(b->m, b->ids, b->enc_offsets, (size_t)b->batch, &o, count_token, &tokens[run]))
                return cli_failed(b->ctx);
            times[run] = clock_seconds() - start;
        }
        if (tokens[1] <= tokens[0]) {
            fprintf(stderr, "reasondistill bench: --dec must be at least 2, and the random model must not stop at once\n");
            return EXIT_FAILED;
        }
        if (s >= 0) {
            b->seconds[s] = times[1];
            per_step[s] = 1e3 * (times[1] - times[0]) / ((double)(tokens[1] - tokens[0]) / (double)b->batch);
            all = tokens[1];
        }
    }
    double seconds = median(b->seconds, (size_t)b->steps);
    put(b, "seconds", seconds);
    put(b, "seconds_min", b->seconds[0]);
    put(b, "tokens_per_s", (double)all / seconds);
    put(b, "ms_per_token", median(per_step, (size_t)b->steps)); /* of each sequence, all of a batch side by side */
    return EXIT_OK;
}

static int bench_encode(struct bench *b) {
    if (make_model(b) || make_batch(b))
        return EXIT_FAILED;
    b->dec = 1;
    for (int64_t i = 0; i <= b->batch; i++)
        b->dec_offsets[i] = (uint32_t)i;
    const rsd_batch batch = batch_of(b);
    double gflop = forward_gflop(b->s, (double)b->batch, (double)b->enc, 1, true);
    for (int64_t s = -1; s < b->steps; s++) {
        double start = clock_seconds();
        if (rsd_t5_forward(b->m, &batch, RSD_INFER))
            return cli_failed(b->ctx);
        if (s >= 0)
            b->seconds[s] = clock_seconds() - start;
    }
    double seconds = median(b->seconds, (size_t)b->steps), peak = peak_gflops((size_t)rsd_ctx_threads(b->ctx));
    gflop -= 2e-9 * (double)b->batch * b->s->d_model * VOCAB; /* no head is computed */
    put(b, "seconds", seconds);
    put(b, "seconds_min", b->seconds[0]);
    put(b, "tokens_per_s", (double)(b->batch * b->enc) / seconds);
    put(b, "gflop", gflop);
    put(b, "gflops", gflop / seconds);
    put(b, "peak_gflops", peak);
    put(b, "limit_seconds", gflop / peak);
    return EXIT_OK;
}

/* All lines of a file, each handled once a step; fn returns the number of things it made, negative on failure. */
static int bench_lines(struct bench *b, const char *unit, int64_t (*fn)(struct bench *, void *, struct text), void *user) {
    struct err e = {0};
    struct str file;
    double things = 0, bytes = 0, lines = 0;
    int status = EXIT_FAILED;
    str_init(&file, &mem_std);
    if (file_read(b->in, (size_t)1 << 30, &file, &e)) {
        cli_err(&e);
        goto done;
    }
    for (int64_t s = -1; s < b->steps; s++) {
        double start = clock_seconds();
        things = bytes = lines = 0;
        b->line = 0;
        for (size_t at = 0, end; at < file.n; at = end + 1) {
            const char *lf = memchr(file.p + at, '\n', file.n - at);
            end = lf ? (size_t)(lf - file.p) : file.n;
            b->line++;
            int64_t n = end > at ? fn(b, user, (struct text){file.p + at, end - at}) : 0;
            if (n < 0)
                goto done;
            things += (double)n;
            bytes += (double)(end - at);
            lines += end > at;
        }
        if (s >= 0)
            b->seconds[s] = clock_seconds() - start;
    }
    if (lines == 0) {
        fprintf(stderr, "reasondistill: %s: holds no lines\n", b->in);
        goto done;
    }
    double seconds = median(b->seconds, (size_t)b->steps);
    put(b, "seconds", seconds);
    put(b, "seconds_min", b->seconds[0]);
    put(b, "lines_per_s", lines / seconds);
    put(b, "bytes_per_s", bytes / seconds);
    put(b, unit, things / seconds);
    status = EXIT_OK;
done:
    str_free(&file);
    return status;
}

static void line_failed(const struct bench *b) {
    fprintf(stderr, "reasondistill: %s:%zu: %s\n", b->in, b->line, rsd_ctx_error(b->ctx));
}

static int64_t tokenize_one(struct bench *b, void *user, struct text line) {
    const int32_t *ids = NULL;
    size_t n = 0;
    if (rsd_tokenizer_encode(user, line.p, line.n, &ids, &n)) {
        line_failed(b);
        return -1;
    }
    return (int64_t)n;
}

static int bench_text(struct bench *b) {
    rsd_tokenizer *tok = NULL;
    int status = EXIT_FAILED;
    if (rsd_tokenizer_open_pattern(b->ctx, b->tokenizer, b->pattern, &tok))
        cli_failed(b->ctx);
    else
        status = !strcmp(b->what, "align") ? bench_align(b->ctx, tok, b->in, b->method, (size_t)b->steps, &b->out)
                                           : bench_lines(b, "tokens_per_s", tokenize_one, tok);
    rsd_tokenizer_close(tok);
    return status;
}

int verb_bench(const struct verb *v, int argc, char **argv) {
    struct bench *b = calloc(1, sizeof *b); /* too large for some stacks */
    if (!b)
        return EXIT_FAILED;
    *b = (struct bench){.shape = "flan-t5-small",
                        .method = "span",
                        .dtype = "fp32",
                        .optimizer = "adamw",
                        .batch = 8,
                        .enc = 512,
                        .dec = 128,
                        .steps = 5};
    const struct arg args[] = {
        {"case", ARG_TEXT, &b->what, "train|generate|encode|align|tokenize", .help = "what is measured", .needed = true},
        {"--shape", ARG_TEXT, &b->shape, "flan-t5-small|flan-t5-base|flan-t5-large|flan-t5-xl|flan-t5-xxl",
         .help = "of the random model"},
        {"--batch", ARG_INT, &b->batch, "N", .help = "sequences", .min = 1, .max = 4096},
        {"--enc", ARG_INT, &b->enc, "N", .help = "encoder tokens of each", .min = 1, .max = 65536},
        {"--dec", ARG_INT, &b->dec, "N", .help = "decoder tokens of each", .min = 1, .max = 65536},
        {"--dtype", ARG_TEXT, &b->dtype, "fp32|bf16", .help = "of weights and activations"},
        {"--optimizer", ARG_TEXT, &b->optimizer, "adamw|adafactor", .help = "of train"},
        {"--fused", ARG_FLAG, &b->fused, .help = "train: update each layer during the backward pass"},
        {"--recompute", ARG_FLAG, &b->recompute, .help = "train: compute activations again instead of keeping them"},
        {"--dropout", ARG_NUMBER, &b->dropout, "X", .help = "rate", .min = 0, .max = 0.9},
        {"--steps", ARG_INT, &b->steps, "N", .help = "measured after one to warm up", .min = 1, .max = MAX_STEPS},
        {"--threads", ARG_INT, &b->threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
        {"--tokenizer", ARG_TEXT, &b->tokenizer, "FILE", .help = "for tokenize and align"},
        {"--in", ARG_TEXT, &b->in, "FILE", .help = "lines of text (tokenize) or replies (align)"},
        {"--method", ARG_TEXT, &b->method, "span|dtw", .help = "of align"},
        {"--pattern", ARG_TEXT, &b->pattern, "gpt2|cl100k|o200k", .help = "of a byte pair tokenizer"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        goto done;
    if ((!strcmp(b->what, "align") || !strcmp(b->what, "tokenize")) && (!b->tokenizer || !b->in)) {
        fprintf(stderr, "reasondistill bench: %s needs --tokenizer FILE and --in FILE\n", b->what);
        status = EXIT_USAGE;
        goto done;
    }
    str_init(&b->text, &mem_std);
    b->ctx = cli_open(b->threads, 1);
    status = EXIT_FAILED;
    if (b->ctx) {
        put_head(b);
        status = !strcmp(b->what, "train")      ? bench_train(b)
                 : !strcmp(b->what, "generate") ? bench_generate(b)
                 : !strcmp(b->what, "encode")   ? bench_encode(b)
                                                : bench_text(b);
        if (status == EXIT_OK)
            status = put_tail(b);
    }
    str_free(&b->text);
done:
    mem_free(&mem_std, b->ids);
    mem_free(&mem_std, b->enc_offsets);
    mem_free(&mem_std, b->dec_offsets);
    rsd_t5_close(b->m);
    rsd_ctx_close(b->ctx);
    free(b);
    return status;
}
