/* Chunks: the smallest runs of pieces that spell the same text as a run of the teacher's tokens, for losses that compare the
 * likelihood of texts (Minixhofer et al. 2025, arXiv 2503.20083) and need no alternatives. They cover the pieces once, in order,
 * and the aligned tokens likewise; the log-likelihood of a chunk is the sum of its tokens'. It is NaN where the teacher did not
 * say it: the texts differ, or a token goes on behind the end of the text.
 *
 * span: a chunk ends where a piece and a token end at the same byte, blanks aside that the tokenizer leaves out or joins to the
 * next piece. dtw, which has no bytes: where its path goes on to the next piece and the next token at once; the chunk has a
 * likelihood if the letters of both sides agree. */
#include "align/align.h"

#include "text/normalize.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void end_chunk(rsd_aligner *a, size_t piece, double logprob) {
    a->chunk_ends[a->n_chunks] = (uint32_t)piece;
    /* a float, finite where the sum is */
    a->chunk_logprobs[a->n_chunks++] = (float)(logprob < -(double)FLT_MAX ? -(double)FLT_MAX : logprob);
}

static double sum_of(const rsd_aligner *a, size_t from, size_t to) {
    double sum = from < to ? 0 : NAN;
    for (size_t i = from; i < to; i++)
        sum += a->steps[i].logprob;
    return sum;
}

static bool blanks_only(const rsd_aligner *a, size_t begin, size_t end) {
    if (end > a->reply.n)
        return false;
    for (size_t i = begin; i < end; i++)
        if (!a->blank[(unsigned char)a->reply.p[i]])
            return false;
    return true;
}

/* Where piece j starts, or only blanks behind that: the first token that starts there. */
static size_t token_at(const rsd_aligner *a, size_t j, size_t *at, size_t last) {
    struct region r = a->regions[j];
    size_t content = r.begin;
    while (content < r.end && a->blank[(unsigned char)a->reply.p[content]])
        content++;
    content = content == r.end ? r.begin : content;
    while (*at < last && (a->steps[*at].begin < r.begin || a->steps[*at].begin == a->steps[*at].end))
        ++*at;
    return r.begin < r.end && *at < last && a->steps[*at].begin <= content ? *at : NO_STEP;
}

static void span_chunks(rsd_aligner *a) {
    size_t last = a->first + a->n, from = a->first, to = a->first, at = a->first;
    for (size_t j = 0; j < a->s; j++) {
        size_t end = a->regions[j].end;
        a->starts[j] = token_at(a, j, &at, last);
        while (to < last && a->steps[to].end <= end)
            to++;
        if (j + 1 < a->s && a->regions[j + 1].end == end)
            continue; /* more pieces of the same character */
        bool meet = to > from && a->steps[to - 1].end == end;
        if (!meet && !a->bytes && to < last && blanks_only(a, end, a->steps[to].end)) {
            to++;
            meet = true;
        }
        if (j + 1 < a->s && !meet)
            continue;
        end_chunk(a, j + 1, meet && (j + 1 < a->s || to == last) ? sum_of(a, from, to) : NAN);
        from = to;
    }
}

/* Letters of tokens from .. to and of pieces begin .. end, blanks aside. */
static bool same_letters(rsd_aligner *a, size_t from, size_t to, size_t begin, size_t end) {
    static const size_t blank = sizeof SPACE_SYMBOL - 1;
    size_t i = a->surface_at[begin];
    const char *p = str_z(&a->surfaces);
    for (size_t k = from; k < to; k++) {
        struct text t = a->steps[k].token.bytes;
        for (size_t c = 0; c < t.n; c++) {
            if (a->blank[(unsigned char)t.p[c]])
                continue;
            while (i + blank <= a->surface_at[end] && !memcmp(p + i, SPACE_SYMBOL, blank))
                i += blank;
            if (i >= a->surface_at[end] || p[i++] != t.p[c])
                return false;
        }
    }
    while (i + blank <= a->surface_at[end] && !memcmp(p + i, SPACE_SYMBOL, blank))
        i += blank;
    return i == a->surface_at[end];
}

static void dtw_chunks(rsd_aligner *a) {
    size_t from = 0, begin = 0, known = NO_STEP; /* tokens and pieces of the chunk at hand; last token that was seen */
    for (size_t j = 0; j < a->s; j++) {
        size_t first = a->map[a->map_offsets[j]];
        a->starts[j] = first != known ? a->first + first : NO_STEP;
        known = a->map[a->map_offsets[j + 1] - 1];
        if (j + 1 < a->s && a->map[a->map_offsets[j + 1]] == known)
            continue;
        size_t low = a->first + from, high = a->first + known + 1;
        end_chunk(a, j + 1, same_letters(a, low, high, begin, j + 1) ? sum_of(a, low, high) : NAN);
        from = known + 1;
        begin = j + 1;
    }
}

int align_chunks(rsd_aligner *a, struct err *e) {
    const struct allocator *m = &a->ctx->alloc;
    int code = mem_reserve(m, &a->chunk_ends, &a->cap.chunk_ends, a->s + 1, sizeof *a->chunk_ends, e);
    code = code ? code : mem_reserve(m, &a->chunk_logprobs, &a->cap.chunk_logprobs, a->s + 1, sizeof *a->chunk_logprobs, e);
    code = code ? code : mem_reserve(m, &a->starts, &a->cap.starts, a->s + 1, sizeof *a->starts, e);
    a->n_chunks = 0;
    if (!code && a->s)
        (a->method == RSD_ALIGN_DTW ? dtw_chunks : span_chunks)(a);
    return code;
}

static int falling(const void *x, const void *y) {
    float p = *(const float *)x, q = *(const float *)y;
    return (p < q) - (p > q);
}

size_t align_top_probs(const rsd_aligner *a, size_t j, float *out, size_t most) {
    if (a->starts[j] == NO_STEP || isnan(a->steps[a->starts[j]].logprob))
        return 0;
    const struct step *s = &a->steps[a->starts[j]];
    double sum = 0;
    size_t n = 0;
    bool sampled = false;
    for (size_t k = 0; k < s->n && n < most; k++) {
        sampled |= text_eq(a->tops[s->first + k].bytes, s->token.bytes);
        sum += a->tops[s->first + k].prob;
        out[n++] = (float)a->tops[s->first + k].prob;
    }
    if (!sampled) {
        n -= n == most;
        sum += s->token.prob;
        out[n++] = (float)s->token.prob;
    }
    for (size_t k = 0; sum > 1 && k < n; k++) /* printed probabilities may add up to a little more */
        out[k] = (float)((double)out[k] / sum);
    qsort(out, n, sizeof *out, falling);
    return n;
}
