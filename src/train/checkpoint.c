/* Checkpoints that survive: a kill at any moment, a full disk, a damaged file.
 *
 * A checkpoint is a model directory (any tool reads it) with two files more: trainer.safetensors, the optimizer's state, and
 * trainer.json, where the run stands and the size and SHA-256 of every other file. It is made as step-N.tmp and renamed when
 * all of it is on the disk, so a step-N that exists was whole once; whether it still is, the sums tell when a run is resumed,
 * and if not, the one before is taken. */
#include "train/run.h"

#include "core/hash.h"
#include "train/optimizer.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { VERSION = 1 };
static const char STATE[] = "trainer.safetensors", NOTES[] = "trainer.json";
static const size_t MAX_NOTES = (size_t)1 << 20;
static const double MAX_EXACT = 9007199254740992.0; /* 2^53 */

static int hash_file(const char *path, uint64_t *bytes, char hex[65], struct err *e) {
    struct file_map map = {0};
    struct sha256 h;
    unsigned char digest[32];
    if (file_map_open(&map, path, false, e))
        return e->code;
    sha256_begin(&h);
    sha256_add(&h, map.p ? map.p : "", map.n);
    sha256_end(&h, digest);
    sha256_hex(digest, hex);
    *bytes = map.n;
    file_map_close(&map);
    return 0;
}

/* ---- writing ---- */

static int write_state(rsd_trainer *t, const char *dir, struct err *e) {
    const struct allocator *a = &t->ctx->alloc;
    char *path = NULL;
    size_t n = optimizer_tensors(t->opt);
    struct safetensors_item *items = mem_new(a, n, sizeof *items, e);
    if (items && !file_join(a, &path, e, dir, STATE)) {
        for (size_t i = 0; i < n; i++)
            optimizer_tensor(t->opt, i, &items[i]);
        safetensors_write(a, path, items, n, NULL, 0, e);
    }
    mem_free(a, path);
    mem_free(a, items);
    return e->code;
}

static int list_files(rsd_trainer *t, const char *dir, struct json_out *o, struct err *e) {
    const struct allocator *a = &t->ctx->alloc;
    char **names = NULL;
    size_t n = 0;
    if (dir_names(a, dir, &names, &n, e))
        return e->code;
    json_object(o);
    for (size_t i = 0; i < n && !e->code; i++) {
        char *path = NULL, hex[65];
        uint64_t bytes = 0;
        if (!file_join(a, &path, e, dir, names[i]) && !hash_file(path, &bytes, hex, e)) {
            json_put_key(o, names[i]);
            json_object(o);
            json_put_key(o, "bytes");
            json_put_int(o, (int64_t)bytes);
            json_put_key(o, "sha256");
            json_put_z(o, hex);
            json_end_object(o);
        }
        mem_free(a, path);
    }
    json_end_object(o);
    dir_names_free(a, names, n);
    return e->code;
}

static void put_count(struct json_out *o, const char *key, uint64_t v) {
    json_put_key(o, key);
    json_put_int(o, (int64_t)v);
}

static void put_number(struct json_out *o, const char *key, double v) {
    json_put_key(o, key);
    json_put_double(o, v); /* null for NaN */
}

/* The notes' own sum is their last member: of all that stands before it. */
static const char SEAL[] = ",\n  \"sha256\": \"", SEAL_END[] = "\"\n}\n";
enum { SEAL_LENGTH = sizeof SEAL - 1 + 64 + sizeof SEAL_END - 1 };

static void sum_of(const char *p, size_t n, char hex[65]) {
    struct sha256 h;
    unsigned char digest[32];
    sha256_begin(&h);
    sha256_add(&h, p, n);
    sha256_end(&h, digest);
    sha256_hex(digest, hex);
}

static void seal(struct str *notes) {
    char hex[65];
    sum_of(str_z(notes), notes->n, hex);
    str_addz(notes, SEAL);
    str_add(notes, hex, 64);
    str_addz(notes, SEAL_END);
}

/* Notes of earlier versions have none. */
static int check_seal(const char *path, const struct str *notes, const struct json *doc, struct err *e) {
    char hex[65];
    if (!json_get(doc, "sha256"))
        return 0;
    size_t before = notes->n > SEAL_LENGTH ? notes->n - SEAL_LENGTH : 0;
    sum_of(str_z(notes), before, hex);
    return text_is(json_text(json_get(doc, "sha256")), hex)
               ? 0
               : err_set(e, ERR_FORMAT, "%s: is not what was written (SHA-256 differs)", path);
}

static int load_notes(rsd_trainer *t, const char *path, struct json **doc, struct err *e) {
    struct str text;
    str_init(&text, &t->ctx->alloc);
    int code = file_read(path, MAX_NOTES, &text, e);
    if (!code && (code = json_parse(str_z(&text), text.n, doc, e)))
        err_within(e, "%s", path);
    code = code ? code : check_seal(path, &text, *doc, e);
    str_free(&text);
    return code;
}

/* files: those of earlier notes, or NULL to sum up the folder's. */
static int write_notes(rsd_trainer *t, const char *dir, const struct json *files, struct err *e) {
    const struct allocator *a = &t->ctx->alloc;
    struct str text;
    struct json_out o;
    char *path = NULL;
    str_init(&text, a);
    json_begin(&o, &text, 2);
    json_object(&o);
    put_count(&o, "version", VERSION);
    put_count(&o, "step", t->at.step);
    put_count(&o, "position", t->at.position);
    put_count(&o, "updates", t->at.updates);
    put_count(&o, "skipped", t->at.skipped);
    put_count(&o, "evaluated", t->at.evaluated);
    put_number(&o, "watched", t->at.watched);
    put_number(&o, "best", t->at.best);
    put_count(&o, "best_step", t->at.best_step);
    put_count(&o, "stale", t->at.stale);
    json_put_key(&o, "stopped");
    json_put_bool(&o, t->at.stopped);
    put_count(&o, "seed", (uint64_t)t->config.seed);
    json_put_key(&o, "tokenizer");
    json_put_z(&o, rsd_tokenizer_hash(t->tok));
    json_put_key(&o, "data");
    json_put_z(&o, t->data_sha256);
    json_put_key(&o, "library");
    json_put_z(&o, rsd_version());
    json_put_key(&o, "files");
    if (files)
        json_put_value(&o, files);
    else
        list_files(t, dir, &o, e);
    seal(&text);
    if (!e->code && !str_status(&text, e) && !file_join(a, &path, e, dir, NOTES))
        file_replace(a, path, text.p, text.n, e);
    mem_free(a, path);
    str_free(&text);
    return e->code;
}

/* N of a name step-N, or -1. */
static int64_t step_of(const char *name) {
    int64_t n = 0;
    if (strncmp(name, "step-", 5) || !name[5] || strlen(name) > 5 + 15)
        return -1;
    for (const char *p = name + 5; *p; p++) {
        if (*p < '0' || *p > '9')
            return -1;
        n = n * 10 + (*p - '0');
    }
    return n;
}

/* Checkpoints in rising order of steps. */
static int list_steps(rsd_trainer *t, int64_t **steps, size_t *n, struct err *e) {
    const struct allocator *a = &t->ctx->alloc;
    char **names = NULL;
    size_t all = 0;
    *steps = NULL;
    *n = 0;
    if (!file_is_dir(t->saves))
        return 0;
    if (dir_names(a, t->saves, &names, &all, e))
        return e->code;
    *steps = mem_new(a, all, sizeof **steps, e);
    for (size_t i = 0; i < all && *steps; i++) {
        int64_t s = step_of(names[i]);
        size_t j = *n;
        if (s < 0)
            continue;
        for (; j && (*steps)[j - 1] > s; j--)
            (*steps)[j] = (*steps)[j - 1];
        (*steps)[j] = s;
        ++*n;
    }
    dir_names_free(a, names, all);
    return *steps ? 0 : e->code;
}

/* Away under a name that counts as half-written, so that a kill in the middle leaves nothing that looks like a checkpoint. */
static int discard(rsd_trainer *t, int64_t step, struct err *e) {
    char *path = run_path(t, e, "checkpoints/step-%" PRId64, step),
         *tmp = run_path(t, e, "checkpoints/step-%" PRId64 ".tmp", step);
    if (path && tmp && !dir_remove(tmp, e)) {
        if (rename(path, tmp))
            err_errno(e, errno, "%s: cannot be renamed", path);
        else
            dir_remove(tmp, e);
    }
    mem_free(&t->ctx->alloc, path);
    mem_free(&t->ctx->alloc, tmp);
    return e->code;
}

/* ---- which are kept ---- */

/* What the watched sets said of a checkpoint; NaN: nothing, or it cannot be read. */
static double watched_at(rsd_trainer *t, int64_t step) {
    struct json *notes = NULL;
    double v = NAN;
    char *path = run_path(t, NULL, "checkpoints/step-%" PRId64 "/%s", step, NOTES);
    if (path && !load_notes(t, path, &notes, NULL))
        json_opt_number(notes, "watched", 0, 1, &v, NULL);
    json_free(notes);
    mem_free(&t->ctx->alloc, path);
    return v;
}

/* Fewer than keep_best have more; of equals the later one is better. */
static bool is_among_best(const rsd_trainer *t, const int64_t *steps, const double *watched, size_t n, size_t i) {
    int64_t better = 0;
    for (size_t k = 0; k < n; k++)
        better += k != i && (watched[k] > watched[i] || (steps[k] > steps[i] && watched[k] >= watched[i]));
    return !isnan(watched[i]) && better < t->config.keep_best;
}

static double *list_watched(rsd_trainer *t, const int64_t *steps, size_t n, struct err *e) {
    double *watched = mem_new(&t->ctx->alloc, n + 1, sizeof *watched, e);
    for (size_t i = 0; i < n && watched; i++)
        watched[i] = t->config.keep_best ? watched_at(t, steps[i]) : NAN;
    return watched;
}

int checkpoint_is_among_best(rsd_trainer *t, bool *is, struct err *e) {
    int64_t *steps = NULL;
    double *watched = NULL, better = 0;
    size_t n = 0;
    *is = false;
    if (isnan(t->at.watched) || !t->config.keep_best || list_steps(t, &steps, &n, e))
        return e->code;
    if ((watched = list_watched(t, steps, n, e))) {
        for (size_t i = 0; i < n; i++)
            better += (uint64_t)steps[i] != t->at.step && watched[i] > t->at.watched;
        *is = better < (double)t->config.keep_best;
    }
    mem_free(&t->ctx->alloc, watched);
    mem_free(&t->ctx->alloc, steps);
    return e->code;
}

/* Old checkpoints that stay are a nuisance, not a failure. */
static void prune(rsd_trainer *t) {
    struct err e = {0};
    int64_t *steps = NULL;
    double *watched = NULL;
    size_t n = 0, keep = (size_t)t->config.keep;
    if (keep && !list_steps(t, &steps, &n, &e) && (watched = list_watched(t, steps, n, &e)))
        for (size_t i = 0; i + keep < n && !e.code; i++)
            if (!is_among_best(t, steps, watched, n, i))
                discard(t, steps[i], &e);
    if (e.code)
        log_write(&t->ctx->log, LOG_WARN, "%s", e.text);
    mem_free(&t->ctx->alloc, watched);
    mem_free(&t->ctx->alloc, steps);
}

/* ---- the whole ---- */

int checkpoint_write(rsd_trainer *t, struct err *e) {
    const struct allocator *a = &t->ctx->alloc;
    char *final = run_path(t, e, "checkpoints/step-%" PRIu64, t->at.step);
    char *tmp = run_path(t, e, "checkpoints/step-%" PRIu64 ".tmp", t->at.step);
    if (!final || !tmp || dir_make(t->saves, e) || dir_remove(tmp, e))
        goto done;
    int code = rsd_t5_save(t->model, tmp, run_dtype(t), rsd_tokenizer_path(t->tok));
    if (code) {
        run_took(t->ctx, code, e);
        goto done;
    }
    if (write_state(t, tmp, e) || write_notes(t, tmp, NULL, e))
        goto done;
    if (file_exists(final) && dir_remove(final, e)) /* one that was found damaged */
        goto done;
    dir_commit(tmp, final, e);
done:
    if (e->code && tmp)
        dir_remove(tmp, NULL);
    mem_free(a, final);
    mem_free(a, tmp);
    if (e->code)
        return err_within(e, "no checkpoint was written, the earlier ones are untouched");
    t->saved = t->any_saved = true;
    t->saved_step = t->at.step;
    prune(t);
    return 0;
}

int checkpoint_note(rsd_trainer *t, struct err *e) {
    const struct allocator *a = &t->ctx->alloc;
    struct json *notes = NULL;
    const struct json *files = NULL;
    char *dir = run_path(t, e, "checkpoints/step-%" PRIu64, t->at.step), *path = NULL;
    if (dir && !file_join(a, &path, e, dir, NOTES) && !load_notes(t, path, &notes, e) &&
        !json_need_type(notes, "files", JSON_OBJECT, &files, e))
        write_notes(t, dir, files, e);
    json_free(notes);
    mem_free(a, path);
    mem_free(a, dir);
    return e->code;
}

/* ---- reading ---- */

static int check_file(rsd_trainer *t, const char *dir, const struct json *entry, struct err *e) {
    struct text name = json_key(entry), sha256 = {0};
    int64_t bytes = 0;
    uint64_t found = 0;
    char hex[65], *path = NULL;
    if (!name.n || memchr(name.p, '/', name.n) || memchr(name.p, 0, name.n))
        return err_set(e, ERR_FORMAT, "a file's name must be plain");
    if (json_need_int(entry, "bytes", 0, INT64_MAX, &bytes, e) || json_need_text(entry, "sha256", &sha256, e))
        return err_within(e, "file \"%s\"", name.p);
    if (!file_join(&t->ctx->alloc, &path, e, dir, name.p) && !hash_file(path, &found, hex, e)) {
        if (found != (uint64_t)bytes)
            err_set(e, ERR_FORMAT, "%s: has %" PRIu64 " bytes, %" PRId64 " were written", path, found, bytes);
        else if (!text_is(sha256, hex))
            err_set(e, ERR_FORMAT, "%s: is not what was written (SHA-256 differs)", path);
    }
    mem_free(&t->ctx->alloc, path);
    return e->code;
}

static int need_count(const struct json *notes, const char *key, uint64_t *out, struct err *e) {
    int64_t v = 0;
    int code = json_need_int(notes, key, 0, (int64_t)MAX_EXACT, &v, e);
    *out = (uint64_t)v;
    return code;
}

/* What the evaluations said. Notes of earlier versions say nothing. */
static int read_evaluations(const struct json *notes, struct progress *at, struct err *e) {
    int64_t evaluated = 0, best_step = 0, stale = 0;
    if (json_opt_int(notes, "evaluated", 0, INT64_MAX, &evaluated, e) ||
        json_opt_number(notes, "watched", 0, 1, &at->watched, e) || json_opt_number(notes, "best", 0, 1, &at->best, e) ||
        json_opt_int(notes, "best_step", 0, INT64_MAX, &best_step, e) || json_opt_int(notes, "stale", 0, INT64_MAX, &stale, e) ||
        json_opt_bool(notes, "stopped", &at->stopped, e))
        return e->code;
    at->evaluated = json_get(notes, "evaluated") ? (uint64_t)evaluated : at->step + 1;
    at->best_step = (uint64_t)best_step;
    at->stale = (uint64_t)stale;
    return 0;
}

/* Notes of a checkpoint against its files. Tokenizer and data are compared later, when they are open. */
static int read_notes(rsd_trainer *t, const char *dir, int64_t step, struct progress *at, struct json **doc, struct err *e) {
    char *path = NULL;
    const struct json *files = NULL;
    uint64_t version = 0;
    struct text unused;
    *doc = NULL;
    if (file_join(&t->ctx->alloc, &path, e, dir, NOTES) || load_notes(t, path, doc, e))
        goto done;
    if (need_count(*doc, "version", &version, e))
        goto located;
    if (version > VERSION) {
        err_set(e, ERR_VERSION, "version %" PRIu64 " was written by a newer library, this one knows %d", version, (int)VERSION);
        goto located;
    }
    if (need_count(*doc, "step", &at->step, e) || need_count(*doc, "position", &at->position, e) ||
        need_count(*doc, "updates", &at->updates, e) || need_count(*doc, "skipped", &at->skipped, e) ||
        read_evaluations(*doc, at, e) || json_need_text(*doc, "tokenizer", &unused, e) ||
        json_need_text(*doc, "data", &unused, e) || json_need_type(*doc, "files", JSON_OBJECT, &files, e))
        goto located;
    if (at->step != (uint64_t)step || !json_get(files, "model.safetensors") || !json_get(files, STATE))
        err_set(e, ERR_FORMAT, "belongs to step %" PRIu64 ", or lacks a file", at->step);
    for (const struct json *f = json_first(files); f && !e->code; f = json_next(f))
        check_file(t, dir, f, e);
    goto done;
located:
    err_within(e, "%s", path);
done:
    mem_free(&t->ctx->alloc, path);
    return e->code;
}

static int remove_unfinished(rsd_trainer *t, struct err *e) {
    char **names = NULL;
    size_t n = 0;
    if (!file_is_dir(t->saves))
        return 0;
    if (dir_names(&t->ctx->alloc, t->saves, &names, &n, e))
        return e->code;
    for (size_t i = 0; i < n && !e->code; i++) {
        if (strncmp(names[i], "step-", 5) || !strstr(names[i], ".tmp"))
            continue;
        char *path = run_path(t, e, "checkpoints/%s", names[i]);
        if (path)
            dir_remove(path, e);
        mem_free(&t->ctx->alloc, path);
    }
    dir_names_free(&t->ctx->alloc, names, n);
    return e->code;
}

int checkpoint_find(rsd_trainer *t, char **path, struct err *e) {
    int64_t *steps = NULL;
    size_t n = 0;
    *path = NULL;
    if (!remove_unfinished(t, e))
        list_steps(t, &steps, &n, e);
    while (n-- && !e->code && !*path) {
        struct json *notes = NULL;
        struct err bad = {0};
        struct progress at = {.watched = NAN, .best = NAN};
        char *dir = run_path(t, e, "checkpoints/step-%" PRId64, steps[n]);
        if (dir && !read_notes(t, dir, steps[n], &at, &notes, &bad)) {
            t->at = at;
            *path = dir;
            dir = NULL;
        } else if (bad.code == ERR_NOMEM || bad.code == ERR_VERSION) {
            err_set(e, bad.code, "%s", bad.text);
        } else if (dir) {
            log_write(&t->ctx->log, LOG_WARN, "checkpoint step-%" PRId64 " is damaged and passed over: %s", steps[n], bad.text);
        }
        json_free(notes);
        mem_free(&t->ctx->alloc, dir);
    }
    mem_free(&t->ctx->alloc, steps);
    return e->code;
}

int checkpoint_restore(rsd_trainer *t, const char *path, struct err *e) {
    const struct allocator *a = &t->ctx->alloc;
    char *notes_path = NULL, *state_path = NULL;
    struct json *notes = NULL;
    struct safetensors state = {0};
    struct text own = {0};
    if (file_join(a, &notes_path, e, path, NOTES) || load_notes(t, notes_path, &notes, e))
        goto done;
    if (!json_need_text(notes, "tokenizer", &own, e) && !text_is(own, rsd_tokenizer_hash(t->tok)))
        err_set(e, ERR_MISMATCH, "%s: the run was started with another tokenizer than %s", path, t->config.tokenizer);
    if (!json_need_text(notes, "data", &own, e) && !text_is(own, t->data_sha256))
        err_set(e, ERR_MISMATCH, "%s: the run was started with other data: %s/dataset.json has changed", path, t->config.data);
    if (e->code || file_join(a, &state_path, e, path, STATE) || safetensors_open(&state, a, state_path, e))
        goto done;
    if (optimizer_restore(t->opt, &state, t->at.updates, e))
        err_within(e, "%s", state_path);
    safetensors_close(&state);
done:
    json_free(notes);
    mem_free(a, state_path);
    mem_free(a, notes_path);
    if (!e->code) {
        t->saved = t->any_saved = true;
        t->saved_step = t->at.step;
    }
    return e->code;
}
