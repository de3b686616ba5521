/* Final answers. The reference compared the last `\d*\.?\d+` of prediction and gold, which reads 2,000 as 0, loses signs, and
 * calls a reply right when the gold answer has no number; here the gold answer decides how the two are compared, and an answer
 * that cannot be read is wrong. */
#include "text/answer.h"

#include <string.h>

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_word(char c) { /* bytes of non-ASCII characters count as letters */
    return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') || (unsigned char)c >= 0x80;
}

static struct text strip(struct text t) {
    while (t.n && is_blank(*t.p)) {
        t.p++;
        t.n--;
    }
    while (t.n && is_blank(t.p[t.n - 1]))
        t.n--;
    return t;
}

static bool starts(struct text t, size_t i, const char *what, bool any_case) {
    size_t n = strlen(what);
    if (t.n - i < n)
        return false;
    for (size_t k = 0; k < n; k++)
        if ((any_case ? lower(t.p[i + k]) : t.p[i + k]) != what[k])
            return false;
    return true;
}

static struct text text_from(struct text t, size_t i) {
    return (struct text){t.p + i, t.n - i};
}

static size_t line_end(struct text t, size_t i) {
    while (i < t.n && t.p[i] != '\n')
        i++;
    return i;
}

/* The place behind the last marker, or false. */
static bool find_marker(struct text t, enum answer_parser parser, size_t *after) {
    static const char *const markers[] = {"answer is", "answer:", "####"};
    bool found = false;
    for (size_t i = 0; i < t.n; i++) {
        if (parser == ANSWER_STRICT) {
            if (t.p[i] == 'T' && starts(t, i, "The answer is", false)) {
                *after = i + 13;
                found = true;
            }
            continue;
        }
        for (size_t k = 0; k < 3; k++) {
            if (starts(t, i, markers[k], true)) {
                *after = i + strlen(markers[k]);
                found = true;
            }
        }
    }
    return found;
}

/* Blanks and what surrounds an answer: a colon before it, a full stop behind it (but not the one of "p.m."). */
static struct text trim(struct text t) {
    t = strip(t);
    if (t.n && *t.p == ':')
        t = strip(text_from(t, 1));
    if (t.n && t.p[t.n - 1] == '.' && !memchr(t.p, '.', t.n - 1))
        t.n--;
    return strip(t);
}

/* The first line of t with something on it. */
static struct text first_line(struct text t) {
    for (size_t i = 0; i < t.n; i++) {
        size_t end = line_end(t, i);
        struct text line = trim((struct text){t.p + i, end - i});
        if (line.n)
            return line;
        i = end;
    }
    return (struct text){0};
}

static struct text last_line(struct text t) {
    t = strip(t);
    size_t i = t.n;
    while (i && t.p[i - 1] != '\n')
        i--;
    return trim(text_from(t, i));
}

bool answer_find(struct text reply, enum answer_parser parser, struct text *out) {
    size_t after = 0;
    struct text line = {0};
    if (find_marker(reply, parser, &after))
        line = first_line(text_from(reply, after));
    else if (parser == ANSWER_LENIENT)
        line = last_line(reply);
    if (line.n)
        *out = line;
    return line.n > 0;
}

static bool last_number(struct text t, double *value) {
    struct number n;
    bool found = false;
    for (size_t pos = 0; number_next(t, &pos, &n); found = true)
        *value = n.value;
    return found;
}

/* Sentences end with . ! ? and a blank. */
static bool first_sentence_number(struct text t, double *value) {
    for (size_t start = 0, i = 0; i <= t.n; i++) {
        bool end = i == t.n || (is_blank(t.p[i]) && i && memchr(".!?", t.p[i - 1], 3));
        if (!end)
            continue;
        if (last_number((struct text){t.p + start, i - start}, value))
            return true;
        start = i;
    }
    return false;
}

bool answer_number(struct text reply, enum answer_parser parser, double *value) {
    size_t after = 0;
    double v = 0;
    bool found = false;
    if (find_marker(reply, parser, &after)) {
        struct text line = first_line(text_from(reply, after));
        found = parser == ANSWER_STRICT ? last_number(line, &v) : first_sentence_number(line, &v);
    } else if (parser == ANSWER_LENIENT) {
        found = last_number(reply, &v);
    }
    if (found)
        *value = v;
    return found;
}

/* Letters and digits in lower case, runs of anything else as one blank; dots and apostrophes vanish (p.m. = pm), but for
 * decimal points; a comma between digits vanishes if it separates thousands, a colon, slash or decimal point between digits
 * stays, and so does a sign. */
struct plain {
    struct text t;
    size_t i;
    char held; /* a character to hand out after a blank */
    bool any;
};

static bool between_digits(struct text t, size_t i) {
    return i && i + 1 < t.n && is_digit(t.p[i - 1]) && is_digit(t.p[i + 1]);
}

static bool vanishes(struct text t, size_t i) {
    char c = t.p[i];
    if (c == '\'')
        return true;
    if (c == '.')
        return !between_digits(t, i);
    return c == ',' && between_digits(t, i) && i + 3 < t.n && is_digit(t.p[i + 2]) && is_digit(t.p[i + 3]) &&
           !(i + 4 < t.n && is_digit(t.p[i + 4]));
}

static bool stays(struct text t, size_t i) {
    char c = t.p[i];
    if (is_word(c))
        return true;
    if ((c == ':' || c == '/' || c == '.') && between_digits(t, i))
        return true;
    return c == '-' && i + 1 < t.n && is_digit(t.p[i + 1]) && !(i && is_word(t.p[i - 1]));
}

/* The next character, or -1 at the end. */
static int plain_next(struct plain *s) {
    if (s->held) {
        char c = s->held;
        s->held = 0;
        return (unsigned char)c;
    }
    bool gap = false;
    for (; s->i < s->t.n; s->i++) {
        if (vanishes(s->t, s->i))
            continue;
        if (!stays(s->t, s->i)) {
            gap = true;
            continue;
        }
        char c = lower(s->t.p[s->i++]);
        bool blank = gap && s->any;
        s->any = true;
        if (!blank)
            return (unsigned char)c;
        s->held = c;
        return ' ';
    }
    return -1;
}

/* Character for character but for blanks: answers made of signs only ("] ) >"). */
static bool same_signs(struct text a, struct text b) {
    size_t i = 0, k = 0;
    for (;; i++, k++) {
        while (i < a.n && is_blank(a.p[i]))
            i++;
        while (k < b.n && is_blank(b.p[k]))
            k++;
        if (i == a.n || k == b.n)
            return i == a.n && k == b.n;
        if (a.p[i] != b.p[k])
            return false;
    }
}

static bool same_plain(struct text a, struct text b) {
    struct plain x = {.t = a}, y = {.t = b};
    int c;
    do {
        c = plain_next(&x);
        if (c != plain_next(&y))
            return false;
    } while (c >= 0);
    return x.any || same_signs(a, b);
}

/* "5; 15; 20": several numbers and nothing else. */
static bool is_number_list(struct text t) {
    size_t items = 0;
    for (size_t i = 0; i <= t.n; items++) {
        const char *semicolon = i < t.n ? memchr(t.p + i, ';', t.n - i) : NULL;
        size_t end = semicolon ? (size_t)(semicolon - t.p) : t.n;
        double v;
        if (!number_whole((struct text){t.p + i, end - i}, &v))
            return false;
        i = end + 1;
    }
    return items > 1;
}

static bool same_numbers(struct text a, struct text b) {
    size_t i = 0, k = 0;
    struct number x, y;
    for (;;) {
        bool have_x = number_next(a, &i, &x), have_y = number_next(b, &k, &y);
        if (!have_x || !have_y)
            return have_x == have_y;
        if (x.value < y.value || x.value > y.value)
            return false;
    }
}

struct text answer_gold(struct text gold) {
    size_t from = 0;
    for (size_t i = 0; i + 4 <= gold.n; i++)
        if (!memcmp(gold.p + i, "####", 4))
            from = i + 4;
    return strip(text_from(gold, from));
}

bool answer_equal(struct text a, struct text gold) {
    double x = 0, y = 0;
    gold = answer_gold(gold);
    if (!gold.n || !a.n)
        return false;
    if (number_whole(gold, &y))
        return number_whole(a, &x) && !(x < y) && !(x > y);
    return is_number_list(gold) ? same_numbers(a, gold) : same_plain(a, gold);
}

/* The letter of the option that a text names first: "(B) 3 dogs", "B) 3 dogs", "B"; 0 if it names none. */
static char option_of(struct text t) {
    for (size_t i = 0; i + 2 < t.n; i++)
        if (t.p[i] == '(' && is_word(t.p[i + 1]) && t.p[i + 2] == ')')
            return lower(t.p[i + 1]);
    bool alone = t.n == 1 || (t.n > 1 && memchr(").:", t.p[1], 3));
    return alone && is_word(*t.p) ? lower(*t.p) : 0;
}

static bool is_option(struct text gold) {
    return gold.n == 3 && gold.p[0] == '(' && gold.p[2] == ')' && is_word(gold.p[1]);
}

static struct text first_clause(struct text t) {
    for (size_t i = 0; i < t.n; i++)
        if (memchr(",;!?", t.p[i], 4) || (t.p[i] == '.' && (i + 1 == t.n || is_blank(t.p[i + 1]))))
            return (struct text){t.p, i};
    return t;
}

struct answer answer_read(struct text reply, struct text gold, enum answer_parser parser) {
    struct answer a = {0};
    double any = 0;
    gold = answer_gold(gold);
    if (number_whole(gold, &any)) {
        if (answer_number(reply, parser, &a.value))
            a.kind = ANSWER_NUMBER;
    } else if (answer_find(reply, parser, &a.text)) {
        if (!is_number_list(gold))
            a.kind = ANSWER_TEXT;
        else if (last_number(a.text, &any))
            a.kind = ANSWER_LIST;
        if (a.kind == ANSWER_TEXT && parser == ANSWER_LENIENT && is_option(gold))
            a.option = option_of(a.text);
    }
    return a;
}

bool answer_same(struct answer a, struct answer b, enum answer_parser parser) {
    if (a.kind != b.kind || a.kind == ANSWER_NONE)
        return false;
    if (a.kind == ANSWER_NUMBER)
        return !(a.value < b.value) && !(a.value > b.value);
    if (a.kind == ANSWER_LIST)
        return same_numbers(a.text, b.text);
    if (a.option || b.option)
        return a.option == b.option;
    return same_plain(a.text, b.text) || (parser == ANSWER_LENIENT && same_plain(first_clause(a.text), first_clause(b.text)));
}

bool answer_correct(struct text reply, struct text gold, enum answer_parser parser) {
    gold = answer_gold(gold);
    if (!gold.n)
        return false;
    struct answer a = answer_read(reply, gold, parser);
    if (a.kind == ANSWER_NUMBER) {
        double y = 0;
        return number_whole(gold, &y) && !(a.value < y) && !(a.value > y);
    }
    if (a.kind == ANSWER_LIST)
        return same_numbers(a.text, gold);
    if (a.kind == ANSWER_NONE)
        return false;
    if (same_plain(a.text, gold) || (a.option && a.option == lower(gold.p[1])))
        return true;
    return parser == ANSWER_LENIENT && same_plain(first_clause(a.text), gold);
}

static bool find_text(struct text t, struct text what, size_t *at) {
    for (size_t i = 0; what.n && i + what.n <= t.n; i++)
        if (!memcmp(t.p + i, what.p, what.n)) {
            *at = i;
            return true;
        }
    return false;
}

bool answer_reference(struct text reply, struct text gold, bool substring, bool reasoning) {
    static const char marker[] = "the answer is";
    double x = 0, y = 0;
    size_t at = 0;
    if (!substring)
        return number_last_digits(reply, &x) && (!number_last_digits(gold, &y) || (!(x < y) && !(x > y)));
    if (reasoning) {
        if (!find_text(reply, text_of(marker), &at))
            return false;
        reply = text_from(reply, at + sizeof marker - 1);
        if (find_text(reply, text_of(marker), &at))
            reply.n = at;
    }
    return find_text(reply, gold, &at);
}

struct text answer_cut(struct text reply) {
    for (size_t i = 0; i < reply.n; i++)
        if (reply.p[i] == 'a' && starts(reply, i, "answer is", false))
            return (struct text){reply.p, line_end(reply, i)};
    return reply;
}
