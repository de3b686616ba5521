#ifndef TEST_TEXT_H
#define TEST_TEXT_H

#include "core/json.h"
#include "reasondistill/tokenizer.h"
#include "util.h"

Suite *text_tokenizer_suite(void); /* real vocabulary: goldens, spans, both file forms */
Suite *text_model_suite(void);     /* made models: kinds, normaliser flags, hostile files, allocation failures */
Suite *text_parts_suite(void);     /* utf8, wire, trie */
Suite *text_bpe_suite(void);
Suite *text_prompt_suite(void);
Suite *text_answer_suite(void);

/* A spiece.model, field by field. */
void model_piece(struct str *out, const char *piece, float score, int kind);
void model_bytes(struct str *out, unsigned field, struct text t);
void model_number(struct str *out, unsigned field, uint64_t value);
/* <pad>, </s>, <unk>, U+2581, and words of a tiny language; no specs. */
void model_small(struct str *out);
/* A charsmap: "A" becomes "a", tab becomes a blank, "#" vanishes, "@" becomes "at bat". */
void model_charsmap(struct str *out);

rsd_tokenizer *open_bytes(rsd_ctx *ctx, const struct str *file); /* NULL if refused */
/* The encoding as text, pieces joined by "|". Of malloc. */
char *encoded(rsd_tokenizer *t, const char *text, size_t n);

/* Runs fn on every line of a JSON Lines file of the data pack and returns how many there were. */
size_t each_line(const char *name, void (*fn)(const struct json *line, void *user), void *user);

#endif
