# Sourced by tests of mrpool-bench, whose arguments are [SOURCE] [BUILD]: program.sh, the program,
# no settings of mrpool in the environment, and results as JSON.
# shellcheck shell=bash
support=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=${1:-${MRP_SOURCE_DIR:-$support/../../..}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
bench=$build_dir/bench/mrpool-bench
# shellcheck source=tests/integration/support/program.sh
. "$support/program.sh"

while IFS='=' read -r name _; do
    [[ $name == MRPOOL_* ]] && unset "$name"
done < <(env)

# needs_worker NAME: else the test is skipped
needs_worker() {
    if [[ ! -x $bench || ! -x $build_dir/bench/workers/worker-$1 ]]; then
        echo "SKIP: mrpool-bench or its worker $1 is not built"
        exit 77
    fi
}

# holds EXPRESSION: true in python of the last output, as JSON in `it`; `results` by the fields that
# result_key names
holds() {
    n_checks=$((n_checks + 1))
    python3 - "$work/out" "$1" "${result_key:?}" <<'PYTHON' || problem "JSON does not hold: $1"
import json
import sys

it = json.load(open(sys.argv[1], encoding="utf-8"))
results = {tuple(r[field] for field in sys.argv[3].split()): r for r in it["results"]}
sys.exit(0 if eval(sys.argv[2], {"it": it, "results": results}) else 1)
PYTHON
}
