#!/usr/bin/env bash
# ctest: TIMEOUT 400, RUN_SERIAL TRUE
# examples/mpi_rma with each MPI: 2 and 4 ranks, both kinds of window, and memory of
# MPI_Alloc_mem; every byte verified by the example itself.
# shellcheck source=tests/mpi/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../mpi/support.sh"

# moves MODULE N ARGUMENT...
moves() {
    local module=$1 n=$2 name=mpi_rma counts
    [[ $module == mpi ]] || name=mpi_rma_mpich
    shift 2
    counts='[1-9][0-9]* transfers, [0-9]+ MiB, all bytes verified'
    # ranks that wait do so busily: four on two processors take their time
    expect_ranks "$name, $n ranks $*" "$module" "$n" "$build_dir/examples/$name" --rounds 1 \
        --max-size $((n == 2 ? 262144 : 4097)) "$@"
    grep -qE "^mpi_rma: $counts, [1-9][0-9]* registrations in warm-up, 0 after$" "$work/out" ||
        fail "$name, $n ranks $*: no good summary"
}

for module in mpi mpich; do
    name=mpi_rma
    [[ $module == mpi ]] || name=mpi_rma_mpich
    has_ranks "$module" "$build_dir/examples/$name" || continue
    for n in 2 4; do
        moves "$module" "$n"
        moves "$module" "$n" --window allocated
    done
    moves "$module" 2 --alloc-mem
    for wrong in "--max-size=16777217" "--max-size=99999999999999999999999" "--max-size= 1" \
        "--rounds=0" "--rounds=-1" "--seed=1X"; do
        if "$build_dir/examples/$name" "$wrong" >"$work/out" 2>&1 ||
            ! grep -q 'is not a number from' "$work/out"; then
            fail "$name takes $wrong: $(tail -n 3 "$work/out")"
        fi
    done
    if ranks "$module" 1 "$build_dir/examples/$name" || ! grep -q 'mpirun -n 2' "$work/out"; then
        fail "$name in one rank does not say what it wants"
    fi
done
finish
