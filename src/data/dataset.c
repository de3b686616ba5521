/* The data set handle: opens a folder, finds the epoch and the place in it that a batch number means, and fills packed arrays. */
#include "align/align.h"
#include "base/ctx.h"
#include "base/options.h"
#include "data/overlap.h"
#include "data/plan.h"
#include "text/prompt.h"

#include <math.h>
#include <string.h>

OPTIONS_NO_TAIL(rsd_dataset_options, mix);
static const rsd_dataset_options defaults = {
    .size = sizeof(rsd_dataset_options), .seed = 1, .batch_tokens = 4096, .world = 1, .max_enc = 1024, .max_dec = 512, .soft = 1};

int rsd_dataset_options_init(rsd_dataset_options *o, size_t size) {
    return options_init(o, size, &defaults, sizeof defaults, NULL);
}

struct rsd_dataset {
    rsd_ctx *ctx;
    rsd_tokenizer *tok;
    char *path;
    struct corpus corpus;
    struct parts parts;
    struct plan_options order;
    uint64_t rank, world;
    bool soft;
    struct plan plan; /* of one epoch */
    uint64_t *starts; /* [n_starts] number of the first batch of each epoch known so far, and of the one behind */
    size_t n_starts, cap_starts;
    rsd_dataset_info info;

    struct ids enc, dec, row_ids;
    uint32_t *enc_offsets, *dec_offsets, *row_offsets;
    float *row_probs, *chunk_logprobs, *top_probs, *weights;
    const float *kind_weights; /* NULL: 1 for all kinds */
    uint32_t *chunk_begin, *chunk_end;
    size_t n_chunks, top_k; /* top_k: entries of a row of top_probs; 0 where the shard has no chunks */
    uint8_t *kinds, *formats;
    int8_t *signs;
    struct {
        size_t enc_offsets, dec_offsets, row_offsets, row_probs, kinds, formats, signs, chunk_begin, chunk_end, chunk_logprobs,
            top_probs, weights;
    } cap;
    struct shard_buffer buffer;
    rsd_batch batch;
    struct str input, target;
};

/* ---- opening ---- */

static int read_weights(rsd_dataset *d, const rsd_dataset_options *o, struct err *e) {
    double sum = 0;
    uint32_t used = 0;
    bool none = true;
    for (size_t f = 0; f < sizeof o->weights / sizeof *o->weights; f++) {
        if (!(o->weights[f] >= 0) || isinf(o->weights[f]) || (f >= RSD_FORMATS && o->weights[f] != 0))
            return err_set(e, ERR_INVALID, "weights[%zu] is %g, expected a number of at least 0%s", f, o->weights[f],
                           f >= RSD_FORMATS ? ", and 0 where there is no format" : "");
        none &= o->weights[f] == 0;
    }
    for (int f = 0; f < RSD_FORMATS; f++) {
        bool built = d->corpus.recipe.formats & 1u << f;
        double w = none ? (double)built : o->weights[f];
        if (w > 0 && !built)
            return err_set(e, ERR_INVALID, "the data set was not built for format %s: build it with --formats %s",
                           rsd_format_name(f), rsd_format_name(f));
        d->order.weights[f] = w;
        used |= w > 0 ? 1u << f : 0;
        sum += w;
    }
    for (int f = 0; f < RSD_FORMATS; f++)
        d->order.weights[f] /= sum;
    return corpus_check(&d->corpus, used, e);
}

static int check_options(const rsd_dataset_options *o, struct err *e) {
    if (!o->world || o->rank >= o->world)
        return err_set(e, ERR_INVALID, "rank %u of world %u is not possible", (unsigned)o->rank, (unsigned)o->world);
    if (!o->batch_tokens || o->batch_tokens > INT32_MAX || o->max_enc < 1 || o->max_dec < 1)
        return err_set(e, ERR_INVALID, "batch_tokens, max_enc and max_dec must be from 1 to 2^31-1");
    if (o->mix & ~1)
        return err_set(e, ERR_INVALID, "mix must be RSD_MIX_ITEMS or RSD_MIX_TARGETS");
    return 0;
}

static int go_to_epoch(rsd_dataset *d, uint64_t epoch, struct err *e) {
    if (d->plan.n_batches && d->plan.epoch == epoch)
        return 0;
    int code = plan_make(&d->plan, &d->parts, &d->order, epoch, e);
    if (!code && epoch + 1 == d->n_starts) {
        code = mem_reserve(&d->ctx->alloc, &d->starts, &d->cap_starts, d->n_starts + 1, sizeof *d->starts, e);
        if (!code)
            d->starts[d->n_starts++] = d->starts[epoch] + d->plan.n_batches;
    }
    return code;
}

static int open_dataset(rsd_dataset *d, const char *path, const rsd_dataset_options *o, struct err *e) {
    int code = check_options(o, e);
    if (!code && !(d->path = mem_strndup(&d->ctx->alloc, path, strlen(path), e)))
        code = ERR_NOMEM;
    code = code ? code : corpus_open(&d->corpus, &d->ctx->alloc, path, e);
    if (code)
        return code;
    const char *hash = d->corpus.recipe.tokenizer;
    if (hash[0] && strcmp(hash, rsd_tokenizer_hash(d->tok)) != 0)
        return err_set(e, ERR_MISMATCH, "%s: aligned for tokenizer %.12s..., this one is %.12s...: align again with %s", path,
                       hash, rsd_tokenizer_hash(d->tok), rsd_tokenizer_path(d->tok));
    hash = d->corpus.shard ? shard_about(d->corpus.shard)->tokenizer : "";
    if (hash[0] && strcmp(hash, rsd_tokenizer_hash(d->tok)) != 0)
        return err_set(e, ERR_MISMATCH,
                       "%s/aligned.rsd: aligned for tokenizer %.12s..., the data set is for %.12s...: build it again", path, hash,
                       rsd_tokenizer_hash(d->tok));
    if (rsd_tokenizer_eos(d->tok) < 0)
        return err_set(e, ERR_UNSUPPORTED, "the tokenizer has no end token");
    parts_init(&d->parts, d->ctx, d->tok, &d->corpus);
    d->order.by_targets = o->mix == RSD_MIX_TARGETS;
    d->order.seed = o->seed;
    d->order.batch_tokens = o->batch_tokens;
    d->order.max_enc = (size_t)o->max_enc;
    d->order.max_dec = (size_t)o->max_dec;
    d->rank = o->rank;
    d->world = o->world;
    d->soft = o->soft != 0;
    const struct shard_about *about = d->corpus.shard ? shard_about(d->corpus.shard) : NULL;
    d->top_k = about && about->chunks && d->soft ? (size_t)about->top_k + 1 : 0;
    for (size_t k = 0; about && d->soft && k < sizeof about->kind_weights / sizeof *about->kind_weights; k++)
        d->kind_weights = about->kind_weights[k] != 1 ? about->kind_weights : d->kind_weights;
    if ((code = mem_reserve(&d->ctx->alloc, &d->starts, &d->cap_starts, 1, sizeof *d->starts, e)))
        return code;
    d->starts[d->n_starts++] = 0;
    code = read_weights(d, o, e);
    code = code ? code : go_to_epoch(d, 0, e);
    if (code)
        return err_within(e, "%s", path);
    d->info = (rsd_dataset_info){.size = sizeof d->info,
                                 .questions = d->corpus.questions.n,
                                 .replies = d->corpus.n_replies,
                                 .left_out = d->plan.left_out,
                                 .batches = d->plan.n_batches};
    memcpy(d->info.items, d->plan.items, sizeof d->plan.items);
    memcpy(d->info.inputs, d->plan.inputs, sizeof d->plan.inputs);
    memcpy(d->info.targets, d->plan.targets, sizeof d->plan.targets);
    return 0;
}

int rsd_dataset_open(rsd_ctx *ctx, const char *path, rsd_tokenizer *tok, const rsd_dataset_options *options, rsd_dataset **out) {
    if (!ctx)
        return RSD_EINVAL;
    if (!path || !tok || !out)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_open: path, tok and out must not be NULL");
    *out = NULL;
    struct err e = {0};
    rsd_dataset_options o;
    int code = options_read(&o, sizeof o, &defaults, options, "rsd_dataset_options", &e);
    if (code)
        return ctx_return(ctx, code, &e);
    rsd_dataset *d = mem_zero(&ctx->alloc, 1, sizeof *d, &e);
    if (!d)
        return ctx_return(ctx, e.code, &e);
    d->ctx = ctx;
    d->tok = tok;
    d->plan.a = d->buffer.a = d->enc.a = d->dec.a = d->row_ids.a = &ctx->alloc;
    str_init(&d->input, &ctx->alloc);
    str_init(&d->target, &ctx->alloc);
    if ((code = open_dataset(d, path, &o, &e))) {
        rsd_dataset_close(d);
        return ctx_return(ctx, code, &e);
    }
    *out = d;
    return RSD_OK;
}

void rsd_dataset_close(rsd_dataset *d) {
    if (!d)
        return;
    const struct allocator *a = &d->ctx->alloc;
    plan_free(&d->plan);
    parts_free(&d->parts);
    corpus_close(&d->corpus);
    shard_buffer_free(&d->buffer);
    str_free(&d->input);
    str_free(&d->target);
    void *const blocks[] = {d->path,        d->starts,      d->enc.p,          d->dec.p,     d->row_ids.p, d->enc_offsets,
                            d->dec_offsets, d->row_offsets, d->row_probs,      d->kinds,     d->formats,   d->signs,
                            d->chunk_begin, d->chunk_end,   d->chunk_logprobs, d->top_probs, d->weights};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        mem_free(a, blocks[i]);
    mem_free(a, d);
}

int rsd_dataset_info_get(rsd_dataset *d, rsd_dataset_info *out) {
    if (!d)
        return RSD_EINVAL;
    if (!out || out->size < sizeof out->size)
        return ctx_fail(d->ctx, RSD_EINVAL, "rsd_dataset_info_get: out->size must be set");
    size_t size = out->size < sizeof *out ? out->size : sizeof *out;
    memcpy((char *)out + sizeof out->size, (char *)&d->info + sizeof out->size, size - sizeof out->size);
    return RSD_OK;
}

/* ---- batches ---- */

/* For `dec` positions: no more chunks than these. */
static int room_for_chunks(rsd_dataset *d, size_t dec, struct err *e) {
    const struct allocator *a = &d->ctx->alloc;
    size_t cells;
    if (!size_mul(dec, d->top_k, &cells))
        return err_set(e, ERR_NOMEM, "out of memory: %zu rows of %zu probabilities", dec, d->top_k);
    int code = mem_reserve(a, &d->chunk_begin, &d->cap.chunk_begin, dec + 1, sizeof *d->chunk_begin, e);
    code = code ? code : mem_reserve(a, &d->chunk_end, &d->cap.chunk_end, dec + 1, sizeof *d->chunk_end, e);
    code = code ? code : mem_reserve(a, &d->chunk_logprobs, &d->cap.chunk_logprobs, dec + 1, sizeof *d->chunk_logprobs, e);
    return code ? code : mem_reserve(a, &d->top_probs, &d->cap.top_probs, cells, sizeof *d->top_probs, e);
}

static int room(rsd_dataset *d, size_t n, size_t dec, size_t rows, struct err *e) {
    const struct allocator *a = &d->ctx->alloc;
    int code = mem_reserve(a, &d->enc_offsets, &d->cap.enc_offsets, n + 1, sizeof *d->enc_offsets, e);
    code = code ? code : mem_reserve(a, &d->dec_offsets, &d->cap.dec_offsets, n + 1, sizeof *d->dec_offsets, e);
    code = code ? code : mem_reserve(a, &d->formats, &d->cap.formats, n, sizeof *d->formats, e);
    code = code ? code : mem_reserve(a, &d->signs, &d->cap.signs, n, sizeof *d->signs, e);
    code = code ? code : mem_reserve(a, &d->dec.p, &d->dec.cap, dec, sizeof *d->dec.p, e);
    code = code ? code : mem_reserve(a, &d->row_offsets, &d->cap.row_offsets, dec + 1, sizeof *d->row_offsets, e);
    code = code ? code : mem_reserve(a, &d->kinds, &d->cap.kinds, dec, sizeof *d->kinds, e);
    code = code ? code : mem_reserve(a, &d->weights, &d->cap.weights, dec, sizeof *d->weights, e);
    code = code || !d->top_k ? code : room_for_chunks(d, dec, e);
    code = code ? code : mem_reserve(a, &d->row_ids.p, &d->row_ids.cap, rows, sizeof *d->row_ids.p, e);
    return code ? code : mem_reserve(a, &d->row_probs, &d->cap.row_probs, rows, sizeof *d->row_probs, e);
}

/* Hard rows for the decoder ids from `first` on. */
static int harden(rsd_dataset *d, size_t first, size_t seq, struct err *e) {
    size_t n = d->dec.n - first;
    int code = room(d, seq + 1, d->dec.n, d->row_ids.n + n, e);
    for (size_t t = first; t < d->dec.n && !code; t++) {
        d->row_ids.p[d->row_ids.n] = d->dec.p[t];
        d->row_probs[d->row_ids.n++] = 1;
        d->row_offsets[t + 1] = (uint32_t)d->row_ids.n;
        d->kinds[t] = RSD_KIND_HARD;
        d->weights[t] = 1;
        if (d->top_k)
            memset(d->top_probs + t * d->top_k, 0, d->top_k * sizeof *d->top_probs);
    }
    return code;
}

/* Chunks whose likelihood is known, and the sorted probabilities, of a reply whose positions start at `first`. */
static void add_chunks(rsd_dataset *d, const struct shard_reply *r, size_t first) {
    const float *p = r->top_probs;
    for (size_t t = 0, begin = 0, c = 0; t < r->n; t++) {
        float *row = d->top_probs + (first + t) * d->top_k;
        for (size_t k = 0; k < d->top_k; k++)
            row[k] = k < r->top_counts[t] ? *p++ : 0;
        if (!(r->kinds[t] & SHARD_CHUNK))
            continue;
        if (!isnan(r->chunk_logprobs[c])) {
            d->chunk_begin[d->n_chunks] = (uint32_t)(first + begin);
            d->chunk_end[d->n_chunks] = (uint32_t)(first + t + 1);
            d->chunk_logprobs[d->n_chunks++] = r->chunk_logprobs[c];
        }
        begin = t + 1;
        c++;
    }
}

static int add_reply(rsd_dataset *d, size_t number, size_t seq, struct err *e) {
    struct shard_reply r;
    int code = shard_get(d->corpus.shard, number, &d->buffer, &r, e);
    if (code)
        return code;
    size_t first = d->dec.n, rows = r.row_offsets[r.n];
    if ((code = room(d, seq + 1, first + r.n, d->row_ids.n + rows, e)))
        return code;
    memcpy(d->dec.p + first, r.tokens, r.n * sizeof *r.tokens);
    d->dec.n += r.n;
    d->signs[seq] = r.correct == 0 ? -1 : 1;
    if (!d->soft)
        return harden(d, first, seq, e);
    memcpy(d->row_ids.p + d->row_ids.n, r.row_ids, rows * sizeof *r.row_ids);
    memcpy(d->row_probs + d->row_ids.n, r.row_probs, rows * sizeof *r.row_probs);
    for (size_t t = 0; t < r.n; t++) {
        d->row_offsets[first + t + 1] = (uint32_t)d->row_ids.n + r.row_offsets[t + 1];
        d->kinds[first + t] = (uint8_t)(r.kinds[t] & SHARD_KIND);
        d->weights[first + t] = d->kind_weights && t + 1 < r.n ? d->kind_weights[r.kinds[t] & SHARD_KIND] : 1;
    }
    d->row_ids.n += rows;
    if (d->top_k)
        add_chunks(d, &r, first);
    return 0;
}

static int append_eos(rsd_dataset *d, struct ids *ids, struct err *e) {
    int code = mem_reserve(ids->a, &ids->p, &ids->cap, ids->n + 1, sizeof *ids->p, e);
    if (!code)
        ids->p[ids->n++] = rsd_tokenizer_eos(d->tok);
    return code;
}

static int add_sequence(rsd_dataset *d, const struct draw *draw, size_t seq, struct err *e) {
    struct item i = {(int)draw->format, draw->number, d->plan.epoch};
    size_t n, first = d->dec.n;
    int code = room(d, seq + 1, first, d->row_ids.n, e);
    code = code ? code : parts_input(&d->parts, i, &d->enc, &n, e);
    code = code ? code : append_eos(d, &d->enc, e);
    if (code)
        return code;
    d->signs[seq] = 1;
    d->formats[seq] = (uint8_t)i.format;
    if (format_has_reasoning(i.format)) {
        code = add_reply(d, i.number, seq, e);
    } else {
        code = parts_answer(&d->parts, i, &d->dec, &n, e);
        code = code ? code : append_eos(d, &d->dec, e);
        code = code ? code : harden(d, first, seq, e);
    }
    d->enc_offsets[seq + 1] = (uint32_t)d->enc.n;
    d->dec_offsets[seq + 1] = (uint32_t)d->dec.n;
    return code;
}

static int fill_batch(rsd_dataset *d, size_t number, uint32_t formats, struct err *e) {
    size_t begin = d->plan.batches[number], most = d->plan.batches[number + 1] - begin, n = 0;
    d->enc.n = d->dec.n = d->row_ids.n = d->n_chunks = 0;
    int code = room(d, most, 0, 0, e);
    if (code)
        return code;
    d->enc_offsets[0] = d->dec_offsets[0] = d->row_offsets[0] = 0;
    for (size_t s = 0; s < most && !code; s++)
        if (formats & 1u << d->plan.draws[begin + s].format)
            code = add_sequence(d, &d->plan.draws[begin + s], n++, e);
    d->batch = (rsd_batch){.size = sizeof d->batch,
                           .n = n,
                           .enc_ids = d->enc.p,
                           .enc_offsets = d->enc_offsets,
                           .dec_ids = d->dec.p,
                           .dec_offsets = d->dec_offsets,
                           .row_offsets = d->row_offsets,
                           .row_ids = d->row_ids.p,
                           .row_probs = d->row_probs,
                           .kinds = d->kinds,
                           .weights = d->kind_weights ? d->weights : NULL,
                           .formats = d->formats,
                           .signs = d->signs};
    if (d->top_k) {
        d->batch.n_chunks = d->n_chunks;
        d->batch.chunk_begin = d->chunk_begin;
        d->batch.chunk_end = d->chunk_end;
        d->batch.chunk_logprobs = d->chunk_logprobs;
        d->batch.top_k = d->top_k;
        d->batch.top_probs = d->top_probs;
    }
    return code;
}

int rsd_dataset_batch(rsd_dataset *d, uint64_t index, const rsd_batch **batch) {
    return rsd_dataset_batch_of(d, index, (1u << RSD_FORMATS) - 1, batch);
}

int rsd_dataset_batch_of(rsd_dataset *d, uint64_t index, uint32_t formats, const rsd_batch **batch) {
    if (!d)
        return RSD_EINVAL;
    if (!batch || index > (UINT64_MAX >> 1) / d->world)
        return ctx_fail(d->ctx, RSD_EINVAL, "rsd_dataset_batch_of: batch must not be NULL and index must be possible");
    *batch = NULL;
    struct err e = {0};
    uint64_t global = index * d->world + d->rank;
    int code = 0;
    while (!code && d->starts[d->n_starts - 1] <= global)
        code = go_to_epoch(d, d->n_starts - 1, &e);
    if (!code) {
        size_t epoch = d->n_starts - 1;
        while (d->starts[epoch] > global)
            epoch--;
        code = go_to_epoch(d, epoch, &e);
        code = code ? code : fill_batch(d, (size_t)(global - d->starts[epoch]), formats, &e);
    }
    if (!code)
        *batch = &d->batch;
    return ctx_return(d->ctx, code, &e);
}

int rsd_dataset_disjoint(rsd_dataset *d, const char *items) {
    if (!d)
        return RSD_EINVAL;
    if (!items)
        return ctx_fail(d->ctx, RSD_EINVAL, "rsd_dataset_disjoint: items must be given");
    struct err e = {0};
    struct questions held;
    struct overlap all = {0};
    struct questions_from from = {.path = items, .task = TASK_ANY};
    int code = questions_read(&held, &d->ctx->alloc, &from, &e);
    if (code)
        return ctx_return(d->ctx, code, &e);
    code = overlap_open(&all, &d->corpus.questions, &e);
    code = code ? code
                : overlap_refuse(&all, d->path, &held, items,
                                 "what is trained on cannot be tested with: build the data set with --hold-out and "
                                 "--drop-held-out",
                                 &e);
    overlap_free(&all);
    questions_free(&held);
    return ctx_return(d->ctx, code, &e);
}

int rsd_dataset_text(rsd_dataset *d, int format, uint64_t i, const char **input, size_t *input_len, const char **target,
                     size_t *target_len) {
    if (!d)
        return RSD_EINVAL;
    bool known = format >= 0 && format < RSD_FORMATS && d->corpus.recipe.formats & 1u << format;
    size_t n = !known ? 0 : format_has_reasoning(format) ? d->corpus.n_replies : d->corpus.questions.n;
    if (!known || i >= n || !input || !input_len || !target || !target_len)
        return ctx_fail(d->ctx, RSD_EINVAL, "rsd_dataset_text: no item %llu of format %s, there are %zu", (unsigned long long)i,
                        rsd_format_name(format), n);
    struct err e = {0};
    struct item item = {format, (size_t)i, 0};
    str_clear(&d->input);
    str_clear(&d->target);
    int code = corpus_check(&d->corpus, 1u << format, &e);
    code = code ? code : parts_input_text(&d->parts, item, &d->input, &e);
    if (!code && format_has_reasoning(format)) {
        struct shard_reply r;
        code = shard_get(d->corpus.shard, item.number, &d->buffer, &r, &e);
        code = code ? code : shard_text(&r, d->tok, &d->target, &e);
    } else if (!code) {
        code = corpus_answer_text(&d->corpus, format, item.number, &d->target, &e);
    }
    *input = code ? NULL : str_z(&d->input);
    *input_len = d->input.n;
    *target = code ? NULL : str_z(&d->target);
    *target_len = d->target.n;
    return ctx_return(d->ctx, code, &e);
}
