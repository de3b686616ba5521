/* `spiece.model`: a serialised ModelProto of SentencePiece (field numbers: sentencepiece_model.proto of google/sentencepiece).
 * What we cannot do faithfully (another model type, byte fallback, blanks as suffix, a denormaliser) is refused by name;
 * unknown fields are skipped, as the format wants. */
#include "text/vocab.h"

#include "text/wire.h"

#include <string.h>

struct special { /* names in the trainer spec; ids follow from the pieces */
    struct text pad, eos;
};

static int read_piece(struct vocab *v, const struct wire_field *field, struct err *e) {
    struct wire w = wire_inside(field);
    struct wire_field f;
    struct text piece = {0};
    float score = 0;
    enum piece_kind kind = PIECE_NORMAL;
    int more = 0, code = 0;
    while (!code && (more = wire_next(&w, &f, e)) > 0) {
        switch (f.number) {
        case 1:
            code = wire_expect(&f, WIRE_BYTES, "a piece's text", e);
            piece = f.bytes;
            break;
        case 2:
            code = wire_expect(&f, WIRE_FIXED32, "a piece's score", e);
            score = wire_float(&f);
            break;
        case 3:
            code = wire_expect(&f, WIRE_VARINT, "a piece's type", e);
            if (!code && (f.value < PIECE_NORMAL || f.value > PIECE_BYTE))
                code = err_set(e, ERR_FORMAT, "byte %zu: piece %zu has type %llu, expected 1 to 6", f.offset, v->n,
                               (unsigned long long)f.value);
            if (!code)
                kind = (enum piece_kind)f.value;
            break;
        default:
            break;
        }
    }
    if (code || more < 0)
        return code ? code : more;
    if (kind == PIECE_BYTE)
        return err_set(e, ERR_UNSUPPORTED, "byte %zu: piece %zu belongs to byte fallback, which is not supported", field->offset,
                       v->n);
    code = vocab_add(v, piece, score, kind, e);
    return code ? err_within(e, "byte %zu", field->offset) : 0;
}

static int read_trainer(struct vocab *v, const struct wire_field *field, struct special *names, struct err *e) {
    static const char *const types[] = {"0", "unigram", "bpe", "word", "char"};
    struct wire w = wire_inside(field);
    struct wire_field f;
    int more = 0, code = 0;
    while (!code && (more = wire_next(&w, &f, e)) > 0) {
        switch (f.number) {
        case 3:
            code = wire_expect(&f, WIRE_VARINT, "the model type", e);
            if (!code && f.value != 1)
                code = err_set(e, ERR_UNSUPPORTED, "byte %zu: the model type is %s, only unigram is supported", f.offset,
                               f.value < 5 ? types[f.value] : "unknown");
            break;
        case 24:
            code = wire_expect(&f, WIRE_VARINT, "treat_whitespace_as_suffix", e);
            if (!code && f.value)
                code = err_set(e, ERR_UNSUPPORTED, "byte %zu: treat_whitespace_as_suffix is not supported", f.offset);
            break;
        case 35:
            code = wire_expect(&f, WIRE_VARINT, "byte_fallback", e);
            if (!code && f.value)
                code = err_set(e, ERR_UNSUPPORTED, "byte %zu: byte_fallback is not supported", f.offset);
            break;
        case 44:
            code = wire_expect(&f, WIRE_BYTES, "unk_surface", e);
            str_clear(&v->unk_surface);
            str_add(&v->unk_surface, f.bytes.p, f.bytes.n);
            break;
        case 47:
            code = wire_expect(&f, WIRE_BYTES, "eos_piece", e);
            names->eos = f.bytes;
            break;
        case 48:
            code = wire_expect(&f, WIRE_BYTES, "pad_piece", e);
            names->pad = f.bytes;
            break;
        default:
            break;
        }
    }
    return code ? code : more;
}

static int read_normalizer(struct vocab *v, const struct wire_field *field, struct err *e) {
    struct wire w = wire_inside(field);
    struct wire_field f;
    int more = 0, code = 0;
    while (!code && (more = wire_next(&w, &f, e)) > 0) {
        switch (f.number) {
        case 2:
            code = wire_expect(&f, WIRE_BYTES, "precompiled_charsmap", e);
            str_clear(&v->charsmap);
            str_add(&v->charsmap, f.bytes.p, f.bytes.n);
            v->charsmap_offset = f.inside;
            break;
        case 3:
            code = wire_expect(&f, WIRE_VARINT, "add_dummy_prefix", e);
            v->dummy_prefix = f.value != 0;
            break;
        case 4:
            code = wire_expect(&f, WIRE_VARINT, "remove_extra_whitespaces", e);
            v->remove_extra = f.value != 0;
            break;
        case 5:
            code = wire_expect(&f, WIRE_VARINT, "escape_whitespaces", e);
            v->escape = f.value != 0;
            break;
        default:
            break;
        }
    }
    return code ? code : more;
}

static int32_t control_id(const struct vocab *v, struct text name) {
    int32_t id = vocab_find(v, name);
    return id >= 0 && v->pieces[id].kind == PIECE_CONTROL ? id : -1;
}

int vocab_read_spiece(struct vocab *v, struct text file, struct err *e) {
    struct wire w = {.in = file};
    struct wire_field f;
    struct special names = {text_of("<pad>"), text_of("</s>")};
    int more = 0, code = 0;
    str_addz(&v->unk_surface, " \xe2\x81\x87 ");
    while (!code && (more = wire_next(&w, &f, e)) > 0) {
        switch (f.number) {
        case 1:
            code = wire_expect(&f, WIRE_BYTES, "a piece", e);
            code = code ? code : read_piece(v, &f, e);
            break;
        case 2:
            code = wire_expect(&f, WIRE_BYTES, "the trainer spec", e);
            code = code ? code : read_trainer(v, &f, &names, e);
            break;
        case 3:
            code = wire_expect(&f, WIRE_BYTES, "the normalizer spec", e);
            code = code ? code : read_normalizer(v, &f, e);
            break;
        case 5:
            if (f.type == WIRE_BYTES && f.bytes.n) {
                struct vocab other = {.a = v->a};
                str_init(&other.charsmap, v->a);
                code = read_normalizer(&other, &f, e);
                if (!code && other.charsmap.n)
                    code = err_set(e, ERR_UNSUPPORTED, "byte %zu: a denormalizer is not supported", f.offset);
                str_free(&other.charsmap);
            }
            break;
        default:
            break;
        }
    }
    code = code ? code : more;
    code = code ? code : str_status(&v->charsmap, e);
    code = code ? code : str_status(&v->unk_surface, e);
    if (code)
        return code;
    for (size_t i = 0; i < v->n; i++) {
        if (v->pieces[i].kind != PIECE_UNKNOWN)
            continue;
        if (v->unk >= 0)
            return err_set(e, ERR_FORMAT, "pieces %d and %zu are both of the unknown type", (int)v->unk, i);
        v->unk = (int32_t)i;
    }
    if (v->unk < 0)
        return err_set(e, ERR_FORMAT, "no piece of the unknown type among %zu: this is no spiece.model, or it was cut", v->n);
    v->pad = control_id(v, names.pad);
    v->eos = control_id(v, names.eos);
    return vocab_add_extra(v, e);
}
