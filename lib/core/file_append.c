/* A log of lines that survives being killed: a line counts once its LF is in the file, what follows the last LF is a line that
 * was being written and is cut off on opening. The lock (flock) belongs to the open file, so it also holds between two handles
 * of one process, and goes away with the process. */
#include "core/file.h"
#include "core/file_system.h"
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Bytes up to and with the last LF. Reads backwards from the end: only a torn line costs time. */
static int whole_lines(int fd, uint64_t size, uint64_t *keep) {
    char block[16 * 1024];
    while (size) {
        size_t n = size < sizeof block ? (size_t)size : sizeof block;
        uint64_t at = size - n;
        for (size_t have = 0; have < n;) {
            ssize_t got = pread(fd, block + have, n - have, (off_t)(at + have));
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return got ? errno : EIO;
            have += (size_t)got;
        }
        for (size_t i = n; i > 0; i--)
            if (block[i - 1] == '\n') {
                *keep = at + i;
                return 0;
            }
        size = at;
    }
    *keep = 0;
    return 0;
}

static int cut(int fd, uint64_t size) {
    int rc;
    do
        rc = ftruncate(fd, (off_t)size);
    while (rc && errno == EINTR);
    return rc ? errno : 0;
}

static int lock_and_repair(struct append *f, struct err *e) {
    int rc;
    do
        rc = flock(f->fd, LOCK_EX | LOCK_NB);
    while (rc && errno == EINTR);
    if (rc && errno == EWOULDBLOCK)
        return err_set(e, ERR_BUSY, "%s: is being written by another process; wait for it or choose another file", f->path);
    if (rc)
        return err_errno(e, errno, "%s: cannot be locked", f->path);
    struct stat st;
    if (fstat(f->fd, &st))
        return err_errno(e, errno, "%s: cannot be examined", f->path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s: is not a regular file and cannot be appended to", f->path);
    uint64_t keep = 0;
    rc = whole_lines(f->fd, (uint64_t)st.st_size, &keep);
    if (rc)
        return err_errno(e, rc, "%s: cannot be read", f->path);
    f->torn = (uint64_t)st.st_size - keep;
    if (f->torn && ((rc = cut(f->fd, keep)) != 0 || (rc = sync_fd(f->fd)) != 0))
        return err_errno(e, rc, "%s: its torn last line cannot be cut off", f->path);
    return ERR_NONE;
}

int append_open(struct append *f, const struct allocator *a, const char *path, struct err *e) {
    *f = (struct append){.fd = -1, .a = a};
    struct stat st; /* looked at first: opening a pipe would wait for its other end */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s: is not a regular file and cannot be appended to", path);
    f->path = mem_strndup(a, path, strlen(path), e);
    if (!f->path)
        return ERR_NOMEM;
    do
        f->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    while (f->fd < 0 && errno == EINTR);
    int code = f->fd < 0 ? err_errno(e, errno, "%s: cannot be opened for appending", path) : lock_and_repair(f, e);
    int errnum;
    if (!code && (errnum = sync_parent(path)) != 0)
        code = err_errno(e, errnum, "%s: its folder cannot be brought to the disk", path);
    if (code) {
        if (f->fd >= 0)
            close(f->fd);
        mem_free(a, f->path);
        *f = (struct append){.fd = -1, .a = a};
        return code;
    }
    f->synced = clock_seconds();
    return ERR_NONE;
}

/* Takes back `part` bytes of a line that did not fit. If that fails, too, the log is closed: the next line would be glued on. */
static void take_back(struct append *f, size_t part) {
    struct stat st;
    if (part == 0)
        return;
    if (fstat(f->fd, &st) || (uint64_t)st.st_size < part || cut(f->fd, (uint64_t)st.st_size - part)) {
        close(f->fd);
        f->fd = -1;
    }
}

int append_line(struct append *f, const char *p, size_t n, struct err *e) {
    if (f->fd < 0)
        return err_set(e, ERR_INVALID, "%s: is not open for appending", f->path ? f->path : "a log");
    if (n && memchr(p, '\n', n))
        return err_set(e, ERR_INVALID, "%s: a line must not hold a line feed", f->path);
    char lf = '\n', none = 0;
    struct iovec v[2] = {{n ? (void *)(uintptr_t)p : &none, n}, {&lf, 1}};
    size_t whole = n + 1, done = 0;
    while (done < whole) {
        struct iovec left[2] = {{(char *)v[0].iov_base + (done < n ? done : n), done < n ? n - done : 0}, v[1]};
        ssize_t put = writev(f->fd, left, 2);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            int errnum = put ? errno : EIO;
            take_back(f, done);
            return err_errno(e, errnum, "%s: a line of %zu bytes cannot be written", f->path, n);
        }
        done += (size_t)put;
    }
    f->dirty = true;
    return clock_seconds() - f->synced >= 1 ? append_sync(f, e) : ERR_NONE;
}

int append_sync(struct append *f, struct err *e) {
    if (f->fd < 0)
        return err_set(e, ERR_INVALID, "%s: is not open for appending", f->path ? f->path : "a log");
    if (!f->dirty)
        return ERR_NONE;
    int errnum = sync_fd(f->fd);
    if (errnum)
        return err_errno(e, errnum, "%s: cannot be brought to the disk", f->path);
    f->dirty = false;
    f->synced = clock_seconds();
    return ERR_NONE;
}

int append_truncate(struct append *f, uint64_t size, struct err *e) {
    if (f->fd < 0)
        return err_set(e, ERR_INVALID, "%s: is not open for appending", f->path ? f->path : "a log");
    struct stat st;
    if (fstat(f->fd, &st))
        return err_errno(e, errno, "%s: cannot be examined", f->path);
    if (size > (uint64_t)st.st_size)
        return err_set(e, ERR_INVALID, "%s: cannot keep %llu bytes of %lld", f->path, (unsigned long long)size,
                       (long long)st.st_size);
    int errnum = cut(f->fd, size);
    if (errnum)
        return err_errno(e, errnum, "%s: cannot be cut", f->path);
    f->dirty = true;
    return append_sync(f, e);
}

int append_close(struct append *f, struct err *e) {
    int code = ERR_NONE;
    if (f->fd >= 0 && f->path) {
        code = append_sync(f, e);
        int errnum = close_fd(f->fd);
        if (errnum && !code)
            code = err_errno(e, errnum, "%s: cannot be closed", f->path);
    }
    mem_free(f->a, f->path);
    *f = (struct append){.fd = -1, .a = f->a};
    return code;
}
