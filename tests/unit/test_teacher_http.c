#include "test_teacher.h"
Suite *teacher_http_suite(void) {
    return suite_create("teacher: http");
}
