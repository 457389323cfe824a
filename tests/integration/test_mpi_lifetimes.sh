#!/usr/bin/env bash
# ctest: TIMEOUT 400, RUN_SERIAL TRUE
# also under: address
# MPI not initialised, finalized first, the other implementation, one rank, each thread
# level: tests/mpi/lifetimes.c, two ranks of each MPI where it takes two.
# shellcheck source=tests/mpi/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../mpi/support.sh"

scenarios='not-initialised finalized-first-dynamic finalized-first-alloc-mem
    finalized-first-allocated finalized-first-context wrong-abi single funneled
    funneled-open serialized-without-lock serialized-with-lock owed-is-detached
    opens-while-another-grows own-window-freed-dynamic own-window-freed-allocated
    fails-alone-dynamic fails-alone-allocated'

for module in mpi mpich; do
    program=$build_dir/tests/mpi/lifetimes-$module
    has_ranks "$module" "$program" || continue
    for scenario in $scenarios; do
        expect_ranks "$module: $scenario" "$module" 2 "$program" "$scenario"
    done
    expect_ranks "$module: one-rank" "$module" 1 "$program" one-rank
done
finish
