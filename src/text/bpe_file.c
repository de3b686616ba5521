/* Byte pair vocabularies as OpenAI published them: `.tiktoken` (a line a piece: base64 and id) and GPT-2's pair of files, merges
 * (`vocab.bpe`, `merges.txt`) and ids (`encoder.json`, `vocab.json`), which write each byte as a printable character. */
#include "text/bpe.h"

#include "core/hash.h"
#include "core/json.h"
#include "text/base64.h"
#include "text/bytechar.h"

#include <string.h>

/* Vocabularies that say neither their pattern nor their special pieces, by SHA-256 of the file (as pinned in
 * tiktoken_ext/openai_public.py). */
struct known {
    const char *sha256;
    enum split_pattern pattern;
    struct {
        const char *piece;
        uint32_t id;
    } special[5];
};
static const struct known vocabularies[] = {
    {"306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930", SPLIT_GPT2, {{"<|endoftext|>", 50256}}},
    {"94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069", SPLIT_GPT2, {{"<|endoftext|>", 50256}}},
    {"223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
     SPLIT_CL100K,
     {{"<|endoftext|>", 100257},
      {"<|fim_prefix|>", 100258},
      {"<|fim_middle|>", 100259},
      {"<|fim_suffix|>", 100260},
      {"<|endofprompt|>", 100276}}},
    {"446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
     SPLIT_O200K,
     {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}},
    {"1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5", SPLIT_GPT2, {{NULL, 0}}},
};

static const struct known *known_file(struct text file) {
    struct sha256 s;
    unsigned char digest[32];
    char hex[65];
    sha256_begin(&s);
    sha256_add(&s, file.p, file.n);
    sha256_end(&s, digest);
    sha256_hex(digest, hex);
    for (size_t i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++)
        if (!strcmp(hex, vocabularies[i].sha256))
            return &vocabularies[i];
    return NULL;
}

/* The pattern that was asked for, else the file's own. */
static int choose_pattern(struct bpe *b, const struct known *k, struct err *e) {
    if (b->pattern == SPLIT_UNKNOWN && k)
        b->pattern = k->pattern;
    if (b->pattern == SPLIT_UNKNOWN)
        return err_set(e, ERR_UNSUPPORTED,
                       "a vocabulary that is not known by its hash: say which pattern cuts its text "
                       "(gpt2, cl100k, llama3 or o200k)");
    return 0;
}

/* The line at *at without its line feed; *at moves behind it. */
static struct text next_line(struct text file, size_t *at) {
    const char *p = file.p + *at, *lf = memchr(p, '\n', file.n - *at);
    size_t n = lf ? (size_t)(lf - p) : file.n - *at;
    *at += n + (lf != NULL);
    if (n && p[n - 1] == '\r')
        n--;
    return (struct text){p, n};
}

/* "base64 number": where the blank is, or 0. */
static size_t number_at(struct text line) {
    size_t n = line.n;
    while (n && line.p[n - 1] >= '0' && line.p[n - 1] <= '9')
        n--;
    return n < line.n && line.n - n <= 9 && n > 1 && line.p[n - 1] == ' ' ? n : 0;
}

bool bpe_is_tiktoken(struct text file) {
    size_t at = 0;
    struct text line = file.n ? next_line(file, &at) : file;
    if (line.n > 4096 || !number_at(line))
        return false;
    for (size_t i = 0; i + 1 < number_at(line); i++) {
        char c = line.p[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/' || c == '='))
            return false;
    }
    return true;
}

bool bpe_is_merges(struct text file) {
    return file.n >= 8 && !memcmp(file.p, "#version", 8);
}

static int read_line(struct vocab *v, struct text line, struct str *piece, struct err *e) {
    size_t number = number_at(line), id = 0;
    if (!number)
        return err_set(e, ERR_FORMAT, "expected base64, a blank and an id");
    for (size_t i = number; i < line.n; i++)
        id = id * 10 + (size_t)(line.p[i] - '0');
    str_clear(piece);
    int code = base64_add(piece, (struct text){line.p, number - 1}, e);
    return code ? code : vocab_put(v, id, (struct text){str_z(piece), piece->n}, PIECE_NORMAL, e);
}

int bpe_read_tiktoken(struct vocab *v, struct bpe *b, struct text file, struct err *e) {
    const struct known *k = known_file(file);
    struct str piece;
    str_init(&piece, v->a);
    v->over_bytes = true;
    int code = choose_pattern(b, k, e);
    size_t number = 0;
    for (size_t at = 0; at < file.n && !code;) {
        struct text line = next_line(file, &at);
        number++;
        if (line.n && (code = read_line(v, line, &piece, e)))
            err_within(e, "line %zu", number);
    }
    for (size_t i = 0; k && i < sizeof k->special / sizeof *k->special && k->special[i].piece && !code; i++)
        code = vocab_put(v, k->special[i].id, text_of(k->special[i].piece), PIECE_CONTROL, e);
    str_free(&piece);
    b->whole = true;
    return code ? code : bpe_derive(b, e);
}

int bytechar_add(struct str *out, struct text piece, struct err *e) {
    for (size_t i = 0; i < piece.n;) {
        int32_t cp = -1;
        size_t len = utf8_next(piece.p + i, piece.n - i, &cp);
        int byte = len ? bytechar_byte(cp) : -1;
        if (byte < 0)
            return err_set(e, ERR_FORMAT, "\"%.*s\": character %zu stands for no byte", (int)(piece.n < 60 ? piece.n : 60),
                           piece.p, i);
        str_addc(out, (char)(unsigned char)byte);
        i += len;
    }
    return str_status(out, e);
}

int bytechar_byte(int32_t cp) {
    /* Printable ones stand for themselves; the others, in order, for 256 and up. */
    if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 172) || (cp >= 174 && cp <= 255))
        return (int)cp;
    if (cp >= 256 && cp < 256 + 33)
        return (int)cp - 256; /* 0 to 32 */
    if (cp >= 289 && cp < 289 + 34)
        return (int)cp - 289 + 127; /* 127 to 160 */
    return cp == 323 ? 173 : -1;
}

int bpe_add_written(struct bpe *b, struct text left, struct text right, uint32_t rank, struct str *buf, struct err *e) {
    str_clear(buf);
    int code = bytechar_add(buf, left, e);
    size_t cut = buf->n;
    code = code ? code : bytechar_add(buf, right, e);
    if (code)
        return code;
    const char *p = str_z(buf);
    struct bpe_merge m = {vocab_find(b->v, (struct text){p, cut}), vocab_find(b->v, (struct text){p + cut, buf->n - cut}),
                          vocab_find(b->v, (struct text){p, buf->n}), rank};
    if (m.left < 0 || m.right < 0 || m.id < 0)
        return err_set(e, ERR_FORMAT, "%.*s %.*s: the vocabulary lacks one of the two, or what they make",
                       (int)(left.n < 60 ? left.n : 60), left.p, (int)(right.n < 60 ? right.n : 60), right.p);
    return bpe_add(b, m, e);
}

int bpe_read_ids(struct vocab *v, const struct json *object, struct err *e) {
    struct str piece;
    int code = 0;
    str_init(&piece, v->a);
    v->over_bytes = true;
    for (const struct json *p = json_first(object); p && !code; p = json_next(p)) {
        int64_t id;
        str_clear(&piece);
        if (json_type(p) != JSON_NUMBER || !json_exact(p, &id) || id < 0) {
            struct text key = json_key(p);
            code = err_set(e, ERR_FORMAT, "\"%.*s\": expected an id, a whole number", (int)(key.n < 60 ? key.n : 60), key.p);
            break;
        }
        code = bytechar_add(&piece, json_key(p), e);
        code = code ? code : vocab_put(v, (size_t)id, (struct text){str_z(&piece), piece.n}, PIECE_NORMAL, e);
    }
    str_free(&piece);
    return code;
}

int bpe_mark_special(struct vocab *v, const struct bpe *b, struct err *e) {
    if (b->whole)
        return 0; /* then chunks become pieces without merges */
    unsigned char *made = mem_zero(v->a, v->n, 1, e);
    if (!made)
        return ERR_NOMEM;
    for (size_t i = 0; i < b->n; i++)
        made[b->merges[i].id] = 1;
    for (size_t i = 0; i < v->n; i++)
        if (v->pieces[i].n > 1 && !made[i])
            v->pieces[i].kind = PIECE_CONTROL;
    mem_free(v->a, made);
    return 0;
}

int bpe_read_merges(struct vocab *v, struct bpe *b, struct text merges, struct text encoder, struct err *e) {
    struct json *ids = NULL;
    struct str buf;
    str_init(&buf, v->a);
    int code = choose_pattern(b, known_file(merges), e);
    code = code ? code : json_parse(encoder.p, encoder.n, &ids, e);
    if (!code && json_type(ids) != JSON_OBJECT)
        code = err_set(e, ERR_FORMAT, "the vocabulary beside the merges: expected an object of ids");
    code = code ? code : bpe_read_ids(v, ids, e);
    json_free(ids);
    if (code)
        err_within(e, "the vocabulary beside the merges");
    size_t number = 0;
    for (size_t at = 0; at < merges.n && !code;) {
        struct text line = next_line(merges, &at);
        const char *blank = memchr(line.p, ' ', line.n);
        if (!number++ || !line.n)
            continue; /* the first line is the version */
        if (!blank)
            code = err_set(e, ERR_FORMAT, "expected two pieces with a blank between them");
        else
            code = bpe_add_written(b, (struct text){line.p, (size_t)(blank - line.p)},
                                   (struct text){blank + 1, line.n - (size_t)(blank - line.p) - 1}, (uint32_t)number, &buf, e);
        if (code)
            err_within(e, "line %zu", number);
    }
    str_free(&buf);
    return code ? code : bpe_mark_special(v, b, e);
}
