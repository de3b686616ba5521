/* Loops that do nothing but what they measure: independent chains of FMAs, or of bf16 dot products, enough of them to hide their
 * latency; and a sum over 256 MiB. Compiled for several instruction sets; the loader chooses. */
#include "cli/bench_peak.h"

#include "core/log.h"
#include "core/pool.h"

#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define FOR_EACH_CPU __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#define DOT_BF16
#else
#define FOR_EACH_CPU
#endif

enum { CHAINS = 12, LANES = 16, ROUNDS = 10, MOST_ROUNDS = 200, FMA_STEPS = 4000000 };
static const double LEAST_SECONDS = 0.4;
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

FOR_EACH_CPU static float fma_loop(size_t steps) {
    lanes a[CHAINS], b, c;
    for (int i = 0; i < LANES; i++)
        b[i] = 0.999f, c[i] = 0.001f;
    for (int k = 0; k < CHAINS; k++)
        a[k] = c * (float)k;
    for (size_t s = 0; s < steps; s++)
        for (int k = 0; k < CHAINS; k++)
            a[k] = a[k] * b + c;
    float sum = 0;
    for (int k = 0; k < CHAINS; k++)
        sum += a[k][0] + a[k][LANES - 1];
    return sum;
}

#ifdef DOT_BF16
__attribute__((target("avx512f,avx512bf16"))) static float dot_loop(size_t steps) {
    __m512 a[CHAINS];
    const __m512bh b = (__m512bh)_mm512_set1_epi32(0x3c003c00), c = (__m512bh)_mm512_set1_epi32(0x3c003c01);
    for (int k = 0; k < CHAINS; k++)
        a[k] = _mm512_set1_ps((float)k);
    for (size_t s = 0; s < steps; s++)
        for (int k = 0; k < CHAINS; k++)
            a[k] = _mm512_dpbf16_ps(a[k], b, c);
    float sum = 0;
    for (int k = 0; k < CHAINS; k++)
        sum += _mm512_reduce_add_ps(a[k]);
    return sum;
}
#endif

FOR_EACH_CPU static uint64_t read_loop(const uint64_t *p, size_t n) {
    uint64_t sum[8] = {0};
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++)
            sum[k] += p[i + (size_t)k];
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

struct peak_task {
    const uint64_t *data;
    size_t per_thread;
    volatile uint64_t keep; /* so that no loop is found to be useless */
};

static void fma_task(void *arg, size_t task, size_t worker) {
    struct peak_task *t = arg;
    (void)worker;
    t->keep = (uint64_t)fma_loop(FMA_STEPS + task % 2);
}

#ifdef DOT_BF16
static void dot_task(void *arg, size_t task, size_t worker) {
    struct peak_task *t = arg;
    (void)worker;
    t->keep = (uint64_t)dot_loop(FMA_STEPS + task % 2);
}
#endif

static void read_task(void *arg, size_t task, size_t worker) {
    struct peak_task *t = arg;
    (void)worker;
    t->keep = read_loop(t->data + task * t->per_thread, t->per_thread);
}

static double best_seconds(size_t threads, pool_fn *fn, struct peak_task *t) {
    struct pool *pool = NULL;
    double best = 0, begin = clock_seconds();
    if (pool_open(&pool, &mem_std, threads, NULL))
        return 0;
    /* A busy system needs some time to give each thread a CPU of its own. */
    for (int r = 0; r < ROUNDS || (r < MOST_ROUNDS && clock_seconds() - begin < LEAST_SECONDS); r++) {
        double start = clock_seconds();
        pool_run(pool, threads, fn, t);
        double s = clock_seconds() - start;
        best = r == 0 || s < best ? s : best;
    }
    pool_close(pool);
    return best;
}

/* flop: of one lane in one step of a chain */
static double rate(size_t threads, pool_fn *fn, double flop) {
    struct peak_task t = {0};
    double s = best_seconds(threads, fn, &t);
    return s > 0 ? flop * CHAINS * LANES * FMA_STEPS * (double)threads / s * 1e-9 : 0;
}

double peak_gflops(size_t threads) {
    return rate(threads, fma_task, 2);
}

double peak_gflops_bf16(size_t threads) {
#ifdef DOT_BF16
    if (__builtin_cpu_supports("avx512bf16"))
        return rate(threads, dot_task, 4);
#endif
    (void)threads;
    return 0;
}

double peak_read_gbs(size_t threads) {
    struct peak_task t = {.per_thread = ((size_t)256 << 20) / sizeof(uint64_t) / threads};
    uint64_t *data = mem_zero(&mem_std, t.per_thread * threads, sizeof *data, NULL);
    if (!data)
        return 0;
    for (size_t i = 0; i < t.per_thread * threads; i++)
        data[i] = i; /* touched: a page never written may be shared zeros */
    t.data = data;
    double s = best_seconds(threads, read_task, &t);
    mem_free(&mem_std, data);
    return s > 0 ? (double)(t.per_thread * threads * sizeof(uint64_t)) / s * 1e-9 : 0;
}
