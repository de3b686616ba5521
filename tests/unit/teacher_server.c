/* See teacher_server.h. */
#define _GNU_SOURCE
#include "teacher_server.h"

#include "core/json.h"
#include "core/map.h"
#include "util.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct server start_server(const char *const *script) {
    return start_server_in(test_dir(), "fault_server.py", script);
}

struct server start_server_in(const char *dir, const char *tool, const char *const *script) {
    struct server s = {.dir = dir};
    char path[1024];
    int in[2], out[2];
    char *argv[40] = {(char *)(uintptr_t) "python3", (char *)(uintptr_t) "-IS", path}; /* no site: starts faster */
    size_t n = 3;
    snprintf(path, sizeof path, TEST_SOURCE_ROOT "/tests/tools/%s", tool);
    s.log = test_path(s.dir, "requests.jsonl");
    argv[n++] = (char *)(uintptr_t)s.log;
    for (; *script && n < 39; script++)
        argv[n++] = (char *)(uintptr_t)*script;
    ck_assert(pipe(in) == 0 && pipe(out) == 0);
    s.pid = fork();
    ck_assert_int_ge(s.pid, 0);
    if (s.pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        execvp("python3", argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    s.in = in[1];
    FILE *f = fdopen(out[0], "r");
    ck_assert_msg(fscanf(f, "%d", &s.port) == 1, "the fault server did not start");
    fclose(f);
    snprintf(s.url, sizeof s.url, "http://127.0.0.1:%d/v1", s.port);
    return s;
}

void stop_server(struct server *s) {
    close(s->in);
    ck_assert_int_eq(waitpid(s->pid, NULL, 0), s->pid);
}

/* Requests that the server saw; with `part`, those whose line has it. */
size_t requests(const struct server *s, const char *part) {
    struct lines l;
    struct text line;
    size_t n = 0;
    ck_assert_int_eq(lines_open(&l, &mem_std, s->log, 1 << 24, NULL), 0);
    while (lines_next(&l, &line, NULL) == 1)
        n += !part || memmem(line.p, line.n, part, strlen(part)) != NULL;
    lines_close(&l);
    return n;
}

rsd_teacher_options options_for(const char *url) {
    rsd_teacher_options o;
    rsd_teacher_options_init(&o, sizeof o);
    o.url = url;
    o.model = "fault";
    o.api_key_env = "RSD_TEST_NO_SUCH_KEY";
    return o;
}

rsd_teacher *open_teacher(rsd_ctx *ctx, const rsd_teacher_options *o) {
    rsd_teacher *t = NULL;
    ck_assert_msg(rsd_teacher_open(ctx, o, &t) == RSD_OK, "%s", rsd_ctx_error(ctx));
    return t;
}

/* Every (id, sample) once. */
size_t distinct_rows(const char *store) {
    struct lines l;
    struct text line;
    struct map seen;
    size_t n = 0;
    map_init(&seen, &mem_std);
    ck_assert_int_eq(lines_open(&l, &mem_std, store, 1 << 24, NULL), 0);
    while (lines_next(&l, &line, NULL) == 1) {
        struct json *doc = NULL;
        struct text id;
        int64_t sample;
        char key[128];
        ck_assert_int_eq(json_parse(line.p, line.n, &doc, NULL), 0);
        ck_assert_int_eq(json_need_text(doc, "id", &id, NULL), 0);
        ck_assert_int_eq(json_need_int(doc, "sample", 0, 1000000, &sample, NULL), 0);
        snprintf(key, sizeof key, "%.*s %lld", (int)id.n, id.p, (long long)sample);
        ck_assert_msg(!map_get(&seen, text_of(key), NULL), "twice: %s", key);
        map_put(&seen, text_of(key), 1, NULL);
        json_free(doc);
        n++;
    }
    lines_close(&l);
    map_free(&seen);
    return n;
}
