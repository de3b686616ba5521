/* Stores looked at from outside: checked, compacted, counted. One walk over the lines serves all three: it knows which lines
 * are rows, which are second rows and which are neither, and hands out the rows. */
#include "base/ctx.h"
#include "core/file.h"
#include "core/gzip.h"
#include "core/map.h"
#include "reasondistill/teacher.h"
#include "teacher/body.h"
#include "teacher/reply_file.h"
#include "text/answer.h"

#include <string.h>

/* An answer that replies to one question state. */
struct vote {
    struct str answer;
    bool is_number;
    double number;
    uint64_t votes;
    int correct;
};

struct tally {
    struct str id, question;
    uint64_t total, labelled, kept;
    struct vote *votes;
    size_t n_votes, cap_votes;
};

struct walk {
    rsd_ctx *ctx;
    const char *path;
    struct lines lines;
    bool open;
    struct map ids, rows; /* id -> tally; (sample, id) -> 1 */
    struct tally *tallies;
    size_t n_tallies, cap_tallies;
    struct str key;
    rsd_store_report report;
    struct err first; /* what is wrong first */
};

static int walk_open(struct walk *w, rsd_ctx *ctx, const char *path, struct err *e) {
    *w = (struct walk){.ctx = ctx, .path = path};
    map_init(&w->ids, &ctx->alloc);
    map_init(&w->rows, &ctx->alloc);
    str_init(&w->key, &ctx->alloc);
    int rc = lines_open(&w->lines, &ctx->alloc, path, REPLY_LINE_MAX, e);
    w->open = rc == 0;
    return rc;
}

static void walk_close(struct walk *w) {
    if (w->open)
        lines_close(&w->lines);
    for (size_t i = 0; i < w->n_tallies; i++) {
        struct tally *t = &w->tallies[i];
        for (size_t k = 0; k < t->n_votes; k++)
            str_free(&t->votes[k].answer);
        mem_free(&w->ctx->alloc, t->votes);
        str_free(&t->id);
        str_free(&t->question);
    }
    mem_free(&w->ctx->alloc, w->tallies);
    map_free(&w->ids);
    map_free(&w->rows);
    str_free(&w->key);
}

enum line_kind { LINE_END, LINE_BLANK, LINE_ROW, LINE_DUPLICATE, LINE_BAD, LINE_TORN };

static struct text view(const struct str *s) {
    return (struct text){str_z(s), s->n};
}

/* The tally of a row's question, made if it is the first. ERR_FORMAT: the id had another question. */
static int tally_of(struct walk *w, const rsd_reply *r, struct tally **out, struct err *e) {
    size_t at;
    int rc;
    if (map_get(&w->ids, view(&r->id), &at)) {
        *out = &w->tallies[at];
        return text_eq(view(&(*out)->question), view(&r->question))
                   ? 0
                   : err_set(e, ERR_FORMAT, "question %.100s has another text here than in an earlier row", str_z(&r->id));
    }
    if ((rc = mem_reserve(&w->ctx->alloc, (void *)&w->tallies, &w->cap_tallies, w->n_tallies + 1, sizeof *w->tallies, e)))
        return rc;
    struct tally *t = &w->tallies[w->n_tallies];
    *t = (struct tally){0};
    str_init(&t->id, &w->ctx->alloc);
    str_init(&t->question, &w->ctx->alloc);
    w->n_tallies++;
    if ((rc = reply_set(&t->id, view(&r->id), e)) || (rc = reply_set(&t->question, view(&r->question), e)) ||
        (rc = map_put(&w->ids, view(&r->id), w->n_tallies - 1, e)))
        return rc;
    *out = t;
    return 0;
}

static int count_row(struct walk *w, const rsd_reply *r, struct tally **tally, enum line_kind *kind, struct err *e) {
    int rc = tally_of(w, r, tally, e);
    if (rc)
        return rc;
    str_clear(&w->key);
    str_addf(&w->key, "%lld ", (long long)r->sample);
    str_add(&w->key, r->id.p, r->id.n);
    if ((rc = str_status(&w->key, e)))
        return rc;
    if (map_get(&w->rows, view(&w->key), NULL)) {
        *kind = LINE_DUPLICATE;
        return 0;
    }
    *kind = LINE_ROW;
    w->report.rows++;
    w->report.labelled += r->correct >= 0;
    w->report.correct += r->correct == 1;
    w->report.no_logprobs += !r->logprobs_given;
    (*tally)->total++;
    (*tally)->labelled += r->correct >= 0;
    (*tally)->kept += r->correct == 1;
    return map_put(&w->rows, view(&w->key), 1, e);
}

/* Notes what is wrong with a line, the first time at length. */
static void complain(struct walk *w, struct err *why) {
    err_within(why, "%s, line %zu", w->path, w->lines.line);
    if (!w->first.code)
        w->first = *why;
}

/* The next line and what it is; of a row also the reply (the caller's) and its tally. Negative: it could not be read at all. */
static int walk_next(struct walk *w, enum line_kind *kind, struct text *line, rsd_reply **reply, struct tally **tally,
                     struct err *e) {
    struct json *doc = NULL;
    struct err why = {0};
    *reply = NULL;
    int rc = lines_next(&w->lines, line, e);
    *kind = LINE_END;
    if (rc == ERR_FORMAT && w->lines.torn) { /* compressed data that break off are an unfinished line */
        err_clear(e);
        *kind = LINE_TORN;
        w->report.torn = w->lines.torn_bytes;
        return 0;
    }
    if (rc <= 0)
        return rc;
    size_t blank = 0;
    while (blank < line->n && memchr(" \t\r", line->p[blank], 3))
        blank++;
    *kind = LINE_BLANK;
    if (blank == line->n)
        return 0;
    if (w->lines.eof && w->lines.pos == w->lines.buf.n && w->lines.buf.p[w->lines.buf.n - 1] != '\n') {
        *kind = LINE_TORN; /* a row counts with its line feed */
        w->report.torn = line->n;
        return 0;
    }
    rc = json_parse(line->p, line->n, &doc, &why);
    if (!rc && !body_is_store_line(doc))
        rc = err_set(&why, ERR_FORMAT, "no row of a teacher store");
    if (!rc && !(rc = reply_read(w->ctx, doc, reply, &why)))
        rc = count_row(w, *reply, tally, kind, &why);
    json_free(doc);
    if (rc == ERR_NOMEM) {
        *e = why;
        return rc;
    }
    if (rc) {
        *kind = LINE_BAD;
        w->report.bad++;
        complain(w, &why);
    } else if (*kind == LINE_DUPLICATE) {
        w->report.duplicates++;
        err_set(&why, ERR_FORMAT, "a second row for question %.100s, sample %lld", str_z(&(*reply)->id),
                (long long)(*reply)->sample);
        complain(w, &why);
    }
    if (*kind != LINE_ROW) {
        rsd_reply_close(*reply);
        *reply = NULL;
    }
    return 0;
}

static int hand_over(struct walk *w, rsd_store_report *out, struct err *e) {
    if (!out)
        return 0;
    size_t size = out->size;
    if (size < sizeof size)
        return err_set(e, ERR_INVALID, "rsd_store_report: size must be set");
    w->report.questions = w->n_tallies;
    w->report.size = size;
    memset(out, 0, size);
    memcpy(out, &w->report, size < sizeof w->report ? size : sizeof w->report);
    return 0;
}

/* ---- the three ---- */

int rsd_store_verify(rsd_ctx *ctx, const char *path, rsd_store_report *out) {
    struct err e = {0};
    struct walk w;
    if (!ctx)
        return RSD_EINVAL;
    if (!path)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_store_verify: a path expected");
    int rc = walk_open(&w, ctx, path, &e);
    for (enum line_kind kind = LINE_BLANK; !rc && kind != LINE_END;) {
        struct text line;
        struct tally *tally;
        rsd_reply *r;
        rc = walk_next(&w, &kind, &line, &r, &tally, &e);
        rsd_reply_close(r);
    }
    if (!rc && !(rc = hand_over(&w, out, &e)) && w.first.code) {
        rc = ERR_FORMAT;
        e = w.first;
        e.code = rc;
    }
    walk_close(&w);
    return ctx_return(ctx, rc, &e);
}

/* Lines that are no rows are kept beside the store. */
static int reject(rsd_ctx *ctx, struct append *to, bool *open, const char *path, struct text line, struct err *e) {
    int rc = 0;
    if (!*open) {
        struct str name;
        str_init(&name, &ctx->alloc);
        str_addz(&name, path);
        str_addz(&name, ".rejected");
        if (!(rc = str_status(&name, e)))
            rc = append_open(to, &ctx->alloc, str_z(&name), e);
        str_free(&name);
        *open = rc == 0;
    }
    return rc ? rc : append_line(to, line.p, line.n, e);
}

/* A store that is being written anew, compressed or not. */
struct rows_out {
    struct file_write f;
    struct gzip_write *gz;
};

static int put_row(struct rows_out *o, struct text line, struct err *e) {
    static const char lf = '\n';
    int rc = o->gz ? gzip_put(o->gz, line.p, line.n, e) : file_put(&o->f, line.p, line.n, e);
    return rc ? rc : o->gz ? gzip_put(o->gz, &lf, 1, e) : file_put(&o->f, &lf, 1, e);
}

static int commit_rows(struct rows_out *o, int rc, struct err *e) {
    if (o->gz && rc)
        gzip_abort(o->gz);
    else if (o->gz)
        rc = gzip_end(o->gz, e);
    if (rc)
        file_abort(&o->f);
    return rc ? rc : file_commit(&o->f, e);
}

/* The rows of the walk into `to`, lines that are no rows into `to`.rejected. */
static int compact(struct walk *w, const char *to, bool gzip, struct err *e) {
    struct append rejected;
    struct rows_out o = {.gz = NULL};
    bool open = false;
    int rc = file_begin(&o.f, &w->ctx->alloc, to, e);
    if (rc)
        return rc;
    if (gzip)
        rc = gzip_begin(&o.gz, &w->ctx->alloc, &o.f, e);
    for (enum line_kind kind = LINE_BLANK; !rc && kind != LINE_END;) {
        struct text line;
        struct tally *tally;
        rsd_reply *r = NULL;
        rc = walk_next(w, &kind, &line, &r, &tally, e);
        rsd_reply_close(r);
        if (!rc && kind == LINE_ROW)
            rc = put_row(&o, line, e);
        if (!rc && kind == LINE_BAD)
            rc = reject(w->ctx, &rejected, &open, to, line, e);
    }
    if (open) { /* on the disk before the store without them is */
        int bad = append_close(&rejected, e);
        rc = rc ? rc : bad;
    }
    return commit_rows(&o, rc, e);
}

/* Taking the lock cuts off an unfinished last line, so a file that is something else must be turned away before. */
static int is_store(rsd_ctx *ctx, const char *path, bool *gzip, struct err *e) {
    struct walk w;
    struct text line;
    struct tally *tally;
    rsd_reply *r = NULL;
    enum line_kind kind = LINE_BLANK;
    int rc = walk_open(&w, ctx, path, e);
    if (!rc)
        rc = walk_next(&w, &kind, &line, &r, &tally, e);
    if (!rc && kind == LINE_BAD)
        rc = err_set(e, ERR_FORMAT, "%s, line 1: no row of a teacher store", path);
    *gzip = !rc && w.lines.gz;
    rsd_reply_close(r);
    walk_close(&w);
    return rc;
}

/* to NULL: in place, in the form that the store has. */
static int rewrite(rsd_ctx *ctx, const char *path, const char *to, rsd_store_report *out) {
    struct err e = {0};
    struct append lock;
    struct walk w;
    bool gzip = false, locked = false;
    if (!file_exists(path))
        return ctx_fail(ctx, RSD_ENOTFOUND, "%s: no such file", path);
    int rc = is_store(ctx, path, &gzip, &e);
    if (!rc && !gzip) /* nobody appends to a compressed one */
        rc = append_open(&lock, &ctx->alloc, path, &e);
    if (rc)
        return ctx_return(ctx, rc, &e);
    locked = !gzip;
    if (!(rc = walk_open(&w, ctx, path, &e)))
        rc = compact(&w, to ? to : path, to || gzip, &e);
    if (locked)
        w.report.torn = lock.torn;
    if (!rc)
        rc = hand_over(&w, out, &e);
    walk_close(&w);
    if (locked)
        append_close(&lock, NULL); /* compacted, the file that the lock was on is gone */
    return ctx_return(ctx, rc, &e);
}

int rsd_store_compact(rsd_ctx *ctx, const char *path, rsd_store_report *out) {
    if (!ctx)
        return RSD_EINVAL;
    if (!path)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_store_compact: a path expected");
    return rewrite(ctx, path, NULL, out);
}

int rsd_store_gzip(rsd_ctx *ctx, const char *path, const char *to, rsd_store_report *out) {
    if (!ctx)
        return RSD_EINVAL;
    if (!path || !to)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_store_gzip: two paths expected");
    if (!strcmp(path, to))
        return ctx_fail(ctx, RSD_EINVAL, "rsd_store_gzip: %s: a file of another name expected, such as %s.gz", to, path);
    return rewrite(ctx, path, to, out);
}

/* ---- votes ---- */

static int vote(struct walk *w, struct tally *t, const rsd_reply *r, enum answer_parser parser, struct err *e) {
    struct text answer, kept = answer_cut(view(&r->text));
    struct number any;
    double number = 0;
    size_t at = 0;
    int rc;
    if (!answer_find(kept, parser, &answer))
        return 0;
    /* a number somewhere before the last line is not what a lenient reader calls the answer */
    bool is_number = number_next(answer, &at, &any) && answer_number(kept, parser, &number);
    for (size_t i = 0; i < t->n_votes; i++) {
        struct vote *v = &t->votes[i];
        if (is_number && v->is_number ? v->number == number : answer_equal(answer, view(&v->answer))) {
            v->votes++;
            return 0;
        }
    }
    if ((rc = mem_reserve(&w->ctx->alloc, (void *)&t->votes, &t->cap_votes, t->n_votes + 1, sizeof *t->votes, e)))
        return rc;
    struct vote *v = &t->votes[t->n_votes++];
    *v = (struct vote){.is_number = is_number, .number = number, .votes = 1, .correct = r->correct};
    str_init(&v->answer, &w->ctx->alloc);
    return reply_set(&v->answer, answer, e);
}

static const struct vote *majority(const struct tally *t) {
    const struct vote *best = NULL;
    for (size_t i = 0; i < t->n_votes; i++)
        if (!best || t->votes[i].votes > best->votes)
            best = &t->votes[i];
    return best;
}

int rsd_store_stats(rsd_ctx *ctx, const char *path, int parser, rsd_question_stats_fn *fn, void *user, rsd_store_report *out) {
    struct err e = {0};
    struct walk w;
    if (!ctx)
        return RSD_EINVAL;
    if (!path)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_store_stats: a path expected");
    if (parser != RSD_PARSER_STRICT && parser != RSD_PARSER_LENIENT)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_store_stats: parser RSD_PARSER_STRICT or RSD_PARSER_LENIENT expected");
    int rc = walk_open(&w, ctx, path, &e);
    for (enum line_kind kind = LINE_BLANK; !rc && kind != LINE_END;) {
        struct text line;
        struct tally *tally = NULL;
        rsd_reply *r = NULL;
        rc = walk_next(&w, &kind, &line, &r, &tally, &e);
        if (!rc && kind == LINE_ROW)
            rc = vote(&w, tally, r, (enum answer_parser)parser, &e);
        rsd_reply_close(r);
    }
    for (size_t i = 0; !rc && i < w.n_tallies; i++) {
        const struct tally *t = &w.tallies[i];
        const struct vote *best = majority(t);
        w.report.voted += best && best->correct >= 0;
        w.report.voted_right += best && best->correct == 1;
        rsd_question_stats q = {.size = sizeof q,
                                .id = str_z(&t->id),
                                .id_len = t->id.n,
                                .majority = best ? str_z(&best->answer) : "",
                                .majority_len = best ? best->answer.n : 0,
                                .total = t->total,
                                .labelled = t->labelled,
                                .kept = t->kept,
                                .votes = best ? best->votes : 0,
                                .majority_correct = best ? best->correct : -1};
        if (fn)
            rc = fn(user, &q);
    }
    if (!rc)
        rc = hand_over(&w, out, &e);
    walk_close(&w);
    return ctx_return(ctx, rc, &e);
}
