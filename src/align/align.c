/* The aligner handle: lays a reply out as steps over its text, tokenises the student's text over the same bytes, and has one of
 * the methods fill the result. */
#include "align/align.h"

#include "base/options.h"
#include "text/answer.h"

#include <math.h>
#include <string.h>

OPTIONS_NO_TAIL(rsd_aligner_options, top_logprobs);
static const rsd_aligner_options defaults = {.size = sizeof(rsd_aligner_options),
                                             .method = RSD_ALIGN_SPAN,
                                             .cut_after_answer = 1,
                                             .kind_weights = {1, 1, 1, 1, 1, 1, 1, 1}};
_Static_assert(RSD_KIND_HARD < 7, "the last of kind_weights stands for no kind");

/* A token that was sampled has some probability, whatever was left of it in print. */
static const double LEAST = 1e-12;

int rsd_aligner_options_init(rsd_aligner_options *o, size_t size) {
    return options_init(o, size, &defaults, sizeof defaults, NULL);
}

const char *rsd_kind_name(int kind) {
    static const char *const names[] = {"exact", "blank", "merge", "split", "cont", "bridge", "hard"};
    return kind >= 0 && (size_t)kind < sizeof names / sizeof *names ? names[kind] : "?";
}

int align_carry(rsd_ctx *ctx, int code, struct err *e) {
    return code < 0 ? err_set(e, code, "%s", rsd_ctx_error(ctx)) : code;
}

int rsd_aligner_open(rsd_ctx *ctx, rsd_tokenizer *tok, const rsd_aligner_options *options, rsd_aligner **out) {
    if (!ctx)
        return RSD_EINVAL;
    if (!tok || !out)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_aligner_open: tok and out must not be NULL");
    *out = NULL;
    struct err e = {0};
    rsd_aligner_options o;
    if (options_read(&o, sizeof o, &defaults, options, "rsd_aligner_options", &e))
        return ctx_return(ctx, e.code, &e);
    if (o.method != RSD_ALIGN_SPAN && o.method != RSD_ALIGN_DTW)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_aligner_open: method %d is neither RSD_ALIGN_SPAN nor RSD_ALIGN_DTW",
                        (int)o.method);
    for (int k = 0; k < 8; k++)
        if (!(o.kind_weights[k] >= 0 && o.kind_weights[k] <= 1e6) || (k > RSD_KIND_HARD && o.kind_weights[k] != 1))
            return ctx_fail(ctx, RSD_EINVAL, "rsd_aligner_open: kind_weights[%d] is %g, expected %s", k, o.kind_weights[k],
                            k > RSD_KIND_HARD ? "1: there is no such kind" : "0 to 1000000");
    if (o.top_logprobs < 0 || o.top_logprobs > 1000)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_aligner_open: top_logprobs is %lld, expected 0 to 1000", (long long)o.top_logprobs);
    rsd_aligner *a = mem_zero(&ctx->alloc, 1, sizeof *a, &e);
    if (!a)
        return ctx_return(ctx, e.code, &e);
    a->ctx = ctx;
    a->tok = tok;
    a->method = o.method;
    a->cut = o.cut_after_answer != 0;
    a->declared = (size_t)o.top_logprobs;
    for (int k = 0; k < 8; k++)
        a->weight[k] = (float)o.kind_weights[k];
    a->bytes = rsd_tokenizer_bytes(tok);
    a->words = a->bytes || pieces_are_words(tok);
    pieces_init(&a->cache, ctx, tok);
    str_init(&a->text, &ctx->alloc);
    str_init(&a->surfaces, &ctx->alloc);
    str_init(&a->id, &ctx->alloc);
    str_init(&a->json, &ctx->alloc);
    int code = 0;
    for (const char *c = " \t\n\f\r"; *c && !code; c++)
        code = pieces_take_as_blank(ctx, tok, *c, &a->blank[(unsigned char)*c], &e);
    if (code) {
        rsd_aligner_close(a);
        return ctx_return(ctx, code, &e);
    }
    *out = a;
    return RSD_OK;
}

void rsd_aligner_close(rsd_aligner *a) {
    if (!a)
        return;
    const struct allocator *m = &a->ctx->alloc;
    bridge_work_free(a);
    span_work_free(a);
    dtw_work_free(a);
    pieces_free(&a->cache);
    str_free(&a->text);
    str_free(&a->surfaces);
    str_free(&a->id);
    str_free(&a->json);
    void *const blocks[] = {a->steps, a->other,      a->tops,           a->ids,     a->regions,   a->surface_at, a->map_offsets,
                            a->map,   a->path,       a->row_offsets,    a->row_ids, a->row_probs, a->placed,     a->given,
                            a->kinds, a->chunk_ends, a->chunk_logprobs, a->starts,  a->tails,     a->weights,    a->cells};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        mem_free(m, blocks[i]);
    mem_free(m, a);
}

int align_add_map(rsd_aligner *a, size_t token, struct err *e) {
    int code = mem_reserve(&a->ctx->alloc, &a->map, &a->cap.map, a->n_map + 1, sizeof *a->map, e);
    if (!code)
        a->map[a->n_map++] = (uint32_t)token;
    return code;
}

int align_add_row(rsd_aligner *a, int32_t id, double prob, struct err *e) {
    const struct allocator *m = &a->ctx->alloc;
    int code = mem_reserve(m, &a->row_ids, &a->cap.row_ids, a->n_rows + 1, sizeof *a->row_ids, e);
    code = code ? code : mem_reserve(m, &a->row_probs, &a->cap.row_probs, a->n_rows + 1, sizeof *a->row_probs, e);
    if (code)
        return code;
    a->row_ids[a->n_rows] = id;
    a->row_probs[a->n_rows++] = (float)prob;
    return 0;
}

int align_add_cell(rsd_aligner *a, size_t token, size_t piece, double mass, struct err *e) {
    for (size_t i = a->n_cells; i > 0 && a->cells[i - 1].piece == piece; i--)
        if (a->cells[i - 1].token == token) {
            a->cells[i - 1].mass += mass;
            return 0;
        }
    int code = mem_reserve(&a->ctx->alloc, &a->cells, &a->cap.cells, a->n_cells + 1, sizeof *a->cells, e);
    if (!code)
        a->cells[a->n_cells++] = (struct heat_cell){(uint32_t)token, (uint32_t)piece, mass};
    return code;
}

struct text align_surface(const rsd_aligner *a, size_t piece) {
    return (struct text){str_z(&a->surfaces) + a->surface_at[piece], a->surface_at[piece + 1] - a->surface_at[piece]};
}

/* ---- the teacher's side ---- */

static int read_step(rsd_aligner *a, const rsd_reply *r, size_t i, size_t at, struct err *e) {
    const struct allocator *m = &a->ctx->alloc;
    const char *p;
    size_t n, tops = rsd_reply_tops(r, i);
    double logprob;
    int code = rsd_reply_token(r, i, &p, &n, &logprob);
    if (code)
        return align_carry(a->ctx, code, e);
    if (n > a->reply.n - at || memcmp(a->reply.p + at, p, n) != 0)
        return err_set(e, ERR_FORMAT, "token %zu: the tokens do not join to the reply's text: they part at byte %zu", i, at);
    if (!(logprob <= 0))
        return err_set(e, ERR_FORMAT, "token %zu: its log-probability is %s, expected a number of at most 0", i,
                       isnan(logprob) ? "missing or not a number" : "positive");
    struct step *s = &a->steps[i];
    *s = (struct step){{{a->reply.p + at, n}, fmax(exp(logprob), LEAST)}, at, at + n, a->n_tops, 0, i, false, logprob};
    if ((code = mem_reserve(m, &a->tops, &a->cap.tops, a->n_tops + tops, sizeof *a->tops, e)))
        return code;
    for (size_t j = 0; j < tops; j++) {
        if ((code = rsd_reply_top(r, i, j, &p, &n, &logprob)))
            return align_carry(a->ctx, code, e);
        if (isnan(logprob))
            continue; /* a server's stand-in for minus infinity */
        if (logprob > 0)
            return err_set(e, ERR_FORMAT, "token %zu: alternative %zu has a positive log-probability", i, j);
        a->tops[a->n_tops++] = (struct choice){{p, n}, exp(logprob)};
        s->n++;
    }
    a->max_tops = s->n > a->max_tops ? s->n : a->max_tops;
    return 0;
}

/* As many alternatives as were asked for, at the token that has most; the token itself may be one more. */
static int check_tops(const rsd_aligner *a, const rsd_reply *r, struct err *e) {
    const size_t n = rsd_reply_tokens(r);
    size_t most = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        if (rsd_reply_tops(r, i) > most)
            most = rsd_reply_tops(r, at = i);
    if (most >= a->declared && most <= a->declared + 1)
        return 0;
    if (most > a->declared)
        return err_set(e, ERR_FORMAT, "token %zu: it has %zu alternatives, expected %zu: the reply was asked for with others", at,
                       most, a->declared);
    return err_set(e, ERR_FORMAT, "its tokens have %zu alternatives at most, expected %zu: the reply was asked for with others",
                   most, a->declared);
}

static int read_steps(rsd_aligner *a, const rsd_reply *r, struct err *e) {
    size_t n = rsd_reply_tokens(r), at = 0;
    if (!n)
        return err_set(e, RSD_ENOLOGPROBS, "the reply has no tokens: ask the teacher with logprobs");
    int code = a->declared ? check_tops(a, r, e) : 0;
    code = code ? code : mem_reserve(&a->ctx->alloc, &a->steps, &a->cap.steps, n, sizeof *a->steps, e);
    a->n_tops = a->max_tops = 0;
    for (size_t i = 0; i < n && !code; i++) {
        code = read_step(a, r, i, at, e);
        at = code ? at : a->steps[i].end;
    }
    if (!code && at != a->reply.n)
        return err_set(e, ERR_FORMAT, "the tokens do not join to the reply's text: they end at byte %zu of %zu", at, a->reply.n);
    a->n_steps = n;
    return code;
}

/* ---- the student's side ---- */

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The part of the reply that is aligned: cut behind its answer, without blanks at both ends. */
static void choose_text(rsd_aligner *a, bool may_cut) {
    struct text t = a->cut && may_cut ? answer_cut(a->reply) : a->reply;
    size_t begin = 0, end = t.n;
    while (begin < end && is_blank(t.p[begin]))
        begin++;
    while (end > begin && is_blank(t.p[end - 1]))
        end--;
    a->text_begin = begin;
    a->text_end = end;
}

/* The notebook's clean-up of answers: every ": " goes. */
static void clean_text(struct str *out, struct text t) {
    for (size_t i = 0; i < t.n;) {
        if (i + 1 < t.n && t.p[i] == ':' && t.p[i + 1] == ' ')
            i += 2;
        else
            str_addc(out, t.p[i++]);
    }
}

/* Pieces of t, which starts at byte `offset` of the reply; the last region is stretched to nothing, the first starts at `offset`.
 */
static int cut_pieces(rsd_aligner *a, struct text t, size_t offset, struct err *e) {
    const struct allocator *m = &a->ctx->alloc;
    const int32_t *ids;
    const uint32_t *begin, *end;
    size_t n;
    if (t.n > UINT32_MAX / 8)
        return err_set(e, ERR_UNSUPPORTED, "a reply of %zu bytes is too long to align", t.n);
    int code = rsd_tokenizer_encode(a->tok, t.p, t.n, &ids, &n);
    if (!code)
        code = rsd_tokenizer_spans(a->tok, &begin, &end);
    if (code)
        return align_carry(a->ctx, code, e);
    if ((code = mem_reserve(m, &a->ids, &a->cap.ids, n, sizeof *a->ids, e)) ||
        (code = mem_reserve(m, &a->regions, &a->cap.regions, n, sizeof *a->regions, e)) ||
        (code = mem_reserve(m, &a->surface_at, &a->cap.surface_at, n + 1, sizeof *a->surface_at, e)))
        return code;
    str_clear(&a->surfaces);
    size_t at = offset;
    for (size_t j = 0; j < n; j++) {
        const char *p;
        size_t len;
        if ((code = rsd_tokenizer_surface(a->tok, j, &p, &len)))
            return align_carry(a->ctx, code, e);
        a->surface_at[j] = a->surfaces.n;
        str_add(&a->surfaces, p, len);
        a->ids[j] = ids[j];
        a->regions[j] = (struct region){at, offset + end[j]};
        at = offset + end[j];
    }
    a->surface_at[n] = a->surfaces.n;
    a->s = n;
    return str_status(&a->surfaces, e);
}

int align_begin_result(rsd_aligner *a, struct err *e) {
    const struct allocator *m = &a->ctx->alloc;
    int code;
    if ((code = mem_reserve(m, &a->map_offsets, &a->cap.map_offsets, a->s + 1, sizeof *a->map_offsets, e)) ||
        (code = mem_reserve(m, &a->row_offsets, &a->cap.row_offsets, a->s + 1, sizeof *a->row_offsets, e)) ||
        (code = mem_reserve(m, &a->placed, &a->cap.placed, a->s + 1, sizeof *a->placed, e)) ||
        (code = mem_reserve(m, &a->given, &a->cap.given, a->s + 1, sizeof *a->given, e)) ||
        (code = mem_reserve(m, &a->kinds, &a->cap.kinds, a->s + 1, sizeof *a->kinds, e)) ||
        (code = mem_reserve(m, &a->tails, &a->cap.tails, a->s + 1, sizeof *a->tails, e)) ||
        (code = mem_reserve(m, &a->weights, &a->cap.weights, a->s + 1, sizeof *a->weights, e)) ||
        /* never empty, so that handed-out arrays are not NULL */
        (code = mem_reserve(m, &a->map, &a->cap.map, 1, sizeof *a->map, e)) ||
        (code = mem_reserve(m, &a->row_ids, &a->cap.row_ids, 1, sizeof *a->row_ids, e)) ||
        (code = mem_reserve(m, &a->row_probs, &a->cap.row_probs, 1, sizeof *a->row_probs, e)))
        return code;
    a->n_map = a->n_rows = a->n_path = a->n_cells = 0;
    a->cost = 0;
    a->map_offsets[0] = a->row_offsets[0] = 0;
    return 0;
}

/* span: the steps that touch the text; pieces of the text from the first of these steps on, so that a blank inside it has its
 * place. */
static int lay_out_span(rsd_aligner *a, struct err *e) {
    size_t first = 0, last = a->n_steps;
    while (first < a->n_steps && a->steps[first].end <= a->text_begin)
        first++;
    while (last > first && a->steps[last - 1].begin >= a->text_end)
        last--;
    a->first = first;
    a->n = last - first;
    size_t from = a->n && a->steps[first].begin < a->text_begin ? a->steps[first].begin : a->text_begin;
    str_add(&a->text, a->reply.p + a->text_begin, a->text_end - a->text_begin);
    return cut_pieces(a, (struct text){a->reply.p + from, a->text_end - from}, from, e);
}

static bool only_newlines(struct text t) {
    for (size_t i = 0; i < t.n; i++)
        if (t.p[i] != '\n')
            return false;
    return true;
}

/* dtw: all steps but newlines at both ends, and the text after the notebook's clean-up, whose bytes nothing refers to. */
static int lay_out_dtw(rsd_aligner *a, struct err *e) {
    size_t first = 0, last = a->n_steps;
    while (first < last && only_newlines(a->steps[first].token.bytes))
        first++;
    while (last > first && only_newlines(a->steps[last - 1].token.bytes))
        last--;
    a->first = first;
    a->n = last - first;
    clean_text(&a->text, (struct text){a->reply.p + a->text_begin, a->text_end - a->text_begin});
    while (a->text.n && is_blank(a->text.p[a->text.n - 1]))
        a->text.n--;
    size_t begin = 0;
    while (begin < a->text.n && is_blank(a->text.p[begin]))
        begin++;
    if (begin) {
        memmove(a->text.p, a->text.p + begin, a->text.n - begin);
        a->text.n -= begin;
    }
    if (a->text.p)
        a->text.p[a->text.n] = 0;
    int code = str_status(&a->text, e);
    return code ? code : cut_pieces(a, (struct text){str_z(&a->text), a->text.n}, 0, e);
}

/* What the rows leave open, and what losses are to make of the positions. */
static void weigh(rsd_aligner *a) {
    for (size_t j = 0; j < a->s; j++) {
        float sum = 0;
        for (size_t k = a->row_offsets[j]; k < a->row_offsets[j + 1]; k++)
            sum += a->row_probs[k];
        a->tails[j] = sum < 1 ? 1 - sum : 0;
        a->weights[j] = a->weight[a->kinds[j]];
    }
}

/* own: the text to align to, NULL for the reply's. */
static int align(rsd_aligner *a, const rsd_reply *r, const struct text *own, struct err *e) {
    int code;
    a->bridged = false;
    a->reply.p = rsd_reply_text(r, &a->reply.n);
    size_t id_len;
    const char *id = rsd_reply_id(r, &id_len);
    str_clear(&a->id);
    str_add(&a->id, id, id_len);
    a->sample = rsd_reply_sample(r);
    pieces_begin(&a->cache);
    str_clear(&a->text);
    if ((code = str_status(&a->id, e)) || (code = read_steps(a, r, e)))
        return code;
    if (own && a->method == RSD_ALIGN_DTW)
        a->reply = *own; /* it compares tokens with pieces, not bytes */
    else if (own && (code = align_bridge(a, *own, e)))
        return code;
    choose_text(a, !own);
    if ((code = a->method == RSD_ALIGN_DTW ? lay_out_dtw(a, e) : lay_out_span(a, e)) || (code = align_begin_result(a, e)))
        return code;
    code = a->method == RSD_ALIGN_DTW ? align_dtw(a, e) : align_span(a, e);
    return code ? code : str_status(&a->text, e);
}

static int align_reply(rsd_aligner *a, const rsd_reply *reply, const struct text *own, const rsd_alignment **out) {
    *out = NULL;
    a->done = false;
    struct err e = {0};
    int code = align(a, reply, own, &e);
    if (code) {
        err_within(&e, "reply %.*s", (int)(a->id.n > 100 ? 100 : a->id.n), str_z(&a->id));
        return ctx_return(a->ctx, code, &e);
    }
    weigh(a);
    size_t first = a->n ? a->steps[a->first].origin : a->first;
    size_t n = a->n ? a->steps[a->first + a->n - 1].origin + 1 - first : 0;
    a->out = (rsd_alignment){sizeof a->out, str_z(&a->text), a->text.n, first,          n,          a->s,
                             a->ids,        a->map_offsets,  a->map,    a->row_offsets, a->row_ids, a->row_probs,
                             a->placed,     a->given,        a->kinds,  a->tails,       a->weights};
    a->done = true;
    *out = &a->out;
    return RSD_OK;
}

int rsd_aligner_align(rsd_aligner *a, const rsd_reply *reply, const rsd_alignment **out) {
    if (!a)
        return RSD_EINVAL;
    if (!reply || !out)
        return ctx_fail(a->ctx, RSD_EINVAL, "rsd_aligner_align: reply and out must not be NULL");
    return align_reply(a, reply, NULL, out);
}

int rsd_aligner_align_text(rsd_aligner *a, const rsd_reply *reply, const char *text, size_t len, const rsd_alignment **out) {
    if (!a)
        return RSD_EINVAL;
    if (!reply || (!text && len) || !out)
        return ctx_fail(a->ctx, RSD_EINVAL, "rsd_aligner_align_text: reply, text and out must not be NULL");
    struct text own = {text ? text : "", len};
    return align_reply(a, reply, &own, out);
}
