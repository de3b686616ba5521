#include "test_core.h"

Suite *core_json_suite(void) {
    Suite *s = suite_create("core/json");
    return s;
}
