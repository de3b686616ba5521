/* The student's vocabulary: a SentencePiece unigram model made by hand.
 *
 * Every word of the phrases and every number from 0 to 99 is one piece with its leading blank (U+2581), punctuation marks are
 * pieces, and single characters stand by so that nothing printable is unknown. All words weigh the same and much more than the
 * letters that could spell them, so the most probable segmentation is always the one into whole words. A student with digits
 * as pieces, or with a vocabulary trained on the text, which cuts "has" into "ha" and "s" and joins "25", ".", learns far more
 * slowly.
 *
 * The file is a protocol buffer; field numbers are those of sentencepiece_model.proto. */
#include "wordproblems.h"

#include <string.h>

static const char blank[] = "\xe2\x96\x81";                                    /* U+2581 */
static const char *const frame[] = {"Q: ", " A:", "Let's think step by step"}; /* what stands around question and answer */

enum { MAX_PIECES = 2048, NORMAL = 1, UNKNOWN = 2, CONTROL = 3, EXTRA_IDS = 100 };
static const float word_score = -6, mark_score = -4, spelled_score = -12;

struct piece {
    char text[32];
    float score;
    int type;
};
struct vocabulary {
    struct piece pieces[MAX_PIECES];
    size_t n;
};

static void piece_add(struct vocabulary *v, const char *prefix, const char *s, size_t n, float score, int type) {
    struct piece piece = {.score = score, .type = type};
    snprintf(piece.text, sizeof piece.text, "%s%.*s", prefix, (int)n, s);
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->pieces[i].text, piece.text) == 0)
            return;
    if (v->n < MAX_PIECES)
        v->pieces[v->n++] = piece;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '\'';
}

/* The words and marks of a phrase; {x} is a place for a word or number that comes from elsewhere. */
static void phrase_add(struct vocabulary *v, const char *s) {
    bool after_blank = true;
    while (*s != '\0') {
        size_t n = 1;
        if (s[0] == '{') {
            n = 3;
        } else if (is_letter(s[0])) {
            while (is_letter(s[n]))
                n++;
            piece_add(v, after_blank ? blank : "", s, n, word_score, NORMAL);
        } else if (s[0] != ' ') {
            piece_add(v, after_blank ? blank : "", s, 1, mark_score, NORMAL);
        }
        after_blank = s[0] == ' ';
        s += n;
    }
}

static bool words_add(struct vocabulary *v, const char *path) {
    char line[MAX_TEXT];
    FILE *f = fopen(path, "rb");
    bool fine = f != NULL;
    while (fine && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        phrase_add(v, line);
    }
    fine = fine && ferror(f) == 0;
    if (f != NULL)
        fclose(f);
    if (!fine)
        perror(path);
    return fine;
}

static bool vocabulary_make(struct vocabulary *v, const char *words) {
    v->n = 0;
    piece_add(v, "", "<pad>", 5, 0, CONTROL);
    piece_add(v, "", "</s>", 4, 0, CONTROL);
    piece_add(v, "", "<unk>", 5, 0, UNKNOWN);
    for (int i = 0; i <= MAX_NUMBER; i++) {
        struct line digits = {0};
        line_number(&digits, i);
        piece_add(v, blank, digits.text, digits.n, word_score, NORMAL);
    }
    for (size_t i = 0; i < sizeof frame / sizeof *frame; i++)
        phrase_add(v, frame[i]);
    for (size_t i = 0; teacher_phrase(i) != NULL; i++)
        phrase_add(v, teacher_phrase(i));
    for (size_t i = 0; problem_phrase(i) != NULL; i++)
        phrase_add(v, problem_phrase(i));
    if (words != NULL && !words_add(v, words))
        return false;
    piece_add(v, blank, "", 0, spelled_score, NORMAL);
    for (char c = '!'; c <= '~'; c++)
        piece_add(v, "", &c, 1, spelled_score, NORMAL);
    return true;
}

/* ---- protocol buffer ---- */

struct bytes {
    unsigned char p[131072]; /* a piece takes at most 50 */
    size_t n;
};

static void put_byte(struct bytes *b, unsigned v) {
    if (b->n < sizeof b->p)
        b->p[b->n++] = (unsigned char)v;
}

static void put_varint(struct bytes *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7)
        put_byte(b, (unsigned)(v & 0x7f) | 0x80);
    put_byte(b, (unsigned)v);
}

static void put_int(struct bytes *b, unsigned field, int64_t v) {
    put_varint(b, field << 3);
    put_varint(b, (uint64_t)v); /* negative numbers take all 64 bits, as the format asks */
}

static void put_bytes(struct bytes *b, unsigned field, const void *p, size_t n) {
    put_varint(b, field << 3 | 2);
    put_varint(b, n);
    for (size_t i = 0; i < n; i++)
        put_byte(b, ((const unsigned char *)p)[i]);
}

static void put_float(struct bytes *b, unsigned field, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_varint(b, field << 3 | 5);
    for (unsigned i = 0; i < 32; i += 8)
        put_byte(b, bits >> i & 0xff);
}

static void put_word(struct bytes *b, uint32_t v) {
    for (unsigned i = 0; i < 32; i += 8)
        put_byte(b, v >> i & 0xff);
}

/* Line feed, tab and carriage return become blanks, as in T5's own vocabulary. The rule is stored as sentencepiece wants it:
 * the size of a double array (Darts-clone), the array, and the replacements. The root's children begin at unit 256; a child's
 * unit holds its label, a mark that a key ends there, and the distance (by exclusive or) to its leaf, which holds the place of
 * the replacement. */
static void charsmap_make(struct bytes *map) {
    enum { UNITS = 512, CHILDREN = 256 };
    static const unsigned char blanks[] = {'\t', '\n', '\r'};
    uint32_t units[UNITS];
    for (size_t i = 0; i < UNITS; i++)
        units[i] = i == CHILDREN + 0xff ? 0 : 0xff; /* matches no character */
    units[0] = CHILDREN << 10;
    for (size_t i = 0; i < sizeof blanks; i++) {
        const uint32_t at = CHILDREN + blanks[i];
        units[at] = blanks[i] | 1u << 8 | 1u << 10;
        units[at ^ 1] = 1u << 31; /* the replacement at place 0 */
    }
    map->n = 0;
    put_word(map, UNITS * 4);
    for (size_t i = 0; i < UNITS; i++)
        put_word(map, units[i]);
    put_byte(map, ' ');
    put_byte(map, '\0');
}

static void model_make(struct bytes *model, const struct vocabulary *v) {
    struct bytes part;
    model->n = 0;
    for (size_t i = 0; i < v->n; i++) {
        part.n = 0;
        put_bytes(&part, 1, v->pieces[i].text, strlen(v->pieces[i].text));
        put_float(&part, 2, v->pieces[i].score);
        if (v->pieces[i].type != NORMAL)
            put_int(&part, 3, v->pieces[i].type);
        put_bytes(model, 1, part.p, part.n);
    }
    part.n = 0;                       /* trainer_spec */
    put_int(&part, 3, 1);             /* model_type: unigram */
    put_int(&part, 4, (int64_t)v->n); /* vocab_size */
    put_int(&part, 40, 2);            /* unk_id, bos_id, eos_id, pad_id */
    put_int(&part, 41, -1);
    put_int(&part, 42, 1);
    put_int(&part, 43, 0);
    put_bytes(&part, 48, "<pad>", 5);
    put_bytes(model, 2, part.p, part.n);

    struct bytes map;
    charsmap_make(&map);
    part.n = 0; /* normalizer_spec */
    put_bytes(&part, 1, "blanks", 6);
    put_bytes(&part, 2, map.p, map.n);
    put_int(&part, 3, 1); /* add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces */
    put_int(&part, 4, 1);
    put_int(&part, 5, 1);
    put_bytes(model, 3, part.p, part.n);
}

/* T5 version 1.1 (gated GELU, head of its own) in miniature: 0.24 million weights. */
static void config_write(FILE *f, size_t pieces) {
    const size_t vocab = (pieces + EXTRA_IDS + 7) / 8 * 8;
    fprintf(f,
            "{\n  \"architectures\": [\"T5ForConditionalGeneration\"],\n  \"model_type\": \"t5\",\n  \"d_model\": 64,\n  "
            "\"d_kv\": 16,\n"
            "  \"d_ff\": 128,\n  \"num_layers\": 2,\n  \"num_decoder_layers\": 2,\n  \"num_heads\": 4,\n"
            "  \"relative_attention_num_buckets\": 32,\n  \"relative_attention_max_distance\": 128,\n  \"dropout_rate\": 0.0,\n"
            "  \"layer_norm_epsilon\": 1e-06,\n  \"initializer_factor\": 1.0,\n  \"feed_forward_proj\": \"gated-gelu\",\n"
            "  \"is_encoder_decoder\": true,\n  \"use_cache\": true,\n  \"tie_word_embeddings\": false,\n  \"vocab_size\": %zu,\n"
            "  \"pad_token_id\": 0,\n  \"eos_token_id\": 1,\n  \"decoder_start_token_id\": 0\n}\n",
            vocab);
}

bool vocabulary_write(const char *folder, const char *words, size_t *pieces) {
    static struct vocabulary v; /* too large for some stacks */
    static struct bytes model;
    struct output o;
    if (!vocabulary_make(&v, words))
        return false;
    model_make(&model, &v);
    *pieces = v.n;
    if (v.n == MAX_PIECES || model.n == sizeof model.p) {
        fputs("wordproblems: the phrases have more words than MAX_PIECES\n", stderr);
        return false;
    }
    if (!output_open(&o, folder, "spiece.model"))
        return false;
    fwrite(model.p, 1, model.n, o.file);
    if (!output_close(&o) || !output_open(&o, folder, "config.json"))
        return false;
    config_write(o.file, v.n);
    return output_close(&o);
}
