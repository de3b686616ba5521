#include "test_t5.h"

TCase *t5_config_case(void) {
    TCase *c = tcase_create("config");
    return c;
}
