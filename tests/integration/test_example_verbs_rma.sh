#!/usr/bin/env bash
# ctest: TIMEOUT 600
# examples/verbs_rma on each device there is, as one command and as two.
set -u
source_dir=${1:-${MRP_SOURCE_DIR:-.}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
example=$build_dir/examples/verbs_rma
export MRPOOL_PROVIDER_PATH=${MRPOOL_PROVIDER_PATH:-$build_dir/mrpool}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

fail() {
    echo "FAILED: $*"
    status=1
}

skip() { # REASON
    if [[ ",${MRP_TEST_REQUIRE:-}," == *,verbs,* ]]; then
        fail "verbs is required by MRP_TEST_REQUIRE: $*"
        exit 1
    fi
    echo "SKIP: verbs: $*"
    exit 77
}

[[ -x $example ]] || skip "examples/verbs_rma is not built (no libibverbs)"

# good_summary FILE: the last line, with something done, and nothing registered after.
good_summary() {
    local counts='[1-9][0-9]* steps, [1-9][0-9]* bytes after the warm-up, all verified'
    tail -1 "$1" |
        grep -qE "^verbs_rma: $counts, [1-9][0-9]* registrations, 0 after the warm-up$"
}

moves() { # ARGUMENT...: one command that starts its peer itself
    if ! timeout 180 "$example" "$@" >"$work/out" 2>"$work/err"; then
        fail "$*: $(cat "$work/err")"
    elif ! good_summary "$work/out"; then
        fail "$*: exit status 0 without a good summary: $(tail -1 "$work/out")"
    else
        echo "ok: $*: $(tail -1 "$work/out")"
    fi
}

two_commands() { # ARGUMENT...
    local port=$((20000 + RANDOM % 12000)) client_status
    timeout 180 "$example" --server --address 127.0.0.1 --port "$port" --timeout 60 "$@" \
        --rounds 1 --size 4097 >"$work/out" 2>"$work/err" &
    local server=$!
    timeout 180 "$example" --client 127.0.0.1 --port "$port" --timeout 60 "$@" \
        >"$work/client" 2>&1
    client_status=$?
    if wait "$server" && [[ $client_status -eq 0 ]] && good_summary "$work/out" &&
        good_summary "$work/client"; then
        echo "ok: server and client apart"
    else
        fail "server and client apart: $(cat "$work/err" "$work/client")"
    fi
}

refuses() { # TEXT ARGUMENT...: exit status 1, and a sentence with the text
    local text=$1
    shift
    if timeout 60 "$example" "$@" >"$work/out" 2>"$work/err"; then
        fail "$*: exit status 0"
    elif grep -qF "$text" "$work/err"; then
        echo "ok: $*: $(head -1 "$work/err")"
    else
        fail "$*: no '$text' in $(cat "$work/err")"
    fi
}

if ! timeout 60 "$example" --help >"$work/out" || ! grep -q -- --gid-index "$work/out"; then
    fail "--help: $(cat "$work/out")"
fi
wrong() { # TEXT ARGUMENT...: refused as an option
    local text=$1 code=0
    shift
    timeout 60 "$example" "$@" >"$work/out" 2>"$work/err" || code=$?
    if [[ $code -ne 64 ]] || ! grep -qF -- "$text" "$work/err"; then
        fail "$*: exit status $code, not 64 with '$text': $(cat "$work/err")"
    else
        echo "ok: $*: $(head -1 "$work/err")"
    fi
}
wrong "from 0 to 255" --gid-index 256
wrong "no name of a device" --device rxe0,odp=on
wrong "no name of a device" --device "$(printf 'x%.0s' {1..64})"

read -r -d '' -a devices <<<"$(ibv_devices 2>/dev/null | awk 'NR > 2 { print $1 }')"
if [[ ${#devices[@]} -eq 0 ]]; then
    refuses "no verbs device" --timeout 5
    [[ $status -eq 0 ]] || exit "$status"
    skip "ibv_devices lists none"
fi
moves --device "${devices[0]}" --rounds 1 --max-size 70000 --timeout 60
for device in "${devices[@]:1}"; do
    moves --device "$device" --rounds 1 --size 100001 --timeout 60
done
two_commands --device "${devices[0]}"
refuses "no verbs device 'no_such'" --device no_such --timeout 5
exit "$status"
