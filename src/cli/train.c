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

static int run(rsd_ctx *ctx, const char *path, bool resume) {
    rsd_trainer *t = NULL;
    struct progress p;
    int status = EXIT_OK;
    if (rsd_trainer_open(ctx, path, resume, &t))
        return cli_failed(ctx);
    progress_open(&p);
    interrupt_watch();
    int got = rsd_trainer_run(t, on_step, &p);
    progress_close(&p);
    if (got < 0) {
        status = cli_failed(ctx);
    } else if (interrupted()) {
        fprintf(stderr, "reasondistill: stopped and saved in %s: go on with: reasondistill train %s --resume\n",
                rsd_trainer_directory(t), path);
        status = EXIT_FAILED;
    } else {
        fprintf(stderr, "trained: %s\n", rsd_trainer_directory(t));
    }
    rsd_trainer_close(t);
    return status;
}

int verb_train(const struct verb *v, int argc, char **argv) {
    const char *path = NULL;
    int64_t threads = 0;
    bool resume = false, print = false;
    const struct arg args[] = {
        {"run.json", ARG_TEXT, &path, "RUN.JSON", .help = "the configuration", .needed = true},
        {"--resume", ARG_FLAG, &resume, "", .help = "go on from the newest checkpoint"},
        {"--print-config", ARG_FLAG, &print, "", .help = "print the configuration with all defaults, and do nothing"},
        {"--threads", ARG_INT, &threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    rsd_ctx *ctx = cli_open(threads, 1);
    if (!ctx)
        return EXIT_FAILED;
    const char *json = NULL;
    if (!print)
        status = run(ctx, path, resume);
    else if (rsd_trainer_print_config(ctx, path, &json))
        status = cli_failed(ctx);
    else
        status = puts(json) < 0 ? EXIT_FAILED : EXIT_OK;
    rsd_ctx_close(ctx);
    return status;
}
