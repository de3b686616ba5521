/* From outputs to figures, and to the file that keeps both. */
#include "eval/outcome.h"

#include "core/json.h"
#include "eval/statistics.h"
#include "reasondistill/t5.h"
#include "text/answer.h"

#include <string.h>

void outcome_judge(struct outcome *o, const struct item *item) {
    o->stated = answer_find(o->output, ANSWER_STRICT, &o->answer);
    if (!o->stated)
        o->answer = text_of("");
    o->correct = answer_correct(o->output, item->answer, ANSWER_STRICT);
}

struct tally {
    uint64_t n, correct;
};

static struct tally *tally_groups(const struct items *items, const struct outcome *o, const struct allocator *a, struct err *e) {
    struct tally *t = mem_zero(a, items->n_groups, sizeof *t, e);
    for (size_t i = 0; t && i < items->n; i++) {
        t[items->v[i].group].n++;
        t[items->v[i].group].correct += o[i].correct;
    }
    return t;
}

int outcome_score(const struct items *items, const struct outcome *o, const struct allocator *a, rsd_score *out, struct err *e) {
    struct tally *t = tally_groups(items, o, a, e);
    if (!t)
        return e->code;
    double share = 0, tokens = 0;
    for (size_t g = 0; g < items->n_groups; g++)
        share += (double)t[g].correct / (double)t[g].n / (double)items->n_groups;
    mem_free(a, t);
    for (size_t i = 0; i < items->n; i++) {
        out->correct += o[i].correct;
        out->no_answer += !o[i].stated;
        tokens += (double)o[i].tokens;
    }
    out->n = items->n;
    out->accuracy = share;
    out->mean_tokens = tokens / (double)items->n;
    wilson_share(share, (double)items->n, &out->low, &out->high);
    return 0;
}

static void put_figures(struct json_out *j, const rsd_score *s) {
    json_put_key(j, "n");
    json_put_int(j, (int64_t)s->n);
    json_put_key(j, "correct");
    json_put_int(j, (int64_t)s->correct);
    json_put_key(j, "no_answer");
    json_put_int(j, (int64_t)s->no_answer);
    json_put_key(j, "accuracy");
    json_put_double(j, s->accuracy);
    json_put_key(j, "low");
    json_put_double(j, s->low);
    json_put_key(j, "high");
    json_put_double(j, s->high);
    json_put_key(j, "mean_tokens");
    json_put_double(j, s->mean_tokens);
    json_put_key(j, "seconds");
    json_put_double(j, s->seconds);
}

static void put_setting(struct json_out *j, const char *task, const char *data, const rsd_evaluator_options *o) {
    json_put_key(j, "task");
    json_put_z(j, task);
    json_put_key(j, "data");
    json_put_z(j, data);
    json_put_key(j, "format");
    json_put_z(j, rsd_format_name(o->format));
    json_put_key(j, "demos");
    json_put_z(j, o->demos);
    json_put_key(j, "shots");
    json_put_int(j, o->shots);
    json_put_key(j, "seed");
    json_put_int(j, (int64_t)o->seed);
    json_put_key(j, "max_tokens");
    json_put_int(j, o->max_tokens);
}

static int put_groups(struct json_out *j, const struct items *items, const struct outcome *o, const struct allocator *a,
                      struct err *e) {
    struct tally *t = tally_groups(items, o, a, e);
    if (!t)
        return e->code;
    json_put_key(j, "tasks");
    json_array(j);
    for (size_t g = 0; g < items->n_groups; g++) {
        double low, high;
        rsd_wilson(t[g].correct, t[g].n, &low, &high);
        json_object(j);
        json_put_key(j, "task");
        json_put_text(j, items->groups[g]);
        json_put_key(j, "n");
        json_put_int(j, (int64_t)t[g].n);
        json_put_key(j, "correct");
        json_put_int(j, (int64_t)t[g].correct);
        json_put_key(j, "accuracy");
        json_put_double(j, (double)t[g].correct / (double)t[g].n);
        json_put_key(j, "low");
        json_put_double(j, low);
        json_put_key(j, "high");
        json_put_double(j, high);
        json_end_object(j);
    }
    json_end_array(j);
    mem_free(a, t);
    return 0;
}

static void put_item(struct json_out *j, const struct item *item, const struct outcome *o) {
    json_object(j);
    json_put_key(j, "id");
    json_put_text(j, item->id);
    json_put_key(j, "question");
    json_put_text(j, item->question);
    if (o->n_demos) {
        json_put_key(j, "demos");
        json_array(j);
        for (size_t i = 0; i < o->n_demos; i++)
            json_put_text(j, o->demos[i]->id);
        json_end_array(j);
    }
    json_put_key(j, "gold");
    json_put_text(j, answer_gold(item->answer));
    json_put_key(j, "answer");
    if (o->stated)
        json_put_text(j, o->answer);
    else
        json_put_null(j);
    json_put_key(j, "correct");
    json_put_bool(j, o->correct);
    json_put_key(j, "tokens");
    json_put_int(j, (int64_t)o->tokens);
    json_put_key(j, "finish");
    json_put_z(j, o->finish == RSD_FINISH_STOP ? "stop" : "length");
    json_put_key(j, "output");
    json_put_text(j, o->output);
    json_end_object(j);
}

int outcome_write(const struct items *items, const struct outcome *o, const char *task, const char *data,
                  const rsd_evaluator_options *options, const rsd_score *score, struct str *out, struct err *e) {
    struct json_out j;
    json_begin(&j, out, 1);
    json_object(&j);
    put_setting(&j, task, data, options);
    put_figures(&j, score);
    if (items->n_groups > 1 && put_groups(&j, items, o, out->a, e))
        return e->code;
    json_put_key(&j, "items");
    json_array(&j);
    for (size_t i = 0; i < items->n; i++)
        put_item(&j, &items->v[i], &o[i]);
    json_end_array(&j);
    json_end_object(&j);
    str_addc(out, '\n');
    return str_status(out, e);
}
