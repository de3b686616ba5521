/* Any file of questions as plain lines: what people look at, split and give to every other verb. */
#include "base/ctx.h"
#include "core/file.h"
#include "data/original.h"
#include "reasondistill/dataset.h"

static void put_line(struct str *line, const struct questions *q, size_t i) {
    struct question x = questions_get(q, i);
    struct json_out o;
    str_clear(line);
    json_begin(&o, line, 0);
    json_object(&o);
    json_put_key(&o, "id");
    json_put_text(&o, x.id);
    if (x.task) {
        json_put_key(&o, "task");
        json_put_text(&o, questions_task_name(q, x.task));
    }
    json_put_key(&o, "question");
    json_put_text(&o, x.question);
    json_put_key(&o, "answer");
    json_put_text(&o, x.answer);
    json_put_key(&o, "rationale");
    json_put_text(&o, x.rationale);
    json_end_object(&o);
    str_addc(line, '\n');
}

static int write_lines(const struct questions *q, const char *path, const struct allocator *a, struct err *e) {
    struct file_write f;
    struct str line;
    int code = file_begin(&f, a, path, e);
    if (code)
        return code;
    str_init(&line, a);
    for (size_t i = 0; i < q->n && !code; i++) {
        put_line(&line, q, i);
        code = str_status(&line, e);
        code = code ? code : file_put(&f, line.p, line.n, e);
    }
    code = code ? code : file_commit(&f, e);
    file_abort(&f);
    str_free(&line);
    return code;
}

int rsd_dataset_convert(rsd_ctx *ctx, const char *task, const char *in, const char *out, uint64_t *n) {
    struct err e = {0};
    struct questions q = {0};
    struct questions_from from = {.path = in, .task = TASK_JSONL};
    if (!ctx)
        return RSD_EINVAL;
    if (!in || !out)
        return ctx_fail(ctx, RSD_EINVAL, "rsd_dataset_convert: in and out must be given");
    int code = task ? task_find(task, &from.task, &e) : 0;
    code = code ? code : questions_read(&q, &ctx->alloc, &from, &e);
    code = code ? code : write_lines(&q, out, &ctx->alloc, &e);
    if (!code && n)
        *n = q.n;
    questions_free(&q);
    return ctx_return(ctx, code, &e);
}
