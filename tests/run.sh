#!/bin/sh
# Builds and passes all tests, in one command:  sh tests/run.sh [--sanitize address,undefined | --sanitize thread]
#
# Installs what is missing (see examples/install-deps.sh), builds into build-tests/ (or build-sanitize-*/), runs the unit tests and the checks,
# then uses the installed library from C, C++ and Python. Tests that need the big data pack look in $RSD_TEST_DATA, else in ../shared/data beside
# the source, and are counted as skipped where there is none. The last line sums up. Exit status 1 if anything failed.
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
sanitize=
while [ $# -gt 0 ]; do
    case $1 in
    --sanitize) [ $# -ge 2 ] || { echo "run.sh: --sanitize needs address,undefined or thread" >&2; exit 2; }; sanitize=$2; shift ;;
    *) echo "usage: sh tests/run.sh [--sanitize address,undefined | --sanitize thread]" >&2; exit 2 ;;
    esac
    shift
done

# shellcheck source=examples/install-deps.sh
. "$root/examples/install-deps.sh"
install_deps tests || exit 1
export PYTHON CK_VERBOSITY=normal

build=$root/build-tests
set -- --buildtype=debugoptimized
if [ -n "$sanitize" ]; then
    build=$root/build-sanitize-$(echo "$sanitize" | tr , -)
    set -- --buildtype=debugoptimized -Db_sanitize="$sanitize" -Db_lundef=false
fi
[ "${CI-}" = true ] && set -- "$@" --werror
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" "$root" -Dtests=enabled "$@" >"$build.log" 2>&1 || { cat "$build.log"; rm -f "$build.log"; exit 1; }
    rm -f "$build.log"
fi
ninja -C "$build" >"$build/build.log" 2>&1 || { grep -E -A 5 'error|warning|FAILED' "$build/build.log" | head -60; echo "tests: 0 passed, 1 failed"; exit 1; }

# meson runs them; the counts are those of the tests inside, not of the executables.
results=$build/results.txt
: >"$results"
# Time limits are there for what hangs, not for a slow machine.
[ -n "$sanitize" ] && patience=8 || patience=4
CK_TIMEOUT_MULTIPLIER=$patience meson test -C "$build" --no-rebuild --print-errorlogs -t $patience || failed_suites=1
cat "$build/meson-logs/testlog.txt" >>"$results"
if [ -z "$sanitize" ]; then
    CC=${CC:-cc} CXX=${CXX:-c++} sh "$root/tests/consumer/run.sh" "$root" "$build" >"$build/consumer.log" 2>&1 || failed_consumer=1
    cat "$build/consumer.log"
    cat "$build/consumer.log" >>"$results"
fi

# Check prints "100%: Checks: 12, Failures: 0, Errors: 0", pytest "15 passed, 1 skipped in 2.0s", the other checks nothing that counts.
awk -v suites="${failed_suites:-0}" -v consumer="${failed_consumer:-0}" '
    /^[0-9]+%: Checks: / { gsub(",", ""); all += $3; bad += $5 + $7 }
    /SKIPPED: / { skipped++ }
    / in [0-9.]+s/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) all += $(i-1); if ($i ~ /^failed|^error/) { all += $(i-1); bad += $(i-1) }
                                               if ($i ~ /^skipped/) { all += $(i-1); skipped += $(i-1) } } }
    END {
        if (bad == 0) bad = suites + consumer # a crash, a time-out or a check without counts
        passed = all - bad - skipped
        printf "tests: %d passed, %d failed, %d skipped\n", (passed > 0) ? passed : 0, bad, skipped
        exit (bad > 0 || all == 0) ? 1 : 0
    }' "$results"
