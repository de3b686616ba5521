/* gzip (RFC 1952): the door to zlib. A compressed file may be several members end to end, as `cat a.gz b.gz` makes them. Built
 * without zlib everything here but gzip_starts is ERR_UNSUPPORTED. */
#ifndef CORE_GZIP_H
#define CORE_GZIP_H

#include "core/file.h"

/* Whether a file that begins so is compressed; text never begins so. */
bool gzip_starts(const char *p, size_t n);

/* Bytes in, bytes out: put, then get until it gives nothing, then put more. */
struct gunzip;
int gunzip_open(struct gunzip **out, const struct allocator *a, struct err *e);
void gunzip_put(struct gunzip *g, const char *p, size_t n); /* borrowed until get has given nothing */
/* Up to `cap` bytes; *got 0: put more. ERR_FORMAT: what is wrong at which byte of the compressed file. */
int gunzip_get(struct gunzip *g, char *out, size_t cap, size_t *got, struct err *e);
bool gunzip_whole(const struct gunzip *g); /* what was put may end here */
void gunzip_close(struct gunzip *g);       /* NULL is fine */

/* Writes one member into a file that is open for writing. The same bytes give the same file. */
struct gzip_write;
int gzip_begin(struct gzip_write **out, const struct allocator *a, struct file_write *to, struct err *e);
int gzip_put(struct gzip_write *z, const char *p, size_t n, struct err *e);
int gzip_end(struct gzip_write *z, struct err *e); /* the end of the member; frees z in either case */
void gzip_abort(struct gzip_write *z);             /* NULL is fine */

#endif
