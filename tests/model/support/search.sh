# shellcheck shell=bash
# Sourced by the tests of this folder: an exhaustive search of a Promela model.
#
#   search MODEL [-DNAME[=VALUE]...]    every interleaving; any error fails the test
#   search_long MODEL ...               the same, for more than five million states
#   search_fails MODEL WHAT -DNAME      broken on purpose: the error WHAT must be found
#
# Full state storage, no bitstate hashing, at most 1.9 GiB; a search cut short by memory
# or depth counts as a failure. pan is one huge function, which gcc takes 2 s to compile
# with -O0, 6 s with -Og and longer than any search with -O2; tcc a tenth of a second, and
# what it makes takes twice as long as -Og's. A test may set `way` to what pan is compiled
# with to meet its errors sooner: -DT_REVERSE.

for tool in spin cc; do
    if ! command -v "$tool" >/dev/null; then
        echo "SKIP: spin models: no $tool (Debian package $([[ $tool == cc ]] && echo gcc || echo spin))"
        exit 77
    fi
done
quick="cc -O0"
if command -v tcc >/dev/null; then
    quick=tcc
fi
models=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

# run_search "COMPILER FLAG..." MODEL [-DNAME[=VALUE]...]: leaves Spin's report in $work/report.
run_search() {
    local model=$2
    local -a compiler
    read -ra compiler <<<"$1"
    shift 2
    cp "$models/$model.pml" . || exit 1
    if ! spin -a "$@" "$model.pml" ||
        ! "${compiler[@]}" -w -DSAFETY -DCOLLAPSE -DMEMLIM=1900 -o pan pan.c; then
        echo "$model.pml $*: does not become a program"
        exit 1
    fi
    ./pan -m100000 -n >report 2>&1
    if ! grep -q 'errors: ' report || grep -qE 'too small|out of memory|memory limit' report; then
        cat report
        echo "$model.pml $*: the search did not end"
        exit 1
    fi
}

describe() {
    awk -v name="$*" '
        /states, stored/ { states = $1 }
        /total actual memory/ { memory = $1 }
        /elapsed time/ { time = $4 }
        /depth reached/ { depth = $6 + 0 }
        END { printf "%s: %s states, %d deep, %d MB, %s s", name, states, depth, memory, time }
    ' report
}

search() { search_with "$quick" "$@"; }
search_long() { search_with "cc -Og" "$@"; }

search_with() {
    run_search "$@"
    shift
    describe "$@"
    if ! grep -q 'errors: 0' report; then
        echo
        cat report
        echo "the way there:"
        spin -t -p "${@:2}" "$1.pml" | tail -n 80
        exit 1
    fi
    echo ": no error"
}

search_fails() {
    local model=$1 what=$2
    shift 2
    run_search "$quick ${way:-}" "$model" "$@"
    describe "$model" "$@"
    if ! grep -q 'errors: 1' report || ! grep -qF "$what" report; then
        echo
        cat report
        echo "$model.pml $*: broken on purpose, but \"$what\" was not found"
        exit 1
    fi
    echo ": finds \"$what\", as it must"
}
