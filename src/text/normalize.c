/* Normalisation as sentencepiece does it (normalizer.cc of that project describes the behaviour; this is our own code).
 *
 * The table is a Darts-clone double array (unit layout: github.com/s-yata/darts-clone): from each position of the text the
 * longest key wins and is replaced by the zero-terminated text at its value. What no key matches passes as it is, an invalid
 * byte becomes U+FFFD. Blanks at both ends and in runs are removed, the others become U+2581, one is put in front.
 *
 * Nearly all text is ASCII that no longer key starts with: a table of 128 entries, made at load, decides these bytes without a
 * walk. */
#include "text/normalize.h"

#include "text/utf8.h"

#include <string.h>

enum { ASCII_WALK, ASCII_COPY, ASCII_BLANK, ASCII_DROP };

static uint32_t darts_label(uint32_t u) {
    return u & 0x800000ffU;
}
static size_t darts_offset(uint32_t u) {
    return (size_t)(u >> 10) << ((u & 0x200U) >> 6);
}
static bool darts_is_leaf(uint32_t u) {
    return u >> 31;
}
static bool darts_has_leaf(uint32_t u) {
    return u >> 8 & 1;
}

/* Every walk stays inside the array and every value inside the strings, so that walks need no checks. */
static int darts_check(const struct normalizer *z, size_t offset, struct err *e) {
    for (size_t i = 0; i < z->n_units; i++) {
        uint32_t u = z->unit[i];
        size_t at = offset + 4 + 4 * i;
        if (darts_is_leaf(u)) {
            if ((u & 0x7fffffffU) >= z->n_strings)
                return err_set(e, ERR_FORMAT, "byte %zu: the normalisation table points behind its texts", at);
            continue;
        }
        size_t next = i ^ darts_offset(u);
        if ((next | 0xff) >= z->n_units || (darts_has_leaf(u) && !darts_is_leaf(z->unit[next])))
            return err_set(e, ERR_FORMAT, "byte %zu: the normalisation table points outside itself", at);
    }
    return darts_is_leaf(z->unit[0]) ? err_set(e, ERR_FORMAT, "byte %zu: the normalisation table has no root", offset + 4) : 0;
}

/* Length of the longest key at p, 0 if none; *value is its replacement. */
static size_t darts_longest(const struct normalizer *z, const char *p, size_t n, struct text *value) {
    size_t best = 0, pos = darts_offset(z->unit[0]);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        pos ^= c;
        uint32_t u = z->unit[pos];
        if (darts_label(u) != c)
            break;
        pos ^= darts_offset(u);
        if (darts_has_leaf(u)) {
            best = i + 1;
            value->p = z->strings + (z->unit[pos] & 0x7fffffffU);
        }
    }
    if (best)
        value->n = strlen(value->p);
    return best;
}

static size_t user_longest(const struct trie *t, const char *p, size_t n) {
    size_t best = 0;
    uint64_t u = t->unit[0];
    for (size_t i = 0; i < n; i++) {
        u = trie_step(t, u, (unsigned char)p[i]);
        if (!u)
            break;
        if (trie_value(u) >= 0)
            best = i + 1;
    }
    return best;
}

/* The next bytes of the text (returned: how many, at least 1) and what they become. */
static size_t next_chunk(const struct normalizer *z, const char *p, size_t n, struct text *out) {
    size_t k = 0;
    if (z->user && (k = user_longest(z->user, p, n)) > 0) {
        *out = (struct text){p, k};
        return k;
    }
    if (z->unit && (k = darts_longest(z, p, n, out)) > 0)
        return k;
    k = utf8_next(p, n, NULL);
    *out = k ? (struct text){p, k} : (struct text){"\xef\xbf\xbd", 3};
    return k ? k : 1;
}

static unsigned char ascii_kind(const struct normalizer *z, unsigned char c) {
    const char byte = (char)c;
    if (z->user && trie_step(z->user, z->user->unit[0], c))
        return ASCII_WALK;
    if (z->unit) {
        size_t pos = darts_offset(z->unit[0]) ^ c;
        uint32_t u = z->unit[pos];
        if (darts_label(u) == c) {
            pos ^= darts_offset(u);
            for (unsigned d = 0; d < 0x80; d++)
                if (darts_label(z->unit[pos ^ d]) == d)
                    return ASCII_WALK;
        }
    }
    struct text out = {0};
    next_chunk(z, &byte, 1, &out);
    if (out.n == 0)
        return ASCII_DROP;
    if (out.n == 1 && *out.p == ' ')
        return ASCII_BLANK;
    return out.n == 1 && *out.p == byte ? ASCII_COPY : ASCII_WALK;
}

int normalizer_init(struct normalizer *z, const struct allocator *a, struct text charsmap, size_t offset, struct err *e) {
    z->a = a;
    z->unit = NULL;
    z->strings = NULL;
    int code = 0;
    if (charsmap.n) {
        const unsigned char *p = (const unsigned char *)charsmap.p;
        size_t bytes = charsmap.n < 4 ? 0 : (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
        if (!bytes || bytes % 1024 || charsmap.n - 4 <= bytes || charsmap.p[charsmap.n - 1])
            return err_set(e, ERR_FORMAT,
                           "byte %zu: this is no normalisation table (size, a trie of whole blocks, texts that end with 0)",
                           offset);
        z->n_units = bytes / 4;
        z->n_strings = charsmap.n - 4 - bytes;
        z->unit = mem_new(a, z->n_units, sizeof *z->unit, e);
        z->strings = mem_strndup(a, charsmap.p + 4 + bytes, z->n_strings, e);
        if (!z->unit || !z->strings) {
            code = ERR_NOMEM;
            goto done;
        }
        for (size_t i = 0; i < z->n_units; i++, p += 4)
            z->unit[i] = (uint32_t)p[4] | (uint32_t)p[5] << 8 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 24;
        code = darts_check(z, offset, e);
        if (code)
            goto done;
    }
    for (unsigned c = 0; c < 128; c++)
        z->ascii[c] = ascii_kind(z, (unsigned char)c);
done:
    if (code)
        normalizer_free(z);
    return code;
}

void normalizer_free(struct normalizer *z) {
    if (!z->a)
        return;
    mem_free(z->a, z->unit);
    mem_free(z->a, z->strings);
    z->unit = NULL;
    z->strings = NULL;
}

static int normal_reserve(struct normal *o, size_t more, struct err *e) {
    size_t need = 0;
    if (!size_add(o->n, more, &need) || need > UINT32_MAX / 2)
        return err_set(e, ERR_INVALID, "text too long: it must normalise to less than 2 GiB");
    if (need <= o->cap)
        return 0;
    size_t cap = o->cap < 256 ? 256 : o->cap * 2;
    cap = cap < need ? need : cap;
    void *p = mem_grow(o->a, o->p, cap, 1, e);
    if (!p)
        return ERR_NOMEM;
    o->p = p;
    p = mem_grow(o->a, o->from, cap, sizeof *o->from, e);
    if (!p)
        return ERR_NOMEM;
    o->from = p;
    p = mem_grow(o->a, o->to, cap, sizeof *o->to, e);
    if (!p)
        return ERR_NOMEM;
    o->to = p;
    o->cap = cap;
    return 0;
}

static void put_byte(struct normal *o, char c, size_t from, size_t to) {
    o->p[o->n] = c;
    o->from[o->n] = (uint32_t)from;
    o->to[o->n++] = (uint32_t)to;
}

static void put_blank(const struct normalizer *z, struct normal *o, size_t from, size_t to) {
    if (!z->escape) {
        put_byte(o, ' ', from, to);
        return;
    }
    put_byte(o, SPACE_SYMBOL[0], from, to);
    put_byte(o, SPACE_SYMBOL[1], to, to);
    put_byte(o, SPACE_SYMBOL[2], to, to);
}

/* Of several blanks in a row the last becomes the U+2581: the blank in front is moved (but not the prefix, which came from no
 * text). */
static bool move_blank(const struct normalizer *z, struct normal *o, size_t from, size_t to) {
    const size_t n = z->escape ? 3 : 1;
    if (o->n < n || o->from[o->n - n] == o->to[o->n - n])
        return false;
    o->n -= n;
    put_blank(z, o, from, to);
    return true;
}

/* One replacement text for the input bytes from .. to, without the blanks that would follow a blank. */
static int put_chunk(const struct normalizer *z, struct normal *o, struct text s, size_t from, size_t to, bool *after_blank,
                     struct err *e) {
    if (*after_blank && s.n && *s.p == ' ') {
        from = move_blank(z, o, from, to) ? to : from;
        while (s.n && *s.p == ' ') {
            s.p++;
            s.n--;
        }
    }
    if (!s.n)
        return 0;
    size_t room = 0;
    if (!size_mul(s.n, 3, &room))
        room = SIZE_MAX;
    int code = normal_reserve(o, room, e);
    if (code)
        return code;
    for (size_t i = 0; i < s.n; i++, from = to) {
        if (s.p[i] == ' ')
            put_blank(z, o, from, to);
        else
            put_byte(o, s.p[i], from, to);
    }
    *after_blank = z->remove_extra && s.p[s.n - 1] == ' ';
    return 0;
}

int normalize(const struct normalizer *z, struct text in, struct normal *o, struct err *e) {
    o->n = 0;
    if (in.n > INT32_MAX)
        return err_set(e, ERR_INVALID, "text too long: %zu bytes, at most 2 GiB can be encoded at once", in.n);
    size_t i = 0;
    struct text s = {0};
    while (z->remove_extra && i < in.n) {
        size_t k = next_chunk(z, in.p + i, in.n - i, &s);
        if (!text_is(s, " "))
            break;
        i += k;
    }
    if (i == in.n)
        return 0;
    int code = normal_reserve(o, in.n - i + 64, e);
    if (code)
        return code;
    if (z->dummy_prefix)
        put_blank(z, o, i, i);
    bool after_blank = z->remove_extra;
    while (i < in.n) {
        unsigned char c = (unsigned char)in.p[i];
        unsigned char kind = c < 0x80 && (i + 1 == in.n || (unsigned char)in.p[i + 1] < 0x80) ? z->ascii[c] : ASCII_WALK;
        if (kind == ASCII_WALK) {
            size_t k = next_chunk(z, in.p + i, in.n - i, &s);
            code = put_chunk(z, o, s, i, i + k, &after_blank, e);
            if (code)
                return code;
            i += k;
            continue;
        }
        if (o->cap - o->n < 3) {
            code = normal_reserve(o, 3, e);
            if (code)
                return code;
        }
        if (kind == ASCII_COPY) {
            put_byte(o, (char)c, i, i + 1);
            after_blank = false;
        } else if (kind == ASCII_BLANK && after_blank) {
            move_blank(z, o, i, i + 1);
        } else if (kind == ASCII_BLANK) {
            put_blank(z, o, i, i + 1);
            after_blank = z->remove_extra;
        }
        i++;
    }
    size_t blank = z->escape ? 3 : 1;
    while (z->remove_extra && o->n >= blank && !memcmp(o->p + o->n - blank, z->escape ? SPACE_SYMBOL : " ", blank))
        o->n -= blank;
    return 0;
}

void normal_free(struct normal *o) {
    if (!o->a)
        return;
    mem_free(o->a, o->p);
    mem_free(o->a, o->from);
    mem_free(o->a, o->to);
    o->p = NULL;
    o->from = o->to = NULL;
    o->n = o->cap = 0;
}
