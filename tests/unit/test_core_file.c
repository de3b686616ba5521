#include "test_core.h"

Suite *core_file_suite(void) {
    Suite *s = suite_create("core/file");
    return s;
}
