#include "core/hash.h"
#include "core/rng.h"
#include "test_core.h"

#include <math.h>
#include <string.h>

/* kat_vectors of the Random123 distribution (D. E. Shaw Research), lines "philox4x32 10". */
START_TEST(philox_gives_the_published_answers) {
    static const struct {
        uint64_t seed, stream, index;
        uint32_t out[4];
    } known[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        philox(out, known[i].seed, known[i].stream, known[i].index);
        for (int w = 0; w < 4; w++)
            ck_assert_uint_eq(out[w], known[i].out[w]);
    }
}
END_TEST

START_TEST(generator_continues_from_its_three_integers) {
    struct rng a = rng_make(7, 3);
    for (int i = 0; i < 100; i++) {
        rng_u64(&a);
        rng_normal(&a);
        rng_uniform(&a);
    }
    ck_assert_uint_eq(a.index, 300); /* one block a draw: skipping ahead is setting the index */
    struct rng b = {7, 3, 300};
    ck_assert_uint_eq(rng_u64(&a), rng_u64(&b));
}
END_TEST

START_TEST(streams_and_seeds_differ) {
    struct rng a = rng_make(1, 0), b = rng_make(1, 1), c = rng_make(2, 0);
    uint64_t x = rng_u64(&a), y = rng_u64(&b), z = rng_u64(&c);
    ck_assert(x != y && y != z && x != z);
    ck_assert(rng_mix(1, 2) != rng_mix(2, 1) && rng_mix(0, 0) != rng_mix(0, 1) && rng_mix(0, 0) != 0);
}
END_TEST

/* 12 values, 120,000 draws: each count has mean 10,000 and standard deviation 96; 6 of them are 574. */
START_TEST(below_is_even_and_in_range) {
    struct rng r = rng_make(42, 0);
    size_t counts[12] = {0};
    for (size_t i = 0; i < 120000; i++) {
        uint64_t v = rng_below(&r, 12);
        ck_assert_uint_lt(v, 12);
        counts[v]++;
    }
    for (size_t i = 0; i < 12; i++)
        ck_assert(counts[i] > 10000 - 574 && counts[i] < 10000 + 574);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq(rng_below(&r, 1), 0);
    /* Where a plain product or remainder would be biased most: n = 3/4 of 2^64, the lower third would have half. */
    size_t low = 0;
    for (size_t i = 0; i < 30000; i++)
        low += rng_below(&r, UINT64_C(3) << 62) < UINT64_C(1) << 62;
    ck_assert(low > 10000 - 6 * 82 && low < 10000 + 6 * 82);
}
END_TEST

START_TEST(uniform_and_normal_have_their_moments) {
    struct rng r = rng_make(1, 2);
    const size_t n = 200000;
    double sum = 0, sum2 = 0, low = 1, high = 0, m1 = 0, m2 = 0, m3 = 0, m4 = 0;
    for (size_t i = 0; i < n; i++) {
        double u = rng_uniform(&r), z = rng_normal(&r);
        low = fmin(low, u);
        high = fmax(high, u);
        sum += u;
        sum2 += u * u;
        m1 += z;
        m2 += z * z;
        m3 += z * z * z;
        m4 += z * z * z * z;
    }
    double N = (double)n, sigma = 6 / sqrt(N); /* six standard errors, times the deviation of each term */
    ck_assert(low >= 0 && low < 1e-3 && high < 1 && high > 0.999);
    ck_assert_double_eq_tol(sum / N, 0.5, sigma * sqrt(1 / 12.0));
    ck_assert_double_eq_tol(sum2 / N, 1 / 3.0, sigma * 0.3);
    ck_assert_double_eq_tol(m1 / N, 0, sigma);
    ck_assert_double_eq_tol(m2 / N, 1, sigma * sqrt(2));
    ck_assert_double_eq_tol(m3 / N, 0, sigma * sqrt(15));
    ck_assert_double_eq_tol(m4 / N, 3, sigma * sqrt(96));
}
END_TEST

START_TEST(shuffle_is_a_permutation_and_even) {
    size_t first[4] = {0};
    struct rng r = rng_make(3, 0);
    for (size_t round = 0; round < 40000; round++) {
        size_t v[4] = {0, 1, 2, 3}, seen = 0;
        rng_shuffle(&r, v, 4);
        for (size_t i = 0; i < 4; i++)
            seen |= (size_t)1 << v[i];
        ck_assert_uint_eq(seen, 15);
        first[v[0]]++;
    }
    for (size_t i = 0; i < 4; i++) /* deviation 87 */
        ck_assert(first[i] > 10000 - 520 && first[i] < 10000 + 520);
    rng_shuffle(&r, NULL, 0);
}
END_TEST

static void hash_hex(const char *p, size_t n, size_t step, char hex[65]) {
    struct sha256 s;
    unsigned char d[32];
    sha256_begin(&s);
    for (size_t i = 0; i < n; i += step)
        sha256_add(&s, p + i, n - i < step ? n - i : step);
    sha256_end(&s, d);
    sha256_hex(d, hex);
}

/* FIPS 180-4 examples of NIST (abc, two blocks, a million a) and the empty message. */
START_TEST(sha256_gives_the_nist_answers) {
    static char a[1000000];
    memset(a, 'a', sizeof a);
    const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    char hex[65];
    hash_hex("", 0, 1, hex);
    ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_hex("abc", 3, 3, hex);
    ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_hex(two, 56, 56, hex);
    ck_assert_str_eq(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    /* small pieces go through the portable code, large ones through the CPU's instructions where it has them */
    static const size_t steps[] = {1, 38, 64, 299, 16383, 16384, 20011, sizeof a};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        hash_hex(a, sizeof a, steps[i], hex);
        ck_assert_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}
END_TEST

/* Every length around the padding's edges, whole against byte by byte. */
START_TEST(sha256_does_not_depend_on_the_pieces) {
    char p[200], whole[65], pieces[65], before[65] = "";
    for (size_t i = 0; i < sizeof p; i++)
        p[i] = (char)(i * 7);
    for (size_t n = 0; n <= sizeof p; n++) {
        hash_hex(p, n, n ? n : 1, whole);
        hash_hex(p, n, 1, pieces);
        ck_assert_str_eq(whole, pieces);
        ck_assert_str_ne(whole, before);
        memcpy(before, whole, sizeof before);
    }
}
END_TEST

static uint32_t crc_by_bits(const unsigned char *p, size_t n) {
    uint32_t c = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int b = 0; b < 8; b++)
            c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
    }
    return ~c;
}

START_TEST(crc32c_is_the_one_of_castagnoli) {
    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xE3069283u); /* the catalogue's check value */
    unsigned char zeros[32] = {0}, p[256 + 7];
    ck_assert_uint_eq(crc32c(0, zeros, 32), 0x8A9136AAu); /* RFC 3720, B.4 */
    for (size_t i = 0; i < sizeof p; i++)
        p[i] = (unsigned char)(i * 41 + (i >> 3));
    for (size_t n = 0; n <= sizeof p; n++) {
        ck_assert_uint_eq(crc32c(0, p, n), crc_by_bits(p, n));
        ck_assert_uint_eq(crc32c(crc32c(0, p, n / 3), p + n / 3, n - n / 3), crc_by_bits(p, n));
    }
}
END_TEST

Suite *core_rng_suite(void) {
    Suite *s = suite_create("core/rng");
    TCase *t = tcase_create("rng");
    tcase_add_test(t, philox_gives_the_published_answers);
    tcase_add_test(t, generator_continues_from_its_three_integers);
    tcase_add_test(t, streams_and_seeds_differ);
    tcase_add_test(t, below_is_even_and_in_range);
    tcase_add_test(t, uniform_and_normal_have_their_moments);
    tcase_add_test(t, shuffle_is_a_permutation_and_even);
    suite_add_tcase(s, t);
    t = tcase_create("hash");
    tcase_add_test(t, sha256_gives_the_nist_answers);
    tcase_add_test(t, sha256_does_not_depend_on_the_pieces);
    tcase_add_test(t, crc32c_is_the_one_of_castagnoli);
    suite_add_tcase(s, t);
    return s;
}
