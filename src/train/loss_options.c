/* Which options a loss has, by name and by range. An option that would do nothing is refused: it was meant for something. */
#include "train/loss.h"

#include "base/options.h"

#include <math.h>
#include <stdbool.h>

OPTIONS_NO_TAIL(rsd_loss_options, weight);

static const rsd_loss_options loss_defaults = {
    .size = sizeof(rsd_loss_options), .kind = RSD_LOSS_KL, .alpha = -1, .temperature = 1, .weight = 1};

int rsd_loss_options_init(rsd_loss_options *o, size_t size) {
    return options_init(o, size, &loss_defaults, sizeof loss_defaults, NULL);
}

const char *rsd_loss_kind_name(int kind) {
    static const char *const names[] = {[RSD_LOSS_CE] = "ce", [RSD_LOSS_KL] = "kl",   [RSD_LOSS_REVERSE_KL] = "reverse_kl",
                                        [RSD_LOSS_JS] = "js", [RSD_LOSS_ALM] = "alm", [RSD_LOSS_ULD] = "uld"};
    return kind >= 0 && (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : NULL;
}

const char *rsd_tail_name(int tail) {
    static const char *const names[] = {
        [RSD_TAIL_DROP] = "drop", [RSD_TAIL_RENORMALISE] = "renormalise", [RSD_TAIL_BUCKET] = "bucket"};
    return tail >= 0 && (size_t)tail < sizeof names / sizeof names[0] ? names[tail] : NULL;
}

double loss_alpha(const rsd_loss_options *o) {
    if (o->kind == RSD_LOSS_CE)
        return 1;
    if (o->alpha >= 0)
        return o->alpha;
    return o->kind == RSD_LOSS_ALM || o->kind == RSD_LOSS_ULD ? 0.5 : 0;
}

static bool not_one(double v) {
    return v < 1 || v > 1;
}

static int check_options(const rsd_loss_options *o, struct err *e) {
    const char *kind = rsd_loss_kind_name(o->kind);
    if (!kind || !rsd_tail_name(o->tail))
        return err_set(e, ERR_INVALID, "loss: kind %d is none of RSD_LOSS_..., or tail %d none of RSD_TAIL_...", (int)o->kind,
                       (int)o->tail);
    if (!(o->alpha <= 1))
        return err_set(e, ERR_INVALID, "loss %s: alpha %g is not from 0 to 1, nor below 0 for the kind's own", kind, o->alpha);
    if (!(o->temperature >= 1e-3 && o->temperature <= 1e3))
        return err_set(e, ERR_INVALID, "loss %s: temperature %g is outside [0.001, 1000]", kind, o->temperature);
    if (!(o->label_smoothing >= 0 && o->label_smoothing < 1))
        return err_set(e, ERR_INVALID, "loss %s: label_smoothing %g is not at least 0 and below 1", kind, o->label_smoothing);
    if (!(isfinite(o->weight) && o->weight >= 0 && isfinite(o->unlikelihood) && o->unlikelihood >= 0))
        return err_set(e, ERR_INVALID, "loss %s: weight %g and unlikelihood %g must be finite and at least 0", kind, o->weight,
                       o->unlikelihood);
    if (not_one(o->temperature) && (o->kind == RSD_LOSS_CE || o->kind == RSD_LOSS_ULD))
        return err_set(e, ERR_INVALID, "loss %s: it has no temperature", kind);
    if (o->tail != RSD_TAIL_DROP && (o->kind == RSD_LOSS_CE || o->kind == RSD_LOSS_ALM))
        return err_set(e, ERR_INVALID, "loss %s: it has no tail", kind);
    if (o->label_smoothing > 0 && !(loss_alpha(o) > 0))
        return err_set(e, ERR_INVALID, "loss %s: label_smoothing acts on the cross-entropy: give alpha above 0, or kind ce",
                       kind);
    return 0;
}

int loss_read_options(rsd_loss_options *o, const rsd_loss_options *given, struct err *e) {
    if (options_read(o, sizeof *o, &loss_defaults, given, "rsd_loss_options", e))
        return e->code;
    return check_options(o, e);
}
