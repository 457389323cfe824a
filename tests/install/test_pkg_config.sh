#!/usr/bin/env bash
# An installed tree, found with pkg-config: shared and static, and moved elsewhere.
# shellcheck source=tests/install/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"

mv "$prefix" "$work/moved"
prefix=$work/moved
pc_file=$(find "$prefix" -name mrpool.pc)
PKG_CONFIG_PATH=$(dirname "$pc_file")
export PKG_CONFIG_PATH
main=$source_dir/tests/install/consumer/main.c
libdir=$(pkg-config --variable=libdir mrpool)

# shellcheck disable=SC2046 # flags are words
try "build with the shared library" "$CC" -std=c11 -o "$work/shared" "$main" \
    $(pkg-config --cflags --libs mrpool) -Wl,-rpath,"$libdir"
try "run it" "$work/shared"
# shellcheck disable=SC2046
try "build with the static library" "$CC" -std=c11 -o "$work/static" "$main" \
    $(pkg-config --cflags mrpool) "$libdir/libmrpool.a" \
    $(pkg-config --static --libs-only-other mrpool) -ldl
try "run it" "$work/static"

module_dir=$(pkg-config --variable=moduledir mrpool)
for module in "$build_dir"/mrpool/*.so; do
    [[ ! -e $module || -e $module_dir/$(basename "$module") ]] ||
        fail "$(basename "$module") is not in moduledir, $module_dir"
done
version=$(pkg-config --modversion mrpool)
header=$prefix/include/mrpool/base.h
for part in MAJOR MINOR PATCH; do
    numbers=${numbers:-}$(sed -n "s/^#define MRP_VERSION_$part //p" "$header").
done
[[ $version == "${numbers%.}" ]] || fail "mrpool.pc says $version, base.h ${numbers%.}"

# The moved library finds its own modules, and says in which file; of one without a device
# it says what is missing, which it knows from the module alone.
if [[ -x $prefix/bin/mrpool ]]; then
    modules=$(env -u MRPOOL_PROVIDER_PATH "$prefix/bin/mrpool" info providers | tr -s ' \n' ' ')
    for module in "$build_dir"/mrpool/*.so; do
        file=$(basename "$module")
        name=${file#libmrpool-}
        name=${name%.so}
        [[ ! -e $module || $modules == *"$work/moved/"*"/mrpool/$file"* ]] ||
            [[ $modules == *" $name missing "* && $modules != *"no $file"* ]] ||
            fail "the moved tool does not find $file: $modules"
    done
fi
