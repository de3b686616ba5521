/* Files that are never half-written: whole-file reads and maps, atomic replacement, directories that appear complete or not
 * at all, logs that are appended line by line and repaired after a crash, locks.
 * Every error names the path. */
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include "core/str.h"

/* ---- reading ---- */

/* The whole file, appended to `out` (which is as before on failure); more than `max` bytes is ERR_FORMAT before anything is
 * read. Directories are ERR_INVALID. */
int file_read(const char *path, size_t max, struct str *out, struct err *e);

struct file_map {
    void *p; /* NULL for an empty file */
    size_t n;
};
/* Maps a regular file. With `private_write` the pages may be written; the file never changes (copy on write). */
int file_map_open(struct file_map *m, const char *path, bool private_write, struct err *e);
void file_map_close(struct file_map *m);
/* Its pages need no memory until they are read again. What was written to a private map is lost. */
void file_map_forget(struct file_map *m);

bool file_exists(const char *path); /* any kind */
bool file_is_dir(const char *path);
/* *out = dir/name, the caller's. */
int file_join(const struct allocator *a, char **out, struct err *e, const char *dir, const char *name);

/* Lines of a file or of standard input ("-"): split on LF only, the LF (and a CR before it) removed; the last may lack it. What
 * begins as gzip is decompressed meanwhile (ERR_UNSUPPORTED without zlib). */
struct gunzip;
struct lines {
    int fd;
    bool eof;
    bool begun, skips; /* skips: the rest of a line that was too long */
    bool torn;         /* the compressed data broke off: told once as ERR_FORMAT, then comes the end */
    size_t torn_bytes; /* of the line that they broke off in */
    struct gunzip *gz; /* NULL: not compressed, as far as read */
    struct str raw;
    const char *path; /* borrowed from lines_open: must live until lines_close */
    struct str buf;
    size_t pos, line; /* line: number of the line last returned, from 1 */
    size_t max;
};
int lines_open(struct lines *l, const struct allocator *a, const char *path, size_t max_line, struct err *e);
/* 1: *out is the next line (valid until the next call); 0: end; negative: error (a longer line than max is ERR_FORMAT; the next
 * call goes on behind it). */
int lines_next(struct lines *l, struct text *out, struct err *e);
void lines_close(struct lines *l);

/* ---- writing ---- */

/* path is replaced as a whole: write to path.tmp-<pid>, fsync, rename, fsync the folder. On any failure the old file stands,
 * only a failure to fsync the folder comes after the new one is in place. A symbolic link is kept and its target replaced;
 * permissions of the old file are kept; what is not a regular file (a device, a pipe, a folder) is ERR_INVALID. After a failed
 * file_put the commit fails, so that a caller may look at the commit alone. */
struct file_write {
    int fd;
    char *path, *tmp;
    const struct allocator *a;
    struct str buf;
    uint64_t written;
};
int file_begin(struct file_write *f, const struct allocator *a, const char *path, struct err *e);
int file_put(struct file_write *f, const void *p, size_t n, struct err *e);
int file_commit(struct file_write *f, struct err *e); /* closes in either case */
void file_abort(struct file_write *f);                /* removes the temporary file; harmless after commit or a failed begin */
int file_replace(const struct allocator *a, const char *path, const void *p, size_t n, struct err *e); /* all three at once */

int dir_make(const char *path, struct err *e);   /* with parents; fine if it is there */
int dir_remove(const char *path, struct err *e); /* with what is in it; fine if it is not there; does not follow links */
/* Makes the complete folder `tmp` appear as `final`: fsync tmp, rename, fsync the parent. ERR_BUSY if final exists. */
int dir_commit(const char *tmp, const char *final, struct err *e);
/* Names in a folder, sorted by bytes, without "." and "..": names[i] and the array are the caller's (dir_names_free). */
int dir_names(const struct allocator *a, const char *path, char ***names, size_t *n, struct err *e);
void dir_names_free(const struct allocator *a, char **names, size_t n);

/* A log of lines. Opening takes an exclusive lock (ERR_BUSY if another process has it) and cuts off a torn last line (one
 * without LF); `torn` tells how many bytes were cut. Lines are whole in the file once append_line returns: one write(2) each;
 * they are on the disk after append_sync, which append_line also calls once a second has passed since the last. */
struct append {
    int fd;
    char *path;
    const struct allocator *a;
    double synced;
    uint64_t torn;
    bool dirty;
};
int append_open(struct append *f, const struct allocator *a, const char *path, struct err *e);
int append_line(struct append *f, const char *p, size_t n, struct err *e); /* p without LF */
int append_sync(struct append *f, struct err *e);
int append_truncate(struct append *f, uint64_t size, struct err *e); /* keep the first `size` bytes */
int append_close(struct append *f, struct err *e);                   /* syncs */

#endif
