/* reasondistill: the library at a terminal. This file knows the verbs and nothing else. */
#include "cli/cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct verb verbs[] = {
    {"collect", "asks a teacher and keeps its replies",
     "Reads questions (one {\"id\",\"question\",\"answer\"} a line), asks for the samples that the store --out does not have "
     "yet, labels each reply\n"
     "correct or not by its final answer, and appends it. Stopped anywhere, the same command goes on and asks nothing twice.\n"
     "The API key is read from the environment variable --api-key-env or from --api-key-file, never from the command line.\n\n"
     "  reasondistill collect --questions q.jsonl --teacher https://host/v1 --model NAME --prompt prompt.txt --samples 40 --out "
     "teacher.jsonl\n"
     "  reasondistill collect --teacher https://host/v1 --model NAME --check\n"
     "  reasondistill collect --out teacher.jsonl --verify|--compact|--stats",
     verb_collect},
    {"tokenize", "text to ids and pieces, or back",
     "Reads {\"text\"} or {\"bytes_hex\"} a line, writes {\"ids\",\"pieces\"}; with --decode reads {\"ids\"}, writes {\"text\"}. "
     "No end token is added.\n\n"
     "  echo '{\"text\":\"Hello world\"}' | reasondistill tokenize --tokenizer spiece.model",
     verb_tokenize},
    {"align", "carries teacher tokens and probabilities over to the student's tokenizer",
     "Reads a teacher store (or bare response bodies), writes an aligned shard; with --json a line for each reply instead.\n\n"
     "  reasondistill align --tokenizer spiece.model --in teacher.jsonl --out aligned.rsd",
     verb_align},
    {"build", "makes a data set from questions and aligned replies",
     "The folder --out holds dataset.json and shards; the four formats are made of it while reading. With --task the questions "
     "may "
     "be\na benchmark's own files (see questions).\n\n"
     "  reasondistill build --questions q.jsonl --in aligned.rsd --formats zs-ao,zs-cot --hold-out test.jsonl --out data",
     verb_build},
    {"questions", "turns a benchmark's own file into lines of questions",
     "Reads GSM8K (lines), MultiArith and SVAMP (JSON arrays), ASDiv (XML), BIG-Bench-Hard (a JSON object, or a folder of them), "
     "or lines\n{\"id\",\"question\",\"answer\",\"rationale\"}, and writes the latter.\n\n"
     "  reasondistill questions --task asdiv --in ASDiv.xml --out asdiv.jsonl",
     verb_questions},
    {"init", "makes a new student: random weights, or fewer layers of a model",
     "  reasondistill init --config config.json --tokenizer spiece.model --out student\n"
     "  reasondistill init --from flan-t5-base --layers 6,4 --out student",
     verb_init},
    {"train", "trains a student as a run.json says",
     "Keeps a run directory (metrics.jsonl, checkpoints, eval). Ctrl-C saves and stops; --resume goes on to the same bits.\n\n"
     "  reasondistill train run.json\n  reasondistill train run.json --resume\n  reasondistill train run.json --print-config",
     verb_train},
    {"generate", "lets a student write",
     "Reads {\"text\"} a line, writes {\"text\",\"ids\",\"logprob\",\"finish\"}, with --n above 1 {\"outputs\":[...]} of these. "
     "Greedy unless\n--beam or --sample. The end token is appended to the input and is not among the ids. finish: stop (the end "
     "token), length,\nstop_string, repeat.\n\n"
     "  echo '{\"text\":\"Q: ...\"}' | reasondistill generate --model student\n"
     "  reasondistill generate --model student --in q.jsonl --sample --n 8 --temperature 0.7 --top-p 0.95 --stop $'\\n\\n'",
     verb_generate},
    {"score", "log-probabilities of given targets",
     "Reads {\"input\",\"target\"} a line, writes {\"ids\",\"logprobs\",\"perplexity\"}; the end token is appended to both and "
     "counted.\n\n"
     "  echo '{\"input\":\"Q: ...\",\"target\":\"The answer is 4\"}' | reasondistill score --model student",
     verb_score},
    {"eval", "final-answer accuracy on a task",
     "Generates for every item of a task, compares final answers, prints accuracy with its 95 % Wilson interval, writes figures "
     "and "
     "all outputs\nto --out. Each output is judged by three parsers: strict (the answer stands behind \"The answer is\"), "
     "lenient, "
     "and the\nreference's. Several samples vote.\n\n"
     "  reasondistill eval --model student --task gsm8k --data gsm8k_test.jsonl --format zs-cot --out eval.json\n"
     "  reasondistill eval --model student --task bbh --data bbh --format ic-ao --demos train.jsonl\n"
     "  reasondistill eval --model student --task gsm8k --data gsm8k_test.jsonl --samples 40 --temperature 0.5 --maj 1,5,40",
     verb_eval},
    {"compare", "two models on the same items, by what eval --out wrote",
     "Counts the items on which only one of them is right; p is that of McNemar's exact test, the interval Newcombe's for paired "
     "shares.\n\n"
     "  reasondistill compare before.json after.json --list",
     verb_compare},
    {"select", "every checkpoint of a run on several sets, and which one to keep",
     "Evaluates what RUN/eval/select does not have yet. Rules: last; best-id, the best in distribution; best-mean-ood, the best "
     "mean "
     "out of\n"
     "distribution (Fu et al. 2023); pareto, of those that no other beats on both the one nearest to the best of both.\n"
     "Without sets: those of \"eval\" in RUN/run.json, with their settings.\n\n"
     "  reasondistill select run\n"
     "  reasondistill select run --id dev=gsm8k:zs-cot:dev.jsonl --ood svamp:zs-cot:svamp.jsonl --ood bbh:zs-ao:bbh "
     "--test gsm8k:zs-cot:test.jsonl",
     verb_select},
    {"scaling", "a line through accuracy against the logarithm of the number of parameters",
     "Reads {\"parameters\",\"correct\",\"n\"} or {\"parameters\",\"accuracy\"} a line, and \"series\" to tell some from others "
     "(before, after);\nfits each series, and the difference of two by size. Accuracy is what the literature plots, but no line "
     "in it "
     "holds near 0 and 1;\nthe same in log-odds, which have no ends, is fitted too where counts are given.\n\n"
     "  reasondistill scaling --in sizes.jsonl --out fits.json",
     verb_scaling},
    {"merge", "a model between, or a sum of, models of one ancestor",
     "With --base: base + the sum of alpha * (tuned - base), for one tuned model an interpolation; alpha 0 and 1 give the ends "
     "bit for "
     "bit.\nWithout: the mean of the tuned ones (a soup).\n\n"
     "  reasondistill merge --base flan-t5-base --tuned student --alpha 0.5 --out merged\n"
     "  reasondistill merge --base flan-t5-base --tuned math --tuned code --alpha 0.7,0.3 --out both\n"
     "  reasondistill merge --tuned seed1 --tuned seed2 --tuned seed3 --out soup",
     verb_merge},
    {"sweep", "models between a base and what was tuned from it, each evaluated on target and generic sets",
     "One model in memory at a time; none is written unless --save asks for it.\n\n"
     "  reasondistill sweep --base flan-t5-base --tuned student --alphas 0,0.1,..,1 --id gsm8k:zs-cot:dev.jsonl --ood "
     "bbh:zs-ao:bbh",
     verb_sweep},
    {"info", "versions, kernels, memory, and what a model directory holds",
     "  reasondistill info\n  reasondistill info --model student", verb_info},
    {"bench", "measures speed; one JSON object of figures",
     "bench train|generate|encode|open on a model with random weights of a known shape, or on --model; bench train --data on "
     "the\n"
     "packed batches of a data set; bench tokenize on text lines, bench align on a store. Figures: seconds (median) and "
     "seconds_min\n"
     "of a step, exact gflop, the share of the peak and of the limit (gflop at the peak, and the bytes that must move) measured "
     "in\n"
     "the same run, time of each phase, peak memory, threads, libraries and variables that change them. Figures with _beside "
     "take "
     "the\n"
     "peak right before and behind each step: fairer on a CPU that is shared.\n\n"
     "  reasondistill bench train --shape flan-t5-small --batch 8 --enc 512 --dec 128 --steps 3\n"
     "  reasondistill bench tokenize --tokenizer spiece.model --in text.jsonl",
     verb_bench},
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

static void usage(FILE *to) {
    fprintf(to,
            "reasondistill %s: teaches small T5 models to reason, from the answers of a large teacher\n\n"
            "usage: reasondistill <verb> [options]      (reasondistill <verb> --help explains each)\n\n",
            rsd_version());
    for (size_t i = 0; i < N_VERBS; i++)
        fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
    fprintf(to, "\nWith any verb: --kernels NAME, or " CLI_KERNELS " in the environment, chooses the code that computes: auto");
    for (size_t k = 0; rsd_ctx_kernels(k); k++)
        fprintf(to, ", %s", rsd_ctx_kernels(k));
    fprintf(to, ".\n\nExit status: 0 done, 1 failed, 2 wrong usage.\n");
}

/* Output that was lost is a failure, whichever verb wrote it. */
static int leave(int status) {
    if (fflush(stdout) || ferror(stdout)) {
        if (status == EXIT_OK)
            fprintf(stderr, "reasondistill: standard output could not be written\n");
        status = status == EXIT_OK ? EXIT_FAILED : status;
    }
    return status;
}

/* Takes --kernels NAME out of the arguments, wherever it stands, and leaves the choice to cli_open. */
static int take_kernels(int *argc, char **argv) {
    const char *name = NULL;
    int kept = 1, i = 1;
    for (; i < *argc && strcmp(argv[i], "--"); i++) {
        if (!strncmp(argv[i], "--kernels=", 10))
            name = argv[i] + 10;
        else if (!strcmp(argv[i], "--kernels") && i + 1 < *argc)
            name = argv[++i];
        else
            argv[kept++] = argv[i];
    }
    for (; i < *argc; i++)
        argv[kept++] = argv[i];
    argv[kept] = NULL;
    *argc = kept;
    if (kept > 1 && !strcmp(argv[kept - 1], "--kernels")) {
        fprintf(stderr, "reasondistill: a value is missing after --kernels\n");
        return EXIT_USAGE;
    }
    if (!name)
        return EXIT_OK;
    bool known = !strcmp(name, "auto");
    for (size_t k = 0; rsd_ctx_kernels(k); k++)
        known = known || !strcmp(name, rsd_ctx_kernels(k));
    if (known && !setenv(CLI_KERNELS, name, 1))
        return EXIT_OK;
    fprintf(stderr, "reasondistill: --kernels %s: this build and CPU have auto", name);
    for (size_t k = 0; rsd_ctx_kernels(k); k++)
        fprintf(stderr, ", %s", rsd_ctx_kernels(k));
    fprintf(stderr, "\n");
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    signal(SIGXFSZ, SIG_IGN); /* a file over the limit then gives an error that names it */
    if (take_kernels(&argc, argv))
        return EXIT_USAGE;
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return leave(EXIT_OK);
    }
    if (!strcmp(argv[1], "--version")) {
        printf("reasondistill %s\n", rsd_version());
        return leave(EXIT_OK);
    }
    for (size_t i = 0; i < N_VERBS; i++)
        if (!strcmp(argv[1], verbs[i].name))
            return leave(verbs[i].run(&verbs[i], argc - 1, argv + 1));
    fprintf(stderr, "reasondistill: there is no verb %s (see reasondistill --help)\n", argv[1]);
    return EXIT_USAGE;
}
