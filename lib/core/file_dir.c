/* Folders: made with parents, removed with contents, listed in a fixed order, and committed: a folder is filled under a
 * temporary name and appears under its final one complete or not at all. */
#include "core/file.h"
#include "core/file_system.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int dir_make(const char *path, struct err *e) {
    struct str s;
    str_init(&s, NULL);
    str_addz(&s, path);
    int code = str_status(&s, e);
    if (!code && s.n == 0)
        code = err_set(e, ERR_INVALID, "a folder needs a name");
    /* Makes every part that is missing: each '/' is the end of one. */
    for (size_t i = 1; !code && i <= s.n; i++) {
        if (i < s.n && (s.p[i] != '/' || s.p[i - 1] == '/'))
            continue;
        char kept = s.p[i];
        s.p[i] = 0;
        if (mkdir(s.p, 0777)) {
            int errnum = errno;
            if (!file_is_dir(s.p))
                code = errnum == EEXIST ? err_set(e, ERR_INVALID, "%s: %s exists and is not a folder", path, s.p)
                                        : err_errno(e, errnum, "%s: cannot be made", path);
        }
        s.p[i] = kept;
    }
    str_free(&s);
    return code;
}

/* Removes the entry `name` of folder `at`, and what is in it. Only descriptors are followed, so a link that appears meanwhile
 * cannot lead elsewhere. Returns an errno. */
static int remove_at(int at, const char *name) {
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : errno;
    DIR *d = fdopendir(fd);
    if (!d) {
        int errnum = errno;
        close(fd);
        return errnum;
    }
    int rc = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(d);
        if (!entry) {
            rc = errno;
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        rc = remove_at(fd, entry->d_name);
        if (rc)
            break;
    }
    closedir(d);
    if (!rc && unlinkat(at, name, AT_REMOVEDIR) && errno != ENOENT)
        rc = errno;
    return rc;
}

int dir_remove(const char *path, struct err *e) {
    int errnum = remove_at(AT_FDCWD, path);
    return errnum ? err_errno(e, errnum, "%s: cannot be removed", path) : ERR_NONE;
}

int dir_commit(const char *tmp, const char *final, struct err *e) {
    if (!file_is_dir(tmp))
        return err_set(e, file_exists(tmp) ? ERR_INVALID : ERR_NOTFOUND, "%s: is not a folder", tmp);
    if (file_exists(final)) /* rename alone would replace an empty folder */
        return err_set(e, ERR_BUSY, "%s: exists already; remove it or choose another name", final);
    int errnum = sync_dir(tmp);
    if (errnum)
        return err_errno(e, errnum, "%s: cannot be brought to the disk", tmp);
    if (rename(tmp, final)) {
        if (errno == EEXIST || errno == ENOTEMPTY)
            return err_set(e, ERR_BUSY, "%s: exists already; remove it or choose another name", final);
        return err_errno(e, errno, "%s: cannot be renamed to %s", tmp, final);
    }
    errnum = sync_parent(final);
    if (errnum)
        return err_errno(e, errnum, "%s: is written, but its folder cannot be brought to the disk", final);
    return ERR_NONE;
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int dir_names(const struct allocator *a, const char *path, char ***names, size_t *n, struct err *e) {
    *names = NULL;
    *n = 0;
    DIR *d = opendir(path);
    if (!d)
        return err_errno(e, errno, "%s: cannot be listed", path);
    size_t cap = 0;
    int code = mem_reserve(a, names, &cap, 1, sizeof **names, e);
    while (!code) {
        errno = 0;
        const struct dirent *entry = readdir(d);
        if (!entry) {
            if (errno)
                code = err_errno(e, errno, "%s: cannot be listed", path);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        code = mem_reserve(a, names, &cap, *n + 1, sizeof **names, e);
        if (!code && !((*names)[*n] = mem_strndup(a, entry->d_name, strlen(entry->d_name), e)))
            code = ERR_NOMEM;
        if (!code)
            ++*n;
    }
    closedir(d);
    if (code) {
        dir_names_free(a, *names, *n);
        *names = NULL;
        *n = 0;
        return code;
    }
    qsort(*names, *n, sizeof **names, by_bytes);
    return ERR_NONE;
}

void dir_names_free(const struct allocator *a, char **names, size_t n) {
    for (size_t i = 0; i < n; i++)
        mem_free(a, names[i]);
    mem_free(a, names);
}
