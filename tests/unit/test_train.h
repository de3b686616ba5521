/* Suites of train, one per file. */
#ifndef TEST_TRAIN_H
#define TEST_TRAIN_H

#include <check.h>

Suite *train_loss_suite(void);
Suite *train_distill_suite(void);
Suite *train_torch_suite(void);
Suite *train_schedule_suite(void);
Suite *train_config_suite(void);
Suite *train_optimizer_suite(void);
Suite *train_mixed_suite(void);
Suite *train_run_suite(void);
Suite *train_watch_suite(void);

#endif
