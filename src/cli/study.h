/* What select and sweep share: sets by role, a grid, a table and a JSON file. */
#ifndef CLI_STUDY_H
#define CLI_STUDY_H

#include "cli/cli.h"

struct study {
    rsd_grid_options o;
    struct arg_texts sets[3]; /* by RSD_SET_... */
    const char *out, *parser;
    bool run_sets, no_perplexity; /* run_sets: sets may be missing, they are the run's own */
    int64_t threads, shots, max_tokens, batch, limit, seed;
    rsd_ctx *ctx;
    rsd_grid *grid;
    struct progress progress;
};

void study_init(struct study *s);
/* The verb's own options and those of all studies. As args_parse. */
int study_parse(struct study *s, const struct verb *v, const struct arg *own, size_t n, int argc, char **argv);
int study_open(struct study *s);            /* context, grid and sets; EXIT_... */
int study_report(struct study *s, int got); /* what the grid's function returned; the table, and --out */
void study_close(struct study *s);

#endif
