/* Writing safetensors. Four-byte elements come first and the header is padded to 8 bytes, so every tensor is aligned to its
 * elements for those who map the file; the data is converted in chunks on its way to the file. */
#include "tensor/safetensors.h"

#include <string.h>

enum { CHUNK = 8192 };

/* Bytes of an item in the file. */
static int item_size(const struct safetensors_item *t, size_t *count, size_t *bytes, struct err *e) {
    *count = 1;
    if (t->ndim > SAFETENSORS_MAX_DIMS) {
        return err_set(e, ERR_INVALID, "tensor \"%s\": %zu dimensions, at most %d are allowed", t->name, t->ndim,
                       SAFETENSORS_MAX_DIMS);
    }
    for (size_t i = 0; i < t->ndim; i++) {
        if (t->shape[i] > (size_t)1 << 53 || !size_mul(*count, t->shape[i], count)) {
            return err_set(e, ERR_INVALID, "tensor \"%s\": its dimensions overflow", t->name);
        }
    }
    if (!size_mul(*count, dtype_size(t->dtype), bytes)) {
        return err_set(e, ERR_INVALID, "tensor \"%s\": its size overflows", t->name);
    }
    return 0;
}

static void put_entry(struct json_out *o, const struct safetensors_item *t, size_t begin, size_t end) {
    json_put_key(o, t->name);
    json_object(o);
    json_put_key(o, "dtype");
    json_put_z(o, dtype_name(t->dtype));
    json_put_key(o, "shape");
    json_array(o);
    for (size_t i = 0; i < t->ndim; i++) {
        json_put_int(o, (int64_t)t->shape[i]);
    }
    json_end_array(o);
    json_put_key(o, "data_offsets");
    json_array(o);
    json_put_int(o, (int64_t)begin);
    json_put_int(o, (int64_t)end);
    json_end_array(o);
    json_end_object(o);
}

static int make_header(struct str *h, const struct safetensors_item *items, size_t n, const struct text *metadata,
                       size_t n_metadata, struct map *names, struct err *e) {
    struct json_out o;
    json_begin(&o, h, 0);
    json_object(&o);
    if (n_metadata) {
        json_put_key(&o, "__metadata__");
        json_object(&o);
        for (size_t i = 0; i < n_metadata; i++) {
            char key[256];
            size_t len = metadata[2 * i].n;
            if (len >= sizeof key || memchr(metadata[2 * i].p, 0, len)) {
                return err_set(e, ERR_INVALID, "a metadata key must be shorter than %zu bytes, without U+0000", sizeof key);
            }
            memcpy(key, metadata[2 * i].p, len);
            key[len] = 0;
            json_put_key(&o, key);
            json_put_text(&o, metadata[2 * i + 1]);
        }
        json_end_object(&o);
    }
    size_t at = 0, count = 0, bytes = 0;
    for (size_t size = 4; size >= 2; size -= 2) {
        for (size_t i = 0; i < n; i++) {
            if (dtype_size(items[i].dtype) != size) {
                continue;
            }
            if (strcmp(items[i].name, "__metadata__") == 0 || map_get(names, text_of(items[i].name), NULL)) {
                return err_set(e, ERR_INVALID, "tensor \"%s\": the name is taken", items[i].name);
            }
            size_t end = 0;
            if (map_put(names, text_of(items[i].name), i, e) || item_size(&items[i], &count, &bytes, e)) {
                return e->code;
            }
            if (!size_add(at, bytes, &end) || end > (size_t)INT64_MAX) {
                return err_set(e, ERR_INVALID, "tensor \"%s\": the file would be too large", items[i].name);
            }
            put_entry(&o, &items[i], at, end);
            at = end;
        }
    }
    json_end_object(&o);
    while (h->n % 8 && !h->failed) {
        str_addc(h, ' ');
    }
    if (!h->failed && h->n > 100000000) {
        return err_set(e, ERR_INVALID, "a header of %zu bytes: the format allows 100000000", h->n);
    }
    return str_status(h, e);
}

static int put_item(struct file_write *f, const struct safetensors_item *t, struct err *e) {
    unsigned char out[CHUNK * 4];
    const unsigned char *p = t->data;
    size_t count = 0, bytes = 0;
    int code = item_size(t, &count, &bytes, e);
    if (code || t->dtype == t->from) {
        return code || bytes == 0 ? code : file_put(f, p, bytes, e);
    }
    for (size_t i = 0; i < count && !code; i += CHUNK) {
        size_t m = count - i < CHUNK ? count - i : CHUNK;
        dtype_convert(out, t->dtype, p + i * dtype_size(t->from), t->from, m);
        code = file_put(f, out, m * dtype_size(t->dtype), e);
    }
    return code;
}

static int put_all(struct file_write *f, const struct str *header, const struct safetensors_item *items, size_t n,
                   struct err *e) {
    unsigned char length[8];
    for (size_t i = 0; i < 8; i++) {
        length[i] = (unsigned char)((uint64_t)header->n >> (8 * i));
    }
    int code = file_put(f, length, sizeof length, e);
    code = code ? code : file_put(f, header->p, header->n, e);
    for (size_t size = 4; size >= 2; size -= 2) {
        for (size_t i = 0; i < n && !code; i++) {
            code = dtype_size(items[i].dtype) == size ? put_item(f, &items[i], e) : 0;
        }
    }
    return code;
}

int safetensors_write(const struct allocator *a, const char *path, const struct safetensors_item *items, size_t n,
                      const struct text *metadata, size_t n_metadata, struct err *e) {
    struct err inner = {0};
    struct str header;
    struct map names;
    struct file_write f = {.fd = -1, .a = a};
    str_init(&header, a);
    map_init(&names, a);
    int code = make_header(&header, items, n, metadata, n_metadata, &names, &inner);
    if (code) {
        err_set(e, code, "%s: %s", path, inner.text);
        goto done;
    }
    code = file_begin(&f, a, path, e);
    if (code) {
        goto done;
    }
    code = put_all(&f, &header, items, n, e);
    code = code ? code : file_commit(&f, e);
    file_abort(&f);
done:
    str_free(&header);
    map_free(&names);
    return code;
}
