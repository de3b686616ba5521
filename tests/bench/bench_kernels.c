/* How fast the kernels are, on the shapes of T5-base and of quickstart's student:  bench_kernels [threads [filter [kernels]]]
 * A line per case: name, best milliseconds of several runs, GFLOPS or GB/s. Run it alone, without OPENBLAS_* in the environment;
 * on a busy machine with one thread. */
#include "cli/bench_peak.h"
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One thread is timed by its processor time, which a busy machine leaves nearly as it is; several by the clock. */
static clockid_t timer = CLOCK_MONOTONIC;

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(timer, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct bench {
    struct exec x;
    struct arena mem, scratch;
    struct err err;
    const char *filter;
    double peak, peak_bf16; /* GFLOPS */
};

static struct mat make(struct bench *b, size_t rows, size_t cols) {
    struct mat m = arena_mat(&b->mem, DTYPE_F32, rows, cols, &b->err);
    float *p = m.data;
    for (size_t i = 0; p && i < rows * cols; i++) {
        p[i] = (float)(i * 2654435761U >> 8 & 1023) / 512 - 1;
    }
    return m;
}

static struct mat make_as(struct bench *b, unsigned half, size_t rows, size_t cols) {
    struct mat m = make(b, rows, cols);
    if (!half || !m.data) {
        return m;
    }
    struct mat h = arena_mat(&b->mem, DTYPE_BF16, rows, cols, &b->err);
    if (h.data) {
        dtype_convert(h.data, DTYPE_BF16, m.data, DTYPE_F32, rows * cols);
    }
    return h;
}

/* Best of the runs, at least five and half a second. */
#define BEST(out, call)                                                                                                          \
    do {                                                                                                                         \
        double start_ = seconds_now(), best_ = 1e9;                                                                              \
        for (int n_ = 0; n_ < 5 || seconds_now() - start_ < 0.5; n_++) {                                                         \
            double t_ = seconds_now();                                                                                           \
            call;                                                                                                                \
            t_ = seconds_now() - t_;                                                                                             \
            best_ = t_ < best_ ? t_ : best_;                                                                                     \
        }                                                                                                                        \
        (out) = best_;                                                                                                           \
    } while (0)

static bool wanted(const struct bench *b, const char *name) {
    return !b->filter || strstr(name, b->filter);
}

static void report(const char *name, double seconds, double gflop, double gbytes) {
    printf("%-44s %10.4f ms", name, seconds * 1e3);
    if (gflop > 0) {
        printf(" %8.1f GFLOPS", gflop / seconds);
    }
    if (gbytes > 0) {
        printf(" %8.1f GB/s", gbytes / seconds);
    }
    printf("\n");
}

/* half: bit 0: c, 1: a, 2: b is BF16. The share is that of the loop that only multiplies, for those types. */
static void bench_gemm(struct bench *b, const char *what, size_t m, size_t n, size_t k, int ta, int tb, unsigned half) {
    char name[96];
    double t = 0, flop = 2e-9 * (double)m * (double)n * (double)k, peak = half & 6 && b->peak_bf16 > 0 ? b->peak_bf16 : b->peak;
    snprintf(name, sizeof name, "gemm %s%s %zu x %zu x %zu", half ? "bf16 " : "", what, m, n, k);
    if (!wanted(b, name)) {
        return;
    }
    struct mat a = ta ? make_as(b, half & 2, k, m) : make_as(b, half & 2, m, k),
               w = tb ? make_as(b, half & 4, n, k) : make_as(b, half & 4, k, n), c = make_as(b, half & 1, m, n);
    BEST(t, gemm(&b->x, c, ta, a, tb, w, 1, ta ? 1 : 0));
    printf("%3.0f %% ", 100 * flop / t / peak);
    report(name, t, flop, m <= 16 ? (half & 4 ? 2e-9 : 4e-9) * (double)n * (double)k : 0);
    arena_reset(&b->mem);
}

/* Layers of one input x [T,C] with weights [O,C]: together, and one after the other in turn, so that both meet the same minutes. */
static void bench_group(struct bench *b, const char *what, size_t n, size_t T, size_t O, size_t C, unsigned half) {
    static const char *const kinds[] = {"", " dx", " dw"};
    for (int kind = 0; kind < 3; kind++) {
        char name[96];
        double flop = 2e-9 * (double)n * (double)T * (double)O * (double)C, best[2] = {1e9, 1e9};
        snprintf(name, sizeof name, "group %s%s%s %zu of %zu x %zu x %zu", half ? "bf16 " : "", what, kinds[kind], n, T, O, C);
        if (!wanted(b, name)) {
            continue;
        }
        struct product p[MAX_PRODUCTS];
        struct mat in = make_as(b, half, T, C), din = make(b, T, C);
        for (size_t i = 0; i < n; i++) {
            struct mat w = make_as(b, half, O, C), y = make_as(b, half && kind == 0, T, O), dw = make(b, O, C);
            p[i] = kind == 0   ? (struct product){y, 0, in, 1, w, 1, 0}
                   : kind == 1 ? (struct product){din, 0, y, 0, w, 1, i > 0}
                               : (struct product){dw, 1, y, 0, in, 1, 0};
        }
        double start = seconds_now();
        for (int run = 0; run < 10 || seconds_now() - start < 1; run++) {
            double since = seconds_now();
            if (run % 2) {
                gemm_group(&b->x, p, n);
            } else {
                for (size_t i = 0; i < n; i++) {
                    gemm_group(&b->x, p + i, 1);
                }
            }
            since = seconds_now() - since;
            best[run % 2] = since < best[run % 2] ? since : best[run % 2];
        }
        printf("%3.0f %% ", 100 * flop / best[1] / (half && b->peak_bf16 > 0 ? b->peak_bf16 : b->peak));
        report(name, best[1], flop, 0);
        printf("      one after the other takes %.3f of that\n", best[0] / best[1]);
        arena_reset(&b->mem);
    }
}

static void bench_attention(struct bench *b, size_t n, size_t q_len, size_t k_len, size_t H, size_t D, int causal, float p) {
    char name[96];
    double f = 0, r = 0, macs = (double)n * (double)q_len * (double)k_len * (double)(H * D);
    snprintf(name, sizeof name, "attention %zu x %zu:%zu H %zu D %zu%s p %g", n, q_len, k_len, H, D, causal ? " causal" : "",
             (double)p);
    if (!wanted(b, name)) {
        return;
    }
    struct attention_span *spans = arena_take(&b->mem, n, sizeof *spans, &b->err);
    for (size_t i = 0; spans && i < n; i++) {
        spans[i] = (struct attention_span){i * q_len, q_len, i * k_len, k_len};
    }
    struct mat q = make(b, n * q_len, H * D), k = make(b, n * k_len, H * D), v = make(b, n * k_len, H * D),
               out = make(b, n * q_len, H * D);
    struct attention s = {.heads = H,
                          .d_kv = D,
                          .spans = spans,
                          .n_spans = n,
                          .causal = causal,
                          .bias = make(b, H, 2 * k_len),
                          .bias_zero = k_len,
                          .dropout = {.p = p, .seed = 1}};
    float *lse = make(b, H, n * q_len).data;
    scale(&b->x, q, 0.1F);
    BEST(f, attention_forward(&b->x, out, lse, q, k, v, &s));
    char line[128];
    snprintf(line, sizeof line, "%s forward", name);
    report(line, f, 4e-9 * macs, q_len == 1 ? 8e-9 * (double)(n * k_len * H * D) : 0);
    if (q_len > 1) {
        struct mat dbias = make(b, H, 2 * k_len), dq = make(b, q.rows, q.cols), dk = make(b, k.rows, k.cols),
                   dv = make(b, k.rows, k.cols), dout = make(b, q.rows, q.cols);
        BEST(r, attention_backward(&b->x, dq, dk, dv, dbias, dout, out, q, k, v, lse, &s));
        snprintf(line, sizeof line, "%s backward", name);
        report(line, r, 10e-9 * macs, 0);
    }
    arena_reset(&b->mem);
}

static void bench_loss(struct bench *b, size_t rows, size_t V) {
    double t = 0, bytes = 4e-9 * (double)rows * (double)V;
    if (!wanted(b, "loss")) {
        return;
    }
    struct mat logits = make(b, rows, V);
    float *lse = make(b, 1, rows).data, *loss = make(b, 1, rows).data, *weight = make(b, 1, rows).data,
          *probs = make(b, rows, 5).data;
    uint32_t *offsets = arena_take(&b->mem, rows + 1, sizeof *offsets, &b->err);
    int32_t *ids = arena_take(&b->mem, rows * 5, sizeof *ids, &b->err);
    for (size_t i = 0; i <= rows; i++) {
        offsets[i] = (uint32_t)(5 * i);
    }
    for (size_t i = 0; i < 5 * rows; i++) {
        ids[i] = (int32_t)(i * 977 % V);
    }
    BEST(t, row_lse(&b->x, lse, logits));
    report("loss row_lse", t, 0, bytes);
    static const struct distill how[] = {{DISTILL_FORWARD, DISTILL_DROP, 1, 0}, {DISTILL_FORWARD, DISTILL_BUCKET, 1, 0}};
    static const char *const names[] = {"loss distill, KL with gradient", "loss distill, KL with bucket and gradient"};
    uint8_t *which = arena_take(&b->mem, rows, 1, &b->err);
    float *zero = make(b, 1, rows).data, *nll = make(b, 1, rows).data;
    memset(zero, 0, rows * sizeof *zero);
    struct distill_rows targets = {.labels = ids,
                                   .targets = {offsets, ids, probs},
                                   .how = how,
                                   .which = which,
                                   .hard = zero,
                                   .smooth = zero,
                                   .soft = weight};
    for (int i = 0; i < 2; i++) {
        memset(which, i, rows);
        BEST(t, distill(&b->x, nll, lse, loss, logits, &targets, 1));
        report(names[i], t, 0, 2 * bytes);
    }
    BEST(t, row_argmax(&b->x, ids, logits));
    report("loss row_argmax", t, 0, bytes);
    arena_reset(&b->mem);
}

static void bench_elements(struct bench *b, size_t T, size_t C, size_t F) {
    double t = 0, tc = 4e-9 * (double)T * (double)C, tf = 4e-9 * (double)T * (double)F;
    if (!wanted(b, "elements")) {
        return;
    }
    struct mat x = make(b, T, C), y = make(b, T, C), g = make(b, 1, C), dg = make(b, 1, C), p = make(b, T, F), q = make(b, T, F),
               h = make(b, T, F), d = make(b, T, F);
    float *rrms = make(b, 1, T).data;
    BEST(t, rmsnorm_forward(&b->x, y, rrms, x, g, 1e-6F));
    report("elements rmsnorm forward", t, 0, 2 * tc);
    BEST(t, rmsnorm_backward(&b->x, y, dg, x, x, g, rrms));
    report("elements rmsnorm backward", t, 0, 3 * tc);
    BEST(t, add(&b->x, y, y, x, NO_DROPOUT));
    report("elements add", t, 0, 3 * tc);
    struct dropout drop = {.p = 0.1F, .seed = 1};
    BEST(t, geglu_forward(&b->x, h, p, q, NO_DROPOUT));
    report("elements geglu forward", t, 0, 3 * tf);
    BEST(t, geglu_forward(&b->x, h, p, q, drop));
    report("elements geglu forward, dropout", t, 0, 3 * tf);
    BEST(t, geglu_backward(&b->x, h, p, q, h, p, d, NO_DROPOUT));
    report("elements geglu backward", t, 0, 6 * tf);
    BEST(t, geglu_backward(&b->x, h, p, q, h, p, d, drop));
    report("elements geglu backward, dropout", t, 0, 6 * tf);
    BEST(t, dropout_apply(&b->x, h, d, drop));
    report("elements dropout", t, 0, 2 * tf);
    struct adamw o = {.lr = 1e-3F, .beta1 = 0.9F, .beta2 = 0.999F, .eps = 1e-8F, .t = 5, .grad_scale = 1};
    fill(&b->x, h, 1);
    BEST(t, adamw_update(&b->x, p, q, h, d, &o));
    report("elements adamw", t, 0, 7 * tf);
    BEST(t, sum_squares(&b->x, d));
    report("elements sum of squares", t, 0, tf);
    arena_reset(&b->mem);
}

/* Forward, gradient of the input, gradient of the weights: types as in training. */
static void bench_layer(struct bench *b, bool half, const char *what, size_t T, size_t out, size_t in) {
    char name[48];
    bench_gemm(b, what, T, out, in, 0, 1, half ? 7 : 0);
    snprintf(name, sizeof name, "%s dx", what);
    bench_gemm(b, name, T, in, out, 0, 0, half ? 4 : 0);
    snprintf(name, sizeof name, "%s dw", what);
    bench_gemm(b, name, out, in, T, 1, 0, half ? 4 : 0);
}

static void bench_products(struct bench *b, bool half) {
    bench_layer(b, half, "layer", 4096, 768, 768);
    bench_layer(b, half, "layer", 1024, 768, 768);
    bench_layer(b, half, "ffn", 4096, 2048, 768);
    bench_layer(b, half, "ffn out", 4096, 768, 2048);
    bench_layer(b, half, "ffn", 1024, 2048, 768);
    bench_layer(b, half, "small", 4096, 512, 512);
    bench_layer(b, half, "large", 1024, 2816, 1024);
    bench_group(b, "base qkv", 3, 4096, 768, 768, half);
    bench_group(b, "base ffn", 2, 4096, 2048, 768, half);
    bench_group(b, "base qkv", 3, 1024, 768, 768, half);
    bench_group(b, "base ffn", 2, 1024, 2048, 768, half);
    bench_group(b, "small qkv", 3, 4096, 384, 512, half);
    bench_group(b, "small ffn", 2, 4096, 1024, 512, half);
    bench_group(b, "small qkv", 3, 1024, 384, 512, half);
    bench_group(b, "small ffn", 2, 1024, 1024, 512, half);
    bench_gemm(b, "head", 512, 32128, 768, 0, 1, half ? 6 : 0);
    bench_gemm(b, "head dx", 512, 768, 32128, 0, 0, half ? 4 : 0);
    bench_gemm(b, "head dw", 32128, 768, 512, 1, 0, half ? 4 : 0);
    bench_layer(b, half, "student", 3800, 64, 64);
    bench_gemm(b, "decode", 1, 2048, 768, 0, 1, half ? 4 : 0);
    bench_gemm(b, "decode head", 1, 32128, 768, 0, 1, half ? 4 : 0);
    bench_gemm(b, "decode", 16, 2048, 768, 0, 1, half ? 4 : 0);
    bench_gemm(b, "decode head", 16, 32128, 768, 0, 1, half ? 4 : 0);
}

int main(int argc, char **argv) {
    struct bench b = {.filter = argc > 2 ? argv[2] : NULL};
    size_t threads = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 2;
    timer = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    blas_set_single_thread();
    arena_init(&b.mem, &mem_std);
    arena_init(&b.scratch, &mem_std);
    b.x = (struct exec){.k = kernels_named(argc > 3 ? argv[3] : NULL, &b.err), .scratch = &b.scratch, .err = &b.err};
    if (b.x.k && pool_open(&b.x.pool, &mem_std, threads, &b.err) == 0) {
        printf("%s, %s, %zu threads\n", kernels_name(b.x.k), blas_name(), threads);
        b.peak = peak_gflops(threads, false);
        b.peak_bf16 = peak_gflops(threads, true);
        printf("peak %.1f GFLOPS, of BF16 %.1f\n", b.peak, b.peak_bf16);
        bench_products(&b, 0);
        bench_products(&b, 1);
        bench_attention(&b, 8, 512, 512, 12, 64, 0, 0);
        bench_attention(&b, 8, 512, 512, 12, 64, 0, 0.1F);
        bench_attention(&b, 8, 512, 512, 12, 64, 1, 0);
        bench_attention(&b, 190, 20, 20, 4, 16, 0, 0);
        bench_attention(&b, 1, 1, 512, 12, 64, 1, 0);
        bench_attention(&b, 16, 1, 512, 12, 64, 1, 0);
        bench_loss(&b, 1024, 32128);
        bench_elements(&b, 4096, 768, 2048);
    }
    if (b.err.code) {
        fprintf(stderr, "%s\n", b.err.text);
    }
    pool_close(b.x.pool);
    arena_free(&b.mem);
    arena_free(&b.scratch);
    return b.err.code != 0;
}
