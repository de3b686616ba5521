/* bench align: replies through an aligner, cold and warm. */
#ifndef CLI_BENCH_ALIGN_H
#define CLI_BENCH_ALIGN_H

#include "cli/cli.h"

enum { BENCH_ALIGN_STEPS = 1000 };

/* Adds its figures to the object that `out` is writing. An exit status. */
int bench_align(rsd_ctx *ctx, rsd_tokenizer *tok, const char *in, const char *method, size_t steps, struct json_out *out);

#endif
