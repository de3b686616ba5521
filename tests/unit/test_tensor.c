/* Element types, arenas, and every rule of the safetensors format against hand-made files. */
#include "tensor/safetensors.h"
#include "util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- element types ---- */

static double f16_value(uint16_t h) {
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);
    return h & 0x8000 ? -v : v;
}

START_TEST(every_f16_survives_the_way_to_f32_and_back) {
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t h = (uint16_t)i, back = 0;
        float f = 0;
        dtype_convert(&f, DTYPE_F32, &h, DTYPE_F16, 1);
        dtype_convert(&back, DTYPE_F16, &f, DTYPE_F32, 1);
        double exact = f16_value(h);
        if (isnan(exact)) {
            ck_assert_float_nan(f);
            ck_assert(isnan(f16_value(back)));
        } else {
            ck_assert((double)f <= exact && (double)f >= exact);
            ck_assert_uint_eq(back, h);
            ck_assert_int_eq(signbit(f) != 0, h >> 15);
        }
    }
}
END_TEST

/* Between every two neighbours: the middle goes to the even one, what is beside it to the nearer one. */
START_TEST(f32_to_f16_rounds_to_nearest_even) {
    for (uint16_t h = 0; h < 0x7c00; h++) {
        double low = f16_value(h), high = h == 0x7bff ? 65536 : f16_value((uint16_t)(h + 1));
        float v[3] = {(float)((low + high) / 2), nextafterf((float)((low + high) / 2), 0),
                      nextafterf((float)((low + high) / 2), INFINITY)};
        uint16_t got[3];
        dtype_convert(got, DTYPE_F16, v, DTYPE_F32, 3);
        ck_assert_uint_eq(got[0], h % 2 ? h + 1 : h);
        ck_assert_uint_eq(got[1], h);
        ck_assert_uint_eq(got[2], h + 1);
    }
    float wild[4] = {1e9F, -INFINITY, NAN, -1e-30F};
    uint16_t got[4];
    dtype_convert(got, DTYPE_F16, wild, DTYPE_F32, 4);
    ck_assert_uint_eq(got[0], 0x7c00);
    ck_assert_uint_eq(got[1], 0xfc00);
    ck_assert(isnan(f16_value(got[2])));
    ck_assert_uint_eq(got[3], 0x8000);
}
END_TEST

START_TEST(bf16_rounds_to_nearest_even_and_keeps_nan) {
    static const uint32_t in[] = {0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x7f7fffff,
                                  0x7f800000, 0x7f800001, 0xff80ffff, 0x80000001};
    static const uint16_t want[] = {0x3f80, 0x3f82, 0x3f81, 0x3f80, 0x7f80, 0x7f80, 0x7fc0, 0xffc0, 0x8000};
    uint16_t got[9];
    uint32_t back[9];
    dtype_convert(got, DTYPE_BF16, in, DTYPE_F32, 9);
    dtype_convert(back, DTYPE_F32, got, DTYPE_BF16, 9);
    for (size_t i = 0; i < 9; i++) {
        ck_assert_uint_eq(got[i], want[i]);
        ck_assert_uint_eq(back[i], (uint32_t)want[i] << 16);
    }
}
END_TEST

START_TEST(conversion_takes_unaligned_data_of_any_length) {
    enum { N = 1500 };
    unsigned char src[4 * N + 1], dst[2 * N + 3], back[4 * N + 1];
    for (size_t i = 0; i < N; i++) {
        float v = (float)i - 700;
        memcpy(src + 1 + 4 * i, &v, 4);
    }
    dst[2 * N + 1] = 77;
    dtype_convert(dst + 1, DTYPE_F16, src + 1, DTYPE_F32, N);
    ck_assert_uint_eq(dst[2 * N + 1], 77);
    dtype_convert(back + 1, DTYPE_F32, dst + 1, DTYPE_F16, N);
    ck_assert_mem_eq(back + 1, src + 1, 4 * N);
    uint16_t direct[N], twice[N];
    dtype_convert(direct, DTYPE_BF16, dst + 1, DTYPE_F16, N);
    dtype_convert(twice, DTYPE_BF16, src + 1, DTYPE_F32, N);
    ck_assert_mem_eq(direct, twice, sizeof twice);
}
END_TEST

START_TEST(names_of_types_are_read_in_every_spelling) {
    static const char *const spellings[3][4] = {{"F32", "float32", "fp32", "torch.float32"},
                                                {"F16", "float16", "fp16", "half"},
                                                {"BF16", "bfloat16", "bf16", "torch.bfloat16"}};
    for (int t = 0; t < 3; t++) {
        for (size_t i = 0; i < 4; i++) {
            enum dtype got = DTYPE_F32;
            ck_assert_int_eq(dtype_parse(spellings[t][i], strlen(spellings[t][i]), &got), 0);
            ck_assert_int_eq((int)got, t);
        }
        ck_assert_str_eq(dtype_name((enum dtype)t), spellings[t][0]);
    }
    enum dtype got;
    ck_assert_int_eq(dtype_parse("I64", 3, &got), -1);
    ck_assert_int_eq(dtype_parse("F32", 2, &got), -1);
}
END_TEST

/* ---- views and arenas ---- */

START_TEST(views_point_into_their_matrix) {
    uint16_t v[30];
    struct mat m = mat_of(v, DTYPE_BF16, 5, 6), r = mat_rows(m, 2, 2), c = mat_cols(r, 1, 3);
    ck_assert_ptr_eq(r.data, v + 12);
    ck_assert_ptr_eq(c.data, v + 13);
    ck_assert_uint_eq(c.rows, 2);
    ck_assert_uint_eq(c.cols, 3);
    ck_assert_uint_eq(c.ld, 6);
    ck_assert_ptr_null(mat_rows(mat_of(NULL, DTYPE_F32, 5, 6), 2, 2).data);
}
END_TEST

START_TEST(an_arena_asks_nothing_after_its_first_round) {
    struct fail_alloc f;
    struct err e = {0};
    struct arena r;
    fail_alloc_init(&f, 0, false);
    arena_init(&r, &f.a);
    size_t after_first = 0;
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < 200; i++) {
            unsigned char *p = arena_take(&r, 1000 + i, 4, &e);
            ck_assert_ptr_nonnull(p);
            ck_assert_uint_eq((uintptr_t)p % 64, 0);
            memset(p, 1, 4 * (1000 + i));
        }
        arena_reset(&r);
        ck_assert_uint_eq(r.used, 0);
        if (round == 1) {
            after_first = f.count;
        }
    }
    ck_assert_uint_eq(f.count, after_first);
    ck_assert_uint_ge(r.peak, 200 * 4000);
    arena_free(&r);
    ck_assert_uint_eq(f.live, 0);
}
END_TEST

/* Steps differ: memory of the first rounds serves all that follow. */
START_TEST(an_arena_keeps_its_blocks_for_rounds_of_other_sizes) {
    struct fail_alloc f;
    struct err e = {0};
    struct arena r;
    fail_alloc_init(&f, 0, false);
    arena_init(&r, &f.a);
    size_t after_two = 0;
    for (size_t round = 0; round < 8; round++) {
        for (size_t i = 0; i < 60; i++) {
            ck_assert_ptr_nonnull(arena_take(&r, round % 2 ? 30000 : 20000 + 100 * (i % 7), 4, &e));
        }
        arena_reset(&r);
        if (round == 1) {
            after_two = f.count;
        }
    }
    ck_assert_uint_eq(f.count, after_two);
    arena_free(&r);
    ck_assert_uint_eq(f.live, 0);
}
END_TEST

START_TEST(what_is_taken_after_a_mark_is_given_back_and_the_rest_stays) {
    struct err e = {0};
    struct arena r;
    arena_init(&r, &mem_std);
    struct arena_mark empty = arena_mark(&r);
    unsigned char *keep = arena_take(&r, 100, 1, &e);
    memset(keep, 7, 100);
    struct arena_mark m = arena_mark(&r);
    unsigned char *first = NULL;
    for (int round = 0; round < 3; round++) {
        unsigned char *p = arena_take(&r, 50, 1, &e), *big = arena_take(&r, 1 << 20, 1, &e);
        memset(p, round, 50);
        memset(big, round, 1 << 20);
        first = first ? first : p;
        ck_assert_ptr_eq(p, first);
        arena_release(&r, m);
        ck_assert_uint_eq(r.used, 128);
    }
    for (size_t i = 0; i < 100; i++) {
        ck_assert_uint_eq(keep[i], 7);
    }
    arena_release(&r, empty);
    ck_assert_uint_eq(r.used, 0);
    ck_assert_ptr_eq(arena_take(&r, 8, 1, &e), keep);
    arena_free(&r);
}
END_TEST

START_TEST(lent_memory_is_taken_first_and_given_back_untouched_from_then_on) {
    struct err e = {0};
    struct fail_alloc f;
    struct arena r;
    unsigned char room[4096];
    fail_alloc_init(&f, 0, false);
    arena_init(&r, &f.a);
    for (int round = 0; round < 4; round++) {
        ck_assert_ptr_nonnull(arena_take(&r, 100, 1, &e));
        struct arena_mark m = arena_mark(&r);
        memset(room, 1, sizeof room);
        arena_lend(&r, room + 5, sizeof room - 10);
        size_t used = r.used, asked = f.count;
        for (size_t i = 0; i < 10; i++) {
            unsigned char *p = arena_take(&r, 300, 1, &e);
            ck_assert(p >= room + 5 && p + 300 <= room + sizeof room - 5);
            ck_assert_uint_eq((uintptr_t)p % 64, 0);
            memset(p, 2, 300);
        }
        ck_assert_uint_eq(r.used, used);
        ck_assert_uint_eq(f.count, asked);
        unsigned char *beyond = arena_take(&r, 2000, 1, &e);
        ck_assert(beyond < room || beyond >= room + sizeof room);
        for (size_t i = 0; i < 5; i++) {
            ck_assert(room[i] == 1 && room[sizeof room - 1 - i] == 1);
        }
        if (round % 2) {
            arena_release(&r, m);
        } else {
            arena_reset(&r);
        }
        memset(room, 3, sizeof room); /* nobody reads it */
        for (size_t i = 0; i < 20; i++) {
            unsigned char *p = arena_take(&r, 3000, 1, &e);
            ck_assert(p + 3000 <= room || p >= room + sizeof room);
        }
        arena_reset(&r);
    }
    arena_lend(&r, room, 63); /* too little to be of use */
    unsigned char *p = arena_take(&r, 1, 1, &e);
    ck_assert(p < room || p >= room + sizeof room);
    arena_lend(&r, room, sizeof room);
    arena_free(&r);
    ck_assert_uint_eq(f.live, 0);
}
END_TEST

START_TEST(an_arena_reports_what_does_not_fit) {
    struct err e = {0};
    struct arena r;
    arena_init(&r, &mem_std);
    ck_assert_ptr_null(arena_take(&r, SIZE_MAX, 2, &e));
    ck_assert_int_eq(e.code, ERR_NOMEM);
    err_clear(&e);
    ck_assert_ptr_null(arena_take(&r, SIZE_MAX - 10, 1, &e));
    ck_assert_int_eq(e.code, ERR_NOMEM);
    err_clear(&e);
    ck_assert_ptr_null(arena_mat(&r, DTYPE_F32, SIZE_MAX / 2, 3, &e).data);
    ck_assert_int_eq(e.code, ERR_NOMEM);
    for (size_t i = 1; i <= 2; i++) {
        struct fail_alloc f;
        fail_alloc_init(&f, i, false);
        r.a = &f.a;
        err_clear(&e);
        ck_assert_ptr_null(arena_take(&r, 10, 1, &e));
        ck_assert_int_eq(e.code, ERR_NOMEM);
        ck_assert_ptr_nonnull(arena_take(&r, 10, 1, &e));
        arena_free(&r);
        ck_assert_uint_eq(f.live, 0);
    }
}
END_TEST

/* ---- safetensors ---- */

static const char *make_file(const char *header, size_t n_header, size_t n_data) {
    static unsigned char bytes[4096];
    const char *path = test_path(test_dir(), "x.safetensors");
    memset(bytes, 0, sizeof bytes);
    for (size_t i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)((uint64_t)n_header >> (8 * i));
    }
    memcpy(bytes + 8, header, strlen(header));
    for (size_t i = 0; i < n_data; i++) {
        bytes[8 + strlen(header) + i] = (unsigned char)i;
    }
    test_write(path, bytes, 8 + strlen(header) + n_data);
    return path;
}

#define ENTRY(type, shape, from, to) "{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

/* header, bytes of data, and a part of the message */
static const struct {
    const char *header;
    size_t data;
    const char *says;
} hostile[] = {
    {"", 0, "does not begin with {"},
    {" {}", 0, "does not begin with {"},
    {"[]", 0, "does not begin with {"},
    {"{", 0, "header (8 bytes into the file)"},
    {"{} x", 0, "header (8 bytes into the file)"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) ",\"a\":" ENTRY("F32", "[1]", 4, 8) "}", 8, "header (8 bytes"},
    {"{\"a\":1}", 0, "tensor \"a\": expected an object, found a number"},
    {"{\"a\":{}}", 0, "tensor \"a\": "},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"},
    {"{\"a\":" ENTRY("F33", "[1]", 0, 4) "}", 4, "not a type of the format"},
    {"{\"a\":" ENTRY("F32\\u0000", "[1]", 0, 4) "}", 4, "not a type of the format"},
    {"{\"a\":" ENTRY("F32", "[-1]", 0, 4) "}", 4, "dimension 0 is not a whole number"},
    {"{\"a\":" ENTRY("F32", "[1.5]", 0, 4) "}", 4, "dimension 0 is not a whole number"},
    {"{\"a\":" ENTRY("F32", "[1,\"1\"]", 0, 4) "}", 4, "dimension 1 is not a whole number"},
    {"{\"a\":" ENTRY("F32", "[1e300]", 0, 4) "}", 4, "dimension 0 is not a whole number"},
    {"{\"a\":" ENTRY("F32", "[4503599627370496,4503599627370496]", 0, 4) "}", 4, "product of the dimensions overflows"},
    {"{\"a\":" ENTRY("F32", "[1152921504606846976,1]", 0, 4) "}", 4, "tensor \"a\": shape"},
    {"{\"a\":" ENTRY("F64", "[9007199254740992,512]", 0, 4) "}", 4, "data_offsets: 4 bytes, but"},
    {"{\"a\":" ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "more than 8 dimensions"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "expected [begin, end]"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "expected [begin, end]"},
    {"{\"a\":" ENTRY("F32", "[1]", -4, 0) "}", 4, "expected [begin, end]"},
    {"{\"a\":" ENTRY("F32", "[1]", 4, 0) "}", 4, "expected [begin, end]"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 1e17) "}", 4, "expected [begin, end]"},
    {"{\"a\":" ENTRY("F32", "[2]", 0, 8) "}", 4, "ends at byte 8, the data has 4: truncated"},
    {"{\"a\":" ENTRY("F32", "[2]", 0, 4) "}", 4, "4 bytes, but 2 elements of type F32"},
    {"{\"a\":" ENTRY("F4", "[3]", 0, 1) "}", 1, "1 bytes, but 3 elements of type F4"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) ",\"b\":" ENTRY("F32", "[1]", 0, 4) "}", 4,
     "begins at byte 0 of the data, expected 4: two tensors overlap"},
    {"{\"a\":" ENTRY("F32", "[2]", 0, 8) ",\"b\":" ENTRY("F32", "[2]", 4, 12) "}", 12,
     "tensor \"b\": begins at byte 4 of the data, expected 8"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) ",\"b\":" ENTRY("F32", "[1]", 8, 12) "}", 12, "a hole between tensors"},
    {"{\"a\":" ENTRY("F32", "[1]", 4, 8) "}", 8, "a hole between tensors"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) "}", 8, "8 bytes of data, but the tensors end at 4"},
    {"{}", 1, "1 bytes of data, but the tensors end at 0"},
    {"{\"__metadata__\":[]}", 0, "__metadata__: expected an object"},
    {"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__: \"k\" is a number, expected a string"},
    {"{\"a\\u0000b\":" ENTRY("F32", "[1]", 0, 4) "}", 4, "U+0000 in a name"},
    {"{\"a\\nb\":1}", 0, "tensor \"a?b\": "},
};

START_TEST(every_broken_rule_is_an_error_that_names_it) {
    struct safetensors s;
    struct err e = {0};
    const char *path = make_file(hostile[_i].header, strlen(hostile[_i].header), hostile[_i].data);
    int code = safetensors_open(&s, &mem_std, path, &e);
    ck_assert_msg(code == ERR_FORMAT || code == ERR_UNSUPPORTED, "%s: code %d", hostile[_i].header, code);
    ck_assert_msg(strstr(e.text, hostile[_i].says) != NULL, "%s: says \"%s\", not \"%s\"", hostile[_i].header, e.text,
                  hostile[_i].says);
    ck_assert_msg(strncmp(e.text, path, strlen(path)) == 0, "does not begin with the path: %s", e.text);
    ck_assert_ptr_null(strchr(e.text, '\n'));
    ck_assert_ptr_null(safetensors_find(&s, "a"));
    safetensors_close(&s);
}
END_TEST

START_TEST(a_header_length_beyond_the_file_or_the_cap_is_an_error) {
    static const uint64_t lengths[] = {3, 100000000, 100000001, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < 6; i++) {
        struct safetensors s;
        struct err e = {0};
        const char *path = make_file("{}", lengths[i], 0);
        ck_assert_int_eq(safetensors_open(&s, &mem_std, path, &e), ERR_FORMAT);
        ck_assert_ptr_nonnull(strstr(e.text, lengths[i] <= 100000000 ? "truncated" : "at most 100000000"));
    }
    struct safetensors s;
    struct err e = {0};
    ck_assert_int_eq(safetensors_open(&s, &mem_std, "/nonexistent/x", &e), ERR_NOTFOUND);
    safetensors_close(&s);
}
END_TEST

START_TEST(well_formed_files_are_read_in_the_order_of_their_data) {
    const char *header = "{\"b\":" ENTRY("BF16", "[3]", 4, 10) ",\"__metadata__\":{\"format\":\"pt\",\"\":\"x\"},\"a\":" ENTRY(
        "F32", "[]", 0, 4) ",\"none\":" ENTRY("F32", "[0,5]", 4, 4) ",\"i\":" ENTRY("I64", "[1]", 10,
                                                                                    18) ",\"f4\":" ENTRY("F4", "[2]", 18,
                                                                                                         19) "}   ";
    struct safetensors s;
    struct err e = {0};
    const char *path = make_file(header, strlen(header), 19);
    ck_assert_msg(safetensors_open(&s, &mem_std, path, &e) == 0, "%s", e.text);
    static const char *const order[] = {"a", "none", "b", "i", "f4"};
    ck_assert_uint_eq(s.n, 5);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_str_eq(s.tensors[i].name, order[i]);
        ck_assert_ptr_eq(safetensors_find(&s, order[i]), &s.tensors[i]);
    }
    const struct safetensor *a = safetensors_find(&s, "a"), *b = safetensors_find(&s, "b"), *none = safetensors_find(&s, "none");
    ck_assert(a->known && a->dtype == DTYPE_F32 && a->ndim == 0 && a->count == 1 && a->bytes == 4);
    ck_assert(b->known && b->dtype == DTYPE_BF16 && b->ndim == 1 && b->shape[0] == 3 && b->bytes == 6);
    ck_assert(none->count == 0 && none->bytes == 0 && none->ndim == 2 && none->shape[1] == 5);
    ck_assert(!safetensors_find(&s, "i")->known);
    ck_assert_str_eq(safetensors_find(&s, "i")->dtype_text, "I64");
    ck_assert_uint_eq(b->data[0], 4);
    ck_assert(text_is(safetensors_metadata(&s, "format"), "pt"));
    ck_assert_uint_eq(safetensors_metadata(&s, "other").n, 0);
    ck_assert_ptr_null(safetensors_find(&s, "__metadata__"));
    b->data[0] = 99; /* private pages */
    safetensors_close(&s);
    size_t n = 0;
    char *bytes = test_read(path, &n);
    ck_assert_int_eq(bytes[8 + strlen(header) + 4], 4);
    free(bytes);
}
END_TEST

static const float values[] = {1, -2.5F, 3e-5F, 65504, 0.1F, -0.0F};

static int write_sample(const struct allocator *a, const char *path, struct err *e) {
    static const size_t s6[] = {6}, s23[] = {2, 3}, s0[] = {0, 4};
    const struct text meta[] = {text_of("format"), text_of("pt"), text_of("quote\"key"), text_of("line\nfeed")};
    const struct safetensors_item items[] = {
        {"half", DTYPE_F16, 1, s6, values, DTYPE_F32},         {"encoder.\xc3\xa9", DTYPE_F32, 2, s23, values, DTYPE_F32},
        {"brain", DTYPE_BF16, 2, s23, values, DTYPE_F32},      {"empty", DTYPE_F32, 2, s0, NULL, DTYPE_F32},
        {"scalar", DTYPE_F32, 0, NULL, values + 1, DTYPE_F32},
    };
    return safetensors_write(a, path, items, 5, meta, 2, e);
}

START_TEST(what_is_written_is_read_back) {
    struct safetensors s;
    struct err e = {0};
    const char *path = test_path(test_dir(), "w.safetensors");
    ck_assert_msg(write_sample(&mem_std, path, &e) == 0, "%s", e.text);
    ck_assert_msg(safetensors_open(&s, &mem_std, path, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(s.n, 5);
    const struct safetensor *f = safetensors_find(&s, "encoder.\xc3\xa9"), *h = safetensors_find(&s, "half"),
                            *b = safetensors_find(&s, "brain");
    ck_assert(f->ndim == 2 && f->shape[0] == 2 && f->shape[1] == 3);
    ck_assert_mem_eq(f->data, values, sizeof values);
    float wide[6];
    dtype_convert(wide, DTYPE_F32, h->data, DTYPE_F16, 6);
    for (size_t i = 0; i < 6; i++) {
        ck_assert_float_le(fabsf(wide[i] - values[i]), fabsf(values[i]) * 0x1p-11F + 0x1p-25F);
    }
    dtype_convert(wide, DTYPE_F32, b->data, DTYPE_BF16, 6);
    for (size_t i = 0; i < 6; i++) {
        ck_assert_float_le(fabsf(wide[i] - values[i]), fabsf(values[i]) * 0x1p-8F);
    }
    for (size_t i = 0; i < s.n; i++) {
        ck_assert_uint_eq((uintptr_t)s.tensors[i].data % dtype_size(s.tensors[i].dtype), 0);
    }
    ck_assert_uint_eq((size_t)(s.tensors[0].data - (unsigned char *)s.map.p) % 8, 0);
    ck_assert(text_is(safetensors_metadata(&s, "quote\"key"), "line\nfeed"));
    safetensors_close(&s);
}
END_TEST

START_TEST(large_tensors_are_converted_in_chunks) {
    enum { N = 20001 };
    static float big[N];
    static uint16_t half[N];
    struct safetensors s;
    struct err e = {0};
    for (size_t i = 0; i < N; i++) {
        big[i] = (float)i;
    }
    dtype_convert(half, DTYPE_BF16, big, DTYPE_F32, N);
    const char *path = test_path(test_dir(), "big.safetensors");
    size_t shape[] = {3, N / 3};
    struct safetensors_item items[] = {{"down", DTYPE_BF16, 2, shape, big, DTYPE_F32},
                                       {"up", DTYPE_F32, 2, shape, half, DTYPE_BF16}};
    ck_assert_int_eq(safetensors_write(&mem_std, path, items, 2, NULL, 0, &e), 0);
    ck_assert_int_eq(safetensors_open(&s, &mem_std, path, &e), 0);
    ck_assert_mem_eq(safetensors_find(&s, "down")->data, half, sizeof half);
    const float *up = (const float *)(const void *)safetensors_find(&s, "up")->data;
    for (size_t i = 0; i < N; i++) {
        ck_assert_float_le(fabsf(up[i] - big[i]), big[i] * 0x1p-8F);
    }
    safetensors_close(&s);
}
END_TEST

START_TEST(what_cannot_be_written_leaves_no_file) {
    size_t one[] = {1}, huge[] = {(size_t)1 << 40, (size_t)1 << 40}, many[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    const struct safetensors_item bad[][2] = {
        {{"a", DTYPE_F32, 1, one, values, DTYPE_F32}, {"a", DTYPE_F16, 1, one, values, DTYPE_F32}},
        {{"a", DTYPE_F32, 1, one, values, DTYPE_F32}, {"__metadata__", DTYPE_F32, 1, one, values, DTYPE_F32}},
        {{"a", DTYPE_F32, 1, one, values, DTYPE_F32}, {"b", DTYPE_F32, 2, huge, values, DTYPE_F32}},
        {{"a", DTYPE_F32, 1, one, values, DTYPE_F32}, {"b", DTYPE_F32, 9, many, values, DTYPE_F32}},
    };
    const char *dir = test_dir(), *path = test_path(dir, "bad.safetensors");
    for (size_t i = 0; i < 4; i++) {
        struct err e = {0};
        ck_assert_int_eq(safetensors_write(&mem_std, path, bad[i], 2, NULL, 0, &e), ERR_INVALID);
        ck_assert_ptr_nonnull(strstr(e.text, bad[i][1].name));
        ck_assert_ptr_nonnull(strstr(e.text, path));
    }
    char **names = NULL;
    size_t n = 1;
    ck_assert_int_eq(dir_names(&mem_std, dir, &names, &n, NULL), 0);
    ck_assert_uint_eq(n, 0);
    dir_names_free(&mem_std, names, n);
}
END_TEST

START_TEST(truncation_at_every_offset_is_an_error) {
    struct err e = {0};
    size_t n = 0;
    const char *dir = test_dir(), *path = test_path(dir, "w.safetensors"), *cut = test_path(dir, "cut.safetensors");
    ck_assert_int_eq(write_sample(&mem_std, path, &e), 0);
    char *bytes = test_read(path, &n);
    for (size_t i = 0; i < n; i++) {
        struct safetensors s;
        test_write(cut, bytes, i);
        err_clear(&e);
        ck_assert_msg(safetensors_open(&s, &mem_std, cut, &e) == ERR_FORMAT, "%zu of %zu bytes are accepted", i, n);
        ck_assert_ptr_nonnull(strstr(e.text, cut));
    }
    free(bytes);
}
END_TEST

/* Any byte changed to any of some values: a clean error, or tensors that lie inside the file. */
START_TEST(damage_at_every_offset_never_leads_outside) {
    static const unsigned char to[] = {0, '0', '9', '"', ',', '}', '-', 0xff};
    struct err e = {0};
    size_t n = 0;
    const char *dir = test_dir(), *path = test_path(dir, "w.safetensors"), *bad = test_path(dir, "bad.safetensors");
    ck_assert_int_eq(write_sample(&mem_std, path, &e), 0);
    char *bytes = test_read(path, &n);
    for (size_t i = 0; i < n; i++) {
        char old = bytes[i];
        bytes[i] = (char)to[i % sizeof to];
        struct safetensors s;
        test_write(bad, bytes, n);
        if (safetensors_open(&s, &mem_std, bad, &e) == 0) {
            unsigned sum = 0;
            for (size_t k = 0; k < s.n; k++) {
                for (size_t b = 0; b < s.tensors[k].bytes; b++) {
                    sum += s.tensors[k].data[b];
                }
            }
            ck_assert_uint_lt(sum, 1U << 20);
        }
        safetensors_close(&s);
        bytes[i] = old;
    }
    free(bytes);
}
END_TEST

START_TEST(every_failed_allocation_is_reported_and_nothing_leaks) {
    struct err e = {0};
    const char *dir = test_dir(), *path = test_path(dir, "w.safetensors"), *good = test_path(dir, "good.safetensors");
    ck_assert_int_eq(write_sample(&mem_std, good, &e), 0);
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        for (size_t i = 1;; i++) {
            struct fail_alloc f;
            fail_alloc_init(&f, i, for_ever);
            err_clear(&e);
            int code = write_sample(&f.a, path, &e);
            ck_assert_uint_eq(f.live, 0);
            if (!f.failed) {
                ck_assert_int_eq(code, 0);
                break;
            }
            ck_assert_int_eq(code, ERR_NOMEM);
            ck_assert(!file_exists(path));
        }
        file_replace(&mem_std, path, "", 0, &e);
        for (size_t i = 1;; i++) {
            struct fail_alloc f;
            struct safetensors s;
            fail_alloc_init(&f, i, for_ever);
            err_clear(&e);
            int code = safetensors_open(&s, &f.a, good, &e);
            safetensors_close(&s);
            ck_assert_uint_eq(f.live, 0);
            if (!f.failed) {
                ck_assert_int_eq(code, 0);
                break;
            }
            ck_assert_int_eq(code, ERR_NOMEM);
        }
        remove(path);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("tensor");
    TCase *t = tcase_create("types, views, arenas");
    tcase_add_test(t, every_f16_survives_the_way_to_f32_and_back);
    tcase_add_test(t, f32_to_f16_rounds_to_nearest_even);
    tcase_add_test(t, bf16_rounds_to_nearest_even_and_keeps_nan);
    tcase_add_test(t, conversion_takes_unaligned_data_of_any_length);
    tcase_add_test(t, names_of_types_are_read_in_every_spelling);
    tcase_add_test(t, views_point_into_their_matrix);
    tcase_add_test(t, an_arena_asks_nothing_after_its_first_round);
    tcase_add_test(t, an_arena_keeps_its_blocks_for_rounds_of_other_sizes);
    tcase_add_test(t, what_is_taken_after_a_mark_is_given_back_and_the_rest_stays);
    tcase_add_test(t, lent_memory_is_taken_first_and_given_back_untouched_from_then_on);
    tcase_add_test(t, an_arena_reports_what_does_not_fit);
    suite_add_tcase(s, t);
    TCase *f = tcase_create("safetensors");
    tcase_add_loop_test(f, every_broken_rule_is_an_error_that_names_it, 0, (int)(sizeof hostile / sizeof *hostile));
    tcase_add_test(f, a_header_length_beyond_the_file_or_the_cap_is_an_error);
    tcase_add_test(f, well_formed_files_are_read_in_the_order_of_their_data);
    tcase_add_test(f, what_is_written_is_read_back);
    tcase_add_test(f, large_tensors_are_converted_in_chunks);
    tcase_add_test(f, what_cannot_be_written_leaves_no_file);
    tcase_add_test(f, truncation_at_every_offset_is_an_error);
    tcase_add_test(f, damage_at_every_offset_never_leads_outside);
    tcase_add_test(f, every_failed_allocation_is_reported_and_nothing_leaks);
    suite_add_tcase(s, f);
    return test_run(srunner_create(s));
}
