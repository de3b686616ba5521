/* The evaluator: questions of a task become inputs of one format, the student answers greedily or in samples, and the answers are
 * compared with the gold ones. What the cache holds is not done again. */
#include "eval/evaluator.h"

#include "base/options.h"
#include "text/prompt.h"

#include <string.h>

OPTIONS_NO_TAIL(rsd_evaluator_options, label);

static const rsd_evaluator_options evaluator_defaults = {.size = sizeof(rsd_evaluator_options),
                                                         .seed = 1,
                                                         .format = RSD_FORMAT_ZS_COT,
                                                         .shots = 4,
                                                         .max_tokens = 256,
                                                         .batch = 32,
                                                         .top_p = 1,
                                                         .samples = 1,
                                                         .perplexity = 1};

int rsd_evaluator_options_init(rsd_evaluator_options *o, size_t size) {
    return options_init(o, size, &evaluator_defaults, sizeof evaluator_defaults, NULL);
}

static int check_options(const rsd_evaluator_options *o, struct err *e) {
    if (o->format < 0 || o->format >= RSD_FORMATS || o->reserved)
        return err_set(e, ERR_INVALID, "rsd_evaluator_options: format %d is none of RSD_FORMAT_..., or reserved is not 0",
                       (int)o->format);
    if (o->shots < 1 || o->shots > MAX_SHOTS || o->max_tokens < 1 || o->batch < 1 || o->limit < 0)
        return err_set(e, ERR_INVALID,
                       "rsd_evaluator_options: shots must be 1 to %d, max_tokens and batch at least 1, limit at least 0",
                       (int)MAX_SHOTS);
    if (!(o->temperature >= 0 && o->temperature <= 1000) || !(o->top_p > 0 && o->top_p <= 1) || o->samples < 1 ||
        o->samples > MAX_SAMPLES)
        return err_set(e, ERR_INVALID,
                       "rsd_evaluator_options: temperature must be 0 to 1000, top_p above 0 and up to 1, samples 1 to %d",
                       (int)MAX_SAMPLES);
    if (o->samples > 1 && !(o->temperature > 0))
        return err_set(e, ERR_INVALID, "rsd_evaluator_options: %d samples need a temperature above 0", (int)o->samples);
    for (size_t i = 0; i < MAX_MAJ; i++)
        if (o->maj[i] < 0 || o->maj[i] > o->samples || (i && o->maj[i] && !o->maj[i - 1]))
            return err_set(e, ERR_INVALID, "rsd_evaluator_options: maj[%zu] is %d: votes are counted of 1 to samples, here %d", i,
                           (int)o->maj[i], (int)o->samples);
    if (o->label && strchr(o->label, '/'))
        return err_set(e, ERR_INVALID, "rsd_evaluator_options: label \"%.60s\" is part of a file name and must have no /",
                       o->label);
    if (format_has_demos(o->format) && !o->demos)
        return err_set(e, ERR_INVALID, "rsd_evaluator_options: format %s needs a file of demonstrations (demos)",
                       rsd_format_name(o->format));
    return 0;
}

/* Demonstrations with reasoning need some. */
static void drop_unusable(struct items *s, int format) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (!format_has_reasoning(format) || s->v[i].rationale.n)
            s->v[n++] = s->v[i];
    s->n = n;
}

static int copy_string(rsd_evaluator *v, const char *from, char **to, const char **shown, struct err *e) {
    *shown = *to = from ? mem_strndup(&v->ctx->alloc, from, strlen(from), e) : NULL;
    return e->code;
}

static int open_demos(rsd_evaluator *v, struct err *e) {
    if (!format_has_demos(v->o.format)) {
        v->o.demos = NULL;
        return 0;
    }
    if (copy_string(v, v->o.demos, &v->demos_path, &v->o.demos, e) || items_read(&v->demos, NULL, v->demos_path, 0, e))
        return e->code;
    drop_unusable(&v->demos, v->o.format);
    if (v->demos.n <= (size_t)v->o.shots)
        return err_set(e, ERR_FORMAT, "%s: %zu usable demonstrations, more than %d are needed%s", v->demos_path, v->demos.n,
                       (int)v->o.shots, format_has_reasoning(v->o.format) ? " (with \"rationale\")" : "");
    return 0;
}

int rsd_evaluator_open(rsd_ctx *ctx, rsd_t5 *model, rsd_tokenizer *tok, const rsd_evaluator_options *options,
                       rsd_evaluator **out) {
    struct err e = {0};
    if (!ctx || !out)
        return RSD_EINVAL;
    *out = NULL;
    rsd_evaluator_options o;
    rsd_t5_info info = {.size = sizeof info};
    if (!model || !tok)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_evaluator_open: no model or no tokenizer");
    if (options_read(&o, sizeof o, &evaluator_defaults, options, "rsd_evaluator_options", &e) || check_options(&o, &e))
        return ctx_return(ctx, e.code, &e);
    int code = rsd_t5_info_get(model, &info);
    if (code)
        return code;
    if (rsd_tokenizer_size(tok) > info.vocab)
        return ctx_fail(ctx, RSD_EMISMATCH,
                        "the tokenizer has %d pieces, the model's vocabulary has %lld: they do not belong together",
                        (int)rsd_tokenizer_size(tok), (long long)info.vocab);
    rsd_evaluator *v = mem_zero(&ctx->alloc, 1, sizeof *v, &e);
    if (!v)
        return ctx_return(ctx, e.code, &e);
    v->ctx = ctx;
    v->model = model;
    v->tok = tok;
    v->o = o;
    items_init(&v->demos, &ctx->alloc);
    if (copy_string(v, o.cache, &v->cache, &v->o.cache, &e) || copy_string(v, o.label, &v->label, &v->o.label, &e) ||
        (v->cache && dir_make(v->cache, &e)) || open_demos(v, &e)) {
        rsd_evaluator_close(v);
        return ctx_return(ctx, e.code, &e);
    }
    *out = v;
    return RSD_OK;
}

void rsd_evaluator_close(rsd_evaluator *v) {
    if (!v)
        return;
    items_free(&v->demos);
    mem_free(&v->ctx->alloc, v->demos_path);
    mem_free(&v->ctx->alloc, v->cache);
    mem_free(&v->ctx->alloc, v->label);
    mem_free(&v->ctx->alloc, v);
}

/* ---- the whole ---- */

/* Computes what the cache does not have: figures in t->score, the file in *text if it is wanted. Non-zero without an error set: stopped. */
static int evaluate(struct evaluation *t, bool wanted, struct str *text, struct err *e) {
    const struct allocator *a = &t->v->ctx->alloc;
    const double begin = clock_seconds();
    t->outcomes = mem_zero(a, t->items.n, sizeof *t->outcomes, e);
    int code = t->outcomes ? evaluation_answer(t, e) : e->code;
    code = code ? code : evaluation_score(t, e);
    t->score.seconds = clock_seconds() - begin;
    if (!code && wanted)
        code = evaluation_write(t, text, e);
    mem_free(a, t->outcomes);
    return code;
}

/* The file of the result is begun before the work, which would be lost on a path that cannot be written. */
static int evaluate_into(struct evaluation *t, const char *out, struct err *e) {
    const struct allocator *a = &t->v->ctx->alloc;
    struct file_write files[2] = {{0}};
    bool begun[2] = {false};
    struct str text;
    str_init(&text, a);
    char *kept = NULL;
    int code = 0;
    if (t->v->cache && !(code = evaluation_content(t, e)) && !(code = cache_find(t, &text, e)) && !text.n)
        code = (kept = cache_path(t, e)) ? 0 : e->code;
    const bool reused = text.n > 0;
    const char *paths[2] = {kept, out};
    for (int i = 0; i < 2 && !code; i++)
        if (paths[i])
            begun[i] = !(code = file_begin(&files[i], a, paths[i], e));
    if (!code && !reused)
        code = evaluate(t, begun[0] || begun[1], &text, e);
    for (int i = 0; i < 2 && !code; i++)
        if (begun[i] && !(code = file_put(&files[i], text.p, text.n, e)))
            code = file_commit(&files[i], e);
    for (int i = 0; i < 2; i++)
        if (begun[i])
            file_abort(&files[i]);
    t->score.reused = reused;
    mem_free(a, kept);
    str_free(&text);
    return code;
}

int rsd_evaluator_file(rsd_evaluator *v, const char *task, const char *data, const char *out, rsd_progress_fn progress,
                       void *user, rsd_score *score) {
    struct err e = {0};
    if (!v)
        return RSD_EINVAL;
    if (!task || !data || (score && score->size < sizeof(size_t)))
        return ctx_fail(v->ctx, RSD_EINVAL, "rsd_evaluator_file: no task, no data, or rsd_score without its size");
    struct evaluation t = {.v = v, .task = task, .data = data, .progress = progress, .user = user};
    items_init(&t.items, &v->ctx->alloc);
    int code = items_read(&t.items, task, data, (size_t)v->o.limit, &e);
    code = code ? code : evaluate_into(&t, out, &e);
    items_free(&t.items);
    if (!code && score) {
        size_t size = score->size;
        memcpy(score, &t.score, size < sizeof t.score ? size : sizeof t.score);
        score->size = size;
    }
    return e.code ? ctx_return(v->ctx, e.code, &e) : code;
}
