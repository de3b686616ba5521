/* `tokenizer.json` of Hugging Face, as far as it describes a SentencePiece unigram model. The file lists normaliser and
 * splitter as a chain of parts; the chains that stand for SentencePiece's own behaviour are recognised and everything else is
 * refused by name: ids must equal those of the spiece.model the file was made from, not those of the Rust code that reads it
 * (which differs on combining marks and ties). */
#include "text/vocab.h"

#include "core/json.h"
#include "text/base64.h"
#include "text/bpe.h"

#include <string.h>

/* "type" of a part of the chain. */
static int part_type(const struct json *part, const char *what, struct text *type, struct err *e) {
    if (json_type(part) != JSON_OBJECT)
        return err_set(e, ERR_FORMAT, "%s: expected an object, found %s", what, json_type_name(json_type(part)));
    int code = json_need_text(part, "type", type, e);
    return code ? err_within(e, "%s", what) : 0;
}

static int unsupported(struct err *e, const char *what, struct text type) {
    return err_set(e, ERR_UNSUPPORTED, "%s %.*s is not supported", what, (int)(type.n < 60 ? type.n : 60), type.p);
}

static struct text member_text(const struct json *object, const char *key) {
    const struct json *v = json_get(object, key);
    return v ? json_text(v) : (struct text){"", 0};
}

/* Replace of runs of blanks, in the two spellings in use. */
static bool is_blank_run(const struct json *part) {
    struct text regex = member_text(json_get(part, "pattern"), "Regex");
    struct text content = member_text(part, "content");
    return text_is(regex, " {2,}") && (text_is(content, " ") || text_is(content, SPACE_SYMBOL));
}

static int read_normalizer_part(struct vocab *v, const struct json *part, struct err *e) {
    struct text type = {0}, map = {0};
    int code = part_type(part, "normalizer", &type, e);
    if (code)
        return code;
    if (text_is(type, "Precompiled")) {
        if (v->charsmap.n || v->remove_extra)
            return err_set(e, ERR_UNSUPPORTED, "normalizer: Precompiled must come first and once");
        code = json_opt_text(part, "precompiled_charsmap", &map, e);
        if (code)
            return code;
        code = base64_add(&v->charsmap, map, e);
        return code ? err_within(e, "precompiled_charsmap") : 0;
    }
    if (text_is(type, "Strip") || (text_is(type, "Replace") && is_blank_run(part))) {
        v->remove_extra = true;
        return 0;
    }
    return unsupported(e, "normalizer", type);
}

static int read_normalizer(struct vocab *v, const struct json *n, struct err *e) {
    v->remove_extra = false;
    if (!n || json_type(n) == JSON_NULL)
        return 0;
    struct text type = {0};
    int code = part_type(n, "normalizer", &type, e);
    if (code)
        return code;
    if (!text_is(type, "Sequence"))
        return read_normalizer_part(v, n, e);
    const struct json *list = NULL;
    code = json_need_type(n, "normalizers", JSON_ARRAY, &list, e);
    for (const struct json *p = code ? NULL : json_first(list); p && !code; p = json_next(p))
        code = read_normalizer_part(v, p, e);
    return code;
}

static int read_splitter_part(struct vocab *v, const struct json *part, bool *seen, struct err *e) {
    struct text type = {0}, symbol = text_of(SPACE_SYMBOL), scheme = {0};
    bool prefix = true;
    int code = part_type(part, "pre_tokenizer", &type, e);
    if (code || text_is(type, "WhitespaceSplit"))
        return code;
    if (!text_is(type, "Metaspace"))
        return unsupported(e, "pre_tokenizer", type);
    code = json_opt_text(part, "replacement", &symbol, e);
    code = code ? code : json_opt_text(part, "prepend_scheme", &scheme, e);
    code = code ? code : json_opt_bool(part, "add_prefix_space", &prefix, e);
    if (code)
        return err_within(e, "pre_tokenizer");
    if (!text_is(symbol, SPACE_SYMBOL))
        return err_set(e, ERR_UNSUPPORTED, "pre_tokenizer: the blank must be replaced by U+2581");
    if (scheme.n && !text_is(scheme, "always") && !text_is(scheme, "first") && !text_is(scheme, "never"))
        return unsupported(e, "pre_tokenizer: prepend_scheme", scheme);
    v->dummy_prefix = scheme.n ? !text_is(scheme, "never") : prefix;
    *seen = true;
    return 0;
}

static int read_splitter(struct vocab *v, const struct json *s, struct err *e) {
    struct text type = {0};
    bool seen = false;
    int code = 0;
    if (!s || json_type(s) == JSON_NULL)
        return err_set(e, ERR_UNSUPPORTED, "no pre_tokenizer: only Metaspace is supported");
    code = part_type(s, "pre_tokenizer", &type, e);
    if (code)
        return code;
    if (!text_is(type, "Sequence")) {
        code = read_splitter_part(v, s, &seen, e);
    } else {
        const struct json *list = NULL;
        code = json_need_type(s, "pretokenizers", JSON_ARRAY, &list, e);
        for (const struct json *p = code ? NULL : json_first(list); p && !code; p = json_next(p))
            code = read_splitter_part(v, p, &seen, e);
    }
    if (!code && !seen)
        return err_set(e, ERR_UNSUPPORTED, "pre_tokenizer: only Metaspace is supported");
    return code;
}

static int read_pieces(struct vocab *v, const struct json *model, struct err *e) {
    const struct json *list = NULL;
    int code = json_need_type(model, "vocab", JSON_ARRAY, &list, e);
    if (code)
        return err_within(e, "model");
    for (const struct json *p = json_first(list); p && !code; p = json_next(p)) {
        const struct json *piece = json_type(p) == JSON_ARRAY ? json_first(p) : NULL;
        const struct json *score = piece ? json_next(piece) : NULL;
        if (!score || json_next(score) || json_type(piece) != JSON_TEXT || json_type(score) != JSON_NUMBER)
            return err_set(e, ERR_FORMAT, "model.vocab[%zu]: expected [text, score]", v->n);
        double x = json_number(score);
        code = vocab_add(v, json_text(piece), (float)x, PIECE_NORMAL, e);
    }
    return code ? err_within(e, "model.vocab") : 0;
}

static bool is_extra_id(struct text t) {
    static const char head[] = "<extra_id_";
    size_t n = sizeof head - 1;
    if (t.n < n + 2 || memcmp(t.p, head, n) || t.p[t.n - 1] != '>')
        return false;
    for (size_t i = n; i + 1 < t.n; i++)
        if (t.p[i] < '0' || t.p[i] > '9')
            return false;
    return true;
}

static int read_added(struct vocab *v, const struct json *list, struct err *e) {
    int code = 0;
    for (const struct json *t = json_first(list); t && !code; t = json_next(t)) {
        int64_t id = 0;
        bool special = false;
        struct text content = {0};
        code = json_need_int(t, "id", 0, INT32_MAX / 2, &id, e);
        code = code ? code : json_need_text(t, "content", &content, e);
        code = code ? code : json_opt_bool(t, "special", &special, e);
        if (code)
            break;
        int shown = (int)(content.n < 60 ? content.n : 60);
        if (!special) {
            code = err_set(e, ERR_UNSUPPORTED,
                           "%.*s (id %lld): added tokens that are cut out of text are not supported, only special ones", shown,
                           content.p, (long long)id);
            break;
        }
        enum piece_kind kind = is_extra_id(content) ? PIECE_EXTRA : PIECE_CONTROL;
        if ((size_t)id == v->n) {
            code = vocab_add(v, content, 0, kind, e);
        } else if ((size_t)id > v->n || !text_eq(vocab_piece(v, (size_t)id), content)) {
            code = err_set(e, ERR_FORMAT, "%.*s: id %lld is neither its place in model.vocab nor the next free one (%zu)", shown,
                           content.p, (long long)id, v->n);
        } else if (id != v->unk) {
            v->pieces[id].kind = kind;
            if (kind == PIECE_EXTRA)
                v->pieces[id].score = 0;
        }
    }
    return code ? err_within(e, "added_tokens") : 0;
}

static int read_document(struct vocab *v, struct bpe *b, const struct json *doc, struct err *e) {
    const struct json *model = NULL, *added = json_get(doc, "added_tokens");
    struct text type = {0};
    bool fallback = false;
    int64_t unk = -1;
    int code = json_need_type(doc, "model", JSON_OBJECT, &model, e);
    if (code)
        return code;
    code = json_opt_text(model, "type", &type, e);
    if (code)
        return err_within(e, "model");
    if (text_is(type, "BPE") || (!type.n && json_get(model, "merges")))
        return bpe_read_json(v, b, doc, e);
    if (b->pattern != SPLIT_UNKNOWN)
        return err_set(e, ERR_INVALID, "a pattern is only for byte pair vocabularies");
    if (!text_is(type, "Unigram"))
        return type.n ? unsupported(e, "model type", type)
                      : err_set(e, ERR_UNSUPPORTED, "model: no type, only Unigram and BPE are supported");
    code = json_opt_bool(model, "byte_fallback", &fallback, e);
    if (!code && fallback)
        code = err_set(e, ERR_UNSUPPORTED, "byte_fallback is not supported");
    code = code ? code : json_need_int(model, "unk_id", 0, INT32_MAX / 2, &unk, e);
    if (code)
        return err_within(e, "model");
    code = read_pieces(v, model, e);
    if (code)
        return code;
    if ((size_t)unk >= v->n)
        return err_set(e, ERR_FORMAT, "model.unk_id is %lld, there are %zu pieces", (long long)unk, v->n);
    v->unk = (int32_t)unk;
    v->pieces[unk].kind = PIECE_UNKNOWN;
    code = read_normalizer(v, json_get(doc, "normalizer"), e);
    code = code ? code : read_splitter(v, json_get(doc, "pre_tokenizer"), e);
    if (!code && added && json_type(added) != JSON_NULL)
        code =
            json_type(added) == JSON_ARRAY ? read_added(v, added, e) : err_set(e, ERR_FORMAT, "added_tokens: expected an array");
    return code;
}

int vocab_read_json(struct vocab *v, struct bpe *b, struct text file, struct err *e) {
    struct json *doc = NULL;
    str_addz(&v->unk_surface, " \xe2\x81\x87 ");
    int code = str_status(&v->unk_surface, e);
    code = code ? code : json_parse(file.p, file.n, &doc, e);
    code = code ? code : read_document(v, b, doc, e);
    json_free(doc);
    if (code)
        return code;
    vocab_find_special(v);
    return 0;
}
