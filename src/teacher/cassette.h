/* A cassette: what an endpoint answered, byte for byte, one line a request:
 * {"cassette":1,"api","request_sha256","id","question","first","n","body"}. The body is a string: whatever is no JSON never
 * gets this far. */
#ifndef TEACHER_CASSETTE_H
#define TEACHER_CASSETTE_H

#include "core/file.h"
#include "teacher/transport.h"

struct cassette {
    rsd_ctx *ctx; /* NULL: not open */
    struct append log;
    struct str line;
};

int cassette_open(struct cassette *c, rsd_ctx *ctx, const char *path, struct err *e); /* appends; ERR_BUSY, ERR_IO */
int cassette_add(struct cassette *c, const char *api, const struct request *r, struct text body, struct err *e);
int cassette_close(struct cassette *c, struct err *e); /* harmless on one that is not open */

#endif
