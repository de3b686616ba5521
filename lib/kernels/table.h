/* Inside lib/kernels only: the table of implementations behind kernels.h, one entry per operation.
 *
 * kernels.c checks types and shapes once and then calls through the table, so implementations take for granted: nothing has
 * failed before, every matrix has the shape that kernels.h tells, no dimension is beyond INT_MAX. Matrices are F32, except that `any`
 * marks those that may be BF16. */
#ifndef KERNELS_TABLE_H
#define KERNELS_TABLE_H

#include "kernels/kernels.h"
#include "tensor/mat.h"

#if defined(__x86_64__)
#define KERNELS_X86 /* meson.build adds the copies of cpu.c for this family */
#endif

struct kernels {
    const char *name;
    void (*embedding_forward)(const struct exec *, struct mat y, struct mat w, const int32_t *ids); /* any */
    void (*embedding_backward)(const struct exec *, struct mat dw, struct mat dy, const int32_t *ids);
    void (*dropout_apply)(const struct exec *, struct mat y, struct mat in, struct dropout d); /* any */
    /* any: y */
    void (*rmsnorm_forward)(const struct exec *, struct mat y, float *rrms, struct mat in, struct mat g, float eps);
    void (*rmsnorm_backward)(const struct exec *, struct mat din, struct mat dg, struct mat dy, struct mat in, struct mat g,
                             const float *rrms);
    /* any */
    void (*gemm)(const struct exec *, const struct product *p, size_t n);
    void (*project)(const struct exec *, struct mat in, const struct projection *p, size_t n); /* any; w I8 too */
    void (*quantize_rows)(const struct exec *, struct mat q, float *scales, struct mat w);
    /* any: out, q, k, v, dout */
    void (*attention_forward)(const struct exec *, struct mat out, float *lse, struct mat q, struct mat k, struct mat v,
                              const struct attention *s);
    /* overwrite: only where the sequences lie one behind another, and no row between them */
    void (*attention_backward)(const struct exec *, struct mat dq, struct mat dk, struct mat dv, struct mat dbias,
                               struct mat dout, struct mat out, struct mat q, struct mat k, struct mat v, const float *lse,
                               const struct attention *s);
    void (*attention_step)(const struct exec *, struct mat out, struct mat q, const struct attention_step *s); /* any: caches */
    void (*bias_expand_forward)(const struct exec *, struct mat bias, struct mat table, const int32_t *bucket);
    void (*bias_expand_backward)(const struct exec *, struct mat dtable, struct mat dbias, const int32_t *bucket);
    /* any: all from here to lerp */
    void (*relu_forward)(const struct exec *, struct mat y, struct mat in);
    void (*relu_backward)(const struct exec *, struct mat din, struct mat dy, struct mat in);
    void (*geglu_forward)(const struct exec *, struct mat y, struct mat a, struct mat b, struct dropout d);
    void (*geglu_backward)(const struct exec *, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a,
                           struct mat b, struct dropout d);
    void (*swiglu_forward)(const struct exec *, struct mat y, struct mat a, struct mat b, struct dropout d);
    void (*swiglu_backward)(const struct exec *, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a,
                            struct mat b, struct dropout d);
    void (*add)(const struct exec *, struct mat y, struct mat a, struct mat b, struct dropout d);
    void (*scale)(const struct exec *, struct mat y, float s);
    void (*fill)(const struct exec *, struct mat y, float v);
    void (*lerp)(const struct exec *, struct mat y, struct mat a, struct mat b, float t);
    void (*row_lse)(const struct exec *, float *lse, struct mat logits);
    void (*distill)(const struct exec *, float *nll, float *smooth, float *soft, struct mat logits, const struct distill_rows *t,
                    int grad);
    void (*row_argmax)(const struct exec *, int32_t *best, struct mat logits);
    void (*row_pick)(const struct exec *, float *picked, struct mat logits, const int32_t *ids);
    void (*row_top)(const struct exec *, int32_t *ids, float *values, struct mat logits, size_t k);
    void (*row_sample)(const struct exec *, int32_t *ids, struct mat logits, const double *u, struct sampling how);
    double (*sum_squares)(const struct exec *, struct mat a); /* any */
    /* any: w */
    void (*adamw_update)(const struct exec *, struct mat w, struct mat m, struct mat v, struct mat g, const struct adamw *o);
    void (*adafactor_update)(const struct exec *, struct mat w, struct mat r, struct mat c, struct mat m, struct mat g,
                             const struct adafactor *o);
};

/* Products of so few rows are not the BLAS's. */
enum { FEW_ROWS_GEMM = 16, FEW_ROWS_PROJECT = 64 };

extern const struct kernels kernels_table_reference; /* reference.c */
void distill_reference(const struct exec *x, float *nll, float *smooth, float *soft, struct mat logits,
                       const struct distill_rows *t, int grad); /* reference_distill.c: a part of the reference table */
/* cpu.c, compiled once per instruction set; kernels_blas_*: the same, but all products are the BLAS's */
extern const struct kernels kernels_table_generic, kernels_blas_generic;
#ifdef KERNELS_X86
extern const struct kernels kernels_table_avx2, kernels_table_avx512, kernels_table_avx512bf16;
extern const struct kernels kernels_blas_avx2, kernels_blas_avx512, kernels_blas_avx512bf16;
#endif

/* ---- gemm.c: the door to the BLAS ---- */

void gemm_blas(const struct exec *x, struct mat c, int ta, struct mat a, int tb, struct mat b, float alpha, float beta);

/* c [m,n] = alpha op(a) op(b) + beta c by one call of the BLAS in the calling thread. Dimensions fit into int. */
void gemm_tile(float *c, size_t ldc, size_t m, size_t n, size_t k, int ta, const float *a, size_t lda, int tb, const float *b,
               size_t ldb, float alpha, float beta);

static inline float *row_of(struct mat m, size_t r) {
    return (float *)m.data + r * m.ld;
}

#endif
