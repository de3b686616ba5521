/* TLS: whom the client believes, that it says nothing to anybody else, and HTTP/2, which comes with it. Certificates are made here
 * by the openssl command. */
#define _GNU_SOURCE
#include "test_teacher.h"

#include "teacher_server.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool have_openssl(void) {
    return system("openssl version >/dev/null 2>&1") == 0;
}

static void sh(const char *dir, const char *command) {
    char line[2048];
    snprintf(line, sizeof line, "cd '%s' && { %s; } >openssl.log 2>&1", dir, command);
    ck_assert_msg(system(line) == 0, "%s", line);
}

/* ca.pem, and with its signature `name`.pem + `name`.key for a subject that ends on a date of the form YYYYMMDDHHMMSSZ. */
static void make_ca(const char *dir) {
    sh(dir,
       "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 3650 -subj "
       "/CN=test-ca && mkdir -p db && : >db/index.txt && echo 01 >db/serial && "
       "printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=db/index.txt\\nserial=db/serial\\nnew_certs_dir=db\\ncertificate=ca.pem\\n"
       "private_key=ca.key\\ndefault_md=sha256\\npolicy=p\\ncopy_extensions=copy\\nunique_subject=no\\n[p]\\ncommonName="
       "supplied\\n' >ca.cnf");
}

static void make_certificate(const char *dir, const char *name, const char *subject_alt, const char *from, const char *to) {
    char line[1024];
    snprintf(line, sizeof line,
             "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout %s.key -out %s.csr -subj /CN=%s "
             "-addext subjectAltName=%s && openssl ca -batch -config ca.cnf -in %s.csr -out %s.pem -startdate %s -enddate %s",
             name, name, name, subject_alt, name, name, from, to);
    sh(dir, line);
}

static const struct {
    const char *what, *subject_alt, *from, *to;
    bool self_signed, trust, insecure, accepted;
} rows[] = {
    {"good", "IP:127.0.0.1", "20200101000000Z", "20490101000000Z", false, true, false, true},
    {"expired", "IP:127.0.0.1", "20200101000000Z", "20210101000000Z", false, true, false, false},
    {"not yet valid", "IP:127.0.0.1", "20480101000000Z", "20490101000000Z", false, true, false, false},
    {"wrong host", "DNS:example.com", "20200101000000Z", "20490101000000Z", false, true, false, false},
    {"self-signed", NULL, NULL, NULL, true, false, false, false},
    {"unknown authority", "IP:127.0.0.1", "20200101000000Z", "20490101000000Z", false, false, false, false},
    {"wrong host, but told not to look", "DNS:example.com", "20200101000000Z", "20490101000000Z", false, false, true, true},
};

START_TEST(a_certificate_that_does_not_hold_is_refused_before_a_byte_of_a_request) {
    if (!have_openssl()) {
        test_skip(__func__, "no openssl command");
        return;
    }
    rsd_ctx *ctx = open_ctx();
    const char *dir = test_dir();
    const rsd_reply *r;
    if (rows[_i].self_signed) {
        sh(dir, "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout s.key -out s.pem -days 3650 "
                "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1");
    } else {
        make_ca(dir);
        make_certificate(dir, "s", rows[_i].subject_alt, rows[_i].from, rows[_i].to);
    }
    struct server s = start_server_in(dir, "tls_server.py", SCRIPT(test_path(dir, "s.pem"), test_path(dir, "s.key")));
    char url[64];
    snprintf(url, sizeof url, "https://127.0.0.1:%d/v1", s.port);
    rsd_teacher_options o = options_for(url);
    setenv("RSD_TEST_KEY", "sk-canary", 1);
    o.api_key_env = "RSD_TEST_KEY";
    o.api = RSD_API_COMPLETIONS;
    o.concurrency = 1;
    o.ca_file = rows[_i].trust ? test_path(dir, "ca.pem") : NULL;
    o.insecure = rows[_i].insecure;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit(t, "q", "2+2?", NULL);
    if (!rows[_i].accepted)
        submit(t, "not asked", "3+3?", NULL);
    int rc = rsd_teacher_poll(t, 20000, &r);
    ck_assert_msg(rc == (rows[_i].accepted ? RSD_OK : RSD_ENETWORK), "%s: %d, %s", rows[_i].what, rc, rsd_ctx_error(ctx));
    if (!rows[_i].accepted) {
        ck_assert_msg(strcasestr(rsd_ctx_error(ctx), "certificate") || strcasestr(rsd_ctx_error(ctx), "SSL"), "%s",
                      rsd_ctx_error(ctx));
        ck_assert_uint_eq(stats_of(t).stopped, RSD_STOPPED_REFUSED);
        ck_assert_uint_eq(stats_of(t).retries, 0); /* asking again does not make it valid */
    }
    rsd_teacher_close(t);
    for (int i = 0; i < 100 && requests(&s, NULL) == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* the server writes its line behind the client's end */
    ck_assert_uint_eq(requests(&s, NULL), 1);
    ck_assert_uint_eq(requests(&s, "\"bytes\": 0,"), rows[_i].accepted ? 0 : 1);
    ck_assert_uint_eq(requests(&s, "POST /v1/completions"), rows[_i].accepted ? 1 : 0);
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(http_2_is_spoken_where_it_is_offered) {
    if (!have_openssl()) {
        test_skip(__func__, "no openssl command");
        return;
    }
    rsd_ctx *ctx = open_ctx();
    const char *dir = test_dir();
    char url[64], failure[512];
    make_ca(dir);
    make_certificate(dir, "s", "IP:127.0.0.1", "20200101000000Z", "20490101000000Z");
    struct server s = start_server_in(dir, "tls_server.py", SCRIPT(test_path(dir, "s.pem"), test_path(dir, "s.key"), "h2:4"));
    snprintf(url, sizeof url, "https://127.0.0.1:%d/v1", s.port);
    rsd_teacher_options o = options_for(url);
    o.api = RSD_API_COMPLETIONS;
    o.ca_file = test_path(dir, "ca.pem");
    o.retries = 0;
    o.concurrency = 4;
    o.timeout = 20;
    o.http2 = _i == 0;
    rsd_teacher *t = open_teacher(ctx, &o);
    submit_many(t, 4);
    const size_t n = finish(ctx, t, failure, sizeof failure);
    ck_assert_msg(n == (_i == 0 ? 4U : 0U), "%zu: %s", n, failure); /* the server knows nothing else */
    rsd_teacher_close(t);
    for (int i = 0; i < 100 && requests(&s, NULL) == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    ck_assert_uint_eq(requests(&s, "\"begin\": \"PRI * HTTP/2.0"), _i == 0 ? 1 : 0);
    ck_assert_uint_eq(requests(&s, "\"streams\": 4"), _i == 0 ? 1 : 0); /* one connection for all */
    stop_server(&s);
    rsd_ctx_close(ctx);
}
END_TEST

Suite *teacher_tls_suite(void) {
    Suite *s = suite_create("teacher: tls");
    TCase *t = tcase_create("tls");
    tcase_add_loop_test(t, a_certificate_that_does_not_hold_is_refused_before_a_byte_of_a_request, 0,
                        (int)(sizeof rows / sizeof *rows));
    tcase_add_loop_test(t, http_2_is_spoken_where_it_is_offered, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
