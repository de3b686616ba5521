#include "test_teacher.h"

#include "util.h"

#include <stdio.h>
#include <string.h>

rsd_ctx *open_ctx(void) {
    rsd_ctx *ctx = NULL;
    ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
    return ctx;
}

int run_to_end(rsd_teacher *t, size_t *replies, size_t *failures) {
    size_t good = 0, bad = 0;
    int rc;
    for (;;) {
        const rsd_reply *r;
        rc = rsd_teacher_poll(t, 1000, &r);
        if (rc == RSD_OK)
            good++;
        else if (rc == RSD_ENETWORK || rc == RSD_EREFUSED || rc == RSD_ENOLOGPROBS || rc == RSD_EFORMAT)
            bad++;
        else if (rc != RSD_AGAIN)
            break;
    }
    if (replies)
        *replies = good;
    if (failures)
        *failures = bad;
    return rc;
}

size_t finish(rsd_ctx *ctx, rsd_teacher *t, char *failure, size_t size) {
    size_t replies = 0;
    int rc;
    failure[0] = 0;
    do {
        const rsd_reply *r;
        rc = rsd_teacher_poll(t, 1000, &r);
        replies += rc == RSD_OK;
        if (rc < 0 && !failure[0])
            snprintf(failure, size, "%s", rsd_ctx_error(ctx));
    } while (rc != RSD_END);
    return replies;
}

void submit(rsd_teacher *t, const char *id, const char *question, const char *answer) {
    rsd_question q = {.id = id,
                      .id_len = strlen(id),
                      .question = question,
                      .question_len = strlen(question),
                      .answer = answer,
                      .answer_len = answer ? strlen(answer) : 0};
    ck_assert_int_eq(rsd_teacher_submit(t, &q), RSD_OK);
}

rsd_teacher_stats stats_of(const rsd_teacher *t) {
    rsd_teacher_stats s = {.size = sizeof s};
    ck_assert_int_eq(rsd_teacher_stats_get(t, &s), RSD_OK);
    return s;
}

void submit_many(rsd_teacher *t, int n) {
    for (int i = 0; i < n; i++) {
        char id[16];
        snprintf(id, sizeof id, "q%d", i);
        submit(t, id, id, NULL);
    }
}
