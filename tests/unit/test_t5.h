/* What the tests of the engine share: contexts, fixtures, small models, batches. */
#ifndef TEST_T5_H
#define TEST_T5_H

#include "reasondistill/reasondistill.h"
#include "tensor/safetensors.h"
#include "util.h"

TCase *t5_golden_case(void);
TCase *t5_pass_case(void);
TCase *t5_files_case(void);
TCase *t5_config_case(void);
TCase *t5_generate_case(void);
TCase *t5_derive_case(void);
TCase *t5_int8_case(void);
TCase *t5_mixed_case(void);
TCase *t5_sample_case(void);
TCase *t5_sizes_case(void);

#define OK(ctx, call) ck_assert_msg((call) == RSD_OK, "%s: %s", #call, rsd_ctx_error(ctx))
/* The call fails with this code and a text that names `part`. */
#define FAILS(ctx, code, part, call)                                                                                             \
    do {                                                                                                                         \
        ck_assert_int_eq((call), code);                                                                                          \
        ck_assert_msg(strstr(rsd_ctx_error(ctx), part) != NULL, "expected \"%s\" in: %s", part, rsd_ctx_error(ctx));             \
        ck_assert_msg(!strchr(rsd_ctx_error(ctx), '\n'), "more than one line");                                                  \
    } while (0)

rsd_ctx *t5_ctx(int threads); /* fixed tiles: RSD_BLAS_OWN */
const char *t5_fixture(const char *name);

/* A file of named fp32 tensors. */
struct golden {
    struct safetensors file;
};
void golden_open(struct golden *g, const char *path);
void golden_close(struct golden *g);
const float *golden_get(const struct golden *g, const char *name, size_t *count);
int32_t *golden_ids(const struct golden *g, const char *name, size_t *count);      /* of malloc */
uint32_t *golden_offsets(const struct golden *g, const char *name, size_t *count); /* of malloc */

/* A batch that owns its arrays. */
struct owned_batch {
    rsd_batch b;
    int32_t *enc_ids, *dec_ids;
    uint32_t *enc_offsets, *dec_offsets;
};
void owned_random(struct owned_batch *o, size_t n, const size_t (*lengths)[2], int32_t vocab, uint64_t seed);
void owned_golden(struct owned_batch *o, const struct golden *g);
void owned_free(struct owned_batch *o);
/* Sequence s alone, borrowing. */
struct owned_batch owned_part(const struct owned_batch *o, size_t s);
void owned_part_free(struct owned_batch *o);

/* max |a - b| / max |b| */
double relative_error(const float *a, const float *b, size_t n);

extern const char tiny_tied[], tiny_gated[]; /* config.json texts */
rsd_t5 *t5_make(rsd_ctx *ctx, const char *config, uint64_t seed);
/* forward, head and backward with cross-entropy, times `scale`; the loss */
double t5_step(rsd_ctx *ctx, rsd_t5 *m, const rsd_batch *b, int kind, double scale);

#endif
