/* dataset.json, written and read. */
#include "data/recipe.h"

#include "core/json.h"

#include <string.h>

enum { VERSION = 1, MAX_FILE = 1 << 20 };

static const struct {
    const char *key;
    size_t at;
} counts[] = {{"questions", offsetof(rsd_build_report, questions)}, {"replies", offsetof(rsd_build_report, replies)},
              {"kept", offsetof(rsd_build_report, kept)},           {"wrong", offsetof(rsd_build_report, wrong)},
              {"unknown", offsetof(rsd_build_report, unknown)},     {"no_question", offsetof(rsd_build_report, no_question)},
              {"held_out", offsetof(rsd_build_report, held_out)}};
enum { COUNTS = sizeof counts / sizeof *counts };

int recipe_write(const struct recipe *r, const struct allocator *a, const char *path, struct err *e) {
    struct str s;
    struct json_out o;
    str_init(&s, a);
    json_begin(&o, &s, 2);
    json_object(&o);
    json_put_key(&o, "version");
    json_put_int(&o, VERSION);
    json_put_key(&o, "formats");
    json_array(&o);
    for (int f = 0; f < RSD_FORMATS; f++)
        if (r->formats & 1u << f)
            json_put_z(&o, rsd_format_name(f));
    json_end_array(&o);
    json_put_key(&o, "shots");
    json_put_int(&o, r->shots);
    json_put_key(&o, "keep");
    json_put_z(&o, r->keep == RSD_KEEP_ALL ? "all" : "correct");
    json_put_key(&o, "demos");
    json_put_z(&o, r->demos == RSD_DEMOS_TEACHER ? "teacher" : "human");
    json_put_key(&o, "seed");
    json_put_int(&o, (int64_t)r->seed);
    json_put_key(&o, "tokenizer");
    json_put_z(&o, r->tokenizer);
    json_put_key(&o, "questions_sha256");
    json_put_z(&o, r->questions_sha256);
    json_put_key(&o, "aligned_sha256");
    json_put_z(&o, r->aligned_sha256);
    json_put_key(&o, "counts");
    json_object(&o);
    for (size_t i = 0; i < COUNTS; i++) {
        uint64_t v;
        memcpy(&v, (const char *)&r->report + counts[i].at, sizeof v);
        json_put_key(&o, counts[i].key);
        json_put_int(&o, (int64_t)v);
    }
    json_end_object(&o);
    json_end_object(&o);
    str_addc(&s, '\n');
    int code = str_status(&s, e);
    code = code ? code : file_replace(a, path, s.p, s.n, e);
    str_free(&s);
    return code;
}

static int copy_hash(char out[65], struct text t, const char *key, struct err *e) {
    if (t.n != 0 && t.n != 64)
        return err_set(e, ERR_FORMAT, "\"%s\": expected 64 hexadecimal digits", key);
    memcpy(out, t.p, t.n);
    out[t.n] = 0;
    return 0;
}

static int read_formats(const struct json *doc, uint32_t *out, struct err *e) {
    const struct json *list;
    int code = json_need_type(doc, "formats", JSON_ARRAY, &list, e);
    *out = 0;
    for (const struct json *i = code ? NULL : json_first(list); i && !code; i = json_next(i)) {
        struct text name = json_text(i);
        int f = rsd_format_parse(name.p, name.n);
        if (f < 0)
            code = err_set(e, ERR_FORMAT, "\"formats\": expected zs-ao, zs-cot, ic-ao or ic-cot");
        else
            *out |= 1u << f;
    }
    return code;
}

static int read_object(struct recipe *r, const struct json *doc, struct err *e) {
    int64_t version, shots, seed;
    struct text keep, demos = {"", 0}, tokenizer, questions, aligned;
    const struct json *report;
    int code;
    if ((code = json_need_int(doc, "version", 1, INT32_MAX, &version, e)))
        return code;
    if (version > VERSION)
        return err_set(e, ERR_VERSION, "\"version\" is %lld, this library reads version %d", (long long)version, VERSION);
    if ((code = read_formats(doc, &r->formats, e)) || (code = json_need_int(doc, "shots", 0, RECIPE_SHOTS_MAX, &shots, e)) ||
        (code = json_need_int(doc, "seed", 0, INT64_MAX, &seed, e)) || (code = json_need_text(doc, "keep", &keep, e)) ||
        (code = json_opt_text(doc, "demos", &demos, e)) || (code = json_need_text(doc, "tokenizer", &tokenizer, e)) ||
        (code = json_need_text(doc, "questions_sha256", &questions, e)) ||
        (code = json_need_text(doc, "aligned_sha256", &aligned, e)) ||
        (code = json_need_type(doc, "counts", JSON_OBJECT, &report, e)))
        return code;
    r->shots = (int32_t)shots;
    r->seed = (uint64_t)seed;
    r->keep = text_is(keep, "all") ? RSD_KEEP_ALL : RSD_KEEP_CORRECT;
    r->demos = text_is(demos, "teacher") ? RSD_DEMOS_TEACHER : RSD_DEMOS_HUMAN;
    if ((code = copy_hash(r->tokenizer, tokenizer, "tokenizer", e)) ||
        (code = copy_hash(r->questions_sha256, questions, "questions_sha256", e)) ||
        (code = copy_hash(r->aligned_sha256, aligned, "aligned_sha256", e)))
        return code;
    r->report.size = sizeof r->report;
    for (size_t i = 0; i < COUNTS && !code; i++) {
        int64_t v = 0;
        code = json_opt_int(report, counts[i].key, 0, INT64_MAX, &v, e); /* some came with later versions */
        memcpy((char *)&r->report + counts[i].at, &v, sizeof v);
    }
    return code;
}

int recipe_read(struct recipe *r, const struct allocator *a, const char *path, struct err *e) {
    struct json *doc = NULL;
    *r = (struct recipe){0};
    int code = json_read_file(path, MAX_FILE, a, &doc, e); /* names the path */
    if (code)
        return code;
    if (json_type(doc) != JSON_OBJECT)
        code = err_set(e, ERR_FORMAT, "expected an object, found %s", json_type_name(json_type(doc)));
    code = code ? code : read_object(r, doc, e);
    if (code)
        err_within(e, "%s", path);
    json_free(doc);
    return code;
}
