/* The suites of the room: each file of tests has one. */
#include "test_core.h"

int main(void) {
    SRunner *r = srunner_create(core_mem_suite());
    srunner_add_suite(r, core_rng_suite());
    srunner_add_suite(r, core_file_suite());
    srunner_add_suite(r, core_gzip_suite());
    srunner_add_suite(r, core_io_suite());
    srunner_add_suite(r, core_json_suite());
    srunner_add_suite(r, core_pool_suite());
    return test_run(r);
}
