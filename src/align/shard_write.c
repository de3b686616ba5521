/* Writing aligned shards: columns are gathered for one block at a time, so memory does not grow with the number of replies. */
#include "align/shard_file.h"

#include "core/json.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 1 << 20 }; /* positions */

struct shard_out {
    const struct allocator *a;
    struct section_out file;
    struct str columns[SHARD_COLUMNS];
    char tokenizer[65];
    int32_t vocab;
    bool chunks;
    uint64_t block, replies, positions, entries; /* of the whole file */
    size_t n;                                    /* positions of this block */
};

int shard_begin(struct shard_out **out, const struct allocator *a, const char *path, const char *tokenizer, int32_t vocab,
                bool chunks, struct err *e) {
    *out = NULL;
    struct shard_out *o = mem_zero(a, 1, sizeof *o, e);
    if (!o)
        return ERR_NOMEM;
    o->a = a;
    o->vocab = vocab;
    o->chunks = chunks;
    strncpy(o->tokenizer, tokenizer, sizeof o->tokenizer - 1);
    for (size_t i = 0; i < SHARD_COLUMNS; i++)
        str_init(&o->columns[i], a);
    int code = section_begin(&o->file, a, path, SECTION_ALIGNED, e);
    if (code) {
        shard_abort(o);
        return code;
    }
    *out = o;
    return 0;
}

void shard_abort(struct shard_out *o) {
    if (!o)
        return;
    section_abort(&o->file);
    for (size_t i = 0; i < SHARD_COLUMNS; i++)
        str_free(&o->columns[i]);
    mem_free(o->a, o);
}

static int flush(struct shard_out *o, struct err *e) {
    int code = 0;
    for (size_t i = 0; i < shard_columns(o->chunks) && !code; i++) {
        struct str *c = &o->columns[i];
        code = str_status(c, e);
        code = code ? code : section_put(&o->file, shard_column_names[i], o->block, str_z(c), c->n, e);
        str_clear(c);
    }
    o->block++;
    o->n = 0;
    return code;
}

static void put_id(struct str *s, int32_t id, int32_t vocab) {
    uint16_t narrow = (uint16_t)id;
    if (shard_id_width(vocab) == 2)
        str_add(s, (const char *)&narrow, sizeof narrow);
    else
        str_add(s, (const char *)&id, sizeof id);
}

static uint16_t code_of(float p) {
    return (uint16_t)lroundf(65535 * sqrtf(p));
}

/* The row's probabilities as codes, their sum brought down to at most 1 where rounding lifted it. */
static void put_probs(struct str *s, const float *p, size_t n) {
    uint16_t codes[SHARD_ROW_MAX];
    size_t largest = 0;
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        codes[i] = code_of(p[i]);
        largest = codes[i] > codes[largest] ? i : largest;
        sum += shard_prob(codes[i]);
    }
    while (sum > 1 && codes[largest]) {
        codes[largest]--;
        sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += shard_prob(codes[i]);
    }
    str_add(s, (const char *)codes, n * sizeof *codes);
}

/* Codes that are never above what they stand for, so that neither order nor sum is lost. */
static void put_falling(struct str *s, const float *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t code = (uint16_t)(65535 * sqrtf(p[i]));
        str_add(s, (const char *)&code, sizeof code);
    }
}

/* n_tops: of all positions. */
static int check_chunks(const struct shard_reply *r, size_t *n_tops, struct err *e) {
    size_t ends = 0;
    *n_tops = 0;
    for (size_t t = 0; t < r->n; t++) {
        ends += (r->kinds[t] & SHARD_CHUNK) != 0;
        *n_tops += r->top_counts[t];
    }
    if (ends != r->n_chunks)
        return err_set(e, ERR_INVALID, "%zu chunks with %zu ends cannot be written", r->n_chunks, ends);
    for (size_t i = 0; i < r->n_chunks; i++)
        if (r->chunk_logprobs[i] > 0)
            return err_set(e, ERR_INVALID, "chunk %zu: log-probability %g cannot be written", i, (double)r->chunk_logprobs[i]);
    for (size_t i = 0; i < *n_tops; i++)
        if (!(r->top_probs[i] >= 0 && r->top_probs[i] <= 1))
            return err_set(e, ERR_INVALID, "top_probs: entry %zu: probability %g cannot be written", i, (double)r->top_probs[i]);
    return 0;
}

static void add_chunks(struct str *c, const struct shard_reply *r, size_t n_tops) {
    struct shard_chunk_at at = {.chunk = (uint32_t)(c[SHARD_CHUNK_LOGPROBS].n / sizeof *r->chunk_logprobs),
                                .top = (uint32_t)(c[SHARD_TOP_PROBS].n / sizeof(uint16_t))};
    str_add(&c[SHARD_CHUNK_AT], (const char *)&at, sizeof at);
    str_add(&c[SHARD_CHUNK_LOGPROBS], (const char *)r->chunk_logprobs, r->n_chunks * sizeof *r->chunk_logprobs);
    str_add(&c[SHARD_TOP_COUNTS], (const char *)r->top_counts, r->n);
    put_falling(&c[SHARD_TOP_PROBS], r->top_probs, n_tops);
}

static int check(const struct shard_out *o, const struct shard_reply *r, struct err *e) {
    if (!r->n || r->n > UINT32_MAX / SHARD_ROW_MAX)
        return err_set(e, ERR_INVALID, "a reply of %zu positions cannot be written", r->n);
    for (size_t t = 0; t < r->n; t++) {
        size_t entries = r->row_offsets[t + 1] - r->row_offsets[t];
        if (r->tokens[t] < 0 || r->tokens[t] >= o->vocab || !entries || entries > SHARD_ROW_MAX)
            return err_set(e, ERR_INVALID, "position %zu: piece %ld and a row of %zu entries cannot be written", t,
                           (long)r->tokens[t], entries);
    }
    for (size_t i = r->row_offsets[0]; i < r->row_offsets[r->n]; i++)
        if (r->row_ids[i] < 0 || r->row_ids[i] >= o->vocab || !(r->row_probs[i] >= 0 && r->row_probs[i] <= 1))
            return err_set(e, ERR_INVALID, "row entry %zu: piece %ld with probability %g cannot be written", i,
                           (long)r->row_ids[i], (double)r->row_probs[i]);
    return 0;
}

int shard_add(struct shard_out *o, const struct shard_reply *r, struct err *e) {
    size_t n_tops = 0;
    int code = check(o, r, e);
    struct str *c = o->columns;
    code = code || !o->chunks ? code : check_chunks(r, &n_tops, e);
    if (!code &&
        (o->n + r->n > BLOCK || c[SHARD_IDS].n + r->id.n > BLOCK * 16 || c[SHARD_UNKNOWN].n + r->unknown.n > BLOCK * 16) && o->n)
        code = flush(o, e);
    if (code)
        return code;
    size_t entries = r->row_offsets[r->n] - r->row_offsets[0], width = shard_id_width(o->vocab);
    struct shard_record record = {.sample = r->sample,
                                  .position = (uint32_t)o->n,
                                  .entry = (uint32_t)(c[SHARD_ROW_IDS].n / width),
                                  .id_at = (uint32_t)c[SHARD_IDS].n,
                                  .unknown_at = (uint32_t)c[SHARD_UNKNOWN].n,
                                  .id_len = (uint32_t)r->id.n,
                                  .n = (uint32_t)r->n,
                                  .n_entries = (uint32_t)entries,
                                  .correct = r->correct};
    str_add(&c[SHARD_RECORDS], (const char *)&record, sizeof record);
    str_add(&c[SHARD_IDS], r->id.p, r->id.n);
    str_add(&c[SHARD_UNKNOWN], r->unknown.p, r->unknown.n);
    for (size_t t = 0; t < r->n; t++) {
        size_t from = r->row_offsets[t], n = r->row_offsets[t + 1] - from;
        uint16_t placed = code_of(r->placed[t]);
        put_id(&c[SHARD_TOKENS], r->tokens[t], o->vocab);
        str_addc(&c[SHARD_KINDS], (char)(o->chunks ? r->kinds[t] : r->kinds[t] & ~SHARD_CHUNK));
        str_addc(&c[SHARD_COUNTS], (char)n);
        str_add(&c[SHARD_PLACED], (const char *)&placed, sizeof placed);
        for (size_t i = from; i < from + n; i++)
            put_id(&c[SHARD_ROW_IDS], r->row_ids[i], o->vocab);
        put_probs(&c[SHARD_ROW_PROBS], r->row_probs + from, n);
    }
    if (o->chunks)
        add_chunks(c, r, n_tops);
    o->n += r->n;
    o->replies++;
    o->positions += r->n;
    o->entries += entries;
    for (size_t i = 0; i < SHARD_COLUMNS; i++)
        if (str_status(&c[i], e))
            return ERR_NOMEM;
    return 0;
}

static void put_report(struct json_out *o, const rsd_align_report *r) {
    json_put_key(o, "report");
    json_object(o);
    json_put_key(o, "replies");
    json_put_int(o, (int64_t)r->replies);
    json_put_key(o, "skipped");
    json_put_int(o, (int64_t)r->skipped);
    json_put_key(o, "positions");
    json_put_int(o, (int64_t)r->positions);
    json_put_key(o, "kinds");
    json_array(o);
    for (size_t i = 0; i < sizeof r->kinds / sizeof *r->kinds; i++)
        json_put_int(o, (int64_t)r->kinds[i]);
    json_end_array(o);
    json_put_key(o, "placed");
    json_put_double(o, r->placed);
    json_put_key(o, "given");
    json_put_double(o, r->given);
    for (int given = 0; given < 2; given++) {
        json_put_key(o, given ? "kind_given" : "kind_placed");
        json_array(o);
        for (size_t i = 0; i < sizeof r->kinds / sizeof *r->kinds; i++)
            json_put_double(o, given ? r->kind_given[i] : r->kind_placed[i]);
        json_end_array(o);
    }
    json_end_object(o);
}

int shard_commit(struct shard_out *o, const struct shard_about *about, struct err *e) {
    struct str meta;
    struct json_out j;
    str_init(&meta, o->a);
    int code = o->n ? flush(o, e) : 0;
    json_begin(&j, &meta, 0);
    json_object(&j);
    json_put_key(&j, "tokenizer");
    json_put_z(&j, o->tokenizer);
    json_put_key(&j, "vocab");
    json_put_int(&j, o->vocab);
    json_put_key(&j, "method");
    json_put_z(&j, about->method == RSD_ALIGN_DTW ? "dtw" : "span");
    json_put_key(&j, "top_k");
    json_put_int(&j, about->top_k);
    if (o->chunks) {
        json_put_key(&j, "chunks");
        json_put_int(&j, 1);
    }
    json_put_key(&j, "kind_weights");
    json_array(&j);
    for (size_t i = 0; i < sizeof about->kind_weights / sizeof *about->kind_weights; i++)
        json_put_float(&j, about->kind_weights[i]);
    json_end_array(&j);
    json_put_key(&j, "blocks");
    json_put_int(&j, (int64_t)o->block);
    put_report(&j, &about->report);
    json_end_object(&j);
    code = code ? code : str_status(&meta, e);
    code = code ? code : section_put(&o->file, "meta", 0, str_z(&meta), meta.n, e);
    code = code ? code : section_commit(&o->file, e);
    str_free(&meta);
    shard_abort(o);
    return code;
}
