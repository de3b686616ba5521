/* What an epoch is made of: shares of items and of target tokens, batches by format, whose reasoning is shown, and the memory that
 * all of it takes. */
#include "test_data.h"

#include "text/prompt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rsd_dataset_options with_weights(double zs_ao, double zs_cot, double ic_ao, double ic_cot, int mix) {
    rsd_dataset_options o;
    rsd_dataset_options_init(&o, sizeof o);
    o.batch_tokens = 3000;
    o.max_enc = 9999;
    o.weights[RSD_FORMAT_ZS_AO] = zs_ao;
    o.weights[RSD_FORMAT_ZS_COT] = zs_cot;
    o.weights[RSD_FORMAT_IC_AO] = ic_ao;
    o.weights[RSD_FORMAT_IC_COT] = ic_cot;
    o.mix = mix;
    return o;
}

static rsd_dataset_info info_of(rsd_dataset *d) {
    rsd_dataset_info i = {.size = sizeof i};
    ck_assert_int_eq(rsd_dataset_info_get(d, &i), RSD_OK);
    return i;
}

START_TEST(weights_are_shares_of_items_or_of_target_tokens) {
    SKIP_WITHOUT_DATA();
    struct world w;
    world_open(&w, 40, false);
    world_build(&w, NULL);
    for (int mix = RSD_MIX_ITEMS; mix <= RSD_MIX_TARGETS; mix++) {
        rsd_dataset_options o = with_weights(1, 2, 3, 2, mix);
        rsd_dataset *d = world_dataset(&w, &o);
        rsd_dataset_info i = info_of(d);
        double items = 0, targets = 0;
        for (int f = 0; f < RSD_FORMATS; f++) {
            items += (double)i.items[f];
            targets += (double)i.targets[f];
        }
        for (int f = 0; f < RSD_FORMATS; f++) {
            double want = o.weights[f] / 8;
            double got = mix == RSD_MIX_ITEMS ? (double)i.items[f] / items : (double)i.targets[f] / targets;
            ck_assert_msg(fabs(got - want) < 0.02, "mix %d, %s: %g, asked for %g", mix, rsd_format_name(f), got, want);
            ck_assert_uint_ge(i.items[f], format_has_reasoning(f) ? 35 : 40); /* each comes once at least */
        }
        double reasoning = (double)(i.targets[RSD_FORMAT_ZS_COT] + i.targets[RSD_FORMAT_IC_COT]) / targets;
        ck_assert(mix == RSD_MIX_ITEMS ? reasoning > 0.85 : reasoning < 0.52); /* half the items is most of the gradient */
        rsd_dataset_close(d);
    }
    rsd_dataset_options o = with_weights(1, 0, 0, 0, 2);
    rsd_dataset *d = NULL;
    ck_assert_int_eq(rsd_dataset_open(w.ctx, w.out, w.tok, &o, &d), RSD_EINVAL);
    world_close(&w);
}
END_TEST

START_TEST(tokens_told_are_those_of_the_batches) {
    SKIP_WITHOUT_DATA();
    struct world w;
    const rsd_batch *b;
    world_open(&w, 40, false);
    world_build(&w, NULL);
    rsd_dataset_options o = with_weights(1, 2, 3, 2, RSD_MIX_TARGETS);
    rsd_dataset *d = world_dataset(&w, &o);
    rsd_dataset_info i = info_of(d);
    uint64_t inputs[RSD_FORMATS] = {0}, targets[RSD_FORMATS] = {0}, items[RSD_FORMATS] = {0};
    for (uint64_t k = 0; k < i.batches; k++) {
        ck_assert_int_eq(rsd_dataset_batch(d, k, &b), RSD_OK);
        for (size_t s = 0; s < b->n; s++) {
            inputs[b->formats[s]] += b->enc_offsets[s + 1] - b->enc_offsets[s];
            targets[b->formats[s]] += b->dec_offsets[s + 1] - b->dec_offsets[s];
            items[b->formats[s]]++;
        }
    }
    for (int f = 0; f < RSD_FORMATS; f++) {
        ck_assert_uint_eq(inputs[f], i.inputs[f]);
        ck_assert_uint_eq(targets[f], i.targets[f]);
        ck_assert_uint_eq(items[f], i.items[f]);
    }
    rsd_dataset_close(d);
    world_close(&w);
}
END_TEST

static uint64_t digest(const rsd_batch *b, size_t s) {
    uint64_t h = 1469598103934665603U;
    for (uint32_t i = b->enc_offsets[s]; i < b->enc_offsets[s + 1]; i++)
        h = (h ^ (uint64_t)b->enc_ids[i]) * 1099511628211U;
    for (uint32_t i = b->dec_offsets[s]; i < b->dec_offsets[s + 1]; i++)
        h = (h ^ (uint64_t)b->dec_ids[i]) * 1099511628211U;
    for (uint32_t i = b->row_offsets[b->dec_offsets[s]]; i < b->row_offsets[b->dec_offsets[s + 1]]; i++)
        h = (h ^ (uint64_t)b->row_ids[i]) * 1099511628211U;
    return h;
}

START_TEST(formats_of_a_batch_add_up_to_it) {
    SKIP_WITHOUT_DATA();
    struct world w;
    const rsd_batch *b;
    world_open(&w, 40, false);
    world_build(&w, NULL);
    rsd_dataset_options o = with_weights(1, 1, 1, 1, RSD_MIX_ITEMS);
    rsd_dataset *d = world_dataset(&w, &o);
    for (uint64_t k = 0; k < 5; k++) {
        uint64_t whole[400], part[400], formats[400];
        size_t n, m = 0;
        ck_assert_int_eq(rsd_dataset_batch(d, k, &b), RSD_OK);
        n = b->n;
        ck_assert_uint_lt(n, 400);
        for (size_t s = 0; s < n; s++) {
            whole[s] = digest(b, s);
            formats[s] = b->formats[s];
        }
        for (uint32_t f = 0; f < RSD_FORMATS; f++) {
            ck_assert_int_eq(rsd_dataset_batch_of(d, k, 1u << f, &b), RSD_OK);
            for (size_t s = 0; s < b->n; s++, m++) {
                ck_assert_uint_eq(b->formats[s], f);
                part[m] = digest(b, s);
            }
            size_t at = m - b->n; /* in the order of the batch */
            for (size_t s = 0; s < n; s++)
                if (formats[s] == f)
                    ck_assert_uint_eq(part[at++], whole[s]);
            ck_assert_uint_eq(at, m);
        }
        ck_assert_uint_eq(m, n);
    }
    rsd_dataset_close(d);
    world_close(&w);
}
END_TEST

START_TEST(demonstrations_show_the_teachers_reasoning_where_that_is_asked_for) {
    SKIP_WITHOUT_DATA();
    struct world w;
    struct corpus c;
    struct err e = {0};
    struct str out;
    str_init(&out, &mem_std);
    world_open(&w, 40, true); /* replies 0, 3, 6, ... are wrong */
    rsd_build_options o = world_options(&w);
    o.demos = RSD_DEMOS_TEACHER;
    o.keep = RSD_KEEP_ALL;
    world_build(&w, &o);
    ck_assert_msg(!corpus_open(&c, &mem_std, w.out, &e), "%s", e.text);
    struct shard_reply r;
    shard_peek(c.shard, c.first_reply[0], &r);
    ck_assert_int_eq(r.correct, 1); /* a wrong one came before it and is not shown */
    ck_assert_int_eq(r.sample, 1);
    ck_assert_int_eq(corpus_demo_text(&c, w.tok, RSD_FORMAT_IC_COT, 0, &out, &e), 0);
    ck_assert_msg(strstr(out.p, "Natalia sold 48/2 = 24 clips in May.\n") == NULL && strstr(out.p, "\nThe answer is 72\n\n"),
                  "%s", out.p); /* not the human's sentence */
    str_clear(&out);
    ck_assert_int_eq(corpus_demo_text(&c, w.tok, RSD_FORMAT_IC_COT, 2, &out, &e), 0); /* nobody but a human solved it */
    ck_assert_ptr_nonnull(strstr(out.p, "The answer is 5\n\n"));
    corpus_close(&c);
    str_free(&out);
    o.demos = 2;
    ck_assert_int_eq(rsd_dataset_build(w.ctx, &o, NULL), RSD_EINVAL);
    world_close(&w);
}
END_TEST

/* ---- memory ---- */

struct meter {
    size_t now, most;
};

static void *metered(void *user, void *p, size_t size) {
    struct meter *m = user;
    size_t *block = p ? (size_t *)p - 2 : NULL, before = block ? *block : 0;
    if (!size) {
        m->now -= before;
        free(block);
        return NULL;
    }
    block = realloc(block, size + 2 * sizeof *block);
    ck_assert_ptr_nonnull(block);
    *block = size;
    m->now += size - before;
    m->most = m->now > m->most ? m->now : m->most;
    return block + 2;
}

/* Bytes that reading three epochs takes at most. */
static size_t bytes_to_read(struct world *w, int32_t shots, uint64_t *tokens) {
    struct meter meter = {0, 0};
    rsd_ctx_options c;
    rsd_ctx *ctx;
    rsd_tokenizer *tok;
    rsd_dataset *d;
    const rsd_batch *b;
    rsd_build_options o = world_options(w);
    char out[600];
    snprintf(out, sizeof out, "%s-%d", w->out, (int)shots);
    o.out = out;
    o.shots = shots;
    world_build(w, &o);
    rsd_ctx_options_init(&c, sizeof c);
    c.resize = metered;
    c.resize_user = &meter;
    ck_assert_int_eq(rsd_ctx_open(&c, &ctx), RSD_OK);
    ck_assert_int_eq(rsd_tokenizer_open(ctx, test_data("tokenizer/spiece.model"), &tok), RSD_OK);
    size_t before = meter.now;
    meter.most = meter.now;
    rsd_dataset_options read = with_weights(1, 1, 1, 1, RSD_MIX_ITEMS);
    read.max_enc = 100000;
    ck_assert_msg(!rsd_dataset_open(ctx, out, tok, &read, &d), "%s", rsd_ctx_error(ctx));
    rsd_dataset_info i = info_of(d);
    *tokens = 0;
    for (int f = 0; f < RSD_FORMATS; f++)
        *tokens += i.inputs[f];
    for (uint64_t k = 0; k < 3 * i.batches; k++)
        ck_assert_int_eq(rsd_dataset_batch(d, k, &b), RSD_OK);
    rsd_dataset_close(d);
    size_t most = meter.most - before;
    rsd_tokenizer_close(tok);
    rsd_ctx_close(ctx);
    ck_assert_uint_eq(meter.now, 0);
    return most;
}

/* Inputs of 32 examples are four times as long as those of 8, and take no more room: no text is kept twice. */
START_TEST(memory_does_not_grow_with_the_number_of_examples) {
    SKIP_WITHOUT_DATA();
    struct world w;
    uint64_t tokens[2];
    world_open(&w, 300, false);
    size_t few = bytes_to_read(&w, 8, &tokens[0]), many = bytes_to_read(&w, 32, &tokens[1]);
    ck_assert_uint_gt(tokens[1], 3 * tokens[0]);
    size_t expanded = (size_t)(tokens[1] - tokens[0]) * sizeof(int32_t);
    ck_assert_msg(many < few + expanded / 20, "%zu bytes with 8 examples, %zu with 32, whose ids are %zu more", few, many,
                  expanded);
    world_close(&w);
}
END_TEST

Suite *data_mix_suite(void) {
    Suite *s = suite_create("data mix");
    TCase *t = tcase_create("mix");
    tcase_add_test(t, weights_are_shares_of_items_or_of_target_tokens);
    tcase_add_test(t, tokens_told_are_those_of_the_batches);
    tcase_add_test(t, formats_of_a_batch_add_up_to_it);
    tcase_add_test(t, demonstrations_show_the_teachers_reasoning_where_that_is_asked_for);
    tcase_add_test(t, memory_does_not_grow_with_the_number_of_examples);
    suite_add_tcase(s, t);
    return s;
}
