/* The trainer: one configuration, one run directory, and nothing that a kill can spoil.
 *
 * A step is a pure function of (weights, moments, step number): the data of batch i is a function of i, dropout masks of the
 * batch number, the learning rate of the step. So a checkpoint needs no more than weights, moments and a few counters, and a
 * run that is resumed computes the same bits as one that was never stopped. */
#include "train/run.h"

#include "core/hash.h"
#include "train/schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double SMOOTH = 0.9; /* of the displayed speed */

/* ---- opening ---- */

static int use_threads(rsd_trainer *t, struct err *e) {
    rsd_ctx *ctx = t->ctx;
    size_t n = (size_t)t->config.threads;
    struct pool *pool = NULL;
    if (!n || n == pool_threads(ctx->pool))
        return 0;
    if (ctx->blas == RSD_BLAS_LEAVE) {
        log_write(&ctx->log, LOG_WARN, "key \"threads\" is not used: the context leaves threads to the BLAS (RSD_BLAS_LEAVE)");
        return 0;
    }
    if (pool_open(&pool, &ctx->alloc, n, e))
        return e->code;
    pool_close(ctx->pool);
    ctx->pool = pool;
    return 0;
}

static int open_model(rsd_trainer *t, const char *checkpoint, struct err *e) {
    int code = rsd_tokenizer_open(t->ctx, t->config.tokenizer, &t->tok);
    if (!code)
        code = rsd_t5_open_as(t->ctx, checkpoint ? checkpoint : t->config.model, run_dtype(t), &t->model);
    for (size_t i = 0; i < t->config.freeze.n && !code; i++)
        code = rsd_t5_freeze(t->model, t->config.freeze.v[i], 1, NULL);
    if (!code)
        code = rsd_t5_set_recompute(t->model, (int)t->config.recompute);
    rsd_t5_info info = {.size = sizeof info};
    if (!code)
        code = rsd_t5_info_get(t->model, &info);
    if (code)
        return run_took(t->ctx, code, e);
    if (rsd_tokenizer_size(t->tok) > info.vocab)
        return err_set(e, ERR_MISMATCH,
                       "%s: the tokenizer has %d pieces, the model's vocabulary has %" PRId64 ": they do not belong together",
                       t->config.tokenizer, (int)rsd_tokenizer_size(t->tok), info.vocab);
    return 0;
}

static int hash_data(rsd_trainer *t, struct err *e) {
    char *path = NULL;
    struct str text;
    str_init(&text, &t->ctx->alloc);
    if (!file_join(&t->ctx->alloc, &path, e, t->config.data, "dataset.json") && !file_read(path, (size_t)64 << 20, &text, e)) {
        struct sha256 h;
        unsigned char digest[32];
        sha256_begin(&h);
        sha256_add(&h, str_z(&text), text.n);
        sha256_end(&h, digest);
        sha256_hex(digest, t->data_sha256);
    }
    str_free(&text);
    mem_free(&t->ctx->alloc, path);
    return e->code;
}

static int open_data(rsd_trainer *t, struct err *e) {
    const struct run_config *c = &t->config;
    rsd_dataset_options o;
    rsd_dataset_options_init(&o, sizeof o);
    memcpy(o.weights, c->formats, sizeof o.weights);
    o.seed = (uint64_t)c->seed;
    o.batch_tokens = (uint64_t)c->batch_tokens;
    o.max_enc = (int32_t)c->max_enc;
    o.max_dec = (int32_t)c->max_dec;
    o.mix = (int32_t)c->mix;
    o.soft = loss_choices_soft(&c->loss);
    rsd_dataset_info info = {.size = sizeof info};
    int code = rsd_dataset_open(t->ctx, c->data, t->tok, &o, &t->data);
    if (!code)
        code = rsd_dataset_info_get(t->data, &info);
    if (code)
        return run_took(t->ctx, code, e);
    if (!info.batches)
        return err_set(e, ERR_MISMATCH,
                       "%s: nothing to train on: %" PRIu64 " items are longer than max_enc %" PRId64 " or max_dec %" PRId64,
                       c->data, info.left_out, c->max_enc, c->max_dec);
    return hash_data(t, e);
}

static int open_learning(rsd_trainer *t, struct err *e) {
    const struct run_config *c = &t->config;
    rsd_optimizer_options o;
    rsd_optimizer_options_init(&o, sizeof o);
    o.kind = (int32_t)c->optimizer;
    o.beta1 = c->beta1;
    o.beta2 = c->beta2;
    o.eps = c->eps;
    o.decay = c->decay;
    o.clip = c->clip;
    o.clip_tensor = c->clip_tensor;
    o.update_clip = c->update_clip;
    o.decay_rate = c->decay_rate;
    o.momentum = c->momentum;
    o.seed = (uint64_t)c->seed;
    o.relative_step = (int32_t)c->relative_step;
    o.scale_parameter = (int32_t)c->scale_parameter;
    o.masters = (int32_t)c->masters;
    o.fused = (int32_t)c->fused;
    int code = loss_choices_open(t->ctx, &c->loss, &t->loss);
    if (!code)
        code = rsd_optimizer_open(t->ctx, t->model, &o, &t->opt);
    return code ? run_took(t->ctx, code, e) : 0;
}

static int open_run(rsd_trainer *t, const char *run_json, int resume, struct err *e) {
    const struct allocator *a = &t->ctx->alloc;
    char *checkpoint = NULL;
    bool holds = false;
    str_init(&t->json, a);
    t->at = (struct progress){.watched = NAN, .best = NAN};
    if (run_config_read(&t->config, a, run_json, e) || run_config_write(&t->config, &t->json, e))
        return e->code;
    if (!(t->dir = mem_strndup(a, t->config.out, strlen(t->config.out), e)) || file_join(a, &t->saves, e, t->dir, "checkpoints"))
        return e->code;
    if (run_dir_check(t, resume, &holds, e) || (holds && (run_dir_lock(t, e) || checkpoint_find(t, &checkpoint, e))))
        goto done;
    if (use_threads(t, e) || open_model(t, checkpoint, e) || open_data(t, e) || evals_check(t, e))
        goto done;
    if (!holds) {
        if (run_dir_lock(t, e) || run_dir_check(t, resume, &holds, e))
            goto done;
        if (holds && err_set(e, ERR_BUSY, "%s: another process has just started this run", t->dir))
            goto done;
    }
    t->at.stopped = t->config.patience && t->at.stale >= (uint64_t)t->config.patience;
    if (open_learning(t, e) || (checkpoint && checkpoint_restore(t, checkpoint, e)))
        goto done;
    if (!run_dir_cut(t, e))
        run_dir_write_config(t, e);
done:
    mem_free(a, checkpoint);
    return e->code;
}

int rsd_trainer_open(rsd_ctx *ctx, const char *run_json, int resume, rsd_trainer **out) {
    struct err e = {0};
    if (!ctx || !out)
        return RSD_EINVAL;
    *out = NULL;
    if (!run_json)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_trainer_open: no configuration file");
    rsd_trainer *t = mem_zero(&ctx->alloc, 1, sizeof *t, &e);
    if (!t)
        return ctx_return(ctx, e.code, &e);
    t->ctx = ctx;
    if (open_run(t, run_json, resume, &e)) {
        rsd_trainer_close(t);
        return ctx_return(ctx, e.code, &e);
    }
    *out = t;
    return RSD_OK;
}

void rsd_trainer_close(rsd_trainer *t) {
    if (!t)
        return;
    const struct allocator *a = &t->ctx->alloc;
    if (t->metrics_open)
        append_close(&t->metrics, NULL);
    rsd_optimizer_close(t->opt);
    rsd_loss_close(t->loss);
    rsd_dataset_close(t->data);
    rsd_t5_close(t->model);
    rsd_tokenizer_close(t->tok);
    mem_free(a, t->saves);
    mem_free(a, t->dir);
    str_free(&t->json);
    run_config_free(&t->config);
    mem_free(a, t);
}

/* ---- one step ---- */

static bool due(const rsd_trainer *t, int64_t every, bool last_too) {
    uint64_t step = t->at.step;
    return every > 0 && (step % (uint64_t)every == 0 || (last_too && step == (uint64_t)t->config.steps));
}

static uint64_t batch_tokens(const rsd_batch *b) {
    return (uint64_t)b->enc_offsets[b->n] + b->dec_offsets[b->n];
}

/* What one step adds up over its batches. */
struct sums {
    double weight, loss;
    uint64_t positions, correct, tokens;
    double shares[RSD_FORMATS]; /* target tokens of each format times its weight in the loss */
    double format_loss[RSD_FORMATS], format_weight[RSD_FORMATS];
};

static void add_shares(const rsd_trainer *t, const rsd_batch *b, struct sums *s) {
    for (size_t i = 0; i < b->n; i++)
        s->shares[b->formats[i]] += (double)(b->dec_offsets[i + 1] - b->dec_offsets[i]) * mixture_weight(t, b->formats[i]);
}

/* The weights of all batches of the step are known before the first is computed. *last: the last of them, still borrowed. */
static int sum_weights(rsd_trainer *t, const rsd_batch **last, struct sums *s) {
    for (int64_t i = 0; i < t->config.accumulate; i++) {
        int code = rsd_dataset_batch(t->data, t->at.position + (uint64_t)i, last);
        if (code)
            return code;
        s->weight += rsd_loss_weight(*last);
        s->tokens += batch_tokens(*last);
        add_shares(t, *last, s);
    }
    return RSD_OK;
}

/* With fused updates the backward pass is the whole update; when it fails, the weights may stand between two steps. */
static int learn_batch(rsd_trainer *t, const rsd_batch *b, uint64_t index, double scale, double lr, double *norm,
                       struct sums *s) {
    rsd_t5_info info = {.size = sizeof info};
    rsd_loss_result r = {.size = sizeof r};
    int code = rsd_t5_info_get(t->model, &info);
    if (!code)
        code = rsd_t5_set_dropout(t->model, isnan(t->config.dropout) ? info.dropout : t->config.dropout, (uint64_t)t->config.seed,
                                  index);
    if (!code)
        code = rsd_t5_forward(t->model, b, RSD_TRAIN);
    if (!code)
        code = rsd_loss_begin(t->loss, b, scale);
    if (!code)
        code = rsd_t5_head(t->model, rsd_loss_tile, t->loss);
    if (!code)
        code = rsd_loss_result_get(t->loss, &r);
    if (!code && t->config.fused) {
        code = rsd_optimizer_backward(t->opt, lr, norm);
        t->torn = code != 0;
    } else if (!code) {
        code = rsd_t5_backward(t->model);
    }
    s->loss += r.loss;
    for (int f = 0; f < RSD_FORMATS; f++) {
        s->format_loss[f] += r.format_loss[f];
        s->format_weight[f] += r.format_weight[f];
    }
    s->positions += r.positions;
    s->correct += r.correct;
    return code;
}

/* Data to weights. On any failure the gradients are gone and the weights are those of before. */
static int update(rsd_trainer *t, double lr, struct sums *s, double *norm) {
    const rsd_batch *b = NULL;
    int64_t n = t->config.accumulate;
    int code = sum_weights(t, &b, s);
    double scale = s->weight > 0 ? 1 / s->weight : 0;
    for (int64_t i = 0; i < n && !code; i++) {
        uint64_t index = t->at.position + (uint64_t)i;
        if (n > 1)
            code = rsd_dataset_batch(t->data, index, &b);
        if (!code)
            code = learn_batch(t, b, index, scale, lr, norm, s);
    }
    if (!code && !t->config.fused)
        code = rsd_optimizer_step(t->opt, lr, norm);
    if (code)
        rsd_t5_zero_grad(t->model);
    return code;
}

/* Where to go on from after an update that stopped half way. */
static int torn_step(rsd_trainer *t, int code) {
    struct err why = t->ctx->err;
    char from[64] = "the start: there is no checkpoint yet";
    if (t->any_saved)
        snprintf(from, sizeof from, "checkpoints/step-%" PRIu64 " with a lower \"lr\"", t->saved_step);
    return ctx_fail(t->ctx, code, "step %" PRIu64 ": %.300s; %.200s: resume from %s", t->at.step + 1, why.text, t->dir, from);
}

/* A step without numbers is passed over, a few times. */
static int skip(rsd_trainer *t) {
    struct err why = t->ctx->err;
    if (t->at.skipped >= (uint64_t)t->config.skips)
        return ctx_fail(t->ctx, RSD_ENUMERIC,
                        "step %" PRIu64 ", after %" PRIu64
                        " skipped in a row: %.300s; resume from the newest of %.80s with a lower \"lr\"",
                        t->at.step + 1, t->at.skipped, why.text, t->saves);
    log_write(&t->ctx->log, LOG_WARN, "step %" PRIu64 " is skipped: %s", t->at.step + 1, why.text);
    t->at.skipped++;
    return RSD_OK;
}

/* The evaluations of this step. A checkpoint that is there already, of a run that was stopped in the middle of them, is told. */
static int evaluate(rsd_trainer *t, struct err *e) {
    bool best = false;
    int code = evals_run(t, e);
    if (code || (t->saved && (code = checkpoint_note(t, e))))
        return code;
    if (t->saved || (code = checkpoint_is_among_best(t, &best, e)) || !best)
        return code;
    code = rsd_trainer_save(t);
    return code ? run_took(t->ctx, code, e) : 0;
}

static int log_step(rsd_trainer *t, const rsd_step *s, const struct sums *sums, struct err *e) {
    double sum = 0, shares[RSD_FORMATS], losses[RSD_FORMATS];
    for (int f = 0; f < RSD_FORMATS; f++)
        sum += sums->shares[f];
    for (int f = 0; f < RSD_FORMATS; f++)
        shares[f] = sum > 0 ? sums->shares[f] / sum : 0;
    for (int f = 0; f < RSD_FORMATS; f++) /* the sums are of the mean over all: scaled by one over the weight of all */
        losses[f] =
            sums->format_weight[f] > 0 && !isnan(s->loss) ? sums->format_loss[f] * sums->weight / sums->format_weight[f] : NAN;
    return run_dir_log_step(t, s, sums->weight, shares, losses, e);
}

/* Evaluations, then the checkpoint: a run that goes on from it lacks none. */
static int settle(rsd_trainer *t, struct err *e) {
    int code = evals_pending(t) ? evaluate(t, e) : 0;
    if (code || t->saved || !t->at.step || !due(t, t->config.save_every, false))
        return code;
    code = rsd_trainer_save(t);
    return code ? run_took(t->ctx, code, e) : 0;
}

static void tell_evaluations(const rsd_trainer *t, rsd_step *out) {
    out->watched = t->at.watched;
    out->best = t->at.best;
    out->best_step = t->at.best_step;
    out->stopped = t->at.stopped;
}

static void smooth(rsd_trainer *t, double seconds, double tokens) {
    bool first = t->mean_seconds <= 0;
    t->mean_seconds = first ? seconds : SMOOTH * t->mean_seconds + (1 - SMOOTH) * seconds;
    t->mean_tokens = first ? tokens : SMOOTH * t->mean_tokens + (1 - SMOOTH) * tokens;
}

/* The update, counted. */
static int learn(rsd_trainer *t, rsd_step *out, struct sums *s) {
    const struct run_config *c = &t->config;
    double begin = clock_seconds(), norm = NAN;
    struct schedule schedule = {(enum schedule_kind)c->schedule, c->lr, run_config_warmup(c), (uint64_t)c->steps};
    double lr = rsd_optimizer_rate(t->opt, schedule_rate(&schedule, t->at.step));
    int code = update(t, lr, s, &norm);
    if (t->torn)
        return torn_step(t, code);
    bool skipped = code == RSD_ENUMERIC;
    if (skipped)
        code = skip(t);
    if (code)
        return code;
    if (!skipped)
        t->at.skipped = 0;
    t->at.step++;
    t->at.position += (uint64_t)c->accumulate;
    t->at.updates = rsd_optimizer_steps(t->opt);
    t->at.watched = NAN;
    t->saved = false;

    out->step = t->at.step;
    out->loss = skipped ? NAN : s->loss;
    out->lr = lr;
    out->grad_norm = norm;
    out->accuracy = s->positions ? (double)s->correct / (double)s->positions : 0;
    out->tokens = s->tokens;
    out->seconds = clock_seconds() - begin;
    smooth(t, out->seconds, (double)s->tokens);
    out->tokens_per_second = t->mean_seconds > 0 ? t->mean_tokens / t->mean_seconds : 0;
    out->seconds_left = t->mean_seconds * (double)(out->steps - out->step);
    return RSD_OK;
}

static int step(rsd_trainer *t, rsd_step *out) {
    struct err e = {0};
    struct sums s = {0};
    int code = 0;
    if (t->torn)
        return ctx_fail(t->ctx, RSD_ESTATE, "rsd_trainer_step: the weights stand between two steps: open the run again");
    if (!t->at.step)
        code = mixture_make(t, &e);
    if (!code && evals_pending(t)) /* before the first step, or of a run that was stopped while it evaluated */
        code = settle(t, &e);
    if (code)
        return ctx_return(t->ctx, code, &e);
    if (t->at.step >= (uint64_t)t->config.steps || t->at.stopped)
        return RSD_END;
    if ((code = learn(t, out, &s)))
        return code;
    code = due(t, t->config.log_every, true) ? log_step(t, out, &s, &e) : 0;
    code = code ? code : settle(t, &e);
    return ctx_return(t->ctx, code, &e);
}

int rsd_trainer_step(rsd_trainer *t, rsd_step *out) {
    if (!t)
        return RSD_EINVAL;
    if (!out || out->size < sizeof out->size)
        return ctx_fail(t->ctx, RSD_EINVAL, "rsd_trainer_step: set size of rsd_step to sizeof(rsd_step)");
    rsd_step s = {.size = out->size, .step = t->at.step, .steps = (uint64_t)t->config.steps};
    int code = step(t, &s);
    tell_evaluations(t, &s);
    memcpy(out, &s, s.size < sizeof s ? s.size : sizeof s);
    return code;
}

void rsd_trainer_set_progress(rsd_trainer *t, rsd_progress_fn fn, void *user) {
    if (!t)
        return;
    t->progress = fn;
    t->progress_user = user;
}

int rsd_trainer_run(rsd_trainer *t, rsd_step_fn fn, void *user) {
    for (;;) {
        rsd_step s = {.size = sizeof s};
        int code = rsd_trainer_step(t, &s);
        if (code < 0)
            return code;
        if (code) { /* RSD_END, RSD_AGAIN */
            int saved = rsd_trainer_save(t);
            return saved < 0 ? saved : code == RSD_END ? RSD_OK : code;
        }
        int stop = fn ? fn(user, &s) : 0;
        if (stop) {
            code = rsd_trainer_save(t);
            return code < 0 ? code : stop;
        }
    }
}

int rsd_trainer_save(rsd_trainer *t) {
    struct err e = {0};
    if (!t)
        return RSD_EINVAL;
    if (t->saved)
        return RSD_OK;
    if (t->torn)
        return ctx_fail(t->ctx, RSD_ESTATE, "rsd_trainer_save: the weights stand between two steps: nothing is written");
    if (!append_sync(&t->metrics, &e))
        checkpoint_write(t, &e);
    return ctx_return(t->ctx, e.code, &e);
}

/* ---- looking ---- */

const char *rsd_trainer_config(const rsd_trainer *t) {
    return t ? str_z(&t->json) : "";
}

int rsd_trainer_print_config(rsd_ctx *ctx, const char *run_json, const char **json) {
    struct err e = {0};
    struct run_config c;
    if (!ctx || !json)
        return RSD_EINVAL;
    str_clear(&ctx->text);
    int code = run_json ? run_config_read(&c, &ctx->alloc, run_json, &e) : run_config_defaults(&c, &ctx->alloc, &e);
    if (!code)
        run_config_write(&c, &ctx->text, &e);
    run_config_free(&c);
    *json = e.code ? NULL : str_z(&ctx->text);
    return ctx_return(ctx, e.code, &e);
}

int rsd_trainer_explain_config(rsd_ctx *ctx, const char **text) {
    struct err e = {0};
    if (!ctx || !text)
        return RSD_EINVAL;
    str_clear(&ctx->text);
    run_config_explain(&ctx->text);
    *text = str_status(&ctx->text, &e) ? NULL : str_z(&ctx->text);
    return ctx_return(ctx, e.code, &e);
}

rsd_t5 *rsd_trainer_model(rsd_trainer *t) {
    return t ? t->model : NULL;
}

rsd_tokenizer *rsd_trainer_tokenizer(rsd_trainer *t) {
    return t ? t->tok : NULL;
}

const char *rsd_trainer_directory(const rsd_trainer *t) {
    return t ? t->dir : "";
}
