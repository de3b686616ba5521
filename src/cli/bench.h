/* bench: what its cases share. A case fills in figures through `out`, into the object that verb_bench began and will end. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli/cli.h"

enum { BENCH_STEPS = 1000, BENCH_THREADS = 1024 }; /* at most */

struct thread_time {
    long id;
    long long ns;
};

struct bench {
    /* as given on the command line */
    const char *what, *shape, *model, *data, *tokenizer, *in, *method, *pattern, *dtype, *optimizer;
    bool fused, masters, recompute, equal;
    int64_t batch, enc, dec, steps, threads, batch_tokens;
    double dropout;
    /* made from it (bench_model.c), released by verb_bench */
    rsd_ctx *ctx;
    rsd_t5 *m;
    rsd_t5_info info;
    int32_t *ids; /* random input and target ids, end to end */
    uint32_t *enc_offsets, *dec_offsets;
    double seconds[BENCH_STEPS];  /* of each step, for bench_put_seconds */
    double possible[BENCH_STEPS]; /* GFLOP in the time of each step, at the peak right before and behind it */
    double possible_all, seconds_all, rate, best_rate; /* sums; GFLOPS behind the last step, and at most */
    struct thread_time before[BENCH_THREADS];          /* the first measured step */
    size_t n_threads;
    int64_t peak_rss; /* bytes, before the peaks of the machine are measured; 0: they are not */
    struct str text;
    struct json_out out;
};

/* Cases; each is an exit status. */
int bench_train(struct bench *b);
int bench_generate(struct bench *b);
int bench_encode(struct bench *b);
int bench_open(struct bench *b);
int bench_align(struct bench *b, rsd_tokenizer *tok);
int bench_tokenize(struct bench *b, rsd_tokenizer *tok);

double bench_median(double *v, size_t n); /* sorts v */
int64_t bench_peak_rss(void);
double bench_lap(double *since); /* seconds since *since, which becomes now */
void bench_put(struct bench *b, const char *key, double v);
double bench_put_seconds(struct bench *b); /* "seconds", "seconds_min" of b->seconds[0..steps); the median */
/* Before the first measured step (it waits until other threads sleep, 1 s at most); then, after the last and before peaks are
 * measured: "threads_alive" of this process, and "threads_busy", those that ran at least a twentieth as long as the busiest (a BLAS
 * may keep threads that sleep). Nothing where the system does not tell. */
void bench_watch_threads(struct bench *b);
void bench_put_threads(struct bench *b);

/* ---- the model and its work ---- */

/* A step is done, number -1 the one that warmed up: how long it took, for bench_put_seconds, and the peak right behind it. */
void bench_step(struct bench *b, int64_t s, double seconds);
/* The directory of --model, else random weights of --shape. An exit status after a complaint. */
int bench_make_model(struct bench *b);
/* b->ids and offsets: `batch` sequences of enc and dec random ids. */
int bench_make_batch(struct bench *b, size_t n, size_t enc, size_t dec);
rsd_batch bench_batch(const struct bench *b, size_t n, size_t enc);

/* Sums over the sequences of batches that the number of multiplications depends on. */
struct work {
    double sequences, enc, dec, enc_enc, dec_dec, dec_enc;
};
void work_add(struct work *w, const rsd_batch *batch);
/* GFLOP of one forward pass: multiplications and additions of every matrix product, each token through its own stack only; a
 * decoder's attention counts whole rows, masked or not. */
double work_gflop(const rsd_t5_info *m, const struct work *w, bool head);

/* "gflop", "gflops", "peak_gflops" of the dtype, "peak_gflops_fp32", "peak_gflops_bf16", "peak_read_gbs", "share_of_peak", then
 * "limit_seconds" and "share_of_limit": gflop at the peak, and `bytes` at the read bandwidth. seconds: of one step. Peaks are the best
 * of the run; "peak_gflops_beside" and "share_of_limit_beside" take the mean peak right before and behind each step, which says more
 * where a neighbour takes part of the CPU for seconds at a time. */
struct limit {
    double peak, read; /* GFLOPS, GB/s */
};
struct limit bench_put_limit(struct bench *b, double seconds, double gflop, double bytes);

#endif
