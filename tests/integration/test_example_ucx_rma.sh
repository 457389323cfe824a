#!/usr/bin/env bash
# ctest: TIMEOUT 300
# examples/ucx_rma over sockets and shared memory, in memory of mrpool's and of UCX's own,
# as one command and as two; what it does when its peer is killed, and that it leaves no
# shared memory behind even then. An InfiniBand or RoCE device joins in where there is one.
set -u
source_dir=${1:-${MRP_SOURCE_DIR:-.}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
example=$build_dir/examples/ucx_rma
export MRPOOL_PROVIDER_PATH=${MRPOOL_PROVIDER_PATH:-$build_dir/mrpool}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
n_passed=0
pids=()

required() {
    [[ ",${MRP_TEST_REQUIRE:-}," == *",$1,"* ]]
}

fail() {
    echo "FAILED: $*"
    status=1
}

skip() { # NAME REASON
    if required "$1"; then
        fail "$1 is required by MRP_TEST_REQUIRE: $2"
    else
        echo "SKIP: $1: $2"
    fi
}

if [[ ! -x $example ]]; then
    skip ucx "examples/ucx_rma is not built (no UCX)"
    [[ $status -eq 0 ]] && exit 77
    exit 1
fi

# good_summary FILE: the last line, with something done, and nothing registered after.
good_summary() {
    local counts='[1-9][0-9]* steps, [0-9]+ MiB and [1-9][0-9]* atomics, all verified'
    tail -1 "$1" |
        grep -qE "^ucx_rma: $counts, [1-9][0-9]* registrations in warm-up, 0 after$"
}

# moves HOW ARGUMENT...: one command that starts its peer itself; HOW is "mapped here" or
# "not mapped here", whether UCX reaches the peer's regions by plain loads and stores.
moves() {
    local how=$1
    shift
    if ! timeout 120 "$example" "$@" >"$work/out" 2>"$work/err"; then
        fail "$*: $(cat "$work/err")"
    elif ! good_summary "$work/out"; then
        fail "$*: exit status 0 without a good summary: $(tail -1 "$work/out")"
    elif ! grep -q "regions are $how" "$work/out"; then
        fail "$*: the peer's regions should be $how: $(grep memory "$work/out")"
    elif [[ -s $work/err ]]; then
        fail "$*: complains: $(cat "$work/err")"
    else
        echo "ok: $*: $how: $(tail -1 "$work/out")"
        n_passed=$((n_passed + 1))
    fi
}

new_port() {
    port=$((20000 + RANDOM % 12000))
}

two_commands() {
    new_port
    timeout 120 "$example" --server --address 127.0.0.1 --port "$port" --rounds 1 \
        --max-size 64K >"$work/out" 2>"$work/err" &
    server=$!
    timeout 120 "$example" --client 127.0.0.1 --port "$port" >"$work/client" 2>&1
    client_status=$?
    if wait "$server" && [[ $client_status -eq 0 ]] && good_summary "$work/out" &&
        good_summary "$work/client"; then
        echo "ok: server and client apart"
    else
        fail "server and client apart: $(cat "$work/err" "$work/client")"
    fi
}

# killed ARGUMENT...: both in one command, in the middle of which the child is killed
killed() {
    local parent child='' start
    "$example" --timeout 20 --rounds 1000000 --max-size 4K "$@" >"$work/out" 2>"$work/err" &
    parent=$!
    for _ in $(seq 100); do
        read -r child _ <"/proc/$parent/task/$parent/children" # ends without a newline
        [[ -n $child ]] && break
        sleep 0.1
    done
    sleep 1
    kill -KILL "$child"
    start=$SECONDS
    if wait "$parent"; then
        fail "a killed child, $*: exit status 0"
    elif [[ $((SECONDS - start)) -gt 60 ]]; then
        fail "a killed child, $*: noticed after $((SECONDS - start)) s"
    elif ! grep -q 'signal 9' "$work/err"; then
        fail "a killed child, $*: no reason given: $(cat "$work/err")"
    else
        echo "ok: a killed child, $*: $(head -1 "$work/err")"
    fi
    pids+=("$parent" "$child")
}

ucx_names() {
    find /dev/shm -maxdepth 1 -name 'ucx_shm*' 2>/dev/null | sort
}

# Shared memory that one of the killed has made (column 5 is the maker), and names of UCX's
# that are new and stay: others here may be using UCX, which gives up names at once.
leftovers() {
    local pid first
    for pid in "${pids[@]}"; do
        awk -v pid="$pid" '$5 == pid { print "shmid " $2 " of process " pid }' \
            /proc/sysvipc/shm
    done
    first=$(comm -13 <(echo "$names_before") <(ucx_names))
    if [[ -n $first ]]; then
        sleep 2
        comm -12 <(echo "$first") <(ucx_names)
    fi
}

names_before=$(ucx_names)
moves "not mapped here" --tls tcp --rounds 1 --max-size 4M
moves "not mapped here" --tls posix,sysv --rounds 1 --max-size 1M
moves "mapped here" --tls posix --memory ucx --rounds 1
moves "mapped here" --tls sysv --memory ucx --rounds 1
moves "mapped here" --memory ucx --rounds 2 --max-size 1M
moves "not mapped here" --tls tcp --memory ucx --rounds 1 --max-size 64K
if compgen -G "/sys/class/infiniband/*" >/dev/null; then
    moves "not mapped here" --tls rc --rounds 1 --max-size 1M
else
    skip ucx-rc "no device in /sys/class/infiniband"
fi

if [[ $n_passed -gt 0 ]]; then
    two_commands
    killed --tls tcp
    killed --tls posix,sysv --memory ucx
    left=$(leftovers)
    if [[ -n $left ]]; then
        fail "shared memory left behind: $left"
    else
        echo "ok: no shared memory left behind"
    fi
    if "$example" --tls nonsense >/dev/null 2>"$work/err"; then
        fail "--tls nonsense: exit status 0"
    fi
fi
exit "$status"
