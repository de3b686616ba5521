/* Configurations as tables: one line per key says name, type, range, default and help, and reading, checking, printing,
 * comparing and explaining all follow from it. */
#ifndef TRAIN_KEYS_H
#define TRAIN_KEYS_H

#include "core/json.h"
#include "tensor/mat.h"

struct key;

/* How a value is read into its field and written again. `read` says what was expected if the value does not fit. */
struct key_type {
    const char *name; /* "a whole number" */
    int (*read)(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e);
    void (*write)(const void *field, const struct key *k, struct json_out *o);
};

struct key {
    const char *name;
    const struct key_type *type;
    size_t at;                    /* offset of the field */
    const char *fallback;         /* default, as JSON; NULL: the key must be given */
    double min, max;              /* of numbers */
    const char *(*choice)(int i); /* of choices: the i-th, NULL behind the last */
    bool free;                    /* may differ between two parts of one run: it does not touch the weights */
    const char *help;
};

struct keys {
    const struct key *v;
    size_t n;
};

extern const struct key_type key_text;   /* char *; null gives NULL where the default is null */
extern const struct key_type key_int;    /* int64_t */
extern const struct key_type key_number; /* double; null gives NaN where the default is null */
extern const struct key_type key_choice; /* int64_t: index of the choice */
extern const struct key_type key_bool;   /* int64_t: 0 or 1 */
extern const struct key_type key_names;  /* struct names: an array of texts */

struct names {
    char **v;
    size_t n;
};

/* Fills `base` from an object: absent keys get their defaults; an unknown key is ERR_FORMAT with the nearest known one. Texts
 * live in the arena. */
int keys_read(struct keys t, void *base, const struct json *object, struct arena *texts, struct err *e);
void keys_write(struct keys t, const void *base, struct json_out *o); /* as an object */
/* The first key that is not `free` and differs: 0, or ERR_MISMATCH with both values. */
int keys_compare(struct keys t, const void *before, const void *now, const struct allocator *a, struct err *e);
/* A line per key: name, type, range or choices, default, help. */
void keys_explain(struct keys t, struct str *out);

#endif
