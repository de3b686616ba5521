/* The inside of a grid. */
#ifndef EVAL_GRID_H
#define EVAL_GRID_H

#include "base/ctx.h"
#include "core/file.h"
#include "reasondistill/grid.h"

struct grid_set {
    char *name, *task, *data, *demos;
    int format, role;
    int32_t shots, max_tokens, batch, limit;
    uint64_t seed; /* of the demonstrations */
};

struct grid_row {
    char *name;
    double x;
    rsd_score *scores; /* [sets] */
};

struct rsd_grid {
    rsd_ctx *ctx;
    rsd_grid_options o; /* its strings are copies */
    char *cache, *demos;
    struct grid_set *sets;
    size_t n_sets, sets_cap;
    struct grid_row *rows;
    size_t n_rows, rows_cap;
    /* Where the rows came from: a run; a sweep's base and what was tuned from it. NULL, none: the caller. */
    char *run, **sweep;
    size_t n_sweep, sweep_cap;
    struct str text;
};

/* Progress over several rows. */
struct grid_progress {
    rsd_progress_fn fn;
    void *user;
    uint64_t before, all; /* evaluations done, of */
};
/* rsd_grid_model as part of a longer work, results kept in `cache` (may be NULL). */
int grid_add_row(rsd_grid *g, const char *name, double x, rsd_t5 *model, rsd_tokenizer *tok, const char *cache,
                 struct grid_progress *p);

char *grid_keep(const rsd_grid *g, const char *s, struct err *e); /* a copy; NULL stays NULL */
double grid_share(const rsd_grid *g, size_t row, size_t set);

#endif
