/* Reads and writes config.json. Defaults for missing keys are those of Hugging Face's T5Config and MT5Config
 * (configuration_t5.py, configuration_mt5.py): the first published T5 configs have fewer than half of today's keys. A value that
 * would change results and is not implemented is refused by name; everything else is kept as it was found. */
#include "t5/config.h"

#include <string.h>

enum {
    MAX_FILE = 1 << 22,
    MAX_LAYERS = 1024,
    MAX_WIDTH = 1 << 20,
    MAX_BUCKETS = 256,
    MAX_DISTANCE = 1 << 16,
    MAX_VOCAB = 1 << 24
};

/* A positive integer under its key or the name that Hugging Face's attribute map gives it. */
static int read_dim(const struct json *doc, const char *key, const char *alias, int64_t max, size_t *out, struct err *e) {
    int64_t v = (int64_t)*out;
    if (alias && json_opt_int(doc, alias, 1, max, &v, e))
        return e->code;
    if (json_opt_int(doc, key, 1, max, &v, e))
        return e->code;
    *out = (size_t)v;
    return 0;
}

static int read_id(const struct json *doc, const char *key, size_t vocab, int32_t *out, struct err *e) {
    const struct json *v = json_get(doc, key);
    int64_t id = *out;
    if (v && json_type(v) == JSON_ARRAY) {
        const struct json *first = json_first(v);
        double d = first ? json_number(first) : -1;
        if (!first || json_next(first) || !(d >= 0 && d < (double)vocab) || d != (double)(int64_t)d)
            return err_set(e, ERR_UNSUPPORTED, "%s: expected one token id below vocab_size", key);
        id = (int64_t)d;
    } else if (json_opt_int(doc, key, 0, (int64_t)vocab - 1, &id, e)) {
        return e->code;
    }
    *out = (int32_t)id;
    return 0;
}

static bool is_text(const struct json *doc, const char *key, const char *value) {
    const struct json *v = json_get(doc, key);
    return v && text_is(json_text(v), value);
}

static bool is_set(const struct json *doc, const char *key) {
    const struct json *v = json_get(doc, key);
    return v && json_type(v) != JSON_NULL;
}

/* Keys of T5's relatives that mean another network than ours. */
static int refuse_others(const struct json *doc, struct err *e) {
    struct text type = text_of("t5");
    bool encoder_decoder = true, tie_stacks = false;
    if (json_opt_text(doc, "model_type", &type, e) || json_opt_bool(doc, "is_encoder_decoder", &encoder_decoder, e) ||
        json_opt_bool(doc, "tie_encoder_decoder", &tie_stacks, e))
        return e->code;
    if (!text_is(type, "t5") && !text_is(type, "mt5"))
        return err_set(e, ERR_UNSUPPORTED, "model_type is \"%.*s\": expected \"t5\" or \"mt5\"", (int)(type.n < 40 ? type.n : 40),
                       type.p);
    if (!encoder_decoder)
        return err_set(e, ERR_UNSUPPORTED, "is_encoder_decoder is false: only whole encoder-decoder models are supported");
    if (tie_stacks)
        return err_set(e, ERR_UNSUPPORTED, "tie_encoder_decoder is true: not supported");
    static const char *const keys[] = {"quantization_config", "encoder_attention_type", "num_experts",
                                       "num_sparse_encoder_layers"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (is_set(doc, keys[i]))
            return err_set(e, ERR_UNSUPPORTED, "%s is set: not supported", keys[i]);
    const struct json *pruned = json_get(doc, "pruned_heads");
    if (pruned && json_count(pruned))
        return err_set(e, ERR_UNSUPPORTED, "pruned_heads is not empty: not supported");
    return 0;
}

/* feed_forward_proj rules; dense_act_fn and is_gated_act repeat it in files that transformers 4.2x and later wrote. */
static int read_activation(struct t5_config *c, struct err *e) {
    struct text proj = text_of(c->gated ? "gated-gelu" : "relu");
    if (json_opt_text(c->doc, "feed_forward_proj", &proj, e))
        return e->code;
    c->silu = text_is(proj, "gated-silu");
    c->gated = c->silu || text_is(proj, "gated-gelu") || text_is(proj, "gated-gelu_new");
    if (!c->gated && !text_is(proj, "relu"))
        return err_set(e, ERR_UNSUPPORTED,
                       "feed_forward_proj is \"%.*s\": supported are \"relu\", \"gated-gelu\" and \"gated-silu\"",
                       (int)(proj.n < 40 ? proj.n : 40), proj.p);
    const char *name = c->silu ? "silu" : c->gated ? "gelu_new" : "relu";
    struct text act = text_of(name);
    bool gated = c->gated;
    if (json_opt_text(c->doc, "dense_act_fn", &act, e) || json_opt_bool(c->doc, "is_gated_act", &gated, e))
        return e->code;
    /* The first Flan-T5 configs said "gelu" and were trained with the tanh form like all of v1.1 (transformers #20250). */
    if (!text_is(act, name) && !(c->gated && !c->silu && text_is(act, "gelu")))
        return err_set(e, ERR_UNSUPPORTED, "dense_act_fn is \"%.*s\": with feed_forward_proj \"%.*s\" only \"%s\" is supported",
                       (int)(act.n < 40 ? act.n : 40), act.p, (int)(proj.n < 40 ? proj.n : 40), proj.p, name);
    if (gated != c->gated)
        return err_set(e, ERR_UNSUPPORTED, "is_gated_act is %s, but feed_forward_proj is \"%.*s\"", gated ? "true" : "false",
                       (int)(proj.n < 40 ? proj.n : 40), proj.p);
    return 0;
}

static int read_keys(struct t5_config *c, struct err *e) {
    const struct json *doc = c->doc;
    if (json_type(doc) != JSON_OBJECT)
        return err_set(e, ERR_FORMAT, "expected an object, found %s", json_type_name(json_type(doc)));
    if (refuse_others(doc, e))
        return e->code;
    bool mt5 = is_text(doc, "model_type", "mt5");
    c->vocab = mt5 ? 250112 : 32128;
    c->d_model = 512;
    c->d_kv = 64;
    c->d_ff = mt5 ? 1024 : 2048;
    c->encoder_layers = mt5 ? 8 : 6;
    c->heads = mt5 ? 6 : 8;
    c->gated = mt5;
    c->buckets = 32;
    c->max_distance = 128;
    c->dropout = 0.1;
    c->init_factor = 1;
    double eps = 1e-6;
    if (read_dim(doc, "vocab_size", NULL, MAX_VOCAB, &c->vocab, e) ||
        read_dim(doc, "d_model", "hidden_size", MAX_WIDTH, &c->d_model, e) ||
        read_dim(doc, "d_kv", "head_dim", MAX_WIDTH, &c->d_kv, e) || read_dim(doc, "d_ff", NULL, MAX_WIDTH, &c->d_ff, e) ||
        read_dim(doc, "num_layers", "num_hidden_layers", MAX_LAYERS, &c->encoder_layers, e) ||
        read_dim(doc, "num_heads", "num_attention_heads", MAX_WIDTH, &c->heads, e) ||
        read_dim(doc, "relative_attention_num_buckets", NULL, MAX_BUCKETS, &c->buckets, e) ||
        read_dim(doc, "relative_attention_max_distance", NULL, MAX_DISTANCE, &c->max_distance, e))
        return e->code;
    c->decoder_layers = c->encoder_layers;
    if (read_dim(doc, "num_decoder_layers", NULL, MAX_LAYERS, &c->decoder_layers, e) ||
        json_opt_number(doc, "dropout_rate", 0, 0.999, &c->dropout, e) ||
        json_opt_number(doc, "layer_norm_epsilon", 0, 1, &eps, e) ||
        json_opt_number(doc, "initializer_factor", 0, 1e6, &c->init_factor, e))
        return e->code;
    c->eps = (float)eps;
    c->inner = c->heads * c->d_kv; /* both below 2^20 */
    if (c->inner > MAX_WIDTH)
        return err_set(e, ERR_FORMAT, "num_heads * d_kv is %zu: at most %d", c->inner, MAX_WIDTH);
    if (c->buckets < 4 || c->buckets % 2)
        return err_set(e, ERR_FORMAT, "relative_attention_num_buckets is %zu: expected an even number from 4 to %d", c->buckets,
                       MAX_BUCKETS);
    if (c->max_distance <= c->buckets / 2)
        return err_set(e, ERR_FORMAT, "relative_attention_max_distance is %zu: expected more than half the %zu buckets",
                       c->max_distance, c->buckets);
    c->tied = !mt5;
    if (json_opt_bool(doc, "tie_word_embeddings", &c->tied, e))
        return e->code;
    /* transformers 5 writes tie_word_embeddings true for every mT5, and scales none */
    c->scaled = c->tied && !mt5;
    if (json_opt_bool(doc, "scale_decoder_outputs", &c->scaled, e))
        return e->code;
    c->eos_id = c->vocab > 1 ? 1 : 0;
    if (read_id(doc, "pad_token_id", c->vocab, &c->pad_id, e) || read_id(doc, "eos_token_id", c->vocab, &c->eos_id, e))
        return e->code;
    c->start_id = c->pad_id;
    if (read_id(doc, "decoder_start_token_id", c->vocab, &c->start_id, e))
        return e->code;
    return read_activation(c, e);
}

/* A bound on the whole: 2^38 parameters are a terabyte in fp32, a hundred times the largest T5. */
static int check_total(const struct t5_config *c, struct err *e) {
    double attention = 4.0 * (double)c->inner * (double)c->d_model,
           ffn = (c->gated ? 3.0 : 2.0) * (double)c->d_ff * (double)c->d_model;
    double total = 2.0 * (double)c->vocab * (double)c->d_model + (double)c->encoder_layers * (attention + ffn) +
                   (double)c->decoder_layers * (2 * attention + ffn);
    if (total > 0x1p38)
        return err_set(e, ERR_FORMAT, "vocab_size, d_model, d_ff and layers make %.0f billion parameters: at most 274 billion",
                       total / 1e9);
    return 0;
}

int t5_config_read(struct t5_config *c, const char *path, const struct allocator *a, struct err *e) {
    memset(c, 0, sizeof *c);
    if (json_read_file(path, MAX_FILE, a, &c->doc, e))
        return e->code;
    if (read_keys(c, e) || check_total(c, e)) {
        t5_config_free(c);
        return err_within(e, "%s", path);
    }
    c->encoder_stored = c->encoder_layers;
    c->decoder_stored = c->decoder_layers;
    return 0;
}

void t5_config_free(struct t5_config *c) {
    json_free(c->doc);
    c->doc = NULL;
}

/* Keys that t5_config_emit writes itself, or that say again what those say. */
static const char *const own_keys[] = {"architectures",
                                       "model_type",
                                       "d_model",
                                       "hidden_size",
                                       "d_kv",
                                       "head_dim",
                                       "d_ff",
                                       "num_layers",
                                       "num_hidden_layers",
                                       "num_decoder_layers",
                                       "num_heads",
                                       "num_attention_heads",
                                       "vocab_size",
                                       "relative_attention_num_buckets",
                                       "relative_attention_max_distance",
                                       "dropout_rate",
                                       "layer_norm_epsilon",
                                       "initializer_factor",
                                       "feed_forward_proj",
                                       "dense_act_fn",
                                       "is_gated_act",
                                       "is_encoder_decoder",
                                       "pad_token_id",
                                       "eos_token_id",
                                       "decoder_start_token_id",
                                       "tie_word_embeddings",
                                       "scale_decoder_outputs",
                                       "torch_dtype",
                                       "dtype"};

static bool is_own(struct text key) {
    for (size_t i = 0; i < sizeof own_keys / sizeof *own_keys; i++)
        if (text_is(key, own_keys[i]))
            return true;
    return false;
}

static void put_int(struct json_out *o, const char *key, size_t v) {
    json_put_key(o, key);
    json_put_int(o, (int64_t)v);
}

/* A whole number gets a ".0": transformers 5 refuses an integer where it expects a float. */
static void put_number(struct json_out *o, const char *key, double v, bool single) {
    json_put_key(o, key);
    size_t from = o->s->n;
    if (single)
        json_put_float(o, (float)v);
    else
        json_put_double(o, v);
    if (o->s->failed)
        return;
    for (size_t i = from; i < o->s->n; i++)
        if (strchr(".eE", o->s->p[i]))
            return;
    str_addz(o->s, ".0");
}

static void put_bool(struct json_out *o, const char *key, bool v) {
    json_put_key(o, key);
    json_put_bool(o, v);
}

static void put_z(struct json_out *o, const char *key, const char *v) {
    json_put_key(o, key);
    json_put_z(o, v);
}

void t5_config_emit(const struct t5_config *c, enum dtype dtype, struct str *out) {
    struct json_out o;
    json_begin(&o, out, 2);
    json_object(&o);
    bool mt5 = is_text(c->doc, "model_type", "mt5");
    json_put_key(&o, "architectures");
    json_array(&o);
    json_put_z(&o, mt5 ? "MT5ForConditionalGeneration" : "T5ForConditionalGeneration");
    json_end_array(&o);
    put_z(&o, "model_type", mt5 ? "mt5" : "t5");
    put_bool(&o, "is_encoder_decoder", true);
    put_int(&o, "vocab_size", c->vocab);
    put_int(&o, "d_model", c->d_model);
    put_int(&o, "d_kv", c->d_kv);
    put_int(&o, "d_ff", c->d_ff);
    put_int(&o, "num_layers", c->encoder_layers);
    put_int(&o, "num_decoder_layers", c->decoder_layers);
    put_int(&o, "num_heads", c->heads);
    put_int(&o, "relative_attention_num_buckets", c->buckets);
    put_int(&o, "relative_attention_max_distance", c->max_distance);
    put_number(&o, "dropout_rate", c->dropout, false);
    put_number(&o, "layer_norm_epsilon", (double)c->eps, true);
    put_number(&o, "initializer_factor", c->init_factor, false);
    put_z(&o, "feed_forward_proj", c->silu ? "gated-silu" : c->gated ? "gated-gelu" : "relu");
    put_z(&o, "dense_act_fn", c->silu ? "silu" : c->gated ? "gelu_new" : "relu");
    put_bool(&o, "is_gated_act", c->gated);
    put_int(&o, "pad_token_id", (size_t)c->pad_id);
    put_int(&o, "eos_token_id", (size_t)c->eos_id);
    put_int(&o, "decoder_start_token_id", (size_t)c->start_id);
    /* Readers that do not know the second key (transformers 4) scale whatever is tied: a tied head without scale is written as
     * one of its own, with the embedding stored twice (save.c). */
    put_bool(&o, "tie_word_embeddings", c->tied && c->scaled);
    put_bool(&o, "scale_decoder_outputs", c->scaled);
    put_z(&o, "torch_dtype", dtype == DTYPE_F32 ? "float32" : dtype == DTYPE_F16 ? "float16" : "bfloat16");
    struct str key;
    str_init(&key, out->a);
    for (const struct json *v = json_first(c->doc); v; v = json_next(v)) {
        if (is_own(json_key(v)))
            continue;
        str_clear(&key);
        str_add(&key, json_key(v).p, json_key(v).n);
        if (key.failed || memchr(str_z(&key), 0, key.n)) {
            out->failed |= key.failed;
            continue;
        }
        json_put_key(&o, str_z(&key));
        json_put_value(&o, v);
    }
    str_free(&key);
    json_end_object(&o);
    str_addc(out, '\n');
}
