/* Reading aligned shards. Everything is checked when the file is opened: afterwards a reply is found and widened without a test.
 */
#include "align/shard_file.h"

#include "core/json.h"
#include "text/normalize.h"

#include <string.h>

const char *const shard_column_names[SHARD_COLUMNS] = {"replies",        "ids",        "tokens",    "kinds",   "counts",
                                                       "placed",         "row_ids",    "row_probs", "unknown", "chunk_at",
                                                       "chunk_logprobs", "top_counts", "top_probs"};

struct block {
    size_t first, n; /* replies */
    const struct shard_record *records;
    const char *ids, *unknown;
    const void *tokens, *row_ids;
    const uint8_t *kinds, *counts;
    const uint16_t *placed, *row_probs;
    size_t n_ids, n_positions, n_entries, n_unknown;
    /* NULL and 0 in shards without chunks */
    const struct shard_chunk_at *chunk_at;
    const float *chunk_logprobs;
    const uint8_t *top_counts;
    const uint16_t *top_probs;
    size_t n_chunks, n_tops;
};

struct shard {
    const struct allocator *a;
    struct section_in file;
    struct shard_about about;
    struct block *blocks;
    size_t n_blocks, cap_blocks, n;
    size_t width; /* bytes of an id */
};

static int32_t id_at(const void *ids, size_t i, size_t width) {
    if (width == 2)
        return ((const uint16_t *)ids)[i];
    return ((const int32_t *)ids)[i];
}

/* ---- opening ---- */

/* The member's first numbers, at most `n`, each at least 0; what the file lacks stays as it is. */
static int read_numbers(const struct json *in, const char *key, double *out, size_t n, struct err *e) {
    const struct json *list = json_get(in, key);
    if (!list)
        return 0;
    if (json_type(list) != JSON_ARRAY)
        return err_set(e, ERR_FORMAT, "\"%s\" is no array", key);
    size_t k = 0;
    for (const struct json *i = json_first(list); i && k < n; i = json_next(i), k++) {
        out[k] = json_type(i) == JSON_NUMBER ? json_number(i) : -1;
        if (!(out[k] >= 0 && out[k] <= 1e300))
            return err_set(e, ERR_FORMAT, "\"%s\" holds something that is no number of at least 0", key);
    }
    return 0;
}

static int read_meta(struct shard *s, uint64_t *blocks, struct err *e) {
    const void *p;
    size_t n;
    struct json *doc = NULL;
    struct text tokenizer, method;
    const struct json *report, *kinds;
    int64_t v[3];
    rsd_align_report *r = &s->about.report;
    int code = section_find(&s->file, "meta", 0, 1, &p, &n, e);
    code = code ? code : json_parse(p, n, &doc, e);
    if (code || (code = json_need_text(doc, "tokenizer", &tokenizer, e)) || (code = json_need_text(doc, "method", &method, e)) ||
        (code = json_need_int(doc, "vocab", 1, INT32_MAX, &v[0], e)) ||
        (code = json_need_int(doc, "top_k", 0, SHARD_ROW_MAX, &v[1], e)) ||
        (code = json_need_int(doc, "blocks", 0, INT32_MAX, &v[2], e)) ||
        (code = json_need_type(doc, "report", JSON_OBJECT, &report, e)))
        goto done;
    if (tokenizer.n >= sizeof s->about.tokenizer) {
        code = err_set(e, ERR_FORMAT, "\"tokenizer\" is no hash");
        goto done;
    }
    memcpy(s->about.tokenizer, tokenizer.p, tokenizer.n);
    s->about.vocab = (int32_t)v[0];
    s->about.top_k = (int32_t)v[1];
    s->about.method = text_is(method, "dtw") ? RSD_ALIGN_DTW : RSD_ALIGN_SPAN;
    *blocks = (uint64_t)v[2];
    if (json_get(doc, "chunks")) {
        if ((code = json_need_int(doc, "chunks", 1, 1, &v[0], e)))
            goto done;
        s->about.chunks = true;
    }
    double weights[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    r->size = sizeof *r;
    if ((code = read_numbers(doc, "kind_weights", weights, 8, e)) ||
        (code = read_numbers(report, "kind_placed", r->kind_placed, 8, e)) ||
        (code = read_numbers(report, "kind_given", r->kind_given, 8, e)))
        goto done;
    for (size_t k = 0; k < 8; k++)
        s->about.kind_weights[k] = (float)weights[k];
    if ((code = json_need_int(report, "replies", 0, INT64_MAX, &v[0], e)) ||
        (code = json_need_int(report, "skipped", 0, INT64_MAX, &v[1], e)) ||
        (code = json_need_int(report, "positions", 0, INT64_MAX, &v[2], e)) ||
        (code = json_need_type(report, "kinds", JSON_ARRAY, &kinds, e)) ||
        (code = json_need_number(report, "placed", 0, 1e300, &r->placed, e)) ||
        (code = json_need_number(report, "given", 0, 1e300, &r->given, e)))
        goto done;
    r->replies = (uint64_t)v[0];
    r->skipped = (uint64_t)v[1];
    r->positions = (uint64_t)v[2];
    size_t k = 0;
    for (const struct json *i = json_first(kinds); i && k < sizeof r->kinds / sizeof *r->kinds; i = json_next(i), k++)
        r->kinds[k] = json_number(i) >= 0 && json_number(i) < 1e15 ? (uint64_t)json_number(i) : 0;
done:
    if (code)
        err_within(e, "section meta");
    json_free(doc);
    return code;
}

static int find_columns(struct shard *s, struct block *b, uint64_t number, struct err *e) {
    const void *p[SHARD_COLUMNS] = {NULL};
    size_t n[SHARD_COLUMNS] = {0};
    const size_t size[SHARD_COLUMNS] = {sizeof(struct shard_record),   1, s->width, 1, 1, 2, s->width, 2, 1,
                                        sizeof(struct shard_chunk_at), 4, 1,        2};
    for (size_t i = 0; i < shard_columns(s->about.chunks); i++) {
        int code = section_find(&s->file, shard_column_names[i], number, size[i], &p[i], &n[i], e);
        if (code)
            return code;
    }
    if (n[SHARD_KINDS] != n[SHARD_TOKENS] || n[SHARD_COUNTS] != n[SHARD_TOKENS] || n[SHARD_PLACED] != n[SHARD_TOKENS] ||
        n[SHARD_ROW_IDS] != n[SHARD_ROW_PROBS])
        return err_set(e, ERR_FORMAT, "block %llu: its sections do not have the same number of positions",
                       (unsigned long long)number);
    if (s->about.chunks && (n[SHARD_CHUNK_AT] != n[SHARD_RECORDS] || n[SHARD_TOP_COUNTS] != n[SHARD_TOKENS]))
        return err_set(e, ERR_FORMAT, "block %llu: its chunk_at and top_counts do not go with its replies",
                       (unsigned long long)number);
    *b = (struct block){s->n,
                        n[SHARD_RECORDS],
                        p[SHARD_RECORDS],
                        p[SHARD_IDS],
                        p[SHARD_UNKNOWN],
                        p[SHARD_TOKENS],
                        p[SHARD_ROW_IDS],
                        p[SHARD_KINDS],
                        p[SHARD_COUNTS],
                        p[SHARD_PLACED],
                        p[SHARD_ROW_PROBS],
                        n[SHARD_IDS],
                        n[SHARD_TOKENS],
                        n[SHARD_ROW_IDS],
                        n[SHARD_UNKNOWN],
                        p[SHARD_CHUNK_AT],
                        p[SHARD_CHUNK_LOGPROBS],
                        p[SHARD_TOP_COUNTS],
                        p[SHARD_TOP_PROBS],
                        n[SHARD_CHUNK_LOGPROBS],
                        n[SHARD_TOP_PROBS]};
    return 0;
}

static int check_block(const struct shard *s, const struct block *b, size_t number, struct err *e) {
    size_t position = 0, entry = 0, unknown = 0;
    for (size_t i = 0; i < b->n; i++) {
        const struct shard_record *r = &b->records[i];
        size_t entries = 0;
        if (r->position != position || r->entry != entry || !r->n || r->n > b->n_positions - position ||
            r->n_entries > b->n_entries - entry || r->id_at > b->n_ids || r->id_len > b->n_ids - r->id_at || r->correct < -1 ||
            r->correct > 1 || r->unknown_at < unknown || r->unknown_at > b->n_unknown)
            return err_set(e, ERR_FORMAT, "section replies of block %zu: record %zu is not possible", number, i);
        for (size_t t = position; t < position + r->n; t++) {
            if (!b->counts[t] || id_at(b->tokens, t, s->width) < 0 || id_at(b->tokens, t, s->width) >= s->about.vocab)
                return err_set(e, ERR_FORMAT, "block %zu: position %zu has no row or no piece of the vocabulary", number, t);
            entries += b->counts[t];
        }
        if (entries != r->n_entries)
            return err_set(e, ERR_FORMAT, "section counts of block %zu: record %zu has %zu entries, expected %u", number, i,
                           entries, (unsigned)r->n_entries);
        position += r->n;
        entry += r->n_entries;
        unknown = r->unknown_at;
    }
    if (position != b->n_positions || entry != b->n_entries)
        return err_set(e, ERR_FORMAT, "section replies of block %zu: %zu positions, expected %zu", number, position,
                       b->n_positions);
    for (size_t i = 0; i < b->n_entries; i++)
        if (id_at(b->row_ids, i, s->width) < 0 || id_at(b->row_ids, i, s->width) >= s->about.vocab)
            return err_set(e, ERR_FORMAT, "section row_ids of block %zu: entry %zu is no piece of the vocabulary", number, i);
    return 0;
}

/* check_block has passed: positions are in order. */
static int check_chunks(const struct shard *s, const struct block *b, size_t number, struct err *e) {
    size_t chunk = 0, top = 0, most = (size_t)s->about.top_k + 1;
    for (size_t i = 0, t = 0; i < b->n; i++) {
        if (b->chunk_at[i].chunk != chunk || b->chunk_at[i].top != top)
            return err_set(e, ERR_FORMAT, "section chunk_at of block %zu: record %zu is not possible", number, i);
        for (size_t end = t + b->records[i].n; t < end; t++) {
            size_t n = b->top_counts[t];
            chunk += (b->kinds[t] & SHARD_CHUNK) != 0;
            if (n > most || n > b->n_tops - top)
                return err_set(e, ERR_FORMAT, "section top_counts of block %zu: position %zu has %zu, expected at most %zu",
                               number, t, n, n > most ? most : b->n_tops - top);
            for (size_t k = top + 1; k < top + n; k++)
                if (b->top_probs[k] > b->top_probs[k - 1])
                    return err_set(e, ERR_FORMAT, "section top_probs of block %zu: entry %zu is above the one before it", number,
                                   k);
            top += n;
        }
    }
    if (chunk != b->n_chunks || top != b->n_tops)
        return err_set(e, ERR_FORMAT, "block %zu: %zu chunk_logprobs and %zu top_probs, expected %zu and %zu", number,
                       b->n_chunks, b->n_tops, chunk, top);
    for (size_t i = 0; i < b->n_chunks; i++)
        if (b->chunk_logprobs[i] > 0)
            return err_set(e, ERR_FORMAT, "section chunk_logprobs of block %zu: chunk %zu has a positive log-probability", number,
                           i);
    return 0;
}

int shard_open(struct shard **out, const struct allocator *a, const char *path, struct err *e) {
    uint64_t blocks = 0;
    *out = NULL;
    struct shard *s = mem_zero(a, 1, sizeof *s, e);
    if (!s)
        return ERR_NOMEM;
    s->a = a;
    int code = section_open(&s->file, path, SECTION_ALIGNED, e); /* names the path */
    if (code) {
        shard_close(s);
        return code;
    }
    code = read_meta(s, &blocks, e);
    s->width = shard_id_width(s->about.vocab);
    for (uint64_t k = 0; k < blocks && !code; k++) {
        code = mem_reserve(a, &s->blocks, &s->cap_blocks, s->n_blocks + 1, sizeof *s->blocks, e);
        code = code ? code : find_columns(s, &s->blocks[s->n_blocks], k, e);
        code = code ? code : check_block(s, &s->blocks[s->n_blocks], (size_t)k, e);
        code = code || !s->about.chunks ? code : check_chunks(s, &s->blocks[s->n_blocks], (size_t)k, e);
        if (!code)
            s->n += s->blocks[s->n_blocks++].n;
    }
    if (code) {
        err_within(e, "%s", path);
        shard_close(s);
        return code;
    }
    *out = s;
    return 0;
}

void shard_close(struct shard *s) {
    if (!s)
        return;
    section_close(&s->file);
    mem_free(s->a, s->blocks);
    mem_free(s->a, s);
}

const struct shard_about *shard_about(const struct shard *s) {
    return &s->about;
}

size_t shard_replies(const struct shard *s) {
    return s->n;
}

/* ---- replies ---- */

static const struct block *block_of(const struct shard *s, size_t i) {
    size_t low = 0, high = s->n_blocks;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (s->blocks[mid].first <= i)
            low = mid;
        else
            high = mid;
    }
    return &s->blocks[low];
}

static const struct shard_record *peek(const struct shard *s, const struct block *b, size_t i, struct shard_reply *out) {
    const struct shard_record *r = &b->records[i - b->first];
    size_t unknown_end = i - b->first + 1 < b->n ? r[1].unknown_at : b->n_unknown;
    (void)s;
    *out = (struct shard_reply){.id = {b->ids + r->id_at, r->id_len},
                                .unknown = {b->unknown + r->unknown_at, unknown_end - r->unknown_at},
                                .sample = r->sample,
                                .correct = r->correct,
                                .n = r->n,
                                .kinds = b->kinds + r->position};
    return r;
}

void shard_peek(const struct shard *s, size_t i, struct shard_reply *out) {
    peek(s, block_of(s, i), i, out);
}

void shard_buffer_free(struct shard_buffer *b) {
    void *const blocks[] = {b->tokens, b->row_ids, b->row_offsets, b->row_probs, b->placed, b->top_probs};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        mem_free(b->a, blocks[i]);
    *b = (struct shard_buffer){.a = b->a};
}

static int room(struct shard_buffer *b, size_t n, size_t entries, size_t tops, struct err *e) {
    int code = mem_reserve(b->a, &b->tokens, &b->cap_tokens, n, sizeof *b->tokens, e);
    code = code ? code : mem_reserve(b->a, &b->row_offsets, &b->cap_row_offsets, n + 1, sizeof *b->row_offsets, e);
    code = code ? code : mem_reserve(b->a, &b->placed, &b->cap_placed, n, sizeof *b->placed, e);
    code = code ? code : mem_reserve(b->a, &b->top_probs, &b->cap_top_probs, tops, sizeof *b->top_probs, e);
    code = code ? code : mem_reserve(b->a, &b->row_ids, &b->cap_row_ids, entries, sizeof *b->row_ids, e);
    return code ? code : mem_reserve(b->a, &b->row_probs, &b->cap_row_probs, entries, sizeof *b->row_probs, e);
}

static void widen(int32_t *restrict out, const void *ids, size_t from, size_t n, size_t width) {
    if (width == 2)
        for (size_t i = 0; i < n; i++)
            out[i] = ((const uint16_t *)ids)[from + i];
    else
        memcpy(out, (const int32_t *)ids + from, n * sizeof *out);
}

int shard_get(const struct shard *s, size_t i, struct shard_buffer *buf, struct shard_reply *out, struct err *e) {
    const struct block *b = block_of(s, i);
    const struct shard_record *r = peek(s, b, i, out);
    struct shard_chunk_at at = {0}, end = {(uint32_t)b->n_chunks, (uint32_t)b->n_tops};
    if (s->about.chunks) {
        at = b->chunk_at[i - b->first];
        end = i - b->first + 1 < b->n ? b->chunk_at[i - b->first + 1] : end;
    }
    int code = room(buf, r->n, r->n_entries, end.top - at.top, e);
    if (code)
        return code;
    widen(buf->tokens, b->tokens, r->position, r->n, s->width);
    widen(buf->row_ids, b->row_ids, r->entry, r->n_entries, s->width);
    for (size_t k = 0; k < r->n_entries; k++)
        buf->row_probs[k] = shard_prob(b->row_probs[r->entry + k]);
    buf->row_offsets[0] = 0;
    for (size_t t = 0; t < r->n; t++) {
        buf->row_offsets[t + 1] = buf->row_offsets[t] + b->counts[r->position + t];
        buf->placed[t] = shard_prob(b->placed[r->position + t]);
    }
    out->tokens = buf->tokens;
    out->row_offsets = buf->row_offsets;
    out->row_ids = buf->row_ids;
    out->row_probs = buf->row_probs;
    out->placed = buf->placed;
    if (!s->about.chunks)
        return 0;
    for (size_t k = at.top; k < end.top; k++)
        buf->top_probs[k - at.top] = shard_prob(b->top_probs[k]);
    out->n_chunks = end.chunk - at.chunk;
    out->chunk_logprobs = b->chunk_logprobs + at.chunk;
    out->top_counts = b->top_counts + r->position;
    out->top_probs = buf->top_probs;
    return 0;
}

int shard_text(const struct shard_reply *r, const rsd_tokenizer *tok, struct str *out, struct err *e) {
    static const size_t blank = sizeof SPACE_SYMBOL - 1;
    struct text unknown = r->unknown;
    size_t start = out->n;
    for (size_t t = 0; t + 1 < r->n; t++) {
        struct text piece = {"", 0};
        if (r->tokens[t] == rsd_tokenizer_unk(tok) && unknown.n && (unsigned char)unknown.p[0] < unknown.n) {
            piece = (struct text){unknown.p + 1, (unsigned char)unknown.p[0]};
            unknown.p += piece.n + 1;
            unknown.n -= piece.n + 1;
        } else if (rsd_tokenizer_piece(tok, r->tokens[t], &piece.p, &piece.n)) {
            return err_set(e, ERR_MISMATCH, "position %zu: piece %ld is not in the vocabulary", t, (long)r->tokens[t]);
        }
        for (size_t i = 0; i < piece.n;) {
            if (i + blank <= piece.n && !memcmp(piece.p + i, SPACE_SYMBOL, blank)) {
                if (out->n > start)
                    str_addc(out, r->kinds[t] & SHARD_NEWLINE && !i ? '\n' : ' ');
                i += blank;
            } else {
                str_addc(out, piece.p[i++]);
            }
        }
    }
    return str_status(out, e);
}
