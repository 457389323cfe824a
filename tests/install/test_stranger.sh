#!/usr/bin/env bash
# examples/provider, built from the installed tree alone: it passes the conformance suites,
# moves data between two processes, and refuses keys that lead nowhere.
# shellcheck source=tests/install/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"

PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name mrpool.pc)")
export PKG_CONFIG_PATH
cp -r "$source_dir/examples/provider" "$work/cma"
cd "$work/cma" || exit 1
libdir=$(pkg-config --variable=libdir mrpool)
flags=(-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror)
# shellcheck disable=SC2046 # flags are words
try "build the provider by hand" "$CC" "${flags[@]}" -shared -fPIC -o libmrpool-cma.so \
    cma.c $(pkg-config --cflags --libs mrpool)
# shellcheck disable=SC2046
try "build the program by hand" "$CC" "${flags[@]}" -o peek peek.c \
    $(pkg-config --cflags --libs mrpool) -Wl,-rpath,"$libdir"
try "configure" cmake -S . -B build -DCMAKE_C_COMPILER="$CC" -DCMAKE_PREFIX_PATH="$prefix"
try "build with CMake" cmake --build build

export MRPOOL_PROVIDER_PATH=$work/cma/build
if ! "$work/cma/build/peek" >"$work/log" 2>&1; then
    if grep -q "process_vm_readv of this process" "$work/log"; then
        echo "SKIP: cma: $(cat "$work/log")"
        exit 77
    fi
    cat "$work/log"
    fail "peek: failed"
fi
cat "$work/log"
MRPOOL_PROVIDER_PATH=$work/cma try "peek, built by hand" "$work/cma/peek"

# What cma.h itself refuses: a process that has ended, though another has its pid by now (this
# one), and bytes that the key does not cover.
cat >"$work/transfer.c" <<'PROGRAM'
#include "cma.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect(const char *text, enum mrp_status got, enum mrp_status wanted)
{
    if (got != wanted) {
        fprintf(stderr, "%s: status %d, not %d\n", text, (int)got, (int)wanted);
        exit(EXIT_FAILURE);
    }
}

int main(void)
{
    char bytes[8] = "unhurt", other[8] = "changed";
    uint64_t base = (uintptr_t)bytes;
    struct cma_peer peer = {getpid(), -1, MRP_ACCESS_REMOTE, base, sizeof(bytes)};
    pid_t child = fork();

    if (child == 0) {
        pause();
    }
    peer.pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    expect("all of it", cma_transfer(&peer, false, other, base, 8), MRP_OK);
    expect("before", cma_transfer(&peer, false, other, base - 1, 8), MRP_ERR_INVALID);
    expect("behind", cma_transfer(&peer, true, other, base + 1, 8), MRP_ERR_INVALID);
    expect("too much", cma_transfer(&peer, false, other, base, SIZE_MAX), MRP_ERR_INVALID);
    strcpy(other, "changed");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    expect("ended", cma_transfer(&peer, true, other, base, 8), MRP_ERR_STALE);
    if (strcmp(bytes, "unhurt") != 0) {
        fputs("a stranger's memory was written\n", stderr);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
PROGRAM
# shellcheck disable=SC2046
try "build what uses cma.h" "$CC" "${flags[@]}" -I. -o transfer \
    "$work/transfer.c" $(pkg-config --cflags --libs mrpool) -Wl,-rpath,"$libdir"
try "transfers that have to be refused" ./transfer

# The suites of the build tree, over this module alone. None of its cases may be left out.
for suite in provider_ops providers; do
    program=$build_dir/tests/conformance/test_$suite
    if [[ ! -x $program ]]; then
        echo "SKIP: cma: no $suite suite (libcmocka-dev)"
        continue
    fi
    for case in cma cma:ptracer=parent; do
        MRP_CONFORMANCE=$case try "$suite over $case" "$program"
        grep -q "SKIP" "$work/log" && fail "$suite over $case: $(grep SKIP "$work/log")"
        n=$(grep -c "OK \] $case: " "$work/log")
        ((n >= 8)) || fail "$suite over $case: $n cases passed: $(cat "$work/log")"
    done
    # It can fail: a module that is not there.
    MRP_CONFORMANCE=nowhere "$program" >"$work/log" 2>&1
    if [[ $? -ne 77 ]] || ! grep -q "SKIP: nowhere: " "$work/log"; then
        fail "$suite over a module that is not there: $(cat "$work/log")"
    fi
done

# refused TEXT WORD KEY: the second process has to say why it cannot use that key
refused() {
    if "$work/cma/build/peek" "$token" "$3" >"$work/log" 2>&1; then
        fail "$1: taken"
    fi
    grep -q "$2" "$work/log" || fail "$1: no '$2' in: $(cat "$work/log")"
    echo "$1: $(cat "$work/log")"
}

# The arguments of the second process, caught by a program in its place.
cat >"$work/catch.c" <<'PROGRAM'
#include <stdio.h>
#include <string.h>

int execl(const char *path, const char *name, const char *token, const char *key, char *end)
{
    FILE *file = fopen("caught", "w");

    (void)path;
    (void)name;
    (void)end;
    fprintf(file, "%s %s\n", token, key);
    fclose(file);
    return -1;
}
PROGRAM
try "build what catches a key" "$CC" -shared -fPIC -o "$work/catch.so" "$work/catch.c"
LD_PRELOAD=$work/catch.so "$work/cma/build/peek" >"$work/log" 2>&1 &&
    fail "peek succeeds without its second process"
read -r token key <caught || fail "no key was caught"
refused "a key of a process that has ended" "key: cma: " "$key"
refused "a key cut short" "key: " "${key:0:100}"
refused "a key with a wrong byte" "key: " "${key:0:60}f${key:61}"
