/* Model directories: what is written is read back bit for bit, what is damaged is refused by file and tensor. */
#include "test_t5.h"

#include "core/json.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t lengths[][2] = {{4, 3}, {1, 1}, {7, 5}};
enum { VOCAB = 37, POSITIONS = 9, LOGITS = VOCAB * POSITIONS };

static void logits_of(rsd_ctx *ctx, rsd_t5 *m, float *out) {
    struct owned_batch o;
    owned_random(&o, 3, lengths, VOCAB, 3);
    OK(ctx, rsd_t5_forward(m, &o.b, RSD_INFER));
    OK(ctx, rsd_t5_logits(m, out, LOGITS));
    owned_free(&o);
}

static const char *const configs[] = {tiny_tied, tiny_gated};

START_TEST(saved_and_opened_models_give_the_same_bits) {
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *m = t5_make(ctx, configs[_i], 7), *again = NULL;
    float a[LOGITS], b[LOGITS];
    const char *dir = test_path(test_dir(), "model");
    OK(ctx, rsd_t5_save(m, dir, RSD_F32, NULL));
    OK(ctx, rsd_t5_open(ctx, dir, &again));
    logits_of(ctx, m, a);
    logits_of(ctx, again, b);
    ck_assert_mem_eq(a, b, sizeof a);
    ck_assert_str_eq(rsd_t5_config(m), rsd_t5_config(again));
    ck_assert_uint_eq(rsd_t5_params(m), rsd_t5_params(again));
    rsd_t5_info i = {.size = sizeof i};
    OK(ctx, rsd_t5_info_get(again, &i));
    ck_assert_int_eq(i.dtype, RSD_F32);
    ck_assert_uint_eq(i.bytes, 4 * i.parameters);
    rsd_t5_close(m);
    rsd_t5_close(again);
    rsd_ctx_close(ctx);
}
END_TEST

/* The first rounding loses bits, later ones find nothing to lose. */
START_TEST(half_width_files_are_read_and_stay_as_they_are) {
    static const int types[] = {RSD_F16, RSD_BF16};
    rsd_ctx *ctx = t5_ctx(2);
    rsd_t5 *m = t5_make(ctx, tiny_gated, 7), *half = NULL, *again = NULL;
    float a[LOGITS], b[LOGITS];
    char one[PATH_MAX], two[PATH_MAX];
    snprintf(one, sizeof one, "%s", test_path(test_dir(), "one"));
    snprintf(two, sizeof two, "%s", test_path(test_dir(), "two"));
    OK(ctx, rsd_t5_save(m, one, types[_i], NULL));
    OK(ctx, rsd_t5_open(ctx, one, &half));
    rsd_t5_info i = {.size = sizeof i};
    OK(ctx, rsd_t5_info_get(half, &i));
    ck_assert_int_eq(i.dtype, types[_i]);
    OK(ctx, rsd_t5_save(half, two, types[_i], NULL));
    OK(ctx, rsd_t5_open(ctx, two, &again));
    logits_of(ctx, half, a);
    logits_of(ctx, again, b);
    ck_assert_mem_eq(a, b, sizeof a);
    logits_of(ctx, m, b);
    ck_assert_double_le(relative_error(a, b, LOGITS), _i ? 0.1 : 0.02); /* eight and eleven bits, through five blocks */
    ck_assert_mem_ne(a, b, sizeof a);
    rsd_t5_close(m);
    rsd_t5_close(half);
    rsd_t5_close(again);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(a_saved_folder_is_complete_or_not_there) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_tied, 7), *again = NULL;
    char parent[PATH_MAX - 16], dir[PATH_MAX];
    char **names = NULL;
    size_t n = 0;
    struct err e = {0};
    snprintf(parent, sizeof parent, "%s", test_dir());
    snprintf(dir, sizeof dir, "%s/model", parent);
    FAILS(ctx, RSD_ENOTFOUND, "no_such_tokenizer", rsd_t5_save(m, dir, RSD_F32, "no_such_tokenizer"));
    ck_assert_int_eq(dir_names(&mem_std, parent, &names, &n, &e), 0);
    ck_assert_uint_eq(n, 0); /* nothing stays behind under any name */
    dir_names_free(&mem_std, names, n);

    const char *tokenizer = test_path(parent, "any.model");
    test_write(tokenizer, "pieces", 6);
    OK(ctx, rsd_t5_save(m, dir, RSD_F32, tokenizer));
    ck_assert_int_eq(dir_names(&mem_std, dir, &names, &n, &e), 0);
    ck_assert_uint_eq(n, 4);
    ck_assert_str_eq(names[0], "config.json");
    ck_assert_str_eq(names[1], "generation_config.json");
    ck_assert_str_eq(names[2], "model.safetensors");
    ck_assert_str_eq(names[3], "spiece.model");
    dir_names_free(&mem_std, names, n);
    FAILS(ctx, RSD_EBUSY, dir, rsd_t5_save(m, dir, RSD_F32, NULL));
    FAILS(ctx, RSD_EINVAL, "dtype", rsd_t5_save(m, test_path(parent, "x"), 9, NULL));
    OK(ctx, rsd_t5_open(ctx, dir, &again)); /* still whole */
    rsd_t5_close(again);
    snprintf(dir, sizeof dir, "%s/other/", parent);
    OK(ctx, rsd_t5_save(m, dir, RSD_F32, NULL));
    OK(ctx, rsd_t5_open(ctx, dir, &again));
    rsd_t5_close(again);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

START_TEST(writing_weights_leaves_the_file_alone) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = t5_make(ctx, tiny_tied, 7), *again = NULL;
    char dir[PATH_MAX];
    size_t before = 0, after = 0;
    snprintf(dir, sizeof dir, "%s", test_path(test_dir(), "model"));
    OK(ctx, rsd_t5_save(m, dir, RSD_F32, NULL));
    char *old = test_read(test_path(dir, "model.safetensors"), &before);
    OK(ctx, rsd_t5_open(ctx, dir, &again));
    float *w = calloc(VOCAB * 8, sizeof *w);
    OK(ctx, rsd_t5_param_write(again, 0, w, VOCAB * 8));
    rsd_t5_close(again);
    char *now = test_read(test_path(dir, "model.safetensors"), &after);
    ck_assert_uint_eq(before, after);
    ck_assert_mem_eq(old, now, before);
    free(old);
    free(now);
    free(w);
    rsd_t5_close(m);
    rsd_ctx_close(ctx);
}
END_TEST

/* ---- directories made by hand ---- */

struct made {
    rsd_ctx *ctx;
    rsd_t5 *m;
    char dir[PATH_MAX];
    struct safetensors_item *items;
    float **data;
    size_t n;
    char log[1024];
};

static void remember(void *user, int level, const char *text) {
    struct made *d = user;
    if (level == RSD_LOG_WARN)
        snprintf(d->log, sizeof d->log, "%s", text);
}

/* A model, its tensors as items to be written, and a folder with its config. */
static void made_open(struct made *d, const char *config) {
    *d = (struct made){0};
    rsd_ctx_options o;
    rsd_ctx_options_init(&o, sizeof o);
    o.log = remember;
    o.log_user = d;
    ck_assert_int_eq(rsd_ctx_open(&o, &d->ctx), RSD_OK);
    d->m = t5_make(d->ctx, config, 7);
    snprintf(d->dir, sizeof d->dir, "%s", test_dir());
    test_write(test_path(d->dir, "config.json"), config, strlen(config));
    d->n = rsd_t5_params(d->m);
    d->items = calloc(d->n + 1, sizeof *d->items); /* room for one more */
    d->data = calloc(d->n, sizeof *d->data);
    for (size_t i = 0; i < d->n; i++) {
        rsd_param p = {.size = sizeof p};
        OK(d->ctx, rsd_t5_param(d->m, i, &p));
        d->data[i] = malloc(p.count * sizeof(float));
        OK(d->ctx, rsd_t5_param_read(d->m, i, d->data[i], p.count));
        size_t *shape = malloc(sizeof p.shape);
        memcpy(shape, p.shape, sizeof p.shape);
        d->items[i] = (struct safetensors_item){p.name, DTYPE_F32, p.ndim, shape, d->data[i], DTYPE_F32};
    }
}

static void made_close(struct made *d) {
    for (size_t i = 0; i < d->n; i++) {
        free(d->data[i]);
        free((void *)(uintptr_t)d->items[i].shape);
    }
    free(d->data);
    free(d->items);
    rsd_t5_close(d->m);
    rsd_ctx_close(d->ctx);
}

static void made_write(const struct made *d, const char *name, const struct safetensors_item *items, size_t n) {
    struct err e = {0};
    ck_assert_msg(safetensors_write(&mem_std, test_path(d->dir, name), items, n, NULL, 0, &e) == 0, "%s", e.text);
}

static void made_equals(struct made *d) {
    rsd_t5 *again = NULL;
    float a[LOGITS], b[LOGITS];
    OK(d->ctx, rsd_t5_open(d->ctx, d->dir, &again));
    logits_of(d->ctx, d->m, a);
    logits_of(d->ctx, again, b);
    ck_assert_mem_eq(a, b, sizeof a);
    ck_assert_uint_eq(rsd_t5_params(again), d->n);
    rsd_t5_close(again);
}

static void made_refused(struct made *d, int code, const char *part) {
    rsd_t5 *m = NULL;
    FAILS(d->ctx, code, part, rsd_t5_open(d->ctx, d->dir, &m));
    ck_assert_ptr_null(m);
}

START_TEST(the_embedding_goes_by_any_of_its_names) {
    static const char *const names[] = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"};
    struct made d;
    made_open(&d, tiny_tied);
    d.items[0].name = names[_i];
    made_write(&d, "model.safetensors", d.items, d.n);
    made_equals(&d);
    /* and twice, as older versions wrote it */
    d.items[d.n] = d.items[0];
    d.items[d.n].name = "shared.weight";
    made_write(&d, "model.safetensors", d.items, d.n + 1);
    made_equals(&d);
    made_close(&d);
}
END_TEST

START_TEST(a_stored_head_is_the_head_whatever_the_config_says) {
    struct made d;
    float *other = calloc(VOCAB * 8, sizeof *other), a[LOGITS], b[LOGITS];
    rsd_t5 *m = NULL;
    made_open(&d, tiny_tied);
    for (size_t i = 0; i < VOCAB * 8; i++)
        other[i] = d.data[0][i] + 1;
    d.items[d.n] = d.items[0];
    d.items[d.n].name = "lm_head.weight";
    d.items[d.n].data = other;
    made_write(&d, "model.safetensors", d.items, d.n + 1);
    OK(d.ctx, rsd_t5_open(d.ctx, d.dir, &m));
    ck_assert_uint_eq(rsd_t5_params(m), d.n + 1);
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(m), "\"tie_word_embeddings\": false"));
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(m), "\"scale_decoder_outputs\": true"));
    logits_of(d.ctx, d.m, a);
    logits_of(d.ctx, m, b);
    ck_assert_mem_ne(a, b, sizeof a);
    rsd_t5_close(m);
    made_close(&d);
    free(other);
}
END_TEST

/* A tied head without scale: written so that readers that scale whatever is tied get it right, read again as what it is. */
START_TEST(a_head_that_is_not_stored_is_the_embedding) {
    struct made d;
    rsd_t5 *m = NULL, *again = NULL;
    rsd_t5_info i = {.size = sizeof i};
    float a[LOGITS], b[LOGITS];
    made_open(&d, tiny_gated);
    made_write(&d, "model.safetensors", d.items, d.n - 1); /* all but lm_head */
    OK(d.ctx, rsd_t5_open(d.ctx, d.dir, &m));
    ck_assert_ptr_nonnull(strstr(d.log, "lm_head.weight"));
    ck_assert_uint_eq(rsd_t5_params(m), d.n - 1);
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(m), "\"tie_word_embeddings\": false"));
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(m), "\"scale_decoder_outputs\": false"));
    char saved[PATH_MAX];
    snprintf(saved, sizeof saved, "%s", test_path(test_dir(), "model"));
    OK(d.ctx, rsd_t5_save(m, saved, RSD_F32, NULL));
    struct golden g;
    size_t n = 0;
    golden_open(&g, test_path(saved, "model.safetensors"));
    ck_assert_mem_eq(golden_get(&g, "lm_head.weight", &n), golden_get(&g, "shared.weight", NULL), VOCAB * 8 * sizeof(float));
    ck_assert_uint_eq(n, VOCAB * 8);
    golden_close(&g);
    OK(d.ctx, rsd_t5_open(d.ctx, saved, &again));
    OK(d.ctx, rsd_t5_info_get(again, &i));
    ck_assert(i.tied);
    ck_assert_uint_eq(rsd_t5_params(again), d.n - 1);
    logits_of(d.ctx, m, a);
    logits_of(d.ctx, again, b);
    ck_assert_mem_eq(a, b, sizeof a);
    rsd_t5_close(m);
    rsd_t5_close(again);
    made_close(&d);
}
END_TEST

static void write_index(const struct made *d, size_t first_of_second, const char *file_of_first) {
    struct str s;
    struct json_out o;
    str_init(&s, &mem_std);
    json_begin(&o, &s, 0);
    json_object(&o);
    json_put_key(&o, "metadata");
    json_object(&o);
    json_end_object(&o);
    json_put_key(&o, "weight_map");
    json_object(&o);
    for (size_t i = 0; i < d->n; i++) {
        json_put_key(&o, d->items[i].name);
        json_put_z(&o, i >= first_of_second ? "model-00002-of-00002.safetensors" : file_of_first);
    }
    json_end_object(&o);
    json_end_object(&o);
    test_write(test_path(d->dir, "model.safetensors.index.json"), s.p, s.n);
    str_free(&s);
}

START_TEST(shards_are_found_through_their_index) {
    static const char first[] = "model-00001-of-00002.safetensors", second[] = "model-00002-of-00002.safetensors";
    struct made d;
    made_open(&d, tiny_gated);
    made_write(&d, first, d.items, 20);
    made_write(&d, second, d.items + 20, d.n - 20);
    write_index(&d, 20, first);
    made_equals(&d);
    write_index(&d, 19, first); /* the index is wrong about one tensor */
    made_refused(&d, RSD_EFORMAT, d.items[19].name);
    write_index(&d, 20, "../model-00001-of-00002.safetensors");
    made_refused(&d, RSD_EFORMAT, "weight_map");
    write_index(&d, 20, "no-such.safetensors");
    made_refused(&d, RSD_ENOTFOUND, "no-such.safetensors");
    test_write(test_path(d.dir, "model.safetensors.index.json"), "{\"weight_map\":[]}", 17);
    made_refused(&d, RSD_EFORMAT, "weight_map");
    test_write(test_path(d.dir, "model.safetensors.index.json"), "{\"weight_map\":{}}", 17);
    made_refused(&d, RSD_EFORMAT, "shared.weight");
    test_write(test_path(d.dir, "model.safetensors.index.json"), "{\"weight_map\":{\"shared.weight\":3}}", 34);
    made_refused(&d, RSD_EFORMAT, "weight_map");
    made_close(&d);
}
END_TEST

START_TEST(every_missing_tensor_is_named) {
    struct made d;
    made_open(&d, tiny_gated);
    for (size_t i = 0; i + 1 < d.n; i++) { /* the last is the head */
        const char *name = d.items[i].name;
        d.items[i].name = "unrelated";
        made_write(&d, "model.safetensors", d.items, d.n);
        made_refused(&d, RSD_EFORMAT, name);
        d.items[i].name = name;
    }
    made_close(&d);
}
END_TEST

START_TEST(wrong_shapes_and_types_are_named_with_what_was_expected) {
    struct made d;
    made_open(&d, tiny_gated);
    size_t *shape = (size_t *)(uintptr_t)d.items[1].shape;
    ck_assert_str_eq(d.items[1].name, "encoder.block.0.layer.0.SelfAttention.q.weight");
    shape[0] = 8;
    shape[1] = 12;
    made_write(&d, "model.safetensors", d.items, d.n);
    made_refused(&d, RSD_EFORMAT, "SelfAttention.q.weight has shape [8, 12]: config.json asks for [12, 8]");
    shape[0] = 96;
    d.items[1].ndim = 1;
    made_write(&d, "model.safetensors", d.items, d.n);
    made_refused(&d, RSD_EFORMAT, "has shape [96]");
    shape[0] = 12;
    shape[1] = 8;
    d.items[1].ndim = 2;
    made_write(&d, "model.safetensors", d.items, d.n);

    size_t n = 0;
    char *bytes = test_read(test_path(d.dir, "model.safetensors"), &n), *at = bytes + 8;
    while (strncmp(at, "\"F32\"", 5) != 0)
        at++;
    memcpy(at, "\"I32\"", 5);
    test_write(test_path(d.dir, "model.safetensors"), bytes, n);
    made_refused(&d, RSD_EFORMAT, "is I32: expected F32, F16 or BF16");
    free(bytes);
    made_close(&d);
}
END_TEST

START_TEST(surplus_tensors_are_refused_inside_the_stacks_and_reported_elsewhere) {
    struct made d;
    rsd_t5 *m = NULL;
    made_open(&d, tiny_tied);
    d.items[d.n] = d.items[1];
    d.items[d.n].name = "encoder.block.2.layer.0.SelfAttention.q.weight";
    made_write(&d, "model.safetensors", d.items, d.n + 1);
    made_refused(&d, RSD_EFORMAT, "encoder.block.2.layer.0.SelfAttention.q.weight");
    d.items[d.n].name = "classification_head.dense.weight";
    made_write(&d, "model.safetensors", d.items, d.n + 1);
    OK(d.ctx, rsd_t5_open(d.ctx, d.dir, &m));
    ck_assert_ptr_nonnull(strstr(d.log, "classification_head.dense.weight"));
    rsd_t5_close(m);
    d.log[0] = 0;
    d.items[d.n].name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight";
    made_write(&d, "model.safetensors", d.items, d.n + 1);
    OK(d.ctx, rsd_t5_open(d.ctx, d.dir, &m));
    ck_assert_str_eq(d.log, "");
    rsd_t5_close(m);
    made_close(&d);
}
END_TEST

START_TEST(every_truncated_file_is_an_error) {
    struct made d;
    size_t n = 0;
    made_open(&d, tiny_tied);
    made_write(&d, "model.safetensors", d.items, d.n);
    char *bytes = test_read(test_path(d.dir, "model.safetensors"), &n);
    for (size_t k = 0; k < n; k += k < 64 ? 1 : 97) {
        test_write(test_path(d.dir, "model.safetensors"), bytes, k);
        made_refused(&d, RSD_EFORMAT, "model.safetensors");
    }
    test_write(test_path(d.dir, "model.safetensors"), bytes, n);
    made_equals(&d);
    free(bytes);
    made_close(&d);
}
END_TEST

/* Three blanks at the end of the header are allowed and leave every tensor off its alignment. */
START_TEST(unaligned_tensors_are_read) {
    struct made d;
    size_t n = 0;
    made_open(&d, tiny_tied);
    made_write(&d, "model.safetensors", d.items, d.n);
    char *bytes = test_read(test_path(d.dir, "model.safetensors"), &n), *moved = malloc(n + 3);
    uint64_t header = 0;
    for (size_t i = 0; i < 8; i++)
        header |= (uint64_t)(unsigned char)bytes[i] << (8 * i);
    memcpy(moved, bytes, 8 + header);
    memcpy(moved + 8 + header, "   ", 3);
    memcpy(moved + 8 + header + 3, bytes + 8 + header, n - 8 - header);
    for (size_t i = 0; i < 8; i++)
        moved[i] = (char)((header + 3) >> (8 * i));
    test_write(test_path(d.dir, "model.safetensors"), moved, n + 3);
    made_equals(&d);
    free(bytes);
    free(moved);
    made_close(&d);
}
END_TEST

START_TEST(what_is_not_a_model_directory_is_said_so) {
    struct made d;
    rsd_t5 *m = NULL;
    made_open(&d, tiny_tied);
    made_refused(&d, RSD_ENOTFOUND, "model.safetensors");
    test_write(test_path(d.dir, "pytorch_model.bin"), "x", 1);
    made_refused(&d, RSD_ENOTFOUND, "pickle");
    ck_assert_int_eq(unlink(test_path(d.dir, "config.json")), 0);
    made_refused(&d, RSD_ENOTFOUND, "config.json");
    FAILS(d.ctx, RSD_ENOTFOUND, "no such model directory", rsd_t5_open(d.ctx, test_path(d.dir, "nothing"), &m));
    FAILS(d.ctx, RSD_ENOTFOUND, "no such model directory", rsd_t5_open(d.ctx, test_path(d.dir, "pytorch_model.bin"), &m));
    FAILS(d.ctx, RSD_EINVAL, "path", rsd_t5_open(d.ctx, NULL, &m));
    made_close(&d);
}
END_TEST

START_TEST(models_of_hugging_face_keep_their_keys_when_saved) {
    rsd_ctx *ctx = t5_ctx(1);
    rsd_t5 *m = NULL, *again = NULL;
    const char *dir = test_path(test_dir(), "model");
    OK(ctx, rsd_t5_open(ctx, t5_fixture("v1_1"), &m));
    OK(ctx, rsd_t5_save(m, dir, RSD_BF16, NULL));
    OK(ctx, rsd_t5_open(ctx, dir, &again));
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(again), "\"classifier_dropout\""));
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(again), "\"torch_dtype\": \"bfloat16\""));
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(again), "\"tie_word_embeddings\": false"));
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(again), "\"scale_decoder_outputs\": false"));
    ck_assert_ptr_nonnull(strstr(rsd_t5_config(again), "\"initializer_factor\": 1.0")); /* transformers 5 refuses an integer */
    ck_assert_ptr_null(strstr(rsd_t5_config(again), "\"dtype\""));
    rsd_t5_close(m);
    rsd_t5_close(again);
    rsd_ctx_close(ctx);
}
END_TEST

TCase *t5_files_case(void) {
    TCase *c = tcase_create("files");
    tcase_add_loop_test(c, saved_and_opened_models_give_the_same_bits, 0, 2);
    tcase_add_loop_test(c, half_width_files_are_read_and_stay_as_they_are, 0, 2);
    tcase_add_test(c, a_saved_folder_is_complete_or_not_there);
    tcase_add_test(c, writing_weights_leaves_the_file_alone);
    tcase_add_loop_test(c, the_embedding_goes_by_any_of_its_names, 0, 3);
    tcase_add_test(c, a_stored_head_is_the_head_whatever_the_config_says);
    tcase_add_test(c, a_head_that_is_not_stored_is_the_embedding);
    tcase_add_test(c, shards_are_found_through_their_index);
    tcase_add_test(c, every_missing_tensor_is_named);
    tcase_add_test(c, wrong_shapes_and_types_are_named_with_what_was_expected);
    tcase_add_test(c, surplus_tensors_are_refused_inside_the_stacks_and_reported_elsewhere);
    tcase_add_test(c, every_truncated_file_is_an_error);
    tcase_add_test(c, unaligned_tensors_are_read);
    tcase_add_test(c, what_is_not_a_model_directory_is_said_so);
    tcase_add_test(c, models_of_hugging_face_keep_their_keys_when_saved);
    return c;
}
