/* The teacher's public side: options, questions in, replies out. The flow of requests is in flow.c. */
#include "teacher/teacher.h"

#include "base/ctx.h"
#include "base/options.h"
#include "teacher/key.h"
#include "text/answer.h"

#include <limits.h>
#include <math.h>
#include <string.h>

OPTIONS_NO_TAIL(rsd_teacher_options, parser);

static const rsd_teacher_options defaults = {
    .size = sizeof(rsd_teacher_options),
    .api_key_env = "OPENAI_API_KEY",
    .temperature = 0.5,
    .timeout = 600,
    .connect_timeout = 10,
    .api = RSD_API_AUTO,
    .samples = 1,
    .max_tokens = 256,
    .top_logprobs = 5,
    .concurrency = 16,
    .retries = 5,
    .top_p = 1,
    .max_body = 64 << 20,
    .per_request = 64,
    .need_logprobs = 1,
    .http2 = 1,
    .unreachable = 3,
    .max_wait = 3600,
};

enum { MAX_SLOTS = 4096, MAX_SAMPLES = 1 << 20 };
_Static_assert((int)RSD_PARSER_STRICT == (int)ANSWER_STRICT && (int)RSD_PARSER_LENIENT == (int)ANSWER_LENIENT,
               "parsers have two names");

int rsd_teacher_options_init(rsd_teacher_options *o, size_t size) {
    return options_init(o, size, &defaults, sizeof defaults, NULL);
}

static bool within(double x, double lo, double hi) {
    return x >= lo && x <= hi; /* false for NaN */
}

static int check(const rsd_teacher_options *o, struct err *e) {
    if (!o->url || !*o->url)
        return err_set(e, ERR_INVALID, "url: missing; \"https://host/v1\" or \"replay:FILE\" expected");
    if (o->prompt_len > 0 && !o->prompt)
        return err_set(e, ERR_INVALID, "prompt: NULL with prompt_len %zu", o->prompt_len);
    if (o->store && (!*o->store || strcmp(o->store, "-") == 0))
        return err_set(e, ERR_INVALID, "store: a file expected, \"%s\" given", o->store);
    if (!within(o->temperature, 0, 100))
        return err_set(e, ERR_INVALID, "temperature: 0 to 100 expected");
    if (!within(o->timeout, 0.001, 1e6) || !within(o->connect_timeout, 0.001, 1e6))
        return err_set(e, ERR_INVALID, "timeout, connect_timeout: 0.001 to 1000000 seconds expected");
    if (o->samples < 1 || o->samples > MAX_SAMPLES)
        return err_set(e, ERR_INVALID, "samples: 1 to %d expected, %d given", (int)MAX_SAMPLES, (int)o->samples);
    if (o->max_tokens < 1 || o->concurrency < 1 || o->concurrency > MAX_SLOTS || o->retries < 0)
        return err_set(e, ERR_INVALID, "max_tokens at least 1, concurrency 1 to %d, retries at least 0 expected", (int)MAX_SLOTS);
    if (o->top_logprobs < 0 || o->top_logprobs > 1000)
        return err_set(e, ERR_INVALID, "top_logprobs: 0 to 1000 expected, %d given", (int)o->top_logprobs);
    if (o->api != RSD_API_AUTO && o->api != RSD_API_COMPLETIONS && o->api != RSD_API_CHAT)
        return err_set(e, ERR_INVALID, "api: %d is none of RSD_API_*", (int)o->api);
    if (!within(o->top_p, 1e-9, 1))
        return err_set(e, ERR_INVALID, "top_p: above 0, at most 1 expected");
    if (!within(o->first_byte_timeout, 0, 1e6))
        return err_set(e, ERR_INVALID, "first_byte_timeout: 0 to 1000000 seconds expected");
    if (!within(o->max_wait, 0, 1e9))
        return err_set(e, ERR_INVALID, "max_wait: 0 to 1000000000 seconds expected");
    if (!within(o->requests_per_minute, 0, 1e9) || !within(o->tokens_per_minute, 0, 1e12))
        return err_set(e, ERR_INVALID, "requests_per_minute, tokens_per_minute: 0 or more expected");
    if (!within(o->price_prompt, 0, 1e9) || !within(o->price_completion, 0, 1e9) || !within(o->budget, 0, 1e12))
        return err_set(e, ERR_INVALID, "price_prompt, price_completion, budget: 0 or more expected");
    if (o->budget > 0 && o->price_prompt == 0 && o->price_completion == 0)
        return err_set(e, ERR_INVALID, "budget: money is counted by price_prompt and price_completion, which are missing");
    if (o->max_body < 1024 || o->max_body > SIZE_MAX / 4 || o->per_request < 1)
        return err_set(e, ERR_INVALID, "max_body at least 1024 bytes, per_request at least 1 expected");
    if (o->system_len > 0 && !o->system)
        return err_set(e, ERR_INVALID, "system: NULL with system_len %zu", o->system_len);
    if (o->parser != RSD_PARSER_STRICT && o->parser != RSD_PARSER_LENIENT)
        return err_set(e, ERR_INVALID, "parser: RSD_PARSER_STRICT or RSD_PARSER_LENIENT expected");
    return 0;
}

static int keep_string(struct str *to, const char *from, size_t n, struct err *e) {
    str_add(to, from, n);
    return str_status(to, e);
}

static int keep_json(struct json **to, const char *from, const char *what, struct err *e) {
    if (!from || !json_parse(from, strlen(from), to, e))
        return 0;
    int rc = err_within(e, "%s", what);
    if (e && rc == ERR_FORMAT)
        rc = e->code = ERR_INVALID;
    return rc;
}

static int copy_options(rsd_teacher *t, struct err *e) {
    const rsd_teacher_options *o = &t->o;
    int rc;
    if ((rc = keep_string(&t->url, o->url, strlen(o->url), e)) ||
        (o->model && (rc = keep_string(&t->model, o->model, strlen(o->model), e))) ||
        (o->prompt_len > 0 && (rc = keep_string(&t->prefix, o->prompt, o->prompt_len, e))) ||
        (o->system_len > 0 && (rc = keep_string(&t->system, o->system, o->system_len, e))) ||
        (o->question_template && (rc = keep_string(&t->template_, o->question_template, strlen(o->question_template), e))) ||
        (rc = keep_json(&t->stop, o->stop, "stop", e)) || (rc = keep_json(&t->extra, o->extra, "extra", e)))
        return rc;
    t->ask = (struct ask){
        .model = o->model ? str_z(&t->model) : NULL,
        .prefix = {str_z(&t->prefix), t->prefix.n},
        .system = {str_z(&t->system), t->system.n},
        .template_ = o->question_template ? str_z(&t->template_) : NULL,
        .stop = t->stop,
        .extra = t->extra,
        .temperature = o->temperature,
        .top_p = o->top_p,
        .max_tokens = o->max_tokens,
        .top_logprobs = o->top_logprobs,
        .seed = o->seed,
    };
    return request_check(&t->ask, e);
}

static bool starts(const char *url, const char *with) {
    return strncmp(url, with, strlen(with)) == 0;
}

/* Where an endpoint listens: the URL without a dialect's path behind it, which decides the dialect where the options leave it
 * open. */
static struct text split_url(rsd_teacher *t, const char *url) {
    struct text base = text_of(url);
    while (base.n > 0 && base.p[base.n - 1] == '/')
        base.n--;
    const struct dialect *const all[] = {&dialect_chat, &dialect_completions}; /* the longer path first */
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(all[i]->path);
        if (base.n <= n || memcmp(base.p + base.n - n, all[i]->path, n) != 0)
            continue;
        base.n -= n;
        if (t->o.api == RSD_API_AUTO)
            t->dialect = all[i];
        break;
    }
    return base;
}

static int open_http(rsd_teacher *t, const char *url, struct err *e) {
    int rc;
    if (!starts(url, "http://") && !starts(url, "https://"))
        return err_set(e, ERR_INVALID,
                       "url %.200s: \"http://..\", \"https://..\", \"record:FILE,http..\" or \"replay:FILE\" expected", url);
    if ((rc = key_read(&t->key, t->o.api_key_file, t->o.api_key_env, e)) ||
        (rc = keys_given(&t->given, &t->ctx->alloc, t->o.headers, e)))
        return rc;
    struct http_options h = {.url = split_url(t, url),
                             .key = t->key.n > 0 ? str_z(&t->key) : NULL,
                             .key_header = t->o.key_header,
                             .headers = t->o.headers,
                             .ca_file = t->o.ca_file,
                             .timeout = t->o.timeout,
                             .connect_timeout = t->o.connect_timeout,
                             .first_byte_timeout = t->o.first_byte_timeout,
                             .max_body = (size_t)t->o.max_body,
                             .insecure = t->o.insecure != 0,
                             .http2 = t->o.http2 != 0};
    if ((rc = http_open(&t->transport, t->ctx, &h, e)))
        return rc;
    if (!t->dialect) {
        t->dialect = &dialect_completions;
        t->probe = PROBE_COMPLETIONS;
    }
    return 0;
}

static int open_transport(rsd_teacher *t, struct err *e) {
    static const char replay[] = "replay:", record[] = "record:";
    const char *url = str_z(&t->url);
    int rc;
    t->dialect = t->o.api == RSD_API_CHAT ? &dialect_chat : t->o.api == RSD_API_COMPLETIONS ? &dialect_completions : NULL;
    if (starts(url, replay)) {
        if ((rc = replay_open(&t->transport, t->ctx, url + sizeof replay - 1, e)))
            return rc;
        if (!t->dialect)
            t->dialect =
                t->transport->api && strcmp(t->transport->api, dialect_chat.name) == 0 ? &dialect_chat : &dialect_completions;
        return 0;
    }
    if (!starts(url, record))
        return open_http(t, url, e);
    const char *file = url + sizeof record - 1, *comma = strstr(file, ",http");
    if (!comma || comma == file)
        return err_set(e, ERR_INVALID, "url %.200s: \"record:FILE,http(s)://host/v1\" expected", url);
    if ((rc = open_http(t, comma + 1, e)))
        return rc;
    char *path = mem_strndup(&t->ctx->alloc, file, (size_t)(comma - file), e);
    rc = path ? cassette_open(&t->cassette, t->ctx, path, e) : ERR_NOMEM;
    mem_free(&t->ctx->alloc, path);
    return rc;
}

static int build(rsd_teacher *t, struct err *e) {
    int rc;
    if ((rc = check(&t->o, e)) || (rc = copy_options(t, e)) || (rc = open_transport(t, e)))
        return rc;
    t->per_byte = 0.5;
    t->each_most = t->o.max_tokens;
    if ((t->o.budget > 0 || t->o.budget_tokens > 0) && (rc = request_most(&t->ask, &t->each_most, &t->drawn_least, e))) {
        err_within(e, "budget");
        return e && rc == ERR_FORMAT ? (e->code = ERR_INVALID) : rc;
    }
    t->max_samples = t->transport->max_samples;
    if ((size_t)t->o.per_request < t->max_samples)
        t->max_samples = (size_t)t->o.per_request;
    t->n_slots = (size_t)t->o.concurrency;
    pace_init(&t->pace, t->transport->instant ? 0 : t->o.requests_per_minute, t->transport->instant ? 0 : t->o.tokens_per_minute,
              (double)t->n_slots, clock_seconds());
    if (!(t->slots = mem_zero(&t->ctx->alloc, t->n_slots, sizeof *t->slots, e)))
        return ERR_NOMEM;
    for (size_t i = 0; i < t->n_slots; i++)
        str_init(&t->slots[i].body, &t->ctx->alloc);
    if (t->o.store) {
        t->keeps = true;
        if ((rc = store_open(&t->store, t->ctx, t->o.store, &t->asked, e)))
            return rc;
    }
    /* What the caller lent is not looked at again. */
    t->o.url = t->o.model = t->o.prompt = t->o.question_template = t->o.store = t->o.api_key_env = t->o.api_key_file = NULL;
    t->o.system = t->o.stop = t->o.extra = t->o.headers = t->o.key_header = t->o.ca_file = NULL;
    return 0;
}

int rsd_teacher_open(rsd_ctx *ctx, const rsd_teacher_options *options, rsd_teacher **out) {
    struct err e = {0};
    if (!ctx)
        return RSD_EINVAL;
    if (!out)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_teacher_open: out must not be NULL");
    *out = NULL;
    rsd_teacher *t = mem_zero(&ctx->alloc, 1, sizeof *t, &e);
    if (!t)
        return ctx_return(ctx, RSD_ENOMEM, &e);
    t->ctx = ctx;
    struct str *strings[] = {&t->url, &t->model, &t->prefix, &t->template_, &t->system, &t->key};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        str_init(strings[i], &ctx->alloc);
    asked_init(&t->asked, &ctx->alloc);
    t->rng = rng_make(ctx->seed, 0x7465616368); /* jitter of waits: a stream of its own */
    int rc = options_read(&t->o, sizeof t->o, &defaults, options, "rsd_teacher_options", &e);
    if (!rc)
        rc = build(t, &e);
    if (rc) {
        rsd_teacher_close(t);
        return ctx_return(ctx, rc, &e);
    }
    *out = t;
    return RSD_OK;
}

void rsd_teacher_close(rsd_teacher *t) {
    if (!t)
        return;
    const struct allocator *a = &t->ctx->alloc;
    struct err e = {0};
    if (t->transport)
        t->transport->ops->close(t->transport);
    if (store_close(&t->store, &e))
        log_write(&t->ctx->log, LOG_ERROR, "%s", e.text);
    err_clear(&e);
    if (cassette_close(&t->cassette, &e))
        log_write(&t->ctx->log, LOG_ERROR, "%s", e.text);
    json_free(t->stop);
    json_free(t->extra);
    for (size_t i = 0; t->slots && i < t->n_slots; i++)
        str_free(&t->slots[i].body);
    for (size_t i = 0; i < t->n_questions; i++)
        str_free(&t->questions[i].text);
    for (size_t i = t->first_ready; i < t->n_ready; i++)
        rsd_reply_close(t->ready[i]);
    rsd_reply_close(t->current);
    asked_free(&t->asked);
    mem_free(a, t->slots);
    mem_free(a, t->questions);
    mem_free(a, t->ranges);
    mem_free(a, t->ready);
    str_free(&t->url);
    str_free(&t->model);
    str_free(&t->prefix);
    str_free(&t->template_);
    str_free(&t->system);
    key_wipe(&t->key);
    keys_wipe(&t->given, a);
    mem_free(a, t);
}

/* ---- questions in ---- */

struct text question_id(const struct question *q) {
    return (struct text){str_z(&q->text), q->id_len};
}

struct text question_text(const struct question *q) {
    return (struct text){str_z(&q->text) + q->id_len, q->question_len};
}

struct text question_answer(const struct question *q) {
    return (struct text){str_z(&q->text) + q->id_len + q->question_len, q->answer_len};
}

int teacher_queue(rsd_teacher *t, struct range range, struct err *e) {
    if (t->first_range > 0 && t->n_ranges == t->cap_ranges && t->first_range >= t->n_ranges / 2) {
        t->n_ranges -= t->first_range;
        memmove(t->ranges, t->ranges + t->first_range, t->n_ranges * sizeof *t->ranges);
        t->first_range = 0;
    }
    int rc = mem_reserve(&t->ctx->alloc, (void *)&t->ranges, &t->cap_ranges, t->n_ranges + 1, sizeof *t->ranges, e);
    if (rc)
        return rc;
    t->ranges[t->n_ranges++] = range;
    t->stats.queued += range.n;
    return 0;
}

void teacher_forget(rsd_teacher *t, size_t question) {
    str_free(&t->questions[question].text);
    t->questions[question].next = t->free_questions;
    t->free_questions = question + 1;
}

/* Queues the samples that the store does not have, as runs of neighbours. */
static int queue_missing(rsd_teacher *t, const struct asked_question *asked, size_t question, struct err *e) {
    struct question *q = &t->questions[question];
    struct range run = {.question = question};
    int rc = 0;
    for (int32_t s = 0; s < t->o.samples; s++) {
        bool correct = false;
        bool there = asked_has(&t->asked, asked, s, &correct);
        if (there) {
            t->stats.already++;
            t->stats.correct += correct;
        } else if (run.n > 0) {
            run.n++;
        } else {
            run = (struct range){question, s, 1};
        }
        if (run.n > 0 && (there || s + 1 == t->o.samples)) {
            if ((rc = teacher_queue(t, run, e)))
                return rc;
            q->left += run.n;
            run.n = 0;
        }
    }
    if (q->left == 0)
        teacher_forget(t, question);
    return 0;
}

/* A question that memory ran out for leaves nothing behind, so that it can be submitted again. Its ranges are the last. */
static void undo(rsd_teacher *t, size_t question, const rsd_teacher_stats *before) {
    while (t->n_ranges > t->first_range && t->ranges[t->n_ranges - 1].question == question)
        t->n_ranges--;
    t->stats = *before;
    teacher_forget(t, question);
}

/* A place for a question, used before or new. */
static int find_place(rsd_teacher *t, size_t *at, struct err *e) {
    int rc;
    if (t->free_questions) {
        *at = t->free_questions - 1;
        t->free_questions = t->questions[*at].next;
        return 0;
    }
    if ((rc = mem_reserve(&t->ctx->alloc, (void *)&t->questions, &t->cap_questions, t->n_questions + 1, sizeof *t->questions, e)))
        return rc;
    *at = t->n_questions++;
    str_init(&t->questions[*at].text, &t->ctx->alloc);
    return 0;
}

static int submit(rsd_teacher *t, const rsd_question *in, struct err *e) {
    struct text id = {in->id, in->id_len}, text = {in->question, in->question_len};
    struct asked_question *asked;
    size_t at;
    int rc;
    if (!text_is_utf8(id) || !text_is_utf8(text))
        return err_set(e, ERR_INVALID, "question %.100s: id and question must be UTF-8", in->id);
    if ((rc = asked_enter(&t->asked, id, text, "an earlier question or row", &asked, e)) || asked->submitted)
        return rc; /* all its samples were queued then */
    if ((rc = find_place(t, &at, e)))
        return rc;
    struct question *q = &t->questions[at];
    *q = (struct question){.id_len = id.n, .question_len = text.n, .has_answer = in->answer != NULL};
    str_init(&q->text, &t->ctx->alloc);
    str_add(&q->text, id.p, id.n);
    str_add(&q->text, text.p, text.n);
    if (in->answer) {
        str_add(&q->text, in->answer, in->answer_len);
        q->answer_len = in->answer_len;
    }
    const rsd_teacher_stats before = t->stats;
    if ((rc = str_status(&q->text, e)) || (rc = queue_missing(t, asked, at, e)))
        undo(t, at, &before);
    asked->submitted = !rc;
    return rc;
}

int rsd_teacher_submit(rsd_teacher *t, const rsd_question *q) {
    struct err e = {0};
    if (!t)
        return RSD_EINVAL;
    if (!q || !q->id || q->id_len == 0 || !q->question || q->question_len == 0)
        return ctx_fail(t->ctx, RSD_EINVAL, "rsd_teacher_submit: a question needs an id and a text");
    return ctx_return(t->ctx, submit(t, q, &e), &e);
}

/* ---- replies out ---- */

static bool hand_out(rsd_teacher *t, const rsd_reply **reply) {
    if (t->first_ready == t->n_ready)
        return false;
    *reply = t->current = t->ready[t->first_ready++];
    if (t->first_ready == t->n_ready)
        t->first_ready = t->n_ready = 0;
    return true;
}

/* How long the transport may wait: until the caller's deadline, the first sleeper's time, or when the pace allows the next
 * request. */
static double patience(const rsd_teacher *t, double now, double deadline) {
    double until = deadline;
    if (t->pace_until > now && t->pace_until < until)
        until = t->pace_until;
    for (size_t i = 0; t->sleeping > 0 && i < t->n_slots; i++)
        if (t->slots[i].state == SLOT_SLEEPING && t->slots[i].wake < until)
            until = t->slots[i].wake;
    return until > now ? until - now : 0;
}

/* Nothing is queued or in flight, or will be. */
static bool at_end(const rsd_teacher *t) {
    return t->flying == 0 && t->sleeping == 0 && (t->stats.stopped || t->first_range == t->n_ranges);
}

static int poll(rsd_teacher *t, double wait, const rsd_reply **reply, struct err *e) {
    double deadline = clock_seconds() + wait;
    for (;;) {
        struct outcome out;
        double now = clock_seconds();
        int rc = teacher_fill(t, now, e);
        if (rc)
            return rc;
        if (hand_out(t, reply))
            return RSD_OK;
        if (t->failure.code) {
            *e = t->failure;
            err_clear(&t->failure);
            return e->code;
        }
        if (at_end(t))
            return t->keeps && (rc = append_sync(&t->store.log, e)) ? rc : RSD_END;
        rc = t->transport->ops->poll(t->transport, patience(t, now, deadline), &out, e);
        if (rc < 0 || (rc == 1 && (rc = teacher_take(t, &out, e)) < 0))
            return rc;
        if (rc == 0 && t->first_ready == t->n_ready && !t->failure.code && clock_seconds() >= deadline)
            return RSD_AGAIN;
    }
}

int rsd_teacher_poll(rsd_teacher *t, int wait_ms, const rsd_reply **reply) {
    struct err e = {0};
    if (!t)
        return RSD_EINVAL;
    if (!reply || wait_ms < 0)
        return ctx_fail(t->ctx, RSD_EINVAL, "rsd_teacher_poll: reply must not be NULL, wait_ms at least 0");
    *reply = NULL;
    rsd_reply_close(t->current);
    t->current = NULL;
    int rc = poll(t, wait_ms / 1000.0, reply, &e);
    return ctx_return(t->ctx, rc, &e);
}

static int wait_fds(rsd_teacher *t, rsd_fd *fds, size_t cap, size_t *n, int *timeout_ms, struct err *e) {
    double now = clock_seconds(), seconds;
    int rc = teacher_fill(t, now, e);
    if (rc)
        return rc;
    seconds = patience(t, now, now + INT_MAX / 1000);
    if ((rc = t->transport->ops->wait(t->transport, fds, cap, n, &seconds, e)))
        return rc;
    bool at_once = t->first_ready < t->n_ready || t->failure.code || at_end(t);
    *timeout_ms = at_once || seconds <= 0 ? 0 : (int)ceil(seconds * 1000);
    return 0;
}

int rsd_teacher_wait_fds(rsd_teacher *t, rsd_fd *fds, size_t cap, size_t *n, int *timeout_ms) {
    struct err e = {0};
    if (!t)
        return RSD_EINVAL;
    if (!n || !timeout_ms || (!fds && cap > 0))
        return ctx_fail(t->ctx, RSD_EINVAL,
                        "rsd_teacher_wait_fds: n and timeout_ms must not be NULL, nor fds where cap is not 0");
    *n = 0;
    *timeout_ms = 0;
    return ctx_return(t->ctx, wait_fds(t, fds, cap, n, timeout_ms, &e), &e);
}

int rsd_teacher_stop(rsd_teacher *t) {
    struct err e = {0};
    if (!t)
        return RSD_EINVAL;
    return ctx_return(t->ctx, teacher_stop(t, RSD_STOPPED_ASKED, &e), &e);
}

int rsd_teacher_stats_get(const rsd_teacher *t, rsd_teacher_stats *out) {
    size_t size;
    if (!t)
        return RSD_EINVAL;
    if (!out || (size = out->size) < sizeof size)
        return ctx_fail(t->ctx, RSD_EINVAL, "rsd_teacher_stats_get: out->size must be set to sizeof(rsd_teacher_stats)");
    rsd_teacher_stats now = t->stats;
    for (size_t i = 0; i < t->n_slots; i++)
        now.in_flight += t->slots[i].state == SLOT_FREE ? 0 : t->slots[i].range.n;
    now.api = t->probe != PROBE_KNOWN ? RSD_API_AUTO : t->dialect == &dialect_chat ? RSD_API_CHAT : RSD_API_COMPLETIONS;
    now.size = size;
    memset(out, 0, size);
    memcpy(out, &now, size < sizeof now ? size : sizeof now);
    return RSD_OK;
}
