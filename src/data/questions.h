/* Questions with their gold answers and human solutions: from lines {"id","question","answer","rationale"}, from the files that
 * benchmarks are published in, or from the file a data set keeps of them. The one reader of items for training and testing. */
#ifndef DATA_QUESTIONS_H
#define DATA_QUESTIONS_H

#include "core/map.h"

#include <stdint.h>

enum { QUESTIONS_LINE_MAX = 16 << 20, QUESTIONS_FILE_MAX = 1 << 30 };

/* Names of tasks say how a file is read and how answers are compared. */
enum task { TASK_GSM8K, TASK_MULTIARITH, TASK_ASDIV, TASK_SVAMP, TASK_BBH, TASK_JSONL, TASKS, TASK_ANY = -1 };
const char *task_name(int task); /* "gsm8k", ..., "jsonl"; NULL for no task. Static. */
/* TASK_... of a name, or ERR_INVALID with the names there are. */
int task_find(const char *name, int *task, struct err *e);

/* answer and rationale are empty where there is none; task is 1, 2, ... by name, 0 where it is not said. */
struct question {
    struct text id, question, answer, rationale;
    uint32_t task;
};

/* The questions of one file: first .. first of the next group. */
struct question_group {
    char *name; /* the file's, without folder and extension */
    size_t first;
};

struct questions {
    const struct allocator *a;
    struct question_at *at;
    uint32_t *task; /* [n] */
    size_t n, cap, cap_task;
    struct str bytes;
    struct map index; /* id -> number */
    struct map tasks; /* name -> task */
    char **names;     /* [n_names] of tasks 1, 2, ...; of a loaded file there are none */
    size_t n_names, cap_names;
    size_t n_tasks; /* the largest task there is */
    struct question_group *groups;
    size_t n_groups, cap_groups;
};

struct questions_from {
    const char *path; /* "-": standard input, as lines; a folder (bbh and jsonl): its *.jsonl and *.json, by name */
    int task;         /* TASK_ANY: whatever the file is */
    size_t limit;     /* first questions of each file only; 0: all */
    bool answers;     /* each must have an answer */
};

/* Every task reads lines {"id","question"|"input","answer"|"target","rationale"}: other keys are passed over, blank lines too, an
 * answer may be a number, and a text of several lines that ends in "#### N" is, for gsm8k, taken apart into both. Besides:
 *     gsm8k       lines {"question","answer"}
 *     multiarith  an array of {"iIndex","sQuestion","lSolutions"}
 *     asdiv       XML: Problem with ID, Body, Question, Answer; "9 (apples)" is 9
 *     svamp       an array of {"ID","Body","Question","Answer"}
 *     bbh         an object with "examples": [{"input","target"}]
 * What has no id of its own gets one of task, file and number: "gsm8k_train-0", "bbh-word_sorting-0". The task of a question is what
 * its line says in "task", else, of several files, the file's name. Errors name file and place: what is no such record, an id that
 * came before, an empty id or question. */
int questions_read(struct questions *q, const struct allocator *a, const struct questions_from *from, struct err *e);
/* Several of them into one, started with questions_start. After a failure questions_free. */
void questions_start(struct questions *q, const struct allocator *a);
int questions_add(struct questions *q, const struct questions_from *from, struct err *e);
int questions_put(struct questions *q, const struct question *x, struct err *e);          /* one more of the last group */
int questions_task(struct questions *q, struct text name, uint32_t *task, struct err *e); /* the number of a task's name */
struct text questions_task_name(const struct questions *q, uint32_t task);                /* empty for 0. Borrowed */

void questions_free(struct questions *q);                           /* harmless after a failed read, or on zeros */
struct question questions_get(const struct questions *q, size_t i); /* borrowed */
bool questions_find(const struct questions *q, struct text id, size_t *i);
size_t questions_group(const struct questions *q, size_t i); /* of a question that was read, not loaded */

/* Calls f for each file that `from` stands for. */
int questions_files(const struct questions_from *from, const struct allocator *a,
                    int (*f)(void *user, const char *path, struct err *e), void *user, struct err *e);

/* The binary form (section.h, kind 2), read without parsing. Groups are not kept, nor the names of tasks. */
int questions_save(const struct questions *q, const char *path, struct err *e);
int questions_load(struct questions *q, const struct allocator *a, const char *path, struct err *e);

#endif
