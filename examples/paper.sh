#!/bin/sh
# The paper in miniature, in one command:  sh examples/paper.sh [--quick | --full] [--out FOLDER] [--workers N]
#
# Trains a family of small T5 models (0.03 to 0.26 million parameters) on a mixture of eight generated generic tasks, specialises them on arithmetic word
# problems from a recorded teacher, and measures the trade that Fu et al. 2023 found in Flan-T5, with three seeds and intervals:
#
#   (1) target gain and generic loss of each size      (5) the generic checkpoint or random weights as the start
#   (2) the scaling fit before and after               (6) what each rule of choosing a checkpoint takes
#   (3) distribution against sample matching           (7) the weights between the generic and the specialised model
#   (4) in-context, zero-shot, and all four formats    (8) the architecture itself, at equal parameters
#
# Everything is kept in paper-out/ (another place: --out): parts/ has a folder for each run and test, paper.json the eight entries, pictures/ their curves,
# report.html all of it in one page (where Python has matplotlib).
# Stop it at any time, by any means: the same command goes on, and what is finished is not computed again. --quick trains about half as long on half the tokens (the
# effects show, the models are far from their best); --full takes harder problems and seven sizes up to 10 million parameters, overnight.
#
# Budget of the default on two quiet cores, one thread for each of two workers, computed from measured steps: about 40 minutes, of which five sizes with three
# seeds 18, half runs (is a plateau reached?) 3, the comparisons at width 48 (36 runs) 16, tests 1. --quick: about 9. --full: about 9 hours. How long the rest
# will take stands before each finished part.
#
# PAPER_BUILD names a build folder to use as it is. Needs what quickstart.sh needs, and Python 3.9 with NumPy.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
out=$root/paper-out scale=default workers=2
usage() {
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
    exit "$1"
}
while [ $# -gt 0 ]; do
    case $1 in
    --quick | --full | --tiny) scale=${1#--} ;; # --tiny is for the tests: nothing is learned
    --out | --workers)
        [ $# -ge 2 ] || { echo "paper: $1 needs a value" >&2; exit 2; }
        if [ "$1" = --workers ]; then workers=$2; else out=$2; fi
        shift
        ;;
    --help | -h) usage 0 ;;
    *) usage 2 >&2 ;;
    esac
    shift
done
case $out in /*) ;; *) out=$PWD/$out ;; esac

# shellcheck source=examples/install-deps.sh
. "$root/examples/install-deps.sh"
install_deps || exit 1
_asked=${PYTHON-}
for _modules in numpy,matplotlib numpy; do # the second is for the report, and can be missing
    for PYTHON in "$_asked" python3 /usr/bin/python3; do
        [ -n "$PYTHON" ] && "$PYTHON" -c "import $_modules" >/dev/null 2>&1 && break 2
        PYTHON=
    done
done
[ -n "$PYTHON" ] || { echo "paper: no Python with NumPy: install python3-numpy, or set PYTHON" >&2; exit 1; }
build=${PAPER_BUILD:-$root/build}
if [ -z "${PAPER_BUILD-}" ]; then
    [ -f "$build/build.ninja" ] || meson setup "$build" "$root" --buildtype=release >"$root/build-setup.log" 2>&1 ||
        { cat "$root/build-setup.log" >&2; echo "paper: meson could not set up $build" >&2; exit 1; }
    rm -f "$root/build-setup.log"
    library=$(ninja -C "$build" -t targets all | sed -n 's/^\(src\/libreasondistill\.so[0-9.]*\): .*LINKER$/\1/p') # its name has the version
    ninja -C "$build" src/cli/reasondistill $library examples/wordproblems | tail -n 1
fi
PATH=$build/src/cli:$build/examples:$PATH
REASONDISTILL_LIBRARY=${REASONDISTILL_LIBRARY-$build/src/libreasondistill.so.0} # of the report
export PATH REASONDISTILL_LIBRARY
exec "$PYTHON" "$root/examples/paper/paper.py" --scale "$scale" --out "$out" --workers "$workers"
