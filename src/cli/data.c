/* build: from questions and aligned replies to a data set. questions: from a benchmark's own file to plain lines. */
#include "cli/cli.h"

#include <string.h>

/* "zs-ao,ic-cot" to bits. 0 if one is not known. */
static uint32_t parse_formats(const char *text) {
    uint32_t bits = 0;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, ",");
        int f = rsd_format_parse(p, n);
        if (f < 0) {
            fprintf(stderr, "reasondistill build: --formats: there is no format %.*s: zs-ao, zs-cot, ic-ao, ic-cot\n", (int)n, p);
            return 0;
        }
        bits |= (uint32_t)1 << f;
        p += n + (p[n] == ',');
    }
    return bits;
}

#define TASK_CHOICES "gsm8k|multiarith|asdiv|svamp|bbh|jsonl"

int verb_build(const struct verb *v, int argc, char **argv) {
    const char *formats = "zs-ao,zs-cot,ic-ao,ic-cot", *keep = "correct", *demos = "human";
    int64_t shots = 4, seed = 1;
    bool drop = false;
    struct arg_texts held = {.n = 0};
    rsd_build_options o;
    rsd_build_options_init(&o, sizeof o);
    const struct arg args[] = {
        {"--questions", ARG_TEXT, &o.questions, "FILE|DIR", .help = "lines {\"id\",\"question\",\"answer\",\"rationale\"}",
         .needed = true},
        {"--task", ARG_TEXT, &o.task, TASK_CHOICES, .help = "the questions may be this benchmark's own files"},
        {"--in", ARG_TEXT, &o.aligned, "FILE", .help = "aligned shard; needed for the chain-of-thought formats"},
        {"--formats", ARG_TEXT, &formats, "LIST", .help = "which formats can be read from it"},
        {"--shots", ARG_INT, &shots, "N", .help = "demonstrations of the in-context formats", .min = 1, .max = 64},
        {"--demos", ARG_TEXT, &demos, "human|teacher", .help = "whose reasoning they show; the other's where there is none"},
        {"--keep", ARG_TEXT, &keep, "correct|all", .help = "which replies"},
        {"--seed", ARG_INT, &seed, "N", .help = "of the demonstrations", .min = 0, .max = 9007199254740992.0},
        {"--hold-out", ARG_TEXTS, &held, "FILE|DIR",
         .help = "development or test items: a question that stands there, too, is an error; may be given several times"},
        {"--drop-held-out", ARG_FLAG, &drop, "", .help = "such questions are left out instead"},
        {"--out", ARG_TEXT, &o.out, "DIR", .help = "folder to make", .needed = true},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    o.formats = parse_formats(formats);
    if (!o.formats)
        return EXIT_USAGE;
    o.shots = (int32_t)shots;
    o.seed = (uint64_t)seed;
    o.keep = strcmp(keep, "all") ? RSD_KEEP_CORRECT : RSD_KEEP_ALL;
    o.demos = strcmp(demos, "teacher") ? RSD_DEMOS_HUMAN : RSD_DEMOS_TEACHER;
    o.hold_out = held.v;
    o.n_hold_out = held.n;
    o.drop_held_out = drop;

    rsd_build_report r = {.size = sizeof r};
    rsd_ctx *ctx = cli_open(1, 1);
    if (!ctx)
        return EXIT_FAILED;
    status = EXIT_OK;
    if (rsd_dataset_build(ctx, &o, &r))
        status = cli_failed(ctx);
    else
        fprintf(
            stderr,
            "built %s: %llu questions (%llu held out), %llu of %llu replies kept (%llu wrong, %llu not labelled, %llu without "
            "their question)\n",
            o.out, (unsigned long long)(r.questions), (unsigned long long)r.held_out, (unsigned long long)r.kept,
            (unsigned long long)r.replies, (unsigned long long)r.wrong, (unsigned long long)r.unknown,
            (unsigned long long)r.no_question);
    rsd_ctx_close(ctx);
    return status;
}

int verb_questions(const struct verb *v, int argc, char **argv) {
    const char *task = NULL, *in = NULL, *out = NULL;
    uint64_t n = 0;
    const struct arg args[] = {
        {"--task", ARG_TEXT, &task, TASK_CHOICES, .help = "whose files they are", .needed = true},
        {"--in", ARG_TEXT, &in, "FILE|DIR", .help = "the file as published; a folder of them for bbh", .needed = true},
        {"--out", ARG_TEXT, &out, "FILE", .help = "lines {\"id\",\"question\",\"answer\",\"rationale\"}", .needed = true},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    rsd_ctx *ctx = cli_open(1, 1);
    if (!ctx)
        return EXIT_FAILED;
    status = EXIT_OK;
    if (rsd_dataset_convert(ctx, task, in, out, &n))
        status = cli_failed(ctx);
    else
        fprintf(stderr, "%s: %llu questions\n", out, (unsigned long long)n);
    rsd_ctx_close(ctx);
    return status;
}
