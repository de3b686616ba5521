/* Random initialisation: Box-Muller on Philox blocks. Element i takes its number from block i / 4, so the values do not depend on
 * how the work is cut. One implementation for all processors: it runs once per model. */
#include "core/rng.h"
#include "kernels/table.h"

#include <math.h>

enum { STEP = 1 << 14 }; /* elements of a task, a multiple of 4 */

struct normal_job {
    struct mat y;
    size_t n;
    float std;
    uint64_t seed, stream;
};

/* Two independent numbers from 32 bits each: the radius from (0, 1], so that its logarithm is finite. */
static void box_muller(float out[2], uint32_t a, uint32_t b) {
    float radius = sqrtf(-2 * logf(((float)a + 1) * 0x1p-32F)), angle = 6.2831853F * 0x1p-32F * (float)b;
    out[0] = radius * cosf(angle);
    out[1] = radius * sinf(angle);
}

static void normal_task(void *arg, size_t task, size_t worker) {
    (void)worker;
    const struct normal_job *j = arg;
    size_t end = j->n - task * STEP < STEP ? j->n : (task + 1) * STEP;
    for (size_t i = task * STEP; i < end; i += 4) {
        uint32_t w[4];
        float v[4];
        philox(w, j->seed, j->stream, i / 4);
        box_muller(v, w[0], w[1]);
        box_muller(v + 2, w[2], w[3]);
        for (size_t k = 0; k < 4; k++) {
            v[k] *= j->std;
        }
        size_t m = end - i < 4 ? end - i : 4;
        dtype_convert(mat_cols(j->y, i, m).data, j->y.dtype, v, DTYPE_F32, m);
    }
}

void fill_normal(const struct exec *x, struct mat y, float std, uint64_t seed, uint64_t stream) {
    if (exec_status(x)) {
        return;
    }
    if (y.dtype == DTYPE_F16 || !y.data || (y.rows > 1 && y.ld != y.cols)) {
        err_set(x->err, ERR_INVALID, "%s: expected an F32 or BF16 matrix without gaps", __func__);
        return;
    }
    struct normal_job j = {
        .y = mat_of(y.data, y.dtype, 1, y.rows * y.cols), .n = y.rows * y.cols, .std = std, .seed = seed, .stream = stream};
    pool_run(x->pool, (j.n + STEP - 1) / STEP, normal_task, &j);
}
