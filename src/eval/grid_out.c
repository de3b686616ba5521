/* A grid as a table for a terminal and as JSON. */
#include "core/json.h"
#include "eval/grid.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const roles[] = {"id", "ood", "test"};
static const char *const parsers[] = {"strict", "lenient", "reference"};

/* ---- text ---- */

enum { NARROWEST = 7, WIDEST = 30 };

static int width_of(const char *name, int least) {
    const size_t n = strlen(name);
    return n > WIDEST ? WIDEST : n > (size_t)least ? (int)n : least;
}

/* Numbers through the C library but not through the locale: tenths of a percent as whole numbers. */
static void add_percent(struct str *s, int width, double share) {
    char cell[40];
    if (isnan(share)) {
        snprintf(cell, sizeof cell, "-");
    } else {
        const long tenths = lround(share * 1000);
        snprintf(cell, sizeof cell, "%ld.%ld", tenths / 10, tenths % 10);
    }
    str_addf(s, "  %*s", width, cell);
}

static void add_cells(const rsd_grid *g, struct str *s, size_t row) {
    for (size_t i = 0; i < g->n_sets; i++)
        add_percent(s, width_of(g->sets[i].name, NARROWEST), grid_share(g, row, i));
    add_percent(s, NARROWEST, rsd_grid_mean(g, row, RSD_SET_ID));
    add_percent(s, NARROWEST, rsd_grid_mean(g, row, RSD_SET_OOD));
}

static void add_head(const rsd_grid *g, struct str *s, int first, const char *title) {
    str_addf(s, "%-*s", first, "");
    for (size_t i = 0; i < g->n_sets; i++)
        str_addf(s, "  %*s", width_of(g->sets[i].name, NARROWEST), roles[g->sets[i].role]);
    str_addf(s, "  %*s  %*s\n%-*s", NARROWEST, "mean", NARROWEST, "mean", first, title);
    for (size_t i = 0; i < g->n_sets; i++)
        str_addf(s, "  %*.*s", width_of(g->sets[i].name, NARROWEST), (int)WIDEST, g->sets[i].name);
    str_addf(s, "  %*s  %*s\n", NARROWEST, "id", NARROWEST, "ood");
}

int rsd_grid_text(rsd_grid *g, const char **text) {
    struct err e = {0};
    struct str *s = &g->text;
    int first = 14;
    str_clear(s);
    for (size_t r = 0; r < g->n_rows; r++)
        first = width_of(g->rows[r].name, first);
    add_head(g, s, first, "");
    for (size_t r = 0; r < g->n_rows; r++) {
        str_addf(s, "%-*.*s", first, (int)WIDEST, g->rows[r].name);
        add_cells(g, s, r);
        str_addz(s, rsd_grid_front(g, r) ? "  *\n" : "\n");
    }
    str_addf(s, "\nAccuracy in percent (%s parser); * no other is better in and out of distribution.%s\n", parsers[g->o.parser],
             g->n_sweep ? "" : " What each rule chooses:");
    for (int rule = 0; rule < RSD_RULES && !g->n_sweep; rule++) {
        size_t row = 0;
        str_addf(s, "%-*s", first, rsd_rule_name(rule));
        if (rsd_grid_choose(g, rule, &row)) {
            str_addz(s, "  nothing: it needs sets of a role that has none\n");
            continue;
        }
        add_cells(g, s, row);
        str_addf(s, "  %s\n", g->rows[row].name);
    }
    int code = str_status(s, &e);
    *text = str_z(s);
    return ctx_return(g->ctx, code, &e);
}

/* ---- JSON ---- */

static void put_double(struct json_out *j, const char *key, double v) {
    json_put_key(j, key);
    json_put_double(j, v);
}

static void put_z(struct json_out *j, const char *key, const char *v) {
    json_put_key(j, key);
    json_put_z(j, v);
}

static void put_int(struct json_out *j, const char *key, uint64_t v) {
    json_put_key(j, key);
    json_put_int(j, (int64_t)v);
}

static void put_score(struct json_out *j, const char *set, const rsd_score *s) {
    json_object(j);
    put_z(j, "set", set);
    put_int(j, "n", s->n);
    put_int(j, "correct", s->correct);
    put_double(j, "accuracy", s->accuracy);
    put_double(j, "low", s->low);
    put_double(j, "high", s->high);
    put_double(j, "lenient_accuracy", s->lenient_accuracy);
    put_double(j, "reference_accuracy", s->reference_accuracy);
    put_double(j, "answer_perplexity", s->answer_perplexity > 0 ? s->answer_perplexity : (double)NAN);
    put_double(j, "rationale_perplexity", s->rationale_perplexity > 0 ? s->rationale_perplexity : (double)NAN);
    json_end_object(j);
}

static void put_row(struct json_out *j, const rsd_grid *g, size_t r) {
    put_z(j, "name", g->rows[r].name);
    put_double(j, "x", g->rows[r].x);
    put_double(j, "mean_id", rsd_grid_mean(g, r, RSD_SET_ID));
    put_double(j, "mean_ood", rsd_grid_mean(g, r, RSD_SET_OOD));
    json_put_key(j, "scores");
    json_array(j);
    for (size_t i = 0; i < g->n_sets; i++)
        put_score(j, g->sets[i].name, &g->rows[r].scores[i]);
    json_end_array(j);
}

static void put_sets(struct json_out *j, const rsd_grid *g) {
    json_put_key(j, "sets");
    json_array(j);
    for (size_t i = 0; i < g->n_sets; i++) {
        json_object(j);
        put_z(j, "name", g->sets[i].name);
        put_z(j, "role", roles[g->sets[i].role]);
        put_z(j, "task", g->sets[i].task);
        put_z(j, "format", rsd_format_name(g->sets[i].format));
        put_z(j, "data", g->sets[i].data);
        json_end_object(j);
    }
    json_end_array(j);
}

static void put_list(struct json_out *j, const char *key, char *const *v, size_t n) {
    json_put_key(j, key);
    json_array(j);
    for (size_t i = 0; i < n; i++)
        json_put_z(j, v[i]);
    json_end_array(j);
}

static void put_rules(struct json_out *j, const rsd_grid *g) {
    json_put_key(j, "rules");
    json_array(j);
    for (int rule = 0; rule < RSD_RULES; rule++) {
        size_t row = 0;
        if (rsd_grid_choose(g, rule, &row))
            continue;
        json_object(j);
        put_z(j, "rule", rsd_rule_name(rule));
        put_int(j, "row", row);
        put_row(j, g, row);
        json_end_object(j);
    }
    json_end_array(j);
}

int rsd_grid_json(rsd_grid *g, const char **text) {
    struct err e = {0};
    struct json_out j;
    str_clear(&g->text);
    json_begin(&j, &g->text, 1);
    json_object(&j);
    if (g->run)
        put_z(&j, "run", g->run);
    if (g->n_sweep)
        put_list(&j, "sweep", g->sweep, g->n_sweep);
    put_z(&j, "parser", parsers[g->o.parser]);
    put_sets(&j, g);
    json_put_key(&j, "rows");
    json_array(&j);
    for (size_t r = 0; r < g->n_rows; r++) {
        json_object(&j);
        put_row(&j, g, r);
        json_put_key(&j, "front");
        json_put_bool(&j, rsd_grid_front(g, r));
        json_end_object(&j);
    }
    json_end_array(&j);
    if (!g->n_sweep)
        put_rules(&j, g);
    json_end_object(&j);
    str_addc(&g->text, '\n');
    int code = str_status(&g->text, &e);
    *text = str_z(&g->text);
    return ctx_return(g->ctx, code, &e);
}
