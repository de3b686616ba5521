/* collect and build: from questions to a data set. */
#include "cli/cli.h"

#include "core/log.h"

#include <string.h>

enum { MAX_QUESTION_LINE = 16 << 20, MAX_PROMPT = 16 << 20 };

/* ---- collect ---- */

static int submit_all(rsd_teacher *t, rsd_ctx *ctx, const char *path, uint64_t *questions) {
    struct err e = {0};
    struct lines in;
    struct text line;
    int more = 0, status = EXIT_OK;
    if (lines_open(&in, &mem_std, path, MAX_QUESTION_LINE, &e))
        return cli_err(&e);
    while ((more = lines_next(&in, &line, &e)) > 0) {
        struct json *obj = NULL;
        struct text id = {0}, question = {0}, answer = {0};
        if (line.n == 0)
            continue;
        if (json_parse(line.p, line.n, &obj, &e) || json_need_text(obj, "id", &id, &e) ||
            json_need_text(obj, "question", &question, &e) || json_opt_text(obj, "answer", &answer, &e)) {
            err_within(&e, "%s:%zu", path, in.line);
            status = cli_err(&e);
        } else {
            const rsd_question q = {id.p, id.n, question.p, question.n, answer.p, answer.n};
            if (rsd_teacher_submit(t, &q)) {
                fprintf(stderr, "reasondistill: %s:%zu: %s\n", path, in.line, rsd_ctx_error(ctx));
                status = EXIT_FAILED;
            }
        }
        json_free(obj);
        if (status)
            break;
        ++*questions;
    }
    if (more < 0)
        status = cli_err(&e);
    lines_close(&in);
    return status;
}

static void draw_collect(struct progress *p, const rsd_teacher_stats *s) {
    char text[200], left[32];
    double all = (double)(s->queued + s->in_flight + s->stored + s->failed + s->missing),
           done = all - (double)(s->queued + s->in_flight);
    double seconds = clock_seconds() - p->started;
    format_seconds(done > 0 ? seconds / done * (all - done) : 0, left, sizeof left);
    snprintf(text, sizeof text, "%.0f/%.0f replies, %llu correct, %llu failed, %llu tokens, %s left", done, all,
             (unsigned long long)s->correct, (unsigned long long)s->failed, (unsigned long long)s->completion_tokens, left);
    progress_draw(p, all > 0 ? done / all : 1, text);
}

static int collect(rsd_ctx *ctx, rsd_teacher *t, const char *questions_path) {
    struct progress p;
    uint64_t questions = 0;
    rsd_teacher_stats s = {.size = sizeof s};
    int status = submit_all(t, ctx, questions_path, &questions);
    if (status)
        return status;
    progress_open(&p);
    interrupt_watch();
    for (int got = RSD_OK; got != RSD_END && !interrupted();) {
        const rsd_reply *reply = NULL;
        got = rsd_teacher_poll(t, 100, &reply);
        rsd_teacher_stats_get(t, &s);
        if (progress_due(&p))
            draw_collect(&p, &s);
        if (got == RSD_EIO || got == RSD_ENOMEM || got == RSD_EINVAL) {
            progress_close(&p);
            return cli_failed(ctx);
        }
        if (got < 0 && s.failed <= 5) {
            progress_close(&p);
            cli_failed(ctx);
        }
    }
    progress_close(&p);
    rsd_teacher_stats_get(t, &s);
    fprintf(stderr,
            "collected %llu replies to %llu questions (%llu were there already): %llu correct, %llu failed, %llu missing, %llu "
            "retries\n",
            (unsigned long long)s.stored, (unsigned long long)questions, (unsigned long long)s.already,
            (unsigned long long)s.correct, (unsigned long long)s.failed, (unsigned long long)s.missing,
            (unsigned long long)s.retries);
    if (interrupted()) {
        fprintf(stderr, "reasondistill: stopped: the same command goes on where it stopped\n");
        return EXIT_FAILED;
    }
    return s.failed ? EXIT_FAILED : EXIT_OK;
}

int verb_collect(const struct verb *v, int argc, char **argv) {
    const char *questions = NULL, *prompt = NULL, *api = "auto";
    int64_t samples = 1, top = 5, max_tokens = 256, concurrency = 16, retries = 5, seed = 0;
    rsd_teacher_options o;
    rsd_teacher_options_init(&o, sizeof o);
    const struct arg args[] = {
        {"--questions", ARG_TEXT, &questions, "FILE", .help = "lines {\"id\",\"question\",\"answer\"}", .needed = true},
        {"--teacher", ARG_TEXT, &o.url, "URL|replay:FILE",
         .help = "OpenAI-compatible endpoint (http(s)://host/v1), or recorded replies", .needed = true},
        {"--model", ARG_TEXT, &o.model, "NAME", .help = "model name as the endpoint knows it"},
        {"--prompt", ARG_TEXT, &prompt, "FILE", .help = "few-shot prefix, sent before each question"},
        {"--template", ARG_TEXT, &o.question_template, "TEXT", .help = "how a question is asked; {question} is replaced"},
        {"--samples", ARG_INT, &samples, "N", .help = "replies a question", .min = 1, .max = 1000000},
        {"--temperature", ARG_NUMBER, &o.temperature, "X", .help = "of the teacher", .min = 0, .max = 10},
        {"--top-logprobs", ARG_INT, &top, "K", .help = "alternatives a token", .min = 0, .max = 20},
        {"--max-tokens", ARG_INT, &max_tokens, "N", .help = "of one reply", .min = 1, .max = 1000000},
        {"--concurrency", ARG_INT, &concurrency, "N", .help = "requests in flight", .min = 1, .max = 4096},
        {"--retries", ARG_INT, &retries, "N", .help = "of one request after its first try", .min = 0, .max = 1000},
        {"--timeout", ARG_NUMBER, &o.timeout, "SECONDS", .help = "for one request", .min = 0.001, .max = 86400},
        {"--seed", ARG_INT, &seed, "N", .help = "sent with each request if not 0", .min = 0, .max = 9007199254740992.0},
        {"--api", ARG_TEXT, &api, "auto|completions|chat", .help = "which interface of the endpoint"},
        {"--api-key-env", ARG_TEXT, &o.api_key_env, "NAME", .help = "environment variable with the key"},
        {"--api-key-file", ARG_TEXT, &o.api_key_file, "FILE", .help = "file whose first line is the key"},
        {"--out", ARG_TEXT, &o.store, "FILE", .help = "teacher store, appended to", .needed = true},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    o.samples = (int32_t)samples;
    o.top_logprobs = (int32_t)top;
    o.max_tokens = (int32_t)max_tokens;
    o.concurrency = (int32_t)concurrency;
    o.retries = (int32_t)retries;
    o.seed = (uint64_t)seed;
    o.api = !strcmp(api, "chat") ? RSD_API_CHAT : !strcmp(api, "completions") ? RSD_API_COMPLETIONS : RSD_API_AUTO;

    struct err e = {0};
    struct str prefix;
    rsd_teacher *t = NULL;
    str_init(&prefix, &mem_std);
    rsd_ctx *ctx = cli_open(1, 1);
    if (!ctx)
        return EXIT_FAILED;
    if (prompt && file_read(prompt, MAX_PROMPT, &prefix, &e)) {
        status = cli_err(&e);
        goto done;
    }
    o.prompt = prompt ? str_z(&prefix) : NULL;
    o.prompt_len = prefix.n;
    status = rsd_teacher_open(ctx, &o, &t) ? cli_failed(ctx) : collect(ctx, t, questions);
done:
    rsd_teacher_close(t);
    str_free(&prefix);
    rsd_ctx_close(ctx);
    return status;
}

/* ---- build ---- */

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

int verb_build(const struct verb *v, int argc, char **argv) {
    const char *formats = "zs-ao,zs-cot,ic-ao,ic-cot", *keep = "correct";
    int64_t shots = 4, seed = 1;
    rsd_build_options o;
    rsd_build_options_init(&o, sizeof o);
    const struct arg args[] = {
        {"--questions", ARG_TEXT, &o.questions, "FILE", .help = "lines {\"id\",\"question\",\"answer\",\"rationale\"}",
         .needed = true},
        {"--in", ARG_TEXT, &o.aligned, "FILE", .help = "aligned shard", .needed = true},
        {"--formats", ARG_TEXT, &formats, "LIST", .help = "which formats can be read from it"},
        {"--shots", ARG_INT, &shots, "N", .help = "demonstrations of the in-context formats", .min = 1, .max = 64},
        {"--keep", ARG_TEXT, &keep, "correct|all", .help = "which replies"},
        {"--seed", ARG_INT, &seed, "N", .help = "of the demonstrations", .min = 0, .max = 9007199254740992.0},
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
            "built %s: %llu questions, %llu of %llu replies kept (%llu wrong, %llu not labelled, %llu without their question)\n",
            o.out, (unsigned long long)r.questions, (unsigned long long)r.kept, (unsigned long long)r.replies,
            (unsigned long long)r.wrong, (unsigned long long)r.unknown, (unsigned long long)r.no_question);
    rsd_ctx_close(ctx);
    return status;
}
