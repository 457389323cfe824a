#!/usr/bin/env bash
# ctest: TIMEOUT 400, RUN_SERIAL TRUE
# Both conformance suites over MPI windows: of each implementation, dynamic and allocated,
# in 2 and 4 ranks that each run all cases, and a dynamic one as a rail among those of all
# other networks. Opening and closing is collective, so the ranks go through the same cases
# together.
# shellcheck source=tests/mpi/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../mpi/support.sh"

for module in mpi mpich; do
    has_ranks "$module" "$build_dir/tests/mpi/providers-$module" || continue
    cases=$module-dynamic,$module-allocated
    for n in 2 4; do
        for suite in provider_ops providers; do
            start=$SECONDS
            expect_ranks "$suite over $cases, $n ranks" "$module" "$n" \
                env MRP_CONFORMANCE="$cases" MRP_TEST_REQUIRE="$module" \
                "$build_dir/tests/mpi/$suite-$module"
            echo "    $((SECONDS - start)) s"
        done
    done
    expect_ranks "mixed_rails, 2 ranks" "$module" 2 env MRP_TEST_RANKS="$module" \
        "$build_dir/tests/mpi/mixed_rails-$module"
done
finish
