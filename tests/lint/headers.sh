#!/usr/bin/env bash
# headers.sh [SOURCE]: every public header compiles alone, as C11 and as C++17, with gcc
# and clang, without a warning and without _GNU_SOURCE.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=${1:-${MRP_SOURCE_DIR:-$here/../..}}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
n_compiled=0

# The library whose headers a public header includes, for pkg-config; each, where there are
# several to choose from.
libraries_of() {
    case $1 in
    ofi.h) echo libfabric ;;
    ucx.h) echo ucx ;;
    mpi.h) echo ompi-c mpich ;;
    verbs.h) echo libibverbs ;;
    esac
}

# compile COMPILER LANGUAGE STANDARD FLAGS... FILE
compile() {
    local compiler=$1 language=$2 standard=$3
    shift 3
    "$compiler" -x "$language" -std="$standard" -Wall -Wextra -Wpedantic -Werror \
        -fsyntax-only -I"$source_dir/include" "$@"
}

# check_header HEADER [LIBRARY]
check_header() {
    local header=$1 library=${2-} flags=
    if [[ -n $library ]]; then
        if ! flags=$(pkg-config --cflags "$library" 2>/dev/null); then
            echo "SKIP: $header: $library is not installed"
            return
        fi
        flags=${flags//-I/-isystem } # of its warnings we want none
    fi
    printf '#include "mrpool/%s"\n' "$header" >"$work/alone"
    local variant compiler language standard
    for variant in "${variants[@]}"; do
        read -r compiler language standard <<<"$variant"
        [[ $header == *.hpp && $language == c ]] && continue
        # shellcheck disable=SC2086 # flags are words
        if compile "$compiler" "$language" "$standard" $flags "$work/alone"; then
            n_compiled=$((n_compiled + 1))
        else
            echo "mrpool/$header does not compile alone with $compiler -std=$standard $library"
            status=1
        fi
    done
}

variants=()
for variant in "gcc c c11" "g++ c++ c++17" "clang c c11" "clang++ c++ c++17"; do
    if command -v "${variant%% *}" >/dev/null; then
        variants+=("$variant")
    else
        echo "SKIP: ${variant%% *}: not installed"
    fi
done

# It can fail: a header that lacks an include of its own has to be noticed.
printf 'size_t mrp_lacks_stddef;\n' >"$work/bad"
if compile gcc c c11 "$work/bad" 2>/dev/null; then
    echo "self-test: a header without its includes compiles"
    exit 1
fi

for path in "$source_dir"/include/mrpool/*.h "$source_dir"/include/mrpool/*.hpp; do
    [[ -e $path ]] || continue
    header=$(basename "$path")
    read -ra libraries <<<"$(libraries_of "$header")"
    for library in "${libraries[@]:-}"; do
        check_header "$header" "$library"
    done
done
echo "$n_compiled compilations of public headers"
[[ $n_compiled -gt 0 ]] || status=1
exit "$status"
