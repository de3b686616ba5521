/* What the verbs share: a context, complaints, JSON Lines in and out, a progress line. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "cli/args.h"
#include "core/file.h"
#include "core/json.h"
#include "reasondistill/reasondistill.h"

#include <stdio.h>

/* Verbs, one file each but for small relatives (verbs.c has the table). */
int verb_collect(const struct verb *v, int argc, char **argv);
int verb_tokenize(const struct verb *v, int argc, char **argv);
int verb_align(const struct verb *v, int argc, char **argv);
int verb_build(const struct verb *v, int argc, char **argv);
int verb_questions(const struct verb *v, int argc, char **argv);
int verb_init(const struct verb *v, int argc, char **argv);
int verb_train(const struct verb *v, int argc, char **argv);
int verb_generate(const struct verb *v, int argc, char **argv);
int verb_score(const struct verb *v, int argc, char **argv);
int verb_eval(const struct verb *v, int argc, char **argv);
int verb_compare(const struct verb *v, int argc, char **argv);
int verb_select(const struct verb *v, int argc, char **argv);
int verb_scaling(const struct verb *v, int argc, char **argv);
int verb_sweep(const struct verb *v, int argc, char **argv);
int verb_merge(const struct verb *v, int argc, char **argv);
int verb_info(const struct verb *v, int argc, char **argv);
int verb_bench(const struct verb *v, int argc, char **argv);

#define CLI_KERNELS "RSD_KERNELS" /* environment: rsd_ctx_options.kernels of every context; --kernels sets it */

/* A context that owns the BLAS and writes warnings to stderr; NULL after a complaint. */
rsd_ctx *cli_open(int64_t threads, int64_t seed);

/* "reasondistill: text" on stderr; EXIT_FAILED. cli_failed takes the text from the ctx, cli_err from the floor. */
int cli_failed(rsd_ctx *ctx);
int cli_err(const struct err *e);

/* Model and tokenizer of a model directory, checked to fit. 0, or EXIT_FAILED after a complaint; what was opened is in *m and
 * *tok. */
int cli_model(rsd_ctx *ctx, const char *dir, rsd_t5 **m, rsd_tokenizer **tok);
/* The same with the weights in memory as --dtype says, one of CLI_DTYPES. */
#define CLI_DTYPES "stored|fp32|bf16|int8"
int cli_model_as(rsd_ctx *ctx, const char *dir, const char *dtype, rsd_t5 **m, rsd_tokenizer **tok);

/* ---- JSON Lines: one line out for each line in, in order ---- */

struct stream {
    struct lines in;
    struct str line; /* the line being written */
    struct json_out out;
    uint64_t done, bad;
    struct err why; /* what is wrong with a line that stream_read gave no object for */
    bool strict;
    bool failed; /* a bad line under --strict, or output that cannot be written */
};
int stream_open(struct stream *s, const char *path, bool strict, struct err *e);
/* The next line: 1 and *obj (json_free), 0 at the end, negative on a read error. For a line that is no JSON object *obj is
 * NULL: answer it with stream_bad(s, NULL, s->why.text) when its turn comes. */
int stream_read(struct stream *s, struct json **obj, struct err *e);
/* The same for verbs that answer each line before they read the next: a line that is no JSON object has been answered already
 * and is passed over (or ends the stream under strict). */
int stream_next(struct stream *s, struct json **obj, struct err *e);
/* Begins the answer: "{" and the "id" of the line, if it had one. Then members through s->out, then stream_end. */
void stream_begin(struct stream *s, const struct json *obj);
void stream_end(struct stream *s);
/* The answer to the line that was read last, a bad one: {"id","status":-1,"error":"FILE, line N: text"}, "id" null where there is
 * none. False under --strict: stop. */
bool stream_bad(struct stream *s, const struct json *obj, const char *text);
/* Flushes, reports the count of bad lines on stderr. The exit status. */
int stream_close(struct stream *s, const char *verb);

/* Text of member `text`, or the bytes of member `bytes_hex` (into buf). False: neither, or bad hex. */
bool json_text_or_hex(const struct json *obj, const char *text, const char *hex, struct str *buf, struct text *out);

/* ---- progress: one line on stderr, redrawn at most five times a second, only on a terminal ---- */

struct progress {
    double started, drawn;
    bool terminal;
    int width;
};
void progress_open(struct progress *p);
bool progress_due(struct progress *p);
void progress_draw(struct progress *p, double share /* 0..1, negative: not known */, const char *text);
void progress_close(struct progress *p);                   /* removes the line */
int eval_progress(void *user, uint64_t done, uint64_t of); /* an rsd_progress_fn for a struct progress; stops when interrupted */
void format_seconds(double s, char *out, size_t n);        /* "3m12s" */

/* Set by the first Ctrl-C (or SIGTERM) after interrupt_watch; the second one ends the process at once. */
void interrupt_watch(void);
bool interrupted(void);

#endif
