#ifndef TEST_CORE_H
#define TEST_CORE_H

#include "util.h"

Suite *core_mem_suite(void); /* err, mem, str, map, log */
Suite *core_rng_suite(void); /* rng, hash */
Suite *core_file_suite(void);
Suite *core_gzip_suite(void);
Suite *core_io_suite(void); /* files, with failing system calls */
Suite *core_json_suite(void);
Suite *core_pool_suite(void);

#endif
