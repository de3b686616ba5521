/* What the machine can do, measured in the same run as what is compared with it, `threads` at once. 0 where it cannot be measured. */
#ifndef CLI_BENCH_PEAK_H
#define CLI_BENCH_PEAK_H

#include <stdbool.h>
#include <stddef.h>

/* GFLOPS of fused multiply-adds in fp32, or (0 without peak_has_bf16: AVX512_BF16) of dot products of pairs of bf16 summed in fp32, all
 * operands in registers: the best of some short rounds. */
double peak_gflops(size_t threads, bool bf16);
/* The same, the mean of rounds of some 15 ms each, for at least `seconds`: what the machine gives just now. A virtual CPU that shares
 * its core with another's gives half of its best, for seconds at a time. */
double peak_gflops_now(size_t threads, bool bf16, double seconds);
bool peak_has_bf16(void);
/* Sequential read of memory that does not fit a cache, the best of some short rounds: GB/s. */
double peak_read_gbs(size_t threads);

#endif
