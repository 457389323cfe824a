#!/usr/bin/env bash
# format.sh [SOURCE] [--fix]: clang-format 14 over every C and C++ file.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(cd "${1:-${MRP_SOURCE_DIR:-$here/../..}}" && pwd) || exit 1

# The rules are written for version 14; another version lays code out differently.
formatter=
for candidate in clang-format-14 clang-format; do
    if "$candidate" --version 2>/dev/null | grep -q 'version 14\.'; then
        formatter=$candidate
        break
    fi
done
if [[ -z $formatter ]]; then
    echo "SKIP: no clang-format of version 14 (package clang-format-14)"
    exit 77
fi

mapfile -t files < <(python3 "$here/support/tree.py" "$source_dir" .c .h .hpp .cpp)
if [[ ${#files[@]} -eq 0 || -z ${files[0]} ]]; then
    echo "no C files found in $source_dir"
    exit 1
fi
cd "$source_dir" || exit 1
if [[ ${2:-} == --fix ]]; then
    exec "$formatter" -i "${files[@]}"
fi

# It can fail: a badly laid out line has to be noticed.
if printf 'int  a ;\n' | "$formatter" --dry-run --Werror --assume-filename=src/a.c 2>/dev/null; then
    echo "self-test: $formatter accepts 'int  a ;'"
    exit 1
fi
if ! "$formatter" --dry-run --Werror "${files[@]}" 2>/dev/null; then
    for file in "${files[@]}"; do
        diff -u --label "$file" --label "$file, as it should be" \
            "$file" <("$formatter" "$file")
    done | head -n 200
    echo "to lay them out: tests/lint/format.sh . --fix"
    exit 1
fi
echo "${#files[@]} files follow .clang-format"
