#!/usr/bin/env bash
# ctest: TIMEOUT 600
# also under: address|thread
# examples/parcelport over libfabric and UCX, between 2 and 4 processes: with memory and
# without, and what it does when a process is killed or stopped. Nothing may be left in
# /dev/shm: where the system lets us, the test has one of its own. MRP_TEST_MESSAGES is how
# many messages the longest run sends: a million takes half a minute of processor time.
set -u
source_dir=${1:-${MRP_SOURCE_DIR:-.}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
example=$build_dir/examples/parcelport

if [[ -z ${MRP_PRIVATE_SHM:-} ]]; then
    for flags in -m -rm; do
        if unshare $flags mount -t tmpfs tmpfs /dev/shm 2>/dev/null; then
            # shellcheck disable=SC2016 # for the inner shell
            MRP_PRIVATE_SHM=1 exec unshare $flags bash -c \
                'mount -t tmpfs tmpfs /dev/shm && exec bash "$0" "$@"' "$0" "$@"
        fi
    done
fi

export MRPOOL_PROVIDER_PATH=${MRPOOL_PROVIDER_PATH:-$build_dir/mrpool}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
n_passed=0

# Under sanitizers everything is slower, and the same paths are taken with less.
share=1
longest=${MRP_TEST_MESSAGES:-1000000}
case ${MRP_TEST_UNDER:-} in
    *thread*) share=10 longest=200000 ;;
    ?*) share=4 longest=200000 ;;
esac

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
    skip ofi "examples/parcelport is not built"
    [[ $status -eq 0 ]] && exit 77
    exit 1
fi

# What the JSON has to say besides the exit status: CONDITION in terms of all processes.
agrees() { # FILE CONDITION
    python3 - "$1" "$2" <<'PY'
import json
import sys

result = json.load(open(sys.argv[1]))
ranks = result["processes"]


def total(name):
    return sum(rank[name] for rank in ranks)


good = (
    result["registrations_warm_up"] > 0
    and result["registrations_after"] == 0
    and total("sent") == total("received") == result["messages"]
    and total("eager") + total("rendezvous") == result["messages"]
    and min(rank["rendezvous"] for rank in ranks) > 0
    and min(rank["scattered"] for rank in ranks) > 0
    and total("acks_stale") == total("acks_repeated") > 0
    and all(rank["registered"] == rank["registered_warm_up"] for rank in ranks)
    and all(rank["deregistered"] == rank["deregistered_warm_up"] for rank in ranks)
    and all(rank["chunks"] == rank["registrations"] for rank in ranks)
    and eval(sys.argv[2])
)
sys.exit(0 if good else 1)
PY
}

# moves NETWORK MESSAGES CONDITION ARGUMENT...
moves() {
    local network=$1 messages=$(($2 / share)) condition=$3
    shift 3
    if timeout 300 "$example" --network "$network" --messages "$messages" --timeout 60 \
        --json "$@" >"$work/out" 2>"$work/err"; then
        if agrees "$work/out" "$condition"; then
            echo "ok: $network $*: $messages messages"
            n_passed=$((n_passed + 1))
        else
            fail "$network $*: exit status 0, but: $(cat "$work/out")"
        fi
    elif grep -qE "was built without it|offers no messages|has no transports" "$work/err"; then
        skip "$network" "$(head -1 "$work/err")"
    else
        fail "$network $*: $(cat "$work/err")"
    fi
}

refuses() { # TEXT ARGUMENT...
    local text=$1
    shift
    if timeout 60 "$example" "$@" >/dev/null 2>"$work/err"; then
        fail "$*: accepted"
    elif grep -q "$text" "$work/err"; then
        echo "ok: $*: $(head -1 "$work/err")"
    else
        fail "$*: $(cat "$work/err")"
    fi
}

has_ended() { # PID: gone, or a zombie that nobody here can take in
    local stat
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    [[ $stat == *") Z "* ]]
}

# A process of four gets SIGNAL: the launcher has to say so, and all have to go.
lost() { # SIGNAL
    local start=$SECONDS launcher child children="" name="a process that gets SIG$1"
    "$example" --processes 4 --messages 4000000 --timeout 5 --quiet \
        >"$work/out" 2>"$work/err" &
    launcher=$!
    for _ in $(seq 200); do
        children=$(cat "/proc/$launcher/task/$launcher/children")
        # shellcheck disable=SC2086 # one word each
        set -- $1 $children
        [[ $# -eq 5 ]] && break
        sleep 0.1
    done
    sleep 1
    kill "-$1" "$3"
    if wait "$launcher"; then
        fail "$name: exit status 0"
    elif [[ $((SECONDS - start)) -gt 120 ]]; then
        fail "$name: noticed after $((SECONDS - start)) s, with a time limit of 5 s"
    else
        echo "ok: $name: $(head -1 "$work/err")"
    fi
    for child in $children; do
        for _ in $(seq 100); do
            has_ended "$child" && break
            sleep 0.1
        done
        has_ended "$child" || fail "$name: process $child is left"
    done
}

moves ofi "$longest" True
moves ofi 20000 True --processes 4
moves ofi 20000 True --processes 4 --provider shm
moves ucx 20000 True
moves ucx 10000 True --processes 4
moves ucx 10000 True --processes 4 --provider shm

# Memory and keys are short: the progress thread takes in vain, and keys are asked for
# again.
short=(--mix even --pool 8M --eager 1K --keys 1)
for network in ofi ucx; do
    moves $network 2000 \
        'total("nowait_failed_warm_up") + total("nowait_failed") > 0 < total("keys_missing")' \
        --processes 4 "${short[@]}"
done

refuses "built without it" --network nonsense
refuses "power of two" --pool 9M
refuses "a quarter of the pool" --pool 8M --window 256
refuses "offers no messages" --network ofi --provider nonsense
lost KILL
lost STOP

if [[ -z ${MRP_PRIVATE_SHM:-} ]]; then
    skip "parcelport leaves nothing" "no /dev/shm of our own without mount namespaces"
elif [[ -n $(ls -A /dev/shm) ]]; then
    fail "left in /dev/shm: $(ls -A /dev/shm)"
else
    echo "ok: nothing left in /dev/shm"
fi

if [[ $status -eq 0 && $n_passed -eq 0 ]]; then
    exit 77
fi
exit "$status"
