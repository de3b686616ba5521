/* The inside of a teacher: questions become ranges of samples, ranges become requests in slots, and what comes back becomes
 * rows.
 *
 * A range is a run of samples of one question that nobody has asked for. A free slot takes up to as many samples of the first
 * range as one request may hold. A slot keeps its samples until they are stored or finally failed, also while it waits to try
 * again: so a sample is never in two places, and an outage slows the flow down instead of burning through the queue. */
#ifndef TEACHER_TEACHER_H
#define TEACHER_TEACHER_H

#include "core/rng.h"
#include "reasondistill/teacher.h"
#include "teacher/cassette.h"
#include "teacher/dialect.h"
#include "teacher/key.h"
#include "teacher/pace.h"
#include "teacher/request.h"
#include "teacher/store.h"
#include "teacher/transport.h"

/* A question in work. Its place is used again once nothing of it is left. */
struct question {
    struct str text; /* id, question, answer, one after another */
    size_t id_len, question_len, answer_len;
    bool has_answer;
    uint64_t left; /* samples not yet stored or failed */
    size_t next;   /* place + 1 in `free_questions` */
};

struct range {
    size_t question;
    int64_t first;
    size_t n;
};

enum slot_state { SLOT_FREE, SLOT_FLYING, SLOT_SLEEPING };

struct slot {
    enum slot_state state;
    struct range range;
    unsigned tries;
    double wake; /* clock_seconds, while sleeping */
    struct str body;
    char hash[65];
    int64_t prompt_points;
    size_t prompt_bytes; /* as reckoned */
    double tokens;       /* that the request will take as far as can be told, and at most */
    double most;
    struct request request;
};

/* Which dialect an endpoint speaks is asked with the first request: completions first, then chat. */
enum probe { PROBE_KNOWN, PROBE_COMPLETIONS, PROBE_CHAT };

struct rsd_teacher {
    rsd_ctx *ctx;
    rsd_teacher_options o; /* strings point into `strings` */
    struct str url, model, prefix, template_, system, key;
    struct keys given; /* keys in the headers of the user's */
    struct json *stop, *extra;
    struct ask ask;
    const struct dialect *dialect;
    enum probe probe;
    bool text_only; /* completions answered the probe, without log-probabilities */
    struct transport *transport;
    struct cassette cassette; /* open while recording */
    struct pace pace;
    double pace_until;  /* when a request may start, as the pace told last */
    double most_flying; /* tokens that the requests in flight may take at most */
    double each_most;   /* tokens that one sample may take */
    size_t drawn_least; /* samples that an endpoint draws and charges for, however few are asked for */
    double per_byte;    /* tokens of prompt a byte: 0.5, or the most that an answer told of */
    double loading;     /* clock_seconds since which the endpoint loads its model; 0: it does not */
    double held_until;  /* clock_seconds of the longest wait that was told to the log */
    double sampled;     /* samples whose usage is in the stats */
    struct store store;
    bool keeps; /* there is a store */
    bool warned;
    struct asked asked; /* what was submitted, and what the store has */
    struct question *questions;
    size_t n_questions, cap_questions;
    size_t free_questions; /* 1 + the first place that may be used again, 0: none */
    struct range *ranges;  /* ring without wrap: [first_range, n_ranges) are waiting */
    size_t first_range, n_ranges, cap_ranges;
    struct slot *slots;
    size_t n_slots, flying, sleeping;
    uint64_t unreachable; /* requests in a row that found no connection, to the end of their tries */
    size_t max_samples;   /* in one request: what the transport and the options allow, less if the endpoint gives fewer */
    bool many_work;       /* the endpoint has answered a request for several samples */
    rsd_reply **ready;    /* stored, not yet handed out: [first_ready, n_ready) */
    size_t first_ready, n_ready, cap_ready;
    rsd_reply *current; /* lent to the caller */
    struct err failure; /* of a request, not yet told */
    struct rng rng;
    rsd_teacher_stats stats;
};

struct text question_id(const struct question *q);
struct text question_text(const struct question *q);
struct text question_answer(const struct question *q);

int teacher_queue(rsd_teacher *t, struct range range, struct err *e);
/* Nothing of the question is left. */
void teacher_forget(rsd_teacher *t, size_t question);

/* What came of a request: rows, a failure, another try, or nothing. Only failures of our own side (memory, store) are
 * returned. (flow.c) */
int teacher_take(rsd_teacher *t, const struct outcome *out, struct err *e);
/* Puts ranges into free slots and wakes sleepers whose time has come, as the pace and the budget allow. */
int teacher_fill(rsd_teacher *t, double now, struct err *e);
/* No further request: sleepers give their samples back to the queue. */
int teacher_stop(rsd_teacher *t, uint64_t why, struct err *e);

#endif
