/* The public function of generation: options are checked, and the rules for the end of a sequence that all ways of generation
 * have in common. */
#include "base/options.h"
#include "t5/batch.h"
#include "t5/generation.h"

OPTIONS_NO_TAIL(rsd_generate_options, stop_user);

static const rsd_generate_options generate_defaults = {.size = sizeof(rsd_generate_options),
                                                       .max_tokens = 256,
                                                       .batch = 32,
                                                       .n = 1,
                                                       .temperature = 1,
                                                       .top_p = 1,
                                                       .beams = 4,
                                                       .repeat_span = 32,
                                                       .length_penalty = 1};

enum { MAX_BATCH = 4096, MAX_TOKENS = 1 << 20, MAX_BEAMS = 256, MAX_OUTPUTS = 1 << 20, MAX_SPAN = 1024 };

int rsd_generate_options_init(rsd_generate_options *o, size_t size) {
    return options_init(o, size, &generate_defaults, sizeof generate_defaults, NULL);
}

size_t generation_inputs(const struct generation *g, size_t most) {
    size_t end = g->next;
    while (end < g->n && end - g->next < most && (end == g->next || g->offsets[end + 1] - g->offsets[g->next] <= ENCODE_TOKENS))
        end++;
    return end - g->next;
}

int generation_not_finite(size_t input, size_t token, struct err *e) {
    return err_set(e, ERR_NUMERIC, "input %zu: the logits of token %zu are not finite numbers: the weights are damaged", input,
                   token);
}

/* The last tokens are `times` copies of one block of at most `span` ids. */
static bool repeats(const int32_t *ids, size_t n, size_t times, size_t span) {
    for (size_t block = 1; block <= span && block * times <= n; block++) {
        size_t same = 0, need = block * (times - 1);
        while (same < need && ids[n - 1 - same] == ids[n - 1 - same - block])
            same++;
        if (same == need)
            return true;
    }
    return false;
}

int generation_finish(const struct generation *g, size_t input, const int32_t *ids, size_t n, int *finish) {
    const rsd_generate_options *o = &g->o;
    *finish = RSD_RUNNING;
    if (ids[n - 1] == g->r.c->eos_id) {
        *finish = RSD_FINISH_STOP;
        return 0;
    }
    int rc = o->stop ? o->stop(o->stop_user, input, ids, n) : 0;
    if (rc == 1)
        *finish = RSD_FINISH_MATCH;
    else if (rc)
        return rc;
    else if (o->repeat_stop && repeats(ids, n, (size_t)o->repeat_stop, (size_t)o->repeat_span))
        *finish = RSD_FINISH_REPEAT;
    else if (n >= (size_t)o->max_tokens)
        *finish = RSD_FINISH_LENGTH;
    return 0;
}

static int outside(const char *what, double value, double least, double most, struct err *e) {
    return err_set(e, ERR_INVALID, "rsd_t5_generate: %s is %.9g: expected %.9g to %.9g", what, value, least, most);
}

static int check_options(const rsd_generate_options *o, size_t vocab, struct err *e) {
    const struct {
        const char *what;
        double value, least, most;
    } ranges[] = {
        {"max_tokens", o->max_tokens, 1, MAX_TOKENS},
        {"batch", o->batch, 1, MAX_BATCH},
        {"mode", o->mode, RSD_GREEDY, RSD_BEAM},
        {"n", o->n, 1,
         o->mode == RSD_GREEDY ? 1
         : o->mode == RSD_BEAM ? o->beams
                               : MAX_OUTPUTS},
        {"temperature", o->temperature, 1e-3, 1e3},
        {"top_p", o->top_p, 1e-9, 1},
        {"top_k", o->top_k, 0, INT32_MAX},
        {"beams", o->beams, 1, MAX_BEAMS},
        {"early_stopping", o->early_stopping, RSD_EARLY_HEURISTIC, RSD_EARLY_NEVER},
        {"length_penalty", o->length_penalty, -100, 100},
        {"repeat_stop", o->repeat_stop, o->repeat_stop ? 2 : 0, MAX_SPAN},
        {"repeat_span", o->repeat_span, 1, MAX_SPAN},
        {"vocab", o->vocab, 0, (double)vocab},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].least && ranges[i].value <= ranges[i].most))
            return outside(ranges[i].what, ranges[i].value, ranges[i].least, ranges[i].most, e);
    size_t ids = o->vocab ? (size_t)o->vocab : vocab;
    if (o->mode == RSD_BEAM && 2 * (size_t)o->beams > ids)
        return err_set(e, ERR_INVALID, "rsd_t5_generate: %d beams need a vocabulary of twice as many ids, not %zu", (int)o->beams,
                       ids);
    return 0;
}

int rsd_t5_generate(rsd_t5 *m, const int32_t *enc_ids, const uint32_t *enc_offsets, size_t n, const rsd_generate_options *options,
                    rsd_token_fn fn, void *user) {
    struct err e = {0};
    struct generation g = {.m = m, .ids = enc_ids, .offsets = enc_offsets, .n = n, .fn = fn, .user = user};
    if (options_read(&g.o, sizeof g.o, &generate_defaults, options, "rsd_generate_options", &e) ||
        check_options(&g.o, m->w->config.vocab, &e))
        return ctx_return(m->ctx, e.code, &e);
    if (!fn)
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_generate: no function");
    if (!n)
        return RSD_OK;
    if (batch_check_side("encoder", enc_ids, enc_offsets, n, m->w->config.vocab, &e))
        return ctx_return(m->ctx, e.code, &e);
    if (!g.o.vocab)
        g.o.vocab = (int32_t)m->w->config.vocab;
    if (!g.o.seed)
        g.o.seed = m->ctx->seed;
    arena_reset(&m->decoding);
    g.r = model_run(m, false, &e);
    g.r.acts = &m->decoding;
    int rc = g.o.mode == RSD_BEAM ? generation_beam(&g, &e) : generation_sample(&g, &e);
    decoding_close(&g.d);
    return e.code ? ctx_return(m->ctx, e.code, &e) : rc;
}
