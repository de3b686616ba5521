/* The teacher against servers on loopback: a program of its own, because most of it is waiting. */
#include "test_teacher.h"

#include "util.h"

int main(void) {
    SRunner *r = srunner_create(teacher_http_suite());
    srunner_add_suite(r, teacher_flow_suite());
    srunner_add_suite(r, teacher_limits_suite());
    srunner_add_suite(r, teacher_tls_suite());
    srunner_add_suite(r, teacher_wait_suite());
    return test_run(r);
}
