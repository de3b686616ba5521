/* eval: accuracy on a task, on the terminal and in a file; compare: two such files item by item. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

int eval_progress(void *user, uint64_t done, uint64_t of) {
    struct progress *p = user;
    if (progress_due(p)) {
        char text[64];
        snprintf(text, sizeof text, "%llu/%llu", (unsigned long long)done, (unsigned long long)of);
        progress_draw(p, of ? (double)done / (double)of : 1, text);
    }
    return interrupted();
}

/* "1,5,10" */
static bool parse_maj(const char *text, int64_t samples, int32_t maj[8]) {
    size_t n = 0;
    for (const char *p = text; n < 8; p++) {
        char *end = NULL;
        long k = strtol(p, &end, 10);
        if (end == p || k < 1 || k > samples)
            return false;
        maj[n++] = (int32_t)k;
        if (!*end)
            return true;
        if (*(p = end) != ',')
            return false;
    }
    return false;
}

static void print_score(const char *task, const char *format, const rsd_score *s, const rsd_evaluator_options *o) {
    printf(
        "%s %s: accuracy %.1f %% (%llu of %llu), 95 %% interval %.1f to %.1f %%, no answer %llu, %.1f tokens a reply, %.1f s\n",
        task, format, 100 * s->accuracy, (unsigned long long)s->correct, (unsigned long long)s->outputs, 100 * s->low,
        100 * s->high, (unsigned long long)s->no_answer, s->mean_tokens, s->seconds);
    printf("  lenient parser %.1f %% (%.1f to %.1f), reference's parser %.1f %%", 100 * s->lenient_accuracy, 100 * s->lenient_low,
           100 * s->lenient_high, 100 * s->reference_accuracy);
    if (s->answer_perplexity > 0)
        printf("; perplexity of the gold answer %.4g", s->answer_perplexity);
    if (s->rationale_perplexity > 0)
        printf(", of the rationale %.4g", s->rationale_perplexity);
    printf("%s\n", s->reused ? "; from the cache" : "");
    for (int i = 0; i < 8 && o->maj[i]; i++)
        printf("  maj@%d %.1f %% (lenient %.1f)\n", (int)o->maj[i], 100 * s->maj[i], 100 * s->lenient_maj[i]);
}

int verb_eval(const struct verb *v, int argc, char **argv) {
    const char *model = NULL, *task = NULL, *data = NULL, *format = "zs-cot", *out = NULL, *maj = NULL, *dtype = "stored";
    int64_t threads = 0, shots = 4, max_tokens = 256, batch = 32, limit = 0, seed = 1, samples = 1;
    bool no_perplexity = false;
    rsd_evaluator_options o;
    rsd_evaluator_options_init(&o, sizeof o);
    const struct arg args[] = {
        {"--model", ARG_TEXT, &model, "DIR", .help = "model directory with its tokenizer", .needed = true},
        {"--task", ARG_TEXT, &task, "gsm8k|multiarith|asdiv|svamp|bbh|jsonl",
         .help = "how the data is read and answers are compared", .needed = true},
        {"--data", ARG_TEXT, &data, "FILE|DIR", .help = "the items", .needed = true},
        {"--format", ARG_TEXT, &format, "zs-ao|zs-cot|ic-ao|ic-cot", .help = "how they are put"},
        {"--demos", ARG_TEXT, &o.demos, "FILE|DIR",
         .help = "questions with rationale for the in-context formats; DIR: a file for each task"},
        {"--shots", ARG_INT, &shots, "N", .help = "demonstrations", .min = 1, .max = 64},
        {"--max-tokens", ARG_INT, &max_tokens, "N", .help = "of one output", .min = 1, .max = 100000},
        {"--batch", ARG_INT, &batch, "N", .help = "sequences in flight", .min = 1, .max = 4096},
        {"--limit", ARG_INT, &limit, "N", .help = "first items only; 0: all", .min = 0, .max = 2147483647},
        {"--samples", ARG_INT, &samples, "N", .help = "outputs of an item, drawn at --temperature; 1: greedy", .min = 1,
         .max = 256},
        {"--temperature", ARG_NUMBER, &o.temperature, "T", .help = "0: greedy, 0.7 with several samples", .min = 0, .max = 1000},
        {"--top-p", ARG_NUMBER, &o.top_p, "P", .help = "samples come from the fewest tokens that reach it", .min = 1e-6,
         .max = 1},
        {"--maj", ARG_TEXT, &maj, "K,K,...", .help = "accuracy of the majority of K samples, without bias (up to 8)"},
        {"--no-perplexity", ARG_FLAG, &no_perplexity, "", .help = "spare the forward pass over the gold texts"},
        {"--cache", ARG_TEXT, &o.cache, "DIR", .help = "folder of results by content: what is there is not computed again"},
        {"--seed", ARG_INT, &seed, "N", .help = "of demonstrations and samples", .min = 0, .max = 9007199254740992.0},
        {"--dtype", ARG_TEXT, &dtype, CLI_DTYPES, .help = "of the weights in memory; int8: linear layers and head in 8 bits"},
        {"--threads", ARG_INT, &threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
        {"--out", ARG_TEXT, &out, "FILE", .help = "figures and outputs as JSON"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    if (!strncmp(format, "ic-", 3) && !o.demos) {
        fprintf(stderr, "reasondistill eval: --format %s needs --demos FILE, questions with rationale\n", format);
        return EXIT_USAGE;
    }
    if (maj && !parse_maj(maj, samples, o.maj)) {
        fprintf(stderr, "reasondistill eval: --maj takes up to 8 numbers from 1 to --samples (%lld), as 1,5,10, not %s\n",
                (long long)samples, maj);
        return EXIT_USAGE;
    }
    if (samples > 1 && !(o.temperature > 0))
        o.temperature = 0.7;
    o.samples = (int32_t)samples;
    o.perplexity = !no_perplexity;
    o.format = rsd_format_parse(format, strlen(format));
    o.shots = (int32_t)shots;
    o.max_tokens = (int32_t)max_tokens;
    o.batch = (int32_t)batch;
    o.limit = (int32_t)limit;
    o.seed = (uint64_t)seed;

    rsd_t5 *m = NULL;
    rsd_tokenizer *tok = NULL;
    rsd_evaluator *e = NULL;
    struct progress p;
    rsd_score s = {.size = sizeof s};
    rsd_ctx *ctx = cli_open(threads, seed);
    if (!ctx)
        return EXIT_FAILED;
    status = cli_model_as(ctx, model, dtype, &m, &tok);
    if (status)
        goto done;
    if (rsd_evaluator_open(ctx, m, tok, &o, &e)) {
        status = cli_failed(ctx);
        goto done;
    }
    progress_open(&p);
    interrupt_watch();
    int got = rsd_evaluator_file(e, task, data, out, eval_progress, &p, &s);
    progress_close(&p);
    if (got < 0)
        status = cli_failed(ctx);
    else if (got > 0) {
        fprintf(stderr, "reasondistill: stopped: nothing was written\n");
        status = EXIT_FAILED;
    } else
        print_score(task, format, &s, &o);
done:
    rsd_evaluator_close(e);
    rsd_tokenizer_close(tok);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
    return status;
}

/* ---- compare ---- */

static int list_difference(void *user, const char *id, size_t len, int a_right, int b_right) {
    (void)user, (void)b_right;
    return printf("%s %.*s\n", a_right ? ">" : "<", (int)len, id) < 0;
}

static int print_paired(const rsd_paired *p) {
    const struct {
        const char *key;
        uint64_t v;
    } counts[] = {{"both", p->both}, {"only_a", p->only_a}, {"only_b", p->only_b}, {"neither", p->neither}};
    const struct {
        const char *key;
        double v;
    } figures[] = {{"difference", p->difference}, {"low", p->low}, {"high", p->high}, {"p", p->p}, {"chi2", p->chi2},
                   {"p_chi2", p->p_chi2}};
    struct err e = {0};
    struct str s;
    struct json_out o;
    str_init(&s, &mem_std);
    json_begin(&o, &s, 0);
    json_object(&o);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        json_put_key(&o, counts[i].key);
        json_put_int(&o, (int64_t)counts[i].v);
    }
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        json_put_key(&o, figures[i].key);
        json_put_double(&o, figures[i].v);
    }
    json_end_object(&o);
    int status = str_status(&s, &e) ? cli_err(&e) : puts(str_z(&s)) < 0 ? EXIT_FAILED : EXIT_OK;
    str_free(&s);
    return status;
}

int verb_compare(const struct verb *v, int argc, char **argv) {
    static const char *const parsers[] = {"strict", "lenient", "reference"};
    const char *a = NULL, *b = NULL, *parser = "strict";
    bool json = false, list = false;
    const struct arg args[] = {
        {"A.json", ARG_TEXT, &a, "A.JSON", .help = "what eval --out wrote of one model", .needed = true},
        {"B.json", ARG_TEXT, &b, "B.JSON", .help = "and of another, on the same items", .needed = true},
        {"--parser", ARG_TEXT, &parser, "strict|lenient|reference", .help = "which verdict counts"},
        {"--list", ARG_FLAG, &list, "",
         .help = "first the items on which they differ: > where only A is right, < where only B is"},
        {"--json", ARG_FLAG, &json, "", .help = "one JSON object instead of a sentence"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    if (json && list) {
        fprintf(stderr, "reasondistill compare: --list and --json do not go together\n");
        return EXIT_USAGE;
    }
    int which = 0;
    while (strcmp(parsers[which], parser))
        which++;
    rsd_paired p = {.size = sizeof p};
    rsd_ctx *ctx = cli_open(1, 1);
    if (!ctx)
        return EXIT_FAILED;
    status = rsd_compare_files(ctx, a, b, which, list ? list_difference : NULL, NULL, &p) ? cli_failed(ctx) : EXIT_OK;
    if (status == EXIT_OK && json)
        status = print_paired(&p);
    else if (status == EXIT_OK)
        printf("A %+.1f points (95 %% interval %+.1f to %+.1f): both right on %llu items, only A on %llu, only B on %llu, "
               "neither on %llu; "
               "p = %.3g (McNemar, exact)\n",
               100 * p.difference, 100 * p.low, 100 * p.high, (unsigned long long)p.both, (unsigned long long)p.only_a,
               (unsigned long long)p.only_b, (unsigned long long)p.neither, p.p);
    rsd_ctx_close(ctx);
    return status;
}
