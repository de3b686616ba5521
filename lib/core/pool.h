/* A pool of threads that runs numbered tasks: who runs a task is left to chance, what it computes must not be.
 * Results have the same bits for any number of threads when every task writes its own outputs. */
#ifndef CORE_POOL_H
#define CORE_POOL_H

#include "core/mem.h"

struct pool;

/* threads >= 1; 1 means: no thread is made, tasks run in the caller. Signals are blocked in the threads. */
int pool_open(struct pool **out, const struct allocator *a, size_t threads, struct err *e);
void pool_close(struct pool *p);           /* NULL is fine */
size_t pool_threads(const struct pool *p); /* NULL counts as 1 */

/* fn(arg, task, worker) for task = 0 .. n-1, worker < pool_threads(p); the caller works too. Returns when all are done.
 * Called from one thread at a time; a call from inside a task runs the tasks in place (as worker of the outer task). */
typedef void pool_fn(void *arg, size_t task, size_t worker);
void pool_run(struct pool *p, size_t n, pool_fn *fn, void *arg);

#endif
