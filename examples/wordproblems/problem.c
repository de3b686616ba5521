/* A problem: operations on a number of things that someone has, told in words.
 *
 * A kind is a word over the letters below, one letter an operation and a sentence: "S+-" starts with a number, adds, and takes
 * away. Operands are drawn until every result lies in 1..99, in both orders where two neighbouring additions or subtractions
 * can be swapped. Other kinds than the usual ones, and a second set of phrases, make problems to test on that differ from
 * those trained on. */
#include "wordproblems.h"

#include <string.h>

/* S start with a; P a groups of b; Q a more groups of b; + a more; - a less; * a times as many; / shared by a */
static const char *const kinds_of_two[] = {"S++", "S+-", "S-+", "S--", "P+", "P-", "P/", "S*+", "S*-", "S+*", "S+/", "S-/"};
static const char *const kinds_of_three[] = {"S++-", "S+-+", "S-+-", "P+-", "P-+", "PQ", "P+/", "P-/", "S*+-", "S*-+", "S+*-"};
enum { COUNT_TWO = sizeof kinds_of_two / sizeof *kinds_of_two, COUNT_THREE = sizeof kinds_of_three / sizeof *kinds_of_three };
static const double share_of_three = 0.29;

/* {N} who, {p} {P} {o} the pronoun of who (she, She, her), {M} someone else, {a} {b} numbers, {u} the things */
struct phrase {
    char op;
    const char *words;
};
static const struct phrase phrases[] = {
    {'S', "{N} has {a} {u}."},
    {'S', "{N} starts the day with {a} {u}."},
    {'S', "In the morning {N} has {a} {u}."},
    {'P', "{N} has {a} boxes with {b} {u} in each box."},
    {'P', "{N} buys {a} bags of {b} {u} each."},
    {'P', "On each of {a} shelves {N} keeps {b} {u}."},
    {'Q', "{P} also has {a} bags with {b} {u} each."},
    {'Q', "Then {p} buys {a} boxes of {b} {u}."},
    {'+', "{P} buys {a} more."},
    {'+', "Then {p} finds {a} more {u}."},
    {'+', "{M} gives {o} {a} {u}."},
    {'+', "After lunch {p} gets {a} more {u}."},
    {'-', "{P} gives {a} of them to {M}."},
    {'-', "Then {p} loses {a} {u}."},
    {'-', "{P} sells {a} {u}."},
    {'-', "After lunch {p} leaves {a} of them at school."},
    {'*', "{M} has {a} times as many."}, /* the story goes on with {M} */
    {'*', "A week later {p} has {a} times as many."},
    {'*', "{P} works until {p} has {a} times as many."},
    {'/', "{P} shares all of them equally among {a} friends. How many {u} does each friend get?"},
    {'/', "{P} puts all of them equally into {a} jars. How many {u} are in each jar?"},
    {'?', "How many {u} does {N} have now?"},
    {'?', "How many {u} does {N} have in the end?"},
    {'?', "How many {u} are there now?"},
};
enum { PHRASES = sizeof phrases / sizeof *phrases };

/* The same in other words. They are not in the vocabulary unless --words adds them. */
static const struct phrase other_phrases[] = {
    {'S', "There are {a} {u} on the table and {N} owns them."},
    {'S', "{N} owns {a} {u}."},
    {'P', "{N} owns {a} boxes and puts {b} {u} into each."},
    {'P', "There are {a} boxes on the table. {N} counts {b} {u} in each of them."},
    {'Q', "{M} hands {o} {a} more boxes of {b} {u} each."},
    {'Q', "Next {p} takes another {a} boxes with {b} {u} in each box."},
    {'+', "{M} hands {o} another {a} {u}."},
    {'+', "Next {p} picks up {a} {u}."},
    {'+', "{P} takes {a} {u} from {M}."},
    {'-', "{M} takes {a} of them."},
    {'-', "Next {p} drops {a} {u}."},
    {'-', "{P} hands {a} {u} to {M}."},
    {'*', "{M} owns {a} times that number."},
    {'*', "Next {p} owns {a} times that number."},
    {'/', "{P} hands them to {a} friends equally. What is the number of {u} for each friend?"},
    {'/', "{P} puts them equally into {a} boxes. What is the number of {u} in each box?"},
    {'?', "What is the number of {u} that {N} owns?"},
    {'?', "Count the {u} that {N} owns now."},
};
enum { OTHER_PHRASES = sizeof other_phrases / sizeof *other_phrases };

static const char *const names[] = {"Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Irene", "Jack",
                                    "Kate", "Leo", "Maria", "Noah",  "Olga", "Paul",  "Rosa",  "Sam",   "Tina",  "Tom"};
static const bool female[] = {true, false, true, false, true, false, true, false, true, false,
                              true, false, true, false, true, false, true, false, true, false};
static const char *const units[] = {"apples", "balls",   "beads",    "books",   "buttons", "candles", "cards",
                                    "coins",  "cookies", "eggs",     "flowers", "marbles", "pears",   "pens",
                                    "shells", "stamps",  "stickers", "stones",  "tickets", "toys"};
enum { NAMES = sizeof names / sizeof *names, UNITS = sizeof units / sizeof *units };
static const char *const pronouns[] = {"he", "He", "him", "she", "She", "her"};
enum { PRONOUNS = sizeof pronouns / sizeof *pronouns };

const char *problem_phrase(size_t i) {
    if (i < PHRASES)
        return phrases[i].words;
    i -= PHRASES;
    if (i < NAMES)
        return names[i];
    i -= NAMES;
    if (i < UNITS)
        return units[i];
    i -= UNITS;
    return i < PRONOUNS ? pronouns[i] : NULL;
}

struct operation {
    char op;
    int a, b;
};

static struct operation operation_draw(char op, struct random *r) {
    struct operation o = {op, 0, 0};
    switch (op) {
    case 'S':
        o.a = random_between(r, 2, 30);
        break;
    case 'P':
    case 'Q':
        o.a = random_between(r, 2, 9);
        o.b = random_between(r, 2, 9);
        break;
    case '+':
    case '-':
        o.a = random_between(r, 2, 12);
        break;
    default:
        o.a = random_between(r, 2, 5);
    }
    return o;
}

static struct operand number(int v) {
    return (struct operand){-1, v};
}

/* The equations in the order of the operations. */
static void plan_make(struct plan *plan, const struct operation *ops, size_t n) {
    struct operand value = number(ops[0].a);
    plan->n = 0;
    for (size_t i = 0; i < n; i++) {
        const struct operation o = ops[i];
        if (o.op == 'S')
            continue;
        const bool group = o.op == 'P' || o.op == 'Q';
        const struct operand before = value;
        const struct operand result = {(int)plan->n, 0};
        plan->steps[plan->n++] = group ? (struct step){'*', number(o.a), number(o.b)} : (struct step){o.op, value, number(o.a)};
        value = result;
        if (o.op == 'Q') {
            value.from = (int)plan->n;
            plan->steps[plan->n++] = (struct step){'+', before, result};
        }
    }
}

bool plan_solve(const struct plan *plan, int results[MAX_STEPS], size_t known) {
    for (size_t i = known; i < plan->n; i++) {
        const struct step *s = &plan->steps[i];
        const int x = s->left.from < 0 ? s->left.number : results[s->left.from];
        const int y = s->right.from < 0 ? s->right.number : results[s->right.from];
        if (s->sign == '/' && (y == 0 || x % y != 0))
            return false;
        results[i] = s->sign == '+' ? x + y : s->sign == '-' ? x - y : s->sign == '*' ? x * y : x / y;
        if (results[i] < 0 || results[i] > MAX_NUMBER)
            return false;
    }
    return true;
}

/* The other order, if there is one: the first two neighbours among + and - change places, and so do the products of "PQ".
 * Equal neighbours would give the same order again. Returns the index of the first of the two, 0 if there is none. */
static size_t swappable(const struct operation *ops, size_t n) {
    for (size_t i = 1; i + 1 < n; i++) {
        const bool first = ops[i].op == '+' || ops[i].op == '-', second = ops[i + 1].op == '+' || ops[i + 1].op == '-';
        if (first && second)
            return ops[i].op == ops[i + 1].op && ops[i].a == ops[i + 1].a ? 0 : i;
    }
    return 0;
}

static void plans_make(struct problem *p, const struct operation *ops, size_t n) {
    plan_make(&p->plans[0], ops, n);
    p->n_plans = 1;
    struct plan *other = &p->plans[1];
    const size_t i = swappable(ops, n);
    if (i > 0) {
        struct operation swapped[MAX_OPS];
        memcpy(swapped, ops, n * sizeof *ops);
        swapped[i] = ops[i + 1];
        swapped[i + 1] = ops[i];
        plan_make(other, swapped, n);
        p->n_plans = 2;
    } else if (n == 2 && ops[1].op == 'Q' && (ops[0].a != ops[1].a || ops[0].b != ops[1].b)) {
        *other = p->plans[0];
        other->steps[0] = p->plans[0].steps[1];
        other->steps[1] = p->plans[0].steps[0];
        other->steps[2].left.from = 1; /* the sum stays in the order of the question */
        other->steps[2].right.from = 0;
        p->n_plans = 2;
    }
}

/* The arithmetic of a problem as a formula, the smaller of two swappable operations first: 3 boxes of 4 and "4 times as many"
 * as 3 are the same. */
static void key_make(struct problem *p, const struct operation *ops, size_t n) {
    struct operation sorted[MAX_OPS];
    memcpy(sorted, ops, n * sizeof *ops);
    const size_t i = swappable(ops, n);
    const bool products = n == 2 && ops[1].op == 'Q';
    if (i > 0 && (ops[i + 1].op < ops[i].op || (ops[i + 1].op == ops[i].op && ops[i + 1].a < ops[i].a))) {
        sorted[i] = ops[i + 1];
        sorted[i + 1] = ops[i];
    } else if (products && (ops[1].a < ops[0].a || (ops[1].a == ops[0].a && ops[1].b < ops[0].b))) {
        sorted[0] = (struct operation){'P', ops[1].a, ops[1].b};
        sorted[1] = (struct operation){'Q', ops[0].a, ops[0].b};
    }
    size_t used = 0;
    for (size_t k = 0; k < n; k++) {
        const struct operation o = sorted[k];
        char *to = p->key + used;
        const size_t room = sizeof p->key - used;
        const int w = o.op == 'S'   ? snprintf(to, room, "%d", o.a)
                      : o.op == 'P' ? snprintf(to, room, "%d*%d", o.a, o.b)
                      : o.op == 'Q' ? snprintf(to, room, "+%d*%d", o.a, o.b)
                                    : snprintf(to, room, "%c%d", o.op, o.a);
        used += (size_t)w;
    }
}

static const char *phrase_draw(char op, bool reworded, struct random *r) {
    const struct phrase *list = reworded ? other_phrases : phrases;
    const size_t count = reworded ? OTHER_PHRASES : PHRASES;
    size_t first = 0, n = 0;
    while (list[first].op != op)
        first++;
    while (first + n < count && list[first + n].op == op)
        n++;
    return list[first + (size_t)random_between(r, 0, (int)n - 1)].words;
}

static void tell(struct problem *p, const struct operation *ops, size_t n, bool reworded, struct random *r) {
    int who = random_between(r, 0, NAMES - 1);
    p->unit = units[random_between(r, 0, UNITS - 1)];
    p->question.n = 0;
    bool asked = false;
    for (size_t i = 0; i <= n && !asked; i++) {
        const char op = i < n ? ops[i].op : '?';
        const char *phrase = phrase_draw(op, reworded, r);
        const int other = (who + random_between(r, 1, NAMES - 1)) % NAMES;
        struct line a = {0}, b = {0};
        line_number(&a, i < n ? ops[i].a : 0);
        line_number(&b, i < n ? ops[i].b : 0);
        const char *const *pronoun = pronouns + (female[who] ? 3 : 0);
        const char *const values[] = {names[who], pronoun[0], pronoun[1], pronoun[2], names[other], a.text, b.text, p->unit};
        if (i > 0)
            line_add(&p->question, " ", 1);
        line_phrase(&p->question, phrase, "NpPoMabu", values);
        if (op == '*' && strncmp(phrase, "{M}", 3) == 0)
            who = other;
        asked = op == '/';
    }
    p->name = names[who];
}

/* A story in which something is left at every step, told in either order. */
static bool is_story(const struct problem *p, int results[MAX_STEPS]) {
    for (size_t i = p->n_plans; i-- > 0;) { /* the order of the question last: its results stay */
        if (!plan_solve(&p->plans[i], results, 0))
            return false;
        for (size_t k = 0; k < p->plans[i].n; k++)
            if (results[k] == 0)
                return false;
    }
    return true;
}

bool kind_is_known(const char *kind) {
    const size_t n = strlen(kind);
    size_t steps = 0;
    for (size_t i = 0; i < n; i++) {
        const char *place = i == 0 ? "SP" : i == 1 && kind[0] == 'P' ? "Q+-*/" : "+-*/"; /* a division ends the story */
        if (strchr(place, kind[i]) == NULL || (kind[i] == '/' && i + 1 < n))
            return false;
        steps += kind[i] == 'S' ? 0 : kind[i] == 'Q' ? 2 : 1;
    }
    return n <= MAX_OPS && steps >= 1 && steps <= MAX_STEPS;
}

static const char *kind_draw(const struct style *style, struct random *r) {
    if (style->n_kinds > 0)
        return style->kinds[random_between(r, 0, (int)style->n_kinds - 1)];
    return random_unit(r) < share_of_three ? kinds_of_three[random_between(r, 0, COUNT_THREE - 1)]
                                           : kinds_of_two[random_between(r, 0, COUNT_TWO - 1)];
}

bool problem_draw(struct problem *p, const struct style *style, struct random *r) {
    const char *kind = kind_draw(style, r);
    const size_t n = strlen(kind);
    struct operation ops[MAX_OPS];
    int results[MAX_STEPS];
    int patience = 1000000;
    do {
        for (size_t i = 0; i < n; i++)
            ops[i] = operation_draw(kind[i], r);
        plans_make(p, ops, n);
    } while (!is_story(p, results) && --patience > 0);
    p->answer = results[p->plans[0].n - 1];
    key_make(p, ops, n);
    tell(p, ops, n, style->reworded, r);
    return patience > 0;
}
