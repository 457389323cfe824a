#!/usr/bin/env bash
# mrpool-bench keys as people and scripts use it: the table with its worked-out rows, JSON whose counts
# are what they must be, wrong options.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=${1:-${MRP_SOURCE_DIR:-$here/../..}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
bench=$build_dir/bench/mrpool-bench
# shellcheck source=tests/integration/support/program.sh
. "$here/support/program.sh"

if [[ ! -x $bench || ! -x $build_dir/bench/workers/worker-keys-ofi ]]; then
    echo "SKIP: mrpool-bench or its worker for libfabric is not built"
    exit 77
fi

keys() {
    timeout 100 "$bench" keys --quick "$@"
}

# holds EXPRESSION: true in python of the last output, as JSON; `at` finds a median
holds() {
    n_checks=$((n_checks + 1))
    python3 - "$work/out" "$1" <<'PYTHON' || problem "JSON does not hold: $1"
import json
import sys

it = json.load(open(sys.argv[1], encoding="utf-8"))
medians = {(r["provider"].split(":")[0], r["case"], r["threads"]): r["median"] for r in it["results"]}


def at(network, case, processes):
    return medians[network, case, processes]


sys.exit(0 if eval(sys.argv[2], {"it": it, "at": at, "medians": medians}) else 1)
PYTHON
}

networks=ofi:provider=tcp
counted=(ofi)
if [[ -x $build_dir/bench/workers/worker-keys-ucx ]]; then
    networks+=,ucx:tls=tcp
    counted+=(ucx)
else
    echo "SKIP: keys over UCX: its worker is not built"
fi

expect 0 keys --networks "$networks" --processes 2,3 --buffers 100 --size 4K --json
for network in "${counted[@]}"; do
    # a registration and an import per buffer, or few per chunk; tokens have 32 bytes
    holds "all(at('$network', 'registrations/buffers', n) == 100 for n in (2, 3))"
    holds "all(at('$network', 'imports/buffers', n) == 100 * (n - 1) for n in (2, 3))"
    holds "all(at('$network', 'imports/chunks', n) == (n - 1) * at('$network', 'registrations/chunks', n) <= 4 * (n - 1)
        for n in (2, 3))"
    holds "at('$network', 'bytes/chunks', 3) == 2 * at('$network', 'bytes/chunks', 2) > 3200"
done
expect 0 keys --networks ofi:provider=tcp,nothing --processes 2
says out '^ +2 +per chunk +[1-9]'
says out '^ +100000 +per buffer +256 '
says out 'nothing: built without it'
n_checks=$((n_checks + 1))
! grep -qE '.{81}| $' "$work/out" || problem "lines over 80 columns, or blanks at an end"
# few small buffers are below the least of a pool; options in any order, and what is wrong told
for n in 1 4; do
    expect 0 keys --networks ofi:provider=tcp --processes 2 --buffers $n --size 4K
done
expect 0 keys --networks ofi:domain=lo,provider=tcp --processes 2 --buffers 8 --json
holds "it['compared']['ofi:domain=lo,provider=tcp'].endswith(' on lo')"
expect 1 keys --networks ofi:domain=no_such_domain,provider=tcp --processes 2 --buffers 8
says out 'no_such_domain.*opening the network'
if [[ -x $build_dir/bench/workers/worker-keys-ucx ]]; then
    expect 0 keys --networks ucx:devices=lo,tls=tcp+self --processes 2 --buffers 8
    expect 1 keys --networks ucx:tls=tcp,devices=no_such_device --processes 2 --buffers 8
    says out 'No such device'
fi
expect 0 keys --help
says out 'Examples:'
expect 64 keys --processes 1
expect 64 keys --processes 65
expect 64 keys --size 2M
expect 64 keys --buffers 0
finish
