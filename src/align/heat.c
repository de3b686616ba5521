/* Where the mass of an alignment comes from, as cells of teacher tokens and student pieces. The aligner does not keep that on its
 * way, since nothing but a picture wants it: the alignment is made a second time, from what the first left, and notes it. */
#include "align/align.h"

#include "align/put.h"
#include "core/json.h"

#include <stdlib.h>

/* dtw knows positions, not branches: equal parts. */
static int cells_of_path(rsd_aligner *a, struct err *e) {
    int code = 0;
    for (size_t j = 0; j < a->s; j++) {
        size_t begin = a->map_offsets[j], n = a->map_offsets[j + 1] - begin;
        for (size_t k = 0; k < n && !code; k++)
            code = align_add_cell(a, a->map[begin + k], j, (double)(1 - a->tails[j]) / (double)n, e);
    }
    return code;
}

static int find_cells(rsd_aligner *a, struct err *e) {
    a->n_cells = 0;
    if (a->method == RSD_ALIGN_DTW)
        return cells_of_path(a, e);
    int code = align_begin_result(a, e);
    a->maps_heat = true;
    code = code ? code : align_span(a, e);
    a->maps_heat = false;
    return code;
}

static int in_order(const void *x, const void *y) {
    const struct heat_cell *a = x, *b = y;
    if (a->piece != b->piece)
        return a->piece < b->piece ? -1 : 1;
    return (a->token > b->token) - (a->token < b->token);
}

static void put_cells(struct json_out *o, rsd_aligner *a) {
    if (a->n_cells)
        qsort(a->cells, a->n_cells, sizeof *a->cells, in_order);
    json_put_key(o, "cells");
    json_array(o);
    for (size_t i = 0; i < a->n_cells; i++) {
        if (!(a->cells[i].mass > 0))
            continue;
        json_array(o);
        json_put_int(o, a->cells[i].token);
        json_put_int(o, a->cells[i].piece);
        json_put_float(o, (float)a->cells[i].mass);
        json_end_array(o);
    }
    json_end_array(o);
}

int rsd_aligner_heatmap(rsd_aligner *a, const char **json, size_t *len) {
    if (!a)
        return RSD_EINVAL;
    if (!json || !len)
        return ctx_fail(a->ctx, RSD_EINVAL, "rsd_aligner_heatmap: json and len must not be NULL");
    if (!a->done)
        return ctx_fail(a->ctx, RSD_ESTATE, "rsd_aligner_heatmap: nothing has been aligned: call rsd_aligner_align first");
    struct err e = {0};
    int code = find_cells(a, &e);
    if (code) {
        a->done = false;
        return ctx_return(a->ctx, code, &e);
    }
    str_clear(&a->json);
    struct json_out o;
    json_begin(&o, &a->json, 0);
    json_object(&o);
    align_put_name(&o, a);
    json_put_key(&o, "method");
    json_put_z(&o, a->method == RSD_ALIGN_DTW ? "dtw" : "span");
    align_put_tokens(&o, a, "tokens");
    align_put_pieces(&o, a, "pieces");
    align_put_kinds(&o, a);
    align_put_floats(&o, "placed", a->placed, a->s);
    align_put_floats(&o, "tail", a->tails, a->s);
    put_cells(&o, a);
    json_end_object(&o);
    code = str_status(&a->json, &e);
    *json = str_z(&a->json);
    *len = a->json.n;
    return ctx_return(a->ctx, code, &e);
}
