# Sourced by tests of the programs: runs them, keeps their output, counts what was checked.
# shellcheck shell=bash
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
n_checks=0

problem() {
    echo "FAIL: $1"
    sed 's/^/    /' "$work/out" "$work/err" | head -n 20
    failures=$((failures + 1))
}

# expect STATUS COMMAND...: runs it, keeps its output in $work/out and $work/err
expect() {
    local wanted=$1 status=0
    shift
    n_checks=$((n_checks + 1))
    "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    [[ $status -eq $wanted ]] || problem "exit status $status, not $wanted: $*"
}

# says FILE REGEX: the output of the last command has a line like that
says() {
    n_checks=$((n_checks + 1))
    grep -Eq -- "$2" "$work/$1" || problem "std$1 has no line like '$2'"
}

finish() {
    echo "$n_checks checks, $failures failed"
    [[ $failures -eq 0 ]]
}
