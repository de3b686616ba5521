/* Suites of the teacher's room, and what they share. */
#ifndef TEST_TEACHER_H
#define TEST_TEACHER_H

#include "reasondistill/teacher.h"

#include <check.h>

Suite *teacher_asked_suite(void);
Suite *teacher_dialects_suite(void);
Suite *teacher_flow_suite(void);
Suite *teacher_limits_suite(void);
Suite *teacher_pace_suite(void);
Suite *teacher_reply_suite(void);
Suite *teacher_store_suite(void);
Suite *teacher_http_suite(void);
Suite *teacher_tls_suite(void);
Suite *teacher_tools_suite(void);
Suite *teacher_wait_suite(void);
Suite *teacher_policy_suite(void);

rsd_ctx *open_ctx(void);
/* Submits and polls to the end; replies and failures are counted (either may be NULL). Returns the first code that was
 * neither. */
int run_to_end(rsd_teacher *t, size_t *replies, size_t *failures);
/* Polls to the end; returns the replies, and the first failure's text in `failure`. */
size_t finish(rsd_ctx *ctx, rsd_teacher *t, char *failure, size_t size);
void submit_many(rsd_teacher *t, int n); /* q0, q1, .. */
void submit(rsd_teacher *t, const char *id, const char *question, const char *answer);
rsd_teacher_stats stats_of(const rsd_teacher *t);

#endif
