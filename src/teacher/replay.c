/* The replay transport: a recorded file answers. An answer is a pure function of the request, so a run that is resumed gets
 * what an unbroken run gets.
 *
 * A reply is looked up in three ways, and the first that knows the request at all decides: by (request hash, sample); by (id,
 * sample), where the recorded question is the same; by place among the file's replies to the same question. Sample numbers are
 * the row's own in a store and the place in the file for bare bodies. */
#include "teacher/transport.h"

#include "base/ctx.h"
#include "core/gzip.h"
#include "core/map.h"
#include "teacher/body.h"
#include "teacher/reply_file.h"

#include <string.h>

struct entry {
    size_t at, n, line, choice;
    bool cassette; /* the body is a string in the line */
};

struct replay {
    struct transport base;
    rsd_ctx *ctx;
    char *path;
    struct file_map file;
    struct str unpacked; /* a compressed recording, which is held in memory */
    struct text all;     /* the recording: the map, or that */
    struct entry *entries;
    size_t n_entries, cap_entries;
    struct map index; /* "<kind><sample> <key>" -> entry, "<kind># <key>" -> number of replies of the key */
    struct str key;
    struct str body;                /* of the cassette's line told last */
    const struct request **waiting; /* ring of requests that were started */
    size_t n_waiting, first_waiting, cap_waiting;
};

static struct text view(const struct str *s) {
    return (struct text){str_z(s), s->n};
}

/* sample < 0: the key of the counter */
static struct text make_key(struct replay *p, char kind, int64_t sample, struct text a, struct text b) {
    str_clear(&p->key);
    if (sample < 0)
        str_addf(&p->key, "%c# %zu ", kind, a.n);
    else
        str_addf(&p->key, "%c%lld %zu ", kind, (long long)sample, a.n);
    str_add(&p->key, a.p, a.n);
    str_add(&p->key, b.p, b.n);
    return view(&p->key);
}

static size_t count_of(struct replay *p, char kind, struct text a, struct text b) {
    size_t n = 0;
    map_get(&p->index, make_key(p, kind, -1, a, b), &n);
    return n;
}

/* Enters an entry under one kind of key; sample < 0: its place. An earlier entry of the same key stays, unless it is to be
 * replaced. */
static int enter(struct replay *p, size_t entry, char kind, int64_t sample, bool replace, struct text a, struct text b,
                 struct err *e) {
    size_t place = count_of(p, kind, a, b);
    struct text key = make_key(p, kind, sample < 0 ? (int64_t)place : sample, a, b);
    int rc = str_status(&p->key, e);
    if (!rc && (replace || !map_get(&p->index, key, NULL)))
        rc = map_put(&p->index, key, entry, e);
    if (!rc)
        rc = map_put(&p->index, make_key(p, kind, -1, a, b), place + 1, e);
    return rc ? rc : str_status(&p->key, e);
}

static int add_entry(struct replay *p, struct entry entry, const struct json *doc, int64_t sample, struct err *e) {
    struct text id, question, hash = {0};
    const struct text none = {"", 0};
    int rc;
    if ((rc = json_need_text(doc, "id", &id, e)) || (rc = json_need_text(doc, "question", &question, e)) ||
        (rc = json_opt_text(doc, "request_sha256", &hash, e)) ||
        (rc = mem_reserve(&p->ctx->alloc, (void *)&p->entries, &p->cap_entries, p->n_entries + 1, sizeof *p->entries, e)))
        return rc;
    size_t at = p->n_entries++;
    p->entries[at] = entry;
    if (hash.n > 0 && (rc = enter(p, at, 'h', sample, false, hash, none, e)))
        return rc;
    if ((rc = enter(p, at, 'i', sample, false, id, question, e)))
        return rc;
    return enter(p, at, 'q', -1, false, question, none, e);
}

/* A line of a cassette: a choice of its body for each of the samples from "first" on. What was asked again later (a run that
 * was killed before it had stored the answer) replaces what was answered first. */
static int add_cassette(struct replay *p, struct entry entry, const struct json *doc, struct err *e) {
    struct text id, question, hash, body, api;
    struct json *answer = NULL;
    const struct json *choice = NULL;
    const struct text none = {"", 0};
    int64_t first, n;
    int rc;
    if ((rc = json_need_text(doc, "id", &id, e)) || (rc = json_need_text(doc, "question", &question, e)) ||
        (rc = json_need_text(doc, "request_sha256", &hash, e)) || (rc = json_need_text(doc, "body", &body, e)) ||
        (rc = json_need_text(doc, "api", &api, e)) || (rc = json_need_int(doc, "first", 0, INT64_C(1) << 40, &first, e)) ||
        (rc = json_need_int(doc, "n", 1, INT64_C(1) << 40, &n, e)))
        return rc;
    p->base.api = text_is(api, "chat") ? "chat" : "completions";
    entry.cassette = true;
    if ((rc = json_parse(body.p, body.n, &answer, e)) || (rc = body_choices(answer, &choice, e))) {
        err_within(e, "\"body\"");
        goto done;
    }
    for (; !rc && choice && entry.choice < (size_t)n; choice = json_next(choice), entry.choice++) {
        int64_t sample = first + (int64_t)entry.choice;
        if ((rc = mem_reserve(&p->ctx->alloc, (void *)&p->entries, &p->cap_entries, p->n_entries + 1, sizeof *p->entries, e)))
            break;
        size_t at = p->n_entries++;
        p->entries[at] = entry;
        if ((rc = enter(p, at, 'h', sample, true, hash, none, e)) || (rc = enter(p, at, 'i', sample, true, id, question, e)))
            break;
        rc = enter(p, at, 'q', sample, true, question, none, e);
    }
done:
    json_free(answer);
    return rc;
}

static int add_line(struct replay *p, struct entry entry, struct err *e) {
    struct json *doc = NULL;
    const struct json *choice;
    int64_t sample = 0;
    int rc;
    if ((rc = json_parse(p->all.p + entry.at, entry.n, &doc, e)))
        goto done;
    if (json_get(doc, "cassette")) {
        rc = add_cassette(p, entry, doc, e);
        goto done;
    }
    if (body_is_store_line(doc)) {
        if (!(rc = json_need_int(doc, "sample", 0, INT64_C(1) << 40, &sample, e)))
            rc = add_entry(p, entry, doc, sample, e);
        goto done;
    }
    rc = body_choices(doc, &choice, e);
    for (; !rc && choice; choice = json_next(choice), entry.choice++)
        rc = add_entry(p, entry, doc, -1, e);
done:
    json_free(doc);
    return rc;
}

static int unpack(struct replay *p, struct err *e) {
    struct lines l;
    struct text line;
    int rc = lines_open(&l, &p->ctx->alloc, p->path, REPLY_LINE_MAX, e);
    if (rc)
        return rc;
    while ((rc = lines_next(&l, &line, e)) == 1) {
        str_add(&p->unpacked, line.p, line.n);
        str_addc(&p->unpacked, '\n');
    }
    lines_close(&l);
    rc = rc ? rc : str_status(&p->unpacked, e);
    p->all = (struct text){str_z(&p->unpacked), p->unpacked.n};
    return rc;
}

static int read_file(struct replay *p, struct err *e) {
    int rc = file_map_open(&p->file, p->path, false, e);
    p->all = (struct text){p->file.p, p->file.n};
    return !rc && gzip_starts(p->all.p, p->all.n) ? unpack(p, e) : rc;
}

static int read_index(struct replay *p, struct err *e) {
    const char *bytes = p->all.p;
    size_t line = 1;
    for (size_t at = 0; at < p->all.n; line++) {
        const char *lf = memchr(bytes + at, '\n', p->all.n - at);
        size_t n = lf ? (size_t)(lf - (bytes + at)) : p->all.n - at, blank = 0;
        while (blank < n && memchr(" \t\r", bytes[at + blank], 3))
            blank++;
        if (blank < n) {
            int rc = add_line(p, (struct entry){.at = at, .n = n, .line = line}, e);
            if (rc) {
                err_within(e, "%s, line %zu", p->path, line);
                return rc;
            }
        }
        at += n + 1;
    }
    return 0;
}

static int replay_start(struct transport *t, const struct request *r, struct err *e) {
    struct replay *p = (struct replay *)t;
    if (p->first_waiting > 0 && p->n_waiting == p->cap_waiting) {
        memmove(p->waiting, p->waiting + p->first_waiting, (p->n_waiting - p->first_waiting) * sizeof(void *));
        p->n_waiting -= p->first_waiting;
        p->first_waiting = 0;
    }
    int rc = mem_reserve(&p->ctx->alloc, (void *)&p->waiting, &p->cap_waiting, p->n_waiting + 1, sizeof *p->waiting, e);
    if (!rc)
        p->waiting[p->n_waiting++] = r;
    return rc;
}

static const struct entry *look_up(struct replay *p, const struct request *r) {
    const struct text none = {"", 0};
    const struct {
        char kind;
        struct text a, b;
    } ways[] = {{'h', text_of(r->hash), none}, {'i', r->id, r->question}, {'q', r->question, none}};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        size_t at;
        if (count_of(p, ways[w].kind, ways[w].a, ways[w].b) == 0)
            continue;
        return map_get(&p->index, make_key(p, ways[w].kind, r->first, ways[w].a, ways[w].b), &at) ? &p->entries[at] : NULL;
    }
    return NULL;
}

/* The body in a line of a cassette. */
static int take_body(struct replay *p, const struct entry *found, struct text *out, struct err *e) {
    struct json *doc = NULL;
    struct text body = {0};
    int rc = json_parse(p->all.p + found->at, found->n, &doc, e);
    if (!rc && !(rc = json_need_text(doc, "body", &body, e))) {
        str_clear(&p->body);
        str_add(&p->body, body.p, body.n);
        rc = str_status(&p->body, e);
    }
    json_free(doc);
    *out = (struct text){str_z(&p->body), p->body.n};
    return rc;
}

static int replay_poll(struct transport *t, double seconds, struct outcome *out, struct err *e) {
    struct replay *p = (struct replay *)t;
    (void)seconds; /* a file answers at once */
    if (p->first_waiting == p->n_waiting)
        return 0;
    const struct request *r = p->waiting[p->first_waiting++];
    const struct entry *found = look_up(p, r);
    if (str_status(&p->key, e))
        return ERR_NOMEM;
    *out = (struct outcome){.tag = r->tag, .kind = OUTCOME_MISSING, .retry_after = -1, .should_retry = -1, .pace = pace_nothing};
    if (found) {
        out->kind = OUTCOME_BODY;
        out->status = 200;
        out->body = (struct text){p->all.p + found->at, found->n};
        out->recorded = true;
        out->choice = found->choice;
        out->line = found->line;
        out->wire = found->cassette;
        int rc = found->cassette ? take_body(p, found, &out->body, e) : 0;
        if (rc)
            return rc;
    }
    return 1;
}

static int replay_wait(struct transport *t, rsd_fd *fds, size_t cap, size_t *n, double *seconds, struct err *e) {
    const struct replay *p = (const struct replay *)t;
    (void)fds, (void)cap, (void)e;
    *n = 0;
    if (p->first_waiting < p->n_waiting)
        *seconds = 0;
    return 0;
}

static void replay_close(struct transport *t) {
    struct replay *p = (struct replay *)t;
    const struct allocator *a = &p->ctx->alloc;
    file_map_close(&p->file);
    map_free(&p->index);
    str_free(&p->key);
    str_free(&p->body);
    str_free(&p->unpacked);
    mem_free(a, p->entries);
    mem_free(a, p->waiting);
    mem_free(a, p->path);
    mem_free(a, p);
}

static const struct transport_ops replay_ops = {
    .start = replay_start, .poll = replay_poll, .wait = replay_wait, .close = replay_close};

int replay_open(struct transport **out, rsd_ctx *ctx, const char *path, struct err *e) {
    *out = NULL;
    struct replay *p = mem_zero(&ctx->alloc, 1, sizeof *p, e);
    if (!p)
        return ERR_NOMEM;
    p->base = (struct transport){.ops = &replay_ops, .max_samples = 1, .instant = true};
    p->ctx = ctx;
    map_init(&p->index, &ctx->alloc);
    str_init(&p->key, &ctx->alloc);
    str_init(&p->body, &ctx->alloc);
    str_init(&p->unpacked, &ctx->alloc);
    int rc;
    if (!(p->path = mem_strndup(&ctx->alloc, path, strlen(path), e)))
        rc = ERR_NOMEM;
    else if (!(rc = read_file(p, e)))
        rc = read_index(p, e);
    if (rc) {
        replay_close(&p->base);
        return rc;
    }
    *out = &p->base;
    return 0;
}
