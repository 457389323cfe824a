#!/usr/bin/env bash
# What taking a region and giving it back costs where the thread's cache serves: instructions
# under callgrind, no locked instruction, no division, no call, no system call.
# ctest: TIMEOUT 300
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=${1:-${MRP_SOURCE_DIR:-$here/../..}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
CC=${CC:-cc}
most_shared=56 # instructions of a pair, the loop included
most_inline=44
pairs=20000

skip() {
    echo "SKIP: $*"
    exit 77
}

command -v "$CC" >/dev/null || skip "no compiler"
library=$(find "$build_dir" -maxdepth 2 -name libmrpool.so -print -quit)
[[ -n $library ]] || skip "libmrpool.so is not built"
# cached VARIABLE: its value in the build folder
cached() {
    sed -n "s/^$1:[A-Z]*=//p" "$build_dir/CMakeCache.txt" 2>/dev/null
}
build_type=$(cached CMAKE_BUILD_TYPE)
built_with="$(cached CMAKE_C_FLAGS) $(cached "CMAKE_C_FLAGS_${build_type^^}")"
if ! [[ $built_with =~ -O[23] ]] || [[ $built_with =~ --coverage ]]; then
    skip "the library is built without optimisation"
fi
[[ $(uname -m) == x86_64 ]] || skip "instructions are counted on x86-64"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/pairs.c" <<'PROGRAM'
#include <mrpool/inline.h>
#include <mrpool/mrpool.h>

#include <stdlib.h>
#include <unistd.h>

#ifdef INLINE
#define ALLOC mrp_region_alloc_inline
#define FREE mrp_region_free_inline
#else
#define ALLOC mrp_region_alloc
#define FREE mrp_region_free
#endif

__attribute__((noinline)) void measure(struct mrp_pool *pool, size_t size, size_t n)
{
    for (; n > 0; n--) {
        FREE(ALLOC(pool, size));
    }
}

/* The pairs between two calls of getppid. */
int main(int n_arguments, char **arguments)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    size_t n = n_arguments > 1 ? strtoul(arguments[1], NULL, 10) : 0;
    size_t size = n_arguments > 2 ? strtoul(arguments[2], NULL, 10) : 64;
    struct mrp_pool_stats stats = MRP_POOL_STATS_INIT;
    struct mrp_context *context;
    struct mrp_pool *pool;

    params.max_bytes = (size_t)256 << 20;
    params.checks = MRP_CHECKS_STATE;
    if (n == 0 || mrp_context_create(NULL, &context) != MRP_OK ||
        mrp_pool_create(context, &params, &pool) != MRP_OK) {
        return 1;
    }
    for (int i = 0; i < 1000; i++) {
        if (FREE(ALLOC(pool, size)) != MRP_OK) {
            return 1;
        }
    }
    getppid();
    measure(pool, size, n);
    getppid();
    if (mrp_pool_stats(pool, &stats) != MRP_OK || stats.cached_size == 0 ||
        mrp_pool_check(pool) != MRP_OK) {
        return 1;
    }
    return mrp_context_destroy(context) != MRP_OK;
}
PROGRAM
# Valgrind 3.19 does not read all that compilers write for debuggers.
cp -L "$library" "$work/libmrpool.so.0"
ln -s libmrpool.so.0 "$work/libmrpool.so"
if command -v strip >/dev/null; then
    strip --strip-debug "$work/libmrpool.so.0"
fi
options=()
if "$CC" --version | grep -q clang; then
    options=(-fno-plt) # it has no such attribute
    most_shared=64 # it saves registers that the fast path does not use
fi
for form in shared inline; do
    [[ $form == shared ]] || options+=(-DINLINE)
    "$CC" -std=c11 -O2 "${options[@]}" -I"$source_dir/include" -o "$work/$form" \
        "$work/pairs.c" -L"$work" -Wl,-rpath,"$work" -lmrpool
    "$work/$form" 1000 64 || {
        echo "FAIL: the $form program does not run"
        exit 1
    }
done

status=0
fail() {
    echo "FAIL: $*"
    status=1
}

# -- instructions --

# count PROGRAM SIZE: instructions of a pair, in hundredths
count() {
    valgrind --tool=callgrind --collect-atstart=no --toggle-collect=measure \
        --callgrind-out-file="$work/out" "$work/$1" $pairs "$2" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        return 1
    }
    sed -n "s/^\(summary\|totals\): \([0-9]*\)$/\2/p" "$work/out" | head -n 1 |
        awk -v pairs=$pairs '{ printf "%d\n", $1 * 100 / pairs }'
}

check_count() {
    local form=$1 most=$2 size n text

    for size in 64 1000 65536; do
        n=$(count "$form" $size)
        text="$form, $size bytes: $((n / 100)).$(printf %02d $((n % 100))) instructions a pair"
        # a count of nothing would pass any bound
        if ((n < 1000)); then
            fail "$text: nothing was measured"
        elif ((n > most * 100 + 10)); then # of the loop's beginning and end they have a share
            fail "$text, at most $most"
        else
            echo "$text, at most $most"
        fi
    done
}

if command -v valgrind >/dev/null; then
    check_count shared $most_shared
    check_count inline $most_inline
else
    echo "SKIP: instructions: valgrind is not installed"
fi

# -- what they are --

# the instructions of a function up to its first ret: where the cache serves, all there are
fast_path() {
    objdump -d --no-show-raw-insn --no-addresses --disassemble="$1" "$library" 2>/dev/null |
        sed -n "/<$1>:$/,\$p" | sed '1d' | sed -n '1,/^[[:space:]]*ret/p'
}

check_instructions() {
    local function=$1 path
    path=$(fast_path "$function")

    if [[ $(wc -l <<<"$path") -lt 8 ]] || ! grep -q '^[[:space:]]*ret' <<<"$path"; then
        fail "$function: its instructions are not found"
        return
    fi
    if grep -E '\block\b|\bxchg.*\(|\bcmpxchg|\bxadd|\bi?divq?\b|\bcall|[lm]fence|\bsyscall' \
        <<<"$path"; then
        fail "$function: the fast path has one of these"
    else
        echo "$function: $(wc -l <<<"$path") instructions to its first ret, all plain"
    fi
}

if command -v objdump >/dev/null; then
    check_instructions mrp_region_alloc
    check_instructions mrp_region_free
else
    echo "SKIP: disassembly: objdump is not installed"
fi

# -- system calls --

if ! command -v strace >/dev/null; then
    echo "SKIP: system calls: strace is not installed"
elif ! strace -o /dev/null true 2>/dev/null; then
    echo "SKIP: system calls: strace may not trace here"
else
    for form in shared inline; do
        strace -f -o "$work/calls" "$work/$form" 1000000 200 || fail "$form under strace"
        # PID CALL(...): between the two calls of getppid
        between=$(sed -n '/getppid/,/getppid/p' "$work/calls" | grep -vc getppid || true)
        marks=$(grep -c getppid "$work/calls" || true)
        if [[ $marks != 2 ]]; then
            fail "$form: $marks marks of 2 are seen"
        elif [[ $between != 0 ]]; then
            sed -n '/getppid/,/getppid/p' "$work/calls" | head -n 20
            fail "$form: $between system calls in a million pairs"
        else
            echo "$form: no system call in a million pairs"
        fi
    done
fi
exit $status
