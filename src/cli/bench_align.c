/* bench align. Replies are parsed before the clock starts. A cold step has a new aligner, which remembers no text; a warm one has aligned
 * all of them before. Time is that of the thread: what a core does, whoever else is busy. Nothing is cut behind the answer, so
 * all tokens count. */
#include "cli/bench.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct replies {
    rsd_ctx *ctx;
    rsd_reply **v;
    size_t n, cap, tokens;
};

static int read_replies(struct replies *r, const char *path) {
    struct err e = {0};
    struct lines in;
    struct text line;
    int more = 0, got = 0;
    if (lines_open(&in, &mem_std, path, (size_t)64 << 20, &e))
        return cli_err(&e);
    while (got >= 0 && !e.code && (more = lines_next(&in, &line, &e)) > 0)
        for (size_t choice = 0; line.n; choice++) { /* until it says that there is no such choice */
            if (mem_reserve(&mem_std, &r->v, &r->cap, r->n + 1, sizeof(void *), &e) ||
                (got = rsd_reply_parse(r->ctx, line.p, line.n, choice, 1, &r->v[r->n])))
                break;
            r->tokens += rsd_reply_tokens(r->v[r->n++]);
        }
    if (got < 0)
        fprintf(stderr, "reasondistill: %s, line %zu: %s\n", path, in.line, rsd_ctx_error(r->ctx));
    lines_close(&in);
    if (e.code)
        return cli_err(&e);
    if (got >= 0 && !r->n)
        fprintf(stderr, "reasondistill: %s: holds no reply\n", path);
    return got < 0 || !r->n ? EXIT_FAILED : EXIT_OK;
}

static double cpu_seconds(void) {
    struct timespec t = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double align_all(const struct replies *r, rsd_aligner *a, size_t *positions) {
    double start = cpu_seconds();
    *positions = 0;
    for (size_t i = 0; i < r->n; i++) {
        const rsd_alignment *alignment = NULL;
        if (rsd_aligner_align(a, r->v[i], &alignment))
            return -1;
        *positions += alignment->n_student;
    }
    return cpu_seconds() - start;
}

/* What tokenising the replies' texts alone takes. */
static double tokenize_all(const struct replies *r, rsd_tokenizer *tok) {
    double start = cpu_seconds();
    for (size_t i = 0; i < r->n; i++) {
        const int32_t *ids;
        size_t len, n;
        const char *text = rsd_reply_text(r->v[i], &len);
        if (rsd_tokenizer_encode(tok, text, len, &ids, &n))
            return -1;
    }
    return cpu_seconds() - start;
}

int bench_align(struct bench *b, rsd_tokenizer *tok) {
    struct replies r = {.ctx = b->ctx};
    rsd_aligner *a = NULL;
    rsd_aligner_options o;
    double seconds[3][BENCH_STEPS]; /* cold, warm, the tokenizer alone */
    size_t positions = 0, steps = (size_t)b->steps;
    int status = read_replies(&r, b->in);
    rsd_aligner_options_init(&o, sizeof o);
    o.method = strcmp(b->method, "dtw") ? RSD_ALIGN_SPAN : RSD_ALIGN_DTW;
    o.cut_after_answer = 0;
    for (size_t s = 0; s < steps && status == EXIT_OK; s++) {
        rsd_aligner_close(a);
        a = NULL;
        seconds[0][s] = seconds[1][s] = seconds[2][s] = -1;
        if (!rsd_aligner_open(b->ctx, tok, &o, &a)) {
            seconds[0][s] = align_all(&r, a, &positions);
            seconds[1][s] = align_all(&r, a, &positions);
            seconds[2][s] = tokenize_all(&r, tok);
        }
        if (seconds[0][s] < 0 || seconds[1][s] < 0 || seconds[2][s] < 0)
            status = cli_failed(b->ctx);
    }
    if (status == EXIT_OK) {
        double n = (double)r.n, cold = bench_median(seconds[0], steps), own = bench_median(seconds[2], steps);
        memcpy(b->seconds, seconds[1], steps * sizeof *b->seconds);
        json_put_key(&b->out, "method");
        json_put_z(&b->out, b->method);
        bench_put(b, "replies", n);
        bench_put(b, "tokens_a_reply", (double)r.tokens / n);
        double warm = bench_put_seconds(b);
        bench_put(b, "cold_seconds", cold);
        bench_put(b, "tokenize_seconds", own);
        bench_put(b, "replies_per_s", n / (warm - own)); /* tokenising the replies' texts left out */
        bench_put(b, "cold_replies_per_s", n / (cold - own));
        bench_put(b, "positions_per_s", (double)positions / warm);
    }
    rsd_aligner_close(a);
    for (size_t i = 0; i < r.n; i++)
        rsd_reply_close(r.v[i]);
    mem_free(&mem_std, r.v);
    return status;
}
