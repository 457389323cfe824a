#!/usr/bin/env bash
# mrpool-bench rma as people and scripts use it: both processes here, or a server and its client;
# JSON with its goals, CSV, the plot, wrong options. Times are not judged.
# ctest: TIMEOUT 240
set -u
# shellcheck source=tests/integration/support/bench.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/bench.sh"
needs_worker rma-ofi
result_key="case size"

rma() {
    timeout 100 "$bench" rma --quick "$@"
}

check_json() {
    expect 0 rma --networks ofi:provider=tcp --sizes 64,64K --json
    holds 'len(results) == len(it["results"])'
    holds 'all((f"{op}/{figure}/{who}", size) in results for op in ("put", "get") for size in (64, 65536)
        for figure in ("latency", "message") for who in ("pool", "once", "register", "cache",
            "control", "registration", "pool/cache", "pool/once", "control/once"))'
    holds 'all(r["unit"] == ("ratio" if r["case"].count("/") == 3 else "ns") for r in it["results"])'
    holds 'results["put/latency/pool", 64]["baseline"] == "put/latency/register"'
    holds 'all(r["median"] > 0 for r in it["results"])'
    holds 'len(it["goals"]) == 16 and "libfabric" in it["compared"]["ofi:provider=tcp"]'
    # three rounds have no interval, and so no verdict
    holds 'all(g["low"] is None and g["verdict"] == "open" and not g["reached"] for g in it["goals"])'
}

# With an interval the verdict is what it says, whatever that is.
check_intervals() {
    expect 0 rma --networks ofi:provider=tcp --sizes 64 --repetitions 9 --json
    holds 'all(r["min"] <= r["low"] <= r["median"] <= r["high"] <= r["max"] for r in it["results"])'
    holds 'all(g["verdict"] == ("reached" if g["high"] <= 1.05 else "missed" if g["low"] > 1.05
        else "open") and g["reached"] == (g["verdict"] == "reached") for g in it["goals"])'
    holds 'all((g["is"], g["low"]) == (r["median"], r["low"]) for g in it["goals"]
        for r in [results[g["case"], g["size"]]])'
    expect 0 rma --networks ofi:provider=tcp --sizes 64 --repetitions 9
    says out '^ *64 B +[0-9.]+ [0-9.]+-[0-9.]+ (reached|open|missed) '
}

check_formats() {
    expect 0 rma --networks ofi:provider=shm,nothing --sizes 4K --csv
    says out '^put/message/pool,ofi:provider=shm,4096,1,ns,|^put/message/pool,ofi:provider=shm,4096,0,ns,'
    says err 'nothing: built without it'
    expect 0 rma --networks ofi:provider=tcp --sizes 4K
    says out '^ofi tcp: put, many under way$'
    says out '^ *4 KiB +[0-9.]+ [num]*s'
    n_checks=$((n_checks + 1))
    tail -1 "$work/out" | grep -q '^Bounds (at most 1.05 times): 0 reached, 8 open, 0 missed of 8\.$' ||
        problem "the last line does not count the bounds: $(tail -1 "$work/out")"
    n_checks=$((n_checks + 1))
    ! grep -qE '.{81}| $' "$work/out" || problem "lines over 80 columns, or blanks at an end"
    if command -v gnuplot >/dev/null; then
        expect 0 rma --networks ofi:provider=tcp --sizes 64,4K --plot "$work/plot.svg"
        grep -q '<svg' "$work/plot.svg" || problem "--plot drew no SVG"
    fi
}

# Of sizes over 1 MiB fewer are under way, of the largest one.
check_large() {
    expect 0 rma --networks ofi:provider=tcp --sizes 2M,64M --csv
    says out '^get/message/once,ofi:provider=tcp,2097152,'
    says out '^get/message/once,ofi:provider=tcp,67108864,'
}

# Two machines are two commands; here both are on this one.
check_two_machines() {
    local port=$((20000 + RANDOM % 10000)) server

    timeout 100 "$bench" rma --quick --server --address 127.0.0.1 --port $port \
        --networks ofi:provider=tcp --sizes 4K >"$work/server" 2>&1 </dev/null &
    server=$!
    expect 0 rma --connect 127.0.0.1 --port $port --networks ofi:provider=tcp --sizes 4K --csv
    says out '^get/latency/pool,'
    n_checks=$((n_checks + 1))
    wait $server || problem "the server failed: $(cat "$work/server")"
}

check_usage() {
    expect 0 rma --help
    says out 'Examples:'
    expect 64 rma --sizes 0
    expect 64 rma --sizes 65M
    expect 64 rma --server
    says err 'name it with --networks'
    expect 64 rma --connect here --networks ofi:provider=tcp,ofi:provider=shm
    for module in mpi mpich; do
        expect 64 rma --server --networks $module
        expect 64 rma --connect here --networks $module
        says err 'mpirun'
    done
    expect 64 rma --port 70000
    expect 64 rma --limit 0
    expect 64 rma --limit 31
    expect 1 timeout 20 "$build_dir/bench/workers/worker-rma-ofi" --sizes 4K
    says out '^problem --sizes 4K'
    expect 1 rma --networks ofi:provider=nonsense --sizes 64
    says out 'provider nonsense offers no'
}

check_usage
check_json
check_intervals
check_formats
check_large
check_two_machines
finish
