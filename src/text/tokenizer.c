/* The public tokenizer: a vocabulary from any of the file forms, the model built from it (normaliser and unigram, or byte
 * pairs), and buffers that every call uses again. */
#include "reasondistill/tokenizer.h"

#include "base/ctx.h"
#include "core/file.h"
#include "text/bpe.h"

#include <string.h>

static const size_t MAX_FILE = (size_t)256 << 20;

struct rsd_tokenizer {
    rsd_ctx *ctx;
    struct vocab v;
    struct normalizer norm;
    struct unigram model;
    struct bpe bpe;     /* where v.over_bytes */
    struct normal text; /* the last encoded text, normalised */
    struct cut cut;     /* and its pieces */
    uint32_t *begin, *end;
    size_t begin_cap, end_cap;
    bool encoded;
    struct str decoded;
    char *path;
    char hash[65];
};

static int find_file(const struct allocator *a, const char *path, char **out, struct err *e) {
    static const char *const names[] = {"spiece.model", "tokenizer.json", "merges.txt", "vocab.bpe"};
    if (!file_is_dir(path)) {
        *out = mem_strndup(a, path, strlen(path), e);
        return *out ? 0 : ERR_NOMEM;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int code = file_join(a, out, e, path, names[i]);
        if (code || file_exists(*out))
            return code;
        mem_free(a, *out);
        *out = NULL;
    }
    return err_set(e, ERR_NOTFOUND,
                   "%s: neither spiece.model nor tokenizer.json is in this folder: copy one from the model it belongs to", path);
}

static bool looks_like_json(struct text t) {
    size_t i = 0;
    while (i < t.n && (t.p[i] == ' ' || t.p[i] == '\n' || t.p[i] == '\r' || t.p[i] == '\t'))
        i++;
    return i < t.n && t.p[i] == '{';
}

/* The ids that belong to a file of merges lie beside it, under one of two names. */
static int read_encoder(const rsd_tokenizer *t, struct str *out, struct err *e) {
    static const char *const pairs[][2] = {{"vocab.bpe", "encoder.json"}, {"merges.txt", "vocab.json"}};
    size_t n = strlen(t->path);
    for (size_t i = 0; i < 2; i++) {
        size_t tail = strlen(pairs[i][0]);
        if (n < tail || strcmp(t->path + n - tail, pairs[i][0]) != 0)
            continue;
        struct str path;
        str_init(&path, &t->ctx->alloc);
        str_add(&path, t->path, n - tail);
        str_addz(&path, pairs[i][1]);
        int code = str_status(&path, e);
        code = code ? code : file_read(str_z(&path), MAX_FILE, out, e);
        str_free(&path);
        return code;
    }
    return err_set(e, ERR_UNSUPPORTED,
                   "merges must be named vocab.bpe, with encoder.json beside, or merges.txt, with vocab.json");
}

static int read_file(rsd_tokenizer *t, struct text file, struct err *e) {
    struct str encoder;
    if (looks_like_json(file))
        return vocab_read_json(&t->v, &t->bpe, file, e);
    if (bpe_is_tiktoken(file))
        return bpe_read_tiktoken(&t->v, &t->bpe, file, e);
    if (!bpe_is_merges(file))
        return t->bpe.pattern == SPLIT_UNKNOWN ? vocab_read_spiece(&t->v, file, e)
                                               : err_set(e, ERR_INVALID, "a pattern is only for byte pair vocabularies");
    str_init(&encoder, &t->ctx->alloc);
    int code = read_encoder(t, &encoder, e);
    code = code ? code : bpe_read_merges(&t->v, &t->bpe, file, (struct text){str_z(&encoder), encoder.n}, e);
    str_free(&encoder);
    return code;
}

static int build_unigram(rsd_tokenizer *t, struct err *e) {
    int code = unigram_init(&t->model, &t->v, e);
    if (code)
        return code;
    t->norm = (struct normalizer){.dummy_prefix = t->v.dummy_prefix, .remove_extra = t->v.remove_extra, .escape = t->v.escape};
    t->norm.user = t->model.user.unit ? &t->model.user : NULL;
    code =
        normalizer_init(&t->norm, &t->ctx->alloc, (struct text){str_z(&t->v.charsmap), t->v.charsmap.n}, t->v.charsmap_offset, e);
    if (!code)
        vocab_hash(&t->v, t->hash);
    return code;
}

static int build_bpe(rsd_tokenizer *t, struct err *e) {
    vocab_find_special(&t->v);
    int code = bpe_ready(&t->bpe, e);
    if (!code)
        bpe_hash(&t->bpe, t->hash);
    return code;
}

static int load(rsd_tokenizer *t, const char *path, struct err *e) {
    const struct allocator *a = &t->ctx->alloc;
    struct str file;
    str_init(&file, a);
    int code = find_file(a, path, &t->path, e);
    code = code ? code : file_read(t->path, MAX_FILE, &file, e);
    if (code)
        goto done; /* these errors name the path */
    struct text bytes = {str_z(&file), file.n};
    code = read_file(t, bytes, e);
    code = code ? code : t->v.over_bytes ? build_bpe(t, e) : build_unigram(t, e);
    if (code)
        err_within(e, "%s", t->path);
done:
    str_free(&file);
    return code;
}

int rsd_tokenizer_open(rsd_ctx *ctx, const char *path, rsd_tokenizer **out) {
    return rsd_tokenizer_open_pattern(ctx, path, NULL, out);
}

int rsd_tokenizer_open_pattern(rsd_ctx *ctx, const char *path, const char *pattern, rsd_tokenizer **out) {
    if (!ctx)
        return RSD_EINVAL;
    if (!path || !out)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_tokenizer_open: path and out must not be NULL");
    *out = NULL;
    int split = pattern ? split_parse(text_of(pattern)) : SPLIT_UNKNOWN;
    if (pattern && split == SPLIT_UNKNOWN)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_tokenizer_open: pattern \"%.40s\" is none of gpt2, cl100k, llama3 and o200k",
                        pattern);
    struct err e = {0};
    rsd_tokenizer *t = mem_zero(&ctx->alloc, 1, sizeof *t, &e);
    if (!t)
        return ctx_return(ctx, e.code, &e);
    t->ctx = ctx;
    vocab_init(&t->v, &ctx->alloc);
    str_init(&t->decoded, &ctx->alloc);
    t->text.a = t->cut.a = &ctx->alloc;
    t->bpe = (struct bpe){.v = &t->v, .pattern = (enum split_pattern)split};
    int code = load(t, path, &e);
    if (code) {
        rsd_tokenizer_close(t);
        return ctx_return(ctx, code, &e);
    }
    *out = t;
    return RSD_OK;
}

void rsd_tokenizer_close(rsd_tokenizer *t) {
    if (!t)
        return;
    const struct allocator *a = &t->ctx->alloc;
    normalizer_free(&t->norm);
    unigram_free(&t->model);
    bpe_free(&t->bpe);
    vocab_free(&t->v);
    normal_free(&t->text);
    cut_free(&t->cut);
    str_free(&t->decoded);
    mem_free(a, t->begin);
    mem_free(a, t->end);
    mem_free(a, t->path);
    mem_free(a, t);
}

static int encode(rsd_tokenizer *t, struct text in, struct err *e) {
    const struct allocator *a = &t->ctx->alloc;
    t->encoded = false;
    int code = t->v.over_bytes ? bpe_cut(&t->bpe, in, &t->cut, e) : normalize(&t->norm, in, &t->text, e);
    if (!code && !t->v.over_bytes)
        code = unigram_cut(&t->model, t->text.p, t->text.n, &t->cut, e);
    code = code ? code : mem_reserve(a, &t->begin, &t->begin_cap, t->cut.n + 1, sizeof *t->begin, e);
    code = code ? code : mem_reserve(a, &t->end, &t->end_cap, t->cut.n + 1, sizeof *t->end, e);
    if (code)
        return code;
    for (size_t i = 0; i < t->cut.n; i++) {
        t->begin[i] = t->v.over_bytes ? t->cut.from[i] : t->text.from[t->cut.from[i]];
        t->end[i] = t->v.over_bytes ? t->cut.to[i] : t->text.to[t->cut.to[i] - 1];
    }
    t->encoded = true;
    return 0;
}

int rsd_tokenizer_encode(rsd_tokenizer *t, const char *text, size_t len, const int32_t **ids, size_t *n) {
    if (!t)
        return RSD_EINVAL;
    if ((!text && len) || !ids || !n)
        return ctx_fail(t->ctx, RSD_EINVAL, "rsd_tokenizer_encode: text, ids and n must not be NULL");
    struct err e = {0};
    int code = encode(t, (struct text){text, len}, &e);
    *ids = code ? NULL : t->cut.ids;
    *n = code ? 0 : t->cut.n;
    return ctx_return(t->ctx, code, &e);
}

int rsd_tokenizer_spans(const rsd_tokenizer *t, const uint32_t **begin, const uint32_t **end) {
    if (!t)
        return RSD_EINVAL;
    if (!begin || !end)
        return ctx_fail(t->ctx, RSD_EINVAL, "rsd_tokenizer_spans: begin and end must not be NULL");
    if (!t->encoded)
        return ctx_fail(t->ctx, RSD_ESTATE, "rsd_tokenizer_spans: nothing has been encoded: call rsd_tokenizer_encode first");
    *begin = t->begin;
    *end = t->end;
    return RSD_OK;
}

/* Adds a piece's text with U+2581 as a blank; at the start of the text its leading blanks are dropped. True if the start is
 * over. */
static bool put_piece(rsd_tokenizer *t, struct text p, bool at_start) {
    static const size_t blank = sizeof SPACE_SYMBOL - 1;
    bool over = false;
    if (at_start && (t->v.dummy_prefix || t->v.remove_extra) && p.n >= blank && !memcmp(p.p, SPACE_SYMBOL, blank)) {
        p.p += blank;
        p.n -= blank;
        over = !t->v.remove_extra; /* without it only one blank stood for the dummy prefix */
    }
    while (p.n) {
        if (p.n >= blank && !memcmp(p.p, SPACE_SYMBOL, blank)) {
            str_addc(&t->decoded, ' ');
            p.p += blank;
            p.n -= blank;
        } else {
            str_addc(&t->decoded, *p.p++);
            p.n--;
        }
    }
    return over;
}

int rsd_tokenizer_decode(rsd_tokenizer *t, const int32_t *ids, size_t n, const char **text, size_t *len) {
    if (!t)
        return RSD_EINVAL;
    if ((!ids && n) || !text || !len)
        return ctx_fail(t->ctx, RSD_EINVAL, "rsd_tokenizer_decode: ids, text and len must not be NULL");
    str_clear(&t->decoded);
    bool start_over = false;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= t->v.n)
            return ctx_fail(t->ctx, RSD_EINVAL, "rsd_tokenizer_decode: ids[%zu] is %ld, the vocabulary has %zu", i, (long)ids[i],
                            t->v.n);
        enum piece_kind kind = t->v.pieces[ids[i]].kind;
        if (kind == PIECE_UNKNOWN)
            str_add(&t->decoded, str_z(&t->v.unk_surface), t->v.unk_surface.n);
        else if (t->v.over_bytes && kind != PIECE_CONTROL)
            str_add(&t->decoded, vocab_piece(&t->v, (size_t)ids[i]).p, t->v.pieces[ids[i]].n);
        else if (kind != PIECE_CONTROL)
            start_over |= put_piece(t, vocab_piece(&t->v, (size_t)ids[i]), !start_over && !t->decoded.n);
    }
    struct err e = {0};
    int code = str_status(&t->decoded, &e);
    *text = code ? NULL : str_z(&t->decoded);
    *len = code ? 0 : t->decoded.n;
    return ctx_return(t->ctx, code, &e);
}

int rsd_tokenizer_piece(const rsd_tokenizer *t, int32_t id, const char **piece, size_t *len) {
    if (!t)
        return RSD_EINVAL;
    if (id < 0 || (size_t)id >= t->v.n || !piece || !len)
        return ctx_fail(t->ctx, RSD_EINVAL, "rsd_tokenizer_piece: no id %ld, the vocabulary has %zu", (long)id, t->v.n);
    struct text p = vocab_piece(&t->v, (size_t)id);
    *piece = p.p;
    *len = p.n;
    return RSD_OK;
}

int rsd_tokenizer_surface(const rsd_tokenizer *t, size_t i, const char **piece, size_t *len) {
    if (!t)
        return RSD_EINVAL;
    if (!t->encoded)
        return ctx_fail(t->ctx, RSD_ESTATE, "rsd_tokenizer_surface: nothing has been encoded: call rsd_tokenizer_encode first");
    if (i >= t->cut.n || !piece || !len)
        return ctx_fail(t->ctx, RSD_EINVAL, "rsd_tokenizer_surface: no piece %zu, the text has %zu", i, t->cut.n);
    if (t->cut.ids[i] != t->v.unk)
        return rsd_tokenizer_piece(t, t->cut.ids[i], piece, len);
    *piece = t->text.p + t->cut.from[i];
    *len = t->cut.to[i] - t->cut.from[i];
    return RSD_OK;
}

int rsd_tokenizer_find(const rsd_tokenizer *t, const char *piece, size_t len, int32_t *id) {
    if (!t || !piece || !id)
        return RSD_EINVAL;
    int32_t found = vocab_find(&t->v, (struct text){piece, len});
    if (found >= 0)
        *id = found;
    return found >= 0 ? RSD_OK : RSD_ENOTFOUND;
}

int32_t rsd_tokenizer_size(const rsd_tokenizer *t) {
    return t ? (int32_t)t->v.n : 0;
}

int32_t rsd_tokenizer_pad(const rsd_tokenizer *t) {
    return t ? t->v.pad : -1;
}

int32_t rsd_tokenizer_eos(const rsd_tokenizer *t) {
    return t ? t->v.eos : -1;
}

int32_t rsd_tokenizer_unk(const rsd_tokenizer *t) {
    return t ? t->v.unk : -1;
}

int rsd_tokenizer_bytes(const rsd_tokenizer *t) {
    return t && t->v.over_bytes;
}

const char *rsd_tokenizer_pattern(const rsd_tokenizer *t) {
    return t && t->v.over_bytes ? split_name(t->bpe.pattern) : "";
}

const char *rsd_tokenizer_hash(const rsd_tokenizer *t) {
    return t ? t->hash : "";
}

const char *rsd_tokenizer_path(const rsd_tokenizer *t) {
    return t ? t->path : "";
}
