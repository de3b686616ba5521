/* Container of our binary files (`*.rsd`): named arrays, checksummed, to be used where they lie in a map.
 *
 *     header   64 bytes   "RSDSHARD", version, kind, CRC-32C
 *     sections            each at a multiple of 64, zeros between
 *     table    48 bytes a section: name, block, offset, length, CRC-32C
 *     trailer  64 bytes   where the table is, size of the file, CRC-32Cs, "RSDSHEND"
 *
 * All numbers are little-endian. The table comes last, so that a file can be written in one pass, also to a pipe; a block is a
 * part of the file that is complete by itself (its sections carry its number), so that writing needs memory for one block only.
 */
#ifndef ALIGN_SECTION_H
#define ALIGN_SECTION_H

#include "core/file.h"

enum { SECTION_ALIGNED = 1, SECTION_QUESTIONS = 2 }; /* kinds of file */

struct section_entry { /* as in the file */
    char name[16];     /* zeros behind the name */
    uint64_t block, offset, length;
    uint32_t crc, zero;
};

struct section_out {
    struct file_write file;
    const struct allocator *a;
    struct section_entry *entries;
    size_t n, cap;
    uint64_t at;
    bool open, to_stdout;
};
/* path "-": standard output, which cannot be taken back. */
int section_begin(struct section_out *o, const struct allocator *a, const char *path, uint32_t kind, struct err *e);
int section_put(struct section_out *o, const char *name, uint64_t block, const void *p, size_t n, struct err *e);
int section_commit(struct section_out *o, struct err *e);
void section_abort(struct section_out *o); /* harmless after commit or a failed begin */

struct section_in {
    struct file_map map;
    const struct section_entry *entries;
    size_t n;
};
/* Maps the file and checks everything but what the sections mean. Errors name path, section and byte offset. */
int section_open(struct section_in *in, const char *path, uint32_t kind, struct err *e);
void section_close(struct section_in *in);
/* The section as an array of objects of `size` bytes: *p and *n, or ERR_FORMAT if it is missing or no whole number of them. */
int section_find(const struct section_in *in, const char *name, uint64_t block, size_t size, const void **p, size_t *n,
                 struct err *e);

#endif
