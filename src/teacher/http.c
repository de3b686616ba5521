/* The door to libcurl: many requests in flight on the caller's thread (curl_multi).
 *
 * What libcurl would decide silently is decided here: redirects are not followed (a key would travel with them), Retry-After
 * is read by us (libcurl rounds it), the size of a body is counted as it arrives (CURLOPT_MAXFILESIZE sees only what is
 * announced), signals are left alone. A key goes over plain http to this machine only. */
#include "teacher/transport.h"

#include "base/ctx.h"
#include "core/log.h"
#include "core/mem.h"
#include "teacher/key.h"
#include "teacher/policy.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/select.h>
#include <time.h>

enum { MAX_SAMPLES_PER_REQUEST = 1024 };
static const double progress_every = 0.2, /* seconds between questions to on_progress */
    look_every = 1, blind_every = 0.01;   /* seconds that a host's loop may wait at most; without all descriptors */

struct flight { /* one easy handle, used again and again */
    struct http *http;
    CURL *easy;
    size_t tag;
    struct str body;
    bool too_large, silent; /* why it was ended here */
    bool began;             /* a header came */
    double started;
    struct pace_facts pace;
    char retry_after[64], retry_after_ms[64], date[64];
    int should_retry;
    char error[CURL_ERROR_SIZE];
    struct flight *next; /* in `idle` */
};

struct http {
    struct transport base;
    rsd_ctx *ctx;
    struct str url;  /* of the request started last; libcurl keeps a copy */
    struct str root; /* the base URL */
    bool loopback, insecure, http2;
    struct str ca_file;
    double first_byte;
    size_t max_body;
    struct curl_slist *headers;
    CURLM *multi;
    struct flight **flights;
    size_t n_flights, cap_flights;
    struct flight *idle;
    struct flight *told; /* its body is lent to the caller until the next poll */
    long timeout_ms, connect_ms;
    bool blind; /* a descriptor is too large for an fd_set */
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
    if (n > f->http->max_body - f->body.n) {
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

static void keep_number(struct text h, const char *name, double (*read)(struct text), double *out) {
    char value[48] = "";
    keep_header(h, name, value, sizeof value);
    if (value[0])
        *out = read(text_of(value));
}

static size_t on_header(char *p, size_t size, size_t n, void *user) {
    struct flight *f = user;
    struct text h = {p, size * n};
    char should[16] = "";
    f->began = true;
    keep_number(h, "x-ratelimit-remaining-requests", pace_duration, &f->pace.remaining_requests);
    keep_number(h, "x-ratelimit-remaining-tokens", pace_duration, &f->pace.remaining_tokens);
    keep_number(h, "x-ratelimit-reset-requests", pace_duration, &f->pace.reset_requests);
    keep_number(h, "x-ratelimit-reset-tokens", pace_duration, &f->pace.reset_tokens);
    keep_header(h, "retry-after", f->retry_after, sizeof f->retry_after);
    keep_header(h, "retry-after-ms", f->retry_after_ms, sizeof f->retry_after_ms);
    keep_header(h, "date", f->date, sizeof f->date);
    keep_header(h, "x-should-retry", should, sizeof should);
    if (should[0])
        f->should_retry = strstr(should, "true") ? 1 : strstr(should, "false") ? 0 : -1;
    return h.n;
}

/* libcurl asks now and then, at least once a second, whether to go on. */
static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    struct flight *f = user;
    (void)a, (void)b, (void)c, (void)d;
    f->silent = !f->began && clock_seconds() - f->started > f->http->first_byte;
    return f->silent;
}

#if LIBCURL_VERSION_NUM < 0x080800
static int on_socket(void *user, curl_socket_t fd, curlsocktype purpose) {
    struct http *h = user;
    (void)purpose;
    h->blind |= fd >= FD_SETSIZE;
    return CURL_SOCKOPT_OK;
}
#endif

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
    SET(CURLOPT_SSL_VERIFYPEER, h->insecure ? 0L : 1L);
    SET(CURLOPT_SSL_VERIFYHOST, h->insecure ? 0L : 2L);
    SET(CURLOPT_HTTP_VERSION, (long)(h->http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    if (h->http2 && strncmp(str_z(&h->root), "https://", 8) == 0)
        SET(CURLOPT_PIPEWAIT, 1L); /* share a connection that can carry many requests rather than open another */
    if (h->ca_file.n > 0)
        SET(CURLOPT_CAINFO, str_z(&h->ca_file));
    if (h->loopback)
        SET(CURLOPT_NOPROXY, "*");
    if (h->first_byte > 0) {
        SET(CURLOPT_NOPROGRESS, 0L);
        SET(CURLOPT_XFERINFOFUNCTION, on_progress);
        SET(CURLOPT_XFERINFODATA, f);
    }
#if LIBCURL_VERSION_NUM < 0x080800
    SET(CURLOPT_SOCKOPTFUNCTION, on_socket);
    SET(CURLOPT_SOCKOPTDATA, h);
#endif
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
    f->too_large = f->silent = f->began = false;
    f->started = clock_seconds();
    f->pace = pace_nothing;
    f->retry_after[0] = f->retry_after_ms[0] = f->date[0] = f->error[0] = 0;
    f->should_retry = -1;
    str_clear(&h->url);
    str_add(&h->url, str_z(&h->root), h->root.n);
    str_addz(&h->url, r->path);
    if ((rc = str_status(&h->url, e))) {
        f->next = h->idle;
        h->idle = f;
        return rc;
    }
    CURLcode bad = curl_easy_setopt(f->easy, CURLOPT_URL, str_z(&h->url));
    bad = bad ? bad : curl_easy_setopt(f->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
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

/* Nothing answers there, or not in time. */
static bool no_connection(CURL *easy, CURLcode code) {
    curl_off_t begun = 0;
    if (code == CURLE_OPERATION_TIMEDOUT && !curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &begun))
        return begun == 0;
    return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY;
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
                            .pace = f->pace,
                            .body = {str_z(&f->body), f->body.n}};
    if (code == CURLE_OK)
        return;
    out->kind = OUTCOME_FAULT;
    out->for_all = is_final(code);
    out->unreachable = no_connection(f->easy, code);
    out->final = out->for_all || f->too_large;
    if (f->too_large)
        snprintf(out->fault, sizeof out->fault, "%.150s: the answer has more than %zu bytes", str_z(&h->root), h->max_body);
    else if (f->silent)
        snprintf(out->fault, sizeof out->fault, "%.150s: no answer began within %g seconds", str_z(&h->root), h->first_byte);
    else if (f->body.failed)
        snprintf(out->fault, sizeof out->fault, "out of memory while an answer arrived");
    else
        snprintf(out->fault, sizeof out->fault, "%.150s: %.90s", str_z(&h->root),
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
        if (h->first_byte > 0 && left > progress_every)
            left = progress_every; /* on_progress is asked meanwhile */
        if (!bad && clock_seconds() >= until)
            return 0;
        if (!bad) /* rounded up: no busy loop in the last millisecond */
            bad = curl_multi_poll(h->multi, NULL, 0, left > 1000 ? 1000000 : left > 0 ? (int)(left * 1000) + 1 : 0, NULL);
        if (bad)
            return err_set(e, ERR_IO, "libcurl: %s", curl_multi_strerror(bad));
    }
}

#if LIBCURL_VERSION_NUM >= 0x080800
static CURLMcode wanted(struct http *h, rsd_fd *fds, size_t cap, size_t *n, struct err *e) {
    unsigned all = 0;
    CURLMcode bad = curl_multi_waitfds(h->multi, NULL, 0, &all);
    struct curl_waitfd *w = bad ? NULL : mem_zero(&h->ctx->alloc, all, sizeof *w, e);
    *n = 0;
    if (!bad && !w)
        return CURLM_OUT_OF_MEMORY;
    bad = bad ? bad : curl_multi_waitfds(h->multi, w, all, &all);
    for (size_t i = 0; !bad && i < all; i++, ++*n)
        if (i < cap)
            fds[i] = (rsd_fd){w[i].fd, (w[i].events & CURL_WAIT_POLLIN ? RSD_FD_READ : 0) |
                                           (w[i].events & CURL_WAIT_POLLOUT ? RSD_FD_WRITE : 0)};
    mem_free(&h->ctx->alloc, w);
    return bad;
}
#else
static CURLMcode wanted(struct http *h, rsd_fd *fds, size_t cap, size_t *n, struct err *e) {
    fd_set in, out, other;
    int last = -1;
    (void)e;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&other);
    *n = 0;
    CURLMcode bad = curl_multi_fdset(h->multi, &in, &out, &other, &last);
    for (int fd = 0; !bad && fd <= last; fd++) {
        int events = (FD_ISSET(fd, &in) ? RSD_FD_READ : 0) | (FD_ISSET(fd, &out) ? RSD_FD_WRITE : 0);
        if (!events)
            continue;
        if (*n < cap)
            fds[*n] = (rsd_fd){fd, events};
        ++*n;
    }
    return bad;
}
#endif

static int http_wait(struct transport *t, rsd_fd *fds, size_t cap, size_t *n, double *seconds, struct err *e) {
    struct http *h = (struct http *)t;
    long ms = -1;
    CURLMcode bad = wanted(h, fds, cap, n, e);
    bad = bad ? bad : curl_multi_timeout(h->multi, &ms);
    if (bad)
        return err_set(e, bad == CURLM_OUT_OF_MEMORY ? ERR_NOMEM : ERR_IO, "libcurl: %s", curl_multi_strerror(bad));
    double most = h->blind ? blind_every : h->first_byte > 0 ? progress_every : look_every;
    if (ms >= 0 && (double)ms / 1000 < most)
        most = (double)ms / 1000;
    if (most < *seconds)
        *seconds = most;
    return 0;
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
    str_free(&h->root);
    str_free(&h->ca_file);
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

/* A header's name: the characters of a token (RFC 9110, 5.6.2). */
static bool is_name(struct text t) {
    for (size_t i = 0; i < t.n; i++)
        if (!memchr("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", t.p[i], 77))
            return false;
    return t.n > 0;
}

/* Headers that hold a key by their name. */
static bool holds_secret(const char *lines) {
    for (const char *p = lines; p && *p; p += strcspn(p, "\n"), p += *p == '\n')
        if (key_in_header((struct text){p, strcspn(p, ":\n")}))
            return true;
    return false;
}

/* The URL is well-formed, holds no password, and may see the key if there is one. */
static int check_url(struct http *h, const struct http_options *o, struct err *e) {
    CURLU *u = curl_url();
    char *host = NULL, *user = NULL;
    int rc = 0;
    if (!u)
        return err_set(e, ERR_NOMEM, "out of memory: a URL");
    CURLUcode bad = curl_url_set(u, CURLUPART_URL, str_z(&h->root), 0);
    if (bad || curl_url_get(u, CURLUPART_HOST, &host, 0))
        rc = err_set(e, ERR_INVALID, "url: no URL of the form http(s)://host[:port]/v1 (%s)",
                     bad ? curl_url_strerror(bad) : "no host");
    else if (!curl_url_get(u, CURLUPART_USER, &user, 0))
        rc = err_set(e, ERR_INVALID,
                     "url: a user name or password does not belong in it; give the key by environment variable or file");
    else
        h->loopback = is_loopback(host);
    if (!rc && !h->loopback && strncmp(str_z(&h->root), "https://", 8) != 0 && (o->key || holds_secret(o->headers)))
        rc = err_set(e, ERR_INVALID, "url: the API key%s is not sent to %.100s over plain http: use https, or unset it",
                     o->key ? "" : " in one of `headers`", host);
    curl_free(host);
    curl_free(user);
    curl_url_cleanup(u);
    return rc;
}

static int add_header(struct http *h, const char *line, struct err *e) {
    struct curl_slist *more = curl_slist_append(h->headers, line);
    if (!more)
        return err_set(e, ERR_NOMEM, "out of memory: a header");
    h->headers = more;
    return 0;
}

static int add_key(struct http *h, const struct http_options *o, struct err *e) {
    struct str line;
    struct text name = text_of(o->key_header ? o->key_header : "Authorization");
    if (!o->key)
        return 0;
    if (!is_name(name))
        return err_set(e, ERR_INVALID, "key_header: the name of a header expected");
    str_init(&line, &h->ctx->alloc);
    str_add(&line, name.p, name.n);
    str_addz(&line, o->key_header ? ": " : ": Bearer ");
    str_addz(&line, o->key);
    int rc = str_status(&line, e);
    if (!rc)
        rc = add_header(h, str_z(&line), e);
    key_wipe(&line);
    return rc;
}

/* The user's headers. Their values may be secret and are in no message. */
static int add_headers(struct http *h, const char *lines, struct err *e) {
    struct str line;
    size_t number = 1;
    int rc = 0;
    str_init(&line, &h->ctx->alloc);
    for (const char *p = lines; p && *p && !rc; number++) {
        struct text t = {p, strcspn(p, "\n")};
        p += t.n + (p[t.n] == '\n');
        while (t.n > 0 && memchr(" \t\r", t.p[t.n - 1], 3))
            t.n--;
        if (t.n == 0)
            continue;
        const char *colon = memchr(t.p, ':', t.n);
        bool good = colon && is_name((struct text){t.p, (size_t)(colon - t.p)});
        for (size_t i = 0; i < t.n; i++)
            good = good && ((unsigned char)t.p[i] >= ' ' || t.p[i] == '\t') && t.p[i] != 127;
        if (!good) {
            rc = err_set(e, ERR_INVALID, "headers, line %zu: \"Name: value\" expected", number);
            break;
        }
        str_clear(&line);
        str_add(&line, t.p, t.n);
        if (!(rc = str_status(&line, e)))
            rc = add_header(h, str_z(&line), e);
    }
    key_wipe(&line);
    return rc;
}

static int build(struct http *h, const struct http_options *o, struct err *e) {
    int rc;
    struct text base = o->url;
    while (base.n > 0 && base.p[base.n - 1] == '/')
        base.n--;
    str_add(&h->root, base.p, base.n);
    str_addz(&h->ca_file, o->ca_file ? o->ca_file : "");
    if ((rc = str_status(&h->root, e)) || (rc = str_status(&h->ca_file, e)) || (rc = check_url(h, o, e)) ||
        (rc = add_header(h, "Content-Type: application/json", e)) || (rc = add_header(h, "Accept: application/json", e)) ||
        (rc = add_header(h, "Expect:", e)) || (rc = add_header(h, "User-Agent: reasondistill/" RSD_VERSION_STRING, e)) ||
        (rc = add_key(h, o, e)) || (rc = add_headers(h, o->headers, e)))
        return rc;
    h->multi = curl_multi_init();
    return h->multi ? 0 : err_set(e, ERR_NOMEM, "out of memory: a libcurl multi handle");
}

int http_open(struct transport **out, rsd_ctx *ctx, const struct http_options *o, struct err *e) {
    static const struct transport_ops ops = {.start = http_start, .poll = http_poll, .wait = http_wait, .close = http_close};
    int rc;
    *out = NULL;
    pthread_once(&once, init_curl);
    if (global_state)
        return err_set(e, ERR_IO, "libcurl: %s", curl_easy_strerror(global_state));
    struct http *h = mem_zero(&ctx->alloc, 1, sizeof *h, e);
    if (!h)
        return ERR_NOMEM;
    h->base = (struct transport){.ops = &ops, .max_samples = MAX_SAMPLES_PER_REQUEST};
    h->ctx = ctx;
    h->timeout_ms = (long)(o->timeout * 1000);
    h->connect_ms = (long)(o->connect_timeout * 1000);
    h->first_byte = o->first_byte_timeout;
    h->max_body = o->max_body;
    h->insecure = o->insecure;
    h->http2 = o->http2;
    str_init(&h->url, &ctx->alloc);
    str_init(&h->root, &ctx->alloc);
    str_init(&h->ca_file, &ctx->alloc);
    if ((rc = build(h, o, e))) {
        http_close(&h->base);
        return rc;
    }
    *out = &h->base;
    return 0;
}
