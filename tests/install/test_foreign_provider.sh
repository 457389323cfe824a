#!/usr/bin/env bash
# A provider built outside the tree, from the installed headers alone, is found by its name
# in MRPOOL_PROVIDER_PATH, by a shared and by a static program.
# shellcheck source=tests/install/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"

PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name mrpool.pc)")
export PKG_CONFIG_PATH
sources=$source_dir/tests/install/module
libdir=$(pkg-config --variable=libdir mrpool)
read -ra cflags <<<"-std=c11 -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags mrpool)"
read -ra libs <<<"$(pkg-config --libs mrpool) -Wl,-rpath,$libdir"
read -ra static_flags <<<"$(pkg-config --static --libs-only-other mrpool) -ldl"

mkdir "$work/modules"
try "build the provider" "$CC" "${cflags[@]}" -shared -fPIC \
    -o "$work/modules/libmrpool-foreign.so" "$sources/foreign.c" "${libs[@]}"
try "build a program with the shared library" "$CC" "${cflags[@]}" -o "$work/shared" \
    "$sources/foreign_program.c" "${libs[@]}"
try "build a program with the static library" "$CC" "${cflags[@]}" -o "$work/static" \
    "$sources/foreign_program.c" "$libdir/libmrpool.a" "${static_flags[@]}"

export MRPOOL_PROVIDER_PATH=$work/empty
if "$work/shared" >"$work/log" 2>&1; then
    fail "the provider is found where it is not"
fi
grep -q foreign "$work/log" || fail "the error does not name the provider: $(cat "$work/log")"
export MRPOOL_PROVIDER_PATH=$work/modules
try "shared program, found in MRPOOL_PROVIDER_PATH" "$work/shared"
try "static program, found in MRPOOL_PROVIDER_PATH" "$work/static"
