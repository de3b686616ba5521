/* The layouts of question files, one function each. All append to q and stop at `from->limit`; errors name the place in the file,
 * the caller adds the path. */
#ifndef DATA_ORIGINAL_H
#define DATA_ORIGINAL_H

#include "core/json.h"
#include "data/questions.h"

/* One line: an object with "id", or, for gsm8k and TASK_ANY, GSM8K's own {"question","answer"}. */
int original_line(struct questions *q, const struct questions_from *from, struct text line, struct err *e);
/* A whole document: the arrays of SVAMP and MultiArith, the object of BIG-Bench-Hard. */
int original_document(struct questions *q, const struct questions_from *from, const struct json *doc, struct err *e);
/* ASDiv's XML. */
int original_asdiv(struct questions *q, const struct questions_from *from, struct text file, struct err *e);

/* Questions of the group that is being read, and whether that is all it may have. */
size_t original_count(const struct questions *q);
bool original_full(const struct questions *q, const struct questions_from *from);
/* Adds a question to the group; its id is `prefix` and `id`. */
int original_put(struct questions *q, const struct questions_from *from, const char *prefix, struct question x, struct err *e);

#endif
