/* What the suites of the room share, and its main. */
#include "test_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_varint(struct str *out, uint64_t v) {
    for (; v >= 0x80; v >>= 7)
        str_addc(out, (char)(unsigned char)(v | 0x80));
    str_addc(out, (char)(unsigned char)v);
}

void model_bytes(struct str *out, unsigned field, struct text t) {
    put_varint(out, field << 3 | 2);
    put_varint(out, t.n);
    str_add(out, t.p, t.n);
}

void model_number(struct str *out, unsigned field, uint64_t value) {
    put_varint(out, field << 3);
    put_varint(out, value);
}

void model_piece(struct str *out, const char *piece, float score, int kind) {
    struct str m;
    str_init(&m, &mem_std);
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    model_bytes(&m, 1, text_of(piece));
    put_varint(&m, 2 << 3 | 5);
    for (int i = 0; i < 4; i++)
        str_addc(&m, (char)(unsigned char)(bits >> (8 * i)));
    if (kind != 1)
        model_number(&m, 3, (uint64_t)kind);
    model_bytes(out, 1, (struct text){str_z(&m), m.n});
    str_free(&m);
}

void model_small(struct str *out) {
    static const char *const words[] = {"\u2581",   "a",         "b", "c",       "ab",     "bc",
                                        "\u2581ab", "\u2581cab", "1", "\u25811", "\u00e9", "t"};
    model_piece(out, "<pad>", 0, 3);
    model_piece(out, "</s>", 0, 3);
    model_piece(out, "<unk>", 0, 2);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        model_piece(out, words[i], -1.0F - 0.125F * (float)i, 1);
}

void model_charsmap(struct str *out) {
    /* Three blocks of 256 units: the root, its children, their values. A unit is offset << 10 | 1 << 8 (a value follows) |
     * label. */
    static const struct {
        unsigned char key;
        const char *value;
    } map[] = {{'A', "a"}, {'\t', " "}, {'#', ""}, {'@', "at bat"}};
    uint32_t unit[768] = {[0] = 256U << 10};
    struct str values;
    str_init(&values, &mem_std);
    for (size_t i = 0; i < 4; i++) {
        unit[256 + map[i].key] = 768U << 10 | 1U << 8 | map[i].key;
        unit[512 + map[i].key] = 1U << 31 | (uint32_t)values.n;
        str_add(&values, map[i].value, strlen(map[i].value) + 1);
    }
    uint32_t bytes = sizeof unit;
    for (int i = 0; i < 4; i++)
        str_addc(out, (char)(unsigned char)(bytes >> (8 * i)));
    for (size_t k = 0; k < 768; k++)
        for (int i = 0; i < 4; i++)
            str_addc(out, (char)(unsigned char)(unit[k] >> (8 * i)));
    str_add(out, values.p, values.n);
    str_free(&values);
}

rsd_tokenizer *open_bytes(rsd_ctx *ctx, const struct str *file) {
    static const char *dir = NULL;
    static const char *path = NULL;
    static char keep[4096];
    if (!dir) {
        dir = test_dir();
        path = test_path(dir, "spiece.model");
        ck_assert_uint_lt(strlen(path), sizeof keep);
        memcpy(keep, path, strlen(path) + 1);
    }
    remove(keep); /* a new file each time: some file systems sync a file that was emptied and written again */
    test_write(keep, str_z(file), file->n);
    rsd_tokenizer *t = NULL;
    int code = rsd_tokenizer_open(ctx, keep, &t);
    ck_assert_int_eq(code == RSD_OK, t != NULL);
    return t;
}

char *encoded(rsd_tokenizer *t, const char *text, size_t n) {
    const int32_t *ids = NULL;
    size_t count = 0;
    struct str s;
    str_init(&s, &mem_std);
    ck_assert_int_eq(rsd_tokenizer_encode(t, text, n, &ids, &count), RSD_OK);
    for (size_t i = 0; i < count; i++) {
        const char *piece = NULL;
        size_t len = 0;
        ck_assert_int_eq(rsd_tokenizer_surface(t, i, &piece, &len), RSD_OK);
        if (i)
            str_addc(&s, '|');
        str_add(&s, piece, len);
    }
    str_add(&s, "", 0);
    char *out = str_take(&s);
    return out ? out : calloc(1, 1);
}

size_t each_line(const char *name, void (*fn)(const struct json *line, void *user), void *user) {
    struct lines l;
    struct text line;
    struct err e = {0};
    size_t n = 0;
    int more = 0;
    ck_assert_msg(!lines_open(&l, &mem_std, test_data(name), (size_t)16 << 20, &e), "%s", e.text);
    while ((more = lines_next(&l, &line, &e)) > 0) {
        struct json *doc = NULL;
        ck_assert_msg(!json_parse(line.p, line.n, &doc, &e), "%s:%zu: %s", name, l.line, e.text);
        fn(doc, user);
        json_free(doc);
        n++;
    }
    ck_assert_msg(more == 0, "%s", e.text);
    lines_close(&l);
    return n;
}

int main(void) {
    SRunner *r = srunner_create(text_tokenizer_suite());
    srunner_add_suite(r, text_model_suite());
    srunner_add_suite(r, text_parts_suite());
    srunner_add_suite(r, text_bpe_suite());
    srunner_add_suite(r, text_prompt_suite());
    srunner_add_suite(r, text_answer_suite());
    return test_run(r);
}
