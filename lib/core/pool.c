/* A job is published by one atomic word that holds its number and the next task to hand out. A thread takes a task by
 * compare-and-swap on that word: if it succeeds, the job it read about is still the one that runs. So nobody waits for a thread
 * that has not woken up yet, and small jobs cost about as much as the tasks in them: the caller works from the start and only
 * waits for tasks that others have taken. Idle threads spin briefly, since in a training step the next job is microseconds
 * away, then sleep on a condition variable. */
#include "core/pool.h"
#include "core/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 1024 };
#define MAX_TASKS  ((uint64_t)UINT32_MAX)
#define SPIN_LIMIT 50e-6 /* seconds; waking a sleeper costs about a tenth of it */

struct pool {
    /* high half: number of the job, low half: next task */
    alignas(64) atomic_uint_fast64_t ticket;
    alignas(64) atomic_size_t done; /* tasks of this job that have ended */
    alignas(64) atomic_size_t n;
    atomic_size_t base; /* added to task numbers: jobs of more than 2^32 - 1 tasks go in parts */
    _Atomic(pool_fn *) fn;
    _Atomic(void *) arg;
    atomic_size_t sleepers;
    atomic_bool caller_sleeps, stop;
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    size_t threads, started;
    bool spin;
    /* of the thread that calls pool_run */
    bool busy;
    const struct allocator *a;
    struct worker {
        struct pool *pool;
        size_t number;
        pthread_t id;
    } workers[]; /* workers[0] stands for the caller */
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes tasks of job `job` until none is left; returns how many it ran. */
static size_t take_tasks(struct pool *p, uint64_t job, size_t worker) {
    size_t ran = 0;
    for (;;) {
        uint64_t t = atomic_load(&p->ticket);
        size_t n = atomic_load_explicit(&p->n, memory_order_acquire);
        size_t base = atomic_load_explicit(&p->base, memory_order_acquire);
        pool_fn *fn = atomic_load_explicit(&p->fn, memory_order_acquire);
        void *arg = atomic_load_explicit(&p->arg, memory_order_acquire);
        size_t task = (size_t)(t & UINT32_MAX);
        if (t >> 32 != job || task >= n)
            return ran;
        if (!atomic_compare_exchange_weak(&p->ticket, &t, t + 1))
            continue;
        fn(arg, base + task, worker);
        ran++;
    }
}

/* Waits until the word shows another job than `seen` (true) or the pool closes (false). */
static bool wait_for_job(struct pool *p, uint64_t seen) {
    double start = 0;
    for (size_t i = 1; p->spin; i++) {
        if (atomic_load(&p->ticket) >> 32 != seen)
            return true;
        if (atomic_load(&p->stop))
            return false;
        relax();
        if (i % 64 == 0) {
            double now = clock_seconds();
            if (start == 0)
                start = now;
            else if (now - start > SPIN_LIMIT)
                break;
        }
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1); /* before the word is read again: pool_run writes the word, then reads this */
    while (atomic_load(&p->ticket) >> 32 == seen && !atomic_load(&p->stop))
        pthread_cond_wait(&p->work, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
    return !atomic_load(&p->stop);
}

static void *thread_main(void *arg) {
    struct worker *w = arg;
    struct pool *p = w->pool;
    uint64_t job = 0;
    while (wait_for_job(p, job)) {
        job = atomic_load(&p->ticket) >> 32;
        size_t ran = take_tasks(p, job, w->number);
        if (!ran)
            continue;
        /* The job cannot end before these tasks are counted, so p->n is still the job's. */
        size_t n = atomic_load_explicit(&p->n, memory_order_acquire);
        if (atomic_fetch_add(&p->done, ran) + ran == n && atomic_load(&p->caller_sleeps)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->finished);
            pthread_mutex_unlock(&p->lock);
        }
    }
    return NULL;
}

static void wait_until_done(struct pool *p, size_t n) {
    double start = 0;
    for (size_t i = 1; p->spin; i++) {
        if (atomic_load(&p->done) == n)
            return;
        relax();
        if (i % 64 == 0) {
            double now = clock_seconds();
            if (start == 0)
                start = now;
            else if (now - start > SPIN_LIMIT)
                break;
        }
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_sleeps, true);
    while (atomic_load(&p->done) != n)
        pthread_cond_wait(&p->finished, &p->lock);
    atomic_store(&p->caller_sleeps, false);
    pthread_mutex_unlock(&p->lock);
}

/* The worker whose task the calling thread is in, or NULL. Only the caller's thread reads and writes `busy`. */
static const struct worker *inside(const struct pool *p) {
    pthread_t self = pthread_self();
    for (size_t i = 1; i < p->threads; i++)
        if (pthread_equal(p->workers[i].id, self))
            return &p->workers[i];
    return p->busy ? &p->workers[0] : NULL;
}

static void run_in_place(size_t n, pool_fn *fn, void *arg, size_t worker) {
    for (size_t i = 0; i < n; i++)
        fn(arg, i, worker);
}

void pool_run(struct pool *p, size_t n, pool_fn *fn, void *arg) {
    if (!p || p->threads == 1) {
        run_in_place(n, fn, arg, 0);
        return;
    }
    const struct worker *outer = inside(p);
    if (outer) {
        run_in_place(n, fn, arg, outer->number);
        return;
    }
    p->busy = true;
    if (n == 1)
        fn(arg, 0, 0);
    for (size_t base = 0; n > 1 && base < n;) {
        size_t part = (uint64_t)(n - base) > MAX_TASKS ? (size_t)MAX_TASKS : n - base;
        uint64_t job = ((atomic_load(&p->ticket) >> 32) + 1) & UINT32_MAX;
        /* Closes the last job's word first: nobody can take a task of it who has already seen a field of the new one. */
        atomic_store(&p->ticket, (job - 1) << 32 | UINT32_MAX);
        atomic_store(&p->done, 0);
        atomic_store_explicit(&p->n, part, memory_order_release);
        atomic_store_explicit(&p->base, base, memory_order_release);
        atomic_store_explicit(&p->fn, fn, memory_order_release);
        atomic_store_explicit(&p->arg, arg, memory_order_release);
        atomic_store(&p->ticket, job << 32);
        if (atomic_load(&p->sleepers)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_broadcast(&p->work);
            pthread_mutex_unlock(&p->lock);
        }
        size_t ran = take_tasks(p, job, 0);
        if (atomic_fetch_add(&p->done, ran) + ran != part)
            wait_until_done(p, part);
        base += part;
    }
    p->busy = false;
}

int pool_open(struct pool **out, const struct allocator *a, size_t threads, struct err *e) {
    *out = NULL;
    if (threads < 1 || threads > MAX_THREADS)
        return err_set(e, ERR_INVALID, "%zu threads: expected 1 to %d", threads, MAX_THREADS);
    size_t bytes = sizeof(struct pool) + threads * sizeof(struct worker);
    struct pool *p = mem_aligned(a, bytes, 1, e);
    if (!p)
        return ERR_NOMEM;
    memset(p, 0, bytes);
    p->a = a;
    p->threads = threads;
    p->started = 1;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    p->spin = cpus >= 1 && threads <= (size_t)cpus; /* spinning would only keep the others from running */
    int rc = pthread_mutex_init(&p->lock, NULL);
    if (!rc && (rc = pthread_cond_init(&p->work, NULL)) != 0)
        pthread_mutex_destroy(&p->lock);
    if (!rc && (rc = pthread_cond_init(&p->finished, NULL)) != 0) {
        pthread_cond_destroy(&p->work);
        pthread_mutex_destroy(&p->lock);
    }
    if (rc) {
        mem_free_aligned(a, p);
        return err_errno(e, rc, "cannot make a thread pool");
    }
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (size_t i = 0; i < threads && !rc; i++) {
        p->workers[i].pool = p;
        p->workers[i].number = i;
        if (i > 0 && (rc = pthread_create(&p->workers[i].id, NULL, thread_main, &p->workers[i])) == 0)
            p->started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        size_t got = p->started;
        pool_close(p);
        return err_errno(e, rc, "cannot start thread %zu of %zu", got, threads);
    }
    *out = p;
    return ERR_NONE;
}

void pool_close(struct pool *p) {
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, true);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 1; i < p->started; i++)
        pthread_join(p->workers[i].id, NULL);
    pthread_cond_destroy(&p->finished);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    mem_free_aligned(p->a, p);
}

size_t pool_threads(const struct pool *p) {
    return p ? p->threads : 1;
}
