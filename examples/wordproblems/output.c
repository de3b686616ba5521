/* Random numbers, JSON text, and files that are never half there: written as NAME.part, renamed when complete. */
#include "wordproblems.h"

#include <string.h>

/* splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). */
uint64_t random_bits(struct random *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double random_unit(struct random *r) {
    return (double)(random_bits(r) >> 11) * 0x1p-53;
}

int random_between(struct random *r, int low, int high) {
    return low + (int)(random_unit(r) * (high - low + 1));
}

bool output_open(struct output *o, const char *folder, const char *name) {
    o->file = NULL;
    if (snprintf(o->path, sizeof o->path, "%s/%s", folder, name) >= (int)sizeof o->path) {
        fprintf(stderr, "wordproblems: the name of the folder %s is too long\n", folder);
        return false;
    }
    snprintf(o->part, sizeof o->part, "%s.part", o->path);
    o->file = fopen(o->part, "wb");
    if (o->file == NULL)
        perror(o->part);
    return o->file != NULL;
}

bool output_close(struct output *o) {
    if (o->file == NULL)
        return false;
    bool whole = ferror(o->file) == 0;
    whole = fclose(o->file) == 0 && whole;
    whole = whole && rename(o->part, o->path) == 0;
    if (!whole) {
        perror(o->path);
        remove(o->part);
    }
    o->file = NULL;
    return whole;
}

void put_json_text(FILE *f, const char *s, size_t n) {
    putc('"', f);
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n')
            fputs("\\n", f);
        else if (s[i] == '"' || s[i] == '\\')
            fprintf(f, "\\%c", s[i]);
        else
            putc(s[i], f);
    }
    putc('"', f);
}

void line_add(struct line *l, const char *s, size_t n) {
    const size_t room = sizeof l->text - 1 - l->n; /* phrases are short: three equations need a third of it */
    const size_t take = n < room ? n : room;
    memcpy(l->text + l->n, s, take);
    l->n += take;
    l->text[l->n] = '\0';
}

void line_number(struct line *l, int v) {
    char digits[16];
    const int n = snprintf(digits, sizeof digits, "%d", v);
    line_add(l, digits, (size_t)n);
}

void line_phrase(struct line *l, const char *phrase, const char *keys, const char *const *values) {
    for (const char *p = phrase; *p != '\0'; p++) {
        const char *key = p[0] == '{' && p[1] != '\0' && p[2] == '}' ? strchr(keys, p[1]) : NULL;
        if (key != NULL) {
            const char *value = values[key - keys];
            line_add(l, value, strlen(value));
            p += 2;
        } else {
            line_add(l, p, 1);
        }
    }
}
