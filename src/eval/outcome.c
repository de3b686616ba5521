/* From outputs to figures: each output is judged by three parsers, the outputs of an item vote, groups are averaged. */
#include "eval/outcome.h"

#include "eval/statistics.h"
#include "text/prompt.h"

#include <math.h>
#include <string.h>

void evaluation_judge(const struct evaluation *t, size_t index, struct reply *r) {
    const struct text gold = t->items.v[index].answer;
    const bool bbh = !strcmp(t->task, "bbh");
    for (int p = STRICT; p <= LENIENT; p++) {
        r->answer[p] = answer_read(r->output, gold, (enum answer_parser)p);
        r->correct[p] = answer_correct(r->output, gold, (enum answer_parser)p);
    }
    r->correct[REFERENCE] = answer_reference(r->output, answer_gold(gold), bbh, format_has_reasoning(t->v->o.format));
}

/* The replies that give the same answer; right ones are one answer. */
struct ballot {
    uint64_t votes[MAX_SAMPLES], silent;
    size_t first[MAX_SAMPLES], n, right; /* of each answer its first reply; right >= n: nobody is */
};

static void count_votes(const struct outcome *o, size_t samples, int p, struct ballot *b) {
    b->n = 0;
    b->silent = 0;
    b->right = SIZE_MAX;
    for (size_t i = 0; i < samples; i++) {
        const struct reply *r = &o->replies[i];
        size_t a = r->correct[p] ? b->right : 0;
        if (r->answer[p].kind == ANSWER_NONE) {
            b->silent++;
            continue;
        }
        while (!r->correct[p] && a < b->n &&
               (a == b->right || !answer_same(r->answer[p], o->replies[b->first[a]].answer[p], (enum answer_parser)p)))
            a++;
        if (a >= b->n) {
            a = b->n++;
            b->first[a] = i;
            b->votes[a] = 0;
            if (r->correct[p])
                b->right = a;
        }
        b->votes[a]++;
    }
}

int evaluation_vote(const struct evaluation *t, struct outcome *o, struct err *e) {
    const rsd_evaluator_options *how = &t->v->o;
    for (int p = STRICT; p <= LENIENT; p++) {
        struct ballot b;
        count_votes(o, (size_t)how->samples, p, &b);
        o->vote[p] = o->votes[p] = 0;
        for (size_t a = 0; a < b.n; a++)
            if (b.votes[a] > o->votes[p]) {
                o->votes[p] = (size_t)b.votes[a];
                o->vote[p] = b.first[a];
            }
        for (size_t k = 0; k < MAX_MAJ && how->maj[k]; k++)
            if (maj_at_k(&t->v->ctx->alloc, b.votes, b.n, b.right, b.silent, (uint64_t)how->maj[k], &o->maj[p][k], e))
                return e->code;
    }
    return 0;
}

const struct reply *outcome_reply(const struct outcome *o, int parser) {
    return &o->replies[parser == REFERENCE ? 0 : o->vote[parser]];
}

bool outcome_right(const struct outcome *o, int parser) {
    return outcome_reply(o, parser)->correct[parser];
}

struct tally *tally_groups(const struct evaluation *t, struct err *e) {
    struct tally *all = mem_zero(&t->v->ctx->alloc, t->items.n_groups, sizeof *all, e);
    for (size_t i = 0; all && i < t->items.n; i++) {
        const struct outcome *o = &t->outcomes[i];
        struct tally *g = &all[t->items.v[i].group];
        g->n++;
        for (int32_t s = 0; s < t->v->o.samples; s++) {
            for (int p = 0; p < PARSERS; p++)
                g->correct[p] += o->replies[s].correct[p];
            for (int p = STRICT; p <= LENIENT; p++)
                g->silent[p] += o->replies[s].answer[p].kind == ANSWER_NONE;
        }
        for (int p = STRICT; p <= LENIENT; p++)
            for (size_t k = 0; k < MAX_MAJ; k++)
                g->maj[p][k] += o->maj[p][k];
    }
    return all;
}

static double perplexity(const struct likelihood *l) {
    return l->tokens ? exp(l->sum / (double)l->tokens) : 0;
}

static void add_likelihoods(const struct evaluation *t, rsd_score *s) {
    struct likelihood answer = {0}, rationale = {0};
    for (size_t i = 0; i < t->items.n; i++) {
        const struct outcome *o = &t->outcomes[i];
        answer.sum += o->answer.sum;
        answer.tokens += o->answer.tokens;
        rationale.sum += o->rationale.sum;
        rationale.tokens += o->rationale.tokens;
        for (int32_t k = 0; k < t->v->o.samples; k++)
            s->mean_tokens += (double)o->replies[k].tokens / (double)s->outputs;
    }
    s->answer_perplexity = perplexity(&answer);
    s->rationale_perplexity = perplexity(&rationale);
}

int evaluation_score(struct evaluation *t, struct err *e) {
    const double groups = (double)t->items.n_groups, samples = (double)t->v->o.samples;
    double shares[PARSERS] = {0};
    uint64_t correct[PARSERS] = {0}, silent[2] = {0};
    rsd_score s = {.size = sizeof s, .n = t->items.n};
    struct tally *all = tally_groups(t, e);
    if (!all)
        return e->code;
    for (size_t g = 0; g < t->items.n_groups; g++) {
        const double n = (double)all[g].n;
        for (int p = 0; p < PARSERS; p++) {
            correct[p] += all[g].correct[p];
            shares[p] += (double)all[g].correct[p] / (n * samples) / groups;
        }
        for (int p = STRICT; p <= LENIENT; p++)
            silent[p] += all[g].silent[p];
        for (size_t k = 0; k < MAX_MAJ; k++) {
            s.maj[k] += all[g].maj[STRICT][k] / n / groups;
            s.lenient_maj[k] += all[g].maj[LENIENT][k] / n / groups;
        }
    }
    mem_free(&t->v->ctx->alloc, all);
    s.outputs = s.n * (uint64_t)t->v->o.samples;
    s.correct = correct[STRICT];
    s.no_answer = silent[STRICT];
    s.accuracy = shares[STRICT];
    s.lenient_correct = correct[LENIENT];
    s.lenient_no_answer = silent[LENIENT];
    s.lenient_accuracy = shares[LENIENT];
    s.reference_correct = correct[REFERENCE];
    s.reference_accuracy = shares[REFERENCE];
    wilson_share(s.accuracy, (double)s.n, &s.low, &s.high);
    wilson_share(s.lenient_accuracy, (double)s.n, &s.lenient_low, &s.lenient_high);
    add_likelihoods(t, &s);
    t->score = s;
    return 0;
}
