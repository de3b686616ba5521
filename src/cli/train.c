/* train: runs a run.json, shows how it goes, stops cleanly. */
#include "cli/cli.h"

#include <string.h>

static int on_step(void *user, const rsd_step *s) {
    struct progress *p = user;
    if (progress_due(p)) {
        char text[200], left[32];
        format_seconds(s->seconds_left, left, sizeof left);
        snprintf(text, sizeof text, "step %llu/%llu  loss %.4f  %.0f tokens/s  %s left", (unsigned long long)s->step,
                 (unsigned long long)s->steps, s->loss, s->tokens_per_second, left);
        progress_draw(p, (double)s->step / (double)s->steps, text);
    }
    return interrupted();
}

static int on_item(void *user, uint64_t done, uint64_t of) {
    struct progress *p = user;
    if (progress_due(p)) {
        char text[64];
        snprintf(text, sizeof text, "evaluating %llu/%llu", (unsigned long long)done, (unsigned long long)of);
        progress_draw(p, of ? (double)done / (double)of : 1, text);
    }
    return interrupted();
}

/* What each format weighs, before the first step. */
static int show_mixture(rsd_trainer *t) {
    rsd_mixture m = {.size = sizeof m};
    if (rsd_trainer_mixture(t, &m))
        return -1;
    fprintf(stderr, "%-8s %10s %12s %12s %16s\n", "format", "items", "targets", "of the loss", "of the gradient");
    for (int f = 0; f < RSD_FORMATS; f++) {
        if (!m.items[f])
            continue;
        fprintf(stderr, "%-8s %10llu %12llu %10.2f %%", rsd_format_name(f), (unsigned long long)m.items[f],
                (unsigned long long)m.targets[f], 100 * m.loss[f]);
        if (m.gradient[f] >= 0)
            fprintf(stderr, " %14.2f %%\n", 100 * m.gradient[f]);
        else
            fprintf(stderr, " %16s\n", "not measured");
    }
    return 0;
}

static int run(rsd_ctx *ctx, const char *path, bool resume) {
    rsd_trainer *t = NULL;
    struct progress p;
    rsd_step last = {.size = sizeof last};
    int status = EXIT_OK;
    if (rsd_trainer_open(ctx, path, resume, &t))
        return cli_failed(ctx);
    interrupt_watch();
    if (show_mixture(t)) {
        status = cli_failed(ctx);
        rsd_trainer_close(t);
        return status;
    }
    progress_open(&p);
    rsd_trainer_set_progress(t, on_item, &p);
    int got = rsd_trainer_run(t, on_step, &p);
    progress_close(&p);
    if (got < 0) {
        status = cli_failed(ctx);
    } else if (got) {
        fprintf(stderr, "reasondistill: stopped and saved in %s: go on with: reasondistill train %s --resume\n",
                rsd_trainer_directory(t), path);
        status = EXIT_FAILED;
    } else {
        rsd_trainer_step(t, &last); /* there is none left: tells where the run stands */
        if (last.stopped)
            fprintf(stderr, "stopped early at step %llu: the best was step %llu, accuracy %.1f %%\n",
                    (unsigned long long)last.step, (unsigned long long)last.best_step, 100 * last.best);
        fprintf(stderr, "trained: %s\n", rsd_trainer_directory(t));
    }
    rsd_trainer_close(t);
    return status;
}

/* The configuration, or what its keys are. */
static int show(rsd_ctx *ctx, const char *path, bool explain) {
    const char *text = NULL;
    if (explain ? rsd_trainer_explain_config(ctx, &text) : rsd_trainer_print_config(ctx, path, &text))
        return cli_failed(ctx);
    return fputs(text, stdout) < 0 ? EXIT_FAILED : EXIT_OK;
}

int verb_train(const struct verb *v, int argc, char **argv) {
    const char *path = NULL;
    int64_t threads = 0;
    bool resume = false, print = false, explain = false;
    const struct arg args[] = {
        {"run.json", ARG_TEXT, &path, "RUN.JSON", .help = "the configuration"},
        {"--resume", ARG_FLAG, &resume, "", .help = "go on from the newest checkpoint"},
        {"--print-config", ARG_FLAG, &print, "",
         .help = "print the configuration with all defaults (without RUN.JSON: the defaults), and do nothing"},
        {"--explain-config", ARG_FLAG, &explain, "", .help = "print every key: values, default, what it is for"},
        {"--threads", ARG_INT, &threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    if (!path && !print && !explain) {
        fprintf(stderr, "reasondistill train: needs RUN.JSON (see reasondistill train --help)\n");
        return EXIT_USAGE;
    }
    rsd_ctx *ctx = cli_open(threads, 1);
    if (!ctx)
        return EXIT_FAILED;
    status = print || explain ? show(ctx, path, explain) : run(ctx, path, resume);
    rsd_ctx_close(ctx);
    return status;
}
