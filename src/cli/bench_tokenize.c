/* bench tokenize: all lines of a file, each encoded once a step. */
#include "cli/bench.h"

#include "core/log.h"

#include <string.h>

struct pass {
    double lines, bytes, tokens;
};

static int pass(struct bench *b, rsd_tokenizer *tok, const struct str *file, struct pass *p) {
    size_t line = 0;
    *p = (struct pass){0};
    for (size_t at = 0, end; at < file->n; at = end + 1) {
        const char *lf = memchr(file->p + at, '\n', file->n - at);
        const int32_t *ids = NULL;
        size_t n = 0;
        end = lf ? (size_t)(lf - file->p) : file->n;
        line++;
        if (end == at)
            continue;
        if (rsd_tokenizer_encode(tok, file->p + at, end - at, &ids, &n)) {
            fprintf(stderr, "reasondistill: %s, line %zu: %s\n", b->in, line, rsd_ctx_error(b->ctx));
            return EXIT_FAILED;
        }
        p->lines++;
        p->bytes += (double)(end - at);
        p->tokens += (double)n;
    }
    return EXIT_OK;
}

int bench_tokenize(struct bench *b, rsd_tokenizer *tok) {
    struct err e = {0};
    struct str file;
    struct pass p = {0};
    int status = EXIT_FAILED;
    str_init(&file, &mem_std);
    if (file_read(b->in, (size_t)1 << 30, &file, &e)) {
        cli_err(&e);
        goto done;
    }
    for (int64_t s = -1; s < b->steps; s++) {
        double start = clock_seconds();
        if (pass(b, tok, &file, &p))
            goto done;
        if (s >= 0)
            b->seconds[s] = clock_seconds() - start;
    }
    if (p.lines == 0) {
        fprintf(stderr, "reasondistill: %s: holds no lines\n", b->in);
        goto done;
    }
    double seconds = bench_put_seconds(b);
    bench_put(b, "lines_per_s", p.lines / seconds);
    bench_put(b, "bytes_per_s", p.bytes / seconds);
    bench_put(b, "tokens_per_s", p.tokens / seconds);
    status = EXIT_OK;
done:
    str_free(&file);
    return status;
}
