/* Replacing a file as a whole: the new bytes go to a temporary neighbour, reach the disk, and take over the name in one step.
 * A reader sees the old file or the new one; after a crash at any point, too. */
#include "core/file.h"
#include "core/file_system.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER = 256 * 1024, TRIES = 100 };

int write_all(int fd, const void *data, size_t n) {
    const char *p = data;
    while (n) {
        ssize_t put = write(fd, p, n < SSIZE_MAX ? n : SSIZE_MAX);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put ? errno : EIO;
        p += put;
        n -= (size_t)put;
    }
    return 0;
}

int sync_fd(int fd) {
    int rc;
    do
        rc = fsync(fd);
    while (rc && errno == EINTR);
    return rc ? errno : 0;
}

int close_fd(int fd) {
    /* Not repeated after EINTR: on Linux the descriptor is gone. */
    return close(fd) && errno != EINTR ? errno : 0;
}

size_t parent_length(const char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n;
}

int sync_dir(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int rc = sync_fd(fd);
    close(fd);
    return rc == EINVAL || rc == ENOTSUP ? 0 : rc; /* file systems that cannot sync a folder do not need it */
}

int sync_parent(const char *path) {
    char dir[PATH_MAX];
    size_t n = parent_length(path);
    if (n >= sizeof dir)
        return ENAMETOOLONG;
    memcpy(dir, path, n);
    dir[n] = 0;
    return sync_dir(n ? dir : ".");
}

static void forget(struct file_write *f) {
    const struct allocator *a = f->a;
    mem_free(a, f->path);
    mem_free(a, f->tmp);
    str_free(&f->buf);
    *f = (struct file_write){.fd = -1, .a = a};
}

/* The name that will be replaced: a link stays a link, what it points to is replaced. */
static int target_of(struct file_write *f, const char *path, struct stat *old, bool *exists, struct err *e) {
    *exists = stat(path, old) == 0;
    if (*exists && S_ISDIR(old->st_mode))
        return err_set(e, ERR_INVALID, "%s: is a folder, expected a file to write", path);
    if (*exists && !S_ISREG(old->st_mode))
        return err_set(e, ERR_INVALID, "%s: is not a regular file and cannot be replaced", path);
    char *real = *exists ? realpath(path, NULL) : NULL;
    const char *name = real ? real : path;
    f->path = mem_strndup(f->a, name, strlen(name), e);
    free(real);
    return f->path ? ERR_NONE : ERR_NOMEM;
}

int file_begin(struct file_write *f, const struct allocator *a, const char *path, struct err *e) {
    *f = (struct file_write){.fd = -1, .a = a};
    str_init(&f->buf, a);
    struct stat old;
    bool exists;
    int code = target_of(f, path, &old, &exists, e);
    for (int i = 0; !code && f->fd < 0; i++) {
        struct str name;
        str_init(&name, a);
        str_addf(&name, i ? "%s.tmp-%ld-%d" : "%s.tmp-%ld", f->path, (long)getpid(), i);
        mem_free(a, f->tmp);
        f->tmp = str_take(&name);
        str_free(&name);
        if (!f->tmp) {
            code = err_set(e, ERR_NOMEM, "%s: out of memory", path);
            break;
        }
        f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        /* The name may be taken by another thread, or by a process of this number that was killed. */
        if (f->fd < 0 && errno != EINTR && !(errno == EEXIST && i + 1 < TRIES))
            code = err_errno(e, errno, "%s: cannot be written (temporary file %s)", path, f->tmp);
    }
    if (code) {
        forget(f);
        return code;
    }
    if (exists)
        (void)!fchmod(f->fd, old.st_mode & 07777); /* best effort: a file of another owner gets the usual mode */
    return ERR_NONE;
}

static int flush(struct file_write *f, struct err *e) {
    int errnum = write_all(f->fd, f->buf.p, f->buf.n);
    f->buf.n = 0;
    if (!errnum)
        return ERR_NONE;
    f->buf.failed = true; /* file_commit will refuse */
    return err_errno(e, errnum, "%s: cannot be written after %llu bytes", f->path, (unsigned long long)f->written);
}

int file_put(struct file_write *f, const void *p, size_t n, struct err *e) {
    if (f->fd < 0)
        return err_set(e, ERR_INVALID, "writing to a file that is not open");
    if (f->buf.failed)
        return err_set(e, ERR_IO, "%s: an earlier write failed", f->path);
    int code = f->buf.n && n > BUFFER - f->buf.n ? flush(f, e) : ERR_NONE;
    if (code)
        return code;
    if (n >= BUFFER) {
        int errnum = write_all(f->fd, p, n);
        if (errnum) {
            f->buf.failed = true;
            return err_errno(e, errnum, "%s: cannot be written after %llu bytes", f->path, (unsigned long long)f->written);
        }
    } else {
        str_add(&f->buf, p, n);
        if (f->buf.failed)
            return err_set(e, ERR_NOMEM, "%s: out of memory", f->path);
    }
    f->written += n;
    return ERR_NONE;
}

int file_commit(struct file_write *f, struct err *e) {
    if (f->fd < 0)
        return err_set(e, ERR_INVALID, "committing a file that is not open");
    int code = ERR_NONE, errnum;
    if (f->buf.failed)
        code = err_set(e, ERR_IO, "%s: an earlier write failed", f->path);
    if (!code)
        code = flush(f, e);
    if (!code && (errnum = sync_fd(f->fd)) != 0)
        code = err_errno(e, errnum, "%s: cannot be brought to the disk", f->path);
    errnum = close_fd(f->fd);
    f->fd = -1;
    if (!code && errnum)
        code = err_errno(e, errnum, "%s: cannot be closed", f->path);
    if (!code && rename(f->tmp, f->path))
        code = err_errno(e, errno, "%s: cannot be put in place of the old file", f->path);
    if (code)
        unlink(f->tmp);
    else if ((errnum = sync_parent(f->path)) != 0)
        code = err_errno(e, errnum, "%s: is written, but its folder cannot be brought to the disk", f->path);
    forget(f);
    return code;
}

void file_abort(struct file_write *f) {
    if (!f->tmp)
        return;
    if (f->fd >= 0)
        close(f->fd);
    unlink(f->tmp);
    forget(f);
}

int file_replace(const struct allocator *a, const char *path, const void *p, size_t n, struct err *e) {
    struct file_write f;
    int code = file_begin(&f, a, path, e);
    if (!code)
        code = file_put(&f, p, n, e);
    if (!code)
        code = file_commit(&f, e);
    file_abort(&f);
    return code;
}
