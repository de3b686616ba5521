/* The patterns of OpenAI's vocabularies (tiktoken_ext/openai_public.py), written out by hand: alternatives in the order of the
 * expression, each as greedy as there, so that the first that matches is the chunk.
 *
 *     gpt2     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *     cl100k   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+$|\s*[\r\n]+|\s+(?!\S)|\s+
 *     llama3   as cl100k without \s+$, as tiktoken had it before and tokenizer.json files still do: only after the last line end
 *              of a text it cuts differently
 *     o200k    [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
 *              [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
 *              \p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
 *
 * Nothing looks behind, so a chunk depends only on what follows its start, and every character is looked at a few times at
 * most. */
#include "text/split.h"

#include "text/utf8.h"

/* The two letter classes of o200k share these. */
static const unsigned CAPITAL = UTF8_UPPER | UTF8_OTHER | UTF8_MARK, SMALL = UTF8_LOWER | UTF8_OTHER | UTF8_MARK;

/* Class of the character at `at`, and its bytes. At the end: length 0. */
static unsigned look(struct text t, size_t at, size_t *len) {
    int32_t cp = 0;
    *len = 0;
    if (at >= t.n)
        return 0;
    *len = utf8_next(t.p + at, t.n - at, &cp);
    if (*len)
        return utf8_class(cp);
    *len = 1;
    return 0;
}

/* End of the run of at most `most` characters that have one of the bits `any`. */
static size_t run_of(struct text t, size_t at, unsigned any, size_t most) {
    size_t len;
    while (most-- && (look(t, at, &len) & any))
        at += len;
    return at;
}

/* End of the run of signs: neither blank nor letter nor number. */
static size_t run_of_signs(struct text t, size_t at) {
    size_t len;
    while (!(look(t, at, &len) & (UTF8_SPACE | UTF8_LETTER | UTF8_NUMBER)) && len)
        at += len;
    return at;
}

static bool is_line_end(struct text t, size_t at) {
    return at < t.n && (t.p[at] == '\n' || t.p[at] == '\r');
}

/* Behind 's 't 're 've 'm 'll 'd at `at`; `at` itself if there is none. Without case the long s is an s. */
static size_t contraction(struct text t, size_t at, bool any_case) {
    static const char *const ends[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (at >= t.n || t.p[at] != '\'')
        return at;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t k = 0;
        for (; ends[i][k] && at + 1 + k < t.n; k++) {
            char c = t.p[at + 1 + k];
            if (any_case && c >= 'A' && c <= 'Z')
                c = (char)(c - 'A' + 'a');
            if (c != ends[i][k])
                break;
        }
        if (!ends[i][k])
            return at + 1 + k;
    }
    return any_case && at + 2 < t.n && t.p[at + 1] == '\xc5' && t.p[at + 2] == '\xbf' ? at + 3 : at;
}

/* \s+(?!\S)|\s+ : a run leaves its last blank to what follows, if anything follows and more than one is there. */
static size_t blanks(struct text t, size_t at) {
    size_t last = at, end = at, len;
    while (look(t, end, &len) & UTF8_SPACE) {
        last = end;
        end += len;
    }
    return end == t.n || last == at ? end : last;
}

static size_t next_gpt2(struct text t, size_t at) {
    size_t end = contraction(t, at, false), from = at + (t.p[at] == ' '), len;
    if (end > at)
        return end;
    unsigned c = look(t, from, &len);
    if (c & UTF8_LETTER)
        return run_of(t, from, UTF8_LETTER, SIZE_MAX);
    if (c & UTF8_NUMBER)
        return run_of(t, from, UTF8_NUMBER, SIZE_MAX);
    end = run_of_signs(t, from);
    return end > from ? end : blanks(t, at);
}

/* What cl100k, llama3 and o200k have in common behind their words; `tail`: what may follow signs; `last_whole`: blanks at the end
 * of the text are one chunk. */
static size_t next_rest(struct text t, size_t at, const char *tail, bool last_whole) {
    size_t end = run_of(t, at, UTF8_NUMBER, 3), from = at + (t.p[at] == ' ');
    if (end > at)
        return end;
    end = run_of_signs(t, from);
    if (end > from) {
        while (end < t.n && (t.p[end] == tail[0] || t.p[end] == tail[1] || t.p[end] == tail[2]))
            end++;
        return end;
    }
    size_t line = at, len;
    for (end = at; look(t, end, &len) & UTF8_SPACE; end += len)
        if (is_line_end(t, end))
            line = end + 1;
    return last_whole && end == t.n ? end : line > at ? line : blanks(t, at);
}

/* [^\r\n\p{L}\p{N}]? : bytes of the character at `at` if it may stand before a word, else 0. */
static size_t word_prefix(struct text t, size_t at) {
    size_t len;
    unsigned c = look(t, at, &len);
    return c & (UTF8_LETTER | UTF8_NUMBER) || is_line_end(t, at) ? 0 : len;
}

static size_t next_cl100k(struct text t, size_t at, bool last_whole) {
    size_t end = contraction(t, at, true);
    if (end > at)
        return end;
    size_t from = at + word_prefix(t, at);
    end = run_of(t, from, UTF8_LETTER, SIZE_MAX);
    return end > from ? end : next_rest(t, at, "\r\n\n", last_whole);
}

/* CAPITAL* SMALL+ from `at`; `at` if it does not match. Where nothing small follows the capitals, the last of them that is both
 * is given back. */
static size_t small_word(struct text t, size_t at) {
    size_t end = at, both = at, both_end = at, len;
    unsigned c;
    while ((c = look(t, end, &len)) & CAPITAL) {
        if (c & SMALL) {
            both = end;
            both_end = end + len;
        }
        end += len;
    }
    size_t small = run_of(t, end, SMALL, SIZE_MAX);
    if (small > end)
        return small;
    return both_end > both ? both_end : at;
}

static size_t next_o200k(struct text t, size_t at) {
    size_t prefix = word_prefix(t, at), end;
    if ((end = small_word(t, at + prefix)) > at + prefix || (prefix && (end = small_word(t, at)) > at))
        return contraction(t, end, true);
    /* nothing small is left behind the capitals, or the form before would have matched */
    if ((end = run_of(t, at + prefix, CAPITAL, SIZE_MAX)) > at + prefix)
        return contraction(t, end, true);
    return next_rest(t, at, "\r\n/", false);
}

size_t split_next(enum split_pattern pattern, struct text t, size_t at) {
    switch (pattern) {
    case SPLIT_O200K:
        return next_o200k(t, at);
    case SPLIT_CL100K:
    case SPLIT_LLAMA3:
        return next_cl100k(t, at, pattern == SPLIT_CL100K);
    default:
        return next_gpt2(t, at);
    }
}

static const char *const names[] = {"gpt2", "cl100k", "o200k", "llama3"};

int split_parse(struct text name) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (text_is(name, names[i]))
            return (int)i;
    return SPLIT_UNKNOWN;
}

const char *split_name(enum split_pattern which) {
    return which >= 0 && (size_t)which < sizeof names / sizeof *names ? names[which] : "?";
}

int split_of_regex(struct text regex) {
#define TAIL  "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define SHORT "'s|'t|'re|'ve|'m|'ll|'d"
    /* as they were first, and as tiktoken writes them since, with possessive quantifiers */
    static const struct {
        const char *regex;
        enum split_pattern pattern;
    } known[] = {
        {SHORT "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", SPLIT_GPT2},
        {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", SPLIT_GPT2},
        {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s", SPLIT_GPT2},
        {"(?i:" SHORT ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL, SPLIT_LLAMA3},
        {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|"
         "\\s+(?!\\S)|\\s+",
         SPLIT_LLAMA3},
        {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}+| "
         "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|\\s*[\\r\\n]|"
         "\\s+(?!\\S)|\\s",
         SPLIT_CL100K},
        {"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:" SHORT ")?|"
         "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:" SHORT ")?|"
         "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL,
         SPLIT_O200K},
    };
#undef TAIL
#undef SHORT
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (text_is(regex, known[i].regex))
            return known[i].pattern;
    return SPLIT_UNKNOWN;
}
