/* The teacher: a tree of replies whose every probability is known.
 *
 * A reply is a row of segments, each a line with one equation, then the line with the answer. At each segment the teacher
 * chooses an order (at the first segment where the orders differ), a wording, and a result, which is sometimes wrong; later
 * lines go on from what was written. All these alternatives are spelled out as tokens, one is drawn, and the probability of a
 * next token is the sum over the alternatives that have begun with the same tokens. That is exact: a line feed ends every line
 * and stands nowhere else, so no alternative is the beginning of another, and two choices never give the same line.
 *
 * Tokens are cut as a byte-pair vocabulary would: a blank belongs to the word behind it, long words come in two parts, numbers
 * above 79 digit by digit, line feeds alone. The student's pieces are whole words and whole numbers. */
#include "wordproblems.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* {x} {y} the operands, {r} the result, {u} the things, {n} who */
enum { WORDINGS = 3 };
static const double wording_share[WORDINGS] = {0.5, 0.3, 0.2};
static const struct {
    char sign;
    const char *phrase[WORDINGS];
} wordings[] = {
    {'+', {"{x} + {y} = {r} {u}.", "Now there are {x} + {y} = {r} {u}.", "So {n} has {x} + {y} = {r}."}},
    {'-', {"{x} - {y} = {r} {u}.", "That leaves {x} - {y} = {r} {u}.", "So {n} has {x} - {y} = {r}."}},
    {'*', {"{x} * {y} = {r} {u}.", "That makes {x} * {y} = {r} {u}.", "So {n} has {x} * {y} = {r}."}},
    {'/', {"{x} / {y} = {r} {u}.", "Shared that is {x} / {y} = {r} {u}.", "So each part is {x} / {y} = {r}."}},
};
enum { SIGNS = sizeof wordings / sizeof *wordings };
static const double order_share[2] = {0.6, 0.4};
static const char answer_phrase[] = "The answer is {r}";

/* How a result goes wrong, and how often among the ways that leave the rest of the problem solvable. */
static const struct {
    int by;
    double share;
} slips[] = {{0, 0}, {1, 0.4}, {-1, 0.3}, {10, 0.2}, {-10, 0.1}};
enum { SLIPS = sizeof slips / sizeof *slips };

enum { MAX_TOKENS = 64, MAX_WAYS = 2 * WORDINGS * SLIPS, TOP = 5 };

const char *teacher_phrase(size_t i) {
    if (i < SIGNS * WORDINGS)
        return wordings[i / WORDINGS].phrase[i % WORDINGS];
    return i == SIGNS * WORDINGS ? answer_phrase : NULL;
}

/* ---- tokens ---- */

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Length of the token at the start of s; `begun`: the word before it was cut and goes on here. */
static size_t token_length(const char *s, bool *begun) {
    const size_t blank = s[0] == ' ' ? 1 : 0;
    size_t end = blank;
    if (is_letter(s[blank])) {
        while (is_letter(s[end]))
            end++;
        const bool cut = end - blank > 6 && !*begun;
        *begun = cut;
        return cut ? blank + 4 : end;
    }
    *begun = false;
    if (is_digit(s[blank])) {
        while (is_digit(s[end]))
            end++;
        return end - blank == 2 && s[blank] >= '8' ? blank + 1 : end;
    }
    return s[blank] == '\0' ? blank : blank + 1;
}

struct token {
    const char *p;
    size_t n;
};

static size_t cut(const char *text, struct token *tokens, size_t max) {
    size_t n = 0;
    bool begun = false;
    while (*text != '\0') {
        const size_t length = token_length(text, &begun);
        if (n < max)
            tokens[n] = (struct token){text, length};
        n++;
        text += length;
    }
    return n;
}

size_t teacher_count(const char *text) {
    return cut(text, NULL, 0);
}

static bool token_eq(struct token a, struct token b) {
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

/* ---- the tree ---- */

/* One way to write the next line. */
struct way {
    double probability;
    size_t plan;
    int result;
    struct line line;
    struct token tokens[MAX_TOKENS]; /* into line */
    size_t n;
    bool alive; /* has begun with the tokens drawn so far */
};

/* What has been written: the order (n_plans: still open), and the results of the equations so far, right or wrong. */
struct state {
    size_t plan, done;
    int results[MAX_STEPS];
};

static void way_spell(struct way *w, const struct problem *p, const char *phrase, int x, int y, int r) {
    struct line numbers[3] = {0};
    line_number(&numbers[0], x);
    line_number(&numbers[1], y);
    line_number(&numbers[2], r);
    const char *const values[] = {numbers[0].text, numbers[1].text, numbers[2].text, p->unit, p->name};
    w->line.n = 0;
    line_phrase(&w->line, phrase, "xyrun", values);
}

static const char *const *wordings_of(char sign) {
    size_t i = 0;
    while (wordings[i].sign != sign)
        i++;
    return wordings[i].phrase;
}

static bool operand_eq(struct operand a, struct operand b) {
    return a.from == b.from && a.number == b.number;
}

/* The order is open, and both orders go on with the same equation. */
static bool is_shared(const struct problem *p, const struct state *s) {
    const struct step *a = &p->plans[0].steps[s->done], *b = &p->plans[1].steps[s->done];
    return s->plan == p->n_plans && p->n_plans == 2 && a->sign == b->sign && operand_eq(a->left, b->left) &&
           operand_eq(a->right, b->right);
}

/* Can the problem be solved to the end from these results, in every order that `plan` leaves open? */
static bool is_solvable(const struct problem *p, size_t plan, int *results, size_t known) {
    bool fine = true;
    for (size_t i = 0; i < p->n_plans; i++)
        if (plan == i || plan == p->n_plans)
            fine = fine && plan_solve(&p->plans[i], results, known);
    return fine;
}

/* The ways to write equation s->done of plans[which]; they lead to `plan`, which may still be open. */
static size_t ways_of_plan(struct way *ways, const struct teacher *t, const struct problem *p, const struct state *s,
                           size_t which, size_t plan, double share) {
    const struct step *step = &p->plans[which].steps[s->done];
    int results[MAX_STEPS];
    memcpy(results, s->results, sizeof results);
    if (!plan_solve(&p->plans[which], results, s->done))
        abort(); /* no result is written that leaves the problem unsolvable */
    const int right = results[s->done];
    double possible = 0;
    bool allowed[SLIPS];
    for (size_t k = 0; k < SLIPS; k++) {
        results[s->done] = right + slips[k].by;
        allowed[k] = results[s->done] >= 0 && results[s->done] <= MAX_NUMBER && is_solvable(p, plan, results, s->done + 1);
        possible += allowed[k] ? slips[k].share : 0;
    }
    const double slip = possible > 0 ? t->slip : 0;
    size_t n = 0;
    for (size_t k = 0; k < SLIPS; k++) {
        const double chance = k == 0 ? 1 - slip : possible > 0 ? slip * slips[k].share / possible : 0;
        for (size_t w = 0; w < WORDINGS && allowed[k] && chance > 0; w++) {
            struct way *way = &ways[n++];
            way->probability = share * wording_share[w] * chance;
            way->plan = plan;
            way->result = right + slips[k].by;
            const int x = step->left.from < 0 ? step->left.number : s->results[step->left.from];
            const int y = step->right.from < 0 ? step->right.number : s->results[step->right.from];
            way_spell(way, p, wordings_of(step->sign)[w], x, y, way->result);
            line_add(&way->line, "\n", 1);
        }
    }
    return n;
}

static size_t ways_make(struct way *ways, const struct teacher *t, const struct problem *p, const struct state *s) {
    size_t n = 0;
    if (s->done == p->plans[0].n) {
        way_spell(&ways[n], p, answer_phrase, 0, 0, s->results[s->done - 1]);
        ways[n++].probability = 1;
    } else if (s->plan < p->n_plans) {
        n = ways_of_plan(ways, t, p, s, s->plan, s->plan, 1);
    } else if (is_shared(p, s)) {
        n = ways_of_plan(ways, t, p, s, 0, s->plan, 1);
    } else {
        for (size_t i = 0; i < p->n_plans; i++)
            n += ways_of_plan(ways + n, t, p, s, i, i, p->n_plans == 1 ? 1 : order_share[i]);
    }
    for (size_t i = 0; i < n; i++) {
        ways[i].n = cut(ways[i].line.text, ways[i].tokens, MAX_TOKENS);
        if (ways[i].n > MAX_TOKENS)
            abort(); /* a phrase of the tables above has become too long */
        ways[i].alive = true;
    }
    return n;
}

/* ---- drawing and writing ---- */

struct choice { /* a next token with its probability */
    struct token token;
    double probability;
};

static int by_probability(const void *a, const void *b) {
    const struct choice *x = a, *y = b;
    if (x->probability != y->probability)
        return x->probability < y->probability ? 1 : -1;
    const int c = memcmp(x->token.p, y->token.p, x->token.n < y->token.n ? x->token.n : y->token.n);
    return c != 0 ? c : (x->token.n > y->token.n) - (x->token.n < y->token.n);
}

/* The distribution of token i among the ways alive, most probable first. */
static size_t marginals(const struct way *ways, size_t n, size_t i, struct choice *choices) {
    size_t count = 0;
    double all = 0;
    for (size_t w = 0; w < n; w++) {
        if (!ways[w].alive)
            continue;
        size_t c = 0;
        while (c < count && !token_eq(choices[c].token, ways[w].tokens[i]))
            c++;
        if (c == count)
            choices[count++] = (struct choice){ways[w].tokens[i], 0};
        choices[c].probability += ways[w].probability;
        all += ways[w].probability;
    }
    for (size_t c = 0; c < count; c++)
        choices[c].probability = count == 1 ? 1 : choices[c].probability / all;
    qsort(choices, count, sizeof *choices, by_probability);
    return count;
}

static void put_logprob(FILE *f, double probability) {
    fprintf(f, "%.9g", probability < 1 ? log(probability) : 0.0);
}

/* The four parallel lists of a reply's logprobs are gathered side by side. */
struct lists {
    char *p[4];
    size_t size[4];
    FILE *f[4];
};
enum { TOKENS, LOGPROBS, TOPS, OFFSETS };
static const char *const list_names[4] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};

static bool lists_open(struct lists *l) {
    bool fine = true;
    for (size_t i = 0; i < 4; i++) {
        l->f[i] = open_memstream(&l->p[i], &l->size[i]);
        fine = fine && l->f[i] != NULL;
    }
    return fine;
}

static void put_token(struct lists *l, const struct choice *choices, size_t n, struct token drawn, size_t offset) {
    if (offset > 0 && ftell(l->f[TOKENS]) > 0)
        for (size_t i = 0; i < 4; i++)
            putc(',', l->f[i]);
    put_json_text(l->f[TOKENS], drawn.p, drawn.n);
    fprintf(l->f[OFFSETS], "%zu", offset);
    putc('{', l->f[TOPS]);
    for (size_t c = 0; c < n; c++) {
        const bool is_drawn = token_eq(choices[c].token, drawn);
        if (is_drawn)
            put_logprob(l->f[LOGPROBS], choices[c].probability);
        if (c >= TOP && !is_drawn) /* the drawn token is told even where it is not among the most probable, as the APIs do */
            continue;
        if (c > 0)
            putc(',', l->f[TOPS]);
        put_json_text(l->f[TOPS], choices[c].token.p, choices[c].token.n);
        putc(':', l->f[TOPS]);
        put_logprob(l->f[TOPS], choices[c].probability);
    }
    putc('}', l->f[TOPS]);
}

static const struct way *way_draw(const struct way *ways, size_t n, struct random *r) {
    double u = random_unit(r);
    for (size_t i = 0; i < n; i++) {
        u -= ways[i].probability;
        if (u < 0)
            return &ways[i];
    }
    return &ways[n - 1];
}

bool teacher_reply(struct teacher *t, const struct problem *p, FILE *f, size_t index, size_t offset, size_t *tokens) {
    struct state s = {.plan = p->n_plans};
    struct lists lists = {0};
    struct line text = {0};
    if (!lists_open(&lists))
        abort(); /* out of memory for a few hundred bytes */
    for (s.done = 0; s.done <= p->plans[0].n; s.done++) {
        struct way ways[MAX_WAYS];
        const size_t n = ways_make(ways, t, p, &s);
        const struct way *drawn = way_draw(ways, n, &t->random);
        for (size_t i = 0; i < drawn->n; i++) {
            struct choice choices[MAX_WAYS];
            const size_t count = marginals(ways, n, i, choices);
            put_token(&lists, choices, count, drawn->tokens[i], offset + text.n);
            line_add(&text, drawn->tokens[i].p, drawn->tokens[i].n);
            for (size_t w = 0; w < n; w++)
                ways[w].alive = ways[w].alive && token_eq(ways[w].tokens[i], drawn->tokens[i]);
        }
        *tokens += drawn->n;
        if (s.done < p->plans[0].n) {
            s.plan = drawn->plan;
            s.results[s.done] = drawn->result;
        }
    }
    fputs("{\"text\":", f);
    put_json_text(f, text.text, text.n);
    fprintf(f, ",\"index\":%zu,\"logprobs\":{", index);
    for (size_t i = 0; i < 4; i++) {
        fclose(lists.f[i]);
        fprintf(f, "%s\"%s\":[%s]", i > 0 ? "," : "", list_names[i], lists.p[i]);
        free(lists.p[i]);
    }
    fputs("},\"finish_reason\":\"stop\"}", f);
    return s.results[p->plans[0].n - 1] == p->answer;
}

void teacher_rationale(const struct problem *p, struct line *out) {
    const struct teacher sure = {.slip = 0};
    struct state s = {.plan = 0};
    out->n = 0;
    for (s.done = 0; s.done < p->plans[0].n; s.done++) {
        struct way ways[MAX_WAYS]; /* wordings come most probable first */
        ways_make(ways, &sure, p, &s);
        line_add(out, ways[0].line.text, ways[0].line.n - (s.done + 1 == p->plans[0].n ? 1 : 0));
        s.results[s.done] = ways[0].result;
    }
}
