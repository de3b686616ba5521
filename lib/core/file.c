/* Reading: whole files, maps, lines. Sizes are limited before memory is taken, interrupted calls are repeated,
 * every error names the path. */
#include "core/file.h"
#include "core/gzip.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024 };

static int open_to_read(const char *path, struct stat *st, struct err *e) {
    int fd;
    do
        fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return err_errno(e, errno, "%s: cannot be opened", path);
    int code = ERR_NONE;
    if (fstat(fd, st))
        code = err_errno(e, errno, "%s: cannot be examined", path);
    else if (S_ISDIR(st->st_mode))
        code = err_set(e, ERR_INVALID, "%s: is a folder, expected a file", path);
    if (code) {
        close(fd);
        return code;
    }
    return fd;
}

static ssize_t read_some(int fd, void *p, size_t n) {
    ssize_t got;
    do
        got = read(fd, p, n < SSIZE_MAX ? n : SSIZE_MAX);
    while (got < 0 && errno == EINTR);
    return got;
}

int file_read(const char *path, size_t max, struct str *out, struct err *e) {
    struct stat st;
    int fd = open_to_read(path, &st, e), code = ERR_NONE;
    if (fd < 0)
        return fd;
    size_t before = out->n;
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > max)
        code = err_set(e, ERR_FORMAT, "%s: has %lld bytes, at most %zu are allowed", path, (long long)st.st_size, max);
    else if (S_ISREG(st.st_mode) && st.st_size > 0)
        str_reserve(out, (size_t)st.st_size);
    /* Until the end, not until st_size: the file may be a pipe, or growing. */
    while (!code) {
        size_t left = max - (out->n - before); /* one byte more is asked for, to notice what is beyond max */
        size_t room = out->cap > out->n ? out->cap - out->n - 1 : 0;
        size_t ask = room < CHUNK ? CHUNK : room;
        if (ask > left)
            ask = left + 1;
        char *to = str_reserve(out, ask);
        if (!to) {
            code = err_set(e, ERR_NOMEM, "%s: out of memory after %zu bytes", path, out->n - before);
            break;
        }
        ssize_t got = read_some(fd, to, ask);
        if (got < 0)
            code = err_errno(e, errno, "%s: cannot be read at byte %zu", path, out->n - before);
        if (got <= 0)
            break;
        out->n += (size_t)got;
        if (out->n - before > max)
            code = err_set(e, ERR_FORMAT, "%s: has more than the %zu bytes allowed", path, max);
    }
    close(fd);
    if (code)
        out->n = before;
    str_z(out);
    return code;
}

int file_map_open(struct file_map *m, const char *path, bool private_write, struct err *e) {
    *m = (struct file_map){0};
    struct stat st;
    int fd = open_to_read(path, &st, e), code = ERR_NONE;
    if (fd < 0)
        return fd;
    if (!S_ISREG(st.st_mode))
        code = err_set(e, ERR_INVALID, "%s: is not a regular file and cannot be mapped", path);
    else if ((uint64_t)st.st_size > SIZE_MAX)
        code = err_set(e, ERR_NOMEM, "%s: %lld bytes do not fit into the address space", path, (long long)st.st_size);
    else if (st.st_size > 0) {
        /* Most pages of a private map are never written: memory is not set aside for all of them. */
        int flags = private_write ? MAP_NORESERVE : 0;
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ | (private_write ? PROT_WRITE : 0), MAP_PRIVATE | flags, fd, 0);
        if (p == MAP_FAILED)
            code = err_errno(e, errno, "%s: cannot be mapped", path);
        else
            *m = (struct file_map){p, (size_t)st.st_size};
    }
    close(fd); /* the map keeps the file */
    return code;
}

void file_map_close(struct file_map *m) {
    if (m->p)
        munmap(m->p, m->n);
    *m = (struct file_map){0};
}

void file_map_forget(struct file_map *m) {
    if (m->p)
        madvise(m->p, m->n, MADV_DONTNEED);
}

bool file_exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

bool file_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int file_join(const struct allocator *a, char **out, struct err *e, const char *dir, const char *name) {
    struct str s;
    str_init(&s, a);
    str_addz(&s, dir);
    if (s.n && s.p[s.n - 1] != '/')
        str_addc(&s, '/');
    str_addz(&s, name);
    *out = str_take(&s);
    int code = *out ? ERR_NONE : err_set(e, ERR_NOMEM, "out of memory: a path in %s", dir);
    str_free(&s);
    return code;
}

int lines_open(struct lines *l, const struct allocator *a, const char *path, size_t max_line, struct err *e) {
    *l = (struct lines){.fd = -1, .path = path, .max = max_line};
    str_init(&l->buf, a);
    str_init(&l->raw, a);
    if (strcmp(path, "-") == 0) {
        l->fd = STDIN_FILENO;
        l->path = "standard input";
        return ERR_NONE;
    }
    struct stat st;
    int fd = open_to_read(path, &st, e);
    if (fd < 0)
        return fd;
    l->fd = fd;
    return ERR_NONE;
}

/* The first bytes say whether what follows is compressed. */
static int begin(struct lines *l, struct err *e) {
    ssize_t got = 1;
    l->begun = true;
    while (got > 0 && (l->buf.n == 0 || (l->buf.n == 1 && l->buf.p[0] == '\x1f'))) {
        char *to = str_reserve(&l->buf, CHUNK);
        if (!to)
            return err_set(e, ERR_NOMEM, "%s: out of memory", l->path);
        if ((got = read_some(l->fd, to, CHUNK)) < 0)
            return err_errno(e, errno, "%s: cannot be read", l->path);
        l->buf.n += (size_t)got;
    }
    if (!gzip_starts(l->buf.p, l->buf.n))
        return ERR_NONE;
    int code = gunzip_open(&l->gz, l->buf.a, e);
    if (code)
        return err_within(e, "%s", l->path);
    struct str first = l->raw;
    l->raw = l->buf;
    l->buf = first;
    gunzip_put(l->gz, l->raw.p, l->raw.n);
    return ERR_NONE;
}

/* As read(2), decompressed. What is wrong with the data ends them: there is no place to go on from. */
static int unpack(struct lines *l, char *to, size_t room, size_t *got, struct err *e) {
    int code = 0;
    *got = 0;
    while (!*got && !l->eof && !(code = gunzip_get(l->gz, to, room, got, e)) && !*got) {
        ssize_t n = read_some(l->fd, l->raw.p, l->raw.cap);
        if (n < 0)
            return err_errno(e, errno, "%s, line %zu: cannot be read", l->path, l->line + 1);
        gunzip_put(l->gz, l->raw.p, (size_t)n);
        l->eof = n == 0;
        l->torn = l->eof && !gunzip_whole(l->gz);
    }
    if (code) {
        l->eof = true;
        l->pos = l->buf.n;
        *got = 0;
        err_within(e, "%s, line %zu", l->path, l->line + 1);
    }
    return code;
}

/* Reads more behind what is buffered; lines already handed out are dropped first. */
static int fill(struct lines *l, struct err *e) {
    int code;
    if (!l->begun && ((code = begin(l, e)) || l->buf.n))
        return code;
    if (l->pos) {
        memmove(l->buf.p, l->buf.p + l->pos, l->buf.n - l->pos);
        l->buf.n -= l->pos;
        l->pos = 0;
    }
    /* Ask for as much as there is, so that a long line costs few moves. */
    char *to = str_reserve(&l->buf, l->buf.n < CHUNK ? CHUNK : l->buf.n);
    if (!to)
        return err_set(e, ERR_NOMEM, "%s, line %zu: out of memory", l->path, l->line + 1);
    if (l->gz) {
        size_t n;
        code = unpack(l, to, l->buf.cap - l->buf.n - 1, &n, e);
        l->buf.n += n;
        return code;
    }
    ssize_t got = read_some(l->fd, to, l->buf.cap - l->buf.n - 1);
    if (got < 0)
        return err_errno(e, errno, "%s, line %zu: cannot be read", l->path, l->line + 1);
    l->eof = got == 0;
    l->buf.n += (size_t)got;
    return ERR_NONE;
}

/* Drops the rest of a line that was too long. */
static int skip(struct lines *l, struct err *e) {
    while (l->skips) {
        const char *lf = l->buf.n > l->pos ? memchr(l->buf.p + l->pos, '\n', l->buf.n - l->pos) : NULL;
        l->pos = lf ? (size_t)(lf + 1 - l->buf.p) : l->buf.n;
        l->skips = !lf && !l->eof;
        int code = l->skips ? fill(l, e) : 0;
        if (code)
            return code;
    }
    return 0;
}

static int too_long(struct lines *l, size_t used, bool whole, struct err *e) {
    l->pos += used;
    l->line++;
    l->skips = !whole;
    return err_set(e, ERR_FORMAT, "%s, line %zu: has more than the %zu bytes allowed", l->path, l->line, l->max);
}

int lines_next(struct lines *l, struct text *out, struct err *e) {
    *out = (struct text){"", 0};
    if (l->fd < 0)
        return err_set(e, ERR_INVALID, "lines of a file that is not open");
    int code = skip(l, e);
    for (size_t seen = 0; !code;) {
        const char *p = l->buf.p ? l->buf.p + l->pos : "";
        size_t have = l->buf.n - l->pos;
        const char *lf = have > seen ? memchr(p + seen, '\n', have - seen) : NULL;
        size_t n = lf ? (size_t)(lf - p) : have, used = lf ? n + 1 : n;
        if (lf && n > 0 && p[n - 1] == '\r')
            n--;
        if (n > l->max && (lf || n - 1 > l->max || l->eof)) /* the one byte beyond may be the CR of CR LF */
            return too_long(l, used, lf != NULL, e);
        if (!lf && l->eof && l->torn && l->torn_bytes == 0) {
            l->pos += used;
            l->line++;
            l->torn_bytes = have ? have : 1;
            return err_set(e, ERR_FORMAT, "%s, line %zu: the compressed data break off here: the file was cut", l->path, l->line);
        }
        if (lf || (l->eof && have)) {
            *out = (struct text){p, n};
            l->pos += used;
            l->line++;
            return 1;
        }
        if (l->eof)
            return 0;
        seen = have;
        code = fill(l, e);
    }
    return code;
}

void lines_close(struct lines *l) {
    if (l->fd > STDIN_FILENO)
        close(l->fd);
    l->fd = -1;
    gunzip_close(l->gz);
    l->gz = NULL;
    str_free(&l->buf);
    str_free(&l->raw);
}
