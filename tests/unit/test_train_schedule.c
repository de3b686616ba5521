/* Learning rates against the formulas in the header, worked out by hand. */
#include "test_train.h"

#include "train/schedule.h"

#include <math.h>

#define NEAR(a, b) ck_assert_double_eq_tol(a, b, 1e-12)

START_TEST(warm_up_rises_evenly_to_the_peak) {
    struct schedule s = {SCHEDULE_CONSTANT, 0.5, 4, 10};
    NEAR(schedule_rate(&s, 0), 0.1);
    NEAR(schedule_rate(&s, 3), 0.4);
    NEAR(schedule_rate(&s, 4), 0.5);
    NEAR(schedule_rate(&s, 9), 0.5);
}
END_TEST

START_TEST(linear_falls_to_the_last_step_without_reaching_zero) {
    struct schedule s = {SCHEDULE_LINEAR, 1, 2, 10};
    NEAR(schedule_rate(&s, 2), 1);
    NEAR(schedule_rate(&s, 6), 0.5);
    NEAR(schedule_rate(&s, 9), 0.125);
}
END_TEST

START_TEST(cosine_is_at_half_in_the_middle) {
    struct schedule s = {SCHEDULE_COSINE, 2, 0, 8};
    NEAR(schedule_rate(&s, 0), 2);
    NEAR(schedule_rate(&s, 2), 1 + sqrt(0.5));
    NEAR(schedule_rate(&s, 4), 1);
    NEAR(schedule_rate(&s, 7), 1 + cos(7 * 3.14159265358979323846 / 8));
}
END_TEST

START_TEST(warm_up_may_fill_the_run_but_for_one_step) {
    struct schedule s = {SCHEDULE_LINEAR, 1, 9, 10};
    NEAR(schedule_rate(&s, 8), 0.9);
    NEAR(schedule_rate(&s, 9), 1);
}
END_TEST

START_TEST(names_end_with_null) {
    ck_assert_str_eq(schedule_name(SCHEDULE_COSINE), "cosine");
    ck_assert_ptr_null(schedule_name(3));
    ck_assert_ptr_null(schedule_name(-1));
}
END_TEST

Suite *train_schedule_suite(void) {
    Suite *s = suite_create("train_schedule");
    TCase *c = tcase_create("schedule");
    tcase_add_test(c, warm_up_rises_evenly_to_the_peak);
    tcase_add_test(c, linear_falls_to_the_last_step_without_reaching_zero);
    tcase_add_test(c, cosine_is_at_half_in_the_middle);
    tcase_add_test(c, warm_up_may_fill_the_run_but_for_one_step);
    tcase_add_test(c, names_end_with_null);
    suite_add_tcase(s, c);
    return s;
}
