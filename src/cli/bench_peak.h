/* What the machine can do, measured in the same run as what is compared with it: the best of some short rounds, `threads` at
 * once. 0 where it cannot be measured. */
#ifndef CLI_BENCH_PEAK_H
#define CLI_BENCH_PEAK_H

#include <stddef.h>

/* fp32 fused multiply-adds, all operands in registers: GFLOPS. */
double peak_gflops(size_t threads);
/* Dot products of pairs of bf16, summed in fp32 (AVX512_BF16), all operands in registers: GFLOPS. 0 on a CPU without. */
double peak_gflops_bf16(size_t threads);
/* Sequential read of memory that does not fit a cache: GB/s. */
double peak_read_gbs(size_t threads);

#endif
