/* What writer and reader of aligned shards agree on. */
#ifndef ALIGN_SHARD_FILE_H
#define ALIGN_SHARD_FILE_H

#include "align/shard.h"

enum { SHARD_ROW_MAX = 255 };

enum shard_column {
    SHARD_RECORDS, /* struct shard_record, one a reply */
    SHARD_IDS,     /* question ids */
    SHARD_TOKENS,
    SHARD_KINDS,
    SHARD_COUNTS,
    SHARD_PLACED,
    SHARD_ROW_IDS,
    SHARD_ROW_PROBS,
    SHARD_UNKNOWN,  /* texts of unknown pieces */
    SHARD_CHUNK_AT, /* struct shard_chunk_at, one a reply; this and what follows: only in shards with chunks */
    SHARD_CHUNK_LOGPROBS,
    SHARD_TOP_COUNTS,
    SHARD_TOP_PROBS,
    SHARD_COLUMNS
};
extern const char *const shard_column_names[SHARD_COLUMNS];

/* Offsets count from the start of the block's columns. */
struct shard_record {
    int64_t sample;
    uint32_t position, entry, id_at, unknown_at, id_len, n, n_entries;
    int32_t correct;
};
_Static_assert(sizeof(struct shard_record) == 40, "as in the file");

struct shard_chunk_at {
    uint32_t chunk, top;
};
_Static_assert(sizeof(struct shard_chunk_at) == 8, "as in the file");

static inline enum shard_column shard_columns(bool chunks) {
    return chunks ? SHARD_COLUMNS : SHARD_CHUNK_AT;
}

static inline size_t shard_id_width(int32_t vocab) {
    return vocab <= 65536 ? 2 : 4;
}

static inline float shard_prob(uint16_t code) {
    float root = (float)code * (1 / 65535.0f);
    return root >= 1 ? 1 : root * root;
}

#endif
