#include "test_t5.h"

TCase *t5_files_case(void) {
    TCase *c = tcase_create("files");
    return c;
}
