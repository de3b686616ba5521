/* The public face of the kernels: every call is checked here, once, and goes through the table.
 *
 * A call that follows a failure does nothing, so a chain of kernels needs one question at its end; a matrix whose memory could
 * not be had is then never touched. */
#include "kernels/table.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

int exec_status(const struct exec *x) {
    return x->err ? x->err->code : 0;
}

/* ---- which table ---- */

const char *kernels_name(const struct kernels *k) {
    return k->name;
}

const struct kernels *kernels_reference(void) {
    return &kernels_table_reference;
}

static bool any_cpu(void) {
    return true;
}

#ifdef KERNELS_X86
/* The compiler's test includes that the system keeps the registers. */
static bool has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

static bool has_avx512bf16(void) {
    return has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
}
#endif

/* Best first. */
static const struct {
    const char *name;
    bool (*runs)(void);
    const struct kernels *own, *blas;
} all_tables[] = {
#ifdef KERNELS_X86
    {"avx512bf16", has_avx512bf16, &kernels_table_avx512bf16, &kernels_blas_avx512bf16},
    {"avx512", has_avx512, &kernels_table_avx512, &kernels_blas_avx512},
    {"avx2", has_avx2, &kernels_table_avx2, &kernels_blas_avx2},
#endif
    {"generic", any_cpu, &kernels_table_generic, &kernels_blas_generic},
};
enum { N_TABLES = sizeof all_tables / sizeof *all_tables };

size_t kernels_list(const char *names[KERNELS_MOST], const struct kernels *tables[KERNELS_MOST]) {
    size_t n = 0, best = N_TABLES;
    for (size_t i = 0; i < N_TABLES; i++) {
        if (all_tables[i].runs()) {
            best = best < i ? best : i;
            names[n] = all_tables[i].name;
            tables[n++] = all_tables[i].own;
        }
    }
    names[n] = "blas";
    tables[n++] = all_tables[best].blas;
    return n;
}

const struct kernels *kernels_choose(void) {
    return kernels_named("auto", NULL);
}

const struct kernels *kernels_named(const char *name, struct err *e) {
    const char *names[KERNELS_MOST];
    const struct kernels *tables[KERNELS_MOST];
    size_t n = kernels_list(names, tables);
    if (!name || strcmp(name, "auto") == 0) {
        return tables[0];
    }
    char list[256] = "auto";
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, names[i]) == 0) {
            return tables[i];
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, ", %s", names[i]);
    }
    err_set(e, ERR_INVALID, "kernels \"%.32s\": this build and CPU have %s", name, list);
    return NULL;
}

/* ---- checks ---- */

static bool fail(const struct exec *x, int code, const char *kernel, const char *what) {
    err_set(x->err, code, "%s: %s", kernel, what);
    return false;
}

/* Types that a kernel has code for. */
enum types { TYPE_F32, TYPE_BF16 /* too */, TYPE_I8 /* too */ };

/* Nothing has failed before, and each of the n matrices has memory, a sane shape and a type that is known. */
static bool ready_as(const struct exec *x, const char *kernel, enum types types, const struct mat *m, size_t n) {
    if (exec_status(x)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (m[i].dtype != DTYPE_F32 && !(types >= TYPE_BF16 && m[i].dtype == DTYPE_BF16) &&
            !(types >= TYPE_I8 && m[i].dtype == DTYPE_I8)) {
            err_set(x->err, ERR_UNSUPPORTED, "%s: no implementation for %s here, only for F32%s%s", kernel,
                    dtype_name(m[i].dtype), types >= TYPE_BF16 ? " and BF16" : "", types >= TYPE_I8 ? " and I8" : "");
            return false;
        }
        if (m[i].rows > INT_MAX || m[i].cols > INT_MAX || m[i].ld > INT_MAX) {
            /* A flat parameter arena may be long, as one row; only its products go through an int. */
            if (m[i].rows != 1) {
                err_set(x->err, ERR_INVALID, "%s: a matrix of %zu x %zu (stride %zu) is beyond the BLAS's int", kernel, m[i].rows,
                        m[i].cols, m[i].ld);
                return false;
            }
        }
        if (m[i].rows > 1 && m[i].ld < m[i].cols) {
            err_set(x->err, ERR_INVALID, "%s: rows of %zu columns with a stride of %zu", kernel, m[i].cols, m[i].ld);
            return false;
        }
        if (!m[i].data && m[i].rows && m[i].cols) {
            return fail(x, ERR_INVALID, kernel, "a matrix without memory");
        }
        if ((uintptr_t)m[i].data % dtype_size(m[i].dtype)) {
            return fail(x, ERR_INVALID, kernel, "a matrix that is not aligned to its elements");
        }
    }
    return true;
}

static bool shape_is(const struct exec *x, const char *kernel, const char *name, struct mat m, size_t rows, size_t cols) {
    if (m.rows == rows && m.cols == cols) {
        return true;
    }
    err_set(x->err, ERR_INVALID, "%s: %s is %zu x %zu, expected %zu x %zu", kernel, name, m.rows, m.cols, rows, cols);
    return false;
}

static bool ready(const struct exec *x, const char *kernel, const struct mat *m, size_t n) {
    return ready_as(x, kernel, TYPE_F32, m, n);
}

static bool ready_any(const struct exec *x, const char *kernel, const struct mat *m, size_t n) {
    return ready_as(x, kernel, TYPE_BF16, m, n);
}

static bool same_as_first(const struct exec *x, const char *kernel, const struct mat *m, size_t n) {
    for (size_t i = 1; i < n; i++) {
        if (!shape_is(x, kernel, "an argument", m[i], m[0].rows, m[0].cols)) {
            return false;
        }
    }
    return true;
}

/* A vector is one row; a column of n x 1 without gaps is the same memory. */
static bool vector_is(const struct exec *x, const char *kernel, const char *name, struct mat *m, size_t n) {
    if (m->cols == 1 && m->rows == n && m->ld == 1) {
        *m = mat_of(m->data, m->dtype, 1, n);
    }
    return shape_is(x, kernel, name, *m, 1, n);
}

#define MATS(...)            (const struct mat[]){__VA_ARGS__}, sizeof((const struct mat[]){__VA_ARGS__}) / sizeof(struct mat)
#define READY(...)           ready(x, __func__, MATS(__VA_ARGS__))
#define ANY(...)             ready_any(x, __func__, MATS(__VA_ARGS__)) /* F32 or BF16 */
#define READY_AS(types, ...) ready_as(x, __func__, types, MATS(__VA_ARGS__))
#define SAME(...)            (ANY(__VA_ARGS__) && same_as_first(x, __func__, MATS(__VA_ARGS__)))
#define SHAPE(m, r, c)       shape_is(x, __func__, #m, m, r, c)
#define VECTOR(m, n)         vector_is(x, __func__, #m, &(m), n)

/* ---- widening, for kernels whose implementations know F32 alone ---- */

/* m as F32: itself, or a copy in scratch memory. */
static struct mat wide(const struct exec *x, struct mat m) {
    struct mat w = m.dtype == DTYPE_F32 ? m : arena_mat(x->scratch, DTYPE_F32, m.rows, m.cols, x->err);
    if (m.dtype != DTYPE_F32) {
        copy(x, w, m);
    }
    return w;
}

/* ---- calls ---- */

void embedding_forward(const struct exec *x, struct mat y, struct mat w, const int32_t *ids) {
    if (ANY(y, w) && SHAPE(y, y.rows, w.cols)) {
        x->k->embedding_forward(x, y, w, ids);
    }
}

void embedding_backward(const struct exec *x, struct mat dw, struct mat dy, const int32_t *ids) {
    if (READY(dw, dy) && SHAPE(dy, dy.rows, dw.cols)) {
        x->k->embedding_backward(x, dw, dy, ids);
    }
}

static bool drops(const struct exec *x, const char *kernel, struct dropout d) {
    return (d.p >= 0 && d.p < 1) || fail(x, ERR_INVALID, kernel, "the dropout rate must be at least 0 and below 1");
}
#define DROPS(d) drops(x, __func__, d)

void dropout_apply(const struct exec *x, struct mat y, struct mat in, struct dropout d) {
    if (SAME(y, in) && DROPS(d)) {
        x->k->dropout_apply(x, y, in, d);
    }
}

void rmsnorm_forward(const struct exec *x, struct mat y, float *rrms, struct mat in, struct mat g, float eps) {
    if (!SAME(y, in) || !ANY(g) || !VECTOR(g, in.cols)) {
        return;
    }
    struct arena_mark mark = arena_mark(x->scratch);
    struct mat in_wide = wide(x, in), g_wide = wide(x, g);
    if (!exec_status(x)) {
        x->k->rmsnorm_forward(x, y, rrms, in_wide, g_wide, eps);
    }
    arena_release(x->scratch, mark);
}

void rmsnorm_backward(const struct exec *x, struct mat din, struct mat dg, struct mat dy, struct mat in, struct mat g,
                      const float *rrms) {
    if (!SAME(in, din, dy) || !READY(din) || !ANY(g) || !VECTOR(g, in.cols)) {
        return;
    }
    if (dg.data && (!READY(dg) || !VECTOR(dg, in.cols))) {
        return;
    }
    struct arena_mark mark = arena_mark(x->scratch);
    struct mat in_wide = wide(x, in), g_wide = wide(x, g), dy_wide = wide(x, dy);
    if (!exec_status(x)) {
        x->k->rmsnorm_backward(x, din, dg, dy_wide, in_wide, g_wide, rrms);
    }
    arena_release(x->scratch, mark);
}

static bool product_fits(const struct exec *x, const struct product *p) {
    const struct mat a = p->a, b = p->b, c = p->c;
    if (!ready_as(x, "gemm", TYPE_BF16, (const struct mat[]){c, a, b}, 3)) {
        return false;
    }
    size_t m = p->ta ? a.cols : a.rows, k = p->ta ? a.rows : a.cols, k2 = p->tb ? b.cols : b.rows, n = p->tb ? b.rows : b.cols;
    if (k != k2 || c.rows != m || c.cols != n) {
        err_set(x->err, ERR_INVALID, "gemm: %zu x %zu = (%zu x %zu) (%zu x %zu) does not fit together", c.rows, c.cols, m, k, k2,
                n);
        return false;
    }
    if (n > INT_MAX || k > INT_MAX) {
        err_set(x->err, ERR_INVALID, "gemm: a dimension of %zu is beyond the BLAS's int", n > k ? n : k);
        return false;
    }
    return true;
}

void gemm_group(const struct exec *x, const struct product *p, size_t n) {
    if (n > MAX_PRODUCTS) {
        fail(x, ERR_INVALID, __func__, "more products than a call takes");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!product_fits(x, &p[i])) {
            return;
        }
    }
    x->k->gemm(x, p, n);
}

void gemm(const struct exec *x, struct mat c, int ta, struct mat a, int tb, struct mat b, float alpha, float beta) {
    gemm_group(x, &(struct product){c, ta, a, tb, b, alpha, beta}, 1);
}

static bool projection_fits(const struct exec *x, struct mat in, const struct projection *p) {
    if (!READY_AS(TYPE_BF16, in, p->y) || !READY_AS(TYPE_I8, p->w) || !shape_is(x, "project", "y", p->y, in.rows, p->w.rows) ||
        !shape_is(x, "project", "w", p->w, p->w.rows, in.cols)) {
        return false;
    }
    return !p->scales == (p->w.dtype != DTYPE_I8) || fail(x, ERR_INVALID, "project", "scales and I8 weights go together");
}

void project(const struct exec *x, struct mat in, const struct projection *p, size_t n) {
    if (n > MAX_PROJECTIONS) {
        fail(x, ERR_INVALID, __func__, "more matrices than a call takes");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!projection_fits(x, in, &p[i])) {
            return;
        }
        if (p[i].w.dtype != p->w.dtype) {
            fail(x, ERR_INVALID, __func__, "matrices of different types");
            return;
        }
    }
    if (n && (in.rows <= FEW_ROWS_PROJECT || p->w.dtype == DTYPE_I8)) {
        x->k->project(x, in, p, n);
        return;
    }
    struct product all[MAX_PRODUCTS];
    for (size_t i = 0; i < n; i++) {
        all[i] = (struct product){p[i].y, 0, in, 1, p[i].w, p[i].alpha, p[i].beta};
    }
    gemm_group(x, all, n);
}

void quantize_rows(const struct exec *x, struct mat q, float *scales, struct mat w) {
    if (READY_AS(TYPE_I8, q) && shape_is(x, __func__, "q", q, w.rows, w.cols)) {
        if (q.dtype != DTYPE_I8 || !scales || !w.data) {
            fail(x, ERR_INVALID, __func__, "expected an I8 matrix, its scales and a source");
            return;
        }
        x->k->quantize_rows(x, q, scales, w);
    }
}

/* Every span lies inside the matrices and every distance inside the bias. */
static bool spans_fit(const struct exec *x, const char *kernel, struct mat q, struct mat k, const struct attention *s) {
    for (size_t i = 0; i < s->n_spans; i++) {
        const struct attention_span *p = &s->spans[i];
        if (p->q_len > q.rows || p->q_first > q.rows - p->q_len || p->k_len > k.rows || p->k_first > k.rows - p->k_len ||
            p->k_len == 0 || (s->causal && p->q_len > p->k_len)) {
            err_set(x->err, ERR_INVALID, "%s: span %zu (queries %zu+%zu of %zu, keys %zu+%zu of %zu) is empty or outside", kernel,
                    i, p->q_first, p->q_len, q.rows, p->k_first, p->k_len, k.rows);
            return false;
        }
        if (!s->bias.data || p->q_len == 0) {
            continue;
        }
        size_t first = s->causal ? p->k_len - p->q_len : 0, last = first + p->q_len - 1;
        size_t reach = s->causal ? 0 : p->k_len - 1; /* the largest j - p is `reach` at p = 0, or 0 if causal */
        if (s->bias_zero < last || s->bias_zero >= s->bias.cols || reach >= s->bias.cols - s->bias_zero) {
            err_set(x->err, ERR_INVALID, "%s: span %zu needs distances -%zu .. %zu, the bias has -%zu .. %zu", kernel, i, last,
                    reach, s->bias_zero, s->bias.cols - 1 - s->bias_zero);
            return false;
        }
    }
    return true;
}

static bool attention_fits(const struct exec *x, const char *kernel, struct mat q, struct mat k, struct mat v,
                           const struct attention *s) {
    size_t width = 0;
    if (!size_mul(s->heads, s->d_kv, &width) || !shape_is(x, kernel, "q", q, q.rows, width) ||
        !shape_is(x, kernel, "k", k, k.rows, width) || !shape_is(x, kernel, "v", v, k.rows, width)) {
        return false;
    }
    if (s->bias.data && (!ready(x, kernel, &s->bias, 1) || !shape_is(x, kernel, "bias", s->bias, s->heads, s->bias.cols))) {
        return false;
    }
    return drops(x, kernel, s->dropout) && spans_fit(x, kernel, q, k, s);
}

void attention_forward(const struct exec *x, struct mat out, float *lse, struct mat q, struct mat k, struct mat v,
                       const struct attention *s) {
    if (!SAME(out, q) || !SAME(k, v) || !attention_fits(x, __func__, q, k, v, s)) {
        return;
    }
    x->k->attention_forward(x, out, lse, q, k, v, s);
}

/* Queries and keys of one sequence behind those of another, without a gap. */
static bool every_row_has_a_sequence(const struct attention *s, size_t queries, size_t keys) {
    size_t q = 0, k = 0;
    for (size_t i = 0; i < s->n_spans; i++) {
        const struct attention_span *p = &s->spans[i];
        if (p->q_first != q || p->k_first != k || p->q_len == 0 || p->k_len == 0) {
            return false;
        }
        q += p->q_len;
        k += p->k_len;
    }
    return q == queries && k == keys;
}

void attention_backward(const struct exec *x, struct mat dq, struct mat dk, struct mat dv, struct mat dbias, struct mat dout,
                        struct mat out, struct mat q, struct mat k, struct mat v, const float *lse, const struct attention *s) {
    if (!SAME(q, dq, dout, out) || !SAME(k, v, dk, dv) || !READY(dq, dk, dv) || !attention_fits(x, __func__, q, k, v, s)) {
        return;
    }
    if (dbias.data && (!READY(dbias) || !SHAPE(dbias, s->bias.rows, s->bias.cols))) {
        return;
    }
    struct attention now = *s;
    if (s->overwrite && !every_row_has_a_sequence(s, q.rows, k.rows)) {
        now.overwrite = 0;
        fill(x, dq, 0);
        fill(x, dk, 0);
        fill(x, dv, 0);
    }
    x->k->attention_backward(x, dq, dk, dv, dbias, dout, out, q, k, v, lse, &now);
}

/* Regions inside the caches, distances inside the bias, rows without gaps. */
static bool step_fits(const struct exec *x, struct mat q, const struct attention_step *s) {
    size_t width = 0, region = 0;
    if (!size_mul(s->heads, s->d_kv, &width) || !shape_is(x, "attention_step", "q", q, q.rows, width) ||
        !size_mul(s->heads, s->room, &region)) {
        return false;
    }
    if (s->k.cols != s->d_kv || s->k.ld != s->d_kv || s->v.ld != s->d_kv || s->k.dtype != s->v.dtype || !s->k.data) {
        return fail(x, ERR_INVALID, "attention_step", "caches of different types, or rows that are not heads without gaps");
    }
    if (s->new_k.data && (!shape_is(x, "attention_step", "new_k", s->new_k, q.rows, width) ||
                          !shape_is(x, "attention_step", "new_v", s->new_v, q.rows, width))) {
        return false;
    }
    if (s->bias.data && !shape_is(x, "attention_step", "bias", s->bias, s->heads, s->bias.cols)) {
        return false;
    }
    for (size_t i = 0; i < q.rows; i++) {
        size_t n = s->length[i];
        if (n == 0 || n > s->room || (s->region[i] + 1) * region > s->k.rows ||
            (s->bias.data && (s->bias_zero >= s->bias.cols || n - 1 > s->bias_zero))) {
            err_set(x->err, ERR_INVALID, "attention_step: sequence %zu: %zu keys in region %zu are outside the cache or the bias",
                    i, n, s->region[i]);
            return false;
        }
    }
    return true;
}

void attention_step(const struct exec *x, struct mat out, struct mat q, const struct attention_step *s) {
    if (READY(out, q) && SHAPE(out, q.rows, q.cols) && SAME(s->k, s->v) && (!s->new_k.data || ANY(s->new_k, s->new_v)) &&
        (!s->bias.data || READY(s->bias)) && step_fits(x, q, s)) {
        x->k->attention_step(x, out, q, s);
    }
}

void bias_expand_forward(const struct exec *x, struct mat bias, struct mat table, const int32_t *bucket) {
    if (!READY(bias) || !ANY(table) || !SHAPE(bias, table.cols, bias.cols)) {
        return;
    }
    struct arena_mark mark = arena_mark(x->scratch);
    struct mat table_wide = wide(x, table);
    if (!exec_status(x)) {
        x->k->bias_expand_forward(x, bias, table_wide, bucket);
    }
    arena_release(x->scratch, mark);
}

void bias_expand_backward(const struct exec *x, struct mat dtable, struct mat dbias, const int32_t *bucket) {
    if (READY(dbias, dtable) && SHAPE(dbias, dtable.cols, dbias.cols)) {
        x->k->bias_expand_backward(x, dtable, dbias, bucket);
    }
}

void relu_forward(const struct exec *x, struct mat y, struct mat in) {
    if (SAME(y, in)) {
        x->k->relu_forward(x, y, in);
    }
}

void relu_backward(const struct exec *x, struct mat din, struct mat dy, struct mat in) {
    if (SAME(din, dy, in)) {
        x->k->relu_backward(x, din, dy, in);
    }
}

void geglu_forward(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d) {
    if (SAME(y, a, b) && DROPS(d)) {
        x->k->geglu_forward(x, y, a, b, d);
    }
}

void geglu_backward(const struct exec *x, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a, struct mat b,
                    struct dropout d) {
    if (SAME(y, da, db, dy, a, b) && DROPS(d)) {
        x->k->geglu_backward(x, y, da, db, dy, a, b, d);
    }
}

void swiglu_forward(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d) {
    if (SAME(y, a, b) && DROPS(d)) {
        x->k->swiglu_forward(x, y, a, b, d);
    }
}

void swiglu_backward(const struct exec *x, struct mat y, struct mat da, struct mat db, struct mat dy, struct mat a, struct mat b,
                     struct dropout d) {
    if (SAME(y, da, db, dy, a, b) && DROPS(d)) {
        x->k->swiglu_backward(x, y, da, db, dy, a, b, d);
    }
}

void add(const struct exec *x, struct mat y, struct mat a, struct mat b, struct dropout d) {
    if (SAME(y, a, b) && DROPS(d)) {
        x->k->add(x, y, a, b, d);
    }
}

void scale(const struct exec *x, struct mat y, float s) {
    if (ANY(y)) {
        x->k->scale(x, y, s);
    }
}

void fill(const struct exec *x, struct mat y, float v) {
    if (ANY(y)) {
        x->k->fill(x, y, v);
    }
}

struct copy_job {
    struct mat y, a;
    size_t step, rows, per_row; /* a task: `rows` short rows, or one of `per_row` pieces of `step` elements of a long one */
};

static void copy_task(void *arg, size_t task, size_t worker) {
    (void)worker;
    const struct copy_job *j = arg;
    size_t r = task / j->per_row * j->rows, end = j->y.rows - r < j->rows ? j->y.rows : r + j->rows;
    size_t first = task % j->per_row * j->step, n = j->y.cols - first < j->step ? j->y.cols - first : j->step;
    for (; r < end; r++) {
        struct mat y = mat_cols(mat_rows(j->y, r, 1), first, n), a = mat_cols(mat_rows(j->a, r, 1), first, n);
        dtype_convert(y.data, y.dtype, a.data, a.dtype, n);
    }
}

void copy(const struct exec *x, struct mat y, struct mat a) {
    if (exec_status(x) || !shape_is(x, __func__, "the source", a, y.rows, y.cols) || y.rows == 0 || y.cols == 0) {
        return;
    }
    if (!y.data || !a.data) {
        fail(x, ERR_INVALID, __func__, "a matrix without memory");
        return;
    }
    if (y.dtype == DTYPE_I8 || a.dtype == DTYPE_I8) {
        fail(x, ERR_UNSUPPORTED, __func__, "I8 means nothing without its scales");
        return;
    }
    bool aligned = !((uintptr_t)y.data % dtype_size(y.dtype)) && !((uintptr_t)a.data % dtype_size(a.dtype));
    if (aligned && y.dtype != DTYPE_F16 && a.dtype != DTYPE_F16) {
        x->k->lerp(x, y, a, a, 0); /* a, bit for bit, by vector instructions */
        return;
    }
    struct copy_job j = {.y = y, .a = a, .step = 1U << 15};
    if (y.ld == y.cols && a.ld == a.cols) { /* without gaps: one long row */
        j.y = mat_of(y.data, y.dtype, 1, y.rows * y.cols);
        j.a = mat_of(a.data, a.dtype, 1, y.rows * y.cols);
    }
    j.per_row = (j.y.cols + j.step - 1) / j.step;
    j.rows = j.per_row > 1 ? 1 : j.step / j.y.cols;
    pool_run(x->pool, (j.y.rows + j.rows - 1) / j.rows * j.per_row, copy_task, &j);
}

void lerp(const struct exec *x, struct mat y, struct mat a, struct mat b, float t) {
    if (SAME(y, a, b)) {
        x->k->lerp(x, y, a, b, t);
    }
}

void row_lse(const struct exec *x, float *lse, struct mat logits) {
    if (READY(logits)) {
        x->k->row_lse(x, lse, logits);
    }
}

void distill(const struct exec *x, float *nll, float *smooth, float *soft, struct mat logits, const struct distill_rows *t,
             int grad) {
    if (READY(logits)) {
        x->k->distill(x, nll, smooth, soft, logits, t, grad);
    }
}

void row_argmax(const struct exec *x, int32_t *best, struct mat logits) {
    if (READY(logits)) {
        x->k->row_argmax(x, best, logits);
    }
}

void row_pick(const struct exec *x, float *picked, struct mat logits, const int32_t *ids) {
    if (READY(logits)) {
        x->k->row_pick(x, picked, logits, ids);
    }
}

void row_top(const struct exec *x, int32_t *ids, float *values, struct mat logits, size_t k) {
    if (READY(logits)) {
        if (!k || k > logits.cols) {
            fail(x, ERR_INVALID, "row_top", "k is 0 or above the number of columns");
            return;
        }
        x->k->row_top(x, ids, values, logits, k);
    }
}

void row_sample(const struct exec *x, int32_t *ids, struct mat logits, const double *u, struct sampling how) {
    if (READY(logits)) {
        if (!(how.temperature > 0) || !(how.top_p > 0)) {
            fail(x, ERR_INVALID, "row_sample", "temperature and top_p must be above 0");
            return;
        }
        x->k->row_sample(x, ids, logits, u, how);
    }
}

double sum_squares(const struct exec *x, struct mat a) {
    return ANY(a) ? x->k->sum_squares(x, a) : 0;
}

void adamw_update(const struct exec *x, struct mat w, struct mat m, struct mat v, struct mat g, const struct adamw *o) {
    if (SAME(w, m, v, g) && READY(m, v, g)) {
        x->k->adamw_update(x, w, m, v, g, o);
    }
}

void adafactor_update(const struct exec *x, struct mat w, struct mat r, struct mat c, struct mat m, struct mat g,
                      const struct adafactor *o) {
    if (!SAME(w, g) || !READY(g, r) || (m.data && (!READY(m) || !SAME(w, m))) || w.rows == 0 || w.cols == 0) {
        return;
    }
    if (c.data) {
        if (READY(c) && VECTOR(r, w.rows) && VECTOR(c, w.cols)) {
            x->k->adafactor_update(x, w, r, c, m, g, o);
        }
        return;
    }
    if (!SAME(w, r)) {
        return;
    }
    size_t n = w.rows * w.cols;
    if (w.rows > 1 && (w.ld != w.cols || r.ld != w.cols || g.ld != w.cols || (m.data && m.ld != w.cols))) {
        fail(x, ERR_INVALID, __func__, "expected matrices without gaps where the second moment is not factored");
        return;
    }
    x->k->adafactor_update(x, mat_of(w.data, w.dtype, 1, n), mat_of(r.data, DTYPE_F32, 1, n), c,
                           m.data ? mat_of(m.data, DTYPE_F32, 1, n) : m, mat_of(g.data, DTYPE_F32, 1, n), o);
}
