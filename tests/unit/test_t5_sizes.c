/* Models of the published sizes: Flan-T5 small and base are made, an XXL (11 B parameters in shards) is opened from sparse files and
 * two layers of it are run. */
#include "test_t5.h"

#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct shape {
    const char *name;
    int d_model, d_ff, heads, layers;
    uint64_t parameters; /* as counted from the published checkpoints */
};
static const struct shape small = {"small", 512, 1024, 6, 8, 76961152}, base = {"base", 768, 2048, 12, 12, 247577856},
                          xxl = {"xxl", 4096, 10240, 64, 24, 11135332352};

static void write_config(const char *dir, const struct shape *s) {
    char text[600];
    int n = snprintf(text, sizeof text,
                     "{\"model_type\":\"t5\",\"vocab_size\":32128,\"d_model\":%d,\"d_kv\":64,\"d_ff\":%d,\"num_heads\":%d,"
                     "\"num_layers\":%d,\"num_decoder_layers\":%d,\"feed_forward_proj\":\"gated-gelu\","
                     "\"tie_word_embeddings\":false}",
                     s->d_model, s->d_ff, s->heads, s->layers, s->layers);
    test_write(test_path(dir, "config.json"), text, (size_t)n);
}

START_TEST(models_of_the_published_sizes_are_made) {
    const struct shape *s = _i ? &base : &small;
    char dir[PATH_MAX];
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *m = NULL;
    rsd_t5_info info = {.size = sizeof info};
    snprintf(dir, sizeof dir, "%s", test_dir());
    write_config(dir, s);
    OK(ctx, rsd_t5_create(ctx, test_path(dir, "config.json"), 1, &m));
    OK(ctx, rsd_t5_info_get(m, &info));
    ck_assert_uint_eq(info.parameters, s->parameters);
    ck_assert_uint_eq(info.bytes, 4 * s->parameters);
    static const int32_t enc[] = {37, 1712, 32099, 1}, dec[] = {8, 1525, 19, 1};
    static const uint32_t offsets[] = {0, 4};
    const rsd_batch b = {
        .size = sizeof b, .n = 1, .enc_ids = enc, .enc_offsets = offsets, .dec_ids = dec, .dec_offsets = offsets};
    float logprobs[4];
    OK(ctx, rsd_t5_forward(m, &b, RSD_INFER));
    OK(ctx, rsd_t5_logprobs(m, logprobs, 4));
    for (size_t i = 0; i < 4; i++) /* logits of variance 1: nothing is certain, nothing impossible */
        ck_assert(logprobs[i] < -5 && logprobs[i] > -20);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

/* ---- sparse shards ---- */

enum { SHARDS = 5 };

struct sharder {
    const char *dir, *dtype;
    size_t bytes_of_element;
    uint64_t most, begin, last; /* bytes of a shard at most; so far; where its last tensor begins */
    int shard;
    char *header, *index;
    size_t header_n, index_n;
};

static void append(char **text, size_t *n, const char *more) {
    size_t k = strlen(more);
    *text = realloc(*text, *n + k + 2);
    memcpy(*text + *n, more, k + 1);
    *n += k;
}

/* The shard's header at its beginning, and nothing behind it: reading gives zeros. */
static void finish_shard(struct sharder *s) {
    char name[64];
    unsigned char length[8];
    append(&s->header, &s->header_n, "}");
    while (s->header_n % 8) /* data on its alignment, as every writer does it: else it would be copied */
        append(&s->header, &s->header_n, " ");
    s->header[0] = '{';
    uint64_t n = s->header_n;
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(n >> 8 * i);
    snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", s->shard, SHARDS);
    int fd = open(test_path(s->dir, name), O_WRONLY | O_CREAT, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, length, 8), 8);
    ck_assert_int_eq(write(fd, s->header, n), (ssize_t)n);
    ck_assert_int_eq(ftruncate(fd, (off_t)(8 + n + s->begin)), 0);
    if (s->shard == SHARDS) /* its last tensor is the head, which is not the embedding */
        ck_assert_int_eq(pwrite(fd, "\x80\x3f\x80\x3f", 4, (off_t)(8 + n + s->last)), 4);
    close(fd);
    free(s->header);
    s->header = NULL;
    s->header_n = 0;
    s->begin = 0;
}

static void put(struct sharder *s, const char *name, uint64_t rows, uint64_t cols) {
    uint64_t bytes = (rows ? rows : 1) * cols * s->bytes_of_element;
    char entry[400], shape[64];
    if (s->begin + bytes > s->most && s->shard < SHARDS) {
        finish_shard(s);
        s->shard++;
    }
    if (rows)
        snprintf(shape, sizeof shape, "%llu,%llu", (unsigned long long)rows, (unsigned long long)cols);
    else
        snprintf(shape, sizeof shape, "%llu", (unsigned long long)cols);
    snprintf(entry, sizeof entry, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}", name, s->dtype, shape,
             (unsigned long long)s->begin, (unsigned long long)(s->begin + bytes));
    append(&s->header, &s->header_n, entry);
    snprintf(entry, sizeof entry, "%s\"%s\":\"model-%05d-of-%05d.safetensors\"", s->index_n ? "," : "", name, s->shard, SHARDS);
    append(&s->index, &s->index_n, entry);
    s->last = s->begin;
    s->begin += bytes;
}

static void put_stack(struct sharder *s, const struct shape *shape, const char *stack, bool decoder) {
    const uint64_t C = (uint64_t)shape->d_model, I = (uint64_t)shape->heads * 64, F = (uint64_t)shape->d_ff;
    char name[120];
#define PUT(rows, cols, ...)                                                                                                     \
    do {                                                                                                                         \
        snprintf(name, sizeof name, __VA_ARGS__);                                                                                \
        put(s, name, rows, cols);                                                                                                \
    } while (0)
    for (int l = 0; l < shape->layers; l++) {
        for (int sub = 0; sub < 1 + decoder; sub++) {
            const char *kind = sub ? "EncDecAttention" : "SelfAttention";
            for (int k = 0; k < 4; k++)
                PUT(k == 3 ? C : I, k == 3 ? I : C, "%s.block.%d.layer.%d.%s.%c.weight", stack, l, sub, kind, "qkvo"[k]);
            if (l == 0 && sub == 0)
                PUT(32, (uint64_t)shape->heads, "%s.block.0.layer.0.SelfAttention.relative_attention_bias.weight", stack);
            PUT(0, C, "%s.block.%d.layer.%d.layer_norm.weight", stack, l, sub);
        }
        PUT(F, C, "%s.block.%d.layer.%d.DenseReluDense.wi_0.weight", stack, l, 1 + decoder);
        PUT(F, C, "%s.block.%d.layer.%d.DenseReluDense.wi_1.weight", stack, l, 1 + decoder);
        PUT(C, F, "%s.block.%d.layer.%d.DenseReluDense.wo.weight", stack, l, 1 + decoder);
        PUT(0, C, "%s.block.%d.layer.%d.layer_norm.weight", stack, l, 1 + decoder);
    }
    PUT(0, C, "%s.final_layer_norm.weight", stack);
#undef PUT
}

static void write_shards(const char *dir, const struct shape *shape, const char *dtype, size_t bytes_of_element) {
    struct sharder s = {.dir = dir,
                        .dtype = dtype,
                        .bytes_of_element = bytes_of_element,
                        .most = shape->parameters * bytes_of_element / SHARDS + (1 << 28),
                        .shard = 1};
    write_config(dir, shape);
    put(&s, "shared.weight", 32128, (uint64_t)shape->d_model);
    put_stack(&s, shape, "decoder", true); /* the order of names, as published */
    put_stack(&s, shape, "encoder", false);
    put(&s, "lm_head.weight", 32128, (uint64_t)shape->d_model);
    ck_assert_int_eq(s.shard, SHARDS);
    finish_shard(&s);
    char *index = malloc(s.index_n + 64);
    int n = snprintf(index, s.index_n + 64, "{\"metadata\":{\"total_size\":%llu},\"weight_map\":{%s}}",
                     (unsigned long long)(shape->parameters * bytes_of_element), s.index);
    test_write(test_path(dir, "model.safetensors.index.json"), index, (size_t)n);
    free(index);
    free(s.index);
}

/* 0 under ThreadSanitizer, which shadows all that is mapped. */
static int64_t resident(void) {
#ifdef __SANITIZE_THREAD__
    return 0;
#endif
    struct rusage u;
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &u), 0);
    return (int64_t)u.ru_maxrss * 1024;
}

START_TEST(eleven_billion_parameters_are_opened_without_their_memory) {
    char dir[PATH_MAX];
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *m = NULL;
    rsd_t5_info info = {.size = sizeof info};
    int64_t before = resident();
    snprintf(dir, sizeof dir, "%s", test_dir());
    write_shards(dir, &xxl, _i ? "BF16" : "F32", _i ? 2 : 4);
    OK(ctx, rsd_t5_open_as(ctx, dir, RSD_STORED, &m));
    OK(ctx, rsd_t5_info_get(m, &info));
    ck_assert_uint_eq(info.parameters, xxl.parameters);
    ck_assert_uint_eq(info.bytes, xxl.parameters * (_i ? 2 : 4));
    ck_assert_int_eq(info.dtype, _i ? RSD_BF16 : RSD_F32);
    ck_assert_int_eq(info.tied, 0);
    ck_assert_int_lt(resident() - before, (int64_t)64 << 20);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

/* Weights of zeros make every id equally probable. */
START_TEST(two_layers_of_eleven_billion_parameters_are_run) {
    char dir[PATH_MAX];
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *m = NULL;
    rsd_t5_info info = {.size = sizeof info};
    static const int32_t enc[] = {37, 1712, 1}, dec[] = {8, 1};
    static const uint32_t enc_offsets[] = {0, 3}, dec_offsets[] = {0, 2};
    const rsd_batch b = {
        .size = sizeof b, .n = 1, .enc_ids = enc, .enc_offsets = enc_offsets, .dec_ids = dec, .dec_offsets = dec_offsets};
    float logprobs[2];
    snprintf(dir, sizeof dir, "%s", test_dir());
    write_shards(dir, &xxl, "BF16", 2);
    FAILS(ctx, RSD_EINVAL, "24 and 24", rsd_t5_open_part(ctx, dir, RSD_STORED, 2, 25, &m));
    FAILS(ctx, RSD_EINVAL, "24 and 24", rsd_t5_open_part(ctx, dir, RSD_STORED, 0, 2, &m));
    OK(ctx, rsd_t5_open_part(ctx, dir, RSD_STORED, 2, 2, &m));
    OK(ctx, rsd_t5_info_get(m, &info));
    ck_assert_int_eq(info.encoder_layers, 2);
    ck_assert_int_eq(info.decoder_layers, 2);
    OK(ctx, rsd_t5_forward(m, &b, RSD_INFER));
    OK(ctx, rsd_t5_logprobs(m, logprobs, 2));
    for (size_t i = 0; i < 2; i++)
        ck_assert_double_eq_tol((double)logprobs[i], -log(32128), 1e-5);
    ck_assert_int_lt(resident(), (int64_t)6 << 30); /* of 22 */
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

/* The first layers alone are a model whose layers are those of the whole. */
START_TEST(a_part_has_the_layers_of_the_whole) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_gated, 7), *part = NULL;
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", test_path(test_dir(), "model"));
    OK(ctx, rsd_t5_save(m, dir, RSD_F32, NULL));
    OK(ctx, rsd_t5_open_part(ctx, dir, RSD_F32, 1, 2, &part));
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(part), "\"num_decoder_layers\": 2"));
    for (size_t i = 0; i < rsd_t5_params(part); i++) {
        rsd_param p = {.size = sizeof p};
        size_t whole = 0;
        OK(ctx, rsd_t5_param(part, i, &p));
        OK(ctx, rsd_t5_param_find(m, p.name, &whole));
        float *a = malloc(p.count * sizeof *a), *b = malloc(p.count * sizeof *b);
        OK(ctx, rsd_t5_param_read(part, i, a, p.count));
        OK(ctx, rsd_t5_param_read(m, whole, b, p.count));
        ck_assert_mem_eq(a, b, p.count * sizeof *a);
        free(a);
        free(b);
    }
    rsd_t5_close(part);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

TCase *t5_sizes_case(void) {
    TCase *c = tcase_create("sizes");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, models_of_the_published_sizes_are_made, 0, 2);
    tcase_add_loop_test(c, eleven_billion_parameters_are_opened_without_their_memory, 0, 2);
    tcase_add_test(c, two_layers_of_eleven_billion_parameters_are_run);
    tcase_add_test(c, a_part_has_the_layers_of_the_whole);
    return c;
}
