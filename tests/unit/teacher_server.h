/* The fault server of the teacher's tests (tests/tools/fault_server.py), and what is the same in all of them. */
#ifndef TEACHER_SERVER_H
#define TEACHER_SERVER_H

#include "reasondistill/teacher.h"

#include <sys/types.h>

struct server {
    pid_t pid;
    int in; /* the server ends when this is closed, also when a test dies */
    int port;
    const char *dir, *log;
    char url[64];
};

#define SCRIPT(...) ((const char *const[]){__VA_ARGS__, NULL})

struct server start_server(const char *const *script);
/* Another server of tests/tools that is called TOOL LOG ARGUMENTS and prints its port. */
struct server start_server_in(const char *dir, const char *tool, const char *const *arguments);
void stop_server(struct server *s);
/* Requests that the server saw; with `part`, those whose line has it. */
size_t requests(const struct server *s, const char *part);

rsd_teacher_options options_for(const char *url);
rsd_teacher *open_teacher(rsd_ctx *ctx, const rsd_teacher_options *o);
/* Rows of a store, none twice. */
size_t distinct_rows(const char *store);

#endif
