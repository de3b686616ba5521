/* GPT-2's way to write bytes as printable characters (bytes_to_unicode in its encoder.py), and the readers that both of its file
 * forms share. */
#ifndef TEXT_BYTECHAR_H
#define TEXT_BYTECHAR_H

#include "text/bpe.h"
#include "text/utf8.h"

int bytechar_byte(int32_t cp); /* -1: stands for no byte */
/* Appends the bytes of a written piece. ERR_FORMAT: which character. */
int bytechar_add(struct str *out, struct text piece, struct err *e);
/* One merge, its pieces as written. ERR_FORMAT: not in the vocabulary. */
int bpe_add_written(struct bpe *b, struct text left, struct text right, uint32_t rank, struct str *buf, struct err *e);
/* {"piece": id}. */
struct json;
int bpe_read_ids(struct vocab *v, const struct json *object, struct err *e);
/* Pieces of several bytes that no merge makes never come out of text: control pieces. */
int bpe_mark_special(struct vocab *v, const struct bpe *b, struct err *e);

#endif
