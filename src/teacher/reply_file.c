/* Replies of a file: lines are parsed one at a time, so memory does not grow with the file (but for one counter per id of bare
 * bodies). */
#include "teacher/reply_file.h"

#include "base/ctx.h"
#include "teacher/body.h"

#include <string.h>

int reply_file_open(struct reply_file *f, rsd_ctx *ctx, const char *path, struct err *e) {
    int rc;
    *f = (struct reply_file){.ctx = ctx};
    f->lines.fd = -1;
    map_init(&f->bare, &ctx->alloc);
    if (!(f->path = mem_strndup(&ctx->alloc, path, strlen(path), e)))
        return ERR_NOMEM;
    if ((rc = lines_open(&f->lines, &ctx->alloc, f->path, REPLY_LINE_MAX, e)))
        reply_file_close(f);
    return rc;
}

void reply_file_close(struct reply_file *f) {
    if (!f->ctx)
        return;
    json_free(f->doc);
    lines_close(&f->lines);
    map_free(&f->bare);
    mem_free(&f->ctx->alloc, f->path);
    *f = (struct reply_file){.lines.fd = -1};
}

size_t reply_file_line(const struct reply_file *f) {
    return f->lines.line;
}

static void drop_doc(struct reply_file *f) {
    json_free(f->doc);
    f->doc = NULL;
    f->choice = NULL;
    f->place = 0;
}

/* Numbers a bare reply: how many of its id came before. */
static int number(struct reply_file *f, rsd_reply *r, struct err *e) {
    struct text id = {str_z(&r->id), r->id.n};
    size_t seen = 0;
    map_get(&f->bare, id, &seen);
    r->sample = (int64_t)seen;
    return map_put(&f->bare, id, seen + 1, e);
}

/* The next choice of the body at hand. */
static int next_choice(struct reply_file *f, rsd_reply **out, struct err *e) {
    struct text needed;
    int rc;
    if ((rc = json_need_text(f->doc, "id", &needed, e)) || (rc = json_need_text(f->doc, "question", &needed, e)))
        goto done;
    if ((rc = body_reply(f->ctx, f->doc, f->choice, f->place, PROMPT_UNKNOWN, out, e))) {
        err_within(e, "choices[%zu]", f->place);
        goto done;
    }
    rc = number(f, *out, e);
    f->choice = json_next(f->choice);
    f->place++;
done:
    if (rc || !f->choice)
        drop_doc(f);
    return rc ? rc : 1;
}

int reply_file_next(struct reply_file *f, rsd_reply **out, struct err *e) {
    int rc = 0;
    *out = NULL;
    while (!f->doc) {
        struct text line;
        if ((rc = lines_next(&f->lines, &line, e)) != 1)
            return rc; /* names the file already */
        size_t blank = 0;
        while (blank < line.n && memchr(" \t\r", line.p[blank], 3))
            blank++;
        if (blank == line.n)
            continue;
        if ((rc = json_parse(line.p, line.n, &f->doc, e)))
            break;
        if (body_is_store_line(f->doc)) {
            rc = reply_read(f->ctx, f->doc, out, e);
            drop_doc(f);
            rc = rc ? rc : 1;
            break;
        }
        if ((rc = body_choices(f->doc, &f->choice, e)))
            break;
        if (!f->choice)
            drop_doc(f);
    }
    if (f->doc && !rc)
        rc = next_choice(f, out, e);
    if (rc < 0) {
        drop_doc(f);
        rsd_reply_close(*out);
        *out = NULL;
        err_within(e, "%s, line %zu", f->lines.path, f->lines.line);
    }
    return rc;
}
