/* A training step by hand:  train_step MODEL_DIRECTORY
 *
 * Opens a model directory with its tokenizer, makes one batch of two examples, and takes ten optimizer steps on it: forward,
 * loss and head, backward, update. The loss that it prints must fall. Any Hugging Face T5 in safetensors will do, or
 * `reasondistill init`. */
#include <reasondistill/reasondistill.h>

#include <stdio.h>
#include <string.h>

enum { EXAMPLES = 2, MAX_IDS = 256, STEPS = 10 };

static const char *const inputs[EXAMPLES] = {
    "Q: Tom has 12 apples. He buys 5 more. How many apples does Tom have now?\nLet's think step by step",
    "Q: Anna has 20 pens. Then she loses 3 pens. How many pens does Anna have now?\nLet's think step by step"};
static const char *const targets[EXAMPLES] = {"12 + 5 = 17 apples.\nThe answer is 17", "20 - 3 = 17 pens.\nThe answer is 17"};

/* Texts laid end to end, each closed by the end token: text i becomes ids[offsets[i]] .. ids[offsets[i + 1] - 1]. */
struct packed {
    int32_t ids[MAX_IDS];
    uint32_t offsets[EXAMPLES + 1];
};

static int pack(rsd_tokenizer *tok, const char *const texts[EXAMPLES], struct packed *out) {
    size_t used = 0;
    for (size_t i = 0; i < EXAMPLES; i++) {
        const int32_t *ids = NULL;
        size_t n = 0;
        int status = rsd_tokenizer_encode(tok, texts[i], strlen(texts[i]), &ids, &n);
        if (status != RSD_OK)
            return status;
        if (used + n + 1 > MAX_IDS)
            return RSD_EINVAL;
        memcpy(out->ids + used, ids, n * sizeof *ids);
        used += n;
        out->ids[used++] = rsd_tokenizer_eos(tok);
        out->offsets[i + 1] = (uint32_t)used;
    }
    return RSD_OK;
}

/* One step: the gradient of the mean loss over all target tokens, then the update. */
static int train_step(rsd_t5 *model, rsd_loss *loss, rsd_optimizer *optimizer, const rsd_batch *batch, rsd_loss_result *result) {
    double norm = 0;
    int status = rsd_t5_forward(model, batch, RSD_TRAIN);
    if (status == RSD_OK)
        status = rsd_loss_begin(loss, batch, 1.0 / rsd_loss_weight(batch));
    if (status == RSD_OK) /* logits come tile by tile; the loss leaves its gradient in their place */
        status = rsd_t5_head(model, rsd_loss_tile, loss);
    if (status == RSD_OK)
        status = rsd_loss_result_get(loss, result);
    if (status == RSD_OK)
        status = rsd_t5_backward(model);
    if (status == RSD_OK)
        status = rsd_optimizer_step(optimizer, 1e-3, &norm);
    return status;
}

int main(int argc, char **argv) {
    rsd_ctx *ctx = NULL;
    rsd_t5 *model = NULL;
    rsd_tokenizer *tok = NULL;
    rsd_loss *loss = NULL;
    rsd_optimizer *optimizer = NULL;
    struct packed enc = {{0}, {0}}, dec = {{0}, {0}};
    if (argc != 2) {
        fprintf(stderr, "usage: train_step MODEL_DIRECTORY\n");
        return 2;
    }
    int status = rsd_ctx_open(NULL, &ctx);
    if (status == RSD_OK)
        status = rsd_t5_open(ctx, argv[1], &model);
    if (status == RSD_OK)
        status = rsd_tokenizer_open(ctx, argv[1], &tok);
    if (status == RSD_OK)
        status = rsd_loss_open(ctx, NULL, &loss); /* distribution matching; a hard label is a distribution too */
    if (status == RSD_OK)
        status = rsd_optimizer_open(ctx, model, NULL, &optimizer); /* AdamW */
    if (status == RSD_OK)
        status = pack(tok, inputs, &enc);
    if (status == RSD_OK)
        status = pack(tok, targets, &dec);

    const rsd_batch batch = {.size = sizeof batch,
                             .n = EXAMPLES,
                             .enc_ids = enc.ids,
                             .enc_offsets = enc.offsets,
                             .dec_ids = dec.ids,
                             .dec_offsets = dec.offsets};
    for (int step = 1; step <= STEPS && status == RSD_OK; step++) {
        rsd_loss_result result = {.size = sizeof result};
        status = train_step(model, loss, optimizer, &batch, &result);
        if (status == RSD_OK)
            printf("step %2d  loss %.4f  %llu of %llu tokens right\n", step, result.loss, (unsigned long long)result.correct,
                   (unsigned long long)result.positions);
    }
    if (status != RSD_OK)
        fprintf(stderr, "train_step: %s: %s\n", rsd_strerror(status), ctx != NULL ? rsd_ctx_error(ctx) : "no context");

    rsd_optimizer_close(optimizer);
    rsd_loss_close(loss);
    rsd_tokenizer_close(tok);
    rsd_t5_close(model);
    rsd_ctx_close(ctx);
    return status == RSD_OK ? 0 : 1;
}
