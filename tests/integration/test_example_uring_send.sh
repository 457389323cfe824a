#!/usr/bin/env bash
# examples/uring_send: messages of all sizes, few and many regions held by the kernel, and
# what it does when its receiver is killed or stopped.
set -u
source_dir=${1:-${MRP_SOURCE_DIR:-.}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
example=$build_dir/examples/uring_send
export MRPOOL_PROVIDER_PATH=${MRPOOL_PROVIDER_PATH:-$build_dir/mrpool}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

fail() {
    echo "FAILED: $*"
    status=1
}

# skip REASON: the whole test
skip() {
    if [[ ",${MRP_TEST_REQUIRE:-}," == *,uring,* ]]; then
        echo "FAILED: uring is required by MRP_TEST_REQUIRE: $1"
        exit 1
    fi
    echo "SKIP: uring: $1"
    exit 77
}

[[ -x $example ]] || skip "examples/uring_send is not built (no liburing)"
if ! "$example" --messages 1 >"$work/out" 2>"$work/err" &&
    grep -qE "io_uring_queue_init|needs Linux 6.0" "$work/err"; then
    skip "$(head -1 "$work/err")"
fi

# moves MESSAGES ARGUMENT...
moves() {
    local n=$1 counts='[0-9]+ MiB, all bytes verified, [1-9][0-9]* registrations in warm-up'
    shift
    if ! timeout 120 "$example" --messages "$n" "$@" >"$work/out" 2>"$work/err"; then
        fail "$n messages $*: $(cat "$work/err")"
    elif ! tail -1 "$work/out" | grep -qE "^uring_send: $n messages, $counts, 0 after$"; then
        fail "$n messages $*: no good summary: $(tail -1 "$work/out")"
    else
        echo "ok: $*: $(tail -1 "$work/out"), $(grep -o 'up to .* held' "$work/out")"
    fi
}

# lost SIGNAL TEXT: the receiver goes in the middle, and the sender gives up with a reason
lost() {
    local start=$SECONDS sender receiver=
    "$example" --messages 100000000 --timeout 2 >"$work/out" 2>"$work/err" &
    sender=$!
    for _ in $(seq 100); do
        read -r receiver _ <"/proc/$sender/task/$sender/children" # ends without a newline
        [[ -n $receiver ]] && break
        sleep 0.1
    done
    sleep 0.3
    kill "-$1" "$receiver"
    if wait "$sender"; then
        fail "$2: exit status 0"
    elif [[ $((SECONDS - start)) -gt 30 ]]; then
        fail "$2: noticed after $((SECONDS - start)) s, with a time limit of 2 s"
    elif [[ ! -s $work/err ]]; then
        fail "$2: no reason given"
    else
        echo "ok: $2: $(head -1 "$work/err")"
    fi
    kill -KILL "$receiver" 2>/dev/null
}

moves 4000 --max-size 64K
moves 300
moves 2000 --max-size 4K --window 128 --seed 7
moves 100 --window 1
lost KILL "a killed receiver"
lost STOP "a stopped receiver"
exit "$status"
