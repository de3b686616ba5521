/* Results under the name of what they depend on: the weights in memory, the tokenizer, the items and demonstrations as they were read,
 * and the options. Whoever evaluates many models on many sets (checkpoints, an alpha sweep) computes what is missing and no more,
 * whatever the files are called now. */
#include "core/hash.h"
#include "core/json.h"
#include "eval/evaluator.h"

#include <stdio.h>
#include <string.h>

static const size_t MOST_BYTES = (size_t)1 << 30; /* of a result */

/* Raised whenever the same inputs may give other results: parsers, figures, prompts. */
static const char revision[] = "evaluation 1";

static void add_bytes(struct sha256 *h, const void *p, size_t n) {
    const uint64_t length = n;
    sha256_add(h, &length, sizeof length); /* so that "ab","c" is not "a","bc" */
    if (n)
        sha256_add(h, p, n);
}

static void add_z(struct sha256 *h, const char *s) {
    add_bytes(h, s, strlen(s));
}

static void add_int(struct sha256 *h, int64_t v) {
    add_bytes(h, &v, sizeof v);
}

static void finish(struct sha256 *h, char hex[65]) {
    unsigned char digest[32];
    sha256_end(h, digest);
    sha256_hex(digest, hex);
}

/* All parameters by name, as they are in memory, and the configuration. */
static int hash_weights(rsd_evaluator *v, struct err *e) {
    const struct allocator *a = &v->ctx->alloc;
    struct sha256 h;
    float *w = NULL;
    size_t cap = 0;
    rsd_t5_info info = {.size = sizeof info};
    int code = rsd_t5_info_get(v->model, &info);
    sha256_begin(&h);
    add_z(&h, rsd_t5_config(v->model));
    add_int(&h, info.memory_dtype);
    for (size_t i = 0; i < rsd_t5_params(v->model) && !code; i++) {
        rsd_param p = {.size = sizeof p};
        code = rsd_t5_param(v->model, i, &p);
        if (!code && mem_reserve(a, &w, &cap, p.count, sizeof *w, e))
            break;
        code = code ? code : rsd_t5_param_read(v->model, i, w, p.count);
        if (!code) {
            add_z(&h, p.name);
            add_bytes(&h, w, p.count * sizeof *w);
        }
    }
    mem_free(a, w);
    if (code)
        err_set(e, code, "%s", rsd_ctx_error(v->ctx));
    if (!e->code)
        finish(&h, v->weights);
    return e->code;
}

static void add_items(struct sha256 *h, const struct items *items) {
    add_int(h, (int64_t)items->n);
    for (size_t i = 0; i < items->n; i++) {
        const struct item *x = &items->v[i];
        const struct text group = items->n_groups > 1 ? items->groups[x->group] : text_of("");
        const struct text parts[] = {group, x->id, x->question, x->answer, x->rationale};
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
            add_bytes(h, parts[k].p, parts[k].n);
        if (x->task.n) /* it chooses the demonstrations */
            add_bytes(h, x->task.p, x->task.n);
    }
}

int evaluation_content(struct evaluation *t, struct err *e) {
    rsd_evaluator *v = t->v;
    const rsd_evaluator_options *o = &v->o;
    struct sha256 h;
    if (!*v->weights && hash_weights(v, e))
        return e->code;
    sha256_begin(&h);
    add_z(&h, revision);
    add_z(&h, v->weights);
    add_z(&h, rsd_tokenizer_hash(v->tok));
    add_z(&h, t->task);
    add_z(&h, rsd_format_name(o->format));
    add_items(&h, &t->items);
    add_items(&h, &v->demos);
    add_int(&h, v->demos.n ? o->shots : 0);
    add_int(&h, v->demos.n || o->temperature > 0 ? (int64_t)o->seed : 0);
    add_int(&h, o->max_tokens);
    add_int(&h, o->batch); /* in another one logits may differ in their last bits */
    add_int(&h, o->samples);
    add_bytes(&h, &o->temperature, sizeof o->temperature);
    add_bytes(&h, &o->top_p, sizeof o->top_p);
    add_int(&h, o->perplexity);
    add_bytes(&h, o->maj, sizeof o->maj);
    finish(&h, t->content);
    return 0;
}

/* "-0123456789abcdef.json": names differ in label and task, the end tells the content. */
static void name_end(const struct evaluation *t, char out[32]) {
    snprintf(out, 32, "-%.16s.json", t->content);
}

char *cache_path(const struct evaluation *t, struct err *e) {
    const rsd_evaluator *v = t->v;
    char end[32], *path = NULL;
    struct str name;
    name_end(t, end);
    str_init(&name, &v->ctx->alloc);
    str_addf(&name, "%s%s%s-%s%s", v->o.label ? v->o.label : "", v->o.label && *v->o.label ? "-" : "", t->task,
             rsd_format_name(v->o.format), end);
    if (!str_status(&name, e))
        file_join(&v->ctx->alloc, &path, e, v->cache, str_z(&name));
    str_free(&name);
    return path;
}

/* What cannot be read is not there: it is computed again. */
static bool take(struct evaluation *t, const char *path, struct str *text, struct err *out) {
    struct err e = {0};
    struct json *doc = NULL;
    bool found = !file_read(path, MOST_BYTES, text, &e) && !json_parse(text->p, text->n, &doc, &e);
    if (found && !text_is(json_text(json_get(doc, "content")), t->content))
        err_set(&e, ERR_MISMATCH, "it is of another content");
    found = found && !e.code && !figures_read(doc, &t->score, &e);
    if (e.code == ERR_NOMEM)
        err_set(out, e.code, "%s", e.text);
    else if (!found)
        log_write(&t->v->ctx->log, LOG_WARN, "%s: is computed again: %s", path, e.text);
    if (!found)
        str_clear(text);
    json_free(doc);
    return found;
}

int cache_find(struct evaluation *t, struct str *text, struct err *e) {
    const struct allocator *a = &t->v->ctx->alloc;
    char **names = NULL, end[32];
    size_t n = 0;
    bool found = false;
    name_end(t, end);
    const size_t tail = strlen(end);
    if (!file_is_dir(t->v->cache) || dir_names(a, t->v->cache, &names, &n, e))
        return e->code;
    for (size_t i = 0; i < n && !found && !e->code; i++) {
        const size_t len = strlen(names[i]);
        char *path = NULL;
        if (len >= tail && !strcmp(names[i] + len - tail, end) && !file_join(a, &path, e, t->v->cache, names[i]))
            found = take(t, path, text, e);
        mem_free(a, path);
    }
    dir_names_free(a, names, n);
    return e->code;
}
