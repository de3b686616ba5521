/* The dialects we speak, in the order in which a choice is shown to them. */
#include "teacher/dialect.h"

static const struct dialect *const all[] = {&dialect_completions, &dialect_chat};

const struct dialect *dialect_of(const struct json *choice) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->knows(choice))
            return all[i];
    return NULL;
}
