/* The first cut of a byte pair tokenizer: text into chunks that are encoded one by one. Each vocabulary was learned with one
 * pattern, and only with that pattern its ids come out right. */
#ifndef TEXT_SPLIT_H
#define TEXT_SPLIT_H

#include "core/str.h"

enum split_pattern { SPLIT_UNKNOWN = -1, SPLIT_GPT2, SPLIT_CL100K, SPLIT_O200K, SPLIT_LLAMA3 };

/* End of the chunk that starts at byte `at` < t.n. Bytes that are no character count as signs. */
size_t split_next(enum split_pattern pattern, struct text t, size_t at);

int split_parse(struct text name);                /* "gpt2", "cl100k", "o200k", "llama3"; else SPLIT_UNKNOWN */
int split_of_regex(struct text regex);            /* as tokenizer.json spells the pattern; else SPLIT_UNKNOWN */
const char *split_name(enum split_pattern which); /* "?" for SPLIT_UNKNOWN */

#endif
