#!/usr/bin/env bash
# The core library pulls in no network library, directly or through another one; a
# module does, and finds the core beside it.
# shellcheck source=tests/install/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"

networks='fabric|ucp|uct|ucs|ucx|mpi|verbs|rdmacm|uring|numa|cuda'
library=$(find "$prefix" -name libmrpool.so)
needed=$(ldd "$library") || fail "ldd $library"
if grep -E "$networks" <<<"$needed"; then
    fail "libmrpool.so pulls in the above"
fi
# What a module itself asks for: its own network's library, and no other's.
asks_for() {
    case $1 in
    ofi) echo 'libfabric' ;;
    ucx) echo 'libuc[pst]' ;;
    mpi) echo 'libmpi|libopen-' ;;
    mpich) echo 'libmpich' ;;
    verbs) echo 'libibverbs' ;;
    uring) echo 'liburing' ;;
    *) fail "libmrpool-$1.so: this test does not know which network it is for" ;;
    esac
}

# It can fail: a module does pull one in.
while read -r module; do
    needed=$(ldd "$module")
    core=$(sed -n 's/.*libmrpool\.so\.0 => \(.*\) (0x.*/\1/p' <<<"$needed")
    [[ -n $core && $core -ef $library ]] ||
        fail "$(basename "$module") does not find libmrpool.so.0 of its own prefix: $needed"
    grep -qE "$networks" <<<"$needed" || fail "$(basename "$module") pulls in no network library"
    name=$(basename "$module" .so)
    own=$(asks_for "${name#libmrpool-}") || fail "$own"
    direct=$(readelf -d "$module" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    grep -qE "^($own)" <<<"$direct" || fail "$name does not ask for $own: $direct"
    if grep -E "$networks" <<<"$direct" | grep -vE "^($own)"; then
        fail "$name asks for the above, too"
    fi
    echo "$name: ok"
done < <(find "$prefix" -path '*/mrpool/libmrpool-*.so')
echo "libmrpool.so: ok"
