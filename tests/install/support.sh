#!/usr/bin/env bash
# Sourced by the tests of this folder: $source_dir, $build_dir, $work, an installed tree
# in $prefix, and a few words to say what is expected.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=${1:-${MRP_SOURCE_DIR:-$here/../..}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
CC=${CC:-cc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

fail() {
    echo "$*"
    exit 1
}

# try TEXT COMMAND...: shows the command's output only when it fails
try() {
    local text=$1
    shift
    if ! "$@" >"$work/log" 2>&1; then
        cat "$work/log"
        fail "$text: failed"
    fi
    echo "$text: ok"
}

try "install" cmake --install "$build_dir" --prefix "$prefix"
