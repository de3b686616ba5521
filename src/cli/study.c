/* select, scaling, and what studies of many models share. */
#include "cli/study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- studies ---- */

void study_init(struct study *s) {
    memset(s, 0, sizeof *s);
    rsd_grid_options_init(&s->o, sizeof s->o);
    s->parser = "strict";
    s->shots = s->o.shots;
    s->max_tokens = s->o.max_tokens;
    s->batch = s->o.batch;
    s->seed = 1;
}

int study_parse(struct study *s, const struct verb *v, const struct arg *own, size_t n, int argc, char **argv) {
    static const char *const parsers[] = {"strict", "lenient", "reference"};
    const char set[] = "SET";
    struct arg args[24];
    const struct arg shared[] = {
        {"--id", ARG_TEXTS, &s->sets[RSD_SET_ID], set,
         .help = "in distribution: [NAME=]TASK:FORMAT:DATA, as dev=gsm8k:zs-cot:dev.jsonl"},
        {"--ood", ARG_TEXTS, &s->sets[RSD_SET_OOD], set,
         .help = "out of distribution, or generic; each may be given several times"},
        {"--test", ARG_TEXTS, &s->sets[RSD_SET_TEST], set, .help = "shown, but no rule looks at it"},
        {"--demos", ARG_TEXT, &s->o.demos, "FILE|DIR",
         .help = "questions with rationale for the in-context formats; DIR: a file for each task"},
        {"--shots", ARG_INT, &s->shots, "N", .help = "demonstrations", .min = 1, .max = 64},
        {"--max-tokens", ARG_INT, &s->max_tokens, "N", .help = "of one output", .min = 1, .max = 100000},
        {"--batch", ARG_INT, &s->batch, "N", .help = "sequences in flight", .min = 1, .max = 4096},
        {"--limit", ARG_INT, &s->limit, "N", .help = "first items of each set only; 0: all", .min = 0, .max = 2147483647},
        {"--no-perplexity", ARG_FLAG, &s->no_perplexity, "", .help = "spare the forward pass over the gold texts"},
        {"--parser", ARG_TEXT, &s->parser, "strict|lenient|reference", .help = "by which accuracies are compared"},
        {"--cache", ARG_TEXT, &s->o.cache, "DIR", .help = "folder of results by content: what is there is not computed again"},
        {"--seed", ARG_INT, &s->seed, "N", .help = "of the demonstrations", .min = 0, .max = 9007199254740992.0},
        {"--threads", ARG_INT, &s->threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
        {"--out", ARG_TEXT, &s->out, "FILE", .help = "all figures as JSON"},
    };
    for (size_t i = 0; i < n; i++)
        args[i] = own[i];
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        args[n + i] = shared[i];
    int status = args_parse(v, args, n + sizeof shared / sizeof *shared, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    if (!s->run_sets && !s->sets[RSD_SET_ID].n && !s->sets[RSD_SET_OOD].n && !s->sets[RSD_SET_TEST].n) {
        fprintf(stderr, "reasondistill %s: needs sets: --id SET, --ood SET, --test SET (see reasondistill %s --help)\n", v->name,
                v->name);
        return EXIT_USAGE;
    }
    while (strcmp(parsers[s->o.parser], s->parser))
        s->o.parser++;
    s->o.perplexity = !s->no_perplexity;
    s->o.shots = (int32_t)s->shots;
    s->o.max_tokens = (int32_t)s->max_tokens;
    s->o.batch = (int32_t)s->batch;
    s->o.limit = (int32_t)s->limit;
    s->o.seed = (uint64_t)s->seed;
    return ARGS_GO_ON;
}

int study_open(struct study *s) {
    s->ctx = cli_open(s->threads, s->seed);
    if (!s->ctx)
        return EXIT_FAILED;
    if (rsd_grid_open(s->ctx, &s->o, &s->grid))
        return cli_failed(s->ctx);
    for (int role = 0; role < 3; role++)
        for (size_t i = 0; i < s->sets[role].n; i++)
            if (rsd_grid_parse_set(s->grid, s->sets[role].v[i], role))
                return cli_failed(s->ctx);
    progress_open(&s->progress);
    interrupt_watch();
    return EXIT_OK;
}

int study_report(struct study *s, int got) {
    const char *text = NULL, *json = NULL;
    struct err e = {0};
    progress_close(&s->progress);
    if (got < 0)
        return cli_failed(s->ctx);
    if (got > 0) {
        fprintf(stderr, "reasondistill: stopped: the same command goes on with what the cache has\n");
        return EXIT_FAILED;
    }
    if (rsd_grid_text(s->grid, &text))
        return cli_failed(s->ctx);
    fputs(text, stdout);
    if (!s->out)
        return EXIT_OK;
    if (rsd_grid_json(s->grid, &json))
        return cli_failed(s->ctx);
    return file_replace(&mem_std, s->out, json, strlen(json), &e) ? cli_err(&e) : EXIT_OK;
}

void study_close(struct study *s) {
    rsd_grid_close(s->grid);
    rsd_ctx_close(s->ctx);
}

int verb_select(const struct verb *v, int argc, char **argv) {
    const char *run = NULL;
    struct study s;
    size_t n = 0;
    study_init(&s);
    s.run_sets = true;
    const struct arg own[] = {{"RUN", ARG_TEXT, &run, "RUN", .help = "run directory with its checkpoints", .needed = true}};
    int status = study_parse(&s, v, own, 1, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    status = study_open(&s);
    if (status == EXIT_OK && !rsd_grid_sets(s.grid)) {
        status = rsd_grid_run_sets(s.grid, run, &n) ? cli_failed(s.ctx) : EXIT_OK;
        if (status == EXIT_OK && !n) {
            fprintf(stderr, "reasondistill select: %s/run.json has no \"eval\": needs sets: --id SET, --ood SET, --test SET\n",
                    run);
            status = EXIT_USAGE;
        }
    }
    if (status == EXIT_OK) {
        int got = rsd_grid_run(s.grid, run, eval_progress, &s.progress);
        status = study_report(&s, got);
    }
    study_close(&s);
    return status;
}

/* ---- scaling ---- */

enum { MOST_SERIES = 16, Y_ACCURACY = 0, Y_LOG_ODDS = 1 };

struct series {
    char name[64];
    double *x, *y[2]; /* log10 parameters; accuracy, log-odds (NaN where counts are missing) */
    size_t n, x_cap, y_cap[2];
};

struct scaling {
    struct series v[MOST_SERIES];
    size_t n;
};

static struct series *find_series(struct scaling *s, struct text name, struct err *e) {
    for (size_t i = 0; i < s->n; i++)
        if (text_is(name, s->v[i].name))
            return &s->v[i];
    if (s->n == MOST_SERIES || name.n >= sizeof s->v[0].name || memchr(name.p, 0, name.n)) {
        err_set(e, ERR_FORMAT, "key \"series\": expected at most %d names of at most %zu bytes", (int)MOST_SERIES,
                sizeof s->v[0].name - 1);
        return NULL;
    }
    memcpy(s->v[s->n].name, name.p, name.n);
    return &s->v[s->n++];
}

/* {"parameters","accuracy"} or {"parameters","correct","n"}, and "series". */
static int add_point(struct scaling *s, const struct json *line, struct err *e) {
    double parameters = 0, accuracy = 0;
    int64_t correct = 0, n = 0;
    struct text name = text_of("accuracy");
    const bool counted = json_get(line, "n") != NULL;
    if (json_need_number(line, "parameters", 1, 1e18, &parameters, e) || json_opt_text(line, "series", &name, e) ||
        (counted ? json_need_int(line, "n", 1, INT64_MAX, &n, e) || json_need_int(line, "correct", 0, n, &correct, e)
                 : json_need_number(line, "accuracy", 0, 1, &accuracy, e)))
        return e->code;
    struct series *to = find_series(s, name, e);
    if (!to)
        return e->code;
    const double y[2] = {counted ? (double)correct / (double)n : accuracy,
                         counted ? rsd_log_odds((uint64_t)correct, (uint64_t)n) : (double)NAN};
    if (mem_reserve(&mem_std, &to->x, &to->x_cap, to->n + 1, sizeof(double), e) ||
        mem_reserve(&mem_std, &to->y[0], &to->y_cap[0], to->n + 1, sizeof(double), e) ||
        mem_reserve(&mem_std, &to->y[1], &to->y_cap[1], to->n + 1, sizeof(double), e))
        return e->code;
    to->x[to->n] = log10(parameters);
    to->y[0][to->n] = y[0];
    to->y[1][to->n++] = y[1];
    return 0;
}

static int read_points(struct scaling *s, const char *path, struct err *e) {
    struct lines l;
    struct text line;
    if (lines_open(&l, &mem_std, path, 1 << 20, e))
        return e->code;
    while (lines_next(&l, &line, e) == 1) {
        struct json *doc = NULL;
        if (line.n && (json_parse(line.p, line.n, &doc, e) || add_point(s, doc, e)))
            err_within(e, "%s: line %zu", path, l.line);
        json_free(doc);
        if (e->code)
            break;
    }
    lines_close(&l);
    return e->code || s->n ? e->code : err_set(e, ERR_FORMAT, "%s: holds no points", path);
}

static void put_numbers(struct json_out *j, const char *key, const double *v, size_t n) {
    json_put_key(j, key);
    json_array(j);
    for (size_t i = 0; i < n; i++)
        json_put_double(j, v[i]);
    json_end_array(j);
}

static void put_points(struct json_out *j, const struct scaling *s) {
    json_put_key(j, "series");
    json_array(j);
    for (size_t i = 0; i < s->n; i++) {
        json_object(j);
        json_put_key(j, "name");
        json_put_z(j, s->v[i].name);
        put_numbers(j, "log10_parameters", s->v[i].x, s->v[i].n);
        put_numbers(j, "accuracy", s->v[i].y[Y_ACCURACY], s->v[i].n);
        put_numbers(j, "log_odds", s->v[i].y[Y_LOG_ODDS], s->v[i].n);
        json_end_object(j);
    }
    json_end_array(j);
}

static void put_fit(struct json_out *j, const char *series, const char *of, const rsd_fit *f) {
    const struct {
        const char *key;
        double v;
    } figures[] = {{"slope", f->slope}, {"slope_low", f->slope_low}, {"slope_high", f->slope_high}, {"intercept", f->intercept},
                   {"r2", f->r2},       {"error", f->error}};
    json_object(j);
    json_put_key(j, "series");
    json_put_z(j, series);
    json_put_key(j, "of");
    json_put_z(j, of);
    json_put_key(j, "n");
    json_put_int(j, (int64_t)f->n);
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        json_put_key(j, figures[i].key);
        json_put_double(j, figures[i].v);
    }
    json_end_object(j);
}

static void fit(const char *name, const double *x, const double *const y[2], size_t n, struct json_out *j) {
    static const char *const of[] = {"accuracy", "log-odds"};
    for (int k = 0; k < 2; k++) {
        rsd_fit f = {.size = sizeof f};
        if (rsd_fit_line(x, y[k], n, &f)) {
            if (k == Y_ACCURACY)
                printf("%-20s %-8s  no line: two points of different sizes are needed, there are %zu\n", name, of[k], n);
            continue; /* log-odds without counts */
        }
        printf("%-20s %-8s  slope %+.4g per tenfold parameters (95 %% interval %+.4g to %+.4g), intercept %+.4g, R^2 %.3f, %llu "
               "points\n",
               name, of[k], f.slope, f.slope_low, f.slope_high, f.intercept, f.r2, (unsigned long long)f.n);
        put_fit(j, name, of[k], &f);
    }
}

/* Two series of the same sizes, point by point: does what was gained grow with the size? Taken pairwise, what is common to both is
 * gone, and the interval is that of the difference itself. */
static void fit_difference(const struct series *a, const struct series *b, struct json_out *j) {
    char name[160];
    struct err e = {0};
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = !(a->x[i] < b->x[i]) && !(a->x[i] > b->x[i]);
    double *d = same ? mem_new(&mem_std, a->n, 2 * sizeof *d, &e) : NULL;
    if (!d)
        return;
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < a->n; i++)
            d[(size_t)k * a->n + i] = b->y[k][i] - a->y[k][i];
    snprintf(name, sizeof name, "%s - %s", b->name, a->name);
    fit(name, a->x, (const double *const[]){d, d + a->n}, a->n, j);
    mem_free(&mem_std, d);
}

int verb_scaling(const struct verb *v, int argc, char **argv) {
    const char *in = "-", *out = NULL;
    const struct arg args[] = {
        {"--in", ARG_TEXT, &in, "FILE", .help = "points, a line each; - is standard input"},
        {"--out", ARG_TEXT, &out, "FILE", .help = "the fits as JSON"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    struct err e = {0};
    struct str text;
    struct json_out j;
    struct scaling *s = mem_zero(&mem_std, 1, sizeof *s, &e);
    str_init(&text, &mem_std);
    json_begin(&j, &text, 1);
    if (!s || read_points(s, in, &e)) {
        status = cli_err(&e);
        goto done;
    }
    json_object(&j);
    put_points(&j, s);
    json_put_key(&j, "fits");
    json_array(&j);
    for (size_t i = 0; i < s->n; i++)
        fit(s->v[i].name, s->v[i].x, (const double *const[]){s->v[i].y[0], s->v[i].y[1]}, s->v[i].n, &j);
    if (s->n == 2)
        fit_difference(&s->v[0], &s->v[1], &j);
    json_end_array(&j);
    json_end_object(&j);
    str_addc(&text, '\n');
    status = str_status(&text, &e) || (out && file_replace(&mem_std, out, text.p, text.n, &e)) ? cli_err(&e) : EXIT_OK;
done:
    for (size_t i = 0; s && i < s->n; i++) {
        mem_free(&mem_std, s->v[i].x);
        mem_free(&mem_std, s->v[i].y[0]);
        mem_free(&mem_std, s->v[i].y[1]);
    }
    mem_free(&mem_std, s);
    str_free(&text);
    return status;
}
