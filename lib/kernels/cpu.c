/* The vectorised table: this file is compiled once per instruction set (meson.build) with KERNELS_VARIANT naming the copy, and
 * kernels_choose takes the best that the CPU has. Its parts are included, so that nothing but the table leaves the copy. */
#include "kernels/cpu_attention.h"
#include "kernels/cpu_decode_attention.h"
#include "kernels/cpu_decode_product.h"
#include "kernels/cpu_distill.h"
#include "kernels/cpu_elementwise.h"
#include "kernels/cpu_loss.h"
#include "kernels/cpu_mixed.h"
#include "kernels/cpu_optimizer.h"
#include "kernels/cpu_rows.h"
#include "kernels/cpu_select.h"
#include "kernels/table.h"

#define JOIN2(a, b) a##b
#define JOIN(a, b)  JOIN2(a, b)
#define TEXT2(a)    #a
#define TEXT(a)     TEXT2(a)

/* All of the table; copies differ in who multiplies matrices. */
/* clang-format off */
#define TABLE(title, products)                            \
    {                                                     \
        .name = title,                                    \
        .gemm = products,                                 \
        .project = project_cpu,                           \
        .quantize_rows = quantize_rows_cpu,               \
        .attention_step = attention_step_cpu,             \
        .embedding_forward = embedding_forward_cpu,       \
        .embedding_backward = embedding_backward_cpu,     \
        .dropout_apply = dropout_apply_cpu,               \
        .rmsnorm_forward = rmsnorm_forward_cpu,           \
        .rmsnorm_backward = rmsnorm_backward_cpu,         \
        .attention_forward = attention_forward_cpu,       \
        .attention_backward = attention_backward_cpu,     \
        .bias_expand_forward = bias_expand_forward_cpu,   \
        .bias_expand_backward = bias_expand_backward_cpu, \
        .relu_forward = relu_forward_cpu,                 \
        .relu_backward = relu_backward_cpu,               \
        .geglu_forward = geglu_forward_cpu,               \
        .geglu_backward = geglu_backward_cpu,             \
        .swiglu_forward = swiglu_forward_cpu,             \
        .swiglu_backward = swiglu_backward_cpu,           \
        .add = add_cpu,                                   \
        .scale = scale_cpu,                               \
        .fill = fill_cpu,                                 \
        .lerp = lerp_cpu,                                 \
        .row_lse = row_lse_cpu,                           \
        .distill = distill_cpu,                           \
        .row_argmax = row_argmax_cpu,                     \
        .row_pick = row_pick_cpu,                         \
        .row_top = row_top_cpu,                           \
        .row_sample = row_sample_cpu,                     \
        .sum_squares = sum_squares_cpu,                   \
        .adamw_update = adamw_update_cpu,                 \
        .adafactor_update = adafactor_update_cpu,         \
    }
/* clang-format on */

const struct kernels JOIN(kernels_table_, KERNELS_VARIANT) = TABLE("cpu " TEXT(KERNELS_VARIANT), gemm_cpu);
const struct kernels JOIN(kernels_blas_, KERNELS_VARIANT) = TABLE("cpu " TEXT(KERNELS_VARIANT) ", BLAS", gemm_cpu_blas);
