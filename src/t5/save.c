/* Writes a model directory that Hugging Face's from_pretrained reads (transformers 4 and 5). Everything goes to a folder of
 * another name beside it, which is renamed when it is complete. */
#include "t5/model.h"

#include <string.h>
#include <unistd.h>

enum { MAX_TOKENIZER = 1 << 28 };

static int write_text(const struct allocator *a, const char *dir, const char *name, struct text t, struct err *e) {
    char *path = NULL;
    int rc = file_join(a, &path, e, dir, name);
    if (!rc)
        rc = file_replace(a, path, t.p, t.n, e);
    mem_free(a, path);
    return rc;
}

static int write_weights(const struct t5_weights *w, const struct allocator *a, const char *dir, enum dtype dtype,
                         struct err *e) {
    char *path = NULL;
    int rc = 0;
    static const struct text metadata[] = {{"format", 6}, {"pt", 2}};
    size_t n = w->n;
    struct safetensors_item *items = mem_zero(a, w->n + 1, sizeof *items, e);
    if (!items || file_join(a, &path, e, dir, "model.safetensors")) {
        rc = ERR_NOMEM;
        goto done;
    }
    for (size_t i = 0; i < w->n; i++)
        items[i] = (struct safetensors_item){.name = w->params[i].name,
                                             .dtype = dtype,
                                             .ndim = w->info[i].ndim,
                                             .shape = w->info[i].shape,
                                             .data = w->params[i].w.data,
                                             .from = w->params[i].w.dtype};
    if (w->config.tied && !w->config.scaled) {
        items[n] = items[w->shared - w->params];
        items[n++].name = "lm_head.weight";
    }
    rc = safetensors_write(a, path, items, n, metadata, 1, e);
done:
    mem_free(a, path);
    mem_free(a, items);
    return rc;
}

static int write_configs(const struct t5_weights *w, const struct allocator *a, const char *dir, enum dtype dtype,
                         struct err *e) {
    struct str s;
    struct json_out o;
    str_init(&s, a);
    t5_config_emit(&w->config, dtype, &s);
    int rc = str_status(&s, e);
    if (!rc)
        rc = write_text(a, dir, "config.json", (struct text){s.p, s.n}, e);
    str_clear(&s);
    json_begin(&o, &s, 2);
    json_object(&o);
    json_put_key(&o, "_from_model_config");
    json_put_bool(&o, true);
    json_put_key(&o, "decoder_start_token_id");
    json_put_int(&o, w->config.start_id);
    json_put_key(&o, "eos_token_id");
    json_put_int(&o, w->config.eos_id);
    json_put_key(&o, "pad_token_id");
    json_put_int(&o, w->config.pad_id);
    json_end_object(&o);
    str_addc(&s, '\n');
    if (!rc)
        rc = str_status(&s, e);
    if (!rc)
        rc = write_text(a, dir, "generation_config.json", (struct text){s.p, s.n}, e);
    str_free(&s);
    return rc;
}

/* Under the name by which from_pretrained finds it, whatever it was called. */
static int copy_tokenizer(const struct allocator *a, const char *dir, const char *path, struct err *e) {
    struct str s;
    str_init(&s, a);
    size_t n = strlen(path);
    bool json = n > 5 && !strcmp(path + n - 5, ".json");
    int rc = file_read(path, MAX_TOKENIZER, &s, e);
    if (!rc)
        rc = write_text(a, dir, json ? "tokenizer.json" : "spiece.model", (struct text){s.p, s.n}, e);
    str_free(&s);
    return rc;
}

int rsd_t5_save(rsd_t5 *m, const char *dir, int dtype, const char *tokenizer_path) {
    struct err e = {0};
    const struct allocator *a = &m->ctx->alloc;
    struct str final, tmp;
    static const enum dtype types[] = {[RSD_F32] = DTYPE_F32, [RSD_F16] = DTYPE_F16, [RSD_BF16] = DTYPE_BF16};
    if (!dir || !*dir || dtype < RSD_F32 || dtype > RSD_BF16)
        return ctx_fail(m->ctx, RSD_EINVAL, "rsd_t5_save: no directory, or a dtype that is none of RSD_F32, RSD_F16, RSD_BF16");
    if (m->w->int8)
        return ctx_fail(m->ctx, RSD_EUNSUPPORTED,
                        "rsd_t5_save: weights of 8 bits are made while a model is opened and have no file: "
                        "copy the directory, or open it as RSD_STORED");
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    str_init(&final, a);
    str_init(&tmp, a);
    str_add(&final, dir, n);
    str_add(&tmp, dir, n);
    str_addf(&tmp, ".tmp-%ld", (long)getpid());
    bool begun = false;
    if (str_status(&final, &e) || str_status(&tmp, &e))
        goto done;
    if (file_exists(str_z(&final))) {
        err_set(&e, ERR_BUSY, "%s: is there already: choose a new name or remove it", str_z(&final));
        goto done;
    }
    begun = true;
    if (dir_remove(str_z(&tmp), &e) || dir_make(str_z(&tmp), &e))
        goto done;
    if (write_weights(m->w, a, str_z(&tmp), types[dtype], &e) || write_configs(m->w, a, str_z(&tmp), types[dtype], &e))
        goto done;
    if (tokenizer_path && copy_tokenizer(a, str_z(&tmp), tokenizer_path, &e))
        goto done;
    dir_commit(str_z(&tmp), str_z(&final), &e);
done:
    if (begun && e.code)
        dir_remove(str_z(&tmp), NULL);
    str_free(&final);
    str_free(&tmp);
    return ctx_return(m->ctx, e.code, &e);
}
