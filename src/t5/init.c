/* Random initialisation. Each tensor draws from a stream of its own, named by the tensor's name, so that a value does not depend
 * on the order of the tensors or on the number of threads, and a model with more layers shares the values of those it has in
 * common. */
#include "core/hash.h"
#include "t5/model.h"

#include <string.h>

static uint64_t stream_of(const char *name) {
    struct sha256 s;
    unsigned char digest[32];
    sha256_begin(&s);
    sha256_add(&s, name, strlen(name));
    sha256_end(&s, digest);
    uint64_t stream = 0;
    for (size_t i = 0; i < 8; i++)
        stream |= (uint64_t)digest[i] << (8 * i);
    return stream;
}

int weights_memory(struct t5_weights *w, struct err *e) {
    w->memory = mem_aligned(&w->alloc, w->count, dtype_size(w->type), e);
    if (!w->memory)
        return err_within(e, "weights of %zu parameters", w->count);
    w->bytes = (uint64_t)w->count * dtype_size(w->type);
    w->dtype = w->type;
    struct mat all = mat_of(w->memory, w->type, 1, w->count);
    for (size_t i = 0; i < w->n; i++)
        w->params[i].w.data = mat_cols(all, w->info[i].offset, w->info[i].count).data;
    return 0;
}

int weights_random(struct t5_weights *w, rsd_ctx *ctx, uint64_t seed, struct err *e) {
    if (weights_layout(w, e) || weights_memory(w, e))
        return e->code;
    struct exec x = ctx_exec(ctx, e);
    for (size_t i = 0; i < w->n; i++) {
        struct param *p = &w->params[i];
        if (w->info[i].std > 0)
            fill_normal(&x, p->w, (float)w->info[i].std, seed, stream_of(p->name));
        else
            fill(&x, p->w, w->info[i].ndim == 1 ? (float)w->config.init_factor : 0);
    }
    return exec_status(&x);
}
