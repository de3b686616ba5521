/* The student answers. Inputs go to the engine in windows, longest first: sequences of like length share their batches, those that
 * end make room for the next, and memory for outputs is that of one window. Results stand in the order of the file whatever the
 * order of the work. */
#include "core/rng.h"
#include "eval/evaluator.h"
#include "text/prompt.h"

#include <stdlib.h>
#include <string.h>

/* Some items on their way through the engine. Slot: place of an item in the window, in file order. */
struct window {
    struct evaluation *t;
    size_t first, n, samples, max_tokens;

    int32_t *ids; /* inputs in file order, [starts[slot] .. starts[slot+1]) */
    size_t n_ids, ids_cap;
    size_t *starts;
    struct slot_length *order; /* slots, longest first */
    size_t *items;             /* numbers of the items in that order */
    int32_t *sorted;           /* inputs in that order */
    uint32_t *offsets;
    int32_t *out; /* [n, samples, max_tokens], by place in the order */
    size_t *n_out;
    int *finish;
    uint64_t done; /* outputs, of all windows */
};

struct slot_length {
    size_t slot, length;
};

/* ---- inputs ---- */

/* Demonstrations of a task, and those of them that are not the question itself. */
static size_t count_demos(const rsd_evaluator *v, struct text task, struct text question, size_t *others) {
    size_t n = 0;
    *others = 0;
    for (size_t i = 0; i < v->demos.n && task.n; i++)
        if (text_eq(v->demos.v[i].task, task)) {
            n++;
            *others += !demo_is_same(question, v->demos.v[i].question);
        }
    return n;
}

/* Number of the k-th demonstration of a task, or of all. */
static size_t find_demo(const rsd_evaluator *v, struct text task, size_t k) {
    size_t at = task.n ? 0 : k;
    for (; task.n && (!text_eq(v->demos.v[at].task, task) || k--); at++)
        ;
    return at;
}

/* Demonstrations of item `index`, a function of (seed, index): from a random place on, the first that is neither drawn already
 * nor the question itself; of the item's own task, if there are enough. */
static int draw_demos(const rsd_evaluator *v, size_t index, const struct item *item, struct outcome *o, struct err *e) {
    const struct text question = item->question;
    size_t shots = (size_t)v->o.shots, others, own = count_demos(v, item->task, question, &others);
    const bool enough = own > shots && others >= shots;
    const struct text task = enough ? item->task : (struct text){"", 0};
    const size_t n = enough ? own : v->demos.n;
    struct rng r = rng_make(v->o.seed, index);
    for (o->n_demos = 0; o->n_demos < shots; o->n_demos++) {
        size_t k = (size_t)rng_below(&r, n), tries = 0, at = 0;
        for (; tries < n; tries++, k = (k + 1) % n) {
            at = find_demo(v, task, k);
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

int evaluation_prompt(struct evaluation *t, size_t index, struct str *text, struct err *e) {
    const rsd_evaluator *v = t->v;
    const struct item *item = &t->items.v[index];
    struct outcome *o = &t->outcomes[index];
    struct demo demos[MAX_SHOTS];
    if (format_has_demos(v->o.format)) {
        o->demos = arena_take(&t->items.texts, (size_t)v->o.shots, sizeof *o->demos, e);
        if (!o->demos || draw_demos(v, index, item, o, e))
            return e->code;
    }
    for (size_t i = 0; i < o->n_demos; i++)
        demos[i] = (struct demo){o->demos[i]->question, o->demos[i]->rationale, o->demos[i]->answer};
    str_clear(text);
    return prompt_input(text, v->o.format, item->question, demos, o->n_demos, e);
}

static int add_input(struct window *w, size_t slot, struct str *text, struct err *e) {
    rsd_evaluator *v = w->t->v;
    const int32_t *ids = NULL;
    size_t n = 0;
    if (evaluation_prompt(w->t, w->first + slot, text, e))
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

static int fill_window(struct window *w, struct err *e) {
    const struct allocator *a = &w->t->v->ctx->alloc;
    struct str text;
    str_init(&text, a);
    w->n_ids = 0;
    w->starts[0] = 0;
    for (size_t slot = 0; slot < w->n && !e->code; slot++) {
        add_input(w, slot, &text, e);
        w->order[slot] = (struct slot_length){slot, e->code ? 0 : w->starts[slot + 1] - w->starts[slot]};
    }
    memset(w->n_out, 0, w->n * w->samples * sizeof *w->n_out);
    str_free(&text);
    if (e->code)
        return e->code;
    if (w->n_ids > UINT32_MAX)
        return err_set(e, ERR_INVALID, "the inputs of %zu items have more than 2^32 tokens: choose a smaller batch", w->n);
    qsort(w->order, w->n, sizeof *w->order, longest_first);
    mem_free(a, w->sorted);
    w->sorted = mem_new(a, w->n_ids, sizeof *w->sorted, e);
    if (!w->sorted)
        return e->code;
    size_t at = 0;
    for (size_t i = 0; i < w->n; i++) {
        w->offsets[i] = (uint32_t)at;
        w->items[i] = w->first + w->order[i].slot;
        memcpy(w->sorted + at, w->ids + w->starts[w->order[i].slot], w->order[i].length * sizeof *w->ids);
        at += w->order[i].length;
    }
    w->offsets[w->n] = (uint32_t)at;
    return 0;
}

/* ---- outputs ---- */

static int take_token(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    struct window *w = user;
    struct evaluation *t = w->t;
    const size_t at = input * w->samples + sample;
    (void)logprob;
    if (w->n_out[at] < w->max_tokens)
        w->out[at * w->max_tokens + w->n_out[at]++] = id;
    w->finish[at] = finish;
    if (finish == RSD_RUNNING)
        return 0;
    w->done++;
    if (t->progress && w->done % w->samples == 0)
        t->stopped = t->progress(t->user, w->done / w->samples, t->items.n);
    return t->stopped;
}

/* Ids to text. The end token goes; rows of the model behind the tokenizer's last piece are read as the unknown piece. */
static int read_reply(struct window *w, size_t at, struct reply *r, struct err *e) {
    rsd_evaluator *v = w->t->v;
    size_t n = w->n_out[at], len = 0;
    int32_t *ids = w->out + at * w->max_tokens;
    const char *text = NULL;
    r->tokens = n;
    r->finish = w->finish[at];
    if (n && r->finish == RSD_FINISH_STOP)
        n--;
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= rsd_tokenizer_size(v->tok))
            ids[i] = rsd_tokenizer_unk(v->tok);
    int code = rsd_tokenizer_decode(v->tok, ids, n, &text, &len);
    if (code)
        return err_set(e, code, "%s", rsd_ctx_error(v->ctx));
    char *kept = arena_take(&w->t->items.texts, len + 1, 1, e);
    if (!kept)
        return e->code;
    memcpy(kept, text, len);
    kept[len] = 0;
    r->output = (struct text){kept, len};
    return 0;
}

static int read_outcome(struct window *w, size_t place, struct err *e) {
    const size_t index = w->items[place];
    struct outcome *o = &w->t->outcomes[index];
    o->replies = arena_take(&w->t->items.texts, w->samples, sizeof *o->replies, e);
    for (size_t s = 0; s < w->samples && !e->code; s++) {
        o->replies[s] = (struct reply){0};
        if (!read_reply(w, place * w->samples + s, &o->replies[s], e))
            evaluation_judge(w->t, index, &o->replies[s]);
    }
    return e->code ? e->code : evaluation_vote(w->t, o, e);
}

static int open_window(struct window *w, size_t n, struct err *e) {
    const struct allocator *a = &w->t->v->ctx->alloc;
    size_t outputs = 0, tokens = 0;
    if (!size_mul(n, w->samples, &outputs) || !size_mul(outputs, w->max_tokens, &tokens))
        return err_set(e, ERR_NOMEM, "out of memory: outputs of %zu items", n);
    w->starts = mem_new(a, n + 1, sizeof *w->starts, e);
    w->order = mem_new(a, n, sizeof *w->order, e);
    w->items = mem_new(a, n, sizeof *w->items, e);
    w->offsets = mem_new(a, n + 1, sizeof *w->offsets, e);
    w->out = mem_new(a, tokens, sizeof *w->out, e);
    w->n_out = mem_new(a, outputs, sizeof *w->n_out, e);
    w->finish = mem_new(a, outputs, sizeof *w->finish, e);
    return e->code;
}

static void close_window(struct window *w) {
    const struct allocator *a = &w->t->v->ctx->alloc;
    mem_free(a, w->ids);
    mem_free(a, w->starts);
    mem_free(a, w->order);
    mem_free(a, w->items);
    mem_free(a, w->sorted);
    mem_free(a, w->offsets);
    mem_free(a, w->out);
    mem_free(a, w->n_out);
    mem_free(a, w->finish);
}

static int answer_window(struct window *w, rsd_generate_options *g, struct err *e) {
    struct evaluation *t = w->t;
    if (fill_window(w, e))
        return e->code;
    g->first_input = w->first;
    int code = rsd_t5_generate(t->v->model, w->sorted, w->offsets, w->n, g, take_token, w);
    if (t->stopped)
        return t->stopped;
    if (code)
        return err_set(e, code, "%s", rsd_ctx_error(t->v->ctx));
    for (size_t place = 0; place < w->n; place++)
        if (read_outcome(w, place, e))
            return e->code;
    return t->v->o.perplexity ? evaluation_likelihood(t, w->items, w->sorted, w->offsets, w->n, e) : 0;
}

int evaluation_answer(struct evaluation *t, struct err *e) {
    const rsd_evaluator_options *o = &t->v->o;
    const size_t batches = o->samples < BATCHES_PER_WINDOW ? BATCHES_PER_WINDOW / (size_t)o->samples : 1;
    size_t most = (size_t)o->batch * batches, all = t->items.n;
    rsd_generate_options g;
    struct window w = {.t = t, .samples = (size_t)o->samples, .max_tokens = (size_t)o->max_tokens};
    rsd_generate_options_init(&g, sizeof g);
    g.max_tokens = o->max_tokens;
    g.batch = o->batch;
    if (o->temperature > 0) {
        g.mode = RSD_SAMPLE;
        g.n = o->samples;
        g.temperature = o->temperature;
        g.top_p = o->top_p;
        g.seed = o->seed;
    }
    if (most > all)
        most = all;
    int code = open_window(&w, most, e);
    for (w.first = 0; w.first < all && !code; w.first += w.n) {
        w.n = all - w.first < most ? all - w.first : most;
        code = answer_window(&w, &g, e);
    }
    close_window(&w);
    return code;
}
