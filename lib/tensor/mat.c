/* Views of matrices: arithmetic on the struct alone, no data is touched. */
#include "tensor/mat.h"

struct mat mat_of(void *data, enum dtype dtype, size_t rows, size_t cols) {
    return (struct mat){.data = data, .dtype = dtype, .rows = rows, .cols = cols, .ld = cols};
}

static void *at(struct mat m, size_t row, size_t col) {
    return m.data ? (unsigned char *)m.data + (row * m.ld + col) * dtype_size(m.dtype) : NULL;
}

struct mat mat_rows(struct mat m, size_t first, size_t n) {
    m.data = at(m, first, 0);
    m.rows = n;
    return m;
}

struct mat mat_cols(struct mat m, size_t first, size_t n) {
    m.data = at(m, 0, first);
    m.cols = n;
    return m;
}
