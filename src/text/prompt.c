/* The templates of the reference (notebooks of FranxYao/FlanT5-CoT-Specialization, as printed), kept to the byte: its students
 * were trained on these line ends. Its demonstrations could contain the question itself; demo_is_same exists so that ours
 * cannot. */
#include "text/prompt.h"

#include <string.h>

static const char *const names[RSD_FORMATS] = {"zs-ao", "zs-cot", "ic-ao", "ic-cot"};

const char *rsd_format_name(int format) {
    return format >= 0 && format < RSD_FORMATS ? names[format] : "?";
}

int rsd_format_parse(const char *name, size_t len) {
    for (int i = 0; name && i < RSD_FORMATS; i++)
        if (text_is((struct text){name, len}, names[i]))
            return i;
    return -1;
}

bool format_has_demos(int format) {
    return format == RSD_FORMAT_IC_AO || format == RSD_FORMAT_IC_COT;
}

bool format_has_reasoning(int format) {
    return format == RSD_FORMAT_ZS_COT || format == RSD_FORMAT_IC_COT;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static struct text strip(struct text t) {
    while (t.n && is_blank(*t.p)) {
        t.p++;
        t.n--;
    }
    while (t.n && is_blank(t.p[t.n - 1]))
        t.n--;
    return t;
}

static void add(struct str *out, struct text t) {
    str_add(out, t.p, t.n);
}

static int bad_format(int format, struct err *e) {
    return err_set(e, ERR_INVALID, "no format %d: expected 0 to %d", format, RSD_FORMATS - 1);
}

int prompt_input(struct str *out, int format, struct text question, const struct demo *demos, size_t n, struct err *e) {
    if (format < 0 || format >= RSD_FORMATS)
        return bad_format(format, e);
    for (size_t i = 0; format_has_demos(format) && i < n; i++) {
        str_addz(out, "Q: ");
        add(out, demos[i].question);
        if (format_has_reasoning(format)) {
            str_addz(out, "\nLet's think step by step\n");
            size_t before = out->n;
            int code = solution_clean(out, demos[i].solution, e);
            if (code)
                return code;
            if (out->n > before)
                str_addc(out, '\n');
        } else {
            str_addz(out, "\nA: ");
        }
        str_addz(out, "The answer is ");
        add(out, demos[i].answer);
        str_addz(out, "\n\n");
    }
    str_addz(out, "Q: ");
    add(out, question);
    str_addz(out, format_has_reasoning(format) ? "\nLet's think step by step" : format_has_demos(format) ? "\nA:" : " A:");
    return str_status(out, e);
}

int prompt_target(struct str *out, int format, struct text reasoning, struct text answer, struct err *e) {
    if (format < 0 || format >= RSD_FORMATS)
        return bad_format(format, e);
    reasoning = strip(reasoning);
    if (format_has_reasoning(format) && reasoning.n) {
        add(out, reasoning);
        str_addc(out, '\n');
    }
    str_addz(out, "The answer is ");
    add(out, answer);
    return str_status(out, e);
}

/* Length of the calculator mark at the start of t, 0 if there is none: `<<`, an equation on the same line, `>>`. */
static size_t mark_length(struct text t) {
    if (t.n < 4 || t.p[0] != '<' || t.p[1] != '<')
        return 0;
    bool equation = false;
    for (size_t i = 2; i + 1 < t.n && t.p[i] != '\n' && t.p[i] != '<'; i++) {
        if (t.p[i] == '>' && t.p[i + 1] == '>')
            return equation ? i + 2 : 0;
        equation |= t.p[i] == '=';
    }
    return 0;
}

int solution_clean(struct str *out, struct text s, struct err *e) {
    s = strip(s);
    size_t line = s.n;
    while (line && s.p[line - 1] != '\n')
        line--;
    if (s.n - line >= 4 && !memcmp(s.p + line, "####", 4))
        s = strip((struct text){s.p, line});
    for (size_t i = 0, kept = 0; i <= s.n;) {
        size_t mark = i < s.n ? mark_length((struct text){s.p + i, s.n - i}) : 0;
        if (mark || i == s.n) {
            str_add(out, s.p + kept, i - kept);
            kept = i + mark;
        }
        i += mark ? mark : 1;
    }
    return str_status(out, e);
}

bool demo_is_same(struct text a, struct text b) {
    size_t i = 0, k = 0;
    for (;;) {
        while (i < a.n && is_blank(a.p[i]))
            i++;
        while (k < b.n && is_blank(b.p[k]))
            k++;
        if (i == a.n || k == b.n)
            return i == a.n && k == b.n;
        if (a.p[i++] != b.p[k++])
            return false;
    }
}

int prompt_fill(struct str *out, struct text t, struct text question, struct err *e) {
    static const char hole[] = "{question}";
    const size_t n = sizeof hole - 1;
    bool any = false;
    size_t kept = 0;
    for (size_t i = 0; i + n <= t.n;) {
        if (memcmp(t.p + i, hole, n)) {
            i++;
            continue;
        }
        str_add(out, t.p + kept, i - kept);
        add(out, question);
        any = true;
        kept = i += n;
    }
    if (!any)
        return err_set(e, ERR_INVALID, "the question template has no {question}");
    str_add(out, t.p + kept, t.n - kept);
    return str_status(out, e);
}
