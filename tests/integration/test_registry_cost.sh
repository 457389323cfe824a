#!/usr/bin/env bash
# A tracked block costs the same among 64k live ones as among 1k: instructions of alloc, query
# and free, counted by callgrind, which no other load on the machine disturbs.
# ctest: TIMEOUT 300
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=${1:-${MRP_SOURCE_DIR:-$here/../..}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}

command -v valgrind >/dev/null || {
    echo "SKIP: valgrind is not installed"
    exit 77
}
command -v "${CC:-cc}" >/dev/null || {
    echo "SKIP: no compiler"
    exit 77
}
library=$(find "$build_dir" -maxdepth 2 -name libmrpool.so -print -quit)
[[ -n $library ]] || {
    echo "SKIP: libmrpool.so is not built"
    exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/cost.c" <<'PROGRAM'
#include <mrpool/mrpool.h>

#include <stdlib.h>

#define ROUNDS 1000

static struct mrp_context *context;
static struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
static void *blocks[64 << 10], *fresh[ROUNDS];

__attribute__((noinline)) void measure_alloc(void)
{
    for (size_t i = 0; i < ROUNDS; i++) {
        fresh[i] = mrp_memory_alloc(context, &info);
    }
}

__attribute__((noinline)) void measure_query(size_t n_live)
{
    for (size_t i = 0; i < ROUNDS; i++) {
        struct mrp_memory_info found = MRP_MEMORY_INFO_INIT;

        if (mrp_memory_query(context, blocks[i * 7919 % n_live], &found) != MRP_OK) {
            abort();
        }
    }
}

__attribute__((noinline)) void measure_free(void)
{
    for (size_t i = 0; i < ROUNDS; i++) {
        if (mrp_memory_free(context, fresh[i]) != MRP_OK) {
            abort();
        }
    }
}

int main(int n_arguments, char **arguments)
{
    size_t n_live = n_arguments > 1 ? strtoul(arguments[1], NULL, 10) : 0;

    if (n_live == 0 || n_live > sizeof blocks / sizeof blocks[0] ||
        mrp_context_create(NULL, &context) != MRP_OK) {
        return 1;
    }
    info.size = 64;
    for (size_t i = 0; i < n_live; i++) {
        blocks[i] = mrp_memory_alloc(context, &info);
    }
    for (size_t i = 0; i < ROUNDS; i++) { /* the table grows before it is measured */
        fresh[i] = mrp_memory_alloc(context, &info);
    }
    for (size_t i = 0; i < ROUNDS; i++) {
        mrp_memory_free(context, fresh[i]);
    }
    measure_alloc();
    measure_query(n_live);
    measure_free();
    for (size_t i = 0; i < n_live; i++) {
        mrp_memory_free(context, blocks[i]);
    }
    return mrp_context_destroy(context) != MRP_OK;
}
PROGRAM
"${CC:-cc}" -O1 -g -I"$source_dir/include" -o "$work/cost" "$work/cost.c" \
    -L"$(dirname "$library")" -Wl,-rpath,"$(dirname "$library")" -lmrpool

# instructions FUNCTION LIVE: what the function takes, callees included
instructions() {
    valgrind --tool=callgrind --collect-atstart=no --toggle-collect="$1" \
        --callgrind-out-file="$work/out" "$work/cost" "$2" 2>"$work/log" || {
        cat "$work/log" >&2
        return 1
    }
    sed -n 's/^\(summary\|totals\): \([0-9]*\)$/\2/p' "$work/out" | head -n 1
}

status=0
for function in measure_alloc measure_query measure_free; do
    few=$(instructions $function 1024)
    many=$(instructions $function 65536)
    # a count of nothing would pass any bound
    if ((few < 10000 || many < 10000)); then
        echo "FAIL: $function: $few and $many instructions: nothing was measured"
        status=1
    elif ((many > 2 * few)); then
        echo "FAIL: $function: $many instructions among 65536 blocks, $few among 1024"
        status=1
    else
        echo "$function: $few instructions among 1024 blocks, $many among 65536"
    fi
done
exit $status
