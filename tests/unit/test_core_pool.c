#include "core/log.h"
#include "core/pool.h"
#include "test_core.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct count {
    struct pool *pool;
    atomic_size_t runs[4096];
    atomic_size_t out_of_range, nested_elsewhere, late;
    size_t inner;
};

static void count_task(void *arg, size_t task, size_t worker) {
    struct count *c = arg;
    if (worker >= pool_threads(c->pool))
        atomic_fetch_add(&c->out_of_range, 1);
    atomic_fetch_add(&c->runs[task], 1);
}

static struct pool *open_pool(size_t threads) {
    struct pool *p;
    struct err e = {0};
    ck_assert_msg(pool_open(&p, &mem_std, threads, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(pool_threads(p), threads);
    return p;
}

START_TEST(every_task_runs_exactly_once) {
    static const size_t sizes[] = {0, 1, 2, 3, 7, 64, 1000, 4096};
    for (size_t threads = 1; threads <= 5; threads += 2) {
        struct count *c = calloc(1, sizeof *c);
        c->pool = open_pool(threads);
        size_t expected[4096] = {0}, wrong = 0;
        for (size_t round = 0; round < 200; round++) {
            size_t n = sizes[round % 8];
            pool_run(c->pool, n, count_task, c);
            for (size_t i = 0; i < n; i++)
                expected[i]++;
            for (size_t i = 0; i < 4096; i++) /* all done when pool_run returns */
                wrong += atomic_load(&c->runs[i]) != expected[i];
        }
        ck_assert_uint_eq(wrong, 0);
        ck_assert_uint_eq(c->out_of_range, 0);
        pool_close(c->pool);
        free(c);
    }
}
END_TEST

/* Jobs of different sizes and functions directly after one another: a thread that is still looking for work in one job must not
 * run a task of it with the function or the number of tasks of the next. Two threads, so that both spin where there are two
 * cores. */
struct own {
    size_t n;
    atomic_size_t wrong, sum[8];
};
static void add(struct own *o, size_t n, size_t task) {
    if (o->n != n || task >= n)
        atomic_fetch_add(&o->wrong, 1);
    else
        atomic_fetch_add(&o->sum[task], 1);
    for (volatile int spin = 0; spin < 20; spin++) /* time for the other thread to take one */
        continue;
}
static void add_small(void *arg, size_t task, size_t worker) {
    (void)worker;
    add(arg, 2, task);
}
static void add_large(void *arg, size_t task, size_t worker) {
    (void)worker;
    add(arg, 8, task);
}
START_TEST(late_threads_never_mix_up_jobs) {
    const size_t rounds = 200000;
    for (size_t threads = 2; threads <= 3; threads++) {
        struct pool *p = open_pool(threads);
        struct own small = {.n = 2}, large = {.n = 8};
        for (size_t i = 0; i < rounds; i++) {
            pool_run(p, 2, add_small, &small);
            pool_run(p, 8, add_large, &large);
        }
        pool_close(p);
        ck_assert_uint_eq(small.wrong + large.wrong, 0);
        for (size_t i = 0; i < 8; i++) {
            ck_assert_uint_eq(large.sum[i], rounds);
            ck_assert_uint_eq(small.sum[i], i < 2 ? rounds : 0);
        }
    }
}
END_TEST

START_TEST(sleeping_threads_are_woken) {
    struct count *c = calloc(1, sizeof *c);
    c->pool = open_pool(3);
    for (size_t i = 1; i <= 20; i++) {
        usleep(2000); /* longer than the spin */
        pool_run(c->pool, 3, count_task, c);
        for (size_t t = 0; t < 3; t++)
            ck_assert_uint_eq(atomic_load(&c->runs[t]), i);
    }
    pool_close(c->pool);
    free(c);
}
END_TEST

static void wait_for_both(void *arg, size_t task, size_t worker) {
    struct count *c = arg;
    (void)worker;
    atomic_fetch_add(&c->runs[task], 1);
    double start = clock_seconds();
    while (!(atomic_load(&c->runs[0]) && atomic_load(&c->runs[1])))
        if (clock_seconds() - start > 30) {
            atomic_fetch_add(&c->late, 1);
            return;
        }
}
START_TEST(two_tasks_run_at_the_same_time) {
    struct count *c = calloc(1, sizeof *c);
    c->pool = open_pool(2);
    usleep(2000); /* from sleep: the wake-up must come although the caller is busy */
    pool_run(c->pool, 2, wait_for_both, c);
    ck_assert_uint_eq(c->late, 0);
    pool_close(c->pool);
    free(c);
}
END_TEST

struct nested {
    struct count *c;
    size_t worker;
    pthread_t thread;
};
static void inner_task(void *arg, size_t task, size_t worker) {
    struct nested *n = arg;
    atomic_fetch_add(&n->c->runs[task], 1);
    if (worker != n->worker || !pthread_equal(n->thread, pthread_self()))
        atomic_fetch_add(&n->c->nested_elsewhere, 1);
}
static void outer_task(void *arg, size_t task, size_t worker) {
    struct nested n = {arg, worker, pthread_self()};
    (void)task;
    pool_run(n.c->pool, 5, inner_task, &n);
}
START_TEST(nested_call_runs_in_place) {
    for (size_t threads = 1; threads <= 4; threads++) {
        struct count *c = calloc(1, sizeof *c);
        c->pool = open_pool(threads);
        for (size_t i = 1; i <= 100; i++) {
            pool_run(c->pool, i % 9, outer_task, c); /* one task alone, too */
        }
        size_t outer = 0;
        for (size_t i = 1; i <= 100; i++)
            outer += i % 9;
        for (size_t t = 0; t < 5; t++)
            ck_assert_uint_eq(atomic_load(&c->runs[t]), outer);
        ck_assert_uint_eq(c->nested_elsewhere, 0);
        pool_run(c->pool, 7, count_task, c); /* and the pool is whole afterwards */
        ck_assert_uint_eq(atomic_load(&c->runs[6]), 1);
        pool_close(c->pool);
        free(c);
    }
}
END_TEST

static void signals_task(void *arg, size_t task, size_t worker) {
    struct count *c = arg;
    sigset_t now;
    (void)task;
    wait_for_both(arg, task, worker); /* so that both threads take one */
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    if (worker && !(sigismember(&now, SIGINT) && sigismember(&now, SIGTERM) && sigismember(&now, SIGUSR1)))
        atomic_fetch_add(&c->out_of_range, 1);
}
START_TEST(signals_are_blocked_in_threads_only) {
    struct count *c = calloc(1, sizeof *c);
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    c->pool = open_pool(2);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int s = 1; s < 32; s++)
        ck_assert_int_eq(sigismember(&before, s), sigismember(&after, s));
    pool_run(c->pool, 2, signals_task, c);
    ck_assert_uint_eq(c->late, 0);
    ck_assert_uint_eq(c->out_of_range, 0);
    pool_close(c->pool);
    free(c);
}
END_TEST

START_TEST(pools_without_threads_work) {
    struct count *c = calloc(1, sizeof *c);
    ck_assert_uint_eq(pool_threads(NULL), 1);
    pool_run(NULL, 3, count_task, c);
    ck_assert_uint_eq(atomic_load(&c->runs[2]), 1);
    pool_close(NULL);
    free(c);
}
END_TEST

START_TEST(thread_counts_out_of_range_are_refused) {
    struct err e = {0};
    struct pool *p = NULL;
    ck_assert_int_eq(pool_open(&p, NULL, 0, &e), ERR_INVALID);
    ck_assert_ptr_null(p);
    ck_assert_int_eq(pool_open(&p, NULL, 100000, NULL), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.text, "0 threads"));
}
END_TEST

START_TEST(pool_without_memory_is_an_error) {
    struct fail_alloc f;
    struct pool *p = NULL;
    fail_alloc_init(&f, 1, false);
    ck_assert_int_eq(pool_open(&p, &f.a, 2, NULL), ERR_NOMEM);
    fail_alloc_init(&f, 0, false);
    ck_assert_int_eq(pool_open(&p, &f.a, 2, NULL), 0);
    pool_close(p);
    ck_assert_uint_eq(f.live, 0);
}
END_TEST

static void *one_host_thread(void *arg) {
    struct count *c = calloc(1, sizeof *c);
    struct err e = {0};
    if (pool_open(&c->pool, NULL, 3, &e) == 0) {
        for (size_t i = 0; i < 2000; i++)
            pool_run(c->pool, 10, count_task, c);
        pool_close(c->pool);
    }
    size_t *good = arg;
    for (size_t t = 0; t < 10; t++)
        *good += atomic_load(&c->runs[t]) == 2000;
    free(c);
    return NULL;
}
START_TEST(pools_of_several_threads_do_not_meet) {
    pthread_t t[3];
    size_t good[3] = {0};
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, one_host_thread, &good[i]), 0);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(t[i], NULL);
        ck_assert_uint_eq(good[i], 10);
    }
}
END_TEST

Suite *core_pool_suite(void) {
    Suite *s = suite_create("core/pool");
    TCase *t = tcase_create("pool");
    tcase_add_test(t, every_task_runs_exactly_once);
    tcase_add_test(t, late_threads_never_mix_up_jobs);
    tcase_add_test(t, sleeping_threads_are_woken);
    tcase_add_test(t, two_tasks_run_at_the_same_time);
    tcase_add_test(t, nested_call_runs_in_place);
    tcase_add_test(t, signals_are_blocked_in_threads_only);
    tcase_add_test(t, pools_without_threads_work);
    tcase_add_test(t, thread_counts_out_of_range_are_refused);
    tcase_add_test(t, pool_without_memory_is_an_error);
    tcase_add_test(t, pools_of_several_threads_do_not_meet);
    suite_add_tcase(s, t);
    return s;
}
