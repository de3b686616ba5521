/* The same through bindings/cpp: classes clean up, errors are exceptions with the library's message.
 *     consumer_cpp CONFIG.JSON */
#include <reasondistill.hpp>

#include <cstdio>
#include <cstring>

int main(int argc, char **argv) {
    if (argc != 2)
        return 1;
    try {
        rsd::context ctx(1);
        rsd::t5 model(ctx, argv[1], 1);
        rsd_loss_options mix = rsd::loss::options(RSD_LOSS_JS);
        mix.alpha = 0.5;
        rsd::loss loss(ctx, mix);
        loss.set_format(RSD_FORMAT_ZS_AO, rsd::loss::options(RSD_LOSS_CE));
        rsd::optimizer optimizer(ctx, model);
        const rsd::batch batch({{3, 4, 5, 1}, {6, 7, 1}}, {{5, 4, 3, 1}, {7, 6, 1}});
        const rsd_batch b = batch.get();
        double first = 0, last = 0;
        for (int step = 0; step < 40; step++) {
            model.forward(b);
            last = loss.apply(model, b);
            first = step ? first : last;
            model.backward();
            optimizer.step(1e-2);
        }
        const std::vector<rsd::ids> out = model.generate({{3, 4, 5, 1}}, 8);
        bool told = false;
        try {
            rsd::tokenizer missing(ctx, "no-such-file.model");
        } catch (const rsd::error &e) {
            told = e.status() == RSD_ENOTFOUND && std::strstr(e.what(), "no-such-file.model");
        }
        std::printf("consumer.cpp: loss %.3f -> %.3f, %zu tokens, error told: %d\n", first, last, out[0].size(), told);
        return last < first / 2 && told ? 0 : 1;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "consumer.cpp failed: %s\n", e.what());
        return 1;
    }
}
