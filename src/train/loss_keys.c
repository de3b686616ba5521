/* "kl", {"kind": "kl", "tail": "bucket", "alpha": 0.1} or {"zs-cot": {...}, "zs-ao": "ce"}: an object whose first key is a format's
 * name is one from format to loss. Formats that are not named there have the default loss. */
#include "train/loss_keys.h"

#include "train/loss.h"

#include <math.h>
#include <string.h>

#define AT(field) offsetof(struct loss_choice, field)
static const struct key loss_table_keys[] = {
    {"kind", &key_choice, AT(kind), "\"kl\"", 0, 0, rsd_loss_kind_name, false,
     "ce: the teacher's words; kl, reverse_kl, js: its probabilities; alm: those of chunks; uld: sorted ones"},
    {"tail", &key_choice, AT(tail), "\"drop\"", 0, 0, rsd_tail_name, false, "what becomes of probability that a row lacks"},
    {"alpha", &key_number, AT(alpha), "null", 0, 1, NULL, false, "share of the cross-entropy; null: 0.5 for alm and uld, else 0"},
    {"temperature", &key_number, AT(temperature), "1", 1e-3, 1e3, NULL, false, "of kl, reverse_kl, js and alm"},
    {"label_smoothing", &key_number, AT(label_smoothing), "0", 0, 0.999999, NULL, false, "of the cross-entropy"},
    {"unlikelihood", &key_number, AT(unlikelihood), "0", 0, 1e6, NULL, false,
     "weight of making wrong replies unlikely; 0: they are learned like the others"},
    {"weight", &key_number, AT(weight), "1", 0, 1e6, NULL, false, "factor on the loss"},
};
#undef AT

static struct keys loss_table(void) {
    return (struct keys){loss_table_keys, sizeof loss_table_keys / sizeof loss_table_keys[0]};
}

void loss_keys_explain(struct str *out) {
    keys_explain(loss_table(), out);
}

static rsd_loss_options options_of(const struct loss_choice *c) {
    rsd_loss_options o;
    rsd_loss_options_init(&o, sizeof o);
    o.kind = (int32_t)c->kind;
    o.tail = (int32_t)c->tail;
    o.alpha = isnan(c->alpha) ? -1 : c->alpha;
    o.temperature = c->temperature;
    o.label_smoothing = c->label_smoothing;
    o.unlikelihood = c->unlikelihood;
    o.weight = c->weight;
    return o;
}

static int defaults(struct loss_choice *c, struct arena *texts, struct err *e) {
    struct json *empty = NULL;
    int code = json_parse("{}", 2, &empty, e);
    code = code ? code : keys_read(loss_table(), c, empty, texts, e);
    json_free(empty);
    return code;
}

/* A name or an object of options. */
static int read_one(struct loss_choice *c, const struct key *k, const struct json *v, struct arena *texts, struct err *e) {
    int code = 0;
    if (json_type(v) == JSON_OBJECT) {
        code = keys_read(loss_table(), c, v, texts, e);
    } else {
        code = defaults(c, texts, e);
        code = code ? code : key_choice.read(&c->kind, k, v, texts, e);
        if (code)
            return code;
    }
    rsd_loss_options checked, o = options_of(c);
    if (!code && loss_read_options(&checked, &o, e)) {
        e->code = ERR_FORMAT;
        code = ERR_FORMAT;
    }
    return code ? err_within(e, "key \"%s\"", k->name) : 0;
}

static int format_of(const struct json *member) {
    struct text name = json_key(member);
    return rsd_format_parse(name.p, name.n);
}

static int read_loss(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e) {
    struct loss_choices *c = field;
    memset(c, 0, sizeof *c);
    if (json_type(v) != JSON_OBJECT || !json_first(v) || format_of(json_first(v)) < 0)
        return read_one(&c->common, k, v, texts, e);
    if (defaults(&c->common, texts, e))
        return e->code;
    for (const struct json *m = json_first(v); m; m = json_next(m)) {
        int format = format_of(m);
        struct text name = json_key(m);
        if (format < 0)
            return err_set(e, ERR_FORMAT, "key \"%s\": unknown format \"%.*s\": expected zs-ao, zs-cot, ic-ao or ic-cot", k->name,
                           (int)(name.n < 60 ? name.n : 60), name.p);
        if (read_one(&c->of[format], k, m, texts, e))
            return err_within(e, "format %s", rsd_format_name(format));
        c->own[format] = true;
    }
    return 0;
}

static bool differ(double a, double b) {
    return a < b || a > b;
}

/* A name, if that says everything. */
static void write_one(const struct loss_choice *c, struct json_out *o) {
    bool plain = !c->tail && isnan(c->alpha) && !differ(c->temperature, 1) && !differ(c->label_smoothing, 0) &&
                 !differ(c->unlikelihood, 0) && !differ(c->weight, 1);
    if (plain)
        json_put_z(o, rsd_loss_kind_name((int)c->kind));
    else
        keys_write(loss_table(), c, o);
}

static bool by_format(const struct loss_choices *c) {
    for (int i = 0; i < RSD_FORMATS; i++)
        if (c->own[i])
            return true;
    return false;
}

static void write_loss(const void *field, const struct key *k, struct json_out *o) {
    (void)k;
    const struct loss_choices *c = field;
    if (!by_format(c)) {
        write_one(&c->common, o);
        return;
    }
    json_object(o);
    for (int i = 0; i < RSD_FORMATS; i++)
        if (c->own[i]) {
            json_put_key(o, rsd_format_name(i));
            write_one(&c->of[i], o);
        }
    json_end_object(o);
}

const struct key_type key_loss = {"a loss, an object of its options, or an object from format to one of these; losses are",
                                  read_loss, write_loss};

int loss_choices_open(rsd_ctx *ctx, const struct loss_choices *c, rsd_loss **out) {
    rsd_loss_options o = options_of(&c->common);
    int code = rsd_loss_open(ctx, &o, out);
    for (int i = 0; i < RSD_FORMATS && !code; i++)
        if (c->own[i]) {
            o = options_of(&c->of[i]);
            code = rsd_loss_set_format(*out, i, &o);
        }
    return code;
}

static bool soft(const struct loss_choice *c) {
    return c->kind != RSD_LOSS_CE;
}

bool loss_choices_soft(const struct loss_choices *c) {
    bool any = false, all_own = true;
    for (int i = 0; i < RSD_FORMATS; i++) {
        any = any || (c->own[i] && soft(&c->of[i]));
        all_own = all_own && c->own[i];
    }
    return any || (!all_own && soft(&c->common));
}
