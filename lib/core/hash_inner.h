/* SHA-256 by the instructions of x86 CPUs; where there are none, sha256_x86_supported is false. */
#ifndef CORE_HASH_INNER_H
#define CORE_HASH_INNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const uint32_t sha256_k[64]; /* the round constants */

bool sha256_x86_supported(void);
void sha256_x86(uint32_t state[8], const unsigned char *p, size_t blocks); /* blocks of 64 bytes */

#endif
