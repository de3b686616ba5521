/* The teacher without a network. */
#include "test_teacher.h"

#include "util.h"

int main(void) {
    SRunner *r = srunner_create(teacher_reply_suite());
    srunner_add_suite(r, teacher_asked_suite());
    srunner_add_suite(r, teacher_dialects_suite());
    srunner_add_suite(r, teacher_store_suite());
    srunner_add_suite(r, teacher_policy_suite());
    srunner_add_suite(r, teacher_pace_suite());
    srunner_add_suite(r, teacher_tools_suite());
    return test_run(r);
}
