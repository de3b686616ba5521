/* Sampling, several outputs of an input, and everything that ends a sequence. Beam search itself is compared with Hugging Face's in
 * test_t5_golden.c. */
#include "test_t5.h"

#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 37, INPUTS = 9, MOST = 40, OUTPUTS = 5 };

struct output {
    int32_t ids[MOST];
    float logprobs[MOST];
    size_t n;
    int finish;
};

struct outputs {
    struct output of[INPUTS][OUTPUTS];
    size_t open, most_open;
};

struct scene {
    rsd_ctx *ctx;
    rsd_t5 *m;
    int32_t ids[INPUTS * 12];
    uint32_t offsets[INPUTS + 1];
    rsd_generate_options o;
    struct outputs out;
};

static int take(void *user, size_t input, size_t sample, int32_t id, float logprob, int finish) {
    struct outputs *all = user;
    ck_assert(input < INPUTS && sample < OUTPUTS);
    struct output *o = &all->of[input][sample];
    ck_assert_int_eq(o->finish, RSD_RUNNING);
    ck_assert_uint_lt(o->n, MOST);
    all->open += o->n == 0;
    all->most_open = all->open > all->most_open ? all->open : all->most_open;
    all->open -= finish != RSD_RUNNING;
    o->ids[o->n] = id;
    o->logprobs[o->n++] = logprob;
    o->finish = finish;
    return 0;
}

static void scene_open(struct scene *s, int mode) {
    struct rng r = rng_make(4, 4);
    memset(s, 0, sizeof *s);
    s->ctx = t5_ctx(2);
    s->m = t5_make(s->ctx, tiny_gated, 7);
    for (size_t i = 0; i < INPUTS; i++) {
        s->offsets[i + 1] = s->offsets[i] + 1 + (uint32_t)rng_below(&r, 12);
        for (size_t t = s->offsets[i]; t < s->offsets[i + 1]; t++)
            s->ids[t] = (int32_t)rng_below(&r, VOCAB);
    }
    OK(s->ctx, rsd_generate_options_init(&s->o, sizeof s->o));
    s->o.max_tokens = MOST;
    s->o.mode = mode;
}

static void scene_close(struct scene *s) {
    rsd_t5_close(s->m);
    rsd_ctx_close(s->ctx);
}

static struct outputs *run(struct scene *s) {
    memset(&s->out, 0, sizeof s->out);
    OK(s->ctx, rsd_t5_generate(s->m, s->ids, s->offsets, INPUTS, &s->o, take, &s->out));
    for (size_t i = 0; i < INPUTS; i++)
        for (size_t k = 0; k < OUTPUTS; k++)
            ck_assert_int_eq(s->out.of[i][k].finish != RSD_RUNNING, k < (size_t)s->o.n);
    ck_assert_uint_eq(s->out.open, 0);
    return &s->out;
}

static struct outputs *copy_of(const struct outputs *o) {
    struct outputs *c = malloc(sizeof *c);
    memcpy(c, o, sizeof *c);
    return c;
}

static bool same_output(const struct output *a, const struct output *b) {
    return a->n == b->n && a->finish == b->finish && !memcmp(a->ids, b->ids, a->n * sizeof *a->ids);
}

/* Log-probabilities of the vocabulary at each position of an output, by the forward pass. */
static float *forward_logprobs(struct scene *s, size_t input, const struct output *o) {
    uint32_t enc[2] = {0, s->offsets[input + 1] - s->offsets[input]}, dec[2] = {0, (uint32_t)o->n};
    rsd_batch b = {.size = sizeof b,
                   .n = 1,
                   .enc_ids = s->ids + s->offsets[input],
                   .enc_offsets = enc,
                   .dec_ids = o->ids,
                   .dec_offsets = dec};
    float *out = malloc(o->n * VOCAB * sizeof *out);
    OK(s->ctx, rsd_t5_forward(s->m, &b, RSD_INFER));
    OK(s->ctx, rsd_t5_logits(s->m, out, o->n * VOCAB));
    for (size_t t = 0; t < o->n; t++) {
        double sum = 0;
        for (size_t v = 0; v < VOCAB; v++)
            sum += exp((double)out[t * VOCAB + v]);
        for (size_t v = 0; v < VOCAB; v++)
            out[t * VOCAB + v] -= (float)log(sum);
    }
    return out;
}

START_TEST(samples_do_not_depend_on_what_else_is_in_flight) {
    static const int batches[] = {1, 3, 7, 16, 64};
    struct scene s;
    scene_open(&s, RSD_SAMPLE);
    s.o.n = OUTPUTS;
    s.o.temperature = 1.3;
    s.o.top_k = _i ? 9 : 0;
    s.o.top_p = _i ? 0.9 : 1;
    s.o.batch = 4;
    struct outputs *want = copy_of(run(&s));
    for (size_t k = 0; k < sizeof batches / sizeof *batches; k++) {
        s.o.batch = batches[k];
        struct outputs *got = run(&s);
        ck_assert_uint_le(got->most_open, (size_t)batches[k]);
        for (size_t i = 0; i < INPUTS; i++)
            for (size_t n = 0; n < OUTPUTS; n++) {
                ck_assert(same_output(&got->of[i][n], &want->of[i][n]));
                ck_assert_double_le(relative_error(got->of[i][n].logprobs, want->of[i][n].logprobs, got->of[i][n].n), 1e-5);
            }
    }
    /* the inputs from the fourth on, alone, under their numbers in the whole; fewer samples of each */
    struct outputs *part = &s.out;
    memset(part, 0, sizeof *part);
    s.o.first_input = 4;
    s.o.n = 2;
    uint32_t offsets[INPUTS];
    for (size_t i = 4; i <= INPUTS; i++)
        offsets[i - 4] = s.offsets[i] - s.offsets[4];
    OK(s.ctx, rsd_t5_generate(s.m, s.ids + s.offsets[4], offsets, INPUTS - 4, &s.o, take, part));
    for (size_t i = 4; i < INPUTS; i++)
        for (size_t n = 0; n < 2; n++)
            ck_assert(same_output(&part->of[i - 4][n], &want->of[i][n]));
    free(want);
    scene_close(&s);
}
END_TEST

START_TEST(samples_differ_by_seed_and_number) {
    struct scene s;
    scene_open(&s, RSD_SAMPLE);
    s.o.n = OUTPUTS;
    struct outputs *a = copy_of(run(&s));
    s.o.seed = 1; /* the context's, which is what 0 means */
    struct outputs *b = copy_of(run(&s));
    s.o.seed = 2;
    struct outputs *c = run(&s);
    size_t seeds = 0, numbers = 0;
    for (size_t i = 0; i < INPUTS; i++)
        for (size_t n = 0; n < OUTPUTS; n++) {
            ck_assert(same_output(&a->of[i][n], &b->of[i][n]));
            seeds += !same_output(&a->of[i][n], &c->of[i][n]);
            numbers += n && !same_output(&a->of[i][n], &a->of[i][0]);
        }
    ck_assert_uint_gt(seeds, INPUTS * OUTPUTS * 3 / 4);
    ck_assert_uint_gt(numbers, INPUTS * (OUTPUTS - 1) * 3 / 4);
    free(a);
    free(b);
    scene_close(&s);
}
END_TEST

/* Each token of a sample is one of the k most probable, its log-probability that of the whole distribution. */
START_TEST(samples_come_from_the_head_and_tell_the_model_s_probability) {
    struct scene s;
    size_t below_best = 0;
    scene_open(&s, RSD_SAMPLE);
    s.o.n = 2;
    s.o.top_k = 3;
    s.o.temperature = 2;
    run(&s);
    for (size_t i = 0; i < INPUTS; i++)
        for (size_t n = 0; n < 2; n++) {
            const struct output *o = &s.out.of[i][n];
            float *p = forward_logprobs(&s, i, o);
            for (size_t t = 0; t < o->n; t++) {
                const float *row = p + t * VOCAB;
                size_t better = 0;
                for (size_t v = 0; v < VOCAB; v++)
                    better += row[v] > row[o->ids[t]];
                ck_assert_uint_lt(better, 3);
                below_best += better > 0;
                ck_assert_double_le(fabs((double)row[o->ids[t]] - (double)o->logprobs[t]), 1e-4);
            }
            free(p);
        }
    ck_assert_uint_gt(below_best, 20);
    scene_close(&s);
}
END_TEST

START_TEST(a_narrow_distribution_is_greedy) {
    struct scene s;
    scene_open(&s, RSD_GREEDY);
    struct outputs *greedy = copy_of(run(&s));
    s.o.mode = RSD_SAMPLE;
    for (int k = 0; k < 3; k++) {
        s.o.top_k = k == 0 ? 1 : 0;
        s.o.top_p = k == 1 ? 1e-9 : 1;
        s.o.temperature = k == 2 ? 0.001 : 1;
        run(&s);
        for (size_t i = 0; i < INPUTS; i++)
            ck_assert(same_output(&s.out.of[i][0], &greedy->of[i][0]));
    }
    s.o.mode = RSD_BEAM;
    s.o.beams = 1;
    run(&s);
    for (size_t i = 0; i < INPUTS; i++)
        ck_assert(same_output(&s.out.of[i][0], &greedy->of[i][0]));
    free(greedy);
    scene_close(&s);
}
END_TEST

START_TEST(masked_ids_are_not_written_and_have_no_probability) {
    for (int mode = RSD_GREEDY; mode <= RSD_BEAM; mode++) {
        struct scene s;
        size_t above = 0;
        scene_open(&s, mode);
        run(&s);
        for (size_t i = 0; i < INPUTS; i++)
            for (size_t t = 0; t < s.out.of[i][0].n; t++)
                above += s.out.of[i][0].ids[t] >= 20;
        ck_assert_uint_gt(above, 0); /* or the mask would have nothing to do */
        s.o.vocab = 20;
        run(&s);
        for (size_t i = 0; i < INPUTS; i++) {
            const struct output *o = &s.out.of[i][0];
            float *p = forward_logprobs(&s, i, o);
            for (size_t t = 0; t < o->n; t++) {
                double sum = 0;
                for (size_t v = 0; v < 20; v++)
                    sum += exp((double)p[t * VOCAB + v]);
                ck_assert_int_lt(o->ids[t], 20);
                ck_assert_double_le(fabs((double)p[t * VOCAB + (size_t)o->ids[t]] - log(sum) - (double)o->logprobs[t]), 1e-4);
            }
            free(p);
        }
        scene_close(&s);
    }
}
END_TEST

/* ---- ends ---- */

struct stopper {
    size_t asked;
    int answer;
};

/* The second even id in a row, or what `answer` says. */
static int stop_after_two(void *user, size_t input, const int32_t *ids, size_t n) {
    struct stopper *s = user;
    ck_assert(input < INPUTS && n > 0 && ids[n - 1] != 1);
    s->asked++;
    if (s->answer)
        return s->answer;
    return n >= 2 && ids[n - 1] % 2 == 0 && ids[n - 2] % 2 == 0;
}

START_TEST(the_stop_function_ends_an_output) {
    for (int mode = RSD_GREEDY; mode <= RSD_BEAM; mode++) {
        struct scene s;
        struct stopper stop = {0};
        size_t ended = 0;
        scene_open(&s, mode);
        s.o.seed = 3;
        s.o.n = mode == RSD_GREEDY ? 1 : 3;
        s.o.stop = stop_after_two;
        s.o.stop_user = &stop;
        run(&s);
        for (size_t i = 0; i < INPUTS; i++)
            for (size_t k = 0; k < (size_t)s.o.n; k++) {
                const struct output *o = &s.out.of[i][k];
                size_t first = 0;
                for (size_t t = 1; t < o->n && !first; t++)
                    first = o->ids[t] % 2 == 0 && o->ids[t - 1] % 2 == 0 ? t + 1 : 0;
                ck_assert_int_eq(o->finish == RSD_FINISH_MATCH, first != 0);
                ck_assert(!first || first == o->n); /* at the first occurrence, not later */
                ended += first != 0;
            }
        ck_assert_uint_gt(ended, 0);
        stop = (struct stopper){.answer = 88};
        memset(&s.out, 0, sizeof s.out);
        ck_assert_int_eq(rsd_t5_generate(s.m, s.ids, s.offsets, INPUTS, &s.o, take, &s.out), 88);
        ck_assert_uint_eq(stop.asked, 1);
        scene_close(&s);
    }
}
END_TEST

static size_t copies(const int32_t *ids, size_t n, size_t block) {
    size_t k = 1;
    while ((k + 1) * block <= n && !memcmp(ids + n - block, ids + n - (k + 1) * block, block * sizeof *ids))
        k++;
    return k;
}

START_TEST(repetition_ends_an_output_where_it_is_complete) {
    struct scene s;
    size_t ended = 0, free_runs = 0;
    scene_open(&s, RSD_SAMPLE);
    s.o.n = OUTPUTS;
    s.o.top_k = 2;
    s.o.temperature = 0.3;
    for (int on = 0; on < 2; on++) {
        s.o.repeat_stop = on ? 3 : 0;
        s.o.repeat_span = 4;
        run(&s);
        for (size_t i = 0; i < INPUTS; i++)
            for (size_t k = 0; k < OUTPUTS; k++) {
                const struct output *o = &s.out.of[i][k];
                size_t first = 0;
                for (size_t n = 1; n <= o->n && !first; n++)
                    for (size_t block = 1; block <= 4; block++)
                        first = copies(o->ids, n, block) >= 3 ? n : first;
                if (on)
                    ck_assert_int_eq(o->finish == RSD_FINISH_REPEAT, first != 0);
                ck_assert(!on || !first || first == o->n);
                ended += on && first;
                free_runs += !on && first && first < o->n;
            }
    }
    ck_assert_uint_gt(ended, 3);
    ck_assert_uint_gt(free_runs, 3);
    scene_close(&s);
}
END_TEST

START_TEST(options_outside_their_range_are_named) {
    struct scene s;
    scene_open(&s, RSD_SAMPLE);
    const rsd_generate_options good = s.o;
#define REFUSED(part, ...)                                                                                                       \
    do {                                                                                                                         \
        s.o = good;                                                                                                              \
        __VA_ARGS__;                                                                                                             \
        FAILS(s.ctx, RSD_EINVAL, part, rsd_t5_generate(s.m, s.ids, s.offsets, INPUTS, &s.o, take, &s.out));                      \
    } while (0)
    REFUSED("mode", s.o.mode = 3);
    REFUSED("n is", s.o.n = 0);
    REFUSED("n is", s.o.n = 2, s.o.mode = RSD_GREEDY);
    REFUSED("n is", s.o.n = 5, s.o.mode = RSD_BEAM);
    REFUSED("temperature", s.o.temperature = 0);
    REFUSED("temperature", s.o.temperature = (double)NAN);
    REFUSED("top_p", s.o.top_p = 1.5);
    REFUSED("top_p", s.o.top_p = 0);
    REFUSED("top_k", s.o.top_k = -1);
    REFUSED("beams is", s.o.beams = 0);
    REFUSED("twice as many ids", s.o.beams = 19, s.o.mode = RSD_BEAM);
    REFUSED("twice as many ids", s.o.beams = 11, s.o.vocab = 20, s.o.mode = RSD_BEAM);
    REFUSED("early_stopping", s.o.early_stopping = 3);
    REFUSED("length_penalty", s.o.length_penalty = (double)INFINITY);
    REFUSED("repeat_stop", s.o.repeat_stop = 1);
    REFUSED("repeat_span", s.o.repeat_span = 0);
    REFUSED("vocab", s.o.vocab = VOCAB + 1);
    REFUSED("vocab", s.o.vocab = -1);
#undef REFUSED
    scene_close(&s);
}
END_TEST

/* A caller compiled before sampling and beams existed. */
START_TEST(a_short_options_struct_is_greedy) {
    struct scene s;
    scene_open(&s, RSD_GREEDY);
    struct outputs *want = copy_of(run(&s));
    s.o.size = offsetof(rsd_generate_options, mode);
    s.o.mode = 99; /* not its own memory, to such a caller */
    run(&s);
    ck_assert_mem_eq(want, &s.out, sizeof s.out);
    free(want);
    scene_close(&s);
}
END_TEST

START_TEST(generation_survives_every_failed_allocation) {
    struct scene s;
    scene_open(&s, RSD_GREEDY);
    for (size_t at = 1;; at++) {
        struct fail_alloc f;
        rsd_ctx *ctx = NULL;
        rsd_ctx_options o;
        rsd_t5 *m = NULL;
        rsd_ctx_options_init(&o, sizeof o);
        fail_alloc_init(&f, 0, false);
        o.resize = f.a.resize;
        o.resize_user = f.a.user;
        o.threads = 1;
        ck_assert_int_eq(rsd_ctx_open(&o, &ctx), RSD_OK);
        OK(ctx, rsd_t5_share(s.m, ctx, &m));
        f.fail_at = f.count + at;
        s.o.mode = _i;
        s.o.beams = 3;
        memset(&s.out, 0, sizeof s.out);
        int rc = rsd_t5_generate(m, s.ids, s.offsets, INPUTS, &s.o, take, &s.out);
        ck_assert_int_eq(rc, f.failed ? RSD_ENOMEM : RSD_OK);
        size_t failed = f.failed;
        rsd_t5_close(m);
        rsd_ctx_close(ctx);
        ck_assert_uint_eq(f.live, 0);
        if (!failed)
            break;
        ck_assert_uint_lt(at, 5000);
    }
    scene_close(&s);
}
END_TEST

TCase *t5_sample_case(void) {
    TCase *c = tcase_create("sample");
    tcase_add_loop_test(c, samples_do_not_depend_on_what_else_is_in_flight, 0, 2);
    tcase_add_test(c, samples_differ_by_seed_and_number);
    tcase_add_test(c, samples_come_from_the_head_and_tell_the_model_s_probability);
    tcase_add_test(c, a_narrow_distribution_is_greedy);
    tcase_add_test(c, masked_ids_are_not_written_and_have_no_probability);
    tcase_add_test(c, the_stop_function_ends_an_output);
    tcase_add_test(c, repetition_ends_an_output_where_it_is_complete);
    tcase_add_test(c, options_outside_their_range_are_named);
    tcase_add_test(c, a_short_options_struct_is_greedy);
    tcase_add_loop_test(c, generation_survives_every_failed_allocation, RSD_GREEDY, RSD_BEAM + 1);
    return c;
}
