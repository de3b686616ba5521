/* What the student reads and writes: questions, reasoning and answers in the four formats. Everything is appended to `out`;
 * failures are ERR_NOMEM (also kept in out) or ERR_INVALID for a format that does not exist. */
#ifndef TEXT_PROMPT_H
#define TEXT_PROMPT_H

#include "core/str.h"
#include "reasondistill/format.h"

struct demo { /* a solved training question; solution as its author wrote it, calculator marks included; may be empty */
    struct text question, solution, answer;
};

bool format_has_demos(int format);
bool format_has_reasoning(int format);

/* The input text. Demonstrations are used, in order, where the format has them (n = 0 gives the plain question in the
 * in-context layout). Choosing ones that are not the question itself is the caller's part: demo_is_same. */
int prompt_input(struct str *out, int format, struct text question, const struct demo *demos, size_t n, struct err *e);

/* The target text. Formats with reasoning: the reasoning, blanks at both ends removed, then "The answer is {answer}" in a line
 * of its own. A teacher's reply that states its answer itself is not put through this function but through answer_cut. */
int prompt_target(struct str *out, int format, struct text reasoning, struct text answer, struct err *e);

/* A human solution without GSM8K's calculator marks (`<<48/2=24>>`), its last line `#### N`, and blanks at both ends. */
int solution_clean(struct str *out, struct text solution, struct err *e);

/* The same question, but for blanks: such a demonstration would give the answer away. */
bool demo_is_same(struct text question, struct text other);

/* The request text of a teacher: every `{question}` of the template is replaced, in one pass, so braces in the question stay
 * as they are. ERR_INVALID if the template has none. */
int prompt_fill(struct str *out, struct text template_text, struct text question, struct err *e);

#endif
