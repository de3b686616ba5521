#include "run_fixture.h"

#include "core/json.h"
#include "train_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void keep_log(void *user, int level, const char *text) {
    struct fix *f = user;
    if (level <= RSD_LOG_WARN && strlen(f->log) + strlen(text) + 2 < sizeof f->log)
        strcat(strcat(f->log, text), "\n");
}

const char *at(const struct fix *f, const char *name) {
    return test_path(f->dir, name);
}

void open_fix_of(struct fix *f, int questions, int blas) {
    memset(f, 0, sizeof *f);
    rsd_ctx_options o;
    rsd_ctx_options_init(&o, sizeof o);
    o.log = keep_log;
    o.log_user = f;
    o.blas = blas;
    ck_assert_int_eq(rsd_ctx_open(&o, &f->ctx), RSD_OK);
    strcpy(f->dir, test_dir());
    fixture_vocab(at(f, "spiece.model"));
    fixture_config(at(f, "config.json"), FIXTURE_VOCAB, "0.1");
    rsd_t5 *m = NULL;
    OK(f->ctx, rsd_t5_create(f->ctx, at(f, "config.json"), 1, &m));
    OK(f->ctx, rsd_t5_save(m, at(f, "model"), RSD_F32, at(f, "spiece.model")));
    rsd_t5_close(m);
    train_data(f->ctx, f->dir, questions);
}

void open_fix(struct fix *f) {
    open_fix_of(f, 12, RSD_BLAS_LEAVE);
}

void close_fix(struct fix *f) {
    rsd_ctx_close(f->ctx);
}

const char *write_run(struct fix *f, const char *out, const char *more) {
    static const char *const usual[][2] = {{"steps", "6"},
                                           {"batch_tokens", "120"},
                                           {"accumulate", "2"},
                                           {"lr", "0.01"},
                                           {"formats", "{\"zs-cot\": 2, \"zs-ao\": 1}"}};
    struct str s;
    str_init(&s, NULL);
    str_addf(&s, "{\"model\": \"%s/model\", \"data\": \"%s/data\", \"out\": \"%s/%s\"%s", f->dir, f->dir, f->dir, out, more);
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) {
        char key[40];
        sprintf(key, "\"%s\"", usual[i][0]);
        if (!strstr(more, key))
            str_addf(&s, ", %s: %s", key, usual[i][1]);
    }
    str_addc(&s, '}');
    strcpy(f->json, at(f, "run.json"));
    test_write(f->json, s.p, s.n);
    str_free(&s);
    return f->json;
}

static int stop_at(void *user, const rsd_step *s) {
    return s->step == *(const uint64_t *)user ? 77 : 0;
}

void run(struct fix *f, const char *json, int resume, uint64_t stop) {
    rsd_trainer *t = NULL;
    OK(f->ctx, rsd_trainer_open(f->ctx, json, resume, &t));
    int code = rsd_trainer_run(t, stop ? stop_at : NULL, &stop);
    ck_assert_msg(code == (stop ? 77 : RSD_OK), "%d: %s", code, rsd_ctx_error(f->ctx));
    rsd_trainer_close(t);
}

void run_and_die(struct fix *f, const char *json, int resume, uint64_t last) {
    rsd_trainer *t = NULL;
    rsd_step s = {.size = sizeof s};
    OK(f->ctx, rsd_trainer_open(f->ctx, json, resume, &t));
    while (s.step < last)
        OK(f->ctx, rsd_trainer_step(t, &s));
    rsd_trainer_close(t);
}

void same_file(const struct fix *f, const char *a, const char *b, const char *name) {
    char x[400], y[400];
    size_t n = 0, m = 0;
    strcpy(x, test_path(at(f, a), name));
    strcpy(y, test_path(at(f, b), name));
    char *p = test_read(x, &n), *q = test_read(y, &m);
    ck_assert_msg(n == m && !memcmp(p, q, n), "%s and %s differ", x, y);
    free(p);
    free(q);
}

void same_end(const struct fix *f, const char *a, const char *b) {
    same_file(f, a, b, "checkpoints/step-6/model.safetensors");
    same_file(f, a, b, "checkpoints/step-6/trainer.safetensors");
    same_file(f, a, b, "checkpoints/step-6/trainer.json");
}

void metrics(const struct fix *f, const char *run_dir, char *out, double *loss) {
    size_t n = 0;
    char *text = test_read(test_path(at(f, run_dir), "metrics.jsonl"), &n);
    out[0] = 0;
    for (char *p = text; *p;) {
        char *end = strchr(p, '\n');
        struct json *line = NULL;
        ck_assert_ptr_nonnull(end);
        ck_assert_int_eq(json_parse(p, (size_t)(end - p), &line, NULL), 0);
        sprintf(out + strlen(out), "%d ", (int)json_number(json_get(line, "step")));
        if (loss)
            *loss++ = json_number(json_get(line, "loss"));
        json_free(line);
        p = end + 1;
    }
    free(text);
}

void refuse(struct fix *f, const char *json, int resume, int code, const char *says) {
    rsd_trainer *t = NULL;
    ck_assert_int_eq(rsd_trainer_open(f->ctx, json, resume, &t), code);
    ck_assert_ptr_null(t);
    ck_assert_msg(strstr(rsd_ctx_error(f->ctx), says) != NULL, "%s", rsd_ctx_error(f->ctx));
}
