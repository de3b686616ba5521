/* Reading the protocol buffer wire format (https://protobuf.dev/programming-guides/encoding/): a message is a run of fields,
 * each a key (number, wire type) and a value. Nothing is copied; every step is checked against the end, and errors give the
 * byte offset in the file. */
#ifndef TEXT_WIRE_H
#define TEXT_WIRE_H

#include "core/str.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct wire {
    struct text in;
    size_t pos;
    size_t base; /* offset of `in` in the file */
};

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;    /* of the numeric types */
    struct text bytes; /* of WIRE_BYTES, borrowed */
    size_t offset;     /* of the field in the file */
    size_t inside;     /* of its value in the file */
};

/* 1 and the next field, 0 at the end, ERR_FORMAT. Fields must be taken with a test of `type`: wire_expect. */
int wire_next(struct wire *w, struct wire_field *f, struct err *e);
struct wire wire_inside(const struct wire_field *f); /* the message that a WIRE_BYTES field holds */
int wire_expect(const struct wire_field *f, enum wire_type type, const char *name, struct err *e);
float wire_float(const struct wire_field *f);

#endif
