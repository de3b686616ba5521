/* eval: accuracy on a task, on the terminal and in a file. */
#include "cli/cli.h"

#include <string.h>

static int on_item(void *user, uint64_t done, uint64_t of) {
    struct progress *p = user;
    if (progress_due(p)) {
        char text[64];
        snprintf(text, sizeof text, "%llu/%llu", (unsigned long long)done, (unsigned long long)of);
        progress_draw(p, of ? (double)done / (double)of : 1, text);
    }
    return interrupted();
}

int verb_eval(const struct verb *v, int argc, char **argv) {
    const char *model = NULL, *task = NULL, *data = NULL, *format = "zs-cot", *out = NULL;
    int64_t threads = 0, shots = 4, max_tokens = 256, batch = 32, limit = 0, seed = 1;
    rsd_evaluator_options o;
    rsd_evaluator_options_init(&o, sizeof o);
    const struct arg args[] = {
        {"--model", ARG_TEXT, &model, "DIR", .help = "model directory with its tokenizer", .needed = true},
        {"--task", ARG_TEXT, &task, "gsm8k|multiarith|asdiv|svamp|bbh|jsonl",
         .help = "how the data is read and answers are compared", .needed = true},
        {"--data", ARG_TEXT, &data, "FILE|DIR", .help = "the items", .needed = true},
        {"--format", ARG_TEXT, &format, "zs-ao|zs-cot|ic-ao|ic-cot", .help = "how they are put"},
        {"--demos", ARG_TEXT, &o.demos, "FILE", .help = "questions with rationale for the in-context formats"},
        {"--shots", ARG_INT, &shots, "N", .help = "demonstrations", .min = 1, .max = 64},
        {"--max-tokens", ARG_INT, &max_tokens, "N", .help = "of one output", .min = 1, .max = 100000},
        {"--batch", ARG_INT, &batch, "N", .help = "sequences in flight", .min = 1, .max = 4096},
        {"--limit", ARG_INT, &limit, "N", .help = "first items only; 0: all", .min = 0, .max = 2147483647},
        {"--seed", ARG_INT, &seed, "N", .help = "of the demonstrations", .min = 0, .max = 9007199254740992.0},
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
    status = cli_model(ctx, model, &m, &tok);
    if (status)
        goto done;
    if (rsd_evaluator_open(ctx, m, tok, &o, &e)) {
        status = cli_failed(ctx);
        goto done;
    }
    progress_open(&p);
    interrupt_watch();
    int got = rsd_evaluator_file(e, task, data, out, on_item, &p, &s);
    progress_close(&p);
    if (got < 0)
        status = cli_failed(ctx);
    else if (got > 0) {
        fprintf(stderr, "reasondistill: stopped: nothing was written\n");
        status = EXIT_FAILED;
    } else
        printf("%s %s: accuracy %.1f %% (%llu of %llu), 95 %% interval %.1f to %.1f %%, no answer %llu, %.1f tokens a reply, "
               "%.1f s\n",
               task, format, 100 * s.accuracy, (unsigned long long)s.correct, (unsigned long long)s.n, 100 * s.low, 100 * s.high,
               (unsigned long long)s.no_answer, s.mean_tokens, s.seconds);
done:
    rsd_evaluator_close(e);
    rsd_tokenizer_close(tok);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
    return status;
}
