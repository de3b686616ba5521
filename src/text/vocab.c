/* The vocabulary: pieces in the order of their ids, found by text through a hash map. */
#include "text/vocab.h"

#include "core/hash.h"
#include "text/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_ID = 1 << 24 };
enum { EXTRA_IDS = 100 }; /* T5's sentinels (Raffel et al. 2020, section 3.1.4) */

void vocab_init(struct vocab *v, const struct allocator *a) {
    *v = (struct vocab){.a = a, .dummy_prefix = true, .remove_extra = true, .escape = true, .pad = -1, .eos = -1, .unk = -1};
    str_init(&v->bytes, a);
    str_init(&v->charsmap, a);
    str_init(&v->unk_surface, a);
    map_init(&v->index, a);
}

void vocab_free(struct vocab *v) {
    if (!v->a)
        return;
    mem_free(v->a, v->pieces);
    str_free(&v->bytes);
    str_free(&v->charsmap);
    str_free(&v->unk_surface);
    map_free(&v->index);
    *v = (struct vocab){0};
}

struct text vocab_piece(const struct vocab *v, size_t id) {
    return (struct text){v->bytes.p + v->pieces[id].at, v->pieces[id].n};
}

int32_t vocab_find(const struct vocab *v, struct text piece) {
    size_t id = 0;
    return map_get(&v->index, piece, &id) ? (int32_t)id : -1;
}

int vocab_add(struct vocab *v, struct text piece, float score, enum piece_kind kind, struct err *e) {
    if (v->n >= INT32_MAX / 2)
        return err_set(e, ERR_FORMAT, "more than 2^30 pieces");
    if (!piece.n)
        return err_set(e, ERR_FORMAT, "piece %zu is empty", v->n);
    if (!utf8_valid(piece, NULL))
        return err_set(e, ERR_FORMAT, "piece %zu is not UTF-8", v->n);
    if (!isfinite(score))
        return err_set(e, ERR_FORMAT, "piece %zu: its score is not a finite number", v->n);
    int32_t other = vocab_find(v, piece);
    if (other >= 0)
        return err_set(e, ERR_FORMAT, "piece %zu has the text of piece %d", v->n, (int)other);
    int code = mem_reserve(v->a, &v->pieces, &v->cap, v->n + 1, sizeof *v->pieces, e);
    if (code)
        return code;
    v->pieces[v->n] = (struct piece){.at = v->bytes.n, .n = piece.n, .score = score, .kind = kind};
    str_add(&v->bytes, piece.p, piece.n);
    str_addc(&v->bytes, '\0');
    code = str_status(&v->bytes, e);
    if (!code)
        code = map_put(&v->index, piece, v->n, e);
    if (!code)
        v->n++;
    return code;
}

int vocab_put(struct vocab *v, size_t id, struct text piece, enum piece_kind kind, struct err *e) {
    if (id >= MAX_ID)
        return err_set(e, ERR_UNSUPPORTED, "id %zu: ids up to %d are supported", id, MAX_ID - 1);
    if (!piece.n)
        return err_set(e, ERR_FORMAT, "piece %zu is empty", id);
    if (id < v->n && v->pieces[id].n)
        return err_set(e, ERR_FORMAT, "id %zu is there twice", id);
    int32_t other = vocab_find(v, piece);
    if (other >= 0)
        return err_set(e, ERR_FORMAT, "piece %zu has the text of piece %d", id, (int)other);
    int code = mem_reserve(v->a, &v->pieces, &v->cap, id + 1, sizeof *v->pieces, e);
    if (code)
        return code;
    for (; v->n <= id; v->n++)
        v->pieces[v->n] = (struct piece){.kind = PIECE_UNUSED};
    v->pieces[id] = (struct piece){.at = v->bytes.n, .n = piece.n, .kind = kind};
    str_add(&v->bytes, piece.p, piece.n);
    str_addc(&v->bytes, '\0');
    code = str_status(&v->bytes, e);
    return code ? code : map_put(&v->index, piece, id, e);
}

int vocab_add_extra(struct vocab *v, struct err *e) {
    if (vocab_find(v, text_of("<extra_id_0>")) >= 0 || vocab_find(v, text_of(SPACE_SYMBOL "<extra_id_0>")) >= 0)
        return 0;
    for (int i = EXTRA_IDS - 1; i >= 0; i--) {
        char name[24];
        snprintf(name, sizeof name, "<extra_id_%d>", i);
        int code = vocab_add(v, text_of(name), 0, PIECE_EXTRA, e);
        if (code)
            return code;
    }
    return 0;
}

void vocab_find_special(struct vocab *v) {
    static const char *const ends[] = {"</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>"};
    static const char *const pads[] = {"<pad>", "<|pad|>", "<|finetune_right_pad_id|>"};
    for (size_t i = 0; i < v->n; i++) {
        struct text t = vocab_piece(v, i);
        if (v->pieces[i].kind != PIECE_CONTROL)
            continue;
        for (size_t k = 0; k < sizeof ends / sizeof *ends && v->eos < 0; k++)
            v->eos = text_is(t, ends[k]) ? (int32_t)i : -1;
        for (size_t k = 0; k < sizeof pads / sizeof *pads && v->pad < 0; k++)
            v->pad = text_is(t, pads[k]) ? (int32_t)i : -1;
    }
}

static void hash_u32(struct sha256 *s, uint32_t x) {
    unsigned char b[4] = {(unsigned char)x, (unsigned char)(x >> 8), (unsigned char)(x >> 16), (unsigned char)(x >> 24)};
    sha256_add(s, b, sizeof b);
}

void vocab_hash(const struct vocab *v, char hex[65]) {
    struct sha256 s;
    sha256_begin(&s);
    sha256_add(&s, "unigram 1", 9);
    hash_u32(&s, (uint32_t)v->n);
    for (size_t i = 0; i < v->n; i++) {
        uint32_t bits = 0;
        memcpy(&bits, &v->pieces[i].score, sizeof bits);
        hash_u32(&s, (uint32_t)v->pieces[i].kind);
        hash_u32(&s, bits);
        hash_u32(&s, (uint32_t)v->pieces[i].n);
        sha256_add(&s, v->bytes.p + v->pieces[i].at, v->pieces[i].n);
    }
    hash_u32(&s, (uint32_t)v->dummy_prefix | (uint32_t)v->remove_extra << 1 | (uint32_t)v->escape << 2);
    hash_u32(&s, (uint32_t)v->charsmap.n);
    sha256_add(&s, str_z(&v->charsmap), v->charsmap.n);
    unsigned char digest[32];
    sha256_end(&s, digest);
    sha256_hex(digest, hex);
}
