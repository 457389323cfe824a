#!/usr/bin/env bash
# An installed tree, found with find_package: shared and static.
# shellcheck source=tests/install/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"

try "configure the consumer" cmake -G Ninja -S "$source_dir/tests/install/consumer" \
    -B "$work/consumer" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$CC"
try "build the consumer" cmake --build "$work/consumer"
try "run it with the shared library" "$work/consumer/consumer_shared"
try "run it with the static library" "$work/consumer/consumer_static"
if ldd "$work/consumer/consumer_static" | grep -q libmrpool; then
    fail "consumer_static needs libmrpool.so"
fi
module_dir=$(cat "$work/consumer/module_dir")
[[ $module_dir == "$prefix"/* ]] || fail "mrpool_MODULE_DIR is $module_dir, not in $prefix"
