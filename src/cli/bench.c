/* bench: one JSON object of figures a case. Each case has a file of its own; here are the options, what every object begins and ends
 * with, and what they share. */
#include "cli/bench.h"

#include "core/log.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *v, size_t n) {
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

double bench_lap(double *since) {
    double now = clock_seconds(), s = now - *since;
    *since = now;
    return s;
}

void bench_put(struct bench *b, const char *key, double v) {
    json_put_key(&b->out, key);
    json_put_double(&b->out, v);
}

double bench_put_seconds(struct bench *b) {
    double seconds = bench_median(b->seconds, (size_t)b->steps);
    bench_put(b, "seconds", seconds);
    bench_put(b, "seconds_min", b->seconds[0]);
    return seconds;
}

/* Processor time of a thread of this process: the first number of its schedstat, nanoseconds. */
static long long nanoseconds(long id) {
    char path[64];
    long long ns = 0;
    snprintf(path, sizeof path, "/proc/self/task/%ld/schedstat", id);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%lld", &ns) != 1)
        ns = 0;
    if (f)
        fclose(f);
    return ns;
}

static size_t read_threads(struct thread_time *t) {
    size_t n = 0;
    struct dirent *d;
    DIR *dir = opendir("/proc/self/task");
    while (dir && n < BENCH_THREADS && (d = readdir(dir)))
        if (d->d_name[0] != '.') {
            t[n].id = strtol(d->d_name, NULL, 10);
            t[n].ns = nanoseconds(t[n].id);
            n++;
        }
    if (dir)
        closedir(dir);
    return n;
}

/* Processor time of all threads but the caller, whose id is the process's. */
static long long of_others(const struct thread_time *t, size_t n) {
    long long ns = 0;
    for (size_t i = 0; i < n; i++)
        ns += t[i].id != (long)getpid() ? t[i].ns : 0;
    return ns;
}

/* A BLAS's own threads look for work in a loop for about 0.1 s after they start, and sleep then. What they do meanwhile belongs to no
 * step: nothing is measured before every thread but the caller has slept for a while. */
void bench_watch_threads(struct bench *b) {
    const struct timespec while_asleep = {.tv_nsec = 20 * 1000 * 1000};
    bool asleep = false;
    b->n_threads = read_threads(b->before);
    for (int tries = 0; tries < 50 && !asleep; tries++) {
        const long long before = of_others(b->before, b->n_threads);
        nanosleep(&while_asleep, NULL);
        b->n_threads = read_threads(b->before);
        asleep = of_others(b->before, b->n_threads) == before;
    }
}

void bench_put_threads(struct bench *b) {
    struct thread_time now[BENCH_THREADS];
    size_t n = read_threads(now);
    int64_t busy = 0;
    long long most = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < b->n_threads; k++)
            if (b->before[k].id == now[i].id)
                now[i].ns -= b->before[k].ns;
        most = now[i].ns > most ? now[i].ns : most;
    }
    for (size_t i = 0; i < n; i++)
        busy += now[i].ns > 0 && now[i].ns >= most / 20;
    if (!n)
        return;
    json_put_key(&b->out, "threads_alive");
    json_put_int(&b->out, (int64_t)n);
    json_put_key(&b->out, "threads_busy");
    json_put_int(&b->out, busy > 0 ? busy : 1); /* the system counts late: the caller has run, however short it was */
}

/* What changes the figures without being an option. */
static void put_environment(struct bench *b) {
    static const char *const prefixes[] = {"OPENBLAS_", "GOTO_",   "OMP_",           "KMP_",          "DNNL_",
                                           "ONEDNN_",   "MALLOC_", "GLIBC_TUNABLES", "REASONDISTILL_"};
    json_put_key(&b->out, "environment");
    json_object(&b->out);
    for (char **v = environ; v && *v; v++)
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
            const char *value = strchr(*v, '=');
            char key[64];
            if (!value || strncmp(*v, prefixes[i], strlen(prefixes[i])) != 0 || (size_t)(value - *v) >= sizeof key)
                continue;
            snprintf(key, sizeof key, "%.*s", (int)(value - *v), *v);
            json_put_key(&b->out, key);
            json_put_z(&b->out, value + 1);
        }
    json_end_object(&b->out);
}

static void put_option(struct bench *b, const char *key, const char *value) {
    json_put_key(&b->out, key);
    json_put_z(&b->out, value);
}

static void put_flag(struct bench *b, const char *key, bool value) {
    json_put_key(&b->out, key);
    json_put_bool(&b->out, value);
}

static bool is(const struct bench *b, const char *what) {
    return !strcmp(b->what, what);
}

static bool of_text(const struct bench *b) {
    return is(b, "align") || is(b, "tokenize");
}

static void put_head(struct bench *b) {
    json_begin(&b->out, &b->text, 0);
    json_object(&b->out);
    put_option(b, "case", b->what);
    put_option(b, "version", rsd_version());
    put_option(b, "backend", rsd_ctx_backend(b->ctx));
    json_put_key(&b->out, "threads");
    json_put_int(&b->out, rsd_ctx_threads(b->ctx));
    put_environment(b);
    json_put_key(&b->out, "steps");
    json_put_int(&b->out, b->steps);
    if (of_text(b))
        return;
    put_option(b, b->model ? "model" : "shape", b->model ? b->model : b->shape);
    if (!is(b, "open"))
        put_option(b, "dtype", b->dtype);
    if (b->data) {
        put_option(b, "data", b->data);
        json_put_key(&b->out, "batch_tokens");
        json_put_int(&b->out, b->batch_tokens);
    } else {
        bench_put(b, "batch", is(b, "open") ? 1 : (double)b->batch);
        bench_put(b, "enc", (double)b->enc);
        if (is(b, "train") || is(b, "generate"))
            bench_put(b, "dec", (double)b->dec);
    }
    if (is(b, "train")) {
        put_option(b, "optimizer", b->optimizer);
        put_flag(b, "fused", b->fused);
        put_flag(b, "masters", b->masters);
        put_flag(b, "recompute", b->recompute);
        bench_put(b, "dropout", b->dropout);
    }
}

int64_t bench_peak_rss(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
}

static int put_tail(struct bench *b) {
    struct err e = {0};
    json_put_key(&b->out, "peak_rss_bytes");
    json_put_int(&b->out, b->peak_rss > 0 ? b->peak_rss : bench_peak_rss());
    json_end_object(&b->out);
    return str_status(&b->text, &e) ? cli_err(&e) : puts(str_z(&b->text)) < 0 ? EXIT_FAILED : EXIT_OK;
}

static int bench_text(struct bench *b) {
    rsd_tokenizer *tok = NULL;
    int status = EXIT_FAILED;
    if (rsd_tokenizer_open_pattern(b->ctx, b->tokenizer, b->pattern, &tok))
        cli_failed(b->ctx);
    else
        status = is(b, "align") ? bench_align(b, tok) : bench_tokenize(b, tok);
    rsd_tokenizer_close(tok);
    return status;
}

/* What no single option can say. NULL: all is well. */
static const char *complaint(const struct bench *b) {
    if (of_text(b) && (!b->tokenizer || !b->in))
        return "needs --tokenizer FILE and --in FILE";
    if (b->data && !is(b, "train"))
        return "takes no --data: only train does";
    if (b->data && !b->model && !b->tokenizer)
        return "--data needs --tokenizer FILE or --model DIR";
    if (is(b, "train") && !strcmp(b->dtype, "int8"))
        return "takes no --dtype int8: weights of 8 bits are for inference";
    if (b->equal && !b->data)
        return "--equal needs --data DIR";
    return NULL;
}

static int run(struct bench *b) {
    put_head(b);
    int status = is(b, "train")      ? bench_train(b)
                 : is(b, "generate") ? bench_generate(b)
                 : is(b, "encode")   ? bench_encode(b)
                 : is(b, "open")     ? bench_open(b)
                                     : bench_text(b);
    return status == EXIT_OK ? put_tail(b) : status;
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
                        .steps = 5,
                        .batch_tokens = 4096};
    const struct arg args[] = {
        {"case", ARG_TEXT, &b->what, "train|generate|encode|open|align|tokenize", .help = "what is measured", .needed = true},
        {"--shape", ARG_TEXT, &b->shape, "flan-t5-small|flan-t5-base|flan-t5-large|flan-t5-xl|flan-t5-xxl",
         .help = "of a model with random weights"},
        {"--model", ARG_TEXT, &b->model, "DIR", .help = "a model directory instead"},
        {"--batch", ARG_INT, &b->batch, "N", .help = "sequences", .min = 1, .max = 4096},
        {"--enc", ARG_INT, &b->enc, "N", .help = "encoder tokens of each", .min = 1, .max = 65536},
        {"--dec", ARG_INT, &b->dec, "N", .help = "decoder tokens of each", .min = 1, .max = 65536},
        {"--dtype", ARG_TEXT, &b->dtype, "fp32|bf16|int8", .help = "of the weights in memory; int8 is not trained"},
        {"--optimizer", ARG_TEXT, &b->optimizer, "adamw|adafactor", .help = "of train"},
        {"--fused", ARG_FLAG, &b->fused, .help = "train: update each layer during the backward pass"},
        {"--masters", ARG_FLAG, &b->masters, .help = "train: keep fp32 master weights beside bf16 ones"},
        {"--recompute", ARG_FLAG, &b->recompute, .help = "train: compute activations again instead of keeping them"},
        {"--dropout", ARG_NUMBER, &b->dropout, "X", .help = "train: rate", .min = 0, .max = 0.9},
        {"--data", ARG_TEXT, &b->data, "DIR",
         .help = "train: a data set's packed batches instead of random ones of equal length"},
        {"--batch-tokens", ARG_INT, &b->batch_tokens, "N", .help = "of --data: encoder and decoder tokens of a batch at most",
         .min = 1, .max = 1 << 24},
        {"--equal", ARG_FLAG, &b->equal, .help = "of --data: in turns with batches of equal lengths and as many tokens"},
        {"--steps", ARG_INT, &b->steps, "N", .help = "measured after one to warm up", .min = 1, .max = BENCH_STEPS},
        {"--threads", ARG_INT, &b->threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
        {"--tokenizer", ARG_TEXT, &b->tokenizer, "FILE", .help = "for tokenize, align, and --data without --model"},
        {"--in", ARG_TEXT, &b->in, "FILE", .help = "lines of text (tokenize) or replies (align)"},
        {"--method", ARG_TEXT, &b->method, "span|dtw", .help = "of align"},
        {"--pattern", ARG_TEXT, &b->pattern, "gpt2|cl100k|llama3|o200k", .help = "of a byte pair tokenizer"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        goto done;
    if (complaint(b)) {
        fprintf(stderr, "reasondistill bench: %s %s\n", b->what, complaint(b));
        status = EXIT_USAGE;
        goto done;
    }
    str_init(&b->text, &mem_std);
    b->ctx = cli_open(b->threads, 1);
    status = b->ctx ? run(b) : EXIT_FAILED;
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
