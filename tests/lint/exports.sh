#!/usr/bin/env bash
# exports.sh [SOURCE] [BUILD] [--update]: the shared library exports exactly what
# exports.txt lists and needs no library but the C library; a module exports its table.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=${1:-${MRP_SOURCE_DIR:-$here/../..}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
list=$source_dir/tests/lint/exports.txt
library=$build_dir/libmrpool.so
status=0

problem() {
    echo "$1"
    status=1
}

exported() {
    nm -D --defined-only "$1" | awk '{ sub(/@.*/, "", $3); print $3 }' | grep -v '^MRPOOL_' |
        LC_ALL=C sort
}

if [[ ${3:-} == --update ]]; then
    exported "$library" >"$list"
    exit
fi

if ! changes=$(diff -u "$list" <(exported "$library")); then
    echo "$changes" | tail -n +3
    problem "exported symbols differ from tests/lint/exports.txt (- listed, + exported)
if that is meant: tests/lint/exports.sh . $build_dir --update"
fi

# What a public header declares is there, and what is there is declared.
declared=$(grep -hv '^#' "$source_dir"/include/mrpool/*.h | tr '\n' ' ' |
    sed 's/__attribute__((\([^()]\|([^()]*)\)*))//g' |
    grep -oE 'MRP_API [^;(]*[;(]' | sed 's/ *[;(]$//; s/.*[ *]//' | LC_ALL=C sort -u)
if ! changes=$(diff <(echo "$declared") <(exported "$library")); then
    echo "$changes" | grep '^[<>]'
    problem "declared (<) and exported (>) symbols differ"
fi

dynamic=$(readelf -dW "$library")
grep -q 'SONAME.*\[libmrpool\.so\.0\]' <<<"$dynamic" || problem "SONAME is not libmrpool.so.0"
grep -q 'NODELETE' <<<"$dynamic" || problem "not linked with -z nodelete"
strangers=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic" |
    grep -vE '^(libc|libpthread|libdl|ld-linux.*|libasan|libubsan|libtsan)\.so')
[[ -z $strangers ]] || problem "libmrpool.so needs $strangers"

for module in "$build_dir"/mrpool/libmrpool-*.so; do
    [[ -e $module ]] || continue
    name=$(basename "$module" .so)
    name=${name#libmrpool-}
    symbols=$(exported "$module")
    [[ $symbols == "mrp_provider_$name" ]] ||
        problem "$module exports '$symbols', not mrp_provider_$name alone"
done

[[ $status -ne 0 ]] || echo "$(wc -l <"$list") exported symbols, as listed"
exit "$status"
