/* The suites of the room: each file of tests has one. */
#include "test_train.h"

#include "util.h"

int main(void) {
    SRunner *r = srunner_create(train_loss_suite());
    srunner_add_suite(r, train_distill_suite());
    srunner_add_suite(r, train_torch_suite());
    srunner_add_suite(r, train_schedule_suite());
    srunner_add_suite(r, train_config_suite());
    srunner_add_suite(r, train_optimizer_suite());
    srunner_add_suite(r, train_mixed_suite());
    srunner_add_suite(r, train_run_suite());
    srunner_add_suite(r, train_watch_suite());
    return test_run(r);
}
