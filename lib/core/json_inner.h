/* What the files of the JSON door share among themselves. */
#ifndef CORE_JSON_INNER_H
#define CORE_JSON_INNER_H

#include "core/json.h"

#include <locale.h>

/* Numbers are read and written in the C locale, whatever the host has chosen; only the calling thread sees the change. */
struct c_locale {
    locale_t c, old;
};
bool c_locale_enter(struct c_locale *l); /* false: no memory, nothing changed */
void c_locale_leave(struct c_locale *l);

/* Result of the check that comes before cJSON. */
struct json_scan {
    struct str copy; /* the text to parse instead, empty if the original will do */
    size_t from;     /* bytes of the original before this one are in the copy */
    struct json_exact {
        size_t ordinal; /* which number of the document, from 0 */
        int64_t value;
    } * exact; /* integers that a double may not hold */
    size_t n_exact, cap_exact;
    size_t numbers, keys; /* counted */
    size_t want_key;      /* stop before this key (SIZE_MAX: none), with `found` its offset */
    size_t found;
};
/* The C locale must be set. On failure nothing needs to be freed; on success json_scan_free. */
int json_scan(struct json_scan *s, const char *p, size_t n, size_t want_key, struct err *e);
void json_scan_free(struct json_scan *s);

/* Shortest decimal form that reads back to the same bits; v is finite. The C locale must be set. */
void json_format_double(char out[32], double v);
void json_format_float(char out[32], float v);

#endif
