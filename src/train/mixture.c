/* What each format really weighs. Shares of items say little: the loss is a sum over target tokens, and a chain of thought has
 * twenty times those of an answer. So the shares of the summed loss are counted over an epoch, and, since a token of one format need
 * not push as hard as one of another, the gradient of each format's part of some batches is measured before the first step.
 *
 * The parts of a batch take together the work of the batch, so measuring costs what training on these batches would. */
#include "train/run.h"

#include "t5/params.h"

#include <math.h>
#include <string.h>

double mixture_weight(const rsd_trainer *t, int format) {
    const struct loss_choices *l = &t->config.loss;
    return l->own[format] ? l->of[format].weight : l->common.weight;
}

/* One format's part of a batch, added to the gradients. */
static int add_gradient(rsd_trainer *t, const rsd_batch *b, double scale) {
    int code = rsd_t5_set_dropout(t->model, 0, (uint64_t)t->config.seed, 0);
    code = code ? code : rsd_t5_forward(t->model, b, RSD_TRAIN);
    code = code ? code : rsd_loss_begin(t->loss, b, scale);
    code = code ? code : rsd_t5_head(t->model, rsd_loss_tile, t->loss);
    return code ? code : rsd_t5_backward(t->model);
}

/* Number of the i-th batch that is measured. */
static uint64_t sample(const rsd_trainer *t, uint64_t batches, uint64_t i) {
    return i * batches / t->mixture.batches;
}

static int measure_format(rsd_trainer *t, int f, uint64_t batches, double scale, struct err *e) {
    const rsd_batch *b = NULL;
    rsd_mixture *m = &t->mixture;
    int code = rsd_t5_zero_grad(t->model);
    for (uint64_t i = 0; i < m->batches && !code; i++) {
        code = rsd_dataset_batch_of(t->data, sample(t, batches, i), 1u << f, &b);
        if (!code && b->n)
            code = add_gradient(t, b, scale);
        m->batch_items[f] += code ? 0 : b->n;
    }
    if (code)
        return run_took(t->ctx, code, e);
    struct mat all;
    struct exec x = ctx_exec(t->ctx, e);
    if (!m->batch_items[f] || params_grads(t->model, &all, e))
        return e->code;
    m->norm[f] = sqrt(sum_squares(&x, all));
    return exec_status(&x);
}

/* A model that is no good yet may give no number: that is told by the first step, not here. */
static int measure(rsd_trainer *t, uint64_t batches, struct err *e) {
    rsd_mixture *m = &t->mixture;
    const rsd_batch *b = NULL;
    double weight = 0, sum = 0;
    int code = 0;
    m->batches = (uint64_t)t->config.share_batches < batches ? (uint64_t)t->config.share_batches : batches;
    for (uint64_t i = 0; i < m->batches && !code; i++) {
        code = rsd_dataset_batch(t->data, sample(t, batches, i), &b);
        weight += code ? 0 : rsd_loss_weight(b);
    }
    if (code)
        return run_took(t->ctx, code, e);
    for (int f = 0; f < RSD_FORMATS && !code && weight > 0; f++)
        if (m->items[f])
            code = measure_format(t, f, batches, 1 / weight, e);
    rsd_t5_zero_grad(t->model);
    if (code == RSD_ENUMERIC) {
        log_write(&t->ctx->log, LOG_WARN, "the gradients of the formats were not measured: %s", e->text);
        err_clear(e);
        for (int f = 0; f < RSD_FORMATS; f++)
            m->norm[f] = NAN;
        return 0;
    }
    for (int f = 0; f < RSD_FORMATS; f++)
        sum += isnan(m->norm[f]) ? 0 : m->norm[f];
    for (int f = 0; f < RSD_FORMATS && sum > 0; f++)
        m->gradient[f] = m->norm[f] / sum;
    return code;
}

static void put_number(struct json_out *o, const char *key, double v) {
    json_put_key(o, key);
    json_put_double(o, v);
}

static void put_format(struct json_out *o, const rsd_mixture *m, int f, double weight) {
    json_put_key(o, rsd_format_name(f));
    json_object(o);
    json_put_key(o, "items");
    json_put_int(o, (int64_t)m->items[f]);
    json_put_key(o, "targets");
    json_put_int(o, (int64_t)m->targets[f]);
    put_number(o, "weight", weight);
    put_number(o, "loss_share", m->loss[f]);
    json_put_key(o, "measured_items");
    json_put_int(o, (int64_t)m->batch_items[f]);
    put_number(o, "gradient_norm", m->norm[f]);
    put_number(o, "gradient_share", m->gradient[f]);
    json_end_object(o);
}

static int write_down(rsd_trainer *t, struct err *e) {
    struct str text;
    struct json_out o;
    char *path = run_path(t, e, "mixture.json");
    str_init(&text, &t->ctx->alloc);
    json_begin(&o, &text, 2);
    json_object(&o);
    json_put_key(&o, "measured_batches");
    json_put_int(&o, (int64_t)t->mixture.batches);
    json_put_key(&o, "formats");
    json_object(&o);
    for (int f = 0; f < RSD_FORMATS; f++)
        if (t->mixture.items[f])
            put_format(&o, &t->mixture, f, mixture_weight(t, f));
    json_end_object(&o);
    json_end_object(&o);
    str_addc(&text, '\n');
    int code = !path ? e->code : str_status(&text, e);
    code = code ? code : file_replace(&t->ctx->alloc, path, text.p, text.n, e);
    str_free(&text);
    mem_free(&t->ctx->alloc, path);
    return code;
}

int mixture_make(rsd_trainer *t, struct err *e) {
    rsd_mixture *m = &t->mixture;
    rsd_dataset_info info = {.size = sizeof info};
    int code = 0, formats = 0;
    double sum = 0;
    if (t->mixed)
        return 0;
    if ((code = rsd_dataset_info_get(t->data, &info)))
        return run_took(t->ctx, code, e);
    *m = (rsd_mixture){.size = sizeof *m};
    for (int f = 0; f < RSD_FORMATS; f++) {
        m->items[f] = info.items[f];
        m->targets[f] = info.targets[f];
        m->loss[f] = (double)info.targets[f] * mixture_weight(t, f);
        sum += m->loss[f];
        formats += info.items[f] > 0;
    }
    for (int f = 0; f < 8; f++) {
        m->loss[f] = sum > 0 ? m->loss[f] / sum : 0;
        m->norm[f] = m->gradient[f] = NAN;
    }
    if (t->at.step) { /* the run's own start is over, and written down */
        t->mixed = true;
        return 0;
    }
    if (formats > 1 && !t->config.fused && t->config.share_batches)
        code = measure(t, info.batches, e);
    code = code ? code : write_down(t, e);
    t->mixed = !code;
    return code;
}

int rsd_trainer_mixture(rsd_trainer *t, rsd_mixture *out) {
    struct err e = {0};
    if (!t)
        return RSD_EINVAL;
    if (!out || out->size < sizeof out->size)
        return ctx_fail(t->ctx, RSD_EINVAL, "rsd_trainer_mixture: set size of rsd_mixture to sizeof(rsd_mixture)");
    if (!mixture_make(t, &e)) {
        size_t size = out->size;
        memcpy(out, &t->mixture, size < sizeof *out ? size : sizeof *out);
        out->size = size;
    }
    return ctx_return(t->ctx, e.code, &e);
}
