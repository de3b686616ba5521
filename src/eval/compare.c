/* Two evaluations of the same items, side by side. Intervals of two accuracies that overlap say little about two models that were
 * asked the same questions: what tells them apart are the items on which one is right and the other wrong (McNemar 1947). */
#include "core/json.h"
#include "core/map.h"
#include "eval/evaluator.h"

#include <string.h>

static const size_t MOST_BYTES = (size_t)1 << 30;

/* One file: its document, and its items by id. */
struct side {
    const char *path;
    struct json *doc;
    const struct json **items;
    size_t n, cap;
    struct map index;
};

static const char *const verdicts[PARSERS] = {[STRICT] = "correct", [LENIENT] = "lenient", [REFERENCE] = "reference"};

static int read_side(struct side *s, const struct allocator *a, const char *path, struct err *e) {
    const struct json *items = NULL;
    struct text id;
    s->path = path;
    map_init(&s->index, a);
    if (json_read_file(path, MOST_BYTES, a, &s->doc, e))
        return e->code;
    if (json_need_type(s->doc, "items", JSON_ARRAY, &items, e))
        return err_within(e, "%s: is not what eval wrote", path);
    for (const struct json *x = json_first(items); x; x = json_next(x)) {
        size_t before;
        if (json_need_text(x, "id", &id, e))
            return err_within(e, "%s: item %zu", path, s->n + 1);
        if (map_get(&s->index, id, &before))
            return err_set(e, ERR_FORMAT, "%s: items %zu and %zu have the same id \"%.100s\"", path, before + 1, s->n + 1, id.p);
        if (mem_reserve(a, &s->items, &s->cap, s->n + 1, sizeof *s->items, e) || map_put(&s->index, id, s->n, e))
            return e->code;
        s->items[s->n++] = x;
    }
    return s->n ? 0 : err_set(e, ERR_FORMAT, "%s: holds no items", path);
}

static void free_side(struct side *s, const struct allocator *a) {
    json_free(s->doc);
    mem_free(a, s->items);
    map_free(&s->index);
}

static int verdict(const struct side *s, size_t i, int parser, bool *right, struct err *e) {
    if (json_need_bool(s->items[i], verdicts[parser], right, e))
        return err_within(e, "%s: item %zu", s->path, i + 1);
    return 0;
}

static int same_gold(const struct side *a, size_t i, const struct side *b, size_t k, struct err *e) {
    struct text x = json_text(json_get(a->items[i], "gold")), y = json_text(json_get(b->items[k], "gold"));
    if (text_eq(x, y))
        return 0;
    return err_set(e, ERR_MISMATCH, "%s and %s: item \"%.100s\" has the gold answer \"%.60s\" in one and \"%.60s\" in the other",
                   a->path, b->path, json_text(json_get(a->items[i], "id")).p, x.n ? x.p : "", y.n ? y.p : "");
}

/* counts[right in a][right in b]. Non-zero without an error set: fn stopped it. */
static int count(const struct side *a, const struct side *b, int parser, rsd_differ_fn fn, void *user, uint64_t counts[2][2],
                 struct err *e) {
    for (size_t i = 0; i < a->n; i++) {
        const struct text id = json_text(json_get(a->items[i], "id"));
        bool x = false, y = false;
        size_t k;
        if (!map_get(&b->index, id, &k))
            return err_set(e, ERR_MISMATCH, "%s: has no item \"%.100s\", which is in %s", b->path, id.p, a->path);
        if (same_gold(a, i, b, k, e) || verdict(a, i, parser, &x, e) || verdict(b, k, parser, &y, e))
            return e->code;
        counts[x][y]++;
        int stop = fn && x != y ? fn(user, id.p, id.n, x, y) : 0;
        if (stop)
            return stop;
    }
    for (size_t k = 0; k < b->n; k++) {
        const struct text id = json_text(json_get(b->items[k], "id"));
        size_t i;
        if (!map_get(&a->index, id, &i))
            return err_set(e, ERR_MISMATCH, "%s: has no item \"%.100s\", which is in %s", a->path, id.p, b->path);
    }
    return 0;
}

int rsd_compare_files(rsd_ctx *ctx, const char *a, const char *b, int parser, rsd_differ_fn fn, void *user, rsd_paired *out) {
    struct err e = {0};
    struct side sides[2] = {{0}};
    uint64_t counts[2][2] = {{0}};
    int code = 0;
    if (!a || !b || !out || out->size < sizeof(size_t) || parser < 0 || parser >= PARSERS)
        return ctx_fail(ctx, RSD_EINVAL,
                        "rsd_compare_files: two files, a parser 0 to 2, and rsd_paired with its size are needed");
    if (!read_side(&sides[0], &ctx->alloc, a, &e) && !read_side(&sides[1], &ctx->alloc, b, &e))
        code = count(&sides[0], &sides[1], parser, fn, user, counts, &e);
    if (!e.code && !code)
        code = rsd_mcnemar(counts[1][1], counts[1][0], counts[0][1], counts[0][0], out);
    free_side(&sides[0], &ctx->alloc);
    free_side(&sides[1], &ctx->alloc);
    return e.code ? ctx_return(ctx, e.code, &e) : code;
}
