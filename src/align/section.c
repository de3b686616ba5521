/* Written front to back with the table behind; read by map with every offset, length and checksum checked before anything is
 * used. */
#include "align/section.h"

#include "core/hash.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the files are little-endian and used where they lie");

enum { ALIGN = 64, VERSION = 1 };
static const char MAGIC[8] = "RSDSHARD", END[8] = "RSDSHEND";

struct header {
    char magic[8];
    uint32_t version, kind;
    uint8_t zero[44];
    uint32_t crc;
};
struct trailer {
    uint64_t table, n, size;
    uint32_t table_crc, version, kind;
    uint8_t zero[16];
    uint32_t crc;
    char magic[8];
};
_Static_assert(sizeof(struct header) == ALIGN && sizeof(struct trailer) == ALIGN && sizeof(struct section_entry) == 48,
               "as in the file");

/* ---- writing ---- */

static int put(struct section_out *o, const void *p, size_t n, struct err *e) {
    int code = 0;
    if (!o->to_stdout)
        code = n ? file_put(&o->file, p, n, e) : 0;
    for (size_t done = 0; o->to_stdout && done < n;) {
        ssize_t k = write(STDOUT_FILENO, (const char *)p + done, n - done);
        if (k < 0 && errno != EINTR)
            return err_errno(e, errno, "standard output");
        done += k > 0 ? (size_t)k : 0;
    }
    o->at += n;
    return code;
}

static int pad(struct section_out *o, struct err *e) {
    static const char zeros[ALIGN] = {0};
    size_t over = (size_t)(o->at % ALIGN);
    return over ? put(o, zeros, ALIGN - over, e) : 0;
}

int section_begin(struct section_out *o, const struct allocator *a, const char *path, uint32_t kind, struct err *e) {
    *o = (struct section_out){.a = a, .to_stdout = strcmp(path, "-") == 0};
    int code = o->to_stdout ? 0 : file_begin(&o->file, a, path, e);
    if (code)
        return code;
    o->open = true;
    struct header h = {.version = VERSION, .kind = kind};
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    h.crc = crc32c(0, &h, offsetof(struct header, crc));
    if ((code = put(o, &h, sizeof h, e)))
        section_abort(o);
    return code;
}

int section_put(struct section_out *o, const char *name, uint64_t block, const void *p, size_t n, struct err *e) {
    int code = mem_reserve(o->a, &o->entries, &o->cap, o->n + 1, sizeof *o->entries, e);
    code = code ? code : pad(o, e);
    if (code)
        return code;
    struct section_entry s = {.block = block, .offset = o->at, .length = n, .crc = n ? crc32c(0, p, n) : 0};
    strncpy(s.name, name, sizeof s.name - 1);
    o->entries[o->n++] = s;
    return put(o, p, n, e);
}

int section_commit(struct section_out *o, struct err *e) {
    int code = pad(o, e);
    struct trailer t = {.table = o->at, .n = o->n, .version = VERSION};
    size_t bytes = o->n * sizeof *o->entries;
    t.table_crc = bytes ? crc32c(0, o->entries, bytes) : 0;
    code = code ? code : put(o, o->entries, bytes, e);
    code = code ? code : pad(o, e);
    t.size = o->at + sizeof t;
    memcpy(t.magic, END, sizeof END);
    t.crc = crc32c(0, &t, offsetof(struct trailer, crc));
    code = code ? code : put(o, &t, sizeof t, e);
    if (!code && !o->to_stdout)
        code = file_commit(&o->file, e);
    section_abort(o);
    return code;
}

void section_abort(struct section_out *o) {
    if (!o->open)
        return;
    if (!o->to_stdout)
        file_abort(&o->file);
    mem_free(o->a, o->entries);
    *o = (struct section_out){0};
}

/* ---- reading ---- */

static int damaged(struct err *e, const char *path, uint64_t at, const char *what, const char *name) {
    return err_set(e, ERR_FORMAT, "%s: byte %llu: %s%s: the file is damaged or cut: make it again", path, (unsigned long long)at,
                   what, name);
}

static int check_zeros(const unsigned char *p, uint64_t from, uint64_t to, const char *path, struct err *e) {
    for (uint64_t i = from; i < to; i++)
        if (p[i])
            return damaged(e, path, i, "padding is not zero", "");
    return 0;
}

static int check_ends(const unsigned char *p, size_t n, uint32_t kind, const char *path, struct trailer *t, struct err *e) {
    struct header h;
    if (n < sizeof h || memcmp(p, MAGIC, sizeof MAGIC) != 0)
        return err_set(e, ERR_FORMAT, "%s: byte 0: this is no .rsd file", path);
    memcpy(&h, p, sizeof h);
    if (h.crc != crc32c(0, &h, offsetof(struct header, crc)))
        return damaged(e, path, offsetof(struct header, crc), "checksum of the header", "");
    if (h.version != VERSION)
        return err_set(e, ERR_VERSION, "%s: version %u, this library reads version %d", path, (unsigned)h.version, VERSION);
    if (h.kind != kind)
        return err_set(e, ERR_FORMAT, "%s: byte 12: file of kind %u, expected %u (1: aligned replies, 2: questions)", path,
                       (unsigned)h.kind, (unsigned)kind);
    if (n < sizeof h + sizeof *t || n % ALIGN)
        return damaged(e, path, n, "the trailer is missing", "");
    memcpy(t, p + n - sizeof *t, sizeof *t);
    if (memcmp(t->magic, END, sizeof END) != 0 || t->crc != crc32c(0, t, offsetof(struct trailer, crc)))
        return damaged(e, path, n - sizeof *t, "the trailer is missing or its checksum is wrong", "");
    if (t->size != n || t->version != VERSION)
        return damaged(e, path, n - sizeof *t, "the size in the trailer is not the file's", "");
    return 0;
}

static int check_table(struct section_in *in, const struct trailer *t, const char *path, struct err *e) {
    const unsigned char *p = in->map.p;
    uint64_t end = t->size - sizeof *t;
    if (t->table % ALIGN || t->table < ALIGN || t->table > end || t->n > (end - t->table) / sizeof *in->entries)
        return damaged(e, path, end, "the table is outside the file", "");
    in->entries = (const void *)(p + t->table);
    in->n = (size_t)t->n;
    uint64_t table_end = t->table + t->n * sizeof *in->entries;
    if (t->table_crc != (in->n ? crc32c(0, in->entries, in->n * sizeof *in->entries) : 0) || (end - table_end) >= ALIGN)
        return damaged(e, path, t->table, "checksum of the table", "");
    uint64_t at = ALIGN;
    for (size_t i = 0; i < in->n; i++) {
        const struct section_entry *s = &in->entries[i];
        if (s->name[sizeof s->name - 1] || s->zero || s->offset % ALIGN || s->offset < at || s->offset - at >= ALIGN ||
            s->offset > t->table || s->length > t->table - s->offset)
            return damaged(e, path, t->table + i * sizeof *s, "an entry of the table", "");
        if (check_zeros(p, at, s->offset, path, e))
            return ERR_FORMAT;
        if (s->crc != (s->length ? crc32c(0, p + s->offset, (size_t)s->length) : 0))
            return damaged(e, path, s->offset, "checksum of section ", s->name);
        at = s->offset + s->length;
    }
    if (t->table - at >= ALIGN)
        return damaged(e, path, at, "bytes that belong to no section", "");
    return check_zeros(p, at, t->table, path, e) || check_zeros(p, table_end, end, path, e) ? ERR_FORMAT : 0;
}

int section_open(struct section_in *in, const char *path, uint32_t kind, struct err *e) {
    struct trailer t;
    *in = (struct section_in){0};
    int code = file_map_open(&in->map, path, false, e);
    code = code ? code : check_ends(in->map.p, in->map.n, kind, path, &t, e);
    code = code ? code : check_table(in, &t, path, e);
    if (code)
        section_close(in);
    return code;
}

void section_close(struct section_in *in) {
    file_map_close(&in->map);
    *in = (struct section_in){0};
}

int section_find(const struct section_in *in, const char *name, uint64_t block, size_t size, const void **p, size_t *n,
                 struct err *e) {
    for (size_t i = 0; i < in->n; i++) {
        const struct section_entry *s = &in->entries[i];
        if (s->block != block || strcmp(s->name, name) != 0)
            continue;
        if (s->length % size)
            return err_set(e, ERR_FORMAT, "section %s of block %llu: %llu bytes, expected a multiple of %zu", name,
                           (unsigned long long)block, (unsigned long long)s->length, size);
        *p = (const char *)in->map.p + s->offset;
        *n = (size_t)s->length / size;
        return 0;
    }
    return err_set(e, ERR_FORMAT, "section %s of block %llu is missing", name, (unsigned long long)block);
}
