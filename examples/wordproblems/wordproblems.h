/* wordproblems: makes, from nothing but a seed, all that a small distillation needs: arithmetic word problems, a teacher's
 * replies with the probabilities they were drawn from, and a SentencePiece vocabulary for both. A program of its own: it needs
 * the C library only.
 *
 *     problem.c     a problem: the question in words, and the orders in which it can be solved
 *     teacher.c     the tree of replies to a problem; one is drawn, with its exact next-token probabilities
 *     vocabulary.c  the student's pieces, written as spiece.model, and the shape of the student, config.json
 *     output.c      random numbers, JSON text, files that appear whole
 *     main.c        options, the split into training and held-out problems */
#ifndef WORDPROBLEMS_H
#define WORDPROBLEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { MAX_NUMBER = 99, MAX_OPS = 8, MAX_STEPS = 8, MAX_KINDS = 64, MAX_TEXT = 1024 };

/* ---- output.c ---- */

struct random {
    uint64_t state;
};
uint64_t random_bits(struct random *r);
int random_between(struct random *r, int low, int high); /* both included */
double random_unit(struct random *r);                    /* [0, 1) */

struct output { /* a file under a temporary name until output_close */
    FILE *file;
    char path[MAX_TEXT], part[MAX_TEXT + 8];
};
bool output_open(struct output *o, const char *folder, const char *name); /* says on stderr what failed */
bool output_close(struct output *o);
void put_json_text(FILE *f, const char *s, size_t n); /* with its quotes */

/* A text of limited length that is built piece by piece. */
struct line {
    char text[MAX_TEXT];
    size_t n;
};
void line_add(struct line *l, const char *s, size_t n);
void line_number(struct line *l, int v);

/* ---- problem.c ---- */

/* One equation of a solution. An operand is a number of the question, or the result of an earlier equation. */
struct operand {
    int from; /* index of the equation whose result it is, or -1 */
    int number;
};
struct step {
    char sign; /* + - * / */
    struct operand left, right;
};
/* One order in which the equations can be solved. */
struct plan {
    struct step steps[MAX_STEPS];
    size_t n;
};

struct problem {
    char key
        /* kind and operands, whatever the words; problems that differ only in the order of two swappable operands share it */
        [64];
    struct line question;
    const char *unit, *name;
    struct plan plans[2]; /* the order of the question, and another if two steps can be swapped */
    size_t n_plans;
    int answer;
};

/* Which problems are drawn. */
struct style {
    const char *kinds[MAX_KINDS]; /* n_kinds = 0: the usual ones, of two and three steps */
    size_t n_kinds;
    bool reworded; /* told in other words */
};
/* A kind of the style, with operands and words. False if no operands were found that keep all results in 1..99. */
bool problem_draw(struct problem *p, const struct style *style, struct random *r);
bool kind_is_known(const char *kind);

/* All results of a plan when the first `known` of them are given (a teacher may have got one wrong). False if one is outside
 * 0..99 or a division leaves a rest. */
bool plan_solve(const struct plan *plan, int results[MAX_STEPS], size_t known);

/* Every phrase that the usual questions are made of, for the vocabulary. NULL behind the last. */
const char *problem_phrase(size_t i);

/* Appends `phrase` with each {c} replaced by values[i] where keys[i] is c. */
void line_phrase(struct line *l, const char *phrase, const char *keys, const char *const *values);

/* ---- teacher.c ---- */

struct teacher {
    struct random random;
    double slip; /* probability that a step's result is wrong */
};
/* Draws a reply and writes it as one element of "choices". *tokens is raised by its tokens; the result says whether its answer
 * is right. */
bool teacher_reply(struct teacher *t, const struct problem *p, FILE *f, size_t index, size_t offset, size_t *tokens);
/* The most probable correct reply without its last line: a solution to show as an example. */
void teacher_rationale(const struct problem *p, struct line *out);
const char *teacher_phrase(size_t i);   /* as problem_phrase */
size_t teacher_count(const char *text); /* tokens of a text */

/* ---- vocabulary.c ---- */

/* Writes spiece.model and config.json. *pieces: how many pieces there are. words: NULL, or a file of further phrases, one a line. */
bool vocabulary_write(const char *folder, const char *words, size_t *pieces);

#endif
