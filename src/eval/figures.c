/* eval.json: settings, figures, figures of each group, and every item with its outputs. The table of figures serves writing and
 * reading. */
#include "core/json.h"
#include "eval/outcome.h"
#include "eval/statistics.h"

#include <math.h>
#include <string.h>

static const struct figure {
    const char *key;
    size_t at;
    bool whole; /* a uint64_t; else a double */
} figures[] = {
    {"n", offsetof(rsd_score, n), true},
    {"outputs", offsetof(rsd_score, outputs), true},
    {"correct", offsetof(rsd_score, correct), true},
    {"no_answer", offsetof(rsd_score, no_answer), true},
    {"accuracy", offsetof(rsd_score, accuracy), false},
    {"low", offsetof(rsd_score, low), false},
    {"high", offsetof(rsd_score, high), false},
    {"lenient_correct", offsetof(rsd_score, lenient_correct), true},
    {"lenient_no_answer", offsetof(rsd_score, lenient_no_answer), true},
    {"lenient_accuracy", offsetof(rsd_score, lenient_accuracy), false},
    {"lenient_low", offsetof(rsd_score, lenient_low), false},
    {"lenient_high", offsetof(rsd_score, lenient_high), false},
    {"reference_correct", offsetof(rsd_score, reference_correct), true},
    {"reference_accuracy", offsetof(rsd_score, reference_accuracy), false},
    {"answer_perplexity", offsetof(rsd_score, answer_perplexity), false},
    {"rationale_perplexity", offsetof(rsd_score, rationale_perplexity), false},
    {"mean_tokens", offsetof(rsd_score, mean_tokens), false},
    {"seconds", offsetof(rsd_score, seconds), false},
};
enum { N_FIGURES = sizeof figures / sizeof *figures };

static void put_int(struct json_out *j, const char *key, uint64_t v) {
    json_put_key(j, key);
    json_put_int(j, (int64_t)v);
}

static void put_double(struct json_out *j, const char *key, double v) {
    json_put_key(j, key);
    json_put_double(j, v);
}

static void put_z(struct json_out *j, const char *key, const char *v) {
    json_put_key(j, key);
    json_put_z(j, v);
}

static void put_text(struct json_out *j, const char *key, struct text v) {
    json_put_key(j, key);
    json_put_text(j, v);
}

static void put_bool(struct json_out *j, const char *key, bool v) {
    json_put_key(j, key);
    json_put_bool(j, v);
}

static void put_maj(struct json_out *j, const int32_t *k, const double *strict, const double *lenient) {
    json_put_key(j, "maj");
    json_array(j);
    for (size_t i = 0; i < MAX_MAJ && k[i]; i++) {
        json_object(j);
        put_int(j, "k", (uint64_t)k[i]);
        put_double(j, "accuracy", strict[i]);
        put_double(j, "lenient_accuracy", lenient[i]);
        json_end_object(j);
    }
    json_end_array(j);
}

static void put_figures(struct json_out *j, const struct evaluation *t) {
    for (size_t i = 0; i < N_FIGURES; i++) {
        const char *from = (const char *)&t->score + figures[i].at;
        uint64_t whole;
        double real;
        json_put_key(j, figures[i].key);
        if (figures[i].whole) {
            memcpy(&whole, from, sizeof whole);
            json_put_int(j, (int64_t)whole);
        } else {
            memcpy(&real, from, sizeof real);
            json_put_double(j, real);
        }
    }
    put_maj(j, t->v->o.maj, t->score.maj, t->score.lenient_maj);
}

static void put_setting(struct json_out *j, const struct evaluation *t) {
    const rsd_evaluator_options *o = &t->v->o;
    put_z(j, "label", o->label ? o->label : "");
    put_z(j, "task", t->task);
    put_z(j, "data", t->data);
    put_z(j, "format", rsd_format_name(o->format));
    put_z(j, "demos", o->demos);
    put_int(j, "shots", (uint64_t)o->shots);
    put_int(j, "seed", o->seed);
    put_int(j, "max_tokens", (uint64_t)o->max_tokens);
    put_int(j, "samples", (uint64_t)o->samples);
    put_double(j, "temperature", o->temperature);
    put_double(j, "top_p", o->top_p);
    if (*t->content)
        put_z(j, "content", t->content);
}

static int put_groups(struct json_out *j, const struct evaluation *t, struct err *e) {
    struct tally *all = tally_groups(t, e);
    if (!all)
        return e->code;
    json_put_key(j, "tasks");
    json_array(j);
    for (size_t g = 0; g < t->items.n_groups; g++) {
        const double outputs = (double)all[g].n * (double)t->v->o.samples;
        const double share = (double)all[g].correct[STRICT] / outputs;
        double low, high;
        wilson_share(share, (double)all[g].n, &low, &high);
        json_object(j);
        put_text(j, "task", t->items.groups[g]);
        put_int(j, "n", all[g].n);
        put_int(j, "correct", all[g].correct[STRICT]);
        put_double(j, "accuracy", share);
        put_double(j, "low", low);
        put_double(j, "high", high);
        put_double(j, "lenient_accuracy", (double)all[g].correct[LENIENT] / outputs);
        put_double(j, "reference_accuracy", (double)all[g].correct[REFERENCE] / outputs);
        json_end_object(j);
    }
    json_end_array(j);
    mem_free(&t->v->ctx->alloc, all);
    return 0;
}

static const char *finish_name(int finish) {
    return finish == RSD_FINISH_STOP ? "stop" : "length";
}

/* The answer as it stands in the output: of a number the line that states it. */
static void put_answer(struct json_out *j, const struct reply *r) {
    struct text shown;
    json_put_key(j, "answer");
    if (r->answer[STRICT].kind != ANSWER_NONE && answer_find(r->output, ANSWER_STRICT, &shown))
        json_put_text(j, shown);
    else
        json_put_null(j);
}

static void put_reply(struct json_out *j, const struct reply *r) {
    put_int(j, "tokens", r->tokens);
    put_z(j, "finish", finish_name(r->finish));
    put_text(j, "output", r->output);
}

static void put_samples(struct json_out *j, const struct evaluation *t, const struct outcome *o) {
    put_int(j, "votes", o->votes[STRICT]);
    put_maj(j, t->v->o.maj, o->maj[STRICT], o->maj[LENIENT]);
    put_text(j, "output", outcome_reply(o, STRICT)->output);
    json_put_key(j, "outputs");
    json_array(j);
    for (int32_t s = 0; s < t->v->o.samples; s++) {
        const struct reply *r = &o->replies[s];
        json_object(j);
        put_answer(j, r);
        put_bool(j, "correct", r->correct[STRICT]);
        put_bool(j, "lenient", r->correct[LENIENT]);
        put_bool(j, "reference", r->correct[REFERENCE]);
        put_reply(j, r);
        json_end_object(j);
    }
    json_end_array(j);
}

static void put_item(struct json_out *j, const struct evaluation *t, size_t index) {
    const struct item *item = &t->items.v[index];
    const struct outcome *o = &t->outcomes[index];
    json_object(j);
    put_text(j, "id", item->id);
    if (t->items.n_groups > 1)
        put_text(j, "task", t->items.groups[item->group]);
    put_text(j, "question", item->question);
    if (o->n_demos) {
        json_put_key(j, "demos");
        json_array(j);
        for (size_t i = 0; i < o->n_demos; i++)
            json_put_text(j, o->demos[i]->id);
        json_end_array(j);
    }
    put_text(j, "gold", answer_gold(item->answer));
    put_answer(j, outcome_reply(o, STRICT));
    put_bool(j, "correct", outcome_right(o, STRICT));
    put_bool(j, "lenient", outcome_right(o, LENIENT));
    put_bool(j, "reference", outcome_right(o, REFERENCE));
    if (o->answer.tokens)
        put_double(j, "answer_perplexity", exp(o->answer.sum / (double)o->answer.tokens));
    if (o->rationale.tokens)
        put_double(j, "rationale_perplexity", exp(o->rationale.sum / (double)o->rationale.tokens));
    if (t->v->o.samples > 1)
        put_samples(j, t, o);
    else
        put_reply(j, &o->replies[0]);
    json_end_object(j);
}

int evaluation_write(const struct evaluation *t, struct str *out, struct err *e) {
    struct json_out j;
    json_begin(&j, out, 1);
    json_object(&j);
    put_setting(&j, t);
    put_figures(&j, t);
    if (t->items.n_groups > 1 && put_groups(&j, t, e))
        return e->code;
    json_put_key(&j, "items");
    json_array(&j);
    for (size_t i = 0; i < t->items.n; i++)
        put_item(&j, t, i);
    json_end_array(&j);
    json_end_object(&j);
    str_addc(out, '\n');
    return str_status(out, e);
}

/* ---- reading ---- */

int figures_read(const struct json *doc, rsd_score *out, struct err *e) {
    rsd_score s = {.size = sizeof s};
    for (size_t i = 0; i < N_FIGURES; i++) {
        int64_t whole = 0;
        double real = 0;
        const struct json *v = json_get(doc, figures[i].key);
        if (v && !figures[i].whole && json_type(v) == JSON_NULL) /* a perplexity beyond any number */
            real = HUGE_VAL;
        else if (figures[i].whole ? json_need_int(doc, figures[i].key, 0, INT64_MAX, &whole, e)
                                  : json_need_number(doc, figures[i].key, 0, HUGE_VAL, &real, e))
            return e->code;
        if (figures[i].whole)
            memcpy((char *)&s + figures[i].at, &(uint64_t){(uint64_t)whole}, sizeof(uint64_t));
        else
            memcpy((char *)&s + figures[i].at, &real, sizeof real);
    }
    size_t k = 0;
    for (const struct json *m = json_first(json_get(doc, "maj")); m && k < MAX_MAJ; m = json_next(m), k++)
        if (json_need_number(m, "accuracy", 0, 2, &s.maj[k], e) ||
            json_need_number(m, "lenient_accuracy", 0, 2, &s.lenient_maj[k], e))
            return e->code;
    *out = s;
    return 0;
}
