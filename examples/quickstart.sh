#!/bin/sh
# From a teacher's replies to a trained student, in one command:  sh examples/quickstart.sh [--quick] [--out FOLDER]
#
# Builds the library, makes arithmetic word problems with the replies of a teacher on the spot, and distils them into a tiny T5 that starts from random
# weights: once with chain of thought and the teacher's probabilities, once from answers only, for the same number of steps. Both are tested on problems
# that neither has seen. No network, GPU or downloaded model is needed. About three minutes on two cores; --quick stops long before the student is good, after
# half a minute, and checks only that it learns.
#
# The last line is RESULT and a JSON object. Exit status 1 if something failed, or the student did not reach what the README promises.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
out=$root/quickstart-out
steps=3000 problems=24000 heldout=500 quick=false
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=true steps=400 problems=5000 heldout=300 ;;
    --out)
        [ $# -ge 2 ] || { echo "quickstart: --out needs a folder" >&2; exit 2; }
        case $2 in /*) out=$2 ;; *) out=$PWD/$2 ;; esac
        shift
        ;;
    *)
        echo "usage: sh examples/quickstart.sh [--quick] [--out FOLDER]" >&2
        exit 2
        ;;
    esac
    shift
done

say() { printf '\n== %s\n' "$*"; }
run() { # shows a command as one would type it in the output folder, and runs it
    printf '$ %s\n' "$*"
    "$@"
}
fail() {
    echo "quickstart: $*" >&2
    exit 1
}

say "building"
# shellcheck source=examples/install-deps.sh
. "$root/examples/install-deps.sh"
install_deps || exit 1
build=$root/build
[ -f "$build/build.ninja" ] || meson setup "$build" "$root" --buildtype=release >"$root/build-setup.log" 2>&1 ||
    { cat "$root/build-setup.log" >&2; fail "meson could not set up $build"; }
rm -f "$root/build-setup.log"
ninja -C "$build" src/cli/reasondistill examples/wordproblems examples/generate | tail -n 1
PATH=$build/src/cli:$build/examples:$PATH

# Only a folder that this script has made is replaced.
if [ -e "$out" ]; then
    [ -f "$out/.quickstart" ] || fail "$out is there and not from an earlier run: remove it, or choose another with --out"
    rm -rf "$out"
fi
mkdir -p "$out"
cd "$out"
: >.quickstart
started=$(date +%s)

say "word problems, the teacher's replies, a vocabulary (fixed seed)"
run wordproblems --problems $problems --heldout $heldout --seed 1 --out .

say "the teacher's replies come through the client; each is labelled right or wrong"
run reasondistill collect --questions train.jsonl --teacher replay:replies.jsonl --out teacher.jsonl

say "from the teacher's tokens to the student's pieces, probabilities included"
run reasondistill align --tokenizer spiece.model --in teacher.jsonl --out aligned.rsd

say "a data set of the correct replies, readable in all four formats"
run reasondistill build --questions train.jsonl --in aligned.rsd --formats zs-ao,zs-cot,ic-ao,ic-cot --out data

say "a student with random weights, and what it can do"
run reasondistill init --config config.json --tokenizer spiece.model --seed 1 --out student
mkdir before
evaluate() { # evaluate MODEL FORMAT FILE
    run reasondistill eval --model "$1" --task jsonl --data heldout.jsonl --format "$2" --max-tokens 64 --out "$3"
}
evaluate student zs-ao before/zs-ao.json
evaluate student zs-cot before/zs-cot.json

# Two runs that differ in format and loss alone. One thread each: they train side by side.
configuration() { # configuration FORMAT LOSS FOLDER
    cat <<END
{
  "model": "student", "data": "data", "out": "$3",
  "formats": {"$1": 1}, "loss": "$2",
  "steps": $steps, "batch_tokens": 4096,
  "optimizer": "adamw", "lr": 5e-3, "beta2": 0.98, "schedule": "linear", "warmup": 0.05, "clip": 1,
  "threads": 1, "seed": 1, "log_every": 10, "save_every": 1000, "keep": 1
}
END
}
configuration zs-cot kl cot >cot.json
configuration zs-ao ce answers >answers.json

say "training, $steps steps: chain of thought with the teacher's probabilities; beside it, answers only"
echo "\$ reasondistill train answers.json &"
reasondistill train answers.json >answers.log 2>&1 &
answers=$!
trap 'kill $answers 2>/dev/null || :' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
run reasondistill train cot.json
wait $answers || { cat answers.log >&2; fail "training on answers only failed"; }
trap - EXIT INT TERM

say "both students on $heldout problems they have not seen"
mkdir -p cot/eval answers/eval
evaluate cot/checkpoints/step-$steps zs-cot cot/eval/heldout-zs-cot.json
evaluate answers/checkpoints/step-$steps zs-ao answers/eval/heldout-zs-ao.json
mv before cot/eval/before

# figure FILE KEY: the first number under that key of an evaluation
figure() {
    sed -n "s/.*\"$2\": *\\([-+.0-9eE]*\\).*/\\1/p" "$1" | head -n 1
}
seconds=$(($(date +%s) - started))
before=$(figure cot/eval/before/zs-cot.json accuracy)
cot=$(figure cot/eval/heldout-zs-cot.json accuracy)
cot_low=$(figure cot/eval/heldout-zs-cot.json low)
cot_high=$(figure cot/eval/heldout-zs-cot.json high)
answer_only=$(figure answers/eval/heldout-zs-ao.json accuracy)
answer_low=$(figure answers/eval/heldout-zs-ao.json low)
answer_high=$(figure answers/eval/heldout-zs-ao.json high)
n=$(figure cot/eval/heldout-zs-cot.json n)

# What was promised: by full length, the accuracy; by --quick, that the loss has fallen to less than a third.
if $quick; then
    loss() { sed -n 's/.*"loss": *\([-+.0-9eE]*\).*/\1/p' cot/metrics.jsonl | "$1" -n 1; }
    verdict=$(awk -v a="$(loss head)" -v b="$(loss tail)" 'BEGIN { print (a > 0 && b < a / 3) ? "fine" : "the loss fell only from " a " to " b }')
else
    verdict=$(awk -v c="$cot" -v l="$cot_low" -v h="$answer_high" \
        'BEGIN { print (c >= 0.9 && l > h) ? "fine" : "accuracy " c " (lower bound " l "), answers only at most " h }')
fi
for file in cot/run.json cot/metrics.jsonl cot/checkpoints/step-$steps/model.safetensors cot/checkpoints/step-$steps/trainer.safetensors; do
    [ -s "$file" ] || verdict="$out/$file is missing"
done
[ "$verdict" = fine ] || echo "quickstart: not what was promised: $verdict" >&2

say "what the student writes for the first of them"
question=$(sed -n '1s/.*"question":"\([^"]*\)".*/\1/p' heldout.jsonl)
run generate cot/checkpoints/step-$steps "Q: $question
Let's think step by step"

say "run directory: $out/cot (answers only: $out/answers)"
printf 'RESULT {"cot_before": %s, "cot": %s, "cot_interval": [%s, %s], "answer_only": %s, "answer_only_interval": [%s, %s], "n": %s, "seconds": %s}\n' \
    "$before" "$cot" "$cot_low" "$cot_high" "$answer_only" "$answer_low" "$answer_high" "$n" "$seconds"
[ "$verdict" = fine ]
