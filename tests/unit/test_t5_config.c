/* config.json: what is read, what is refused by name, what is written again. */
#include "test_t5.h"

#include "core/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *config_file(const char *text) {
    const char *path = test_path(test_dir(), "config.json");
    test_write(path, text, strlen(text));
    return path;
}

static void refused(const char *text, int code, const char *part) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = NULL;
    const char *path = config_file(text);
    FAILS(ctx, code, part, rsd_t5_create(ctx, path, 1, &m));
    ck_assert_msg(strstr(rsd_ctx_error(ctx), path) != NULL, "no path in: %s", rsd_ctx_error(ctx));
    ck_assert_ptr_null(m);
    rsd_ctx_close(ctx);
}

START_TEST(values_that_change_results_are_refused_by_name) {
    refused("{\"model_type\":\"umt5\"}", RSD_EUNSUPPORTED, "model_type");
    refused("{\"feed_forward_proj\":\"gated-swish\"}", RSD_EUNSUPPORTED, "feed_forward_proj is \"gated-swish\"");
    refused("{\"feed_forward_proj\":\"gelu\"}", RSD_EUNSUPPORTED, "feed_forward_proj is \"gelu\"");
    refused("{\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"silu\"}", RSD_EUNSUPPORTED, "dense_act_fn");
    refused("{\"feed_forward_proj\":\"relu\",\"dense_act_fn\":\"gelu\"}", RSD_EUNSUPPORTED, "dense_act_fn");
    refused("{\"feed_forward_proj\":\"relu\",\"is_gated_act\":true}", RSD_EUNSUPPORTED, "is_gated_act");
    refused("{\"is_encoder_decoder\":false}", RSD_EUNSUPPORTED, "is_encoder_decoder");
    refused("{\"tie_encoder_decoder\":true}", RSD_EUNSUPPORTED, "tie_encoder_decoder");
    refused("{\"quantization_config\":{}}", RSD_EUNSUPPORTED, "quantization_config");
    refused("{\"encoder_attention_type\":\"local\"}", RSD_EUNSUPPORTED, "encoder_attention_type");
    refused("{\"num_experts\":8}", RSD_EUNSUPPORTED, "num_experts");
    refused("{\"pruned_heads\":{\"0\":[1]}}", RSD_EUNSUPPORTED, "pruned_heads");
    refused("{\"eos_token_id\":[1,2]}", RSD_EUNSUPPORTED, "eos_token_id");
}
END_TEST

START_TEST(hostile_dimensions_are_refused_before_memory_is_asked_for) {
    static const char *const keys[] = {"vocab_size",
                                       "d_model",
                                       "d_kv",
                                       "d_ff",
                                       "num_layers",
                                       "num_decoder_layers",
                                       "num_heads",
                                       "relative_attention_num_buckets",
                                       "relative_attention_max_distance"};
    static const char *const values[] = {"0", "-1", "1.5", "1e30", "9223372036854775808", "4294967296", "\"8\"", "[8]", "true"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            char text[128];
            snprintf(text, sizeof text, "{\"%s\":%s}", keys[k], values[v]);
            refused(text, RSD_EFORMAT, keys[k]);
        }
    refused("{\"num_heads\":1048576,\"d_kv\":1048576}", RSD_EFORMAT, "num_heads * d_kv");
    refused("{\"vocab_size\":16777216,\"d_model\":1048576}", RSD_EFORMAT, "parameters");
    refused("{\"num_layers\":1024,\"d_model\":1048576,\"d_ff\":1048576,\"num_heads\":1024,\"d_kv\":1024}", RSD_EFORMAT,
            "parameters");
    refused("{\"relative_attention_num_buckets\":2}", RSD_EFORMAT, "relative_attention_num_buckets");
    refused("{\"relative_attention_num_buckets\":33}", RSD_EFORMAT, "relative_attention_num_buckets");
    refused("{\"relative_attention_max_distance\":16}", RSD_EFORMAT, "relative_attention_max_distance");
    refused("{\"dropout_rate\":1}", RSD_EFORMAT, "dropout_rate");
    refused("{\"dropout_rate\":-0.1}", RSD_EFORMAT, "dropout_rate");
    refused("{\"layer_norm_epsilon\":-1}", RSD_EFORMAT, "layer_norm_epsilon");
    refused("{\"pad_token_id\":32128}", RSD_EFORMAT, "pad_token_id");
    refused("{\"decoder_start_token_id\":-1}", RSD_EFORMAT, "decoder_start_token_id");
    refused("{\"vocab_size\":10,\"eos_token_id\":10}", RSD_EFORMAT, "eos_token_id");
    refused("{\"d_model\":8,\"d_model\":9}", RSD_EFORMAT, "d_model");
    refused("[]", RSD_EFORMAT, "object");
    refused("{\"d_model\":", RSD_EFORMAT, "byte");
    refused("", RSD_EFORMAT, "");
}
END_TEST

START_TEST(a_missing_config_is_not_found) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = NULL;
    const char *path = test_path(test_dir(), "config.json");
    FAILS(ctx, RSD_ENOTFOUND, path, rsd_t5_create(ctx, path, 1, &m));
    FAILS(ctx, RSD_EINVAL, "path", rsd_t5_create(ctx, NULL, 1, &m));
    rsd_ctx_close(ctx);
}
END_TEST

static rsd_t5_info info_of(rsd_ctx *ctx, const rsd_t5 *m) {
    rsd_t5_info i = {.size = sizeof i};
    OK(ctx, rsd_t5_info_get(m, &i));
    return i;
}

/* The shape of the config that came with t5-small in 2019, made smaller. */
START_TEST(old_configs_with_missing_keys_are_read) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m =
        t5_make(ctx,
                "{\"architectures\":[\"T5WithLMHeadModel\"],\"d_ff\":32,\"d_kv\":4,\"d_model\":16,\"dropout_rate\":0.2,"
                "\"initializer_factor\":1.0,\"layer_norm_epsilon\":1e-06,\"n_positions\":512,\"num_heads\":2,\"num_layers\":2,"
                "\"output_past\":true,\"vocab_size\":40,\"task_specific_params\":{\"x\":{\"prefix\":\"a: "
                "\"}},\"num_decoder_layers\":null}",
                1);
    rsd_t5_info i = info_of(ctx, m);
    ck_assert(!i.gated && i.tied && i.decoder_layers == 2 && i.dropout == 0.2 && i.vocab == 40);
    const char *text = rsd_t5_config(m);
    ck_assert_ptr_nonnull(strstr(text, "\"scale_decoder_outputs\": true"));
    ck_assert_ptr_nonnull(strstr(text, "\"tie_word_embeddings\": true"));
    ck_assert_ptr_nonnull(strstr(text, "\"prefix\": \"a: \""));
    ck_assert_ptr_nonnull(strstr(text, "\"n_positions\": 512"));
    ck_assert_ptr_nonnull(strstr(text, "\"relative_attention_max_distance\": 128"));
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(early_flan_and_mt5_configs_are_read) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(
        ctx,
        "{\"model_type\":\"t5\",\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"gelu\",\"is_gated_act\":true,"
        "\"tie_word_embeddings\":false,\"vocab_size\":20,\"d_model\":8,\"d_ff\":8,\"num_layers\":1,\"num_heads\":1,\"d_kv\":4}",
        1);
    ck_assert(info_of(ctx, m).gated && !info_of(ctx, m).tied);
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(m), "\"dense_act_fn\": \"gelu_new\""));
    rsd_t5_close(m);
    m = t5_make(ctx, "{\"model_type\":\"mt5\",\"vocab_size\":20,\"d_model\":8,\"d_ff\":8,\"d_kv\":4,\"eos_token_id\":[1]}", 1);
    rsd_t5_info i = info_of(ctx, m);
    ck_assert(i.gated && !i.tied && i.heads == 6 && i.encoder_layers == 8);
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(m), "MT5ForConditionalGeneration"));
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(logits_are_scaled_as_the_two_keys_say) {
    static const struct {
        const char *keys;
        bool scaled;
    } cases[] = {{"", true},
                 {",\"tie_word_embeddings\":true", true},
                 {",\"tie_word_embeddings\":true,\"scale_decoder_outputs\":false", false},
                 {",\"scale_decoder_outputs\":false", false},
                 {",\"scale_decoder_outputs\":true", true}};
    rsd_ctx *ctx = t5_ctx(1);
    static const size_t lengths[][2] = {{4, 3}};
    struct owned_batch o;
    float first[3 * 20], x[3 * 20];
    owned_random(&o, 1, lengths, 20, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"vocab_size\":20,\"d_model\":16,\"d_ff\":8,\"num_layers\":1,\"num_heads\":1,\"d_kv\":4%s}",
                 cases[i].keys);
        rsd_t5 *m = t5_make(ctx, text, 1);
        OK(ctx, rsd_t5_forward(m, &o.b, RSD_INFER));
        OK(ctx, rsd_t5_logits(m, i ? x : first, 60));
        for (size_t k = 0; i && k < 60; k++) /* d_model^-1/2 is 1/4, exact */
            ck_assert_float_eq_tol(x[k], cases[i].scaled ? first[k] : 4 * first[k], 1e-5F);
        rsd_t5_close(m);
    }
    owned_free(&o);
    rsd_ctx_close(ctx);
}
END_TEST

/* Means and deviations over a tensor, against those the header promises; a function of the seed and of nothing else. */
START_TEST(random_weights_have_the_deviations_of_the_paper) {
    static const struct {
        const char *name;
        double std;
    } want[] = {{"shared.weight", 2},
                {"encoder.block.0.layer.0.SelfAttention.q.weight", 2 * 0.125 * 0.25},
                {"encoder.block.1.layer.0.SelfAttention.v.weight", 2 * 0.125},
                {"decoder.block.0.layer.1.EncDecAttention.o.weight", 2 * 0.17677669529663687},
                {"encoder.block.0.layer.1.DenseReluDense.wi_1.weight", 2 * 0.125},
                {"encoder.block.0.layer.1.DenseReluDense.wo.weight", 2 * 0.0625},
                {"lm_head.weight", 2 * 0.125}};
    static const char config[] = "{\"vocab_size\":300,\"d_model\":64,\"d_ff\":256,\"num_layers\":2,\"num_heads\":2,\"d_kv\":16,"
                                 "\"feed_forward_proj\":\"gated-gelu\",\"tie_word_embeddings\":false,\"initializer_factor\":2}";
    rsd_ctx *ctx = t5_ctx(1), *two = t5_ctx(2);
    rsd_t5 *m = t5_make(ctx, config, 5), *same = t5_make(two, config, 5), *other = t5_make(ctx, config, 6);
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        size_t i = 0;
        rsd_param p = {.size = sizeof p};
        OK(ctx, rsd_t5_param_find(m, want[k].name, &i));
        OK(ctx, rsd_t5_param(m, i, &p));
        float *w = malloc(p.count * sizeof *w), *v = malloc(p.count * sizeof *v);
        OK(ctx, rsd_t5_param_read(m, i, w, p.count));
        double sum = 0, squares = 0;
        for (size_t j = 0; j < p.count; j++) {
            sum += (double)w[j];
            squares += (double)w[j] * (double)w[j];
        }
        double n = (double)p.count, std = sqrt(squares / n);
        /* four deviations of the estimates: std / sqrt(2n), and std / sqrt(n) of the mean */
        ck_assert_msg(fabs(std - want[k].std) < 4 * want[k].std / sqrt(2 * n), "%s: %g, not %g", p.name, std, want[k].std);
        ck_assert_msg(fabs(sum / n) < 4 * want[k].std / sqrt(n), "%s: mean %g", p.name, sum / n);
        OK(two, rsd_t5_param_read(same, i, v, p.count));
        ck_assert_mem_eq(v, w, p.count * sizeof *w);
        OK(ctx, rsd_t5_param_read(other, i, v, p.count));
        ck_assert_mem_ne(v, w, p.count * sizeof *w);
        free(w);
        free(v);
    }
    rsd_t5_close(m);
    rsd_t5_close(same);
    rsd_t5_close(other);
    rsd_ctx_close(ctx);
    rsd_ctx_close(two);
}
END_TEST

TCase *t5_config_case(void) {
    TCase *c = tcase_create("config");
    tcase_add_test(c, values_that_change_results_are_refused_by_name);
    tcase_add_test(c, hostile_dimensions_are_refused_before_memory_is_asked_for);
    tcase_add_test(c, a_missing_config_is_not_found);
    tcase_add_test(c, old_configs_with_missing_keys_are_read);
    tcase_add_test(c, early_flan_and_mt5_configs_are_read);
    tcase_add_test(c, logits_are_scaled_as_the_two_keys_say);
    tcase_add_test(c, random_weights_have_the_deviations_of_the_paper);
    return c;
}
