/* Matrices as the kernels see them, element types, and the arenas that hold them. */
#ifndef TENSOR_MAT_H
#define TENSOR_MAT_H

#include "core/mem.h"

#include <stddef.h>
#include <stdint.h>

enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_I8 /* whole numbers, which a kernel scales; no file holds them */ };

size_t dtype_size(enum dtype t);
const char *dtype_name(enum dtype t); /* "F32", as safetensors spells it */
/* safetensors' and Python's spellings (float32, fp32, bfloat16, ...); 0 or -1 */
int dtype_parse(const char *name, size_t n, enum dtype *out);

/* n elements from one type to another, I8 apart, round to nearest even; NaN stays NaN, what is too large for F16 becomes infinity.
 * src and dst may be unaligned and must not overlap, unless they are equal and of one size. */
void dtype_convert(void *dst, enum dtype to, const void *src, enum dtype from, size_t n);

/* rows x cols, row r starts at data + r * ld * dtype_size. A vector is one row. data is touched by lib/ only. */
struct mat {
    void *data;
    enum dtype dtype;
    size_t rows, cols, ld;
};

struct mat mat_of(void *data, enum dtype dtype, size_t rows, size_t cols); /* ld = cols */
struct mat mat_rows(struct mat m, size_t first, size_t n);                 /* a view of n rows */
struct mat mat_cols(struct mat m, size_t first, size_t n);                 /* a view of n columns */

/* Memory that is taken piece by piece, given back all at once, and kept for the next time: after the first step nothing is
 * asked from the system (fresh pages cost 15 times as much as used ones). Grows by adding blocks.
 * Pieces are aligned to 64 bytes. Not thread-safe. */
struct arena {
    struct arena_block *first, *last; /* blocks in the order of use; last: the one being filled */
    size_t used, peak;
    const struct allocator *a;
};
void arena_init(struct arena *r, const struct allocator *a);
void arena_free(struct arena *r);
void arena_reset(struct arena *r);
void *arena_take(struct arena *r, size_t n, size_t size, struct err *e); /* NULL and ERR_NOMEM; contents undefined */
/* A new rows x cols matrix; on failure data is NULL (and e set). */
struct mat arena_mat(struct arena *r, enum dtype dtype, size_t rows, size_t cols, struct err *e);
/* Everything taken after the mark can be given back. */
struct arena_mark {
    struct arena_block *last;
    size_t in_block, used;
};
struct arena_mark arena_mark(const struct arena *r);
void arena_release(struct arena *r, struct arena_mark m);
/* The next pieces lie in memory of the caller's, as long as they fit. It is his again when a mark from before is released, or the arena
 * is reset or freed. */
void arena_lend(struct arena *r, void *p, size_t bytes);

#endif
