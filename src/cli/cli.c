/* Contexts, complaints, JSON Lines, progress: see cli.h. */
#include "cli/cli.h"

#include "core/log.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void to_stderr(void *user, int level, const char *text) {
    (void)user;
    if (level <= RSD_LOG_WARN)
        fprintf(stderr, "reasondistill: %s\n", text);
}

rsd_ctx *cli_open(int64_t threads, int64_t seed) {
    rsd_ctx_options o;
    rsd_ctx *ctx = NULL;
    rsd_ctx_options_init(&o, sizeof o);
    o.threads = (int32_t)threads;
    o.seed = (uint64_t)seed;
    o.log = to_stderr;
    o.blas = RSD_BLAS_OWN;
    o.kernels = getenv(CLI_KERNELS);
    int status = rsd_ctx_open(&o, &ctx);
    if (status == RSD_EUNSUPPORTED) { /* a BLAS that cannot be told: let it thread itself */
        o.blas = RSD_BLAS_LEAVE;
        status = rsd_ctx_open(&o, &ctx);
    }
    if (status)
        fprintf(stderr, "reasondistill: no context: %s\n", rsd_strerror(status));
    return ctx;
}

int cli_failed(rsd_ctx *ctx) {
    fprintf(stderr, "reasondistill: %s\n", rsd_ctx_error(ctx));
    return EXIT_FAILED;
}

int cli_err(const struct err *e) {
    fprintf(stderr, "reasondistill: %s\n", e->text);
    return EXIT_FAILED;
}

int cli_model(rsd_ctx *ctx, const char *dir, rsd_t5 **m, rsd_tokenizer **tok) {
    return cli_model_as(ctx, dir, "fp32", m, tok);
}

int cli_model_as(rsd_ctx *ctx, const char *dir, const char *dtype, rsd_t5 **m, rsd_tokenizer **tok) {
    int type = *dtype == 's' ? RSD_STORED : *dtype == 'f' ? RSD_F32 : *dtype == 'b' ? RSD_BF16 : RSD_INT8;
    if (rsd_t5_open_as(ctx, dir, type, m) || rsd_tokenizer_open(ctx, dir, tok))
        return cli_failed(ctx);
    rsd_t5_info info = {.size = sizeof info};
    rsd_t5_info_get(*m, &info);
    /* T5's matrix has 32,128 rows for 32,100 ids; a smaller matrix means that they do not belong together. */
    if (rsd_tokenizer_size(*tok) > info.vocab) {
        fprintf(stderr, "reasondistill: %s: the tokenizer has %d ids but the model only %lld rows: they do not belong together\n",
                dir, (int)rsd_tokenizer_size(*tok), (long long)info.vocab);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

/* ---- JSON Lines ---- */

enum { MAX_LINE = 256 << 20 };

int stream_open(struct stream *s, const char *path, bool strict, struct err *e) {
    memset(s, 0, sizeof *s);
    s->strict = strict;
    str_init(&s->line, &mem_std);
    return lines_open(&s->in, &mem_std, path, MAX_LINE, e);
}

int stream_read(struct stream *s, struct json **obj, struct err *e) {
    struct text line;
    *obj = NULL;
    int status = lines_next(&s->in, &line, e);
    if (status <= 0)
        return status;
    s->why = (struct err){0};
    if (json_parse(line.p, line.n, obj, &s->why) == 0 && json_type(*obj) != JSON_OBJECT) {
        err_set(&s->why, ERR_FORMAT, "an object was expected");
        json_free(*obj);
        *obj = NULL;
    }
    return 1;
}

int stream_next(struct stream *s, struct json **obj, struct err *e) {
    int status;
    while ((status = stream_read(s, obj, e)) > 0 && !*obj)
        if (!stream_bad(s, NULL, s->why.text))
            return 0;
    return status;
}

void stream_begin(struct stream *s, const struct json *obj) {
    str_clear(&s->line);
    json_begin(&s->out, &s->line, 0);
    json_object(&s->out);
    const struct json *id = obj ? json_get(obj, "id") : NULL;
    if (id) {
        json_put_key(&s->out, "id");
        json_put_value(&s->out, id);
    }
}

void stream_end(struct stream *s) {
    struct err e = {0};
    json_end_object(&s->out);
    str_addc(&s->line, '\n');
    if (str_status(&s->line, &e) || fwrite(s->line.p, 1, s->line.n, stdout) != s->line.n)
        s->failed = true;
    s->done++;
}

bool stream_bad(struct stream *s, const struct json *obj, const char *text) {
    char located[sizeof s->why.text + 300];
    snprintf(located, sizeof located, "%.256s, line %zu: %s", s->in.path, s->in.line, text);
    stream_begin(s, obj);
    if (!obj || !json_get(obj, "id")) {
        json_put_key(&s->out, "id");
        json_put_null(&s->out);
    }
    json_put_key(&s->out, "status");
    json_put_int(&s->out, -1);
    json_put_key(&s->out, "error");
    json_put_z(&s->out, located);
    stream_end(s);
    s->bad++;
    if (s->strict)
        s->failed = true;
    return !s->strict;
}

int stream_close(struct stream *s, const char *verb) {
    lines_close(&s->in);
    str_free(&s->line);
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "reasondistill %s: standard output could not be written\n", verb);
        return EXIT_FAILED;
    }
    if (s->bad)
        fprintf(stderr, "reasondistill %s: %llu of %llu lines were bad: see \"error\" in their answers\n", verb,
                (unsigned long long)s->bad, (unsigned long long)s->done);
    return s->failed ? EXIT_FAILED : EXIT_OK;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool json_text_or_hex(const struct json *obj, const char *text, const char *hex, struct str *buf, struct text *out) {
    const struct json *v = json_get(obj, text);
    if (v && json_type(v) == JSON_TEXT) {
        *out = json_text(v);
        return true;
    }
    v = json_get(obj, hex);
    if (!v || json_type(v) != JSON_TEXT)
        return false;
    struct text h = json_text(v);
    str_clear(buf);
    if (h.n % 2)
        return false;
    for (size_t i = 0; i < h.n; i += 2) {
        int high = hex_digit(h.p[i]), low = hex_digit(h.p[i + 1]);
        if (high < 0 || low < 0)
            return false;
        str_addc(buf, (char)(high << 4 | low));
    }
    *out = (struct text){str_z(buf), buf->n};
    return !buf->failed;
}

/* ---- progress ---- */

void progress_open(struct progress *p) {
    *p = (struct progress){.started = clock_seconds(), .terminal = isatty(STDERR_FILENO)};
}

bool progress_due(struct progress *p) {
    double now = clock_seconds();
    if (!p->terminal || now - p->drawn < 0.2)
        return false;
    p->drawn = now;
    return true;
}

/* Characters of a line; a line that is longer than the terminal is wide could not be drawn over. */
static int columns(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col : 80;
}

void progress_draw(struct progress *p, double share, const char *text) {
    char bar[] = "--------------------";
    int filled = share < 0 ? 0 : (int)lround(share * 20), most = columns() - 1, left = most - (int)strlen(text);
    for (int i = 0; i < filled && i < 20; i++)
        bar[i] = '#';
    int n = fprintf(stderr, "\r") - 1;
    if (share >= 0 && left >= 30)
        n += fprintf(stderr, "[%s] %3.0f %%  ", bar, share * 100);
    else if (share >= 0 && left >= 7)
        n += fprintf(stderr, "%3.0f %%  ", share * 100);
    n += fprintf(stderr, "%.*s", most, text);
    for (int i = n; i < p->width && i < most; i++)
        fputc(' ', stderr);
    p->width = n;
}

void progress_close(struct progress *p) {
    if (p->terminal && p->width)
        fprintf(stderr, "\r%*s\r", p->width, "");
    p->width = 0;
}

void format_seconds(double s, char *out, size_t n) {
    unsigned long t = s > 0 && s < 1e9 ? (unsigned long)(s + 0.5) : 0;
    if (t >= 3600)
        snprintf(out, n, "%luh%02lum", t / 3600, t / 60 % 60);
    else if (t >= 60)
        snprintf(out, n, "%lum%02lus", t / 60, t % 60);
    else
        snprintf(out, n, "%lus", t);
}

/* ---- interrupts ---- */

static volatile sig_atomic_t stop_asked;

static void on_signal(int number) {
    (void)number;
    stop_asked = 1;
}

void interrupt_watch(void) {
    struct sigaction a = {0};
    a.sa_handler = on_signal;
    a.sa_flags = (int)SA_RESETHAND;
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

bool interrupted(void) {
    return stop_asked != 0;
}
