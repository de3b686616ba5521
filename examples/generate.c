/* Generation:  generate MODEL_DIRECTORY TEXT
 *
 * Loads a model directory with its tokenizer and prints what the model answers to the text, greedily, and how probable it
 * found the answer. */
#include <reasondistill/reasondistill.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 128 };

struct answer {
    int32_t ids[MAX_TOKENS];
    size_t n;
    double logprob;
    int finish;
};

/* Called with each token as it is made. */
static int on_token(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    struct answer *a = user;
    (void)input, (void)sample; /* there is only one of each */
    a->logprob += logprob;
    a->finish = finish;
    if (finish != RSD_FINISH_STOP && a->n < MAX_TOKENS) /* the token that stops is the end token, no text */
        a->ids[a->n++] = id;
    return 0;
}

/* The model's answer to one text. The encoder's input ends with the end token. */
static int answer(rsd_t5 *model, rsd_tokenizer *tok, const char *text, struct answer *a) {
    const int32_t *ids = NULL;
    size_t n = 0;
    rsd_generate_options options;
    rsd_generate_options_init(&options, sizeof options);
    options.max_tokens = MAX_TOKENS;
    int status = rsd_tokenizer_encode(tok, text, strlen(text), &ids, &n);
    if (status != RSD_OK)
        return status;
    int32_t *input = malloc((n + 1) * sizeof *input);
    if (input == NULL)
        return RSD_ENOMEM;
    memcpy(input, ids, n * sizeof *ids);
    input[n] = rsd_tokenizer_eos(tok);
    const uint32_t offsets[2] = {0, (uint32_t)(n + 1)};
    status = rsd_t5_generate(model, input, offsets, 1, &options, on_token, a);
    free(input);
    return status;
}

int main(int argc, char **argv) {
    rsd_ctx *ctx = NULL;
    rsd_t5 *model = NULL;
    rsd_tokenizer *tok = NULL;
    struct answer a = {.n = 0};
    const char *text = NULL;
    size_t len = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: generate MODEL_DIRECTORY TEXT\n");
        return 2;
    }
    int status = rsd_ctx_open(NULL, &ctx);
    if (status == RSD_OK)
        status = rsd_t5_open(ctx, argv[1], &model);
    if (status == RSD_OK)
        status = rsd_tokenizer_open(ctx, argv[1], &tok);
    if (status == RSD_OK)
        status = answer(model, tok, argv[2], &a);
    if (status == RSD_OK)
        status = rsd_tokenizer_decode(tok, a.ids, a.n, &text, &len);
    if (status == RSD_OK)
        printf("%.*s\n%zu tokens, probability %.3g, %s\n", (int)len, text, a.n, exp(a.logprob),
               a.finish == RSD_FINISH_STOP ? "complete" : "cut off");
    else
        fprintf(stderr, "generate: %s: %s\n", rsd_strerror(status), ctx != NULL ? rsd_ctx_error(ctx) : "no context");

    rsd_tokenizer_close(tok);
    rsd_t5_close(model);
    rsd_ctx_close(ctx);
    return status == RSD_OK ? 0 : 1;
}
