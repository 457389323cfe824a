#!/usr/bin/env bash
# ctest: TIMEOUT 600
# examples/ofi_rma over every software provider, as one command and as two; and what it
# does when its peer is killed, stopped or talks nonsense. verbs joins in where
# MRP_TEST_VERBS_ADDRESS names the address of a device.
set -u
source_dir=${1:-${MRP_SOURCE_DIR:-.}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
example=$build_dir/examples/ofi_rma
export MRPOOL_PROVIDER_PATH=${MRPOOL_PROVIDER_PATH:-$build_dir/mrpool}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
n_passed=0

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
    skip ofi "examples/ofi_rma is not built (no libfabric)"
    [[ $status -eq 0 ]] && exit 77
    exit 1
fi

# good_summary FILE: the last line, with something done, and nothing registered after.
good_summary() {
    local counts='[1-9][0-9]* transfers, [0-9]+ MiB, all bytes verified'
    tail -1 "$1" |
        grep -qE "^ofi_rma: $counts, [1-9][0-9]* registrations in warm-up, 0 after$"
}

# moves PROVIDER ARGUMENT...: one command that starts its peer itself
moves() {
    local provider=$1
    if timeout 240 "$example" --provider "$@" >"$work/out" 2>"$work/err"; then
        if good_summary "$work/out"; then
            echo "ok: $*: $(tail -1 "$work/out")"
            n_passed=$((n_passed + 1))
        else
            fail "$*: exit status 0 without a good summary: $(tail -1 "$work/out")"
        fi
    elif grep -q "offers no one-sided operations" "$work/err"; then
        skip "$provider" "$(head -1 "$work/err")"
    else
        fail "$*: $(cat "$work/err")"
    fi
}

# A port for a server that a second command finds.
new_port() {
    port=$((20000 + RANDOM % 12000))
}

# A server in the background, with more rounds ahead than it will get to: about a minute.
serve() {
    new_port
    "$example" --server --address 127.0.0.1 --port "$port" --timeout 5 \
        --rounds 20000 --max-size 4K >"$work/out" 2>"$work/err" &
    server=$!
}

# gives_up TEXT PID: the process has to fail soon, with a reason.
gives_up() {
    local text=$1 pid=$2 start=$SECONDS
    if wait "$pid"; then
        fail "$text: exit status 0"
    elif [[ $((SECONDS - start)) -gt 20 ]]; then
        fail "$text: noticed after $((SECONDS - start)) s, with a time limit of 5 s"
    elif [[ ! -s $work/err ]]; then
        fail "$text: no reason given"
    else
        echo "ok: $text: $(head -1 "$work/err")"
    fi
}

# Both in one command: $parent and the peer that it has started, $child.
start_pair() {
    "$example" --timeout 5 --rounds 20000 --max-size 4K >"$work/out" 2>"$work/err" &
    parent=$!
    child=
    for _ in $(seq 100); do
        read -r child _ <"/proc/$parent/task/$parent/children" # ends without a newline
        [[ -n $child ]] && break
        sleep 0.1
    done
    sleep 0.5
}

# Gone, or a zombie that nobody here can take in.
has_ended() {
    local stat
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    [[ $stat == *") Z "* ]]
}

two_commands() {
    new_port
    timeout 120 "$example" --server --address 127.0.0.1 --port "$port" --rounds 1 \
        --max-size 1M >"$work/out" 2>"$work/err" &
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

lost_client() { # SIGNAL TEXT
    serve
    "$example" --client 127.0.0.1 --port "$port" --timeout 5 >/dev/null 2>&1 &
    client=$!
    sleep 1
    kill "-$1" "$client"
    gives_up "$2" "$server"
    kill -KILL "$client" 2>/dev/null
    wait "$client" 2>/dev/null
}

nonsense() { # TEXT BYTES: what a server reads instead of the next message
    serve
    for _ in $(seq 100); do
        # shellcheck disable=SC2059 # the bytes are a format
        if { exec 9<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null; then
            printf "$2" >&9
            gives_up "$1" "$server"
            exec 9>&-
            return
        fi
        sleep 0.05
    done
    kill "$server"
    fail "$1: the server does not listen"
}

lost_child() {
    start_pair
    kill -KILL "$child"
    gives_up "a killed child" "$parent"
}

lost_parent() {
    start_pair
    kill -KILL "$parent"
    wait "$parent" 2>/dev/null
    for _ in $(seq 100); do
        if has_ended "$child"; then
            echo "ok: a killed parent: its child has gone too"
            return
        fi
        sleep 0.05
    done
    kill -KILL "$child"
    fail "a killed parent leaves its child running"
}

moves tcp --rounds 1 --max-size 64M
moves shm --rounds 1
moves sockets --rounds 1
moves udp --rounds 1 --max-size 1M
moves tcp --rounds 2 --endpoint msg
moves tcp --rounds 2 --max-size 2M --max-message 10007
if [[ -n ${MRP_TEST_VERBS_ADDRESS:-} ]]; then
    moves verbs --endpoint msg --address "$MRP_TEST_VERBS_ADDRESS" --rounds 1 --max-size 1M
else
    skip verbs "MRP_TEST_VERBS_ADDRESS names no device"
fi


if [[ $n_passed -gt 0 ]]; then
    two_commands
    lost_client KILL "a killed client"
    lost_client STOP "a stopped client"
    lost_child
    lost_parent
    nonsense "a message of 4 GiB" '\0\0\0\002\377\377\377\377'
    nonsense "an address of one byte" '\0\0\0\002\0\0\0\001x'
    nonsense "a message out of turn" '\0\0\0\005\0\0\0\0'
    nonsense "half a message" '\0\0\0'
fi

if [[ $status -eq 0 && $n_passed -eq 0 ]]; then
    exit 77
fi
exit "$status"
