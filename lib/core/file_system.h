/* What the file functions share among themselves. All return 0 or an errno. */
#ifndef CORE_FILE_SYSTEM_H
#define CORE_FILE_SYSTEM_H

#include <stddef.h>

int write_all(int fd, const void *data, size_t n); /* short writes are continued, interrupted ones repeated */
int sync_fd(int fd);
int close_fd(int fd);
int sync_dir(const char *path);
int sync_parent(const char *path);      /* of the folder that holds `path` */
size_t parent_length(const char *path); /* length of the folder part of `path`, without the last slash; 0: the current folder */

#endif
