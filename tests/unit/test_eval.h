/* What the tests of the evaluation room share. */
#ifndef TEST_EVAL_H
#define TEST_EVAL_H

#include "core/json.h"
#include "train_fixture.h"
#include "util.h"

TCase *eval_statistics_case(void);

#endif
