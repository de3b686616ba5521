#include "test_t5.h"

TCase *t5_pass_case(void) {
    TCase *c = tcase_create("pass");
    return c;
}
