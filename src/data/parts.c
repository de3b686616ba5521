/* Parts are tokenised when they are first needed and kept: a question is read in every epoch, a solution stands in many prompts.
 */
#include "data/parts.h"

#include "align/align.h"
#include "base/ctx.h"
#include "text/prompt.h"

#include <string.h>

void parts_init(struct parts *p, rsd_ctx *ctx, rsd_tokenizer *tok, struct corpus *c) {
    *p = (struct parts){.ctx = ctx, .tok = tok, .c = c, .whole = !pieces_are_words(tok)};
    str_init(&p->text, &ctx->alloc);
}

void parts_free(struct parts *p) {
    if (!p->ctx)
        return;
    for (size_t k = 0; k < PART_KINDS; k++)
        mem_free(&p->ctx->alloc, p->table[k]);
    mem_free(&p->ctx->alloc, p->ids);
    str_free(&p->text);
    *p = (struct parts){0};
}

size_t item_question(const struct corpus *c, struct item i) {
    return format_has_reasoning(i.format) ? c->question_of[i.number] : i.number;
}

static int part_text(struct parts *p, size_t kind, size_t question, struct err *e) {
    str_clear(&p->text);
    if (kind < PART_DEMO)
        return corpus_question_text(p->c, (int)(kind - PART_QUESTION), question, &p->text, e);
    if (kind < PART_ANSWER)
        return corpus_demo_text(p->c, p->tok, (int)(kind - PART_DEMO), question, &p->text, e);
    return corpus_answer_text(p->c, RSD_FORMAT_ZS_AO, question, &p->text, e);
}

static int encode(struct parts *p, const int32_t **ids, size_t *n, struct err *e) {
    int code = rsd_tokenizer_encode(p->tok, str_z(&p->text), p->text.n, ids, n);
    if (!code && *n > UINT32_MAX / 4)
        return err_set(e, ERR_UNSUPPORTED, "a text of %zu pieces is too long", *n);
    return align_carry(p->ctx, code, e);
}

static int get_part(struct parts *p, size_t kind, size_t question, struct part *out, struct err *e) {
    const struct allocator *a = &p->ctx->alloc;
    if (!p->table[kind] && !(p->table[kind] = mem_zero(a, p->c->questions.n, sizeof **p->table, e)))
        return ERR_NOMEM;
    struct part *part = &p->table[kind][question];
    if (!part->known) {
        const int32_t *ids;
        size_t n;
        int code = part_text(p, kind, question, e);
        code = code ? code : encode(p, &ids, &n, e);
        code = code ? code : mem_reserve(a, &p->ids, &p->cap, p->n + n, sizeof *p->ids, e);
        if (code)
            return code;
        if (n)
            memcpy(p->ids + p->n, ids, n * sizeof *ids);
        *part = (struct part){p->n, (uint32_t)n, true};
        p->n += n;
    }
    *out = *part;
    return 0;
}

static int append(struct ids *out, const int32_t *ids, size_t n, struct err *e) {
    int code = mem_reserve(out->a, &out->p, &out->cap, out->n + n, sizeof *out->p, e);
    if (!code && n)
        memcpy(out->p + out->n, ids, n * sizeof *ids);
    out->n += code ? 0 : n;
    return code;
}

static int add_part(struct parts *p, size_t kind, size_t question, struct ids *out, size_t *n, struct err *e) {
    struct part part;
    int code = get_part(p, kind, question, &part, e);
    if (!code && out)
        code = append(out, p->ids + part.at, part.n, e);
    *n += code ? 0 : part.n;
    return code;
}

int parts_input_text(struct parts *p, struct item i, struct str *out, struct err *e) {
    uint32_t demos[RECIPE_SHOTS_MAX];
    size_t question = item_question(p->c, i);
    int code = 0;
    if (format_has_demos(i.format)) {
        corpus_demos(p->c, i.format, i.number, question, i.epoch, demos);
        for (size_t k = 0; k < (size_t)p->c->recipe.shots && !code; k++)
            code = corpus_demo_text(p->c, p->tok, i.format, demos[k], out, e);
    }
    return code ? code : corpus_question_text(p->c, i.format, question, out, e);
}

int parts_input(struct parts *p, struct item i, struct ids *out, size_t *n, struct err *e) {
    *n = 0;
    if (p->whole) {
        const int32_t *ids;
        str_clear(&p->text);
        int code = parts_input_text(p, i, &p->text, e);
        code = code ? code : encode(p, &ids, n, e);
        return code || !out ? code : append(out, ids, *n, e);
    }
    uint32_t demos[RECIPE_SHOTS_MAX];
    size_t question = item_question(p->c, i);
    int code = 0;
    if (format_has_demos(i.format)) {
        corpus_demos(p->c, i.format, i.number, question, i.epoch, demos);
        for (size_t k = 0; k < (size_t)p->c->recipe.shots && !code; k++)
            code = add_part(p, PART_DEMO + (size_t)i.format, demos[k], out, n, e);
    }
    return code ? code : add_part(p, PART_QUESTION + (size_t)i.format, question, out, n, e);
}

int parts_answer(struct parts *p, struct item i, struct ids *out, size_t *n, struct err *e) {
    *n = 0;
    return add_part(p, PART_ANSWER, item_question(p->c, i), out, n, e);
}
