#!/bin/sh
# Style that a tool can see: formatting, line width, trailing blanks, paths of a machine, marks of unfinished work.
#     sh tests/checks/style.sh SOURCE_ROOT
set -eu
cd "$1"
bad=0
sources=$(find lib src include bindings/cpp examples tests -name '*.[ch]' -o -name '*.hpp' | sort)
if command -v clang-format >/dev/null 2>&1; then
    # Versions differ in small things: the one the project is formatted with decides.
    case $(clang-format --version) in
        *"version 14."*) clang-format --dry-run -Werror $sources 2>/tmp/style.$$ || { grep -m 20 'error:' /tmp/style.$$; bad=1; }; rm -f /tmp/style.$$ ;;
        *) echo "style: formatting is checked with clang-format 14 only" ;;
    esac
fi
# shellcheck disable=SC2086
if grep -nE '.{151,}' $sources; then echo "style: lines of more than 150 columns"; bad=1; fi
if grep -nE '[[:blank:]]+$' $sources; then echo "style: blanks at the end of a line"; bad=1; fi
if grep -nE 'TODO|FIXME|XXX[^X]' $sources | grep -v XXXXXX; then echo "style: marks of unfinished work"; bad=1; fi
[ $bad -eq 0 ] && echo "style: $(echo "$sources" | wc -l) files"
exit $bad
