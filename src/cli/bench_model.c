/* Models, batches, and what they cost at least.
 *
 * Work is counted, not estimated, and nothing is counted for what is computed again. The limit adds the time of the products at the
 * peak of their type and the time of the bytes that must move at the bandwidth of reading, both measured in the same run with the
 * same number of threads. */
#include "cli/bench.h"

#include "cli/bench_peak.h"
#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double PEAK_SHARE = 0.05;                      /* of a step's time, for the peak beside it */
enum { VOCAB = 32128, IDS = 32100, BENCH_EOS = VOCAB - 1 }; /* an end token that no target holds and generation may not choose */

struct shape {
    const char *name;
    int d_model, d_ff, layers, heads, d_kv;
};
static const struct shape shapes[] = {
    {"flan-t5-small", 512, 1024, 8, 6, 64}, {"flan-t5-base", 768, 2048, 12, 12, 64},  {"flan-t5-large", 1024, 2816, 24, 16, 64},
    {"flan-t5-xl", 2048, 5120, 24, 32, 64}, {"flan-t5-xxl", 4096, 10240, 24, 64, 64},
};

static int memory_dtype(const struct bench *b) {
    return !strcmp(b->dtype, "bf16") ? RSD_BF16 : !strcmp(b->dtype, "int8") ? RSD_INT8 : RSD_F32;
}

/* rsd_t5_create reads a file, so one is made and removed. */
static int make_random(struct bench *b) {
    char path[256];
    const char *dir = getenv("TMPDIR");
    const struct shape *s = shapes;
    while (strcmp(s->name, b->shape) != 0)
        s++; /* args_parse has checked the name */
    snprintf(path, sizeof path, "%s/reasondistill-bench-XXXXXX", dir && strlen(dir) < 200 ? dir : "/tmp");
    int fd = mkstemp(path);
    if (fd < 0) {
        fprintf(stderr, "reasondistill bench: %s: no temporary file can be made\n", path);
        return EXIT_FAILED;
    }
    dprintf(fd,
            "{\"model_type\":\"t5\",\"d_model\":%d,\"d_ff\":%d,\"d_kv\":%d,\"num_heads\":%d,\"num_layers\":%d,"
            "\"num_decoder_layers\":%d,\"vocab_size\":%d,\"eos_token_id\":%d,\"feed_forward_proj\":\"gated-gelu\","
            "\"tie_word_embeddings\":false,\"dropout_rate\":0}\n",
            s->d_model, s->d_ff, s->d_kv, s->heads, s->layers, s->layers, VOCAB, BENCH_EOS);
    close(fd);
    int status = rsd_t5_create_as(b->ctx, path, 1, memory_dtype(b), &b->m) ? cli_failed(b->ctx) : EXIT_OK;
    unlink(path);
    return status;
}

int bench_make_model(struct bench *b) {
    int status = !b->model                                                  ? make_random(b)
                 : rsd_t5_open_as(b->ctx, b->model, memory_dtype(b), &b->m) ? cli_failed(b->ctx)
                                                                            : EXIT_OK;
    b->info = (rsd_t5_info){.size = sizeof b->info};
    if (status == EXIT_OK)
        rsd_t5_info_get(b->m, &b->info);
    return status;
}

int bench_make_batch(struct bench *b, size_t n, size_t enc, size_t dec) {
    struct err e = {0};
    struct rng r = rng_make(1, 0);
    const int64_t ids = b->info.vocab < IDS ? b->info.vocab : IDS;
    b->ids = mem_new(&mem_std, n * (enc + dec), sizeof *b->ids, &e);
    b->enc_offsets = mem_new(&mem_std, n + 1, sizeof *b->enc_offsets, &e);
    b->dec_offsets = mem_new(&mem_std, n + 1, sizeof *b->dec_offsets, &e);
    if (e.code)
        return cli_err(&e);
    for (size_t i = 0; i < n * (enc + dec); i++)
        b->ids[i] = ids > 3 ? (int32_t)(3 + (int64_t)rng_below(&r, (uint64_t)(ids - 3))) : 0;
    for (size_t i = 0; i <= n; i++) {
        b->enc_offsets[i] = (uint32_t)(i * enc);
        b->dec_offsets[i] = (uint32_t)(i * dec);
    }
    return EXIT_OK;
}

rsd_batch bench_batch(const struct bench *b, size_t n, size_t enc) {
    return (rsd_batch){.size = sizeof(rsd_batch),
                       .n = n,
                       .enc_ids = b->ids,
                       .enc_offsets = b->enc_offsets,
                       .dec_ids = b->ids + n * enc,
                       .dec_offsets = b->dec_offsets};
}

void work_add(struct work *w, const rsd_batch *batch) {
    for (size_t s = 0; s < batch->n; s++) {
        double enc = batch->enc_offsets[s + 1] - batch->enc_offsets[s], dec = batch->dec_offsets[s + 1] - batch->dec_offsets[s];
        w->sequences++;
        w->enc += enc;
        w->dec += dec;
        w->enc_enc += enc * enc;
        w->dec_dec += dec * dec;
        w->dec_enc += dec * enc;
    }
}

double work_gflop(const rsd_t5_info *m, const struct work *w, bool head) {
    double d = (double)m->d_model, inner = (double)(m->heads * m->d_kv), ff = (m->gated ? 3 : 2) * d * (double)m->d_ff;
    double encoder = w->enc * (4 * d * inner + ff) + w->enc_enc * 2 * inner;
    /* own: self-attention, query and output of the cross-attention, FFN; cross: keys and values of each input token, products */
    double own = w->dec * (6 * d * inner + ff) + w->dec_dec * 2 * inner, cross = w->enc * 2 * d * inner + w->dec_enc * 2 * inner;
    double sum = (double)m->encoder_layers * encoder + (double)m->decoder_layers * (own + cross);
    return 2e-9 * (sum + (head ? w->dec * d * (double)m->vocab : 0));
}

static bool multiplies_bf16(const struct bench *b) {
    return b->info.memory_dtype != RSD_F32 && peak_has_bf16();
}

void bench_step(struct bench *b, int64_t s, double seconds) {
    const size_t threads = (size_t)rsd_ctx_threads(b->ctx);
    const double rate = peak_gflops_now(threads, multiplies_bf16(b), PEAK_SHARE * seconds);
    if (s >= 0) {
        b->seconds[s] = seconds;
        b->possible[s] = seconds * (b->rate + rate) / 2;
        b->possible_all += b->possible[s];
        b->seconds_all += seconds;
        b->best_rate = fmax(b->best_rate, rate);
    }
    b->rate = rate;
}

/* Of the work that was possible beside the steps, the median step; steps of data differ: all together. */
static double share_beside(struct bench *b, double gflop) {
    return gflop / (b->data ? b->possible_all / (double)b->steps : bench_median(b->possible, (size_t)b->steps));
}

struct limit bench_put_limit(struct bench *b, double seconds, double gflop, double bytes) {
    const size_t threads = (size_t)rsd_ctx_threads(b->ctx);
    b->peak_rss = bench_peak_rss();
    double fp32 = peak_gflops(threads, false), bf16 = peak_gflops(threads, true);
    double *own = multiplies_bf16(b) ? &bf16 : &fp32;
    *own = fmax(*own, b->best_rate);
    struct limit l = {*own, peak_read_gbs(threads)};
    double limit = gflop / l.peak + 1e-9 * bytes / l.read;
    bench_put(b, "gflop", gflop);
    bench_put(b, "gflops", gflop / seconds);
    bench_put(b, "peak_gflops", l.peak);
    bench_put(b, "peak_gflops_beside", b->possible_all / b->seconds_all);
    bench_put(b, "peak_gflops_fp32", fp32);
    bench_put(b, "peak_gflops_bf16", bf16 > 0 ? bf16 : NAN);
    bench_put(b, "peak_read_gbs", l.read);
    bench_put(b, "share_of_peak", gflop / seconds / l.peak);
    bench_put(b, "limit_seconds", limit);
    bench_put(b, "share_of_limit", limit / seconds);
    bench_put(b, "share_of_limit_beside", share_beside(b, gflop) + 1e-9 * bytes / l.read / seconds);
    return l;
}
