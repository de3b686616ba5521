/* `tokenizer.json` of Hugging Face where its model is BPE over bytes. The splitter is a chain: ByteLevel alone (GPT-2's pattern),
 * or Split with a written pattern and then ByteLevel; patterns are recognised by their text. Other chains and normalisers are
 * refused by name. */
#include "core/json.h"
#include "text/bytechar.h"

static int unsupported(struct err *e, const char *what, struct text type) {
    return err_set(e, ERR_UNSUPPORTED, "%s %.*s is not supported", what, (int)(type.n < 60 ? type.n : 60), type.p);
}

static int read_byte_level(struct bpe *b, const struct json *part, struct err *e) {
    bool prefix = true, regex = true;
    int code = json_opt_bool(part, "add_prefix_space", &prefix, e);
    code = code ? code : json_opt_bool(part, "use_regex", &regex, e);
    if (!code && prefix)
        code = err_set(e, ERR_UNSUPPORTED, "ByteLevel with add_prefix_space is not supported");
    if (!code && regex && b->pattern == SPLIT_UNKNOWN)
        b->pattern = SPLIT_GPT2;
    return code;
}

static int read_split(struct bpe *b, const struct json *part, struct err *e) {
    struct text regex = {0}, behavior = {0};
    const struct json *pattern = NULL;
    bool invert = false;
    int code = json_need_type(part, "pattern", JSON_OBJECT, &pattern, e);
    code = code ? code : json_need_text(part, "behavior", &behavior, e);
    code = code ? code : json_opt_bool(part, "invert", &invert, e);
    code = code ? code : json_need_text(pattern, "Regex", &regex, e);
    if (code)
        return code;
    /* everything is matched by the pattern, so keeping what is between matches or removing it is the same */
    if (!(text_is(behavior, "Isolated") && !invert) && !(text_is(behavior, "Removed") && invert))
        return unsupported(e, "Split with behavior", behavior);
    if (b->pattern == SPLIT_UNKNOWN)
        b->pattern = (enum split_pattern)split_of_regex(regex);
    if (b->pattern == SPLIT_UNKNOWN)
        return err_set(e, ERR_UNSUPPORTED,
                       "Split with pattern %.*s is not known: say which pattern comes near (gpt2, cl100k, llama3 "
                       "or o200k)",
                       (int)(regex.n < 200 ? regex.n : 200), regex.p);
    return 0;
}

static int read_part(struct bpe *b, const struct json *part, bool *bytes, struct err *e) {
    struct text type = {0};
    int code =
        json_type(part) == JSON_OBJECT ? json_need_text(part, "type", &type, e) : err_set(e, ERR_FORMAT, "expected an object");
    if (code)
        return code;
    if (text_is(type, "Split"))
        return read_split(b, part, e);
    if (!text_is(type, "ByteLevel"))
        return unsupported(e, "type", type);
    *bytes = true;
    return read_byte_level(b, part, e);
}

static int read_splitter(struct bpe *b, const struct json *s, struct err *e) {
    const struct json *list = s && json_type(s) == JSON_OBJECT ? json_get(s, "pretokenizers") : NULL;
    bool bytes = false;
    int code = 0;
    if (!s || json_type(s) != JSON_OBJECT)
        code = err_set(e, ERR_UNSUPPORTED, "expected ByteLevel, found %s", s ? json_type_name(json_type(s)) : "nothing");
    else if (list && json_type(list) == JSON_ARRAY)
        for (const struct json *p = json_first(list); p && !code; p = json_next(p))
            code = read_part(b, p, &bytes, e);
    else
        code = read_part(b, s, &bytes, e);
    if (!code && (!bytes || b->pattern == SPLIT_UNKNOWN))
        code = err_set(e, ERR_UNSUPPORTED, "only ByteLevel, alone or behind Split, is supported");
    return code ? err_within(e, "pre_tokenizer") : 0;
}

/* ["a b", ...] or [["a","b"], ...]. */
static int read_merges(struct bpe *b, const struct json *list, struct err *e) {
    struct str buf;
    uint32_t rank = 0;
    int code = 0;
    str_init(&buf, b->v->a);
    for (const struct json *m = json_first(list); m && !code; m = json_next(m), rank++) {
        struct text left = json_text(m), right = {0};
        if (json_type(m) == JSON_TEXT) {
            size_t k = 0;
            while (k < left.n && left.p[k] != ' ')
                k++;
            right = k < left.n ? (struct text){left.p + k + 1, left.n - k - 1} : (struct text){0};
            left.n = k;
        } else if (json_type(m) == JSON_ARRAY && json_count(m) == 2) {
            left = json_text(json_first(m));
            right = json_text(json_next(json_first(m)));
        }
        code = left.n && right.n ? bpe_add_written(b, left, right, rank, &buf, e) : err_set(e, ERR_FORMAT, "expected two pieces");
        if (code)
            err_within(e, "model.merges[%u]", (unsigned)rank);
    }
    str_free(&buf);
    return code;
}

/* Added tokens are special ones here, parsed from text by no one: of known pieces the kind changes, others are new. Their text is
 * written plainly. */
static int read_added(struct vocab *v, const struct json *list, struct err *e) {
    int code = json_type(list) == JSON_ARRAY ? 0 : err_set(e, ERR_FORMAT, "expected an array");
    for (const struct json *t = code ? NULL : json_first(list); t && !code; t = json_next(t)) {
        int64_t id = 0;
        struct text content = {0};
        code = json_need_int(t, "id", 0, INT32_MAX / 2, &id, e);
        code = code ? code : json_need_text(t, "content", &content, e);
        if (code)
            break;
        if ((size_t)id >= v->n || !v->pieces[id].n)
            code = vocab_put(v, (size_t)id, content, PIECE_CONTROL, e);
        else
            v->pieces[id].kind = PIECE_CONTROL;
    }
    return code ? err_within(e, "added_tokens") : 0;
}

int bpe_read_json(struct vocab *v, struct bpe *b, const struct json *doc, struct err *e) {
    const struct json *model = json_get(doc, "model"), *ids = NULL, *merges = NULL, *norm = json_get(doc, "normalizer");
    const struct json *added = json_get(doc, "added_tokens");
    struct text prefix = {0}, suffix = {0}, type = {0};
    bool fallback = false;
    int code = json_opt_bool(model, "byte_fallback", &fallback, e);
    code = code ? code : json_opt_bool(model, "ignore_merges", &b->whole, e);
    code = code ? code : json_opt_text(model, "continuing_subword_prefix", &prefix, e);
    code = code ? code : json_opt_text(model, "end_of_word_suffix", &suffix, e);
    code = code ? code : json_need_type(model, "vocab", JSON_OBJECT, &ids, e);
    code = code ? code : json_need_type(model, "merges", JSON_ARRAY, &merges, e);
    if (code)
        return err_within(e, "model");
    if (fallback || prefix.n || suffix.n)
        return err_set(e, ERR_UNSUPPORTED,
                       "model: byte_fallback, continuing_subword_prefix and end_of_word_suffix are not "
                       "supported");
    if (norm && json_type(norm) != JSON_NULL) {
        code = json_type(norm) == JSON_OBJECT ? json_need_text(norm, "type", &type, e)
                                              : err_set(e, ERR_FORMAT, "normalizer: expected an object");
        return code ? code : unsupported(e, "normalizer", type);
    }
    code = read_splitter(b, json_get(doc, "pre_tokenizer"), e);
    if (!code && (code = bpe_read_ids(v, ids, e)))
        err_within(e, "model.vocab");
    code = code ? code : read_merges(b, merges, e);
    code = code ? code : bpe_mark_special(v, b, e);
    return code || !added || json_type(added) == JSON_NULL ? code : read_added(v, added, e);
}
