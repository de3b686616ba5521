/* Loops that do nothing but what they measure: independent chains of FMAs, or of bf16 dot products, enough of them to hide their
 * latency; and a sum over 256 MiB. Compiled for several instruction sets; the loader chooses. */
#define _GNU_SOURCE /* CPU_SET */
#include "cli/bench_peak.h"

#include "core/log.h"
#include "core/mem.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define FOR_EACH_CPU __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#define DOT_BF16
#else
#define FOR_EACH_CPU
#endif

enum { CHAINS = 12, LANES = 16, ROUNDS = 10, MOST_ROUNDS = 200, FMA_STEPS = 8000000, READS = 4 };
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

/* ---- one thread a CPU ---- */

struct peak_thread {
    pthread_t id;
    size_t number;
    float (*loop)(size_t steps); /* of products, or NULL: reads */
    const uint64_t *data;
    size_t n;
    volatile uint64_t keep; /* so that no loop is found to be useless */
    double seconds;         /* of this thread's own work */
};

/* Thread number t stays on the t-th CPU that the process may use: on a busy system two threads can share one for a long time. */
static void pin(size_t number) {
#ifdef __linux__
    cpu_set_t all, one;
    size_t seen = 0;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof all, &all))
        return;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && seen++ == number)
            CPU_SET(cpu, &one);
    if (CPU_COUNT(&one) > 0)
        pthread_setaffinity_np(pthread_self(), sizeof one, &one);
#else
    (void)number;
#endif
}

static void *peak_main(void *arg) {
    struct peak_thread *t = arg;
    pin(t->number);
    const double start = clock_seconds();
    if (t->loop)
        t->keep = (uint64_t)t->loop(FMA_STEPS + t->number % 2);
    for (int i = 0; !t->loop && i < READS; i++)
        t->keep = read_loop(t->data + t->number * t->n, t->n);
    t->seconds = clock_seconds() - start;
    return NULL;
}

/* Seconds of a round. Of the best one, from the first start to the last end; of all on average, as if the threads had shared the work so
 * that they end together, and had been there before. 0 where a thread cannot be made. */
struct rounds {
    double best, mean;
};

static struct rounds run_rounds(size_t threads, const struct peak_thread *like, int least, double least_seconds) {
    struct peak_thread *t = mem_zero(&mem_std, threads, sizeof *t, NULL);
    struct rounds all = {0, 0};
    double begin = clock_seconds();
    int r = 0;
    for (; t && (r < least || (r < MOST_ROUNDS && clock_seconds() - begin < least_seconds)); r++) {
        double start = clock_seconds();
        double speed = 0; /* rounds a second */
        size_t started = 0;
        for (; started < threads; started++) {
            t[started] = *like;
            t[started].number = started;
            if (pthread_create(&t[started].id, NULL, peak_main, &t[started]))
                break;
        }
        for (size_t i = 0; i < started; i++) {
            pthread_join(t[i].id, NULL);
            speed += 1 / t[i].seconds / (double)threads;
        }
        double s = clock_seconds() - start;
        if (started < threads) {
            mem_free(&mem_std, t);
            return (struct rounds){0, 0};
        }
        all.best = r == 0 || s < all.best ? s : all.best;
        all.mean += 1 / speed;
    }
    all.mean /= r ? r : 1;
    mem_free(&mem_std, t);
    return all;
}

/* GFLOPS of a round. flop: of one lane in one step of a chain */
static double rate(size_t threads, double seconds, double flop) {
    return seconds > 0 ? flop * CHAINS * LANES * FMA_STEPS * (double)threads / seconds * 1e-9 : 0;
}

bool peak_has_bf16(void) {
#ifdef DOT_BF16
    return __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

static struct rounds run_loop(size_t threads, bool bf16, int least, double least_seconds) {
    struct peak_thread t = {.loop = fma_loop};
#ifdef DOT_BF16
    t.loop = bf16 ? dot_loop : t.loop;
#endif
    return !bf16 || peak_has_bf16() ? run_rounds(threads, &t, least, least_seconds) : (struct rounds){0, 0};
}

double peak_gflops(size_t threads, bool bf16) {
    return rate(threads, run_loop(threads, bf16, ROUNDS, LEAST_SECONDS).best, bf16 ? 4 : 2);
}

double peak_gflops_now(size_t threads, bool bf16, double seconds) {
    return rate(threads, run_loop(threads, bf16, 1, seconds).mean, bf16 ? 4 : 2);
}

double peak_read_gbs(size_t threads) {
    const size_t n = ((size_t)256 << 20) / sizeof(uint64_t) / threads;
    uint64_t *data = mem_zero(&mem_std, n * threads, sizeof *data, NULL);
    if (!data)
        return 0;
    for (size_t i = 0; i < n * threads; i++)
        data[i] = i; /* touched: a page never written may be shared zeros */
    double s = run_rounds(threads, &(struct peak_thread){.data = data, .n = n}, ROUNDS, LEAST_SECONDS).best;
    mem_free(&mem_std, data);
    return s > 0 ? (double)(READS * n * threads * sizeof(uint64_t)) / s * 1e-9 : 0;
}
