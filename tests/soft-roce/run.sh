#!/usr/bin/env bash
# The tests over soft-RoCE, in one boot of the guest: run.sh SOURCE BUILD JUNIT_FILE
# One result for each test of tests.sh, also for those that did not get their turn.
set -u
source_dir=$(cd "$1" && pwd)
build_dir=$(cd "$2" && pwd)
junit=$3
here=$source_dir/tests/soft-roce
limit=${MRP_ROCE_SECONDS:-600} # takes 4 minutes on two busy processors

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/tests.sh" "$source_dir" "$build_dir" >"$work/names"
"$here/guest.sh" -t "$limit" -s "$source_dir" -s "$build_dir" -o "$work" \
    "$here/tests.sh" "$source_dir" "$build_dir" "$work" 2>&1 | tee "$work/console"
status=${PIPESTATUS[0]}
python3 "$here/junit.py" "$work" "$status" >"$junit"
[[ $status -eq 77 ]] || exit "$status"
