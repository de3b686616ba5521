/* init, info: making models and looking at them. */
#include "cli/cli.h"

#include <string.h>
#include <sys/resource.h>

/* ---- init ---- */

static bool parse_layers(const char *text, int64_t *encoder, int64_t *decoder) {
    char extra = 0;
    long long e = 0, d = 0;
    if (sscanf(text, "%lld,%lld%c", &e, &d, &extra) != 2 || e < 1 || d < 1)
        return false;
    *encoder = e;
    *decoder = d;
    return true;
}

int verb_init(const struct verb *v, int argc, char **argv) {
    const char *config = NULL, *from = NULL, *layers = NULL, *tokenizer = NULL, *out = NULL, *dtype = "fp32";
    int64_t seed = 1, encoder = 0, decoder = 0, threads = 0;
    const struct arg args[] = {
        {"--config", ARG_TEXT, &config, "FILE", .help = "config.json of a T5: random weights"},
        {"--from", ARG_TEXT, &from, "DIR", .help = "model to take layers of, instead of --config"},
        {"--layers", ARG_TEXT, &layers, "E,D", .help = "encoder and decoder layers to keep, evenly spread"},
        {"--tokenizer", ARG_TEXT, &tokenizer, "FILE", .help = "spiece.model or tokenizer.json to copy beside the model"},
        {"--seed", ARG_INT, &seed, "N", .help = "of the random weights", .min = 0, .max = 9007199254740992.0},
        {"--dtype", ARG_TEXT, &dtype, "fp32|fp16|bf16", .help = "in the file"},
        {"--threads", ARG_INT, &threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
        {"--out", ARG_TEXT, &out, "DIR", .help = "folder to make", .needed = true},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;
    if (!config == !from || !from != !layers) {
        fprintf(stderr, "reasondistill init: needs --config FILE, or --from DIR with --layers E,D\n");
        return EXIT_USAGE;
    }
    if (layers && !parse_layers(layers, &encoder, &decoder)) {
        fprintf(stderr, "reasondistill init: --layers takes two whole numbers from 1, as 6,4, not %s\n", layers);
        return EXIT_USAGE;
    }

    rsd_t5 *src = NULL, *m = NULL;
    rsd_tokenizer *tok = NULL;
    rsd_t5_info info = {.size = sizeof info};
    rsd_ctx *ctx = cli_open(threads, seed);
    if (!ctx)
        return EXIT_FAILED;
    const int file_dtype = !strcmp(dtype, "fp32") ? RSD_F32 : !strcmp(dtype, "fp16") ? RSD_F16 : RSD_BF16;
    status = EXIT_FAILED;
    if (from) {
        status = tokenizer ? (rsd_t5_open(ctx, from, &src) ? cli_failed(ctx) : EXIT_OK) : cli_model(ctx, from, &src, &tok);
        if (status)
            goto done;
        tokenizer = tokenizer ? tokenizer : rsd_tokenizer_path(tok);
        status = rsd_t5_shrink(src, encoder, decoder, &m) ? cli_failed(ctx) : EXIT_OK;
    } else {
        status = rsd_t5_create(ctx, config, (uint64_t)seed, &m) ? cli_failed(ctx) : EXIT_OK;
    }
    if (status)
        goto done;
    if (tokenizer && !tok && rsd_tokenizer_open(ctx, tokenizer, &tok)) {
        status = cli_failed(ctx);
        goto done;
    }
    rsd_t5_info_get(m, &info);
    if (tok && rsd_tokenizer_size(tok) > info.vocab) {
        fprintf(stderr, "reasondistill: %s: %d ids, but vocab_size in the config is %lld\n", tokenizer,
                (int)rsd_tokenizer_size(tok), (long long)info.vocab);
        status = EXIT_FAILED;
        goto done;
    }
    status = rsd_t5_save(m, out, file_dtype, tok ? rsd_tokenizer_path(tok) : NULL) ? cli_failed(ctx) : EXIT_OK;
    if (status == EXIT_OK)
        fprintf(stderr, "made %s: %llu parameters\n", out, (unsigned long long)info.parameters);
done:
    rsd_tokenizer_close(tok);
    rsd_t5_close(m);
    rsd_t5_close(src);
    rsd_ctx_close(ctx);
    return status;
}

/* ---- info ---- */

static const char *part_of(const char *name) {
    if (!strncmp(name, "encoder.", 8))
        return "encoder";
    if (!strncmp(name, "decoder.", 8))
        return "decoder";
    return !strncmp(name, "lm_head.", 8) ? "head" : "embedding";
}

static void put_model(struct json_out *o, const rsd_t5 *m, struct json *config) {
    static const char *const parts[] = {"embedding", "encoder", "decoder", "head"};
    static const char *const dtypes[] = {"F32", "F16", "BF16"};
    uint64_t counts[4] = {0};
    rsd_t5_info info = {.size = sizeof info};
    rsd_t5_info_get(m, &info);
    for (size_t i = 0; i < rsd_t5_params(m); i++) {
        rsd_param p = {.size = sizeof p};
        rsd_t5_param(m, i, &p);
        for (size_t k = 0; k < 4; k++)
            if (!strcmp(part_of(p.name), parts[k]))
                counts[k] += p.count;
    }
    json_put_key(o, "parameters");
    json_object(o);
    json_put_key(o, "total");
    json_put_int(o, (int64_t)info.parameters);
    for (size_t k = 0; k < 4; k++) {
        json_put_key(o, parts[k]);
        json_put_int(o, (int64_t)counts[k]);
    }
    json_end_object(o);
    json_put_key(o, "bytes");
    json_put_int(o, (int64_t)info.bytes);
    json_put_key(o, "dtype");
    json_put_z(o, dtypes[info.dtype]);
    json_put_key(o, "config");
    json_put_value(o, config);
}

int verb_info(const struct verb *v, int argc, char **argv) {
    const char *model = NULL;
    int64_t threads = 0;
    const struct arg args[] = {
        {"--model", ARG_TEXT, &model, "DIR", .help = "model directory to look at"},
        {"--threads", ARG_INT, &threads, "N", .help = "0: one a CPU", .min = 0, .max = 1024},
    };
    int status = args_parse(v, args, sizeof args / sizeof *args, argc, argv);
    if (status != ARGS_GO_ON)
        return status;

    struct err e = {0};
    struct str s;
    struct json_out o;
    struct json *config = NULL;
    struct rusage usage;
    rsd_t5 *m = NULL;
    rsd_ctx *ctx = cli_open(threads, 1);
    if (!ctx)
        return EXIT_FAILED;
    str_init(&s, &mem_std);
    if (model && rsd_t5_open_as(ctx, model, RSD_STORED, &m)) {
        status = cli_failed(ctx);
        goto done;
    }
    json_begin(&o, &s, 2);
    json_object(&o);
    json_put_key(&o, "version");
    json_put_z(&o, rsd_version());
    json_put_key(&o, "backend");
    json_put_z(&o, rsd_ctx_backend(ctx));
    json_put_key(&o, "threads");
    json_put_int(&o, rsd_ctx_threads(ctx));
    if (m) {
        const char *text = rsd_t5_config(m);
        json_put_key(&o, "model");
        json_put_z(&o, model);
        if (json_parse(text, strlen(text), &config, &e)) {
            status = cli_err(&e);
            goto done;
        }
        put_model(&o, m, config);
    }
    getrusage(RUSAGE_SELF, &usage);
    json_put_key(&o, "peak_rss_bytes");
    json_put_int(&o, (int64_t)usage.ru_maxrss * 1024);
    json_end_object(&o);
    status = str_status(&s, &e) ? cli_err(&e) : puts(str_z(&s)) < 0 ? EXIT_FAILED : EXIT_OK;
done:
    json_free(config);
    str_free(&s);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
    return status;
}
