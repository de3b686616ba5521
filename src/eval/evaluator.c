/* The evaluator: questions of a task become inputs of one format, the student answers greedily, and the answers are compared
 * with the gold ones.
 *
 * Inputs go to the engine in windows, longest first: sequences of like length share their batches, those that end make room
 * for the next, and memory for outputs is that of one window. Results stand in the order of the file whatever the order of the
 * work. */
#include "base/ctx.h"
#include "base/options.h"
#include "core/rng.h"
#include "eval/outcome.h"
#include "text/prompt.h"

#include <stdlib.h>
#include <string.h>

OPTIONS_NO_TAIL(rsd_evaluator_options, reserved);

static const rsd_evaluator_options evaluator_defaults = {
    .size = sizeof(rsd_evaluator_options), .seed = 1, .format = RSD_FORMAT_ZS_COT, .shots = 4, .max_tokens = 256, .batch = 32};
enum { MAX_SHOTS = 64, BATCHES_PER_WINDOW = 16 };

struct rsd_evaluator {
    rsd_ctx *ctx;
    rsd_t5 *model;
    rsd_tokenizer *tok;
    rsd_evaluator_options o; /* o.demos is the evaluator's copy */
    char *demos_path;
    struct items demos;
};

/* Some items on their way through the engine. Slot: place of an item in the window, in file order. */
struct window {
    struct items *items;
    struct outcome *outcomes;
    size_t first, n;

    int32_t *ids; /* inputs in file order, [starts[slot] .. starts[slot+1]) */
    size_t n_ids, ids_cap;
    size_t *starts;
    struct slot_length *order; /* slots, longest first */
    int32_t *sorted;           /* inputs in that order */
    uint32_t *offsets;
    int32_t *out; /* [n, max_tokens], by place in the order */
    size_t *n_out;
    int *finish;

    size_t max_tokens, done;
    rsd_progress_fn progress;
    void *user;
    int stopped; /* what progress returned */
};

struct slot_length {
    size_t slot, length;
};

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

static int open_demos(rsd_evaluator *v, struct err *e) {
    const struct allocator *a = &v->ctx->alloc;
    if (!format_has_demos(v->o.format)) {
        v->o.demos = NULL;
        return 0;
    }
    v->demos_path = mem_strndup(a, v->o.demos, strlen(v->o.demos), e);
    v->o.demos = v->demos_path;
    if (!v->demos_path || items_read(&v->demos, NULL, v->demos_path, 0, e))
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
    if (open_demos(v, &e)) {
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
    mem_free(&v->ctx->alloc, v);
}

/* ---- inputs ---- */

/* Demonstrations of item `index`, a function of (seed, index): from a random place on, the first that is neither drawn already
 * nor the question itself. */
static int draw_demos(const rsd_evaluator *v, size_t index, struct text question, struct outcome *o, struct err *e) {
    size_t shots = (size_t)v->o.shots, n = v->demos.n;
    struct rng r = rng_make(v->o.seed, index);
    for (o->n_demos = 0; o->n_demos < shots; o->n_demos++) {
        size_t at = (size_t)rng_below(&r, n), tries = 0;
        for (; tries < n; tries++, at = (at + 1) % n) {
            bool taken = demo_is_same(question, v->demos.v[at].question);
            for (size_t j = 0; j < o->n_demos && !taken; j++)
                taken = o->demos[j] == &v->demos.v[at];
            if (!taken)
                break;
        }
        if (tries == n)
            return err_set(e, ERR_INVALID, "%s: fewer than %zu demonstrations are other than question %zu", v->demos_path, shots,
                           index);
        o->demos[o->n_demos] = &v->demos.v[at];
    }
    return 0;
}

/* The text that is put to the student. */
static int make_prompt(rsd_evaluator *v, struct window *w, size_t index, struct str *text, struct err *e) {
    const struct item *item = &w->items->v[index];
    struct outcome *o = &w->outcomes[index];
    struct demo demos[MAX_SHOTS];
    if (format_has_demos(v->o.format)) {
        o->demos = arena_take(&w->items->texts, (size_t)v->o.shots, sizeof *o->demos, e);
        if (!o->demos || draw_demos(v, index, item->question, o, e))
            return e->code;
    }
    for (size_t i = 0; i < o->n_demos; i++)
        demos[i] = (struct demo){o->demos[i]->question, o->demos[i]->rationale, o->demos[i]->answer};
    str_clear(text);
    return prompt_input(text, v->o.format, item->question, demos, o->n_demos, e);
}

static int add_input(rsd_evaluator *v, struct window *w, size_t slot, struct str *text, struct err *e) {
    const int32_t *ids = NULL;
    size_t n = 0;
    if (make_prompt(v, w, w->first + slot, text, e))
        return e->code;
    int code = rsd_tokenizer_encode(v->tok, str_z(text), text->n, &ids, &n);
    if (code)
        return err_set(e, code, "%s", rsd_ctx_error(v->ctx));
    if (mem_reserve(&v->ctx->alloc, &w->ids, &w->ids_cap, w->n_ids + n + 1, sizeof *w->ids, e))
        return e->code;
    if (n)
        memcpy(w->ids + w->n_ids, ids, n * sizeof *ids);
    w->n_ids += n;
    if (rsd_tokenizer_eos(v->tok) >= 0 || !n)
        w->ids[w->n_ids++] = rsd_tokenizer_eos(v->tok) >= 0 ? rsd_tokenizer_eos(v->tok) : rsd_tokenizer_unk(v->tok);
    w->starts[slot + 1] = w->n_ids;
    return 0;
}

static int longest_first(const void *a, const void *b) {
    const struct slot_length *x = a, *y = b;
    if (x->length != y->length)
        return x->length < y->length ? 1 : -1;
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static int fill_window(rsd_evaluator *v, struct window *w, struct err *e) {
    struct str text;
    str_init(&text, &v->ctx->alloc);
    w->n_ids = 0;
    w->starts[0] = 0;
    for (size_t slot = 0; slot < w->n && !e->code; slot++) {
        add_input(v, w, slot, &text, e);
        w->order[slot] = (struct slot_length){slot, e->code ? 0 : w->starts[slot + 1] - w->starts[slot]};
        w->n_out[slot] = 0;
    }
    str_free(&text);
    if (e->code)
        return e->code;
    if (w->n_ids > UINT32_MAX)
        return err_set(e, ERR_INVALID, "the inputs of %zu items have more than 2^32 tokens: choose a smaller batch", w->n);
    qsort(w->order, w->n, sizeof *w->order, longest_first);
    mem_free(&v->ctx->alloc, w->sorted);
    w->sorted = mem_new(&v->ctx->alloc, w->n_ids, sizeof *w->sorted, e);
    if (!w->sorted)
        return e->code;
    size_t at = 0;
    for (size_t i = 0; i < w->n; i++) {
        w->offsets[i] = (uint32_t)at;
        memcpy(w->sorted + at, w->ids + w->starts[w->order[i].slot], w->order[i].length * sizeof *w->ids);
        at += w->order[i].length;
    }
    w->offsets[w->n] = (uint32_t)at;
    return 0;
}

/* ---- outputs ---- */

static int take_token(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    struct window *w = user;
    (void)sample, (void)logprob;
    if (w->n_out[input] < w->max_tokens)
        w->out[input * w->max_tokens + w->n_out[input]++] = id;
    w->finish[input] = finish;
    if (finish == RSD_RUNNING)
        return 0;
    w->done++;
    if (w->progress)
        w->stopped = w->progress(w->user, w->done, w->items->n);
    return w->stopped;
}

/* Ids to text. The end token goes; rows of the model behind the tokenizer's last piece are read as the unknown piece. */
static int read_output(rsd_evaluator *v, struct window *w, size_t place, struct err *e) {
    size_t slot = w->order[place].slot, n = w->n_out[place];
    int32_t *ids = w->out + place * w->max_tokens;
    struct outcome *o = &w->outcomes[w->first + slot];
    const char *text = NULL;
    size_t len = 0;
    o->tokens = n;
    o->finish = w->finish[place];
    if (n && o->finish == RSD_FINISH_STOP)
        n--;
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= rsd_tokenizer_size(v->tok))
            ids[i] = rsd_tokenizer_unk(v->tok);
    int code = rsd_tokenizer_decode(v->tok, ids, n, &text, &len);
    if (code)
        return err_set(e, code, "%s", rsd_ctx_error(v->ctx));
    char *kept = arena_take(&w->items->texts, len + 1, 1, e);
    if (!kept)
        return e->code;
    memcpy(kept, text, len);
    kept[len] = 0;
    o->output = (struct text){kept, len};
    outcome_judge(o, &w->items->v[w->first + slot]);
    return 0;
}

static int open_window(rsd_evaluator *v, struct window *w, size_t n, struct err *e) {
    const struct allocator *a = &v->ctx->alloc;
    size_t out = 0;
    w->max_tokens = (size_t)v->o.max_tokens;
    if (!size_mul(n, w->max_tokens, &out))
        return err_set(e, ERR_NOMEM, "out of memory: outputs of %zu items", n);
    w->starts = mem_new(a, n + 1, sizeof *w->starts, e);
    w->order = mem_new(a, n, sizeof *w->order, e);
    w->offsets = mem_new(a, n + 1, sizeof *w->offsets, e);
    w->out = mem_new(a, out, sizeof *w->out, e);
    w->n_out = mem_new(a, n, sizeof *w->n_out, e);
    w->finish = mem_new(a, n, sizeof *w->finish, e);
    return e->code;
}

static void close_window(rsd_evaluator *v, struct window *w) {
    const struct allocator *a = &v->ctx->alloc;
    mem_free(a, w->ids);
    mem_free(a, w->starts);
    mem_free(a, w->order);
    mem_free(a, w->sorted);
    mem_free(a, w->offsets);
    mem_free(a, w->out);
    mem_free(a, w->n_out);
    mem_free(a, w->finish);
}

/* Non-zero without an error set: the progress function stopped it. */
static int answer_all(rsd_evaluator *v, struct window *w, struct err *e) {
    size_t most = (size_t)v->o.batch * BATCHES_PER_WINDOW, all = w->items->n;
    rsd_generate_options g;
    rsd_generate_options_init(&g, sizeof g);
    g.max_tokens = v->o.max_tokens;
    g.batch = v->o.batch;
    if (most > all)
        most = all;
    if (open_window(v, w, most, e))
        return e->code;
    for (w->first = 0; w->first < all; w->first += w->n) {
        w->n = all - w->first < most ? all - w->first : most;
        if (fill_window(v, w, e))
            return e->code;
        int code = rsd_t5_generate(v->model, w->sorted, w->offsets, w->n, &g, take_token, w);
        if (w->stopped)
            return w->stopped;
        if (code)
            return err_set(e, code, "%s", rsd_ctx_error(v->ctx));
        for (size_t place = 0; place < w->n; place++)
            if (read_output(v, w, place, e))
                return e->code;
    }
    return 0;
}

/* ---- the whole ---- */

static int write_all(rsd_evaluator *v, const struct window *w, const char *task, const char *data, const rsd_score *score,
                     struct file_write *f, struct err *e) {
    struct str text;
    str_init(&text, &v->ctx->alloc);
    if (!outcome_write(w->items, w->outcomes, task, data, &v->o, score, &text, e) && !file_put(f, text.p, text.n, e))
        file_commit(f, e);
    str_free(&text);
    return e->code;
}

int rsd_evaluator_file(rsd_evaluator *v, const char *task, const char *data, const char *out, rsd_progress_fn progress,
                       void *user, rsd_score *score) {
    struct err e = {0};
    if (!v)
        return RSD_EINVAL;
    if (!task || !data || (score && score->size < sizeof(size_t)))
        return ctx_fail(v->ctx, RSD_EINVAL, "rsd_evaluator_file: no task, no data, or rsd_score without its size");
    const struct allocator *a = &v->ctx->alloc;
    struct items items;
    struct file_write f = {0};
    bool writing = false;
    rsd_score sum = {.size = sizeof sum};
    double begin = clock_seconds();
    items_init(&items, a);
    struct window w = {.items = &items, .progress = progress, .user = user};
    int code = items_read(&items, task, data, (size_t)v->o.limit, &e);
    if (!code && out) /* before the work, which would be lost on a path that cannot be written */
        writing = !(code = file_begin(&f, a, out, &e));
    if (!code && !(w.outcomes = mem_zero(a, items.n, sizeof *w.outcomes, &e)))
        code = e.code;
    if (!code)
        code = answer_all(v, &w, &e);
    if (!code)
        code = outcome_score(&items, w.outcomes, a, &sum, &e);
    sum.seconds = clock_seconds() - begin;
    if (!code && writing)
        code = write_all(v, &w, task, data, &sum, &f, &e);
    if (writing)
        file_abort(&f);
    close_window(v, &w);
    mem_free(a, w.outcomes);
    items_free(&items);
    if (!code && score) {
        size_t size = score->size;
        memcpy(score, &sum, size < sizeof sum ? size : sizeof sum);
        score->size = size;
    }
    return e.code ? ctx_return(v->ctx, e.code, &e) : code;
}
