#!/usr/bin/env bash
# The command-line tools as people and scripts use them: exit codes, JSON, CSV, wrong options,
# wrong settings.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=${1:-${MRP_SOURCE_DIR:-$here/../..}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
tool=$build_dir/tools/mrpool
bench=$build_dir/bench/mrpool-bench
# shellcheck source=tests/integration/support/program.sh
. "$here/support/program.sh"

# The settings of whoever runs this are not what is tested here.
while IFS='=' read -r name _; do
    [[ $name == MRPOOL_* && $name != MRPOOL_PROVIDER_PATH ]] && unset "$name"
done < <(env)

to_full_disk() {
    "$@" >/dev/full
}

# holds EXPRESSION: true in python of the last output, parsed as JSON into `it`
holds() {
    n_checks=$((n_checks + 1))
    python3 - "$work/out" "$1" <<'PYTHON' || problem "JSON does not hold: $1"
import json
import sys

it = json.load(open(sys.argv[1], encoding="utf-8"))
sys.exit(0 if eval(sys.argv[2]) else 1)
PYTHON
}

check_info() {
    expect 0 "$tool" info
    says out '^ *host +usable'
    for backend in array malloc mmap; do
        says out "^ *$backend "
    done
    says out 'memlock limit'
    says out 'MRPOOL_MAX_BYTES'
    n_checks=$((n_checks + 1))
    ! grep -q $'\033' "$work/out" || problem "colours without a terminal"
    ! grep -qE '.{81}| $' <(grep -v / "$work/out") || problem "lines over 80 columns, or blanks at an end"

    expect 0 "$tool" info --json
    holds 'sorted(it) == ["backends", "limits", "providers", "settings", "version"]'
    holds '{b["kind"] for b in it["backends"]} >= {"array", "malloc", "mmap"}'
    holds 'any(p["name"] == "host" and p["usable"] for p in it["providers"])'
    holds 'it["limits"]["page_size"]["value"] >= 4096'
    holds 'all(s["valid"] and s["origin"] for s in it["settings"])'

    expect 0 "$tool" info limits --json
    holds 'sorted(it) == ["limits", "version"]'
}

check_info_settings() {
    MRPOOL_MAX_BYTES=12abc expect 1 "$tool" info settings
    says out 'MRPOOL_MAX_BYTES +12abc +invalid'
    says out 'not a size'
    says out '^MRPOOL_MAX_BYTES is invalid: mrp_context_create will refuse it'
    MRPOOL_MAX_BYTES=12abc expect 1 "$tool" info --json
    holds '[s["variable"] for s in it["settings"] if not s["valid"]] == ["MRPOOL_MAX_BYTES"]'
    MRPOOL_MAX_BYTS=1G expect 1 "$tool" info settings
    says out 'MRPOOL_MAX_BYTS +1G +invalid'
    says out 'no such setting'
    MRPOOL_HOST_NOSUCH=1 expect 1 "$tool" info settings
    says out '^MRPOOL_HOST_NOSUCH is invalid: mrp_provider_open of host will refuse it'
    # all of them, though the library refuses at the first: wrong values, wrong names, those of a module
    MRPOOL_MAX_BYTES=12abc MRPOOL_MAX_BYTS=1G MRPOOL_PAGE=2m MRPOOL_HOST_NOSUCH=1 expect 1 "$tool" info --json
    holds '{s["variable"] for s in it["settings"] if not s["valid"]} == {
        "MRPOOL_HOST_NOSUCH", "MRPOOL_MAX_BYTES", "MRPOOL_MAX_BYTS", "MRPOOL_PAGE"}'
    MRPOOL_MAX_BYTES=1G expect 0 "$tool" info --json
    holds 'any(s["value"] == "1G" and s["origin"] == "environment" for s in it["settings"])'
    # bytes that are no UTF-8, and characters that a terminal would obey
    MRPOOL_PAGES=$'\xff"\e[2J' expect 1 "$tool" info settings --json
    holds 'any("\ufffd\"" in s["value"] for s in it["settings"])'
    MRPOOL_PAGES=$'\e[2J' expect 1 "$tool" info settings
    n_checks=$((n_checks + 1))
    ! grep -q $'\033' "$work/out" || problem "control characters of a setting reach the terminal"
}

check_usage() {
    local program
    for program in "$tool" "$bench"; do
        expect 0 "$program" --help
        says out 'Examples:'
        expect 0 "$program" --version
        expect 64 "$program"
        expect 64 "$program" nonsense
        says err "no (command|benchmark) 'nonsense'"
        expect 64 "$program" --nonsense
        says err "no option '--nonsense'"
        expect 0 "$program" help
        says out 'Examples:'
    done
    expect 0 "$tool" info --version
    says out '^mrpool [0-9]'
    expect 0 "$tool" help info
    says out 'SECTION'
    expect 0 "$bench" reg --version
    says out '^mrpool-bench [0-9]'
    expect 64 "$tool" info --nonsense
    expect 64 "$tool" info nonsense
    says err "no section 'nonsense'"
    expect 0 "$tool" info --help
    says out 'Exit status'
    for subject in reg lookup registry create; do
        expect 0 "$bench" "$subject" --help
        expect 64 "$bench" "$subject" --nonsense
        expect 64 "$bench" "$subject" --repetitions 0
    done
    expect 64 "$bench" reg --sizes 12abc
    says err '12abc'
    expect 64 "$bench" reg --sizes 4K,100
    expect 64 "$bench" reg --pages 3m
    expect 64 "$bench" reg --providers ''
    expect 64 "$bench" reg --providers ,host
    expect 64 "$bench" create --cycles -1
    if [[ -w /dev/full ]]; then
        expect 1 to_full_disk "$tool" info
        expect 1 to_full_disk "$tool" info --json
        expect 1 to_full_disk "$bench" registry --quick --json
    fi
}

shape='sorted(it) == ["benchmark", "machine", "results"] and len(it["results"]) > 0 and all(
    list(r) == ["case", "provider", "size", "threads", "unit", "median", "min", "max",
                "baseline", "ratio", "low", "high"]
    and r["min"] <= r["median"] <= r["max"]
    and (r["baseline"] is None) == (r["ratio"] is None) for r in it["results"])'

# Every baseline is a case of the same run, and the ratio is what --help says.
ratios='all(any(abs(b["median"] / r["median"] / r["ratio"] - 1) < 0.01 for b in it["results"]
    if b["case"] == r["baseline"] and b["provider"] == r["provider"] and b["size"] == r["size"])
    for r in it["results"] if r["baseline"])'

check_benchmarks() {
    local subject
    for subject in reg lookup registry create; do
        expect 0 "$bench" "$subject" --quick --json
        holds "it['benchmark'] == '$subject'"
        holds "$shape"
        holds "$ratios"
        expect 0 "$bench" "$subject" --quick --csv
        says out '^case,provider,size,threads,unit,median,min,max,baseline,ratio,low,high$'
        n_checks=$((n_checks + 1))
        python3 -c 'import csv, sys
sys.exit(any(len(row) != 12 for row in csv.reader(open(sys.argv[1]))))' "$work/out" ||
            problem "CSV of $subject has rows without 12 columns"
        expect 0 "$bench" "$subject" --quick
        says out '^mrpool .* on '
    done
}

check_reg() {
    expect 0 "$bench" reg --quick --providers host --sizes 64K --json
    holds '{r["case"] for r in it["results"]} == {c + "/4k" for c in ["mmap", "touch",
        "register", "deregister", "munmap", "per message", "per message mrpool", "pool"]}'
    holds 'all(r["size"] == 65536 and r["provider"] == "host" for r in it["results"])'
    expect 0 "$bench" reg --quick --providers host --sizes 64K
    says out '^--quick: a smoke run, not a measurement$'
    n_checks=$((n_checks + 1))
    ! grep -qE '.{81}| $|against registering it' "$work/out" || problem "lines over 80 columns, or a conclusion from a smoke run"
    expect 0 "$bench" reg --repetitions 1 --providers host --sizes 64K
    says out '^64 KiB from the pool against registering it per message: host '
    # what is missing is named, in the table and beside JSON
    expect 1 "$bench" reg --quick --providers nosuch
    says out 'left out: nosuch: .*nosuch'
    expect 0 "$bench" reg --quick --sizes 4K --providers nosuch,host --json
    says err 'left out: nosuch: '
    expect 1 "$bench" reg --quick --sizes 4K --providers host:nosuch=1
    says out 'left out: host:nosuch=1: .*nosuch'
    MRPOOL_MAX_BYTES=12abc expect 1 "$bench" reg --quick --providers host
    says out 'MRPOOL_MAX_BYTES'
    if command -v gnuplot >/dev/null; then
        expect 0 "$bench" reg --quick --providers host --sizes 4K,64K --plot "$work/plot.svg"
        grep -q '<svg' "$work/plot.svg" || problem "--plot drew no SVG"
    fi
    expect 1 "$bench" reg --quick --providers host --sizes 4K --plot "$work/plot.xyz"
}

for program in "$tool" "$bench"; do
    if [[ ! -x $program ]]; then
        echo "SKIP: $program is not built"
        exit 77
    fi
done
check_info
check_info_settings
check_usage
check_benchmarks
check_reg
finish
