/* Parameters by layer group (params.h) and by number or name (the public functions). All of them are in memory or mapped; a
 * model that pages its layers from disk changes acquire and release and nothing else. */
#include "t5/params.h"

#include "t5/model.h"

#include <string.h>

size_t params_layers(const rsd_t5 *m) {
    return m->w->layers;
}

int params_acquire(rsd_t5 *m, size_t layer, bool write, struct param **out, size_t *n, struct err *e) {
    struct t5_weights *w = m->w;
    if (layer >= w->layers)
        return err_set(e, ERR_INVALID, "layer %zu of %zu", layer, w->layers);
    if (write && w->int8)
        return err_set(e, ERR_UNSUPPORTED, "weights of 8 bits cannot be written: open the model as RSD_F32 or RSD_BF16");
    if (write && model_shared(m))
        return err_set(e, ERR_BUSY, "the weights are shared with another handle: close it before writing them");
    *out = &w->params[w->layer_first[layer]];
    *n = w->layer_first[layer + 1] - w->layer_first[layer];
    return 0;
}

void params_release(rsd_t5 *m, size_t layer, bool dirty) {
    (void)layer;
    if (dirty)
        m->w->version++;
}

int params_grads(rsd_t5 *m, struct mat *all, struct err *e) {
    if (model_grads(m, e))
        return e->code;
    struct exec x = ctx_exec(m->ctx, e);
    grads_take_back(m->w);
    grads_settle(&x, m->w, 0, m->w->n);
    *all = mat_of(m->w->grads, DTYPE_F32, 1, m->w->n_grads);
    return 0;
}

size_t rsd_t5_params(const rsd_t5 *m) {
    return m->w->n;
}

static int out_of_range(const rsd_t5 *m, const char *what, size_t i) {
    return ctx_fail(m->ctx, RSD_EINVAL, "%s: parameter %zu of %zu", what, i, m->w->n);
}

int rsd_t5_param(const rsd_t5 *m, size_t i, rsd_param *out) {
    if (i >= m->w->n)
        return out_of_range(m, "rsd_t5_param", i);
    if (!out || out->size < sizeof(size_t))
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_param: set the struct's size");
    const struct param_info *info = &m->w->info[i];
    rsd_param p = {.size = out->size,
                   .name = m->w->params[i].name,
                   .ndim = info->ndim,
                   .shape = {info->shape[0], info->shape[1]},
                   .count = info->count,
                   .layer = info->layer,
                   .frozen = m->w->params[i].frozen};
    memcpy(out, &p, out->size < sizeof p ? out->size : sizeof p);
    return RSD_OK;
}

int rsd_t5_param_find(const rsd_t5 *m, const char *name, size_t *i) {
    if (!name || !map_get(&m->w->by_name, text_of(name), i))
        return ctx_fail(m->ctx, RSD_ENOTFOUND, "no parameter is named \"%.80s\"", name ? name : "");
    return RSD_OK;
}

/* One parameter against n floats of the caller. */
static int check_floats(const rsd_t5 *m, const char *what, size_t i, const float *p, size_t n) {
    if (i >= m->w->n)
        return out_of_range(m, what, i);
    if (!p || n != m->w->info[i].count)
        return ctx_fail(m->ctx, RSD_EINVAL, "%s: %zu floats given, %s has %zu", what, n, m->w->params[i].name,
                        m->w->info[i].count);
    return RSD_OK;
}

/* The caller's floats in the shape of the parameter. */
static struct mat shaped(float *p, struct mat like) {
    return mat_of(p, DTYPE_F32, like.rows, like.cols);
}

int rsd_t5_param_read(rsd_t5 *m, size_t i, float *out, size_t n) {
    struct err e = {0};
    int rc = check_floats(m, "rsd_t5_param_read", i, out, n);
    if (rc)
        return rc;
    struct exec x = ctx_exec(m->ctx, &e);
    copy(&x, shaped(out, m->w->params[i].w), m->w->params[i].w);
    return ctx_return(m->ctx, e.code, &e);
}

int rsd_t5_param_write(rsd_t5 *m, size_t i, const float *in, size_t n) {
    struct err e = {0};
    struct param *p = NULL;
    size_t count = 0;
    int rc = check_floats(m, "rsd_t5_param_write", i, in, n);
    if (rc)
        return rc;
    size_t layer = m->w->info[i].layer;
    if (params_acquire(m, layer, true, &p, &count, &e))
        return ctx_return(m->ctx, e.code, &e);
    p += i - m->w->layer_first[layer];
    struct exec x = ctx_exec(m->ctx, &e);
    union {
        const float *in;
        float *p; /* only read through the matrix */
    } source = {.in = in};
    copy(&x, p->w, shaped(source.p, p->w));
    params_release(m, layer, true);
    return ctx_return(m->ctx, e.code, &e);
}

/* Does the name fit a pattern in which * stands for any characters? Only the last * can be wrong: linear in name x stars. */
static bool fits(const char *pattern, const char *name) {
    const char *star = NULL, *from = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            from = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

int rsd_t5_freeze(rsd_t5 *m, const char *pattern, int frozen, size_t *matched) {
    size_t n = 0;
    if (!pattern)
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_freeze: no pattern");
    if (model_shared(m))
        return ctx_fail(m->ctx, RSD_EBUSY, "rsd_t5_freeze: the weights are shared with another handle: close it before training");
    for (size_t i = 0; i < m->w->n; i++)
        if (fits(pattern, m->w->params[i].name)) {
            m->w->params[i].frozen = frozen != 0;
            n++;
        }
    if (matched)
        *matched = n;
    if (!n)
        return ctx_fail(m->ctx, RSD_ENOTFOUND, "rsd_t5_freeze: no parameter is named \"%.80s\"", pattern);
    return rsd_t5_zero_grad(m);
}

int rsd_t5_grad_read(rsd_t5 *m, size_t i, float *out, size_t n) {
    struct err e = {0};
    int rc = check_floats(m, "rsd_t5_grad_read", i, out, n);
    if (rc)
        return rc;
    struct exec x = ctx_exec(m->ctx, &e);
    struct mat to = shaped(out, m->w->params[i].w);
    if (m->w->params[i].grad.data && !m->w->fresh[i])
        copy(&x, to, m->w->params[i].grad);
    else
        fill(&x, to, 0);
    return ctx_return(m->ctx, e.code, &e);
}
