#include "test_t5.h"

TCase *t5_generate_case(void) {
    TCase *c = tcase_create("generate");
    return c;
}
