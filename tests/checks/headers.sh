#!/bin/sh
# Every public header compiles alone, as C99 and as C++, pedantically and without a warning.
#     sh tests/checks/headers.sh SOURCE_ROOT
set -eu
cd "$1"
n=0
for h in include/reasondistill/*.h; do
    ${CC:-cc} -std=c99 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c "$h"
    ${CXX:-c++} -std=c++11 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c++ "$h"
    n=$((n + 1))
done
${CXX:-c++} -std=c++17 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c++ bindings/cpp/reasondistill.hpp
echo "headers: $n public headers stand alone in C99 and C++"
