#!/usr/bin/env bash
# One copy of the core's state, even where a module is loaded by a program that has the
# static library in it: the module's calls must reach the program's copy, although
# libmrpool.so.0 is loaded with the module. tests/CMakeLists.txt builds on that.
# shellcheck source=tests/install/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"

PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name mrpool.pc)")
export PKG_CONFIG_PATH
sources=$source_dir/tests/install/module
libdir=$(pkg-config --variable=libdir mrpool)
read -ra cflags <<<"-std=c11 $(pkg-config --cflags mrpool)"
read -ra libs <<<"$(pkg-config --libs mrpool) -Wl,-rpath,$libdir"
read -ra static_flags <<<"$(pkg-config --static --libs-only-other mrpool) -ldl"

try "build a module" "$CC" "${cflags[@]}" -shared -fPIC -o "$work/probe.so" \
    "$sources/probe.c" "${libs[@]}"
try "build a program with the shared library" "$CC" "${cflags[@]}" -o "$work/shared" \
    "$sources/program.c" "${libs[@]}" -ldl
try "build a program with the static library" "$CC" "${cflags[@]}" -o "$work/static" \
    "$sources/program.c" "$libdir/libmrpool.a" "${static_flags[@]}"
try "shared program and module share one error record" "$work/shared" "$work/probe.so"
try "static program and module share one error record" "$work/static" "$work/probe.so"

# It can fail: without the program's symbols the module uses a core of its own.
try "build a static program that offers no symbols" "$CC" "${cflags[@]}" -o "$work/mute" \
    "$sources/program.c" "$libdir/libmrpool.a" -pthread -ldl
if "$work/mute" "$work/probe.so" >/dev/null; then
    fail "a program that offers no symbols shares its error record with the module"
fi
