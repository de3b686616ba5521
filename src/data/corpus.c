/* Examples are drawn by rejection from one pool, from the part of it that has the question's task: a question is told from its own
 * by its text, so a question asked twice under two ids does not give itself away. */
#include "data/corpus.h"

#include "core/rng.h"
#include "data/overlap.h"
#include "text/answer.h"
#include "text/prompt.h"

#include <string.h>

/* ---- putting together ---- */

static int match_replies(struct corpus *c, struct err *e) {
    size_t n = c->questions.n;
    c->n_replies = c->shard ? shard_replies(c->shard) : 0;
    if (n >= NO_REPLY || c->n_replies >= NO_REPLY)
        return err_set(e, ERR_UNSUPPORTED, "more than 2^32 questions or replies");
    c->question_of = mem_new(c->a, c->n_replies, sizeof *c->question_of, e);
    c->first_reply = mem_new(c->a, n, sizeof *c->first_reply, e);
    if (!c->question_of || !c->first_reply)
        return ERR_NOMEM;
    memset(c->first_reply, 0xFF, n * sizeof *c->first_reply);
    for (size_t i = 0; i < c->n_replies; i++) {
        struct shard_reply r;
        size_t q;
        shard_peek(c->shard, i, &r);
        if (!questions_find(&c->questions, r.id, &q))
            return err_set(e, ERR_MISMATCH, "reply %zu answers question \"%.*s\", which is not among the questions", i,
                           (int)(r.id.n < 100 ? r.id.n : 100), r.id.p);
        c->question_of[i] = (uint32_t)q;
        if (c->first_reply[q] == NO_REPLY && r.correct == 1 && r.n > 1)
            c->first_reply[q] = (uint32_t)i;
    }
    return 0;
}

static int find_twins(struct corpus *c, struct err *e) {
    struct map seen;
    map_init(&seen, c->a);
    c->twin = mem_new(c->a, c->questions.n, sizeof *c->twin, e);
    int code = c->twin ? 0 : ERR_NOMEM;
    for (size_t i = 0; i < c->questions.n && !code; i++) {
        size_t first = i;
        str_clear(&c->scratch);
        code = question_normal(&c->scratch, questions_get(&c->questions, i).question, e);
        struct text key = {str_z(&c->scratch), c->scratch.n};
        if (!code && !map_get(&seen, key, &first))
            code = map_put(&seen, key, i, e);
        c->twin[i] = (uint32_t)first;
    }
    map_free(&seen);
    return code;
}

/* Puts a pool into the order of tasks, in which equal ones stay as they are, and counts what each has. */
static int sort_pool(struct corpus *c, int k, unsigned char *seen, struct err *e) {
    size_t tasks = c->questions.n_tasks + 1, n = c->n_pool[k];
    struct shelf *shelf = c->shelf[k] = mem_zero(c->a, tasks, sizeof *shelf, e);
    uint32_t *sorted = mem_new(c->a, n, sizeof *sorted, e);
    if (!shelf || !sorted) {
        mem_free(c->a, sorted);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < n; i++)
        shelf[c->questions.task[c->pool[k][i]]].n++;
    for (size_t t = 1; t < tasks; t++)
        shelf[t].first = shelf[t - 1].first + shelf[t - 1].n;
    for (size_t t = 0; t < tasks; t++)
        shelf[t].n = 0;
    for (size_t i = 0; i < n; i++) {
        struct shelf *s = &shelf[c->questions.task[c->pool[k][i]]];
        unsigned char *mark = &seen[c->twin[c->pool[k][i]]]; /* a text of two tasks counts for the first */
        sorted[s->first + s->n++] = c->pool[k][i];
        s->n_texts += !(*mark & 1 << k);
        c->n_texts[k] += !(*mark & 1 << k);
        *mark = (unsigned char)(*mark | 1 << k);
    }
    mem_free(c->a, c->pool[k]);
    c->pool[k] = sorted;
    return 0;
}

static int fill_pools(struct corpus *c, struct err *e) {
    unsigned char *seen = mem_zero(c->a, c->questions.n, 1, e);
    for (int k = 0; k < 2; k++)
        c->pool[k] = mem_new(c->a, c->questions.n, sizeof *c->pool[k], e);
    if (!seen || !c->pool[0] || !c->pool[1]) {
        mem_free(c->a, seen);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < c->questions.n; i++) {
        struct question q = questions_get(&c->questions, i);
        bool can[2] = {q.answer.n != 0, q.answer.n != 0 && (q.rationale.n || c->first_reply[i] != NO_REPLY)};
        for (int k = 0; k < 2; k++)
            if (can[k])
                c->pool[k][c->n_pool[k]++] = (uint32_t)i;
    }
    int code = 0;
    for (int k = 0; k < 2 && !code; k++)
        code = sort_pool(c, k, seen, e);
    mem_free(c->a, seen);
    return code;
}

int corpus_init(struct corpus *c, const struct allocator *a, const struct recipe *recipe, struct questions *questions,
                struct shard *shard, struct err *e) {
    *c = (struct corpus){.a = a, .recipe = *recipe, .questions = *questions, .shard = shard};
    *questions = (struct questions){0};
    str_init(&c->scratch, a);
    int code = match_replies(c, e);
    code = code ? code : find_twins(c, e);
    code = code ? code : fill_pools(c, e);
    if (code)
        corpus_close(c);
    return code;
}

void corpus_close(struct corpus *c) {
    if (!c->a)
        return;
    questions_free(&c->questions);
    shard_close(c->shard);
    void *const blocks[] = {c->question_of, c->first_reply, c->twin, c->pool[0], c->pool[1], c->shelf[0], c->shelf[1]};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        mem_free(c->a, blocks[i]);
    str_free(&c->scratch);
    *c = (struct corpus){0};
}

int corpus_open(struct corpus *c, const struct allocator *a, const char *folder, struct err *e) {
    struct recipe recipe;
    struct questions questions = {0};
    struct shard *shard = NULL;
    char *path[3] = {NULL};
    static const char *const names[3] = {"dataset.json", "questions.rsd", "aligned.rsd"};
    int code = 0;
    *c = (struct corpus){0};
    for (size_t i = 0; i < 3 && !code; i++)
        code = file_join(a, &path[i], e, folder, names[i]);
    code = code ? code : recipe_read(&recipe, a, path[0], e);
    code = code ? code : questions_load(&questions, a, path[1], e);
    if (!code && recipe.aligned_sha256[0])
        code = shard_open(&shard, a, path[2], e);
    if (!code) {
        code = corpus_init(c, a, &recipe, &questions, shard, e);
        if (code)
            err_within(e, "%s", folder);
        shard = NULL;
    }
    questions_free(&questions);
    shard_close(shard);
    for (size_t i = 0; i < 3; i++)
        mem_free(a, path[i]);
    return code;
}

int corpus_check(const struct corpus *c, uint32_t formats, struct err *e) {
    for (int f = 0; f < RSD_FORMATS; f++) {
        if (!(formats & 1u << f))
            continue;
        int k = format_has_reasoning(f);
        if (k ? !c->n_replies : !c->n_pool[0])
            return err_set(e, ERR_INVALID, "format %s: there is no %s", rsd_format_name(f),
                           k ? "kept reply" : "question with an answer");
        if (format_has_demos(f) && c->n_texts[k] <= (size_t)c->recipe.shots)
            return err_set(e, ERR_INVALID, "format %s: %d examples need more than %d questions that have %s, there are %zu",
                           rsd_format_name(f), (int)c->recipe.shots, (int)c->recipe.shots,
                           k ? "an answer and a rationale or a correct reply" : "an answer", c->n_texts[k]);
    }
    return 0;
}

/* ---- examples ---- */

static bool is_taken(const struct corpus *c, size_t candidate, size_t question, const uint32_t *out, size_t n) {
    bool taken = c->twin[candidate] == c->twin[question];
    for (size_t i = 0; i < n; i++)
        taken |= c->twin[candidate] == c->twin[out[i]];
    return taken;
}

void corpus_demos(const struct corpus *c, int format, size_t item, size_t question, uint64_t epoch, uint32_t *out) {
    enum { TRIES = 64 };
    int k = format_has_reasoning(format);
    struct shelf all = {0, c->n_pool[k], c->n_texts[k]}, own = c->shelf[k][c->questions.task[question]];
    struct shelf from = c->questions.task[question] && own.n_texts > (size_t)c->recipe.shots ? own : all;
    const uint32_t *pool = c->pool[k] + from.first;
    struct rng r = rng_make(c->recipe.seed, rng_mix(rng_mix((uint64_t)format, epoch), item));
    for (size_t n = 0; n < (size_t)c->recipe.shots; n++) {
        size_t at = 0;
        int tries = 0;
        do {
            at = (size_t)rng_below(&r, from.n);
        } while (is_taken(c, pool[at], question, out, n) && ++tries < TRIES);
        /* a small pool, or one full of equal texts: the next one that fits */
        while (is_taken(c, pool[at], question, out, n))
            at = at + 1 < from.n ? at + 1 : 0;
        out[n] = pool[at];
    }
}

/* A reply without the line that states its answer. */
static struct text reasoning_of(struct text reply) {
    struct text cut = answer_cut(reply);
    size_t line = cut.n;
    while (line && cut.p[line - 1] != '\n')
        line--;
    for (size_t i = line; i + 9 <= cut.n; i++)
        if (!memcmp(cut.p + i, "answer is", 9))
            return (struct text){cut.p, line};
    return cut;
}

int corpus_demo_text(struct corpus *c, const rsd_tokenizer *tok, int format, size_t question, struct str *out, struct err *e) {
    struct question q = questions_get(&c->questions, question);
    struct demo d = {q.question, q.rationale, q.answer};
    struct shard_buffer buffer = {.a = c->a};
    int code = 0;
    bool replied = c->first_reply[question] != NO_REPLY, teacher = c->recipe.demos == RSD_DEMOS_TEACHER && replied;
    if (format_has_reasoning(format) && (teacher || !q.rationale.n)) {
        struct shard_reply r;
        str_clear(&c->scratch);
        code = shard_get(c->shard, c->first_reply[question], &buffer, &r, e);
        code = code ? code : shard_text(&r, tok, &c->scratch, e);
        d.solution = reasoning_of((struct text){str_z(&c->scratch), c->scratch.n});
        shard_buffer_free(&buffer);
    }
    /* what prompt_input puts behind the example belongs to the question */
    size_t before = out->n, behind = 0;
    struct text none = {"", 0};
    code = code ? code : prompt_input(out, format, none, NULL, 0, e);
    behind = out->n - before;
    out->n = before;
    code = code ? code : prompt_input(out, format, none, &d, 1, e);
    if (!code)
        out->p[out->n -= behind] = 0;
    return code;
}

int corpus_question_text(const struct corpus *c, int format, size_t question, struct str *out, struct err *e) {
    return prompt_input(out, format, questions_get(&c->questions, question).question, NULL, 0, e);
}

int corpus_answer_text(const struct corpus *c, int format, size_t question, struct str *out, struct err *e) {
    return prompt_target(out, format, (struct text){"", 0}, questions_get(&c->questions, question).answer, e);
}
