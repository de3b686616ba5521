/* Messages go to the host's function, one line each, already formatted; without a function nothing is formatted. */
#include "core/log.h"

#include <stdio.h>
#include <time.h>

void log_write(const struct log *l, enum log_level level, const char *fmt, ...) {
    if (!l || !l->fn)
        return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0)
        l->fn(l->user, (int)level, text);
}

double clock_seconds(void) {
    struct timespec t = {0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
