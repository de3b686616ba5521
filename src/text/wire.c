/* A reader for the protocol buffer wire format that is enough for sentencepiece_model.proto: varints, fixed words,
 * length-delimited values. Groups (wire types 3 and 4) left the format before SentencePiece existed and are an error. */
#include "text/wire.h"

#include <string.h>

static int wire_varint(struct wire *w, uint64_t *out, struct err *e) {
    uint64_t v = 0;
    size_t start = w->pos;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (w->pos == w->in.n)
            return err_set(e, ERR_FORMAT, "byte %zu: the file ends inside a number", w->base + start);
        unsigned char c = (unsigned char)w->in.p[w->pos++];
        if (shift == 63 && c > 1)
            break;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            *out = v;
            return 0;
        }
    }
    return err_set(e, ERR_FORMAT, "byte %zu: a number of more than 64 bits", w->base + start);
}

static int wire_fixed(struct wire *w, size_t n, uint64_t *out, struct err *e) {
    if (w->in.n - w->pos < n)
        return err_set(e, ERR_FORMAT, "byte %zu: the file ends inside a value of %zu bytes", w->base + w->pos, n);
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)(unsigned char)w->in.p[w->pos + i] << (8 * i);
    w->pos += n;
    *out = v;
    return 0;
}

int wire_next(struct wire *w, struct wire_field *f, struct err *e) {
    if (w->pos == w->in.n)
        return 0;
    *f = (struct wire_field){.offset = w->base + w->pos};
    uint64_t key = 0;
    int code = wire_varint(w, &key, e);
    if (code)
        return code;
    if (key >> 3 == 0 || key >> 32)
        return err_set(e, ERR_FORMAT, "byte %zu: no valid field number", f->offset);
    f->number = (uint32_t)(key >> 3);
    f->inside = w->base + w->pos;
    switch (key & 7) {
    case WIRE_VARINT:
        f->type = WIRE_VARINT;
        code = wire_varint(w, &f->value, e);
        break;
    case WIRE_FIXED64:
        f->type = WIRE_FIXED64;
        code = wire_fixed(w, 8, &f->value, e);
        break;
    case WIRE_FIXED32:
        f->type = WIRE_FIXED32;
        code = wire_fixed(w, 4, &f->value, e);
        break;
    case WIRE_BYTES: {
        f->type = WIRE_BYTES;
        uint64_t n = 0;
        code = wire_varint(w, &n, e);
        if (code)
            break;
        if (n > w->in.n - w->pos)
            return err_set(e, ERR_FORMAT, "byte %zu: field %u wants %llu bytes, %zu are left", f->offset, (unsigned)f->number,
                           (unsigned long long)n, w->in.n - w->pos);
        f->bytes = (struct text){w->in.p + w->pos, (size_t)n};
        f->inside = w->base + w->pos;
        w->pos += (size_t)n;
        break;
    }
    default:
        return err_set(e, ERR_FORMAT, "byte %zu: wire type %u of field %u is not one of 0, 1, 2, 5", f->offset,
                       (unsigned)(key & 7), (unsigned)f->number);
    }
    return code ? code : 1;
}

struct wire wire_inside(const struct wire_field *f) {
    return (struct wire){.in = f->bytes, .base = f->inside};
}

int wire_expect(const struct wire_field *f, enum wire_type type, const char *name, struct err *e) {
    if (f->type == type)
        return 0;
    return err_set(e, ERR_FORMAT, "byte %zu: %s has wire type %d, expected %d", f->offset, name, (int)f->type, (int)type);
}

float wire_float(const struct wire_field *f) {
    uint32_t bits = (uint32_t)f->value;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
