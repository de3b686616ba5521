/* Which row of a grid to keep: rules over mean accuracies. */
#include "eval/grid.h"

#include <math.h>

static const char *const names[RSD_RULES] = {"last", "best-id", "best-mean-ood", "pareto"};

const char *rsd_rule_name(int rule) {
    return rule >= 0 && rule < RSD_RULES ? names[rule] : NULL;
}

double grid_share(const rsd_grid *g, size_t row, size_t set) {
    const rsd_score *s = &g->rows[row].scores[set];
    return g->o.parser == RSD_PARSER_STRICT    ? s->accuracy
           : g->o.parser == RSD_PARSER_LENIENT ? s->lenient_accuracy
                                               : s->reference_accuracy;
}

double rsd_grid_mean(const rsd_grid *g, size_t row, int role) {
    double sum = 0, n = 0;
    for (size_t i = 0; row < g->n_rows && i < g->n_sets; i++)
        if (g->sets[i].role == role) {
            sum += grid_share(g, row, i);
            n++;
        }
    return n > 0 ? sum / n : (double)NAN;
}

int rsd_grid_front(const rsd_grid *g, size_t row) {
    const double id = rsd_grid_mean(g, row, RSD_SET_ID), ood = rsd_grid_mean(g, row, RSD_SET_OOD);
    if (isnan(id) || isnan(ood))
        return 0;
    for (size_t r = 0; r < g->n_rows; r++) {
        const double x = rsd_grid_mean(g, r, RSD_SET_ID), y = rsd_grid_mean(g, r, RSD_SET_OOD);
        if (x >= id && y >= ood && (x > id || y > ood))
            return 0;
    }
    return 1;
}

static int best(const rsd_grid *g, int role, size_t *row) {
    double most = -1;
    for (size_t r = 0; r < g->n_rows; r++)
        if (rsd_grid_mean(g, r, role) > most) {
            most = rsd_grid_mean(g, r, role);
            *row = r;
        }
    return most < 0 ? RSD_END : RSD_OK;
}

/* How far a row lies below the best of a role, in units of the range of that role. */
static double gap(const rsd_grid *g, size_t row, int role) {
    double low = 2, high = -1;
    for (size_t r = 0; r < g->n_rows; r++) {
        low = fmin(low, rsd_grid_mean(g, r, role));
        high = fmax(high, rsd_grid_mean(g, r, role));
    }
    return high > low ? (high - rsd_grid_mean(g, row, role)) / (high - low) : 0;
}

static int nearest(const rsd_grid *g, size_t *row) {
    double least = HUGE_VAL;
    for (size_t r = 0; r < g->n_rows; r++) {
        const double far = rsd_grid_front(g, r) ? hypot(gap(g, r, RSD_SET_ID), gap(g, r, RSD_SET_OOD)) : HUGE_VAL;
        if (far < least) {
            least = far;
            *row = r;
        }
    }
    return isinf(least) ? RSD_END : RSD_OK;
}

int rsd_grid_choose(const rsd_grid *g, int rule, size_t *row) {
    if (!row || !rsd_rule_name(rule))
        return ctx_fail(g->ctx, RSD_EINVAL, "rsd_grid_choose: there is no rule %d", rule);
    if (!g->n_rows)
        return RSD_END;
    if (rule == RSD_RULE_LAST) {
        *row = g->n_rows - 1;
        return RSD_OK;
    }
    return rule == RSD_RULE_PARETO ? nearest(g, row) : best(g, rule == RSD_RULE_BEST_ID ? RSD_SET_ID : RSD_SET_OOD, row);
}
