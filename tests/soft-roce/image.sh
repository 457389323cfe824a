#!/usr/bin/env bash
# The kernel and the first root of the guest, made once and kept in a cache:
#
#   image.sh        prints the folder with `vmlinuz` and `initrd`
#
# The kernel is Debian's, with its soft-RoCE driver: its package is downloaded and unpacked,
# never installed. The initrd has busybox, the modules in the order of their needs, and an
# `init` that mounts the file system of this machine and leaves the rest to guest.sh.
# Exit status 77, after a line "SKIP: reason", where something to make it of is missing.
set -euo pipefail

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/mrpool/soft-roce
modules=(virtio_pci 9pnet_virtio 9p virtio_net crc32_generic rdma_rxe ib_uverbs rdma_ucm)

skip() {
    echo "SKIP: $*" >&2
    exit 77
}

[[ $(uname -m) == x86_64 ]] || skip "the guest is made for x86_64, this is $(uname -m)"

# Another version of this script makes another image.
version=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-12)
image=$cache/$version
if [[ -s $image/initrd ]]; then
    echo "$image"
    exit 0
fi

PATH=$PATH:/usr/sbin:/sbin
for need in busybox:busybox-static cpio:cpio modprobe:kmod dpkg-deb:dpkg apt-get:apt; do
    command -v "${need%%:*}" >/dev/null || skip "no ${need%%:*} (package ${need##*:})"
done
busybox=$(command -v busybox)
if ldd "$busybox" >/dev/null 2>&1; then
    skip "$busybox needs shared libraries (package busybox-static has one that does not)"
fi

mkdir -p "$cache" 2>/dev/null || skip "cannot write to $cache"
exec 9>"$cache/lock"
flock -w 300 9 || skip "another process has been making the image for 300 s"
if [[ -s $image/initrd ]]; then
    echo "$image"
    exit 0
fi
work=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$work"' EXIT

kernel_package() {
    apt-cache depends linux-image-amd64 2>/dev/null |
        awk '/Depends: linux-image-[0-9]/ { print $2; exit }'
}
package=$(kernel_package)
[[ -n $package ]] || skip "apt knows no package linux-image-amd64 (apt-get update?)"

download() {
    (cd "$work" && timeout 300 apt-get -q download "$package") >"$work/apt.log" 2>&1
}
update() {
    local -a as_root=()
    [[ $(id -u) -eq 0 ]] || as_root=(sudo -n)
    timeout 120 "${as_root[@]}" apt-get -q update >/dev/null 2>&1
}
echo "downloading $package, once" >&2
# The lists may be older than the archive, which keeps the newest version only.
if ! download; then
    update || true
    package=$(kernel_package)
    download || skip "cannot download $package: $(tail -n 1 "$work/apt.log")"
fi

dpkg-deb -x "$work/$package"_*.deb "$work/kernel"
rm -f "$work/$package"_*.deb
release=$(basename "$work"/kernel/lib/modules/*)
depmod -b "$work/kernel" "$release"
mkdir -p "$work/root"/{bin,modules,proc,sys,dev,host} "$work/image"
cp "$busybox" "$work/root/bin/busybox"
modprobe -d "$work/kernel" -S "$release" --show-depends -a "${modules[@]}" |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$work/order"
while read -r file; do
    cp "$file" "$work/root/modules/"
    basename "$file" >>"$work/root/modules/order"
done <"$work/order"

cat >"$work/root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
PATH=/bin
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
share=trans=virtio,version=9p2000.L,msize=512000
mkdir -p /job
mount -t 9p -o $share,ro,cache=loose host /host && mount -t 9p -o $share job /job &&
    . /job/setup
poweroff -f
INIT
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$work/image/initrd"
cp "$work"/kernel/boot/vmlinuz-* "$work/image/vmlinuz"
echo "$release" >"$work/image/release"
rm -rf "$image"
mv "$work/image" "$image"
echo "$image"
