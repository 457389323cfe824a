#!/usr/bin/env bash
# mrpool/inline.h in C and in C++, with the shared and with the static library; an object
# compiled against another layout neither links nor loads.
set -eu
# shellcheck source=tests/unit/support/build.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/build.sh"

# C and C++ alike: both forms, mixed, on all settings of checks.
cat >"$work/mix.c" <<'PROGRAM'
#include <mrpool/inline.h>
#include <mrpool/mrpool.h>

#include <stdio.h>
#include <string.h>

#define HELD 500

static int failures;

static void expect(bool condition, const char *what, unsigned checks)
{
    if (!condition) {
        printf("checks %u: %s: %s\n", checks, what, mrp_error_last()->text);
        failures++;
    }
}

static void mix(struct mrp_pool *pool, unsigned checks)
{
    static struct mrp_region *held[HELD];
    struct mrp_region *volatile none = NULL; /* not a constant to be warned of */

    for (size_t i = 0; i < 40 * HELD; i++) {
        struct mrp_region **place = &held[i * 7919 % HELD];
        size_t size = i * 104729 % 5000;
        void *address;

        if (*place != NULL) {
            expect((i % 3 == 0 ? mrp_region_free(*place) : mrp_region_free_inline(*place)) ==
                    MRP_OK,
                "free", checks);
        }
        *place = i % 2 == 0 ? mrp_region_alloc(pool, size)
                            : mrp_region_alloc_inline(pool, size);
        address = mrp_region_address(*place);
        expect(*place != NULL && mrp_region_capacity(*place) >= size, "alloc", checks);
        if (address != NULL) {
            memset(address, (int)i, size);
        }
    }
    for (size_t i = 0; i < HELD; i++) {
        expect(mrp_region_free_inline(held[i]) == MRP_OK, "free", checks);
        if (checks != MRP_CHECKS_NONE) {
            expect(mrp_region_free_inline(held[i]) == MRP_ERR_STALE, "second free", checks);
        }
        held[i] = NULL;
    }
    expect(mrp_region_free_inline(none) == MRP_ERR_STALE, "free of NULL", checks);
    expect(mrp_region_alloc_inline(NULL, 1) == NULL, "alloc from NULL", checks);
    expect(mrp_region_alloc_inline(pool, (size_t)-1) == NULL, "alloc of it all", checks);
}

int main(void)
{
    struct mrp_context *context = NULL;

    if (mrp_context_create(NULL, &context) != MRP_OK) {
        return 1;
    }
    for (unsigned checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
        struct mrp_pool_stats stats = MRP_POOL_STATS_INIT;
        struct mrp_pool *pool = NULL;

        params.max_bytes = (size_t)256 << 20;
        params.checks = checks;
        expect(mrp_pool_create(context, &params, &pool) == MRP_OK, "create", checks);
        mix(pool, checks);
        expect(mrp_pool_stats(pool, &stats) == MRP_OK &&
                (stats.cached_size > 0) == (checks != MRP_CHECKS_FULL),
            "caches", checks);
        expect(mrp_pool_check(pool) == MRP_OK, "check", checks);
        expect(mrp_pool_destroy(pool) == MRP_OK, "destroy", checks);
    }
    return mrp_context_destroy(context) != MRP_OK || failures > 0;
}
PROGRAM
cp "$work/mix.c" "$work/mix.cpp"
warnings=(-Wall -Wextra -Wpedantic -Wconversion -Werror)
shared=(-L"$lib_dir" "-Wl,-rpath,$lib_dir" -lmrpool)
static=("$lib_dir/libmrpool.a" -pthread -ldl)

# build_and_run TEXT COMMAND...: the compiler's command but for -o
build_and_run() {
    local text=$1
    shift

    rm -f "$work/mix"
    if ! "$@" -o "$work/mix" >"$work/log" 2>&1; then
        head -n 20 "$work/log"
        fail "$text: does not build"
    elif ! "$work/mix"; then
        fail "$text: does not run"
    else
        echo "$text: ok"
    fi
}

try_all() {
    local compiler=$1 source=$2 standard
    shift 2

    for standard in "$@"; do
        build_and_run "$source as $standard, shared" "$compiler" -std="$standard" -O2 \
            "${warnings[@]}" -I"$source_dir/include" "$work/$source" "${shared[@]}"
    done
    build_and_run "$source without optimisation, shared" "$compiler" -O0 \
        -I"$source_dir/include" "$work/$source" "${shared[@]}"
    if [[ -f $lib_dir/libmrpool.a ]]; then
        build_and_run "$source, static" "$compiler" -O2 -I"$source_dir/include" \
            "$work/$source" "${static[@]}"
        if readelf -d "$work/mix" 2>/dev/null | grep -q 'NEEDED.*libmrpool'; then
            fail "$source, static: needs libmrpool.so"
        fi
    else
        echo "SKIP: static: libmrpool.a is not built"
    fi
}

try_all "$CC" mix.c c11 gnu17
cxx=
for compiler in "${CXX:-}" g++ clang++; do
    if [[ -n $compiler ]] && command -v "$compiler" >/dev/null; then
        cxx=$compiler
        break
    fi
done
if [[ -z $cxx ]]; then
    echo "SKIP: C++: no compiler"
else
    try_all "$cxx" mix.cpp c++11 c++17 gnu++20
fi

# -- another layout --

cp -r "$source_dir/include" "$work/other"
sed -i 's/mrp_bins_v1/mrp_bins_v2/g' "$work/other/mrpool/inline.h"
cat >"$work/use.c" <<'PROGRAM'
#include <mrpool/inline.h>

enum mrp_status use(struct mrp_pool *pool);
enum mrp_status use(struct mrp_pool *pool)
{
    return mrp_region_free_inline(mrp_region_alloc_inline(pool, 100));
}
PROGRAM
cat >"$work/load.c" <<'PROGRAM'
#include <dlfcn.h>
#include <stdio.h>

/* With an argument: load it, and say why not. */
int main(int n_arguments, char **arguments)
{
    if (n_arguments > 1) {
        void *loaded = dlopen(arguments[1], RTLD_NOW);

        printf("%s\n", loaded == NULL ? dlerror() : "loaded");
    }
    return 0;
}
PROGRAM

# refuse TEXT COMMAND...: fails, and says which symbol is missing
refuse() {
    local text=$1
    shift

    if "$@" >"$work/log" 2>&1; then
        fail "$text: it links"
    elif ! grep -q 'undefined.*mrp_bins_v2\|mrp_bins_v2.*undefined' "$work/log"; then
        head -n 20 "$work/log"
        fail "$text: mrp_bins_v2 is not what is missing"
    else
        echo "$text: refused, $(grep -om1 'undefined.*mrp_bins_v2' "$work/log")"
    fi
}

"$CC" -O2 -fPIC -c -I"$work/other" -o "$work/other.o" "$work/use.c"
"$CC" -O2 -fPIC -c -I"$source_dir/include" -o "$work/same.o" "$work/use.c"
"$CC" -O2 -o "$work/load" "$work/load.c" -ldl
printf 'int use(void *pool);\nint main(void) { return use(0) == 0; }\n' >"$work/call.c"
if "$CC" -o "$work/call" "$work/call.c" "$work/same.o" "${shared[@]}" && "$work/call"; then
    echo "the same layout: links, runs"
else
    fail "the same layout does not link or run"
fi
refuse "another layout, shared library" "$CC" -o "$work/call" "$work/call.c" "$work/other.o" \
    "${shared[@]}"
if [[ -f $lib_dir/libmrpool.a ]]; then
    refuse "another layout, static library" "$CC" -o "$work/call" "$work/call.c" \
        "$work/other.o" "${static[@]}"
fi
for layout in same other; do
    "$CC" -shared -o "$work/$layout.so" "$work/$layout.o" "${shared[@]}"
done
[[ $("$work/load" "$work/same.so") == loaded ]] || fail "the same layout does not load"
if "$work/load" "$work/other.so" | grep 'undefined symbol: mrp_bins_v2'; then
    echo "another layout: does not load"
else
    fail "another layout loads"
fi
exit $status
