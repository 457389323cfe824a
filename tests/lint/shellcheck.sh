#!/usr/bin/env bash
# Runs shellcheck over every shell script: shellcheck.sh [SOURCE].
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(cd "${1:-${MRP_SOURCE_DIR:-$here/../..}}" && pwd) || exit 1
if ! command -v shellcheck >/dev/null; then
    echo "SKIP: shellcheck is not installed (package shellcheck)"
    exit 77
fi
mapfile -t scripts < <(python3 "$here/support/tree.py" "$source_dir" .sh)
cd "$source_dir" || exit 1
for script in run .ci/run; do
    [[ -e $script ]] && scripts+=("$script")
done
if printf '#!/bin/sh\nrm %s1\n' "$" | shellcheck - >/dev/null; then
    echo "self-test: shellcheck accepts an unquoted variable"
    exit 1
fi
shellcheck "${scripts[@]}" || exit 1
echo "${#scripts[@]} scripts without a finding"
