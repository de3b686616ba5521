/* One pass over argv against the table. Both `--name value` and `--name=value` are understood. */
#include "cli/args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int complain(const struct verb *v, const char *what, const char *which) {
    fprintf(stderr, "reasondistill %s: %s%s (see reasondistill %s --help)\n", v->name, what, which, v->name);
    return EXIT_USAGE;
}

static bool is_choice(const char *choices, const char *text) {
    size_t n = strlen(text);
    for (const char *p = choices; *p;) {
        size_t len = strcspn(p, "|");
        if (len == n && !memcmp(p, text, n))
            return true;
        p += len + (p[len] == '|');
    }
    return false;
}

static int set(const struct verb *v, const struct arg *a, const char *text) {
    char what[256];
    char *end = NULL;
    errno = 0;
    if (a->kind == ARG_TEXT) {
        bool upper = a->value[0] >= 'A' && a->value[0] <= 'Z'; /* FILE, DIR, URL|replay:FILE: free text */
        if (!upper && !is_choice(a->value, text)) {
            bool named = a->name[0] == '-';
            snprintf(what, sizeof what, "%s%stakes %s, not ", named ? a->name : "", named ? " " : "", a->value);
            return complain(v, what, text);
        }
        if (!*text)
            return complain(v, "an empty value is given for ", a->name[0] == '-' ? a->name : a->value);
        *(const char **)a->to = text;
        return ARGS_GO_ON;
    }
    if (a->kind == ARG_TEXTS) {
        struct arg_texts *to = a->to;
        if (!*text)
            return complain(v, "an empty value is given for ", a->name);
        if (to->n == sizeof to->v / sizeof *to->v)
            return complain(v, "given too often: ", a->name);
        to->v[to->n++] = text;
        return ARGS_GO_ON;
    }
    const bool whole = a->kind == ARG_INT, any = a->min == 0 && a->max == 0;
    const long long n = whole ? strtoll(text, &end, 10) : 0;
    const double x = whole ? 0 : strtod(text, &end);
    if (end == text || *end || (whole && errno) || !isfinite(x)) {
        snprintf(what, sizeof what, "%s takes a %snumber, not ", a->name, whole ? "whole " : "");
        return complain(v, what, text);
    }
    /* whole numbers are compared as such: a double does not tell 2^53 from the number after it */
    if (!any && (whole ? n < (long long)a->min || n > (long long)a->max : x < a->min || x > a->max)) {
        snprintf(what, sizeof what, whole ? "%s takes %.0f to %.0f, not " : "%s takes %g to %g, not ", a->name, a->min, a->max);
        return complain(v, what, text);
    }
    if (whole)
        *(int64_t *)a->to = n;
    else
        *(double *)a->to = x;
    return ARGS_GO_ON;
}

static void print_default(const struct arg *a) {
    if (a->needed)
        printf(" (needed)");
    else if (a->kind == ARG_TEXT && *(const char **)a->to)
        printf(" (default %s)", *(const char **)a->to);
    else if (a->kind == ARG_INT)
        printf(" (default %lld)", (long long)*(int64_t *)a->to);
    else if (a->kind == ARG_NUMBER)
        printf(" (default %g)", *(double *)a->to);
}

static void help(const struct verb *v, const struct arg *args, size_t n) {
    printf("reasondistill %s: %s\n\nusage: reasondistill %s", v->name, v->summary, v->name);
    for (size_t i = 0; i < n; i++)
        if (args[i].name[0] != '-')
            printf(args[i].needed ? " %s" : " [%s]", args[i].value);
    printf(" [options]\n\n");
    for (size_t i = 0; i < n; i++) {
        char left[120];
        bool named = args[i].name[0] == '-';
        snprintf(left, sizeof left, "%s%s%s", named ? args[i].name : args[i].value, named && args[i].kind != ARG_FLAG ? " " : "",
                 named && args[i].kind != ARG_FLAG ? args[i].value : "");
        if (strlen(left) > 28)
            printf("  %s\n  %-28s %s", left, "", args[i].help);
        else
            printf("  %-28s %s", left, args[i].help);
        print_default(&args[i]);
        printf("\n");
    }
    printf("\n%s\n", v->text);
}

static const struct arg *find(const struct arg *args, size_t n, const char *name, size_t len) {
    for (size_t i = 0; i < n; i++)
        if (strlen(args[i].name) == len && !memcmp(args[i].name, name, len))
            return &args[i];
    return NULL;
}

int args_parse(const struct verb *v, const struct arg *args, size_t n, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            help(v, args, n);
            return EXIT_OK;
        }

    uint64_t seen = 0; /* tables have fewer than 64 rows */
    for (int i = 1; i < argc; i++) {
        const struct arg *a = NULL;
        const char *value = NULL;
        if (argv[i][0] == '-' && argv[i][1]) {
            size_t len = strcspn(argv[i], "=");
            a = find(args, n, argv[i], len);
            if (!a)
                return complain(v, "there is no option ", argv[i]);
            value = argv[i][len] == '=' ? argv[i] + len + 1 : NULL;
            if (a->kind == ARG_FLAG) {
                if (value)
                    return complain(v, "takes no value: ", a->name);
                *(bool *)a->to = true;
            } else if (!value) {
                if (++i == argc)
                    return complain(v, "a value is missing after ", a->name);
                value = argv[i];
            }
        } else {
            for (size_t k = 0; k < n && !a; k++)
                if (args[k].name[0] != '-' && !(seen >> k & 1))
                    a = &args[k];
            if (!a)
                return complain(v, "not understood: ", argv[i]);
            value = argv[i];
        }
        seen |= (uint64_t)1 << (a - args);
        int status = value ? set(v, a, value) : ARGS_GO_ON;
        if (status != ARGS_GO_ON)
            return status;
    }
    for (size_t i = 0; i < n; i++)
        if (args[i].needed && !(seen >> i & 1))
            return complain(v, "needs ", args[i].name[0] == '-' ? args[i].name : args[i].value);
    return ARGS_GO_ON;
}
