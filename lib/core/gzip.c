/* zlib's streams with our allocator and located errors. What is read may end anywhere: the caller asks whether that was between
 * two members. */
#include "core/gzip.h"

bool gzip_starts(const char *p, size_t n) {
    return n >= 2 && p[0] == '\x1f' && p[1] == '\x8b';
}

#ifdef CORE_ZLIB

#include <string.h>
#include <zlib.h>

enum { GZIP_ONLY = 16 + MAX_WBITS, LEVEL = 6, MEMORY = 8, ROOM = 64 * 1024 };
static const size_t MOST = (size_t)1 << 30; /* of one call: zlib counts in unsigned int */

static voidpf take(voidpf opaque, uInt n, uInt size) {
    size_t bytes;
    return size_mul(n, size, &bytes) ? mem_new(opaque, bytes, 1, NULL) : NULL;
}

static void give(voidpf opaque, voidpf p) {
    mem_free(opaque, p);
}

struct gunzip {
    z_stream z;
    const struct allocator *a;
    const char *p; /* put and not used */
    size_t n;
    uint64_t used;
    bool inside; /* a member that has not ended */
};

int gunzip_open(struct gunzip **out, const struct allocator *a, struct err *e) {
    *out = NULL;
    struct gunzip *g = mem_zero(a, 1, sizeof *g, e);
    if (!g)
        return ERR_NOMEM;
    g->a = a;
    g->z = (z_stream){.zalloc = take, .zfree = give, .opaque = (void *)(uintptr_t)a};
    if (inflateInit2(&g->z, GZIP_ONLY) != Z_OK) {
        mem_free(a, g);
        return err_set(e, ERR_NOMEM, "out of memory: decompression");
    }
    *out = g;
    return 0;
}

void gunzip_put(struct gunzip *g, const char *p, size_t n) {
    g->p = p;
    g->n = n;
}

int gunzip_get(struct gunzip *g, char *out, size_t cap, size_t *got, struct err *e) {
    *got = 0;
    while ((g->n || g->inside) && !*got) { /* inside: zlib may hold back what did not fit into `out` */
        g->inside = true;
        g->z.next_in = (z_const Bytef *)(uintptr_t)g->p;
        g->z.avail_in = (uInt)(g->n < MOST ? g->n : MOST);
        g->z.next_out = (Bytef *)out;
        g->z.avail_out = (uInt)(cap < MOST ? cap : MOST);
        size_t in = g->z.avail_in, room = g->z.avail_out;
        int rc = inflate(&g->z, Z_NO_FLUSH);
        in -= g->z.avail_in;
        g->p += in;
        g->n -= in;
        g->used += in;
        *got = room - g->z.avail_out;
        if (rc == Z_STREAM_END) {
            g->inside = false;
            rc = inflateReset(&g->z);
        } else if (rc == Z_BUF_ERROR || (rc == Z_OK && !in && !*got)) {
            return 0;
        }
        if (rc == Z_MEM_ERROR)
            return err_set(e, ERR_NOMEM, "out of memory: decompression");
        if (rc != Z_OK)
            return err_set(e, ERR_FORMAT, "byte %llu of the compressed file: %s: the file is damaged",
                           (unsigned long long)g->used, g->z.msg ? g->z.msg : "no gzip data");
    }
    return 0;
}

bool gunzip_whole(const struct gunzip *g) {
    return !g->inside && !g->n;
}

void gunzip_close(struct gunzip *g) {
    if (!g)
        return;
    inflateEnd(&g->z);
    mem_free(g->a, g);
}

struct gzip_write {
    z_stream z;
    const struct allocator *a;
    struct file_write *to;
    Bytef room[ROOM];
};

int gzip_begin(struct gzip_write **out, const struct allocator *a, struct file_write *to, struct err *e) {
    *out = NULL;
    struct gzip_write *z = mem_zero(a, 1, sizeof *z, e);
    if (!z)
        return ERR_NOMEM;
    z->a = a;
    z->to = to;
    z->z = (z_stream){.zalloc = take, .zfree = give, .opaque = (void *)(uintptr_t)a};
    if (deflateInit2(&z->z, LEVEL, Z_DEFLATED, GZIP_ONLY, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
        mem_free(a, z);
        return err_set(e, ERR_NOMEM, "out of memory: compression");
    }
    *out = z;
    return 0;
}

static int push(struct gzip_write *z, const char *p, size_t n, int flush, struct err *e) {
    int rc;
    z->z.next_in = (z_const Bytef *)(uintptr_t)p;
    z->z.avail_in = (uInt)n;
    do {
        z->z.next_out = z->room;
        z->z.avail_out = ROOM;
        rc = deflate(&z->z, flush);
        size_t made = ROOM - z->z.avail_out;
        int code = made ? file_put(z->to, z->room, made, e) : 0;
        if (code)
            return code;
    } while (z->z.avail_in || !z->z.avail_out || (flush == Z_FINISH && rc == Z_OK));
    return 0;
}

int gzip_put(struct gzip_write *z, const char *p, size_t n, struct err *e) {
    int code = 0;
    while (n && !code) {
        size_t part = n < MOST ? n : MOST;
        code = push(z, p, part, Z_NO_FLUSH, e);
        p += part;
        n -= part;
    }
    return code;
}

int gzip_end(struct gzip_write *z, struct err *e) {
    int code = push(z, NULL, 0, Z_FINISH, e);
    gzip_abort(z);
    return code;
}

void gzip_abort(struct gzip_write *z) {
    if (!z)
        return;
    deflateEnd(&z->z);
    mem_free(z->a, z);
}

#else

static int missing(struct err *e) {
    return err_set(e, ERR_UNSUPPORTED,
                   "gzip: this library was built without zlib: unpack the file, or build with -Dgzip=enabled");
}

int gunzip_open(struct gunzip **out, const struct allocator *a, struct err *e) {
    (void)a;
    *out = NULL;
    return missing(e);
}

void gunzip_put(struct gunzip *g, const char *p, size_t n) {
    (void)g, (void)p, (void)n;
}

int gunzip_get(struct gunzip *g, char *out, size_t cap, size_t *got, struct err *e) {
    (void)g, (void)out, (void)cap;
    *got = 0;
    return missing(e);
}

bool gunzip_whole(const struct gunzip *g) {
    return !g;
}

void gunzip_close(struct gunzip *g) {
    (void)g;
}

int gzip_begin(struct gzip_write **out, const struct allocator *a, struct file_write *to, struct err *e) {
    (void)a, (void)to;
    *out = NULL;
    return missing(e);
}

int gzip_put(struct gzip_write *z, const char *p, size_t n, struct err *e) {
    (void)z, (void)p, (void)n;
    return missing(e);
}

int gzip_end(struct gzip_write *z, struct err *e) {
    (void)z;
    return missing(e);
}

void gzip_abort(struct gzip_write *z) {
    (void)z;
}

#endif
