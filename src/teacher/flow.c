/* The flow of requests: from ranges of samples into slots, from slots to the transport, and back as rows, failures or further
 * tries. */
#include "teacher/teacher.h"

#include "base/ctx.h"
#include "teacher/body.h"
#include "teacher/bytes.h"
#include "teacher/key.h"
#include "teacher/policy.h"
#include "text/answer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MESSAGE_MAX = 4096, LONG_PAUSE = 60 /* seconds */ };

/* ---- out ---- */

static int start(rsd_teacher *t, size_t at, struct err *e) {
    struct slot *s = &t->slots[at];
    s->request.tag = at;
    int rc = t->transport->ops->start(t->transport, &s->request, e);
    if (rc)
        return rc;
    s->tries++;
    s->state = SLOT_FLYING;
    t->flying++;
    t->stats.requests++;
    t->most_flying += s->most;
    pace_started(&t->pace, s->tokens);
    return 0;
}

/* Tokens that a request for n samples takes: as far as can be told, and at most. A prompt is counted with two bytes a token,
 * where three to five are usual, until an answer tells of more. */
static void reckon(const rsd_teacher *t, size_t prompt_bytes, size_t n, double *likely, double *most) {
    double prompt = (double)prompt_bytes * t->per_byte, each = t->ask.max_tokens;
    *most = prompt + (double)(n > t->drawn_least ? n : t->drawn_least) * t->each_most;
    if (t->sampled > 0)
        each = (double)t->stats.completion_tokens / t->sampled;
    *likely = prompt + (double)n * each;
}

/* Makes the request of a slot for its range, in the dialect of now. */
static int compose(rsd_teacher *t, struct slot *s, struct err *e) {
    const struct question *q = &t->questions[s->range.question];
    struct str prompt;
    int rc;
    str_init(&prompt, &t->ctx->alloc);
    str_clear(&s->body);
    if ((rc = request_prompt(&t->ask, question_text(q), &prompt, e)))
        goto done;
    struct text p = {str_z(&prompt), prompt.n};
    if ((rc = request_body(&t->ask, t->dialect, p, s->range.first, s->range.n, &s->body, e)) ||
        (rc = request_hash(&t->ask, t->dialect, p, &t->ctx->alloc, s->hash, e)))
        goto done;
    s->prompt_points = (int64_t)bytes_points(p);
    s->prompt_bytes = request_prompt_size(&t->ask, q->question_len);
    reckon(t, s->prompt_bytes, s->range.n, &s->tokens, &s->most);
    s->request = (struct request){.path = t->dialect->path,
                                  .body = {str_z(&s->body), s->body.n},
                                  .hash = s->hash,
                                  .id = question_id(q),
                                  .question = question_text(q),
                                  .first = s->range.first,
                                  .n = s->range.n};
    bool looks = t->keeps && !t->warned && t->probe == PROBE_KNOWN; /* a probe may be in a dialect that is not the endpoint's */
    const struct asked_question *asked = looks ? asked_find(&t->asked, question_id(q)) : NULL;
    if (asked && asked->request && asked->request != asked_request(s->hash)) {
        t->warned = true;
        log_write(&t->ctx->log, LOG_WARN, "%s: its rows were asked for with other settings than these", t->store.log.path);
    }
done:
    str_free(&prompt);
    return rc;
}

/* The next samples that a slot would take. */
static struct range next_range(const rsd_teacher *t) {
    const struct range *r = &t->ranges[t->first_range];
    return (struct range){r->question, r->first, r->n < t->max_samples ? r->n : t->max_samples};
}

static int load(rsd_teacher *t, size_t at, struct err *e) {
    struct slot *s = &t->slots[at];
    struct range *r = &t->ranges[t->first_range];
    int rc;
    s->range = next_range(t);
    s->tries = 0;
    if ((rc = compose(t, s, e)) || (rc = start(t, at, e)))
        return rc;
    size_t n = s->range.n;
    t->stats.queued -= n;
    r->first += (int64_t)n;
    r->n -= n;
    if (r->n == 0)
        t->first_range++;
    return 0;
}

/* Whether the budget holds a request that takes `most` tokens beside those in flight. */
static bool affordable(const rsd_teacher *t, double most) {
    double spent = (double)(t->stats.prompt_tokens + t->stats.completion_tokens) + t->most_flying;
    double dearest = t->o.price_prompt > t->o.price_completion ? t->o.price_prompt : t->o.price_completion;
    if (t->o.budget_tokens > 0 && spent + most > (double)t->o.budget_tokens)
        return false;
    return !(t->o.budget > 0) || t->stats.cost + (t->most_flying + most) * dearest / 1e6 <= t->o.budget;
}

enum verdict { GO, WAIT, NEVER /* as long as nothing comes back */ };

/* May a request of about so many tokens start now? */
static enum verdict may_start(rsd_teacher *t, double likely, double most, double now) {
    if (t->transport->instant)
        return GO;
    if (!affordable(t, most))
        return NEVER;
    if (t->probe != PROBE_KNOWN && t->flying > 0)
        return WAIT;
    double wait = pace_wait(&t->pace, likely, t->flying, now);
    if (wait > 0)
        t->pace_until = now + wait;
    return wait == 0 ? GO : WAIT;
}

int teacher_stop(rsd_teacher *t, uint64_t why, struct err *e) {
    if (!t->stats.stopped)
        t->stats.stopped = why;
    for (size_t i = 0; t->sleeping > 0 && i < t->n_slots; i++) {
        struct slot *s = &t->slots[i];
        if (s->state != SLOT_SLEEPING)
            continue;
        int rc = teacher_queue(t, s->range, e);
        if (rc)
            return rc;
        s->state = SLOT_FREE;
        t->sleeping--;
    }
    return 0;
}

int teacher_fill(rsd_teacher *t, double now, struct err *e) {
    enum verdict v = GO;
    t->pace_until = 0;
    if (t->stats.stopped || (t->sleeping == 0 && (t->first_range == t->n_ranges || t->flying == t->n_slots)))
        return 0;
    for (size_t i = 0; i < t->n_slots && v == GO; i++) {
        struct slot *s = &t->slots[i];
        int rc = 0;
        if (s->state == SLOT_SLEEPING && s->wake <= now) {
            reckon(t, s->prompt_bytes, s->range.n, &s->tokens, &s->most);
            if ((v = may_start(t, s->tokens, s->most, now)) != GO)
                continue;
            s->state = SLOT_FREE;
            t->sleeping--;
            rc = start(t, i, e);
        } else if (s->state == SLOT_FREE && t->first_range < t->n_ranges && (t->probe == PROBE_KNOWN || t->sleeping == 0)) {
            struct range r = next_range(t);
            double likely, most;
            reckon(t, request_prompt_size(&t->ask, t->questions[r.question].question_len), r.n, &likely, &most);
            if ((v = may_start(t, likely, most, now)) == GO)
                rc = load(t, i, e);
        }
        if (rc)
            return rc;
    }
    return v == NEVER && t->flying == 0 ? teacher_stop(t, RSD_STOPPED_BUDGET, e) : 0;
}

/* ---- back ---- */

/* n samples of the slot's question need nothing more. */
static void finish_with(rsd_teacher *t, const struct slot *s, size_t n) {
    struct question *q = &t->questions[s->range.question];
    q->left -= n;
    if (q->left == 0)
        teacher_forget(t, s->range.question);
}

/* n samples are given up; the first reason of a request is kept for the caller. */
static void give_up(rsd_teacher *t, const struct slot *s, int64_t sample, size_t n, struct err *why) {
    struct text id = question_id(&t->questions[s->range.question]);
    int shown = (int)(id.n < 100 ? id.n : 100);
    t->stats.failed += n;
    if (n > 1)
        err_within(why, "question %.*s, samples %lld to %lld", shown, id.p, (long long)sample,
                   (long long)sample + (long long)n - 1);
    else
        err_within(why, "question %.*s, sample %lld", shown, id.p, (long long)sample);
    log_write(&t->ctx->log, LOG_DEBUG, "given up: %s", why->code == RSD_EREFUSED ? "refused" : rsd_strerror(why->code));
    if (!t->failure.code)
        t->failure = *why;
}

/* Judged is what a student would learn: the reply up to its first line with "answer is"; what it rambles on about does not
 * count. */
static void label(const struct question *q, enum answer_parser parser, rsd_reply *r) {
    struct text kept = answer_cut((struct text){str_z(&r->text), r->text.n});
    r->correct = !q->has_answer ? -1 : answer_correct(kept, question_answer(q), parser) ? 1 : 0;
}

/* Writes the row and queues the reply for the caller. Takes over r. */
static int accept(rsd_teacher *t, const struct slot *s, int64_t sample, rsd_reply *r, struct err *e) {
    const struct question *q = &t->questions[s->range.question];
    int rc;
    r->sample = sample;
    memcpy(r->request_sha256, s->hash, sizeof r->request_sha256);
    if ((rc = reply_set(&r->id, question_id(q), e)) || (rc = reply_set(&r->question, question_text(q), e)))
        goto done;
    label(q, (enum answer_parser)t->o.parser, r);
    if ((rc = mem_reserve(&t->ctx->alloc, (void *)&t->ready, &t->cap_ready, t->n_ready + 1, sizeof *t->ready, e)) ||
        (t->keeps && (rc = store_add(&t->store, r, e))))
        goto done;
    t->stats.stored++;
    t->stats.correct += r->correct == 1;
    t->ready[t->n_ready++] = r;
    r = NULL;
done:
    rsd_reply_close(r);
    return rc;
}

/* One reply of a body: a row, or one sample given up. `rc` and `why` say what came of parsing it. */
static int take_reply(rsd_teacher *t, const struct slot *s, int64_t sample, rsd_reply *r, int rc, struct err *why,
                      struct err *e) {
    if (!rc && t->o.top_logprobs > 0 && t->o.need_logprobs)
        rc = reply_need_logprobs(r, true, why);
    if (rc == ERR_NOMEM) {
        rsd_reply_close(r);
        *e = *why;
        return rc;
    }
    if (rc) {
        rsd_reply_close(r);
        give_up(t, s, sample, 1, why);
        return 0;
    }
    return accept(t, s, sample, r, e);
}

/* The choices of a fresh body, as many as were asked for. *got: how many there were; *tokens: how many they hold. */
static int take_choices(rsd_teacher *t, const struct slot *s, const struct json *doc, const struct json *choice, size_t *got,
                        uint64_t *tokens, struct err *e) {
    *got = 0;
    for (; choice && *got < s->range.n; choice = json_next(choice), ++*got) {
        rsd_reply *r = NULL;
        struct err why = {0};
        int rc = body_reply(t->ctx, doc, choice, *got, s->prompt_points, &r, &why);
        if (rc)
            err_within(&why, "choices[%zu]", *got);
        *tokens += rc ? (uint64_t)t->each_most : r->n_tokens > 0 ? r->n_tokens : (r->text.n + 1) / 2;
        if ((rc = take_reply(t, s, s->range.first + (int64_t)*got, r, rc, &why, e)))
            return rc;
    }
    return 0;
}

/* " (2026-01-31 23:59:59 UTC)", or nothing for times that no calendar knows. */
static void format_time(uint64_t at, char *out, size_t size) {
    struct tm day;
    time_t x = (time_t)at;
    *out = 0;
    if (at < UINT64_C(1) << 37 && gmtime_r(&x, &day))
        snprintf(out, size, " (%04d-%02d-%02d %02d:%02d:%02d UTC)", day.tm_year + 1900, day.tm_mon + 1, day.tm_mday, day.tm_hour,
                 day.tm_min, day.tm_sec);
}

/* The endpoint wants none of this client for longer than it may wait: nothing is given up, the run ends here. */
static int come_back(rsd_teacher *t, const struct slot *s, double wait, struct err *why, struct err *e) {
    struct text id = question_id(&t->questions[s->range.question]);
    char when[64];
    int rc = teacher_queue(t, s->range, e);
    if (rc || t->stats.stopped)
        return rc;
    wait = wait < 1e15 ? ceil(wait) : 1e15;
    t->stats.come_back = (uint64_t)time(NULL) + (uint64_t)wait;
    format_time(t->stats.come_back, when, sizeof when);
    err_within(why, "question %.*s, sample %lld: the endpoint asks to come back in %.0f seconds%s, option max_wait allows %g",
               (int)(id.n < 100 ? id.n : 100), id.p, (long long)s->range.first, wait, when, t->o.max_wait);
    if (!t->failure.code)
        t->failure = *why;
    return teacher_stop(t, RSD_STOPPED_WAIT, e);
}

/* A long pause is told, once: a run that nobody watches must not look like one that hangs. */
static void tell_pause(rsd_teacher *t, const struct policy_facts *facts, double wait) {
    char when[64];
    double until = clock_seconds() + wait;
    if (wait < LONG_PAUSE || until < t->held_until + LONG_PAUSE || (facts->status != 429 && facts->status != 503))
        return;
    t->held_until = until;
    format_time((uint64_t)time(NULL) + (uint64_t)wait, when, sizeof when);
    log_write(&t->ctx->log, LOG_WARN, "the endpoint asks to wait %.0f seconds: the run goes on after that%s", wait, when);
}

static bool may_pass(const rsd_teacher *t, const struct slot *s, const struct policy_facts *facts) {
    struct policy_verdict v = policy_decide(facts, s->tries, (unsigned)t->o.retries, t->o.max_wait, 0);
    return v.retry || v.come_back;
}

/* Another try later, or the end for this request, or for all. */
static int again_or_never(rsd_teacher *t, struct slot *s, const struct policy_facts *facts, struct err *why, struct err *e) {
    struct policy_verdict v = policy_decide(facts, s->tries, (unsigned)t->o.retries, t->o.max_wait, rng_uniform(&t->rng));
    if (v.retry && t->stats.stopped)
        return teacher_queue(t, s->range, e);
    if (v.come_back)
        return come_back(t, s, v.wait, why, e);
    if (v.retry)
        tell_pause(t, facts, v.wait);
    if (v.retry) {
        s->state = SLOT_SLEEPING;
        s->wake = clock_seconds() + v.wait;
        t->sleeping++;
        t->stats.retries++;
        return 0;
    }
    if (s->tries > 1)
        err_within(why, "after %u tries", s->tries);
    give_up(t, s, s->range.first, s->range.n, why);
    finish_with(t, s, s->range.n);
    return policy_ends_all(facts) ? teacher_stop(t, RSD_STOPPED_REFUSED, e) : 0;
}

static int take_fault(rsd_teacher *t, struct slot *s, const struct outcome *out, struct err *e) {
    struct policy_facts facts = {.final_fault = out->final, .retry_after = -1, .should_retry = -1};
    struct err why = {0};
    err_set(&why, RSD_ENETWORK, "%s", out->fault);
    const uint64_t failed = t->stats.failed;
    int rc = again_or_never(t, s, &facts, &why, e);
    t->unreachable = !out->unreachable ? 0 : t->unreachable + (t->stats.failed > failed);
    if (!rc && t->o.unreachable > 0 && t->unreachable >= t->o.unreachable)
        return teacher_stop(t, RSD_STOPPED_UNREACHABLE, e);
    return !rc && out->for_all ? teacher_stop(t, RSD_STOPPED_REFUSED, e) : rc;
}

/* The endpoint does not speak this dialect, or not with log-probabilities, and there is another one to try: the same samples
 * again, at once. */
static int try_chat(rsd_teacher *t, struct slot *s, struct err *e) {
    int rc;
    t->probe = PROBE_CHAT;
    t->dialect = &dialect_chat;
    if (!affordable(t, s->most))
        return teacher_queue(t, s->range, e);
    if ((rc = compose(t, s, e)))
        return rc;
    return start(t, (size_t)(s - t->slots), e);
}

static bool other_dialect_may_help(const rsd_teacher *t, int status) {
    return t->probe == PROBE_COMPLETIONS && (status == 400 || status == 404 || status == 405 || status == 422 || status == 501);
}

/* An endpoint that refuses several samples at once may give them one by one; llama.cpp's server refuses with status 500, which
 * elsewhere passes. */
static bool one_may_help(const rsd_teacher *t, const struct slot *s, int status, const char *message) {
    return (status == 400 || status == 422 || (status == 500 && strstr(message, "one completion choice"))) && s->range.n > 1 &&
           !t->many_work;
}

/* An error instead of replies: its error object if it has one, else the beginning of whatever it is. */
static int take_refusal(rsd_teacher *t, struct slot *s, const struct outcome *out, struct err *e) {
    struct policy_facts facts = {.status = out->status, .retry_after = out->retry_after, .should_retry = out->should_retry};
    struct json *doc = NULL;
    struct str message;
    struct err why = {0};
    int rc;
    str_init(&message, &t->ctx->alloc);
    if (json_parse(out->body.p, out->body.n, &doc, NULL) || !body_error(doc, &message, &facts.type, &facts.code))
        str_add(&message, out->body.p, out->body.n < MESSAGE_MAX ? out->body.n : MESSAGE_MAX);
    if (out->should_retry != 1 && one_may_help(t, s, out->status, str_z(&message))) {
        t->max_samples = 1;
        rc = teacher_queue(t, s->range, e);
        goto done;
    }
    if (out->should_retry != 1 && other_dialect_may_help(t, out->status) && !t->stats.stopped) {
        rc = try_chat(t, s, e);
        goto done;
    }
    if (out->status == 503 && text_is(facts.type, "unavailable_error")) { /* llama.cpp's server; large models take minutes */
        t->loading = t->loading > 0 ? t->loading : clock_seconds();
        facts.loading = clock_seconds() - t->loading < t->o.max_wait;
    }
    facts.broken_body = out->status >= 200 && out->status < 300;
    /* A refusal that passes says nothing about the dialect. */
    bool neither = t->probe == PROBE_CHAT && !may_pass(t, s, &facts);
    if (neither && t->text_only) { /* completions without log-probabilities it is: told as such, where they are needed */
        t->probe = PROBE_KNOWN;
        t->dialect = &dialect_completions;
        rc = teacher_queue(t, s->range, e);
        goto done;
    }
    err_set(&why, RSD_EREFUSED, "HTTP status %d: %.250s", out->status, message.n > 0 ? str_z(&message) : "no message");
    if (neither) { /* the next question may fare better */
        t->probe = PROBE_COMPLETIONS;
        t->dialect = &dialect_completions;
        err_within(&why, "neither /completions nor /chat/completions gives a reply");
    }
    rc = again_or_never(t, s, &facts, &why, e);
done:
    json_free(doc);
    str_free(&message);
    return rc;
}

/* What a request took, as the endpoint says, else counted from the replies. */
static void count_usage(rsd_teacher *t, const struct slot *s, const struct json *doc, size_t got, uint64_t counted) {
    int64_t prompt = -1, completion = -1;
    body_usage(doc, &prompt, &completion);
    uint64_t p = prompt >= 0 ? (uint64_t)prompt : (uint64_t)ceil((double)s->prompt_bytes * t->per_byte),
             c = completion >= 0 ? (uint64_t)completion : counted;
    if (prompt >= 0 && s->prompt_bytes > 0)
        t->per_byte = fmax(t->per_byte, (double)prompt / (double)s->prompt_bytes);
    t->stats.prompt_tokens += p;
    t->stats.completion_tokens += c;
    t->stats.cost =
        ((double)t->stats.prompt_tokens * t->o.price_prompt + (double)t->stats.completion_tokens * t->o.price_completion) / 1e6;
    t->sampled += (double)got;
    pace_settled(&t->pace, s->tokens, (double)(p + c));
}

/* A line of a recording: exactly one reply, and no second try. */
static int take_recorded(rsd_teacher *t, struct slot *s, const struct outcome *out, struct err *e) {
    struct json *doc = NULL;
    rsd_reply *r = NULL;
    const struct json *c = NULL;
    struct err why = {0};
    int rc = json_parse(out->body.p, out->body.n, &doc, &why);
    if (!rc && !out->wire)
        rc = reply_from_line(t->ctx, doc, out->choice, &r, &why);
    if (!rc && out->wire && !(rc = body_choices(doc, &c, &why))) {
        for (size_t i = 0; c && i < out->choice; i++)
            c = json_next(c);
        rc = c ? body_reply(t->ctx, doc, c, out->choice, s->prompt_points, &r, &why)
               : err_set(&why, RSD_EFORMAT, "it ends before");
        if (rc)
            err_within(&why, "choices[%zu]", out->choice);
    }
    if (rc)
        err_within(&why, "line %zu of the recording", out->line);
    if (r) {
        t->stats.prompt_tokens += r->prompt_tokens > 0 ? (uint64_t)r->prompt_tokens : 0;
        t->stats.completion_tokens += r->completion_tokens > 0 ? (uint64_t)r->completion_tokens : 0;
    }
    rc = take_reply(t, s, s->range.first, r, rc, &why, e);
    finish_with(t, s, 1);
    json_free(doc);
    return rc;
}

/* Does the first choice have the log-probabilities that are needed? Any other mistake is for the usual way to tell. */
static bool lacks_logprobs(rsd_teacher *t, const struct slot *s, const struct json *doc, const struct json *choice) {
    rsd_reply *r = NULL;
    struct err why = {0};
    int rc = body_reply(t->ctx, doc, choice, 0, s->prompt_points, &r, &why);
    if (!rc)
        rc = reply_need_logprobs(r, true, &why);
    rsd_reply_close(r);
    return rc == RSD_ENOLOGPROBS;
}

static int take_body(rsd_teacher *t, struct slot *s, const struct outcome *out, struct err *e) {
    struct policy_facts facts = {
        .status = out->status, .broken_body = true, .retry_after = out->retry_after, .should_retry = out->should_retry};
    struct json *doc = NULL;
    const struct json *choice = NULL;
    struct err why = {0};
    size_t got = 0;
    uint64_t counted = 0;
    int rc = json_parse(out->body.p, out->body.n, &doc, &why);
    if (!rc && (rc = body_choices(doc, &choice, &why)) == RSD_EREFUSED) {
        rc = take_refusal(t, s, out, e);
        goto done;
    }
    if (!rc && !choice) {
        rc = err_set(&why, RSD_EFORMAT, "\"choices\" is empty");
        count_usage(t, s, doc, 0, 0);
    }
    if (rc) { /* cut, or no reply at all: as if the transfer had failed */
        err_within(&why, "the body of the answer (%zu bytes)", out->body.n);
        rc = again_or_never(t, s, &facts, &why, e);
        goto done;
    }
    if (t->probe == PROBE_COMPLETIONS && !t->stats.stopped && t->o.top_logprobs > 0 && lacks_logprobs(t, s, doc, choice)) {
        t->text_only = true;
        count_usage(t, s, doc, 0, (uint64_t)((double)s->range.n * t->each_most)); /* it is paid for all the same */
        rc = try_chat(t, s, e);
        goto done;
    }
    t->probe = PROBE_KNOWN;
    t->loading = 0;
    if (t->cassette.ctx && (rc = cassette_add(&t->cassette, t->dialect->name, &s->request, out->body, e)))
        goto done;
    if ((rc = take_choices(t, s, doc, choice, &got, &counted, e)))
        goto done;
    t->many_work |= got > 1;
    count_usage(t, s, doc, got, counted);
    finish_with(t, s, got);
    if (got < s->range.n) { /* the endpoint gives fewer at once: ask for the others, and for no more than that from now on */
        t->max_samples = got < t->max_samples ? got : t->max_samples;
        rc = teacher_queue(t, (struct range){s->range.question, s->range.first + (int64_t)got, s->range.n - got}, e);
    }
done:
    json_free(doc);
    return rc;
}

/* A server may repeat the keys in what it answers, and what it answers is kept: overwritten here, before anything is read, cut
 * to length or written. */
static int take_out_keys(rsd_teacher *t, struct outcome *out, struct str *clean, struct err *e) {
    const struct text body = out->body;
    for (size_t i = 0; i <= t->given.n; i++) {
        const struct str *key = i < t->given.n ? &t->given.all[i] : &t->key;
        if (!key_blank(key, body, NULL))
            continue;
        if (clean->n == 0)
            str_add(clean, body.p, body.n);
        if (str_status(clean, e))
            return ERR_NOMEM;
        key_blank(key, body, clean->p);
        out->body = (struct text){clean->p, clean->n};
    }
    return 0;
}

static int take(rsd_teacher *t, struct slot *s, const struct outcome *out, struct err *e) {
    if (out->kind == OUTCOME_FAULT)
        return take_fault(t, s, out, e);
    t->unreachable = 0;
    if (out->recorded)
        return take_recorded(t, s, out, e);
    if (out->status >= 200 && out->status < 300)
        return take_body(t, s, out, e);
    return take_refusal(t, s, out, e);
}

int teacher_take(rsd_teacher *t, const struct outcome *came, struct err *e) {
    struct slot *s = &t->slots[came->tag];
    struct outcome out = *came;
    struct str clean;
    s->state = SLOT_FREE;
    t->flying--;
    t->most_flying = t->flying > 0 ? t->most_flying - s->most : 0;
    if (out.kind == OUTCOME_MISSING) {
        t->stats.missing += s->range.n;
        finish_with(t, s, s->range.n);
        return 0;
    }
    str_init(&clean, &t->ctx->alloc);
    if (!t->transport->instant)
        pace_heard(&t->pace, out.kind == OUTCOME_BODY ? out.status : 0, out.retry_after <= t->o.max_wait ? out.retry_after : -1,
                   &out.pace, clock_seconds());
    int rc = take_out_keys(t, &out, &clean, e);
    if (!rc)
        rc = take(t, s, &out, e);
    str_free(&clean);
    return rc;
}
