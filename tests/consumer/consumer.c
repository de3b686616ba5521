/* A C program that knows the installed library only: trains a tiny student by hand until its loss has fallen, then generates.
 *     consumer CONFIG.JSON */
#include <reasondistill/reasondistill.h>

#include <stdio.h>

static int on_token(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    (void)input, (void)sample, (void)id, (void)logprob, (void)finish;
    ++*(int *)user;
    return 0;
}

int main(int argc, char **argv) {
    static const int32_t enc[] = {3, 4, 5, 1, 6, 7, 1}, dec[] = {5, 4, 3, 1, 7, 6, 1};
    static const uint32_t offsets[] = {0, 4, 7};
    rsd_ctx *ctx = NULL;
    rsd_t5 *model = NULL;
    rsd_loss *loss = NULL;
    rsd_optimizer *optimizer = NULL;
    double first = 0, last = 0;
    int tokens = 0, failed = 1;
    rsd_batch b = {0};
    b.size = sizeof b;
    b.n = 2;
    b.enc_ids = enc;
    b.enc_offsets = offsets;
    b.dec_ids = dec;
    b.dec_offsets = offsets;
    if (argc != 2 || rsd_ctx_open(NULL, &ctx) < 0)
        return 1;
    if (rsd_t5_create(ctx, argv[1], 1, &model) || rsd_loss_open(ctx, NULL, &loss) ||
        rsd_optimizer_open(ctx, model, NULL, &optimizer))
        goto done;
    for (int step = 0; step < 40; step++) {
        rsd_loss_result r = {0};
        r.size = sizeof r;
        if (rsd_t5_forward(model, &b, RSD_TRAIN) || rsd_loss_begin(loss, &b, 1 / rsd_loss_weight(&b)) ||
            rsd_t5_head(model, rsd_loss_tile, loss) || rsd_loss_result_get(loss, &r) || rsd_t5_backward(model) ||
            rsd_optimizer_step(optimizer, 1e-2, NULL))
            goto done;
        first = step ? first : r.loss;
        last = r.loss;
    }
    if (rsd_t5_generate(model, enc, offsets, 2, NULL, on_token, &tokens))
        goto done;
    failed = !(last < first / 2 && tokens > 0);
    printf("consumer.c: version %s, loss %.3f -> %.3f, %d tokens\n", rsd_version(), first, last, tokens);
done:
    if (failed)
        fprintf(stderr, "consumer.c failed: %s\n", rsd_ctx_error(ctx));
    rsd_optimizer_close(optimizer);
    rsd_loss_close(loss);
    rsd_t5_close(model);
    rsd_ctx_close(ctx);
    return failed;
}
