/* The line of `align --json`: the reference's field names, and what it does not know: rows, kinds, masses, weights, chunks. */
#include "align/put.h"

#include <math.h>

static void put_token(struct json_out *o, struct text t) {
    if (text_is_utf8(t)) {
        json_put_text(o, t);
        return;
    }
    static const char digits[] = "0123456789abcdef";
    struct str hex;
    str_init(&hex, o->s->a);
    for (size_t i = 0; i < t.n; i++) {
        str_addc(&hex, digits[(unsigned char)t.p[i] >> 4]);
        str_addc(&hex, digits[(unsigned char)t.p[i] & 15]);
    }
    o->s->failed |= hex.failed;
    json_object(o);
    json_put_key(o, "hex");
    json_put_text(o, (struct text){str_z(&hex), hex.n});
    json_end_object(o);
    str_free(&hex);
}

void align_put_name(struct json_out *o, const rsd_aligner *a) {
    json_put_key(o, "id");
    json_put_text(o, (struct text){str_z(&a->id), a->id.n});
    json_put_key(o, "sample");
    json_put_int(o, a->sample);
}

/* In the reply's own words, also where they lie over another text. */
void align_put_tokens(struct json_out *o, const rsd_aligner *a, const char *key) {
    const struct step *told = (a->bridged ? a->other : a->steps) + a->out.teacher_first;
    json_put_key(o, key);
    json_array(o);
    for (size_t i = 0; i < a->out.n_teacher; i++)
        put_token(o, told[i].token.bytes);
    json_end_array(o);
}

void align_put_kinds(struct json_out *o, const rsd_aligner *a) {
    json_put_key(o, "kinds");
    json_array(o);
    for (size_t j = 0; j < a->s; j++)
        json_put_z(o, rsd_kind_name(a->kinds[j]));
    json_end_array(o);
}

void align_put_floats(struct json_out *o, const char *key, const float *v, size_t n) {
    json_put_key(o, key);
    json_array(o);
    for (size_t j = 0; j < n; j++)
        json_put_float(o, v[j]);
    json_end_array(o);
}

static void put_ids(struct json_out *o, const rsd_aligner *a) {
    json_put_key(o, "student_ids");
    json_array(o);
    for (size_t j = 0; j < a->s; j++)
        json_put_int(o, a->ids[j]);
    json_end_array(o);
}

void align_put_pieces(struct json_out *o, const rsd_aligner *a, const char *key) {
    json_put_key(o, key);
    json_array(o);
    for (size_t j = 0; j < a->s; j++)
        json_put_text(o, align_surface(a, j));
    json_end_array(o);
}

static void put_maps(struct json_out *o, const rsd_aligner *a) {
    json_put_key(o, "student_to_teacher");
    json_array(o);
    for (size_t j = 0; j < a->s; j++) {
        json_array(o);
        for (size_t k = a->map_offsets[j]; k < a->map_offsets[j + 1]; k++)
            json_put_int(o, a->map[k]);
        json_end_array(o);
    }
    json_end_array(o);
    /* the other way round: both sides are in order, so the pieces of a token are a run */
    json_put_key(o, "teacher_to_student");
    json_array(o);
    size_t from = 0;
    for (size_t i = 0; i < a->n; i++) {
        json_array(o);
        bool seen = false;
        for (size_t j = from; j < a->s; j++) {
            bool has = false;
            for (size_t k = a->map_offsets[j]; k < a->map_offsets[j + 1]; k++)
                has |= a->map[k] == i;
            if (has)
                json_put_int(o, (int64_t)j);
            if (has && !seen)
                from = j;
            seen |= has;
            if (!has && (seen || (a->map_offsets[j + 1] && a->map[a->map_offsets[j + 1] - 1] > i)))
                break;
        }
        json_end_array(o);
    }
    json_end_array(o);
}

static void put_path(struct json_out *o, const rsd_aligner *a) {
    json_put_key(o, "path");
    json_array(o);
    for (size_t k = 0; k < a->n_path; k++) {
        json_array(o);
        json_put_int(o, a->path[k].token);
        json_put_int(o, a->path[k].piece);
        json_end_array(o);
    }
    json_end_array(o);
    json_put_key(o, "cost");
    json_put_int(o, (int64_t)a->cost);
}

/* The row of piece j, entries named by piece or by id. The unknown id stands for what the reply spells there. */
static void put_row(struct json_out *o, const rsd_aligner *a, size_t j, bool pieces) {
    json_array(o);
    for (size_t k = a->row_offsets[j]; k < a->row_offsets[j + 1]; k++) {
        struct text piece = {"", 0};
        json_array(o);
        if (!pieces)
            json_put_int(o, a->row_ids[k]);
        else if (a->row_ids[k] == a->ids[j])
            json_put_text(o, align_surface(a, j));
        else if (rsd_tokenizer_piece(a->tok, a->row_ids[k], &piece.p, &piece.n) == RSD_OK)
            json_put_text(o, piece);
        json_put_float(o, a->row_probs[k]);
        json_end_array(o);
    }
    json_end_array(o);
}

static void put_rows(struct json_out *o, const rsd_aligner *a) {
    for (int pieces = 1; pieces >= 0; pieces--) {
        json_put_key(o, pieces ? "step_probs" : "rows");
        json_array(o);
        for (size_t j = 0; j < a->s; j++)
            put_row(o, a, j, pieces);
        json_end_array(o);
    }
}

/* [[position behind it, log-likelihood], ...]; null where the teacher did not say that text. */
static void put_chunks(struct json_out *o, const rsd_aligner *a) {
    json_put_key(o, "chunks");
    json_array(o);
    for (size_t c = 0; c < a->n_chunks; c++) {
        json_array(o);
        json_put_int(o, a->chunk_ends[c]);
        if (isnan(a->chunk_logprobs[c]))
            json_put_null(o);
        else
            json_put_float(o, a->chunk_logprobs[c]);
        json_end_array(o);
    }
    json_end_array(o);
}

static bool is_soft(int kind) {
    return kind != RSD_KIND_HARD && kind != RSD_KIND_CONT;
}

/* The reply's own report: positions, the share of them with soft targets, means a position, and positions of each kind. */
static void put_coverage(struct json_out *o, const rsd_aligner *a) {
    size_t kinds[RSD_KIND_HARD + 1] = {0}, soft = 0;
    double placed = 0, given = 0, n = a->s ? (double)a->s : 1, of_kind[RSD_KIND_HARD + 1] = {0};
    for (size_t j = 0; j < a->s; j++) {
        kinds[a->kinds[j]]++;
        of_kind[a->kinds[j]] += (double)a->placed[j];
        soft += is_soft(a->kinds[j]);
        placed += (double)a->placed[j];
        given += (double)a->given[j];
    }
    json_put_key(o, "coverage");
    json_object(o);
    json_put_key(o, "positions");
    json_put_int(o, (int64_t)a->s);
    json_put_key(o, "soft");
    json_put_double(o, (double)soft / n);
    json_put_key(o, "placed");
    json_put_double(o, placed / n);
    json_put_key(o, "given");
    json_put_double(o, given / n);
    for (int k = 0; k <= RSD_KIND_HARD; k++) {
        json_put_key(o, rsd_kind_name(k));
        json_put_int(o, (int64_t)kinds[k]);
    }
    json_put_key(o, "kind_placed");
    json_object(o);
    for (int k = 0; k <= RSD_KIND_HARD; k++)
        if (kinds[k]) {
            json_put_key(o, rsd_kind_name(k));
            json_put_double(o, of_kind[k] / (double)kinds[k]);
        }
    json_end_object(o);
    json_end_object(o);
}

int rsd_aligner_json(rsd_aligner *a, const char **json, size_t *len) {
    if (!a)
        return RSD_EINVAL;
    if (!json || !len)
        return ctx_fail(a->ctx, RSD_EINVAL, "rsd_aligner_json: json and len must not be NULL");
    if (!a->done)
        return ctx_fail(a->ctx, RSD_ESTATE, "rsd_aligner_json: nothing has been aligned: call rsd_aligner_align first");
    struct err e = {0};
    int code = align_chunks(a, &e);
    str_clear(&a->json);
    struct json_out o;
    json_begin(&o, &a->json, 0);
    json_object(&o);
    align_put_name(&o, a);
    json_put_key(&o, "status");
    json_put_int(&o, 1);
    json_put_key(&o, "student_text");
    json_put_text(&o, (struct text){str_z(&a->text), a->text.n});
    align_put_tokens(&o, a, "teacher_tokens");
    put_ids(&o, a);
    align_put_pieces(&o, a, "student_pieces");
    put_maps(&o, a);
    if (a->method == RSD_ALIGN_DTW)
        put_path(&o, a);
    put_rows(&o, a);
    align_put_kinds(&o, a);
    align_put_floats(&o, "placed", a->placed, a->s);
    align_put_floats(&o, "given", a->given, a->s);
    align_put_floats(&o, "tail", a->tails, a->s);
    align_put_floats(&o, "weights", a->weights, a->s);
    put_chunks(&o, a);
    put_coverage(&o, a);
    json_end_object(&o);
    code = code ? code : str_status(&a->json, &e);
    *json = str_z(&a->json);
    *len = a->json.n;
    return ctx_return(a->ctx, code, &e);
}
