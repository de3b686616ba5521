/* Tokens whose bytes were lost. A server that decodes every token by itself prints half a character as U+FFFD, and its "bytes"
 * are those of U+FFFD; only the text still has the character. Which token held which half cannot be known, so tokens that
 * share characters become one: its bytes are the text's, its log-probability is the sum of theirs (the product of the
 * probabilities, which is exact), and it has no alternatives. Everything else must agree to the byte. Linear in the length of
 * the reply. */
#include "teacher/bytes.h"
#include "teacher/reply.h"

#include <string.h>

static const char mark[] = "\xEF\xBF\xBD";
enum { MARK = 3, AHEAD = 16 /* bytes behind a run of marks that must agree */ };

static struct text token_bytes(const rsd_reply *r, size_t i) {
    return (struct text){str_z(&r->bytes) + r->tokens[i].at, r->tokens[i].n};
}

static bool begins(struct text t, const char *p, size_t n) {
    return t.n >= n && (n == 0 || memcmp(t.p, p, n) == 0);
}

static struct text behind(struct text t, size_t n) {
    return (struct text){t.p + n, t.n - n};
}

static bool has_mark(struct text t) {
    for (; t.n >= MARK; t = behind(t, 1))
        if (begins(t, mark, MARK))
            return true;
    return false;
}

/* Characters of the text that a run of marks stands for: at least one, at most one a mark, none of them ASCII, the fewest
 * behind which `next` follows. 0: none. */
static size_t lost(struct text text, size_t marks, struct text next) {
    size_t used = 0;
    next.n = next.n < AHEAD ? next.n : AHEAD;
    for (size_t c = 0; c < marks; c++) {
        size_t step = utf8_sequence(text.p + used, text.n - used);
        if (step < 2)
            return 0;
        used += step;
        if (next.n > 0 ? begins(behind(text, used), next.p, next.n) : used == text.n)
            return used;
    }
    return 0;
}

/* Bytes of the text that `run` stands for, where `next` is what follows it; false if it cannot. */
static bool match(struct text run, struct text text, struct text next, size_t *used) {
    *used = 0;
    while (run.n > 0) {
        if (!begins(run, mark, MARK)) {
            if (text.n == 0 || *run.p != *text.p)
                return false;
            run = behind(run, 1);
            text = behind(text, 1);
            ++*used;
            continue;
        }
        size_t marks = 0;
        for (; begins(run, mark, MARK); marks++)
            run = behind(run, MARK);
        size_t n = lost(text, marks, run.n > 0 ? run : next);
        if (n == 0)
            return false;
        text = behind(text, n);
        *used += n;
    }
    return true;
}

/* Tokens from..to-1 become one that is `bytes`, at place `at`. */
static int merge(rsd_reply *r, size_t from, size_t to, struct text bytes, size_t at, struct err *e) {
    struct reply_token t = r->tokens[from];
    for (size_t i = from + 1; i < to; i++)
        t.logprob += r->tokens[i].logprob; /* NaN stays NaN; a stand-in for minus infinity stays below its bound */
    if (to > from + 1)
        t.tops = 0;
    t.at = r->bytes.n;
    t.n = bytes.n;
    str_add(&r->bytes, bytes.p, bytes.n);
    r->tokens[at] = t;
    return str_status(&r->bytes, e);
}

int reply_mend(rsd_reply *r, bool *mended, struct err *e) {
    struct text text = {str_z(&r->text), r->text.n};
    struct str run;
    size_t kept = 0, i = 0;
    int rc = 0;
    *mended = false;
    str_init(&run, r->text.a);
    while (i < r->n_tokens && (text.n > 0 || r->tokens[i].n == 0)) {
        struct text t = token_bytes(r, i);
        if (begins(text, t.p, t.n) && !(has_mark(t) && text.n == 0)) {
            text = behind(text, t.n);
            r->tokens[kept++] = r->tokens[i++];
            continue;
        }
        size_t end = i, used = 0;
        str_clear(&run);
        for (; end < r->n_tokens && (end == i || r->tokens[end].n == 0 || has_mark(token_bytes(r, end))); end++)
            str_add(&run, token_bytes(r, end).p, r->tokens[end].n);
        if ((rc = str_status(&run, e)))
            goto done;
        struct text next = end < r->n_tokens ? token_bytes(r, end) : (struct text){"", 0};
        if (!has_mark((struct text){str_z(&run), run.n}) || !match((struct text){str_z(&run), run.n}, text, next, &used))
            goto done;
        if ((rc = merge(r, i, end, (struct text){text.p, used}, kept++, e)))
            goto done;
        text = behind(text, used);
        i = end;
    }
    /* An end mark behind the text is no part of it. */
    if (text.n > 0 || (i < r->n_tokens && !text_is((struct text){str_z(&r->finish), r->finish.n}, "stop")))
        goto done;
    r->n_tokens = kept;
    *mended = true;
done:
    str_free(&run);
    return rc;
}
