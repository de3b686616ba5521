/* AdamW (Loshchilov & Hutter 2019) and Adafactor (Shazeer & Stern 2018) over the parameters of a model.
 *
 * Weights are reached layer by layer, so that a model that does not fit into memory can be paged underneath. Unfused, the
 * gradients are one row, clipped by their common norm (Pascanu et al. 2013), and nothing is written before that is known to be
 * finite: a bad gradient costs a step, never the weights. Fused, the backward pass hands over one layer's gradients at a time, and
 * a bad one is found when other layers have been written. */
#include "train/optimizer.h"

#include "base/options.h"
#include "core/rng.h"
#include "train/optimizer_state.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

OPTIONS_NO_TAIL(rsd_optimizer_options, reserved2);

static const rsd_optimizer_options optimizer_defaults = {.size = sizeof(rsd_optimizer_options),
                                                         .beta1 = 0.9,
                                                         .beta2 = 0.999,
                                                         .eps = 1e-8,
                                                         .clip = 1,
                                                         .kind = RSD_ADAMW,
                                                         .update_clip = 1,
                                                         .decay_rate = 0.8,
                                                         .factor_eps = 1e-30,
                                                         .scale_floor = 1e-3,
                                                         .seed = 1,
                                                         .scale_parameter = 1};

int rsd_optimizer_options_init(rsd_optimizer_options *o, size_t size) {
    return options_init(o, size, &optimizer_defaults, sizeof optimizer_defaults, NULL);
}

static bool at_least_0(double v) {
    return v >= 0 && isfinite(v);
}

static int check_options(const rsd_optimizer_options *o, struct err *e) {
    if ((o->kind != RSD_ADAMW && o->kind != RSD_ADAFACTOR) || o->reserved || o->reserved2)
        return err_set(e, ERR_INVALID,
                       "rsd_optimizer_options: kind %d is neither RSD_ADAMW nor RSD_ADAFACTOR, or reserved is not 0",
                       (int)o->kind);
    if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1 && o->momentum >= 0 && o->momentum < 1))
        return err_set(e, ERR_INVALID, "rsd_optimizer_options: beta1, beta2 and momentum must lie in [0, 1)");
    if (!(o->eps > 0 && isfinite(o->eps) && at_least_0(o->decay) && at_least_0(o->clip)))
        return err_set(e, ERR_INVALID, "rsd_optimizer_options: eps must be above 0, decay and clip at least 0, all finite");
    if (!(at_least_0(o->clip_tensor) && at_least_0(o->update_clip) && o->decay_rate > 0 && isfinite(o->decay_rate) &&
          o->factor_eps > 0 && isfinite(o->factor_eps) && at_least_0(o->scale_floor)))
        return err_set(
            e, ERR_INVALID,
            "rsd_optimizer_options: decay_rate and factor_eps must be above 0, clip_tensor, update_clip and scale_floor "
            "at least 0, all finite");
    if (o->fused && o->clip > 0)
        return err_set(
            e, ERR_INVALID,
            "rsd_optimizer_options: fused updates begin before the global norm is known: set clip to 0, and clip_tensor "
            "to clip each tensor by its own norm");
    return 0;
}

int rsd_optimizer_open(rsd_ctx *ctx, rsd_t5 *model, const rsd_optimizer_options *options, rsd_optimizer **out) {
    struct err e = {0};
    if (!ctx || !out)
        return RSD_EINVAL;
    *out = NULL;
    if (!model)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_optimizer_open: no model");
    rsd_optimizer_options opt;
    if (options_read(&opt, sizeof opt, &optimizer_defaults, options, "rsd_optimizer_options", &e) || check_options(&opt, &e))
        return ctx_return(ctx, e.code, &e);
    rsd_optimizer *o = mem_zero(&ctx->alloc, 1, sizeof *o, &e);
    if (!o)
        return ctx_return(ctx, e.code, &e);
    o->ctx = ctx;
    o->o = opt;
    o->model = model;
    int code = state_open(o, &e);
    if (!code && opt.fused)
        code = params_fuse(model, &o->model, &e);
    if (code) {
        state_close(o);
        mem_free(&ctx->alloc, o);
        return ctx_return(ctx, e.code, &e);
    }
    *out = o;
    return RSD_OK;
}

void rsd_optimizer_close(rsd_optimizer *o) {
    if (!o)
        return;
    if (o->o.fused && o->model)
        params_fuse(o->model, NULL, NULL);
    state_close(o);
    mem_free(&o->ctx->alloc, o);
}

double rsd_optimizer_rate(const rsd_optimizer *o, double lr) {
    if (o->o.kind != RSD_ADAFACTOR || !o->o.relative_step)
        return lr;
    double t = (double)(o->t + 1), bound = o->o.warmup_init ? 1e-6 * t : 1e-2;
    return fmin(bound, 1 / sqrt(t));
}

/* ---- one parameter ---- */

static double norm_of(const struct exec *x, struct mat g) {
    return sqrt(sum_squares(x, g));
}

static void update_adamw(rsd_optimizer *o, const struct exec *x, struct slot *s, struct mat w, struct mat g, double rate,
                         double scale, struct rounding rounding) {
    struct adamw a = {.lr = (float)rate,
                      .beta1 = (float)o->o.beta1,
                      .beta2 = (float)o->o.beta2,
                      .eps = (float)o->o.eps,
                      .decay = (float)o->o.decay,
                      .t = o->t + 1,
                      .grad_scale = (float)scale,
                      .rounding = rounding};
    adamw_update(x, w, s->state[STATE_M], s->state[STATE_V], g, &a);
}

static void update_adafactor(rsd_optimizer *o, const struct exec *x, struct slot *s, struct mat w, struct mat g, double rate,
                             double scale, struct rounding rounding) {
    if (o->o.scale_parameter)
        rate *= fmax(o->o.scale_floor, norm_of(x, w) / sqrt((double)(w.rows * w.cols)));
    struct adafactor a = {.lr = (float)rate,
                          .beta1 = (float)o->o.momentum,
                          .beta2 = (float)(1 - pow((double)(o->t + 1), -o->o.decay_rate)),
                          .eps = (float)o->o.factor_eps,
                          .clip = (float)o->o.update_clip,
                          .decay = (float)o->o.decay,
                          .grad_scale = (float)scale,
                          .rounding = rounding};
    adafactor_update(x, w, s->state[STATE_ROWS], s->state[STATE_COLS], s->state[STATE_M], g, &a);
}

static void update_param(rsd_optimizer *o, const struct exec *x, size_t slot, struct param *p, double rate, double scale) {
    struct slot *s = &o->slots[slot];
    struct mat w = s->state[STATE_MASTER].data ? s->state[STATE_MASTER] : p->w;
    /* Numbers of its own for each step and parameter, whatever is frozen. */
    struct rounding rounding = {.stochastic = 1, .seed = o->o.seed, .stream = rng_mix(o->t + 1, slot)};
    if (o->o.clip_tensor > 0) {
        double length = norm_of(x, p->grad) * scale;
        scale = length > o->o.clip_tensor ? scale * o->o.clip_tensor / length : scale;
    }
    if (o->o.kind == RSD_ADAFACTOR)
        update_adafactor(o, x, s, w, p->grad, rate, scale, rounding);
    else
        update_adamw(o, x, s, w, p->grad, rate, scale, rounding);
    if (w.data != p->w.data)
        copy(x, p->w, w);
}

/* Slots of a layer begin where those of the layers before it end. */
static int update_layer(rsd_optimizer *o, const struct exec *x, size_t layer, size_t first_slot, double rate, double scale) {
    struct param *p = NULL;
    size_t n = 0;
    if (params_acquire(o->model, layer, true, &p, &n, x->err))
        return x->err->code;
    for (size_t i = 0; i < n && !exec_status(x); i++) {
        if (p[i].frozen)
            continue;
        if (o->slots[first_slot + i].trained)
            update_param(o, x, first_slot + i, &p[i], rate, scale);
        else
            err_set(x->err, RSD_ESTATE, "%s was frozen when the optimizer was opened: thaw it before", p[i].name);
    }
    params_release(o->model, layer, true);
    return exec_status(x);
}

/* The norm of a layer's gradients, squared, added to *sum; the first that is not finite is named. */
static int check_layer(rsd_optimizer *o, const struct exec *x, size_t layer, double *sum, size_t *n) {
    struct param *p = NULL;
    if (params_acquire(o->model, layer, false, &p, n, x->err))
        return x->err->code;
    for (size_t i = 0; i < *n && !exec_status(x); i++) {
        double squares = p[i].grad.data && !p[i].frozen ? sum_squares(x, p[i].grad) : 0;
        if (!isfinite(squares))
            err_set(x->err, ERR_NUMERIC, "the gradient of %s is not finite", p[i].name);
        *sum += squares;
    }
    params_release(o->model, layer, false);
    return exec_status(x);
}

/* ---- unfused ---- */

/* The norm is not finite: says whose fault it is. */
static int name_bad_gradient(rsd_optimizer *o, const struct exec *x) {
    double sum = 0;
    size_t n = 0, layers = params_layers(o->model);
    for (size_t layer = 0; layer < layers && !exec_status(x); layer++)
        check_layer(o, x, layer, &sum, &n);
    if (!exec_status(x))
        err_set(x->err, ERR_NUMERIC, "the norm of the gradient is not finite");
    struct err why = *x->err;
    err_clear(x->err);
    return err_set(x->err, why.code, "%s: the weights were left as they were", why.text);
}

static int check_rate(const rsd_optimizer *o, double lr, const char *what, struct err *e) {
    if (!isfinite(lr) || lr < 0)
        return err_set(e, ERR_INVALID, "%s: the learning rate must be a finite number of at least 0", what);
    if (o->torn)
        return err_set(e, RSD_ESTATE, "%s: the weights stand between two steps: go on from the last checkpoint", what);
    return 0;
}

int rsd_optimizer_step(rsd_optimizer *o, double lr, double *norm) {
    struct err e = {0};
    if (!o)
        return RSD_EINVAL;
    if (o->o.fused)
        return ctx_fail(o->ctx, RSD_ESTATE,
                        "rsd_optimizer_step: a fused optimizer steps in rsd_optimizer_backward, which stands for both calls");
    if (check_rate(o, lr, "rsd_optimizer_step", &e))
        return ctx_return(o->ctx, e.code, &e);
    struct exec x = ctx_exec(o->ctx, &e);
    struct mat all = {0};
    if (params_grads(o->model, &all, &e))
        return ctx_return(o->ctx, e.code, &e);
    double length = norm_of(&x, all), rate = rsd_optimizer_rate(o, lr);
    if (norm)
        *norm = length;
    if (!exec_status(&x) && !isfinite(length))
        name_bad_gradient(o, &x);
    if (exec_status(&x))
        return ctx_return(o->ctx, e.code, &e);

    double scale = o->o.clip > 0 && length > o->o.clip ? o->o.clip / length : 1;
    size_t slot = 0, layers = params_layers(o->model);
    for (size_t layer = 0; layer < layers; layer++) {
        struct param *p = NULL;
        size_t n = 0;
        if (params_acquire(o->model, layer, false, &p, &n, &e))
            return ctx_return(o->ctx, e.code, &e);
        params_release(o->model, layer, false);
        if (update_layer(o, &x, layer, slot, rate, scale))
            return ctx_return(o->ctx, e.code, &e);
        slot += n;
    }
    o->t++;
    return rsd_t5_zero_grad(o->model);
}

/* ---- fused ---- */

struct fused_step {
    rsd_optimizer *o;
    double rate, sum;
    bool begun; /* some layer has been written */
};

static int fused_layer(void *user, size_t layer, struct err *e) {
    struct fused_step *f = user;
    struct exec x = ctx_exec(f->o->ctx, e);
    size_t n = 0, slot = 0, count = 0;
    for (size_t before = 0; before < layer; before++) {
        struct param *p = NULL;
        if (params_acquire(f->o->model, before, false, &p, &count, e))
            return e->code;
        params_release(f->o->model, before, false);
        slot += count;
    }
    if (check_layer(f->o, &x, layer, &f->sum, &n))
        return e->code;
    f->begun = true;
    return update_layer(f->o, &x, layer, slot, f->rate, 1);
}

int rsd_optimizer_backward(rsd_optimizer *o, double lr, double *norm) {
    struct err e = {0};
    if (!o)
        return RSD_EINVAL;
    if (check_rate(o, lr, "rsd_optimizer_backward", &e))
        return ctx_return(o->ctx, e.code, &e);
    if (!o->o.fused) {
        int code = rsd_t5_backward(o->model);
        return code ? code : rsd_optimizer_step(o, lr, norm);
    }
    struct fused_step f = {.o = o, .rate = rsd_optimizer_rate(o, lr)};
    int code = params_backward(o->model, fused_layer, &f, &e);
    if (norm)
        *norm = code == ERR_NUMERIC ? NAN : sqrt(f.sum);
    if (!code) {
        o->t++;
        return RSD_OK;
    }
    o->torn = f.begun;
    if (f.begun) {
        struct err why = e;
        err_clear(&e);
        err_set(&e, why.code, "%s: other layers have been updated, the weights stand between two steps", why.text);
    }
    if (code != RSD_ESTATE && code != ERR_BUSY)
        rsd_t5_zero_grad(o->model);
    return ctx_return(o->ctx, e.code, &e);
}

uint64_t rsd_optimizer_steps(const rsd_optimizer *o) {
    return o ? o->t : 0;
}
