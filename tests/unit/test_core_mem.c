#include "test_core.h"

Suite *core_mem_suite(void) {
    Suite *s = suite_create("core/mem");
    return s;
}
