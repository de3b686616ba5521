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
     * "replay:FILE": recorded replies: a store, bare response bodies, or a cassette.
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
    const char *stop;       /* JSON: a string, or a list of strings */
    const char *extra;      /* JSON object: more members of each request; one named like ours replaces it, null takes it away */
    const char *headers;    /* more headers, a line "Name: value" each */
    const char *key_header; /* header that holds the bare key, such as "api-key"; NULL: "Authorization: Bearer KEY" */
    const char *ca_file;    /* certificates to trust instead of the system's, PEM; NULL: the system's */
    double top_p;           /* default 1: not sent */
    double first_byte_timeout;  /* seconds until an answer begins; 0 (default): as `timeout`, for models think in silence */
    double requests_per_minute; /* 0 (default): as the endpoint allows */
    double tokens_per_minute;   /* of prompt and completion; 0 (default): as the endpoint allows */
    double price_prompt, price_completion; /* money for a million tokens, for `cost` and `budget`; default 0 */
    double budget;          /* money that this run may spend; 0 (default): any. No request starts that could pass it. */
    uint64_t budget_tokens; /* the same in tokens */
    uint64_t max_body;      /* bytes of one answer after decompression; default 64 MiB */
    int32_t per_request;   /* samples that one request asks for at most; default 64. Endpoints that give fewer are asked again. */
    int32_t need_logprobs; /* default 1; 0: replies without log-probabilities are kept although top_logprobs asks for them */
    int32_t insecure;      /* 1: TLS certificates are not verified; default 0 */
    int32_t http2;         /* default 1: HTTP/2 where a https endpoint offers it */
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
 * A final 401, 403 or a quota that is used up (RSD_EREFUSED) and a budget that does not hold another request stop the run: no
 * request is started any more, what is in flight is still handed out, then comes RSD_END with `stopped` set in the stats. */
RSD_API int rsd_teacher_poll(rsd_teacher *t, int wait_ms, const rsd_reply **reply);

/* Starts no further request: poll until RSD_END hands out what is in flight. Safe to call again. */
RSD_API int rsd_teacher_stop(rsd_teacher *t);

enum { RSD_STOPPED_NOT, RSD_STOPPED_ASKED /* rsd_teacher_stop */, RSD_STOPPED_BUDGET, RSD_STOPPED_REFUSED };

typedef struct rsd_teacher_stats {
    size_t size;                               /* set by the caller */
    uint64_t queued, in_flight, stored;        /* replies */
    uint64_t already, correct, failed;         /* already: found in the store */
    uint64_t missing, retries;                 /* missing: not in the replay file */
    uint64_t prompt_tokens, completion_tokens; /* as the endpoint tells, or counted where it does not */
    uint64_t requests, stopped;                /* requests started; RSD_STOPPED_* */
    double cost;                               /* of the tokens, by the prices given */
} rsd_teacher_stats;
RSD_API int rsd_teacher_stats_get(const rsd_teacher *t, rsd_teacher_stats *out);

#ifdef __cplusplus
}
#endif
#endif
