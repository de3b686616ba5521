/* The inside of an aligner: one reply laid out as steps over its text, the student's pieces over the same text, and the result
 * that both methods fill. */
#ifndef ALIGN_ALIGN_H
#define ALIGN_ALIGN_H

#include "align/pieces.h"
#include "base/ctx.h"
#include "reasondistill/aligner.h"

/* A token that the teacher may have written, with its probability. */
struct choice {
    struct text bytes;
    double prob;
};

#define NO_STEP SIZE_MAX

/* One step of the teacher: it wrote `token`, bytes begin .. end of the reply's text, and had tops[first .. first+n) to choose
 * from (the token may be among them). */
struct step {
    struct choice token;
    size_t begin, end;
    size_t first, n;
    size_t origin;  /* the reply's token; of new bytes the one before */
    bool bridge;    /* the texts differ here */
    double logprob; /* as the teacher told it; NaN: it told nothing about these bytes */
};

/* Piece j of the student: bytes begin .. end of the reply's text. Regions lie end to end: what no piece covers belongs to the
 * next one. */
struct region {
    size_t begin, end;
};

struct path_step {
    uint32_t token, piece;
};

struct heat_cell {
    uint32_t token, piece;
    double mass;
};

struct rsd_aligner {
    rsd_ctx *ctx;
    rsd_tokenizer *tok;
    int32_t method;
    bool cut;
    float weight[8]; /* by kind */
    size_t declared; /* alternatives a token; 0: any */
    bool maps_heat;  /* the alignment is made again to see where its mass comes from (heat.c) */
    bool words;      /* no piece goes across a blank, so words are cut independently of each other */
    bool bytes;      /* pieces are bytes (BPE): blanks stay as they are, half characters have pieces */
    bool blank[256]; /* bytes that the tokenizer takes for a blank */
    struct pieces cache;

    /* the reply at hand */
    struct text reply;
    struct str id;
    int64_t sample;
    struct step *steps;
    struct choice *tops;
    size_t n_steps, n_tops, max_tops, first, n; /* steps first .. first + n were aligned */
    size_t text_begin, text_end;                /* the student text in the reply (span) */
    struct str text;                            /* the student text */
    int32_t *ids;
    struct region *regions;
    struct str surfaces; /* texts of the pieces, one after another */
    size_t *surface_at;  /* [S+1] */
    size_t s;

    /* the result */
    bool done;
    uint32_t *map_offsets, *map, *row_offsets;
    int32_t *row_ids;
    float *row_probs, *placed, *given, *tails, *weights;
    uint8_t *kinds;
    size_t n_map, n_rows;
    struct path_step *path; /* dtw */
    size_t n_path;
    uint64_t cost;
    uint32_t *chunk_ends; /* [n_chunks] piece behind each chunk (chunk.c) */
    float *chunk_logprobs;
    size_t n_chunks;
    size_t *starts; /* [S] step that piece j starts with, or NO_STEP where it goes on with one */
    struct heat_cell *cells;
    size_t n_cells;
    rsd_alignment out;

    struct {
        size_t steps, tops, ids, regions, surface_at, map_offsets, map, row_offsets, row_ids, row_probs, placed, given, kinds,
            path, other, chunk_ends, chunk_logprobs, starts, tails, weights, cells;
    } cap;
    struct step *other; /* where the text is not the reply's own: the reply's steps, while `steps` lie over the text */
    size_t n_other;
    bool bridged;
    struct bridge_work *bridge;
    struct span_work *span;
    struct dtw_work *dtw;
    struct str json;
};

/* Each fills map, rows, kinds, placed and given from steps and pieces. ERR_NOMEM. */
int align_span(rsd_aligner *a, struct err *e);
int align_dtw(rsd_aligner *a, struct err *e);
/* Fills chunks and starts from what the last alignment left: for shards, so that others need not wait for it. ERR_NOMEM. */
int align_chunks(rsd_aligner *a, struct err *e);
/* Behind align_chunks. What the teacher gave its choices at the token that piece j starts with, largest first, at most `most` (>= 1): how many; 0
 * where piece j goes on with a token. Together at most 1. */
size_t align_top_probs(const rsd_aligner *a, size_t j, float *out, size_t most);
/* Lays the steps out over another text, which becomes the reply's (bridge.c). */
int align_bridge(rsd_aligner *a, struct text t, struct err *e);
void bridge_work_free(rsd_aligner *a);
void span_work_free(rsd_aligner *a);
void dtw_work_free(rsd_aligner *a);

/* Appends to map, and to the rows. */
int align_add_map(rsd_aligner *a, size_t token, struct err *e);
int align_add_row(rsd_aligner *a, int32_t id, double prob, struct err *e);
int align_add_cell(rsd_aligner *a, size_t token, size_t piece, double mass, struct err *e); /* joined with an equal one */
int align_begin_result(rsd_aligner *a, struct err *e);                                      /* room, and nothing in it */
/* The token of a step, counted from the first that was aligned. */
static inline size_t align_token(const rsd_aligner *a, size_t step) {
    return a->steps[step].origin - a->steps[a->first].origin;
}
struct text align_surface(const rsd_aligner *a, size_t piece);

/* The error of a public call that failed inside this room, carried on. */
int align_carry(rsd_ctx *ctx, int code, struct err *e);

#endif
