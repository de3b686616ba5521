/* An OpenAI-compatible endpoint that answers at once, for measuring and for tormenting a client. One thread, epoll.
 *
 *     answer_server [--tokens N] [--faults PERCENT] [--seed S]
 *
 * prints its port and serves POST until its standard input ends, then prints {"requests","faults","slow","elsewhere"} as a
 * line. An answer is one completion of N tokens (100) with five alternatives each. PERCENT of the requests, chosen by a hash
 * of their number, are treated badly instead: by one of the faults below, in turn. "slow" ones are answered all the same;
 * "elsewhere" counts connections to a second port that only redirects name. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 4096, REQUEST_MAX = 1 << 20, OVERSIZE = 4 << 20 };

enum fault {
    F_429_SECONDS,
    F_429_FLOAT,
    F_429_MS,
    F_429_DATE,
    F_500,
    F_503,
    F_RESET,
    F_RESET_INSIDE,
    F_CUT,
    F_UTF8,
    F_HTML,
    F_OVERSIZE,
    F_REDIRECT,
    F_SLOW_FIRST_BYTE,
    F_SLOW_BODY,
    FAULTS,
    F_NONE
};

struct connection {
    int fd; /* 0: free */
    char *in, *out;
    size_t n_in, n_out, sent, cap_out;
    size_t slice; /* bytes of out that may go now; the rest in slices, one each `pause` */
    double pause, next;
    bool end, reset; /* behind the output */
};

static struct connection connections[CONNECTIONS];
static int loop;
static char *answer;
static size_t answer_n;
static unsigned percent;
static uint64_t seed = 1, requests, faults, slow, elsewhere, turn;
static int other_port;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* {"choices":[..]} of n tokens with five alternatives each. */
static char *make_answer(size_t n, size_t *size) {
    char *p = NULL;
    FILE *f = open_memstream(&p, size);
    fprintf(f, "{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"fast\",\"choices\":[{\"text\":\"");
    for (size_t i = 0; i < n; i++)
        fprintf(f, " w%zu", i % 10);
    fprintf(f, "\",\"index\":0,\"finish_reason\":\"length\",\"logprobs\":{\"tokens\":[");
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%s\" w%zu\"", i ? "," : "", i % 10);
    fprintf(f, "],\"token_logprobs\":[");
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%s-0.%zu1234567", i ? "," : "", 1 + i % 9);
    fprintf(f, "],\"top_logprobs\":[");
    for (size_t i = 0; i < n; i++)
        fprintf(f,
                "%s{\" w%zu\":-0.%zu1234567,\" a\":-2.7654321,\" the\":-3.1415927,\"\\n\":-5.25,\" \\u00e9t\\u00e9\":-7.7512345}",
                i ? "," : "", i % 10, 1 + i % 9);
    fprintf(f, "],\"text_offset\":[");
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%s%zu", i ? "," : "", 1000000 + 3 * i);
    fprintf(f, "]}}],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":%zu,\"total_tokens\":%zu}}", n, n + 20);
    fclose(f);
    return p;
}

static void watch(struct connection *c, uint32_t events, int op) {
    struct epoll_event e = {.events = events, .data.fd = c->fd};
    if (epoll_ctl(loop, op, c->fd, &e))
        die("epoll_ctl");
}

static void drop(struct connection *c) {
    if (c->reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(c->fd);
    free(c->in);
    free(c->out);
    *c = (struct connection){0};
}

static void put(struct connection *c, const char *p, size_t n) {
    if (c->n_out + n > c->cap_out && !(c->out = realloc(c->out, c->cap_out = 2 * (c->n_out + n))))
        die("realloc");
    memcpy(c->out + c->n_out, p, n);
    c->n_out += n;
}

static void reply(struct connection *c, const char *status, const char *headers, const char *body, size_t n) {
    char head[512];
    int m = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n", status,
                     n, headers);
    put(c, head, (size_t)m);
    put(c, body, n);
}

static void refuse(struct connection *c, const char *status, const char *headers) {
    char body[512], key[128] = "";
    const char *at = strcasestr(c->in, "authorization: ");
    if (at)
        sscanf(at + 15, "%127[^\r]", key); /* as some servers do */
    int n = snprintf(body, sizeof body, "{\"error\":{\"message\":\"no, %s\",\"type\":\"test\",\"code\":null}}", key);
    reply(c, status, headers, body, (size_t)n);
}

static void mistreat(struct connection *c, enum fault f) {
    char text[128];
    switch (f) {
    case F_429_SECONDS:
        refuse(c, "429 Too Many", "Retry-After: 0\r\n");
        break;
    case F_429_FLOAT:
        refuse(c, "429 Too Many", "Retry-After: 0.01\r\n");
        break;
    case F_429_MS:
        refuse(c, "429 Too Many", "retry-after-ms: 5\r\n");
        break;
    case F_429_DATE:
        refuse(c, "429 Too Many", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        break;
    case F_500:
        refuse(c, "500 Internal", "retry-after-ms: 5\r\n");
        break;
    case F_503:
        refuse(c, "503 Unavailable", "retry-after-ms: 5\r\n");
        break;
    case F_RESET:
        c->reset = c->end = true;
        break;
    case F_RESET_INSIDE:
        reply(c, "200 OK", "", answer, answer_n);
        c->n_out -= answer_n / 2;
        c->reset = c->end = true;
        break;
    case F_CUT:
        reply(c, "200 OK", "", answer, answer_n - answer_n / 3);
        break;
    case F_UTF8:
        reply(c, "200 OK", "", answer, answer_n);
        c->out[c->n_out - answer_n / 2] = '\xFF';
        break;
    case F_HTML:
        reply(c, "502 Bad Gateway", "X-Page: yes\r\n", "<html>\n<b>Bad Gateway</b></html>", 31);
        break;
    case F_OVERSIZE: {
        char *blanks = malloc(OVERSIZE);
        if (!blanks)
            die("malloc");
        memset(blanks, ' ', OVERSIZE);
        reply(c, "200 OK", "", blanks, OVERSIZE);
        free(blanks);
        break;
    }
    case F_REDIRECT:
        snprintf(text, sizeof text, "Location: http://127.0.0.1:%d/v1/completions\r\n", other_port);
        reply(c, "307 Temporary", text, "", 0);
        break;
    case F_SLOW_FIRST_BYTE:
        reply(c, "200 OK", "", answer, answer_n);
        c->slice = 0;
        c->pause = 0.25;
        break;
    default:
        reply(c, "200 OK", "", answer, answer_n);
        c->slice = c->n_out / 5;
        c->pause = 0.04;
        break;
    }
    if (f == F_SLOW_FIRST_BYTE || f == F_SLOW_BODY)
        slow++;
    else
        faults++;
}

static uint64_t mix(uint64_t x) { /* splitmix64 */
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

/* Length of the request at the start of c->in, 0 if it is not whole yet. */
static size_t whole(const struct connection *c) {
    const char *end = memmem(c->in, c->n_in, "\r\n\r\n", 4);
    if (!end)
        return 0;
    const char *length = strcasestr(c->in, "content-length:");
    size_t n = (size_t)(end + 4 - c->in) + (length && length < end ? strtoul(length + 15, NULL, 10) : 0);
    return c->n_in >= n ? n : 0;
}

static void flush(struct connection *c) {
    while (c->sent < c->slice) {
        ssize_t n = send(c->fd, c->out + c->sent, c->slice - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            return;
        }
        if (n < 0) {
            drop(c);
            return;
        }
        c->sent += (size_t)n;
    }
    if (c->sent < c->n_out) {
        c->next = now() + c->pause;
        return;
    }
    c->n_out = c->sent = 0;
    c->next = 0;
    if (c->end)
        drop(c);
    else
        watch(c, EPOLLIN, EPOLL_CTL_MOD);
}

static void receive(struct connection *c) {
    if (!c->in && !(c->in = malloc(REQUEST_MAX + 1)))
        die("malloc");
    ssize_t n = recv(c->fd, c->in + c->n_in, REQUEST_MAX - c->n_in, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        drop(c);
        return;
    }
    c->n_in += (size_t)n;
    c->in[c->n_in] = 0;
    size_t used = whole(c);
    if (!used || c->n_out > 0)
        return;
    bool bad = percent > 0 && mix(seed ^ requests << 1) % 100 < percent;
    requests++;
    c->slice = SIZE_MAX;
    c->pause = 0;
    if (bad)
        mistreat(c, (enum fault)(turn++ % FAULTS));
    else
        reply(c, "200 OK", "", answer, answer_n);
    if (c->slice > c->n_out)
        c->slice = c->n_out;
    memmove(c->in, c->in + used, c->n_in - used);
    c->n_in -= used;
    c->in[c->n_in] = 0;
    flush(c);
}

static int listen_here(int *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 1024) || getsockname(fd, (struct sockaddr *)&a, &n))
        die("listen");
    *port = ntohs(a.sin_port);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e))
        die("epoll_ctl");
    return fd;
}

static void take(int listener, bool is_elsewhere) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        elsewhere += is_elsewhere;
        if (is_elsewhere || fd >= CONNECTIONS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        connections[fd] = (struct connection){.fd = fd};
        watch(&connections[fd], EPOLLIN, EPOLL_CTL_ADD);
    }
}

/* Sends the next slices of slow answers; milliseconds until the one after. */
static int tend(void) {
    double t = now(), first = t + 1;
    for (int i = 0; i < CONNECTIONS; i++) {
        struct connection *c = &connections[i];
        if (!c->fd || c->next == 0)
            continue;
        if (c->next <= t) {
            size_t step = c->pause > 0.1 ? c->n_out : c->n_out / 5 + 1;
            c->slice = c->slice + step < c->n_out ? c->slice + step : c->n_out;
            c->next = 0;
            flush(c);
        }
        if (c->fd && c->next > 0 && c->next < first)
            first = c->next;
    }
    return (int)((first - t) * 1000) + 1;
}

int main(int argc, char **argv) {
    size_t tokens = 100;
    int port;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--tokens"))
            tokens = strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--faults"))
            percent = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--seed"))
            seed = strtoull(argv[i + 1], NULL, 10);
    }
    answer = make_answer(tokens, &answer_n);
    if ((loop = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("epoll_create1");
    int first = listen_here(&port), second = listen_here(&other_port);
    struct epoll_event input = {.events = EPOLLIN, .data.fd = 0};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, 0, &input))
        die("standard input must be a pipe");
    printf("%d\n", port);
    fflush(stdout);
    for (bool open = true; open;) {
        struct epoll_event events[64];
        int n = epoll_wait(loop, events, 64, percent ? tend() : -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            char c;
            if (fd == 0)
                open = read(0, &c, 1) > 0;
            else if (fd == first || fd == second)
                take(fd, fd == second);
            else if (connections[fd].fd && (events[i].events & EPOLLOUT) && connections[fd].n_out > 0)
                flush(&connections[fd]);
            else if (connections[fd].fd)
                receive(&connections[fd]);
        }
    }
    printf("{\"requests\":%llu,\"faults\":%llu,\"slow\":%llu,\"elsewhere\":%llu}\n", (unsigned long long)requests,
           (unsigned long long)faults, (unsigned long long)slow, (unsigned long long)elsewhere);
    return 0;
}
