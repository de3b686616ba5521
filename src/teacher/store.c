/* The teacher store. The file is the truth; the index is rebuilt from it on opening. Appending is left to the floor's log: a
 * row is one write, and one that was torn by a crash is cut off before anything is read, so what the index holds is exactly
 * what is whole in the file. */
#include "teacher/store.h"

#include "base/ctx.h"
#include "core/hash.h"
#include "teacher/body.h"
#include "teacher/reply_file.h"

#include <string.h>

static void row_key(struct str *key, struct text id, int64_t sample) {
    str_clear(key);
    str_addf(key, "%lld ", (long long)sample);
    str_add(key, id.p, id.n);
}

static void digest(struct text t, unsigned char out[32]) {
    struct sha256 s;
    sha256_begin(&s);
    sha256_add(&s, t.p, t.n);
    sha256_end(&s, out);
}

int store_has(struct store *s, struct text id, int64_t sample, bool *correct, struct err *e) {
    size_t value = 0;
    row_key(&s->key, id, sample);
    if (str_status(&s->key, e))
        return ERR_NOMEM;
    bool there = map_get(&s->rows, (struct text){str_z(&s->key), s->key.n}, &value);
    if (correct)
        *correct = value == 2;
    return there;
}

const struct stored_question *store_question(const struct store *s, struct text id) {
    size_t i;
    return map_get(&s->ids, id, &i) ? &s->questions[i] : NULL;
}

/* Enters a row in the index. */
static int index_row(struct store *s, const rsd_reply *r, struct err *e) {
    struct text id = {str_z(&r->id), r->id.n};
    unsigned char question[32];
    int rc;
    digest((struct text){str_z(&r->question), r->question.n}, question);
    if ((rc = store_has(s, id, r->sample, NULL, e)) < 0)
        return rc;
    if (rc > 0)
        return err_set(e, ERR_INVALID, "a second row for question %.100s, sample %lld: remove one of them", str_z(&r->id),
                       (long long)r->sample);
    const struct stored_question *known = store_question(s, id);
    if (known && memcmp(known->question, question, sizeof question) != 0)
        return err_set(e, ERR_INVALID, "question %.100s has another text here than in an earlier row", str_z(&r->id));
    if (!known) {
        if ((rc = mem_reserve(&s->ctx->alloc, (void *)&s->questions, &s->cap_questions, s->n_questions + 1, sizeof *s->questions,
                              e)))
            return rc;
        struct stored_question *q = &s->questions[s->n_questions];
        memcpy(q->question, question, sizeof question);
        memcpy(q->request, r->request_sha256, sizeof q->request);
        if ((rc = map_put(&s->ids, id, s->n_questions, e)))
            return rc;
        s->n_questions++;
    }
    row_key(&s->key, id, r->sample);
    if ((rc = str_status(&s->key, e)) ||
        (rc = map_put(&s->rows, (struct text){str_z(&s->key), s->key.n}, r->correct == 1 ? 2 : 1, e)))
        return rc;
    s->n_rows++;
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
    bool torn = l.eof && first.n > 0 && first.p[0] == '{';
    if (rc == 1 && !(json_parse(first.p, first.n, &doc, NULL) ? torn : body_is_store_line(doc)))
        rc = err_set(e, ERR_FORMAT, "%s, line 1: no row of a teacher store: choose another file", path);
    json_free(doc);
    lines_close(&l);
    return rc < 0 ? rc : 0;
}

int store_open(struct store *s, rsd_ctx *ctx, const char *path, struct err *e) {
    int rc;
    *s = (struct store){.ctx = ctx};
    map_init(&s->rows, &ctx->alloc);
    map_init(&s->ids, &ctx->alloc);
    str_init(&s->line, &ctx->alloc);
    str_init(&s->key, &ctx->alloc);
    if ((rc = look_at(ctx, path, e)))
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
    map_free(&s->rows);
    map_free(&s->ids);
    str_free(&s->line);
    str_free(&s->key);
    mem_free(&s->ctx->alloc, s->questions);
    *s = (struct store){0};
    return rc;
}
