#!/usr/bin/env bash
# mrpool-bench pool as people and scripts use it: complete JSON with its ratios and goals, CSV,
# what is missing is named, wrong options. No figure is judged: this machine has other work.
# ctest: TIMEOUT 240
set -u
# shellcheck source=tests/integration/support/bench.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/bench.sh"
needs_worker mrpool
result_key="case size threads"

pool() {
    "$bench" pool "$@"
}

same='and r["size"] == b["size"] and r["threads"] == b["threads"]'

check_json() {
    expect 0 pool --quick --json
    holds 'it["benchmark"] == "pool" and len(results) == len(it["results"]) > 100'
    holds 'all(list(r) == ["case", "provider", "size", "threads", "unit", "median", "min", "max",
        "baseline", "ratio", "low", "high"] and r["min"] <= r["median"] <= r["max"] for r in it["results"])'
    holds "all(any(b['case'] == r['baseline'] $same and
        (r['median'] == 0 or b['median'] == 0 or abs(b['median'] / r['median'] / r['ratio'] - 1) < 0.01)
        for b in it['results']) for r in it['results'] if r['baseline'])"
    # every pattern, for mrpool and for what is always there
    for pattern in pair batch bulk larson; do
        holds "all(('$pattern/' + s, size, n) in results
            for s in ('mrpool', 'mrpool-static', 'glibc', 'mutex') for size in (64, 2 ** 20) for n in (1, 2))"
    done
    holds 'all(("random/" + s, 64, 2) in results for s in ("mrpool", "glibc"))'
    holds 'all(("producer-consumer/" + s, 64, 2) in results for s in ("mrpool", "glibc", "mutex"))'
    holds 'all((c + "/mrpool", 64, 1) in results for c in ("first-touch", "refused", "recover"))'
    holds 'all(any(("latency-" + p + "/mrpool", 64, n) in results for n in (1, 2))
        for p in ("p50", "p90", "p99", "p99.9", "p99.99", "max"))'
    holds 'all(r["median"] > 0 for r in it["results"] if r["case"].startswith(("pair/", "batch/", "bulk/")))'
    # goals: of results of the same run, as the figures say
    holds 'len(it["goals"]) > 10 and all((g["case"], g["size"], g["threads"]) in results for g in it["goals"])'
    holds 'all(g["reached"] == (g["is"] <= g["at_most"]) for g in it["goals"])'
    holds 'any(g["case"] == "pair/mrpool" and g["against"] for g in it["goals"])'
    if [[ -x $build_dir/bench/workers/worker-dpdk ]]; then
        holds 'results["pair/mrpool", 64, 1]["baseline"] == "pair/dpdk"'
    else
        says err 'left out: dpdk: built without it'
    fi
}

check_formats() {
    local few=(--quick --sizes 64 --threads 1)

    few+=(--patterns "pair,batch" --subjects "mrpool,glibc,mutex")
    expect 0 pool "${few[@]}" --csv
    says out '^case,provider,size,threads,unit,median,min,max,baseline,ratio,low,high$'
    says out '^pair/mrpool,,64,1,ns,'
    expect 0 pool "${few[@]}" --all
    says out '^ *shared 1 +64 B .* glibc '
    says out '^ +mutex +[0-9.]+ ns'
    n_checks=$((n_checks + 1))
    ! grep -qE '.{81}| $' "$work/out" || problem "lines over 80 columns, or blanks at an end"
    expect 0 pool "${few[@]}" --json
    holds '{r["case"].split("/")[1] for r in it["results"]} == {"mrpool", "glibc", "mutex"}'
    if command -v gnuplot >/dev/null; then
        expect 0 pool "${few[@]}" --plot "$work/plot.svg"
        grep -q '<svg' "$work/plot.svg" || problem "--plot drew no SVG"
    fi
    expect 1 pool "${few[@]}" --plot "$work/plot.xyz"
    says err 'end it in .svg'
}

check_usage() {
    expect 0 pool --help
    says out 'Examples:'
    expect 64 pool --nonsense
    expect 64 pool --sizes 63
    expect 64 pool --sizes 2M
    expect 64 pool --threads 0
    expect 64 pool --patterns pear
    says err "no pattern 'pear'"
    expect 64 pool --subjects nobody
    says err "no subject 'nobody'"
    expect 64 pool --repetitions 0
}

check_usage
check_formats
check_json
finish
