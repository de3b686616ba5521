/* dataset.json: how a data set was made and what must fit it. */
#ifndef DATA_RECIPE_H
#define DATA_RECIPE_H

#include "core/file.h"
#include "reasondistill/dataset.h"

enum { RECIPE_SHOTS_MAX = 64 };

struct recipe {
    uint64_t seed;
    uint32_t formats; /* bits 1 << rsd_format */
    int32_t shots, keep, demos;
    char tokenizer[65];                            /* rsd_tokenizer_hash; "" where no reply was aligned */
    char questions_sha256[65], aligned_sha256[65]; /* of the files it was made from; aligned "" if there was none */
    rsd_build_report report;
};

int recipe_write(const struct recipe *r, const struct allocator *a, const char *path, struct err *e);
int recipe_read(struct recipe *r, const struct allocator *a, const char *path, struct err *e);

#endif
