/* The parts below the tokenizer: UTF-8, the wire format, the trie. */
#include "test_text.h"

#include "core/map.h"
#include "core/rng.h"
#include "text/trie.h"
#include "text/utf8.h"
#include "text/wire.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *bytes;
    size_t length;
    int32_t point;
} sequences[] = {
    {"a", 1, 'a'},
    {"\xc3\xa9", 2, 0xe9},
    {"\xe2\x96\x81", 3, 0x2581},
    {"\xf0\x9f\x98\x80", 4, 0x1f600},
    {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
    {"\xef\xbf\xbf", 3, 0xffff},
    {"\x80", 0, 0},
    {"\xc0\x80", 0, 0},         /* overlong */
    {"\xe0\x80\x80", 0, 0},     /* overlong */
    {"\xed\xa0\x80", 0, 0},     /* surrogate */
    {"\xf4\x90\x80\x80", 0, 0}, /* above U+10FFFF */
    {"\xe2\x96", 0, 0},         /* cut */
    {"\xff", 0, 0},
};

START_TEST(only_well_formed_characters_are_decoded) {
    int32_t point = 0;
    ck_assert_uint_eq(utf8_next(sequences[_i].bytes, strlen(sequences[_i].bytes), &point), sequences[_i].length);
    ck_assert_int_eq(point, sequences[_i].point);
}
END_TEST

START_TEST(characters_and_columns_are_counted) {
    ck_assert_uint_eq(utf8_count(text_of("a\xc3\xa9\xff\xe6\x97\xa5")), 4);
    ck_assert_uint_eq(utf8_columns(text_of("a\xc3\xa9\xff\xe6\x97\xa5")), 5);
    ck_assert_uint_eq(utf8_columns(text_of("e\xcc\x81")), 1);
    size_t bad = 0;
    ck_assert(utf8_valid(text_of("\xe2\x96\x81 ok"), NULL));
    ck_assert(!utf8_valid(text_of("ok \xe2\x96"), &bad));
    ck_assert_uint_eq(bad, 3);
}
END_TEST

static int read_all(struct text t, struct err *e) {
    struct wire w = {.in = t};
    struct wire_field f;
    int more = 0;
    while ((more = wire_next(&w, &f, e)) > 0) {
    }
    return more;
}

START_TEST(fields_are_read_with_their_offsets) {
    const char m[] = "\x08\x96\x01\x12\x03\x61\x62\x63\x1d\x00\x00\x80\xbf"; /* 1: 150, 2: "abc", 3: -1.0f */
    struct wire w = {.in = {m, sizeof m - 1}, .base = 100};
    struct wire_field f;
    struct err e = {0};
    ck_assert_int_eq(wire_next(&w, &f, &e), 1);
    ck_assert_uint_eq(f.value, 150);
    ck_assert_int_eq(wire_next(&w, &f, &e), 1);
    ck_assert(text_is(f.bytes, "abc"));
    ck_assert_uint_eq(f.offset, 103);
    ck_assert_uint_eq(f.inside, 105);
    ck_assert_int_eq(wire_next(&w, &f, &e), 1);
    ck_assert_float_eq(wire_float(&f), -1.0F);
    ck_assert_int_eq(wire_next(&w, &f, &e), 0);
}
END_TEST

static const struct {
    const char *bytes, *says;
} bad_wires[] = {
    {"\x08", "byte 1: the file ends inside a number"},
    {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "byte 1: a number of more than 64 bits"},
    {"\x12\x05\x61", "byte 0: field 2 wants 5 bytes, 1 are left"},
    {"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "byte 0: field 2 wants 18446744073709551615 bytes"},
    {"\x1d\x01\x02", "byte 1: the file ends inside a value of 4 bytes"},
    {"\x0b", "byte 0: wire type 3"},
    {"\x02", "byte 0: no valid field number"},
};

START_TEST(broken_wire_data_gives_the_byte) {
    struct err e = {0};
    ck_assert_int_eq(read_all(text_of(bad_wires[_i].bytes), &e), ERR_FORMAT);
    ck_assert_msg(!strncmp(e.text, bad_wires[_i].says, strlen(bad_wires[_i].says)), "%s", e.text);
}
END_TEST

/* Walks t over s from the root; -2 if there is no such path. */
static int32_t walk(const struct trie *t, struct text s) {
    uint64_t u = t->unit[0];
    for (size_t i = 0; i < s.n; i++) {
        u = trie_step(t, u, (unsigned char)s.p[i]);
        if (!u)
            return -2;
    }
    return trie_value(u);
}

START_TEST(the_trie_holds_its_keys_and_their_prefixes_only) {
    enum { KEYS = 3000 };
    struct rng r = rng_make(1, (uint64_t)_i);
    struct trie_key *keys = malloc(KEYS * sizeof *keys);
    struct map all, prefixes;
    struct str bytes;
    struct err e = {0};
    size_t n = 0;
    map_init(&all, &mem_std);
    map_init(&prefixes, &mem_std);
    str_init(&bytes, &mem_std);
    ck_assert_ptr_nonnull(str_reserve(&bytes, KEYS * 16)); /* keys point into it */
    const uint64_t letters = _i == 0 ? 3 : _i == 1 ? 26 : 256;
    while (n < KEYS / 2) {
        struct text key = {bytes.p + bytes.n, 1 + rng_below(&r, 12)};
        for (size_t i = 0; i < key.n; i++)
            str_addc(&bytes, (char)(unsigned char)(rng_below(&r, letters) + (letters < 256 ? 'a' : 0)));
        if (map_get(&all, key, NULL))
            continue;
        ck_assert_int_eq(map_put(&all, key, n, &e), 0);
        for (size_t i = 1; i <= key.n; i++)
            ck_assert_int_eq(map_put(&prefixes, (struct text){key.p, i}, 1, &e), 0);
        keys[n] = (struct trie_key){key, (int32_t)n};
        n++;
    }
    struct trie t;
    ck_assert_msg(!trie_build(&t, &mem_std, keys, n, &e), "%s", e.text);
    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(walk(&t, keys[i].key), keys[i].value);
    for (int round = 0; round < 20000; round++) {
        char s[8];
        struct text q = {s, 1 + rng_below(&r, 5)};
        for (size_t i = 0; i < q.n; i++)
            s[i] = (char)(unsigned char)(rng_below(&r, letters) + (letters < 256 ? 'a' : 0));
        size_t value = 0;
        int32_t want = map_get(&all, q, &value) ? (int32_t)value : map_get(&prefixes, q, NULL) ? -1 : -2;
        ck_assert_int_eq(walk(&t, q), want);
    }
    trie_free(&t);
    map_free(&all);
    map_free(&prefixes);
    str_free(&bytes);
    free(keys);
}
END_TEST

START_TEST(an_empty_trie_and_bad_keys_are_fine_or_refused) {
    struct err e = {0};
    struct trie t;
    ck_assert_int_eq(trie_build(&t, &mem_std, NULL, 0, &e), 0);
    for (int c = 0; c < 256; c++)
        ck_assert(!trie_step(&t, t.unit[0], (unsigned char)c));
    trie_free(&t);
    struct trie_key twice[] = {{text_of("a"), 0}, {text_of("a"), 1}};
    ck_assert_int_eq(trie_build(&t, &mem_std, twice, 2, &e), ERR_INVALID);
}
END_TEST

Suite *text_parts_suite(void) {
    Suite *s = suite_create("text parts");
    TCase *c = tcase_create("parts");
    tcase_add_loop_test(c, only_well_formed_characters_are_decoded, 0, (int)(sizeof sequences / sizeof *sequences));
    tcase_add_test(c, characters_and_columns_are_counted);
    tcase_add_test(c, fields_are_read_with_their_offsets);
    tcase_add_loop_test(c, broken_wire_data_gives_the_byte, 0, (int)(sizeof bad_wires / sizeof *bad_wires));
    tcase_add_loop_test(c, the_trie_holds_its_keys_and_their_prefixes_only, 0, 3);
    tcase_add_test(c, an_empty_trie_and_bad_keys_are_fine_or_refused);
    suite_add_tcase(s, c);
    return s;
}
