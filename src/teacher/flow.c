/* The flow of requests: from ranges of samples into slots, from slots to the transport, and back as rows, failures or further tries. */
#include "teacher/teacher.h"

#include "base/ctx.h"
#include "teacher/body.h"
#include "teacher/bytes.h"
#include "teacher/key.h"
#include "teacher/policy.h"
#include "text/answer.h"

#include <string.h>

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
    return 0;
}

/* Fills a free slot with the next samples. */
static int load(rsd_teacher *t, size_t at, struct err *e) {
    struct slot *s = &t->slots[at];
    struct range *r = &t->ranges[t->first_range];
    const struct question *q = &t->questions[r->question];
    struct range take = {r->question, r->first, r->n < t->max_samples ? r->n : t->max_samples};
    struct str prompt;
    int rc;
    str_init(&prompt, &t->ctx->alloc);
    str_clear(&s->body);
    if ((rc = request_prompt(&t->ask, question_text(q), &prompt, e)))
        goto done;
    struct text p = {str_z(&prompt), prompt.n};
    if ((rc = request_body(&t->ask, t->dialect, p, take.first, take.n, &s->body, e)) ||
        (rc = request_hash(&t->ask, t->dialect, p, &t->ctx->alloc, s->hash, e)))
        goto done;
    s->prompt_points = (int64_t)bytes_points(p);
    s->range = take;
    s->tries = 0;
    s->request = (struct request){.body = {str_z(&s->body), s->body.n},
                                  .hash = s->hash,
                                  .id = question_id(q),
                                  .question = question_text(q),
                                  .first = take.first,
                                  .n = take.n};
    const struct stored_question *stored = t->keeps && !t->warned ? store_question(&t->store, question_id(q)) : NULL;
    if (stored && strcmp(stored->request, s->hash) != 0) {
        t->warned = true;
        log_write(&t->ctx->log, LOG_WARN, "%s: its rows were asked for with other settings than these", t->store.log.path);
    }
    if ((rc = start(t, at, e)))
        goto done;
    t->stats.queued -= take.n;
    r->first += (int64_t)take.n;
    r->n -= take.n;
    if (r->n == 0)
        t->first_range++;
done:
    str_free(&prompt);
    return rc;
}

int teacher_fill(rsd_teacher *t, double now, struct err *e) {
    if (t->sleeping == 0 && (t->first_range == t->n_ranges || t->flying == t->n_slots))
        return 0;
    for (size_t i = 0; i < t->n_slots; i++) {
        struct slot *s = &t->slots[i];
        int rc = 0;
        if (s->state == SLOT_SLEEPING && s->wake <= now) {
            s->state = SLOT_FREE;
            t->sleeping--;
            rc = start(t, i, e);
        } else if (s->state == SLOT_FREE && t->first_range < t->n_ranges) {
            rc = load(t, i, e);
        }
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- back ---- */

/* n samples of the slot's question need nothing more. */
static void finish_with(rsd_teacher *t, const struct slot *s, size_t n) {
    struct question *q = &t->questions[s->range.question];
    q->left -= n;
    if (q->left == 0)
        str_free(&q->text);
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

/* Judged is what a student would learn: the reply up to its first line with "answer is"; what it rambles on about does not count. */
static void label(const struct question *q, rsd_reply *r) {
    struct text kept = answer_cut((struct text){str_z(&r->text), r->text.n});
    r->correct = !q->has_answer ? -1 : answer_correct(kept, question_answer(q), ANSWER_STRICT) ? 1 : 0;
}

/* Writes the row and queues the reply for the caller. Takes over r. */
static int accept(rsd_teacher *t, const struct slot *s, int64_t sample, rsd_reply *r, struct err *e) {
    const struct question *q = &t->questions[s->range.question];
    int rc;
    r->sample = sample;
    memcpy(r->request_sha256, s->hash, sizeof r->request_sha256);
    if ((rc = reply_set(&r->id, question_id(q), e)) || (rc = reply_set(&r->question, question_text(q), e)))
        goto done;
    label(q, r);
    if ((rc = mem_reserve(&t->ctx->alloc, (void *)&t->ready, &t->cap_ready, t->n_ready + 1, sizeof *t->ready, e)) ||
        (t->keeps && (rc = store_add(&t->store, r, e))))
        goto done;
    t->stats.stored++;
    t->stats.correct += r->correct == 1;
    t->stats.prompt_tokens += r->prompt_tokens > 0 ? (uint64_t)r->prompt_tokens : 0;
    t->stats.completion_tokens += r->completion_tokens > 0 ? (uint64_t)r->completion_tokens : 0;
    t->ready[t->n_ready++] = r;
    r = NULL;
done:
    rsd_reply_close(r);
    return rc;
}

/* One reply of a body: a row, or one sample given up. `rc` and `why` say what came of parsing it. */
static int take_reply(rsd_teacher *t, const struct slot *s, int64_t sample, rsd_reply *r, int rc, struct err *why,
                      struct err *e) {
    if (!rc && t->o.top_logprobs > 0)
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

/* The choices of a fresh body, as many as were asked for. *got: how many there were. */
static int take_choices(rsd_teacher *t, const struct slot *s, const struct json *doc, const struct json *choice, size_t *got,
                        struct err *e) {
    *got = 0;
    for (; choice && *got < s->range.n; choice = json_next(choice), ++*got) {
        rsd_reply *r = NULL;
        struct err why = {0};
        int rc = body_reply(t->ctx, doc, choice, *got, s->prompt_points, &r, &why);
        if (rc)
            err_within(&why, "choices[%zu]", *got);
        if ((rc = take_reply(t, s, s->range.first + (int64_t)*got, r, rc, &why, e)))
            return rc;
    }
    return 0;
}

/* Another try later, or the end for this request. */
static void again_or_never(rsd_teacher *t, struct slot *s, const struct policy_facts *facts, struct err *why) {
    struct policy_verdict v = policy_decide(facts, s->tries, (unsigned)t->o.retries, rng_uniform(&t->rng));
    if (v.retry) {
        s->state = SLOT_SLEEPING;
        s->wake = clock_seconds() + v.wait;
        t->sleeping++;
        t->stats.retries++;
        return;
    }
    if (s->tries > 1)
        err_within(why, "after %u tries", s->tries);
    give_up(t, s, s->range.first, s->range.n, why);
    finish_with(t, s, s->range.n);
}

static void take_fault(rsd_teacher *t, struct slot *s, const struct outcome *out) {
    struct policy_facts facts = {.final_fault = out->final, .retry_after = -1, .should_retry = -1};
    struct err why = {0};
    err_set(&why, RSD_ENETWORK, "%s", out->fault);
    again_or_never(t, s, &facts, &why);
}

enum { MESSAGE_MAX = 4096 };

/* An error instead of replies: its error object if it has one, else the beginning of whatever it is. Overwrites the key before anything is cut to length: half a key is
 * no longer recognised. */
static void take_refusal(rsd_teacher *t, struct slot *s, const struct outcome *out) {
    struct policy_facts facts = {.status = out->status, .retry_after = out->retry_after, .should_retry = out->should_retry};
    struct json *doc = NULL;
    struct str message;
    struct err why = {0};
    facts.broken_body = out->status >= 200 && out->status < 300;
    str_init(&message, &t->ctx->alloc);
    if (json_parse(out->body.p, out->body.n, &doc, NULL) || !body_error(doc, &message, &facts.type, &facts.code))
        str_add(&message, out->body.p, out->body.n < MESSAGE_MAX ? out->body.n : MESSAGE_MAX);
    if (message.n > 0)
        key_redact(&t->key, message.p);
    err_set(&why, RSD_EREFUSED, "HTTP status %d: %.250s", out->status, message.n > 0 ? str_z(&message) : "no message");
    again_or_never(t, s, &facts, &why);
    json_free(doc);
    str_free(&message);
}

/* A line of a recording: exactly one reply, and no second try. */
static int take_recorded(rsd_teacher *t, struct slot *s, const struct outcome *out, struct err *e) {
    struct json *doc = NULL;
    rsd_reply *r = NULL;
    struct err why = {0};
    int rc = json_parse(out->body.p, out->body.n, &doc, &why);
    if (!rc)
        rc = reply_from_line(t->ctx, doc, out->choice, &r, &why);
    if (rc)
        err_within(&why, "line %zu of the recording", out->line);
    rc = take_reply(t, s, s->range.first, r, rc, &why, e);
    finish_with(t, s, 1);
    json_free(doc);
    return rc;
}

static int take_body(rsd_teacher *t, struct slot *s, const struct outcome *out, struct err *e) {
    struct policy_facts facts = {
        .status = out->status, .broken_body = true, .retry_after = out->retry_after, .should_retry = out->should_retry};
    struct json *doc = NULL;
    const struct json *choice = NULL;
    struct err why = {0};
    size_t got = 0;
    int rc = json_parse(out->body.p, out->body.n, &doc, &why);
    if (!rc && (rc = body_choices(doc, &choice, &why)) == RSD_EREFUSED) {
        take_refusal(t, s, out);
        rc = 0;
        goto done;
    }
    if (!rc && !choice)
        rc = err_set(&why, RSD_EFORMAT, "\"choices\" is empty");
    if (rc) { /* cut, or no reply at all: as if the transfer had failed */
        err_within(&why, "the body of the answer (%zu bytes)", out->body.n);
        again_or_never(t, s, &facts, &why);
        rc = 0;
        goto done;
    }
    if ((rc = take_choices(t, s, doc, choice, &got, e)))
        goto done;
    finish_with(t, s, got);
    if (got < s->range.n) { /* the endpoint gives fewer at once: ask for the others, and for no more than that from now on */
        t->max_samples = got < t->max_samples ? got : t->max_samples;
        rc = teacher_queue(t, (struct range){s->range.question, s->range.first + (int64_t)got, s->range.n - got}, e);
    }
done:
    json_free(doc);
    return rc;
}

int teacher_take(rsd_teacher *t, const struct outcome *out, struct err *e) {
    struct slot *s = &t->slots[out->tag];
    int rc = 0;
    s->state = SLOT_FREE;
    t->flying--;
    if (out->kind == OUTCOME_MISSING) {
        t->stats.missing += s->range.n;
        finish_with(t, s, s->range.n);
    } else if (out->kind == OUTCOME_FAULT) {
        take_fault(t, s, out);
    } else if (out->recorded) {
        rc = take_recorded(t, s, out, e);
    } else if (out->status >= 200 && out->status < 300) {
        rc = take_body(t, s, out, e);
    } else {
        take_refusal(t, s, out);
    }
    return rc;
}
