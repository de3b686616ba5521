/* tokenize: text to ids and back. */
#include "cli/cli.h"

#include <string.h>

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
