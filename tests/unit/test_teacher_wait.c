/* A host whose own loop does the waiting, with poll(2) on what rsd_teacher_wait_fds tells. */
#include "test_teacher.h"

#include "core/log.h"
#include "teacher_server.h"
#include "util.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <unistd.h>

enum { CAP = 64 };

struct loop {
    size_t replies, failures, rounds, most_fds;
    int end;
};

/* Waits at least `longer` milliseconds wherever it is told to wait, so that only a descriptor wakes it earlier. */
static struct loop run_loop(rsd_ctx *ctx, rsd_teacher *t, int longer) {
    struct loop l = {0};
    for (;; l.rounds++) {
        const rsd_reply *r;
        rsd_fd fds[CAP];
        struct pollfd wait[CAP];
        size_t n = 0;
        int timeout = -1, rc;
        while ((rc = rsd_teacher_poll(t, 0, &r)) == RSD_OK || rc == RSD_ENETWORK || rc == RSD_EREFUSED)
            *(rc == RSD_OK ? &l.replies : &l.failures) += 1;
        l.end = rc;
        if (rc != RSD_AGAIN)
            return l;
        ck_assert_msg(rsd_teacher_wait_fds(t, fds, CAP, &n, &timeout) == RSD_OK, "%s", rsd_ctx_error(ctx));
        ck_assert_int_ge(timeout, 0);
        ck_assert_uint_le(n, CAP);
        l.most_fds = n > l.most_fds ? n : l.most_fds;
        for (size_t i = 0; i < n; i++) {
            ck_assert(fds[i].events && !(fds[i].events & ~(RSD_FD_READ | RSD_FD_WRITE)));
            wait[i] = (struct pollfd){
                .fd = fds[i].fd,
                .events = (short)((fds[i].events & RSD_FD_READ ? POLLIN : 0) | (fds[i].events & RSD_FD_WRITE ? POLLOUT : 0))};
        }
        ck_assert_int_ge(poll(wait, (nfds_t)n, timeout > 0 && timeout < longer ? longer : timeout), 0);
    }
}

START_TEST(the_descriptors_alone_wake_a_host) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("slow:0.3", "drip:0.6", "ok", "slow:0.5"));
    rsd_teacher_options o = options_for(s.url);
    char id[16];
    o.api = RSD_API_COMPLETIONS;
    o.concurrency = 4;
    o.store = test_path(s.dir, "teacher.jsonl");
    rsd_teacher *t = open_teacher(ctx, &o);
    for (int i = 0; i < 12; i++) {
        snprintf(id, sizeof id, "q%d", i);
        submit(t, id, "2+2?", NULL);
    }
    double start = clock_seconds();
    struct loop l = run_loop(ctx, t, 20000);
    ck_assert_int_eq(l.end, RSD_END);
    ck_assert_uint_eq(l.replies, 12);
    ck_assert_uint_eq(distinct_rows(o.store), 12);
    ck_assert_uint_ge(l.most_fds, 4);
    ck_assert_msg(clock_seconds() - start < 15, "%g s", clock_seconds() - start);
    ck_assert_msg(l.rounds < 500, "%zu rounds", l.rounds); /* no busy loop in the 0.6 seconds */
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

/* Without any descriptor the time that is told does it: retries after a wait, and a silent endpoint that is given up. */
START_TEST(the_time_that_is_told_wakes_a_host_for_retries_and_timeouts) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(_i == 0 ? SCRIPT("429:0.4", "503") : SCRIPT("slow:30"));
    rsd_teacher_options o = options_for(s.url);
    o.api = RSD_API_COMPLETIONS;
    o.retries = _i == 0 ? 5 : 0;
    o.first_byte_timeout = _i == 0 ? 0 : 0.5;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "q", "2+2?", NULL);
    double start = clock_seconds();
    struct loop l = run_loop(ctx, t, 0);
    double took = clock_seconds() - start;
    ck_assert_int_eq(l.end, RSD_END);
    ck_assert_uint_eq(l.replies, _i == 0 ? 1 : 0);
    ck_assert_uint_eq(l.failures, _i == 0 ? 0 : 1);
    ck_assert_msg(took >= (_i == 0 ? 0.4 : 0.5) && took < 10, "%g s", took);
    ck_assert_msg(l.rounds < 300, "%zu rounds", l.rounds);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(what_does_not_fit_is_counted_and_what_is_there_is_not_waited_for) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("slow:1", "slow:1", "slow:1"));
    rsd_teacher_options o = options_for(s.url);
    const rsd_reply *r;
    rsd_fd one[2] = {{-7, -7}, {-7, -7}};
    size_t n = 9;
    int timeout = -1;
    o.api = RSD_API_COMPLETIONS;
    rsd_teacher *t = open_teacher(ctx, &o);
    ck_assert_int_eq(rsd_teacher_wait_fds(t, one, 1, &n, &timeout), RSD_OK);
    ck_assert(n == 0 && timeout == 0); /* RSD_END is there */
    submit(t, "a", "1?", NULL);
    submit(t, "b", "2?", NULL);
    submit(t, "c", "3?", NULL);
    ck_assert_int_eq(rsd_teacher_wait_fds(t, one, 1, &n, &timeout), RSD_OK);
    ck_assert_int_eq(timeout, 0); /* starts what was queued */
    ck_assert_int_eq(rsd_teacher_poll(t, 100, &r), RSD_AGAIN);
    ck_assert_int_eq(rsd_teacher_wait_fds(t, one, 1, &n, &timeout), RSD_OK);
    ck_assert(n == 3 && timeout > 0 && one[0].fd >= 0 && one[1].fd == -7);
    ck_assert_int_eq(rsd_teacher_wait_fds(t, NULL, 0, &n, &timeout), RSD_OK);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(rsd_teacher_wait_fds(t, NULL, 1, &n, &timeout), RSD_EINVAL);
    ck_assert_int_eq(rsd_teacher_wait_fds(t, one, 1, NULL, &timeout), RSD_EINVAL);
    ck_assert_int_eq(rsd_teacher_wait_fds(t, one, 1, &n, NULL), RSD_EINVAL);
    ck_assert_uint_eq(run_loop(ctx, t, 0).replies, 3);
    rsd_teacher_close(t);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

/* An fd_set, which an older libcurl fills, ends at 1023. */
START_TEST(a_program_with_many_open_files_is_served_too) {
    rsd_ctx *ctx = open_ctx();
    struct server s = start_server(SCRIPT("slow:0.3"));
    rsd_teacher_options o = options_for(s.url);
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < 2048) {
        test_skip(__func__, "fewer than 2048 files may be open");
        stop_server(&s);
        rsd_ctx_close(ctx);
        return;
    }
    limit.rlim_cur = limit.rlim_cur < 2048 ? 2048 : limit.rlim_cur;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    o.api = RSD_API_COMPLETIONS;
    rsd_teacher *t = open_teacher(ctx, &o);
    for (int fd = 0; fd < FD_SETSIZE;)
        ck_assert_int_ge(fd = dup(s.in), 0);
    submit(t, "q", "2+2?", NULL);
    double start = clock_seconds();
    struct loop l = run_loop(ctx, t, 0);
    ck_assert(l.end == RSD_END && l.replies == 1);
    ck_assert(clock_seconds() - start < 10);
    ck_assert_uint_lt(l.rounds, 2000);
    rsd_teacher_close(t);
    for (int fd = 3; fd < 2048; fd++)
        if (fd != s.in)
            close(fd);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *teacher_wait_suite(void) {
    Suite *s = suite_create("teacher: wait");
    TCase *t = tcase_create("wait");
    tcase_add_test(t, the_descriptors_alone_wake_a_host);
    tcase_add_loop_test(t, the_time_that_is_told_wakes_a_host_for_retries_and_timeouts, 0, 2);
    tcase_add_test(t, a_program_with_many_open_files_is_served_too);
    tcase_add_test(t, what_does_not_fit_is_counted_and_what_is_there_is_not_waited_for);
    suite_add_tcase(s, t);
    return s;
}
