/* Reading safetensors: the header is checked as a whole before any tensor is handed out, so that what follows needs no checks:
 * sorted by their offsets, tensors must begin where the one before ends, the first at 0, the last at the end of the file. That
 * one walk excludes holes, overlaps and bytes beyond the end together.
 * Format: huggingface/safetensors, README "Format" and its reference reader's list of element types. */
#include "tensor/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors are little-endian and are mapped as they are"
#endif

static const double MAX_INTEGER = 9007199254740992.0; /* 2^53: what a JSON number holds exactly */

/* Bits of an element, 0 for a type the format does not have. */
static size_t type_bits(struct text t) {
    static const struct {
        const char *name;
        size_t bits;
    } types[] = {
        {"F32", 32},    {"BF16", 16},   {"F16", 16},        {"F64", 64},        {"I64", 64}, {"I32", 32},
        {"I16", 16},    {"I8", 8},      {"U64", 64},        {"U32", 32},        {"U16", 16}, {"U8", 8},
        {"BOOL", 8},    {"C64", 64},    {"F8_E4M3", 8},     {"F8_E5M2", 8},     {"F4", 4},   {"F8_E8M0", 8},
        {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (text_is(t, types[i].name)) {
            return types[i].bits;
        }
    }
    return 0;
}

/* A non-negative whole number that JSON holds exactly. */
static bool whole(const struct json *v, size_t *out) {
    double d = json_type(v) == JSON_NUMBER ? json_number(v) : NAN;
    if (!(d >= 0 && d <= MAX_INTEGER && d <= (double)(SIZE_MAX / 2)) || d > floor(d)) {
        return false;
    }
    *out = (size_t)d;
    return true;
}

static int read_shape(struct safetensor *t, const struct json *entry, struct err *e) {
    const struct json *shape = NULL;
    if (json_need_type(entry, "shape", JSON_ARRAY, &shape, e)) {
        return e->code;
    }
    t->count = 1;
    for (const struct json *d = json_first(shape); d; d = json_next(d)) {
        if (t->ndim == SAFETENSORS_MAX_DIMS) {
            return err_set(e, ERR_UNSUPPORTED, "shape: more than %d dimensions", SAFETENSORS_MAX_DIMS);
        }
        size_t n = 0;
        if (!whole(d, &n)) {
            return err_set(e, ERR_FORMAT, "shape: dimension %zu is not a whole number of 0 or more", t->ndim);
        }
        if (!size_mul(t->count, n, &t->count)) {
            return err_set(e, ERR_FORMAT, "shape: the product of the dimensions overflows");
        }
        t->shape[t->ndim++] = n;
    }
    return 0;
}

static int read_entry(struct safetensor *t, const struct json *entry, unsigned char *data, size_t room, struct err *e) {
    struct text type = {0};
    const struct json *offsets = NULL;
    size_t begin = 0, end = 0, bits = 0;
    if (json_type(entry) != JSON_OBJECT) {
        return err_set(e, ERR_FORMAT, "expected an object, found %s", json_type_name(json_type(entry)));
    }
    if (json_need_text(entry, "dtype", &type, e) || read_shape(t, entry, e) ||
        json_need_type(entry, "data_offsets", JSON_ARRAY, &offsets, e)) {
        return e->code;
    }
    size_t element = type_bits(type);
    if (!element) {
        return err_set(e, ERR_FORMAT, "dtype: not a type of the format");
    }
    memcpy(t->dtype_text, type.p, type.n);
    t->known = dtype_parse(type.p, type.n, &t->dtype) == 0;
    if (json_count(offsets) != 2 || !whole(json_first(offsets), &begin) || !whole(json_next(json_first(offsets)), &end) ||
        begin > end) {
        return err_set(e, ERR_FORMAT, "data_offsets: expected [begin, end] with 0 <= begin <= end");
    }
    if (end > room) {
        return err_set(e, ERR_FORMAT, "data_offsets: ends at byte %zu, the data has %zu: truncated or damaged", end, room);
    }
    if (!size_mul(t->count, element, &bits) || bits % 8 || bits / 8 != end - begin) {
        return err_set(e, ERR_FORMAT, "data_offsets: %zu bytes, but %zu elements of type %s", end - begin, t->count,
                       t->dtype_text);
    }
    t->data = data + begin;
    t->bytes = end - begin;
    return 0;
}

/* A name as it may stand in a one-line message. */
static const char *shown(char out[96], struct text name) {
    size_t n = name.n < 95 ? name.n : 95;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        out[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    out[n] = 0;
    return out;
}

static int check_metadata(const struct json *m, struct err *e) {
    if (json_type(m) != JSON_OBJECT) {
        return err_set(e, ERR_FORMAT, "__metadata__: expected an object, found %s", json_type_name(json_type(m)));
    }
    for (const struct json *v = json_first(m); v; v = json_next(v)) {
        if (json_type(v) != JSON_TEXT) {
            char name[96];
            return err_set(e, ERR_FORMAT, "__metadata__: \"%s\" is %s, expected a string", shown(name, json_key(v)),
                           json_type_name(json_type(v)));
        }
    }
    return 0;
}

static int read_entries(struct safetensors *s, unsigned char *data, size_t room, struct err *e) {
    char name[96];
    size_t most = json_count(s->header);
    s->tensors = mem_zero(s->a, most, sizeof *s->tensors, e);
    if (!s->tensors) {
        return ERR_NOMEM;
    }
    for (const struct json *v = json_first(s->header); v; v = json_next(v)) {
        struct text key = json_key(v);
        if (text_is(key, "__metadata__")) {
            if (check_metadata(v, e)) {
                return e->code;
            }
            continue;
        }
        if (memchr(key.p, 0, key.n)) {
            return err_set(e, ERR_FORMAT, "tensor \"%s\": U+0000 in a name", shown(name, key));
        }
        if (read_entry(&s->tensors[s->n], v, data, room, e)) {
            return err_within(e, "tensor \"%s\"", shown(name, key));
        }
        str_add(&s->names, key.p, key.n);
        str_addc(&s->names, 0);
        s->n++;
    }
    if (str_status(&s->names, e)) {
        return ERR_NOMEM;
    }
    const char *p = str_z(&s->names);
    for (size_t i = 0; i < s->n; i++, p += strlen(p) + 1) {
        s->tensors[i].name = p;
    }
    return 0;
}

static int by_offset(const void *a, const void *b) {
    const struct safetensor *x = a, *y = b;
    if (x->data != y->data) {
        return x->data < y->data ? -1 : 1;
    }
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int check_layout(struct safetensors *s, const unsigned char *data, size_t room, struct err *e) {
    char name[96];
    size_t at = 0;
    if (s->n > 1) {
        qsort(s->tensors, s->n, sizeof *s->tensors, by_offset);
    }
    for (size_t i = 0; i < s->n; i++) {
        const struct safetensor *t = &s->tensors[i];
        size_t begin = (size_t)(t->data - data);
        if (begin != at) {
            return err_set(e, ERR_FORMAT, "tensor \"%s\": begins at byte %zu of the data, expected %zu: %s",
                           shown(name, text_of(t->name)), begin, at,
                           begin < at ? "two tensors overlap" : "a hole between tensors");
        }
        at += t->bytes;
        if (map_put(&s->by_name, text_of(t->name), i, e)) {
            return e->code;
        }
    }
    if (at != room) {
        return err_set(e, ERR_FORMAT, "%zu bytes of data, but the tensors end at %zu", room, at);
    }
    return 0;
}

static int read_header(struct safetensors *s, struct err *e) {
    static const size_t MAX_HEADER = 100000000;
    unsigned char *p = s->map.p;
    uint64_t length = 0;
    if (s->map.n < 8) {
        return err_set(e, ERR_FORMAT, "%zu bytes: too short for a safetensors file", s->map.n);
    }
    for (size_t i = 0; i < 8; i++) {
        length |= (uint64_t)p[i] << (8 * i);
    }
    if (length > MAX_HEADER) {
        return err_set(e, ERR_FORMAT, "header of %llu bytes, at most %zu are allowed: not a safetensors file?",
                       (unsigned long long)length, MAX_HEADER);
    }
    if (length > s->map.n - 8) {
        return err_set(e, ERR_FORMAT, "header of %llu bytes in a file of %zu: truncated", (unsigned long long)length, s->map.n);
    }
    if (length == 0 || p[8] != '{') {
        return err_set(e, ERR_FORMAT, "byte 8: the header does not begin with {");
    }
    if (json_parse((const char *)p + 8, (size_t)length, &s->header, e)) {
        return err_within(e, "header (8 bytes into the file)");
    }
    size_t start = 8 + (size_t)length, room = s->map.n - start;
    if (read_entries(s, p + start, room, e)) {
        return e->code;
    }
    return check_layout(s, p + start, room, e);
}

int safetensors_open(struct safetensors *s, const struct allocator *a, const char *path, struct err *e) {
    struct err inner = {0}; /* e may hold an earlier error, which needs no path */
    *s = (struct safetensors){.a = a};
    map_init(&s->by_name, a);
    str_init(&s->names, a);
    int code = file_map_open(&s->map, path, true, e);
    if (!code && (code = read_header(s, &inner)) != 0) {
        err_set(e, code, "%s: %s", path, inner.text);
    }
    if (code) {
        safetensors_close(s);
    }
    return code;
}

void safetensors_close(struct safetensors *s) {
    if (!s->a) {
        return;
    }
    json_free(s->header);
    map_free(&s->by_name);
    str_free(&s->names);
    mem_free(s->a, s->tensors);
    file_map_close(&s->map);
    *s = (struct safetensors){.a = NULL};
}

const struct safetensor *safetensors_find(const struct safetensors *s, const char *name) {
    size_t i = 0;
    return s->a && map_get(&s->by_name, text_of(name), &i) ? &s->tensors[i] : NULL;
}

struct text safetensors_metadata(const struct safetensors *s, const char *key) {
    const struct json *m = s->header ? json_get(s->header, "__metadata__") : NULL;
    const struct json *v = m ? json_get(m, key) : NULL;
    return v ? json_text(v) : (struct text){0};
}
