/* Data sets while they are read: texts, order, batches. */
#include "test_data.h"

#include "core/hash.h"
#include "core/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts ---- */

START_TEST(texts_are_those_of_the_reference) {
    SKIP_WITHOUT_DATA();
    struct world w;
    struct lines l;
    struct text line;
    size_t compared = 0;
    world_open(&w, 40, false);
    world_build(&w, NULL);
    rsd_dataset *d = world_dataset(&w, NULL);
    ck_assert_int_eq(lines_open(&l, &mem_std, test_data("teacher/reference_samples.jsonl"), 1 << 20, NULL), 0);
    while (lines_next(&l, &line, NULL) == 1) {
        static const struct {
            const char *name;
            int format;
        } formats[] = {{"zero_shot_answer_only-0", RSD_FORMAT_ZS_AO},
                       {"zero_shot_chain_of_thought-0", RSD_FORMAT_ZS_COT},
                       {"in_context_answer_only-0", RSD_FORMAT_IC_AO},
                       {"in_context_chain_of_thought-0", RSD_FORMAT_IC_COT}};
        struct json *doc = NULL;
        ck_assert_int_eq(json_parse(line.p, line.n, &doc, NULL), 0);
        for (size_t f = 0; f < 4; f++) {
            if (!text_is(json_text(json_get(doc, "id")), formats[f].name))
                continue;
            struct text input, target, want = json_text(json_get(doc, "question"));
            ck_assert_int_eq(rsd_dataset_text(d, formats[f].format, 0, &input.p, &input.n, &target.p, &target.n), RSD_OK);
            ck_assert_msg(text_eq(target, json_text(json_get(doc, "answer"))), "%s", target.p);
            /* examples differ, as theirs were drawn: their number and what stands around them do not */
            size_t blocks[2] = {0, 0}, last[2] = {0, 0};
            struct text side[2] = {input, want};
            for (size_t k = 0; k < 2; k++)
                for (size_t i = 0; i + 2 < side[k].n; i++)
                    if (!memcmp(side[k].p + i, "\n\nQ", 3)) {
                        blocks[k]++;
                        last[k] = i + 2;
                    }
            ck_assert_uint_eq(blocks[0], blocks[1]);
            ck_assert_uint_eq(blocks[0], formats[f].format >= RSD_FORMAT_IC_AO ? 4 : 0);
            ck_assert(
                text_eq((struct text){input.p + last[0], input.n - last[0]}, (struct text){want.p + last[1], want.n - last[1]}));
            compared++;
        }
        json_free(doc);
    }
    ck_assert_uint_eq(compared, 4);
    lines_close(&l);
    rsd_dataset_close(d);
    world_close(&w);
}
END_TEST

/* Solved examples: what the templates of issue and reference say, calculator marks gone. */
START_TEST(examples_follow_the_templates) {
    SKIP_WITHOUT_DATA();
    struct world w;
    struct corpus c;
    struct err e = {0};
    struct str out;
    str_init(&out, &mem_std);
    world_open(&w, 40, false);
    world_build(&w, NULL);
    ck_assert_int_eq(corpus_open(&c, &mem_std, w.out, &e), 0);
    ck_assert_int_eq(corpus_demo_text(&c, w.tok, RSD_FORMAT_IC_AO, 1, &out, &e), 0);
    struct question q = questions_get(&c.questions, 1);
    ck_assert(!memcmp(out.p, "Q: ", 3) && !memcmp(out.p + 3, q.question.p, q.question.n));
    ck_assert_str_eq(out.p + 3 + q.question.n, "\nA: The answer is 10\n\n");
    str_clear(&out);
    ck_assert_int_eq(corpus_demo_text(&c, w.tok, RSD_FORMAT_IC_COT, 1, &out, &e), 0);
    ck_assert_str_eq(out.p + 3 + q.question.n,
                     "\nLet's think step by step\nWeng earns 12/60 = $0.2 per minute.\nWorking 50 minutes, she earned 0.2 "
                     "x 50 = $10.\nThe answer is 10\n\n");
    /* without a human solution the first kept reply is shown, once with its answer */
    const char *lines = "{\"id\":\"gsm8k_train-0\",\"question\":\"Clips?\",\"answer\":\"72\"}\n{\"id\":\"gsm8k_train-1\","
                        "\"question\":\"Pay?\",\"answer\":\"10\"}\n";
    test_write(w.questions, lines, strlen(lines));
    corpus_close(&c);
    rsd_build_options o = world_options(&w);
    char other[520];
    snprintf(other, sizeof other, "%s2", w.out);
    o.out = other;
    o.shots = 1;
    world_build(&w, &o);
    ck_assert_msg(!corpus_open(&c, &mem_std, other, &e), "%s", e.text);
    str_clear(&out);
    ck_assert_int_eq(corpus_demo_text(&c, w.tok, RSD_FORMAT_IC_COT, 0, &out, &e), 0);
    ck_assert_str_eq(out.p, "Q: Clips?\nLet's think step by step\nIf Natalia sold 48 clips in April, she sold 48/2 = 24 clips in "
                            "May.\nIn total, Natalia sold 48 + "
                            "24 = 72 clips in April and May.\nThe answer is 72\n\n");
    corpus_close(&c);
    str_free(&out);
    world_close(&w);
}
END_TEST

/* Few questions, among them one asked twice under two ids: the own text is never shown, nor one text twice. */
START_TEST(examples_never_contain_the_question) {
    SKIP_WITHOUT_DATA();
    struct world w;
    struct corpus c;
    struct err e = {0};
    struct str lines;
    str_init(&lines, &mem_std);
    world_open(&w, 1, false);
    for (int i = 0; i < 8; i++)
        str_addf(&lines,
                 "{\"id\":\"gsm8k_train-%d\",\"question\":\"How  many%s %d?\",\"answer\":\"%d\",\"rationale\":\"It is %d.\"}\n",
                 i, i >= 6 ? " " : "", i % 6, i, i);
    test_write(w.questions, lines.p, lines.n);
    world_build(&w, NULL);
    ck_assert_msg(!corpus_open(&c, &mem_std, w.out, &e), "%s", e.text);
    ck_assert_uint_eq(c.n_texts[1], 6);
    size_t seen[8] = {0};
    for (uint64_t epoch = 0; epoch < 200; epoch++)
        for (size_t q = 0; q < 8; q++)
            for (int f = RSD_FORMAT_IC_AO; f <= RSD_FORMAT_IC_COT; f++) {
                uint32_t demos[RECIPE_SHOTS_MAX], again[RECIPE_SHOTS_MAX];
                corpus_demos(&c, f, q, q, epoch, demos);
                corpus_demos(&c, f, q, q, epoch, again);
                ck_assert_mem_eq(demos, again, 4 * sizeof *demos);
                for (size_t i = 0; i < 4; i++) {
                    ck_assert_uint_ne(c.twin[demos[i]], c.twin[q]);
                    for (size_t k = 0; k < i; k++)
                        ck_assert_uint_ne(c.twin[demos[i]], c.twin[demos[k]]);
                    seen[demos[i]]++;
                }
            }
    for (size_t q = 0; q < 8; q++)
        ck_assert_uint_gt(seen[q], 100); /* each has its turn */
    corpus_close(&c);
    str_free(&lines);
    world_close(&w);
}
END_TEST

/* Whom a question is shown: those of its own task, of all where that has not enough. The task is said by the lines, or by the files
 * of a folder; a held-out question that is left out does not mix them up. */
START_TEST(examples_are_of_the_questions_own_task) {
    static const char *const task[] = {"add", "sort", "few"};
    for (int folder = 0; folder < 2; folder++) {
        rsd_ctx *ctx;
        struct corpus c;
        struct err e = {0};
        struct str lines[4];
        const char *dir = test_dir(), *questions = test_path(dir, "questions"), *held = test_path(dir, "held.jsonl");
        ck_assert_int_eq(rsd_ctx_open(NULL, &ctx), RSD_OK);
        ck_assert(!folder || !dir_make(questions, &e));
        for (size_t t = 0; t < 4; t++)
            str_init(&lines[t], &mem_std);
        for (int i = 0; i < 23; i++) { /* two of the last task are not enough for two examples */
            size_t t = i >= 21 ? 2 : (size_t)i % 2;
            str_addf(&lines[folder ? t : 3], "{\"id\":\"%s-%d\",%s%s%s\"question\":\"What %d?\",\"answer\":\"%d\"}\n", task[t], i,
                     folder ? "" : "\"task\":\"", folder ? "" : task[t], folder ? "" : "\",", i, i);
        }
        for (size_t t = 0; t < 3 && folder; t++)
            test_write(test_path(questions, (const char *const[]){"b.jsonl", "c.jsonl", "a.jsonl"}[t]), lines[t].p, lines[t].n);
        if (!folder)
            test_write(questions, lines[3].p, lines[3].n);
        const char item[] = "{\"id\":\"h\",\"question\":\"What 0?\",\"answer\":\"0\"}\n";
        test_write(held, item, strlen(item));
        rsd_build_options o;
        rsd_build_options_init(&o, sizeof o);
        o.questions = questions;
        o.out = test_path(dir, "DATA");
        o.formats = 1u << RSD_FORMAT_IC_AO;
        o.shots = 2;
        o.hold_out = &held;
        o.n_hold_out = 1;
        o.drop_held_out = 1;
        ck_assert_msg(!rsd_dataset_build(ctx, &o, NULL), "%s", rsd_ctx_error(ctx));
        ck_assert_msg(!corpus_open(&c, &mem_std, o.out, &e), "%s", e.text);
        ck_assert_uint_eq(c.questions.n, 22);
        size_t other = 0;
        for (uint64_t epoch = 0; epoch < 50; epoch++)
            for (size_t q = 0; q < c.questions.n; q++) {
                uint32_t demos[RECIPE_SHOTS_MAX];
                char own = *questions_get(&c.questions, q).id.p;
                corpus_demos(&c, RSD_FORMAT_IC_AO, q, q, epoch, demos);
                for (size_t i = 0; i < 2; i++) {
                    ck_assert_uint_ne(demos[i], q);
                    if (own == 'f')
                        other += *questions_get(&c.questions, demos[i]).id.p != 'f';
                    else
                        ck_assert_int_eq(*questions_get(&c.questions, demos[i]).id.p, own);
                }
            }
        ck_assert_uint_gt(other, 100);
        corpus_close(&c);
        for (size_t t = 0; t < 4; t++)
            str_free(&lines[t]);
        rsd_ctx_close(ctx);
    }
}
END_TEST

/* Parts laid end to end are the pieces of the whole text. */
START_TEST(parts_make_the_pieces_of_the_whole) {
    SKIP_WITHOUT_DATA();
    struct world w;
    struct corpus c;
    struct parts p;
    struct err e = {0};
    struct str text;
    world_open(&w, 600, false);
    world_build(&w, NULL);
    str_init(&text, &mem_std);
    ck_assert_msg(!corpus_open(&c, &mem_std, w.out, &e), "%s", e.text);
    parts_init(&p, w.ctx, w.tok, &c);
    ck_assert(!p.whole);
    for (int f = 0; f < RSD_FORMATS; f++)
        for (size_t i = 0; i < (f & 1 ? 35 : c.questions.n); i++) {
            struct ids ids = {.a = &mem_std};
            const int32_t *want;
            size_t n, m;
            struct item item = {f, i, i % 3};
            ck_assert_int_eq(parts_input(&p, item, &ids, &n, &e), 0);
            str_clear(&text);
            ck_assert_int_eq(parts_input_text(&p, item, &text, &e), 0);
            ck_assert_int_eq(rsd_tokenizer_encode(w.tok, text.p, text.n, &want, &m), RSD_OK);
            ck_assert_uint_eq(n, m);
            ck_assert_uint_eq(ids.n, m);
            ck_assert_mem_eq(ids.p, want, m * sizeof *want);
            ids.n = 0;
            p.whole = true; /* as for vocabularies with pieces across blanks */
            ck_assert_int_eq(parts_input(&p, item, &ids, &n, &e), 0);
            p.whole = false;
            ck_assert_uint_eq(n, m);
            ck_assert_uint_eq(ids.n, m);
            mem_free(&mem_std, ids.p);
        }
    parts_free(&p);
    corpus_close(&c);
    str_free(&text);
    world_close(&w);
}
END_TEST

/* ---- batches ---- */

static void hash_batch(const rsd_batch *b, unsigned char out[32]) {
    struct sha256 s;
    size_t T = b->dec_offsets[b->n];
    sha256_begin(&s);
    sha256_add(&s, b->enc_offsets, (b->n + 1) * sizeof *b->enc_offsets);
    sha256_add(&s, b->dec_offsets, (b->n + 1) * sizeof *b->dec_offsets);
    sha256_add(&s, b->enc_ids, b->enc_offsets[b->n] * sizeof *b->enc_ids);
    sha256_add(&s, b->dec_ids, T * sizeof *b->dec_ids);
    sha256_add(&s, b->row_offsets, (T + 1) * sizeof *b->row_offsets);
    sha256_add(&s, b->row_ids, b->row_offsets[T] * sizeof *b->row_ids);
    sha256_add(&s, b->row_probs, b->row_offsets[T] * sizeof *b->row_probs);
    sha256_add(&s, b->kinds, T);
    sha256_add(&s, b->formats, b->n);
    sha256_add(&s, b->signs, b->n);
    sha256_end(&s, out);
}

static void check_batch(const rsd_batch *b, const rsd_tokenizer *tok, uint64_t budget) {
    size_t T = b->dec_offsets[b->n], all = T + b->enc_offsets[b->n];
    int32_t eos = rsd_tokenizer_eos(tok);
    ck_assert(b->n == 1 || all <= budget);
    ck_assert(b->enc_offsets[0] == 0 && b->dec_offsets[0] == 0 && b->row_offsets[0] == 0);
    for (size_t s = 0; s < b->n; s++) {
        ck_assert(b->enc_offsets[s] < b->enc_offsets[s + 1] && b->dec_offsets[s] < b->dec_offsets[s + 1]);
        ck_assert_int_eq(b->enc_ids[b->enc_offsets[s + 1] - 1], eos);
        ck_assert_int_eq(b->dec_ids[b->dec_offsets[s + 1] - 1], eos);
    }
    for (size_t t = 0; t < T; t++) {
        float sum = 0;
        bool own = false;
        for (size_t i = b->row_offsets[t]; i < b->row_offsets[t + 1]; i++) {
            sum += b->row_probs[i];
            own |= b->row_ids[i] == b->dec_ids[t];
        }
        ck_assert(own && sum > 0 && sum <= 1);
        ck_assert(b->kinds[t] <= RSD_KIND_HARD);
    }
}

static rsd_dataset_options all_formats(uint64_t budget) {
    rsd_dataset_options o;
    rsd_dataset_options_init(&o, sizeof o);
    o.batch_tokens = budget;
    o.max_enc = 4096;
    return o;
}

enum { BATCHES = 60 };

START_TEST(any_batch_can_be_the_first) {
    SKIP_WITHOUT_DATA();
    struct world w;
    unsigned char want[BATCHES][32], got[32];
    const rsd_batch *b;
    world_open(&w, 60, true);
    rsd_build_options build = world_options(&w);
    build.keep = RSD_KEEP_ALL;
    world_build(&w, &build);
    rsd_dataset_options o = all_formats(3000);
    rsd_dataset *d = world_dataset(&w, &o);
    rsd_dataset_info info = {.size = sizeof info};
    rsd_dataset_info_get(d, &info);
    ck_assert_uint_lt(info.batches, BATCHES / 2); /* more than two epochs are looked at */
    for (uint64_t i = 0; i < BATCHES; i++) {
        ck_assert_int_eq(rsd_dataset_batch(d, i, &b), RSD_OK);
        check_batch(b, w.tok, o.batch_tokens);
        hash_batch(b, want[i]);
        for (uint64_t k = 0; k < i; k++)
            ck_assert(memcmp(want[i], want[k], 32) != 0);
    }
    rsd_dataset_close(d);
    for (uint64_t i = 0; i < BATCHES; i += 7) { /* a new handle, started anywhere, and back to the start */
        d = world_dataset(&w, &o);
        ck_assert_int_eq(rsd_dataset_batch(d, i, &b), RSD_OK);
        hash_batch(b, got);
        ck_assert_mem_eq(got, want[i], 32);
        ck_assert_int_eq(rsd_dataset_batch(d, 0, &b), RSD_OK);
        hash_batch(b, got);
        ck_assert_mem_eq(got, want[0], 32);
        rsd_dataset_close(d);
    }
    /* another seed is another order; ranks share the batches out */
    o.seed = 2;
    d = world_dataset(&w, &o);
    ck_assert_int_eq(rsd_dataset_batch(d, 0, &b), RSD_OK);
    hash_batch(b, got);
    ck_assert(memcmp(got, want[0], 32) != 0);
    rsd_dataset_close(d);
    o.seed = 1;
    o.world = 3;
    for (o.rank = 0; o.rank < 3; o.rank++) {
        d = world_dataset(&w, &o);
        for (uint64_t i = 0; i < BATCHES / 3; i++) {
            ck_assert_int_eq(rsd_dataset_batch(d, i, &b), RSD_OK);
            hash_batch(b, got);
            ck_assert_mem_eq(got, want[3 * i + o.rank], 32);
        }
        rsd_dataset_close(d);
    }
    world_close(&w);
}
END_TEST

/* Counts what the plan draws; also what the batches hold, by the share of each format. */
START_TEST(epochs_cover_every_item) {
    SKIP_WITHOUT_DATA();
    struct world w;
    struct corpus c;
    struct parts p;
    struct err e = {0};
    world_open(&w, 90, false);
    world_build(&w, NULL);
    ck_assert_msg(!corpus_open(&c, &mem_std, w.out, &e), "%s", e.text);
    parts_init(&p, w.ctx, w.tok, &c);
    for (int mixed = 0; mixed < 2; mixed++) {
        struct plan_options o = {.seed = 1, .batch_tokens = 2000, .max_enc = 9999, .max_dec = 9999};
        o.weights[RSD_FORMAT_ZS_COT] = mixed ? 0.5 : 1;
        o.weights[RSD_FORMAT_ZS_AO] = mixed ? 0.25 : 0;
        o.weights[RSD_FORMAT_IC_AO] = mixed ? 0.25 : 0;
        struct plan plan = {.a = &mem_std};
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            size_t seen[RSD_FORMATS][90] = {{0}};
            ck_assert_msg(!plan_make(&plan, &p, &o, epoch, &e), "%s", e.text);
            ck_assert_uint_eq(plan.batches[0], 0);
            ck_assert_uint_eq(plan.batches[plan.n_batches], plan.n_draws);
            for (size_t k = 0; k < plan.n_draws; k++)
                seen[plan.draws[k].format][plan.draws[k].number]++;
            if (!mixed) {
                ck_assert_uint_eq(plan.n_draws, 35);
                for (size_t i = 0; i < 35; i++)
                    ck_assert_uint_eq(seen[RSD_FORMAT_ZS_COT][i], 1);
                continue;
            }
            /* 90 questions at a quarter each: 360 draws, 180 of them replies, each five or six times */
            ck_assert_uint_eq(plan.n_draws, 360);
            ck_assert_uint_eq(plan.items[RSD_FORMAT_ZS_COT], 180);
            for (size_t i = 0; i < 90; i++)
                ck_assert(seen[RSD_FORMAT_ZS_AO][i] == 1 && seen[RSD_FORMAT_IC_AO][i] == 1);
            for (size_t i = 0; i < 35; i++)
                ck_assert(seen[RSD_FORMAT_ZS_COT][i] == 5 || seen[RSD_FORMAT_ZS_COT][i] == 6);
        }
        plan_free(&plan);
    }
    parts_free(&p);
    corpus_close(&c);
    world_close(&w);
}
END_TEST

START_TEST(soft_rows_are_the_shards) {
    SKIP_WITHOUT_DATA();
    struct world w;
    const rsd_batch *b;
    world_open(&w, 40, true);
    rsd_build_options build = world_options(&w);
    build.keep = RSD_KEEP_ALL;
    world_build(&w, &build);
    for (int soft = 0; soft < 2; soft++) {
        rsd_dataset_options o = all_formats(1u << 20);
        o.weights[RSD_FORMAT_ZS_COT] = 1;
        o.soft = soft;
        rsd_dataset *d = world_dataset(&w, &o);
        ck_assert_int_eq(rsd_dataset_batch(d, 0, &b), RSD_OK);
        ck_assert_uint_eq(b->n, 35);
        size_t T = b->dec_offsets[b->n], hard = 0, wrong = 0;
        for (size_t t = 0; t < T; t++)
            hard += b->kinds[t] == RSD_KIND_HARD && b->row_offsets[t + 1] - b->row_offsets[t] == 1 &&
                    b->row_probs[b->row_offsets[t]] >= 1;
        for (size_t s = 0; s < b->n; s++)
            wrong += b->signs[s] < 0;
        ck_assert_uint_eq(T, 1541 + 35);
        ck_assert_uint_eq(wrong, 12);
        if (soft)
            ck_assert_uint_le(hard, 35 + 16); /* end tokens, and at most 1 % */
        else
            ck_assert_uint_eq(hard, T);
        rsd_dataset_close(d);
    }
    world_close(&w);
}
END_TEST

/* Chunks lie in their sequences and add up to what the shard says; sorted rows fall; answers have neither. */
START_TEST(batches_carry_chunks_and_sorted_probabilities) {
    SKIP_WITHOUT_DATA();
    struct world w;
    const rsd_batch *b;
    world_open(&w, 40, false);
    world_build(&w, NULL);
    for (int soft = 0; soft < 2; soft++) {
        rsd_dataset_options o = all_formats(1u << 20);
        o.weights[RSD_FORMAT_ZS_COT] = 1;
        o.weights[RSD_FORMAT_ZS_AO] = soft ? 1 : 0;
        o.soft = soft;
        rsd_dataset *d = world_dataset(&w, &o);
        ck_assert_int_eq(rsd_dataset_batch(d, 0, &b), RSD_OK);
        if (!soft) {
            ck_assert(!b->n_chunks && !b->chunk_begin && !b->top_k && !b->top_probs);
            rsd_dataset_close(d);
            continue;
        }
        ck_assert_uint_eq(b->top_k, 6);
        size_t T = b->dec_offsets[b->n], rows = 0, s = 0, inside = 0, replies = 0;
        for (size_t c = 0; c < b->n_chunks; c++) {
            ck_assert_uint_lt(b->chunk_begin[c], b->chunk_end[c]);
            ck_assert_uint_ge(b->chunk_begin[c], c ? b->chunk_end[c - 1] : 0);
            ck_assert(b->chunk_logprobs[c] <= 0);
            while (b->dec_offsets[s + 1] <= b->chunk_begin[c])
                s++;
            ck_assert_uint_lt(b->chunk_end[c], b->dec_offsets[s + 1]); /* never the end token */
            ck_assert_uint_eq(b->formats[s], RSD_FORMAT_ZS_COT);
            inside += b->chunk_end[c] - b->chunk_begin[c];
        }
        for (s = 0; s < b->n; s++) {
            bool reply = b->formats[s] == RSD_FORMAT_ZS_COT;
            replies += reply ? b->dec_offsets[s + 1] - b->dec_offsets[s] : 0;
            for (size_t t = b->dec_offsets[s]; t < b->dec_offsets[s + 1]; t++) {
                const float *p = b->top_probs + t * b->top_k;
                double sum = (double)p[0];
                for (size_t k = 1; k < b->top_k; k++) {
                    ck_assert(p[k] >= 0 && p[k] <= p[k - 1]);
                    sum += (double)p[k];
                }
                ck_assert_double_le(sum, 1 + 1e-6);
                ck_assert(reply || p[0] <= 0);
                ck_assert(b->kinds[t] != RSD_KIND_CONT || p[0] <= 0);
                rows += p[0] > 0;
            }
        }
        ck_assert_msg(inside * 10 > replies * 9 && rows * 4 > replies * 3 && T > replies, "%zu and %zu of %zu", inside, rows,
                      replies);
        rsd_dataset_close(d);
    }
    world_close(&w);
}
END_TEST

START_TEST(batches_weigh_positions_by_the_kinds_of_the_aligner) {
    SKIP_WITHOUT_DATA();
    struct world w;
    const rsd_batch *b;
    rsd_aligner *a = NULL;
    rsd_aligner_options o;
    world_open(&w, 40, false);
    rsd_aligner_options_init(&o, sizeof o);
    o.kind_weights[RSD_KIND_BLANK] = 0.5;
    o.kind_weights[RSD_KIND_HARD] = 0.25;
    ck_assert_int_eq(rsd_aligner_open(w.ctx, w.tok, &o, &a), RSD_OK);
    ck_assert_int_eq(rsd_aligner_file(a, w.replies, w.aligned, 0, NULL), RSD_OK);
    rsd_aligner_close(a);
    world_build(&w, NULL);
    for (int soft = 0; soft < 2; soft++) {
        size_t halves = 0;
        rsd_dataset_options d = all_formats(1u << 20);
        d.weights[RSD_FORMAT_ZS_COT] = d.weights[RSD_FORMAT_ZS_AO] = 1;
        d.soft = soft;
        rsd_dataset *set = world_dataset(&w, &d);
        ck_assert_int_eq(rsd_dataset_batch(set, 0, &b), RSD_OK);
        ck_assert(soft == (b->weights != NULL));
        for (size_t s = 0; s < b->n && soft; s++)
            for (size_t t = b->dec_offsets[s]; t < b->dec_offsets[s + 1]; t++) {
                bool ends = t + 1 == b->dec_offsets[s + 1] || b->formats[s] == RSD_FORMAT_ZS_AO;
                double want = ends ? 1 : b->kinds[t] == RSD_KIND_BLANK ? 0.5 : b->kinds[t] == RSD_KIND_HARD ? 0.25 : 1;
                ck_assert(fabs((double)b->weights[t] - want) < 1e-9);
                halves += b->weights[t] < 1;
            }
        ck_assert(!soft || halves > 50);
        rsd_dataset_close(set);
    }
    world_close(&w);
}
END_TEST

/* An older shard, as one without chunks is: batches as they were. */
START_TEST(shards_without_chunks_make_batches_without) {
    SKIP_WITHOUT_DATA();
    struct world w;
    const rsd_batch *b;
    struct shard *in;
    struct shard_out *out;
    struct err e = {0};
    struct shard_buffer buffer = {.a = &mem_std};
    char old[520];
    world_open(&w, 40, false);
    snprintf(old, sizeof old, "%s2", w.aligned);
    ck_assert_int_eq(shard_open(&in, &mem_std, w.aligned, &e), 0);
    ck_assert(shard_about(in)->chunks);
    ck_assert_int_eq(shard_begin(&out, &mem_std, old, shard_about(in)->tokenizer, shard_about(in)->vocab, false, &e), 0);
    for (size_t i = 0; i < shard_replies(in); i++) {
        struct shard_reply r;
        ck_assert_int_eq(shard_get(in, i, &buffer, &r, &e), 0);
        ck_assert_int_eq(shard_add(out, &r, &e), 0);
    }
    ck_assert_int_eq(shard_commit(out, shard_about(in), &e), 0);
    shard_buffer_free(&buffer);
    shard_close(in);
    rsd_build_options build = world_options(&w);
    build.aligned = old;
    world_build(&w, &build);
    rsd_dataset_options o = all_formats(1u << 20);
    o.weights[RSD_FORMAT_ZS_COT] = 1;
    rsd_dataset *d = world_dataset(&w, &o);
    ck_assert_int_eq(rsd_dataset_batch(d, 0, &b), RSD_OK);
    ck_assert(!b->n_chunks && !b->chunk_begin && !b->top_k && !b->top_probs);
    for (size_t t = 0; t < b->dec_offsets[b->n]; t++)
        ck_assert_uint_le(b->kinds[t], RSD_KIND_HARD);
    rsd_dataset_close(d);
    world_close(&w);
}
END_TEST

START_TEST(long_items_are_left_out_and_counted) {
    SKIP_WITHOUT_DATA();
    struct world w;
    rsd_dataset *d;
    rsd_dataset_info info = {.size = sizeof info};
    world_open(&w, 40, false);
    world_build(&w, NULL);
    rsd_dataset_options o = all_formats(4096);
    o.weights[RSD_FORMAT_ZS_COT] = 1;
    o.max_dec = 40;
    d = world_dataset(&w, &o);
    rsd_dataset_info_get(d, &info);
    ck_assert_uint_gt(info.left_out, 0);
    ck_assert_uint_eq(info.left_out + info.items[RSD_FORMAT_ZS_COT], 35);
    rsd_dataset_close(d);
    o.max_dec = 2;
    ck_assert_int_eq(rsd_dataset_open(w.ctx, w.out, w.tok, &o, &d), RSD_EINVAL);
    ck_assert_msg(strstr(rsd_ctx_error(w.ctx), "max_dec") != NULL, "%s", rsd_ctx_error(w.ctx));
    world_close(&w);
}
END_TEST

/* Every allocation fails once: an error, nothing leaked, and the next try works. */
START_TEST(out_of_memory_leaves_no_trace) {
    SKIP_WITHOUT_DATA();
    struct world w;
    world_open(&w, 12, false);
    world_build(&w, NULL);
    size_t before = w.memory.live, i = 1;
    rsd_dataset_options o = all_formats(2000);
    for (;; i++) {
        rsd_dataset *d = NULL;
        const rsd_batch *b;
        w.memory.count = w.memory.failed = 0;
        w.memory.fail_at = i;
        int code = rsd_dataset_open(w.ctx, w.out, w.tok, &o, &d);
        code = code ? code : rsd_dataset_batch(d, 3, &b);
        rsd_dataset_close(d);
        bool over = !w.memory.failed;
        ck_assert_int_eq(code, over ? RSD_OK : RSD_ENOMEM);
        if (over)
            break;
    }
    w.memory.fail_at = 0;
    ck_assert_uint_gt(i, 20);
    ck_assert_uint_le(w.memory.live, before + 8); /* the tokenizer's own buffers may have grown */
    world_close(&w);
}
END_TEST

Suite *data_dataset_suite(void) {
    Suite *s = suite_create("data set");
    TCase *t = tcase_create("dataset");
    tcase_add_test(t, texts_are_those_of_the_reference);
    tcase_add_test(t, examples_follow_the_templates);
    tcase_add_test(t, examples_never_contain_the_question);
    tcase_add_test(t, examples_are_of_the_questions_own_task);
    tcase_add_test(t, parts_make_the_pieces_of_the_whole);
    tcase_add_test(t, any_batch_can_be_the_first);
    tcase_add_test(t, epochs_cover_every_item);
    tcase_add_test(t, soft_rows_are_the_shards);
    tcase_add_test(t, batches_carry_chunks_and_sorted_probabilities);
    tcase_add_test(t, batches_weigh_positions_by_the_kinds_of_the_aligner);
    tcase_add_test(t, shards_without_chunks_make_batches_without);
    tcase_add_test(t, long_items_are_left_out_and_counted);
    tcase_add_test(t, out_of_memory_leaves_no_trace);
    suite_add_tcase(s, t);
    return s;
}
