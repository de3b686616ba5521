/* The teacher store. The file is the truth; the index is rebuilt from it on opening. Appending is left to the floor's log: a
 * row is one write, and one that was torn by a crash is cut off before anything is read, so what the index holds is exactly
 * what is whole in the file. */
#include "teacher/store.h"

#include "base/ctx.h"
#include "teacher/body.h"
#include "teacher/reply_file.h"

#include <string.h>

static struct text view(const struct str *s) {
    return (struct text){str_z(s), s->n};
}

/* Enters a row in the index. */
static int index_row(struct store *s, const rsd_reply *r, struct err *e) {
    struct asked_question *q;
    int rc = asked_enter(s->asked, view(&r->id), view(&r->question), "an earlier row", &q, e);
    if (rc)
        return rc;
    if (asked_has(s->asked, q, r->sample, NULL))
        return err_set(e, ERR_INVALID, "a second row for question %.100s, sample %lld: remove one of them", str_z(&r->id),
                       (long long)r->sample);
    if ((rc = asked_mark(s->asked, q, r->sample, r->correct == 1, e)))
        return rc;
    if (!q->request)
        q->request = asked_request(r->request_sha256);
    return 0;
}

static int read_rows(struct store *s, const char *path, struct err *e) {
    struct reply_file f;
    rsd_reply *r = NULL;
    int rc = reply_file_open(&f, s->ctx, path, e);
    if (rc)
        return rc;
    while ((rc = reply_file_next(&f, &r, e)) == 1) {
        rc = index_row(s, r, e);
        rsd_reply_close(r);
        if (rc) {
            err_within(e, "%s, line %zu", path, reply_file_line(&f));
            rc = rc == ERR_INVALID ? ERR_FORMAT : rc;
            if (e)
                e->code = rc;
            break;
        }
    }
    reply_file_close(&f);
    return rc;
}

/* Opening cuts off an unfinished last line, so a file that was never a store must be turned away before. */
static int look_at(rsd_ctx *ctx, const char *path, struct err *e) {
    struct lines l;
    struct text first;
    int rc;
    if (!file_exists(path))
        return 0;
    if ((rc = lines_open(&l, &ctx->alloc, path, REPLY_LINE_MAX, e)))
        return rc;
    rc = lines_next(&l, &first, e);
    struct json *doc = NULL;
    if (l.gz)
        rc = err_set(e, ERR_INVALID, "%s: is compressed, which cannot be appended to: unpack it (gunzip), or choose another file",
                     path);
    bool torn = l.eof && first.n > 0 && first.p[0] == '{';
    if (rc == 1 && !(json_parse(first.p, first.n, &doc, NULL) ? torn : body_is_store_line(doc)))
        rc = err_set(e, ERR_FORMAT, "%s, line 1: no row of a teacher store: choose another file", path);
    json_free(doc);
    lines_close(&l);
    return rc < 0 ? rc : 0;
}

/* A store that was compressed and taken away would be paid for again. */
static int look_beside(rsd_ctx *ctx, const char *path, struct err *e) {
    struct str name;
    int rc = 0;
    str_init(&name, &ctx->alloc);
    str_addz(&name, path);
    str_addz(&name, ".gz");
    if (!(rc = str_status(&name, e)) && !file_exists(path) && file_exists(str_z(&name)))
        rc = err_set(e, ERR_INVALID, "%s: is not there, but %s.gz is: unpack it (gunzip), so that nothing is asked twice", path,
                     path);
    str_free(&name);
    return rc;
}

int store_open(struct store *s, rsd_ctx *ctx, const char *path, struct asked *asked, struct err *e) {
    int rc;
    *s = (struct store){.ctx = ctx, .asked = asked};
    str_init(&s->line, &ctx->alloc);
    if ((rc = look_at(ctx, path, e)) || (rc = look_beside(ctx, path, e)))
        return rc;
    if ((rc = append_open(&s->log, &ctx->alloc, path, e)))
        return rc;
    s->open = true;
    if (s->log.torn)
        log_write(&ctx->log, LOG_WARN, "%s: %llu bytes of an unfinished last line were cut off", path,
                  (unsigned long long)s->log.torn);
    return read_rows(s, path, e);
}

int store_add(struct store *s, const rsd_reply *r, struct err *e) {
    int rc;
    if (s->broken)
        return err_set(e, ERR_IO, "%s: an earlier row could not be written", s->log.path);
    str_clear(&s->line);
    if ((rc = reply_write(r, &s->line, e)) || (rc = index_row(s, r, e)))
        return rc;
    rc = append_line(&s->log, str_z(&s->line), s->line.n, e);
    s->broken = rc != 0; /* the index may now know a row that the file lacks */
    return rc;
}

int store_close(struct store *s, struct err *e) {
    if (!s->ctx)
        return 0;
    int rc = s->open ? append_close(&s->log, e) : 0;
    str_free(&s->line);
    *s = (struct store){0};
    return rc;
}
