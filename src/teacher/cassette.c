/* Writing cassettes; replay.c reads them. */
#include "teacher/cassette.h"

#include "base/ctx.h"
#include "core/json.h"
#include "teacher/reply_file.h"

#include <string.h>

/* Opening cuts off an unfinished last line, so a file that is something else must be turned away before. */
static int look_at(rsd_ctx *ctx, const char *path, struct err *e) {
    static const char begin[] = "{\"cassette\":";
    struct lines l;
    struct text first;
    int rc;
    if (!file_exists(path))
        return 0;
    if ((rc = lines_open(&l, &ctx->alloc, path, REPLY_LINE_MAX, e)))
        return rc;
    rc = lines_next(&l, &first, e);
    if (l.gz) {
        rc = err_set(e, ERR_INVALID, "%s: is compressed, which cannot be appended to: choose another file", path);
    } else if (rc == 1) {
        size_t n = first.n < sizeof begin - 1 ? first.n : sizeof begin - 1; /* a first line may be torn */
        rc = memcmp(first.p, begin, n) == 0 && (n == sizeof begin - 1 || l.eof)
                 ? 0
                 : err_set(e, ERR_FORMAT, "%s, line 1: no line of a cassette: choose another file", path);
    }
    lines_close(&l);
    return rc;
}

int cassette_open(struct cassette *c, rsd_ctx *ctx, const char *path, struct err *e) {
    int rc = look_at(ctx, path, e);
    if (rc || (rc = append_open(&c->log, &ctx->alloc, path, e)))
        return rc;
    c->ctx = ctx;
    str_init(&c->line, &ctx->alloc);
    return 0;
}

int cassette_add(struct cassette *c, const char *api, const struct request *r, struct text body, struct err *e) {
    struct json_out o;
    str_clear(&c->line);
    json_begin(&o, &c->line, 0);
    json_object(&o);
    json_put_key(&o, "cassette");
    json_put_int(&o, 1);
    json_put_key(&o, "api");
    json_put_z(&o, api);
    json_put_key(&o, "request_sha256");
    json_put_z(&o, r->hash);
    json_put_key(&o, "id");
    json_put_text(&o, r->id);
    json_put_key(&o, "question");
    json_put_text(&o, r->question);
    json_put_key(&o, "first");
    json_put_int(&o, r->first);
    json_put_key(&o, "n");
    json_put_int(&o, (int64_t)r->n);
    json_put_key(&o, "body");
    json_put_text(&o, body);
    json_end_object(&o);
    int rc = str_status(&c->line, e);
    return rc ? rc : append_line(&c->log, str_z(&c->line), c->line.n, e);
}

int cassette_close(struct cassette *c, struct err *e) {
    if (!c->ctx)
        return 0;
    int rc = append_close(&c->log, e);
    str_free(&c->line);
    *c = (struct cassette){0};
    return rc;
}
