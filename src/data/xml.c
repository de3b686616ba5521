/* A pull reader for the part of XML that data files use. One benchmark (ASDiv) comes as XML, so this is a page of code instead of
 * a library that every user would have to install: no document types, hence no entities of their own, no expansion that grows,
 * no other files. Every byte is looked at a bounded number of times. After "Extensible Markup Language (XML) 1.0", W3C 2008. */
#include "data/xml.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void xml_begin(struct xml *x, struct text file) {
    memset(x, 0, sizeof *x);
    x->file = file;
    if (file.n >= 3 && !memcmp(file.p, "\xEF\xBB\xBF", 3))
        x->at = 3;
}

int xml_fail(const struct xml *x, size_t at, struct err *e, const char *fmt, ...) {
    char what[256];
    size_t line = 1;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < at && i < x->file.n; i++)
        line += x->file.p[i] == '\n';
    return err_set(e, ERR_FORMAT, "line %zu: %s", line, what);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool ends_name(char c) {
    return is_blank(c) || strchr("/><=\"'&", c) != NULL; /* strchr finds the end of the string, too: U+0000 ends a name */
}

static bool starts(const struct xml *x, const char *what) {
    size_t n = strlen(what);
    return x->file.n - x->at >= n && !memcmp(x->file.p + x->at, what, n);
}

/* Moves behind the next `what`. */
static bool pass(struct xml *x, const char *what) {
    size_t n = strlen(what);
    for (; x->file.n - x->at >= n; x->at++)
        if (starts(x, what)) {
            x->at += n;
            return true;
        }
    return false;
}

static int named(const struct text t) {
    return (int)(t.n < 60 ? t.n : 60);
}

/* ---- tags ---- */

/* name = "value" from *at on; false at the end of the list. Where it is wrong, *value has no bytes at all (NULL). */
static bool next_attribute(struct text list, size_t *at, struct text *name, struct text *value) {
    size_t i = *at;
    *value = (struct text){0};
    while (i < list.n && is_blank(list.p[i]))
        i++;
    if (i == list.n)
        return false;
    size_t begin = i;
    while (i < list.n && !ends_name(list.p[i]))
        i++;
    *name = (struct text){list.p + begin, i - begin};
    while (i < list.n && is_blank(list.p[i]))
        i++;
    bool equals = name->n && i < list.n && list.p[i] == '=';
    i += equals;
    while (i < list.n && is_blank(list.p[i]))
        i++;
    const char *end = equals && i < list.n && (list.p[i] == '"' || list.p[i] == '\'')
                          ? memchr(list.p + i + 1, list.p[i], list.n - i - 1)
                          : NULL;
    if (end) {
        *value = (struct text){list.p + i + 1, (size_t)(end - (list.p + i + 1))};
        i = (size_t)(end - list.p) + 1;
    }
    *at = i;
    return true;
}

static int check_attributes(const struct xml *x, size_t tag, struct err *e) {
    struct text name, value;
    for (size_t at = 0; next_attribute(x->attributes, &at, &name, &value);)
        if (!value.p || memchr(value.p, '<', value.n))
            return xml_fail(x, tag, e, "<%.*s>: expected attributes as name=\"value\"", named(x->name), x->name.p);
    return 0;
}

/* The > of a tag, past quoted ones. */
static bool find_tag_end(const struct xml *x, size_t *end) {
    char quote = 0;
    for (size_t i = x->at; i < x->file.n; i++) {
        char c = x->file.p[i];
        if (quote) {
            quote = c == quote ? 0 : quote;
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '>') {
            *end = i;
            return true;
        }
    }
    return false;
}

static int close_element(struct xml *x, size_t tag, struct err *e) {
    struct text open = x->depth ? x->open[x->depth - 1] : (struct text){"", 0};
    if (!x->depth || !text_eq(open, x->name))
        return xml_fail(x, tag, e, "</%.*s> where %s%.*s%s is open", named(x->name), x->name.p, x->depth ? "<" : "nothing",
                        named(open), open.p, x->depth ? ">" : "");
    x->depth--;
    return XML_CLOSE;
}

/* At "<" of an element. */
static int read_tag(struct xml *x, struct err *e) {
    size_t tag = x->at++, end = 0;
    bool close = x->at < x->file.n && x->file.p[x->at] == '/';
    x->at += close;
    if (!find_tag_end(x, &end))
        return xml_fail(x, tag, e, "a tag that does not end: expected \">\"");
    size_t begin = x->at, name_end = begin;
    while (name_end < end && !ends_name(x->file.p[name_end]))
        name_end++;
    x->name = (struct text){x->file.p + begin, name_end - begin};
    x->closing = !close && end > name_end && x->file.p[end - 1] == '/';
    x->attributes = (struct text){x->file.p + name_end, end - name_end - x->closing};
    x->at = end + 1;
    if (!x->name.n)
        return xml_fail(x, tag, e, "expected a name behind \"<\"; a < in a text is written &lt;");
    if (close) {
        for (size_t i = 0; i < x->attributes.n; i++)
            if (!is_blank(x->attributes.p[i]))
                return xml_fail(x, tag, e, "</%.*s>: expected \">\" behind the name", named(x->name), x->name.p);
        return close_element(x, tag, e);
    }
    if (check_attributes(x, tag, e))
        return e->code;
    if (!x->depth && x->began)
        return xml_fail(x, tag, e, "<%.*s> behind the end of the root element", named(x->name), x->name.p);
    if (x->depth == XML_DEPTH_MAX)
        return xml_fail(x, tag, e, "more than %d elements in one another", (int)XML_DEPTH_MAX);
    x->open[x->depth++] = x->name;
    x->began = true;
    return XML_OPEN;
}

/* Comments, processing instructions: passed over. 1: it was one, 0: it was none. */
static int skip_markup(struct xml *x, struct err *e) {
    static const char *const kinds[][2] = {{"<!--", "-->"}, {"<?", "?>"}};
    for (size_t k = 0; k < 2; k++) {
        if (!starts(x, kinds[k][0]))
            continue;
        size_t begin = x->at;
        x->at += strlen(kinds[k][0]);
        return pass(x, kinds[k][1]) ? 1 : xml_fail(x, begin, e, "%s does not end: expected \"%s\"", kinds[k][0], kinds[k][1]);
    }
    return 0;
}

static int read_cdata(struct xml *x, struct err *e) {
    size_t begin = x->at, from = x->at + strlen("<![CDATA[");
    if (!x->depth)
        return xml_fail(x, begin, e, "a text outside of the root element");
    x->at = from;
    if (!pass(x, "]]>"))
        return xml_fail(x, begin, e, "<![CDATA[ does not end: expected \"]]>\"");
    x->text = (struct text){x->file.p + from, x->at - from - 3};
    x->raw = true;
    return XML_TEXT;
}

int xml_next(struct xml *x, struct err *e) {
    if (x->closing) {
        x->closing = false;
        x->depth--;
        return XML_CLOSE;
    }
    while (x->at < x->file.n) {
        if (x->file.p[x->at] != '<') {
            size_t begin = x->at, other = begin;
            while (x->at < x->file.n && x->file.p[x->at] != '<')
                x->at++;
            while (other < x->at && is_blank(x->file.p[other]))
                other++;
            if (!x->depth && other < x->at)
                return xml_fail(x, other, e, "a text outside of the root element: this is no XML, or its beginning is missing");
            if (!x->depth)
                continue;
            x->text = (struct text){x->file.p + begin, x->at - begin};
            x->raw = false;
            return XML_TEXT;
        }
        int skipped = skip_markup(x, e);
        if (skipped < 0)
            return skipped;
        if (skipped)
            continue;
        if (starts(x, "<![CDATA["))
            return read_cdata(x, e);
        if (starts(x, "<!"))
            return xml_fail(x, x->at, e, "document types (<!...) are not read: remove it");
        return read_tag(x, e);
    }
    if (x->depth) {
        struct text open = x->open[x->depth - 1];
        return xml_fail(x, x->file.n, e, "the file ends inside <%.*s>", named(open), open.p);
    }
    return x->began ? XML_END : xml_fail(x, 0, e, "expected a root element, found nothing");
}

/* ---- texts ---- */

/* Code points that a document may refer to. */
static bool is_character(uint32_t c) {
    return c == 9 || c == 10 || c == 13 || (c >= 0x20 && c < 0xD800) || (c >= 0xE000 && c < 0xFFFE) ||
           (c >= 0x10000 && c < 0x110000);
}

static void add_character(struct str *out, uint32_t c) {
    if (c < 0x80) {
        str_addc(out, (char)c);
        return;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char first[] = {0, 0xC0, 0xE0, 0xF0};
    str_addc(out, (char)(first[more] | c >> (6 * more)));
    while (more--)
        str_addc(out, (char)(0x80 | (c >> (6 * more) & 0x3F)));
}

/* "#65" or "#x41". */
static bool read_number(struct text t, uint32_t *c) {
    bool hex = t.n > 1 && t.p[1] == 'x';
    *c = 0;
    if (t.n <= 1u + hex)
        return false;
    for (size_t i = 1u + hex; i < t.n; i++) {
        const char *digits = "0123456789abcdefABCDEF", *d = t.p[i] ? strchr(digits, t.p[i]) : NULL;
        uint32_t v = d ? (uint32_t)(d - digits) : 99;
        v = v > 15 && d ? v - 6 : v;
        if (v >= (hex ? 16u : 10u) || *c > 0x110000)
            return false;
        *c = *c * (hex ? 16 : 10) + v;
    }
    return is_character(*c);
}

static bool add_entity(struct str *out, struct text t) {
    static const struct {
        const char *name;
        char c;
    } entities[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    uint32_t c;
    if (t.n && *t.p == '#') {
        if (read_number(t, &c)) {
            add_character(out, c);
            return true;
        }
        return false;
    }
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i++)
        if (text_is(t, entities[i].name)) {
            str_addc(out, entities[i].c);
            return true;
        }
    return false;
}

static int add_decoded(const struct xml *x, struct text t, bool raw, struct str *out, struct err *e) {
    enum { LONGEST = 12 }; /* of an entity's name */
    size_t at = (size_t)(t.p - x->file.p);
    for (size_t i = 0; i < t.n; i++) {
        size_t left = t.n - i, n = utf8_sequence(t.p + i, left);
        char c = t.p[i];
        if (!n || (n == 1 && !is_character((unsigned char)c)))
            return xml_fail(x, at + i, e, "byte 0x%02X is not UTF-8, or no character of a text", (unsigned)(unsigned char)c);
        if (c == '\r') { /* line ends are LF */
            if (left < 2 || t.p[i + 1] != '\n')
                str_addc(out, '\n');
            continue;
        }
        if (c != '&' || raw) {
            str_add(out, t.p + i, n);
            i += n - 1;
            continue;
        }
        const char *end = memchr(t.p + i, ';', left < LONGEST ? left : LONGEST);
        struct text name = {t.p + i + 1, end ? (size_t)(end - (t.p + i + 1)) : 0};
        if (!end || !add_entity(out, name))
            return xml_fail(x, at + i, e, "expected &amp; &lt; &gt; &quot; &apos; or &#number;, found \"%.*s\"",
                            (int)(end ? name.n + 2 : 1), t.p + i);
        i += name.n + 1;
    }
    return str_status(out, e);
}

int xml_add_text(struct xml *x, struct str *out, struct err *e) {
    return add_decoded(x, x->text, x->raw, out, e);
}

int xml_attribute(struct xml *x, const char *wanted, struct str *out, struct err *e) {
    struct text name, value;
    str_clear(out);
    for (size_t at = 0; next_attribute(x->attributes, &at, &name, &value);)
        if (text_is(name, wanted))
            return add_decoded(x, value, false, out, e);
    return xml_fail(x, (size_t)(x->name.p - x->file.p), e, "<%.*s> has no attribute %s", named(x->name), x->name.p, wanted);
}
