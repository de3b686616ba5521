/* Command-line options from a table: parsing, checking, and the --help that cannot go stale because it is made from the same
 * table. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum arg_kind { ARG_TEXT, ARG_TEXTS, ARG_INT, ARG_NUMBER, ARG_FLAG };

/* An option that may be given several times. */
struct arg_texts {
    const char *v[16];
    size_t n;
};

struct arg {
    const char *name; /* "--out", or "run.json" for one that stands without a name */
    enum arg_kind kind;
    void *to;          /* const char **, struct arg_texts *, int64_t *, double *, bool *; holds the default before */
    const char *value; /* what stands for the value in --help: "FILE"; choices are written "span|dtw" and checked */
    const char *help;
    bool needed;
    double min, max; /* of numbers; 0, 0: any */
};

struct verb {
    const char *name;
    const char *summary; /* one line */
    const char *text;    /* what it reads and writes, an example */
    int (*run)(const struct verb *v, int argc, char **argv);
};

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, ARGS_GO_ON = -1 };

/* Fills the table's targets from argv[1..]. ARGS_GO_ON, or the exit status to leave with: EXIT_OK after --help, EXIT_USAGE
 * after a complaint. */
int args_parse(const struct verb *v, const struct arg *args, size_t n, int argc, char **argv);

#endif
