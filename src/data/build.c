/* Makes a data set folder: reads questions and the aligned shard, keeps the replies that are wanted, and writes both into a
 * folder beside the final one that is renamed when it is complete. */
#include "base/ctx.h"
#include "base/options.h"
#include "core/hash.h"
#include "data/corpus.h"
#include "text/prompt.h"

#include <string.h>
#include <unistd.h>

OPTIONS_NO_TAIL(rsd_build_options, reserved);
static const rsd_build_options defaults = {
    .size = sizeof(rsd_build_options), .seed = 1, .formats = (1u << RSD_FORMATS) - 1, .shots = 4, .keep = RSD_KEEP_CORRECT};

int rsd_build_options_init(rsd_build_options *o, size_t size) {
    return options_init(o, size, &defaults, sizeof defaults, NULL);
}

static int hash_file(const char *path, char hex[65], struct err *e) {
    struct file_map m;
    struct sha256 s;
    unsigned char digest[32];
    int code = file_map_open(&m, path, false, e);
    if (code)
        return code;
    sha256_begin(&s);
    if (m.n)
        sha256_add(&s, m.p, m.n);
    sha256_end(&s, digest);
    sha256_hex(digest, hex);
    file_map_close(&m);
    return 0;
}

static void count_kinds(rsd_align_report *report, const struct shard_reply *r) {
    report->replies++;
    report->positions += r->n - 1; /* without the end token */
    for (size_t t = 0; t + 1 < r->n; t++) {
        report->kinds[r->kinds[t] & SHARD_KIND]++;
        report->placed += (double)r->placed[t];
    }
}

/* Copies the replies that are kept, and counts the others. */
static int filter(const struct questions *q, const struct shard *in, struct shard_out *out, const rsd_build_options *o,
                  struct shard_about *about, rsd_build_report *report, const struct allocator *a, struct err *e) {
    struct shard_buffer buffer = {.a = a};
    int code = 0;
    report->replies = shard_replies(in);
    for (size_t i = 0; i < shard_replies(in) && !code; i++) {
        struct shard_reply r;
        shard_peek(in, i, &r);
        bool known = questions_find(q, r.id, NULL);
        report->no_question += !known;
        report->wrong += known && r.correct == 0;
        report->unknown += known && r.correct < 0;
        if (!known || (o->keep == RSD_KEEP_CORRECT && r.correct != 1))
            continue;
        report->kept++;
        code = shard_get(in, i, &buffer, &r, e);
        if (!code)
            count_kinds(&about->report, &r);
        code = code ? code : shard_add(out, &r, e);
    }
    shard_buffer_free(&buffer);
    return code;
}

struct build {
    const struct allocator *a;
    const rsd_build_options *o;
    struct recipe recipe;
    struct questions questions;
    struct shard *shard; /* all replies */
    char *tmp, *path[3]; /* the folder being made, and dataset.json, questions.rsd, aligned.rsd in it */
};

static int make_replies(struct build *b, struct err *e) {
    struct shard_out *out = NULL;
    const struct shard_about *all = shard_about(b->shard);
    struct shard_about about = *all;
    about.report = (rsd_align_report){.size = sizeof about.report};
    int code = shard_begin(&out, b->a, b->path[2], all->tokenizer, all->vocab, all->chunks, e);
    code = code ? code : filter(&b->questions, b->shard, out, b->o, &about, &b->recipe.report, b->a, e);
    if (code) {
        shard_abort(out);
        return code;
    }
    about.report.given = all->report.given; /* told per position by the aligner only: this is the whole file's */
    memcpy(b->recipe.tokenizer, all->tokenizer, sizeof b->recipe.tokenizer);
    return shard_commit(out, &about, e);
}

/* Opens what was written as a reader will, so that a folder which cannot be used never appears. */
static int verify(struct build *b, struct err *e) {
    struct corpus c;
    int code = corpus_open(&c, b->a, b->tmp, e);
    if (code)
        return code;
    code = corpus_check(&c, b->o->formats, e);
    const rsd_build_report *r = &b->recipe.report;
    if (code && r->replies && !r->kept)
        code = err_within(e,
                          "none of %llu replies was kept (%llu wrong, %llu not labelled: collect with gold answers or keep all, "
                          "%llu without their question)",
                          (unsigned long long)r->replies, (unsigned long long)r->wrong, (unsigned long long)r->unknown,
                          (unsigned long long)r->no_question);
    corpus_close(&c);
    return code;
}

static int make_folder(struct build *b, struct err *e) {
    static const char *const names[3] = {"dataset.json", "questions.rsd", "aligned.rsd"};
    struct str tmp;
    str_init(&tmp, b->a);
    str_addz(&tmp, b->o->out);
    while (tmp.n > 1 && tmp.p[tmp.n - 1] == '/')
        tmp.n--;
    str_addf(&tmp, ".tmp-%ld", (long)getpid());
    int code = str_status(&tmp, e);
    if (!code && !(b->tmp = str_take(&tmp)))
        code = err_set(e, ERR_NOMEM, "out of memory");
    str_free(&tmp);
    for (size_t i = 0; i < 3 && !code; i++)
        code = file_join(b->a, &b->path[i], e, b->tmp, names[i]);
    code = code ? code : dir_remove(b->tmp, e);
    return code ? code : dir_make(b->tmp, e);
}

static int build(struct build *b, struct err *e) {
    const rsd_build_options *o = b->o;
    b->recipe = (struct recipe){
        .seed = o->seed, .formats = o->formats, .shots = o->shots, .keep = o->keep, .report.size = sizeof b->recipe.report};
    struct questions_from from = {o->questions, TASK_JSONL, 0, false};
    int code = questions_read(&b->questions, b->a, &from, e);
    code = code ? code : hash_file(o->questions, b->recipe.questions_sha256, e);
    if (!code && o->aligned) {
        code = shard_open(&b->shard, b->a, o->aligned, e);
        code = code ? code : hash_file(o->aligned, b->recipe.aligned_sha256, e);
    }
    b->recipe.report.questions = b->questions.n;
    code = code ? code : make_folder(b, e);
    code = code ? code : questions_save(&b->questions, b->path[1], e);
    if (!code && b->shard)
        code = make_replies(b, e);
    code = code ? code : recipe_write(&b->recipe, b->a, b->path[0], e);
    code = code ? code : verify(b, e);
    code = code ? code : dir_commit(b->tmp, o->out, e);
    if (code && b->tmp)
        dir_remove(b->tmp, NULL);
    return code;
}

static int check_options(rsd_ctx *ctx, const rsd_build_options *o) {
    bool reasoning = o->formats & (1u << RSD_FORMAT_ZS_COT | 1u << RSD_FORMAT_IC_COT);
    if (!o->questions || !o->out || !*o->out)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_build: questions and out must be given");
    if (!o->formats || o->formats >= 1u << RSD_FORMATS)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_build: formats is %#x, expected bits of rsd_format", (unsigned)o->formats);
    if (reasoning && !o->aligned)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_build: the chain-of-thought formats need an aligned shard");
    if (o->shots < 0 || o->shots > RECIPE_SHOTS_MAX)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_build: shots is %d, expected 0 to %d", (int)o->shots, RECIPE_SHOTS_MAX);
    if (o->keep != RSD_KEEP_CORRECT && o->keep != RSD_KEEP_ALL)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_build: keep is %d, expected RSD_KEEP_CORRECT or RSD_KEEP_ALL",
                        (int)o->keep);
    if (o->reserved)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_build: reserved must be 0");
    if (o->seed > INT64_MAX)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_build: seed must be below 2^63");
    if (file_exists(o->out))
        return ctx_fail(ctx, RSD_EBUSY, "%s: is there already: choose another folder or remove it", o->out);
    return 0;
}

int rsd_dataset_build(rsd_ctx *ctx, const rsd_build_options *options, rsd_build_report *report) {
    if (!ctx)
        return RSD_EINVAL;
    struct err e = {0};
    rsd_build_options o;
    if (!options || (report && report->size < sizeof report->size))
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_build: options must be given, and report->size must be set");
    int code = options_read(&o, sizeof o, &defaults, options, "rsd_build_options", &e);
    if (code)
        return ctx_return(ctx, code, &e);
    if ((code = check_options(ctx, &o)))
        return code;
    struct build b = {.a = &ctx->alloc, .o = &o};
    code = build(&b, &e);
    if (report && !code) {
        size_t size = report->size < sizeof *report ? report->size : sizeof *report;
        memcpy((char *)report + sizeof report->size, (char *)&b.recipe.report + sizeof report->size, size - sizeof report->size);
    }
    questions_free(&b.questions);
    shard_close(b.shard);
    mem_free(b.a, b.tmp);
    for (size_t i = 0; i < 3; i++)
        mem_free(b.a, b.path[i]);
    return ctx_return(ctx, code, &e);
}
