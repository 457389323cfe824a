#!/usr/bin/env bash
# ctest: TIMEOUT 300, RUN_SERIAL TRUE
# also under: address
# Attachments and their limit, overlaps, the caller's windows, memory of a window: two ranks
# of each MPI (tests/mpi/windows.c). And Open MPI with another limit.
# shellcheck source=tests/mpi/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../mpi/support.sh"

for module in mpi mpich; do
    program=$build_dir/tests/mpi/windows-$module
    has_ranks "$module" "$program" || continue
    expect_ranks "windows of $module" "$module" 2 "$program"
    grep -h '^SKIP' "$work/out" | sort -u
    if [[ $module == mpi ]]; then
        expect_ranks "windows of $module, 100 attachments" \
            "$module" 2 env OMPI_MCA_osc_rdma_max_attach=100 "$program"
    fi
done
finish
