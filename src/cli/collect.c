/* collect: asks a teacher, says what an endpoint is good for, looks after stores. */
#include "cli/cli.h"

#include "core/log.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { MAX_QUESTION_LINE = 16 << 20, MAX_PROMPT = 16 << 20, MAX_HEADERS = 1 << 20, CHECKED = 3 /* questions of --check */ };

static int submit_all(rsd_teacher *t, rsd_ctx *ctx, const char *path, uint64_t most, uint64_t *questions) {
    struct err e = {0};
    struct lines in;
    struct text line;
    int more = 0, status = EXIT_OK;
    if (lines_open(&in, &mem_std, path, MAX_QUESTION_LINE, &e))
        return cli_err(&e);
    while (*questions < most && (more = lines_next(&in, &line, &e)) > 0) {
        struct json *obj = NULL;
        struct text id = {0}, question = {0}, answer = {0};
        if (line.n == 0)
            continue;
        if (json_parse(line.p, line.n, &obj, &e) || json_need_text(obj, "id", &id, &e) ||
            json_need_text(obj, "question", &question, &e) || json_opt_text(obj, "answer", &answer, &e)) {
            err_within(&e, "%s, line %zu", path, in.line);
            status = cli_err(&e);
        } else {
            const rsd_question q = {id.p, id.n, question.p, question.n, answer.p, answer.n};
            if (rsd_teacher_submit(t, &q)) {
                fprintf(stderr, "reasondistill: %s, line %zu: %s\n", path, in.line, rsd_ctx_error(ctx));
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

static void draw(struct progress *p, const rsd_teacher_stats *s, bool priced) {
    char text[240], left[32], cost[48] = "";
    double all = (double)(s->queued + s->in_flight + s->stored + s->failed + s->missing),
           done = all - (double)(s->queued + s->in_flight);
    double seconds = clock_seconds() - p->started;
    format_seconds(done > 0 ? seconds / done * (all - done) : 0, left, sizeof left);
    if (priced)
        snprintf(cost, sizeof cost, ", cost %.2f", s->cost);
    snprintf(text, sizeof text, "%.0f/%.0f replies, %" PRIu64 " correct, %" PRIu64 " failed, %" PRIu64 " tokens%s, %s left", done,
             all, s->correct, s->failed, s->prompt_tokens + s->completion_tokens, cost, left);
    progress_draw(p, all > 0 ? done / all : 1, text);
}

/* Polls to the end. EXIT_FAILED after a complaint that ends the run. */
static int work(rsd_ctx *ctx, rsd_teacher *t, bool priced, rsd_teacher_stats *s) {
    struct progress p;
    bool told = false, unreachable = false;
    unsigned complaints = 0;
    progress_open(&p);
    interrupt_watch();
    for (int got = RSD_OK; got != RSD_END;) {
        const rsd_reply *reply = NULL;
        if (interrupted() && !told) {
            told = true;
            rsd_teacher_stats_get(t, s);
            progress_close(&p);
            fprintf(stderr, "reasondistill: stopping: %" PRIu64 " replies are in flight (Ctrl-C again gives them up)\n",
                    s->in_flight);
            if (rsd_teacher_stop(t))
                return cli_failed(ctx);
        }
        got = rsd_teacher_poll(t, 100, &reply);
        rsd_teacher_stats_get(t, s);
        if (progress_due(&p))
            draw(&p, s, priced);
        if (got == RSD_EIO || got == RSD_ENOMEM || got == RSD_EINVAL) {
            progress_close(&p);
            return cli_failed(ctx);
        }
        /* The first few failures are told, the others counted; a host that cannot be reached is told once. */
        if (got < 0 && complaints < 5 && !(got == RSD_ENETWORK && unreachable)) {
            progress_close(&p);
            cli_failed(ctx);
            complaints++;
            unreachable = unreachable || got == RSD_ENETWORK;
        }
    }
    progress_close(&p);
    rsd_teacher_stats_get(t, s);
    return EXIT_OK;
}

static int collect(rsd_ctx *ctx, rsd_teacher *t, const char *questions_path, bool priced) {
    static const char *const ends[] = {"",
                                       "stopped",
                                       "stopped: the budget holds no further request",
                                       "stopped: no request to this endpoint would do better",
                                       "stopped: the endpoint cannot be reached",
                                       "stopped: the endpoint asked for a longer wait than --max-wait"};
    uint64_t questions = 0;
    rsd_teacher_stats s = {.size = sizeof s};
    int status = submit_all(t, ctx, questions_path, UINT64_MAX, &questions);
    if (status || (status = work(ctx, t, priced, &s)))
        return status;
    fprintf(stderr,
            "collected %" PRIu64 " replies to %" PRIu64 " questions (%" PRIu64 " were there already): %" PRIu64
            " correct, %" PRIu64 " failed, %" PRIu64 " missing, %" PRIu64 " requests, %" PRIu64 " retries, %" PRIu64 " tokens",
            s.stored, questions, s.already, s.correct, s.failed, s.missing, s.requests, s.retries,
            s.prompt_tokens + s.completion_tokens);
    if (priced)
        fprintf(stderr, ", cost %.4f", s.cost);
    fprintf(stderr, "\n");
    if (s.stopped)
        fprintf(stderr, "reasondistill: %s: the same command goes on where it stopped\n", ends[s.stopped]);
    return s.failed || s.stopped ? EXIT_FAILED : EXIT_OK;
}

/* ---- what an endpoint gives ---- */

static void print_findings(const rsd_findings *f, int k, uint64_t api) {
    static const char *const fits[] = {"no log-probabilities that could be used: the text alone can be learned from",
                                       "log-probabilities of the sampled tokens only: distribution matching is not possible",
                                       "distribution matching is possible"};
    printf("interface          %s\n", api == RSD_API_CHAT ? "chat" : "completions");
    printf("replies            %" PRIu64 ", %" PRIu64 " tokens\n", f->replies, f->tokens);
    printf("logprobs missing   %" PRIu64 " replies\n", f->without);
    printf("post-sampling      %" PRIu64 " replies\n", f->post_sampling);
    printf("null               %" PRIu64 " tokens\n", f->null_tokens);
    printf("stand-in (-9999)   %" PRIu64 " tokens\n", f->sentinels);
    printf("always zero        %" PRIu64 " tokens\n", f->zeros);
    printf("alternatives       %" PRIu64 " at most, %d asked for%s\n", f->most, k,
           f->tokens > 0 && f->most < (uint64_t)k ? ": the endpoint caps them" : "");
    printf("fewer than asked   %" PRIu64 " tokens\n", f->fewer);
    printf("sum above 1        %" PRIu64 " tokens\n", f->above_one);
    printf("sampled not listed %" PRIu64 " tokens\n", f->outside);
    printf("verdict            %s\n", fits[f->fit]);
}

static int check(rsd_ctx *ctx, rsd_teacher *t, const char *questions_path, int k) {
    static const struct {
        const char *id, *question, *answer;
    } simple[CHECKED] = {
        {"check-1", "Tom has 3 apples and buys 4 more. How many apples does he have?", "7"},
        {"check-2", "A book of 48 pages is read in 4 days, the same number of pages a day. How many a day?", "12"},
        {"check-3", "A pen costs $2 and a pencil $1. What do 3 pens and 2 pencils cost?", "8"}};
    rsd_findings f = {.size = sizeof f};
    rsd_teacher_stats s = {.size = sizeof s};
    uint64_t questions = 0;
    int status = EXIT_OK;
    bool complained = false;
    if (questions_path)
        status = submit_all(t, ctx, questions_path, CHECKED, &questions);
    for (size_t i = 0; !questions_path && !status && i < CHECKED; i++) {
        const struct text id = text_of(simple[i].id), question = text_of(simple[i].question), answer = text_of(simple[i].answer);
        const rsd_question q = {id.p, id.n, question.p, question.n, answer.p, answer.n};
        if (rsd_teacher_submit(t, &q))
            status = cli_failed(ctx);
    }
    for (int got = RSD_OK; !status && got != RSD_END;) {
        const rsd_reply *reply = NULL;
        got = rsd_teacher_poll(t, 1000, &reply);
        if (got < 0)
            complained = cli_failed(ctx) != EXIT_OK;
        if (got == RSD_OK && rsd_reply_check(reply, k, &f))
            status = cli_failed(ctx);
        if (got == RSD_ENOMEM || got == RSD_EIO || got == RSD_EINVAL)
            status = EXIT_FAILED;
    }
    if (status)
        return status;
    rsd_teacher_stats_get(t, &s);
    if (f.replies == 0) {
        fprintf(stderr, "reasondistill: no reply came%s\n",
                complained       ? ": see above"
                : questions_path ? ""
                                 : ": recorded replies are to questions of their own: give --questions");
        return EXIT_FAILED;
    }
    print_findings(&f, k, s.api);
    return f.fit == RSD_FIT_DISTRIBUTION ? EXIT_OK : EXIT_FAILED;
}

/* ---- stores ---- */

static void print_report(const char *path, const rsd_store_report *r) {
    fprintf(stderr,
            "%s: %" PRIu64 " rows of %" PRIu64 " questions, %" PRIu64 " of %" PRIu64 " labelled rows correct, %" PRIu64
            " without log-probabilities; %" PRIu64 " duplicates, %" PRIu64 " bad lines, %" PRIu64
            " bytes of an unfinished line\n",
            path, r->rows, r->questions, r->correct, r->labelled, r->no_logprobs, r->duplicates, r->bad, r->torn);
}

struct question_lines {
    struct str line;
    bool failed;
};

static int print_question(void *user, const rsd_question_stats *q) {
    struct question_lines *l = user;
    struct json_out o;
    struct err e = {0};
    str_clear(&l->line);
    json_begin(&o, &l->line, 0);
    json_object(&o);
    json_put_key(&o, "id");
    json_put_text(&o, (struct text){q->id, q->id_len});
    json_put_key(&o, "total");
    json_put_int(&o, (int64_t)q->total);
    json_put_key(&o, "kept");
    json_put_int(&o, (int64_t)q->kept);
    json_put_key(&o, "accuracy");
    json_put_double(&o, q->labelled ? (double)q->kept / (double)q->labelled : (double)NAN);
    json_put_key(&o, "majority");
    json_put_text(&o, (struct text){q->majority, q->majority_len});
    json_put_key(&o, "votes");
    json_put_int(&o, (int64_t)q->votes);
    json_put_key(&o, "majority_correct");
    if (q->majority_correct < 0)
        json_put_null(&o);
    else
        json_put_bool(&o, q->majority_correct == 1);
    json_end_object(&o);
    str_addc(&l->line, '\n');
    l->failed = str_status(&l->line, &e) || fwrite(l->line.p, 1, l->line.n, stdout) != l->line.n;
    return l->failed;
}

static double share(uint64_t part, uint64_t whole) {
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static int stats(rsd_ctx *ctx, const char *path, int parser) {
    rsd_store_report r = {.size = sizeof r};
    struct question_lines l = {.failed = false};
    str_init(&l.line, &mem_std);
    int rc = rsd_store_stats(ctx, path, parser, print_question, &l, &r);
    str_free(&l.line);
    if (l.failed || (!rc && (fflush(stdout) || ferror(stdout)))) {
        fprintf(stderr, "reasondistill collect: standard output could not be written\n");
        return EXIT_FAILED;
    }
    if (rc)
        return cli_failed(ctx);
    print_report(path, &r);
    fprintf(stderr,
            "kept %" PRIu64 " of %" PRIu64 ", single accuracy %.1f %%, majority accuracy %.1f %% (%" PRIu64 " of %" PRIu64
            " questions)\n",
            r.correct, r.rows, share(r.correct, r.labelled), share(r.voted_right, r.voted), r.voted_right, r.voted);
    return EXIT_OK;
}

struct asked {
    const char *questions, *prompt, *system, *headers, *stop, *api, *parser;
    int64_t samples, top, max_tokens, concurrency, retries, seed, per_request, budget_tokens, max_body, unreachable;
    bool check, verify, compact, stats, gzip, insecure, http1, text_too;
};

static int compact(rsd_ctx *ctx, const char *path, bool gzip, rsd_store_report *r) {
    struct str to;
    struct err e = {0};
    if (!gzip)
        return rsd_store_compact(ctx, path, r) ? cli_failed(ctx) : EXIT_OK;
    str_init(&to, &mem_std);
    str_addz(&to, path);
    str_addz(&to, ".gz");
    int status = str_status(&to, &e) ? cli_err(&e) : rsd_store_gzip(ctx, path, str_z(&to), r) ? cli_failed(ctx) : EXIT_OK;
    if (status == EXIT_OK)
        fprintf(stderr, "%s: written; %s is no longer needed once nothing is to be added to it\n", str_z(&to), path);
    str_free(&to);
    return status;
}

static int parser_of(const struct asked *a) {
    return strcmp(a->parser, "lenient") ? RSD_PARSER_STRICT : RSD_PARSER_LENIENT;
}

/* --verify, --compact, --stats */
static int look_after(rsd_ctx *ctx, const char *path, const struct asked *a) {
    rsd_store_report r = {.size = sizeof r};
    if (a->stats)
        return stats(ctx, path, parser_of(a));
    int rc = a->verify ? rsd_store_verify(ctx, path, &r) : RSD_OK;
    int status = a->verify ? (rc ? EXIT_FAILED : EXIT_OK) : compact(ctx, path, a->gzip, &r);
    if (status == EXIT_OK || rc == RSD_EFORMAT)
        print_report(path, &r);
    return rc ? cli_failed(ctx) : status;
}

/* ---- the verb ---- */

struct texts { /* of files and of options that become JSON */
    struct str prompt, system, headers, stop;
};

/* A file's text; nothing without a path. */
static int read_text(struct str *to, const char *path, size_t max, struct err *e) {
    return path ? file_read(path, max, to, e) : 0;
}

/* --stop: JSON where it looks like it, else one plain string. */
static const char *stop_json(struct str *to, const char *stop) {
    if (!stop || *stop == '[' || *stop == '"')
        return stop;
    struct json_out o;
    json_begin(&o, to, 0);
    json_put_z(&o, stop);
    return str_z(to);
}

static void take_over(rsd_teacher_options *o, const struct asked *a) {
    o->samples = a->check ? 1 : (int32_t)a->samples;
    o->top_logprobs = (int32_t)a->top;
    o->max_tokens = (int32_t)a->max_tokens;
    o->concurrency = (int32_t)a->concurrency;
    o->retries = (int32_t)a->retries;
    o->per_request = (int32_t)a->per_request;
    o->seed = (uint64_t)a->seed;
    o->budget_tokens = (uint64_t)a->budget_tokens;
    o->max_body = (uint64_t)a->max_body;
    o->unreachable = (uint64_t)a->unreachable;
    o->insecure = a->insecure;
    o->http2 = !a->http1;
    o->need_logprobs = !a->check && !a->text_too;
    o->api = !strcmp(a->api, "chat") ? RSD_API_CHAT : !strcmp(a->api, "completions") ? RSD_API_COMPLETIONS : RSD_API_AUTO;
    o->parser = parser_of(a);
    if (a->check)
        o->store = NULL;
}

static int usage(const char *what) {
    fprintf(stderr, "reasondistill collect: %s (see reasondistill collect --help)\n", what);
    return EXIT_USAGE;
}

static int run(rsd_teacher_options *o, const struct asked *a) {
    struct err e = {0};
    struct texts x;
    rsd_teacher *t = NULL;
    int status;
    struct str *all[] = {&x.prompt, &x.system, &x.headers, &x.stop};
    for (size_t i = 0; i < 4; i++)
        str_init(all[i], &mem_std);
    rsd_ctx *ctx = cli_open(1, 1);
    if (!ctx)
        return EXIT_FAILED;
    if (a->verify || a->compact || a->stats) {
        status = look_after(ctx, o->store, a);
        goto done;
    }
    if (read_text(&x.prompt, a->prompt, MAX_PROMPT, &e) || read_text(&x.system, a->system, MAX_PROMPT, &e) ||
        read_text(&x.headers, a->headers, MAX_HEADERS, &e)) {
        status = cli_err(&e);
        goto done;
    }
    take_over(o, a);
    o->prompt = a->prompt ? str_z(&x.prompt) : NULL;
    o->prompt_len = x.prompt.n;
    o->system = a->system ? str_z(&x.system) : NULL;
    o->system_len = x.system.n;
    o->headers = a->headers ? str_z(&x.headers) : NULL;
    o->stop = stop_json(&x.stop, a->stop);
    if (rsd_teacher_open(ctx, o, &t))
        status = cli_failed(ctx);
    else if (a->check)
        status = check(ctx, t, a->questions, o->top_logprobs);
    else
        status = collect(ctx, t, a->questions, o->price_prompt > 0 || o->price_completion > 0);
done:
    rsd_teacher_close(t);
    for (size_t i = 0; i < 4; i++)
        str_free(all[i]);
    rsd_ctx_close(ctx);
    return status;
}

int verb_collect(const struct verb *v, int argc, char **argv) {
    struct asked a = {.api = "auto",
                      .parser = "strict",
                      .samples = 1,
                      .top = 5,
                      .max_tokens = 256,
                      .concurrency = 16,
                      .retries = 5,
                      .per_request = 64,
                      .max_body = 64 << 20,
                      .unreachable = 3};
    rsd_teacher_options o;
    rsd_teacher_options_init(&o, sizeof o);
    const struct arg args[] = {
        {"--questions", ARG_TEXT, &a.questions, "FILE", .help = "lines {\"id\",\"question\",\"answer\"}"},
        {"--teacher", ARG_TEXT, &o.url, "URL", .help = "http(s)://host/v1, replay:FILE, or record:FILE,http(s)://host/v1"},
        {"--model", ARG_TEXT, &o.model, "NAME", .help = "model name as the endpoint knows it"},
        {"--prompt", ARG_TEXT, &a.prompt, "FILE", .help = "few-shot prefix, sent before each question"},
        {"--system", ARG_TEXT, &a.system, "FILE", .help = "system message of chat requests"},
        {"--template", ARG_TEXT, &o.question_template, "TEXT", .help = "how a question is asked; {question} is replaced"},
        {"--samples", ARG_INT, &a.samples, "N", .help = "replies a question", .min = 1, .max = 1000000},
        {"--per-request", ARG_INT, &a.per_request, "N", .help = "of them in one request at most", .min = 1, .max = 1000000},
        {"--temperature", ARG_NUMBER, &o.temperature, "X", .help = "of the teacher", .min = 0, .max = 10},
        {"--top-p", ARG_NUMBER, &o.top_p, "X", .help = "of the teacher; 1 is not sent", .min = 0.000001, .max = 1},
        {"--top-logprobs", ARG_INT, &a.top, "K", .help = "alternatives a token", .min = 0, .max = 20},
        {"--text-too", ARG_FLAG, &a.text_too, "", .help = "keep replies without log-probabilities, too"},
        {"--max-tokens", ARG_INT, &a.max_tokens, "N", .help = "of one reply", .min = 1, .max = 1000000},
        {"--stop", ARG_TEXT, &a.stop, "TEXT", .help = "where a reply ends: a text, or a JSON list of texts"},
        {"--seed", ARG_INT, &a.seed, "N", .help = "sent with each request if not 0", .min = 0, .max = 9007199254740992.0},
        {"--extra", ARG_TEXT, &o.extra, "JSON", .help = "object with more members of a request (null takes one of ours away)"},
        {"--headers", ARG_TEXT, &a.headers, "FILE", .help = "more headers, \"Name: value\" a line"},
        {"--api", ARG_TEXT, &a.api, "auto|completions|chat", .help = "which interface of the endpoint"},
        {"--api-key-env", ARG_TEXT, &o.api_key_env, "NAME", .help = "environment variable with the key"},
        {"--api-key-file", ARG_TEXT, &o.api_key_file, "FILE", .help = "file whose first line is the key"},
        {"--key-header", ARG_TEXT, &o.key_header, "NAME", .help = "header for the bare key instead of Authorization: Bearer"},
        {"--concurrency", ARG_INT, &a.concurrency, "N", .help = "requests in flight", .min = 1, .max = 4096},
        {"--retries", ARG_INT, &a.retries, "N", .help = "of one request after its first try", .min = 0, .max = 1000},
        {"--unreachable", ARG_INT, &a.unreachable, "N",
         .help = "stop after N requests in a row whose tries all found no connection; 0: never", .min = 0, .max = 1000000},
        {"--max-wait", ARG_NUMBER, &o.max_wait, "SECONDS",
         .help = "pause as long as the endpoint asks, up to this; stop where it asks for more", .min = 0, .max = 1e9},
        {"--timeout", ARG_NUMBER, &o.timeout, "SECONDS", .help = "for one request", .min = 0.001, .max = 86400},
        {"--connect-timeout", ARG_NUMBER, &o.connect_timeout, "SECONDS", .help = "for a connection", .min = 0.001, .max = 86400},
        {"--first-byte-timeout", ARG_NUMBER, &o.first_byte_timeout, "SECONDS", .help = "until an answer begins; 0: any", .min = 0,
         .max = 86400},
        {"--max-body", ARG_INT, &a.max_body, "BYTES", .help = "of one answer after decompression", .min = 1024, .max = 1 << 30},
        {"--requests-per-minute", ARG_NUMBER, &o.requests_per_minute, "N", .help = "0: as the endpoint allows", .min = 0,
         .max = 1e9},
        {"--tokens-per-minute", ARG_NUMBER, &o.tokens_per_minute, "N", .help = "0: as the endpoint allows", .min = 0,
         .max = 1e12},
        {"--price-prompt", ARG_NUMBER, &o.price_prompt, "MONEY", .help = "for a million tokens", .min = 0, .max = 1e9},
        {"--price-completion", ARG_NUMBER, &o.price_completion, "MONEY", .help = "for a million tokens", .min = 0, .max = 1e9},
        {"--budget", ARG_NUMBER, &o.budget, "MONEY", .help = "stop before it is passed; 0: any", .min = 0, .max = 1e12},
        {"--budget-tokens", ARG_INT, &a.budget_tokens, "N", .help = "stop before they are passed; 0: any", .min = 0,
         .max = 9007199254740992.0},
        {"--ca-file", ARG_TEXT, &o.ca_file, "FILE", .help = "certificates to trust instead of the system's, PEM"},
        {"--insecure", ARG_FLAG, &a.insecure, "", .help = "do not verify TLS certificates"},
        {"--http1", ARG_FLAG, &a.http1, "", .help = "no HTTP/2"},
        {"--parser", ARG_TEXT, &a.parser, "strict|lenient",
         .help = "a reply's answer stands behind \"The answer is\", or wherever one states it"},
        {"--out", ARG_TEXT, &o.store, "FILE", .help = "teacher store, appended to"},
        {"--check", ARG_FLAG, &a.check, "", .help = "ask a few questions and say what the log-probabilities are good for"},
        {"--verify", ARG_FLAG, &a.verify, "", .help = "check the store --out and change nothing"},
        {"--compact", ARG_FLAG, &a.compact, "", .help = "rewrite the store --out without second rows and bad lines"},
        {"--gzip", ARG_FLAG, &a.gzip, "", .help = "with --compact: into the file --out with .gz behind its name; --out stays"},
        {"--stats", ARG_FLAG, &a.stats, "", .help = "a line per question of the store --out: kept, accuracy, majority vote"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    bool tool = a.verify || a.compact || a.stats;
    if (a.check + a.verify + a.compact + a.stats > 1)
        return usage("only one of --check, --verify, --compact, --stats");
    if (a.gzip && !a.compact)
        return usage("--gzip goes with --compact");
    if (!o.store && !a.check)
        return usage("needs --out");
    if (!tool && !o.url)
        return usage("needs --teacher");
    if (!tool && !a.check && !a.questions)
        return usage("needs --questions");
    return run(&o, &a);
}
