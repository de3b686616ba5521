/* The final answer of a reply: finding it, and telling whether it is the gold answer. Works on any bytes, in one pass, without
 * locale and without memory.
 *
 * STRICT is what a trained student or teacher must write: an answer after the last "The answer is" (case-sensitive). LENIENT
 * takes what an untrained model may write instead: "answer is" or "answer:" in any case, "#### N", else the last number (for
 * other answers: the last line). Both read thousands separators, signs, decimals, fractions, currency, percent and units,
 * which the reference's `\d*\.?\d+` did not. */
#ifndef TEXT_ANSWER_H
#define TEXT_ANSWER_H

#include "core/str.h"

enum answer_parser { ANSWER_STRICT, ANSWER_LENIENT };

/* What the reply states: the rest of the line after the marker (of the next line that is not blank if there is no rest),
 * without blanks around it and a full stop behind it. False if there is none. *out points into the reply. */
bool answer_find(struct text reply, enum answer_parser parser, struct text *out);

/* The number it states: the last one in what answer_find gives (LENIENT: in its first sentence that has one; without a marker
 * in the whole reply). */
bool answer_number(struct text reply, enum answer_parser parser, double *value);

/* What a reply states, read as its gold answer asks: a number, a list of numbers ("5; 15; 20"), or a text. NONE: it states nothing
 * of that kind. */
enum answer_kind { ANSWER_NONE, ANSWER_NUMBER, ANSWER_LIST, ANSWER_TEXT };
struct answer {
    enum answer_kind kind;
    double value;     /* of a NUMBER */
    struct text text; /* of the others; points into the reply */
    char option;      /* LENIENT, where the gold answer is an option "(B)": its letter in lower case; else 0 */
};
struct answer answer_read(struct text reply, struct text gold, enum answer_parser parser);

/* Whether two replies to one question state the same answer; both were read for its gold answer. What states none is the same as
 * nothing. This is how votes are counted. */
bool answer_same(struct answer a, struct answer b, enum answer_parser parser);

/* Whether the reply states the gold answer. A gold answer that is a number, or a list of numbers, is compared as such (72 = 72.0, 5/2
 * = 2.5), all others as text without case, blanks and punctuation; LENIENT also takes the first clause ("Yes, because") and the
 * letter of an option ("(B) 3 dogs"). A gold answer may still be a whole GSM8K solution ending in "#### N". An empty one is never
 * right. */
bool answer_correct(struct text reply, struct text gold, enum answer_parser parser);

/* What the reference's code calls right, to compare with its figures. Numbers: the last `\d*\.?\d+` of reply and gold answer are
 * equal (2,000 is 0 and -3 is 3; right where the gold answer has no number and the reply has one). `substring`, for BIG-Bench Hard:
 * the gold answer stands somewhere in the reply, and with `reasoning` behind its first "the answer is", lower-case, and before the
 * next. */
bool answer_reference(struct text reply, struct text gold, bool substring, bool reasoning);

/* A gold answer: what stands behind the last "####" if there is one, without blanks around it. */
struct text answer_gold(struct text gold);

/* Whether two bare answers are the same, as answer_correct compares. */
bool answer_equal(struct text a, struct text gold);

/* The reply up to the end of its first line with "answer is" (case-sensitive, as in the reference), without that line's end;
 * all of it if there is no such line. */
struct text answer_cut(struct text reply);

/* The next number at or behind *pos: its value, and where it stands (*begin with sign and currency); *pos moves behind it. */
struct number {
    double value;
    size_t begin, end;
};
bool number_next(struct text t, size_t *pos, struct number *out);
/* The last `\d*\.?\d+`: no sign, no thousands. */
bool number_last_digits(struct text t, double *value);
bool number_whole(struct text t, double *value); /* the text is a number, but for blanks, currency, percent and a full stop */

#endif
