#!/bin/sh
# Installs a build into a fresh folder and uses it as others would: a C and a C++ program through pkg-config, and the Python package.
#     sh tests/consumer/run.sh SOURCE_ROOT BUILD_DIR
set -eu
root=$(cd "$1" && pwd)
build=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
DESTDIR= meson install -C "$build" --no-rebuild --destdir "$work/dest" >"$work/install.log" 2>&1 || { cat "$work/install.log"; exit 1; }
prefix=$work/dest$(meson introspect --buildoptions "$build" | python3 -c 'import json,sys; print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
pc=$(find "$prefix" -name reasondistill.pc)
libdir=$(dirname "$(find "$prefix" -name 'libreasondistill.so.0')")
export PKG_CONFIG_PATH="$(dirname "$pc")${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
export LD_LIBRARY_PATH="$libdir"
flags=$(pkg-config --define-variable=prefix="$prefix" --cflags --libs reasondistill)
# shellcheck disable=SC2086
${CC:-cc} -std=c99 -Wall -Wextra -Werror "$root/tests/consumer/consumer.c" -o "$work/consumer_c" $flags
# shellcheck disable=SC2086
${CXX:-c++} -std=c++11 -Wall -Wextra -Werror "$root/tests/consumer/consumer.cpp" -o "$work/consumer_cpp" $flags
"$work/consumer_c" "$root/tests/consumer/config.json"
"$work/consumer_cpp" "$root/tests/consumer/config.json"
"$prefix/bin/reasondistill" --version
# The library itself as a static one.
# shellcheck disable=SC2046
${CC:-cc} -std=c99 "$root/tests/consumer/consumer.c" -o "$work/consumer_static" -I"$prefix/include" "$libdir/libreasondistill.a" \
    $(pkg-config --libs $(pkg-config --print-requires-private reasondistill)) -lm -lpthread
"$work/consumer_static" "$root/tests/consumer/config.json"
# The program that the README shows.
sed -n '/^```c$/,/^```$/p' "$root/README.md" | sed '/^```/d' >"$work/readme.c"
# shellcheck disable=SC2086
${CC:-cc} -std=c99 -Wall -Wextra -Werror "$work/readme.c" -o "$work/readme" $flags
"$prefix/bin/reasondistill" init --config "$root/tests/consumer/config.json" --out "$work/student"
(cd "$work" && ./readme) | tail -n 1
cd "$root/bindings/python"
REASONDISTILL_LIBRARY="$libdir/libreasondistill.so.0" REASONDISTILL_INCLUDE="$prefix/include" PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 \
    "${PYTHON:-python3}" -m pytest -q -p no:cacheprovider tests
