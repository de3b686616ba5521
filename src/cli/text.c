/* tokenize and align: text and replies to student ids. */
#include "cli/cli.h"

#include <string.h>

/* ---- tokenize ---- */

/* A string, or {"hex"} where the bytes are no UTF-8. */
static void put_bytes(struct json_out *o, struct text t) {
    if (text_is_utf8(t)) {
        json_put_text(o, t);
        return;
    }
    struct str hex;
    str_init(&hex, &mem_std);
    for (size_t i = 0; i < t.n; i++)
        str_addf(&hex, "%02x", (unsigned)(unsigned char)t.p[i]);
    json_object(o);
    json_put_key(o, "hex");
    json_put_z(o, str_z(&hex));
    json_end_object(o);
    str_free(&hex);
}

static int encode_line(struct stream *s, rsd_ctx *ctx, rsd_tokenizer *tok, const struct json *obj, struct str *buf) {
    struct text text;
    const int32_t *ids = NULL;
    size_t n = 0;
    if (!json_text_or_hex(obj, "text", "bytes_hex", buf, &text))
        return stream_bad(s, obj, "expected \"text\" (a string) or \"bytes_hex\" (pairs of hex digits)");
    if (rsd_tokenizer_encode(tok, text.p, text.n, &ids, &n))
        return stream_bad(s, obj, rsd_ctx_error(ctx));
    stream_begin(s, obj);
    json_put_key(&s->out, "ids");
    json_array(&s->out);
    for (size_t i = 0; i < n; i++)
        json_put_int(&s->out, ids[i]);
    json_end_array(&s->out);
    json_put_key(&s->out, "pieces");
    json_array(&s->out);
    for (size_t i = 0; i < n; i++) {
        const char *piece = NULL;
        size_t len = 0;
        rsd_tokenizer_surface(tok, i, &piece, &len);
        put_bytes(&s->out, (struct text){piece, len});
    }
    json_end_array(&s->out);
    stream_end(s);
    return true;
}

static int decode_line(struct stream *s, rsd_ctx *ctx, rsd_tokenizer *tok, const struct json *obj, int32_t **ids, size_t *cap) {
    struct err e = {0};
    const struct json *list = json_get(obj, "ids");
    size_t n = 0;
    const char *text = NULL;
    size_t len = 0;
    if (!list || json_type(list) != JSON_ARRAY)
        return stream_bad(s, obj, "expected \"ids\" (an array of whole numbers)");
    if (mem_reserve(&mem_std, ids, cap, json_count(list) + 1, sizeof **ids, &e))
        return stream_bad(s, obj, e.text);
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        double id = json_number(v);
        if (!(id >= 0 && id < 2147483648.0) || id != (double)(int32_t)id)
            return stream_bad(s, obj, "\"ids\" holds something that is no whole number of a vocabulary");
        (*ids)[n++] = (int32_t)id;
    }
    if (rsd_tokenizer_decode(tok, *ids, n, &text, &len))
        return stream_bad(s, obj, rsd_ctx_error(ctx));
    stream_begin(s, obj);
    json_put_key(&s->out, "text");
    put_bytes(&s->out, (struct text){text, len});
    stream_end(s);
    return true;
}

int verb_tokenize(const struct verb *v, int argc, char **argv) {
    const char *tokenizer = NULL, *pattern = NULL, *in = "-";
    bool decode = false, strict = false;
    const struct arg args[] = {
        {"--tokenizer", ARG_TEXT, &tokenizer, "FILE",
         .help = "spiece.model, tokenizer.json, .tiktoken, vocab.bpe or a model directory", .needed = true},
        {"--pattern", ARG_TEXT, &pattern, "gpt2|cl100k|llama3|o200k",
         .help = "how a byte pair vocabulary cuts text; default: by its hash"},
        {"--in", ARG_TEXT, &in, "FILE", .help = "lines to read; - is standard input"},
        {"--decode", ARG_FLAG, &decode, "", .help = "ids to text"},
        {"--strict", ARG_FLAG, &strict, "", .help = "stop at the first bad line"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;

    struct err e = {0};
    struct stream s = {0};
    struct str buf;
    rsd_tokenizer *tok = NULL;
    struct json *obj = NULL;
    int32_t *ids = NULL;
    size_t cap = 0;
    int more = 0;
    str_init(&buf, &mem_std);
    rsd_ctx *ctx = cli_open(1, 1);
    if (!ctx)
        return EXIT_FAILED;
    if (rsd_tokenizer_open_pattern(ctx, tokenizer, pattern, &tok)) {
        status = cli_failed(ctx);
        goto done;
    }
    if (stream_open(&s, in, strict, &e)) {
        status = cli_err(&e);
        goto done;
    }
    while (!s.failed && (more = stream_next(&s, &obj, &e)) > 0) {
        int go_on = decode ? decode_line(&s, ctx, tok, obj, &ids, &cap) : encode_line(&s, ctx, tok, obj, &buf);
        json_free(obj);
        if (!go_on)
            break;
    }
    status = stream_close(&s, v->name);
    if (more < 0)
        status = cli_err(&e);
done:
    mem_free(&mem_std, ids);
    str_free(&buf);
    rsd_tokenizer_close(tok);
    rsd_ctx_close(ctx);
    return status;
}

/* ---- align ---- */

static void print_report(const rsd_align_report *r) {
    double n = r->positions ? (double)r->positions : 1;
    fprintf(stderr, "aligned %llu replies (%llu skipped), %llu positions\n", (unsigned long long)r->replies,
            (unsigned long long)r->skipped, (unsigned long long)r->positions);
    for (int k = RSD_KIND_EXACT; k <= RSD_KIND_HARD; k++)
        fprintf(stderr, "  %-7s %9llu  %5.1f %%\n", rsd_kind_name(k), (unsigned long long)r->kinds[k],
                100 * (double)r->kinds[k] / n);
    fprintf(stderr, "  placed %.4f of %.4f given, mean a position\n", r->placed / n, r->given / n);
}

/* To the reply's own text, or to the one that the line gives. */
static int align_one(rsd_aligner *a, const rsd_reply *reply, const struct json *line, const rsd_alignment **out) {
    const struct json *v = json_get(line, "student_text");
    if (!v || json_type(v) != JSON_TEXT)
        return rsd_aligner_align(a, reply, out);
    struct text t = json_text(v);
    return rsd_aligner_align_text(a, reply, t.p, t.n, out);
}

/* One line for each choice of each reply; a reply that cannot be aligned gives its error in its place. */
static int align_lines(const struct verb *v, rsd_ctx *ctx, rsd_aligner *a, const char *in, bool strict) {
    struct err e = {0};
    struct stream s = {0};
    struct json *obj = NULL;
    struct str line;
    int more = 0, status = EXIT_OK;
    str_init(&line, &mem_std);
    if (stream_open(&s, in, strict, &e))
        return cli_err(&e);
    while (!s.failed && (more = stream_next(&s, &obj, &e)) > 0) {
        struct json_out again;
        str_clear(&line);
        json_begin(&again, &line, 0);
        json_put_value(&again, obj);
        for (size_t choice = 0;; choice++) {
            rsd_reply *reply = NULL;
            const rsd_alignment *alignment = NULL;
            const char *json = NULL;
            size_t len = 0;
            int got = rsd_reply_parse(ctx, str_z(&line), line.n, choice, 1, &reply);
            if (got == RSD_END && choice > 0)
                break;
            if (got == RSD_OK && !align_one(a, reply, obj, &alignment) && !rsd_aligner_json(a, &json, &len)) {
                fwrite(json, 1, len, stdout);
                fputc('\n', stdout);
                s.done++;
            } else {
                stream_bad(&s, obj, got == RSD_END ? "\"choices\" is empty: there is no reply" : rsd_ctx_error(ctx));
            }
            rsd_reply_close(reply);
            if (got != RSD_OK)
                break;
        }
        json_free(obj);
    }
    status = stream_close(&s, v->name);
    if (more < 0)
        status = cli_err(&e);
    str_free(&line);
    return status;
}

/* Both methods over the same replies, side by side. */
static int align_compare(rsd_ctx *ctx, rsd_tokenizer *tok, const char *in, bool skip_bad) {
    static const char *const names[] = {"span", "dtw"};
    rsd_align_report r[2];
    int status = EXIT_OK;
    for (int m = 0; m < 2 && status == EXIT_OK; m++) {
        rsd_aligner *a = NULL;
        rsd_aligner_options o;
        rsd_aligner_options_init(&o, sizeof o);
        o.method = m ? RSD_ALIGN_DTW : RSD_ALIGN_SPAN;
        r[m] = (rsd_align_report){.size = sizeof *r};
        if (rsd_aligner_open(ctx, tok, &o, &a) || rsd_aligner_file(a, in, NULL, skip_bad, &r[m]))
            status = cli_failed(ctx);
        rsd_aligner_close(a);
    }
    if (status != EXIT_OK)
        return status;
    printf("%-10s %12s %12s\n", "", names[0], names[1]);
    printf("%-10s %12llu %12llu\n", "replies", (unsigned long long)r[0].replies, (unsigned long long)r[1].replies);
    printf("%-10s %12llu %12llu\n", "skipped", (unsigned long long)r[0].skipped, (unsigned long long)r[1].skipped);
    printf("%-10s %12llu %12llu\n", "positions", (unsigned long long)r[0].positions, (unsigned long long)r[1].positions);
    double n[2], soft[2];
    for (int m = 0; m < 2; m++) {
        n[m] = r[m].positions ? (double)r[m].positions : 1;
        soft[m] = n[m] - (double)(r[m].kinds[RSD_KIND_HARD] + r[m].kinds[RSD_KIND_CONT]);
    }
    for (int k = RSD_KIND_EXACT; k <= RSD_KIND_HARD; k++)
        printf("%-10s %10.2f %% %10.2f %%\n", rsd_kind_name(k), 100 * (double)r[0].kinds[k] / n[0],
               100 * (double)r[1].kinds[k] / n[1]);
    printf("%-10s %10.2f %% %10.2f %%\n", "soft", 100 * soft[0] / n[0], 100 * soft[1] / n[1]);
    printf("%-10s %12.4f %12.4f\n", "placed", r[0].placed / n[0], r[1].placed / n[1]);
    printf("%-10s %12.4f %12.4f\n", "given", r[0].given / n[0], r[1].given / n[1]);
    return EXIT_OK;
}

int verb_align(const struct verb *v, int argc, char **argv) {
    const char *tokenizer = NULL, *in = NULL, *out = NULL, *method = "span";
    bool json = false, strict = false, skip_bad = false, compare = false;
    const struct arg args[] = {
        {"--tokenizer", ARG_TEXT, &tokenizer, "FILE", .help = "the student's spiece.model, tokenizer.json or model directory",
         .needed = true},
        {"--in", ARG_TEXT, &in, "FILE", .help = "teacher store or bare response bodies", .needed = true},
        {"--method", ARG_TEXT, &method, "span|dtw", .help = "span: by bytes; dtw: the reference's time warping"},
        {"--out", ARG_TEXT, &out, "FILE", .help = "aligned shard; - is standard output (with --json always)"},
        {"--json", ARG_FLAG, &json, "", .help = "a line a reply on standard output instead of a shard"},
        {"--compare", ARG_FLAG, &compare, "", .help = "a table of coverage, both methods side by side, and nothing else"},
        {"--skip-bad", ARG_FLAG, &skip_bad, "", .help = "count bad replies and leave them out"},
        {"--strict", ARG_FLAG, &strict, "", .help = "with --json: stop at the first bad reply"},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    if (compare && (json || out)) {
        fprintf(stderr, "reasondistill align: --compare writes a table and no shard: leave --json and --out away\n");
        return EXIT_USAGE;
    }
    if (json ? out && strcmp(out, "-") : !out && !compare) {
        fprintf(stderr, json ? "reasondistill align: --json writes to standard output: leave --out away\n"
                             : "reasondistill align: needs --out FILE, --json or --compare\n");
        return EXIT_USAGE;
    }

    rsd_tokenizer *tok = NULL;
    rsd_aligner *a = NULL;
    rsd_aligner_options o;
    rsd_align_report report = {.size = sizeof report};
    rsd_ctx *ctx = cli_open(1, 1);
    if (!ctx)
        return EXIT_FAILED;
    rsd_aligner_options_init(&o, sizeof o);
    o.method = strcmp(method, "dtw") ? RSD_ALIGN_SPAN : RSD_ALIGN_DTW;
    if (rsd_tokenizer_open(ctx, tokenizer, &tok) || rsd_aligner_open(ctx, tok, &o, &a)) {
        status = cli_failed(ctx);
    } else if (compare) {
        status = align_compare(ctx, tok, in, skip_bad);
    } else if (json) {
        status = align_lines(v, ctx, a, in, strict);
    } else if (rsd_aligner_file(a, in, out, skip_bad, &report)) {
        status = cli_failed(ctx);
    } else {
        print_report(&report);
        status = EXIT_OK;
    }
    rsd_aligner_close(a);
    rsd_tokenizer_close(tok);
    rsd_ctx_close(ctx);
    return status;
}
