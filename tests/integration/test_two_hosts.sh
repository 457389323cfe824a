#!/usr/bin/env bash
# The examples of libfabric, UCX and MPI between two machines: network namespaces with a
# cable between them, over tcp. What was moved has to have gone through the cable; and when
# the cable is cut, both sides give up with a reason.
# ctest: TIMEOUT 300
set -u
source_dir=${1:-${MRP_SOURCE_DIR:-.}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
examples=$build_dir/examples
export MRPOOL_PROVIDER_PATH=${MRPOOL_PROVIDER_PATH:-$build_dir/mrpool}
# shellcheck source=tests/integration/support/two_hosts.sh
source "$source_dir/tests/integration/support/two_hosts.sh"
work=$(mktemp -d)
trap 'hosts_down; rm -rf "$work"' EXIT
export TMPDIR=$work # Open MPI's session folders, one per host
status=0
n_passed=0

fail() {
    echo "FAILED: $*"
    status=1
}

# skip NAME REASON
skip() {
    if [[ ",${MRP_TEST_REQUIRE:-}," == *,$1,* ]]; then
        fail "$1 is required by MRP_TEST_REQUIRE: $2"
    else
        echo "SKIP: $1: $2"
    fi
}

if ! hosts_up; then
    skip two_hosts "$hosts_problem"
    [[ $status -eq 0 ]] && exit 77
    exit 1
fi

# moved TEXT BYTES: that much came to each of the two since the last call
declare -A came=([a]=$(came_to a) [b]=$(came_to b))
moved() {
    local host now
    for host in a b; do
        now=$(came_to $host)
        ((now - came[$host] >= $2)) ||
            fail "$1: $((now - came[$host])) bytes came to host $host, not $2"
        came[$host]=$now
    done
}

# good FILE: the summary that ends the output of every example
good() {
    tail -1 "$1" | grep -qE '^[a-z]+_rma: [1-9].*, all (bytes )?verified, .*, 0 after$'
}

# pair NAME ARGUMENT...: server on a, client on b
pair() {
    local name=$1 server text="$*"
    shift
    if [[ ! -x $examples/$name ]]; then
        skip "${name%_rma}" "examples/$name is not built"
        return
    fi
    on a timeout 60 "$examples/$name" --server --address "${address[a]}" --rounds 1 \
        --max-size 1M "$@" >"$work/server" 2>&1 &
    server=$!
    on b timeout 60 "$examples/$name" --client "${address[a]}" "$@" >"$work/client" 2>&1
    if wait "$server" && good "$work/server" && good "$work/client"; then
        moved "$text" 1000000
        echo "ok: $text: $(tail -1 "$work/server")"
        n_passed=$((n_passed + 1))
    else
        fail "$text: $(cat "$work/server" "$work/client")"
    fi
}

# How mpirun starts something on another host: AGENT [OPTION...] HOST COMMAND...
write_agent() {
    cat >"$work/agent" <<AGENT
#!/bin/sh
while case \$1 in -*) true ;; *) false ;; esac; do shift; done
case \$1 in
${address[a]}) holder=${holder[a]} ;;
${address[b]}) holder=${holder[b]} ;;
*) echo "no host \$1" >&2 && exit 1 ;;
esac
shift
exec nsenter --target \$holder --net --uts --mount -- sh -c "\$*"
AGENT
    chmod +x "$work/agent"
}

# ranks NAME TEXT COMMAND...: one on each host, started from a
ranks() {
    local name=$1 text=$2
    shift 2
    if ! command -v "$1" >/dev/null; then
        skip mpi "$text: there is no $1"
    elif [[ ! -x $examples/$name ]]; then
        skip mpi "$text: examples/$name is not built"
    elif run_ranks "$text" "$@" && good "$work/summary"; then
        moved "$text" 200000
        echo "ok: $text: $(cat "$work/summary")"
        n_passed=$((n_passed + 1))
    else
        fail "$text: $(tail -20 "$work/out")"
    fi
}

# MPICH before 4.2 can stay in MPI_Finalize for ever over UCX: a rank that waits in PMI's
# barrier does not answer one that still disconnects (pmodels/mpich pull request 6596).
# Who has verified everything and stays there is run again.
run_ranks() {
    local text=$1 try status
    shift
    for try in 1 2 3; do
        on a timeout 60 "$@" >"$work/out" 2>&1
        status=$?
        grep 'transfers,' "$work/out" >"$work/summary"
        [[ $status -eq 124 && $text == MPICH* && -s $work/summary ]] || break
        echo "$text, run $try: did not come out of MPI_Finalize"
    done
    [[ $status -eq 0 && -s $work/summary ]]
}

# Of Open MPI's one-sided components only UCX's works both between machines over tcp and
# with MPI_THREAD_MULTIPLE; pml and osc leave tcp alone unless told otherwise.
openmpi() {
    ranks mpi_rma "Open MPI, $1 window" mpirun.openmpi --allow-run-as-root \
        --mca plm rsh --mca plm_rsh_agent "$work/agent" --mca pml ucx --mca osc ucx \
        --mca pml_ucx_tls any --mca pml_ucx_devices any --mca osc_ucx_tls any \
        -x UCX_TLS=tcp,self -x MRPOOL_PROVIDER_PATH -x MRPOOL_DEBUG \
        --host "${address[a]},${address[b]}" -n 2 \
        "$examples/mpi_rma" --window "$1" --rounds 1 --max-size 65537
}

mpich() {
    UCX_TLS=tcp,self ranks mpi_rma_mpich "MPICH, $1 window" mpiexec.hydra \
        -launcher ssh -launcher-exec "$work/agent" \
        -hosts "${address[a]},${address[b]}" -n 2 \
        "$examples/mpi_rma_mpich" --window "$1" --rounds 1 --max-size 65537
}

# gave_up HOST PID FILE
gave_up() {
    if wait "$2"; then
        fail "a cut cable: host $1 has not noticed"
    elif [[ ! -s $3 ]]; then
        fail "a cut cable: host $1 gives no reason"
    else
        echo "ok: a cut cable, on host $1: $(head -1 "$3")"
    fi
}

# Last: there is no cable after it.
cut_cable() {
    local server client
    [[ -x $examples/ofi_rma ]] || return 0
    on a timeout 60 "$examples/ofi_rma" --server --address "${address[a]}" --timeout 3 \
        --rounds 20000 --max-size 64K >/dev/null 2>"$work/server" &
    server=$!
    on b timeout 60 "$examples/ofi_rma" --client "${address[a]}" --timeout 3 \
        >/dev/null 2>"$work/client" &
    client=$!
    for _ in $(seq 200); do # until they are at it
        (($(came_to b) - came[b] > 1000000)) && break
        sleep 0.1
    done
    on a ip link set cable down
    gave_up a "$server" "$work/server"
    gave_up b "$client" "$work/client"
}

write_agent
pair ofi_rma --provider tcp
pair ofi_rma --provider tcp --endpoint msg
pair ucx_rma --tls tcp
openmpi dynamic
openmpi allocated
mpich dynamic
mpich allocated
cut_cable

[[ $status -eq 0 && $n_passed -eq 0 ]] && exit 77
exit "$status"
