/* Where messages go: nowhere unless the host gave a function. */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include "core/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log {
    void (*fn)(void *user, int level, const char *text); /* NULL: silent */
    void *user;
};

void log_write(const struct log *l, enum log_level level, const char *fmt, ...) PRINTF_LIKE(3, 4);

double clock_seconds(void); /* monotonic */

#endif
