#!/usr/bin/env bash
# Reads and writes after free are reported by AddressSanitizer, in a program that is built
# with it and a library that is not, and by Valgrind: of pooled regions and of idle
# larger-than-huge ones, through the functions and through inline.h. What is right, and
# what MRPOOL_DEBUG=off hides from them, is not.
set -eu
# shellcheck source=tests/unit/support/build.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/build.sh"
unset MRPOOL_DEBUG
n_checked=0

cat >"$work/touch.c" <<'PROGRAM'
#include <mrpool/inline.h>
#include <mrpool/mrpool.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* touch <read|write|fine> <bytes> <function|inline> */
int main(int argc, char **argv)
{
    struct mrp_context *context;
    struct mrp_pool *pool;
    size_t size = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    int is_inline = argc == 4 && strcmp(argv[3], "inline") == 0;
    struct mrp_region *regions[3];
    volatile char *address;
    int sum = 0;

    if (argc != 4 || mrp_context_create(NULL, &context) != MRP_OK ||
        mrp_pool_create(context, NULL, &pool) != MRP_OK) {
        printf("setup: %s\n", mrp_error_last()->text);
        return 3;
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            regions[i] = is_inline ? mrp_region_alloc_inline(pool, size)
                                   : mrp_region_alloc(pool, size);
            if (regions[i] == NULL) {
                printf("alloc: %s\n", mrp_error_last()->text);
                return 3;
            }
            address = mrp_region_address(regions[i]);
            memset((void *)address, 1, mrp_region_capacity(regions[i]));
        }
        for (int i = 0; i < 3; i++) {
            if ((is_inline ? mrp_region_free_inline(regions[i])
                           : mrp_region_free(regions[i])) != MRP_OK) {
                printf("free: %s\n", mrp_error_last()->text);
                return 3;
            }
        }
    }
    if (strcmp(argv[1], "read") == 0) {
        sum = address[size / 2];
    } else if (strcmp(argv[1], "write") == 0) {
        address[size - 1] = 1;
    }
    printf("survived %d\n", sum); /* a value that nobody uses would not be loaded */
    fflush(stdout);
    return mrp_context_destroy(context) == MRP_OK ? 0 : 3;
}
PROGRAM

# check <what> <wanted exit status> <wanted words> <command>...
check() {
    local what=$1 wanted=$2 words=$3 got=0

    shift 3
    "$@" >"$work/log" 2>&1 || got=$?
    n_checked=$((n_checked + 1))
    if [[ $got != "$wanted" ]] || ! grep -q "$words" "$work/log"; then
        fail "$what: exit status $got, not $wanted with \"$words\""
        sed 's/^/    /' "$work/log"
    fi
}

# check_tool <name> <exit status of a report> <read report> <write report> <command>...
check_tool() {
    local name=$1 code=$2 read=$3 write=$4 form size

    shift 4
    for form in function inline; do
        for size in 100 3000000; do
            check "$name, $form, $size bytes read" "$code" "$read" "$@" read $size $form
            check "$name, $form, $size bytes written" "$code" "$write" "$@" write $size $form
            check "$name, $form, $size bytes" 0 survived "$@" fine $size $form
        done
        check "$name, $form, off" 0 survived env MRPOOL_DEBUG=off "$@" read 100 $form
        # what is filled and verified is not what the library is told off for
        check "$name, $form, with poison" "$code" "$read" \
            env MRPOOL_DEBUG=poison,memcheck,origins "$@" read 100 $form
        check "$name, $form, fine with poison" 0 survived \
            env MRPOOL_DEBUG=poison,memcheck,origins "$@" fine 100 $form
    done
}

build() {
    "$CC" -g -O1 -I"$source_dir/include" "$work/touch.c" "$@" 2>"$work/log"
}

export LD_LIBRARY_PATH=$lib_dir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export ASAN_OPTIONS=exitcode=66:detect_leaks=0:detect_stack_use_after_return=0

if build -fsanitize=address -o "$work/asan" -L"$lib_dir" -lmrpool &&
    "$work/asan" fine 100 function >/dev/null 2>&1; then
    check_tool asan 66 "AddressSanitizer: use-after-poison.*" "use-after-poison" "$work/asan"
    check "asan's sentence" 66 "^READ of size 1" "$work/asan" read 100 function
    check "asan's sentence" 66 "^WRITE of size 1" "$work/asan" write 100 function
    archive=$(find "$build_dir" -maxdepth 2 -name libmrpool.a -print -quit)
    if [[ -n $archive ]]; then
        build -fsanitize=address -o "$work/static" "$archive" -rdynamic -lpthread -ldl
        check "asan, static library" 66 "use-after-poison" "$work/static" read 100 inline
    fi
else
    echo "SKIP: AddressSanitizer: $CC builds no program with it that runs"
fi

if command -v valgrind >/dev/null; then
    build -o "$work/plain" -L"$lib_dir" -lmrpool
    check_tool valgrind 67 "Invalid read of size 1" "Invalid write of size 1" \
        valgrind --quiet --leak-check=no --error-exitcode=67 \
        "--suppressions=$source_dir/tests/sanitizers/valgrind.supp" "$work/plain"
else
    echo "SKIP: Valgrind: not installed"
fi

[[ $n_checked -gt 0 ]] || skip "neither AddressSanitizer nor Valgrind"
echo "$n_checked runs"
exit $status
