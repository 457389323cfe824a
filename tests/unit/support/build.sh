# Sourced by tests that compile programs of their own against the library of the build tree;
# the caller's arguments are [SOURCE] [BUILD].
# shellcheck shell=bash
source_dir=${1:-${MRP_SOURCE_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
CC=${CC:-cc}

skip() {
    echo "SKIP: $*"
    exit 77
}

fail() {
    echo "FAIL: $*"
    status=1
}

command -v "$CC" >/dev/null || skip "no compiler"
library=$(find "$build_dir" -maxdepth 2 -name libmrpool.so -print -quit)
[[ -n $library ]] || skip "libmrpool.so is not built"
# shellcheck disable=SC2034 # for the caller
lib_dir=$(dirname "$library")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2034
status=0
