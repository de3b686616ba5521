/* wordproblems --out FOLDER: writes
 *
 *     train.jsonl, heldout.jsonl   {"id","question","answer","rationale"}
 *     replies.jsonl                the teacher's replies to train.jsonl: bodies of the completions endpoint with "id" and "question"
 *     spiece.model, config.json    the student's vocabulary and shape
 *
 * The same options give the same bytes. Whether a problem is held out is a function of its operations and operands alone, so
 * no held-out problem has those of a training problem, whatever the template, the names, and the things. */
#include "wordproblems.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct options {
    const char *out, *words;
    struct style style;
    long problems, heldout, samples, seed;
    double slip;
};

struct seen { /* questions told already, as hashes; open addressing, at most half full */
    uint64_t *hashes;
    size_t size;
};

static const char usage[] =
    "usage: wordproblems --out FOLDER [--problems 24000] [--heldout 500] [--samples 1] [--seed 1] [--slip 0.04]\n"
    "       [--kinds \"S+ P-*\"] [--wording usual|other] [--words FILE]\n"
    "  --problems  training problems; --heldout  held-out problems\n"
    "  --samples   the teacher's replies to each training problem\n"
    "  --slip      probability that a step of the teacher's is wrong\n"
    "  --kinds     which problems, in equal shares, instead of the usual ones of two and three steps; a letter is a sentence: S "
    "a number of things,\n"
    "              P groups of them, then Q more groups (behind P only), + more, - less, * times as many, / shared (last only)\n"
    "  --wording   other: questions in words that the usual ones do not have\n"
    "  --words     phrases, one a line, whose words go into the vocabulary, too\n";

/* CRC-32 as in zip files; here only to spread keys evenly. */
static uint32_t crc32(const char *s) {
    uint32_t crc = 0xffffffffu;
    for (; *s != '\0'; s++) {
        crc ^= (unsigned char)*s;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static bool is_heldout(const struct problem *p) {
    return crc32(p->key) % 10 == 0;
}

/* True the first time. FNV-1a over the text. */
static bool is_new(struct seen *seen, const struct line *question) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < question->n; i++)
        hash = (hash ^ (unsigned char)question->text[i]) * 0x100000001b3u;
    hash |= 1; /* 0 marks an empty place */
    size_t at = (size_t)hash & (seen->size - 1);
    for (; seen->hashes[at] != 0; at = (at + 1) & (seen->size - 1))
        if (seen->hashes[at] == hash)
            return false;
    seen->hashes[at] = hash;
    return true;
}

static void put_problem(FILE *f, const char *id, const struct problem *p) {
    struct line rationale;
    teacher_rationale(p, &rationale);
    fprintf(f, "{\"id\":\"%s\",\"question\":", id);
    put_json_text(f, p->question.text, p->question.n);
    fprintf(f, ",\"answer\":\"%d\",\"rationale\":", p->answer);
    put_json_text(f, rationale.text, rationale.n);
    fputs("}\n", f);
}

/* A response body. Returns how many of the replies are wrong. */
static long put_replies(FILE *f, const char *id, const struct problem *p, struct teacher *t, long samples) {
    struct line prompt = {0};
    const char *const question[] = {p->question.text};
    line_phrase(&prompt, "Question: {q}\nLet's think step by step\n", "q", question);
    fprintf(f, "{\"id\":\"%s\",\"object\":\"text_completion\",\"model\":\"wordproblems-teacher\",\"question\":", id);
    put_json_text(f, p->question.text, p->question.n);
    fputs(",\"choices\":[", f);
    long wrong = 0;
    size_t tokens = 0;
    const size_t asked = teacher_count(prompt.text);
    for (long i = 0; i < samples; i++) {
        if (i > 0)
            putc(',', f);
        wrong += teacher_reply(t, p, f, (size_t)i, prompt.n, &tokens) ? 0 : 1;
    }
    fprintf(f, "],\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu}}\n", asked, tokens,
            asked + tokens);
    return wrong;
}

static bool write_all(const struct options *o, struct seen *seen) {
    struct output train, heldout, replies;
    struct random random = {(uint64_t)o->seed};
    struct teacher teacher = {{(uint64_t)o->seed ^ 0x7465616368657221u}, o->slip};
    long n_train = 0, n_heldout = 0, wrong = 0;
    size_t pieces = 0;
    bool fine = output_open(&train, o->out, "train.jsonl");
    fine = output_open(&heldout, o->out, "heldout.jsonl") && fine;
    fine = output_open(&replies, o->out, "replies.jsonl") && fine;
    while (fine && (n_train < o->problems || n_heldout < o->heldout)) {
        struct problem p;
        char id[48];
        if (!problem_draw(&p, &o->style, &random)) {
            fprintf(stderr, "wordproblems: no operands were found for one of --kinds that keep its results below 100\n");
            fine = false;
            break;
        }
        const bool held = is_heldout(&p);
        long *n = held ? &n_heldout : &n_train;
        if (*n >= (held ? o->heldout : o->problems) || !is_new(seen, &p.question))
            continue;
        snprintf(id, sizeof id, "%s-%05ld", held ? "heldout" : "train", (*n)++);
        put_problem(held ? heldout.file : train.file, id, &p);
        if (!held)
            wrong += put_replies(replies.file, id, &p, &teacher, o->samples);
    }
    fine = output_close(&train) && fine;
    fine = output_close(&heldout) && fine;
    fine = output_close(&replies) && fine;
    fine = fine && vocabulary_write(o->out, o->words, &pieces);
    if (fine)
        printf("%ld training problems, %ld held out, %ld replies of which %ld are wrong, %zu pieces: %s\n", n_train, n_heldout,
               n_train * o->samples, wrong, pieces, o->out);
    return fine;
}

static bool number_option(const char *text, long low, long high, long *out) {
    char *end = NULL;
    errno = 0;
    *out = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *out >= low && *out <= high;
}

/* Cuts the text at blanks. */
static bool kinds_read(struct style *style, char *text) {
    for (char *kind = strtok(text, " "); kind != NULL; kind = strtok(NULL, " ")) {
        if (style->n_kinds == MAX_KINDS || !kind_is_known(kind))
            return false;
        style->kinds[style->n_kinds++] = kind;
    }
    return style->n_kinds > 0;
}

static bool options_read(struct options *o, int argc, char **argv) {
    bool fine = argc % 2 == 1;
    for (int i = 1; i + 1 < argc && fine; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        char *end = NULL;
        if (strcmp(name, "--out") == 0)
            o->out = value;
        else if (strcmp(name, "--problems") == 0)
            fine = number_option(value, 0, 1000000, &o->problems);
        else if (strcmp(name, "--heldout") == 0)
            fine = number_option(value, 0, 5000, &o->heldout);
        else if (strcmp(name, "--samples") == 0)
            fine = number_option(value, 1, 100000, &o->samples);
        else if (strcmp(name, "--seed") == 0)
            fine = number_option(value, 0, 1000000000, &o->seed);
        else if (strcmp(name, "--slip") == 0)
            fine = (o->slip = strtod(value, &end)) >= 0 && o->slip <= 0.5 && end != value && *end == '\0';
        else if (strcmp(name, "--kinds") == 0)
            fine = kinds_read(&o->style, argv[i + 1]);
        else if (strcmp(name, "--wording") == 0)
            fine = (o->style.reworded = strcmp(value, "other") == 0) || strcmp(value, "usual") == 0;
        else if (strcmp(name, "--words") == 0)
            o->words = value;
        else
            fine = false;
        if (!fine)
            fprintf(stderr, "wordproblems: %s %s is not an option with its value\n", name, value);
    }
    return fine && o->out != NULL;
}

int main(int argc, char **argv) {
    struct options o = {.problems = 24000, .heldout = 500, .samples = 1, .seed = 1, .slip = 0.04};
    if (!options_read(&o, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (mkdir(o.out, 0777) != 0 && errno != EEXIST) {
        perror(o.out);
        return 1;
    }
    struct seen seen = {NULL, 1};
    while (seen.size < 2 * (size_t)(o.problems + o.heldout))
        seen.size *= 2;
    seen.hashes = calloc(seen.size, sizeof *seen.hashes);
    if (seen.hashes == NULL) {
        perror("wordproblems");
        return 1;
    }
    const bool fine = write_all(&o, &seen);
    free(seen.hashes);
    return fine ? 0 : 1;
}
