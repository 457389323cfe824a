#!/usr/bin/env bash
# mrpool-bench memory as people and scripts use it: complete JSON with its goals, CSV, the plot and
# the series, wrong options. Counts are judged; times and shares are not: this machine has other work.
# ctest: TIMEOUT 240
set -u
# shellcheck source=tests/integration/support/bench.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/bench.sh"
needs_worker memory-mrpool
result_key="case threads"

memory() {
    "$bench" memory --quick "$@"
}

check_load() {
    # without a rail: nothing is pinned, so that no memlock limit stands in the way
    expect 0 memory --only load,trim --subjects mrpool-no-rail,glibc --json --series "$work/series"
    holds 'it["benchmark"] == "memory" and len(results) == len(it["results"])'
    holds 'all(("held-" + phase + "/" + subject, 2) in results for subject in ("mrpool-no-rail", "glibc")
        for phase in ("steady", "steady-most", "after-peak", "small", "less", "idle", "at-end"))'
    holds 'all((phase + "-cost/glibc", 2) in results for phase in ("ramp", "steady", "peak", "small"))'
    holds 'all(r["median"] >= 0.9 for r in it["results"] if r["case"].startswith("held-steady"))'
    holds 'results["held-steady/mrpool-no-rail", 2]["baseline"] == "held-steady/glibc"'
    holds '("give-back/glibc", 1) in results and ("give-back/mrpool-no-rail", 1) in results'
    # the same load for both: as many samples, the same phases, about the same live bytes
    n_checks=$((n_checks + 1))
    python3 - "$work/series" <<'PYTHON' || problem "the series are not of one load"
import csv
import sys

series = {}
for row in csv.DictReader(open(sys.argv[1], encoding="utf-8")):
    series.setdefault(row["subject"], []).append(row)
one, other = series["glibc"], series["mrpool-no-rail"]
assert len(one) == len(other) > 100
for a, b in zip(one, other):
    assert a["phase"] == b["phase"]
    assert abs(int(a["live"]) - int(b["live"])) < 32 << 20, (a, b)
assert int(one[-1]["live"]) == int(other[-1]["live"]) == 0
PYTHON
}

check_counts() {
    expect 0 memory --only counts,missed --json
    holds 'results["same-size-registrations/mrpool", 1]["median"] == 1'
    holds 'results["layouts-registered/mrpool", 1]["median"] == 10'
    holds 'results["layouts-deregistered/mrpool", 1]["median"] == 6'
    holds 'results["layouts-kept/mrpool", 1]["median"] == 4'
    holds 'results["layouts-leaked/mrpool", 1]["median"] == 0'
    holds 'all(results["after-peak-beyond-" + what + "/mrpool", 1]["median"] <= 2
        for what in ("live", "reserve"))'
    holds 'all(results["missed-" + what + "/mrpool", n]["median"] == 0 and
        results["missed-asked/mrpool", n]["median"] > 1000 and results["missed-trims/mrpool", n]["median"] > 0
        for what in ("refused", "registered", "nogrow-refused", "nogrow-registered") for n in (1, 2))'
    holds 'results["missed-idle-refused/mrpool", 1]["median"] == 0'
    holds 'len(it["goals"]) == 13 and all(g["reached"] for g in it["goals"])'
}

check_waiting() {
    expect 0 memory --only latency,limit,waiting --json
    holds 'all((c + "-" + p + "/mrpool", 1) in results for c in ("pair-alone", "pair-regrouping", "pair-trimming")
        for p in ("p50", "p99", "p99.9", "max"))'
    holds 'all((c + "-p99/mrpool", n) in results for c in ("limit", "limit-by-hand") for n in (2, 8))'
    holds 'results["longest-over-mean/mrpool", 8]["median"] >= 1'
    holds 'results["mean-wait/mrpool", 8]["median"] > 1e5'
    holds 'any(g["case"] == "longest-over-mean/mrpool" and g["at_most"] == 3 for g in it["goals"])'
}

check_formats() {
    expect 0 memory --only counts --csv
    says out '^case,provider,size,threads,unit,median,min,max,baseline,ratio,low,high$'
    says out '^layouts-deregistered/mrpool,,0,1,count,6,6,6,,,,$'
    expect 0 memory
    says out '^ *glibc +[0-9.]+ +[0-9.]+'
    says out 'ok 6, at most 6: an LRU of 4'
    n_checks=$((n_checks + 1))
    ! grep -qE '.{81}| $' "$work/out" || problem "lines over 80 columns, or blanks at an end"
    if command -v gnuplot >/dev/null; then
        expect 0 memory --only load --subjects glibc --plot "$work/plot.svg"
        grep -q '<svg' "$work/plot.svg" || problem "--plot drew no SVG"
    fi
    expect 1 memory --only load --subjects glibc --plot "$work/plot.xyz"
    says err 'end it in .svg'
    expect 1 memory --only counts --plot "$work/plot.svg"
    says err 'draws the load'
    expect 1 memory --only load --subjects glibc --series /nowhere/series
}

check_usage() {
    expect 0 memory --help
    says out 'Examples:'
    expect 64 memory --nonsense
    expect 64 memory --only pear
    says err "no section 'pear'"
    expect 64 memory --subjects nobody
    says err "no subject 'nobody'"
    expect 64 memory --live 5
    expect 64 memory --idle-ms 0
}

check_usage
check_formats
check_load
check_counts
check_waiting
finish
