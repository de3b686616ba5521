/* The door to libcurl: many requests in flight on the caller's thread (curl_multi).
 *
 * What libcurl would decide silently is decided here: redirects are not followed (a key would travel with them), Retry-After is read by us (libcurl rounds it), the size
 * of a body is counted as it arrives (CURLOPT_MAXFILESIZE sees only what is announced), signals are left alone. A key goes over plain http to this machine only. */
#include "teacher/transport.h"

#include "base/ctx.h"
#include "core/mem.h"
#include "teacher/key.h"
#include "teacher/policy.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { BODY_MAX = 64 << 20, MAX_SAMPLES_PER_REQUEST = 64 };

struct flight { /* one easy handle, used again and again */
    struct http *http;
    CURL *easy;
    size_t tag;
    struct str body;
    bool too_large;
    char retry_after[64], retry_after_ms[64], date[64];
    int should_retry;
    char error[CURL_ERROR_SIZE];
    struct flight *next; /* in `idle` */
};

struct http {
    struct transport base;
    rsd_ctx *ctx;
    struct str url;
    struct curl_slist *headers;
    CURLM *multi;
    struct flight **flights;
    size_t n_flights, cap_flights;
    struct flight *idle;
    struct flight *told; /* its body is lent to the caller until the next poll */
    long timeout_ms, connect_ms;
};

/* ---- the library, once ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode global_state = CURLE_FAILED_INIT;

static void init_curl(void) {
    global_state = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- callbacks ---- */

static size_t on_body(char *p, size_t size, size_t n, void *user) {
    struct flight *f = user;
    n *= size;
    if (n > BODY_MAX - f->body.n) {
        f->too_large = true;
        return 0; /* ends the transfer */
    }
    str_add(&f->body, p, n);
    return f->body.failed ? 0 : n;
}

/* Keeps the value of "name: value" if the header has that name. */
static void keep_header(struct text h, const char *name, char *out, size_t size) {
    size_t n = strlen(name);
    if (h.n <= n || h.p[n] != ':' || strncasecmp(h.p, name, n) != 0)
        return;
    size_t m = h.n - n - 1;
    m = m < size - 1 ? m : size - 1;
    memcpy(out, h.p + n + 1, m);
    out[m] = 0;
}

static size_t on_header(char *p, size_t size, size_t n, void *user) {
    struct flight *f = user;
    struct text h = {p, size * n};
    char should[16] = "";
    keep_header(h, "retry-after", f->retry_after, sizeof f->retry_after);
    keep_header(h, "retry-after-ms", f->retry_after_ms, sizeof f->retry_after_ms);
    keep_header(h, "date", f->date, sizeof f->date);
    keep_header(h, "x-should-retry", should, sizeof should);
    if (should[0])
        f->should_retry = strstr(should, "true") ? 1 : strstr(should, "false") ? 0 : -1;
    return h.n;
}

/* ---- flights ---- */

static void free_flight(struct flight *f) {
    if (f->easy)
        curl_easy_cleanup(f->easy);
    str_free(&f->body);
    mem_free(&f->http->ctx->alloc, f);
}

static int set_up(struct http *h, struct flight *f, struct err *e) {
    CURL *c = f->easy;
    CURLcode bad = CURLE_OK;
#define SET(option, value) bad = bad ? bad : curl_easy_setopt(c, option, value)
    SET(CURLOPT_URL, str_z(&h->url));
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_HTTPHEADER, h->headers);
    SET(CURLOPT_ACCEPT_ENCODING, "");
    SET(CURLOPT_TIMEOUT_MS, h->timeout_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, h->connect_ms);
    SET(CURLOPT_ERRORBUFFER, f->error);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, f);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, f);
    SET(CURLOPT_PRIVATE, f);
    if (strncmp(str_z(&h->url), "http://", 7) == 0)
        SET(CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
#undef SET
    return bad ? err_set(e, ERR_IO, "libcurl: %s", curl_easy_strerror(bad)) : 0;
}

static int new_flight(struct http *h, struct flight **out, struct err *e) {
    int rc = mem_reserve(&h->ctx->alloc, (void *)&h->flights, &h->cap_flights, h->n_flights + 1, sizeof *h->flights, e);
    if (rc)
        return rc;
    struct flight *f = mem_zero(&h->ctx->alloc, 1, sizeof *f, e);
    if (!f)
        return ERR_NOMEM;
    f->http = h;
    str_init(&f->body, &h->ctx->alloc);
    f->easy = curl_easy_init();
    rc = f->easy ? set_up(h, f, e) : err_set(e, ERR_NOMEM, "out of memory: a libcurl handle");
    if (rc) {
        free_flight(f);
        return rc;
    }
    h->flights[h->n_flights++] = f;
    *out = f;
    return 0;
}

/* The flight whose body was lent may be used again. */
static void take_back(struct http *h) {
    if (!h->told)
        return;
    h->told->next = h->idle;
    h->idle = h->told;
    h->told = NULL;
}

static int http_start(struct transport *t, const struct request *r, struct err *e) {
    struct http *h = (struct http *)t;
    struct flight *f = h->idle;
    int rc;
    if (f)
        h->idle = f->next;
    else if ((rc = new_flight(h, &f, e)))
        return rc;
    str_clear(&f->body);
    f->tag = r->tag;
    f->too_large = false;
    f->retry_after[0] = f->retry_after_ms[0] = f->date[0] = f->error[0] = 0;
    f->should_retry = -1;
    CURLcode bad = curl_easy_setopt(f->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
    bad = bad ? bad : curl_easy_setopt(f->easy, CURLOPT_POSTFIELDS, r->body.p);
    CURLMcode worse = bad ? CURLM_OK : curl_multi_add_handle(h->multi, f->easy);
    if (bad || worse) {
        f->next = h->idle;
        h->idle = f;
        return err_set(e, ERR_IO, "libcurl: %s", bad ? curl_easy_strerror(bad) : curl_multi_strerror(worse));
    }
    return 0;
}

/* ---- what came back ---- */

/* Faults that another try cannot cure. */
static bool is_final(CURLcode code) {
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_NOT_BUILT_IN:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_TOO_MANY_REDIRECTS:
        return true;
    default:
        return false;
    }
}

static void tell(struct http *h, struct flight *f, CURLcode code, struct outcome *out) {
    long status = 0;
    int64_t date;
    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(h->multi, f->easy);
    h->told = f;
    /* The server's own clock, where it tells it, so that a wrong clock here does not turn into a wrong wait. */
    struct text sent = {f->date, strlen(f->date)};
    while (sent.n > 0 && *sent.p == ' ')
        sent = (struct text){sent.p + 1, sent.n - 1};
    while (sent.n > 0 && memchr("\r\n ", sent.p[sent.n - 1], 3))
        sent.n--;
    double now = policy_http_date(sent, &date) ? (double)date : (double)time(NULL);
    *out = (struct outcome){.tag = f->tag,
                            .kind = OUTCOME_BODY,
                            .status = (int)status,
                            .should_retry = f->should_retry,
                            .retry_after = policy_retry_after(text_of(f->retry_after_ms), text_of(f->retry_after), now),
                            .body = {str_z(&f->body), f->body.n}};
    if (code == CURLE_OK)
        return;
    out->kind = OUTCOME_FAULT;
    out->final = is_final(code) || f->too_large;
    if (f->too_large)
        snprintf(out->fault, sizeof out->fault, "%.150s: the answer has more than %d bytes", str_z(&h->url), (int)BODY_MAX);
    else if (f->body.failed)
        snprintf(out->fault, sizeof out->fault, "out of memory while an answer arrived");
    else
        snprintf(out->fault, sizeof out->fault, "%.150s: %.90s", str_z(&h->url),
                 f->error[0] ? f->error : curl_easy_strerror(code));
}

static bool next_done(struct http *h, struct outcome *out) {
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(h->multi, &left))) {
        if (m->msg != CURLMSG_DONE)
            continue;
        char *f = NULL;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &f);
        tell(h, (struct flight *)(void *)f, m->data.result, out);
        return true;
    }
    return false;
}

static int http_poll(struct transport *t, double seconds, struct outcome *out, struct err *e) {
    struct http *h = (struct http *)t;
    double until = clock_seconds() + seconds;
    take_back(h);
    for (;;) {
        int running;
        CURLMcode bad = curl_multi_perform(h->multi, &running);
        if (!bad && next_done(h, out))
            return 1;
        double left = until - clock_seconds();
        if (!bad && left <= 0)
            return 0;
        if (!bad) /* rounded up: no busy loop in the last millisecond */
            bad = curl_multi_poll(h->multi, NULL, 0, left > 1000 ? 1000000 : (int)(left * 1000) + 1, NULL);
        if (bad)
            return err_set(e, ERR_IO, "libcurl: %s", curl_multi_strerror(bad));
    }
}

static void http_close(struct transport *t) {
    struct http *h = (struct http *)t;
    for (size_t i = 0; i < h->n_flights; i++) {
        if (h->multi)
            curl_multi_remove_handle(h->multi, h->flights[i]->easy);
        free_flight(h->flights[i]);
    }
    if (h->multi)
        curl_multi_cleanup(h->multi);
    for (struct curl_slist *s = h->headers; s; s = s->next)
        memset(s->data, 0, strlen(s->data)); /* the key */
    curl_slist_free_all(h->headers);
    str_free(&h->url);
    mem_free(&h->ctx->alloc, h->flights);
    mem_free(&h->ctx->alloc, h);
}

/* ---- opening ---- */

static bool is_loopback(const char *host) {
    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    unsigned a, b, c, d;
    int n = 0;
    return sscanf(host, "%3u.%3u.%3u.%3u%n", &a, &b, &c, &d, &n) == 4 && host[n] == 0 && a == 127 && b < 256 && c < 256 &&
           d < 256;
}

/* The URL is well-formed, holds no password, and may see the key if there is one. */
static int check_url(const struct http_options *o, struct err *e) {
    CURLU *u = curl_url();
    char *host = NULL, *user = NULL;
    int rc = 0;
    if (!u)
        return err_set(e, ERR_NOMEM, "out of memory: a URL");
    CURLUcode bad = curl_url_set(u, CURLUPART_URL, o->url, 0);
    if (bad || curl_url_get(u, CURLUPART_HOST, &host, 0))
        rc = err_set(e, ERR_INVALID, "url: no URL of the form http(s)://host[:port]/v1 (%s)",
                     bad ? curl_url_strerror(bad) : "no host");
    else if (!curl_url_get(u, CURLUPART_USER, &user, 0))
        rc = err_set(e, ERR_INVALID,
                     "url: a user name or password does not belong in it; give the key by environment variable or file");
    else if (o->key && strncmp(o->url, "https://", 8) != 0 && !is_loopback(host))
        rc = err_set(e, ERR_INVALID, "url: the API key is not sent to %.100s over plain http: use https, or unset the key", host);
    curl_free(host);
    curl_free(user);
    curl_url_cleanup(u);
    return rc;
}

static bool ends_with(struct text t, const char *end) {
    size_t n = strlen(end);
    return t.n >= n && memcmp(t.p + t.n - n, end, n) == 0;
}

static int add_header(struct http *h, const char *line, struct err *e) {
    struct curl_slist *more = curl_slist_append(h->headers, line);
    if (!more)
        return err_set(e, ERR_NOMEM, "out of memory: a header");
    h->headers = more;
    return 0;
}

static int build(struct http *h, const struct http_options *o, struct err *e) {
    struct str auth;
    int rc;
    struct text base = text_of(o->url);
    while (base.n > 0 && base.p[base.n - 1] == '/')
        base.n--;
    str_add(&h->url, base.p, base.n);
    if (!ends_with(base, o->path))
        str_addz(&h->url, o->path);
    if ((rc = str_status(&h->url, e)) || (rc = add_header(h, "Content-Type: application/json", e)) ||
        (rc = add_header(h, "Accept: application/json", e)) || (rc = add_header(h, "Expect:", e)) ||
        (rc = add_header(h, "User-Agent: reasondistill/" RSD_VERSION_STRING, e)))
        return rc;
    if (o->key) {
        str_init(&auth, &h->ctx->alloc);
        str_addz(&auth, "Authorization: Bearer ");
        str_addz(&auth, o->key);
        if (!(rc = str_status(&auth, e)))
            rc = add_header(h, str_z(&auth), e);
        key_wipe(&auth);
        if (rc)
            return rc;
    }
    h->multi = curl_multi_init();
    return h->multi ? 0 : err_set(e, ERR_NOMEM, "out of memory: a libcurl multi handle");
}

int http_open(struct transport **out, rsd_ctx *ctx, const struct http_options *o, struct err *e) {
    int rc;
    *out = NULL;
    pthread_once(&once, init_curl);
    if (global_state)
        return err_set(e, ERR_IO, "libcurl: %s", curl_easy_strerror(global_state));
    if ((rc = check_url(o, e)))
        return rc;
    struct http *h = mem_zero(&ctx->alloc, 1, sizeof *h, e);
    if (!h)
        return ERR_NOMEM;
    static const struct transport_ops ops = {
        .max_samples = MAX_SAMPLES_PER_REQUEST, .start = http_start, .poll = http_poll, .close = http_close};
    h->base.ops = &ops;
    h->ctx = ctx;
    h->timeout_ms = (long)(o->timeout * 1000);
    h->connect_ms = (long)(o->connect_timeout * 1000);
    str_init(&h->url, &ctx->alloc);
    if ((rc = build(h, o, e))) {
        http_close(&h->base);
        return rc;
    }
    *out = &h->base;
    return 0;
}
