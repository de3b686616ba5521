/* align: replies to shards, lines, tables and heat maps. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

/* ---- tables ---- */

enum { COLUMNS = 2, KINDS = RSD_KIND_HARD + 1 };

static double of(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

static double soft_share(const rsd_align_report *r) {
    return 100 * of((double)(r->positions - r->kinds[RSD_KIND_HARD] - r->kinds[RSD_KIND_CONT]), (double)r->positions);
}

/* A line of the table: share of positions, mean mass placed and given, for each method; kind < 0: of all kinds. */
static void print_row(FILE *to, const char *name, const rsd_align_report *const *r, size_t n, int kind) {
    fprintf(to, "%-9s", name);
    for (size_t m = 0; m < n; m++) {
        double positions = (double)(kind < 0 ? r[m]->positions : r[m]->kinds[kind]);
        double placed = kind < 0 ? r[m]->placed : r[m]->kind_placed[kind],
               given = kind < 0 ? r[m]->given : r[m]->kind_given[kind];
        fprintf(to, " %9.0f %6.2f %%", positions, 100 * of(positions, (double)r[m]->positions));
        if (positions > 0)
            fprintf(to, " %7.4f %7.4f", placed / positions, given / positions);
        else
            fprintf(to, " %7s %7s", "-", "-");
    }
    fprintf(to, "\n");
}

/* names NULL: one method that needs no heading. */
static void print_table(FILE *to, const char *const *names, const rsd_align_report *const *r, size_t n) {
    fprintf(to, "%-9s", "");
    for (size_t m = 0; names && m < n; m++)
        fprintf(to, " %9s %8s %7s %7s", names[m], "", "", "");
    if (names)
        fprintf(to, "\n%-9s", "");
    for (size_t m = 0; m < n; m++)
        fprintf(to, " %9s %8s %7s %7s", "positions", "share", "placed", "given");
    fprintf(to, "\n");
    for (int k = 0; k < KINDS; k++)
        print_row(to, rsd_kind_name(k), r, n, k);
    print_row(to, "all", r, n, -1);
    fprintf(to, "%-9s", "soft");
    for (size_t m = 0; m < n; m++)
        fprintf(to, " %9s %6.2f %% %7s %7s", "", soft_share(r[m]), "", "");
    fprintf(to, "\n");
}

static void print_report(const rsd_align_report *r) {
    fprintf(stderr, "aligned %llu replies (%llu skipped); share of positions, mean mass placed of the mass given:\n",
            (unsigned long long)r->replies, (unsigned long long)r->skipped);
    print_table(stderr, NULL, &r, 1);
}

/* ---- replies one by one ---- */

/* To the reply's own text, or to the one that the line gives. */
static int align_one(rsd_aligner *a, const rsd_reply *reply, const struct json *line, const rsd_alignment **out) {
    const struct json *v = json_get(line, "student_text");
    if (!v || json_type(v) != JSON_TEXT)
        return rsd_aligner_align(a, reply, out);
    struct text t = json_text(v);
    return rsd_aligner_align_text(a, reply, t.p, t.n, out);
}

/* What becomes of each reply. Non-zero: it could not be used, the ctx says why. */
typedef int reply_fn(void *user, const rsd_reply *reply, const struct json *line, struct stream *s);

/* Every choice of every line through fn; a reply that it cannot use gives its error in its place on standard output, or is
 * counted where `quiet`. */
static int each_reply(const struct verb *v, rsd_ctx *ctx, const char *in, bool strict, bool quiet, reply_fn *fn, void *user) {
    struct err e = {0};
    struct stream s = {0};
    struct json *obj = NULL;
    struct str line;
    int more = 0, status = EXIT_OK;
    uint64_t left_out = 0;
    str_init(&line, &mem_std);
    if (stream_open(&s, in, strict, &e))
        return cli_err(&e);
    while (!s.failed && (more = quiet ? stream_read(&s, &obj, &e) : stream_next(&s, &obj, &e)) > 0) {
        struct json_out again;
        str_clear(&line);
        json_begin(&again, &line, 0);
        if (obj)
            json_put_value(&again, obj);
        for (size_t choice = 0;; choice++) {
            rsd_reply *reply = NULL;
            int got = rsd_reply_parse(ctx, str_z(&line), line.n, choice, 1, &reply);
            if (got == RSD_END && choice > 0)
                break;
            const char *why = !obj ? s.why.text : got == RSD_END ? "\"choices\" is empty: there is no reply" : NULL;
            if (got == RSD_OK && !fn(user, reply, obj, &s)) {
                s.done++;
            } else if (quiet) {
                fprintf(stderr, "reasondistill: %s, line %zu: %s\n", s.in.path, s.in.line, why ? why : rsd_ctx_error(ctx));
                s.done++;
                left_out++;
                s.failed |= strict;
            } else {
                stream_bad(&s, obj, why ? why : rsd_ctx_error(ctx));
            }
            rsd_reply_close(reply);
            if (got != RSD_OK)
                break;
        }
        json_free(obj);
    }
    if (left_out && !s.failed)
        fprintf(stderr, "reasondistill %s: %llu of %llu replies were bad and are left out\n", v->name,
                (unsigned long long)left_out, (unsigned long long)s.done);
    status = stream_close(&s, v->name);
    if (more < 0)
        status = cli_err(&e);
    str_free(&line);
    return status;
}

struct lines_out {
    rsd_aligner *a;
    bool json;
    struct file_write *heat; /* NULL: none */
    bool heat_to_stdout;
};

static int put_reply(void *user, const rsd_reply *reply, const struct json *line, struct stream *s) {
    struct lines_out *o = user;
    const rsd_alignment *alignment;
    const char *json = NULL;
    size_t len = 0;
    (void)s;
    int code = align_one(o->a, reply, line, &alignment);
    if (!code && o->json && !(code = rsd_aligner_json(o->a, &json, &len))) {
        fwrite(json, 1, len, stdout);
        fputc('\n', stdout);
    }
    if (!code && (o->heat || o->heat_to_stdout) && !(code = rsd_aligner_heatmap(o->a, &json, &len))) {
        if (o->heat_to_stdout) {
            fwrite(json, 1, len, stdout);
            fputc('\n', stdout);
        } else { /* the commit fails where one of these did */
            file_put(o->heat, json, len, NULL);
            file_put(o->heat, "\n", 1, NULL);
        }
    }
    return code;
}

static int align_lines(const struct verb *v, rsd_ctx *ctx, rsd_aligner *a, const char *in, bool json, const char *heatmap,
                       bool strict) {
    struct err e = {0};
    struct file_write f;
    struct lines_out o = {.a = a, .json = json, .heat_to_stdout = heatmap && !strcmp(heatmap, "-")};
    if (heatmap && !o.heat_to_stdout) {
        if (file_begin(&f, &mem_std, heatmap, &e))
            return cli_err(&e);
        o.heat = &f;
    }
    int status = each_reply(v, ctx, in, strict, !json && o.heat, put_reply, &o);
    if (o.heat && status != EXIT_OK)
        file_abort(&f);
    else if (o.heat && file_commit(&f, &e))
        status = cli_err(&e);
    return status;
}

/* ---- methods side by side ---- */

struct comparison {
    rsd_aligner *a[COLUMNS];
    rsd_align_report r[COLUMNS]; /* of all replies */
    bool per_reply;
};

static void count(rsd_align_report *r, const rsd_alignment *x) {
    r->replies++;
    r->positions += x->n_student;
    for (size_t j = 0; j < x->n_student; j++) {
        r->kinds[x->kinds[j]]++;
        r->placed += (double)x->placed[j];
        r->given += (double)x->given[j];
        r->kind_placed[x->kinds[j]] += (double)x->placed[j];
        r->kind_given[x->kinds[j]] += (double)x->given[j];
    }
}

static void add(rsd_align_report *to, const rsd_align_report *from) {
    to->replies += from->replies;
    to->positions += from->positions;
    to->placed += from->placed;
    to->given += from->given;
    for (size_t k = 0; k < KINDS; k++) {
        to->kinds[k] += from->kinds[k];
        to->kind_placed[k] += from->kind_placed[k];
        to->kind_given[k] += from->kind_given[k];
    }
}

static int compare_reply(void *user, const rsd_reply *reply, const struct json *line, struct stream *s) {
    struct comparison *c = user;
    rsd_align_report one[COLUMNS] = {{0}};
    (void)s;
    for (size_t m = 0; m < COLUMNS; m++) {
        const rsd_alignment *x = NULL;
        int code = align_one(c->a[m], reply, line, &x);
        if (code)
            return code;
        count(&one[m], x);
    }
    if (c->per_reply) {
        printf("%-24.24s %6lld", rsd_reply_id(reply, NULL), (long long)rsd_reply_sample(reply));
        for (size_t m = 0; m < COLUMNS; m++) {
            double n = (double)one[m].positions;
            printf(" %9.0f %6.2f %% %7.4f %7.4f", n, soft_share(&one[m]), of(one[m].placed, n), of(one[m].given, n));
        }
        printf("\n");
    }
    for (size_t m = 0; m < COLUMNS; m++)
        add(&c->r[m], &one[m]);
    return 0;
}

/* Both methods over the same replies. */
static int align_compare(const struct verb *v, rsd_ctx *ctx, rsd_tokenizer *tok, const char *in, bool skip_bad, bool per_reply,
                         int64_t top) {
    static const char *const names[COLUMNS] = {"span", "dtw"};
    struct comparison c = {.per_reply = per_reply};
    int status = EXIT_OK;
    for (size_t m = 0; m < COLUMNS && status == EXIT_OK; m++) {
        rsd_aligner_options o;
        rsd_aligner_options_init(&o, sizeof o);
        o.method = m ? RSD_ALIGN_DTW : RSD_ALIGN_SPAN;
        o.top_logprobs = top;
        if (rsd_aligner_open(ctx, tok, &o, &c.a[m]))
            status = cli_failed(ctx);
    }
    if (status == EXIT_OK && per_reply) {
        printf("%-24s %6s", "", "");
        for (size_t m = 0; m < COLUMNS; m++)
            printf(" %9s %8s %7s %7s", names[m], "", "", "");
        printf("\n%-24s %6s", "id", "sample");
        for (size_t m = 0; m < COLUMNS; m++)
            printf(" %9s %8s %7s %7s", "positions", "soft", "placed", "given");
        printf("\n");
    }
    if (status == EXIT_OK)
        status = each_reply(v, ctx, in, !skip_bad, true, compare_reply, &c);
    if (status == EXIT_OK) {
        const rsd_align_report *const r[COLUMNS] = {&c.r[0], &c.r[1]};
        printf("%s%llu replies; share of positions, mean mass placed of the mass given:\n", per_reply ? "\n" : "",
               (unsigned long long)c.r[0].replies);
        print_table(stdout, names, r, COLUMNS);
        status = fflush(stdout) || ferror(stdout) ? EXIT_FAILED : EXIT_OK;
    }
    for (size_t m = 0; m < COLUMNS; m++)
        rsd_aligner_close(c.a[m]);
    return status;
}

/* ---- the verb ---- */

/* "bridge=0.5,hard=0" */
static bool read_weights(const char *text, double weights[8]) {
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, ","), eq = strcspn(p, "=");
        char *end = NULL;
        int k = 0;
        while (k < KINDS && !(strlen(rsd_kind_name(k)) == eq && !memcmp(rsd_kind_name(k), p, eq)))
            k++;
        double w = eq < n && k < KINDS ? strtod(p + eq + 1, &end) : -1;
        if (!(w >= 0 && w <= 1e6) || end != p + n || end == p + eq + 1) {
            fprintf(stderr,
                    "reasondistill align: --weights takes KIND=NUMBER,.. with the kinds exact, blank, merge, split, cont, "
                    "bridge, hard, not %.*s\n",
                    (int)n, p);
            return false;
        }
        weights[k] = w;
        p += n + (p[n] == ',');
    }
    return true;
}

struct wanted {
    const char *tokenizer, *pattern, *in, *out, *method, *heatmap, *weights;
    int64_t top;
    bool json, strict, skip_bad, compare, per_reply;
};

static int usage(const char *what) {
    fprintf(stderr, "reasondistill align: %s\n", what);
    return EXIT_USAGE;
}

static int check(const struct wanted *w) {
    if (w->per_reply && !w->compare)
        return usage("--per-reply goes with --compare");
    if (w->compare && (w->json || w->out || w->heatmap))
        return usage("--compare writes a table and no shard: leave --json, --heatmap and --out away");
    if (w->json && w->out && strcmp(w->out, "-"))
        return usage("--json writes to standard output: leave --out away");
    if (w->heatmap && !strcmp(w->heatmap, "-") && (w->json || w->out))
        return usage("--heatmap - writes to standard output: leave --json and --out away, or name a file");
    if (!w->json && !w->out && !w->compare && !w->heatmap)
        return usage("needs --out FILE, --json, --heatmap FILE or --compare");
    return EXIT_OK;
}

static int run(const struct verb *v, rsd_ctx *ctx, rsd_tokenizer *tok, rsd_aligner *a, const struct wanted *w) {
    rsd_align_report report = {.size = sizeof report};
    if (w->compare)
        return align_compare(v, ctx, tok, w->in, w->skip_bad, w->per_reply, w->top);
    if (w->out && !w->json) {
        if (rsd_aligner_file(a, w->in, w->out, w->skip_bad, &report))
            return cli_failed(ctx);
        print_report(&report);
    }
    return w->json || w->heatmap ? align_lines(v, ctx, a, w->in, w->json, w->heatmap, w->strict) : EXIT_OK;
}

int verb_align(const struct verb *v, int argc, char **argv) {
    struct wanted w = {.method = "span"};
    const struct arg args[] = {
        {"--tokenizer", ARG_TEXT, &w.tokenizer, "FILE",
         .help = "the student's spiece.model, tokenizer.json, .tiktoken, vocab.bpe or model directory", .needed = true},
        {"--pattern", ARG_TEXT, &w.pattern, "gpt2|cl100k|llama3|o200k",
         .help = "how a byte pair vocabulary cuts text; default: by its hash"},
        {"--in", ARG_TEXT, &w.in, "FILE", .help = "teacher store or bare response bodies, also compressed (.gz)", .needed = true},
        {"--method", ARG_TEXT, &w.method, "span|dtw", .help = "span: by bytes; dtw: the reference's time warping"},
        {"--out", ARG_TEXT, &w.out, "FILE", .help = "aligned shard; - is standard output (with --json always)"},
        {"--weights", ARG_TEXT, &w.weights, "LIST",
         .help = "KIND=NUMBER,..: what positions of a kind weigh in losses; default 1"},
        {"--top-logprobs", ARG_INT, &w.top, "K",
         .help = "alternatives a token that were asked for: replies with others are bad; 0: any", .min = 0, .max = 1000},
        {"--json", ARG_FLAG, &w.json, "", .help = "a line a reply on standard output instead of a shard"},
        {"--heatmap", ARG_TEXT, &w.heatmap, "FILE",
         .help = "a JSON line a reply: mass by teacher token and piece; - is standard output"},
        {"--compare", ARG_FLAG, &w.compare, "", .help = "a table of coverage, both methods side by side, and nothing else"},
        {"--per-reply", ARG_FLAG, &w.per_reply, "", .help = "with --compare: a line for each reply before it"},
        {"--skip-bad", ARG_FLAG, &w.skip_bad, "", .help = "count bad replies and leave them out"},
        {"--strict", ARG_FLAG, &w.strict, "", .help = "with --json, --heatmap: stop at the first bad reply"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    rsd_tokenizer *tok = NULL;
    rsd_aligner *a = NULL;
    rsd_aligner_options o;
    rsd_aligner_options_init(&o, sizeof o);
    o.method = strcmp(w.method, "dtw") ? RSD_ALIGN_SPAN : RSD_ALIGN_DTW;
    o.top_logprobs = w.top;
    if ((status = check(&w)) != EXIT_OK)
        return status;
    if (w.weights && !read_weights(w.weights, o.kind_weights))
        return EXIT_USAGE;
    rsd_ctx *ctx = cli_open(1, 1);
    if (!ctx)
        return EXIT_FAILED;
    if (rsd_tokenizer_open_pattern(ctx, w.tokenizer, w.pattern, &tok) || rsd_aligner_open(ctx, tok, &o, &a))
        status = cli_failed(ctx);
    else
        status = run(v, ctx, tok, a, &w);
    rsd_aligner_close(a);
    rsd_tokenizer_close(tok);
    rsd_ctx_close(ctx);
    return status;
}
