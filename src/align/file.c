/* A file of replies into an aligned shard: one reply at a time through the aligner, the end token added behind each. */
#include "align/align.h"
#include "align/shard.h"
#include "teacher/reply_file.h"

#include <string.h>

/* The last alignment with its end token, in buffers that are used again. */
struct closed {
    const struct allocator *a;
    int32_t *tokens, *row_ids;
    uint32_t *row_offsets;
    float *row_probs, *placed, *top_probs;
    uint8_t *kinds, *top_counts;
    size_t cap_tokens, cap_row_ids, cap_row_offsets, cap_row_probs, cap_placed, cap_kinds, cap_top_probs, cap_top_counts;
    struct str unknown;
};

static void closed_free(struct closed *c) {
    void *const blocks[] = {c->tokens, c->row_ids, c->row_offsets, c->row_probs,
                            c->placed, c->kinds,   c->top_probs,   c->top_counts};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        mem_free(c->a, blocks[i]);
    str_free(&c->unknown);
}

static int room(struct closed *c, size_t n, size_t entries, size_t tops, struct err *e) {
    int code = mem_reserve(c->a, &c->tokens, &c->cap_tokens, n, sizeof *c->tokens, e);
    code = code ? code : mem_reserve(c->a, &c->row_offsets, &c->cap_row_offsets, n + 1, sizeof *c->row_offsets, e);
    code = code ? code : mem_reserve(c->a, &c->placed, &c->cap_placed, n, sizeof *c->placed, e);
    code = code ? code : mem_reserve(c->a, &c->kinds, &c->cap_kinds, n, sizeof *c->kinds, e);
    code = code ? code : mem_reserve(c->a, &c->top_counts, &c->cap_top_counts, n, 1, e);
    code = code ? code : mem_reserve(c->a, &c->top_probs, &c->cap_top_probs, tops, sizeof *c->top_probs, e);
    code = code ? code : mem_reserve(c->a, &c->row_ids, &c->cap_row_ids, entries, sizeof *c->row_ids, e);
    return code ? code : mem_reserve(c->a, &c->row_probs, &c->cap_row_probs, entries, sizeof *c->row_probs, e);
}

/* Whether the blank at the start of piece j was, or held, a line feed. For dtw, whose regions lie in the cleaned text, the same.
 */
static bool starts_line(const rsd_aligner *a, size_t j) {
    const char *p = a->method == RSD_ALIGN_DTW ? str_z(&a->text) : a->reply.p;
    for (size_t i = a->regions[j].begin; i < a->regions[j].end; i++) {
        if (p[i] == '\n')
            return true;
        if (p[i] != ' ' && p[i] != '\r' && p[i] != '\t')
            break;
    }
    return false;
}

static int close_alignment(rsd_aligner *a, struct closed *c, struct shard_reply *r, struct err *e) {
    size_t n = a->s, most = a->max_tops + 1 < 255 ? a->max_tops + 1 : 255, tops = 0;
    int code = align_chunks(a, e);
    code = code ? code : room(c, n + 1, a->n_rows + 1, most * n, e);
    if (code)
        return code;
    str_clear(&c->unknown);
    memcpy(c->row_offsets, a->row_offsets, (n + 1) * sizeof *c->row_offsets);
    if (n) {
        memcpy(c->tokens, a->ids, n * sizeof *c->tokens);
        memcpy(c->row_ids, a->row_ids, a->n_rows * sizeof *c->row_ids);
        memcpy(c->row_probs, a->row_probs, a->n_rows * sizeof *c->row_probs);
        memcpy(c->placed, a->placed, n * sizeof *c->placed);
    }
    for (size_t j = 0; j < n; j++) {
        c->kinds[j] = (uint8_t)(a->kinds[j] | (j && starts_line(a, j) ? SHARD_NEWLINE : 0));
        c->top_counts[j] = (uint8_t)align_top_probs(a, j, c->top_probs + tops, most);
        tops += c->top_counts[j];
        if (a->ids[j] == rsd_tokenizer_unk(a->tok)) {
            struct text t = align_surface(a, j);
            size_t len = t.n < 255 ? t.n : 255;
            str_addc(&c->unknown, (char)len);
            str_add(&c->unknown, t.p, len);
        }
    }
    for (size_t k = 0; k < a->n_chunks; k++)
        c->kinds[a->chunk_ends[k] - 1] |= SHARD_CHUNK;
    c->tokens[n] = c->row_ids[a->n_rows] = rsd_tokenizer_eos(a->tok);
    c->row_probs[a->n_rows] = c->placed[n] = 1;
    c->kinds[n] = RSD_KIND_HARD;
    c->top_counts[n] = 0;
    c->row_offsets[n + 1] = (uint32_t)a->n_rows + 1;
    *r = (struct shard_reply){.id = {str_z(&a->id), a->id.n},
                              .unknown = {str_z(&c->unknown), c->unknown.n},
                              .sample = a->sample,
                              .n = n + 1,
                              .tokens = c->tokens,
                              .kinds = c->kinds,
                              .row_offsets = c->row_offsets,
                              .row_ids = c->row_ids,
                              .row_probs = c->row_probs,
                              .placed = c->placed,
                              .n_chunks = a->n_chunks,
                              .chunk_logprobs = a->chunk_logprobs,
                              .top_counts = c->top_counts,
                              .top_probs = c->top_probs};
    return str_status(&c->unknown, e);
}

static void count(const rsd_aligner *a, rsd_align_report *report) {
    report->replies++;
    report->positions += a->s;
    for (size_t j = 0; j < a->s; j++) {
        report->kinds[a->kinds[j]]++;
        report->kind_placed[a->kinds[j]] += (double)a->placed[j];
        report->kind_given[a->kinds[j]] += (double)a->given[j];
        report->placed += (double)a->placed[j];
        report->given += (double)a->given[j];
    }
}

/* One reply: 0, or an error that belongs to the reply alone where *bad is set. */
static int take(rsd_aligner *a, const rsd_reply *reply, struct closed *c, struct shard_out *shard, bool *bad, struct err *e) {
    const rsd_alignment *alignment;
    struct shard_reply r;
    struct text own = {str_z(&reply->student_text), reply->student_text.n};
    int code = reply->has_student_text ? rsd_aligner_align_text(a, reply, own.p, own.n, &alignment)
                                       : rsd_aligner_align(a, reply, &alignment);
    if (code) {
        *bad = code == RSD_EFORMAT || code == RSD_ENOLOGPROBS || code == RSD_EUNSUPPORTED;
        return align_carry(a->ctx, code, e);
    }
    if (!shard)
        return 0;
    code = close_alignment(a, c, &r, e);
    r.correct = rsd_reply_correct(reply);
    return code ? code : shard_add(shard, &r, e);
}

static int run(rsd_aligner *a, struct reply_file *in, const char *path, struct shard_out *shard, int skip_bad,
               struct shard_about *about, struct err *e) {
    struct closed c = {.a = &a->ctx->alloc};
    str_init(&c.unknown, c.a);
    int code = 0;
    for (;;) {
        rsd_reply *reply = NULL;
        bool bad = false;
        code = reply_file_next(in, &reply, e);
        if (!code)
            break;
        if (code < 0) {
            bad = code == ERR_FORMAT || code == RSD_EREFUSED || code == RSD_ENOLOGPROBS;
        } else if ((code = take(a, reply, &c, shard, &bad, e)) == 0) {
            count(a, &about->report);
            about->top_k = (int32_t)a->max_tops > about->top_k ? (int32_t)a->max_tops : about->top_k;
        } else {
            err_within(e, "%s, line %zu", path, reply_file_line(in));
        }
        rsd_reply_close(reply);
        if (code && !(bad && skip_bad))
            break;
        if (code) {
            log_write(&a->ctx->log, LOG_WARN, "skipped: %s", e->text);
            about->report.skipped++;
            err_clear(e);
        }
    }
    closed_free(&c);
    return code;
}

int rsd_aligner_file(rsd_aligner *a, const char *in, const char *out, int skip_bad, rsd_align_report *report) {
    if (!a)
        return RSD_EINVAL;
    if (!in || (report && report->size < sizeof report->size))
        return ctx_fail(a->ctx, RSD_EINVAL, "rsd_aligner_file: in must not be NULL, and report->size must be set");
    struct err e = {0};
    struct reply_file file = {0};
    struct shard_out *shard = NULL;
    struct shard_about about = {.method = a->method, .report.size = sizeof about.report};
    memcpy(about.kind_weights, a->weight, sizeof about.kind_weights);
    int code = rsd_tokenizer_eos(a->tok) < 0 ? err_set(&e, ERR_UNSUPPORTED, "the tokenizer has no end token") : 0;
    code = code ? code : reply_file_open(&file, a->ctx, in, &e);
    if (!code && out)
        code = shard_begin(&shard, &a->ctx->alloc, out, rsd_tokenizer_hash(a->tok), rsd_tokenizer_size(a->tok), true, &e);
    code = code ? code : run(a, &file, in, shard, skip_bad, &about, &e);
    if (!code && shard) {
        code = shard_commit(shard, &about, &e);
        shard = NULL;
    }
    shard_abort(shard);
    reply_file_close(&file);
    a->done = false; /* its arrays belong to a reply that is gone */
    if (report && !code) {
        size_t size = report->size < sizeof about.report ? report->size : sizeof about.report;
        memcpy((char *)report + sizeof report->size, (char *)&about.report + sizeof report->size, size - sizeof report->size);
    }
    return ctx_return(a->ctx, code, &e);
}
