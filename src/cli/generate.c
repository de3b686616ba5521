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
    size_t n, cap;
    double logprob;
    int finish;
};

/* A block of lines is read, generated for together, and answered in order. */
struct block {
    struct json **objs;  /* the lines; */
    struct output *outs; /* and what was written for each */
    struct packed inputs;
    size_t n, size;
    struct err err;
};

static int on_token(void *user, size_t input, int32_t id, float logprob, int finish) {
    struct block *b = user;
    struct output *o = &b->outs[input];
    o->logprob += (double)logprob;
    o->finish = finish;
    if (finish == RSD_FINISH_STOP)
        return 0; /* the end token is not part of the text */
    if (mem_reserve(&mem_std, &o->ids, &o->cap, o->n + 1, sizeof *o->ids, &b->err))
        return 1;
    o->ids[o->n++] = id;
    return 0;
}

static int block_answer(struct block *b, struct stream *s, rsd_ctx *ctx, rsd_t5 *m, rsd_tokenizer *tok,
                        const rsd_generate_options *o) {
    for (size_t i = 0; i < b->n; i++)
        b->outs[i].n = 0, b->outs[i].logprob = 0;
    if (b->n && rsd_t5_generate(m, b->inputs.ids, b->inputs.offsets, b->n, o, on_token, b))
        return b->err.code ? cli_err(&b->err) : cli_failed(ctx);
    for (size_t i = 0; i < b->n; i++) {
        const struct output *out = &b->outs[i];
        const char *text = NULL;
        size_t len = 0;
        stream_begin(s, b->objs[i]);
        json_put_key(&s->out, "text");
        if (rsd_tokenizer_decode(tok, out->ids, out->n, &text, &len))
            json_put_null(&s->out); /* an untrained model may write ids that the tokenizer does not have */
        else
            json_put_text(&s->out, (struct text){text, len});
        json_put_key(&s->out, "ids");
        json_array(&s->out);
        for (size_t k = 0; k < out->n; k++)
            json_put_int(&s->out, out->ids[k]);
        json_end_array(&s->out);
        json_put_key(&s->out, "logprob");
        json_put_double(&s->out, out->logprob);
        json_put_key(&s->out, "finish");
        json_put_z(&s->out, out->finish == RSD_FINISH_STOP ? "stop" : "length");
        stream_end(s);
        json_free(b->objs[i]);
    }
    b->n = 0;
    packed_clear(&b->inputs);
    return EXIT_OK;
}

static int generate_lines(struct stream *s, rsd_ctx *ctx, rsd_t5 *m, rsd_tokenizer *tok, const rsd_generate_options *o) {
    struct err e = {0};
    struct block b = {.size = isatty(STDIN_FILENO) && !strcmp(s->in.path, "standard input") ? 1 : 8 * (size_t)o->batch};
    struct json *obj = NULL;
    int more = 1, status = EXIT_OK;
    b.objs = mem_zero(&mem_std, b.size, sizeof *b.objs, &e);
    b.outs = mem_zero(&mem_std, b.size, sizeof *b.outs, &e);
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
            bad = packed_add(&b.inputs, tok, json_text(text).p, json_text(text).n, ctx, &s->why) != 0;
        if (more > 0 && !bad)
            b.objs[b.n++] = obj;
        if (b.n == b.size || more <= 0 || bad) /* answers stay in order: what waits goes first */
            status = block_answer(&b, s, ctx, m, tok, o);
        if (bad) {
            if (status == EXIT_OK)
                stream_bad(s, obj, s->why.text);
            json_free(obj);
        }
    }
    if (e.code)
        status = cli_err(&e);
done:
    for (size_t i = 0; b.outs && i < b.size; i++)
        mem_free(&mem_std, b.outs[i].ids);
    for (size_t i = 0; b.objs && i < b.n; i++)
        json_free(b.objs[i]);
    mem_free(&mem_std, b.objs);
    mem_free(&mem_std, b.outs);
    packed_free(&b.inputs);
    return status;
}

int verb_generate(const struct verb *v, int argc, char **argv) {
    const char *model = NULL, *in = "-";
    int64_t threads = 0, max_tokens = 256, batch = 32;
    bool strict = false;
    const struct arg args[] = {
        {"--model", ARG_TEXT, &model, "DIR", .help = "model directory with its tokenizer", .needed = true},
        {"--in", ARG_TEXT, &in, "FILE", .help = "lines to read; - is standard input"},
        {"--max-tokens", ARG_INT, &max_tokens, "N", .help = "of one output", .min = 1, .max = 100000},
        {"--batch", ARG_INT, &batch, "N", .help = "sequences in flight", .min = 1, .max = 4096},
        {"--threads", ARG_INT, &threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
        {"--strict", ARG_FLAG, &strict, "", .help = "stop at the first bad line"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;

    struct err e = {0};
    struct stream s = {0};
    rsd_t5 *m = NULL;
    rsd_tokenizer *tok = NULL;
    rsd_generate_options o;
    rsd_ctx *ctx = cli_open(threads, 1);
    if (!ctx)
        return EXIT_FAILED;
    rsd_generate_options_init(&o, sizeof o);
    o.max_tokens = (int32_t)max_tokens;
    o.batch = (int32_t)batch;
    status = cli_model(ctx, model, &m, &tok);
    if (status == EXIT_OK) {
        if (stream_open(&s, in, strict, &e)) {
            status = cli_err(&e);
        } else {
            int generated = generate_lines(&s, ctx, m, tok, &o);
            status = stream_close(&s, v->name);
            status = generated ? generated : status;
        }
    }
    rsd_tokenizer_close(tok);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
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
    const char *model = NULL, *in = "-";
    int64_t threads = 0;
    bool strict = false;
    const struct arg args[] = {
        {"--model", ARG_TEXT, &model, "DIR", .help = "model directory with its tokenizer", .needed = true},
        {"--in", ARG_TEXT, &in, "FILE", .help = "lines to read; - is standard input"},
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
    status = cli_model(ctx, model, &m, &tok);
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
