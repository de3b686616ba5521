#!/bin/sh
# From a teacher to a specialised Flan-T5, its figures, and a report of them (for its pictures Python needs matplotlib):
#
#     sh examples/gsm8k/gsm8k.sh --size small --model flan-t5-small --teacher https://host/v1 --teacher-model NAME --benchmarks FOLDER [--out gsm8k-out]
#
# FOLDER holds the benchmarks as published: gsm8k/train.jsonl, gsm8k/test.jsonl, and where you have them MultiArith.json, ASDiv.xml, SVAMP.json and bbh/. The
# key of the teacher is read from $OPENAI_API_KEY (collect --help names other ways). --prompt FILE: solved examples that the teacher is shown (the paper's eight
# complex ones are in FranxYao/chain-of-thought-hub, gsm8k/lib_prompt). Every step can be stopped; the same command goes on, and nothing is asked twice.
#
#   --size      small, base, large, xl, xxl: which run file of this folder; needs.py says what memory and time it takes
#   --model     the Flan-T5 of that size as a Hugging Face folder; "random": random weights and the tokenizer of --tokenizer, to try the machinery
#   --samples   replies to a question (40, as in the paper)
#   --try       to see it work: ten questions, one reply to each, one step of one small batch, eight tokens an output; figures mean nothing
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
size= model= teacher= teacher_model= benchmarks= tokenizer= prompt= out=gsm8k-out samples=40 try=false limit=0 max_tokens=256 python=${PYTHON-python3}
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --try) try=true limit=10 samples=1 max_tokens=8; shift ;;
    --size | --model | --teacher | --teacher-model | --benchmarks | --tokenizer | --prompt | --out | --samples)
        [ $# -ge 2 ] || { echo "gsm8k: $1 needs a value" >&2; exit 2; }
        name=$(echo "${1#--}" | tr - _)
        eval "$name=\$2"
        shift 2
        ;;
    *) echo "gsm8k: unknown option $1: see --help" >&2; exit 2 ;;
    esac
done
for needed in size model teacher benchmarks; do
    eval "[ -n \"\$$needed\" ]" || { echo "gsm8k: --$needed is needed: see --help" >&2; exit 2; }
done
[ -f "$here/$size.json" ] || { echo "gsm8k: there is no size $size: small, base, large, xl, xxl" >&2; exit 2; }
full() { # the path from anywhere
    case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$PWD/$1" ;; esac
}
benchmarks=$(full "$benchmarks")
[ "$model" = random ] || model=$(full "$model")
[ -z "$tokenizer" ] || tokenizer=$(full "$tokenizer")
[ -z "$prompt" ] || prompt=$(full "$prompt")
case $teacher in replay:*) teacher=replay:$(full "${teacher#replay:}") ;; esac
mkdir -p "$out"
cd "$out"

say() { printf '\n== %s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}
# make FILE COMMAND...: unless the file is there. The commands leave nothing half-written under its name.
make() {
    _made=$1
    shift
    [ -e "$_made" ] || run "$@"
}

say "questions: the last 200 for training are the development set, and are not trained on"
mkdir -p dev test
make questions.jsonl reasondistill questions --task gsm8k --in "$benchmarks/gsm8k/train.jsonl" --out questions.jsonl
make test/gsm8k.jsonl reasondistill questions --task gsm8k --in "$benchmarks/gsm8k/test.jsonl" --out test/gsm8k.jsonl
# part FILE FROM COUNT OUT: lines of a file, whole or not there
part() {
    [ -e "$4" ] || { tail -n "+$2" "$1" | head -n "$3" >"$4.part" && mv "$4.part" "$4"; }
}
all=$(($(wc -l <questions.jsonl)))
held=$((all / 5 < 200 ? all / 5 : 200))
train=$((all - held))
[ "$limit" -eq 0 ] || [ "$limit" -gt $train ] || train=$limit
part questions.jsonl 1 $train train.jsonl
part questions.jsonl $((all - held + 1)) $held dev/gsm8k.jsonl
for set in multiarith:MultiArith.json asdiv:ASDiv.xml svamp:SVAMP.json; do
    name=${set%%:*} file=$benchmarks/${set#*:}
    [ -e "$file" ] || { echo "without ${set#*:}: no $name" >&2; continue; }
    make "$name.jsonl" reasondistill questions --task "$name" --in "$file" --out "$name.jsonl"
    part "$name.jsonl" 1 100 "dev/$name.jsonl"
    part "$name.jsonl" 101 1000000 "test/$name.jsonl"
done

say "the teacher's replies, labelled by their answers"
run reasondistill collect --questions train.jsonl --teacher "$teacher" ${teacher_model:+--model "$teacher_model"} ${prompt:+--prompt "$prompt"} --samples "$samples" \
    --temperature 0.5 --top-logprobs 5 --max-tokens 256 --out teacher.jsonl

say "the student"
if [ "$model" = random ]; then
    [ -n "$tokenizer" ] || { echo "gsm8k: --model random needs --tokenizer FILE" >&2; exit 2; }
    "$python" "$here/needs.py" --config "$size" >config.json
    make student reasondistill init --config config.json --tokenizer "$tokenizer" --out student
    model=student
fi

say "their probabilities in the student's pieces, and the data set"
[ -z "$tokenizer" ] && tokenizer=$(for t in "$model/spiece.model" "$model/tokenizer.json"; do [ -f "$t" ] && { echo "$t"; break; }; done)
make aligned.rsd reasondistill align --tokenizer "$tokenizer" --in teacher.jsonl --out aligned.rsd
if [ ! -e data ]; then
    set --
    for file in dev/*.jsonl test/*.jsonl; do set -- "$@" --hold-out "$file"; done
    run reasondistill build --questions train.jsonl --in aligned.rsd --shots 4 "$@" --out data
fi

say "training as $size.json says"
# The run file, with this student, and without the development sets that are not there.
"$python" - "$here/$size.json" "$model" "$try" >run.json.part <<'END'
import json, os, sys
run = json.load(open(sys.argv[1], encoding="utf-8"))
run["model"] = sys.argv[2]
run["eval"] = [e for e in run["eval"] if os.path.exists(e["data"])]
if all(e.get("kind") != "ood" for e in run["eval"]):
    run["watch"] = None
if sys.argv[3] == "true":
    run |= {"steps": 1, "warmup": 0, "batch_tokens": 512, "accumulate": 1, "eval_every": 1}
    run["eval"] = [e | {"limit": 10, "max_tokens": 8} for e in run["eval"]]
json.dump(run, sys.stdout, indent=1)
END
mv run.json.part run.json
run reasondistill train run.json $([ -e "run-$size/run.json" ] && echo --resume)

# test MODEL FOLDER: every benchmark that is there, in the formats of the paper; what has been written is not computed again.
test_all() {
    mkdir -p "$2"
    for file in test/*.jsonl; do
        for format in zs-cot ic-cot; do
            name=$(basename "$file" .jsonl)
            make "$2/$name-$format.json" reasondistill eval --model "$1" --task jsonl --data "$file" --format $format --demos train.jsonl --limit "$limit" \
                --max-tokens "$max_tokens" --out "$2/$name-$format.json"
        done
    done
    for format in zs-ao zs-cot; do
        [ -e "$benchmarks/bbh" ] && make "$2/bbh-$format.json" reasondistill eval --model "$1" --task bbh --data "$benchmarks/bbh" --format $format --limit "$limit" \
            --max-tokens "$max_tokens" --out "$2/bbh-$format.json"
    done
    :
}
last=$(find "run-$size/checkpoints" -name 'step-*' ! -name '*.*' | sed 's/.*step-//' | sort -n | tail -n 1)
say "the tests: before, and after $last steps"
test_all "$model" "run-$size/eval/before"
test_all "run-$size/checkpoints/step-$last" "run-$size/eval/after"
for file in "run-$size"/eval/before/*.json; do
    after=run-$size/eval/after/$(basename "$file")
    printf '%s: ' "$(basename "$file" .json)"
    reasondistill compare "$file" "$after"
done

say "the report"
# The package of this tree; its library is the one beside the command, or what the system's linker finds.
beside=$(dirname "$(command -v reasondistill)")/../libreasondistill.so.0
[ -n "${REASONDISTILL_LIBRARY-}" ] || [ ! -e "$beside" ] || { REASONDISTILL_LIBRARY=$beside; export REASONDISTILL_LIBRARY; }
head -n 1 teacher.jsonl >reply.jsonl
run reasondistill align --tokenizer "$tokenizer" --in reply.jsonl --heatmap alignment.jsonl &&
    PYTHONPATH=$here/../../bindings/python${PYTHONPATH:+:$PYTHONPATH} run "$python" -m reasondistill.report "run-$size" alignment.jsonl --title "Flan-T5 $size on GSM8K" ||
    echo "gsm8k: no report.html; everything else is there" >&2

say "run directory: $PWD/run-$size"
