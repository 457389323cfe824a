# Sourced by the tests that run ranks of MPI: with each implementation that is there, in a
# folder of its own, and with nothing left in /dev/shm.
# shellcheck shell=bash
source_dir=${1:-${MRP_SOURCE_DIR:-.}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
export MRPOOL_PROVIDER_PATH=${MRPOOL_PROVIDER_PATH:-$build_dir/mrpool}
work=$(mktemp -d)
failures=0
n_passed=0

# Open MPI as root, and on machines with fewer processors than ranks. All its files are in
# our folder, so that a rank that is killed leaves none behind.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_orte_tmpdir_base=$work OMPI_MCA_btl_vader_backing_directory=$work
export OMPI_MCA_osc_rdma_backing_directory=$work OMPI_MCA_shmem_mmap_backing_file_base_dir=$work
# Open MPI leaks; of the provider LeakSanitizer finds nothing. ThreadSanitizer and Valgrind
# report what goes on inside MPI, which none of them knows: not run under those.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
trap 'rm -rf "$work"' EXIT

required() {
    [[ ",${MRP_TEST_REQUIRE:-}," == *",$1,"* ]]
}

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

skip() { # NAME REASON
    if required "$1"; then
        fail "$1 is required by MRP_TEST_REQUIRE: $2"
    else
        echo "SKIP: $1: $2"
    fi
}

launcher_of() {
    if [[ $1 == mpi ]]; then
        echo mpirun.openmpi
    else
        echo mpirun.mpich
    fi
}

# has_ranks MODULE PROGRAM: it was built, and there is what starts it
has_ranks() {
    if [[ ! -x $2 ]]; then
        skip "$1" "$(basename "$2") is not built (its MPI was not found)"
        return 1
    fi
    if ! command -v "$(launcher_of "$1")" >/dev/null; then
        skip "$1" "no $(launcher_of "$1"): install $([[ $1 == mpi ]] && echo openmpi-bin || echo mpich)"
        return 1
    fi
}

# ranks MODULE N COMMAND...: its output in $work/out; 90 seconds at most
ranks() {
    local launcher n=$2
    launcher=$(launcher_of "$1")
    shift 2
    timeout --kill-after=5 90 "$launcher" -n "$n" "$@" >"$work/out" 2>&1 </dev/null
}

# expect_ranks TEXT MODULE N COMMAND...: status 0 of all ranks
expect_ranks() {
    local text=$1 status=0
    shift
    ranks "$@" || status=$?
    if [[ $status -eq 0 ]]; then
        echo "ok: $text"
        n_passed=$((n_passed + 1))
    else
        fail "$text: exit status $status: $(grep -vE '^\[ +(OK|RUN) ' "$work/out" | tail -n 40)"
    fi
}

finish() {
    echo "$n_passed runs passed, $failures failed"
    [[ $failures -eq 0 ]] || exit 1
    [[ $n_passed -gt 0 ]] || exit 77
    exit 0
}
