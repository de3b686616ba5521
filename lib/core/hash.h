/* Checksums: SHA-256 (FIPS 180-4; by the CPU's instructions where it has them) for identity, CRC-32C (Castagnoli, slicing by 8)
 * for damage. */
#ifndef CORE_HASH_H
#define CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64];
};
void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *p, size_t n);
void sha256_end(struct sha256 *s, unsigned char out[32]);
void sha256_hex(const unsigned char digest[32], char out[65]); /* lower case, terminated */

uint32_t crc32c(uint32_t crc, const void *p, size_t n); /* start with 0, may be continued */

#endif
