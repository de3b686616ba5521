/* Warm-up, then constant, linear or cosine. One call per optimizer step: the reference stepped a schedule made for
 * micro-batches once per update, so its cosine hardly fell; here the argument is the step itself and nothing is kept between
 * calls. */
#include "train/schedule.h"

#include <math.h>
#include <stddef.h>

const char *schedule_name(int kind) {
    static const char *const names[] = {"constant", "linear", "cosine"};
    return kind >= 0 && (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : NULL;
}

double schedule_rate(const struct schedule *s, uint64_t k) {
    static const double PI = 3.14159265358979323846;
    if (k < s->warmup)
        return s->lr * (double)(k + 1) / (double)(s->warmup + 1);
    if (s->kind == SCHEDULE_CONSTANT)
        return s->lr;
    if (k >= s->steps)
        return 0;
    double x = (double)(k - s->warmup) / (double)(s->steps - s->warmup);
    return s->kind == SCHEDULE_LINEAR ? s->lr * (1 - x) : s->lr * (1 + cos(PI * x)) / 2;
}
