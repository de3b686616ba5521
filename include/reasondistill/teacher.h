/* The teacher: a large model behind an OpenAI-compatible endpoint, or its recorded replies.
 *
 *     rsd_teacher_options o;
 *     rsd_teacher_options_init(&o, sizeof o);
 *     o.url = "https://api.example.com/v1";  o.model = "big";  o.samples = 40;  o.store = "teacher.jsonl";
 *     rsd_teacher_open(ctx, &o, &t);
 *     for each question: rsd_teacher_submit(t, &question);
 *     while ((status = rsd_teacher_poll(t, 1000, &reply)) != RSD_END) ...
 *
 * Nothing is asked twice: what the store holds for (question id, sample) is not requested again. A reply handed out by
 * rsd_teacher_poll has been written to the store. */
#ifndef REASONDISTILL_TEACHER_H
#define REASONDISTILL_TEACHER_H

#include "reasondistill/format.h"
#include "reasondistill/reply.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rsd_teacher rsd_teacher;

enum { RSD_API_AUTO, RSD_API_COMPLETIONS, RSD_API_CHAT };

/* Strings are copied by rsd_teacher_open. */
typedef struct rsd_teacher_options {
    size_t size;
    /* "http(s)://host/v1", with "/completions" or "/chat/completions" behind it if you like.
     * "replay:FILE": recorded replies: a store, bare response bodies, or a cassette, also compressed by gzip (then held in
     * memory).
     * "record:FILE,http(s)://..": asks the endpoint and appends every answer to the cassette FILE, which replay: serves. */
    const char *url;
    const char *model;  /* sent as it is; may be NULL for replay */
    const char *prompt; /* few-shot prefix, sent before each question; NULL: none */
    size_t prompt_len;
    /* Sent behind the prompt, every "{question}" replaced. Default "Question: {question}\nLet's think step by step\n", which
     * is set off from a prompt by one blank line (no other template is). */
    const char *question_template;
    const char *store;        /* teacher.jsonl; NULL: replies are handed out and not kept */
    const char *api_key_env;  /* environment variable with the key; default "OPENAI_API_KEY" (not set: no key is sent) */
    const char *api_key_file; /* first line is the key; wins over the variable */
    double temperature;       /* default 0.5 */
    double timeout;           /* seconds for one request; default 600 */
    double connect_timeout;   /* seconds; default 10 */
    uint64_t seed;            /* sent if not 0 */
    int32_t api;              /* RSD_API_AUTO: what the URL ends in, else the first request tries completions, then chat */
    int32_t samples;          /* replies a question; default 1 */
    int32_t max_tokens;       /* default 256 */
    int32_t top_logprobs;     /* default 5; 0: replies without alternatives, or without log-probabilities, are fine */
    int32_t concurrency;      /* requests in flight; default 16 */
    int32_t retries;          /* after the first try; default 5 */
    const char *system;       /* system message of chat requests; NULL: none */
    size_t system_len;
    const char *stop;  /* JSON: a string, or a list of strings */
    const char *extra; /* JSON object: more members of each request; one named like ours replaces it, null takes it away */
    /* More headers, a line "Name: value" each. Values of headers whose names speak of keys (authorization, auth, key but not
     * idempotency-key, token, secret, cookie, password, credential) are kept as the API key is: over plain http they go to this
     * machine only, and where an endpoint repeats one of 8 characters or more it is overwritten by '*' before anything is read
     * or written. */
    const char *headers;
    const char *key_header;     /* header that holds the bare key, such as "api-key"; NULL: "Authorization: Bearer KEY" */
    const char *ca_file;        /* certificates to trust instead of the system's, PEM; NULL: the system's */
    double top_p;               /* default 1: not sent */
    double first_byte_timeout;  /* seconds until an answer begins; 0 (default): as `timeout`, for models think in silence */
    double requests_per_minute; /* 0 (default): as the endpoint allows */
    double tokens_per_minute;   /* of prompt and completion; 0 (default): as the endpoint allows */
    double price_prompt, price_completion; /* money for a million tokens, for `cost` and `budget`; default 0 */
    /* Money that this run may spend; 0 (default): any. No request starts that could pass it beside those in flight: its prompt is
     * reckoned at two bytes a token, or fewer if an answer told of fewer, and each of its samples at max_tokens (or what `extra`
     * has in its place; without any limit RSD_EINVAL). What an answer says it took takes the place of that; one that says
     * nothing is counted: the prompt as reckoned, the tokens listed, or two bytes of text a token. So the budget can be passed
     * only by what the prompts of the requests in flight at once take beyond two bytes a token, before the first answer tells,
     * and by what an endpoint charges for requests that failed, of which nobody tells. */
    double budget;
    uint64_t budget_tokens; /* the same in tokens */
    uint64_t max_body;      /* bytes of one answer after decompression; default 64 MiB */
    int32_t per_request;   /* samples that one request asks for at most; default 64. Endpoints that give fewer are asked again. */
    int32_t need_logprobs; /* default 1; 0: replies without log-probabilities are kept although top_logprobs asks for them */
    int32_t insecure;      /* 1: TLS certificates are not verified; default 0 */
    int32_t http2;         /* default 1: HTTP/2 where a https endpoint offers it */
    /* So many requests in a row, default 3, that fail for good (after their retries) because no connection comes about, with no
     * answer in between, stop the run: the host is not there. 0: all questions are tried. More retries sit out longer outages. */
    uint64_t unreachable;
    /* Seconds, default 3600: so long a wait an endpoint may ask for (Retry-After). After a 429 or 503 the whole client pauses
     * until then, not only the request that was told. An endpoint that asks for more stops the run, see rsd_teacher_poll. As long is
     * one asked again, whatever `retries` says, that answers that it still loads its model (llama.cpp's server). */
    double max_wait;
    /* How the answer of a reply is found to label it: RSD_PARSER_STRICT (default), behind the last "The answer is", as a student is
     * to write it; or RSD_PARSER_LENIENT, for teachers that state it in another way (evaluator.h). Judged is the reply up to its
     * first line with "answer is". */
    int64_t parser;
} rsd_teacher_options;
RSD_API int rsd_teacher_options_init(rsd_teacher_options *o, size_t size);

/* *out is the caller's. RSD_EINVAL (what is missing), RSD_EBUSY (another process writes to the store), RSD_EFORMAT (store or
 * replay file: line), RSD_ENOTFOUND, RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_teacher_open(rsd_ctx *ctx, const rsd_teacher_options *options, rsd_teacher **out);
RSD_API void rsd_teacher_close(rsd_teacher *t); /* requests in flight are given up; the store is synced */

typedef struct rsd_question {
    const char *id;
    size_t id_len;
    const char *question;
    size_t question_len;
    const char *answer; /* gold answer, to label replies; NULL: not known */
    size_t answer_len;
} rsd_question;

/* Queues the samples of one question that the store does not have yet. RSD_EINVAL (no id, no question, or the id came before
 * with another question), RSD_ENOMEM. */
RSD_API int rsd_teacher_submit(rsd_teacher *t, const rsd_question *q);

/* Works on the requests and hands out the next reply that has arrived, labelled and stored: RSD_OK and *reply (borrowed until
 * the next call). RSD_AGAIN: none within `wait_ms` (0: do not wait). RSD_END: nothing is queued or in flight. RSD_ENETWORK,
 * RSD_EREFUSED, RSD_ENOLOGPROBS, RSD_EFORMAT: one request has finally failed (counted; the text says which question); call
 * again for the others. RSD_EIO: the store cannot be written: stop.
 * A final 401, 403 or a quota that is used up (RSD_EREFUSED), a certificate that does not hold or a host that is not there
 * (RSD_ENETWORK, option `unreachable`), a budget that does not hold another request, and an endpoint that asks to wait longer
 * than option `max_wait` (RSD_EREFUSED, once; the text says until when, as `come_back` in the stats does; the samples are queued
 * again and not counted as failed) stop the run: no request is started any more, what is in flight is still handed out, then
 * comes RSD_END with `stopped` set in the stats. A run with the same store goes on from there. */
RSD_API int rsd_teacher_poll(rsd_teacher *t, int wait_ms, const rsd_reply **reply);

/* For a host with an event loop of its own: what to wait for instead of waiting in rsd_teacher_poll.
 *
 *     for (;;) {
 *         while ((status = rsd_teacher_poll(t, 0, &reply)) == RSD_OK) ...
 *         if (status != RSD_AGAIN) break;       RSD_END, or an error
 *         rsd_teacher_wait_fds(t, fds, 64, &n, &timeout_ms);
 *         poll() or epoll on these and on the host's own
 *     } */
enum { RSD_FD_READ = 1, RSD_FD_WRITE = 2 };

typedef struct rsd_fd { /* stays as it is in all versions */
    int fd;             /* belongs to the teacher: neither close it nor read from it */
    int events;         /* RSD_FD_READ | RSD_FD_WRITE: what it is to become ready for */
} rsd_fd;

/* Starts requests that may start, waits for nothing, and tells the descriptors of the requests in flight: fds[0 .. *n), good
 * until the next call on t. Where *n > cap only the first cap are written: call
 * again with more room. *timeout_ms, 0 or more: how long to wait at most; then, or when one of them is ready, or after
 * rsd_teacher_submit, call rsd_teacher_poll(t, 0, ..) until it no longer returns RSD_OK. 0: call it now (a reply, a failure or
 * RSD_END is there).
 * With libcurl before 8.8, descriptors from 1024 (FD_SETSIZE) on cannot be told; *timeout_ms is then at most 10.
 * RSD_EINVAL (n or timeout_ms NULL, fds NULL with a cap), RSD_ENOMEM, RSD_EIO. */
RSD_API int rsd_teacher_wait_fds(rsd_teacher *t, rsd_fd *fds, size_t cap, size_t *n, int *timeout_ms);

/* Starts no further request: poll until RSD_END hands out what is in flight. Safe to call again. */
RSD_API int rsd_teacher_stop(rsd_teacher *t);

enum {
    RSD_STOPPED_NOT,
    RSD_STOPPED_ASKED /* rsd_teacher_stop */,
    RSD_STOPPED_BUDGET,
    RSD_STOPPED_REFUSED,
    RSD_STOPPED_UNREACHABLE,
    RSD_STOPPED_WAIT /* the endpoint asked for a longer wait than max_wait */
};

typedef struct rsd_teacher_stats {
    size_t size;                               /* set by the caller */
    uint64_t queued, in_flight, stored;        /* replies */
    uint64_t already, correct, failed;         /* already: found in the store */
    uint64_t missing, retries;                 /* missing: not in the replay file */
    uint64_t prompt_tokens, completion_tokens; /* as the endpoint tells, or counted where it does not */
    uint64_t requests, stopped;                /* requests started; RSD_STOPPED_* */
    uint64_t api;                              /* RSD_API_*: what is spoken; AUTO until the first answer tells */
    double cost;                               /* of the tokens, by the prices given */
    uint64_t come_back; /* with RSD_STOPPED_WAIT: when the endpoint asked to come back, seconds since 1970; else 0 */
} rsd_teacher_stats;
RSD_API int rsd_teacher_stats_get(const rsd_teacher *t, rsd_teacher_stats *out);

/* ---- stores ----
 * A store may be compressed by gzip, in one member or several: everything that reads it tells that from its first bytes
 * (RSD_EUNSUPPORTED where the library was built without zlib). rsd_teacher_open refuses to append to one. */

typedef struct rsd_store_report {
    size_t size;              /* set by the caller */
    uint64_t rows, questions; /* whole rows, the first for each (question id, sample) */
    uint64_t labelled,
        correct;          /* rows that are known to be right or wrong, and that are right: single accuracy = correct / labelled */
    uint64_t no_logprobs; /* rows without token log-probabilities */
    uint64_t duplicates,
        bad;       /* lines: a second row for one (id, sample); no row at all, or a question that differs from earlier rows */
    uint64_t torn; /* bytes of an unfinished last line, which opening cuts off; of compressed data that break off: at least 1 */
    uint64_t voted,
        voted_right; /* questions whose replies state answers, and whose most frequent answer is right (rsd_store_stats only) */
} rsd_store_report;

/* Reads a store and changes nothing. RSD_EFORMAT where there are duplicates or bad lines (the text names the first one); *out
 * (may be NULL) is filled then, too. RSD_ENOTFOUND, RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_store_verify(rsd_ctx *ctx, const char *path, rsd_store_report *out);

/* Rewrites a store without duplicates (the first row stays), blank lines and a torn end; rows stay byte for byte and in order,
 * the file is replaced as a whole; a compressed one stays compressed. Bad lines are not thrown away but appended to
 * `path`.rejected. *out (may be NULL) tells what was found. RSD_EBUSY: a process writes to it. */
RSD_API int rsd_store_compact(rsd_ctx *ctx, const char *path, rsd_store_report *out);

/* The same into another file, compressed, which appears complete or not at all; bad lines go to `to`.rejected. The store stays as
 * it is but for a torn end. Where `to` is named `path`.gz and the store is then removed, rsd_teacher_open refuses to begin `path`
 * anew. RSD_EUNSUPPORTED: built without zlib. Others as above. */
RSD_API int rsd_store_gzip(rsd_ctx *ctx, const char *path, const char *to, rsd_store_report *out);

typedef struct rsd_question_stats { /* borrowed until the callback returns */
    size_t size;
    const char *id;
    size_t id_len;
    const char *majority; /* the answer that most replies state, the earlier one of equals; "" if none states one */
    size_t majority_len;
    uint64_t total, labelled, kept; /* replies; kept: correct */
    uint64_t votes;                 /* for the majority */
    int64_t majority_correct;       /* 1, 0, -1: not known */
} rsd_question_stats;
typedef int rsd_question_stats_fn(void *user, const rsd_question_stats *q);

/* Per question, in the order of the file, as in the paper (Fu et al. 2023, section 4): kept of total, majority vote (Wang et
 * al., "Self-consistency", 2022). Answers are what RSD_PARSER_STRICT or RSD_PARSER_LENIENT (`parser`) finds; equal numbers are one
 * answer. Labels are those of the rows. fn (may be NULL) stops the walk by a value that is not 0, which is returned. Bad lines and
 * duplicates are passed over and counted. RSD_EINVAL (another parser), RSD_ENOTFOUND, RSD_EIO, RSD_ENOMEM. */
RSD_API int rsd_store_stats(rsd_ctx *ctx, const char *path, int parser, rsd_question_stats_fn *fn, void *user,
                            rsd_store_report *out);

#ifdef __cplusplus
}
#endif
#endif
