/* What the machine can do, measured in the same run as what is compared with it. */
#ifndef CLI_BENCH_PEAK_H
#define CLI_BENCH_PEAK_H

#include <stddef.h>

/* fp32 fused multiply-adds with all operands in registers, `threads` at once: GFLOPS, the best of a few short rounds. 0 on
 * failure. */
double peak_gflops(size_t threads);
/* Sequential read of memory that does not fit a cache: GB/s. 0 on failure. */
double peak_read_gbs(size_t threads);

#endif
