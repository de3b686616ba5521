/* Parts that the JSON lines of alignments and heat maps share (json.c). */
#ifndef ALIGN_PUT_H
#define ALIGN_PUT_H

#include "align/align.h"
#include "core/json.h"

void align_put_name(struct json_out *o, const rsd_aligner *a); /* id, sample */
void align_put_tokens(struct json_out *o, const rsd_aligner *a, const char *key);
void align_put_pieces(struct json_out *o, const rsd_aligner *a, const char *key);
void align_put_kinds(struct json_out *o, const rsd_aligner *a);
void align_put_floats(struct json_out *o, const char *key, const float *v, size_t n);

#endif
