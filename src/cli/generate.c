/* generate and score: what a student writes, and what it thinks of a given text. */
#include "cli/cli.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

/* Inputs laid end to end as the engine wants them. */
struct packed {
    int32_t *ids;
    uint32_t *offsets; /* [n+1] */
    size_t n, n_ids, cap_ids, cap_offsets;
};

static void packed_clear(struct packed *p) {
    p->n = p->n_ids = 0;
}

static void packed_free(struct packed *p) {
    mem_free(&mem_std, p->ids);
    mem_free(&mem_std, p->offsets);
}

/* Appends a text and the end token. */
static int packed_add(struct packed *p, rsd_tokenizer *tok, const char *text, size_t len, rsd_ctx *ctx, struct err *e) {
    const int32_t *ids = NULL;
    size_t n = 0;
    if (rsd_tokenizer_encode(tok, text, len, &ids, &n))
        return err_set(e, ERR_INVALID, "%s", rsd_ctx_error(ctx));
    if (n >= UINT32_MAX - p->n_ids - 1)
        return err_set(e, ERR_INVALID, "the text is too long");
    if (mem_reserve(&mem_std, &p->ids, &p->cap_ids, p->n_ids + n + 1, sizeof *p->ids, e) ||
        mem_reserve(&mem_std, &p->offsets, &p->cap_offsets, p->n + 2, sizeof *p->offsets, e))
        return e->code;
    if (n)
        memcpy(p->ids + p->n_ids, ids, n * sizeof *ids);
    p->ids[p->n_ids + n] = rsd_tokenizer_eos(tok);
    p->n_ids += n + 1;
    p->offsets[0] = 0;
    p->offsets[++p->n] = (uint32_t)p->n_ids;
    return 0;
}

/* ---- generate ---- */

struct output {
    int32_t *ids;
    float *logprobs;
    size_t n, cap, cap_logprobs;
    int finish;
};

struct writer {
    rsd_ctx *ctx;
    rsd_t5 *m;
    rsd_tokenizer *tok;
    rsd_generate_options o;
    struct arg_texts stop;
    bool logprobs;
};

/* A block of lines is read, generated for together, and answered in order. */
struct block {
    struct json **objs;  /* the lines; */
    struct output *outs; /* and what was written for each: `samples` outputs a line */
    struct packed inputs;
    size_t n, size, samples;
    struct err err;
};

static int on_token(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    struct block *b = user;
    struct output *o = &b->outs[input * b->samples + sample];
    o->finish = finish;
    if (mem_reserve(&mem_std, &o->ids, &o->cap, o->n + 1, sizeof *o->ids, &b->err) ||
        mem_reserve(&mem_std, &o->logprobs, &o->cap_logprobs, o->n + 1, sizeof *o->logprobs, &b->err))
        return 2;
    o->ids[o->n] = id;
    o->logprobs[o->n++] = logprob;
    return 0;
}

/* Where the first of the stop strings begins; t.n if none occurs. */
static size_t find_stop(const struct arg_texts *stop, struct text t) {
    size_t first = t.n;
    for (size_t k = 0; k < stop->n; k++) {
        size_t n = strlen(stop->v[k]);
        for (size_t i = 0; i < first && n <= t.n - i; i++)
            if (!memcmp(t.p + i, stop->v[k], n))
                first = i;
    }
    return first;
}

static int on_stop(void *user, size_t input, const int32_t *ids, size_t n) {
    struct writer *w = user;
    struct text t = {NULL, 0};
    (void)input;
    if (rsd_tokenizer_decode(w->tok, ids, n, &t.p, &t.n))
        return 0; /* ids that the tokenizer does not have are no text */
    return find_stop(&w->stop, t) < t.n;
}

static void put_output(struct stream *s, const struct writer *w, const struct output *out) {
    static const char *const names[] = {[RSD_FINISH_STOP] = "stop",
                                        [RSD_FINISH_LENGTH] = "length",
                                        [RSD_FINISH_MATCH] = "stop_string",
                                        [RSD_FINISH_REPEAT] = "repeat"};
    struct text t = {NULL, 0};
    double logprob = 0;
    size_t n = out->finish == RSD_FINISH_STOP ? out->n - 1 : out->n; /* the end token is not part of the text */
    json_put_key(&s->out, "text");
    if (rsd_tokenizer_decode(w->tok, out->ids, n, &t.p, &t.n)) {
        json_put_null(&s->out); /* an untrained model may write ids that the tokenizer does not have */
    } else {
        if (out->finish == RSD_FINISH_MATCH)
            t.n = find_stop(&w->stop, t);
        json_put_text(&s->out, t);
    }
    json_put_key(&s->out, "ids");
    json_array(&s->out);
    for (size_t k = 0; k < n; k++)
        json_put_int(&s->out, out->ids[k]);
    json_end_array(&s->out);
    if (w->logprobs) { /* one more than ids where the end token was written */
        json_put_key(&s->out, "logprobs");
        json_array(&s->out);
        for (size_t k = 0; k < out->n; k++)
            json_put_float(&s->out, out->logprobs[k]);
        json_end_array(&s->out);
    }
    for (size_t k = 0; k < out->n; k++)
        logprob += (double)out->logprobs[k];
    json_put_key(&s->out, "logprob");
    json_put_double(&s->out, logprob);
    json_put_key(&s->out, "finish");
    json_put_z(&s->out, names[out->finish]);
}

static int block_answer(struct block *b, struct stream *s, struct writer *w) {
    for (size_t i = 0; i < b->n * b->samples; i++)
        b->outs[i].n = 0;
    if (b->n && rsd_t5_generate(w->m, b->inputs.ids, b->inputs.offsets, b->n, &w->o, on_token, b))
        return b->err.code ? cli_err(&b->err) : cli_failed(w->ctx);
    for (size_t i = 0; i < b->n; i++) {
        stream_begin(s, b->objs[i]);
        if (b->samples == 1) {
            put_output(s, w, &b->outs[i]);
        } else {
            json_put_key(&s->out, "outputs");
            json_array(&s->out);
            for (size_t k = 0; k < b->samples; k++) {
                json_object(&s->out);
                put_output(s, w, &b->outs[i * b->samples + k]);
                json_end_object(&s->out);
            }
            json_end_array(&s->out);
        }
        stream_end(s);
        json_free(b->objs[i]);
    }
    w->o.first_input += b->n;
    b->n = 0;
    packed_clear(&b->inputs);
    return EXIT_OK;
}

static int generate_lines(struct stream *s, struct writer *w) {
    struct err e = {0};
    bool typed = isatty(STDIN_FILENO) && !strcmp(s->in.path, "standard input");
    struct block b = {.size = typed ? 1 : 8 * (size_t)w->o.batch, .samples = (size_t)w->o.n};
    struct json *obj = NULL;
    int more = 1, status = EXIT_OK;
    b.objs = mem_zero(&mem_std, b.size, sizeof *b.objs, &e);
    b.outs = mem_zero(&mem_std, b.size, b.samples * sizeof *b.outs, &e);
    if (e.code) {
        status = cli_err(&e);
        goto done;
    }
    while (status == EXIT_OK && !s->failed && more > 0) {
        more = stream_read(s, &obj, &e);
        const struct json *text = obj ? json_get(obj, "text") : NULL;
        bool bad = more > 0 && !(text && json_type(text) == JSON_TEXT);
        if (bad && obj)
            err_set(&s->why, ERR_FORMAT, "expected \"text\" (a string)");
        else if (more > 0 && !bad)
            bad = packed_add(&b.inputs, w->tok, json_text(text).p, json_text(text).n, w->ctx, &s->why) != 0;
        if (more > 0 && !bad)
            b.objs[b.n++] = obj;
        if (b.n == b.size || more <= 0 || bad) /* answers stay in order: what waits goes first */
            status = block_answer(&b, s, w);
        if (bad) {
            if (status == EXIT_OK)
                stream_bad(s, obj, s->why.text);
            json_free(obj);
        }
    }
    if (e.code)
        status = cli_err(&e);
done:
    for (size_t i = 0; b.outs && i < b.size * b.samples; i++) {
        mem_free(&mem_std, b.outs[i].ids);
        mem_free(&mem_std, b.outs[i].logprobs);
    }
    for (size_t i = 0; b.objs && i < b.n; i++)
        json_free(b.objs[i]);
    mem_free(&mem_std, b.objs);
    mem_free(&mem_std, b.outs);
    packed_free(&b.inputs);
    return status;
}

/* The command's options, as they stand in --help. */
struct choices {
    const char *model, *in, *early, *dtype;
    int64_t threads, max_tokens, batch, beam, n, top_k, seed, repeat;
    double temperature, top_p, length_penalty;
    bool sample, mask, logprobs, strict;
    struct arg_texts stop;
};

static int read_choices(struct choices *c, const struct verb *v, int argc, char **argv) {
    const struct arg args[] = {
        {"--model", ARG_TEXT, &c->model, "DIR", .help = "model directory with its tokenizer", .needed = true},
        {"--in", ARG_TEXT, &c->in, "FILE", .help = "lines to read; - is standard input"},
        {"--max-tokens", ARG_INT, &c->max_tokens, "N", .help = "of one output", .min = 1, .max = 100000},
        {"--beam", ARG_INT, &c->beam, "N", .help = "beam search with N hypotheses; 0: none", .min = 0, .max = 256},
        {"--length-penalty", ARG_NUMBER, &c->length_penalty, "X", .help = "of beam search: scores / length^X", .min = -100,
         .max = 100},
        {"--early-stopping", ARG_TEXT, &c->early, "heuristic|first|never", .help = "of beam search"},
        {"--sample", ARG_FLAG, &c->sample, "", .help = "draws tokens instead of taking the most probable"},
        {"--temperature", ARG_NUMBER, &c->temperature, "X", .help = "of --sample", .min = 0.001, .max = 1000},
        {"--top-k", ARG_INT, &c->top_k, "N", .help = "of --sample: among the N most probable; 0: all", .min = 0, .max = 1 << 24},
        {"--top-p", ARG_NUMBER, &c->top_p, "X", .help = "of --sample: among the most probable that reach X", .min = 1e-9,
         .max = 1},
        {"--seed", ARG_INT, &c->seed, "N", .help = "of --sample", .min = 0, .max = 9007199254740992.0},
        {"--n", ARG_INT, &c->n, "N", .help = "outputs of a line, with --sample or --beam", .min = 1, .max = 4096},
        {"--stop", ARG_TEXTS, &c->stop, "TEXT", .help = "ends an output, which is cut before it; may be given again"},
        {"--repeat-stop", ARG_INT, &c->repeat, "N", .help = "ends an output that repeats itself N times; 0: none", .min = 0,
         .max = 1024},
        {"--mask-unused", ARG_FLAG, &c->mask, "", .help = "never writes ids that the tokenizer does not have"},
        {"--logprobs", ARG_FLAG, &c->logprobs, "", .help = "adds the log-probability of each token"},
        {"--dtype", ARG_TEXT, &c->dtype, CLI_DTYPES, .help = "of the weights in memory; int8: linear layers and head in 8 bits"},
        {"--batch", ARG_INT, &c->batch, "N", .help = "sequences in flight", .min = 1, .max = 4096},
        {"--threads", ARG_INT, &c->threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
        {"--strict", ARG_FLAG, &c->strict, "", .help = "stop at the first bad line"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    const char *wrong = status != ARGS_GO_ON                 ? NULL
                        : c->sample && c->beam               ? "--sample and --beam exclude each other"
                        : c->n > 1 && !c->sample && !c->beam ? "--n needs --sample or --beam"
                        : c->beam && c->n > c->beam          ? "--n is above the hypotheses of --beam"
                        : c->repeat == 1                     ? "--repeat-stop takes 2 or more"
                                                             : NULL;
    if (!wrong)
        return status;
    fprintf(stderr, "reasondistill generate: %s (see reasondistill generate --help)\n", wrong);
    return EXIT_USAGE;
}

static void set_options(struct writer *w, const struct choices *c) {
    rsd_generate_options *o = &w->o;
    rsd_generate_options_init(o, sizeof *o);
    o->max_tokens = (int32_t)c->max_tokens;
    o->batch = (int32_t)c->batch;
    o->mode = c->beam ? RSD_BEAM : c->sample ? RSD_SAMPLE : RSD_GREEDY;
    o->n = (int32_t)c->n;
    o->temperature = c->temperature;
    o->top_p = c->top_p;
    o->top_k = (int32_t)c->top_k;
    o->seed = (uint64_t)c->seed;
    o->beams = c->beam ? (int32_t)c->beam : o->beams;
    o->length_penalty = c->length_penalty;
    o->early_stopping = *c->early == 'h' ? RSD_EARLY_HEURISTIC : *c->early == 'f' ? RSD_EARLY_FIRST : RSD_EARLY_NEVER;
    o->repeat_stop = (int32_t)c->repeat;
    o->vocab = c->mask ? rsd_tokenizer_size(w->tok) : 0;
    o->stop = c->stop.n ? on_stop : NULL;
    o->stop_user = w;
    w->stop = c->stop;
    w->logprobs = c->logprobs;
}

int verb_generate(const struct verb *v, int argc, char **argv) {
    struct choices c = {.in = "-",
                        .early = "heuristic",
                        .dtype = "stored",
                        .max_tokens = 256,
                        .batch = 32,
                        .n = 1,
                        .seed = 1,
                        .temperature = 1,
                        .top_p = 1,
                        .length_penalty = 1};
    int status = read_choices(&c, v, argc, argv);
    if (status != ARGS_GO_ON)
        return status;

    struct err e = {0};
    struct stream s = {0};
    struct writer w = {.ctx = cli_open(c.threads, c.seed)};
    if (!w.ctx)
        return EXIT_FAILED;
    status = cli_model_as(w.ctx, c.model, c.dtype, &w.m, &w.tok);
    if (status == EXIT_OK) {
        set_options(&w, &c);
        if (stream_open(&s, c.in, c.strict, &e)) {
            status = cli_err(&e);
        } else {
            int generated = generate_lines(&s, &w);
            status = stream_close(&s, v->name);
            status = generated ? generated : status;
        }
    }
    rsd_tokenizer_close(w.tok);
    rsd_t5_close(w.m);
    rsd_ctx_close(w.ctx);
    return status;
}

/* ---- score ---- */

static bool score_line(struct stream *s, rsd_ctx *ctx, rsd_t5 *m, rsd_tokenizer *tok, const struct json *obj, struct packed *in,
                       struct packed *out, float **logprobs, size_t *cap) {
    struct err e = {0};
    struct text input, target;
    if (json_need_text(obj, "input", &input, &e) || json_need_text(obj, "target", &target, &e))
        return stream_bad(s, obj, e.text);
    packed_clear(in);
    packed_clear(out);
    if (packed_add(in, tok, input.p, input.n, ctx, &e) || packed_add(out, tok, target.p, target.n, ctx, &e) ||
        mem_reserve(&mem_std, logprobs, cap, out->n_ids, sizeof **logprobs, &e))
        return stream_bad(s, obj, e.text);
    const rsd_batch b = {.size = sizeof b,
                         .n = 1,
                         .enc_ids = in->ids,
                         .enc_offsets = in->offsets,
                         .dec_ids = out->ids,
                         .dec_offsets = out->offsets};
    if (rsd_t5_forward(m, &b, RSD_INFER) || rsd_t5_logprobs(m, *logprobs, out->n_ids))
        return stream_bad(s, obj, rsd_ctx_error(ctx));
    double sum = 0;
    stream_begin(s, obj);
    json_put_key(&s->out, "ids");
    json_array(&s->out);
    for (size_t i = 0; i < out->n_ids; i++)
        json_put_int(&s->out, out->ids[i]);
    json_end_array(&s->out);
    json_put_key(&s->out, "logprobs");
    json_array(&s->out);
    for (size_t i = 0; i < out->n_ids; i++) {
        json_put_float(&s->out, (*logprobs)[i]);
        sum += (double)(*logprobs)[i];
    }
    json_end_array(&s->out);
    json_put_key(&s->out, "perplexity");
    json_put_double(&s->out, exp(-sum / (double)out->n_ids));
    stream_end(s);
    return true;
}

int verb_score(const struct verb *v, int argc, char **argv) {
    const char *model = NULL, *in = "-", *dtype = "stored";
    int64_t threads = 0;
    bool strict = false;
    const struct arg args[] = {
        {"--model", ARG_TEXT, &model, "DIR", .help = "model directory with its tokenizer", .needed = true},
        {"--in", ARG_TEXT, &in, "FILE", .help = "lines to read; - is standard input"},
        {"--dtype", ARG_TEXT, &dtype, CLI_DTYPES, .help = "of the weights in memory; int8: linear layers and head in 8 bits"},
        {"--threads", ARG_INT, &threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
        {"--strict", ARG_FLAG, &strict, "", .help = "stop at the first bad line"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;

    struct err e = {0};
    struct stream s = {0};
    struct packed input = {0}, target = {0};
    struct json *obj = NULL;
    float *logprobs = NULL;
    size_t cap = 0;
    rsd_t5 *m = NULL;
    rsd_tokenizer *tok = NULL;
    int more = 0;
    rsd_ctx *ctx = cli_open(threads, 1);
    if (!ctx)
        return EXIT_FAILED;
    status = cli_model_as(ctx, model, dtype, &m, &tok);
    if (status)
        goto done;
    if (stream_open(&s, in, strict, &e)) {
        status = cli_err(&e);
        goto done;
    }
    while (!s.failed && (more = stream_next(&s, &obj, &e)) > 0) {
        score_line(&s, ctx, m, tok, obj, &input, &target, &logprobs, &cap);
        json_free(obj);
    }
    status = stream_close(&s, v->name);
    if (more < 0)
        status = cli_err(&e);
done:
    mem_free(&mem_std, logprobs);
    packed_free(&input);
    packed_free(&target);
    rsd_tokenizer_close(tok);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
    return status;
}
