/* Makes a data set folder: reads questions and the aligned shard, keeps the replies that are wanted, and writes both into a
 * folder beside the final one that is renamed when it is complete. */
#include "base/ctx.h"
#include "base/options.h"
#include "core/hash.h"
#include "data/corpus.h"
#include "data/overlap.h"
#include "text/prompt.h"

#include <string.h>
#include <unistd.h>

OPTIONS_NO_TAIL(rsd_build_options, demos);
static const rsd_build_options defaults = {
    .size = sizeof(rsd_build_options), .seed = 1, .formats = (1u << RSD_FORMATS) - 1, .shots = 4, .keep = RSD_KEEP_CORRECT};

int rsd_build_options_init(rsd_build_options *o, size_t size) {
    return options_init(o, size, &defaults, sizeof defaults, NULL);
}

static int hash_add(void *user, const char *path, struct err *e) {
    struct file_map m;
    int code = file_map_open(&m, path, false, e);
    if (!code && m.n)
        sha256_add(user, m.p, m.n);
    file_map_close(&m);
    return code;
}

/* Of a file, or of the files of a folder one after another: what sha256sum says of `cat` of them. */
static int hash_files(const struct questions_from *from, const struct allocator *a, char hex[65], struct err *e) {
    struct sha256 s;
    unsigned char digest[32];
    sha256_begin(&s);
    int code = questions_files(from, a, hash_add, &s, e);
    sha256_end(&s, digest);
    sha256_hex(digest, hex);
    return code;
}

static void count_kinds(rsd_align_report *report, const struct shard_reply *r) {
    report->replies++;
    report->positions += r->n - 1; /* without the end token */
    for (size_t t = 0; t + 1 < r->n; t++) {
        report->kinds[r->kinds[t] & SHARD_KIND]++;
        report->placed += (double)r->placed[t];
        report->kind_placed[r->kinds[t] & SHARD_KIND] += (double)r->placed[t];
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
    struct questions_from from; /* where the questions are read */
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
    memcpy(about.report.kind_given, all->report.kind_given, sizeof about.report.kind_given);
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

/* ---- held-out questions ---- */

static int refuse(struct build *b, const struct questions *held, const char *path, struct err *e) {
    struct overlap all;
    int code = overlap_open(&all, &b->questions, e);
    code = code ? code
                : overlap_refuse(&all, b->o->questions, held, path,
                                 "what is trained on cannot be tested with: take it out, or have it left out (drop_held_out)", e);
    overlap_free(&all);
    return code;
}

/* Replaces the questions by those that are not held out. */
static int drop(struct build *b, const struct questions *held, struct err *e) {
    struct overlap them;
    struct questions rest;
    size_t at;
    questions_start(&rest, b->a);
    int code = overlap_open(&them, held, e);
    for (size_t i = 0; i < b->questions.n && !code; i++) {
        struct question x = questions_get(&b->questions, i);
        int found = overlap_find(&them, x.question, &at, e);
        b->recipe.report.held_out += found > 0;
        if (found == 0 && x.task) /* numbered anew, so that there are no more tasks than questions */
            code = questions_task(&rest, (struct text){(const char *)&x.task, sizeof x.task}, &x.task, e);
        code = code ? code : found > 0 ? 0 : found < 0 ? found : questions_put(&rest, &x, e);
    }
    overlap_free(&them);
    if (code) {
        questions_free(&rest);
        return code;
    }
    questions_free(&b->questions);
    b->questions = rest;
    return b->questions.n ? 0 : err_set(e, ERR_MISMATCH, "%s: all questions are held out", b->o->questions);
}

static int hold_out(struct build *b, struct err *e) {
    int code = 0;
    for (size_t i = 0; i < b->o->n_hold_out && !code; i++) {
        struct questions held;
        struct questions_from from = {.path = b->o->hold_out[i], .task = TASK_ANY};
        if ((code = questions_read(&held, b->a, &from, e)))
            return code;
        code = b->o->drop_held_out ? drop(b, &held, e) : refuse(b, &held, from.path, e);
        questions_free(&held);
    }
    return code;
}

/* ---- the whole ---- */

static int build(struct build *b, struct err *e) {
    const rsd_build_options *o = b->o;
    b->recipe = (struct recipe){.seed = o->seed,
                                .formats = o->formats,
                                .shots = o->shots,
                                .keep = o->keep,
                                .demos = o->demos,
                                .report.size = sizeof b->recipe.report};
    int code = questions_read(&b->questions, b->a, &b->from, e);
    code = code || !strcmp(o->questions, "-") ? code : hash_files(&b->from, b->a, b->recipe.questions_sha256, e);
    code = code ? code : hold_out(b, e);
    if (!code && o->aligned) {
        struct questions_from shard = {.path = o->aligned, .task = TASK_ANY};
        code = shard_open(&b->shard, b->a, o->aligned, e);
        code = code ? code : hash_files(&shard, b->a, b->recipe.aligned_sha256, e);
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
    for (size_t i = 0; i < o->n_hold_out; i++)
        if (!o->hold_out || !o->hold_out[i])
            return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_build: hold_out[%zu] must be a path", i);
    if (o->reserved || (o->drop_held_out & ~1) || (o->demos & ~1))
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_build: reserved must be 0, drop_held_out and demos 0 or 1");
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
    struct build b = {.a = &ctx->alloc, .o = &o, .from = {.path = o.questions, .task = TASK_JSONL}};
    code = o.task ? task_find(o.task, &b.from.task, &e) : 0;
    if (!code && b.from.task == TASK_BBH)
        log_write(&ctx->log, LOG_WARN, "%s: BIG-Bench-Hard asks to be kept out of training data: it is for tests", o.questions);
    code = code ? code : build(&b, &e);
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
