/* SHA-256 as FIPS 180-4 writes it, and CRC-32C eight bytes at a time (Kounavis, Berry, "Novel table lookup-based algorithms for
 * high-performance CRC generation", 2008). A CRC is linear over XOR, so the tables are spelled out from the images of the
 * eight single bits of a byte; the 64 images are successive steps of the reflected polynomial 82F63B78. */
#include "core/hash.h"
#include "core/hash_inner.h"

#include <string.h>

/* cube roots of the first 64 primes, fraction */
const uint32_t sha256_k[64] = {
    0x428A2F98u, 0x71374491u, 0xB5C0FBCFu, 0xE9B5DBA5u, 0x3956C25Bu, 0x59F111F1u, 0x923F82A4u, 0xAB1C5ED5u,
    0xD807AA98u, 0x12835B01u, 0x243185BEu, 0x550C7DC3u, 0x72BE5D74u, 0x80DEB1FEu, 0x9BDC06A7u, 0xC19BF174u,
    0xE49B69C1u, 0xEFBE4786u, 0x0FC19DC6u, 0x240CA1CCu, 0x2DE92C6Fu, 0x4A7484AAu, 0x5CB0A9DCu, 0x76F988DAu,
    0x983E5152u, 0xA831C66Du, 0xB00327C8u, 0xBF597FC7u, 0xC6E00BF3u, 0xD5A79147u, 0x06CA6351u, 0x14292967u,
    0x27B70A85u, 0x2E1B2138u, 0x4D2C6DFCu, 0x53380D13u, 0x650A7354u, 0x766A0ABBu, 0x81C2C92Eu, 0x92722C85u,
    0xA2BFE8A1u, 0xA81A664Bu, 0xC24B8B70u, 0xC76C51A3u, 0xD192E819u, 0xD6990624u, 0xF40E3585u, 0x106AA070u,
    0x19A4C116u, 0x1E376C08u, 0x2748774Cu, 0x34B0BCB5u, 0x391C0CB3u, 0x4ED8AA4Au, 0x5B9CCA4Fu, 0x682E6FF3u,
    0x748F82EEu, 0x78A5636Fu, 0x84C87814u, 0x8CC70208u, 0x90BEFFFAu, 0xA4506CEBu, 0xBEF9A3F7u, 0xC67178F2u,
};

static uint32_t rotr(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static uint32_t big(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* One round; instead of moving eight variables along, the caller names them in turn. */
static inline void step(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e, uint32_t f, uint32_t g, uint32_t *h,
                        uint32_t kw) {
    uint32_t t1 = *h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + (g ^ (e & (f ^ g))) + kw;
    uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) | (c & (a | b)));
    *d += t1;
    *h = t1 + t2;
}

static void compress_portable(uint32_t state[8], const unsigned char *p, size_t blocks) {
    for (; blocks; blocks--, p += 64) {
        uint32_t w[64];
        for (int t = 0; t < 16; t++)
            w[t] = big(p + 4 * t);
        for (int t = 16; t < 64; t++)
            w[t] = (rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10) + w[t - 7] +
                   (rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3) + w[t - 16];
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < 64; t += 8) {
            step(a, b, c, &d, e, f, g, &h, sha256_k[t] + w[t]);
            step(h, a, b, &c, d, e, f, &g, sha256_k[t + 1] + w[t + 1]);
            step(g, h, a, &b, c, d, e, &f, sha256_k[t + 2] + w[t + 2]);
            step(f, g, h, &a, b, c, d, &e, sha256_k[t + 3] + w[t + 3]);
            step(e, f, g, &h, a, b, c, &d, sha256_k[t + 4] + w[t + 4]);
            step(d, e, f, &g, h, a, b, &c, sha256_k[t + 5] + w[t + 5]);
            step(c, d, e, &f, g, h, a, &b, sha256_k[t + 6] + w[t + 6]);
            step(b, c, d, &e, f, g, h, &a, sha256_k[t + 7] + w[t + 7]);
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

/* Asking the CPU costs about a microsecond in a virtual machine, so little data is not worth it. */
static void compress(uint32_t state[8], const unsigned char *p, size_t blocks) {
    if (blocks >= 256 && sha256_x86_supported())
        sha256_x86(state, p, blocks);
    else
        compress_portable(state, p, blocks);
}

void sha256_begin(struct sha256 *s) {
    static const uint32_t start[8] = {0x6A09E667u, 0xBB67AE85u, 0x3C6EF372u, 0xA54FF53Au,
                                      0x510E527Fu, 0x9B05688Cu, 0x1F83D9ABu, 0x5BE0CD19u};
    memcpy(s->h, start, sizeof start);
    s->bytes = 0;
}

void sha256_add(struct sha256 *s, const void *data, size_t n) {
    const unsigned char *p = data;
    size_t have = (size_t)(s->bytes % 64);
    s->bytes += n;
    if (have) {
        size_t take = n < 64 - have ? n : 64 - have;
        if (take)
            memcpy(s->block + have, p, take);
        p += take;
        n -= take;
        if (have + take < 64)
            return;
        compress(s->h, s->block, 1);
    }
    compress(s->h, p, n / 64);
    if (n % 64)
        memcpy(s->block, p + n / 64 * 64, n % 64);
}

void sha256_end(struct sha256 *s, unsigned char out[32]) {
    uint64_t bits = s->bytes * 8;
    unsigned char pad[72] = {0x80};
    size_t n = 64 - (size_t)((s->bytes + 8) % 64); /* 1 to 64 bytes of padding, then the length */
    for (int i = 0; i < 8; i++)
        pad[n + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
    sha256_add(s, pad, n + 8);
    for (int i = 0; i < 32; i++)
        out[i] = (unsigned char)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256_hex(const unsigned char digest[32], char out[65]) {
    for (int i = 0; i < 32; i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out[64] = 0;
}

/* One table: entry i is the XOR of the images of the bits set in i. */
#define X0(v, a)                   (v), (v) ^ (a)
#define X1(v, a, b)                X0(v, a), X0((v) ^ (b), a)
#define X2(v, a, b, c)             X1(v, a, b), X1((v) ^ (c), a, b)
#define X3(v, a, b, c, d)          X2(v, a, b, c), X2((v) ^ (d), a, b, c)
#define X4(v, a, b, c, d, e)       X3(v, a, b, c, d), X3((v) ^ (e), a, b, c, d)
#define X5(v, a, b, c, d, e, f)    X4(v, a, b, c, d, e), X4((v) ^ (f), a, b, c, d, e)
#define X6(v, a, b, c, d, e, f, g) X5(v, a, b, c, d, e, f), X5((v) ^ (g), a, b, c, d, e, f)
#define ROW(a, b, c, d, e, f, g, h)                                                                                              \
    { X6(0u, a, b, c, d, e, f, g), X6(h, a, b, c, d, e, f, g) }

/* T[k][i]: what byte i does to the remainder when k more bytes follow */
static const uint32_t T[8][256] = {
    ROW(0xF26B8303u, 0xE13B70F7u, 0xC79A971Fu, 0x8AD958CFu, 0x105EC76Fu, 0x20BD8EDEu, 0x417B1DBCu, 0x82F63B78u),
    ROW(0x13A29877u, 0x274530EEu, 0x4E8A61DCu, 0x9D14C3B8u, 0x3FC5F181u, 0x7F8BE302u, 0xFF17C604u, 0xFBC3FAF9u),
    ROW(0xA541927Eu, 0x4F6F520Du, 0x9EDEA41Au, 0x38513EC5u, 0x70A27D8Au, 0xE144FB14u, 0xC76580D9u, 0x8B277743u),
    ROW(0xDD45AAB8u, 0xBF672381u, 0x7B2231F3u, 0xF64463E6u, 0xE964B13Du, 0xD725148Bu, 0xABA65FE7u, 0x52A0C93Fu),
    ROW(0x38116FACu, 0x7022DF58u, 0xE045BEB0u, 0xC5670B91u, 0x8F2261D3u, 0x1BA8B557u, 0x37516AAEu, 0x6EA2D55Cu),
    ROW(0xEF306B19u, 0xDB8CA0C3u, 0xB2F53777u, 0x6006181Fu, 0xC00C303Eu, 0x85F4168Du, 0x0E045BEBu, 0x1C08B7D6u),
    ROW(0x68032CC8u, 0xD0065990u, 0xA5E0C5D1u, 0x4E2DFD53u, 0x9C5BFAA6u, 0x3D5B83BDu, 0x7AB7077Au, 0xF56E0EF4u),
    ROW(0x493C7D27u, 0x9278FA4Eu, 0x211D826Du, 0x423B04DAu, 0x847609B4u, 0x0D006599u, 0x1A00CB32u, 0x34019664u),
};

uint32_t crc32c(uint32_t crc, const void *data, size_t n) {
    const unsigned char *p = data;
    uint32_t c = ~crc;
    for (; n >= 8; p += 8, n -= 8) {
        c ^= (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
        c = T[7][c & 255] ^ T[6][c >> 8 & 255] ^ T[5][c >> 16 & 255] ^ T[4][c >> 24] ^ T[3][p[4]] ^ T[2][p[5]] ^ T[1][p[6]] ^
            T[0][p[7]];
    }
    for (; n; p++, n--)
        c = c >> 8 ^ T[0][(c ^ *p) & 255];
    return ~c;
}
