#!/usr/bin/env bash
# The tests that run in the guest, all in one boot:
#
#   tests.sh SOURCE BUILD              their names, one a line
#   tests.sh SOURCE BUILD RESULTS      run them there; run.sh starts it so
#
# Into the folder RESULTS goes, for the n-th test, n.log with what it printed, and into
# RESULTS/results a line when it begins and one when it ends:
#     begun NAME   or   passed|failed|skipped NAME SECONDS
set -u
source_dir=$1
build_dir=$2
results=${3:-}
export MRP_SOURCE_DIR=$source_dir MRP_BUILD_DIR=$build_dir MRP_TEST_UNDER='' MRPOOL_DEBUG=off
export MRP_TEST_MODULES=$build_dir/test-modules
export MRPOOL_PROVIDER_PATH=$build_dir/mrpool:$build_dir/test-modules

# The device to use, where a test does not find one by itself.
address=10.78.0.1
export MRP_TEST_VERBS_ADDRESS=$address
# What libfabric and UCX need for this device: README.md says why.
export FI_UNIVERSE_SIZE=16 FI_PROVIDER='verbs,ofi_rxm' # others cost seconds each time
export UCX_NET_DEVICES=rxe0:1 UCX_UD_VERBS_ETH_DGID_CHECK=n

longest=120 # seconds for one test; the slowest takes 20 where two processors are free
n_tests=0
n_failed=0
needs= # the module that the next tests are about
whole= # not empty: no case of the next tests may be left out

say() { printf '%s\n' "$*"; }

# What of "module NAME", "program PATH" is missing, in words; nothing when it is there.
missing() {
    case $1 in
    module) [[ -e $build_dir/mrpool/libmrpool-$2.so ]] || say "libmrpool-$2.so is not built" ;;
    program) [[ -x $build_dir/$2 ]] || say "$2 is not built" ;;
    esac
}

# A program that found nothing to run has not passed, nor one that left out a case which
# is here for what this machine has (whole=yes).
ran_all() {
    if grep -q '^\[==========\] 0 test(s) run' "$1" ||
        { [[ -n $whole ]] && grep -q '^SKIP' "$1"; }; then
        say "cases are missing" >>"$1"
        return 1
    fi
}

# run NAME [NAME=VALUE...] PROGRAM [ARGUMENT...], PROGRAM in the build folder
run() {
    local name=$1 log started status outcome reason
    local -a settings=()
    shift
    n_tests=$((n_tests + 1))
    if [[ -z $results ]]; then
        say "$name"
        return
    fi
    while [[ $1 == [A-Z]*=* ]]; do
        settings+=("$1")
        shift
    done
    log=$results/$n_tests.log
    started=$SECONDS
    printf 'begun\t%s\n' "$name" >>"$results/results"
    reason=$(missing program "$1")
    [[ -n $reason || -z $needs ]] || reason=$(missing module "$needs")
    if [[ -n $reason ]]; then
        say "SKIP: $reason" >"$log"
        status=77
    else
        (cd /tmp && exec env "${settings[@]}" timeout -k 5 "$longest" \
            "$build_dir/$1" "${@:2}") >"$log" 2>&1 </dev/null
        status=$?
    fi
    case $status in
    0) ran_all "$log" && outcome=passed || outcome=failed ;;
    77) outcome=skipped ;;
    124) outcome=failed && say "not done after $longest s" >>"$log" ;;
    *) outcome=failed && say "exit status $status" >>"$log" ;;
    esac
    printf '%s\t%s\t%s\n' "$outcome" "$name" $((SECONDS - started)) >>"$results/results"
    printf '%-8s%-44s%4d s\n' "$outcome" "$name" $((SECONDS - started))
    if [[ $outcome == failed ]]; then
        n_failed=$((n_failed + 1))
        tail -n 15 "$log" | sed 's/^/        /'
    fi
}

# Both conformance suites over one provider.
# conformance LABEL MODULE OPTIONS [NAME=VALUE...]
conformance() {
    local label=$1 needs=$2 suite
    local only=$2${3:+:$3}
    for suite in providers provider_ops; do
        run "conformance.$suite:$label" MRP_CONFORMANCE="$only" MRP_TEST_REQUIRE="$needs" \
            "${@:4}" "tests/conformance/test_$suite"
    done
}

[[ -z $results ]] || : >"$results/results"

# ---- every provider that has a device here ---------------------------------------
conformance ofi-verbs ofi provider=verbs,domain=rxe0,endpoint=msg
conformance ofi-verbs-uncached ofi provider=verbs,domain=rxe1,endpoint=msg \
    FI_MR_CACHE_MAX_COUNT=0
conformance ofi-verbs-rxm ofi 'provider=verbs;ofi_rxm,domain=rxe0' FI_MR_CACHE_MAX_COUNT=0
conformance verbs verbs ''
conformance ucx-rc ucx tls=rc

needs=
run conformance.mixed_rails tests/conformance/test_mixed_rails

# ---- what only a device does -----------------------------------------------------
# rights and bounds of a key, memlock of an ordinary user, two rails, cgroups
needs=ofi
run integration.ofi_device tests/integration/test_ofi_device
run integration.ofi_rma:verbs tests/integration/test_ofi_rma 'rma__verbs*'
run integration.ofi_revoke:verbs tests/integration/test_ofi_revoke 'verbs*__late'
needs=verbs
for test in access device limits; do
    run "integration.verbs_$test" MRP_TEST_REQUIRE=verbs "tests/integration/test_verbs_$test"
done
needs=

# ---- data between two processes, every byte verified -----------------------------
small=(--rounds 1 --max-size 16K)
run example.ofi_rma:verbs examples/ofi_rma "${small[@]}" \
    --provider verbs --domain rxe0 --address "$address"
run example.ofi_rma:verbs-rxm examples/ofi_rma "${small[@]}" \
    --provider 'verbs;ofi_rxm' --domain rxe0 --address "$address"
run bench.rma:verbs bench/mrpool-bench rma --quick --networks verbs --sizes 64,4K
run example.verbs_rma examples/verbs_rma "${small[@]}" --device rxe0 --address "$address"
run example.ucx_rma:rc examples/ucx_rma "${small[@]}" \
    --tls rc --devices rxe0:1 --address "$address"

# ---- two NUMA nodes, with memory -------------------------------------------------
whole=yes
for test in backend_mmap_refusals place retain; do
    run "unit.$test:two-nodes" "tests/unit/test_$test"
done

[[ $n_failed -eq 0 ]]
