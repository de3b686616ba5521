/* Which tokens are the completion? An endpoint may repeat the end of the prompt as its first tokens (text_offset tells, where
 * the prompt is known), and may list an end mark that the text does not have. The text decides: it must be the join of the
 * tokens that stay. Where a token ends inside a character, servers print U+FFFD in the text; then the bytes of the tokens are
 * the truth, and the text is taken from them. Linear in the length of the reply. */
#include "base/ctx.h"
#include "teacher/bytes.h"
#include "teacher/reply.h"

#include <string.h>

enum { MAX_ECHO = 8 }; /* leading tokens tried where only a lossy comparison can decide */

struct settle {
    rsd_reply *r;
    struct str join;
    size_t first, end; /* tokens that stay */
};

static struct text token_bytes(const rsd_reply *r, size_t i) {
    return (struct text){str_z(&r->bytes) + r->tokens[i].at, r->tokens[i].n};
}

/* Index of the first token that starts at byte `at` of the join, or n_tokens + 1 if none does; the end counts as token
 * n_tokens. */
static size_t token_at(const rsd_reply *r, size_t at) {
    size_t sum = 0, i = 0;
    while (i < r->n_tokens && sum < at)
        sum += r->tokens[i++].n;
    return sum == at ? i : r->n_tokens + 1;
}

/* Leading tokens that lie before the end of the prompt. */
static size_t echo_by_offset(const rsd_reply *r, int64_t prompt_points) {
    size_t d = 0;
    while (d < r->n_tokens && r->tokens[d].offset >= 0 && r->tokens[d].offset < prompt_points)
        d++;
    return d;
}

/* The text is the end of the join: all tokens before it are echo. Empty tokens at the seam belong to the side that their
 * offset says. */
static bool exact_suffix(struct settle *s) {
    const rsd_reply *r = s->r;
    size_t text = r->text.n;
    if (s->join.n < text || (text > 0 && memcmp(s->join.p + (s->join.n - text), r->text.p, text) != 0))
        return false;
    size_t d = token_at(r, s->join.n - text);
    if (d > r->n_tokens)
        return false;
    if (r->n_tokens > 0 && r->tokens[r->n_tokens - 1].offset >= 0) {
        size_t last = r->n_tokens - 1;
        int64_t seam = r->tokens[last].offset + (int64_t)bytes_points(token_bytes(r, last)) -
                       (int64_t)bytes_points((struct text){str_z(&r->text), text});
        while (d < last && r->tokens[d].n == 0 && r->tokens[d].offset >= 0 && r->tokens[d].offset < seam)
            d++;
    }
    s->first = d;
    s->end = r->n_tokens;
    return true;
}

/* Compares join[at..] with the text, where a run of bytes that are no UTF-8 may stand as one or more U+FFFD, at most one a
 * byte. True if the text is used up; *used: bytes of the join that it took. */
static bool lossy_equal(const struct settle *s, size_t at, size_t *used) {
    const char *p = s->join.p + at, *t = str_z(&s->r->text);
    size_t n = s->join.n - at, m = s->r->text.n, i = 0, j = 0;
    while (j < m) {
        size_t step = i < n ? utf8_sequence(p + i, n - i) : 0;
        if (step > 0) {
            if (m - j < step || memcmp(p + i, t + j, step) != 0)
                return false;
            i += step;
            j += step;
            continue;
        }
        size_t bad = 0, marks = 0;
        while (i < n && !utf8_sequence(p + i, n - i)) {
            i++;
            bad++;
        }
        while (marks < bad && m - j >= 3 && memcmp(t + j, "\xEF\xBF\xBD", 3) == 0) {
            j += 3;
            marks++;
        }
        if (marks == 0)
            return false;
    }
    *used = i;
    return true;
}

/* Tokens from `first` on cover the text, and what follows is an end mark or half a character that the text leaves out. */
static bool covers(struct settle *s, size_t first) {
    const rsd_reply *r = s->r;
    size_t at = 0, used = 0;
    for (size_t i = 0; i < first; i++)
        at += r->tokens[i].n;
    if (!lossy_equal(s, at, &used))
        return false;
    size_t end = token_at(r, at + used);
    if (end > r->n_tokens)
        return false;
    bool mark = text_is((struct text){str_z(&r->finish), r->finish.n}, "stop"), readable = false;
    for (size_t i = at + used; i < s->join.n && !readable; i++)
        readable = utf8_sequence(s->join.p + i, s->join.n - i) > 0;
    if (readable && !mark)
        return false;
    while (end < r->n_tokens && r->tokens[end].n == 0)
        end++;
    s->first = first;
    s->end = end > first ? end : first;
    return true;
}

static int disagree(const struct settle *s, struct err *e) {
    const rsd_reply *r = s->r;
    size_t i = 0, n = s->join.n < r->text.n ? s->join.n : r->text.n;
    while (i < n && s->join.p[i] == r->text.p[i])
        i++;
    if (s->join.n > 9 && memcmp(s->join.p, "token_id:", 9) == 0)
        return err_set(e, ERR_FORMAT,
                       "the tokens are numbers (\"token_id:..\"): switch the server's return_tokens_as_token_ids off");
    if (i == s->join.n && text_is((struct text){str_z(&r->finish), r->finish.n}, "stop"))
        return err_set(
            e, ERR_FORMAT,
            "the tokens do not join to the text: they end %zu bytes before it does. llama.cpp's server leaves out as many "
            "tokens as the stop string has by itself: use one that is a single token, or none",
            r->text.n - i);
    return err_set(e, ERR_FORMAT, "the tokens do not join to the text: %zu and %zu bytes, they part at byte %zu", s->join.n,
                   r->text.n, i);
}

static int keep(struct settle *s, struct err *e) {
    rsd_reply *r = s->r;
    size_t begin = 0, n = 0;
    for (size_t i = 0; i < s->first; i++)
        begin += r->tokens[i].n;
    for (size_t i = s->first; i < s->end; i++)
        n += r->tokens[i].n;
    if (s->first > 0)
        memmove(r->tokens, r->tokens + s->first, (s->end - s->first) * sizeof *r->tokens);
    r->n_tokens = s->end - s->first;
    return reply_set(&r->text, (struct text){str_z(&s->join) + begin, n}, e);
}

int reply_settle(rsd_reply *r, int64_t prompt_points, struct err *e) {
    struct settle s = {.r = r};
    int rc = 0;
    if (r->n_tokens == 0)
        return 0;
    str_init(&s.join, &r->ctx->alloc);
    for (size_t i = 0; i < r->n_tokens; i++) {
        struct text t = token_bytes(r, i);
        str_add(&s.join, t.p, t.n);
    }
    if ((rc = str_status(&s.join, e)))
        goto done;
    bool found = false;
    if (prompt_points == PROMPT_NONE) {
        found = covers(&s, 0) && s.end == r->n_tokens;
    } else {
        size_t echo = prompt_points > 0 ? echo_by_offset(r, prompt_points) : 0;
        found = (echo > 0 && covers(&s, echo)) || exact_suffix(&s);
        for (size_t d = 0; !found && d <= r->n_tokens && d <= MAX_ECHO; d++)
            found = covers(&s, d);
    }
    bool mended = false;
    if (!found && prompt_points != PROMPT_NONE)
        rc = reply_mend(r, &mended, e);
    if (!rc && !mended)
        rc = found ? keep(&s, e) : disagree(&s, e);
done:
    str_free(&s.join);
    return rc;
}
