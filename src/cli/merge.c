/* merge, sweep: models between and around models. */
#include "cli/study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NUMBERS = 101 };

struct numbers {
    double v[MOST_NUMBERS];
    size_t n;
};

/* "0,0.1,..,1": two dots go on in the step of the two numbers before them, to the number behind them. */
static bool parse_numbers(const char *text, struct numbers *out) {
    for (const char *p = text;;) {
        char *end = NULL;
        bool fill = !strncmp(p, "..,", 3);
        p += fill ? 3 : 0;
        const double x = strtod(p, &end);
        if (end == p || !isfinite(x) || (fill && out->n < 2))
            return false;
        if (fill) {
            const double from = out->v[out->n - 1], step = from - out->v[out->n - 2], count = (x - from) / step;
            if (!(count >= 1 && count < MOST_NUMBERS) || fabs(count - round(count)) > 1e-6)
                return false;
            for (long k = 1; k < lround(count) && out->n < MOST_NUMBERS; k++) /* rounded: 0.3 is the number that is written so */
                out->v[out->n++] = round((from + (double)k * step) * 1e9) / 1e9;
        }
        if (out->n == MOST_NUMBERS)
            return false;
        out->v[out->n++] = x;
        if (!*end)
            return true;
        if (*end != ',')
            return false;
        p = end + 1;
    }
}

static int bad_numbers(const char *verb, const char *option, const char *text) {
    fprintf(stderr, "reasondistill %s: %s takes up to %d numbers, as 0,0.1,..,1, not %s\n", verb, option, (int)MOST_NUMBERS,
            text);
    return EXIT_USAGE;
}

/* ---- merge ---- */

struct merging {
    const char *dirs[17]; /* the base (NULL: none), then the tuned ones */
    rsd_t5 *models[17];
    double weights[17];
    size_t n; /* with the base */
    rsd_tokenizer *tok;
    rsd_t5 *m; /* where they are combined */
};

/* With a base: base + sum of alpha_i (tuned_i - base). Without: the mean of the tuned, weighted. */
static int weigh(struct merging *g, const struct numbers *given) {
    const size_t tuned = g->n - 1;
    double sum = 0;
    if (given->n > 1 && given->n != tuned)
        return fprintf(stderr, "reasondistill merge: %zu numbers were given for %zu tuned models\n", given->n, tuned), EXIT_USAGE;
    for (size_t i = 0; i < tuned; i++)
        sum += g->weights[i + 1] = given->n == 0 ? 1 : given->n == 1 ? given->v[0] : given->v[i];
    if (g->dirs[0]) {
        g->weights[0] = 1 - sum;
    } else {
        if (!(sum > 0))
            return fprintf(stderr, "reasondistill merge: the weights sum to %g: expected a number above 0\n", sum), EXIT_USAGE;
        for (size_t i = 0; i < tuned; i++)
            g->weights[i + 1] /= sum;
    }
    return EXIT_OK;
}

/* Each is mapped, not read; the first is opened twice, as its pages are written in one of the two. */
static int open_all(rsd_ctx *ctx, struct merging *g) {
    for (size_t i = g->dirs[0] ? 0 : 1; i < g->n; i++) {
        rsd_tokenizer *tok = NULL;
        int status = cli_model(ctx, g->dirs[i], &g->models[i], &tok);
        if (status == EXIT_OK && g->tok && strcmp(rsd_tokenizer_hash(g->tok), rsd_tokenizer_hash(tok))) {
            fprintf(stderr, "reasondistill: %s and %s have different tokenizers: they have no common ancestor\n",
                    g->dirs[g->dirs[0] ? 0 : 1], g->dirs[i]);
            status = EXIT_FAILED;
        }
        if (g->tok)
            rsd_tokenizer_close(tok);
        else
            g->tok = tok;
        if (status)
            return status;
    }
    return rsd_t5_open(ctx, g->dirs[g->dirs[0] ? 0 : 1], &g->m) ? cli_failed(ctx) : EXIT_OK;
}

static int combine(rsd_ctx *ctx, const struct merging *g, const char *out) {
    const size_t first = g->dirs[0] ? 0 : 1;
    rsd_t5_info info = {.size = sizeof info};
    rsd_t5_info_get(g->m, &info);
    if (rsd_t5_combine(g->m, g->models + first, g->weights + first, g->n - first)) {
        size_t which = 0;
        if (sscanf(rsd_ctx_error(ctx), "model %zu:", &which) != 1 || !which || which > g->n - first)
            return cli_failed(ctx);
        fprintf(stderr, "reasondistill: %s and %s: %s\n", g->dirs[first], g->dirs[first + which - 1], rsd_ctx_error(ctx));
        return EXIT_FAILED;
    }
    if (rsd_t5_save(g->m, out, info.dtype, rsd_tokenizer_path(g->tok)))
        return cli_failed(ctx);
    fprintf(stderr, "made %s:", out);
    for (size_t i = first; i < g->n; i++)
        fprintf(stderr, "%s %g of %s", i > first ? "," : "", g->weights[i], g->dirs[i]);
    fprintf(stderr, "\n");
    return EXIT_OK;
}

int verb_merge(const struct verb *v, int argc, char **argv) {
    const char *out = NULL, *alpha = NULL, *weights = NULL;
    int64_t threads = 0;
    struct arg_texts tuned = {0};
    struct merging g = {0};
    struct numbers given = {0};
    const struct arg args[] = {
        {"--base", ARG_TEXT, &g.dirs[0], "DIR", .help = "common ancestor, the model at alpha 0; without it the result is a mean"},
        {"--tuned", ARG_TEXTS, &tuned, "DIR", .help = "model at alpha 1; up to 16 times", .needed = true},
        {"--alpha", ARG_TEXT, &alpha, "X[,X...]",
         .help = "how much of what each has learned; default 0.5, with several 1 / their number"},
        {"--weights", ARG_TEXT, &weights, "W[,W...]", .help = "of a mean, without --base; default equal"},
        {"--threads", ARG_INT, &threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
        {"--out", ARG_TEXT, &out, "DIR", .help = "folder to make", .needed = true},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    if (g.dirs[0] ? weights != NULL : alpha != NULL) {
        fprintf(stderr, "reasondistill merge: --alpha goes with --base, --weights without it\n");
        return EXIT_USAGE;
    }
    const char *text = g.dirs[0] ? alpha : weights;
    if (text && !parse_numbers(text, &given))
        return bad_numbers("merge", g.dirs[0] ? "--alpha" : "--weights", text);
    if (g.dirs[0] && !text) {
        given.n = 1;
        given.v[0] = tuned.n > 1 ? 1 / (double)tuned.n : 0.5;
    }
    for (size_t i = 0; i < tuned.n; i++)
        g.dirs[i + 1] = tuned.v[i];
    g.n = tuned.n + 1;
    status = weigh(&g, &given);
    rsd_ctx *ctx = status == EXIT_OK ? cli_open(threads, 1) : NULL;
    if (!ctx)
        return status == EXIT_OK ? EXIT_FAILED : status;
    status = open_all(ctx, &g);
    if (status == EXIT_OK)
        status = combine(ctx, &g, out);
    rsd_tokenizer_close(g.tok);
    rsd_t5_close(g.m);
    for (size_t i = 0; i < g.n; i++)
        rsd_t5_close(g.models[i]);
    rsd_ctx_close(ctx);
    return status;
}

/* ---- sweep ---- */

int verb_sweep(const struct verb *v, int argc, char **argv) {
    const char *alphas = "0,0.1,..,1", *weights = NULL;
    struct arg_texts tuned = {0};
    struct numbers points = {0}, shares = {0};
    struct study s;
    rsd_sweep sweep = {.size = sizeof sweep};
    study_init(&s);
    const struct arg own[] = {
        {"--base", ARG_TEXT, &sweep.base, "DIR", .help = "common ancestor, the model at alpha 0", .needed = true},
        {"--tuned", ARG_TEXTS, &tuned, "DIR", .help = "model at alpha 1; several times: their mean", .needed = true},
        {"--weights", ARG_TEXT, &weights, "W[,W...]", .help = "of that mean; default equal"},
        {"--alphas", ARG_TEXT, &alphas, "X,X,..,X", .help = "points; below 0 and above 1 go beyond the ends"},
        {"--save", ARG_TEXT, &sweep.save, "DIR", .help = "keep each model, as DIR/alpha-X; otherwise none is written"},
    };
    int status = study_parse(&s, v, own, sizeof own / sizeof *own, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    if (!parse_numbers(alphas, &points))
        return bad_numbers("sweep", "--alphas", alphas);
    if (weights && (!parse_numbers(weights, &shares) || shares.n != tuned.n))
        return bad_numbers("sweep", "--weights", weights);
    sweep.tuned = tuned.v;
    sweep.n_tuned = tuned.n;
    sweep.weights = weights ? shares.v : NULL;
    sweep.alphas = points.v;
    sweep.n_alphas = points.n;
    status = study_open(&s);
    if (status == EXIT_OK) {
        int got = rsd_grid_sweep(s.grid, &sweep, eval_progress, &s.progress);
        status = study_report(&s, got);
    }
    study_close(&s);
    return status;
}
