/* The keys of run.json. The table below is the only place where a key, its range, its default and its help are written down. */
#include "train/config.h"

#include "data/questions.h"
#include "reasondistill/dataset.h"
#include "reasondistill/optimizer.h"
#include "train/keys.h"
#include "train/loss_keys.h"
#include "train/schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const size_t MAX_FILE = (size_t)16 << 20;

static const char *format_choice(int i) {
    return i < RSD_FORMATS ? rsd_format_name(i) : NULL;
}
static const char *kind_choice(int i) {
    static const char *const names[] = {[EVAL_ID] = "id", [EVAL_OOD] = "ood", [EVAL_SEEN] = "seen"};
    return i >= 0 && i <= EVAL_SEEN ? names[i] : NULL;
}
static const char *mix_choice(int i) {
    return i == RSD_MIX_ITEMS ? "items" : i == RSD_MIX_TARGETS ? "targets" : NULL;
}
static const char *optimizer_choice(int i) {
    static const char *const names[] = {[RSD_ADAMW] = "adamw", [RSD_ADAFACTOR] = "adafactor"};
    return i >= 0 && i <= RSD_ADAFACTOR ? names[i] : NULL;
}
static const char *dtype_choice(int i) {
    return i == 0 ? "fp32" : i == 1 ? "bf16" : NULL;
}

static int read_formats(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e);
static void write_formats(const void *field, const struct key *k, struct json_out *o);
static int read_evals(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e);
static void write_evals(const void *field, const struct key *k, struct json_out *o);
static const struct key_type type_formats = {"an object from format to weight", read_formats, write_formats};
static const struct key_type type_evals = {"an array of evaluations", read_evals, write_evals};

#define COUNT_MAX 9007199254740992.0 /* 2^53: what a JSON number holds exactly */
#define AT(field) offsetof(struct run_config, field)
static const struct key run_keys[] = {
    {"model", &key_text, AT(model), NULL, 0, 0, NULL, false, "folder of the model to start from"},
    {"tokenizer", &key_text, AT(tokenizer), "null", 0, 0, NULL, false,
     "spiece.model, tokenizer.json or a folder; null: the model's"},
    {"data", &key_text, AT(data), NULL, 0, 0, NULL, false, "data set folder made by build"},
    {"out", &key_text, AT(out), NULL, 0, 0, NULL, false, "run directory to make"},
    {"steps", &key_int, AT(steps), "1000", 1, 1e12, NULL, false, "optimizer steps"},
    {"batch_tokens", &key_int, AT(batch_tokens), "4096", 1, 1e9, NULL, false, "input and target tokens of a batch at most"},
    {"accumulate", &key_int, AT(accumulate), "1", 1, 1e6, NULL, false, "batches that make one optimizer step"},
    {"max_enc", &key_int, AT(max_enc), "1024", 1, 1e6, NULL, false, "items with a longer input are left out"},
    {"max_dec", &key_int, AT(max_dec), "512", 1, 1e6, NULL, false, "items with a longer target are left out"},
    {"formats", &type_formats, AT(formats), "{}", 0, 1e9, NULL, false,
     "share of each format in what mix says; {}: all of the data set equally"},
    {"mix", &key_choice, AT(mix), "\"items\"", 0, 0, mix_choice, false,
     "what the shares are of: the items drawn, or their target tokens, which the loss adds up over"},
    {"hold_out", &key_names, AT(hold_out), "[]", 0, 0, NULL, true,
     "files or folders of items that must not be among the questions, beside those of eval"},
    {"share_batches", &key_int, AT(share_batches), "8", 0, 1e6, NULL, true,
     "batches whose gradient is measured for each format before the first step; 0: none"},
    {"loss", &key_loss, AT(loss), "\"kl\"", 0, 0, rsd_loss_kind_name, false, "what is learned from the teacher"},
    {"optimizer", &key_choice, AT(optimizer), "\"adamw\"", 0, 0, optimizer_choice, false, "how gradients become steps"},
    {"lr", &key_number, AT(lr), "5e-4", 0, 1e3, NULL, false, "peak learning rate"},
    {"relative_step", &key_bool, AT(relative_step), "false", 0, 0, NULL, false,
     "adafactor: the rate is min(0.01, t^-1/2), lr and schedule are not used"},
    {"scale_parameter", &key_bool, AT(scale_parameter), "true", 0, 0, NULL, false,
     "adafactor: the rate is multiplied with the root mean square of each parameter"},
    {"update_clip", &key_number, AT(update_clip), "1", 0, 1e30, NULL, false,
     "adafactor: largest root mean square of an update before the rate; 0: any"},
    {"decay_rate", &key_number, AT(decay_rate), "0.8", 1e-6, 10, NULL, false,
     "adafactor: second moments decay by 1 - t^-decay_rate"},
    {"momentum", &key_number, AT(momentum), "0", 0, 0.999999, NULL, false, "adafactor: decay of the mean of updates; 0: none"},
    {"beta1", &key_number, AT(beta1), "0.9", 0, 0.999999, NULL, false, "decay of the mean of gradients"},
    {"beta2", &key_number, AT(beta2), "0.999", 0, 0.999999999, NULL, false, "decay of the mean of their squares"},
    {"eps", &key_number, AT(eps), "1e-8", 1e-30, 1, NULL, false, "added to the root of the mean square"},
    {"decay", &key_number, AT(decay), "0", 0, 10, NULL, false, "weight decay"},
    {"schedule", &key_choice, AT(schedule), "\"linear\"", 0, 0, schedule_name, false, "learning rate after the warm-up"},
    {"warmup", &key_number, AT(warmup), "0.05", 0, 1e12, NULL, false, "warm-up in steps, or below 1 as a share of all steps"},
    {"clip", &key_number, AT(clip), "1", 0, 1e30, NULL, false, "largest norm of the gradient; 0: no clipping"},
    {"clip_tensor", &key_number, AT(clip_tensor), "0", 0, 1e30, NULL, false,
     "largest norm of each tensor's gradient; 0: no clipping"},
    {"fused", &key_bool, AT(fused), "false", 0, 0, NULL, false,
     "update each layer as soon as its gradients are known; needs clip 0 and accumulate 1"},
    {"recompute", &key_bool, AT(recompute), "false", 0, 0, NULL, true,
     "keep less of the forward pass and compute it again: less memory, more time, the same bits"},
    {"freeze", &key_names, AT(freeze), "[]", 0, 0, NULL, false,
     "names of parameters that are not trained; * stands for anything"},
    {"dropout", &key_number, AT(dropout), "null", 0, 0.999, NULL, false, "rate of dropout; null: the model's own"},
    {"dtype", &key_choice, AT(dtype), "\"fp32\"", 0, 0, dtype_choice, false, "type of weights and activations"},
    {"masters", &key_bool, AT(masters), "false", 0, 0, NULL, false,
     "bf16: keep fp32 masters of the weights instead of rounding stochastically"},
    {"seed", &key_int, AT(seed), "1", 0, COUNT_MAX, NULL, false, "of order, dropout and rounding"},
    {"threads", &key_int, AT(threads), "0", 0, 1024, NULL, true, "threads; 0: the context's"},
    {"skips", &key_int, AT(skips), "10", 0, 1e9, NULL, false,
     "steps in a row that may be skipped because loss or gradient is not finite"},
    {"log_every", &key_int, AT(log_every), "1", 1, 1e12, NULL, true, "steps between lines of metrics.jsonl"},
    {"save_every", &key_int, AT(save_every), "500", 0, 1e12, NULL, true, "steps between checkpoints; 0: only the last"},
    {"keep", &key_int, AT(keep), "3", 0, 1e9, NULL, true, "newest checkpoints that are kept; 0: all"},
    {"keep_best", &key_int, AT(keep_best), "0", 0, 1e9, NULL, true,
     "best evaluated checkpoints that are kept, too; one is then written after an evaluation that is among them"},
    {"eval_every", &key_int, AT(eval_every), "0", 0, 1e12, NULL, true, "steps between evaluations; 0: none"},
    {"eval_start", &key_bool, AT(eval_start), "false", 0, 0, NULL, true, "evaluate before the first step, too"},
    {"patience", &key_int, AT(patience), "0", 0, 1e9, NULL, true,
     "evaluations in a row without a better result that end the run; 0: all steps are done"},
    {"watch", &key_text, AT(watch), "null", 0, 0, NULL, true,
     "what patience and keep_best look at: the name of an evaluation, or \"id\" or \"ood\": the mean of these; null: of both"},
    {"eval", &type_evals, AT(evals), "[]", 0, 0, NULL, true,
     "evaluations {task, data, format, kind, limit, shots, demos, max_tokens, batch, name}"},
};
#undef AT
#define AT(field) offsetof(struct eval_job, field)
static const struct key eval_keys[] = {
    {"task", &key_choice, AT(task), NULL, 0, 0, task_name, true, "how the data is read and answers are compared"},
    {"data", &key_text, AT(data), NULL, 0, 0, NULL, true, "file or folder of the items"},
    {"format", &key_choice, AT(format), "\"zs-cot\"", 0, 0, format_choice, true, "format of the items"},
    {"kind", &key_choice, AT(kind), "\"id\"", 0, 0, kind_choice, true,
     "in distribution, out of distribution, or of questions that are trained on"},
    {"limit", &key_int, AT(limit), "0", 0, 1e9, NULL, true, "first items only; 0: all"},
    {"shots", &key_int, AT(shots), "4", 1, 64, NULL, true, "demonstrations of the in-context formats"},
    {"demos", &key_text, AT(demos), "null", 0, 0, NULL, true, "questions with rationale for the in-context formats"},
    {"max_tokens", &key_int, AT(max_tokens), "256", 1, 1e6, NULL, true, "longest output"},
    {"batch", &key_int, AT(batch), "32", 1, 1e5, NULL, true, "sequences at a time"},
    {"name", &key_text, AT(name), "null", 0, 0, NULL, true, "of the file eval/step-N-NAME.json; null: task-format"},
};
#undef AT

static struct keys run_table(void) {
    return (struct keys){run_keys, sizeof run_keys / sizeof run_keys[0]};
}
static struct keys eval_table(void) {
    return (struct keys){eval_keys, sizeof eval_keys / sizeof eval_keys[0]};
}

static int read_formats(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e) {
    (void)texts;
    double *w = field;
    for (int i = 0; i < 8; i++)
        w[i] = 0;
    if (json_type(v) != JSON_OBJECT)
        return err_set(e, ERR_FORMAT, "key \"%s\": expected an object as {\"zs-cot\": 1, \"ic-cot\": 1}, found %s", k->name,
                       json_type_name(json_type(v)));
    double sum = 0;
    for (const struct json *m = json_first(v); m; m = json_next(m)) {
        struct text name = json_key(m);
        int format = rsd_format_parse(name.p, name.n);
        double x = json_number(m);
        if (format < 0)
            return err_set(e, ERR_FORMAT, "key \"%s\": unknown format \"%.*s\": expected zs-ao, zs-cot, ic-ao or ic-cot", k->name,
                           (int)(name.n < 60 ? name.n : 60), name.p);
        if (json_type(m) != JSON_NUMBER || !(x >= k->min && x <= k->max))
            return err_set(e, ERR_FORMAT, "key \"%s\": the weight of %s must be a number of at least 0", k->name,
                           rsd_format_name(format));
        w[format] = x;
        sum += x;
    }
    if (json_first(v) && sum <= 0)
        return err_set(e, ERR_FORMAT, "key \"%s\": all weights are 0", k->name);
    return 0;
}

static void write_formats(const void *field, const struct key *k, struct json_out *o) {
    (void)k;
    const double *w = field;
    json_object(o);
    for (int i = 0; i < RSD_FORMATS; i++)
        if (w[i] > 0) {
            json_put_key(o, rsd_format_name(i));
            json_put_double(o, w[i]);
        }
    json_end_object(o);
}

/* A name becomes part of a file's name: letters, digits, dot, hyphen, underscore. */
static bool plain_name(const char *s) {
    for (; *s; s++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", *s))
            return false;
    return true;
}

static int name_job(struct eval_jobs *jobs, size_t i, struct arena *texts, struct err *e) {
    struct eval_job *j = &jobs->v[i];
    if (!j->name) {
        size_t n = 32;
        j->name = arena_take(texts, n, 1, e);
        if (!j->name)
            return e->code;
        snprintf(j->name, n, "%s-%s", task_name((int)j->task), rsd_format_name((int)j->format));
    }
    if (!plain_name(j->name) || strlen(j->name) > 100)
        return err_set(e, ERR_FORMAT,
                       "key \"name\": expected at most 100 letters, digits, dots, hyphens and underscores, found \"%.60s\"",
                       j->name);
    if (!strcmp(j->name, "id") || !strcmp(j->name, "ood"))
        return err_set(e, ERR_FORMAT, "key \"name\": \"%s\" stands for all evaluations of this kind: choose another", j->name);
    for (size_t other = 0; other < i; other++)
        if (!strcmp(jobs->v[other].name, j->name))
            return err_set(e, ERR_FORMAT, "two evaluations are called \"%s\": give one of them another \"name\"", j->name);
    return 0;
}

static int read_evals(void *field, const struct key *k, const struct json *v, struct arena *texts, struct err *e) {
    struct eval_jobs *jobs = field;
    *jobs = (struct eval_jobs){0};
    if (json_type(v) != JSON_ARRAY)
        return err_set(e, ERR_FORMAT, "key \"%s\": expected an array of objects, found %s", k->name,
                       json_type_name(json_type(v)));
    size_t n = json_count(v);
    jobs->v = arena_take(texts, n + 1, sizeof *jobs->v, e);
    if (!jobs->v)
        return e->code;
    for (const struct json *m = json_first(v); m; m = json_next(m)) {
        size_t i = jobs->n;
        if (keys_read(eval_table(), &jobs->v[i], m, texts, e) || name_job(jobs, i, texts, e))
            return err_within(e, "key \"%s\", entry %zu", k->name, i);
        jobs->n++;
    }
    return 0;
}

static void write_evals(const void *field, const struct key *k, struct json_out *o) {
    (void)k;
    const struct eval_jobs *jobs = field;
    json_array(o);
    for (size_t i = 0; i < jobs->n; i++)
        keys_write(eval_table(), &jobs->v[i], o);
    json_end_array(o);
}

static int check_fused(const struct run_config *c, struct err *e) {
    if (!c->fused || !(c->clip > 0 || c->accumulate > 1))
        return 0;
    return err_set(e, ERR_FORMAT,
                   "key \"fused\": weights are updated before all gradients are known, so they are neither %s: set \"%s",
                   c->clip > 0 ? "clipped by their global norm" : "accumulated",
                   c->clip > 0 ? "clip\" to 0, and \"clip_tensor\" to clip each tensor by its own"
                               : "accumulate\" to 1 and \"batch_tokens\" higher");
}

/* Whoever waits for a better evaluation must get some. */
static int check_watch(const struct run_config *c, struct err *e) {
    bool any = false;
    for (size_t i = 0; i < c->evals.n; i++)
        any |= run_config_watches(c, &c->evals.v[i]);
    if (c->watch && !any)
        return err_set(e, ERR_FORMAT,
                       "key \"watch\": expected \"id\", \"ood\" or the name of an evaluation, of which there is "
                       "one, found \"%.60s\"",
                       c->watch);
    if ((c->patience || c->keep_best) && (!any || !c->eval_every))
        return err_set(e, ERR_FORMAT, "key \"%s\": needs evaluations: set \"eval\", of kind id or ood, and \"eval_every\"",
                       c->patience ? "patience" : "keep_best");
    return 0;
}

int run_config_read(struct run_config *c, const struct allocator *a, const char *path, struct err *e) {
    struct json *doc = NULL;
    memset(c, 0, sizeof *c);
    arena_init(&c->arena, a);
    if (json_read_file(path, MAX_FILE, a, &doc, e))
        return e->code;
    int code = keys_read(run_table(), c, doc, &c->arena, e);
    json_free(doc);
    code = code ? code : check_fused(c, e);
    code = code ? code : check_watch(c, e);
    if (!code && !c->tokenizer)
        c->tokenizer = c->model;
    return code ? err_within(e, "%s", path) : 0;
}

int run_config_defaults(struct run_config *c, const struct allocator *a, struct err *e) {
    static const char needed[] = "{\"model\":\"-\",\"data\":\"-\",\"out\":\"-\"}";
    struct json *doc = NULL;
    memset(c, 0, sizeof *c);
    arena_init(&c->arena, a);
    int code = json_parse(needed, sizeof needed - 1, &doc, e);
    code = code ? code : keys_read(run_table(), c, doc, &c->arena, e);
    json_free(doc);
    c->model = c->data = c->out = NULL;
    return code;
}

void run_config_free(struct run_config *c) {
    arena_free(&c->arena);
    memset(c, 0, sizeof *c);
}

int run_config_write(const struct run_config *c, struct str *out, struct err *e) {
    struct json_out o;
    json_begin(&o, out, 2);
    keys_write(run_table(), c, &o);
    str_addc(out, '\n');
    return str_status(out, e);
}

int run_config_compare(const struct run_config *before, const struct run_config *now, const struct allocator *a, struct err *e) {
    return keys_compare(run_table(), before, now, a, e);
}

void run_config_explain(struct str *out) {
    keys_explain(run_table(), out);
    str_addz(out, "\nof a loss:\n");
    loss_keys_explain(out);
    str_addz(out, "\nof an evaluation:\n");
    keys_explain(eval_table(), out);
}

const char *run_config_task(const struct eval_job *j) {
    return task_name((int)j->task);
}

const char *run_config_kind(const struct eval_job *j) {
    return kind_choice((int)j->kind);
}

bool run_config_watches(const struct run_config *c, const struct eval_job *j) {
    if (!c->watch)
        return j->kind != EVAL_SEEN;
    return !strcmp(c->watch, j->name) || (j->kind != EVAL_SEEN && !strcmp(c->watch, run_config_kind(j)));
}

uint64_t run_config_warmup(const struct run_config *c) {
    double w = c->warmup < 1 ? floor(c->warmup * (double)c->steps + 0.5) : floor(c->warmup);
    uint64_t n = (uint64_t)w, steps = (uint64_t)c->steps;
    return n < steps ? n : steps - 1;
}
