#!/usr/bin/env bash
# What a program pays for modules that it does not use: nothing. With all of them present
# it starts without opening one, or a library of a network, and has a context, a pool and
# a region in less than 5 ms of processor time.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=${1:-${MRP_SOURCE_DIR:-$here/../..}}
build_dir=${2:-${MRP_BUILD_DIR:-$source_dir/build/dev}}
CC=${CC:-cc}
networks='libmrpool-|libfabric|libuc[pmst]|libmpi|libmpich|libopen-|libibverbs|librdmacm|liburing|libpsm'

library=$(find "$build_dir" -maxdepth 2 -name libmrpool.so -print -quit)
[[ -n $library ]] || {
    echo "SKIP: start: libmrpool.so is not built"
    exit 77
}
command -v "$CC" >/dev/null || {
    echo "SKIP: start: no compiler"
    exit 77
}
export MRPOOL_PROVIDER_PATH=$build_dir/mrpool
unset MRPOOL_DEBUG
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAILED: $*"
    exit 1
}

cat >"$work/start.c" <<'PROGRAM'
#include <mrpool/mrpool.h>

#include <stdio.h>
#include <time.h>

static void visit(const struct mrp_module *module, void *user)
{
    *(size_t *)user += module->status == MRP_OK;
}

static long long used_ns(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return used.tv_sec * 1000000000LL + used.tv_nsec;
}

/* Prints the nanoseconds of processor time that the process has used when it begins, has
 * a context, and holds its first region. With an argument it looks at all modules first,
 * as `mrpool info` does. */
int main(int n_arguments, char **arguments)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context;
    struct mrp_provider *host;
    struct mrp_region *region;
    struct mrp_pool *pool;
    long long began = used_ns(), has_context;
    size_t n_modules = 0;

    (void)arguments;
    if (n_arguments > 1) {
        mrp_module_visit(visit, &n_modules);
    }
    params.rails = &host;
    params.n_rails = 1;
    params.max_bytes = (size_t)4 << 20; /* pinned: within what an ordinary user may */
    if (mrp_context_create(NULL, &context) != MRP_OK) {
        fprintf(stderr, "%s\n", mrp_error_last()->text);
        return 1;
    }
    has_context = used_ns();
    if (mrp_provider_open(context, "host", NULL, &host) != MRP_OK ||
        mrp_pool_create(context, &params, &pool) != MRP_OK ||
        (region = mrp_region_alloc(pool, 1000)) == NULL) {
        fprintf(stderr, "%s\n", mrp_error_last()->text);
        return 1;
    }
    printf("%lld %lld %lld\n", began, has_context, used_ns());
    return mrp_region_free(region) != MRP_OK || mrp_context_destroy(context) != MRP_OK;
}
PROGRAM
"$CC" -D_GNU_SOURCE -O1 -I"$source_dir/include" -o "$work/start" "$work/start.c" \
    -L"$(dirname "$library")" -Wl,-rpath,"$(dirname "$library")" -lmrpool ||
    fail "the program does not build"

n_modules=$(find "$build_dir/mrpool" -name 'libmrpool-*.so' | wc -l)
echo "modules present: $n_modules"

# loaded ARGUMENT...: the shared objects that the process has loaded
loaded() {
    LD_DEBUG=files LD_DEBUG_OUTPUT=$work/ld "$work/start" "$@" >/dev/null || fail "start $*"
    grep -oE 'calling init: .*' "$work"/ld.* | sort -u
    rm -f "$work"/ld.*
}

objects=$(loaded)
echo "loaded: $(wc -l <<<"$objects") objects"
grep -E "$networks" <<<"$objects" && fail "it loads the above"
if ((n_modules > 0)); then # it can fail: who asks for the modules gets them
    loaded all | grep -qE "$networks" || fail "the check does not notice loaded modules"
fi

if command -v strace >/dev/null &&
    strace -f -o "$work/calls" -e trace=file "$work/start" >/dev/null 2>"$work/log"; then
    grep -E "$networks|/mrpool\"" "$work/calls" && fail "it looks for modules: the above"
    opened=$(grep -oE 'open(at)?\(.* = [0-9]+$' "$work/calls" | grep -vE '"/(proc|sys)/')
    echo "opened beside /proc and /sys: $(wc -l <<<"$opened") files"
    # itself, the C library, the loader's cache; musl and older glibc have more
    (($(wc -l <<<"$opened") <= 8)) || fail "that is more than a start needs: $opened"
    if ((n_modules > 0)); then
        strace -f -o "$work/calls" -e trace=file "$work/start" all >/dev/null 2>&1
        grep -qE "$networks" "$work/calls" || fail "the check does not notice modules"
    fi
else
    echo "SKIP: start: strace is not installed, or not permitted"
fi

# The least of 20: what the machine does beside it only adds.
least=
for _ in $(seq 20); do
    read -r began context region < <("$work/start") || fail "start"
    if [[ -z $least || $((region - began)) -lt $least ]]; then
        least=$((region - began))
        text="$((began / 1000)) us to begin (the system's part), $(((context - began) / 1000)) \
to a context, $(((region - context) / 1000)) to a pool and its first region"
    fi
done
echo "processor time: $text"
((least < 5000000)) || fail "$((least / 1000)) us of mrpool's own: 5000 are allowed"
