/* The safetensors format (huggingface/safetensors, README "Format"): 8 bytes little-endian header length, a JSON header
 * {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {...}}, then the data without holes or overlap. */
#ifndef TENSOR_SAFETENSORS_H
#define TENSOR_SAFETENSORS_H

#include "core/file.h"
#include "core/json.h"
#include "core/map.h"
#include "tensor/mat.h"

enum { SAFETENSORS_MAX_DIMS = 8 };

struct safetensor {
    const char *name;
    enum dtype dtype; /* valid if `known`; other types (I64, F8_E4M3, ...) are listed with their bytes, not converted */
    bool known;
    char dtype_text[12];
    size_t ndim, shape[SAFETENSORS_MAX_DIMS], count; /* count: product of the shape */
    unsigned char *data;                             /* into the map; may be unaligned */
    size_t bytes;
};

struct safetensors {
    struct file_map map;
    struct safetensor *tensors; /* in the order of their data */
    size_t n;
    struct map by_name;
    struct str names;
    struct json *header;
    const struct allocator *a;
};

/* Maps the file privately: data may be written, the file never changes. Every rule of the format is checked before a tensor is
 * handed out: header at most 100 MB and inside the file, offsets in order, without holes, overlap or overflow, bytes = product
 * of the shape times the size of the type, no duplicate names. Errors name file and tensor. */
int safetensors_open(struct safetensors *s, const struct allocator *a, const char *path, struct err *e);
void safetensors_close(struct safetensors *s);
const struct safetensor *safetensors_find(const struct safetensors *s, const char *name); /* NULL if absent */
struct text safetensors_metadata(const struct safetensors *s, const char *key);           /* empty if absent */

/* Writing: what is to be written is described first, since the header comes first; data is asked tensor by tensor and
 * converted on the way. The file is replaced atomically. */
struct safetensors_item {
    const char *name;
    enum dtype dtype; /* in the file */
    size_t ndim;
    const size_t *shape;
    const void *data; /* of type `from`, contiguous */
    enum dtype from;
};
int safetensors_write(const struct allocator *a, const char *path, const struct safetensors_item *items, size_t n,
                      const struct text *metadata, size_t n_metadata /* pairs key, value */, struct err *e);

#endif
