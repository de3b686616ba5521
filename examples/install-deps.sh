# Sourced by examples/quickstart.sh and tests/run.sh: makes sure that what a build needs is there.
#
#     . examples/install-deps.sh
#     install_deps           # to build the library and the command
#     install_deps tests     # to build and run the tests as well; PYTHON becomes an interpreter that has what they need
#
# Each thing is looked for itself, not its package, so nothing is installed where it came another way. Where apt is, what is missing is installed
# with it (as root or through sudo); elsewhere the packages are named.

# missing_deps [tests]: prints the Debian package of each thing that is not there.
missing_deps() {
    command -v cc >/dev/null 2>&1 && command -v c++ >/dev/null 2>&1 || echo build-essential
    command -v meson >/dev/null 2>&1 || echo meson
    command -v ninja >/dev/null 2>&1 || echo ninja-build
    if ! command -v pkg-config >/dev/null 2>&1; then
        echo pkg-config
        _have() { false; }
    else
        _have() { pkg-config --exists "$1"; }
    fi
    _have openblas || echo libopenblas-dev
    _have libcjson || echo libcjson-dev
    _have libcurl || echo libcurl4-openssl-dev
    _have libutf8proc || echo libutf8proc-dev
    [ "${1-}" = tests ] || return 0
    _have check || echo check
    find_python && return 0
    echo python3
    echo python3-numpy
    echo python3-pytest
    echo python3-matplotlib
}

# Sets PYTHON to a Python that has numpy, pytest and matplotlib (of the report): the first in the path may be another than the one apt serves.
find_python() {
    for PYTHON in "${PYTHON-}" python3 /usr/bin/python3; do
        [ -n "$PYTHON" ] && "$PYTHON" -c 'import numpy, pytest, matplotlib' >/dev/null 2>&1 && return 0
    done
    PYTHON=python3
    return 1
}

install_deps() {
    _missing=$(missing_deps "${1-}" | tr '\n' ' ')
    [ "${1-}" != tests ] || find_python || :
    if [ -z "$_missing" ]; then
        [ "${1-}" != tests ] || find_python
        return
    fi
    if command -v apt-get >/dev/null 2>&1; then
        _sudo=
        if [ "$(id -u)" -ne 0 ]; then
            if ! command -v sudo >/dev/null 2>&1; then
                echo "missing, and neither root nor sudo to install them: $_missing" >&2
                return 1
            fi
            _sudo=sudo
        fi
        echo "installing with apt: $_missing" >&2
        # shellcheck disable=SC2086 # a list of packages
        { $_sudo apt-get update -qq || :
          $_sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $_missing >/dev/null; } >&2 || {
            echo "apt could not install: $_missing" >&2
            return 1
        }
        _missing=$(missing_deps "${1-}" | tr '\n' ' ')
        if [ -z "$_missing" ]; then
            [ "${1-}" != tests ] || find_python
            return
        fi
    fi
    echo "missing: please install these (names of the Debian packages; other systems call them alike): $_missing" >&2
    return 1
}
